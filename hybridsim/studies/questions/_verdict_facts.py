"""The numbers of verdicts, for machines and for the answer's table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hybridsim.reports.statistics import Share
from hybridsim.studies.questions._verdict import QUANTILES, Drawn, Verdict


def facts_of(drawn: Drawn, sides: Sequence[str]) -> dict[str, Any]:  # Any: goes to JSON
    """Its numbers by name."""
    return {
        "values": drawn.values,
        "drawn": [one.name for one in drawn.varied],
        "held": [one.name for one in drawn.held],
        "numeric_points": drawn.clusters,
        "verdicts": {one.measure: _facts(one, sides) for one in drawn.verdicts},
    }


def lines_of(drawn: Drawn, sides: Sequence[str]) -> list[dict[str, Any]]:  # Any: numbers and words
    """Lines of the answer's table: each measure's shares and quantiles."""
    return [
        {
            **drawn.values,
            "measure": one.measure,
            **{
                f"{side} {name}": getattr(share, field)
                for side, share in zip(sides, one.wins, strict=True)
                for name, field in (("wins", "share"), ("low", "low"), ("high", "high"))
            },
            **{
                f"ratio {100 * at:g} %": value
                for at, value in zip(QUANTILES, one.quantiles, strict=True)
            },
            "draws": one.evaluated,
            "mark": "; ".join(filter(None, one.marks)),
        }
        for one in drawn.verdicts
    ]


def _shares(shares: tuple[Share, Share], sides: Sequence[str]) -> dict[str, dict[str, float]]:
    return {
        side: {"share": share.share, "low": share.low, "high": share.high}
        for side, share in zip(sides, shares, strict=True)
    }


def _facts(one: Verdict, sides: Sequence[str]) -> dict[str, Any]:  # Any: goes to JSON
    return {
        "wins": _shares(one.wins, sides),
        "interval": {side: share.method for side, share in zip(sides, one.wins, strict=True)},
        "lower": dict(zip(sides, one.lower, strict=True)),
        "neither": one.neither,
        "wins_detectably": _shares(one.detected, sides),
        "seeds": one.seeds,
        "draws": one.draws,
        "evaluated": one.evaluated,
        "not_retimed": one.again,
        "ratio_quantiles": dict(zip(map(str, QUANTILES), one.quantiles, strict=True)),
        "ratios": [ratio for ratio in one.ratios if 0 < ratio < math.inf],
        "by_ratio": one.by_ratio,
        "deciding": [
            {
                "constant": own.constant.name,
                "status": own.constant.status,
                "influence": own.influence,
                "won_in_lowest_third": own.low,
                "won_in_highest_third": own.high,
                "ratio_in_lowest_third": own.ratio_low,
                "ratio_in_highest_third": own.ratio_high,
            }
            for own in one.deciding
        ],
        "marks": dict(zip(sides, one.marks, strict=True)),
    }
