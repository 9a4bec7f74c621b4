"""What a study's page shows: the answer, the table of points, and where both come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    import plotly.graph_objects as go

Cell = str | int | float | bool | None
Setting = tuple[Cell, ...]
"""Values of the fields that vary, in their order."""
WITHOUT_RESULT = ("failed", "diverged", "refused", "missing")
"""Statuses of points that have no result."""


@dataclass(frozen=True)
class StudyView:
    """What a study's page shows.

    Attributes:
        name: the study's.
        kind: the question's.
        sentence: the answer, with its interval, in one sentence.
        notes: what else must be said of it.
        trusted: no point that decides the answer is marked.
        figure: the answer as a picture.
        answer_table: its numbers.
        points: a row for each (side, seed, values), with the columns of ``points.parquet``.
        fields: dotted paths of what varies, each a column of ``points``.
        sides: names of what is compared.
        seeds: the same ones on every side.
        tuning: a row for each side: its candidates, its budget, what was chosen.
        gate: the median relative error above which an analog answer is no solution.
        facts: the answer's numbers by name.
        provenance: revision, versions, digest; a value of several lines is folded.
        folders: a point's id to the link of its folder, relative to the page.
        baseline: values of fields that all others are held against; the first of each otherwise.
    """

    name: str
    kind: str
    sentence: str
    points: pd.DataFrame
    notes: tuple[str, ...] = ()
    trusted: bool = True
    figure: go.Figure | None = None
    answer_table: pd.DataFrame = field(default_factory=pd.DataFrame)
    fields: tuple[str, ...] = ()
    sides: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    tuning: Sequence[Mapping[str, Any]] = ()  # Any: texts and numbers, as a table shows them
    gate: float = float("nan")
    facts: Mapping[str, Any] = field(default_factory=dict)  # Any: whatever the question found
    provenance: Mapping[str, Any] = field(default_factory=dict)  # Any: texts, numbers, maps
    folders: Mapping[str, str] = field(default_factory=dict)
    baseline: Mapping[str, Cell] = field(default_factory=dict)

    @cached_property
    def distinct(self) -> pd.DataFrame:
        """Each point once: where a field does not apply to a side, several rows are one point."""
        return self.points.drop_duplicates(["side", "point"]).reset_index(drop=True)

    @cached_property
    def reference(self) -> Setting:
        """The baseline's values."""
        firsts = (None if self.points.empty else self.points[name].iloc[0] for name in self.fields)
        return tuple(
            self.baseline.get(name, first) for name, first in zip(self.fields, firsts, strict=True)
        )

    def settings(self, rows: pd.DataFrame) -> dict[Setting, pd.DataFrame]:
        """Rows by the values of what varies, in the order of their first appearance."""
        if not self.fields:
            return {(): rows} if len(rows) else {}
        groups = rows.groupby(list(self.fields), sort=False, dropna=False)
        return {tuple(values): found for values, found in groups}
