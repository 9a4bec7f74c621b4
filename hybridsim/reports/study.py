"""The page of a study: the answer first, then the picture, then all that it rests on."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from hybridsim.reports import page
from hybridsim.reports.export import to_latex
from hybridsim.reports.provenance import lines_of
from hybridsim.reports.study_binding import binding
from hybridsim.reports.study_points import listing, marked, origins, without_result
from hybridsim.reports.study_tables import answer_table
from hybridsim.reports.study_trust import alarms, counts
from hybridsim.reports.study_variants import variants, varied
from hybridsim.reports.study_view import StudyView, column, texts

__all__ = ["StudyView", "study_html", "write_study_report"]
_HEIGHT = 440
_MOST_CSV = 600_000
"""Letters of the table of points that a page holds."""


def write_study_report(view: StudyView, path: Path | str) -> None:
    """Write the page of a study to one HTML file that needs no network.

    Args:
        view: what is shown.
        path: the file to write.
    """
    sections = (
        _picture,
        _notes,
        _numbers,
        _sizes,
        varied,
        variants,
        binding,
        marked,
        without_result,
        origins,
        listing,
        _provenance,
        _exports,
    )
    page.write_page(
        path, f"{view.name} – hybridsim", _head(view), *(section(view) for section in sections)
    )


def study_html(view: StudyView, report: Path | str | None = None) -> str:
    """The answer for a notebook, as HTML that needs no network: what cannot be trusted, the
    sentence, the picture, what it rests on, its numbers.

    Args:
        view: what is shown.
        report: where the whole page is.
    """
    head = f"<p><b>{page.escape(view.name)}</b><br>{page.escape(counts(view))}</p>"
    where = page.paragraph(f"The whole page: {report}", "note") if report else ""
    picture = "" if view.figure is None else _figure(view).to_html(full_html=False)
    shown = [head, *_answer(view), picture, _notes(view), answer_table(view), where]
    return "".join(shown)


def _head(view: StudyView) -> str:
    """What was asked and what is answered; what cannot be trusted says so before it."""
    title = f"<h1>{page.escape(view.name)}</h1>{page.paragraph(counts(view), 'meta')}"
    return title + "".join(_answer(view))


def _answer(view: StudyView) -> Iterator[str]:
    yield from (page.paragraph(text, "alarm") for text in alarms(view))
    yield page.paragraph(view.sentence, "answer" if view.trusted else "answer doubtful")


def _picture(view: StudyView) -> str:
    if view.figure is None:
        return ""
    figure = _figure(view)
    caption = figure.layout.meta if isinstance(figure.layout.meta, str) else ""
    legend = "" if figure.layout.showlegend else page.legend(_colours(figure))
    return legend + page.chart(figure, caption, int(figure.layout.height or _HEIGHT))


def _notes(view: StudyView) -> str:
    """What the answer rests on: too long to stand before the picture."""
    return page.bullets(view.notes) if view.notes else ""


def _figure(view: StudyView) -> go.Figure:
    """The picture, as wide as there is room."""
    return go.Figure(view.figure).update_layout(width=None, autosize=True)


def _colours(figure: go.Figure) -> dict[str, str]:
    """Names of what is drawn in one colour each, for a legend that wraps."""
    found = {}
    for trace in figure.data:
        drawn = (getattr(trace, "line", None), getattr(trace, "marker", None))
        colours = [own.color for own in drawn if own is not None and isinstance(own.color, str)]
        if trace.name and colours and trace.showlegend is not False:
            found[html.unescape(trace.name)] = colours[0]
    return found


def _numbers(view: StudyView) -> str:
    if view.answer_table.empty:
        return ""
    return page.section("The answer in numbers", answer_table(view))


def _sizes(view: StudyView) -> str:
    """Whether the SPUs of each side could be built: of its points the one with the largest."""
    lines = []
    for side in view.sides:
        rows = view.distinct[view.distinct["side"] == side]
        area = column(rows, "area")
        if np.isfinite(area).any():
            line = texts(rows, "buildability")[int(np.nanargmax(area))]
            lines.append(f"{side}: {line}")
    return page.section("Size of the analog parts", page.bullets(lines)) if lines else ""


def _provenance(view: StudyView) -> str:
    long = {key: str(value) for key, value in view.provenance.items() if "\n" in str(value)}
    rows = list(lines_of({key: value for key, value in view.provenance.items() if key not in long}))
    texts = (
        page.folded(key.replace("_", " ").capitalize(), page.preformatted(text))
        for key, text in long.items()
    )
    table = page.table(["Field", "Value"], rows, text=2) if rows else ""
    return page.section("Provenance", table, *texts) if view.provenance else ""


def _exports(view: StudyView) -> str:
    blocks = [page.folded(f"All {len(view.points):,} rows of points as CSV", _csv(view.points))]
    if not view.answer_table.empty:
        answer = view.answer_table
        blocks += [
            page.folded("The answer as CSV", _csv(answer)),
            page.folded("The answer as LaTeX", page.preformatted(to_latex(answer, [*answer]))),
        ]
    return page.section("To take away", *blocks)


def _csv(table: pd.DataFrame) -> str:
    """As CSV, every digit kept; of a table that is too long its first rows, which is said."""
    text = table.to_csv(index=False)
    if len(text) <= _MOST_CSV:
        return page.preformatted(text)
    lines = text[:_MOST_CSV].splitlines()[:-1]
    note = f"The first {len(lines) - 1:,} of {len(table):,} rows; points.parquet has all."
    return page.paragraph(note, "note") + page.preformatted("\n".join(lines))
