"""A script's command line, and its result file: setting, what was found, the runs it rests on."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hybridsim
from analysis.papers.revision import revision

Row = Mapping[str, Any]  # Any: goes to JSON


def parser(description: str | None) -> argparse.ArgumentParser:
    """What every script takes: the result file."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--out", type=Path, required=True, help="the result file")
    return found


def arguments(description: str | None) -> argparse.Namespace:
    """The command line of a script that may draw a page."""
    found = parser(description)
    found.add_argument("--page", type=Path, help="an HTML page with the figure, where there is one")
    return found.parse_args()


def short(value: Any, digits: int = 5) -> Any:
    """Floats to some digits, None where they are not finite; texts for keys."""
    if isinstance(value, Mapping):
        return {str(key): short(item, digits) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [short(item, digits) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value


def save(path: Path, module: str, setting: Row, summary: Row, runs: Sequence[Row]) -> None:
    """Write the result with the command that makes it, and print the summary. Runs are a table:
    columns, and a line for each.
    """
    head = {
        "command": f"python -m analysis.papers.{module} --out {path}",
        "version": hybridsim.__version__,
        "revision": revision(),
        "setting": setting,
        "summary": summary,
        "columns": list(dict.fromkeys(name for row in runs for name in row)),
    }
    text = json.dumps(short(head), indent=1).removesuffix("\n}")
    lines = ",\n  ".join(
        json.dumps(short([row.get(name) for name in head["columns"]])) for row in runs
    )
    path.write_text(f'{text},\n "runs": [\n  {lines}\n ]\n}}\n', encoding="utf-8")
    print(json.dumps(short(summary), indent=1))


def runs_of(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The runs of a result file as maps."""
    return [dict(zip(result["columns"], values, strict=True)) for values in result["runs"]]
