"""A claim as it was tested, and figures as they are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Summary = Mapping[str, Any]  # Any: each result's summary has a form of its own
Text = Callable[[Summary], str]

TNGD = "Thermodynamic natural gradient descent (arXiv 2405.13817)"
KFAC = "Thermodynamic K-FAC (arXiv 2502.08603)"
OURS = "Not a paper's claim"


class Claim(NamedTuple):
    """A claim as it was tested.

    Attributes:
        code: short name, and the heading on the page.
        paper: whose it is.
        text: what is claimed.
        result: the file in ``results`` without ``.json``; a page of ``claims`` tells more.
        page: that page, without ``.md``.
        verdict: from the result's summary.
        figure: the number that the verdict rests on, from the summary.
    """

    code: str
    paper: str
    text: str
    result: str
    page: str
    verdict: Text
    figure: Text


def interval(found: Summary, unit: str = "", scale: float = 1.0, digits: int = 3) -> str:
    """Mean and interval, ``0.13 [0.08, 0.20] unit``."""
    mean, low, high = (f"{scale * found[key]:.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]{unit and ' ' + unit}"
