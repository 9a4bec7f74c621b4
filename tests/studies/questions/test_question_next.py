"""The next part up: the least better shipped one of each kind, and what it gains alone."""

from __future__ import annotations

import pytest
from toy_lab import ToyLab

from hybridsim.reports.statistics import paired_ratio
from hybridsim.scenario.datasheets.sheets import load_part, part_names
from hybridsim.studies.load import load_study
from hybridsim.studies.questions._ladder import next_up, rungs
from hybridsim.studies.questions.next import Next

GPU, LINK, SPUS = "machine.gpu.part", "machine.link.part", "machine.spus.part"


def study_of(**more):
    found = {"name": "next", "base": "kfac-digits", "seeds": 4, "question": {"kind": "next"}}
    return load_study(found | more)


def by_part(answer):
    return {(row["side"], row["part"]): row for row in answer.facts["steps"]}


def outcome(side, values, seed):
    """A link takes a third off, a GPU 2 %, with noise that hides it; the SPU makes it worse."""
    found = 1.0 + 0.1 * seed
    found *= 2 / 3 if values.get(LINK) else 1.0
    found *= 0.98 * (1.1 if seed % 2 else 0.9) if values.get(GPU) else 1.0
    found *= 1.5 if values.get(SPUS) else 1.0
    return {"seconds": found, "bottleneck": "gpu0 · launch", "bottleneck_share": 0.4 + 0.1 * seed}


def test_every_part_is_replaced_alone_and_gains_pair_by_seed():
    lab = ToyLab(study_of(), outcome)
    answer = lab.study.question.answer(lab)
    changed = [values for values in lab.asked if values]
    assert changed == [
        {GPU: "h100-sxm5-80gb"},
        {LINK: "pcie3"},
        {SPUS: "rc-100ns"},
    ]
    found = by_part(answer)["kfac-digits", "paper-50gbps"]
    base = [1.0 + 0.1 * seed for seed in range(4)]
    interval = paired_ratio([value * 2 / 3 for value in base], base).interval
    assert (found["gain"], found["gain_low"], found["gain_high"]) == pytest.approx(interval[:3])
    assert (
        found["detectable"] and not by_part(answer)["kfac-digits", "a100-sxm4-80gb"]["detectable"]
    )
    assert by_part(answer)["kfac-digits", "rc-1us"]["gain"] == pytest.approx(2 / 3)
    assert answer.sentence == (
        "Pcie3 in place of paper-50gbps takes 1.5 times less seconds [1.5, 1.5] (95 % over 4 "
        "seeds), the most of 3 next parts up; gpu0 · launch binds today, 55 % of the critical path"
    )
    assert answer.facts["bottlenecks"]["kfac-digits"]["name"] == "gpu0 · launch"
    assert Next(kind="next").picture(lab, answer).layout.meta


def test_nothing_that_seeds_explain_is_a_gain():
    def noise(side, values, seed):
        return {"seconds": 1.0 + 0.1 * seed + (0.2 if len(values) == seed % 2 else 0.0)}

    lab = ToyLab(study_of(), noise)
    answer = lab.study.question.answer(lab)
    assert answer.sentence.startswith(
        "No part's next one up takes detectably less seconds of kfac-digits (95 % over 4 seeds)"
    )


def test_a_part_that_is_the_best_of_its_kind_has_none():
    lab = ToyLab(study_of(set={"machine.spus.part": "rc-10ns"}), outcome)
    answer = lab.study.question.answer(lab)
    row = by_part(answer)["kfac-digits", "rc-10ns"]
    assert row["better"] is None and row["gain"] is None
    by = "time constant RC, of those that hold as much"
    assert f"No shipped spu is better than rc-10ns by {by}." in answer.notes


def test_constants_of_the_scenario_stay_and_are_named():
    lab = ToyLab(study_of(set={"machine.link.bandwidth": "300 Gb/s"}), outcome)
    answer = lab.study.question.answer(lab)
    assert by_part(answer)["kfac-digits", "paper-50gbps"]["better"] == "pcie5"
    assert any("stays (bandwidth)" in note for note in answer.notes)


def test_two_sides_and_a_marked_gain():
    def marked(side, values, seed):
        mark = "settling was never run live" if side == "thermodynamic" else ""
        return {**outcome(side, values, seed), "mark": mark}

    sides = {"thermodynamic": "kfac-digits", "digital": "kfac-digits-digital"}
    found = {"name": "next", "scenarios": sides, "seeds": 4, "question": {"kind": "next"}}
    lab = ToyLab(load_study(found), marked)
    answer = lab.study.question.answer(lab)
    assert not answer.trusted and answer.sentence.startswith("Not trusted (thermodynamic")
    assert ("digital", "a100-sxm4-80gb") in by_part(answer)


def test_alike_nodes_of_a_general_machine_are_one_part():
    machine = {
        "nodes": {
            "gpu": {"kind": "gpu", "part": "v100-sxm2-32gb"},
            "one": {"kind": "spu", "part": "rc-1us"},
            "two": {"kind": "spu", "part": "rc-1us"},
            "three": {"kind": "spu", "part": "rc-1us", "adc_rate": "10 MHz"},
        },
        "edges": [{"between": ["gpu", name], "link": "pcie4"} for name in ("one", "two", "three")],
    }
    scenario = study_of().expansion.scenario("kfac-digits", {}).document()
    from hybridsim.scenario.load import load

    found = rungs(load(scenario | {"machine": machine}))
    changes = [rung.change for rung in found]
    assert {"machine.nodes.one.part": "rc-100ns", "machine.nodes.two.part": "rc-100ns"} in changes
    assert {"machine.nodes.three.part": "rc-100ns"} in changes
    assert {f"machine.edges[{k}].link.part": "pcie5" for k in range(3)} in changes
    assert len(found) == 4


def test_the_ladders_climb_to_the_best_part_without_a_circle():
    for kind in ("gpu", "link", "spu"):
        for name in part_names(kind):
            seen = [name]
            while True:
                sheet = load_part(kind, seen[-1]).with_set("realistic")
                better = next_up(kind, seen[-1], sheet, "realistic")
                if better is None:
                    break
                assert better not in seen
                seen.append(better)
    sheet = load_part("gpu", "h100-sxm5-80gb")
    assert next_up("gpu", "h100-sxm5-80gb", sheet, "realistic") == "h200-sxm"


def test_axes_do_not_fit():
    from hybridsim.errors import InputError

    with pytest.raises(InputError, match="axes: expected no axes"):
        study_of(axes=[{"field": "machine.spus.count", "grid": [1, 2]}])
