"""Whatever comes of points, every question has an answer that can be said, stored and drawn."""

from __future__ import annotations

import json
import zlib

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from toy_lab import ToyLab, axis, constant, study

from hybridsim.studies.load import load_study
from hybridsim.studies.questions._sentences import LONGEST
from hybridsim.studies.questions.break_even import BreakEven
from hybridsim.studies.questions.next import Next
from hybridsim.studies.questions.pareto import Pareto
from hybridsim.studies.questions.search import Search
from hybridsim.studies.questions.sensitivity import Sensitivity
from hybridsim.studies.questions.table import Table
from hybridsim.studies.questions.uncertainty import Uncertainty

NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
SPUS, LINK = "machine.spus.count", "machine.link.bandwidth"
CONSTANTS = [constant("gpu.x", 0.0, 1.0), constant("spu.output_bits", 2, 5, numeric=True)]
OUTCOMES = st.sampled_from(
    [
        {"status": "failed", "reason": "ValueError: <b>&"},
        {"status": "diverged"},
        {"status": "refused", "reason": "too large"},
        {"status": "missing"},
        {"reached": False},
        {"how": "timing"},
        {"seconds": 0.0, "joules": 0.0},
        *({"seconds": s, "joules": j, "reached": True} for s in (1e-12, 1.0, 3e9) for j in (1, 2)),
    ]
)
MARKS = st.sampled_from(["", "", "solver error 0.41 above 0.3"])
LONG = "a-very-long-name-of-a-side-that-somebody-gave-to-it"


def random_outcome(choices):
    """The same outcome for the same point, from a few that are drawn."""

    def outcome(side, values, seed):
        key = zlib.crc32(f"{side}{sorted(values.items())}{seed}".encode())
        found, mark = choices[key % len(choices)]
        return {**found, "mark": mark, "bottleneck": "gpu0 · launch" if key % 2 else ""}

    return outcome


def check(question, lab):
    answer = question.answer(lab)
    assert 0 < len(answer.sentence) <= LONGEST and answer.sentence.isprintable()
    assert answer.sentence[0] == answer.sentence[0].upper()
    json.dumps(dict(answer.facts), allow_nan=False)
    assert all(note.isprintable() for note in answer.notes)
    figure = question.picture(lab, answer)
    assert figure.layout.meta and figure.to_json()


@pytest.mark.parametrize("sides", [["a"], ["a", LONG], ["a", "b", "c"]])
@settings(max_examples=4, phases=NO_SHRINKING)
@given(st.lists(st.tuples(OUTCOMES, MARKS), min_size=1, max_size=6), st.integers(1, 3))
def test_of_points(sides, choices, seeds):
    axes = [axis({SPUS: [1, 2, 8]}), axis({LINK: ["1 Gb/s", "50 Gb/s"]}, sides=sides[:1])]
    for few in (axes, axes[:1], []):
        lab = ToyLab(study(sides, few, seeds=seeds), random_outcome(choices))
        check(Table(kind="table"), lab)
        check(Pareto(kind="pareto"), lab)
        if len(sides) == 2 and few:
            check(BreakEven(kind="break_even", axis=SPUS, tolerance=0.2), lab)
    fields = {SPUS: {"low": 1, "high": 9}, LINK: {"low": "1 Gb/s", "high": "9 Gb/s"}}
    search = Search.model_validate(
        {"kind": "search", "fields": fields, "evaluations": 5, "side": sides[0]}
    )
    check(search, ToyLab(study(sides, seeds=seeds), random_outcome(choices)))


@settings(max_examples=3, phases=NO_SHRINKING)
@given(st.lists(st.tuples(OUTCOMES, MARKS), min_size=1, max_size=6), st.integers(1, 3))
def test_of_draws(choices, seeds):
    outcome = random_outcome(choices)

    def priced(side, own, seed):
        return outcome(side, {"x": round(own["gpu.x"], 1)}, seed)

    for sides in (["a", LONG], ["a"]):
        lab = ToyLab(study(sides, seeds=seeds), outcome, CONSTANTS, priced)
        lab.reordered = lambda side, own: own["gpu.x"] > 0.7
        if len(sides) == 2:
            for numeric in ("hold", "vary"):
                check(
                    Uncertainty(kind="uncertainty", draws=40, simulate=3, numeric=numeric,
                                numeric_points=4), lab,
                )  # fmt: skip
        for method in ("tornado", "sobol", "morris"):
            check(Sensitivity(kind="sensitivity", method=method, samples=8, numeric="vary"), lab)


@settings(max_examples=3, phases=NO_SHRINKING)
@given(st.lists(st.tuples(OUTCOMES, MARKS), min_size=1, max_size=6))
def test_of_parts(choices):
    sides = {"scenarios": {"a": "kfac-digits", "b": "kfac-digits-digital"}, "seeds": 2}
    found = load_study({"name": "next", **sides, "question": {"kind": "next"}})
    check(Next(kind="next"), ToyLab(found, random_outcome(choices)))
