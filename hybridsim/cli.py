"""The command line: check, run, resume, study, calibrate, kineto, parts, schema; and what is done
with run folders (``cli_folders``).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from hybridsim import __version__, cli_folders
from hybridsim.errors import HybridsimError, InputError
from hybridsim.exits import check_streams, message_and_code, stop
from hybridsim.interrupt import EXIT_CODE, raised_when_interrupted
from hybridsim.printing import print_rows

if TYPE_CHECKING:
    from hybridsim.execute import Mode
    from hybridsim.results.read import Run
    from hybridsim.scenario.datasheets.sheets import Datasheet

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ScenarioArgument = Annotated[
    str, typer.Argument(help="A scenario file, or the name of a shipped scenario.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help='Override a field, e.g. machine.link.bandwidth="200 Gb/s"; repeatable.'
    ),
]


DataOption = Annotated[
    Path | None, typer.Option(help="Folder of external data sets (default: HYBRIDSIM_DATA).")
]


def _show_version(asked: bool) -> None:
    if asked:
        print(f"hybridsim {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Simulate hybrid digital-analog training hardware."""


class Interrupted(HybridsimError):
    """The user stopped a run; what was found is kept."""

    exit_code = EXIT_CODE


class Missed(HybridsimError):
    """The run is complete and does not come up to the scenario's thresholds."""

    exit_code = 3


def main() -> None:
    """Run the command of the command line; whatever is raised becomes one message and an exit
    code.
    """
    check_streams()
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        stop(*message_and_code(error))
    if code == EXIT_CODE:  # what typer makes of an interrupt
        stop("interrupted", code)


@app.command()
def check(scenario: ScenarioArgument, overrides: SetOption = None) -> None:
    """Check a scenario file; print every mistake at once, the fields that have no effect, what does
    not fit, and how large the SPUs are. No network is allocated.
    """
    from hybridsim.checking import checked
    from hybridsim.scenario.load import load
    from hybridsim.scenario.unbuildable import unbuildable_parts
    from hybridsim.scenario.workload_options import check_options

    loaded = load(scenario, overrides or ())
    check_options(loaded)
    found = checked(loaded)
    for field in found.unused:
        print(f"unused: {field}")
    for text in unbuildable_parts(loaded):
        print(f"unbuildable: {text}")
    for text in found.sizes:
        print(f"size: {text}")
    print(f"{scenario}: ok")
    for text in found.unknown:
        print(f"not checked: {text}")


@app.command()
def run(
    scenario: ScenarioArgument,
    out: Annotated[Path | None, typer.Option(help="Run folder (default: runs/<scenario>).")] = None,
    overrides: SetOption = None,
    force: Annotated[bool, typer.Option(help="Replace an existing run folder.")] = False,
    backend: Annotated[
        str, typer.Option(help="live, timing (no tensors) or replay (facts from the store).")
    ] = "live",
    facts: Annotated[
        Path | None, typer.Option(help="Fact store (sqlite): filled by live runs, read by replays.")
    ] = None,
    data: DataOption = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="How often to keep what resume needs: '50 steps', '30 s'."),
    ] = None,
    facts_limit: Annotated[
        str | None,
        typer.Option(help="What the fact store may hold: '2 GB'; the oldest facts give way."),
    ] = None,
) -> None:
    """Simulate a scenario; write the run folder and its report.

    Exit codes: 0 done, 1 the run failed (results so far are kept), 2 bad input, 3 done, but a
    threshold of the scenario was missed or not evaluated, 130 interrupted.
    """
    from hybridsim import load_task
    from hybridsim.checking import unread
    from hybridsim.progress import Reporter
    from hybridsim.reports.report import write_report
    from hybridsim.scenario.load import load
    from hybridsim.scenario.own_constants import own_constants
    from hybridsim.scenario.unused import unused_fields

    if backend not in ("live", "timing", "replay"):
        raise InputError(f"--backend: expected live, timing or replay, got {backend!r}")
    loaded = load(scenario, overrides or ())
    task, found = None, unused_fields(loaded, timing_only=backend == "timing")
    if own_constants(loaded):
        task = load_task(loaded, data, backend=cast("Mode", backend))
        found += unread(loaded, task, found)
    for field in found:
        print(f"unused: {field}", file=sys.stderr)
    folder = out or Path("runs") / Path(scenario).stem
    from hybridsim.simulate import run as simulate

    try:
        with raised_when_interrupted(), Reporter(loaded.name, loaded.training.steps) as reporter:
            result = simulate(
                loaded,
                folder,
                backend=cast("Mode", backend),
                facts=facts,
                force=force,
                progress=reporter.step,
                data=data,
                task=task,
                checkpoint=checkpoint,
                facts_limit=facts_limit,
            )
    except KeyboardInterrupt as error:
        raise Interrupted(str(error) or "interrupted") from None
    write_report(result, folder / "report.html")
    _print_summary(result)
    _check_thresholds(result)


@app.command()
def resume(
    folder: Annotated[Path, typer.Argument(help="The folder of a run that was left.")],
    data: DataOption = None,
) -> None:
    """Go on with a run that died or was interrupted, from its last checkpoint, to the bit.

    For runs that were started with --checkpoint. Exit codes: as of run.
    """
    from hybridsim.progress import Reporter
    from hybridsim.reports.report import write_report
    from hybridsim.results.read import Run
    from hybridsim.scenario.load import load
    from hybridsim.simulate import resume as go_on

    Run.open(folder)
    scenario = load(folder / "scenario.yaml")
    try:
        with (
            raised_when_interrupted(),
            Reporter(scenario.name, scenario.training.steps) as reporter,
        ):
            result = go_on(folder, progress=reporter.step, data=data)
    except KeyboardInterrupt as error:
        raise Interrupted(str(error) or "interrupted") from None
    write_report(result, folder / "report.html")
    _print_summary(result)
    _check_thresholds(result)


def _check_thresholds(result: Run) -> None:
    lines = result.summary.get("thresholds", [])
    missed = [line["name"] for line in lines if not line["met"]]
    if missed:
        raise Missed(f"{len(missed)} of {len(lines)} thresholds missed: {', '.join(missed)}")


@app.command()
def study(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE", help="A study file, or the name of a shipped study.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The study's folder (default: runs/<study>).")
    ] = None,
    workers: Annotated[int, typer.Option(help="Worker processes; 1: this process.")] = 1,
    scheduler: Annotated[
        str | None, typer.Option(help="A running dask.distributed scheduler: tcp://HOST:PORT.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option(help="k/n: evaluate this share of the points alone, e.g. 3/20.")
    ] = None,
    collect: Annotated[
        list[Path] | None,
        typer.Option(help="Folders that shards have written: take them over, then answer."),
    ] = None,
    overrides: SetOption = None,
    force: Annotated[
        bool, typer.Option(help="The folder may hold another study; equal points are kept.")
    ] = False,
    data: DataOption = None,
    check: Annotated[bool, typer.Option("--check", help="Stop after the checks.")] = False,
) -> None:
    """Run a study: many scenarios, one question, an answer with its interval.

    The same study again does only what is missing; several launches with one folder share the work.
    Exit codes: 0 done, 1 the question has no answer since points failed, 2 bad input, 130
    interrupted (what was found is kept).
    """
    from hybridsim.studies.command import Words, run_words

    words = Words(
        tuple(names or ()),
        out,
        tuple(overrides or ()),
        workers,
        scheduler,
        shard,
        tuple(collect or ()),
        force,
        data,
        check,
    )
    try:
        with raised_when_interrupted():
            run_words(words)
    except KeyboardInterrupt as error:
        raise Interrupted(str(error) or "interrupted") from None


@app.command()
def calibrate(
    out: Annotated[
        Path, typer.Option(help="Folder of measurements and part; one that is there goes on.")
    ],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    minutes: Annotated[
        float, typer.Option(help="Of measuring, over all launches with this folder; at most 10.")
    ] = 8.0,
    threads: Annotated[int, typer.Option(help="Threads of the host.")] = 1,
    seed: Annotated[int, typer.Option(help="Of shapes and their order.")] = 0,
    base: Annotated[
        str | None,
        typer.Option(help="Part whose constants stand where nothing is measured.", metavar="PART"),
    ] = None,
) -> None:
    """Measure this computer's CPU or GPU and write a datasheet of it, with its own errors.

    It goes on where it was left when the folder is there. Exit codes: 0 done, 1 too little was
    measured, 2 bad input, 130 interrupted (the measurements are kept).
    """
    from hybridsim.calibration.command import calibrate as measure_and_fit
    from hybridsim.calibration.command import print_calibration

    try:
        with raised_when_interrupted():
            found = measure_and_fit(
                out, device=device, minutes=minutes, threads=threads, seed=seed, base=base
            )
    except KeyboardInterrupt as error:
        raise Interrupted(str(error) or "interrupted") from None
    print_calibration(found)


@app.command()
def kineto(
    trace: Annotated[
        Path, typer.Argument(help="What torch.profiler's export_chrome_trace wrote; also gzipped.")
    ],
    part: Annotated[str, typer.Option(help="A shipped GPU, or a path ending in .yaml.")],
    out: Annotated[Path | None, typer.Option(help="All lines as CSV.")] = None,
) -> None:
    """Hold a profiler's trace of your own against a datasheet, operator by operator.

    Profile with record_shapes=True. Of a trace with GPU kernels the kernels' times are compared, of
    one of a CPU the operators'. What cannot be mapped is listed by name.
    """
    from hybridsim.calibration.kineto import table_of, texts_of, write_table
    from hybridsim.scenario.datasheets.sheets import load_part

    sheet = load_part("gpu", part)
    table = table_of(trace, sheet)
    if out is not None:
        write_table(table, out)
    for text in texts_of(table):
        print(text)
    if out is not None:
        print(out)


@app.command()
def parts(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="None: list all. One: its constants. Two: their differences."),
    ] = None,
) -> None:
    """List the shipped datasheets, show one with its sources, or compare two."""
    from hybridsim.scenario.datasheets.sheets import (
        compare_parts,
        describe_part,
        list_parts,
        words_of,
    )

    if not names:
        return print_rows(list_parts())
    if len(names) == 1:
        sheet = _part(names[0])
        for key, text in words_of(sheet).items():
            print(f"{key}: {text}")
        return print_rows(describe_part(sheet))
    if len(names) == 2:
        return print_rows(compare_parts(_part(names[0]), _part(names[1])))
    raise InputError(f"parts: expected at most two names, got {len(names)}")


@app.command()
def schema(
    study: Annotated[bool, typer.Option("--study", help="Of study files.")] = False,
) -> None:
    """Print the JSON schema of scenario files, or of study files."""
    if study:
        from hybridsim.studies.schema import json_schema_text as study_schema_text

        print(study_schema_text(), end="")
        return
    from hybridsim.scenario.schema import json_schema_text

    print(json_schema_text(), end="")


for _command in cli_folders.COMMANDS:
    app.command()(_command)


def _part(name: str) -> Datasheet:
    """The datasheet of a shipped name, whatever its kind, or of the user's file."""
    from hybridsim.scenario.datasheets.constants import PART_KINDS
    from hybridsim.scenario.datasheets.sheets import load_part, part_names
    from hybridsim.scenario.nearest import one_of

    if name.endswith((".yaml", ".yml")):
        named = re.search(r"^kind: *(\w+)", _text(Path(name)), re.M)
        kind = next((kind for kind in PART_KINDS if named and kind == named[1]), PART_KINDS[0])
        return load_part(kind, name)
    shipped = {part: kind for kind in PART_KINDS for part in part_names(kind)}
    if name not in shipped:
        raise InputError(
            "parts: expected "
            f"{one_of(shipped, name, 'a shipped part or a path ending in .yaml')}, got {name!r}"
        )
    return load_part(shipped[name], name)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: expected a datasheet file, got: {error.strerror}") from error


def _print_summary(result: Run) -> None:
    """One table at the end of a run, with the folder's path."""
    from hybridsim.reports.closing import closing_rows

    rows = closing_rows(result)
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{name.ljust(width)}  {text}")
