"""A workload file: one function ``build(**options) -> Workload`` giving network, data and loss."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import torch
from torch import Tensor, nn

from hybridsim.errors import InputError, Problem
from hybridsim.rng import address_seed
from hybridsim.tasks.code import Code
from hybridsim.tasks.users_code import users_code

Loss = Literal["cross_entropy", "mse"]
Options = Mapping[str, Any]  # Any: each workload names its own
"""What ``build`` takes: whatever a scenario file can say."""
SHIPPED = "hybridsim.models.workloads"


class Data(NamedTuple):
    """Inputs float32 or int64 (n, ...), for outputs (n, ..., d_z); targets as the outputs allow.

    ``cross_entropy``: int64 class numbers (n, ...), one for each position; ``mse``: float32 (n,
    ..., d_z).
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


@dataclass(frozen=True, eq=False)
class Workload:
    """What a workload file returns.

    Attributes:
        network: a function without arguments that builds a fresh network, so that initial
            parameters can be drawn for any seed: it is called after ``torch.manual_seed``, and
            whatever it draws from torch is the initialisation. What it loads (pretrained weights)
            it loads each time.
        data: training and test data.
        loss: ``cross_entropy`` (mean over examples and positions) or ``mse`` (mean over examples
            and outputs).
    """

    network: Callable[[], nn.Module]
    data: Data
    loss: Loss


def shipped_workloads() -> tuple[str, ...]:
    """Names of the workloads that come with hybridsim."""
    package = importlib.import_module(SHIPPED)
    names = (module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(name for name in names if not name.startswith("_")))


def find_source(name_or_path: str) -> Path:
    """The file of a shipped workload's name or of a path that ends in ``.py``.

    Raises:
        InputError: no shipped workload has this name, or no file lies at this path.
    """
    if name_or_path.endswith(".py"):
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            reject(name_or_path, "workload", "the path of an existing .py file", "no file there")
        return path.resolve()
    names = shipped_workloads()
    if name_or_path not in names:
        near = difflib.get_close_matches(name_or_path, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        expected = f"one of {', '.join(names)} or a path ending in .py"
        reject("workload", "", expected, f"{name_or_path!r}{hint}")
    spec = importlib.util.find_spec(f"{SHIPPED}.{name_or_path}")
    assert spec is not None and spec.origin is not None  # iter_modules has just listed it
    return Path(spec.origin)


def build_workload(code: Code, options: Options, data_dir: str | None) -> Workload:
    """Run the workload's file (never found through sys.path) and call its ``build``.

    ``data_dir`` is passed on to a ``build`` that takes a parameter of that name. torch's random
    state is seeded for the call and restored after it: a workload that draws its data draws the
    same each time.

    Raises:
        InputError: the file does not import, has no ``build``, does not take these options, fails,
            or returns something else than a Workload.
    """
    path = code.path
    with users_code(str(path), "", "a workload file that imports"):
        module = code.run()
    build = getattr(module, "build", None)
    if not callable(build):
        reject(str(path), "build", "a function build(**options) -> Workload", _kind(build))
    arguments = _arguments(str(path), build, options, data_dir)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(address_seed(0, "workload"))
        with users_code(str(path), "build", "a build that returns a Workload"):
            workload = build(**arguments)
    if not isinstance(workload, Workload):
        reject(str(path), "build", "a hybridsim.Workload", _kind(workload))
    return workload


def workload_key(code: str, options: Options, tensors: Mapping[str, Tensor]) -> str:
    """Hex digest of the code's digest, the options, and names, types, shapes and bytes of the
    tensors.
    """
    digest = hashlib.sha256(code.encode())
    digest.update(repr(sorted(options.items())).encode())
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.is_meta:  # nothing but its shape is known
            continue
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def reject(file: str, path: str, expected: str, got: str) -> NoReturn:
    """Raise an InputError with one Problem."""
    raise InputError([Problem(file, None, path, expected, got)])


def _arguments(
    file: str, build: Callable[..., object], options: Options, data_dir: str | None
) -> Options:
    """Options checked against the signature of ``build``, plus ``data_dir`` where it is taken."""
    with users_code(file, "build", "a function build(**options) -> Workload"):
        parameters = inspect.signature(build).parameters
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    for name in options:
        if name not in parameters and not open_ended:
            near = difflib.get_close_matches(name, parameters, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            expected = f"one of {', '.join(parameters)}" if parameters else "no options"
            reject(file, f"options.{name}", expected, f"{name!r}{hint}")
    extra = {"data_dir": data_dir} if data_dir is not None and "data_dir" in parameters else {}
    return {**extra, **options}


def _kind(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__}"
