"""What came out at every point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from hybridsim.studies.questions.base import Answer, Lab, Question

if TYPE_CHECKING:
    import plotly.graph_objects as go


class Table(Question):
    """The table of points is the answer."""

    kind: Literal["table"]

    def answer(self, lab: Lab) -> Answer:
        """How many points there are, and the table."""
        return Answer(f"{len(lab.table)} points.", table=lab.table)

    def picture(self, lab: Lab, answer: Answer) -> go.Figure:
        """Seconds against joules."""
        import plotly.graph_objects as go

        return go.Figure(go.Scatter(x=lab.table["seconds"], y=lab.table["joules"], mode="markers"))
