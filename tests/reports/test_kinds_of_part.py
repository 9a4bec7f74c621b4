"""The report shows kinds of part: what stands in it at first sight does not grow with the number
of parts."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hybridsim
from hybridsim.reports.figures import MOST_BARS
from hybridsim.reports.kinds import MOST_LISTED, Kinds, kinds_of
from hybridsim.reports.report import write_report
from hybridsim.reports.timeline import write_timeline
from hybridsim.results.read import Run

KFAC = ["training.steps=3", "training.algorithm.placement=columns"]


def visible(page: str) -> str:
    """What is shown before anything is unfolded, without plotly itself."""
    text = page[: page.index("plotly.js v")]
    before = ""
    while before != text:
        before = text
        text = re.sub(r"<details>(?:(?!<details>).)*?</details>", "", text, flags=re.DOTALL)
    return text


def charts_of(text: str) -> list[dict]:
    return [
        json.loads(found)
        for found in re.findall(r'<script type="application/json">(.*?)</script>', text)
    ]


def rows_of(text: str) -> list[int]:
    """Rows of tables, and rows of the vertical axis of every chart."""
    ticks = [
        len(c["layout"]["yaxis"].get("tickvals") or c["data"][0].get("y", []))
        for c in charts_of(text)
    ]
    return [text.count("<tr"), *ticks]


def run(spus: int, *more: str) -> Run:
    scenario = hybridsim.load("kfac-digits", [*KFAC, f"machine.spus.count={spus}", *more])
    return hybridsim.run(scenario, backend="timing")


@pytest.fixture(scope="module", params=["shared", "private"])
def pages(request, tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("pages"), {}
    for spus in (1, 3, 64):
        made = run(spus, f"machine.link.sharing={request.param}")
        write_report(made, folder / "report.html")
        write_timeline(made, folder / "timeline.html")
        found[spus] = [(folder / f"{name}.html").read_text() for name in ("report", "timeline")]
    return found


def test_rows_and_length_at_first_sight_do_not_grow_with_the_parts(pages):
    for kind in (0, 1):
        shown = {spus: visible(texts[kind]) for spus, texts in pages.items()}
        plain = {
            spus: len(re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL))
            for spus, text in shown.items()
        }
        folds = {spus: text.count("<tr class=") for spus, text in shown.items()}
        own = {spus: rows_of(text) for spus, text in shown.items()}
        assert own[64][0] == own[3][0] == own[1][0] + folds[3]
        assert len(own[64]) == len(own[3]) == len(own[1])
        for many, one in zip(own[64][1:], own[1][1:], strict=True):
            assert many <= max(one, MOST_BARS)
        assert plain[64] < 1.1 * plain[1] + 1000


def test_every_part_is_there_once_it_is_unfolded(pages):
    report, timeline = pages[64]
    for number in range(64):
        assert f"spu{number}" in report
    for text in (report, timeline):
        assert "Every part" in text and "64 × spu" in visible(text)


def test_pages_stay_small_however_many_parts_there_are(tmp_path):
    made = run(400)
    for name, write in (("report", write_report), ("timeline", write_timeline)):
        write(made, tmp_path / f"{name}.html")
        text = (tmp_path / f"{name}.html").read_text()
        assert len(text) < 8_000_000
    assert f"the first {MOST_LISTED:,} of" in (tmp_path / "report.html").read_text()


def test_sums_over_kinds_are_those_of_the_parts():
    made = run(5)
    kinds, energy = kinds_of(made), made.summary["energy"]
    rows = kinds.sums(energy["by_part_kind"], ("kind",), ("energy_j",))
    assert sum(row["energy_j"] for row in rows) == pytest.approx(energy["total"]["energy_j"])
    assert {row["part"] for row in rows} == {"gpu0", "gpu0-hub", "5 × spu"}


def test_parts_that_differ_in_anything_are_of_other_kinds():
    sheet = {"name": "rc", "constants": {"tau": {"value": 1.0}}}
    base = {"kind": "spu", "input_bits": 8, "sheet": sheet}
    nodes = [{"name": f"spu{i}", **base} for i in range(3)]
    nodes += [{"name": "spu3", **base, "input_bits": 9}]
    nodes += [{"name": "spu4", **base, "sheet": {**sheet, "constants": {"tau": {"value": 2.0}}}}]
    nodes += [{"name": f"spu{i}", **base, "input_bits": 4} for i in (5, 6, 7)]
    kinds = Kinds({"nodes": nodes, "edges": []})
    assert [kind.parts for kind in kinds.kinds.values()] == [
        ("spu0", "spu1", "spu2"), ("spu3",), ("spu4",), ("spu5", "spu6", "spu7")
    ]  # fmt: skip
    assert len({kinds.label(node["name"]) for node in nodes}) == 4
    assert kinds.label("unknown") == "unknown" and kinds.parts("unknown") == ("unknown",)


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["gpu", "spu"])), max_size=12))
def test_every_part_is_of_one_kind(drawn):
    nodes = [
        {"name": f"n{i}", "kind": kind, "bits": bits, "sheet": {"name": "s", "constants": {}}}
        for i, (bits, kind) in enumerate(drawn)
    ]
    edges = [
        {"name": f"{a['name']}-{b['name']}", "a": a["name"], "b": b["name"], "sheet": {"name": "l"}}
        for a, b in zip(nodes, nodes[1:], strict=False)
    ]
    kinds = Kinds({"nodes": nodes, "edges": edges})
    names = [name for kind in kinds.kinds.values() for name in kind.parts]
    assert sorted(names) == sorted(item["name"] for item in [*nodes, *edges])
    assert all(name in kinds.parts(kinds.label(name)) for name in names)
    assert len(kinds.kinds) == len({kind.label for kind in kinds.kinds.values()})
