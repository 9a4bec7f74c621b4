"""Images for workloads: CIFAR-10 from files, or drawn. No number depends on this file but through
the data it gives.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hybridsim import Data, InputError, Problem

PUBLISHED = "https://www.cs.toronto.edu/~kriz/cifar.html"
# Means and deviations of the channels over CIFAR-10's 50,000 training images, pixels in [0, 1], as
# in AlgoPerf's workload (arXiv 2306.07179).
_MEAN = (0.49139968, 0.48215827, 0.44653124)
_DEVIATION = (0.24703233, 0.24348505, 0.26158768)


def cifar10(workload: str, train_size: int, test_size: int, data_dir: str | None) -> Data:
    """The first images of each part, float32 (n, 3, 32, 32), channels normalised to mean 0 and
    deviation 1.

    Raises:
        InputError: the files are not there, hold something else, or hold fewer images.
    """
    root = data_dir or os.environ.get("HYBRIDSIM_DATA")
    expected = (
        "cifar10-train*.npz and cifar10-test*.npz in <dir>/cifar10, with HYBRIDSIM_DATA=<dir>: "
        "arrays images "
        f"uint8 (n, 32, 32, 3) and labels uint8 (n,), made from CIFAR-10 (published at {PUBLISHED})"
    )
    if not root:
        raise InputError([Problem(workload, None, "data_dir", expected, "HYBRIDSIM_DATA not set")])
    folder, parts = Path(root).expanduser() / "cifar10", []
    for part, size in (("train", train_size), ("test", test_size)):
        files = sorted(folder.glob(f"cifar10-{part}*.npz"))
        if len(files) != 1:
            got = f"{len(files)} files cifar10-{part}*.npz in {folder}"
            raise InputError([Problem(workload, None, "data_dir", expected, got)])
        parts += _read(workload, f"{part}_size", files[0], size)
    return Data(*parts)


def drawn(count: int, size: int, classes: int, coarse: int = 4) -> tuple[Tensor, Tensor]:
    """Images float32 (count, 3, size, size) and labels: a random pattern of ``coarse`` x ``coarse``
    for each class, under noise as strong as itself.
    """
    labels = torch.arange(count)[torch.randperm(count)] % classes
    patterns = torch.randn(classes, 3, coarse, coarse)
    images = torch.nn.functional.interpolate(patterns[labels], size=(size, size), mode="nearest")
    return images.add_(torch.randn(images.shape)), labels


def _read(workload: str, option: str, path: Path, size: int) -> list[Tensor]:
    """Images and labels of one file."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        problem = Problem(
            str(path), None, "", "an .npz file with arrays images and labels", f"{error}"
        )
        raise InputError([problem]) from error
    found = f"{images.dtype} {images.shape} and {labels.dtype} {labels.shape}"
    fits = images.dtype == labels.dtype == np.uint8 and images.shape[1:] == (32, 32, 3)
    if not fits or labels.shape != images.shape[:1] or labels.max(initial=0) > 9:
        expected = "images uint8 (n, 32, 32, 3) and labels uint8 (n,) from 0 to 9"
        raise InputError([Problem(str(path), None, "", expected, found)])
    if size > len(images):
        expected = f"at most {len(images)}, which is what {path} holds"
        raise InputError([Problem(workload, None, f"options.{option}", expected, str(size))])
    scaled = torch.from_numpy(images[:size]).float() / 255
    normalised = (scaled - torch.tensor(_MEAN)) / torch.tensor(_DEVIATION)
    return [normalised.permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels[:size]).long()]
