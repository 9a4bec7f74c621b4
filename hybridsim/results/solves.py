"""How well a run's analog answers solved what was asked, and how near it came to its target."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from hybridsim.results.keys import Target

MOST_ERROR = 0.3
"""Relative error above which an answer is no solution of the system that was asked for."""
LEAST_COSINE = 0.9
"""Cosine with the exact solution below which an asynchronous reading is another direction."""


class Solves(NamedTuple):
    """The readings of a run that were checked against the exact solution.

    Attributes:
        error: median of ‖answer - x‖/‖x‖.
        highest_error: the largest of them; NaN if one is not a number.
        above: how many are above ``MOST_ERROR``, or not a number.
        cosine: median cosine with x.
        lowest_cosine: the smallest of them.
        below: how many are below ``LEAST_COSINE``, or not a number.
        checked: how many there are.
    """

    error: float
    highest_error: float
    above: int
    cosine: float
    lowest_cosine: float
    below: int
    checked: int

    @property
    def solved(self) -> bool:
        """Whether the median reading is a solution."""
        return self.error <= MOST_ERROR


def solves(steps: pd.DataFrame) -> Solves | None:
    """Sum up ``solver_relative_error`` and ``solver_cosine`` of a learning curve.

    None where no reading was checked: no analog answers, no tensors, or no step evaluated. A value
    that is not a number counts as the worst.
    """
    columns = ("solver_relative_error", "solver_cosine")
    if any(name not in steps for name in columns):
        return None
    checked = steps[list(columns)].notna().any(axis=1)
    if "test_loss" in steps:  # evaluated at the same steps: NaN beside it was a diagnostic
        checked |= steps["test_loss"].notna()
    known = steps[checked]
    if not len(known):
        return None
    errors, cosines = (known[name].to_numpy(float) for name in columns)
    worst = np.where(np.isnan(errors), np.inf, errors)
    least = np.where(np.isnan(cosines), -np.inf, cosines)
    return Solves(
        float(np.median(worst)),
        float(worst.max()),
        int((worst > MOST_ERROR).sum()),
        float(np.median(least)),
        float(least.min()),
        int((least < LEAST_COSINE).sum()),
        len(known),
    )


EFFECTS = ("settling", "rounding", "device", "noise", "readout")
"""What an analog answer's error is split into, in the order in which they add up."""


def error_by_effect(steps: pd.DataFrame) -> dict[str, float]:
    """Medians of ``solver_error_<effect>``; empty where no error was split."""
    found = {effect: f"solver_error_{effect}" for effect in EFFECTS}
    return {
        effect: float(steps[name].median())
        for effect, name in found.items()
        if name in steps and steps[name].notna().any()
    }


def dissipation_over_minimum(steps: pd.DataFrame) -> float | None:
    """Median of what settles dissipated over the least possible; None where it is not known."""
    if "minimum_dissipation" not in steps:
        return None
    least = steps["minimum_dissipation"]
    known = (steps["settle_dissipation"] / least)[least > 0]
    return float(known.median()) if len(known) else None


def best_value(steps: pd.DataFrame, target: Target) -> float | None:
    """The value of a target's metric that came nearest to its threshold; None if not evaluated."""
    if target["metric"] not in steps:
        return None
    values = steps[target["metric"]].dropna()
    if not len(values):
        return None
    return float(values.max() if target["direction"] == "above" else values.min())
