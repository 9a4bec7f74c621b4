"""The energy of a whole run under other constants, added up as the run's own book does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from hybridsim.hardware.kinds import PARTS
from hybridsim.scenario.datasheets.sheets import Datasheet
from hybridsim.studies.retiming.evaluate import shares_of
from hybridsim.studies.retiming.recording import Recording
from hybridsim.trace.ledger import ENERGY_COLUMNS, EnergyBook, total
from hybridsim.trace.spans import CHUNK_ROWS

Sheets = Mapping[str, Datasheet]
End = Literal["low", "high"] | None
_LABELS = ENERGY_COLUMNS[:-3]
_POWERS = ("power_w", "power_low_w", "power_high_w")
_ENDS: tuple[End, ...] = (None, "low", "high")


class Energies:
    """Prices a recording's spans: ``of(sheets, moments)``."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._labels = {
            name: np.array([getattr(row, name) for row in recording.spans], dtype=object)
            for name in _LABELS
        }
        self._ids = np.array([row.id for row in recording.spans])

    def of(self, sheets: Sheets, moments: np.ndarray) -> tuple[float, float, float]:
        """Joules of the run: nominal, and with every constant of energy at its low and high end.

        Args:
            sheets: by part.
            moments: (nodes,) of the recording under these sheets.
        """
        recording = self._recording
        shares = shares_of(recording, moments)
        amounts = shares * recording.amounts
        turn = np.lexsort((self._turns(shares), moments[recording.ends], shares < 1))
        columns = {name: labels[turn] for name, labels in self._labels.items()}
        for name, end in zip(ENERGY_COLUMNS[-3:], _ENDS, strict=True):
            columns[name] = (self._prices(sheets, end)[recording.asked_of] * amounts)[turn]
        book = EnergyBook()
        for first in range(0, len(turn), CHUNK_ROWS):
            rows = slice(first, first + CHUNK_ROWS)
            book.add({name: column[rows] for name, column in columns.items()})
        end_ps = int(moments[recording.steps[-1].moment])
        return total(book.rows(self._static(sheets), end_ps))

    def _turns(self, shares: np.ndarray) -> np.ndarray:
        """Of spans that end together the recorded order; of those that were cut their numbers."""
        return np.where(shares < 1, self._ids, np.arange(len(self._ids)))

    def _prices(self, sheets: Sheets, end: End) -> np.ndarray:
        """(asked,): joules of one unit, nominal or at an end of the band."""
        corner = _corners(end)
        found = []
        for part, request in self._recording.asked:
            sheet = sheets.get(part)
            tariff = None if sheet is None else PARTS[sheet.kind].tariffs.get(type(request))
            if sheet is None or tariff is None:  # a pause
                found.append(0.0)
            else:
                found.append(tariff.energy(corner(sheet, tariff.falls_with), request))
        return np.array(found, dtype=float)

    def _static(self, sheets: Sheets) -> list[dict[str, float | str]]:
        """What draws power at the end, as rows of the manifest."""
        return [
            {
                "part": part,
                "component": row.component,
                **dict(zip(_POWERS, row.powers_w(sheets[part]), strict=True)),
            }
            for part, rows in self._recording.steps[-1].standing.items()
            for row in rows
        ]


def _corners(
    end: End,
) -> Callable[[Datasheet, frozenset[str]], Datasheet]:
    """Sheets at an end of their ranges, each made once."""
    known: dict[tuple[int, frozenset[str]], Datasheet] = {}

    def corner(sheet: Datasheet, falls_with: frozenset[str]) -> Datasheet:
        if end is None:
            return sheet
        key = (id(sheet), falls_with)
        if key not in known:
            known[key] = sheet.corner(end, falls_with)
        return known[key]

    return corner
