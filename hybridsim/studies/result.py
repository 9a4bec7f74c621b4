"""What a study found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from hybridsim.reports.study_view import StudyView
from hybridsim.results.read import Run
from hybridsim.studies.outcome import MISSING, WITH_RESULT
from hybridsim.studies.point_report import run_of_point
from hybridsim.studies.questions.base import Answer
from hybridsim.studies.schema import Study


@dataclass(frozen=True)
class StudyResult:
    """What a study found; shows itself in a notebook.

    Attributes:
        study: the study.
        folder: where everything is.
        points: the table of points: a row for each side, seed and combination of values.
        answer: to the question; None where there is none: ``reason`` says why.
        reason: why there is no answer; of a shard: others have the rest.
        report: the page; None for a shard.
        view: what the page shows; None for a shard.
        temporary: what must live as long as this object (a temporary folder), or None.
    """

    study: Study
    folder: Path
    points: pd.DataFrame
    answer: Answer | None = None
    reason: str = ""
    report: Path | None = None
    view: StudyView | None = field(default=None, repr=False)
    temporary: Any = field(default=None, repr=False, compare=False)  # Any: a temporary folder

    @property
    def sentence(self) -> str:
        """The answer in one sentence, or why there is none."""
        return self.answer.sentence if self.answer is not None else self.reason

    @property
    def failed(self) -> pd.DataFrame:
        """The points that were evaluated and have no result, each once."""
        lost = ~self.points["status"].isin((WITH_RESULT, MISSING.status))
        return self.points[lost].drop_duplicates("point")

    def run(self, point: str) -> Run:
        """The whole run of a point, with its learning curve and its spans. It is made when it is
        first asked for, from the study's facts where these are there, and stays in its folder.

        Args:
            point: its id, as in the column ``point``.

        Raises:
            InputError: there is no such point, or it cannot run.
            HybridsimError: it has no result.
        """
        return run_of_point(self.folder / "points" / point)

    def _repr_html_(self) -> str:
        """The sentence, its numbers and the picture."""
        from hybridsim.reports.study import study_html

        if self.view is None:
            return f"<p>{self.sentence}</p>"
        return study_html(self.view)
