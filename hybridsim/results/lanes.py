"""What every lane of every part did: how busy it was, how long operations waited for it, its
work.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from hybridsim.trace.chunks import Chunk, Labels
from hybridsim.units import to_s

WORK_COLUMNS = ("flop", "bytes", "launches", "bits", "conversions", "writes")
LANE_COLUMNS = ("part", "lane", "kind", "queued_ps", "start_ps", "end_ps", "busy_ps", *WORK_COLUMNS)
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
        self._add_waits(self._lanes.codes(chunk["part"], chunk["lane"]), wait)

    def _add_sums(self, chunk: Chunk, wait: np.ndarray) -> None:
        codes = self._kinds.codes(chunk["part"], chunk["lane"], chunk["kind"])
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

    def times(self) -> list[dict[str, Any]]:
        """Per part, lane and kind: spans, time in service, time waited, work; largest time
        first.
        """
        rows = []
        for (part, lane, kind), code in self._kinds.items():
            sums = dict(zip(_SUMS, self._sums[:, code].tolist(), strict=True))
            times = {
                f"{name}_s": sums.pop(f"{name}_ps") * 1e-12 for name in ("time", "busy", "wait")
            }
            rows.append({"part": part, "lane": lane, "kind": kind, **times, **_counts(sums)})
        return sorted(rows, key=lambda row: (-row["time_s"], row["part"], row["lane"], row["kind"]))

    def lanes(self) -> list[dict[str, Any]]:
        """Per part and lane: utilisation, waiting and work, in alphabetic order.

        ``utilisation`` is the time in service over the makespan: for a lane that serves one
        operation at a time the share of time it was taken, else the mean number in service.
        ``busy_share`` counts only the time in which the resource did what it is for. ``queue_mean``
        is the mean number waiting, by Little's law arrival rate times mean wait. ``wait_p95_s`` is
        rounded up by at most 1.1 %.
        """
        waits = self._waits_by_lane()
        return [
            self._lane(part, lane, code, waits[code])
            for (part, lane), code in sorted(self._lanes.items())
        ]

    def _lane(self, part: str, lane: str, code: int, waits: Counter[int]) -> dict[str, Any]:
        own = [column for key, column in self._kinds.items() if key[:2] == (part, lane)]
        sums = dict(zip(_SUMS, self._sums[:, own].sum(axis=1).tolist(), strict=True))
        span_ps = max(self.makespan_ps, 1)
        longest_s = float(self._longest[code]) * 1e-12
        return {
            "part": part,
            "lane": lane,
            "utilisation": sums.pop("time_ps") / span_ps,
            "busy_share": sums.pop("busy_ps") / span_ps,
            "queue_mean": sums["wait_ps"] / span_ps,
            "wait_mean_s": sums.pop("wait_ps") * 1e-12 / sums["spans"],
            "wait_p95_s": min(_quantile(waits, 0.95) * 1e-12, longest_s),
            "wait_max_s": longest_s,
            **_counts(sums),
        }

    def _waits_by_lane(self) -> dict[int, Counter[int]]:
        found: defaultdict[int, Counter[int]] = defaultdict(Counter)
        for code, count in self._waits.items():
            found[code // _BINS][code % _BINS] += count
        return found

    def simulated_s(self) -> float:
        """The makespan: end of the last span."""
        return to_s(self.makespan_ps)


def _counts(sums: dict[str, float]) -> dict[str, float | int]:
    return {
        name: value if name in ("flop", "bytes") else int(value) for name, value in sums.items()
    }


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
