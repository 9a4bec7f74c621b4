"""A page with charts in one HTML file that needs no network."""

from __future__ import annotations

from html import escape
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

FONT = {
    "family": "system-ui, -apple-system, Segoe UI, Roboto, DejaVu Sans, sans-serif",
    "size": 13,
    "color": "#1b2430",
}
_STYLE = """
body { margin: 0 auto; max-width: 1160px; padding: 24px 20px 64px; color: #1b2430;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 26px; } h2 { font-size: 18px; border-top: 1px solid #dde2e8; padding-top: 14px; }
p, figcaption { color: #5a6675; font-size: 13px; max-width: 78ch; } figure { margin: 8px 0; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(460px, 1fr)); gap: 20px; }
i { display: inline-block; width: 11px; height: 11px; margin: 0 6px 0 12px; }
"""


def chart(figure: go.Figure, caption: str, height: int) -> str:
    """A chart with the sentence that says what it shows."""
    drawn = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        default_height=f"{height}px",
        config={"responsive": True, "displayModeBar": False},
    )
    return f"<figure>{drawn}<figcaption>{escape(caption)}</figcaption></figure>"


def legend(colours: dict[str, str]) -> str:
    """Names with a patch of their colour."""
    patches = (
        f'<span><i style="background:{escape(colour)}"></i>{escape(name)}</span>'
        for name, colour in colours.items()
    )
    return f"<p>{' '.join(patches)}</p>"


def write_page(path: Path, title: str, *blocks: str) -> None:
    """Write the page: its title as a heading, then the blocks, which are HTML."""
    path.write_text(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
        f"</title><style>{_STYLE}</style><script>{get_plotlyjs()}</script></head>"
        f"<body><h1>{escape(title)}</h1>{''.join(blocks)}</body></html>\n",
        encoding="utf-8",
    )
