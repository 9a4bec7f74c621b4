"""MNIST, one convolution and two dense layers: the kind of network TNGD trains (widths not
published).

conv 5x5 (``channels``) - ReLU - max pool 4 - dense (``hidden``) - ReLU - dense 10; N = 19,354 by
default. The first ``train_size`` training and ``test_size`` test images (TNGD: 10,000 each), pixels
scaled to [0, 1].

Data: ``mnist/*.gz`` (the four IDX files) in the folder named by the option ``data_dir`` or by
HYBRIDSIM_DATA.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hybridsim import Data, InputError, Problem, Workload
from hybridsim.models.workloads._options import whole

PUBLISHED = "https://ossci-datasets.s3.amazonaws.com/mnist/"
# sha256 of the unpacked canonical files (LeCun, Cortes, Burges; CC BY-SA 3.0)
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def build(
    train_size: int = 10_000,
    test_size: int = 10_000,
    channels: int = 8,
    hidden: int = 64,
    data_dir: str | None = None,
) -> Workload:
    """Options: how many images, widths of the two hidden layers, the folder that holds
    ``mnist/``.
    """
    whole("mnist_cnn", channels=channels, hidden=hidden)
    whole("mnist_cnn", train_size=train_size, test_size=test_size)
    for name, size, most in (("train_size", train_size, 60_000), ("test_size", test_size, 10_000)):
        if not 1 <= size <= most:
            problem = Problem(
                "mnist_cnn", None, f"options.{name}", f"1 to {most} images", str(size)
            )
            raise InputError([problem])
    folder = _folder(data_dir)
    data = Data(
        _scaled(_read(folder, "train-images-idx3", train_size)),
        _read(folder, "train-labels-idx1", train_size).long(),
        _scaled(_read(folder, "t10k-images-idx3", test_size)),
        _read(folder, "t10k-labels-idx1", test_size).long(),
    )
    return Workload(network=lambda: _network(channels, hidden), data=data, loss="cross_entropy")


def _network(channels: int, hidden: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, channels, 5), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(),
        nn.Linear(channels * 36, hidden), nn.ReLU(), nn.Linear(hidden, 10),
    )  # fmt: skip


def _folder(data_dir: str | None) -> Path:
    """The folder with the four files, all present."""
    root = data_dir or os.environ.get("HYBRIDSIM_DATA")
    expected = (
        f"the four MNIST files (published at {PUBLISHED}) in <dir>/mnist, with HYBRIDSIM_DATA=<dir>"
    )
    if not root:
        raise InputError(
            [Problem("mnist_cnn", None, "data_dir", expected, "HYBRIDSIM_DATA not set")]
        )
    folder = Path(root).expanduser() / "mnist"
    missing = [f"{name}.gz" for name in SHA256 if not (folder / f"{name}.gz").is_file()]
    if missing:
        got = f"no {', '.join(missing)} in {folder}"
        raise InputError([Problem("mnist_cnn", None, "data_dir", expected, got)])
    return folder


def _read(folder: Path, stem: str, count: int) -> Tensor:
    """The first ``count`` items of an IDX file, uint8 (count, ...), once its checksum is found
    right.
    """
    name = f"{stem}-ubyte"
    path = folder / f"{name}.gz"
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            [Problem(str(path), None, "", "a readable gzip file", str(error))]
        ) from error
    found = hashlib.sha256(raw).hexdigest()
    if found != SHA256[name]:
        expected = f"unpacked sha256 {SHA256[name]} (published at {PUBLISHED})"
        raise InputError([Problem(str(path), None, "", expected, found)])
    dimensions = raw[3]
    shape = np.frombuffer(raw, ">u4", count=dimensions, offset=4)
    items = np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    return torch.from_numpy(items[:count].copy())


def _scaled(images: Tensor) -> Tensor:
    """Pixels float32 in [0, 1], shape (n, 1, 28, 28)."""
    return images[:, None].float() / 255
