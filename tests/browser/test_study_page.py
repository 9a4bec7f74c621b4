"""The page of a study in a real browser: drawn, no wider than the window, nothing executed.

Chromium and its driver must be installed (Debian: chromium, chromium-driver): without them these
tests fail.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.support.ui import WebDriverWait
from study_views import points, view_of

from hybridsim.reports.study import write_study_report
from hybridsim.reports.study_figures import Axis
from hybridsim.reports.study_tornado import Bar, tornado

pytestmark = pytest.mark.browser

EVIL = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>" + "very-long" * 20
WIDE = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
LINES = ".scatterlayer .js-line"
PLACE = (
    "var place = document.querySelector(arguments[0]).getBoundingClientRect();"
    " return [place.left, place.right]"
)
OPEN = "document.querySelectorAll('details').forEach(d => { d.open = true; })"


@pytest.fixture(scope="module", params=["plain", "a thousand points", "evil"])
def page(request, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("studies") / "page.html"
    table, given = points(), {}
    if request.param == "a thousand points":
        table = points(seeds=12, widths=tuple(f"{width} Gb/s" for width in range(10, 192, 7)))
    elif request.param == "evil":
        table = table.assign(reason=EVIL, mark=EVIL, bottleneck=f"{EVIL} · {EVIL}", status="failed")
        given = {"name": EVIL, "sentence": EVIL, "notes": (EVIL,), "trusted": False}
    write_study_report(view_of(table, **given), path)
    return path


def visit(browser: Chrome, page: Path, width: int, marks: str = LINES, fewest: int = 2) -> None:
    """Open a page at a width, unfold all of it and wait until its picture is there."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get_log("browser")
    browser.get(page.as_uri())
    drawn = f"return document.querySelectorAll('{marks}').length"
    WebDriverWait(browser, 30).until(lambda b: b.execute_script(drawn) >= fewest)
    browser.execute_script(OPEN)


@pytest.mark.parametrize("width", [1280, 420])
def test_the_page_is_drawn_and_no_wider_than_the_window(browser, page, width):
    visit(browser, page, width)
    assert browser.execute_script(WIDE) <= 0
    answer, picture = browser.execute_script(
        "return ['p.answer', '.main-svg'].map(s => {"
        " var r = document.querySelector(s).getBoundingClientRect();"
        " return [r.left, r.right, r.top]; })"
    )
    assert answer[2] < picture[2]
    for left, right, _ in (answer, picture):
        assert 0 <= left < right <= width
    assert browser.get_log("browser") == []
    assert browser.get_screenshot_as_png()


def test_long_names_leave_room_for_the_bars_of_a_narrow_chart(browser, tmp_path):
    name = "a100-sxm4-80gb with the next link up (assumed)"
    rows = [Bar(f"{name} {index}", 0.5, 2.0, True, "") for index in range(6)]
    figure = tornado(rows, Axis("factor on seconds to the target over the baseline"), "")
    write_study_report(view_of(points(), figure=figure), tmp_path / "page.html")
    visit(browser, tmp_path / "page.html", 420, ".barlayer .point path", 12)
    left, right = browser.execute_script(PLACE, ".nsewdrag")
    assert right - left > 0.3 * 420
    left, right = browser.execute_script(PLACE, ".xtitle")
    assert 0 <= left < right <= 420


def test_text_stays_text(browser, page):
    visit(browser, page, 1280)
    assert browser.execute_script("return window.hacked") is None
    foreign = "return document.querySelectorAll('img, main script:not([type])').length"
    assert browser.execute_script(foreign) == 0
