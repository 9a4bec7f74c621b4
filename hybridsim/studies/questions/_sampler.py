"""Optuna's TPE sampler, asked and told in batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from hybridsim.scenario.quantity import Raw
from hybridsim.studies.axes import Range
from hybridsim.studies.values import number

if TYPE_CHECKING:
    import optuna

_EDGE = 0.02
"""A value within this share of its range from an end lies at the edge."""


class Space(NamedTuple):
    """Where a field's value is looked for.

    Attributes:
        field: its dotted path.
        choices: values to choose among; empty: a range.
        range: a range, or None.
    """

    field: str
    choices: tuple[Raw, ...]
    range: Range | None

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """Numbers of choices, whole numbers, or shares of the range."""
        from optuna.distributions import (
            CategoricalDistribution,
            FloatDistribution,
            IntDistribution,
        )

        if self.range is None:
            return CategoricalDistribution(range(len(self.choices)))
        if self.range.whole:
            return IntDistribution(self.range.low, self.range.high, log=self.range.log)
        return FloatDistribution(0.0, 1.0)

    def value(self, found: Raw) -> Raw:
        """The field's value for what the sampler chose."""
        if self.range is None:
            return self.choices[found]
        return found if self.range.whole else self.range.at(found)

    def at_edge(self, value: Raw) -> bool:
        """Does a value lie at an end of its range? Choices have no ends."""
        if self.range is None:
            return False
        low, high, at = (
            number(self.range.low, one) for one in (self.range.low, self.range.high, value)
        )
        assert low is not None and high is not None and at is not None, "numbers"
        if self.range.whole:
            return at in (low, high)
        if self.range.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return not _EDGE < (at - low) / (high - low) < 1 - _EDGE


class Sampler:
    """Chooses values from what it was told, the same ones from the same seed."""

    def __init__(self, spaces: Sequence[Space], seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # A constant liar keeps the members of a batch apart, whose outcome is not known yet.
        sampler = optuna.samplers.TPESampler(seed=seed % 2**32, constant_liar=True)
        self._study = optuna.create_study(sampler=sampler)
        self._failed = optuna.trial.TrialState.FAIL
        self._spaces = list(spaces)
        self._open: list[optuna.trial.Trial] = []

    def ask(self, count: int) -> list[list[Raw]]:
        """Values of all fields, for each of so many evaluations."""
        distributions = {space.field: space.distribution() for space in self._spaces}
        self._open = [self._study.ask(distributions) for _ in range(count)]
        return [
            [space.value(trial.params[space.field]) for space in self._spaces]
            for trial in self._open
        ]

    def tell(self, values: Sequence[float]) -> None:
        """What came of them; NaN: nothing is known."""
        for trial, value in zip(self._open, values, strict=True):
            if math.isnan(value):
                self._study.tell(trial, state=self._failed)
            else:
                self._study.tell(trial, value)
