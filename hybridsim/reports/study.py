"""The page of a study: the answer first, then the picture, then all that it rests on."""

from __future__ import annotations

from pathlib import Path

from hybridsim.reports import page
from hybridsim.reports.study_view import StudyView

__all__ = ["StudyView", "study_html", "write_study_report"]


def write_study_report(view: StudyView, path: Path | str) -> None:
    """Write the page of a study to one HTML file that needs no network.

    Args:
        view: what is shown.
        path: the file to write.
    """
    head = f"<h1>{page.escape(view.name)}</h1>{page.paragraph(view.sentence)}"
    page.write_page(path, f"{view.name} – hybridsim", head)


def study_html(view: StudyView) -> str:
    """The answer for a notebook: the sentence and its numbers, as HTML."""
    return page.paragraph(view.sentence)
