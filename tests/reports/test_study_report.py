"""The page of a study: the answer first, nothing hidden, nothing executed, small."""

from __future__ import annotations

import io
import re
from html import unescape

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from study_views import COUNT, COUNTS, LINK, SIDES, WIDTHS, points, view_of

from hybridsim.reports.figures import blank
from hybridsim.reports.study import StudyView, study_html, write_study_report
from hybridsim.reports.study_trust import grouped
from hybridsim.reports.study_view import value_text

EVIL = "<script>alert(1)</script>"


def page_of(folder, view: StudyView) -> str:
    write_study_report(view, folder / "study.html")
    return (folder / "study.html").read_text()


def body_of(text: str) -> str:
    """The page without its scripts, as a reader sees it."""
    body = text[text.index("<body>") :]
    return unescape(re.sub(r"<script.*?</script>", "", body, flags=re.S))


def section_of(text: str, title: str) -> str:
    body = body_of(text)
    start = body.index(f"<h2>{title}</h2>")
    return body[start : body.index("</section>", start)]


def rows_of(section: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", section, re.S)
    cells = (re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.S) for row in rows)
    return [[re.sub(r"<[^>]*>", "", cell) for cell in row] for row in cells]


def test_the_answer_stands_before_the_picture_and_the_picture_before_the_rest(tmp_path):
    view = view_of(points(), notes=("What the answer rests on.",))
    body = page_of(tmp_path, view)
    body = body[body.index("<body>") :]
    order = (view.sentence, "<figure", view.notes[0], "The answer in numbers")
    places = [body.index(text) for text in order]
    assert places == sorted(places)
    titles = [
        "What varied", "Baseline against variants", "Which part binds", "Points that cannot win",
        "Points without a result", "How the numbers came about", "Points", "Provenance",
        "To take away",
    ]  # fmt: skip
    places = [body.index(f"<h2>{title}</h2>") for title in titles]
    assert places == sorted(places)


def test_an_answer_that_is_not_trusted_says_so_before_it(tmp_path):
    table = points()
    trusted = page_of(tmp_path, view_of(table))
    assert 'class="answer"' in trusted and "cannot be trusted" not in trusted
    text = page_of(tmp_path, view_of(table, trusted=False))
    assert text.index("This answer cannot be trusted") < text.index('class="answer doubtful"')
    assert "solver error 0." in text[: text.index('class="answer doubtful"')]
    html = study_html(view_of(table, trusted=False))
    assert html.index("cannot be trusted") < html.index("With two SPUs")


def test_machines_that_nobody_can_build_are_named_before_the_answer(tmp_path):
    table = points().assign(unbuildable=f"spu0 takes {4.1:g} reticles")
    text = page_of(tmp_path, view_of(table))
    assert text.index("cannot be built today: spu0 takes 4.1 reticles") < text.index('"answer"')


def test_points_without_a_result_are_shown_with_their_reasons(tmp_path):
    table = points()
    table.loc[0, ["status", "reason"]] = ["failed", "the disk is full"]
    text = page_of(tmp_path, view_of(table))
    rows = rows_of(section_of(text, "Points without a result"))
    assert [row[2] for row in rows[1:]] == ["3", "1"]
    assert rows[1][0].startswith("refused: spu0: operation 'program' needs 600 cells")
    assert rows[1][0].endswith("(and 2 alike)")
    assert rows[2][:2] == [
        "failed: the disk is full",
        "thermodynamic, bandwidth 10 Gb/s, count 1, seed 0",
    ]
    assert "4 of 39 points have no result (3 refused, 1 failed)" in text
    marks = rows_of(section_of(text, "Points that cannot win"))
    assert marks[1][0].startswith("solver error 0.3") and marks[1][2] == "3"


def test_a_side_without_a_field_is_one_point_of_it(tmp_path):
    view = view_of(points())
    text = page_of(tmp_path, view)
    assert len(view.points) == 2 * len(WIDTHS) * len(COUNTS) * 3
    assert len(view.distinct) == (len(WIDTHS) * len(COUNTS) + 1) * 3
    rows = rows_of(section_of(text, "What varied"))
    assert rows[1] == [LINK, "10 Gb/s", ", ".join(WIDTHS), "thermodynamic"]
    assert rows[2] == [COUNT, "1", "1, 2, 4", "thermodynamic"]
    last = rows_of(section_of(text, "Baseline against variants"))[-1]
    assert last[:4] == ["digital", "–", "–", "3 of 3"]


def test_a_field_that_a_side_never_tried_is_not_said_to_matter_to_it(tmp_path):
    """Parts that one side has not: empty in its rows."""
    table = points()
    table = table[(table["side"] == SIDES[0]) | (table[COUNT] == 1) & (table[LINK] == WIDTHS[0])]
    text = page_of(tmp_path, view_of(table))
    assert [row[3] for row in rows_of(section_of(text, "What varied"))[1:]] == [SIDES[0]] * 2
    one = view_of(table[(table[COUNT] == 1) & (table[LINK] == WIDTHS[0])])
    rows = rows_of(section_of(page_of(tmp_path, one), "What varied"))
    assert [row[3] for row in rows[1:]] == ["thermodynamic, digital"] * 2


def test_variants_are_held_against_the_baseline_in_pairs_of_one_seed(tmp_path):
    """The ratio is the geometric mean over seeds; half its interval on logs is t s / sqrt(n)."""
    table = points(seeds=5)
    rows = rows_of(section_of(page_of(tmp_path, view_of(table)), "Baseline against variants"))
    assert rows[1][:3] == ["thermodynamic", "10 Gb/s", "1"] and rows[1][5] == "–"
    analog = table[table["side"] == "thermodynamic"].set_index([LINK, COUNT, "seed"])
    analog = analog["seconds"].sort_index()
    gaps = np.log(analog["50 Gb/s", 2] / analog["10 Gb/s", 1]).to_numpy()
    half = stats.t.ppf(0.975, 4) * gaps.std(ddof=1) / 5**0.5
    ends = np.exp([gaps.mean(), gaps.mean() - half, gaps.mean() + half])
    (line,) = [row for row in rows if row[:3] == ["thermodynamic", "50 Gb/s", "2"]]
    assert line[5] == f"{ends[0]:.3g} ({ends[1]:.3g} – {ends[2]:.3g})"
    other = view_of(table, baseline={LINK: "200 Gb/s", COUNT: 2})
    rows = rows_of(section_of(page_of(tmp_path, other), "Baseline against variants"))
    assert rows[1][:3] == ["thermodynamic", "200 Gb/s", "2"] and rows[1][5] == "–"


def test_what_did_not_reach_its_target_is_said(tmp_path):
    table = points()
    late = (table[LINK] == "50 Gb/s") & (table["side"] == "thermodynamic") & (table[COUNT] == 1)
    table.loc[late, ["seconds", "joules"]] = np.nan
    table.loc[late, "reached"] = False
    one = (table[LINK] == "200 Gb/s") & (table[COUNT] == 1) & (table["seed"] == 2)
    table.loc[one & (table["side"] == "thermodynamic"), "seconds"] = np.nan
    rows = rows_of(section_of(page_of(tmp_path, view_of(table)), "Baseline against variants"))
    found = {tuple(row[:3]): row[4] for row in rows}
    assert found["thermodynamic", "50 Gb/s", "1"] == "not reached"
    assert found["thermodynamic", "200 Gb/s", "1"].endswith("in 2 of 3")


def test_the_part_that_binds_stands_where_it_binds(tmp_path):
    section = section_of(page_of(tmp_path, view_of(points())), "Which part binds")
    rows = rows_of(section)
    assert ["spu0 · settle", "9 of 11", "0 of 1"] in rows
    assert ["gpu0 · inverses", "0 of 11", "1 of 1"] in rows
    matrix = [row for row in rows if row[0] in WIDTHS]
    assert [row[0] for row in matrix] == [*WIDTHS]
    assert matrix[0][1:] == [
        "spu0 · settle, 55 %",
        "link0 · factors, 55 %",
        "link0 · factors, 55 %",
    ]
    assert matrix[1][3] == "–"
    colours = {
        re.search(rf"border-left:5px solid (\S+?);[^>]*>{part}", section).group(1)
        for part in ("spu0", "link0")
    }
    assert len(colours) == 2


def test_seeds_that_disagree_on_what_binds_are_counted(tmp_path):
    table = points(seeds=3)
    first = (table[LINK] == WIDTHS[0]) & (table[COUNT] == 1) & (table["seed"] == 2)
    table.loc[first & (table["side"] == "thermodynamic"), "bottleneck"] = "gpu0 · gradients"
    rows = rows_of(section_of(page_of(tmp_path, view_of(table)), "Which part binds"))
    assert any("spu0 · settle, 55 % in 2 of 3" in row for row in rows)


def test_no_string_becomes_markup(tmp_path):
    table = points().assign(mark=EVIL, reason=EVIL, bottleneck=f"{EVIL} · {EVIL}", how=EVIL)
    table = table.assign(unbuildable=EVIL, side=EVIL).rename(columns={LINK: EVIL})
    table["point"], table["status"] = [f"{EVIL}{i}" for i in range(len(table))], "failed"
    table[EVIL] = EVIL
    view = view_of(
        points(), points=table, fields=(EVIL, COUNT), sides=(EVIL,), name=EVIL, kind=EVIL,
        sentence=EVIL, notes=(EVIL,), trusted=False, tuning=[{EVIL: EVIL}],
        answer_table=pd.DataFrame({EVIL: [EVIL]}), provenance={EVIL: f"{EVIL}\n{EVIL}", "b": EVIL},
        folders=dict.fromkeys(table["point"], f'{EVIL}"/javascript:alert(1)'),
        figure=blank(EVIL, EVIL, meta=EVIL).add_bar(x=[EVIL], y=[1], name=EVIL, customdata=[EVIL]),
    )  # fmt: skip
    text = page_of(tmp_path, view)
    assert EVIL not in text
    assert text.count("</script>") == text.count("<script") - text.count("'<script")
    assert EVIL not in study_html(view)
    targets = set(re.findall(r'href="([^"]*)"', body_of(text)))
    assert targets and all(re.fullmatch(r"\./[\w%/().~-]*", target) for target in targets)


def test_every_point_leads_to_its_folder(tmp_path):
    view = view_of(points())
    text = page_of(tmp_path, view)
    targets = re.findall(r'<a href="\./(points/\w+)">(\w+)</a>', text)
    assert dict(targets) == {view.folders[p]: p for p in view.distinct["point"]}


def test_a_thousand_points_are_a_small_page_that_holds_them_all(tmp_path):
    table = points(seeds=12, widths=tuple(f"{width} Gb/s" for width in range(10, 10 + 7 * 26, 7)))
    view = view_of(table)
    assert 900 < len(view.distinct) < 1100
    text = page_of(tmp_path, view)
    assert len(text.encode()) < 6_000_000
    section = section_of(text, "Points")
    assert "the first 100 of 948, the CSV below has all" in section
    assert len(rows_of(section)) == 101
    assert len(rows_of(section_of(text, "Baseline against variants"))) < 200
    csv = unescape(re.search(r"rows of points as CSV</summary><pre>(.*?)</pre>", text, re.S)[1])
    back = pd.read_csv(io.StringIO(csv))
    assert len(back) == len(table)
    assert back["seconds"].to_numpy() == pytest.approx(table["seconds"].to_numpy(), nan_ok=True)


def test_numbers_of_the_answer_have_their_units_and_fields_stand_as_they_are(tmp_path):
    table = pd.DataFrame({
        COUNT: [1, 2], "seconds": [1, 2], "low_s": [0.5e-3, np.nan], "ratio": [1.23456, 2.0],
        "runs": [3, 12345], "wins": [True, False],
    })  # fmt: skip
    text = page_of(tmp_path, view_of(points(), answer_table=table))
    assert rows_of(section_of(text, "The answer in numbers")) == [
        ["count", "seconds", "low", "ratio", "runs", "wins"],
        ["1", "1 s", "500 µs", "1.235", "3", "true"],
        ["2", "2 s", "–", "2", "12345", "false"],
    ]


def test_parts_that_differ_in_their_number_bind_as_one(tmp_path):
    table = points()
    analog = table["bottleneck"] == "spu0 · settle"
    table.loc[analog & (table["seed"] == 1), "bottleneck"] = "spu7 · settle"
    rows = rows_of(section_of(page_of(tmp_path, view_of(table)), "Which part binds"))
    assert ["spu · settle", "9 of 11", "0 of 1"] in rows
    assert ["gpu0 · inverses", "0 of 11", "1 of 1"] in rows
    assert not any("spu7" in cell or " in 2 of 3" in cell for row in rows for cell in row)


def test_a_notebook_shows_the_answer_its_picture_and_where_the_page_is():
    html = study_html(view_of(points()), "somewhere/report.html")
    places = ["With two SPUs", "Plotly.newPlot", "52 Gb/s", "somewhere/report.html"]
    assert [html.index(text) for text in places] == sorted(html.index(text) for text in places)
    assert "Plotly.newPlot" not in study_html(view_of(points(), figure=None))


def test_many_sampled_settings_are_listed_and_not_drawn_as_a_matrix(tmp_path):
    table = points(seeds=1, widths=tuple(f"{width} Gb/s" for width in range(10, 510)))
    table = table[(table["side"] == "thermodynamic") & (table[COUNT] == 1)]
    table = table.assign(**{COUNT: range(len(table))})
    text = page_of(tmp_path, view_of(table, sides=SIDES[:1]))
    assert "the first 100 of 500" in section_of(text, "Which part binds")
    assert "500 values" in section_of(text, "What varied")
    assert len(text.encode()) < 6_000_000


def test_a_study_of_nothing_and_one_without_fields_have_pages(tmp_path):
    table = points(seeds=2)
    table = table.drop_duplicates(["side", "seed"]).drop(columns=[LINK, COUNT])
    view = view_of(
        points(), points=table, fields=(), figure=None, answer_table=pd.DataFrame(), notes=(),
        tuning=(), provenance={},
    )  # fmt: skip
    text = page_of(tmp_path, view)
    assert "No field varies" in text and "Nothing was tuned" in text
    empty = view_of(points(), points=table.iloc[:0], fields=(), figure=None)
    assert "0 points" in page_of(tmp_path, empty)


def test_maps_and_absent_values_of_fields_are_told_apart(tmp_path):
    table = points(seeds=2)
    table = table[(table["side"] == "thermodynamic") & (table[LINK] == WIDTHS[0])]
    kinds = {1: {"kind": "sgd"}, 2: {"kind": "adam"}, 4: None}
    table = table.assign(**{COUNT: [kinds[count] for count in table[COUNT]]})
    text = page_of(tmp_path, view_of(table, sides=SIDES[:1], figure=None))
    rows = rows_of(section_of(text, "What varied"))
    assert rows[2][2] == '{"kind": "sgd"}, {"kind": "adam"}, –'


@pytest.mark.parametrize(("value", "shown"), [
    ("3.1622776601683744e-10 F", "316.228 pF"), ("31.622776601683793 tau", "31.6228 tau"),
    ("5e10 b/s", "5e10 b/s"), ("12345678 b/s", "12345678 b/s"), ("1.5 nF", "1.5 nF"),
    ("12.3456789", "12.3456789"), ("a 1.23456789 word", "a 1.23456789 word"),
])  # fmt: skip
def test_a_value_with_every_digit_is_shown_with_six(value, shown):
    assert value_text(value) == shown


def test_reasons_that_differ_in_numbers_are_one():
    found = grouped(["a 1 b", "x", "a 2.5e-3 b", "a -7 b"])
    assert found == {"a # b": ("a 1 b", 3), "x": ("x", 1)}


def test_the_names_of_what_is_drawn_stand_above_the_picture(tmp_path):
    text = page_of(tmp_path, view_of(points()))
    legend = text[text.index('class="legend"') : text.index("<figure")]
    assert all(f"{count} SPUs" in legend for count in COUNTS)
