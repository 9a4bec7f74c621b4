"""The picture of the README, and the numbers in its text, from the two runs that `make run` makes.

    python -m analysis.pictures.first_run        # under a minute; needs Chromium for the picture

Numbers stand between marks, ``<!--=name-->value<!--/-->``; all that a mark can name is in
``numbers``.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import plotly.graph_objects as go

import hybridsim
from analysis.papers import page

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PICTURE = Path(__file__).parent / "first_run.png"
RESULTS = ROOT / "analysis" / "papers" / "results"
BREAK_EVEN, RACE = RESULTS / "break_even.json", RESULTS / "race_digits.json"
RACERS = ("muon", "adamw", "kfac-newton-schulz", "kfac-thermodynamic", "tngd")
STUDY = ROOT / "analysis" / "studies" / "results" / "one-fast-spu.json"
SCENARIOS = {"thermodynamic": "kfac-digits", "digital": "kfac-digits-digital"}
LINES = {"thermodynamic": "#0072b2", "digital": "#8a94a1"}
STEP = 100
ROWS = {"compute": "GPU", "to hub": "link", "to gpu0": "link", "core": "SPU {}"}
COLOURS = {
    "settle": "#0072b2",
    "discharge": "#c9a227",
    "send": "#b3400a",
    "forward, backward, factors": "#00754f",
    "damping, transposes, products": "#8cc5a8",
}
SIZE = (1160, 650)
TITLE = "K-FAC on handwritten digits: four SPUs, or the GPU alone"
MARK = re.compile(r"(<!--=(\w+)-->).*?(<!--/-->)", re.S)


def curves(runs: Mapping[str, hybridsim.Run]) -> go.Figure:
    """Test accuracy against simulated time, with the target and where it was reached."""
    figure = go.Figure()
    for name, run in runs.items():
        seen = run.steps.dropna(subset=["test_accuracy"])
        figure.add_scatter(
            x=1e3 * seen.time_s,
            y=seen.test_accuracy,
            name=f"{name} K-FAC",
            mode="lines+markers",
            marker_size=4,
            line_color=LINES[name],
        )
        target = run.summary["target"]
        if target is not None and target["seconds"] is not None:
            [reached] = seen.test_accuracy[seen.step == target["step"]]
            marker = {"symbol": "diamond", "size": 11, "color": LINES[name]}
            figure.add_scatter(
                x=[1e3 * target["seconds"]],
                y=[reached],
                mode="markers",
                marker=marker,
                showlegend=False,
            )
    figure.add_hline(y=0.95, line_dash="dash", line_color="#7a2b05", line_width=1)
    figure.update_yaxes(range=[0.6, 1.0], tickformat=".0%", title="test accuracy")
    figure.update_xaxes(title="simulated time (ms)")
    return _plain(figure, 250)


def group(kind: str) -> str:
    """What the colour of a bar says."""
    if kind.startswith(("upload", "download")):
        return "send"
    if kind in ("settle", "discharge"):
        return kind
    passes = ("forward", "backward and factors", "factors", "average factors", "gather gradient")
    return list(COLOURS)[3 if kind in passes else 4]


def one_step(run: hybridsim.Run) -> go.Figure:
    """One step as bars: who works when."""
    spans = run.spans
    spans = spans[(spans.step == STEP) & spans.lane.isin(ROWS) & (spans.end_ps > spans.start_ps)]
    first = spans.start_ps.min()
    figure = go.Figure()
    for name, colour in COLOURS.items():
        mine = spans[spans.kind.map(group) == name]
        figure.add_bar(
            x=(mine.end_ps - mine.start_ps) * 1e-9,
            base=(mine.start_ps - first) * 1e-9,
            y=[_row(span) for span in mine.itertuples()],
            orientation="h",
            name=name,
            marker={"color": colour, "line_width": 0},
        )
    rows = sorted({_row(span) for span in spans.itertuples()}, reverse=True)
    order = [*(r for r in rows if r.startswith("SPU")), "link", "GPU"]
    figure.update_yaxes(categoryorder="array", categoryarray=order)
    figure.update_xaxes(title=f"step {STEP}: time within the step (ms)")
    figure.update_layout(barmode="overlay", bargap=0.35)
    return _plain(figure, 250)


def _row(span: object) -> str:
    number = re.sub(r"\D", "", str(getattr(span, "part", "")))
    return ROWS[str(getattr(span, "lane", ""))].format(number)


def _plain(figure: go.Figure, height: int) -> go.Figure:
    return figure.update_layout(
        font=page.FONT,
        height=height,
        template="plotly_white",
        margin={"l": 70, "r": 10, "t": 30, "b": 45},
        legend={"orientation": "h", "y": 1.16, "x": 0},
    )


def photograph(html: Path, out: Path, size: tuple[int, int] = SIZE) -> None:
    """The page as a PNG of this width and height, by headless Chromium.

    Raises:
        FileNotFoundError: there is no ``chromium``.
        subprocess.CalledProcessError: it failed.
    """
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    flags += ["--virtual-time-budget=8000", f"--window-size={size[0]},{size[1]}"]
    words = ["chromium", *flags, f"--screenshot={out}", html.as_uri()]
    subprocess.run(words, check=True, capture_output=True, timeout=120)


def numbers(runs: Mapping[str, hybridsim.Run]) -> dict[str, str]:
    """Every number of the README by the name of its mark.

    Raises:
        ValueError: a run missed its target, or lost it again: then the picture shows nothing.
    """
    found: dict[str, str] = {}
    for name, run in runs.items():
        summary, target = run.summary, run.summary["target"]
        if target is None or target["seconds"] is None or target["joules"] is None:
            raise ValueError(f"{name}: the target was not reached")
        total = summary["energy"]["total"]
        band = [target["joules"] * total[end] / total["energy_j"] for end in
                ("energy_low_j", "energy_high_j")]  # fmt: skip
        found[f"{name}_step"] = str(target["step"])
        found[f"{name}_ms"] = f"{1e3 * target['seconds']:.0f}"
        found[f"{name}_j"] = f"{target['joules']:.1f}"
        found[f"{name}_band"] = f"{band[0]:.1f} to {band[1]:.1f}"
        found[f"{name}_step_ms"] = f"{1e3 * summary['simulated_s'] / summary['steps']:.2f}"
    kept = runs["thermodynamic"].steps.dropna(subset=["test_accuracy"])
    if (kept.test_accuracy[kept.step >= int(found["thermodynamic_step"])] < 0.95).any():
        raise ValueError("thermodynamic: the target was reached and lost again")
    ahead = float(found["thermodynamic_step_ms"]) < float(found["digital_step_ms"])
    found["verdict"] = "faster" if ahead else "slower"
    return found | stored()


def stored() -> dict[str, str]:
    """The numbers of committed results."""
    return break_even() | race() | study()


def break_even() -> dict[str, str]:
    """The numbers of the break-even's schedules, from its committed result."""
    found = json.loads(BREAK_EVEN.read_text())["summary"]
    short, settled = (
        [ratio for name, ratios in found["ratio of one SPU"].items() if name.startswith(start)
         for ratio in ratios.values()]
        for start in ("1 tau", "110.9 tau")
    )  # fmt: skip
    needed = found["SPUs needed"]["110.9 tau, 50 Gb/s"]
    return {
        "short": f"{min(short):.1f} to {max(short):.1f}",
        "settled": f"{1 / max(settled):.0f} to {1 / min(settled):.0f}",
        **{f"spus_{n}": needed[n] for n in ("128", "2048", "8192")},
        **{f"longest_{n}": found["longest settling that pays"]["1"][n].removesuffix(" tau")
           for n in ("128", "2048", "8192")},
    }  # fmt: skip


def race() -> dict[str, str]:
    """The numbers of the race on digits under CUDA graphs, from its committed result."""
    sides = json.loads(RACE.read_text())["summary"]["graph"]["sides"]
    told: dict[str, str] = {}
    for side in RACERS:
        found, name = sides[side], side.replace("-", "_")
        told[f"{name}_reached"] = f"{found['reached']}/{found['seeds']}"
        for measure, scale in (("step", 1.0), ("seconds", 1e3), ("joules", 1.0)):
            told[f"{name}_{measure}"] = _interval(found[measure], scale)
    return told


def _interval(found: Mapping[str, float], scale: float) -> str:
    values = [scale * found[end] for end in ("mean", "low", "high")]
    mean, low, high = (
        f"{v:.0f}" if v >= 10 else f"{v:.1f}" if v >= 1 else f"{v:.2f}" for v in values
    )
    return f"{mean} ({low}–{high})"


def study() -> dict[str, str]:
    """The sentence of the study that `make run` ends with, from its committed result."""
    return {"study": json.loads(STUDY.read_text())["answers"][0]["sentence"]}


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with every mark's value replaced.

    Raises:
        KeyError: a mark that ``numbers`` does not know.
    """
    return MARK.sub(lambda found: f"{found[1]}{values[found[2]]}{found[3]}", text)


def main() -> None:
    """Run, draw, fill in."""
    runs = {name: hybridsim.run(hybridsim.load(s)) for name, s in SCENARIOS.items()}
    values = numbers(runs)
    captions = (
        "Test accuracy on the way. Dashed: the target; diamond: where it is first reached.",
        "One step of the run with four SPUs: who works when.",
    )
    with tempfile.TemporaryDirectory() as folder:
        html = Path(folder) / "page.html"
        blocks = [
            page.chart(figure, caption, 250)
            for figure, caption in zip(
                (curves(runs), one_step(runs["thermodynamic"])), captions, strict=True
            )
        ]
        page.write_page(html, TITLE, *blocks)
        photograph(html, PICTURE)
    README.write_text(filled(README.read_text(), values), encoding="utf-8")
    print(json.dumps(values, indent=1))


if __name__ == "__main__":
    main()
