from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hybridsim.errors import InputError
from hybridsim.tasks.layout import Layout
from hybridsim.tasks.task import (
    Data,
    Workload,
    as_task,
    batch,
    batch_indices,
    batch_loss,
    evaluate,
    load_workload,
)

shapes = st.lists(st.lists(st.integers(1, 4), max_size=3).map(tuple), min_size=1, max_size=5)


@given(shapes, st.integers(0, 2**31))
def test_flatten_inverts_unflatten(found, seed):
    layout = Layout(tuple(f"p{i}" for i in range(len(found))), tuple(found))
    theta = torch.randn(layout.size, generator=torch.Generator().manual_seed(seed))
    parts = layout.unflatten(theta)
    assert torch.equal(layout.flatten(parts), theta)
    for name, offset in zip(layout.names, layout.offsets, strict=True):
        assert parts[name].data_ptr() == theta.data_ptr() + 4 * offset  # views, not copies


@given(st.integers(0, 2**40), st.integers(1, 60), st.integers(1, 60), st.integers(0, 5))
def test_an_epoch_of_batches_never_repeats_an_example(seed, epoch_size, batch_size, epoch):
    batch_size = min(batch_size, epoch_size)
    steps = epoch_size // batch_size
    taken = torch.cat(
        [batch_indices(seed, epoch_size, batch_size, epoch * steps + i) for i in range(steps)]
    )
    assert len(taken) == len(set(taken.tolist())) == steps * batch_size
    assert taken.min() >= 0 and taken.max() < epoch_size


def test_batches_depend_on_seed_and_step_alone():
    first = batch_indices(3, 1000, 32, 7)
    batch_indices(3, 500, 32, 1)
    torch.manual_seed(99)
    assert torch.equal(first, batch_indices(3, 1000, 32, 7))
    assert not torch.equal(first, batch_indices(4, 1000, 32, 7))
    assert not torch.equal(
        first, batch_indices(3, 1000, 32, 7 + 1000 // 32)
    )  # next epoch, other order
    first.zero_()
    assert batch_indices(3, 1000, 32, 7).any()  # a caller's change stays the caller's


@pytest.mark.parametrize("size", [0, 101])
def test_a_batch_larger_than_the_training_set_is_refused(size):
    with pytest.raises(
        InputError,
        match=f"training.batch_size: .* at most 100, the training set's size, got {size}",
    ):
        batch_indices(0, 100, size, 0)


def test_initial_parameters_depend_on_seed_alone_and_leave_torch_alone():
    task = load_workload("digits_mlp", {})
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    theta = task.initial_parameters(1)
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(6)
    assert torch.equal(theta, task.initial_parameters(1))
    assert torch.equal(theta, load_workload("digits_mlp", {}).initial_parameters(1))
    assert not torch.equal(theta, task.initial_parameters(2))
    assert theta.shape == (task.layout.size,) and theta.dtype == torch.float32


@pytest.mark.parametrize("name", ["digits_cnn", "digits_mlp"])
def test_digits_are_split_by_class_and_scaled(name):
    task = load_workload(name, {})
    assert len(task.data.train_x) == 1500 and len(task.data.test_x) == 297 and task.outputs == 10
    assert task.data.train_x.min() == 0 and task.data.train_x.max() == 1
    train = torch.bincount(task.data.train_y, minlength=10) / 1500
    test = torch.bincount(task.data.test_y, minlength=10) / 297
    assert (train - test).abs().max() < 0.005


def test_options_change_network_and_key():
    plain, wide = (
        load_workload("digits_mlp", {}),
        load_workload("digits_mlp", {"hidden": 40, "depth": 1}),
    )
    assert plain.layout.size == 64 * 32 + 32 + 32 * 32 + 32 + 320 + 10
    assert wide.layout.size == 64 * 40 + 40 + 400 + 10
    assert plain.key != wide.key
    assert load_workload("digits_cnn", {}).layout.size == 8714
    assert (
        load_workload("digits_cnn", {"channels": 4, "hidden": 8}).layout.size
        == 40 + 64 * 8 + 8 + 90
    )


def test_evaluate_is_the_mean_over_all_test_examples():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2357, 3, generator=generator), torch.randint(4, (2357,), generator=generator)
    data = Data(x[:8], y[:8], x, y)
    task = as_task("chunks", Workload(lambda: nn.Linear(3, 4), data, "cross_entropy"))
    theta = task.initial_parameters(0)
    facts = evaluate(task, theta).facts
    z = task.apply(task.layout.unflatten(theta), x)
    assert torch.isclose(facts["test_loss"].float(), nn.functional.cross_entropy(z, y), rtol=1e-5)
    assert facts["test_accuracy"] == (z.argmax(1) == y).double().mean()


def test_mse_has_no_accuracy_and_means_over_outputs():
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(20, 3, generator=generator), torch.randn(20, 4, generator=generator)
    task = as_task("regression", Workload(lambda: nn.Linear(3, 4), Data(x, y, x, y), "mse"))
    theta = task.initial_parameters(0)
    facts = evaluate(task, theta).facts
    z = task.apply(task.layout.unflatten(theta), x)
    assert set(facts) == {"test_loss"}
    assert torch.isclose(facts["test_loss"], (z - y).square().sum().double() / 80, rtol=1e-5)
    assert torch.isclose(batch_loss("mse", z, y).double(), facts["test_loss"], rtol=1e-5)


POSITIONS = """
import torch
from torch import nn
from hybridsim.tasks.task import Data, Workload

def build(inputs="int64"):
    y = torch.randint(4, (40, 3, 2))
    x = torch.randint(7, (40, 3)) if inputs == "int64" else torch.rand(40, 3)

    def network():
        first = nn.Embedding(7, 5) if inputs == "int64" else nn.Unflatten(1, (3, 1))
        second = nn.Linear(5 if inputs == "int64" else 1, 8)
        return nn.Sequential(first, second, nn.Unflatten(2, (2, 4)))

    return Workload(network, Data(x[:30], y[:30], x[30:], y[30:]), "cross_entropy")
"""


@pytest.mark.parametrize("inputs", ["int64", "float32"])
def test_losses_and_accuracy_are_means_over_examples_and_positions(tmp_path, inputs, monkeypatch):
    path = tmp_path / "positions.py"
    path.write_text(POSITIONS)
    task = load_workload(str(path), {"inputs": inputs})
    assert (task.terms, task.outputs) == (6, 4)
    theta, (x, y) = task.initial_parameters(3), task.data[2:]
    z = task.apply(task.layout.unflatten(theta), x)
    each = -z.log_softmax(dim=-1).gather(-1, y[..., None])
    assert torch.isclose(batch_loss("cross_entropy", z, y), each.mean())
    whole = evaluate(task, theta).facts
    assert torch.isclose(whole["test_loss"], each.double().mean(), rtol=1e-6)
    assert whole["test_accuracy"] == (z.argmax(-1) == y).double().mean()
    monkeypatch.setattr("hybridsim.tasks.task._CHUNK_ELEMENTS", 3 * 24)  # three examples at once
    assert torch.isclose(evaluate(task, theta).facts["test_loss"], whole["test_loss"], rtol=1e-6)


def test_another_type_is_another_task_with_the_same_parameters_rounded(tmp_path):
    path = tmp_path / "positions.py"
    path.write_text(POSITIONS)
    single = load_workload(str(path), {"inputs": "float32"})
    double = single.to("cpu", torch.float64)
    assert (
        double.dtype == double.data.train_x.dtype == torch.float64
        and double.data.train_y.dtype == torch.int64
    )
    assert single.key != double.key == single.to("cpu", torch.float64).key
    assert (
        double.to("cpu", torch.float32).key
        == double.to("cpu").to("cpu", torch.float32).key
        == single.key
    )
    assert torch.equal(double.initial_parameters(1), single.initial_parameters(1).double())
    z = double.apply(double.layout.unflatten(double.initial_parameters(1)), double.data.test_x)
    assert z.dtype == torch.float64 and double.meta().data.train_x.dtype == torch.float64


@pytest.mark.parametrize("forward", ["x @ torch.ones(3, 2)", "(self.w * x).float()"])
def test_a_network_bound_to_float32_is_refused_in_float64(tmp_path, forward):
    path = tmp_path / "bound.py"
    path.write_text(
        "import torch\nfrom torch import nn\nfrom hybridsim.tasks.task import Data, Workload\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.w = nn.Parameter(torch.ones(3))\n"
        f"    def forward(self, x):\n        return {forward}\n"
        "def build():\n    x, y = torch.rand(4, 3), torch.zeros(4, dtype=torch.int64)\n"
        "    return Workload(Net, Data(x, y, x, y), 'cross_entropy')\n"
    )
    task = load_workload(str(path), {})
    with pytest.raises(
        InputError,
        match=r"bound.py(:\d+)?: network: expected a network that computes in torch.float64",
    ):
        task.to("cpu", torch.float64)


def test_a_loaded_network_holds_no_second_copy_of_what_trains(tmp_path):
    task = load_workload("digits_cnn", {})
    assert all(
        p.is_meta for name, p in task.network.named_parameters() if name in task.layout.names
    )
    moved = task.to("cpu")
    z = moved.apply(moved.layout.unflatten(moved.initial_parameters(0)), moved.data.test_x[:5])
    assert torch.isfinite(z).all()


def test_frozen_parameters_stay_out_of_theta_and_buffers_may_stand_still():
    def network():
        model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
        model[0].requires_grad_(False)
        model.register_buffer("still", torch.ones(2))
        return model

    x, y = torch.randn(6, 3), torch.randint(2, (6,))
    task = as_task("frozen", Workload(network, Data(x, y, x, y), "cross_entropy"))
    assert task.layout.names == ("2.weight", "2.bias")
    z = task.apply(task.layout.unflatten(torch.zeros(12)), x)
    assert torch.equal(z, torch.zeros(6, 2))


@settings(deadline=None, max_examples=5)
@given(st.integers(1, 20))
def test_meta_task_gives_the_same_shapes(size):
    task = load_workload("digits_cnn", {"channels": 2, "hidden": 4})
    x, _ = batch(task.data, batch_indices(0, 1500, size, 0))
    meta = task.meta()
    z = meta.apply(
        meta.layout.unflatten(torch.empty(task.layout.size, device="meta")), x.to("meta")
    )
    assert z.shape == (size, 10) and z.device.type == "meta"
    assert meta.meta() is meta and task.meta() is meta
