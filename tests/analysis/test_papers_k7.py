"""K7: verdicts of invented runs, the growth of the diagonal against its laws, and tiny runs."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hybridsim
from analysis.papers import k7_precision, k7_runs, k7_shift
from analysis.papers.k7_figure import draw, gaps_of, limits_of, panel
from analysis.papers.k7_runs import ADAM, BITS, DIGITAL, IDEAL, SETTINGS, Study, Trial
from analysis.papers.k7_shift import added, digital, growth, measured, shifts
from hybridsim.algorithms.kfac.algebra import damping_terms
from hybridsim.algorithms.kfac.factors import factors
from hybridsim.circuits.precision import conservative
from hybridsim.rng import Draw
from hybridsim.tasks.task import batch

TINY = Study(
    "tiny",
    {"workload": "digits_mlp", "training.batch_size": 16, "workload.options.hidden": 6},
    k7_runs._KFAC,
    4,
    2,
    2,
    (0, 1, 2),
    (10, 11),
    (0.01,),
    (0.02,),
    (0.1,),
    0.01,
    ("input 6",),
)
NEVER = "not separable"


def row(setting: str, seed: int, accuracy: float, part: str = "comparison", **changes) -> dict:
    adam = setting == ADAM
    found = {
        "study": "tiny",
        "part": part,
        "setting": setting,
        "seed": seed,
        "digest": "0",
        "learning_rate": 0.01 if adam else 0.02,
        "damping": None if adam else 0.1,
        "test_accuracy": accuracy,
        "late_test_accuracy": accuracy,
        "test_loss": 1 - accuracy,
        "late_test_loss": 1 - accuracy,
        "late_train_loss": 1 - accuracy,
        "first_train_losses": [2.0, 1.0],
    }
    return found | changes


def runs(changed: dict[str, float], spread: float = 0.001) -> list[dict]:
    """Everything at 0.9 but what is changed; seeds differ by a hundredth, and runs of one seed by
    ``spread``."""
    rows = [
        row(setting, seed, 0.9, "tuning")
        for setting in (ADAM, DIGITAL)
        for seed in TINY.tuning_seeds
    ]
    for seed in TINY.seeds:
        for k, setting in enumerate((ADAM, *SETTINGS)):
            noise = spread * math.cos(17 * k + 5 * seed)
            rows.append(row(setting, seed, changed.get(setting, 0.9) + 0.01 * seed + noise))
    return rows


def verdicts_of(rows: list[dict]) -> dict:
    return k7_precision.summarise(rows, TINY)["verdicts"]


# ---------------------------------------------------------------- verdicts


def test_equal_runs_hold_every_sentence_but_that_few_bits_are_too_few():
    found = verdicts_of(runs({}))
    assert found["6 to 16 input bits hardly matter"] == "holds"
    assert found["8 to 16 output bits are enough"] == "holds"
    assert found["6 output bits are too few"] == found["4 output bits are too few"] == "does not"
    assert found["all 8: competitive with adam"] == "holds"


def test_a_loss_of_accuracy_beyond_the_margin_turns_the_verdicts():
    found = verdicts_of(runs({"input 6": 0.85, "output 6": 0.85, "all 8": 0.85}))
    assert found["6 to 16 input bits hardly matter"] == "does not"
    assert found["8 to 16 output bits are enough"] == "holds"
    assert (found["6 output bits are too few"], found["4 output bits are too few"]) == (
        "holds",
        "does not",
    )
    assert found["all 8: competitive with adam"] == "does not"


def test_better_than_ideal_is_enough_but_not_the_same():
    found = verdicts_of(runs({"input 8": 0.95, "output 8": 0.95, "all 8": 0.95}))
    assert found["hardly matters"]["input 8"] == "does not"
    assert found["enough"]["output 8"] == "holds"
    assert found["all 8: competitive with adam"] == "holds"


def test_scattered_runs_are_not_separable():
    found = verdicts_of(runs({}, spread=0.05))
    assert (
        found["8 to 16 output bits are enough"]
        == found["6 to 16 input bits hardly matter"]
        == NEVER
    )


def test_a_run_that_failed_counts_as_nothing_and_is_listed():
    rows = runs({})
    [index] = [
        i
        for i, r in enumerate(rows)
        if (r["setting"], r["seed"], r["part"]) == ("output 8", 1, "comparison")
    ]
    kept = ("study", "part", "setting", "seed", "learning_rate", "damping")
    rows[index] = {name: rows[index][name] for name in kept} | {"failed": "loss is nan"}
    found = k7_precision.summarise(rows, TINY)
    assert found["settings"]["output 8"]["failed seeds"] == [1]
    assert found["settings"]["output 8"]["late_test_accuracy"]["mean"] == pytest.approx(
        0.6, abs=0.02
    )
    assert found["loss over ideal"]["output 8"] is None
    assert found["verdicts"]["8 to 16 output bits are enough"] == NEVER


def test_a_seed_that_is_not_whole_is_left_out():
    rows = [r for r in runs({}) if (r["setting"], r["seed"]) != ("input 12", 2)]
    assert k7_precision.summarise(rows, TINY)["seeds"] == [0, 1]
    rows = [r for r in rows if (r["setting"], r["seed"]) != ("input 12", 1)]
    assert "verdicts" not in k7_precision.summarise(rows, TINY)


def test_losses_are_compared_as_ratios_pair_by_pair():
    rows = runs({}, spread=0.0)
    for r in rows:
        if r["setting"] == "input 4":
            r["late_test_loss"] *= 1.5
    found = k7_precision.summarise(rows, TINY)["loss over ideal"]["input 4"]
    assert [found[k] for k in ("low", "mean", "high")] == pytest.approx([1.5] * 3)


def test_the_best_mean_over_the_tuning_seeds_is_chosen():
    def tried(rate: float, values: list[float]) -> list[dict]:
        return [row(DIGITAL, s, v, "tuning", learning_rate=rate) for s, v in enumerate(values)]

    rows = tried(0.1, [0.9, 0.2]) + tried(0.2, [0.6, 0.7])
    assert k7_runs.chosen(rows, TINY) == {DIGITAL: (0.2, 0.1)}
    rows[-1]["failed"] = "loss is nan"
    assert k7_runs.chosen(rows, TINY) == {DIGITAL: (0.1, 0.1)}


def test_a_larger_rate_for_few_bits_is_chosen_on_the_tuning_seeds():
    rows = runs({"input 6": 0.8})
    for seed in TINY.tuning_seeds:
        rows += [
            row("input 6", seed, a, "retuning", learning_rate=r)
            for r, a in ((0.02, 0.8), (0.04, 0.895))
        ]
    assert k7_runs.chosen(rows, TINY, "retuning") == {"input 6": (0.04, 0.1)}
    ideal = {r["seed"]: r["late_test_accuracy"] for r in rows if r["setting"] == IDEAL}
    rows += [row("input 6", s, ideal[s] - 0.005, "retuned", learning_rate=0.04) for s in TINY.seeds]
    found = k7_precision.summarise(rows, TINY)
    assert found["retuned"]["input 6"]["accuracy minus ideal"]["mean"] == pytest.approx(-0.005)
    assert found["retuned"]["input 6"]["hardly matters"] == "holds"
    assert found["verdicts"]["hardly matters"]["input 6"] == "does not"


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize("bits", BITS)
def test_each_setting_changes_one_converter(bits):
    for side in ("input", "output"):
        scenario = Trial(f"{side} {bits}", 0.1, 0.1).variant(TINY).load()
        [spu] = [node for node in scenario.machine.expand().nodes if node.kind == "spu"]
        assert {"input": spu.input_bits, "output": spu.output_bits}.pop(side) == bits
        others = (spu.bias_bits, spu.output_bits if side == "input" else spu.input_bits)
        assert others == (None, None)


def test_adam_and_kfac_get_as_many_trials_in_each_study_with_both():
    for study in k7_runs.STUDIES:
        trials = list(k7_runs.tuning(study))
        counts = [sum(trial.setting == setting for trial in trials) for setting in (ADAM, DIGITAL)]
        assert counts[0] in (0, counts[1])
        assert not set(study.tuning_seeds) & set(study.seeds)


# ---------------------------------------------------------------- diagonal shift


def random_factors(seed: int, n: int, m: int) -> dict:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(2 * n, n, generator=generator), torch.randn(2 * m, m, generator=generator)
    return {"layer": tuple(x.T @ x / len(x) for x in rows)}


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(2, 16), st.floats(1e-4, 1))
def test_growth_is_measured_as_the_simulator_rounds_and_damps(seed, n, bits, damping):
    a, g = random_factors(seed, n, n + 1)["layer"]
    assert added(a, bits) == pytest.approx(float(conservative(a, bits)[1]), rel=1e-9)
    expected = damping_terms(a, g, damping=damping, rule="pi").value
    torch.testing.assert_close(k7_shift.damping_terms(a, g, damping), expected)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 100))
def test_factors_of_convolutions_are_those_of_the_simulator(seed, label_seed):
    task = hybridsim.load_task(
        hybridsim.load("kfac-digits", ["workload={source: digits_cnn, options: {channels: 3}}"])
    )
    theta, examples = task.initial_parameters(seed), torch.arange(seed % 100, seed % 100 + 7)
    found = measured(task, theta, examples, label_seed)
    drawn = Draw(label_seed, 0, 7)
    outcome = factors(task, theta, batch(task.data, examples), drawn, fisher="mc", sharing="expand")
    gradient = task.layout.flatten(found.gradients)
    torch.testing.assert_close(gradient, outcome.value["gradient"])
    for side, name in enumerate("ag"):
        mine = {layer: pair[side] for layer, pair in found.factors.items()}
        torch.testing.assert_close(mine, outcome.value[name])


@pytest.mark.parametrize("name, value", [
    ("fisher", "type2"), ("sharing", "reduce"), ("damping_rule", "plain"), ("kl_clip", 0.1),
])  # fmt: skip
def test_settings_without_a_formula_outside_are_refused(name, value):
    scenario = tiny_scenario(extra={f"training.algorithm.{name}": value})
    with pytest.raises(ValueError, match=name):
        next(digital(hybridsim.load_task(scenario), scenario))


@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(2, 12), st.floats(1e-4, 1))
def test_growth_over_damping_falls_as_the_root_of_the_damping(seed, n, m, damping):
    """Rule pi adds terms proportional to the root of lambda; rounding does not know lambda."""
    averages = random_factors(seed, n, m)
    once, fourfold = (growth(averages, 6, d)["over damping"] for d in (damping, 4 * damping))
    assert once["median"] == pytest.approx(2 * fourfold["median"], rel=1e-5)


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_growth_is_about_a_quarter_step_for_each_entry_of_a_row(seed):
    """A rounding error is spread over half a step: n - 1 of them add up to (n - 1)/4 steps, and
    rounding up the diagonal to half a step of its own range.
    """
    n, bits = 40, 8
    a, _ = random_factors(seed, n, n)["layer"]
    top, diagonal = 2 ** (bits - 1) - 1, a.diagonal()
    steps = [float((a - diagonal.diag()).abs().max()) / top, float(diagonal.max()) / top]
    expected = ((n - 1) / 4 * steps[0] + steps[1] / 2) / float(diagonal.mean())
    found = growth({"layer": (a, a)}, bits, 0.1)["over mean diagonal"]
    assert found["median"] == found["largest"] == pytest.approx(expected, rel=0.1)


def tiny_scenario(
    setting: str = DIGITAL, steps: int = 12, extra: Mapping[str, object] = MappingProxyType({})
) -> hybridsim.Scenario:
    study = replace(TINY, steps=steps, kfac={**TINY.kfac, **extra})
    return Trial(setting, 0.02, 0.1).variant(study).load(seed=3)


@pytest.mark.parametrize("every", [1, 3])
def test_factors_are_those_of_the_simulator(every):
    """The training outside goes the simulator's way, and so does the long settle with ideal
    converters."""
    extra = {f"training.algorithm.{name}_every": every for name in ("factors", "inverses")}
    scenario = tiny_scenario(extra=extra)
    outside = [step.loss for step in digital(hybridsim.load_task(scenario), scenario)]
    for setting in (DIGITAL, IDEAL):
        inside = hybridsim.run(tiny_scenario(setting, extra=extra)).steps["train_loss"].tolist()
        assert outside == pytest.approx(inside, rel=1e-5)
    assert outside[-1] != pytest.approx(outside[0], rel=1e-3)


def test_shifts_give_each_number_of_bits_for_the_first_and_the_last_step():
    scenario = tiny_scenario(steps=3)
    found = shifts(hybridsim.load_task(scenario), scenario, (4, 8))
    for name in ("first step", "last step"):
        assert (
            found[name]["4"]["over damping"]["median"]
            > found[name]["8"]["over damping"]["median"]
            > 0
        )
    assert len(found["losses"]) == 3


# ---------------------------------------------------------------- runs


def options(tmp_path) -> argparse.Namespace:
    return argparse.Namespace(out=tmp_path / "k7.json", runs=tmp_path / "runs", workers=1)


def test_rows_hold_late_means_and_say_what_diverged(tmp_path):
    trials = [Trial("all 8", 0.02, 0.1), Trial(IDEAL, 1e30, 0.1)]
    found, lost = k7_runs.run_part(options(tmp_path), TINY, "comparison", trials, (1,))
    run = hybridsim.run(trials[0].variant(TINY).load(seed=1))
    tested = run.steps.dropna(subset=["test_loss"])
    assert found["digest"] == run.manifest["digest"]
    assert (found["setting"], found["seed"], found["learning_rate"]) == ("all 8", 1, 0.02)
    assert found["late_test_accuracy"] == pytest.approx(tested["test_accuracy"].iloc[-2:].mean())
    assert found["late_train_loss"] == pytest.approx(run.steps["train_loss"].iloc[-2:].mean())
    assert "late_test_accuracy" not in lost and lost["failed"]


def test_every_part_runs_at_what_the_one_before_it_chose(monkeypatch):
    """Larger rates score better here, and fewer bits take the largest that is tried."""
    asked = []

    def invented(given, study, part, trials, seeds):
        found = [
            row(t.setting, s, 0.8 + t.rate, part, learning_rate=t.rate, damping=t.damping)
            for t in trials
            for s in seeds
        ]
        asked.append((part, {(r["setting"], r["learning_rate"]) for r in found}, seeds))
        return found

    monkeypatch.setattr(k7_runs, "run_part", invented)
    study = replace(TINY, rates=(0.01, 0.02))
    rows = k7_runs.make(argparse.Namespace(), study)
    parts = [part for part, _, _ in asked]
    assert parts == ["tuning", "comparison", "retuning", "retuned"]
    assert {rate for _, rate in asked[1][1]} == {0.01, 0.02}  # Adam's, and the better of K-FAC's
    assert asked[3][1:] == ({("input 6", 0.16)}, TINY.seeds)
    assert "verdicts" in k7_precision.summarise(rows, study)


# ---------------------------------------------------------------- figure


def test_panels_show_paired_differences_in_points_within_their_limits(tmp_path):
    summary = k7_precision.summarise(runs({"input 4": 0.7, ADAM: 0.8}), TINY)
    low, high = limits_of(summary)
    for side in ("input", "output"):
        line, *ends = panel(summary, side).data
        gaps = [100 * summary["accuracy minus ideal"][f"{side} {bits}"]["mean"] for bits in BITS]
        assert list(line.y) == pytest.approx([*gaps, 0])
        assert all(low < y < high for y in (*line.y, *(end.y[0] for end in ends)))
    adam, ideal = (
        summary["settings"][name]["late_test_accuracy"]["mean"] for name in (ADAM, IDEAL)
    )
    found = gaps_of(summary)[ADAM]
    assert found["mean"] == pytest.approx(100 * (adam - ideal))
    assert low < found["low"] < found["mean"] < found["high"]
    draw(tmp_path / "page.html", {"tiny": summary, "unfinished": {"tuning": {}}})
    text = (tmp_path / "page.html").read_text()
    assert "tiny (ideal: 91.0 %)" in text and "unfinished" not in text
