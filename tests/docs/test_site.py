"""The site builds without a warning, its links lead somewhere, its reference is whole."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

import hybridsim
from analysis.docs import hooks, reference
from analysis.pictures import first_run
from hybridsim.results import columns
from hybridsim.scenario.datasheets.constants import CONSTANTS
from hybridsim.studies.catalogue import QUESTIONS

ROOT = hooks.ROOT
PAGES = hooks.pages()
REFERENCE = ROOT / "analysis" / "docs" / "pages" / "reference"  # written when the site is built


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site")
    words = ["-m", "mkdocs", "build", "--strict", "--config-file", "analysis/docs/mkdocs.yml"]
    command = [sys.executable, *words, "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search(r"^WARNING", done.stderr, re.M), done.stderr
    return out


def test_every_link_of_the_site_leads_somewhere(site):
    pages = {path: path.read_text() for path in site.rglob("*.html")}
    named = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in pages.items()}
    lost = []
    for path, text in pages.items():
        for link in re.findall(r'(?:href|src)="([^"]+)"', text):
            target, anchor = urldefrag(unquote(link))
            if "://" in link or link.startswith(("data:", "mailto:", "/")) or path.stem == "404":
                continue
            there = (path.parent / target).resolve() if target else path
            good = there.is_file() and (not anchor or anchor in named.get(there, {anchor}))
            lost += [] if good else [f"{path.relative_to(site)}: {link}"]
    assert not lost


def test_the_site_needs_no_network(site):
    for path in site.rglob("*.html"):
        assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?:', path.read_text())


@pytest.mark.parametrize("page", PAGES, ids=[str(p.relative_to(ROOT)) for p in PAGES])
def test_links_lead_somewhere_in_the_repository(page):
    """Those to the reference, which lies on the site alone, are checked when the site is built."""
    for link in hooks.LINK.findall(page.read_text()):
        path = (page.parent / unquote(link)).resolve()
        assert "://" in link or path.is_file() or path.parent == REFERENCE, link
    for name in re.findall(r"python -m (analysis(?:\.\w+)+)\b(?!\.)", page.read_text()):
        assert (ROOT / name.replace(".", "/")).with_suffix(".py").is_file(), name


def schema_of(name):
    return json.loads((ROOT / "scenarios" / f"{name}.schema.json").read_text())


def fields(node):
    """Names of all fields in a JSON schema."""
    if isinstance(node, dict):
        yield from node.get("properties", {})
        for value in node.values():
            yield from fields(value)
    elif isinstance(node, list):
        for value in node:
            yield from fields(value)


def test_the_reference_has_every_field_of_a_scenario():
    text, schema = reference.scenario(), schema_of("scenario")
    names = set(fields(schema["else"])) | set(fields(schema["$defs"]))
    assert len(names) > 80
    assert {name for name in names if f"| `{name}` |" not in text} <= {"extends"}


def test_the_reference_has_every_field_of_a_study():
    text = reference.study()
    names = set(fields(schema_of("studies/study")))
    assert len(names) > 20 and not {name for name in names if f"| `{name}` |" not in text}
    assert all(f"`{kind}`" in text for kind in QUESTIONS)


def test_the_reference_has_every_column_key_and_constant():
    tables, summary, constants = (
        reference.run_folder(),
        reference.summary(),
        reference.constants(),
    )
    for schema in (columns.STEPS, columns.SPANS, columns.EVENTS, columns.REQUESTS):
        assert all(f"| `{name}` |" in tables for name in schema.names)
    for kind in reference.summary_maps().values():
        assert reference.keys_of(kind).keys() == reference.meanings_of(kind).keys(), kind
        assert all(f"| `{key}` |" in summary for key in reference.keys_of(kind))
    for specs in CONSTANTS.values():
        assert all(f"| `{spec.key}` |" in constants for spec in specs)


@pytest.mark.parametrize(
    "name", ["tngd-digits", "tngd-digits-async", "kfac-digits", "adam-digits", "ngd-cg-digits"]
)
def test_every_column_of_a_learning_curve_is_explained(name):
    run = hybridsim.run(hybridsim.load(name, ["training.steps=2", "training.batch_size=4"]))
    assert set(run.steps.columns) - {"time_s"} <= columns.STEP_MEANINGS.keys()
    assert set(run.summary) <= reference.keys_of(reference.summary_maps()["Summary"]).keys()


def test_marks_of_the_readme_are_those_that_are_filled():
    text = (ROOT / "README.md").read_text()
    names = {found[2] for found in first_run.MARK.finditer(text)}
    stored = first_run.stored()
    assert len(names) > 10 and stored.keys() <= names
    known = dict.fromkeys(names, "7")
    assert first_run.MARK.sub(r"\1\3", first_run.filled(text, known)) == first_run.MARK.sub(
        r"\1\3", text
    )
    with pytest.raises(KeyError):
        first_run.filled("<!--=nothing-->1<!--/-->", known)


def test_the_studies_numbers_of_the_readme_are_those_of_their_results():
    text = (ROOT / "README.md").read_text()
    for name, value in first_run.stored().items():
        assert f"<!--={name}-->{value}<!--/-->" in text, (
            "run: python -m analysis.pictures.first_run"
        )
