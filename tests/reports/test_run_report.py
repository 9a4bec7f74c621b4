"""The report as a file: complete, self-contained, escaped, small."""

from __future__ import annotations

import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from schedules import COLUMN, Op, simulate, write_run

import hybridsim
from hybridsim.reports.closing import closing_rows
from hybridsim.reports.figures import blank, largest, thinned
from hybridsim.reports.page import chart
from hybridsim.reports.report import write_report
from hybridsim.reports.units_text import quantity, scale_for
from hybridsim.results.read import Run
from hybridsim.results.write import RunWriter
from hybridsim.trace.spans import Rows

EVIL = "<script>alert(1)</script>"
TARGET = {"metric": "test_accuracy", "threshold": 0.7, "direction": "above"}


def evil_rows():
    """Spans whose every string is markup."""
    rows = []
    for row in simulate([Op(i % 3, i % 2, 1000 + i) for i in range(31)]):
        cells = list(row)
        for name in ("part", "lane", "kind", "layer", "note"):
            cells[COLUMN[name]] = f"{EVIL}{cells[COLUMN[name]]}"
        rows.append(tuple(cells))
    return rows


def report_of(folder, rows, **extras) -> str:
    write_run(folder, rows, **extras)
    write_report(Run.open(folder), folder / "report.html")
    return (folder / "report.html").read_text()


def test_no_string_becomes_markup(tmp_path):
    events = [(5, EVIL, EVIL, 1, EVIL, 3.0, EVIL)]
    text = report_of(tmp_path / "run", evil_rows(), name=EVIL, events=events, host={EVIL: EVIL})
    assert EVIL not in text
    assert "<title>&lt;script&gt;alert(1)&lt;/script&gt; – hybridsim</title>" in text
    assert text.count("</script>") == text.count("<script") - text.count("'<script")


def test_nothing_in_a_chart_ends_its_script_element():
    figure = blank("x", "y").add_bar(x=["</script><script>alert(1)</script>"], y=[1])
    text = chart(figure, "caption", 100)
    assert text.count("<script") == text.count("</script>") == 1
    assert charts_of(text)[0]["data"][0]["x"] == ["</script><script>alert(1)</script>"]


def test_the_page_is_one_small_file_that_asks_for_nothing(tmp_path):
    text = report_of(tmp_path / "run", simulate([Op(0, 0, 5), Op(0, 1, 4)]), target=TARGET)
    assert len(text.encode()) < 6_000_000
    assert "default-src 'none'" in text
    ours = text[: text.index("plotly.js v")] if "plotly.js v" in text else text[:20_000]
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", ours)


def charts_of(text):
    found = re.findall(r'<script type="application/json">(.*?)</script>', text, re.S)
    return [json.loads(chart) for chart in found]


def test_every_energy_has_its_band_and_every_axis_its_unit(tmp_path):
    rows = simulate([Op(i % 3, i % 2, 10**9) for i in range(31)])
    text = report_of(tmp_path / "run", rows, target=TARGET)
    summary = Run.open(tmp_path / "run").summary
    for key in ("energy_j", "energy_low_j", "energy_high_j"):
        assert quantity(summary["energy"]["total"][key], "J") in text
    for content in charts_of(text):
        axes = [
            content["layout"][axis].get("title", {}).get("text", "") for axis in ("xaxis", "yaxis")
        ]
        assert axes[0], content["layout"]
        assert "(" in axes[0] or axes[0] == "training step"


def test_the_verdict_follows_the_summary(tmp_path):
    rows = simulate([Op(i % 3, i % 2, 10**9) for i in range(31)])
    assert "reached at step 2" in report_of(tmp_path / "a", rows, target=TARGET)
    assert "not reached" in report_of(tmp_path / "b", rows, target={**TARGET, "threshold": 0.99})
    assert "none set" in report_of(tmp_path / "c", rows, target=None)
    lost = {"metric": "train_loss", "threshold": 1.5, "direction": "above"}
    assert "then lost" in report_of(tmp_path / "d", rows, target=lost)


def test_an_unfinished_and_an_empty_run_have_reports(tmp_path):
    rows = simulate([Op(i % 3, i % 2, 1000) for i in range(31)])
    writer = RunWriter(tmp_path / "run")
    writer.write(Rows(rows))
    write_report(Run.open(tmp_path / "run"), tmp_path / "a.html")
    assert "This run is not complete: running at step 0" in (tmp_path / "a.html").read_text()
    RunWriter(tmp_path / "empty").finish({"status": "failed", "reason": "it <broke>"}, [], {})
    write_report(Run.open(tmp_path / "empty"), tmp_path / "b.html")
    assert "it &lt;broke&gt;" in (tmp_path / "b.html").read_text()


def test_a_broken_critical_path_is_shouted(tmp_path):
    rows = simulate([Op(0, 0, 5), Op(0, 0, 5)])
    orphan = (*rows[1][:1], (), *rows[1][2:])
    assert "trust no share of time" in report_of(tmp_path / "run", [rows[0], orphan])


@given(st.floats(1e-12, 1e12))
def test_the_unit_of_an_axis_suits_its_largest_value(value):
    scale = scale_for(value, "J")
    assert value / scale.factor >= 1 - 1e-9 or scale.unit == "J" or value < 1e-12
    assert value / scale.factor < 1000 * (1 + 1e-9)
    assert scale_for(5e5, "s") == (1.0, "s")


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=40))
def test_folding_small_rows_loses_nothing(values):
    rows = [{"part": "p", "kind": str(i), "share": v} for i, v in enumerate(values)]
    assert math.isclose(
        sum(row["share"] for row in largest(rows, "share")), sum(values), abs_tol=1e-9
    )


def test_thinning_keeps_both_ends(tmp_path):
    import pandas as pd

    frame = pd.DataFrame({"step": range(12_345)})
    assert len(thinned(frame)) == 2000 and thinned(frame)["step"].iloc[[0, -1]].tolist() == [
        0,
        12_344,
    ]


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (math.nan, "–"), (0.0083, "8.3 ms")])
def test_quantities(value, text):
    assert quantity(value, "s") == text


def card_of(text, label) -> str:
    """What stands on a card of the verdict strip."""
    start = text.index(f'<div class="label">{label}</div>')
    return re.sub(r"<[^>]*>", " ", text[start : text.index("</div></div>", start)])


def test_simulated_time_has_a_band(tmp_path):
    run = hybridsim.run(
        hybridsim.load("tngd-digits", ["training.steps=2"]), tmp_path / "run", backend="timing"
    )
    write_report(run, tmp_path / "report.html")
    card = card_of((tmp_path / "report.html").read_text(), "Simulated time")
    low, high = (quantity(end_ps / 1e12, "s") for end_ps in run.time_band[:2])
    assert f"{low} – {high} with every constant of time at its fastest / slowest" in card
    rows = dict(closing_rows(run))
    assert rows["simulated time"].endswith(f"({low} to {high})")


def test_a_time_without_a_band_says_why(tmp_path):
    scenario = hybridsim.load("tngd-digits-async", ["training.steps=2"])
    run = hybridsim.run(scenario, tmp_path / "run", backend="timing")
    write_report(run, tmp_path / "report.html")
    card = card_of((tmp_path / "report.html").read_text(), "Simulated time")
    assert "no band: what it computes depends on how long operations take" in card
    assert "(" not in dict(closing_rows(run))["simulated time"]


def test_a_run_that_is_not_complete_has_no_band_of_time(tmp_path):
    rows = simulate([Op(i % 3, i % 2, 1000) for i in range(31)])
    writer = RunWriter(tmp_path / "run")
    writer.write(Rows(rows))
    write_report(Run.open(tmp_path / "run"), tmp_path / "a.html")
    assert "band" not in card_of((tmp_path / "a.html").read_text(), "Simulated time")
