"""Valid scenarios, damaged in every way: each damage is found, and nothing but InputError is
raised."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.errors import MOST_PROBLEMS, InputError
from hybridsim.scenario.emit import emit
from hybridsim.scenario.load import load
from hybridsim.scenario.merge import shipped_scenarios

QUANTITY = re.compile(r"[\d.]+ [A-Za-z/]+")
GENERAL = {
    "constants": "paper",
    "nodes": {
        "gpu": {"kind": "gpu", "part": "h200-sxm", "idle": "90 W"},
        "far": {"kind": "spu", "input_bits": "ideal", "capacitance": "2 nF"},
        "near": {"kind": "spu", "part": "rc-100ns", "buffering": "double"},
        "switch": {"kind": "switch"},
    },
    "edges": [
        {"between": ["gpu", "near"], "link": "ucie"},
        {
            "between": ["gpu", "switch"],
            "link": {"part": "pcie5", "chunk": "64 KiB", "latency": "2 us"},
        },
        {"between": ["switch", "far"], "link": "free"},
    ],
}
ADAM = {"kind": "adam", "beta1": 0.0, "beta2": 0.5, "epsilon": 1e-6}


def valid_documents() -> list[dict[str, Any]]:
    documents = [load(name).document() for name in shipped_scenarios()]
    general = copy.deepcopy(documents[-1])
    general["training"]["algorithm"] |= {
        "update": ADAM,
        "mode": "asynchronous",
        "delay": "3 tau",
        "calibration_every": None,
    }
    general["machine"] = GENERAL
    general["workload"] = {"source": "digits_mlp", "options": {"hidden": 8}}
    several = copy.deepcopy(documents[0])
    several["machine"]["gpu"] = {
        "part": "a100-sxm4-80gb",
        "count": 2,
        "interconnect": {"bandwidth": "100 Gb/s"},
    }
    muon = load("kfac-digits", ["training.algorithm.update=muon"]).document()
    return [*documents, load(general).document(), load(several).document(), muon]


VALID = valid_documents()
LOOSE = ("options", "nodes")  # maps whose keys the user chooses


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    yield path, value
    if isinstance(value, dict):
        for key, child in value.items():
            yield from places(child, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from places(child, (*path, index))


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    document = copy.deepcopy(document)
    if not path:
        return value
    inner = document
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    return document


def damages(path: tuple[Any, ...], value: Any) -> list[Any]:
    """Values that can never stand where ``value`` does."""
    if "options" in path:
        return [[1], {"a": 1}] if not isinstance(value, dict) else [[], 3]
    if isinstance(value, dict):
        return (
            [[], 3, True, [value], {**value, "no such key": 1}]
            if path[-1:] != ("nodes",)
            else [[], 3, {}]
        )
    if isinstance(value, list):
        return [{}, 3, "x", None]
    if isinstance(value, str) and QUANTITY.fullmatch(value):
        number, unit = value.split(" ")
        return [
            float(number),
            number,
            f"{number} parsec",
            f"{number} {unit}*K",
            [value],
            True,
            f"-1 {unit}",
            f"nan {unit}",
        ]
    if isinstance(value, str):
        wrong = [[value], 1, True, float("nan"), "", *([] if path[-1] == "link" else [{}])]
        return wrong if path == ("name",) else [*wrong, f"{value}-x"]
    return [
        "on",
        "1",
        [value],
        {},
        float("nan"),
        float("inf"),
        *([-1] if "ns_coefficients" not in path else []),
        7 if isinstance(value, bool) else True,
        "3 s",
    ]


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_every_structural_damage_is_found(data: st.DataObject) -> None:
    document = data.draw(st.sampled_from(VALID))
    path, value = data.draw(st.sampled_from([p for p in places(document) if p[0]]))
    damage = data.draw(st.sampled_from(damages(path, value)))
    with pytest.raises(InputError) as caught:
        load(replaced(document, path, damage))
    check(caught.value)
    names = [part for part in path if isinstance(part, str)]
    assert any(names[0] in problem.path for problem in caught.value.problems)


def check(error: InputError) -> None:
    assert error.problems
    for problem in error.problems:
        line = str(problem)
        assert line.isprintable() and ": expected " in line and ", got " in line
        assert problem.expected and problem.got


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(
        [
            "adam",
            "tngd",
            "a100-sxm4-80gb",
            "x.yaml",
            "../x.yaml",
            "x.py",
            "3 tau",
            "50 Gb/s",
            "free",
            "\0.yaml",
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kind", "part", "spus", "nodes", "link", "a", "extends"])
            | st.text(max_size=5),
            inner,
        )
    ),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(data=st.data(), junk=JUNK)
def test_junk_anywhere_is_loaded_or_refused(data: st.DataObject, junk: Any) -> None:
    document = data.draw(st.sampled_from(VALID))
    path, _ = data.draw(st.sampled_from(list(places(document))))
    try:
        scenario = load(replaced(document, path, junk))
    except InputError as error:
        check(error)
    else:
        assert load(scenario.document()) == scenario


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_text_is_loaded_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = emit(data.draw(st.sampled_from(VALID)))
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(len(text), start + 20)))
    inserted = data.draw(st.text("\t\n :-[]{}&*!'\"#%0e.\0é", max_size=4) | st.text(max_size=3))
    path = tmp_path_factory.getbasetemp() / "damaged.yaml"
    path.write_text(text[:start] + inserted + text[stop:], encoding="utf-8", errors="surrogatepass")
    try:
        load(path)
    except InputError as error:
        check(error)


@settings(max_examples=300, deadline=None)
@given(
    texts=st.lists(
        st.text(max_size=20) | st.text("machine.gpusu[0]=:{}3 tau,", max_size=20), max_size=3
    )
)
def test_any_override_is_applied_or_refused(texts: list[str]) -> None:
    try:
        load("tngd-digits", texts)
    except InputError as error:
        check(error)


def test_a_required_field_that_is_missing_is_named() -> None:
    for document in VALID:
        for path, _ in places(document):
            if path in [
                ("name",),
                ("workload",),
                ("training",),
                ("machine",),
                ("training", "algorithm"),
            ]:
                broken = copy.deepcopy(document)
                inner = broken
                for part in path[:-1]:
                    inner = inner[part]
                del inner[path[-1]]
                with pytest.raises(InputError) as caught:
                    load(broken)
                assert [p.path for p in caught.value.problems] == [".".join(path)]


def test_of_a_thousand_mistakes_the_first_are_told(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("".join(f"key{n}: 1\n" for n in range(4_900)))
    with pytest.raises(InputError) as caught:
        load(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == MOST_PROBLEMS + 1
    assert lines[-1] == "... and more"


def test_a_broken_file_reports_everything_at_once(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: x\n"
        "seed: -1\n"
        "workload: digit_cnn\n"
        "training:\n"
        "  steps: 1.5\n"
        "  steps: 2\n"
        "  algorithm: {kind: tngd, dampng: 0.1, settle: 50, delay: 1 s}\n"
        "machine:\n"
        "  gpu: a100-sxm4-80\n"
        "  link: {bandwidth: 50 GB/s, latency: .nan}\n"
        "  spus: {count: on, input_bits: 17}\n"
        "hosts: {}\n"
    )
    with pytest.raises(InputError) as caught:
        load(path)
    found = {(p.line, p.path) for p in caught.value.problems}
    assert found == {
        (2, "seed"),
        (3, "workload.source"),
        (5, "training.steps"),
        (6, "training.steps"),
        (7, "training.algorithm.dampng"),
        (7, "training.algorithm.settle"),
        (7, "training.algorithm.delay"),
        (9, "machine.gpu.part"),
        (10, "machine.link.bandwidth"),
        (10, "machine.link.latency"),
        (11, "machine.spus.count"),
        (11, "machine.spus.input_bits"),
        (12, "hosts"),
    }
    text = str(caught.value)
    for hint in (
        "'digits_cnn'",
        "'damping'",
        "'a100-sxm4-80gb'",
        "'host'",
        "1 B = 8 b",
        "bare number 50",
    ):
        assert hint in text
