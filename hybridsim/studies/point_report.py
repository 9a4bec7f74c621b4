"""The run behind a point of a study, made when somebody wants to see it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hybridsim.errors import InputError
from hybridsim.results.integrity import read_map
from hybridsim.results.read import Run
from hybridsim.scenario.load import load
from hybridsim.simulate import run
from hybridsim.studies.evaluate import Desk
from hybridsim.studies.records import FORMAT

_RUN = "run"


def is_point(folder: Path) -> bool:
    """Whether a folder is a study's point: what was computed, without the run."""
    outcome = folder / "outcome.json"
    try:
        return outcome.is_file() and read_map(outcome).get("format") == FORMAT
    except InputError:
        return False


def run_of_point(folder: Path) -> Run:
    """The run folder of a point, in ``run`` below it: made now unless it is there and complete.

    It is replayed from the study's facts where they are there, else trained; a study that trains
    nothing has no more than its schedule.

    Raises:
        InputError: the scenario cannot run.
        HybridsimError: the run failed.
        KeyboardInterrupt: the run was interrupted.
    """
    out = folder / _RUN
    if (out / "manifest.json").is_file():
        known = Run.open(out)
        if known.status == "complete":
            return known
    found = read_map(folder / "outcome.json", "a point's outcome")
    scenario = load(folder / "scenario.yaml")
    if found.get("backend") == "timing":
        return run(scenario, out, backend="timing", force=True)
    with tempfile.TemporaryDirectory(prefix="hybridsim-study-") as scratch:
        desk = Desk(Path(scratch), folder.resolve().parent.parent / "facts", None)
        facts = desk.store("facts", str(found.get("facts", "")))
        if facts.is_file():
            return run(scenario, out, backend="replay", facts=facts, force=True)
        return run(scenario, out, force=True)
