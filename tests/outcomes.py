"""Whatever happened to a run: what it says is true, and it can be gone on with."""

from __future__ import annotations

from pathlib import Path

from faults import Fault

import hybridsim
from hybridsim.checkpoints import last_checkpoint
from hybridsim.results.read import Run
from hybridsim.results.verify import verify

BEFORE = "another run was about to take its place"
REASONS = {"ENOSPC": ("No space left", "disk is full"), "EIO": ("Input/output", "disk I/O")}


def check_end(
    folder: Path,
    code: int,
    printed: str,
    fault: Fault,
    before: str | None = None,
    *,
    here: bool = False,
) -> None:
    """Exit code, message and status of a command that a fault has met.

    Args:
        folder: of its run.
        code: as it ended.
        printed: what it said.
        fault: what it met.
        before: the status that the folder had.
        here: it was no process of its own: one that could not say how it ended is there still.
    """
    said = printed.splitlines()[-1] if printed else ""
    assert "Traceback" not in printed and "nobody foresaw" not in printed, printed
    run = Run.open(folder) if (folder / "manifest.json").exists() else None
    status = run.status if run is not None else None
    assert status != "running" or (here and fault.lasting), "no process writes to it"
    if fault.what == "SIGKILL":
        assert code == -9
    elif fault.what.startswith("SIG"):
        assert code == 130 and said.startswith("hybridsim: interrupted"), printed
        assert status in (None, "interrupted", "complete")
        assert not list(folder.rglob("*.tmp"))
    elif code != 0:
        assert code in (1, 2) and any(reason in said for reason in REASONS[fault.what]), printed
        assert fault.lasting or status in (None, "failed", "complete", before), status
        if status == "failed":
            assert any(
                reason in run.manifest["reason"] for reason in (*REASONS[fault.what], BEFORE)
            )
    assert code != 0 or status == "complete"
    if run is not None:
        assert not any(verdict.wrong for verdict in verify(folder))
        assert len(run.steps) == run.summary["steps"]
        assert run.spans["id"].is_unique and run.steps["step"].is_unique


def go_on(folder: Path, scenario: hybridsim.Scenario) -> Run:
    """As a user would: from a checkpoint if there is one, else anew."""
    if (folder / "manifest.json").exists():
        found = Run.open(folder)
        if found.status == "complete":
            return found
        if last_checkpoint(folder) is not None:
            return hybridsim.resume(folder)
    return hybridsim.run(scenario, folder, checkpoint="1 steps", force=True)
