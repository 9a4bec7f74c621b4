"""The pages of the shipped studies: the answer first, its picture, what it rests on.

    python -m analysis.studies.pages                 # all, half an hour; needs Chromium
    python -m analysis.studies.pages rc what-decides
    python -m analysis.studies.pages --write         # the pages again, from the stored results

Results lie in ``results``, pictures in ``pictures``, pages in ``analysis/docs/pages/studies``.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

import hybridsim
from analysis.papers.page import FONT
from analysis.papers.revision import revision
from analysis.pictures.first_run import photograph

ROOT = Path(__file__).resolve().parents[2]
STUDIES = ROOT / "scenarios" / "studies"
RESULTS = Path(__file__).parent / "results"
PICTURES = Path(__file__).parent / "pictures"
PAGES = ROOT / "analysis" / "docs" / "pages" / "studies"
WORKERS = 2
ALSO = {"energy-before-time": {"measure": "seconds"}}
"""Studies that are asked a second time, with other settings of their question."""
SIZE = (1000, 470)

Result = dict[str, Any]
"""A stored result: texts, numbers, maps of these."""


def names() -> list[str]:
    """The shipped studies."""
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


# ---------------------------------------------------------------- finding


def find(name: str, folder: Path) -> tuple[Result, go.Figure]:
    """Run a study; what its page says, and its picture.

    Raises:
        ValueError: it has no answer.
    """
    started = time.perf_counter()
    found = hybridsim.study(name, folder, workers=WORKERS)
    document, answers = found.study.document(), [_answer(found)]
    for change in [ALSO[name]] if name in ALSO else []:
        other = {**document, "question": {**document["question"], **change}}
        answers.append(_answer(hybridsim.study(other, folder, workers=WORKERS, force=True)))
    seconds = time.perf_counter() - started
    once = found.points.drop_duplicates("point")
    assert found.view is not None and found.view.figure is not None, "it has been answered"
    result = {
        "study": document,
        "version": hybridsim.__version__,
        "revision": revision(),
        "date": datetime.now(UTC).date().isoformat(),
        "wall_s": round(seconds),
        "workers": WORKERS,
        "points": len(found.points),
        "runs": len(once),
        "how": {str(how): int(n) for how, n in once["how"].value_counts().items()},
        "answers": answers,
    }
    return result, found.view.figure


def _answer(found: hybridsim.StudyResult) -> Result:
    if found.answer is None:
        raise ValueError(f"{found.study.name}: {found.reason}")
    return {
        "question": found.study.document()["question"],
        "sentence": found.answer.sentence,
        "trusted": found.answer.trusted,
        "notes": list(found.answer.notes),
        "facts": _plain(found.answer.facts),
    }


def _plain(value: object) -> object:
    """For JSON: six digits, and words for what it does not know."""
    if isinstance(value, Mapping):
        return {str(key): _plain(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(own) for own in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    return value


def draw(figure: go.Figure, out: Path) -> None:
    """The picture as a PNG, by headless Chromium."""
    shown = go.Figure(figure).update_layout(
        font=FONT, width=SIZE[0] - 20, height=SIZE[1] - 20, template="plotly_white", autosize=False
    )
    named = [trace for trace in shown.data if trace.name and trace.showlegend is not False]
    if len(named) > 1:
        legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
        shown.update_layout(showlegend=True, legend=legend, margin_t=60)
    with tempfile.TemporaryDirectory() as folder:
        html = Path(folder) / "picture.html"
        shown.write_html(html, include_plotlyjs=True, config={"displayModeBar": False})
        photograph(html, out, SIZE)


# ---------------------------------------------------------------- writing


def stored(name: str) -> Result:
    """The stored result of a study."""
    found: Result = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def asked(name: str) -> str:
    """What the study's file says above its first field."""
    lines = (STUDIES / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    comments = [line.removeprefix("#").strip() for line in lines if line.startswith("#")]
    return "\n".join(line for line in comments[1:] if line)


def text(name: str, found: Result) -> str:
    """The page of a study: Markdown, every number from its result."""
    answer = found["answers"][0]
    command = f"hybridsim study {name} --out runs/{name} --workers {found['workers']}"
    file = f"../../../../scenarios/studies/{name}.yaml"
    blocks = [
        f"# {found['study']['name']}",
        "\n\n".join(f"**{one['sentence']}.**" for one in found["answers"]),
        asked(name),
        f"![{answer['sentence']}](../../../studies/pictures/{name}.png)",
        "## What varied",
        _varied(found["study"]),
        "## What it rests on",
        "\n".join(f"- {note}" for note in _notes(found)),
        "## Again",
        f"    {command}",
        _provenance(name, found, file),
    ]
    return "\n\n".join(blocks) + "\n"


def _varied(study: Mapping[str, Any]) -> str:
    """A line for each axis, the sides, what is set on them, the seeds."""
    sides = study.get("scenarios") or {"": study["base"]}
    lines = []
    for side, choice in sides.items():
        fields = {**study.get("set", {}), **choice.get("set", {})}
        texts = ", ".join(f"`{field}` {value}" for field, value in fields.items())
        name = f"{side}: " if side else ""
        lines.append(f"- {name}`{choice['scenario']}`" + (f" with {texts}" if texts else ""))
    for axis in study.get("axes", []):
        columns = axis.get("zip") or {axis["field"]: axis.get("grid") or axis["sample"]}
        texts = "; ".join(f"`{field}`: {_values(own)}" for field, own in columns.items())
        only = f" ({', '.join(axis['sides'])})" if axis.get("sides") else ""
        lines.append(f"- {texts}{only}")
    lines.append(f"- seeds: {_values(study['seeds'])}")
    return "\n".join(lines)


def _values(values: Sequence[object] | Mapping[str, object]) -> str:
    if isinstance(values, Mapping):
        return ", ".join(f"{key} {value}" for key, value in values.items())
    return ", ".join(map(str, values))


def _notes(found: Result) -> list[str]:
    """All notes, each once."""
    return list(dict.fromkeys(note for one in found["answers"] for note in one["notes"]))


def _provenance(name: str, found: Result, file: str) -> str:
    how = ", ".join(f"{count} {word}" for word, count in found["how"].items())
    time_text = f"in {found['wall_s']} s with" if found["wall_s"] else "beside other work, with"
    return (
        f"The file: [{name}.yaml]({file}); the result: "
        f"[{name}.json](../../../studies/results/{name}.json). Found at revision "
        f"{found['revision']} on {found['date']}, {time_text} "
        f"{found['workers']} workers: {found['points']} rows, {found['runs']} different runs "
        f"({how})."
    )


def write(name: str) -> None:
    """The page of a study, from its stored result."""
    PAGES.mkdir(exist_ok=True)
    (PAGES / f"{name}.md").write_text(text(name, stored(name)), encoding="utf-8")


def main() -> None:
    """Find, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="shipped studies (default: all)")
    parser.add_argument("--write", action="store_true", help="pages only, from stored results")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of the studies'")
    words = parser.parse_args()
    for folder in (RESULTS, PICTURES):
        folder.mkdir(exist_ok=True)
    for name in words.names or names():
        if not words.write:
            result, figure = find(name, words.out / name)
            draw(figure, PICTURES / f"{name}.png")
            encoded = json.dumps(result, indent=1, allow_nan=False) + "\n"
            (RESULTS / f"{name}.json").write_text(encoded, encoding="utf-8")
            print(result["answers"][0]["sentence"], flush=True)
        write(name)


if __name__ == "__main__":
    main()
