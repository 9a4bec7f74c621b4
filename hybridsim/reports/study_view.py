"""What a study's page shows: the answer, the table of points, and where both come from."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hybridsim.reports.differences import ABSENT
from hybridsim.units import engineering

if TYPE_CHECKING:
    import plotly.graph_objects as go

_LONG = re.compile(r"(\d+\.\d{6,}(?:e[-+]?\d+)?) (\S+)")
"""A quantity that a bisection or a sample wrote with every digit."""
Setting = tuple[str, ...]
"""Values of the fields that vary, in their order, as text."""


@dataclass(frozen=True)
class StudyView:
    """What a study's page shows.

    Attributes:
        name: the study's.
        kind: the question's.
        sentence: the answer, with its interval, in one sentence.
        points: a row for each (side, seed, values), with the columns of ``points.parquet``.
        notes: what else must be said of it.
        trusted: no point that decides the answer is marked.
        figure: the answer as a picture.
        answer_table: its numbers.
        fields: dotted paths of what varies, each a column of ``points``.
        sides: names of what is compared.
        seeds: the same ones on every side.
        tuning: a row for each side: its candidates, its budget, what was chosen.
        gate: the median relative error above which an analog answer is no solution.
        facts: the answer's numbers by name.
        provenance: revision, versions, digest; a text of several lines is folded.
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
    baseline: Mapping[str, Any] = field(default_factory=dict)  # Any: values as the file writes them

    @cached_property
    def distinct(self) -> pd.DataFrame:
        """Each point once: where a field does not apply to a side, several rows are one point."""
        again = self.points.duplicated(["side", "point"]) & self.points["point"].astype(bool)
        return self.points[~again].reset_index(drop=True)

    @cached_property
    def effects(self) -> dict[str, dict[str, bool]]:
        """For each field, by side: whether its values make different points; sides that had one
        value only are left out.
        """
        keys = {name: self.points[name].map(value_text) for name in ("side", *self.fields, "seed")}
        frame = pd.DataFrame({**keys, "point of it": self.points["point"]})
        found = {}
        for name in self.fields:
            others = [key for key in keys if key != name]
            counts = frame.groupby(others)[[name, "point of it"]].nunique()
            tried = counts[counts[name] > 1]["point of it"].gt(1).groupby("side").any()
            found[name] = {str(side): bool(several) for side, several in tried.items()}
        return found

    def setting(self, row: Mapping[Hashable, Any]) -> Setting:  # Any: a row of the points
        """A point's values of the fields; a dash for those that do not apply to its side."""
        return tuple(
            value_text(row[name]) if self.effects[name].get(row["side"], True) else ABSENT
            for name in self.fields
        )

    @cached_property
    def lines(self) -> dict[tuple[str, Setting], pd.DataFrame]:
        """Distinct points by side and setting, sides in order, settings as they first appear."""
        places: dict[tuple[str, Setting], list[int]] = {}
        for index, row in enumerate(self.distinct.to_dict("records")):
            key = (str(row["side"]), self.setting(row))
            places.setdefault(key, []).append(index)
        sides = {side: index for index, side in enumerate(self.sides)}
        ordered = sorted(places, key=lambda key: sides.get(key[0], len(sides)))
        return {key: self.distinct.iloc[places[key]] for key in ordered}

    @cached_property
    def reference(self) -> Setting:
        """The baseline's values of the fields."""
        firsts = (value_text(self.points[name].iloc[0]) for name in self.fields if len(self.points))
        return tuple(
            value_text(self.baseline[name]) if name in self.baseline else first
            for name, first in zip(self.fields, firsts, strict=False)
        )


def column(rows: pd.DataFrame, name: str) -> np.ndarray:
    """A column of numbers; NaN where it has none, or is not there."""
    if name not in rows:
        return np.full(len(rows), np.nan)
    return pd.to_numeric(rows[name], errors="coerce").to_numpy(float)


def texts(rows: pd.DataFrame, name: str) -> list[str]:
    """A column of texts; empty where it has none, or is not there."""
    if name not in rows:
        return [""] * len(rows)
    return ["" if _absent(value) else str(value) for value in rows[name]]


def value_text(value: object) -> str:
    """A field's value as text, six digits of it; a dash where there is none."""
    if _absent(value):
        return ABSENT
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    if isinstance(value, Mapping | list | tuple | np.ndarray):
        plain = value.tolist() if isinstance(value, np.ndarray) else value
        return json.dumps(plain, default=str)
    long = _LONG.fullmatch(value) if isinstance(value, str) else None
    return engineering(float(long[1]), long[2], 6) if long else str(value)


def _absent(value: object) -> bool:
    if value is None or value is pd.NaT or value is pd.NA:
        return True
    return isinstance(value, float | np.floating) and bool(np.isnan(value))
