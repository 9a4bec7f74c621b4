"""Kinds of part: parts alike in role, datasheet and settings stand in one row, however many."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hybridsim.reports.units_text import natural
from hybridsim.results.read import Run

MOST_LISTED = 100
"""Parts, or lines of parts, that a page lists one by one; the run folder has all of them."""
_OWN = ("name", "a", "b", "instance")
Row = Mapping[str, Any]  # a row of a run's summary or manifest


class Kind(NamedTuple):
    """Parts alike: what to call them, and their names in order."""

    label: str
    parts: tuple[str, ...]


class Kinds:
    """The kinds of part of a machine; a part that the machine does not name is one of its own.

    Args:
        machine: ``nodes`` and ``edges`` of a run's manifest.
    """

    def __init__(self, machine: Mapping[str, Sequence[Row]]) -> None:
        nodes, edges = machine.get("nodes") or [], machine.get("edges") or []
        self._roles = {node["name"]: str(node.get("kind", "")) for node in nodes}
        alike: defaultdict[str, list[Row]] = defaultdict(list)
        for item in [*nodes, *edges]:
            alike[self._identity(item)].append(item)
        labels: list[str] = []
        self.kinds: dict[str, Kind] = {}
        self._label: dict[str, str] = {}
        for items in alike.values():
            label = _distinct(_label(items), items, labels)
            labels.append(label)
            names = tuple(sorted((item["name"] for item in items), key=natural))
            self.kinds[label] = Kind(label, names)
            self._label |= dict.fromkeys(names, label)

    def _identity(self, item: Row) -> str:
        """What makes two parts alike; links too, if they join nodes of the same roles."""
        ends = sorted(self._roles.get(item[end], "") for end in ("a", "b") if end in item)
        settings = {key: value for key, value in item.items() if key not in _OWN}
        return json.dumps([ends, settings], sort_keys=True, default=str)

    def label(self, part: str) -> str:
        """What the kind of a part is called; a part alone keeps its name."""
        return self._label.get(part, part)

    def parts(self, label: str) -> tuple[str, ...]:
        """The parts of a kind, in order."""
        return self.kinds[label].parts if label in self.kinds else (label,)

    def alike(self, part: str) -> bool:
        """Whether there are others of its kind."""
        return len(self.parts(self.label(part))) > 1

    def several(self, parts: Iterable[str]) -> bool:
        """Whether any of the parts has others of its kind."""
        return any(map(self.alike, parts))

    def lane(self, lane: str) -> str:
        """A lane's name without the number of the part that it leads to: ``to spu``."""
        return " ".join(self._end(word) for word in lane.split(" "))

    def _end(self, word: str) -> str:
        label = self.label(word)
        return word if label == word else label.partition(" × ")[2]

    def sums(
        self, rows: Iterable[Row], by: Sequence[str], values: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Rows with their part's kind for the part, added up where ``by`` is the same.

        Args:
            rows: with ``part`` and what ``by`` and ``values`` name.
            by: columns that tell rows apart, besides the part's kind.
            values: columns that are added up.
        """
        renamed = (self._renamed(row) for row in rows)
        found: dict[Hashable, dict[str, Any]] = {}
        for row in renamed:
            entry = found.setdefault(
                (row["part"], *(row[name] for name in by)), {**row, **dict.fromkeys(values, 0)}
            )
            for name in values:
                entry[name] += row[name]
        return list(found.values())

    def _renamed(self, row: Row) -> dict[str, Any]:
        lane = {"lane": self.lane(row["lane"])} if "lane" in row else {}
        return {**row, "part": self.label(row["part"]), **lane}

    def grouped(self, rows: Iterable[Row]) -> dict[str, list[Row]]:
        """Rows by the kind of their part, in the order of their names."""
        found: defaultdict[str, list[Row]] = defaultdict(list)
        for row in sorted(rows, key=lambda row: natural(row["part"])):
            found[self.label(row["part"])].append(row)
        return dict(found)

    def representatives(self, weight: Callable[[str], float], parts: Iterable[str]) -> list[str]:
        """Of the given parts the one of each kind that weighs most, in their order."""
        known = list(parts)
        first: dict[str, str] = {}
        for part in sorted(known, key=weight, reverse=True):
            first.setdefault(self.label(part), part)
        return [part for part in known if first[self.label(part)] == part]


def kinds_of(run: Run) -> Kinds:
    """The kinds of part of a run's machine."""
    return Kinds(run.manifest.get("machine") or {})


def listed(title: str, count: int, where: str = "the run folder") -> str:
    """The title of a list of ``count`` lines that shows at most ``MOST_LISTED``; ``where`` all
    are.
    """
    if count <= MOST_LISTED:
        return f"{title}: {count:,}"
    return f"{title}: the first {MOST_LISTED:,} of {count:,}, {where} has all"


def _label(items: Sequence[Row]) -> str:
    names = [str(item["name"]) for item in items]
    if len(names) == 1:
        return names[0]
    stems = {re.sub(r"\d+", "", name).strip("-_") for name in names}
    role = str(items[0].get("kind") or "link")
    return f"{len(names):,} × {stems.pop() if len(stems) == 1 else role}"


def _distinct(label: str, items: Sequence[Row], taken: Sequence[str]) -> str:
    """The label, with the datasheet's name or a number where another kind has the same."""
    sheet = items[0].get("sheet") or {}
    choices = [label, f"{label} ({sheet.get('name', 'alike')})"]
    choices += [f"{label} ({chr(98 + index)})" for index in range(25)]
    return next((choice for choice in choices if choice not in taken), f"{label} #{len(taken)}")
