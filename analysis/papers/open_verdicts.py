"""What the results say of questions that the papers leave open."""

from __future__ import annotations

from analysis.papers.claim import OURS, Claim, Summary

GGN, SAMPLED = "TNGD, GGN", "TNGD, sampled Fisher"
_OVER = "over the fastest digital second-order step"


def _last_ahead(summary: Summary, network: str, side: str) -> int:
    """The largest number of outputs up to which a step is faster than every digital one's."""
    ahead = 0
    for outputs, found in summary[f"costs, {network}"].items():
        if found[_OVER].get(side, 2.0) >= 1.0:
            break
        ahead = int(outputs)
    return ahead


def _competitive(summary: Summary) -> str:
    """``holds`` up to the largest number that was priced."""
    largest = [int(list(summary[f"costs, {n}"])[-1]) for n in ("classes", "tokens")]
    ends = [_last_ahead(summary, n, GGN) for n in ("classes", "tokens")]
    return "holds" if ends == largest else "does not"


def _until(summary: Summary) -> str:
    told = [
        f"{name} up to {_last_ahead(summary, 'classes', side):,} classes and "
        f"{_last_ahead(summary, 'tokens', side):,} tokens"
        for name, side in (("GGN", GGN), ("sampled Fisher", SAMPLED))
    ]
    return "a step is faster than K-FAC's and NGD-CG's: " + "; ".join(told)


CLAIMS = (
    Claim(
        "Outputs",
        OURS,
        "TNGD stays ahead of digital second-order steps at any output dimension",
        "output_dimension",
        "output_dimension",
        _competitive,
        _until,
    ),
)
