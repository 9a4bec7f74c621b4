"""What a study's page is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from hybridsim.reports.study_view import StudyView
from hybridsim.results.digest import canonical_json
from hybridsim.results.environment import releases
from hybridsim.results.keys import Json
from hybridsim.results.manifest import git_revision
from hybridsim.scenario.emit import emit
from hybridsim.studies.questions.base import Answer
from hybridsim.studies.schema import Study
from hybridsim.studies.table import KEYS
from hybridsim.studies.tuning import Tuned

if TYPE_CHECKING:
    import plotly.graph_objects as go


def provenance() -> dict[str, Json]:
    """Revision and versions."""
    return {"revision": git_revision(), "versions": releases()}


def view_of(
    study: Study,
    points: pd.DataFrame,
    answer: Answer,
    figure: go.Figure | None,
    tuned: Sequence[Tuned],
    notes: Sequence[str],
) -> StudyView:
    """The page's content.

    Args:
        study: the study, settings chosen.
        points: the table of points.
        answer: to its question, or a stand-in that says why there is none.
        figure: its picture.
        tuned: what sides chose.
        notes: what happened on the way.
    """
    about = provenance()
    found = about | {"digest": digest_of(points), "study": emit(dict(study.document()))}
    columns = list(points.columns)
    fields = columns[len(KEYS) : columns.index("status")]
    return StudyView(
        name=study.name,
        kind=study.question.kind,
        sentence=answer.sentence,
        points=points,
        notes=(*answer.notes, *_on_tuning(tuned), *notes),
        trusted=answer.trusted,
        figure=figure,
        answer_table=answer.table,
        fields=tuple(fields),
        sides=tuple(side.name for side in study.sides),
        seeds=tuple(study.seeds),
        tuning=[one.row() for one in tuned],
        gate=study.gate.solver_error,
        facts=answer.facts,
        provenance=found,
        folders={name: f"points/{name}/" for name in points["point"]},
    )


def _on_tuning(tuned: Sequence[Tuned]) -> list[str]:
    return [
        f"{one.side}: the best {field} lies at the edge of what was tried; a wider range may "
        "change the answer."
        for one in tuned
        for field in one.edges
    ]


def digest_of(points: pd.DataFrame) -> str:
    """One number for what was found: equal for equal tables, however they were computed."""
    kept = points.drop(columns=["how", "digest", "wall_s"])
    rows = [[_rounded(value) for value in row] for row in kept.itertuples(index=False)]
    return hashlib.sha256(canonical_json([list(kept.columns), rows]).encode()).hexdigest()


def _rounded(value: Json) -> Json:
    """What is retimed adds up energies in another order."""
    return f"{value:.12g}" if isinstance(value, float) else value
