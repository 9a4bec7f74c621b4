"""A Jacobian that is not in memory is the explicit one, in whatever form; the machine sees none of
it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from harness import document, execute
from small_tasks import random_task, whole
from torch import nn

import hybridsim
from hybridsim.algorithms.natural_gradient import forms, matrix_free
from hybridsim.algorithms.natural_gradient.exact import natural_gradient
from hybridsim.algorithms.natural_gradient.linearization import joined, linearize
from hybridsim.algorithms.natural_gradient.matrix_free import (
    factored,
    layers_of,
    linearize_free,
    sample_free,
)
from hybridsim.algorithms.natural_gradient.sampled_fisher import sampled_fisher
from hybridsim.algorithms.tngd import device
from hybridsim.circuits import rows
from hybridsim.circuits.imperfections.device import Device
from hybridsim.circuits.layered import Outer, SideBySide
from hybridsim.circuits.rows import Explicit
from hybridsim.errors import InputError
from hybridsim.scenario.jacobian import Wanted

TIGHT = {"rtol": 1e-10, "atol": 1e-10}


class Tied(nn.Module):
    """One weight in two layers, another used without its module, a layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.second.weight = self.first.weight
        self.apart, self.twice = nn.Linear(5, 5, bias=False), nn.Linear(5, 5)
        self.scale = nn.Parameter(torch.ones(5))

    def forward(self, x):
        x = self.second(torch.tanh(self.first(x))) * self.scale
        x = self.apart(x) + F.linear(torch.sin(x), self.apart.weight)
        return self.head(self.twice(torch.tanh(self.twice(x))))


class Attention(nn.Module):
    """Tokens, positions, a norm, attention, a head for each position."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(7, 6), nn.Parameter(torch.randn(4, 6))
        self.norm, self.keys, self.out = nn.LayerNorm(6), nn.Linear(6, 12), nn.Linear(6, 3)

    def forward(self, x):
        x = self.token(x) + self.place
        k, q = self.keys(self.norm(x)).chunk(2, dim=-1)
        return self.out(x + (k @ q.mT).softmax(-1) @ x)


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 2, groups=2), nn.Tanh(), nn.Conv2d(6, 20, 2, padding="same", dilation=2),
        nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(20, 7, bias=False), nn.Tanh(),
        nn.Linear(7, 3),
    )  # fmt: skip


NETWORKS = {
    "dense": (
        lambda: nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)), (5,), (3,), 0
    ),
    "convolutions": (convolutions, (2, 7, 7), (3,), 0),
    "tied": (Tied, (5,), (3,), 0),
    "attention": (Attention, (4,), (4, 3), 7),
}  # fmt: skip
FACTORED = {
    "dense": {"0.weight", "2.weight"},
    "convolutions": {"5.weight", "9.weight", "11.weight"},
    "tied": {"head.weight"},
    "attention": {"keys.weight", "out.weight"},
}


def case(name, loss="cross_entropy", seed=0):
    network, shape, outputs, integers = NETWORKS[name]
    return random_task(network, loss, seed, shape, outputs, size=6, integers=integers)


def linearizations(name, curvature, seed):
    """Explicit, streamed, products."""
    loss = ("cross_entropy", "mse")[seed % 2]
    args = case(name, loss, seed)
    if curvature == "sampled_fisher":
        args = (*args, whole(args[2], seed))
        free = [sample_free(*args, samples=2, form=form) for form in ("streamed", "products")]
        outcomes = [sampled_fisher(*args, samples=2), *free]
    else:
        run = {"curvature": curvature}
        free = [linearize_free(*args, **run, form=form) for form in ("streamed", "products")]
        outcomes = [linearize(*args, **run), *free]
    losses = [float(outcome.facts["train_loss"]) for outcome in outcomes]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-12)
    return [outcome.value for outcome in outcomes]


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(rows, "_MADE_BYTES", 1 << 15)
    monkeypatch.setattr(rows, "_CPU_ELEMENTS", 1 << 8)
    monkeypatch.setattr(matrix_free, "_AT_ONCE_BYTES", 1 << 16)


@pytest.mark.parametrize("curvature", ["ggn", "empirical_fisher", "sampled_fisher"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_form_is_the_explicit_one(name, curvature, small_pieces, request):
    seed = len(request.node.name)
    explicit, *free = linearizations(name, curvature, seed)
    j, size = explicit.jacobian, explicit.gradient.shape[0]
    v = torch.randn(size, 2, dtype=torch.float64)
    for lin in free:
        for field in ("gradient", "residual", "probabilities", "hessian"):
            torch.testing.assert_close(getattr(lin, field), getattr(explicit, field), **TIGHT)
        assert lin.drawn == explicit.drawn and lin.size == explicit.size
        assert lin.jacobian.shape == tuple(j.shape) and len(lin.jacobian) == len(j)
        torch.testing.assert_close(lin.matrix, j, **TIGHT)
        torch.testing.assert_close(lin.jacobian.gram(), j @ j.T, **TIGHT)
        torch.testing.assert_close(lin.jacobian.times(v), j @ v, **TIGHT)
        half = [natural_gradient(one, damping=0.3) for one in (lin, explicit)]
        torch.testing.assert_close(*half, **TIGHT)


@pytest.mark.parametrize("name", NETWORKS)
def test_only_what_is_multiplied_once_is_factored(name):
    task, theta, batch = case(name)
    assert factored(task, 12 if name == "attention" else 3).keys() == FACTORED[name]
    assert "first.weight" not in layers_of(task) and "3.weight" not in layers_of(task)


@pytest.mark.parametrize("form", ["streamed", "products"])
@pytest.mark.parametrize(
    ("bits", "built"), [(None, None), (6, None), (6, Device(mismatch=0.01, instance=3))]
)
def test_what_a_device_does_with_it_is_the_same(form, bits, built, monkeypatch):
    """Rounded and mismatched alike, dissipation and ranges too."""
    monkeypatch.setattr(rows, "_MADE_BYTES", 1 << 13)
    args, answers = case("dense", seed=5), []
    run = {"damping": 0.1, "input_bits": bits} | ({"device": built} if built else {})
    for lin in (linearize(*args).value, linearize_free(*args, curvature="ggn", form=form).value):
        system = device.upload(lin, **run).value
        drive = device.drive(system, lin, bias_bits=bits, exact=bits is None).value
        settled = device.settle(system, drive, drive, tau=9.0, kappa0=1e-4, noise_seed=3)
        answers.append((device.read(system, settled.value, output_bits=None), settled.facts))
    (expected, facts), (found, others) = answers
    torch.testing.assert_close(found.value, expected.value, rtol=1e-9, atol=1e-9)
    assert facts.keys() == others.keys()
    for fact, value in facts.items():
        torch.testing.assert_close(others[fact], value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", ["streamed", "products"])
def test_shares_of_a_batch_are_joined(form):
    task, theta, (x, y) = case("convolutions")
    run = {"curvature": "ggn", "form": form}
    shares = [
        linearize_free(task, theta, (x[k], y[k]), **run).value for k in (slice(2), slice(2, 6))
    ]
    found = joined(shares[0].gradient, *shares).value
    expected = linearize(task, theta, (x, y)).value.jacobian
    torch.testing.assert_close(found.matrix, expected, **TIGHT)
    torch.testing.assert_close(found.jacobian.gram(), expected @ expected.T, **TIGHT)


TNGD = {"kind": "tngd", "learning_rate": 0.2, "damping": 0.1, "settle": "20 tau", "noise": 1e-4}


@pytest.mark.parametrize("form", ["streamed", "products"])
def test_a_run_without_tensors_has_the_keys_and_the_machine_of_one_with(form):
    explicit = {**document(TNGD, precision="float64", steps=1)}
    asked = {**explicit, "host": {"jacobian": form}}
    made, sink = execute(asked)
    shapes, _ = execute(asked, live=False)
    plain, expected = execute(explicit)
    assert made.theta.key == shapes.theta.key != plain.theta.key
    assert made.told["jacobian"]["form"] == form
    assert plain.told["jacobian"]["form"] == "explicit"
    torch.testing.assert_close(made.theta.value, plain.theta.value, **TIGHT)
    assert len(sink.spans) == len(expected.spans)
    for one, other in zip(sink.spans, expected.spans, strict=True):
        energies = [{k: span.pop(k) for k in tuple(span) if "energy" in k} for span in (one, other)]
        assert one == other and energies[0] == pytest.approx(energies[1], rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"spus": "iterated"}, "cuts it into blocks"),
        ({"rounding": "stochastic"}, "row by row"),
    ],
)
def test_what_needs_all_of_it_says_so(changes, said):
    asked = document({**TNGD, **changes, "noise": 0.0}) | {"host": {"jacobian": "streamed"}}
    with pytest.raises(InputError, match=f"host.jacobian.*explicit.*{said}.*'streamed'"):
        hybridsim.load(asked)


def test_the_form_is_chosen_by_size(monkeypatch):
    task, _, _ = case("convolutions")
    sizes = {"rows": 64 * 3 * 8, "whole": 64 * 3 * 8 * task.layout.size}

    def form(limit, **wanted):
        monkeypatch.setattr(forms, "LARGEST_BYTES", limit)
        return forms.chosen(Wanted(**wanted), task, 64, 3)

    rest = task.layout.size - 20 * 6 * 4 - 7 * 20 - 3 * 7
    assert form(sizes["whole"]) == ("explicit", "it takes at most 1 GiB", sizes["whole"])
    assert form(sizes["whole"] - 1).form == "products"
    assert form(rest * sizes["rows"] - 1).form == "streamed"
    assert form(1, whole="because").form == "explicit" and "because" in form(1, whole="because").why
    assert form(1, form="products")[:2] == ("products", "asked for")


def test_groups_stay_in_the_order_of_theta():
    task, theta, batch = case("dense")
    lin = linearize_free(task, theta, batch, curvature="ggn", form="products").value
    assert isinstance(lin.jacobian, SideBySide)
    kinds = [type(group) for group in lin.jacobian.groups]
    assert kinds == [Outer, Explicit, Outer, Explicit]
