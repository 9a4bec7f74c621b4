"""The claim scripts: their statistics against scipy and closed forms, their exact solve against a
dense one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

import hybridsim
from analysis.papers import (
    digits_race,
    exact_gradient,
    record,
    sweep,
    t5_adam,
    t6_settling,
    t8_limits,
    t9_noise,
)
from analysis.papers.mnist_runs import LAST, Curve, by_setting
from analysis.papers.paired import difference, mean_interval, ratio, verdict
from hybridsim.tasks.task import Data, Workload, as_task, batch_indices

VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=8)
POSITIVE = st.lists(st.tuples(st.floats(0.01, 10), st.floats(0.01, 10)), min_size=2, max_size=8)
SEEDS = st.integers(0, 10_000)


def curve(setting: str, seed: int, loss: float, **changes) -> Curve:
    fields = {
        "train_loss": [loss],
        "step": [1],
        "test_loss": [loss],
        "test_accuracy": [0.5],
        "seconds": [1.0],
    }
    return Curve(setting, seed, None, **{**fields, "joules": [1.0], **changes})


# ---------------------------------------------------------------- statistics


@given(VALUES)
def test_mean_interval_is_scipys_one_sample_t_interval(values):
    assume(np.std(values) > 1e-6)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = mean_interval(values)
    assert (found["low"], found["high"]) == pytest.approx(
        (expected.low, expected.high), rel=1e-9, abs=1e-9
    )


def test_mean_interval_of_two_values_in_closed_form():
    """With one degree of freedom t is a Cauchy variable: t(0.975) = tan(0.475 pi)."""
    found = mean_interval([1.0, 3.0])
    assert found["high"] - found["mean"] == pytest.approx(np.tan(0.475 * np.pi))


@given(POSITIVE)
def test_paired_difference_agrees_with_scipys_related_t_test(pairs):
    first, second = zip(*pairs, strict=True)
    gaps = np.subtract(first, second)
    assume(gaps.std() > 1e-6)
    test = stats.ttest_rel(first, second)
    assume(abs(test.pvalue - 0.05) > 1e-9)
    found = difference(first, second)
    assert found["separable"] == (test.pvalue < 0.05)
    assert found["mean"] == pytest.approx(gaps.mean())


@given(POSITIVE, st.floats(0.1, 10))
def test_ratio_is_the_geometric_mean_and_turns_over_with_its_arguments(pairs, factor):
    first, second = zip(*pairs, strict=True)
    found, turned = ratio(first, second), ratio(second, first)
    assert found["mean"] == pytest.approx(stats.gmean(np.divide(first, second)))
    assert found["low"] == pytest.approx(1 / turned["high"])
    scaled = ratio([factor * a for a in first], second)
    assert scaled["high"] == pytest.approx(factor * found["high"])


def test_verdict_asks_for_the_whole_interval():
    assert verdict({"low": 0.96, "high": 1.04}, 0.95, 1.05) == "holds"
    assert verdict({"low": 0.90, "high": 1.04}, 0.95, 1.05) == "not separable"
    assert verdict({"low": 1.06, "high": 1.30}, 0.95, 1.05) == "does not"
    assert verdict({"low": 0.80, "high": 0.90}, 0.95, 1.05) == "does not"


def race(step: dict[str, list[int | None]]) -> pd.DataFrame:
    """A table of points, with seconds and joules in proportion to steps."""
    rows = []
    for side, steps in step.items():
        for seed, own in enumerate(steps):
            known = float("nan") if own is None else float(own)
            row = {"side": side, "seed": seed, "reached": own is not None, "step": own}
            row |= {"seconds": 0.01 * known, "joules": 2 * known, "solver_error": 0.05}
            rows.append(row)
    return pd.DataFrame(rows)


def test_a_race_is_summed_up_over_the_seeds_that_both_finished():
    """On logs, by hand."""
    steps = {"tngd": [20, 30, None, 25], "adam": [90, 100, 80, None]}
    found = digits_race.summarise(race(steps))
    assert found["tngd"]["seeds that reached the target"] == "3 of 4"
    logs = np.log([0.2, 0.3, 0.25])
    half = stats.t.ppf(0.975, 2) * logs.std(ddof=1) / 3**0.5
    assert found["tngd"]["seconds"]["high"] == pytest.approx(np.exp(logs.mean() + half))
    pair = found["tngd over adam, paired by seed"]["joules"]
    assert pair["mean"] == pytest.approx(((20 / 90) * (30 / 100)) ** 0.5)
    expected = stats.ttest_rel(np.log([20, 30]), np.log([90, 100])).pvalue
    assert pair["p"] == pytest.approx(expected)
    assert (pair["verdict"] == "a difference") == (expected < 0.05)


def test_a_race_that_nobody_finishes_has_a_summary():
    found = digits_race.summarise(race({"tngd": [None, None], "adam": [None, None]}))
    assert found["adam"]["seeds that reached the target"] == "0 of 2"
    assert found["tngd over adam, paired by seed"] == {}


def test_the_committed_race_holds_the_intervals_of_its_runs():
    file = Path(digits_race.__file__).parent / "results" / "digits_race.json"
    result = json.loads(file.read_text())
    table = pd.DataFrame(record.runs_of(result))
    again = json.loads(json.dumps(record.short(digits_race.summarise(table), 5)))
    for side in digits_race.SIDES:
        kept = {m: again[side][m] for m in digits_race.MEASURES}
        stored = record.short({m: result["summary"][side][m] for m in kept}, 5)
        assert stored == kept
        assert (table["side"] == side).sum() >= 10


# ---------------------------------------------------------------- files and runs


def test_a_result_file_says_its_command_and_its_runs(tmp_path, capsys):
    path = tmp_path / "found.json"
    rows = [{"a": 1, "b": 1 / 3}, {"a": 2, "c": float("nan")}]
    record.save(path, "nothing", {"n": 1}, {"best": {3: 1e-9}}, rows)
    found = json.loads(path.read_text())
    assert found["command"] == f"python -m analysis.papers.nothing --out {path}"
    assert found["summary"] == {"best": {"3": 1e-9}} == json.loads(capsys.readouterr().out)
    assert record.runs_of(found) == [
        {"a": 1, "b": 0.33333, "c": None},
        {"a": 2, "b": None, "c": None},
    ]


def test_variants_run_once_and_fail_alone(tmp_path):
    """A script started again finds its runs; one that diverges says so and leaves the others."""
    given = sweep.parser(None).parse_args(["--out", str(tmp_path / "tiny.json"), "--workers", "1"])
    given.runs = tmp_path / "runs"
    fields = {
        "workload": {"source": "digits_mlp", "options": {"hidden": 4, "depth": 1}},
        "training.steps": 4,
        "training.evaluate_every": 2,
    }
    rate = "training.algorithm.learning_rate"
    variants = {
        "calm": sweep.Variant("adam-digits", {**fields, rate: 0.01}),
        "wild": sweep.Variant("adam-digits", {**fields, rate: 1e37}),
    }
    once, again = ([*sweep.made(given, variants, (0, 3))] for _ in range(2))
    assert [(m.variant, m.seed) for m in once] == [
        (name, seed) for name in variants for seed in (0, 3)
    ]
    calm = once[1].run
    assert calm is not None and not once[1].reason
    alone = hybridsim.run(variants["calm"].load(seed=3))
    assert calm.steps["train_loss"].tolist() == alone.steps["train_loss"].tolist()
    assert once[2].run is None and "loss" in once[2].reason
    logs = [line for log in (given.runs / "log").iterdir() for line in log.open()]
    assert len(logs) == 4 and again[1].run is not None


# ---------------------------------------------------------------- the exact solve


def tiny(seed: int):
    """A task with a few parameters on random data, in which a dense curvature matrix is small."""
    random = torch.Generator().manual_seed(seed)
    x, y = torch.randn(9, 3, generator=random), torch.randint(0, 4, (9,), generator=random)
    network = lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4))  # noqa: E731  # one line in a helper
    return as_task("tiny", Workload(network, Data(x, y, x[:4], y[:4]), "cross_entropy"))


def dense_step(task, theta, x, y, rate, damping):
    """theta - rate (GGN + damping I)⁻¹ gradient, the GGN summed example by example, the loss
    Hessian by autograd."""

    def outputs(flat, one):
        return task.apply(task.layout.unflatten(flat), one[None])[0]

    def mean_loss(flat):
        return nn.functional.cross_entropy(task.apply(task.layout.unflatten(flat), x), y)

    matrix = damping * torch.eye(len(theta), dtype=torch.float64)
    for one, label in zip(x, y, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda t, one=one: outputs(t, one), theta)
        hessian = torch.autograd.functional.hessian(
            lambda z, label=label: nn.functional.cross_entropy(z, label), outputs(theta, one)
        )
        matrix += jacobian.T @ hessian @ jacobian / len(x)
    gradient = torch.autograd.functional.jacobian(mean_loss, theta)
    return theta - rate * torch.linalg.solve(matrix, gradient)


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, damping=st.sampled_from([1e-3, 0.1, 2.0]))
def test_exact_training_equals_dense_solves_step_for_step(seed, damping):
    task, steps, size, rate = tiny(seed), 5, 4, 0.3
    found = exact_gradient.train(task, seed, steps, size, rate, damping, every=2)
    theta, losses = task.initial_parameters(seed).double(), []
    for step in range(steps):
        chosen = batch_indices(seed, 9, size, step)
        x, y = task.data.train_x[chosen].double(), task.data.train_y[chosen]
        z = task.apply(task.layout.unflatten(theta), x)
        losses.append(float(nn.functional.cross_entropy(z, y)))
        theta = dense_step(task, theta, x, y, rate, damping)
    z = task.apply(task.layout.unflatten(theta), task.data.test_x.double())
    assert found["train_loss"] == pytest.approx(losses, rel=1e-8)
    assert list(found["test"]) == [2, 4, 5]
    assert found["test"][5][0] == pytest.approx(
        float(nn.functional.cross_entropy(z, task.data.test_y)), rel=1e-8
    )
    assert found["test"][5][1] == float((z.argmax(dim=1) == task.data.test_y).double().mean())


@given(seed=SEEDS, step=st.integers(0, 30), size=st.integers(1, 7))
def test_exact_training_sees_the_simulators_batches(seed, step, size):
    assert torch.equal(
        exact_gradient.batch_order(seed, 20, size, step), batch_indices(seed, 20, size, step)
    )


@pytest.mark.parametrize("settle", ["0 tau", "100000 tau"])
def test_only_a_long_settle_trains_like_the_exact_solve(settle):
    """The whole path of the claim scripts on the digits: the simulated SPU at rest, against the
    solve."""
    overrides = [
        "workload={source: digits_mlp, options: {hidden: 4, depth: 1}}",
        "training={batch_size: 6, steps: 4, evaluate_every: 2}",
        f"training.algorithm={{kind: tngd, learning_rate: 0.1, damping: 0.1, settle: {settle}}}",
        *(f"machine.spus.{side}_bits=ideal" for side in ("input", "bias", "output")),
        "machine.spus.imperfections=ideal",
    ]
    scenario = hybridsim.load("tngd-digits", overrides)
    simulated = hybridsim.run(scenario).steps
    task = hybridsim.load_task(scenario)
    exact = exact_gradient.train(task, scenario.seed, 4, 6, 0.1, 0.1, every=2)
    error = np.abs(simulated["train_loss"] / exact["train_loss"] - 1).max()
    assert (error < 1e-5) == (settle != "0 tau")
    tested = simulated.dropna(subset=["test_loss"])
    assert tested["step"].tolist() == list(exact["test"])


# ---------------------------------------------------------------- summaries


def test_measures_average_the_last_steps_and_all():
    losses = [10.0] * 30 + [1.0] * LAST
    found = curve("a", 0, 2.0, train_loss=losses).measures()
    assert found["late_train_loss"] == 1.0
    assert found["mean_train_loss"] == pytest.approx((300 + LAST) / (30 + LAST))
    assert found["test_loss"] == 2.0


def test_values_are_paired_by_seed_whatever_the_order_of_the_runs():
    assert by_setting([curve("a", 1, 3.0), curve("a", 0, 2.0)], "test_loss") == {"a": [2.0, 3.0]}


def settling(losses: dict[str, float]) -> dict:
    curves = [
        curve(name, seed, loss * (1 + 0.1 * seed))
        for name, loss in losses.items()
        for seed in range(4)
    ]
    return t6_settling.summarise(curves)["test_loss"]


def test_settling_verdicts_follow_the_losses():
    losses = {
        "5 tau": 5.0,
        "10 tau": 4.0,
        "20 tau": 3.0,
        "50 tau": 1.01,
        "1e9 tau": 1.0,
        "exact": 1.0,
    }
    found = settling(losses)
    assert (found["monotone"], found["50 tau within 5 % of exact"]) == ("holds", "holds")
    found = settling({**losses, "20 tau": 4.5, "50 tau": 1.2})
    assert (found["monotone"], found["50 tau within 5 % of exact"]) == ("does not", "does not")


def test_noise_is_harmless_only_within_its_margin():
    losses = {"0": 1.0, "1e-3": 1.0, "1e-2": 1.02, "1e-1": 1.5}
    curves = [
        curve(name, seed, loss * (1 + 0.1 * seed))
        for name, loss in losses.items()
        for seed in range(4)
    ]
    verdicts = t9_noise.summarise(curves)["test_loss"]["harmless"]
    assert verdicts == {"1e-3": "holds", "1e-2": "holds", "1e-1": "does not"}


def test_a_limit_is_missed_by_one_step_that_differs():
    curves = [
        curve(name, 0, loss)
        for name, loss in (("0 tau", 2), ("sgd", 2), ("1e9 tau", 1), ("exact", 1.001))
    ]
    found = t8_limits.summarise(curves)
    assert found["0 tau against sgd"]["verdict"] == "holds"
    assert found["1e9 tau against exact"]["verdict"] == "does not"
    assert found["moved"] == pytest.approx(1.0)


def test_algorithms_are_compared_where_they_have_used_as_much():
    """Adam's loss falls by 1 per step of one second; TNGD's steps take ten seconds each and leave a
    loss of about 1."""
    steps = list(t5_adam.CHECKED_AT)
    last = 10 * steps[-1]
    long = {"step": [1, last], "seconds": [1.0, float(last)], "joules": [1.0, float(last)]}
    curves = []
    for seed in range(3):
        spent = [10.0 * step for step in steps]
        flat = {
            "step": steps,
            "seconds": spent,
            "joules": spent,
            "test_loss": [0.0] * 4,
            "test_accuracy": [0.5] * 4,
        }
        curves.append(curve(t5_adam.TNGD, seed, 0.0, **flat))
        falling = {"test_loss": [last + seed, 1 + seed], "test_accuracy": [0.5, 0.5]}
        curves.append(curve(t5_adam.ADAM, seed, 0.0, **long, **falling))
        curves.append(curve(t5_adam.EXACT, seed, 0.0, step=steps, test_loss=[0.5 + seed] * 4))
        curves[-3] = replace(curves[-3], test_loss=[0.6 + 1.2 * seed] * 4)
    found = t5_adam.summarise(curves)
    solved = found["tngd over exact, test loss at equal steps"][steps[0]]
    assert (solved["low"], solved["high"]) == pytest.approx((1.2, 1.2))
    first = f"after {steps[0]} steps of tngd"
    assert found["at equal step"][first]["test_loss"]["adam"]["mean"] == pytest.approx(
        last - steps[0] + 2
    )
    assert found["at equal seconds"][first]["test_loss"]["adam"]["mean"] == pytest.approx(
        last - 10 * steps[0] + 2
    )
    assert found["at equal joules"][first]["test_loss"]["better"] == "tngd"
    assert found["at equal step"][first]["test_accuracy"]["better"] == "not separable"


def test_a_budget_that_a_curve_never_used_is_refused():
    with pytest.raises(ValueError, match="seconds"):
        t5_adam.at(curve("a", 0, 1.0), "seconds", 2.0, "test_loss")
