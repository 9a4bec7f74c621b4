"""The timeline in a real browser: drawn, readable at both widths, answers the pointer, executes
nothing it was given.

Chromium and its driver must be installed (Debian: chromium, chromium-driver): without them these
tests fail.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from schedules import COLUMN, Op, simulate, write_run
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.support.ui import WebDriverWait

import hybridsim
from hybridsim.reports.timeline import write_timeline
from hybridsim.results.read import Run

pytestmark = pytest.mark.browser

EVIL = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
HOVER = "return [...document.querySelectorAll('.hovertext')].map(t => t.textContent).join(' ')"


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Path:
    """K-FAC on several SPUs: queues, a critical path, messages in flight."""
    folder = tmp_path_factory.mktemp("real")
    run = hybridsim.run(
        hybridsim.load("kfac-digits", ["training.steps=4"]), folder / "run", backend="timing"
    )
    write_timeline(run, folder / "page.html")
    return folder / "page.html"


@pytest.fixture(scope="module")
def evil(tmp_path_factory) -> Path:
    """A run in which every string is hostile."""
    folder = tmp_path_factory.mktemp("evil")
    rows = [list(row) for row in simulate([Op(i % 3, i % 2, 10**6 * i) for i in range(31)])]
    for cells in rows:
        for name in ("part", "lane", "kind", "layer", "note"):
            cells[COLUMN[name]] = EVIL + cells[COLUMN[name]]
    write_run(folder / "run", [tuple(cells) for cells in rows], name=EVIL)
    write_timeline(Run.open(folder / "run"), folder / "page.html")
    return folder / "page.html"


def visit(browser: Chrome, page: Path, width: int = 1280) -> None:
    """Open a page at a width, unfold all of it and wait until its last chart is there; forget what
    was logged before."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(page.as_uri())
    drawn = (
        "return [...document.querySelectorAll('figure.chart')].every(f => "
        "f.querySelector('.cartesianlayer .trace'))"
    )
    WebDriverWait(browser, 30).until(lambda b: b.execute_script(drawn))
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    filled = (
        "return [...document.querySelectorAll('figure.chart')].every(f => "
        "f.querySelector('.main-svg').getBoundingClientRect().width > "
        "0.95 * f.getBoundingClientRect().width)"
    )
    WebDriverWait(browser, 10).until(lambda b: b.execute_script(filled))


def point_at(browser: Chrome, chart: int, x: float, y: float) -> str:
    """Move the pointer to a place in axis coordinates of a chart; returns what the page says
    there."""
    place = browser.execute_script(
        "var div = document.querySelectorAll('figure.chart > div')[arguments[0]], l = "
        "div._fullLayout;"
        "div.scrollIntoView({block: 'center'}); var box = div.getBoundingClientRect();"
        "return [box.left + l.xaxis._offset + l.xaxis.d2p(arguments[1]), box.top + "
        "l.yaxis._offset + l.yaxis.d2p(arguments[2])]",
        chart,
        x,
        y,
    )
    move_to(browser, 1, 1)
    WebDriverWait(browser, 5).until(lambda b: not b.execute_script(HOVER))
    move_to(browser, *map(round, place))
    time.sleep(0.3)  # plotly answers at most every 50 ms, and the pointer came from elsewhere
    return browser.execute_script(HOVER)


def move_to(browser: Chrome, x: int, y: int) -> None:
    mover = ActionChains(browser, duration=0)
    mover.w3c_actions.pointer_action.move_to_location(x, y)
    mover.perform()


def data_of(browser: Chrome, chart: int) -> list[dict]:
    return json.loads(
        browser.execute_script(
            "const chart = document.querySelectorAll('figure.chart')[arguments[0]];"
            "return chart.querySelector('script').textContent",
            chart,
        )
    )["data"]


@pytest.mark.parametrize("width", [1280, 420])
@pytest.mark.parametrize("name", ["real", "evil"])
def test_charts_are_drawn_fill_the_width_and_nothing_overflows(browser, request, name, width):
    visit(browser, request.getfixturevalue(name), width)
    charts = browser.execute_script(
        "return [...document.querySelectorAll('figure.chart')].map(f => "
        "[f.querySelectorAll('.point, .scatterlayer path').length,"
        " f.querySelector('.main-svg').getBoundingClientRect().width, "
        "f.getBoundingClientRect().width])"
    )
    assert len(charts) == {"real": 6, "evil": 3}[name]  # parts alike, and below them every part
    for marks, drawn, room in charts:
        assert marks > 0 and 0.95 * room <= drawn <= room + 1
    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(overflow) <= 0
    labels = browser.execute_script(
        "return [...document.querySelectorAll('.ytick text, .annotation-text')].map(t => "
        "t.getBoundingClientRect())"
        ".map(b => [b.left, b.right])"
    )
    assert labels and all(left >= 0 and right <= width for left, right in labels)


def test_the_console_stays_silent_and_nothing_is_fetched(browser, evil):
    visit(browser, evil)
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        m["params"]["request"]["url"]
        for m in messages
        if m["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [evil.as_uri()]


def test_hostile_names_stay_text_also_where_the_pointer_is(browser, evil):
    visit(browser, evil)
    assert browser.execute_script("return document.querySelector('h1').textContent") == EVIL
    bars = next(
        trace for trace in data_of(browser, 2) if trace.get("textposition") and max(trace["x"]) > 0
    )
    longest = bars["x"].index(max(bars["x"]))
    shown = point_at(browser, 2, bars["base"][longest] + bars["x"][longest] / 2, bars["y"][longest])
    assert shown.startswith(EVIL)
    strip = next(trace for trace in data_of(browser, 0) if trace["type"] == "heatmap")
    assert point_at(browser, 0, strip["x0"] * 9, strip["y0"]).startswith(EVIL)
    assert browser.execute_script("return window.hacked") is None
    assert (
        browser.execute_script(
            "return document.querySelectorAll('img, main script:not([type])').length"
        )
        == 0
    )


@pytest.mark.parametrize("width", [1280, 420])
def test_the_pointer_finds_long_and_short_operations_waits_and_bins(browser, real, width):
    visit(browser, real, width)
    traces = data_of(browser, 5)
    settle = next(trace for trace in traces if "settle g" in str(trace.get("text")))
    shown = point_at(browser, 5, settle["base"][0] + settle["x"][0] / 2, settle["y"][0])
    assert "settle g" in shown and "energy" in shown and "–" in shown and "discharge g #" in shown
    strokes = next(trace for trace in traces if trace["type"] == "scatter")
    place = next(i for i, text in enumerate(strokes["customdata"]) if text.startswith("<b>program"))
    assert "resistors written" in point_at(browser, 5, strokes["x"][place], strokes["y"][place])
    waits = next(trace for trace in traces if "waits" in str(trace.get("customdata")))
    longest = waits["x"].index(max(waits["x"]))
    assert "held up by" in point_at(
        browser, 5, waits["base"][longest] + waits["x"][longest] / 4, waits["y"][longest]
    )
    strip = next(
        trace
        for trace in data_of(browser, 0)
        if trace["type"] == "heatmap" and "core" in trace["meta"][0]
    )
    shown = point_at(browser, 0, strip["x0"] * (2 * 100 + 1), strip["y0"])
    assert strip["meta"][0] in shown and "% of the time in service" in shown
