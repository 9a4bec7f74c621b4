"""The energy book: what every part spent on every kind of operation, and what it drew while
waiting.

    total = sum over spans of energy_j + sum over static rows of power_w * makespan

Low and high are sums too: every energy constant at its low (high) at once, on the nominal schedule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hybridsim.trace.chunks import Chunk, Labels
from hybridsim.units import to_s

_KEY = ("part", "lane", "category", "kind", "factor")
_ENERGIES = ("energy_j", "energy_low_j", "energy_high_j")
ENERGY_COLUMNS = (*_KEY, *_ENERGIES)
"""Columns of the span table that the book reads."""

STRENGTH = ("assumed", "derived", "fitted", "public", "paper", "given")
"""Statuses of constants, the weakest first."""


class EnergyRow(NamedTuple):
    """One line of the book; ``origin`` is ``spans`` or ``static``.

    ``status`` is that of the weakest constant behind the line (``assumed`` before ``derived``,
    ``public``, ``paper``, ``given``), ``source`` the source of a static line's constant.
    """

    part: str
    kind: str
    factor: str
    energy_j: float
    energy_low_j: float
    energy_high_j: float
    origin: str
    status: str = ""
    source: str = ""


class EnergyBook:
    """Adds up spans chunk by chunk; memory grows with the number of parts and kinds, not with the
    run.
    """

    def __init__(self) -> None:
        self._labels = Labels()
        self._sums = np.zeros((3, 0))

    def add(self, chunk: Chunk) -> None:
        """Enter a chunk of spans."""
        codes = self._labels.codes(*(chunk[name] for name in _KEY))
        size = len(self._labels)
        sums = np.zeros((3, size))
        sums[:, : self._sums.shape[1]] = self._sums
        for row, name in enumerate(_ENERGIES):
            sums[row] += np.bincount(codes, chunk[name], size)
        self._sums = sums

    def rows(
        self,
        static_power: Sequence[Mapping[str, Any]] = (),  # Any: rows of the manifest, JSON
        makespan_ps: int = 0,
        basis: Sequence[Mapping[str, Any]] = (),  # Any: likewise
    ) -> list[EnergyRow]:
        """The lines of the book, spans first, each group sorted by part and kind.

        Args:
            static_power: rows with ``part``, ``component``, ``power_w``, ``power_low_w``,
                ``power_high_w``, ``status`` and ``source``; each draws its power over the whole
                makespan.
            makespan_ps: end of the last span.
            basis: rows with ``part``, ``category`` and ``energy`` (constant -> status): what the
                energy of a category rests on.
        """
        statuses = {(row["part"], row["category"]): set(row["energy"].values()) for row in basis}
        energies: dict[tuple[str, str, str], np.ndarray] = {}
        known: dict[tuple[str, str, str], set[str]] = {}
        for (part, _, category, kind, factor), code in sorted(self._labels.items()):
            line, energy = (part, kind, factor), self._sums[:, code]
            energies[line] = energies.get(line, np.zeros(3)) + energy
            found = statuses.get((part, category), set()) if energy.any() else set()
            known[line] = known.get(line, set()) | found
        spans = [
            EnergyRow(
                *line,
                *_three(energy.tolist()),
                "spans",
                min(known[line], key=STRENGTH.index, default=""),
            )
            for line, energy in sorted(energies.items(), key=lambda item: item[0])
        ]
        return spans + sorted(_static(row, to_s(makespan_ps)) for row in static_power)


def _static(row: Mapping[str, Any], seconds: float) -> EnergyRow:  # Any: a row of JSON
    joules = _three(
        [float(row[name]) * seconds for name in ("power_w", "power_low_w", "power_high_w")]
    )
    return EnergyRow(
        row["part"],
        row["component"],
        "",
        *joules,
        "static",
        row.get("status", ""),
        row.get("source", ""),
    )


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    nominal, low, high = values
    return nominal, low, high


def total(rows: Iterable[EnergyRow]) -> tuple[float, float, float]:
    """Sum of the lines: nominal, low and high, in joules."""
    joules = [(row.energy_j, row.energy_low_j, row.energy_high_j) for row in rows]
    return _three(np.array(joules, float).reshape(-1, 3).sum(axis=0).tolist())
