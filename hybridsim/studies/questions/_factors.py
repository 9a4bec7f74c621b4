"""What a sensitivity question varies: constants or sampled axes, each over the unit interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hybridsim.scenario.quantity import Raw, format_quantity
from hybridsim.studies.axes import Range
from hybridsim.studies.questions._axes import names_of
from hybridsim.studies.questions._draws import (
    chosen,
    log_means,
    log_ratios,
    outcomes,
    values_at,
)
from hybridsim.studies.questions._measures import Measure
from hybridsim.studies.questions._sentences import field_words
from hybridsim.studies.questions.base import Lab, RangedConstant

if TYPE_CHECKING:
    from hybridsim.studies.schema import Study


@dataclass(frozen=True)
class ConstantFactors:
    """Ranged constants; NaN is nominal.

    Attributes:
        lab: where they are tried.
        constants: which.
        held: constants with a range that are not varied.
        simulate: how many draws may be simulated for each side and seed.
    """

    lab: Lab
    constants: list[RangedConstant]
    held: list[RangedConstant]
    simulate: int

    @property
    def names(self) -> list[str]:
        """``<datasheet>.<constant>``."""
        return [one.name for one in self.constants]

    @property
    def assumed(self) -> list[bool]:
        """Whether their datasheets say so."""
        return [one.status == "assumed" for one in self.constants]

    def ends(self) -> list[tuple[str, str]]:
        """Low and high of their datasheets."""
        return [(_show(one.low, one.unit), _show(one.high, one.unit)) for one in self.constants]

    def table(self, shares: np.ndarray) -> pd.DataFrame:
        """The outcome under other constants."""
        columns = [values_at(one, shares[:, k]) for k, one in enumerate(self.constants)]
        settings = [
            {
                one.name: float(column[draw])
                for one, column, share in zip(self.constants, columns, shares[draw], strict=True)
                if share == share
            }
            for draw in range(len(shares))
        ]
        return self.lab.with_constants(settings, None, self.simulate)


def _show(value: float, unit: str) -> str:
    return format_quantity(float(f"{value:.4g}"), unit) if unit else f"{value:.4g}"


@dataclass(frozen=True)
class AxisFactors:
    """Ranges of the study's sampled axes; NaN is the middle of a range.

    Attributes:
        lab: where they are tried.
        ranges: field -> range.
    """

    lab: Lab
    ranges: dict[str, Range]

    @property
    def names(self) -> list[str]:
        """Fields in words."""
        return [field_words(field) for field in self.ranges]

    @property
    def assumed(self) -> list[bool]:
        """The study gives them."""
        return [False] * len(self.ranges)

    def ends(self) -> list[tuple[str, str]]:
        """As the study file has them."""
        return [(str(span.low), str(span.high)) for span in self.ranges.values()]

    def table(self, shares: np.ndarray) -> pd.DataFrame:
        """The outcome at other values of the fields."""
        values: list[dict[str, Raw]] = [
            {
                field: span.at(0.5 if share != share else float(share))
                for (field, span), share in zip(self.ranges.items(), row, strict=True)
            }
            for row in shares
        ]
        found = self.lab.rows(values)
        each = len(found) // max(len(values), 1)
        return found.assign(draw=np.repeat(np.arange(len(values)), each))


def constant_factors(
    lab: Lab, asked: Sequence[str] | None, numeric: bool, simulate: int
) -> ConstantFactors:
    """The ranged constants that are asked for; numeric ones only if they are to vary."""
    ranged, others = chosen(lab.constants(), asked)
    varied = [one for one in ranged if numeric or not one.numeric]
    held = [*others, *(one for one in ranged if one not in varied)]
    return ConstantFactors(lab, varied, held, simulate)


def axis_factors(lab: Lab) -> AxisFactors:
    """The study's sampled axes."""
    return AxisFactors(lab, ranges_of(lab.study))


def ranges_of(study: Study) -> dict[str, Range]:
    """Ranges of sampled axes, by field."""
    found = {}
    for axis in study.axes:
        sample = study.axis_choices[axis.index].sample
        if axis.kind == "sample" and sample is not None:
            (field,) = axis.fields
            whole = all(type(value) is int for value in axis.values(field))
            found[field] = Range(sample.low, sample.high, sample.scale == "log", whole)
    return found


Factors = ConstantFactors | AxisFactors
"""Inputs of a model on the unit cube: what they are called, whether their ranges are assumed, their
ends as text, and the rows at places of the cube, with the column ``draw``.
"""


def logs_of(
    factors: Factors, measure: Measure, shares: np.ndarray
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Logarithm of the measure, of two sides of their ratio, at places of the cube: means over
    seeds, shape (draws,), and by seed, shape (draws, seeds); and the rows that they are from.
    """
    sides, table = names_of(factors.lab.study), factors.table(shares)
    came = outcomes(table, sides, measure, len(shares))
    gaps, single = log_ratios(came.values) if len(sides) == 2 else log_means(came.values)
    return gaps, single, table
