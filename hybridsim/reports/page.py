"""A self-contained page: escaped text, tables and charts in one HTML file that needs no network."""

from __future__ import annotations

import html
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from hybridsim.files import write_whole
from hybridsim.reports.style import STYLE

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)
_CONFIG = {"responsive": True, "displayModeBar": False}
_LONG, _SOME = 40, 20
_DRAW = """
function folded(text, most) {
  return text.split(' ').reduce(function (lines, word) {
    var last = lines[lines.length - 1];
    if (last && (last + ' ' + word).length <= most) lines[lines.length - 1] = last + ' ' + word;
    else lines.push(word);
    return lines;
  }, []).join('<br>');
}
document.querySelectorAll('figure.chart').forEach(function (figure) {
  var chart = JSON.parse(figure.querySelector('script').textContent);
  if (figure.clientWidth && figure.clientWidth < 560) {
    Object.keys(chart.layout).forEach(function (key) {
      var axis = chart.layout[key], own = key.replace('axis', '');
      if (/^x/.test(own) && axis.title && axis.title.text) {
        axis.title.text = folded(axis.title.text, 20);
      } else if (/^y/.test(own) && axis.type === 'category') {
        axis.tickvals = chart.data.reduce(function (names, trace) {
          return (trace.yaxis || 'y') === own && trace.y ? names.concat(trace.y) : names;
        }, []);
        axis.ticktext = axis.tickvals.map(function (name) { return folded(name, 20); });
      }
    });
  }
  Plotly.newPlot(figure.querySelector('div'), chart.data, chart.layout, chart.config);
});
document.querySelectorAll('details').forEach(function (details) {
  details.addEventListener('toggle', function () {
    details.querySelectorAll('.js-plotly-plot').forEach(function (plot) {
      Plotly.Plots.resize(plot);
    });
  });
});
"""
"""In narrow charts long titles and names take several lines. What is folded has no width until it
is opened.
"""


def escape(value: object) -> str:
    """Text as HTML; quotes too, so that it may stand in an attribute."""
    return html.escape(str(value), quote=True)


def plot_text(value: object) -> str:
    """Text for a chart, whose labels understand a little HTML: stays what it is."""
    return html.escape(str(value), quote=False)


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{escape(kind)}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def bullets(texts: Iterable[str]) -> str:
    """A list of sentences."""
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def section(title: str, *blocks: str) -> str:
    """A heading and what belongs to it; the blocks are HTML."""
    return f"<section><h2>{escape(title)}</h2>{''.join(blocks)}</section>"


def folded(title: str, *blocks: str) -> str:
    """Details that open on a click."""
    return f"<details><summary>{escape(title)}</summary>{''.join(blocks)}</details>"


def preformatted(text: str) -> str:
    """Text as it stands."""
    return f"<pre>{escape(text)}</pre>"


def columns(*blocks: str, kind: str = "") -> str:
    """Blocks side by side, as many as fit; ``wide`` ones at most two."""
    return (
        '<div class="columns '
        f'{escape(kind)}">{"".join(f"<div>{block}</div>" for block in blocks)}</div>'
    )


def cards(entries: Iterable[tuple[str, str, str, str]]) -> str:
    """The verdict strip: (label, headline, explanation, tone) with tone ``good``, ``bad`` or
    empty.
    """
    found = (
        f'<div class="card {escape(tone)}"><div class="label">{escape(label)}</div>'
        f'<div class="headline">{escape(headline)}</div><div class="why">{escape(why)}</div></div>'
        for label, headline, why, tone in entries
    )
    return f'<div class="cards">{"".join(found)}</div>'


def legend(colours: Mapping[str, str]) -> str:
    """Names with a patch of their colour, which wrap as text does."""
    patches = (
        f'<span><i style="background:{escape(colour)}"></i>{escape(name)}</span>'
        for name, colour in colours.items()
    )
    return f'<p class="legend">{" ".join(patches)}</p>'


class Link(NamedTuple):
    """A cell that leads to ``target``, a path relative to the page."""

    text: str
    target: str

    def html(self) -> str:
        """As HTML; a target cannot leave the file system, whatever it is called."""
        return f'<a href="./{quote(self.target)}">{escape(self.text)}</a>'


class Patch(NamedTuple):
    """A cell with a stripe of colour at its left."""

    text: str
    colour: str

    def html(self) -> str:
        """As HTML."""
        style = f"border-left:5px solid {escape(self.colour)};padding-left:6px"
        return f'<div style="{style}">{escape(self.text)}</div>'


def table(
    headers: Sequence[str], rows: Iterable[Sequence[object]], text: int | Collection[int] = 1
) -> str:
    """A table of text and of numbers, which are right-aligned.

    Args:
        headers: one for each column.
        rows: cells; a :class:`Link` and a :class:`Patch` stand as such, all else as text.
        text: which columns are text: their numbers from 0, or how many, counted from the left.
    """
    texts = range(text) if isinstance(text, int) else text
    kinds = ["text" if index in texts else "number" for index in range(len(headers))]
    head = "".join(f'<th class="{k}">{escape(h)}</th>' for k, h in zip(kinds, headers, strict=True))
    body = "".join(f"<tr>{''.join(map(_cell, kinds, row))}</tr>" for row in rows)
    rows_of_table = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="scroll"><table>{rows_of_table}</table></div>'


class Lines(NamedTuple):
    """Rows of a table, and below them rows that open on a click on ``title``."""

    rows: Sequence[Sequence[object]]
    title: str
    folded: Sequence[Sequence[object]]


def folding_table(headers: Sequence[str], groups: Iterable[Lines], text: int = 1) -> str:
    """As :func:`table`, of groups of rows; each opens to show what it sums up, in the same
    columns.
    """
    kinds = ["text" if index < text else "number" for index in range(len(headers))]
    head = "".join(f'<th class="{k}">{escape(h)}</th>' for k, h in zip(kinds, headers, strict=True))
    body = ""
    for group in groups:
        body += "".join(f"<tr>{''.join(map(_cell, kinds, row))}</tr>" for row in group.rows)
        if group.folded:
            inner = folded(group.title, table(headers, group.folded, text))
            body += f'<tr class="parts"><td colspan="{len(headers)}">{inner}</td></tr>'
    rows_of_table = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="scroll"><table>{rows_of_table}</table></div>'


def _cell(kind: str, value: object) -> str:
    """Text that would take many short lines gets room for fewer."""
    text = value.text if isinstance(value, Link | Patch) else str(value)
    inner = value.html() if isinstance(value, Link | Patch) else escape(text)
    size = " long" if len(text) > _LONG else " some" if len(text) > _SOME else ""
    return f'<td class="{kind}{size}">{inner}</td>'


def chart(figure: go.Figure, caption: str, height: int) -> str:
    """A chart with the sentence that says what it shows.

    The data stand in the page as JSON without any ``<``, so nothing in them can end the script
    element.
    """
    content = json.loads(figure.to_json())
    content["layout"].pop("template", None)
    text = json.dumps({**content, "config": _CONFIG}, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<figure class="chart"><div style="height:{height}px"></div>'
        f'<script type="application/json">{text}</script>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def write_page(path: Path | str, title: str, head: str, *sections: str) -> None:
    """Write the page; ``head`` and the sections are HTML, the title is text."""
    body = f"<header>{head}</header><main>{''.join(sections)}</main>"
    write_whole(
        path,
        '<!doctype html>\n<html lang="en"><head><meta '
        f'charset="utf-8"><title>{escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body>{body}"
        f"<script>{get_plotlyjs()}</script><script>{_DRAW}</script></body></html>\n",
    )
