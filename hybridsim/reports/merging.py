"""Fewer bars: neighbours on a lane become one, the closest first, until a chart can hold them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

_SUMS = (
    "count",
    "energy_j",
    "energy_low_j",
    "energy_high_j",
    "bits",
    "conversions",
    "writes",
    "launches",
    "flop",
)
_FIRST = (
    "part",
    "lane",
    "role",
    "kind",
    "layer",
    "step",
    "own",
    "id",
    "parents",
    "blocker",
    "note",
    "queued_ps",
)
_WAIT = ("part", "lane", "kind", "blocker", "start_ps", "end_ps", "wait_ps", "spans")
SEVERAL = "several kinds"


class Bars(NamedTuple):
    """Bars of service and of waiting; each row of ``service`` stands for ``spans`` operations.

    ``service`` has the columns of the spans (sums for energy and work, the first one's for names),
    ``spans``, ``service_ps`` (sum of the durations), ``wait_ps`` (sum of the waits) and
    ``critical``. ``waits`` has the columns of ``_WAIT``. ``merged`` counts the operations that
    share a bar of service with another one.
    """

    service: pd.DataFrame
    waits: pd.DataFrame
    merged: int


def bars(spans: pd.DataFrame, limit: int) -> Bars:
    """Bars of service and waiting for spans, ``limit`` at most.

    First neighbours of one part, lane and kind are joined, gap by gap; if every such pair is joined
    and there are still too many, neighbours of different kinds are.

    Args:
        spans: rows of the span table with ``own`` (of the step that is drawn) and ``critical``.
        limit: bars that may be drawn, service and waiting together; not fewer than two per lane are
            possible.
    """
    service = spans.assign(spans=1, service_ps=spans["end_ps"] - spans["start_ps"])
    service["wait_ps"] = service["start_ps"] - service["queued_ps"]
    service = service.sort_values(["part", "lane", "start_ps", "end_ps", "id"], ignore_index=True)
    waits = service[service["wait_ps"] > 0].drop(columns="end_ps")
    waits = waits.rename(columns={"start_ps": "end_ps", "queued_ps": "start_ps"})[list(_WAIT)]
    waits = waits.sort_values(["part", "lane", "start_ps", "end_ps"], ignore_index=True)
    if len(service) + len(waits) <= limit:
        return Bars(service, waits, 0)
    own, other = _groups(service, waits, limit)
    joined = _join_service(service, own)
    return Bars(
        joined, _join_waits(waits, other), int(joined.loc[joined["spans"] > 1, "spans"].sum())
    )


def _groups(
    service: pd.DataFrame, waits: pd.DataFrame, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """The number of the bar that each row becomes a part of, for the smallest gap that is
    enough.
    """
    length = max(int(service["end_ps"].max() - service["start_ps"].min()), 1)
    found: tuple[np.ndarray, np.ndarray] | None = None
    for columns in (["part", "lane", "kind", "own"], ["part", "lane"]):
        for share in (0.0, *np.geomspace(1e-5, 1.0, 16), np.inf):
            found = (
                _runs(service, columns, share * length),
                _runs(waits, ["part", "lane"], share * length),
            )
            if found[0].max(initial=-1) + found[1].max(initial=-1) + 2 <= limit:
                return found
    assert found is not None, "the loops above are not empty"
    return found


def _runs(frame: pd.DataFrame, columns: list[str], gap_ps: float) -> np.ndarray:
    """Numbers the runs of rows that agree in ``columns`` and follow each other within a gap, shape
    (rows,).
    """
    same = frame[columns].eq(frame[columns].shift()).all(axis=1).to_numpy()
    reached = frame.groupby(["part", "lane"], sort=False)["end_ps"].cummax().shift().to_numpy(float)
    near = frame["start_ps"].to_numpy(float) - reached <= gap_ps
    return np.cumsum(~(same & near)) - 1


def _join_service(frame: pd.DataFrame, groups: np.ndarray) -> pd.DataFrame:
    grouped = frame.groupby(groups)
    sums = grouped[[*_SUMS, "spans", "service_ps", "wait_ps"]].sum()
    ends = grouped.agg(
        start_ps=("start_ps", "min"), end_ps=("end_ps", "max"), critical=("critical", "any")
    )
    joined = pd.concat([grouped[list(_FIRST)].first(), sums, ends], axis=1)
    joined.loc[grouped["kind"].nunique() > 1, "kind"] = SEVERAL
    joined.loc[~grouped["own"].all(), "own"] = False
    return joined


def _join_waits(frame: pd.DataFrame, groups: np.ndarray) -> pd.DataFrame:
    rules = dict.fromkeys(_WAIT, "first") | {
        "start_ps": "min",
        "end_ps": "max",
        "wait_ps": "sum",
        "spans": "sum",
    }
    return frame.groupby(groups).agg(rules)
