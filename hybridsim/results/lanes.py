"""What every lane of every part did: how busy it was, how long operations waited for it, its
work.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import cast

import numpy as np

from hybridsim.results.keys import LaneUse, OperationTimes
from hybridsim.trace.chunks import Chunk, Labels
from hybridsim.units import to_s

WORK_COLUMNS = ("flop", "bytes", "launches", "bits", "conversions", "writes")
_LANE = ("part", "lane", "role")
_OPERATION = (*_LANE, "category", "kind", "factor")
LANE_COLUMNS = (*_OPERATION, "queued_ps", "start_ps", "end_ps", "busy_ps", *WORK_COLUMNS)
"""Columns of the span table that the books read."""
_SUMS = ("spans", "time_ps", "busy_ps", "wait_ps", *WORK_COLUMNS)
_BINS_PER_OCTAVE = 64
_BINS = 64 * _BINS_PER_OCTAVE


class LaneBook:
    """Adds up spans chunk by chunk; memory grows with the number of lanes and kinds, not with the
    run.
    """

    def __init__(self) -> None:
        self.makespan_ps = 0
        self.spans = 0
        self._kinds = Labels()
        self._lanes = Labels()
        self._sums = np.zeros((len(_SUMS), 0))
        self._longest = np.zeros(0)
        self._waits: Counter[int] = Counter()

    def add(self, chunk: Chunk) -> None:
        """Enter a chunk of spans."""
        if not len(chunk["end_ps"]):
            return
        self.spans += len(chunk["end_ps"])
        self.makespan_ps = max(self.makespan_ps, int(chunk["end_ps"].max()))
        wait = (chunk["start_ps"] - chunk["queued_ps"]).astype(float)
        self._add_sums(chunk, wait)
        self._add_waits(self._lanes.codes(*(chunk[name] for name in _LANE)), wait)

    def _add_sums(self, chunk: Chunk, wait: np.ndarray) -> None:
        codes = self._kinds.codes(*(chunk[name] for name in _OPERATION))
        weights = [np.ones(len(codes)), chunk["end_ps"] - chunk["start_ps"], chunk["busy_ps"], wait]
        weights += [chunk[name] for name in WORK_COLUMNS]
        sums = np.zeros((len(_SUMS), len(self._kinds)))
        sums[:, : self._sums.shape[1]] = self._sums
        for row, weight in enumerate(weights):
            sums[row] += np.bincount(codes, weight, len(self._kinds))
        self._sums = sums

    def _add_waits(self, codes: np.ndarray, wait: np.ndarray) -> None:
        longest = np.zeros(len(self._lanes))
        longest[: len(self._longest)] = self._longest
        np.maximum.at(longest, codes, wait)
        self._longest = longest
        found, counts = np.unique(codes * _BINS + _bins(wait), return_counts=True)
        self._waits.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))

    def times(self) -> list[OperationTimes]:
        """Per part, lane and operation: time in service, waited, work; largest time first."""
        rows = []
        for key, code in self._kinds.items():
            sums = dict(zip(_SUMS, self._sums[:, code].tolist(), strict=True))
            row = {
                **dict(zip(_OPERATION, key, strict=True)),
                **{f"{name}_s": sums[f"{name}_ps"] * 1e-12 for name in ("time", "busy", "wait")},
                **_counts(sums),
            }
            rows.append(cast("OperationTimes", row))
        return sorted(
            rows,
            key=lambda row: (
                -row["time_s"],
                row["part"],
                row["lane"],
                row["kind"],
                row["factor"],
            ),
        )

    def lanes(self) -> list[LaneUse]:
        """Per part and lane, in alphabetic order; see :class:`LaneUse`."""
        waits = self._waits_by_lane()
        return [self._lane(key, code, waits[code]) for key, code in sorted(self._lanes.items())]

    def _lane(self, key: tuple[str, ...], code: int, waits: Counter[int]) -> LaneUse:
        own = [column for other, column in self._kinds.items() if other[: len(_LANE)] == key]
        sums = dict(zip(_SUMS, self._sums[:, own].sum(axis=1).tolist(), strict=True))
        span_ps = max(self.makespan_ps, 1)
        longest_s = float(self._longest[code]) * 1e-12
        lane = {
            **dict(zip(_LANE, key, strict=True)),
            "utilisation": sums["time_ps"] / span_ps,
            "busy_share": sums["busy_ps"] / span_ps,
            "queue_mean": sums["wait_ps"] / span_ps,
            "wait_mean_s": sums["wait_ps"] * 1e-12 / sums["spans"],
            "wait_p95_s": min(_quantile(waits, 0.95) * 1e-12, longest_s),
            "wait_max_s": longest_s,
            **_counts(sums),
        }
        return cast("LaneUse", lane)

    def _waits_by_lane(self) -> dict[int, Counter[int]]:
        found: defaultdict[int, Counter[int]] = defaultdict(Counter)
        for code, count in self._waits.items():
            found[code // _BINS][code % _BINS] += count
        return found

    def simulated_s(self) -> float:
        """The makespan: end of the last span."""
        return to_s(self.makespan_ps)


def _counts(sums: dict[str, float]) -> dict[str, float | int]:
    """Spans and work; whole numbers where they are."""
    counted = ("spans", *WORK_COLUMNS)
    return {n: sums[n] if n in ("flop", "bytes") else int(sums[n]) for n in counted}


def _bins(wait_ps: np.ndarray) -> np.ndarray:
    """Bin 0 holds zero; every other bin is 1.1 % wide."""
    with np.errstate(divide="ignore"):
        bins = np.floor(_BINS_PER_OCTAVE * np.log2(wait_ps)) + 1
    return np.where(wait_ps > 0, bins, 0).astype(np.int64)


def _quantile(bins: Counter[int], share: float) -> float:
    """Upper edge of the bin in which the quantile lies, in picoseconds."""
    need = share * sum(bins.values())
    for number, reached in _running(bins):
        if reached >= need:
            return 2.0 ** (number / _BINS_PER_OCTAVE) if number else 0.0
    return 0.0


def _running(bins: Counter[int]) -> Iterator[tuple[int, int]]:
    reached = 0
    for number in sorted(bins):
        reached += bins[number]
        yield number, reached
