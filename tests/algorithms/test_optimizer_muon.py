"""Muon and its AdamW, bit for bit torch.optim's, on the parameters that the rule gives each."""

from __future__ import annotations

import pytest
import torch
from harness import document, execute
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hybridsim.algorithms.optimizers import muon
from hybridsim.operations.count import count
from hybridsim.tasks.layout import Layout, layout_of

SIDES = st.sampled_from([1, 2, 3, 5, 8, 17, 33])


class Tied(nn.Module):
    """Every kind of parameter; the head is tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(7, 6)
        self.places = nn.Parameter(torch.zeros(5, 6))
        self.convolution = nn.Conv1d(6, 6, 3, padding=1)
        self.norm = nn.LayerNorm(6)
        self.mix = nn.Linear(6, 6, bias=False)
        self.head = nn.Linear(6, 7, bias=False)
        self.head.weight = self.tokens.weight


def networks(draw):
    first, second, third = (draw(SIDES) for _ in range(3))
    bias = draw(st.booleans())
    return draw(
        st.sampled_from(
            [
                lambda: nn.Linear(first, second, bias=bias),
                lambda: nn.Sequential(
                    nn.Linear(first, second, bias=bias), nn.Linear(second, third, bias=bias)
                ),
                lambda: nn.Sequential(
                    nn.Embedding(first, second),
                    nn.Linear(second, third),
                    nn.LayerNorm(third),
                    nn.Linear(third, second, bias=bias),
                    nn.Linear(second, first),
                ),
                lambda: nn.Sequential(
                    nn.Conv2d(2, 3, 3, groups=1), nn.Linear(first, second), nn.Linear(second, 4)
                ),
                lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.GroupNorm(1, 3)),
                Tied,
            ]
        )
    )()


def hidden_weights(network):
    """The rule, written down once more: weights of Linear modules but the last, no embedding."""
    linear = [m for m in network.modules() if isinstance(m, nn.Linear)]
    embeddings = {id(m.weight) for m in network.modules() if isinstance(m, nn.Embedding)}
    last = {id(m.weight) for m in linear[-1:]}
    return [m.weight for m in linear if id(m.weight) not in embeddings | last]


@st.composite
def cases(draw):
    torch.manual_seed(draw(st.integers(0, 2**31)))
    rate = draw(st.floats(1e-4, 0.2))
    return networks(draw), {
        "learning_rate": rate,
        "weight_decay": draw(st.sampled_from([0.0, 0.1, 0.5])),
        "momentum": draw(st.floats(0, 0.99)),
        "nesterov": draw(st.booleans()),
        "ns_steps": draw(st.integers(1, 7)),
        "ns_coefficients": draw(st.sampled_from([(3.4445, -4.775, 2.0315), (2.0, -1.5, 0.5)])),
        "epsilon": draw(st.sampled_from([1e-7, 1e-2])),
        "adjust_lr": draw(st.sampled_from(["original", "match_rms_adamw"])),
        "beta1": draw(st.floats(0, 0.99)),
        "beta2": draw(st.floats(0, 0.999)),
        "adamw_epsilon": draw(st.sampled_from([1e-8, 1e-3])),
        "adamw_learning_rate": draw(st.none() | st.floats(1e-4, 0.2)),
    }


def torchs(network, ours):
    """torch's optimizers over the parameters that the rule gives each."""
    matrices = hidden_weights(network)
    taken = {id(p) for p in matrices}
    others = [p for p in network.parameters() if p.requires_grad and id(p) not in taken]
    made = []
    if matrices:
        made.append(
            torch.optim.Muon(
                matrices,
                lr=ours["learning_rate"],
                weight_decay=ours["weight_decay"],
                momentum=ours["momentum"],
                nesterov=ours["nesterov"],
                ns_coefficients=ours["ns_coefficients"],
                eps=ours["epsilon"],
                ns_steps=ours["ns_steps"],
                adjust_lr_fn=ours["adjust_lr"],
            )
        )
    if others:
        rate = ours["adamw_learning_rate"]
        made.append(
            torch.optim.AdamW(
                others,
                lr=ours["learning_rate"] if rate is None else rate,
                betas=(ours["beta1"], ours["beta2"]),
                eps=ours["adamw_epsilon"],
                weight_decay=ours["weight_decay"],
                foreach=False,
            )
        )
    return made


def compare(network, ours, steps=11, seed=0):
    layout = layout_of(network)
    parameters = {n: p for n, p in network.named_parameters() if p.requires_grad}
    theta = layout.flatten({n: p.detach() for n, p in parameters.items()}).clone()
    references, state = torchs(network, ours), muon.start(theta, layout=layout)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        scale = 0.0 if step == 3 else 10.0 ** float(torch.randn((), generator=generator))
        direction = scale * torch.randn(layout.size, generator=generator, dtype=theta.dtype)
        before, asked = theta.clone(), direction.clone()
        new, state = muon.update(theta, state, direction, layout=layout, **ours).value
        assert torch.equal(theta, before) and torch.equal(direction, asked)  # functional
        theta = new
        for name, slope in layout.unflatten(direction).items():
            parameters[name].grad = slope.clone()
        for reference in references:
            reference.step()
        expected = layout.flatten({n: p.detach() for n, p in parameters.items()})
        assert torch.equal(theta, expected), f"step {step}"
    return theta


@settings(deadline=None, max_examples=150)
@given(cases())
def test_bits_are_torchs(case):
    network, ours = case
    compare(network, ours)


DEFAULTS = {**muon.update.__kwdefaults__, "learning_rate": 1e-3}


@pytest.mark.parametrize("shape", [(300, 128), (128, 300), (160, 160)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matrices_of_a_real_size_at_the_defaults(shape, dtype):
    """In float64 too: torch's iterations are bf16 whatever the type."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(shape[1], shape[0]), nn.Linear(shape[0], 10)).to(dtype)
    compare(network, DEFAULTS)
    assert torch.optim.Muon([torch.nn.Parameter(torch.ones(2, 2))]).defaults == {
        "lr": DEFAULTS["learning_rate"],
        "weight_decay": DEFAULTS["weight_decay"],
        "momentum": DEFAULTS["momentum"],
        "nesterov": DEFAULTS["nesterov"],
        "ns_coefficients": DEFAULTS["ns_coefficients"],
        "eps": DEFAULTS["epsilon"],
        "ns_steps": DEFAULTS["ns_steps"],
        "adjust_lr_fn": None,
    }


def test_who_is_the_head_and_who_is_hidden():
    assert dict(zip(layout_of(Tied()).names, layout_of(Tied()).kinds, strict=True)) == {
        "places": "other",
        "tokens.weight": "embedding",
        "convolution.weight": "convolution",
        "convolution.bias": "vector",
        "norm.weight": "vector",
        "norm.bias": "vector",
        "mix.weight": "hidden",
    }
    frozen = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    frozen[1].requires_grad_(False)
    assert layout_of(frozen).kinds == ("hidden", "vector")  # a frozen head stays the head
    assert layout_of(nn.Linear(2, 3)).kinds == ("head", "vector")
    assert layout_of(nn.Bilinear(2, 3, 4)).kinds == ("other", "vector")
    assert Layout(("a", "b"), ((2, 2), (3,))).kinds == ("other", "other")


def test_a_network_of_hidden_matrices_alone():
    network = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 2))
    network[1].requires_grad_(False)
    assert layout_of(network).kinds == ("hidden",)
    compare(network, DEFAULTS)


@pytest.mark.parametrize(("m", "n"), [(6, 4), (4, 6)])
def test_products_are_counted_as_bf16_and_with_the_shorter_side_first(m, n):
    """Of each iteration: X X' and its square are of the shorter side, then times X."""
    layout = Layout(("w", "b"), ((m, n), (m,)), ("hidden", "vector"))
    theta = torch.zeros(layout.size)
    state = muon.start(theta, layout=layout)
    work, _ = count(muon.update, (theta, state, theta), {"layout": layout, "learning_rate": 0.1})
    products = [k for k in work.kernels if k.matrix]
    short, long = min(m, n), max(m, n)
    assert {k.precision for k in products} == {"bf16"}
    assert sum(k.count for k in products) == 3 * 5
    assert sum(k.count * k.flop for k in products) == pytest.approx(
        5 * 2 * (2 * short * short * long + short**3)
    )
    assert {k.precision for k in work.kernels if k.name.endswith(("lerp", "addcdiv"))} == {"fp32"}


PROGRAMS = {
    "muon": {"kind": "muon", "learning_rate": 0.02},
    "tngd": {"kind": "tngd", "learning_rate": 0.02, "update": "muon"},
    "kfac": {"kind": "kfac", "learning_rate": 0.02, "damping": 0.1, "update": "muon"},
    "digital": {
        "kind": "kfac",
        "method": "digital",
        "learning_rate": 0.02,
        "damping": 0.1,
        "update": {"kind": "muon", "adjust_lr": "match_rms_adamw"},
    },
}


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_it_moves_the_parameters_of_every_program(name, precision):
    live, lived = execute(document(PROGRAMS[name], precision=precision))
    _, timed = execute(document(PROGRAMS[name], precision=precision), live=False)
    assert live.theta.value.isfinite().all() and live.theta.value.dtype == getattr(torch, precision)
    assert (live.theta.value - live.parameters().value).abs().max() > 1e-3
    times = [
        [(s["kind"], s["start_ps"], s["end_ps"]) for s in sink.spans] for sink in (lived, timed)
    ]
    assert times[0] == times[1]
