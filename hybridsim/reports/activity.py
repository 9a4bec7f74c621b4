"""Lanes and parts over the whole run, binned in time: share of time in service, and watts.

Spans are read chunk by chunk, so memory grows with the number of lanes and bins, not with the run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hybridsim.results.read import Run
from hybridsim.units import PS_PER_S

Key = tuple[str, str]
COLUMNS = ("part", "lane", "role", "start_ps", "end_ps", "energy_j")


class Bins(NamedTuple):
    """``number`` intervals of ``width_ps`` from 0; the last one is cut at ``end_ps``."""

    width_ps: int
    number: int
    end_ps: int

    @classmethod
    def of(cls, end_ps: int, most: int) -> Bins:
        """At most ``most`` bins of a whole number of picoseconds that cover [0, end_ps]."""
        width = max(1, -(-end_ps // most))
        return cls(width, max(1, -(-end_ps // width)), end_ps)

    def edges_ps(self) -> np.ndarray:
        """Edges, shape (number + 1,)."""
        edges = np.arange(self.number + 1, dtype=np.int64) * self.width_ps
        edges[-1] = max(self.end_ps, 1)
        return edges

    def lengths_ps(self) -> np.ndarray:
        """Length of every bin, shape (number,)."""
        return np.diff(self.edges_ps())


class Sums:
    """Integral over every bin of step functions, one per row: ``height`` between ``start_ps`` and
    ``end_ps``.

    An interval inside one bin is added as its area; a longer one as a ramp that begins in its first
    bin and one that ends in its last, which costs the same however many bins lie between.
    """

    def __init__(self, bins: Bins) -> None:
        self._bins = bins
        self._area = np.zeros((0, bins.number + 1))
        self._level = np.zeros((0, bins.number + 1))

    def add(
        self,
        rows: np.ndarray,
        size: int,
        start_ps: np.ndarray,
        end_ps: np.ndarray,
        area: np.ndarray,
    ) -> None:
        """Add intervals; ``area`` is height times length in picoseconds, spent at once where the
        length is 0.

        Args:
            rows: the function each interval belongs to, below ``size``.
            size: number of functions so far.
            start_ps: starts.
            end_ps: ends, none beyond the last bin.
            area: integral of each interval.
        """
        width, columns = self._bins.width_ps, self._bins.number + 1
        self._grow(size)
        first, last = start_ps // width, end_ps // width
        inside = first == last
        self._enter(self._area, rows[inside] * columns + first[inside], area[inside])
        long = ~inside
        height = area[long] / (end_ps - start_ps)[long]
        begins, ends = rows[long] * columns + first[long], rows[long] * columns + last[long]
        self._enter(self._area, begins, height * ((first[long] + 1) * width - start_ps[long]))
        self._enter(self._area, ends, -height * ((last[long] + 1) * width - end_ps[long]))
        self._enter(self._level, begins, height)
        self._enter(self._level, ends, -height)

    def _grow(self, size: int) -> None:
        more = size - len(self._area)
        if more > 0:
            empty = np.zeros((more, self._bins.number + 1))
            self._area, self._level = (
                np.vstack([self._area, empty]),
                np.vstack([self._level, empty]),
            )

    @staticmethod
    def _enter(table: np.ndarray, places: np.ndarray, values: np.ndarray) -> None:
        table += np.bincount(places, values, table.size).reshape(table.shape)

    def per_bin(self) -> np.ndarray:
        """The integrals, shape (rows, number); what falls on the very end belongs to the last
        bin.
        """
        carried = np.cumsum(self._level, axis=1) - self._level
        found = self._area + carried * self._bins.width_ps
        found[:, -2] += found[:, -1]
        found = found[:, :-1]
        noise = 1e-12 * np.abs(found).max(axis=1, initial=0.0)[:, None]
        return np.where(found > noise, found, 0.0)


class Activity:
    """What the lanes of a run did over time; fill it with ``activity``."""

    def __init__(self, bins: Bins) -> None:
        self.bins = bins
        self.keys: dict[Key, int] = {}
        self.roles: dict[Key, str] = {}
        self.spans = 0
        self._first_ps = np.zeros(0, np.int64)
        self._service, self._energy = Sums(bins), Sums(bins)

    def add(self, chunk: Mapping[str, np.ndarray]) -> None:
        """Enter a chunk of spans."""
        start, end = chunk["start_ps"], chunk["end_ps"]
        rows = self._rows(chunk["part"], chunk["lane"], chunk["role"])
        self.spans += len(rows)
        self._service.add(rows, len(self.keys), start, end, (end - start).astype(float))
        self._energy.add(rows, len(self.keys), start, end, chunk["energy_j"])
        unused = np.full(len(self.keys) - len(self._first_ps), np.iinfo(np.int64).max)
        self._first_ps = np.concatenate([self._first_ps, unused])
        np.minimum.at(self._first_ps, rows, start)

    def _rows(self, part: np.ndarray, lane: np.ndarray, role: np.ndarray) -> np.ndarray:
        found = list(zip(part.tolist(), lane.tolist(), strict=True))
        self.roles |= dict(zip(found, role.tolist(), strict=True))
        rows = (self.keys.setdefault(key, len(self.keys)) for key in found)
        return np.fromiter(rows, np.int64, len(part))

    def is_background(self, key: Key) -> bool:
        """Continuous relaxation, which overlaps whatever else happens."""
        return self.roles[key] == "background"

    def is_flight(self, key: Key) -> bool:
        """Propagation on a link, which holds nothing."""
        return self.roles[key] == "flight"

    def lanes(self) -> dict[str, list[str]]:
        """Lanes by part, both in the order in which they were first used.

        Parts whose names differ in a number stand together; background lanes stand after the others
        of their part.
        """
        order = sorted(self.keys, key=lambda key: (self._first_ps[self.keys[key]], self.keys[key]))
        families = list(dict.fromkeys(_family(part) for part, _ in order))
        parts = sorted(
            dict.fromkeys(part for part, _ in order),
            key=lambda p: (families.index(_family(p)), _numbers(p)),
        )
        found: dict[str, list[str]] = {part: [] for part in parts}
        for part, lane in sorted(order, key=self.is_background):
            found[part].append(lane)
        return found

    def in_service(self) -> dict[Key, np.ndarray]:
        """Mean number in service per lane and bin, shape (bins,): the share of time for a lane that
        serves one.
        """
        shares = self._service.per_bin() / self.bins.lengths_ps()
        return {key: shares[row] for key, row in self.keys.items()}

    def power_w(self, static_w: Mapping[str, float]) -> dict[str, np.ndarray]:
        """Mean watts per part and bin, shape (bins,), static power included; parts in the order of
        first use.
        """
        watts = self._energy.per_bin() / self.bins.lengths_ps() * PS_PER_S
        found = {
            part: np.full(self.bins.number, static_w.get(part, 0.0))
            for part in [*self.lanes(), *static_w]
        }
        for (part, _), row in self.keys.items():
            found[part] += watts[row]
        return found


def activity(run: Run, most_bins: int) -> Activity:
    """Read a run's spans twice: for the end of the run, and to add them up."""
    ends = [
        int(chunk["end_ps"].max()) for chunk in run.span_chunks(["end_ps"]) if len(chunk["end_ps"])
    ]
    found = Activity(Bins.of(max(ends, default=0), most_bins))
    for chunk in run.span_chunks(COLUMNS):
        found.add(chunk)
    return found


def static_power_w(run: Run) -> dict[str, float]:
    """Watts that each part draws whatever it does."""
    # Any: the manifest is JSON.
    rows: Sequence[Mapping[str, Any]] = run.manifest.get("static_power") or []
    found: dict[str, float] = {}
    for row in rows:
        found[row["part"]] = found.get(row["part"], 0.0) + float(row["power_w"])
    return found


def _family(part: str) -> str:
    return re.sub(r"\d+", "#", part)


def _numbers(part: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", part)]
