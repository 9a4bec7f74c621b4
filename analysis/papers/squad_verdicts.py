"""What T10's result says, each statement by the test loss after the last step."""

from __future__ import annotations

from analysis.papers.claim import TNGD, Claim, Summary, Text, interval

RANKS = ("tngd-adam minus adam", "tngd-adam minus tngd")
TIMES = ("0.2 minus 0.1 tau", "0.4 minus 0.2 tau")


def _loss(summary: Summary, name: str) -> Summary:
    found: Summary = summary["test_loss"][name]
    return found


def _lower(found: Summary) -> str:
    """Whether a difference is below zero."""
    if not found["separable"]:
        return "not separable"
    return "holds" if found["mean"] < 0 else "does not"


def _worse(summary: Summary) -> str:
    words = {"holds": "does not", "does not": "holds"}
    found = _lower(_loss(summary, "tngd minus adam"))
    return words.get(found, found)


def _all_lower(*names: str) -> Text:
    """Holds where every difference is below zero; one above zero is enough that it does not."""

    def told(summary: Summary) -> str:
        if not set(names) <= set(summary["test_loss"]):
            return "not run"
        found = {_lower(_loss(summary, name)) for name in names}
        return next(word for word in ("does not", "not separable", "holds") if word in found)

    return told


def _figure(*names: str) -> Text:
    def told(summary: Summary) -> str:
        parts = [f"{n} {interval(_loss(summary, n))}" for n in names if n in summary["test_loss"]]
        return f"test loss, {'; '.join(parts)}" if parts else "none"

    return told


def _claim(code: str, text: str, verdict: Text, figure: Text) -> Claim:
    return Claim(code, TNGD, text, "t10_squad", "t10", verdict, figure)


CLAIMS = (
    _claim(
        "T10a",
        "Fine-tuning for questions: TNGD (0.4 τ) is worse than Adam",
        _worse,
        _figure("tngd minus adam"),
    ),
    _claim("T10b", "… TNGD-Adam (0.4 τ) is best", _all_lower(*RANKS), _figure(*RANKS)),
    _claim(
        "T10c",
        "… and the better the longer it settles, 0.1, 0.2, 0.4 τ",
        _all_lower(*TIMES),
        _figure(*TIMES, "0.4 minus 0.1 tau"),
    ),
)
