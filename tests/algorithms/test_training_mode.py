"""BatchNorm and dropout: training equal to plain torch's after ``nn.Module.train()``, step for
step."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from harness import document, execute, session
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import hybridsim
from hybridsim.algorithms.first_order.gradient import training_gradient
from hybridsim.algorithms.session import EVALUATE
from hybridsim.errors import InputError
from hybridsim.operations.count import count
from hybridsim.rng import Draw, address_seed
from hybridsim.scenario.settings import OPTIMIZERS
from hybridsim.tasks.task import Data, Workload, as_task, batch_indices, load_shapes, load_workload
from hybridsim.work import Work

SMALL = {"channels": 3, "hidden": 16}
NORM, DROPOUT, BOTH = (
    {"source": "digits_cnn", "options": SMALL | more}
    for more in ({"norm": "batch"}, {"dropout": 0.3}, {"norm": "batch", "dropout": 0.3})
)
STEPS, BATCH, RATE = 6, 8, 0.02

TORCHS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=RATE),
    "nesterov": lambda p: torch.optim.SGD(p, lr=RATE, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=RATE, eps=1e-3),
}


def training(
    kind: str, gpus: int = 1, workload: dict[str, Any] = BOTH, **changes: Any
) -> dict[str, Any]:
    algorithm: dict[str, Any] = {"kind": kind, "learning_rate": RATE}
    algorithm |= {"momentum": 0.9} if kind == "nesterov" else {}
    algorithm |= {"epsilon": 1e-3} if kind == "adam" else {}
    made = document(algorithm, batch_size=BATCH, steps=STEPS, workload=workload, **changes)
    made["training"]["precision"] = "float64"
    made["machine"] = {"gpu": {"part": "a100-sxm4-80gb", "count": gpus}}
    return made


def fresh(task: Any, seed: int) -> nn.Module:
    """The network that the workload builds for a seed, in float64 and in training mode."""
    with torch.random.fork_rng():
        torch.manual_seed(address_seed(seed, "parameters"))
        found: nn.Module = task.workload.network().double().train()
        return found


def flat(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in network.parameters()])


# ---------------------------------------------------------------- runs


@pytest.mark.parametrize("kind", TORCHS)
def test_a_run_is_plain_torch_training(kind):
    """Parameters, running statistics, losses and the evaluation on test data."""
    done, memory = execute(training(kind, seed=3))
    task = done.task
    network = fresh(task, 3)
    optimizer = TORCHS[kind](network.parameters())
    for step in range(1, STEPS + 1):
        indices = batch_indices(3, len(task.data.train_x), BATCH, step - 1)
        torch.manual_seed(address_seed(3, "dropout", step))
        optimizer.zero_grad()
        loss = F.cross_entropy(network(task.data.train_x[indices]), task.data.train_y[indices])
        loss.backward()
        optimizer.step()
        assert memory.steps[step - 1]["train_loss"] == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(done.theta.value, flat(network), rtol=1e-11, atol=1e-13)
    assert len(done.buffers.value) == 3
    for name, buffer in done.buffers.value.items():
        torch.testing.assert_close(buffer, network.get_buffer(name), rtol=1e-12, atol=1e-13)
    z = network.eval()(task.data.test_x)
    right = (z.argmax(dim=1) == task.data.test_y).double().mean().item()
    facts = {
        "test_loss": F.cross_entropy(z, task.data.test_y).item(),
        "test_accuracy": right,
    }
    assert {k: memory.steps[-1][k] for k in facts} == pytest.approx(facts, rel=1e-12)
    still = EVALUATE.function(task, done.theta.value, task.initial_buffers()).facts
    assert still["test_loss"].item() != pytest.approx(facts["test_loss"], rel=1e-6)


@pytest.mark.parametrize("gpus", [2, 4])
def test_dropout_on_any_number_of_gpus_trains_as_one(gpus):
    (alone, one), (shared, many) = (
        execute(training("adam", n, workload=DROPOUT)) for n in (1, gpus)
    )
    start = session(training("adam", workload=DROPOUT))[0].theta.value
    assert (alone.theta.value - start).abs().max() > 0.01
    torch.testing.assert_close(shared.theta.value, alone.theta.value, rtol=1e-11, atol=1e-13)
    for a, b in zip(one.steps, many.steps, strict=True):
        assert b["train_loss"] == pytest.approx(a["train_loss"], rel=1e-12)


def test_batch_norm_on_several_gpus_is_distributed_data_parallel():
    """Two replicas with buffers of their own, their gradients averaged, the first one evaluated."""
    done, memory = execute(training("sgd", 2, NORM))
    task, half = done.task, BATCH // 2
    replicas = [fresh(task, 0) for _ in range(2)]
    optimizers = [TORCHS["sgd"](network.parameters()) for network in replicas]
    for step in range(STEPS):
        indices = batch_indices(0, len(task.data.train_x), BATCH, step)
        for k, network in enumerate(replicas):
            mine = indices[k * half : (k + 1) * half]
            network.zero_grad()
            F.cross_entropy(network(task.data.train_x[mine]), task.data.train_y[mine]).backward()
        for pair in zip(*(network.parameters() for network in replicas), strict=True):
            mean = torch.stack([p.grad for p in pair]).mean(dim=0)
            for p in pair:
                p.grad = mean.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(done.theta.value, flat(replicas[0]), rtol=1e-11, atol=1e-13)
    for name, buffer in done.buffers.value.items():
        torch.testing.assert_close(buffer, replicas[0].get_buffer(name), rtol=1e-12, atol=1e-13)
    moved = [network.get_buffer("1.running_mean") for network in replicas]
    assert (moved[0] - moved[1]).abs().max() > 1e-4
    loss = F.cross_entropy(replicas[0].eval()(task.data.test_x), task.data.test_y).item()
    assert memory.steps[-1]["test_loss"] == pytest.approx(loss, rel=1e-12)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_every_optimizer_trains_it_the_same_in_every_run(kind):
    """And with the keys that a run without tensors finds."""
    made = document({"kind": kind, "learning_rate": 0.01}, batch_size=BATCH, workload=BOTH)
    first, memory = execute(made)
    start = session(made)[0]
    second, _ = execute(made)
    shapes, _ = execute(made, live=False)
    assert torch.equal(first.theta.value, second.theta.value)
    assert first.theta.key == second.theta.key == shapes.theta.key
    assert first.buffers.key == shapes.buffers.key != start.buffers.key
    assert (first.theta.value - start.theta.value).abs().max() > 1e-4
    assert all(row["train_loss"] > 0 for row in memory.steps)
    assert start.buffers.value["1.num_batches_tracked"] == 0
    assert first.buffers.value["1.num_batches_tracked"] == 3
    assert not any(module.training for module in first.task.network.modules())


def test_a_replay_finds_what_the_live_run_found(tmp_path):
    scenario, store = hybridsim.load(training("adam", 2)), tmp_path / "facts.sqlite"
    live = hybridsim.run(scenario, facts=store)
    again = hybridsim.run(scenario, facts=store, backend="replay")
    assert again.summary["host"]["replay_missing"] == ""
    assert again.manifest["digest"] == live.manifest["digest"]
    assert again.steps["test_loss"].iloc[-1] == live.steps["test_loss"].iloc[-1]
    assert "DistributedDataParallel" in " ".join(live.manifest["model_assumptions"])


SECOND_ORDER = {
    "tngd": {"kind": "tngd", "learning_rate": 0.1, "damping": 0.1, "settle": "20 tau"},
    "kfac": {"kind": "kfac", "learning_rate": 0.1, "damping": 0.1},
}


@pytest.mark.parametrize("kind", SECOND_ORDER)
@pytest.mark.parametrize(
    ("workload", "what"),
    [(DROPOUT, "dropout"), (BOTH, "buffer '1.running_mean' and dropout")],
)
def test_second_order_methods_refuse_it_by_name(kind, workload, what):
    made = document(SECOND_ORDER[kind], workload=workload)
    with pytest.raises(InputError) as caught:
        hybridsim.run(hybridsim.load(made))
    assert str(caught.value).startswith("training.algorithm: expected an optimizer by itself")
    assert f"here {what}), got {kind}" in str(caught.value)


# ---------------------------------------------------------------- gradients of random networks


class Heads(nn.Module):
    """Drops in a tensor whose first dimension counts examples and heads."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x.reshape(2 * len(x), -1), 0.4, self.training).reshape(x.shape)


class Replaced(nn.Module):
    """A mean of its own, put in the buffer's place rather than written into it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(dim=(0, 2, 3))
        return x - self.mean[:, None, None]


LAYERS = {
    "batch norm": lambda p: nn.BatchNorm2d(4, momentum=p),
    "instance norm": lambda p: nn.InstanceNorm2d(4, track_running_stats=True, affine=True),
    "dropout": nn.Dropout,
    "channels": nn.Dropout2d,
    "inplace": lambda p: nn.Sequential(nn.Softplus(), nn.Dropout(p, inplace=True)),
    "heads": lambda p: Heads(),
    "replaced": lambda p: Replaced(),
}


def made_of(names: list[str], p: float, seed: int) -> tuple[Any, Tensor, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(8, 1, 4, 4, generator=generator)
    y = torch.randint(3, (8,), generator=generator)

    def network() -> nn.Module:
        inner = [LAYERS[name](p) for name in names]
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), *inner, nn.Flatten(), nn.Linear(64, 3), nn.Dropout(p)
        )

    workload = Workload(network, Data(x, y, x, y), "cross_entropy")
    task = as_task("random", workload).to("cpu", torch.float64)
    return task, task.initial_parameters(seed), (task.data.train_x, task.data.train_y)


def torchs(
    network: nn.Module, x: Tensor, y: Tensor, seed: int
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    torch.manual_seed(seed)
    loss = F.cross_entropy(network(x), y)
    slopes = torch.autograd.grad(loss, list(network.parameters()))
    return torch.cat([s.reshape(-1) for s in slopes]), loss, dict(network.named_buffers())


networks = st.lists(st.sampled_from(sorted(LAYERS)), max_size=3)
chances = st.sampled_from([0.1, 0.25, 0.7])


@settings(deadline=None, max_examples=40)
@given(networks, chances, st.integers(0, 2**31))
def test_a_gradient_is_torchs(names, p, seed):
    task, theta, (x, y) = made_of(names, p, seed)
    before = {name: buffer.clone() for name, buffer in task.initial_buffers().items()}
    found = training_gradient(task, theta, (x, y), task.initial_buffers(), Draw(seed, 0, 8))
    gradient, loss, buffers = torchs(fresh(task, seed), x, y, seed)
    torch.testing.assert_close(found.value[0], gradient, rtol=1e-12, atol=1e-14)
    assert found.facts["train_loss"].item() == pytest.approx(loss.item(), rel=1e-13)
    assert set(found.value[1]) == set(before)
    for name, buffer in found.value[1].items():
        torch.testing.assert_close(buffer, buffers[name].detach(), rtol=1e-13, atol=1e-15)
        assert torch.equal(task.initial_buffers()[name], before[name])  # functional
    still = {name: b for name, b in fresh(task, seed).named_buffers() if name not in before}
    assert all(torch.equal(buffers[name], buffer) for name, buffer in still.items())


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.sampled_from(["dropout", "channels", "inplace", "heads"]), max_size=3),
    chances,
    st.sampled_from([2, 4, 8]),
    st.integers(0, 2**31),
)
def test_shares_draw_what_the_whole_batch_does(names, p, shares, seed):
    task, theta, (x, y) = made_of(names, p, seed)
    whole = training_gradient(task, theta, (x, y), {}, Draw(seed, 0, 8)).value[0]
    size = 8 // shares
    parts = [
        training_gradient(
            task, theta, (x[k : k + size], y[k : k + size]), {}, Draw(seed, k, 8)
        ).value[0]
        for k in range(0, 8, size)
    ]
    torch.testing.assert_close(torch.stack(parts).mean(dim=0), whole, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    ("module", "dimensions"),
    [
        (nn.Dropout1d, 2), (nn.Dropout1d, 3), (nn.Dropout2d, 3), (nn.Dropout2d, 4),
        (nn.Dropout3d, 4), (nn.Dropout3d, 5),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:dropout2d")
def test_channels_are_dropped_as_torch_drops_them(module, dimensions):
    x, y = torch.randn(6, *[3] * (dimensions - 1)), torch.zeros(6, dtype=torch.int64)

    def build() -> nn.Module:
        return nn.Sequential(module(0.4), nn.Flatten(), nn.Linear(3 ** (dimensions - 1), 2))

    workload = Workload(build, Data(x, y, x, y), "cross_entropy")
    task = as_task("channels", workload).to("cpu", torch.float64)
    parameters = task.layout.unflatten(task.initial_parameters(1))
    done = task.train(parameters, {}, task.data.train_x, Draw(7, 0, 6))
    network = fresh(task, 1)
    torch.manual_seed(7)
    torch.testing.assert_close(done.z, network(task.data.train_x), rtol=1e-13, atol=1e-15)


ATTENTION = {
    "plain": {},
    "causal": {"is_causal": True},
    "scaled": {"scale": 0.3},
    "boolean": {"attn_mask": torch.eye(5) + torch.eye(5).roll(1, 0) > 0},
    "nothing attended": {"attn_mask": torch.arange(5)[:, None].expand(5, 5) > 1},
    "added": {"attn_mask": torch.linspace(-1, 1, 25, dtype=torch.float64).reshape(5, 5)},
}


@pytest.mark.parametrize("case", ATTENTION)
def test_attention_drops_its_weights_as_torch_does(case):
    class Attention(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            q = super().forward(x)
            p = 0.3 if self.training else 0.0
            options = {
                k: v.to(x.dtype) if isinstance(v, Tensor) and v.is_floating_point() else v
                for k, v in ATTENTION[case].items()
            }
            return F.scaled_dot_product_attention(q, x, x + 1, dropout_p=p, **options)

    x, y = torch.randn(8, 5, 4), torch.randint(4, (8, 5))
    workload = Workload(lambda: nn.Sequential(Attention(4, 4)), Data(x, y, x, y), "cross_entropy")
    task = as_task("attention", workload).to("cpu", torch.float64)
    parameters, x = task.layout.unflatten(task.initial_parameters(1)), task.data.train_x
    z = task.train(parameters, {}, x, Draw(7, 0, 8)).z
    network = fresh(task, 1)
    torch.manual_seed(7)
    torch.testing.assert_close(z, network(x), rtol=1e-13, atol=1e-15)
    half = task.train(parameters, {}, x[4:], Draw(7, 4, 8)).z
    torch.testing.assert_close(half, z[4:], rtol=1e-13, atol=1e-15)


def test_torchs_transformer_trains(monkeypatch):
    """Dropout in attention, between and after the dense layers."""
    x, y = torch.randn(8, 5, 4), torch.randint(3, (8, 5))

    def build() -> nn.Module:
        layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.2, batch_first=True)
        return nn.Sequential(layer, nn.Linear(4, 3))

    task = as_task("transformer", Workload(build, Data(x, y, x, y), "cross_entropy"))
    task = task.to("cpu", torch.float64)
    assert task.training is not None and task.training.what == "dropout"
    theta, batch = task.initial_parameters(2), (task.data.train_x, task.data.train_y)
    found = training_gradient(task, theta, batch, {}, Draw(5, 0, 8))
    parts = [
        training_gradient(
            task, theta, (batch[0][k : k + 1], batch[1][k : k + 1]), {}, Draw(5, k, 8)
        )
        for k in range(8)
    ]
    mean = torch.stack([part.value[0] for part in parts]).mean(dim=0)
    torch.testing.assert_close(mean, found.value[0], rtol=1e-11, atol=1e-14)
    work = count(training_gradient, (task, theta, batch, {}, Draw(5, 0, 8)), {})[0]
    assert sum(k.count for k in work.kernels if k.name == "aten.native_dropout") == 4
    network, dropout = fresh(task, 2), F.dropout
    monkeypatch.setattr(F, "dropout", lambda x, *options: dropout(x.contiguous(), *options))
    torch.manual_seed(5)
    F.cross_entropy(network(batch[0]).flatten(0, 1), batch[1].flatten()).backward()
    expected = torch.cat([p.grad.reshape(-1) for p in network.parameters()])
    torch.testing.assert_close(found.value[0], expected, rtol=1e-11, atol=1e-14)


def test_a_mask_that_cannot_be_shared_out_is_refused():
    class Weights(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, F.dropout(self.weight, 0.5, self.training))

    x, y = torch.randn(8, 4), torch.randint(3, (8,))
    build = lambda: nn.Sequential(Weights(4, 3), nn.Linear(3, 3))  # noqa: E731
    task = as_task("mine.py", Workload(build, Data(x, y, x, y), "cross_entropy"), file="mine.py")
    theta = task.initial_parameters(0)
    training_gradient(task, theta, (x, y), {}, Draw(0, 0, 8))
    with pytest.raises(InputError, match="mine.py: network: .* first dimension must count"):
        training_gradient(task, theta, (x[:4], y[:4]), {}, Draw(0, 4, 8))


def test_statistics_of_one_number_are_refused():
    x, y = torch.randn(8, 4), torch.randint(3, (8,))
    build = lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3))  # noqa: E731
    task = as_task("mine.py", Workload(build, Data(x, y, x, y), "cross_entropy"), file="mine.py")
    args = (task, task.initial_parameters(0), (x[:1], y[:1]), task.initial_buffers(), Draw(0, 0, 1))
    with pytest.raises(InputError, match="mine.py: network: expected a network that trains on 1 "):
        training_gradient(*args)


# ---------------------------------------------------------------- costs


def work_of(names: list[str], draw: Draw, size: int = 8) -> Work:
    task, theta, (x, y) = made_of(names, 0.5, 0)
    args = (task, theta, (x[:size], y[:size]), task.initial_buffers(), draw)
    return count(training_gradient, args, {})[0]


def test_dropout_is_one_kernel_forward_and_one_backward():
    without, one = (work_of(names, Draw(0, 0, 8)) for names in ([], ["dropout"]))
    launches = [sum(k.count for k in work.kernels) for work in (without, one)]
    assert launches[1] - launches[0] == 2
    forward_byte = 8 + 8 + 1  # in, out, a byte of mask
    assert one.bytes - without.bytes == 8 * 64 * (forward_byte + 7 * 8)  # seven passes back


def test_a_share_draws_at_the_price_of_its_own_masks():
    names = ["dropout", "channels", "batch norm"]
    assert work_of(names, Draw(0, 4, 8), 4).kernels == work_of(names, Draw(0, 0, 4), 4).kernels


def test_statistics_move_in_place():
    """BatchNorm costs its pass, its backward pass and the count of batches; copies none."""
    without, one = (work_of(names, Draw(0, 0, 8)) for names in ([], ["batch norm"]))
    more: Counter[str] = Counter()
    for work, sign in ((one, 1), (without, -1)):
        for k in work.kernels:
            more[k.name] += sign * k.count
    expected = ["aten.native_batch_norm", "aten.native_batch_norm_backward", "aten.add_"]
    assert {name: number for name, number in more.items() if number} == dict.fromkeys(expected, 1)


# ---------------------------------------------------------------- workloads


@pytest.mark.parametrize("options", [{"norm": "batch"}, {"dropout": 0.5}, {}])
def test_shapes_know_what_a_loaded_network_does(options):
    loaded = load_workload("digits_cnn", options)
    assert load_shapes("digits_cnn", options).training == loaded.training
    assert (loaded.training is None) == (options == {})


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [("norm", "layer", "one of none, batch"), ("dropout", 1.0, "a number from 0 to below 1")],
)
def test_options_out_of_range_are_named(option, value, expected):
    with pytest.raises(InputError, match=f"options.{option}: expected {expected}"):
        load_workload("digits_cnn", {option: value})
