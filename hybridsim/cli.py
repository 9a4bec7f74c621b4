"""The command line: check, run, report, compare, parts, schema."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from hybridsim.errors import HybridsimError, InputError
from hybridsim.units import engineering

if TYPE_CHECKING:
    from hybridsim.results.read import Run

app = typer.Typer(
    help="Simulate hybrid digital-analog training hardware.", no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False,
)  # fmt: skip

ScenarioArgument = Annotated[str, typer.Argument(help="A scenario file, or the name of a shipped scenario.")]
SetOption = Annotated[
    list[str], typer.Option("--set", help='Override a field, e.g. machine.link.bandwidth="200 Gb/s"; repeatable.')
]
_INTERRUPTED = 130


def main() -> None:
    """Entry point: errors on purpose become one message and an exit code."""
    try:
        app(standalone_mode=False)
    except HybridsimError as error:
        _stop(str(error), error.exit_code)
    except typer.Abort:
        _stop("interrupted", _INTERRUPTED)
    except KeyboardInterrupt:
        _stop("interrupted; the results so far are kept", _INTERRUPTED)
    except BrokenPipeError:
        os._exit(0)
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            _stop(error.format_message(), 2)
        raise


def _stop(message: str, code: int) -> NoReturn:
    print(f"hybridsim: {message}" if "\n" not in message else message, file=sys.stderr)
    sys.exit(code)


@app.command()
def check(scenario: ScenarioArgument, overrides: SetOption = []) -> None:  # noqa: B006  typer copies it
    """Check a scenario file; print every mistake at once, and the fields that have no effect."""
    from hybridsim.scenario.load import load
    from hybridsim.scenario.unused import unused_fields

    loaded = load(scenario, overrides)
    for field in unused_fields(loaded):
        print(f"unused: {field}")
    print(f"{scenario}: ok")


@app.command()
def run(
    scenario: ScenarioArgument,
    out: Annotated[Path | None, typer.Option(help="Run folder (default: runs/<scenario>).")] = None,
    overrides: SetOption = [],  # noqa: B006  typer copies it
    force: Annotated[bool, typer.Option(help="Replace an existing run folder.")] = False,
    backend: Annotated[str, typer.Option(help="live, timing (no tensors) or replay (facts from the store).")] = "live",
    facts: Annotated[Path | None, typer.Option(help="Fact store (sqlite): filled by live runs, read by replays.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of external data sets (default: HYBRIDSIM_DATA).")] = None,
) -> None:
    """Simulate a scenario; write the run folder and its report."""
    from hybridsim.analysis.report import write_report
    from hybridsim.progress import Reporter
    from hybridsim.scenario.load import load

    if backend not in ("live", "timing", "replay"):
        raise InputError(f"--backend: expected live, timing or replay, got {backend!r}")
    loaded = load(scenario, overrides)
    folder = out or Path("runs") / Path(scenario).stem
    from hybridsim.simulate import run as simulate

    with Reporter(loaded.name, loaded.training.steps) as reporter:
        result = simulate(
            loaded, folder, backend=backend, facts=facts, force=force, progress=reporter.step, data=data
        )  # type: ignore[arg-type]  # backend was checked above
    write_report(result, folder / "report.html")
    _print_summary(result)


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Write the report of a run folder again."""
    from hybridsim.analysis.report import write_report
    from hybridsim.results.read import Run

    write_report(Run.open(folder), folder / "report.html")
    print(folder / "report.html")


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(help="Run folders.")],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("comparison.html"),
) -> None:
    """Overlay runs on one page: loss against steps, simulated seconds and joules."""
    from hybridsim.analysis.compare import compare_table, write_comparison
    from hybridsim.results.read import Run

    runs = [Run.open(folder) for folder in folders]
    write_comparison(runs, out)
    print(compare_table(runs).to_string(index=False))
    print(out)
