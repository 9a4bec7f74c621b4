"""Study files: what is wrong is told before anything runs, one line each, with its place."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from command import call

from hybridsim.errors import InputError
from hybridsim.scenario.emit import emit
from hybridsim.studies.load import load_study, shipped_studies
from hybridsim.studies.points import points_of
from hybridsim.studies.schema import Study, json_schema, json_schema_text

ROOT = Path(__file__).resolve().parents[2]
LINES = """\
name: Link speed against number of SPUs
scenarios:
  analog: {scenario: kfac-digits, set: {machine.spus.buffering: single}}
  digital: kfac-digits-digital
set: {training.steps: 100}
axes:
  - {field: machine.link.bandwidth, grid: [10 Gb/s, 50 Gb/s], sides: [analog]}
  - {zip: {machine.spus.count: [1, 2], machine.spus.dac_rate: [10 MHz, 20 MHz]}, sides: [analog]}
  - {field: machine.gpu.idle, sample: {low: 40 W, high: 80 W, count: 3, scale: log}}
seeds: 3
tuning:
  seeds: [100, 101]
  fields:
    analog: {training.algorithm.learning_rate: [0.01, 0.02]}
    digital: {training.algorithm.learning_rate: [0.01, 0.04]}
backend: live
gate: {solver_error: 0.3}
question: {kind: table}
""".splitlines()


def write(folder: Path, lines: Sequence[str] = LINES, **changes: str) -> Path:
    """The study above with some lines replaced, as ``l7="..."``."""
    changed = {int(name[1:]): text for name, text in changes.items()}
    path = folder / "study.yaml"
    path.write_text("\n".join(changed.get(n, line) for n, line in enumerate(lines, 1)) + "\n")
    return path


def told(source: Any, overrides: Sequence[str] = ()) -> list[tuple[int | None, str, str]]:
    """Line, path and text of every problem."""
    with pytest.raises(InputError) as caught:
        load_study(source, overrides)
    assert caught.value.exit_code == 2
    lines = str(caught.value).splitlines()
    assert len(lines) == len(set(lines)) == len(caught.value.problems)
    return [(p.line, p.path, str(p)) for p in caught.value.problems]


def test_a_study_says_what_its_file_says(tmp_path: Path) -> None:
    study = load_study(write(tmp_path))
    assert [side.name for side in study.sides] == ["analog", "digital"]
    assert study.sides[0].source == "kfac-digits"
    assert study.sides[0].fields == {"training.steps": 100, "machine.spus.buffering": "single"}
    assert study.seeds == (0, 1, 2)
    assert study.backend == "live"
    assert study.gate.solver_error == 0.3
    assert study.question.kind == "table"
    assert [axis.kind for axis in study.axes] == ["grid", "zip", "sample"]
    assert [axis.sides for axis in study.axes] == [("analog",), ("analog",), ("analog", "digital")]
    assert study.axes[0].values("machine.link.bandwidth") == ("10 Gb/s", "50 Gb/s")
    assert study.axes[1].fields == ("machine.spus.count", "machine.spus.dac_rate")
    assert len(study.axes[2]) == 3
    assert study.source == str(tmp_path / "study.yaml")
    assert study.root.nearest(("axes", 1)).line == 8


def test_defaults(tmp_path: Path) -> None:
    study = load_study({"name": "x", "base": "tngd-digits", "question": {"kind": "table"}})
    assert [side.name for side in study.sides] == ["tngd-digits"]
    assert (study.seeds, study.axes, study.tuning, study.draw_seed) == ((0,), (), None, 0)
    assert len(points_of(study)) == 1


def test_a_document_loads_to_an_equal_study_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "mine.yaml").write_text("extends: kfac-digits\nname: Mine\n")
    (tmp_path / "own.yaml").write_text(
        "kind: spu\ndescription: own\nextends: rc-1us\nconstants: {}\n"
    )
    path = write(
        tmp_path / "deep",
        l3="  analog: {scenario: ../mine.yaml, set: {machine.spus.part: ../own.yaml}}",
        l7="  - {field: machine.link.part, grid: [pcie5, paper-50gbps], sides: [analog]}",
    )
    monkeypatch.chdir(tmp_path)
    study = load_study("deep/study.yaml")
    monkeypatch.chdir("/")
    again = load_study(json.loads(json.dumps(study.document())))
    assert again == study and hash(again) == hash(study)
    assert [p.id for p in points_of(again)] == [p.id for p in points_of(load_study(path))]
    assert load_study(write(tmp_path, emit(study.document()).splitlines())) == study


MISTAKES: list[tuple[dict[str, str], int, str, str]] = [
    ({"l1": "name: [x]"}, 1, "name", "expected text, got a list"),
    ({"l2": "scenario:"}, 2, "scenario", "a known key (nearest: 'scenarios')"),
    ({"l2": "base: tngd-digits\nscenarios:"}, 1, "", "either base or scenarios, got both"),
    ({"l4": "  digital: kfac-digits-digitl"}, 4, "scenarios.digital.scenario", "(nearest: 'kfac-"),
    ({"l4": "  digital: none.yaml"}, 4, "scenarios.digital.scenario", "existing scenario file"),
    ({"l4": "  digital: kfac-digits-digital\n  'a b': adam-digits", "l11": "", "l12": "",
      "l13": "", "l14": "", "l15": ""}, 5, "scenarios.'a b'", "letters, digits, _ and -"),
    ({"l5": "set: {training.stps: 1}"}, 5, "training.stps", "(nearest: 'steps')"),
    ({"l5": "set: {training.steps: 1.5}"}, 5, "training.steps", "a whole number, got 1.5"),
    ({"l5": "set: {seed: 3}"}, 5, "set.seed", "the study's seeds"),
    ({"l5": "set: {extends: adam-digits}"}, 5, "set.extends", "a file is what extends"),
    ({"l5": "set: {thresholds: {}}"}, 5, "set.thresholds", "a question instead"),
    ({"l5": "set: {'[': 3}"}, 5, "set.'['", "a field like machine.link.bandwidth, got '['"),
    ({"l5": "set: {machine.spus.buffering: double}"}, 3, "scenarios.analog.set.'machine.spus",
     "once for a side, got 'machine.spus.buffering' again (first in line 5)"),
    ({"l7": "  - {field: machine.link.bandwith, grid: [1 Gb/s]}"}, 7, "machine.link.bandwith",
     "(nearest: 'bandwidth')"),
    ({"l7": "  - {field: machine.link.bandwidth, grid: [1 Gb/s,\n   2 GB/s]}"}, 8,
     "machine.link.bandwidth", "like '50 Gb/s', got '2 GB/s' (bytes where bits are due"),
    ({"l7": "  - {field: machine.link.bandwidth, grid: [1 Gb/s, 50]}"}, 7,
     "machine.link.bandwidth", "got the bare number 50"),
    ({"l7": "  - {field: machine.link.bandwidth, grid: [1 Gb/s, 5 us]}"}, 7,
     "machine.link.bandwidth", "got '5 us' (another dimension)"),
    ({"l7": "  - {field: training.batch_size, grid: [8, x]}"}, 7, "training.batch_size",
     "a whole number, got 'x'"),
    ({"l7": "  - {field: training.batch_size, grid: [8, null]}"}, 7, "axes[0].grid[1]",
     "a text, a finite number, true or false, got nothing"),
    ({"l7": "  - {field: machine.link.bandwidth, grid: []}"}, 7, "axes[0].grid",
     "at least one value, got an empty list"),
    ({"l7": "  - {field: machine.link.bandwidth, grid: 10 Gb/s}"}, 7, "axes[0].grid", "a list"),
    ({"l7": "  - {field: machine.link.bandwidth, grid: [1 Gb/s, 1000 Mb/s]}"}, 7,
     "axes[0].grid[1]", "each value once, got '1000 Mb/s' again"),
    ({"l7": "  - {field: machine.link.bandwidth}"}, 7, "axes[0]", "one of grid, sample and zip"),
    ({"l7": "  - {grid: [1 Gb/s]}"}, 7, "axes[0].field", "required field"),
    ({"l7": "  - {field: machine.spus.count, grid: [4]}"}, 8, "axes[1].zip.'machine.spus.count'",
     "each field on one axis, got 'machine.spus.count' again (first in line 7)"),
    ({"l7": "  - {field: training.steps, grid: [4]}"}, 7, "axes[0].field",
     "each field once for a side, got 'training.steps' again (first in line 5)"),
    ({"l7": "  - {field: 'machine.spus[buffering]', grid: [single]}"}, 7, "axes[0].field",
     "got 'machine.spus[buffering]' again (first in line 3)"),
    ({"l7": "  - {field: machine.spus, grid: [4], sides: [analog]}"}, 7, "axes[0].field",
     "a field that holds none that is set, such as machine.spus.buffering"),
    ({"l7": "  - {field: seed, grid: [4]}"}, 7, "axes[0].field", "the study's seeds"),
    ({"l7": "  - {field: name, grid: [4]}"}, 7, "axes[0].field", "a name changes no number"),
    ({"l7": "  - {field: training.batch_size, grid: [8], sides: []}"}, 7, "axes[0].sides",
     "at least one side"),
    ({"l7": "  - {field: training.batch_size, grid: [8], sides: [digial]}"}, 7,
     "axes[0].sides[0]", "a side (nearest: 'digital'), got 'digial'"),
    ({"l7": "  - {field: training.batch_size, grid: [8], sides: [digital, digital]}"}, 7,
     "axes[0].sides[1]", "each side once"),
    ({"l8": "  - {zip: {machine.spus.count: [1, 2], machine.spus.dac_rate: [1 MHz]}}"}, 8,
     "axes[1].zip.'machine.spus.dac_rate'", "2 values, as for machine.spus.count, got 1"),
    ({"l8": "  - {zip: {machine.spus.count: [1, 1], machine.spus.cells: [5, 5]}}"}, 8,
     "axes[1].zip.'machine.spus.count'[1]", "each value once, got 1 with 5 again"),
    ({"l8": "  - {zip: {}}"}, 8, "axes[1].zip", "at least one field, got an empty map"),
    ({"l8": "  - {field: machine.spus.count, zip: {machine.spus.cells: [1]}}"}, 8,
     "axes[1].field", "fields inside zip"),
    ({"l9": "  - {field: machine.gpu.idle, sample: {count: 3, low: 1 W}}"}, 9,
     "axes[2].sample.high", "required field, got nothing"),
    ({"l9": "  - {field: machine.gpu.idle, sample: {count: 0, low: 1 W, high: 2 W}}"}, 9,
     "axes[2].sample.count", ">= 1, got 0"),
    ({"l9": "  - {field: machine.gpu.idle, sample: {count: 3, low: 2 W, high: 2000 mW}}"}, 9,
     "axes[2].sample.high", "a value above low ('2 W'), got '2000 mW'"),
    ({"l9": "  - {field: machine.gpu.idle, sample: {count: 3, low: 0 W, high: 2 W, scale: log}}"},
     9, "axes[2].sample.low", "above zero, for a logarithmic scale, got '0 W'"),
    ({"l9": "  - {field: machine.gpu.idle, sample: {count: 3, low: 1 W, high: 2 J}}"}, 9,
     "axes[2].sample.high", "a quantity in W like '100 uW', got '2 J'"),
    ({"l9": "  - {field: machine.gpu.idle, sample: {count: 3, low: few, high: many}}"}, 9,
     "axes[2].sample.low", "got 'few'"),
    ({"l9": "  - {field: machine.gpu.idle, sample: {count: 9, low: 1, high: 2.5}}"}, 9,
     "machine.gpu.idle", "got the bare number 1"),
    ({"l9": "  - {field: machine.gpu.idle, sample: {count: 9, low: 1 W, high: 500 W}}"}, 9,
     "machine.gpu.idle", "idle <= tdp (400 W), got 500 W"),
    ({"l8": "  - {field: machine.gpu.tdp, sample: {count: 4, low: 300 W, high: 400 W}}"}, 9,
     "axes[2].sample.count", "4 values, as on the first sampled axis, got 3"),
    ({"l10": "seeds: 0"}, 10, "seeds", "a number from 1 to 10000 or a list of seeds, got 0"),
    ({"l10": "seeds: []"}, 10, "seeds", "at least one seed, got an empty list"),
    ({"l10": "seeds: [1, -2]"}, 10, "seeds[1]", "a whole number from 0 to 2^63 - 1, got -2"),
    ({"l10": "seeds: [1, 2, 1]"}, 10, "seeds[2]", "each seed once, got 1 again"),
    ({"l10": "seeds: [1, true]"}, 10, "seeds[1]", "a whole number"),
    ({"l10": "seeds: [1, 1]", "l12": "  seeds: [0, 9]"}, 10, "seeds[1]", "each seed once"),
    ({"l12": "  seeds: 2"}, 12, "tuning.seeds", "a list, got 2"),
    ({"l12": "  seeds: [100, 2]"}, 12, "tuning.seeds[1]", "not the study's own, got 2"),
    ({"l15": "    digital: {training.algorithm.learning_rate: [0.01]}"}, 13, "tuning.fields",
     "same number of combinations for every side, got analog 2, digital 1"),
    ({"l15": ""}, 13, "tuning.fields", "got analog 2, digital none"),
    ({"l15": "    digital: {training.algorithm.learning_rate: [0.01, -1]}"}, 15,
     "training.algorithm.learning_rate", "a number > 0.0, got -1"),
    ({"l15": "    digital: {training.algorithm.momentm: [0.01, 1]}"}, 15,
     "training.algorithm.momentm", "got the unknown key 'momentm' (on side digital)"),
    ({"l15": "    digital: {training.steps: [1, 2]}"}, 15,
     "tuning.fields.digital.'training.steps'", "each field once for a side"),
    ({"l16": "backend: replay"}, 16, "backend", "one of live, timing"),
    ({"l17": "gate: {solver_error: 0}"}, 17, "gate.solver_error", "a number > 0.0, got 0"),
    ({"l18": "question: {kind: tabel}"}, 18, "question.kind", "(nearest: 'table'), got 'tabel'"),
    ({"l18": "question: {kind: table, no: 1}"}, 18, "question.no", "the unknown key 'no'"),
    ({"l18": "question: {kind: table, measure: second}"}, 18, "question.measure",
     "(nearest: 'seconds'), got 'second'"),
    ({"l18": "question: {}"}, 18, "question.kind", "expected a kind, got nothing"),
    ({"l16": "backend: timing"}, 18, "question.measure", "that 'backend: timing' does not eval"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "line", "path", "text"), MISTAKES)
def test_a_mistake_is_one_line_with_its_place(
    tmp_path: Path, changes: dict[str, str], line: int, path: str, text: str
) -> None:
    found = told(write(tmp_path, **changes))
    assert len(found) == 1, found
    assert found[0][0] == line
    assert found[0][1].startswith(path)
    assert text in found[0][2]


def test_what_a_question_asks_is_told_beside_what_is_wrong_with_a_point(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        l5="set: {training.target: null}",
        l9="  - {field: machine.gpu.idle, grid: [40 V]}",
        l18="question: {kind: break_even, axis: training.steps}",
    )
    assert {line for line, *_ in told(path)} == {9, 18}


def test_an_unknown_side_of_tuning_is_named(tmp_path: Path) -> None:
    found = told(write(tmp_path, l15="    digitl: {training.algorithm.learning_rate: [1, 2]}"))
    assert [(line, path) for line, path, _ in found] == [
        (13, "tuning.fields"),
        (15, "tuning.fields.digitl"),
    ]


def test_every_mistake_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        l1="nam: x",
        l4="  digital: kfac-digits-digitl",
        l5="set: {training.stps: 100}",
        l7="  - {field: machine.link.bandwith, grid: [10 Gb/s], sides: [analog]}",
        l8="  - {field: machine.link.latency, grid: [1 us, 2 V], sides: [anlog]}",
        l9="  - {field: machine.gpu.idle, sample: {low: 40 W, count: 3}}",
        l10="seeds: [1, 1]",
        l16="backend: liv",
        l18="question: {kind: table, measre: seconds}",
    )
    found = {
        (line, path.split(".")[0].replace("seeds[1]", "seeds")) for line, path, _ in told(path)
    }
    assert found == {
        (1, "nam"), (1, "name"), (4, "scenarios"), (5, "training"), (7, "machine"), (8, "axes[1]"),
        (9, "axes[2]"), (10, "seeds"), (16, "backend"), (18, "question"),
    }  # fmt: skip


def test_too_many_points_are_refused_before_any_is_tried(tmp_path: Path) -> None:
    grid = f"grid: {list(range(1, 2001))}"
    found = told(
        write(
            tmp_path,
            l7=f"  - {{field: training.batch_size, {grid}}}",
            l8=f"  - {{field: training.evaluate_every, {grid}}}",
        )
    )
    assert found[0][:2] == (6, "axes")
    assert "at most 100000 points, got 72000000 (12000000 x 2 sides x 3 seeds)" in found[0][2]


def test_a_scenario_that_does_not_load_is_told_with_its_own_line(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "extends: kfac-digits\nname: x\nseed: -1\nthresholds: {events: many}\n"
    )
    found = told(write(tmp_path, l3="  analog: mine.yaml"))
    assert [(line, path) for line, path, _ in found] == [(3, "seed"), (4, "thresholds.events")]
    assert all(text.startswith(str(tmp_path / "mine.yaml:")) for *_, text in found)


def test_a_cause_outside_the_study_is_told_once_with_the_value_that_brings_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine.yaml").write_text("extends: kfac-digits\ntraining:\n  batch_size: 30\n")
    found = told(
        write(
            tmp_path,
            l3="  analog: {scenario: mine.yaml}",
            l7="  - {field: machine.gpu.count, grid: [1, 4, 5], sides: [analog]}",
        )
    )
    assert [(line, path) for line, path, _ in found] == [(3, "training.batch_size")]
    assert found[0][2].endswith("got 30 (where machine.gpu.count is 4, on side analog)")


def test_two_values_that_fit_alone_but_not_together_are_told(tmp_path: Path) -> None:
    lines = [
        "name: x",
        "base: kfac-digits",
        "axes:",
        "  - {field: machine.gpu.count, grid: [1, 2]}",
        "  - {field: training.batch_size, grid: [32,",
        "      33]}",
        "question: {kind: table}",
    ]
    found = told(write(tmp_path, lines))
    assert [(line, path) for line, path, _ in found] == [(6, "training.batch_size")]
    assert "a multiple of 2, the number of GPUs, got 33" in found[0][2]


def test_what_a_side_lacks_alone_an_axis_may_bring(tmp_path: Path) -> None:
    lines = [
        "name: x",
        "base: {scenario: kfac-digits-digital, set: {training.algorithm.method: solves}}",
        "axes: [{field: machine.spus.count, grid: [1, 2]}]",
        "question: {kind: table}",
    ]
    assert len(points_of(load_study(write(tmp_path, lines)))) == 2
    for axes in ("", "axes: [{field: machine.gpu.idle, grid: [50 W, 60 W]}]"):
        [(_, path, text)] = told(write(tmp_path, lines, l3=axes))
        assert path == "machine"
        assert "kfac-digits-digital.yaml:" in text
        assert text.endswith(
            "at least one SPU that the GPU reaches, for algorithm 'kfac', got none"
        )


def test_overrides_change_the_study(tmp_path: Path) -> None:
    study = load_study(
        write(tmp_path),
        [
            "seeds=[5]",
            "set.training[steps]=6",
            "set.training.steps=7",
            "scenarios.digital.set.training.batch_size=16",
            "axes[0].grid=[25 Gb/s]",
            "tuning.fields.digital.training.algorithm.learning_rate=[0.5, 0.25]",
            "question={kind: table}",
        ],
    )
    assert study.seeds == (5,)
    assert study.tuning is not None
    assert study.tuning.fields["digital"] == {"training.algorithm.learning_rate": [0.5, 0.25]}
    by_side = {point.side: point for point in points_of(study)}
    assert by_side["analog"].scenario.training.steps == 7
    assert by_side["analog"].values["machine.link.bandwidth"] == "25 Gb/s"
    assert by_side["digital"].scenario.training.batch_size == 16
    assert by_side["analog"].scenario.training.batch_size == 32
    assert told(write(tmp_path), ["sets=3"])[0][2].startswith("--set: sets: expected a known key")
    assert told(write(tmp_path), ["seeds"])[0][2].startswith("--set: expected path=value")


def test_thresholds_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: kfac-digits\nthresholds: {events: '<= 0'}\n")
    study = load_study(write(tmp_path, l3="  analog: mine.yaml"))
    assert all(point.scenario.thresholds is None for point in points_of(study))


@pytest.mark.parametrize("source", ["no-such-study", "none.yaml", 3, "", None, ["x"], b"x", "."])
def test_a_source_that_is_no_study_is_one_line(source: Any) -> None:
    assert len(told(source)) == 1


@pytest.mark.parametrize("text", ["", "[]", "x", "a: b: c", "name: x", "\0", "base:", "axes: 3"])
def test_a_text_that_is_no_study_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    assert told(path)


def test_shipped_studies_load() -> None:
    for name in shipped_studies():
        assert load_study(name).name


@pytest.mark.pinned  # pydantic words a schema differently from release to release
def test_the_committed_schema_is_current() -> None:
    path = ROOT / "scenarios" / "studies" / "study.schema.json"
    assert path.read_text() == json_schema_text(), (
        "run: hybridsim schema --study > scenarios/studies/study.schema.json"
    )


def test_the_schema_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(monkeypatch, capsys, "schema", "--study")
    assert (code, json.loads(out)) == (0, json_schema())


def test_every_field_is_described_and_every_reference_resolves() -> None:
    schema = json_schema()
    for part in json.dumps(schema).split('"#/$defs/')[1:]:
        assert part.split('"')[0] in schema["$defs"]
    for name, definition in {"Study": schema, **schema["$defs"]}.items():
        for field, body in definition.get("properties", {}).items():
            assert "const" in body or "description" in body, f"{name}.{field} has no description"
    assert set(schema["properties"]) == {
        field.alias or name for name, field in Study.model_fields.items()
    }


def test_a_study_is_checked_without_torch_or_plots() -> None:
    code = (
        "import sys\nfrom hybridsim.studies.load import load_study\n"
        "load_study({'name': 'x', 'base': 'tngd-digits', 'question': {'kind': 'table'},"
        " 'axes': [{'field': 'training.steps', 'grid': [1, 2]}]})\n"
        "print([m for m in ('torch', 'plotly', 'simpy', 'sklearn') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
