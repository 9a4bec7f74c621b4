"""A calibration's files: the part, every prediction beside its measurement, errors by family."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from hybridsim.calibration.result import Errors, Result
from hybridsim.files import write_whole
from hybridsim.scenario.datasheets.constants import CONSTANTS
from hybridsim.scenario.datasheets.sheets import Datasheet, load_part
from hybridsim.scenario.emit import emit
from hybridsim.scenario.quantity import Raw, format_quantity

PART = "part.yaml"
ERRORS = "errors.csv"
PREDICTIONS = "predictions.csv"
_HEAD = """\
# Written by hybridsim calibrate; a scenario names it by its path: machine: {gpu: part.yaml}
# |predicted / measured - 1| of the measurements, held out of the fit or in it:
"""


def write_part(result: Result, path: Path) -> Datasheet:
    """Write the sheet as a part file of its own, its errors before it, and read it back.

    Raises:
        InputError: it is no valid datasheet (the fit left the range of a constant), or cannot be
            written.
    """
    lines = [f"#   {_text(one)}\n" for one in result.errors]
    write_whole(path, _HEAD + "".join(lines) + emit(_document(result.sheet)))
    return load_part("gpu", str(path.resolve()))


def write_tables(result: Result, folder: Path) -> None:
    """``errors.csv`` and ``predictions.csv``."""
    errors = [
        (one.family, one.part, one.rows, f"{one.median:.4g}", f"{one.p90:.4g}")
        for one in result.errors
    ]
    write_whole(folder / ERRORS, _csv(Errors._fields, errors))
    head = ("family", "operator", "shape", "dtype", "part", "measured_s", "low_s", "high_s")
    rows = [
        (
            *one.measured.case,
            "held out" if one.measured.case.held_out else "fit",
            *(f"{seconds:.5g}" for seconds in one.measured[1:]),
            f"{one.predicted_s:.5g}",
            f"{one.predicted_s / one.measured.seconds:.4g}",
        )
        for one in result.predictions
    ]
    write_whole(folder / PREDICTIONS, _csv((*head, "predicted_s", "ratio"), rows))


def _document(sheet: Datasheet) -> dict[str, Raw]:
    constants: dict[str, Raw] = {}
    for spec in CONSTANTS["gpu"]:
        constant = sheet.constants[spec.name]
        numbers = {
            key: format_quantity(number, spec.unit) if spec.unit else number
            for key, number in (
                ("value", constant.value),
                ("low", constant.low),
                ("high", constant.high),
            )
        }
        constants[spec.key] = {**numbers, "status": constant.status, "source": constant.source}
    return {"kind": "gpu", "description": sheet.description, "constants": constants}


def _text(one: Errors) -> str:
    return f"{one.family}, {one.part}: median {one.median:.1%}, p90 {one.p90:.1%} of {one.rows}"


def _csv(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return out.getvalue()
