"""What the command line does with run folders: report, timeline, compare, runs, verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hybridsim.errors import HybridsimError, InputError
from hybridsim.interrupt import raised_when_interrupted
from hybridsim.printing import print_blocks, print_rows

if TYPE_CHECKING:
    from hybridsim.results.read import Run


def report(
    folder: Annotated[Path, typer.Argument(help="A run folder, or the folder of a study's point.")],
) -> None:
    """Write the report of a run folder again (also of a run that was killed).

    Of a point of a study: run it, from the study's facts where there are any, and write its report.
    """
    from hybridsim.reports.report import write_report

    found = _run_of(folder)
    write_report(found, found.folder / "report.html")
    print(found.folder / "report.html")


def _run_of(folder: Path) -> Run:
    """The run of a run folder, or of a study's point, made now."""
    from hybridsim.results.read import Run

    if (folder / "outcome.json").is_file():
        from hybridsim.studies.point_report import is_point, run_of_point  # they bring torch

        if is_point(folder):
            with raised_when_interrupted():
                return run_of_point(folder)
    return Run.open(folder)


def timeline(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    step: Annotated[
        int | None, typer.Option(help="The step to draw (default: one in the middle).")
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="html, perfetto (protobuf) or chrome (JSON).")
    ] = "html",
    out: Annotated[
        Path | None, typer.Option(help="File to write (default: in the run folder).")
    ] = None,
) -> None:
    """Draw utilisation over the run and one step as bars, or export all spans to a trace viewer."""
    from hybridsim.reports.chrome_json import write_chrome_json
    from hybridsim.reports.perfetto import write_perfetto
    from hybridsim.reports.timeline import write_timeline
    from hybridsim.results.read import Run

    files = {"html": "timeline.html", "perfetto": "timeline.pftrace", "chrome": "timeline.json"}
    if form not in files:
        raise InputError(f"--format: expected {', '.join(files)}, got {form!r}")
    result, path = Run.open(folder), out or folder / files[form]
    if form == "html":
        write_timeline(result, path, step)
    elif step is not None:
        raise InputError(f"--step: expected with --format html only, got it with {form}")
    else:
        (write_perfetto if form == "perfetto" else write_chrome_json)(result, path)
    print(path)


def compare(
    folders: Annotated[list[Path], typer.Argument(help="Run folders.")],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("comparison.html"),
) -> None:
    """What differs among runs and what came out; a page overlays their learning curves."""
    from hybridsim.reports.compare import (
        cells_of,
        common,
        groups_of,
        method_note,
        sentences,
        write_comparison,
    )
    from hybridsim.results.read import Run

    runs = [Run.open(folder) for folder in folders]
    if not out.parent.is_dir():
        raise InputError(f"--out: expected a file in an existing folder, got {out}")
    write_comparison(runs, out)
    groups = groups_of(runs)
    print_blocks(cells_of(groups))
    for sentence in filter(None, (common(groups), method_note(groups), *sentences(groups))):
        print(sentence)
    print(out)


class Wrong(HybridsimError):
    """A run folder is not what it says."""

    exit_code = 1


def runs(
    folder: Annotated[Path, typer.Argument(help="Where to look, folders in it included.")] = Path(
        "runs"
    ),
) -> None:
    """List run folders: status, progress, when each was last written.

    A run whose process has ended without a word is shown as died.
    """
    from hybridsim.results.listing import listed

    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder to look for runs in, got none")
    rows = listed(folder)
    if rows:
        print_rows(rows)
    else:
        print(f"{folder}: no runs")


def verify(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
) -> None:
    """Check a run folder: checksums, digest, books of time and energy, critical path.

    Exit codes: 0 all is as the run wrote it, 1 something is wrong (said which), 2 no run folder.
    """
    from hybridsim.results.verify import verify as check

    found = check(folder)
    for verdict in found:
        said = f"WRONG: {verdict.wrong}" if verdict.wrong else verdict.note
        print(f"{verdict.what}: {said or 'ok'}")
    wrong = [verdict.what for verdict in found if verdict.wrong]
    if wrong:
        raise Wrong(f"{folder}: {len(wrong)} of {len(found)} checks failed: {', '.join(wrong)}")


COMMANDS = (report, timeline, compare, runs, verify)
