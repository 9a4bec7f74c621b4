"""Which part binds at each point of a study: what the critical path spends most of its time on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from hybridsim.reports import figures, page
from hybridsim.reports.differences import ABSENT, short_names
from hybridsim.reports.kinds import MOST_LISTED
from hybridsim.reports.study_tables import foldable
from hybridsim.reports.study_view import Setting, StudyView, column, texts
from hybridsim.reports.units_text import percent

_MOST_COLUMNS, _MOST_ROWS = 12, 40
_BETWEEN = " · "


class Binding(NamedTuple):
    """What binds at one side and setting, most often over its seeds: ``gpu0 · linearize``."""

    name: str
    text: str

    @property
    def part(self) -> str:
        """The part that does it."""
        return self.name.partition(_BETWEEN)[0]


def binding(view: StudyView) -> str:
    """How often each part binds, and where: a matrix for two fields, else a line a setting."""
    alike = _alike(view)
    found = {key: _binding(rows, alike) for key, rows in view.lines.items()}
    known = {key: entry for key, entry in found.items() if entry.name}
    if not known:
        return ""
    colours = figures.colours_of([entry.part for entry in known.values()])
    blocks = [page.legend(colours), _how_often(view, known)]
    for side in view.sides:
        own = {setting: entry for (name, setting), entry in found.items() if name == side}
        blocks.append(_where(view, side, own, colours))
    note = (
        "The operation with the largest share of the critical path: making anything else faster "
        "gains less. Over seeds: the most frequent one, its mean share. Parts whose names differ "
        "in their number only are one, with the share of the one that has most."
    )
    return page.section("Which part binds", page.paragraph(note, "note"), *blocks)


def _alike(view: StudyView) -> dict[str, str]:
    """What binds, by the name that parts share which differ in their number only."""
    names = {name for name in texts(view.distinct, "bottleneck") if name}
    parts = {name.partition(_BETWEEN)[0] for name in names}
    stems = Counter(_stem(part) for part in parts)
    found = {}
    for name in names:
        part, between, operation = name.partition(_BETWEEN)
        shared = stems[_stem(part)] > 1
        found[name] = f"{_stem(part) if shared else part}{between}{operation}"
    return found


def _stem(part: str) -> str:
    return part.rstrip("0123456789") or part


def _binding(rows: pd.DataFrame, alike: Mapping[str, str]) -> Binding:
    names = [alike.get(name, "") for name in texts(rows, "bottleneck")]
    shares = column(rows, "bottleneck_share")
    most = Counter(name for name in names if name).most_common(1)
    if not most:
        return Binding("", ABSENT)
    (name, count), known = most[0], [name for name in names if name]
    own = [share for other, share in zip(names, shares, strict=True) if other == name]
    share = float(np.mean(own))
    text = f"{name}, {percent(share)}" if np.isfinite(share) else name
    return Binding(name, text if count == len(known) else f"{text} in {count} of {len(known)}")


def _how_often(view: StudyView, known: Mapping[tuple[str, Setting], Binding]) -> str:
    """Counts of settings by what binds, one column a side."""
    names = Counter(entry.name for entry in known.values())
    sides = {side: [e.name for (own, _), e in known.items() if own == side] for side in view.sides}
    rows = [
        [name, *(f"{own.count(name):,} of {len(own):,}" for own in sides.values())]
        for name, _ in names.most_common(figures.MOST_BARS)
    ]
    return page.table(["Binds", *(f"settings of {side}" for side in sides)], rows)


def _where(
    view: StudyView, side: str, own: Mapping[Setting, Binding], colours: Mapping[str, str]
) -> str:
    if len(own) < 2:
        return ""
    apply = [i for i in range(len(view.fields)) if len({setting[i] for setting in own}) > 1]
    short = short_names(view.fields)
    names = [short[view.fields[index]] for index in apply]
    if len(apply) == 2:
        first, second = (list(dict.fromkeys(setting[i] for setting in own)) for i in apply)
        cells = {tuple(setting[i] for i in apply): entry for setting, entry in own.items()}
        dense = len(cells) == len(first) * len(second)
        if dense and len(second) <= _MOST_COLUMNS and len(first) <= _MOST_ROWS:
            return _matrix(side, names, (first, second), cells, colours)
    rows: list[list[object]] = [
        [*(setting[i] for i in apply), _patch(entry, colours)]
        for setting, entry in list(own.items())[:MOST_LISTED]
    ]
    headers = [*names, f"binds on {side}"]
    return foldable(f"Settings of {side}", headers, rows, len(headers), len(own))


def _matrix(
    side: str,
    names: Sequence[str],
    values: tuple[Sequence[str], Sequence[str]],
    cells: Mapping[tuple[str, ...], Binding],
    colours: Mapping[str, str],
) -> str:
    rows: list[list[object]] = [
        [first, *(_patch(cells[first, second], colours) for second in values[1])]
        for first in values[0]
    ]
    title = page.paragraph(f"On {side}: {names[0]} down, {names[1]} across.")
    return title + page.table([names[0], *values[1]], rows, text=len(values[1]) + 1)


def _patch(entry: Binding, colours: Mapping[str, str]) -> object:
    return page.Patch(entry.text, colours[entry.part]) if entry.name else entry.text
