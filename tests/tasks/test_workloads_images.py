"""CIFAR-10 from files: read, normalised, and refused by name where something is wrong."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from hybridsim.errors import InputError
from hybridsim.models.workloads import _images
from hybridsim.tasks.task import load_workload


@pytest.fixture
def folder(tmp_path):
    """A data folder with 12 and 5 images; what was written."""
    (tmp_path / "cifar10").mkdir()
    random, written = np.random.default_rng(0), {}
    for part, size in (("train", 12), ("test", 5)):
        images = random.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8)
        written[part] = {"images": images, "labels": random.integers(0, 10, size, dtype=np.uint8)}
        np.savez(tmp_path / "cifar10" / f"cifar10-{part}-subset.npz", **written[part])
    return tmp_path, written


def test_images_are_cut_turned_and_normalised(folder):
    root, written = folder
    data = _images.cifar10("mine", 7, 5, str(root))
    assert data.train_x.shape == (7, 3, 32, 32) and data.test_x.shape == (5, 3, 32, 32)
    assert data.train_y.tolist() == written["train"]["labels"][:7].tolist()
    pixel = written["train"]["images"][6, 4, 30] / 255
    expected = (pixel - np.array([0.4914, 0.4822, 0.4465])) / np.array([0.2470, 0.2435, 0.2616])
    assert data.train_x[6, :, 4, 30].numpy() == pytest.approx(expected, abs=1e-3)


def test_the_environment_names_the_folder(folder, monkeypatch):
    monkeypatch.setenv("HYBRIDSIM_DATA", str(folder[0]))
    assert len(_images.cifar10("mine", 3, 2, None).test_x) == 2


def test_missing_files_say_what_is_missing_and_where_it_is_published(tmp_path, monkeypatch):
    monkeypatch.delenv("HYBRIDSIM_DATA", raising=False)
    with pytest.raises(
        InputError, match="resnet_cifar: data_dir: .*HYBRIDSIM_DATA not set"
    ) as caught:
        load_workload("resnet_cifar", {})
    assert _images.PUBLISHED in str(caught.value)
    with pytest.raises(InputError, match=r"0 files cifar10-train\*.npz in ") as caught:
        load_workload("mlp_cifar", {}, str(tmp_path))
    assert _images.PUBLISHED in str(caught.value) and str(tmp_path) in str(caught.value)


CONTENTS = {
    "floating point": {"images": np.zeros((3, 32, 32, 3)), "labels": np.zeros(3, np.uint8)},
    "channels first": {
        "images": np.zeros((3, 3, 32, 32), np.uint8),
        "labels": np.zeros(3, np.uint8),
    },
    "fewer labels": {"images": np.zeros((3, 32, 32, 3), np.uint8), "labels": np.zeros(2, np.uint8)},
    "another class": {
        "images": np.zeros((3, 32, 32, 3), np.uint8),
        "labels": np.full(3, 10, np.uint8),
    },
    "no labels": {"images": np.zeros((3, 32, 32, 3), np.uint8)},
    "objects": {"images": np.array([None, {}], object), "labels": np.zeros(2, np.uint8)},
}


@pytest.mark.parametrize("case", sorted(CONTENTS))
def test_other_contents_are_refused_with_the_file(folder, case):
    path = folder[0] / "cifar10" / "cifar10-test-subset.npz"
    np.savez(path, **CONTENTS[case])
    with pytest.raises(InputError, match="cifar10-test-subset.npz: expected .*images"):
        _images.cifar10("mine", 1, 1, str(folder[0]))


@pytest.mark.parametrize("damage", [b"<html>", b""])
def test_a_damaged_file_is_refused(folder, damage):
    path = folder[0] / "cifar10" / "cifar10-test-subset.npz"
    path.write_bytes(damage or path.read_bytes()[:-200])
    with pytest.raises(InputError, match="cifar10-test-subset.npz: expected an .npz file"):
        _images.cifar10("mine", 1, 1, str(folder[0]))


def test_two_files_for_one_part_and_too_many_images_are_refused(folder):
    root, written = folder
    with pytest.raises(
        InputError, match="mine: options.train_size: expected at most 12, .* got 13"
    ):
        _images.cifar10("mine", 13, 1, str(root))
    np.savez(root / "cifar10" / "cifar10-train-full.npz", **written["train"])
    with pytest.raises(InputError, match="2 files cifar10-train"):
        _images.cifar10("mine", 1, 1, str(root))


def test_drawn_classes_are_balanced_and_can_be_told_apart():
    torch.manual_seed(1)
    images, labels = _images.drawn(400, 12, 4)
    assert labels.bincount().tolist() == [100] * 4
    means = torch.stack([images[:200][labels[:200] == c].mean(dim=0) for c in range(4)]).flatten(1)
    nearest = torch.cdist(images[200:].flatten(1), means).argmin(dim=1)
    assert (nearest == labels[200:]).float().mean() > 0.95


@pytest.mark.skipif(
    not os.environ.get("HYBRIDSIM_DATA"), reason="HYBRIDSIM_DATA names no data folder"
)
def test_the_files_at_hand_are_normalised():
    x = load_workload("resnet_cifar", {"train_size": 5_000}).data.train_x
    assert (
        x.mean(dim=(0, 2, 3)).abs().max() < 0.05 and (x.std(dim=(0, 2, 3)) - 1).abs().max() < 0.05
    )
