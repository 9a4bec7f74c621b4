"""Valid studies, damaged in every way: nothing but InputError is raised, one line each."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.errors import InputError
from hybridsim.scenario.emit import emit
from hybridsim.studies.load import load_study

VALID: list[dict[str, Any]] = [
    {
        "name": "two sides",
        "scenarios": {
            "analog": {"scenario": "kfac-digits", "set": {"machine.spus.buffering": "single"}},
            "digital": "kfac-digits-digital",
        },
        "set": {"training.steps": 100},
        "axes": [
            {"field": "machine.link.bandwidth", "grid": ["1 Gb/s", "2 Gb/s"], "sides": ["analog"]},
            {"zip": {"training.batch_size": [8, 16], "training.evaluate_every": [4, 2]}},
            {
                "field": "machine.gpu.idle",
                "sample": {"low": "40 W", "high": "80 W", "count": 2, "scale": "log"},
            },
        ],
        "seeds": [3, 4],
        "tuning": {
            "seeds": [100],
            "fields": {
                "analog": {"training.algorithm.damping": [0.1, 0.2]},
                "digital": {"training.algorithm.learning_rate": [0.01, 0.02]},
            },
        },
        "gate": {"solver_error": 0.2},
        "question": {"kind": "table"},
    },
    {"name": "one", "base": "tngd-digits", "backend": "timing", "question": {"kind": "table"}},
]
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 5)
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["kfac-digits", "x.yaml", "a/b", "analog", "machine.link", "3 tau", "1 Gb/s", "[", "seed"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["scenario", "set", "field", "grid", "zip", "sample", "machine.spus[0].count"]
            )
            | st.text(max_size=5),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, (dict, list)):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(child, (*path, key))


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    document = copy.deepcopy(document)
    inner = document
    for part in path[:-1]:
        inner = inner[part]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return document


def loads_or_is_refused(source: Any, overrides: list[str] | None = None) -> None:
    try:
        study = load_study(source, overrides or [])
    except InputError as error:
        assert error.problems
        for problem in error.problems:
            line = str(problem)
            assert line.isprintable()
            assert ": expected " in line
            assert ", got " in line
    else:
        assert load_study(study.document()) == study


@settings(max_examples=100, deadline=None)
@given(data=st.data(), junk=JUNK | st.just(...))
def test_junk_anywhere(data: st.DataObject, junk: Any) -> None:
    document = data.draw(st.sampled_from(VALID))
    path = data.draw(st.sampled_from(list(places(document))[1:]))
    loads_or_is_refused(replaced(document, path, junk))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_text(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    text = emit(data.draw(st.sampled_from(VALID)))
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(len(text), start + 20)))
    inserted = data.draw(st.text("\t\n :-[]{}&*!'\"#%0e.\0é", max_size=4) | st.text(max_size=3))
    path = tmp_path_factory.getbasetemp() / "damaged.yaml"
    path.write_text(text[:start] + inserted + text[stop:], encoding="utf-8", errors="surrogatepass")
    loads_or_is_refused(path)


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(
        st.text(max_size=20) | st.text("set.axes[0]scenarios.analog=:{}3,", max_size=20),
        max_size=3,
    )
)
def test_any_override(texts: list[str]) -> None:
    loads_or_is_refused(VALID[0], texts)
