from __future__ import annotations

import gzip
import hashlib
import os

import numpy as np
import pytest
import torch

from hybridsim.errors import InputError
from hybridsim.models.workloads import mnist_cnn
from hybridsim.tasks.task import load_workload


def idx(array):
    """An array as an IDX file (0x08 = unsigned byte), unpacked."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Four small IDX files whose checksums count as the right ones."""
    random = np.random.default_rng(0)
    folder, sums, arrays = tmp_path / "mnist", {}, {}
    folder.mkdir()
    for name in mnist_cnn.SHA256:
        shape = (30, 28, 28) if "images" in name else (30,)
        arrays[name] = random.integers(0, 256 if "images" in name else 10, shape, dtype=np.uint8)
        raw = idx(arrays[name])
        sums[name] = hashlib.sha256(raw).hexdigest()
        (folder / f"{name}.gz").write_bytes(gzip.compress(raw))
    monkeypatch.setattr(mnist_cnn, "SHA256", sums)
    return tmp_path, arrays


def test_idx_files_are_read_scaled_and_cut(files):
    root, arrays = files
    data = mnist_cnn.build(train_size=20, test_size=7, data_dir=str(root)).data
    assert data.train_x.shape == (20, 1, 28, 28) and data.test_x.shape == (7, 1, 28, 28)
    images, labels = arrays["train-images-idx3-ubyte"], arrays["train-labels-idx1-ubyte"]
    assert torch.equal(data.train_x[:, 0], torch.tensor(images[:20] / 255, dtype=torch.float32))
    assert data.train_y.tolist() == labels[:20].tolist()


def test_the_environment_names_the_folder(files, monkeypatch):
    root, _ = files
    monkeypatch.setenv("HYBRIDSIM_DATA", str(root))
    assert len(mnist_cnn.build(train_size=3, test_size=2).data.train_x) == 3


def test_missing_data_says_what_is_missing_where_to_get_it_and_what_to_set(tmp_path, monkeypatch):
    monkeypatch.delenv("HYBRIDSIM_DATA", raising=False)
    with pytest.raises(InputError, match="HYBRIDSIM_DATA not set") as caught:
        load_workload("mnist_cnn", {})
    assert mnist_cnn.PUBLISHED in str(caught.value)
    with pytest.raises(InputError, match="no train-images-idx3-ubyte.gz") as caught:
        load_workload("mnist_cnn", {}, str(tmp_path))
    assert "HYBRIDSIM_DATA=<dir>" in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("damage", ["other", "cut", "not gzip"])
def test_damaged_files_are_refused(files, damage):
    root, arrays = files
    path = root / "mnist" / "t10k-labels-idx1-ubyte.gz"
    whole = path.read_bytes()
    changed = gzip.compress(idx(arrays["t10k-labels-idx1-ubyte"] + 1))
    path.write_bytes({"other": changed, "cut": whole[:-9], "not gzip": b"<html>"}[damage])
    with pytest.raises(InputError, match="t10k-labels") as caught:
        mnist_cnn.build(train_size=3, test_size=2, data_dir=str(root))
    assert ("sha256" in str(caught.value)) == (damage == "other")


@pytest.mark.parametrize("options", [{"train_size": 0}, {"test_size": 10_001}])
def test_sizes_out_of_range(files, options):
    with pytest.raises(InputError, match="images|train_size"):
        mnist_cnn.build(**options, data_dir=str(files[0]))


@pytest.mark.skipif(
    not os.environ.get("HYBRIDSIM_DATA"), reason="HYBRIDSIM_DATA names no data folder"
)
def test_the_published_files():
    task = load_workload("mnist_cnn", {})
    assert task.layout.size == 19_354 and len(task.data.train_x) == len(task.data.test_x) == 10_000
    assert task.data.train_y[:5].tolist() == [5, 0, 4, 1, 9] and task.data.test_y[:3].tolist() == [
        7,
        2,
        1,
    ]
