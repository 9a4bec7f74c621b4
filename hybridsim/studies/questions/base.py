"""What every question answers, and what it is given to find the answer with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import pandas as pd

from hybridsim.scenario.fields import Strict
from hybridsim.scenario.quantity import Raw

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from hybridsim.studies.schema import Study

Values = Mapping[str, Raw]
"""Fields of a scenario by dotted path, as a scenario file writes them."""


class RangedConstant(NamedTuple):
    """A constant that its datasheet gives a range.

    Attributes:
        name: ``<datasheet>.<key>``, e.g. ``a100-sxm4-80gb.launch_interval``: parts of one
            datasheet share it, on all sides.
        value: nominal, in SI units.
        low: lowest, in SI units.
        high: highest, in SI units.
        unit: of the datasheet's file.
        status: as the datasheet says, e.g. ``assumed``.
        numeric: it changes numbers that are computed, not only what they cost.
        sides: the sides whose machines have it.
    """

    name: str
    value: float
    low: float
    high: float
    unit: str
    status: str
    numeric: bool
    sides: tuple[str, ...]


class Lab(Protocol):
    """Where a question gets its numbers: a study's points, and further ones on request.

    Tables have a row for each (side, seed, values): columns ``side``, ``seed``, ``point``, one for
    each field that varies (as the file writes it), and those of ``studies.outcome``.
    """

    study: Study
    table: pd.DataFrame
    """The study's own points."""

    def rows(
        self,
        values: Sequence[Values],
        sides: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> pd.DataFrame:
        """The outcome at other values of fields, one row for each of these, side and seed; what is
        known already is not run again.
        """

    def constants(self, values: Values | None = None) -> list[RangedConstant]:
        """The ranged constants of all sides' parts."""

    def with_constants(
        self,
        settings: Sequence[Mapping[str, float]],
        values: Values | None = None,
        simulate: int = 60,
    ) -> pd.DataFrame:
        """The outcome under other values of constants: one row for each of ``settings``, side and
        seed, with the column ``draw``, the number of its setting. Constants that are not named keep
        their nominal values.

        Draws are retimed from a recorded run. Those for which it does not hold are simulated, for
        each side and seed the first ``simulate`` of them; the others say ``not evaluated`` under
        ``how`` and have no numbers.
        """


@dataclass(frozen=True)
class Answer:
    """What a question found.

    Attributes:
        sentence: the answer, with its interval, in one sentence.
        notes: what else must be said of it: what it rests on, what was left out.
        table: its numbers.
        trusted: no point that decides it is marked.
        facts: its numbers by name, for machines; goes to ``study.json``.
    """

    sentence: str
    notes: tuple[str, ...] = ()
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    trusted: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)  # Any: goes to JSON


class Question(Strict, ABC):
    """A kind of question: a subclass in a module of its own, named like its ``kind``."""

    kind: str
    adaptive: ClassVar[bool] = False
    """It asks for points beside the study's own."""

    @abstractmethod
    def answer(self, lab: Lab) -> Answer:
        """Find the answer.

        Raises:
            InputError: the study does not fit the question.
        """

    @abstractmethod
    def picture(self, lab: Lab, answer: Answer) -> go.Figure:
        """The answer as a picture."""

    def problems(self, study: Study) -> list[tuple[tuple[str | int, ...], str, str]]:
        """What of the study does not fit the question, before anything runs: (path in the study
        file, expected, got).
        """
        return []
