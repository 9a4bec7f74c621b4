"""What the timeline says: the chosen step, exact bars, merged operations, escaped text."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from schedules import COLUMN, Op, simulate, write_run

import hybridsim
from hybridsim.errors import InputError
from hybridsim.reports.timeline import write_timeline
from hybridsim.results.read import Run
from hybridsim.results.write import RunWriter
from hybridsim.trace.spans import Rows, SpanRow

EVIL = "<script>window.hacked=1</script>"


def charts_of(path) -> list[dict]:
    text = path.read_text(encoding="utf-8")
    return [
        json.loads(found)
        for found in re.findall(r'<script type="application/json">(.*?)</script>', text)
    ]


def strips_of(chart) -> dict[str, list[float]]:
    return {t["meta"][0]: t["z"][0] for t in chart["data"] if t["type"] == "heatmap"}


def bars_of(chart) -> list[dict]:
    return [trace for trace in chart["data"] if trace["type"] == "bar"]


@pytest.fixture(scope="module", params=["tngd-digits", "kfac-digits", "tngd-digits-async"])
def run(request, tmp_path_factory) -> Run:
    scenario = hybridsim.load(request.param, ["training.steps=6"])
    return hybridsim.run(scenario, tmp_path_factory.mktemp("run") / "run", backend="timing")


def test_bars_of_a_step_are_its_spans_to_the_picosecond(run, tmp_path):
    write_timeline(run, tmp_path / "page.html", step=2)
    step = run.steps[run.steps["step"] == 2].iloc[0]
    spans = run.spans_between(int(step["start_ps"]), int(step["end_ps"]))
    chart = charts_of(tmp_path / "page.html")[-1]  # of every part
    per = {"ms": 1e9, "µs": 1e6, "s": 1e12}[
        re.search(r"\((\w+)\)", chart["layout"]["xaxis"]["title"]["text"])[1]
    ]
    drawn = sorted(
        (round(base * per), round(length * per))
        for trace in bars_of(chart) if trace.get("textposition")
        for base, length in zip(trace["base"], trace["x"], strict=True)
    )  # fmt: skip
    length = spans["end_ps"] - spans["start_ps"]
    assert drawn == sorted(
        zip((spans["start_ps"] - step["start_ps"]).tolist(), length.tolist(), strict=True)
    )
    texts = [
        text
        for trace in bars_of(chart)
        if trace.get("textposition")
        for text in trace["customdata"]
    ]
    for span in spans.itertuples():
        text = next(text for text in texts if re.search(rf"^<b>.*<br>.*, #{span.id}<br>", text))
        assert (
            span.kind in text
            and f"{span.part} · {span.lane}" in text
            and f"step {span.step}" in text
        )
        assert all(f"#{parent}" in text for parent in span.parents)
        assert not span.bits or f"{span.bits:,} bits" in text
        assert ("waited" in text) == (span.start_ps > span.queued_ps)
        assert (
            span.blocker < 0
            or f"held up by {spans.set_index('id')['kind'].get(span.blocker, '')}" in text
        )
    waits = [trace for trace in bars_of(chart) if "waits" in str(trace.get("customdata"))]
    assert sum(len(trace["x"]) for trace in waits) == (spans["start_ps"] > spans["queued_ps"]).sum()


def test_strips_show_the_utilisation_of_the_summary(run, tmp_path):
    write_timeline(run, tmp_path / "page.html")
    first, *others = charts_of(tmp_path / "page.html")
    several = len(others) > 2  # parts alike: their sum first, then every part
    utilisation, power = (others[0], others[1]) if several else (first, others[0])
    shown = strips_of(utilisation)
    lanes = {
        f"{row['part']} · {row['lane']}": row["utilisation"]
        for row in run.summary["lanes"]
        if "flight" not in row["lane"]
    }
    assert shown.keys() == lanes.keys()
    for name, values in shown.items():
        assert sum(values) / len(values) == pytest.approx(lanes[name], rel=0.01, abs=1e-6)
    if several:
        means = [values for name, values in shown.items() if name.endswith(" · core")]
        assert strips_of(first)["4 × spu · core"] == pytest.approx(
            np.mean(means, axis=0), rel=1e-3, abs=1e-6
        )
        parts = [values for name, values in strips_of(others[2]).items() if name.startswith("spu")]
        assert strips_of(power)["4 × spu"] == pytest.approx(np.sum(parts, axis=0), rel=1e-3)
    watts = strips_of(power)
    total = run.summary["energy"]["total"]["energy_j"] / run.summary["simulated_s"]
    assert sum(watts["whole machine"]) / len(watts["whole machine"]) == pytest.approx(
        total, rel=0.01
    )


def test_every_string_stays_text(tmp_path):
    rows = [list(row) for row in simulate([Op(i % 3, i % 2, 1000 * i) for i in range(31)])]
    for cells in rows:
        for name in ("part", "lane", "kind", "layer", "note"):
            cells[COLUMN[name]] = EVIL + cells[COLUMN[name]]
    write_run(tmp_path / "run", [SpanRow._make(cells) for cells in rows], name=EVIL)
    write_timeline(Run.open(tmp_path / "run"), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert EVIL not in text and text.count("&lt;script&gt;window.hacked=1") >= 2
    data = json.dumps(charts_of(tmp_path / "page.html"))
    assert EVIL not in data and "&lt;script&gt;" in data


def test_many_operations_are_merged_and_the_page_says_so(tmp_path):
    rows = simulate([Op(i % 3, i % 3, 1000 + i % 7) for i in range(12_000)])
    step = {
        "step": 1,
        "start_ps": 0,
        "end_ps": max(row.end_ps for row in rows),
        "train_loss": 1.0,
        "energy_j": 0.0,
    }
    write_run(tmp_path / "run", rows, steps=[step])
    write_timeline(Run.open(tmp_path / "run"), tmp_path / "page.html")
    chart = charts_of(tmp_path / "page.html")[2]
    assert sum(len(trace["x"]) for trace in bars_of(chart)) <= 2000
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    merged, into = re.search(
        r"([\d,]+) of them are merged with close neighbours of their lane into ([\d,]+) bars", text
    ).groups()
    texts = [t for trace in bars_of(chart) for t in trace.get("customdata", [])]
    counts = [
        int(n.replace(",", "")) for t in texts for n in re.findall(r"([\d,]+) operations merged", t)
    ]
    assert sum(counts) == int(merged.replace(",", "")) and len(counts) == int(into.replace(",", ""))
    assert (tmp_path / "page.html").stat().st_size < 6_000_000


def test_a_step_that_is_not_there_is_refused(run, tmp_path):
    with pytest.raises(InputError, match="step: expected one of 1 to 6, got 7"):
        write_timeline(run, tmp_path / "page.html", step=7)


def test_runs_without_steps_or_spans_have_a_page(tmp_path):
    writer = RunWriter(tmp_path / "running")
    writer.write(Rows(simulate([Op(0, 0, 5), Op(1, 0, 20)])))
    write_timeline(Run.open(tmp_path / "running"), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "This run is not complete: running at step 0" in text and "The run so far" in text
    RunWriter(tmp_path / "empty").finish({"status": "failed", "reason": "no power"}, [], {})
    write_timeline(Run.open(tmp_path / "empty"), tmp_path / "empty.html")
    assert "Nothing was recorded" in (tmp_path / "empty.html").read_text(encoding="utf-8")
