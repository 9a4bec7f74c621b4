"""The table of points by combination of values and side: a number for each seed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hybridsim.reports.statistics import Interval, log_interval, mean_interval
from hybridsim.scenario.quantity import Raw
from hybridsim.studies.questions._measures import Measure, value_of, why_unknown

if TYPE_CHECKING:
    from hybridsim.studies.schema import Study

Combination = dict[str, Raw]
"""Values of the fields that vary, as the study file writes them."""


class Cell:
    """One side at one combination of values.

    Attributes:
        side: its name.
        values: the combination.
        by_seed: the measure by seed; inf where the side did not get there. Seeds of which nothing
            is known are not in it.
        unknown: why, for each of those.
        applied: the values of the fields that apply to the side.
        mark: why its numbers are not trusted, "" where they are.
        points: ids of its points: equal where none of the fields that differ applies to the side.
    """

    def __init__(self, side: str, values: Combination) -> None:
        self.side, self.values, self.applied = side, values, values
        self.by_seed: dict[int, float] = {}
        self.unknown: dict[int, str] = {}
        self.mark = ""
        self.points: set[str] = set()

    @property
    def reached(self) -> bool:
        """Something is known, and the side got there with every seed of which something is."""
        return bool(self.by_seed) and all(map(math.isfinite, self.by_seed.values()))

    @property
    def misses(self) -> int:
        """Seeds with which the side did not get there."""
        return sum(map(math.isinf, self.by_seed.values()))

    @property
    def mean(self) -> float:
        """Geometric mean over seeds; inf where one of them did not get there, NaN without any."""
        return self.interval.mean

    @cached_property
    def interval(self) -> Interval:
        """That mean with its interval by Student's t on logs; on values where one is zero."""
        values = list(self.by_seed.values())
        if values and not self.reached:
            return Interval(math.inf, math.nan, math.nan, len(values), "not reached")
        return log_interval(values) if min(values, default=1) > 0 else mean_interval(values)


def key_of(values: Mapping[str, Raw]) -> str:
    """Equal for equal combinations."""
    return json.dumps(dict(values), sort_keys=True, default=str)


def plain(value: Any) -> Any:  # Any: what a table holds, and what JSON does
    """A value of a table as JSON has it: no numpy types; None where it is not finite."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def cells_of(table: pd.DataFrame, fields: Sequence[str], measure: Measure) -> list[dict[str, Cell]]:
    """The cells of each combination of values by side, in the table's order."""
    found: dict[str, dict[str, Cell]] = {}
    for row in table.to_dict("records"):
        values = {name: plain(row[name]) for name in fields}
        sides = found.setdefault(key_of(values), {})
        cell = sides.setdefault(str(row["side"]), Cell(str(row["side"]), values))
        value, seed = value_of(row, measure), int(row["seed"])
        if math.isnan(value):
            cell.unknown[seed] = why_unknown(row, measure)
        else:
            cell.by_seed[seed] = value
        cell.mark = cell.mark or mark_of(row["mark"])
        cell.points.add(str(row["point"]))
    return list(found.values())


def distinct(cells: Iterable[Mapping[str, Cell]], study: Study) -> list[Cell]:
    """Cells of all sides, each point once: where an axis does not apply to a side, its first."""
    found: dict[tuple[str, frozenset[str]], Cell] = {}
    sides_of = {field: axis.sides for axis in study.axes for field in axis.fields}
    for one in cells:
        for cell in one.values():
            cell.applied = {
                field: value
                for field, value in cell.values.items()
                if cell.side in sides_of.get(field, (cell.side,))
            }
            found.setdefault((cell.side, frozenset(cell.points)), cell)
    return list(found.values())


def mark_of(mark: object) -> str:
    """A row's mark as text."""
    return mark if isinstance(mark, str) else ""


def notes_on(cells: Iterable[Cell], measure: Measure) -> list[str]:
    """What must be said of cells: seeds of which nothing is known, that did not get there, that
    are marked.
    """
    known = list(cells)
    notes = []
    lost = [(cell, seed) for cell in known for seed in cell.unknown]
    if lost:
        cell, seed = lost[0]
        notes.append(
            f"{len(lost)} of {len(lost) + sum(len(c.by_seed) for c in known)} runs have no "
            f"{measure} and are left out, e.g. {cell.side}, seed {seed}: {cell.unknown[seed]}."
        )
    missed = [cell for cell in known if cell.misses]
    if missed:
        seeds = sum(cell.misses for cell in missed)
        notes.append(
            f"At {len(missed)} of {len(known)} points a side did not get there ({seeds} runs); it "
            "counts as slower than any that did with every seed."
        )
    marked = [cell for cell in known if cell.mark]
    if marked:
        notes.append(
            f"{len(marked)} of {len(known)} points are marked and win nothing, e.g. "
            f"{marked[0].side}: {marked[0].mark}."
        )
    return notes
