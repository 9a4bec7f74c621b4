"""Comparisons: grouping by seed, intervals, and verdicts that do not see differences where there
are none."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedules import Op, simulate, write_run
from scipy import stats
from signing import sign

from hybridsim import cli
from hybridsim.errors import InputError
from hybridsim.reports.compare import (
    cells_of,
    common_grid,
    compare_table,
    groups_of,
    sentences,
    to_latex,
    verdict,
    write_comparison,
    write_csv,
)
from hybridsim.reports.differences import differing, short_names
from hybridsim.reports.groups import per_step
from hybridsim.results.read import Run
from hybridsim.scenario.emit import emit

ROWS = simulate([Op(0, 0, 5), Op(1, 0, 20), Op(0, 1, 1), Op(0, 1, 4, after=(1,))])
TARGET = {"metric": "test_accuracy", "threshold": 0.9, "direction": "above"}
TREES = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        st.sampled_from([1, 2, "x", None]),
        lambda inner: st.dictionaries(st.sampled_from(["kind", "d", "e"]), inner, max_size=3),
    ),
)


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
    sign(folder, seed=seed)
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


def test_the_table_holds_means_and_intervals(tmp_path):
    """1, 2, 4 s: the logs are -l, 0, l with l = log 2, so s = l and the interval is 2^(±t/√3)."""
    seconds = (1.0, 2.0, 4.0)
    line = compare_table(family(tmp_path, "tngd", seconds)).iloc[0]
    assert (line["seeds"], line["reached"], line["target"]) == (3, "3 of 3", "test accuracy ≥ 0.9")
    reach = stats.t.ppf(0.975, 2) / 3**0.5
    for name in ("time_to_target_s", "energy_to_target_j"):
        assert line[name] == pytest.approx(2)
        assert line[f"{name}_ci_low"] == pytest.approx(2 * 2**-reach)
        assert line[f"{name}_ci_high"] == pytest.approx(2 * 2**reach)
    assert line["energy_low_j"] < line["energy_j"] < line["energy_high_j"]
    assert line["energy_to_target_low_j"] < 2 < line["energy_to_target_high_j"]
    alone = compare_table(family(tmp_path, "few", seconds[:1])).iloc[0]
    assert np.isnan(alone["time_to_target_s_ci_low"])
    with pytest.raises(InputError):
        compare_table([])


def test_seeds_that_missed_the_target_are_counted(tmp_path):
    runs = family(tmp_path, "late", (1.0, 2.0), accuracy=0.5) + [
        run_of(tmp_path / "in", "late", 9, 3.0)
    ]
    line = compare_table(runs).iloc[0]
    assert line["reached"] == "1 of 3" and line["time_to_target_s"] == pytest.approx(3)
    assert "late reached it in 1 of 3" in verdict(
        groups_of(runs)[0], groups_of(family(tmp_path, "b", (1, 2, 3)))[0], "seconds"
    )
    assert cells_of(groups_of(runs))[0]["reached"] == "1 of 3"


def test_what_was_not_evaluated_is_not_said_to_be_missed(tmp_path):
    missed = run_of(tmp_path / "missed", "missed", 0, 1.0, accuracy=0.6)
    steps = [{"step": 1, "start_ps": 0, "end_ps": 10, "energy_j": 1.0}]
    write_run(tmp_path / "timing", ROWS, steps=steps, name="timing", target=TARGET)
    cells = cells_of(groups_of([missed, Run.open(tmp_path / "timing")]))
    for column in ("steps to target", "time to target", "energy to target"):
        assert [row[column] for row in cells] == ["not reached (best 0.6)", "not evaluated"]
    write_comparison([missed, Run.open(tmp_path / "timing")], tmp_path / "c.html")
    page = (tmp_path / "c.html").read_text()
    assert "not evaluated" in page and "never" not in page[: page.index("plotly")]


def verdict_of(tmp_path, first, second, key="seconds"):
    groups = groups_of([*family(tmp_path, "first", first), *family(tmp_path, "second", second)])
    return verdict(*groups, key)


def test_a_clear_difference_is_seen(tmp_path):
    seconds = np.array([1.0, 1.1, 0.9, 1.2, 1.05, 0.95])
    text = verdict_of(tmp_path, seconds, 2 * seconds)
    assert "second needs 2 times more time than first" in text


def test_one_seed_is_not_tested(tmp_path):
    for counts in ((1, 1), (1, 5), (5, 1)):
        folder = tmp_path / f"{counts}"
        text = verdict_of(folder, *((1.0 + i,) * count for i, count in enumerate(counts)))
        assert "one seed: not tested" in text and "no detectable" not in text
    groups = groups_of([*family(tmp_path, "a", (1.0,)), *family(tmp_path, "b", (2.0,))])
    assert "one seed: not tested" in cells_of(groups)[1]["time / first"]


def test_runs_that_differ_in_seed_alone_are_compared_with_nothing(tmp_path):
    groups = groups_of(family(tmp_path, "tngd", (1.0, 2.0)))
    assert len(groups) == 1 and sentences(groups) == []


def test_the_interval_and_the_verdict_are_one(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(30):
        first, second = np.exp(rng.normal(size=(2, 4))), np.exp(rng.normal(0.8, 1, 4))
        text = verdict_of(tmp_path / str(index), first[0], second)
        test = stats.ttest_1samp(np.log(second / first[0]), 0)
        assert ("no detectable difference" in text) == (test.pvalue > 0.05)
        assert f"p = {test.pvalue:.2g}" in text
        assert "95 % interval, Student's t on logs, 4 seeds" in text


def machine_of(sheet, low=1.0):
    constants = {"tdp_w": {"value": 2.0, "low": low, "high": 2.0}}
    return {"nodes": [{"name": "gpu0", "sheet": {"name": sheet, "constants": constants}}]}


def energy_verdict(tmp_path, machines, second):
    groups = []
    for name, seconds, machine in zip("ab", ((1.0, 1.1, 0.9), second), machines, strict=True):
        runs = family(tmp_path, name, seconds)
        for run in runs:
            sign(run.folder, machine=machine)
        groups += groups_of([Run.open(run.folder) for run in runs])
    return verdict(*groups, "joules")


def test_energy_verdicts_name_the_band_of_the_constants(tmp_path):
    """Bands say something about a pair only where no constant moves both."""
    apart = (machine_of("one"), machine_of("other"))
    text = energy_verdict(tmp_path / "near", apart, (1.2, 1.0, 1.1))
    assert "no detectable difference" in text and "overlap, so the constants decide" in text
    assert "do not overlap" in energy_verdict(tmp_path / "far", apart, (9.0, 9.0, 9.0))


@pytest.mark.parametrize("machines", [(machine_of("one"), machine_of("one")), ({}, {})])
@pytest.mark.parametrize("second", [(1.2, 1.0, 1.1), (9.0, 9.0, 9.0)])
def test_bands_that_share_constants_decide_nothing(tmp_path, machines, second):
    text = energy_verdict(tmp_path, machines, second)
    assert "overlap" not in text and "The bands share constants" in text
    assert "question uncertainty" in text and "J – " in text


def test_constants_without_a_range_are_not_shared(tmp_path):
    fixed = machine_of("one", low=2.0)
    assert "share no constant" in energy_verdict(tmp_path, (fixed, fixed), (9.0, 9.0, 9.0))


def test_without_a_common_target_or_seed_nothing_is_claimed(tmp_path):
    write_run(tmp_path / "none", ROWS, name="none")
    groups = groups_of(
        [
            Run.open(tmp_path / "none"),
            *family(tmp_path, "a", (1.0, 2.0)),
            *(run_of(tmp_path / f"b{seed}", "b", seed, 1.0) for seed in (7, 8)),
        ]
    )
    assert "no common target" in verdict(groups[0], groups[1], "seconds")
    assert "share no seed" in verdict(groups[1], groups[2], "seconds")


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
    assert r"50\% \& \$more\_ & 3 & 3 of 3 & 2 & 0.357 & 11.2" in text
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


def scenario_run(folder, seed, seconds, backend="live", **settings):
    """A run with a scenario of nested fields of its own."""
    run_of(folder, f"sweep seed {seed}", seed, seconds)
    fields = {"workload": {"source": "digits"}, "machine": {"spus": {"count": 1}}}
    for path, value in settings.items():
        node = fields
        *parents, leaf = path.split("__")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    document = {"name": "sweep", "seed": seed, **fields}
    (folder / "scenario.yaml").write_text(emit(document))
    sign(folder, backend=backend)
    return Run.open(folder)


@pytest.mark.parametrize("points", [1, 2, 6, 25])
def test_a_sweep_is_one_table_of_what_differs(tmp_path, points, capsys, monkeypatch):
    """Three seeds a point; the table has a line a point, and no field in which all agree."""
    runs = [
        scenario_run(
            tmp_path / f"{k}-{seed}",
            seed,
            (k + 1) * (1 + 0.1 * seed),
            machine__spus__count=k + 1,
            machine__link__latency=f"{k // 2} us",
        )
        for seed in (2, 0, 1)
        for k in range(points)
    ]
    groups = groups_of(runs)
    assert [len(group.runs) for group in groups] == [3] * points
    rows = cells_of(groups)
    assert len(rows) == points
    assert all(("count" in row) == (points > 1) for row in rows)
    assert all(("latency" in row) == (points > 2) for row in rows)
    assert not {"seed", "name", "source", "workload.source"} & set(rows[0])
    assert [row["seeds"] for row in rows] == ["3"] * points
    for k, row in enumerate(rows[1:], 1):
        ratio, _, rest = row["time / first"].partition(" (")
        assert float(ratio) == pytest.approx(k + 1, rel=0.01) and "not tested" not in rest
    assert len(sentences(groups)) == (3 if points == 2 else 0)
    monkeypatch.setattr("sys.argv", ["hybridsim", "compare", *(str(run.folder) for run in runs),
        "--out", str(tmp_path / "page.html")])  # fmt: skip
    cli.main()
    shown = capsys.readouterr().out
    page = (tmp_path / "page.html").read_text()
    for row in rows:
        for text in row.values():
            assert text in shown and text in page


def test_runs_of_other_settings_are_no_seeds_of_each_other(tmp_path):
    """--set leaves the name as it is."""
    runs = [
        scenario_run(tmp_path / "a", 0, 1.0, machine__spus__count=1),
        scenario_run(tmp_path / "b", 1, 2.0, machine__spus__count=8),
        scenario_run(tmp_path / "c", 2, 2.0, machine__spus__count=8, backend="replay"),
    ]
    groups = groups_of(runs)
    assert [len(group.runs) for group in groups] == [1, 1, 1]
    assert [dict(group.fields) for group in groups] == [
        {"machine.spus.count": "1", "backend": "live"},
        {"machine.spus.count": "8", "backend": "live"},
        {"machine.spus.count": "8", "backend": "replay"},
    ]
    assert len({group.name for group in groups}) == 3


def test_another_kind_is_one_difference_and_not_one_for_each_of_its_fields():
    adam = {"algorithm": {"kind": "adam", "rate": 0.1, "beta": 0.9}, "machine": {"gpu": "a"}}
    tngd = {
        "algorithm": {"kind": "tngd", "rate": 0.2, "settle": "1 tau", "readout": {"samples": 1}},
        "machine": {"gpu": "a", "spus": {"count": 2, "part": "rc", "bits": 8}},
    }
    other = {**tngd, "algorithm": {**tngd["algorithm"], "settle": "2 tau"}}
    assert differing([adam, tngd]) == {
        "algorithm.kind": ["adam", "tngd"],
        "algorithm.rate": ["0.1", "0.2"],
        "machine.spus": ["–", "2 × rc"],
    }
    assert differing([tngd, other]) == {"algorithm.settle": ["1 tau", "2 tau"]}
    assert differing([adam, tngd, other])["algorithm.settle"] == ["–", "1 tau", "2 tau"]
    assert differing([tngd]) == differing([tngd, tngd]) == {}


@settings(max_examples=60, deadline=None)
@given(st.lists(TREES, min_size=1, max_size=5))
def test_scenarios_are_equal_exactly_where_nothing_differs(trees):
    alike = all(tree == trees[0] for tree in trees)
    found = differing(trees)
    assert alike == (not found)
    assert all(len(values) == len(trees) for values in found.values())
    names = short_names(list(found))
    assert len(set(names.values())) == len(names)
    assert all(path.endswith(name) for path, name in names.items())
