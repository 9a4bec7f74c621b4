"""Studies that scripts run: where their runs are kept, and what of them goes to a result file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hybridsim
from analysis.papers import record

FILES = Path(__file__).parent / "studies"
KEPT = ("status", "reason", "reached", "step", "seconds", "joules", "step_seconds", "step_joules",
        "solver_error", "mark", "bottleneck", "digest")  # fmt: skip
Fields = dict[str, Any]
"""Of a scenario, by dotted path."""


class Variant(NamedTuple):
    """A shipped scenario with other fields."""

    scenario: str
    fields: Fields

    def load(self, **more: Any) -> hybridsim.Scenario:
        """The scenario; ``more`` are fields of its top level."""
        maps = (dict, list, type(None))  # as JSON, which YAML reads
        fields = {
            name: json.dumps(value) if isinstance(value, maps) else value
            for name, value in (self.fields | more).items()
        }
        return hybridsim.load(self.scenario, [f"{name}={value}" for name, value in fields.items()])


class Made(NamedTuple):
    """A run of a variant: its name, seed, and the run; None where it has no result: ``reason``."""

    variant: str
    seed: int
    run: hybridsim.Run | None
    reason: str


def parser(description: str | None) -> argparse.ArgumentParser:
    """Of a script that runs studies: what was run before is not run again."""
    found = record.parser(description)
    found.add_argument("--workers", type=int, default=2, help="processes")
    found.add_argument("--runs", type=Path, help="folder of runs (default: build/papers/<out>)")
    return found


def study(given: argparse.Namespace, source: str | Mapping[str, Any]) -> hybridsim.StudyResult:
    """A study file by name, or a study as maps, in the script's folder of runs."""
    folder = given.runs or Path("build") / "papers" / given.out.stem
    file = FILES / f"{source}.yaml" if isinstance(source, str) else source
    # One folder for all studies of a script: points that they share are run once.
    found = hybridsim.study(file, folder, workers=given.workers, force=True)
    print(found.sentence, flush=True)
    return found


def made(
    given: argparse.Namespace, variants: Mapping[str, Variant], seeds: Sequence[int]
) -> Iterator[Made]:
    """Every variant with every seed; those that a study ran before are not trained again."""
    names = {f"side{number}": name for number, name in enumerate(variants)}
    document = {
        "name": given.out.stem,
        "scenarios": {
            side: {"scenario": variants[name].scenario, "set": variants[name].fields}
            for side, name in names.items()
        },
        "seeds": list(seeds),
        "question": {"kind": "table", "measure": "run_seconds"},
    }
    found = study(given, document)
    for point in found.points.to_dict("records"):
        run = found.run(point["point"]) if point["status"] == "ok" else None
        yield Made(names[point["side"]], point["seed"], run, point["reason"])


def rows(found: hybridsim.StudyResult) -> Iterator[dict[str, Any]]:
    """The points, each once: side, seed, fields that vary, outcome."""
    table = found.points.drop_duplicates("point")
    fields = list(table.columns[3 : table.columns.get_loc("status")])
    for row in table.to_dict("records"):
        yield {name: row[name] for name in ("side", "seed", *fields, *KEPT)}


def said(found: hybridsim.StudyResult) -> dict[str, Any]:
    """The answer in words."""
    assert found.answer is not None, "no shard"
    return {
        "answer": found.sentence,
        "trusted": found.answer.trusted,
        "notes": list(found.answer.notes),
    }
