"""Optimizers against torch.optim step for step, and what the door asks of each."""

from __future__ import annotations

import inspect
import pkgutil

import pytest
import torch
from harness import document, execute
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._pytree import tree_leaves

from hybridsim.algorithms import optimizers
from hybridsim.operations.count import count, signature
from hybridsim.scenario import settings as all_settings
from hybridsim.scenario.load import load
from hybridsim.scenario.settings import ALGORITHMS, OPTIMIZERS
from hybridsim.tasks.layout import Layout, layout_of

rates = st.floats(1e-4, 0.3)
betas = st.floats(0.0, 0.99)
decays = st.sampled_from([0.0, 0.01, 0.3])
FLAT = Layout(("p",), ((17,),))


def compare(kind, ours, make, seed, steps=12):
    """Feed the same directions to ours and to torch's, and compare the parameters after every
    step."""
    generator = torch.Generator().manual_seed(seed)
    theta = torch.randn(17, generator=generator)
    parameter, module = torch.nn.Parameter(theta.clone()), optimizers.optimizer(kind)
    reference, state = make([parameter]), module.start(theta, layout=FLAT)
    for _ in range(steps):
        direction = torch.randn(17, generator=generator)
        before = theta.clone()
        new, state = module.update(theta, state, direction, layout=FLAT, **ours).value
        assert torch.equal(theta, before)  # functional
        theta = new
        parameter.grad = direction.clone()
        reference.step()
        assert torch.allclose(theta, parameter.data, rtol=2e-6, atol=2e-6)


@settings(deadline=None, max_examples=20)
@given(rates, decays, st.integers(0, 2**31))
def test_sgd(rate, decay, seed):
    compare(
        "sgd",
        {"learning_rate": rate, "weight_decay": decay},
        lambda p: torch.optim.SGD(p, lr=rate, weight_decay=decay),
        seed,
    )


@settings(deadline=None, max_examples=20)
@given(rates, st.floats(0.01, 0.95), decays, st.integers(0, 2**31))
def test_nesterov(rate, momentum, decay, seed):
    compare(
        "nesterov",
        {"learning_rate": rate, "momentum": momentum, "weight_decay": decay},
        lambda p: torch.optim.SGD(p, lr=rate, momentum=momentum, weight_decay=decay, nesterov=True),
        seed,
    )


@settings(deadline=None, max_examples=20)
@given(rates, betas, betas, decays, st.integers(0, 2**31))
def test_adam(rate, beta1, beta2, decay, seed):
    ours = {"learning_rate": rate, "beta1": beta1, "beta2": beta2, "weight_decay": decay}
    compare(
        "adam", ours, lambda p: torch.optim.Adam(p, rate, (beta1, beta2), weight_decay=decay), seed
    )


@settings(deadline=None, max_examples=20)
@given(rates, betas, betas, decays, st.integers(0, 2**31))
def test_adamw(rate, beta1, beta2, decay, seed):
    ours = {"learning_rate": rate, "beta1": beta1, "beta2": beta2, "weight_decay": decay}
    compare(
        "adamw",
        ours,
        lambda p: torch.optim.AdamW(p, rate, (beta1, beta2), weight_decay=decay),
        seed,
    )


@settings(deadline=None, max_examples=20)
@given(rates, betas, betas, decays, st.floats(0, 0.1), st.integers(0, 2**31))
def test_nadamw(rate, beta1, beta2, decay, psi, seed):
    ours = {"learning_rate": rate, "beta1": beta1, "beta2": beta2, "weight_decay": decay}
    compare(
        "nadamw",
        {**ours, "momentum_decay": psi},
        lambda p: torch.optim.NAdam(
            p,
            lr=rate,
            betas=(beta1, beta2),
            weight_decay=decay,
            momentum_decay=psi,
            decoupled_weight_decay=True,
        ),
        seed,
    )


@pytest.mark.parametrize(("kind", "rate"), [("adam", 1e-3), ("adamw", 1e-3), ("nadamw", 2e-3)])
def test_defaults_are_torchs(kind, rate):
    named = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "nadamw": torch.optim.NAdam}
    make = named[kind]
    compare(kind, {"learning_rate": rate}, make, 0)


def test_states_of_one_name_have_the_same_fields():
    """Counts are kept by names and shapes, for all runs of a task."""
    fields = {}
    for kind in OPTIMIZERS:
        own = OPTIMIZERS[kind](kind=kind, learning_rate=1.0)
        state = optimizers.start(own, torch.zeros(17), FLAT)
        name = type(state).__name__, *(type(field).__name__ for field in state)
        assert fields.setdefault(name, state._fields) == state._fields


def test_errors_say_what_was_expected():
    with pytest.raises(ValueError, match="adam, .*, got 'rmsprop'"):
        optimizers.optimizer("rmsprop")


# ---------------------------------------------------------------- two files for each


def test_every_optimizer_has_its_settings_and_its_arithmetic():
    listed = {m.name for m in pkgutil.iter_modules(optimizers.__path__) if m.name[0] != "_"}
    assert listed == set(OPTIMIZERS)
    assert set(ALGORITHMS) == {m.name for m in pkgutil.iter_modules(all_settings.__path__)} - {
        "base",
        "analog",
    }
    assert "kfac" not in OPTIMIZERS and "muon" in OPTIMIZERS


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_fields_are_the_keyword_arguments_with_the_same_defaults(kind):
    found = inspect.signature(optimizers.optimizer(kind).update).parameters
    keywords = {n: p.default for n, p in found.items() if p.kind is p.KEYWORD_ONLY}
    fields = dict(OPTIMIZERS[kind].model_fields)
    phase = set(OPTIMIZERS[kind](kind=kind, learning_rate=1.0).phase(1))
    shared = {"kind", "schedule", "clip_norm"}
    assert set(keywords) - {"layout"} == (set(fields) - shared) | phase
    for name in keywords.keys() - {"layout", "learning_rate", "weight_decay"} - phase:
        assert keywords[name] == fields[name].default
    asked = inspect.signature(optimizers.optimizer(kind).start).parameters
    assert list(asked)[:2] == ["theta", "layout"]
    for name in list(asked)[2:]:
        assert asked[name].default == fields[name].default


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_alone_and_under_another_algorithm_it_has_the_same_settings(kind):
    scenario = load("tngd-digits", [f"training.algorithm.update={kind}"])
    update = scenario.training.algorithm.update
    fields = dict(type(update).model_fields)
    training = {"learning_rate", "schedule", "clip_norm"}
    assert isinstance(update, OPTIMIZERS[kind]) and not fields.keys() & training
    assert fields.keys() == OPTIMIZERS[kind].model_fields.keys() - training
    assert getattr(update, "weight_decay", 0) == 0
    assert load(scenario.document()) == scenario
    layout = Layout(("p",), ((3,),))
    rule = optimizers.Rule(update, 0.25, layout).at(1)
    assert rule.settings["learning_rate"] == 0.25 and rule.settings["layout"] is layout
    assert len(rule.token) == 16
    assert rule.token != optimizers.Rule(update, 0.5, layout).at(1).token
    other = Layout(("p",), ((3,),), ("head",))
    assert rule.token != optimizers.Rule(update, 0.25, other).at(1).token
    alone = load("adam-digits", [f"training.algorithm={{kind: {kind}, learning_rate: 0.25}}"])
    rules = optimizers.Rule(alone.training.algorithm, 0.25, layout).at(1)
    assert rules.settings | {"weight_decay": 0} == rule.settings | {"weight_decay": 0}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_steps_of_one_phase_are_one_computation(kind):
    own = OPTIMIZERS[kind](kind=kind, learning_rate=0.1)
    rule = optimizers.Rule(own, 0.1, FLAT)
    for step, other in [(1, 2), (2, 3), (1, 21), (2, 41), (11, 21)]:
        same = own.phase(step) == own.phase(other)
        assert (rule.at(step) is rule.at(other)) == same
        assert (rule.at(step).token == rule.at(other).token) == same


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_alone_tell_the_shapes_that_it_really_has_in_every_phase(kind, dtype):
    network = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 4))
    layout = layout_of(network)
    assert layout.kinds == ("hidden", "vector", "head", "vector")
    theta = torch.randn(layout.size, dtype=dtype)
    own = OPTIMIZERS[kind](kind=kind, learning_rate=0.1)
    rule, state = optimizers.Rule(own, 0.1, layout), optimizers.start(own, theta, layout)
    for step in (1, 2, 11, 21, 22):
        update = rule.at(step)
        args = (theta, state, theta + 1, 0.5)
        work, shapes = count(update.function, args, update.settings)
        real = update.function(*args, **update.settings)
        assert signature((shapes.value,), {}) == signature((real.value,), {})
        assert work.flop > 0 and real.value[0].dtype == dtype
        assert [t.shape for t in tree_leaves(state) if isinstance(t, torch.Tensor)] == [
            t.shape for t in tree_leaves(real.value[1]) if isinstance(t, torch.Tensor)
        ]
        theta, state = real.value


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_run_without_tensors_has_the_schedule_of_a_live_one(kind):
    """Alone and under K-FAC: what a step costs follows from its number and shapes."""
    own = {
        name: 3 for name in ("basis_every", "root_every") if name in OPTIMIZERS[kind].model_fields
    }
    kfac = {"kind": "kfac", "method": "digital", "damping": 0.1, "update": {"kind": kind, **own}}
    for algorithm in ({"kind": kind, **own}, kfac):
        asked = document({**algorithm, "learning_rate": 0.01}, steps=7)
        (live, spans), (timed, timed_spans) = execute(asked), execute(asked, live=False)
        assert live.theta.key == timed.theta.key
        assert times(spans) == times(timed_spans)
        updates = [end - begin for what, begin, end in times(spans) if what == "update"]
        renewed = [updates[k] for k in (0, 3, 6)] if own else []
        assert all(t > updates[1] for t in renewed)
        assert {t for k, t in enumerate(updates) if k % 3 or not own} == {updates[1]}


def times(sink):
    return [(span["kind"], span["start_ps"], span["end_ps"]) for span in sink.spans]
