"""Comparisons: grouping by seed, intervals, and verdicts that do not see differences where there
are none."""

from __future__ import annotations

import io
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedules import Op, simulate, write_run

from hybridsim.errors import InputError
from hybridsim.reports.compare import (
    common_grid,
    compare_table,
    groups_of,
    to_latex,
    verdict,
    write_comparison,
    write_csv,
)
from hybridsim.reports.groups import per_step
from hybridsim.reports.statistics import median_interval, paired
from hybridsim.results.read import Run

ROWS = simulate([Op(0, 0, 5), Op(1, 0, 20), Op(0, 1, 1), Op(0, 1, 4, after=(1,))])
TARGET = {"metric": "test_accuracy", "threshold": 0.9, "direction": "above"}


def run_of(folder, name, seed, seconds, joules=None, accuracy=0.95) -> Run:
    """A run of two evaluations; the second reaches an accuracy at a time."""
    times = [round(seconds * 0.4e12), round(seconds * 1e12)]
    steps = [
        {
            "step": i + 1,
            "start_ps": 0,
            "end_ps": time,
            "train_loss": 2.0 - i,
            "energy_j": energy,
            "test_accuracy": a,
        }
        for i, (time, energy, a) in enumerate(
            zip(times, (0.1, seconds if joules is None else joules), (0.2, accuracy), strict=True)
        )
    ]
    write_run(folder, ROWS, steps=steps, name=name, target=TARGET)
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"seed": 0', f'"seed": {seed}'))
    return Run.open(folder)


def family(tmp_path, name, seconds, **options):
    return [
        run_of(tmp_path / f"{name}{seed}", name, seed, s, **options)
        for seed, s in enumerate(seconds)
    ]


@pytest.mark.parametrize(
    "pattern", ["tngd", "tngd {}", "tngd seed {}", "tngd-{}", "tngd, seed={}", "tngd_s{}"]
)
def test_runs_that_differ_by_seed_are_one_group(tmp_path, pattern):
    runs = [run_of(tmp_path / str(seed), pattern.format(seed), seed, 1.0) for seed in (3, 1, 12)]
    (group,) = groups_of(runs)
    assert group.name == "tngd"
    assert [run.manifest["seed"] for run in group.runs] == [1, 3, 12]


def test_the_same_seed_twice_is_no_repeat(tmp_path):
    runs = [run_of(tmp_path / name, "tngd", 0, 1.0) for name in "ab"]
    assert [group.name for group in groups_of(runs)] == ["tngd (a)", "tngd (b)"]
    names = [group.name for group in groups_of([runs[0], runs[0]])]
    assert len(set(names)) == 2


def test_the_table_holds_medians_and_intervals(tmp_path):
    seconds = (1.0, 2.0, 4.0)
    line = compare_table(family(tmp_path, "tngd", seconds)).iloc[0]
    assert (line["seeds"], line["reached"], line["target"]) == (3, "3/3", "test accuracy ≥ 0.9")
    assert (line["time_to_target_s"], line["energy_to_target_j"]) == (2.0, 2.0)
    assert line["time_to_target_s_ci_low"] == 1.0 and line["time_to_target_s_ci_high"] == 4.0
    assert line["energy_low_j"] < line["energy_j"] < line["energy_high_j"]
    assert np.isnan(
        compare_table(family(tmp_path, "few", seconds[:2])).iloc[0]["time_to_target_s_ci_low"]
    )
    with pytest.raises(InputError):
        compare_table([])


def test_a_target_that_was_missed_counts_as_infinitely_late(tmp_path):
    runs = family(tmp_path, "late", (1.0, 2.0), accuracy=0.5) + [
        run_of(tmp_path / "in", "late", 9, 3.0)
    ]
    line = compare_table(runs).iloc[0]
    assert line["reached"] == "1/3" and line["time_to_target_s"] == np.inf
    assert "reached it in 1 of 3" in verdict(
        groups_of(runs)[0], groups_of(family(tmp_path, "b", (1, 2, 3)))[0], "seconds"
    )


def verdict_of(tmp_path, first, second, key="seconds"):
    groups = groups_of([*family(tmp_path, "first", first), *family(tmp_path, "second", second)])
    return verdict(*groups, key)


def test_a_clear_difference_is_seen(tmp_path):
    seconds = np.array([1.0, 1.1, 0.9, 1.2, 1.05, 0.95])
    text = verdict_of(tmp_path, seconds, 2 * seconds)
    assert "second needs 2 times more time than first" in text and "p = 0.031" in text


def test_few_seeds_show_no_difference(tmp_path):
    text = verdict_of(tmp_path, (1.0, 1.0, 1.0), (5.0, 5.0, 5.0))
    assert "no detectable difference" in text and "fewer than 6" in text


def test_energy_verdicts_name_the_band_of_the_constants(tmp_path):
    text = verdict_of(tmp_path, (1.0, 1.1, 0.9), (1.2, 1.0, 1.1), "joules")
    assert "no detectable difference" in text and "overlap, so the constants decide" in text
    assert "do not overlap" in verdict_of(tmp_path / "far", (1.0, 1.0), (9.0, 9.0), "joules")


def test_without_a_common_target_or_seed_nothing_is_claimed(tmp_path):
    write_run(tmp_path / "none", ROWS, name="none")
    groups = groups_of(
        [
            Run.open(tmp_path / "none"),
            *family(tmp_path, "a", (1.0,)),
            run_of(tmp_path / "b", "b", 7, 1.0),
        ]
    )
    assert "no common target" in verdict(groups[0], groups[1], "seconds")
    assert "share no seed" in verdict(groups[1], groups[2], "seconds")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(0.1, 10), min_size=1, max_size=7),
    st.lists(st.floats(0.1, 10), min_size=7, max_size=7),
)
def test_the_p_value_is_that_of_all_sign_patterns(first, second):
    first, second = np.array(first), np.array(second[: len(first)])
    logs = np.log(second / first)
    means = [abs(np.dot(signs, logs)) for signs in product((1, -1), repeat=len(logs))]
    found = paired(first, second)
    assert found.p_value == pytest.approx(
        np.mean(np.array(means) >= abs(logs.sum()) * (1 - 1e-12)), abs=1e-12
    )
    assert found.p_value >= 2 / 2 ** len(logs) - 1e-12
    assert found.ratio == pytest.approx(1 / paired(second, first).ratio)
    assert paired(second, first).p_value == pytest.approx(found.p_value, abs=1e-12)


def test_false_alarms_stay_at_five_per_cent():
    """2,000 pairs of samples of one law, 8 seeds each: binomial 0.05, four standard errors are
    0.02."""
    rng = np.random.default_rng(1)
    alarms = [paired(*np.exp(rng.normal(size=(2, 8)))).detectable for _ in range(2000)]
    assert np.mean(alarms) <= 0.05 + 0.02


def test_paired_refuses_what_has_no_ratio():
    for first, second in (([], []), ([1.0], [np.inf]), ([0.0], [1.0])):
        with pytest.raises(ValueError, match="positive, finite"):
            paired(np.array(first), np.array(second))


def test_median_interval_of_one_value_and_of_none():
    assert median_interval(np.array([3.0]))[0] == 3.0
    assert np.isnan(median_interval(np.array([]))).all()
    assert median_interval(np.array([1.0, np.inf]))[0] == np.inf


def test_curves_meet_on_a_common_grid():
    curves = [
        (np.array([0.0, 1, 2]), np.array([0.0, 1, 2])),
        (np.array([0.5, 3]), np.array([1.0, 6])),
    ]
    grid, rows = common_grid(curves)
    assert (grid[0], grid[-1]) == (0.5, 2.0)
    np.testing.assert_allclose(rows, [grid, 2 * grid])


def test_csv_comes_back_and_latex_is_escaped(tmp_path):
    table = compare_table(family(tmp_path, "50% & $more_", (1.0, 2.0, 4.0)))
    write_csv(table, tmp_path / "t.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "t.csv"), table)
    text = to_latex(table)
    assert r"50\% \& \$more\_ & 3 & 3/3 & 2 & 1 & 4" in text
    assert text.count(r"\\") == 2 and "nan" not in text
    assert pd.read_csv(io.StringIO(table.to_csv(index=False)))["seeds"].tolist() == [3]


def test_the_page_is_written(tmp_path):
    runs = [
        *family(tmp_path, "first", (1.0, 1.1, 0.9)),
        *family(tmp_path, "second", (1.2, 1.0, 1.1)),
    ]
    write_comparison(runs, tmp_path / "c.html")
    text = (tmp_path / "c.html").read_text()
    assert "no detectable difference" in text and text.count('<figure class="chart">') == 6


def test_steps_are_compared_by_time_and_energy_also_without_a_target(tmp_path):
    """One run's step lasts 2 s and draws 10 W; the other's lasts 6 s and draws 5 W."""
    second = 10**12
    made = {}
    for name, length, power in (("slow", 6, 5.0), ("fast", 2, 10.0)):
        rows = simulate([Op(0, 0, length * second), Op(0, 0, length * second)])
        steps = [
            {"step": i + 1, "start_ps": i * length * second, "end_ps": (i + 1) * length * second}
            for i in (0, 1)
        ]
        write_run(tmp_path / name, rows, steps=steps, name=name)
        run = made[name] = Run.open(tmp_path / name)
        energy = run.summary["energy"]["total"]["energy_j"]
        run.summary["energy"]["total"]["energy_j"] = 2 * length * power
        assert energy > 0
    text = per_step(groups_of([made["fast"]])[0], groups_of([made["slow"]])[0])
    assert "A step of slow takes 3 times as long as one of fast (6 s against 2 s)" in text
    assert "1.5 times its energy (30 J against 20 J, nominal)" in text
