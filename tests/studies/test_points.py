"""Points of a study: which there are, in which order, and when two are the same."""

from __future__ import annotations

import json
import math
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.errors import InputError
from hybridsim.scenario.load import load
from hybridsim.scenario.quantity import EXAMPLES
from hybridsim.studies.load import load_study
from hybridsim.studies.points import (
    Point,
    assignments,
    number,
    point,
    points_of,
    text,
    tuning_assignments,
)
from hybridsim.studies.unused import unused

SIDES = {"analog": "kfac-digits", "digital": "kfac-digits-digital"}
VALUES: dict[str, list[Any]] = {
    "machine.gpu.idle": ["40 W", "0.05 kW", "61.5 W"],
    "machine.gpu": ["a100-sxm4-80gb", "h100-sxm5-80gb", "v100-sxm2-32gb"],
    "training.batch_size": [8, 16, 64],
    "training.algorithm.damping": [0.1, 0.2, 1],
    "training.algorithm.update": ["sgd", "nesterov"],
    "workload.options.hidden": [4, 8],
}
FIELDS = st.lists(st.sampled_from(sorted(VALUES)), unique=True, max_size=4)


def study_of(**more: Any) -> Any:
    return load_study({"name": "x", "scenarios": SIDES, "question": {"kind": "table"}, **more})


@st.composite
def axes(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A grid for some fields, a zip for others, each for some sides."""
    found: list[dict[str, Any]] = []
    fields = draw(FIELDS)
    sides = st.sampled_from([{}, {"sides": ["analog"]}, {"sides": ["digital", "analog"]}])
    if len(fields) > 2:
        pair = {field: VALUES[field][:2] for field in fields[:2]}
        found.append({"zip": pair, **draw(sides)})
        fields = fields[2:]
    for field in fields:
        values = draw(st.lists(st.sampled_from(VALUES[field]), unique=True, min_size=1))
        found.append({"field": field, "grid": values, **draw(sides)})
    return found


def sizes(chosen: list[dict[str, Any]]) -> list[int]:
    return [len(axis["grid"]) if "grid" in axis else 2 for axis in chosen]


@settings(max_examples=30, deadline=None)
@given(axes(), st.lists(st.integers(0, 2**63 - 1), unique=True, min_size=1, max_size=3))
def test_every_combination_on_every_side_under_the_same_seeds(
    chosen: list[dict[str, Any]], seeds: list[int]
) -> None:
    study = study_of(axes=chosen, seeds=seeds)
    points, combined = points_of(study), math.prod(sizes(chosen))
    assert len(points) == combined * 2 * len(seeds)
    assert [point.seed for point in points] == seeds * (2 * combined)
    assert [point.side for point in points[:: len(seeds)]] == ["analog", "digital"] * combined
    assert [point.combination for point in points[:: 2 * len(seeds)]] == assignments(study)
    last = [
        {f: [v[-1] for v in [axis["grid"]]][0]} if (f := axis.get("field")) else
        {f: values[-1] for f, values in axis["zip"].items()}
        for axis in chosen
    ]  # fmt: skip
    assert points[-1].combination == {f: v for one in last for f, v in one.items()}


@settings(max_examples=30, deadline=None)
@given(axes(), st.integers(0, 2**63 - 1), st.data())
def test_a_point_is_what_set_makes_of_its_sides_scenario(
    chosen: list[dict[str, Any]], seed: int, data: st.DataObject
) -> None:
    study = study_of(axes=chosen, seeds=[seed], set={"training.steps": 7})
    one = data.draw(st.sampled_from(points_of(study)))
    applies = [axis for axis in chosen if one.side in axis.get("sides", SIDES)]
    fields = [field for axis in applies for field in axis.get("zip", [axis.get("field")])]
    assert set(one.values) == set(fields)
    sets = [f"{field}={one.values[field]}" for field in sorted(fields)]  # machine.gpu before .idle
    assert one.scenario == load(SIDES[one.side], [*sets, f"seed={seed}", "training.steps=7"])
    assert point(study, one.side, seed, one.combination) == one


def content(one: Point) -> str:
    return json.dumps({**one.scenario.document(), "name": ""}, sort_keys=True)


@settings(max_examples=20, deadline=None)
@given(axes())
def test_ids_are_equal_where_content_is(chosen: list[dict[str, Any]]) -> None:
    points = points_of(study_of(axes=chosen, seeds=2))
    found = {(point.id, content(point)) for point in points}
    assert len(found) == len({name for name, _ in found}) == len({text for _, text in found})
    assert all(len(point.id) == 16 and int(point.id, 16) >= 0 for point in points)


def test_an_id_is_of_what_is_run_and_not_of_what_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "named.yaml").write_text("extends: kfac-digits\nname: Another name\n")
    one = study_of()
    two = load_study(
        {
            "name": "another",
            "scenarios": {"else": str(tmp_path / "named.yaml")},
            "axes": [{"field": "machine.link.sharing", "grid": ["shared", "private"]}],
            "seeds": [1, 0],
            "question": {"kind": "table"},
        }
    )
    assert points_of(one)[0].id == points_of(two)[1].id
    assert len({point.id for point in points_of(two)}) == 4
    timing = study_of(backend="timing", question={"kind": "table", "measure": "run_seconds"})
    assert points_of(timing)[0].id != points_of(one)[0].id
    other = study_of(set={"host.threads": 2})
    assert points_of(other)[0].id != points_of(one)[0].id


def test_an_id_changes_with_the_text_of_files_and_not_with_their_names(tmp_path: Path) -> None:
    part = (
        "kind: spu\ndescription: x\nextends: rc-1us\nconstants:\n"
        "  capacitance: {value: 2 nF, low: 1 nF, high: HIGH, status: assumed, source: x}\n"
    )
    code = Path(str(load("kfac-digits").root.file)).parents[1] / "models/workloads/digits_mlp.py"

    def id_of(name: str, high: str, more: str) -> str:
        (tmp_path / f"{name}.yaml").write_text(part.replace("HIGH", high))
        (tmp_path / f"{name}.py").write_text(code.read_text() + more)
        files = {"workload": f"{name}.py", "machine.spus.part": f"{name}.yaml"}
        here = {key: str(tmp_path / value) for key, value in files.items()}
        sides = {"analog": {"scenario": "kfac-digits", "set": here}}
        return points_of(study_of(scenarios=sides))[0].id

    assert id_of("a", "3 nF", "") == id_of("b", "3 nF", "")
    assert len({id_of("a", "3 nF", ""), id_of("a", "4 nF", ""), id_of("a", "4 nF", "# x")}) == 3


def test_a_side_that_an_axis_does_not_apply_to_is_run_once() -> None:
    grid = {"field": "machine.link.bandwidth", "grid": ["1 Gb/s", "2 Gb/s"], "sides": ["analog"]}
    points = points_of(study_of(axes=[grid], seeds=2))
    assert [len({p.id for p in points if p.side == side}) for side in SIDES] == [4, 2]
    digital = [point for point in points if point.side == "digital"]
    assert all(point.values == {} for point in digital)
    assert Counter(p.combination["machine.link.bandwidth"] for p in digital) == {
        "1 Gb/s": 2, "2 Gb/s": 2,
    }  # fmt: skip


def test_fields_within_graphs_are_reached(tmp_path: Path) -> None:
    scenario = (
        "extends: tngd-digits\nname: graph\nmachine:\n  nodes:\n"
        "    gpu0: {kind: gpu, part: a100-sxm4-80gb}\n    spu0: {kind: spu}\n"
        "  edges: [{between: [gpu0, spu0], link: pcie5}]\n"
    )
    (tmp_path / "graph.yaml").write_text(scenario)
    fields = {"machine.nodes.gpu0.idle": ["50 W"], "machine.edges[0].link.bandwidth": ["9 Gb/s"]}
    study = load_study(
        {
            "name": "x",
            "base": str(tmp_path / "graph.yaml"),
            "axes": [{"zip": fields}],
            "question": {"kind": "table"},
        }
    )
    machine = points_of(study)[0].scenario.machine
    assert machine.nodes is not None and machine.edges is not None
    assert machine.nodes["gpu0"].overrides() == {"idle_w": 50.0}
    link = machine.edges[0].link
    assert link is not None
    assert (link.part, link.overrides()) == ("pcie5", {"bandwidth_bit_per_s": 9e9})


LOW_HIGH = st.tuples(st.floats(1e-3, 1e3), st.floats(1.01, 1e6))


@settings(max_examples=40, deadline=None)
@given(LOW_HIGH, st.integers(1, 12), st.booleans(), st.integers(0, 2**63 - 1))
def test_each_slice_of_a_sampled_range_has_one_value(
    ends: tuple[float, float], count: int, log: bool, seed: int
) -> None:
    low, high = ends[0], ends[0] * ends[1]
    scale = "log" if log else "linear"
    both = {"low": f"{low!r} V", "high": f"{high!r} V", "count": count, "scale": scale}
    sample = {"low": low, "high": high, "count": count, "scale": scale}
    study = study_of(
        scenarios={"analog": "kfac-digits"},
        axes=[
            {"field": "machine.spus.full_scale", "sample": both},
            {"field": "training.algorithm.learning_rate", "sample": sample},
        ],
        draw_seed=seed,
    )
    for axis in study.axes:
        values = axis.values(axis.fields[0])
        found = np.array([number(values[0], value) for value in values])
        assert ((low <= found) & (found <= high)).all()
        shares = (found - low) / (high - low)
        if log:
            shares = np.log(found / low) / np.log(high / low)
        middles = np.arange(count) + 0.5
        assert np.abs(np.sort(shares) * count - middles).max() < 0.501
    assert len(assignments(study)) == count
    assert all(point.values == point.combination for point in points_of(study))


def test_draws_follow_the_studys_own_seed() -> None:
    def drawn(**more: Any) -> tuple[Any, ...]:
        sample = {"low": "10 W", "high": "80 W", "count": 5}
        study = study_of(axes=[{"field": "machine.gpu.idle", "sample": sample}], **more)
        return study.axes[0].values("machine.gpu.idle")

    assert drawn() == drawn(draw_seed=0) == drawn(seeds=[7, 8])
    assert drawn() != drawn(draw_seed=1)
    assert all(value.endswith(" W") and len(value) <= 9 for value in drawn())


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_of_a_field_of_whole_numbers_whole_numbers_are_drawn(scale: str) -> None:
    def axis(field: str) -> dict[str, Any]:
        sample = {"low": 1, "high": 4, "count": 400, "scale": scale}
        return {"field": field, "sample": sample}

    study = study_of(axes=[axis("training.evaluate_every"), axis("training.algorithm.damping")])
    whole, real = (axis.values(axis.fields[0]) for axis in study.axes)
    assert all(type(value) is int for value in whole)
    assert set(whole) == {1, 2, 3, 4}
    assert all(type(value) is float for value in real)
    if scale == "linear":
        assert Counter(whole) == dict.fromkeys(range(1, 5), 100)


def test_two_sampled_axes_count_once_among_others() -> None:
    sample = {"low": 1.0, "high": 2.0, "count": 4}
    axes = [
        {"field": "training.algorithm.damping", "sample": sample},
        {"field": "training.batch_size", "grid": [8, 16, 32]},
        {"field": "training.algorithm.learning_rate", "sample": sample, "sides": ["digital"]},
    ]
    study = study_of(axes=axes)
    found = assignments(study)
    assert len(found) == 12
    assert [one["training.batch_size"] for one in found[:4]] == [8, 16, 32, 8]
    pairs = {
        (one["training.algorithm.damping"], one["training.algorithm.learning_rate"])
        for one in found
    }
    assert len(pairs) == 4


@given(st.sampled_from(sorted(EXAMPLES)), st.floats(1e-18, 1e18))
def test_numbers_and_texts_are_each_others_inverse(unit: str, value: float) -> None:
    example = EXAMPLES[unit]
    written = text(example, value)
    assert number(example, written) == value
    assert number(1.5, text(1.5, value)) == value
    assert number(2, text(2, value)) == value


def test_numbers_that_are_none() -> None:
    assert number("50 Gb/s", "100 Mb/s") == 1e8
    assert number("50 Gb/s", "100 MB/s") is None
    assert number("50 Gb/s", 3) is None
    assert number("ideal", "ideal") is None
    assert number(8, "ideal") is None
    assert number(8, True) is None
    assert (text(3, 4.0), type(text(3, 4.0)), text(3, 4.5)) == (4, int, 4.5)
    assert type(text(3.0, 4.0)) is float
    with pytest.raises(ValueError, match="'ideal'"):
        text("ideal", 3.0)


def test_further_points() -> None:
    grid = {"field": "machine.link.bandwidth", "grid": ["1 Gb/s", "2 Gb/s"], "sides": ["analog"]}
    study = study_of(axes=[grid])
    values = {"machine.link.bandwidth": "1.5 Gb/s", "machine.gpu.idle": "50 W"}
    analog = point(study, "analog", 9, values)
    assert analog.scenario == load(
        "kfac-digits", ["machine.link.bandwidth=1.5 Gb/s", "machine.gpu.idle=50 W", "seed=9"]
    )
    assert (analog.values, analog.combination, analog.seed) == (values, values, 9)
    digital = point(study, "digital", 9, values)
    assert digital.values == {"machine.gpu.idle": "50 W"}
    assert digital.combination == values
    assert digital.scenario == load("kfac-digits-digital", ["machine.gpu.idle=50 W", "seed=9"])


@pytest.mark.parametrize(
    ("side", "seed", "values", "expected"),
    [
        ("analg", 0, {}, "a side (nearest: 'analog'), got 'analg'"),
        ("analog", -1, {}, "a whole number from 0 to 2^63 - 1, got -1"),
        ("analog", 0, {"machine.spus.count": 2.5}, "machine.spus.count: expected a whole number"),
        ("analog", 0, {"machine.spu.count": 2}, "(nearest: 'spus')"),
        ("analog", 0, {"seed": 2}, "the study's seeds"),
        ("analog", 0, {"": 2}, "a field like machine.link.bandwidth"),
        ("analog", 0, {"training.batch_size": {1}}, "text, a number or a boolean"),
        ("analog", 0, {"training.steps": None}, "a whole number, got nothing"),
    ],
)
def test_a_further_point_that_is_none(
    side: str, seed: int, values: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        point(study_of(), side, seed, values)
    assert expected in str(caught.value)
    assert len(caught.value.problems) == 1


def test_settings_that_sides_choose_among() -> None:
    fields = {
        "analog": {"training.algorithm.damping": [1, 2], "training.algorithm.learning_rate": [3]},
        "digital": {"training.algorithm.learning_rate": [0.5, 0.25]},
    }
    study = study_of(tuning={"seeds": [9], "fields": fields})
    assert tuning_assignments(study, "analog") == [
        {"training.algorithm.damping": 1, "training.algorithm.learning_rate": 3},
        {"training.algorithm.damping": 2, "training.algorithm.learning_rate": 3},
    ]
    assert tuning_assignments(study_of(), "analog") == []


def test_a_study_travels(tmp_path: Path) -> None:
    study = study_of(axes=[{"field": "training.batch_size", "grid": list(range(1, 40))}])
    points = points_of(study)
    packed = pickle.dumps(study)
    assert len(packed) < 40_000
    assert points_of(pickle.loads(packed)) == points
    assert pickle.loads(pickle.dumps(points[0])) == points[0]


def test_what_has_no_effect_on_a_side_is_named() -> None:
    count = {"field": "machine.spus.count", "grid": [2, 3]}
    study = study_of(axes=[count], set={"training.algorithm.fisher_samples": 2})
    assert unused(study, points_of(study)) == [
        "analog: training.algorithm.fisher_samples",
        "digital: training.algorithm.fisher_samples",
        "digital: machine.link",
        "digital: machine.spus",
    ]
    aside = study_of(axes=[{**count, "sides": ["analog"]}])
    assert unused(aside, points_of(aside)) == []
