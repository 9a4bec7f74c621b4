"""Reports and comparisons in a real browser: everything drawn, nothing executed, nothing fetched,
nothing complained.

Chromium and its driver must be installed (Debian: chromium, chromium-driver): without them these
tests fail.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from schedules import COLUMN, Op, simulate, write_run
from selenium.webdriver import Chrome
from selenium.webdriver.support.ui import WebDriverWait

from hybridsim.reports.compare import write_comparison
from hybridsim.reports.report import write_report
from hybridsim.results.read import Run

pytestmark = pytest.mark.browser

EVIL = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1><b>bold</b>&amp;"
TARGET = {"metric": "test_accuracy", "threshold": 0.7, "direction": "above"}
MARKS = ".scatterlayer .js-line, .scatterlayer path.point, .barlayer .point path"
"""What plotly draws for the data: lines, markers, bars."""


def rows_of(evil: bool):
    rows = [list(row) for row in simulate([Op(i % 3, i % 2, 10**6 * (i + 1)) for i in range(31)])]
    for cells in rows if evil else ():
        for name in ("part", "lane", "kind", "layer", "note"):
            cells[COLUMN[name]] = EVIL + cells[COLUMN[name]]
    return [tuple(cells) for cells in rows]


@pytest.fixture(scope="module", params=["report", "evil report", "comparison"])
def page(request, tmp_path_factory) -> Path:
    folder, evil = tmp_path_factory.mktemp("pages"), request.param.startswith("evil")
    name, events = (
        (EVIL if evil else "made up"),
        [(5, EVIL, EVIL, 1, EVIL, 3.0, EVIL)] if evil else [],
    )
    for index in range(3):
        write_run(
            folder / str(index),
            rows_of(evil),
            name=f"{name} {'ab'[index % 2]}",
            events=events,
            target=TARGET,
        )
    runs = [Run.open(folder / str(index)) for index in range(3)]
    if request.param == "comparison":
        write_comparison(runs, folder / "page.html")
    else:
        write_report(runs[0], folder / "page.html")
    return folder / "page.html"


def visit(browser: Chrome, page: Path, width: int = 1280) -> None:
    """Open a page at a width and wait until its last chart is there; forget what was logged
    before."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(page.as_uri())
    drawn = (
        "return [...document.querySelectorAll('figure.chart')].every(f => "
        f"f.querySelector('{MARKS}'))"
    )
    WebDriverWait(browser, 30).until(lambda b: b.execute_script(drawn))


@pytest.mark.parametrize("width", [1280, 420])
def test_every_chart_is_drawn_and_nothing_overflows(browser, page, width):
    visit(browser, page, width)
    charts = browser.execute_script(
        "return [...document.querySelectorAll('figure.chart')].map(f => "
        f"[f.querySelectorAll('{MARKS}').length,"
        " f.querySelector('.main-svg').getBoundingClientRect().width, "
        "f.getBoundingClientRect().width])"
    )
    assert len(charts) >= 6
    for marks, drawn_width, room in charts:
        assert marks > 0
        assert 0 < drawn_width <= room + 1
    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(overflow) <= 0


def test_the_console_stays_silent_and_nothing_is_fetched(browser, page):
    visit(browser, page)
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        m["params"]["request"]["url"]
        for m in messages
        if m["method"] == "Network.requestWillBeSent"
    ]
    assert all(url.startswith(("file://", "data:", "blob:")) for url in asked), asked
    assert [url for url in asked if url.startswith("file://")] == [page.as_uri()]


def test_text_stays_text(browser, page):
    visit(browser, page)
    assert browser.execute_script("return window.hacked") is None
    assert (
        browser.execute_script(
            "return document.querySelectorAll('img, main script:not([type])').length"
        )
        == 0
    )
    name = Run.open(page.parent / "0").name
    if EVIL in name:
        assert browser.title == f"{name} – hybridsim"
        assert browser.execute_script("return document.querySelector('h1').textContent") == name
        labels = browser.execute_script(
            "return [...document.querySelectorAll('.ytick text')].map(t => t.textContent)"
        )
        assert any(EVIL in label for label in labels), labels


def test_pointing_at_a_bar_tells_its_duration_energy_and_parents(browser, page):
    visit(browser, page)
    texts = browser.execute_script(
        "var found = []; document.querySelectorAll('figure.chart > div').forEach(function (div) {"
        " var bar = div.data.findIndex(t => t.base && t.text); if (bar < 0) return;"
        " Plotly.Fx.hover(div, [{curveNumber: bar, pointNumber: 0}]);"
        " found.push([...div.querySelectorAll('.hovertext')].map(t => t.textContent).join(' '));"
        " found.push(div.data.map(t => String(t.customdata)).join(' ')); }); return found"
    )
    if "against" in browser.title:
        assert texts == []
        return
    shown, given = texts
    assert "energy" in shown, shown
    for word in ("waits", " from "):
        assert word in given
    assert browser.execute_script("return window.hacked") is None
