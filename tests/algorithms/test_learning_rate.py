"""Schedules of the learning rate and clipping, against torch's own and as part of a run."""

from __future__ import annotations

import warnings

import pytest
import torch
from harness import document, execute
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

import hybridsim
from hybridsim.algorithms.first_order.gradient import gradient
from hybridsim.algorithms.schedule import clip, factor
from hybridsim.errors import InputError
from hybridsim.operations.count import count
from hybridsim.scenario.settings.base import Schedule
from hybridsim.scenario.unused import unused_fields

KINDS = st.sampled_from(["constant", "cosine", "linear"])


def torchs(optimizer, schedule, horizon):
    """Warm-up, then the rest, as a chain of torch's schedulers."""
    warmup, final = schedule.warmup_steps, schedule.final
    rate, left = optimizer.param_groups[0]["lr"], horizon - warmup
    rest = {
        "constant": lambda: lr_scheduler.ConstantLR(optimizer, 1.0),
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, left, final * rate),
        "linear": lambda: lr_scheduler.LinearLR(optimizer, 1.0, final, left),
    }[schedule.kind]
    if not warmup:
        return rest()
    first = lr_scheduler.LinearLR(optimizer, 1 / warmup, 1.0, max(warmup - 1, 1))
    return lr_scheduler.SequentialLR(optimizer, [first, rest()], [warmup])


@settings(deadline=None)
@given(KINDS, st.integers(0, 12), st.integers(1, 25), st.floats(0, 1), st.booleans())
def test_factors_are_those_of_torchs_schedulers(kind, warmup, horizon, final, named):
    assume(warmup < horizon)
    steps = horizon + 5 if named else horizon
    schedule = Schedule(
        kind=kind, warmup_steps=warmup, steps=horizon if named else None, final=final
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=0.7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of steps without gradients
        scheduler = torchs(optimizer, schedule, horizon)
        for step in range(1, horizon + 1):
            expected = optimizer.param_groups[0]["lr"]
            found = 0.7 * factor(schedule, step, steps)
            assert found == pytest.approx(expected, rel=1e-9, abs=1e-12), step
            scheduler.step()
    after = 1.0 if kind == "constant" else final
    assert all(factor(schedule, k, steps) == after for k in range(horizon + 1, steps + 1))


def test_without_a_schedule_or_before_its_warm_up_ends():
    assert {factor(None, step, 10) for step in range(1, 11)} == {1.0}
    long = Schedule(kind="cosine", warmup_steps=100)  # longer than the run: nothing but warm-up
    assert [factor(long, step, 4) for step in (1, 2, 3, 4)] == [0.01, 0.02, 0.03, 0.04]


@settings(deadline=None)
@given(st.integers(0, 2**31), st.floats(-6, 6), st.floats(1e-3, 1e3))
def test_clipping_is_torchs(seed, exponent, norm):
    generator = torch.Generator().manual_seed(seed)
    direction = 10**exponent * torch.randn(13, generator=generator, dtype=torch.float64)
    parts = [torch.nn.Parameter(torch.zeros(n, dtype=torch.float64)) for n in (6, 4, 3)]
    for part, slope in zip(parts, direction.split([6, 4, 3]), strict=True):
        part.grad = slope.clone()
    torch.nn.utils.clip_grad_norm_(parts, norm)
    expected = torch.cat([part.grad for part in parts])
    found = clip(direction, norm=norm).value
    assert torch.allclose(found, expected, rtol=1e-12, atol=0)
    assert found.norm() <= norm * (1 + 1e-12)


def test_clipping_reads_twice_and_writes_once():
    work, _ = count(clip, (torch.zeros(1000),), {"norm": 1.0})
    assert work.launches == 6 and work.flop == 2004  # four of them on the norm alone
    assert work.bytes == 4 * (1000 + 1 + 2000 + 1 + 4 * 2)


# ---------------------------------------------------------------- as part of a run

TNGD = {"kind": "tngd", "damping": 0.1, "settle": "20 tau"}
KFAC = {"kind": "kfac", "method": "digital", "damping": 0.1, "update": "sgd"}


def trained(algorithm, steps=6, **changes):
    made, sink = execute(document(algorithm, steps=steps, precision="float64", **changes))
    return made, sink


@pytest.mark.parametrize("clip_norm", [None, 0.3])
@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_a_run_is_torchs_loop(kind, clip_norm):
    """AdamW, SequentialLR and clip_grad_norm_ on the same batches."""
    schedule = {"kind": kind, "warmup_steps": 3, "final": 0.1}
    algorithm = {"kind": "nesterov", "learning_rate": 0.2, "schedule": schedule}
    made, _ = trained(algorithm | ({"clip_norm": clip_norm} if clip_norm else {}), steps=12)
    task = made.task
    theta = torch.nn.Parameter(task.initial_parameters(0).clone())
    optimizer = torch.optim.SGD([theta], 0.2, 0.9, nesterov=True)
    scheduler = torchs(optimizer, Schedule(**schedule), 12)
    norms = []
    for step in range(1, 13):
        theta.grad = gradient(task, theta.detach(), made.batch(step).value).value
        norms.append(float(theta.grad.norm()))
        if clip_norm:
            torch.nn.utils.clip_grad_norm_([theta], clip_norm)
        optimizer.step()
        scheduler.step()
    assert torch.allclose(made.theta.value, theta.detach(), rtol=1e-10, atol=1e-12)
    assert max(norms) > 0.3  # it was clipped


@pytest.mark.parametrize(
    "algorithm",
    [
        {"kind": "muon", "adamw_learning_rate": 0.02},
        {"kind": "adam"},
        {"kind": "shampoo"},
        {**KFAC, "kl_clip": 1e-4},
        TNGD,
    ],
    ids=lambda algorithm: algorithm["kind"],
)
def test_a_warm_up_multiplies_every_learning_rate(algorithm):
    """The first of four steps of warm-up is a step at a quarter of the rates."""
    quarter = {k: v / 4 if k.endswith("learning_rate") else v for k, v in algorithm.items()}
    schedule = {"kind": "constant", "warmup_steps": 4}
    made, _ = trained({**algorithm, "learning_rate": 0.4, "schedule": schedule}, steps=1)
    plain, _ = trained({**quarter, "learning_rate": 0.1}, steps=1)
    assert torch.equal(made.theta.value, plain.theta.value)
    full, _ = trained({**algorithm, "learning_rate": 0.4}, steps=1)
    # a step that the KL divergence limits has one length, whatever the rate
    assert torch.allclose(made.theta.value, full.theta.value) == ("kl_clip" in algorithm)


@pytest.mark.parametrize("algorithm", [KFAC, TNGD, {"kind": "sgd"}], ids=lambda a: a["kind"])
def test_what_moves_the_parameters_is_clipped_whoever_found_it(algorithm):
    """A step of SGD is no longer than eta c; one that is short enough is as it was."""
    rate = 0.25
    start = trained({**algorithm, "learning_rate": rate}, steps=1)[0]
    theta = start.task.initial_parameters(0)
    plain = start.theta.value - theta
    for share in (0.5, 2.0):
        norm = share * float(plain.norm()) / rate
        asked = {**algorithm, "learning_rate": rate, "clip_norm": norm}
        moved = trained(asked, steps=1)[0].theta.value - theta
        expected = plain * min(1.0, share)
        assert torch.allclose(moved, expected, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("algorithm", [KFAC, TNGD, {"kind": "adam"}], ids=lambda a: a["kind"])
def test_time_and_keys(algorithm):
    """A schedule costs nothing; clipping is an operation; without tensors both are as they are
    with. Steps at other rates have other keys, steps at the same rates the same."""
    base = {**algorithm, "learning_rate": 0.1}
    scheduled = {**base, "schedule": "cosine"}
    both = {**scheduled, "clip_norm": 0.5}
    found = {}
    for name, asked in (("base", base), ("scheduled", scheduled), ("both", both)):
        made, sink = execute(document(asked, steps=4))
        timed, timed_sink = execute(document(asked, steps=4), live=False)
        assert made.theta.key == timed.theta.key and times(sink) == times(timed_sink)
        found[name] = made.theta.key, times(sink)
    assert found["base"][1] == found["scheduled"][1]
    assert len({key for key, _ in found.values()}) == 3
    constant = {**base, "schedule": {"kind": "linear", "final": 1.0}}
    assert execute(document(constant, steps=4), live=False)[0].theta.key == found["base"][0]
    kinds = [kind for kind, *_ in found["both"][1]]
    assert kinds.count("clip") == 4 == kinds.count("update")
    assert "clip" not in [kind for kind, *_ in found["base"][1]]


def times(sink):
    return [(span["kind"], span["start_ps"], span["end_ps"]) for span in sink.spans]


def test_the_host_waits_for_the_answer_where_it_is_first_used():
    """Of an SPU: the launch after it is synchronous, and that is the clipping then."""
    lengths = {}
    for asked in ({}, {"clip_norm": 0.5}):
        _, sink = execute(document({**TNGD, "learning_rate": 0.1, **asked}, steps=2))
        for kind, begin, end in times(sink):
            if kind in ("update", "clip"):
                lengths[kind, bool(asked)] = end - begin
    gradient_only = execute(document({"kind": "sgd", "learning_rate": 0.1}, steps=1))[1]
    (update,) = [end - begin for kind, begin, end in times(gradient_only) if kind == "update"]
    assert lengths["update", True] == update < lengths["update", False]


# ---------------------------------------------------------------- settings


def asked(text, name="adam-digits"):
    return hybridsim.load(name, [f"training.algorithm.{text}"])


def test_a_word_or_a_map():
    short = asked("schedule=cosine").training.algorithm.schedule
    assert (
        short
        == Schedule(kind="cosine")
        == asked("schedule={kind: cosine}").training.algorithm.schedule
    )
    scenario = asked("schedule={kind: linear, warmup_steps: 5, final: 0.25}")
    assert hybridsim.load(scenario.document()) == scenario
    assert "schedule" not in hybridsim.load("adam-digits").document()["training"]["algorithm"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("schedule=cosin", "schedule.kind: expected one of constant, cosine, linear"),
        ("schedule={kind: cosine, final: 1.5}", "schedule.final: expected a number <= 1"),
        (
            "schedule={kind: linear, warmup_steps: 5, steps: 5}",
            "schedule.warmup_steps: expected fewer than the 5 steps of the schedule, got 5",
        ),
        ("clip_norm=0", "clip_norm: expected a number > 0"),
    ],
)
def test_mistakes_are_named(text, problem):
    with pytest.raises(InputError, match=problem):
        asked(text)


@pytest.mark.parametrize("key", ["schedule=cosine", "clip_norm=1.0", "learning_rate=0.1"])
def test_under_an_algorithm_they_are_the_algorithms(key):
    assert asked(key, "tngd-digits").training.algorithm.update.kind == "sgd"
    with pytest.raises(InputError, match="unknown key"):
        asked(f"update={{kind: adam, {key.replace('=', ': ')}}}", "tngd-digits")


def test_what_changes_nothing_is_said():
    found = unused_fields(asked("schedule={kind: constant, warmup_steps: 3, final: 0.5, steps: 9}"))
    assert found == ["training.algorithm.schedule.steps", "training.algorithm.schedule.final"]
    assert unused_fields(asked("schedule={kind: cosine, final: 0.5, steps: 9}")) == []
    grafted = "{kind: shampoo, grafting: sgd, grafting_beta2: 0.9, grafting_epsilon: 1e-3}"
    found = unused_fields(asked(f"update={grafted}", "tngd-digits"))
    assert found == [f"training.algorithm.update.grafting_{n}" for n in ("beta2", "epsilon")]


@pytest.mark.parametrize(("rate", "told"), [(0.01, False), (30.0, True)])
def test_a_loss_that_grew_a_hundredfold_is_told_once(rate, told):
    asked = {"kind": "sgd", "learning_rate": rate}
    made = document(asked, steps=12, machine={"gpu": "a100-sxm4-80gb", "link": None, "spus": None})
    made["workload"]["options"] = {"hidden": 5, "depth": 1}
    made["training"]["diverged_above"] = 2.0
    run = hybridsim.run(hybridsim.load(made))
    events = run.events[run.events["kind"] == "divergence"]
    losses = run.steps["train_loss"].to_numpy()
    beyond = losses > 2 * losses[0]
    assert len(events) == int(beyond.any()) == int(told)
    if told:
        first = run.steps["step"].to_numpy()[beyond][0]
        assert events["step"].tolist() == [first] and events["value"].iloc[0] > 2
