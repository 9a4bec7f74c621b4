"""Where a question gets its numbers: the study's points, and further ones on request."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import pandas as pd

from hybridsim.studies.collect.collector import Collector
from hybridsim.studies.drawing import SIMULATED, outcomes_under
from hybridsim.studies.outcome import Outcome
from hybridsim.studies.points import Point, point
from hybridsim.studies.questions.base import RangedConstant, Values
from hybridsim.studies.retiming.draws import ranged_constants
from hybridsim.studies.schema import Study
from hybridsim.studies.table import table_of


class StudyLab:
    """The lab of one launch; see ``questions.base.Lab``.

    Args:
        study: the study, settings chosen.
        points: its own points.
        collector: where outcomes come from.
    """

    def __init__(self, study: Study, points: Sequence[Point], collector: Collector) -> None:
        self.study, self.points, self._collector = study, points, collector
        self.further: list[Point] = []
        """Points that were asked for beside the study's own, in order."""
        self._axes = [field for axis in study.axes for field in axis.fields]
        self.table = table_of(points, self._known(), self._axes)

    def rows(
        self,
        values: Sequence[Values],
        sides: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> pd.DataFrame:
        """The outcome at other values of fields; see ``questions.base.Lab``.

        Raises:
            InputError: a value does not fit its field.
        """
        asked = [
            point(self.study, side, seed, one)
            for one in values
            for side in (sides if sides is not None else self._sides)
            for seed in (seeds if seeds is not None else self.study.seeds)
        ]
        self.further += asked
        return self._table(asked)

    def constants(self, values: Values | None = None) -> list[RangedConstant]:
        """The ranged constants of all sides' parts; see ``questions.base.Lab``."""
        points = self._at(values, self.study.seeds[:1])
        return ranged_constants({point.side: point.scenario for point in points})

    def with_constants(
        self,
        settings: Sequence[Mapping[str, float]],
        values: Values | None = None,
        simulate: int = SIMULATED,
    ) -> pd.DataFrame:
        """The outcome under other values of constants; see ``questions.base.Lab``.

        Raises:
            InputError: the draws of a point cannot be evaluated.
        """
        points = self._at(values, self.study.seeds)
        at = functools.partial(point, self.study)
        return outcomes_under(points, settings, self._collector, at, simulate)

    def everything(self) -> pd.DataFrame:
        """The study's own points, and what was asked for beside them; missing ones too."""
        own = {(p.side, p.seed, *map(repr, p.combination.items())) for p in self.points}
        seen, further = set(own), []
        for one in self.further:
            key = (one.side, one.seed, *map(repr, one.combination.items()))
            further += [] if key in seen else [one]
            seen.add(key)
        known = self._known()
        return table_of([*self.points, *further], known, self._axes)

    def _at(self, values: Values | None, seeds: Sequence[int]) -> list[Point]:
        return [point(self.study, s, seed, values or {}) for s in self._sides for seed in seeds]

    @property
    def _sides(self) -> list[str]:
        return [side.name for side in self.study.sides]

    def _table(self, points: Sequence[Point]) -> pd.DataFrame:
        return table_of(points, self._collector.outcomes(points), self._axes)

    def _known(self) -> dict[str, Outcome]:
        return {name: record.found.outcome for name, record in self._collector.known.items()}
