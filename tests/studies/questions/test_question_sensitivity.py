"""Sensitivity: Sobol indices equal analytic ones, tornados the model's own factors."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
from toy_lab import ToyLab, axis, constant, study

from hybridsim.reports.statistics import log_interval
from hybridsim.studies.questions.sensitivity import Sensitivity

UNIT = [constant(f"part.x{k}", 0.0, 1.0) for k in range(3)]
"""Uniform from 0 to 1."""
LOGS = [constant("gpu.x", 1.0, 1000.0), constant("gpu.y", 1.0, 10.0), constant("spu.z", 1.0, 2.0)]


def ishigami(side, own, seed):
    x, y, z = (math.pi * (2 * own[one.name] - 1) for one in UNIT)
    value = math.sin(x) + 7 * math.sin(y) ** 2 + 0.1 * z**4 * math.sin(x)
    return {"seconds": math.exp(value / 10)}


def product(side, own, seed):
    """Of two sides the second does not feel x."""
    x, y, z = (own[one.name] for one in LOGS)
    value = x**0.5 * y * z**0.1 if side == "a" else y**0.5 / z
    return {"seconds": value * (1 + 0.1 * seed), "joules": 1.0}


def lab_of(price, constants, sides=("a",), seeds=1, **options):
    return ToyLab(
        study(sides, seeds=seeds, **options), lambda *_: {"seconds": 1.0}, constants, price
    )


def by_name(answer):
    return {one["factor"]: one for one in answer.facts["effects"]}


def test_sobol_indices_are_ishigamis():
    """Ishigami & Homma 1990: S = 0.3139, 0.4424, 0; T = 0.5576, 0.4424, 0.2437."""
    answer = Sensitivity(kind="sensitivity", method="sobol", samples=1024).answer(
        lab_of(ishigami, UNIT)
    )
    found = by_name(answer)
    first, total = (0.3139, 0.4424, 0.0), (0.5576, 0.4424, 0.2437)
    for one, s, t in zip(UNIT, first, total, strict=True):
        assert found[one.name]["first_order"] == pytest.approx(s, abs=0.05)
        assert found[one.name]["total"] == pytest.approx(t, abs=0.05)
    assert [one["factor"] for one in answer.facts["effects"]] == [one.name for one in UNIT]
    assert answer.sentence.startswith(
        "Of the variance of the logarithm of seconds of a takes part: x0 5"
    )
    assert answer.facts["draws"] == 1024 * 5 and len(answer.sentence) <= 300


@pytest.mark.parametrize("sides", [("a",), ("a", "b")])
def test_sobol_indices_of_a_product_are_squares_of_exponents_times_log_ranges(sides):
    answer = Sensitivity(kind="sensitivity", method="sobol", samples=256).answer(
        lab_of(product, LOGS, sides, seeds=2)
    )
    exponents = (0.5, 1.0, 0.1) if len(sides) == 1 else (0.5, 0.5, 1.1)
    ranges = [math.log(one.high / one.low) for one in LOGS]
    parts = np.array([(e * r) ** 2 for e, r in zip(exponents, ranges, strict=True)])
    found = by_name(answer)
    for one, index in zip(LOGS, parts / parts.sum(), strict=True):
        assert found[one.name]["first_order"] == pytest.approx(index, abs=0.03)
        assert found[one.name]["total"] == pytest.approx(index, abs=0.03)


def test_sobols_intervals_cover_the_indices():
    ranges = np.array([0.5, 1.0, 0.1]) * [math.log(one.high / one.low) for one in LOGS]
    truth = dict(zip([one.name for one in LOGS], ranges**2 / (ranges**2).sum(), strict=True))
    covered, studies = 0, 40
    question = Sensitivity(kind="sensitivity", method="sobol", samples=64)
    for seed in range(studies):
        found = by_name(question.answer(lab_of(product, LOGS, draw_seed=seed)))
        covered += sum(
            abs(found[name]["total"] - index) <= found[name]["total_half"]
            for name, index in truth.items()
        )
    tried = 3 * studies
    assert covered / tried >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / tried)


def test_morris_orders_by_exponent_times_log_range():
    answer = Sensitivity(kind="sensitivity", method="morris", samples=20).answer(
        lab_of(product, LOGS)
    )
    assert [one["factor"] for one in answer.facts["effects"]] == ["gpu.x", "gpu.y", "spu.z"]
    found = by_name(answer)
    # The logarithm is linear: every elementary effect is that of the whole range.
    for one, exponent in zip(LOGS, (0.5, 1.0, 0.1), strict=True):
        effect = exponent * math.log(one.high / one.low)
        assert found[one.name]["mean_effect"] == pytest.approx(effect)
        assert found[one.name]["spread"] == pytest.approx(0, abs=1e-6)
    assert "x 31.6 times" in answer.sentence


def test_a_tornado_has_the_models_factors_with_intervals_over_seeds():
    noise = np.random.default_rng(0).normal(0, 0.1, 5)

    def noisy(side, own, seed):
        exponent = 0.5 * (1 + noise[seed])
        return {"seconds": own["gpu.x"] ** exponent * own["gpu.y"]}

    answer = Sensitivity(kind="sensitivity").answer(lab_of(noisy, LOGS, seeds=5))
    x, y, z = LOGS
    found = by_name(answer)
    per_seed = [(x.high / x.value) ** (0.5 * (1 + e)) for e in noise]
    interval = log_interval(per_seed)
    numbers = [found["gpu.x"][f"at_high{end}"] for end in ("", "_low", "_high")]
    assert numbers == pytest.approx(interval[:3])
    assert found["gpu.y"]["at_low"] == pytest.approx(y.low / y.value)
    assert found["spu.z"]["at_low"] == found["spu.z"]["at_high"] == 1
    assert answer.facts["draws"] == 7
    assert answer.sentence.startswith("X moves seconds of a most: 0.0")
    assert "(95 % over 5 seeds); then y" in answer.sentence


def test_a_tornado_of_two_sides_says_what_alone_changes_the_winner():
    answer = Sensitivity(kind="sensitivity").answer(lab_of(product, LOGS, ("a", "b"), seeds=2))
    x, y, z = (one.value for one in LOGS)
    nominal = x**0.5 * y**0.5 * z**1.1
    assert nominal * (1 / x) ** 0.5 > 1  # a never wins by one constant alone
    assert "none alone changes the winner" in answer.sentence

    def close(side, own, seed):
        return {"seconds": own["gpu.x"] if side == "a" else 300.0}

    answer = Sensitivity(kind="sensitivity").answer(lab_of(close, LOGS, ("a", "b")))
    assert answer.sentence.endswith("; x alone changes the winner")


def test_nothing_that_changes_and_nothing_that_varies():
    flat = lab_of(lambda *_: {"seconds": 1.0}, LOGS)
    for method in ("tornado", "sobol", "morris"):
        question = Sensitivity(kind="sensitivity", method=method, samples=8)
        assert question.answer(flat).sentence == "None of 3 factors changes seconds of a"
        assert question.answer(lab_of(product, [])).sentence == "Nothing varies"


def test_base_samples_with_holes_are_left_out():
    lab = lab_of(product, LOGS)
    lab.reordered = lambda side, own: own["gpu.x"] > 500
    question = Sensitivity(kind="sensitivity", method="sobol", samples=256, simulate=0)
    answer = question.answer(lab)
    assert 0 < answer.facts["left_out"] < answer.facts["draws"]
    assert answer.facts["left_out"] % 5 == 0
    assert any("evaluations are left out" in note for note in answer.notes)
    lab.reordered = lambda side, own: True
    assert question.answer(lab).sentence.startswith("Nothing can be said of seconds of a: 1280 of")


def test_numeric_constants_are_held_unless_they_are_to_vary():
    bits = constant("spu.output_bits", 8, 13, numeric=True)

    def price(side, own, seed):
        return {"seconds": own["spu.output_bits"] * own["gpu.x"]}

    lab = lab_of(price, [*LOGS, bits])
    held = Sensitivity(kind="sensitivity").answer(lab)
    assert held.facts["held"] == ["spu.output_bits"]
    assert any("Held at nominal: spu.output_bits" in note for note in held.notes)
    varied = by_name(Sensitivity(kind="sensitivity", numeric="vary").answer(lab))
    assert varied["spu.output_bits"]["at_low"] == pytest.approx(8 / bits.value)
    some = Sensitivity(kind="sensitivity", constants=["gpu.y"]).answer(lab)
    assert list(by_name(some)) == ["gpu.y"]


def sampled(ranges):
    from hybridsim.studies.schema import AxisChoice

    axes, choices = [], []
    for index, (field, (low, high, scale)) in enumerate(ranges.items()):
        one = axis({field: [low, high]}, "sample")
        axes.append(type(one)(one.kind, one.nodes, one.sides, index))
        sample = {"low": low, "high": high, "count": 2, "scale": scale}
        choices.append(AxisChoice.model_validate({"field": field, "sample": sample}))
    return axes, choices


@pytest.mark.parametrize("method", ["tornado", "sobol", "morris"])
def test_sampled_axes_vary_over_their_ranges(method):
    axes, choices = sampled(
        {"p": (1.0, 100.0, "log"), "q": (0.0, 1.0, "linear"), "n": (1, 4, "log")}
    )
    found = study(["a"], axes, axis_choices=choices)

    def outcome(side, values, seed):
        assert type(values["n"]) is int
        return {"seconds": values["p"] * math.exp(values["q"])}

    lab = ToyLab(found, outcome)
    question = Sensitivity(kind="sensitivity", method=method, over="axes", samples=512)
    assert not question.problems(found)
    effects = by_name(question.answer(lab))
    if method == "tornado":
        assert effects["p"]["at_high"] == pytest.approx(10)
        assert effects["q"]["at_low"] == pytest.approx(math.exp(-0.5))
    if method == "sobol":
        parts = (math.log(100) ** 2 / 12, 1 / 12)
        assert effects["p"]["total"] == pytest.approx(parts[0] / sum(parts), abs=0.03)
        assert effects["n"]["total"] == pytest.approx(0, abs=0.01)
    if method == "morris":
        assert effects["p"]["mean_effect"] == pytest.approx(math.log(100))
        assert effects["q"]["mean_effect"] == pytest.approx(1)


@pytest.mark.parametrize("method", ["tornado", "sobol", "morris"])
def test_pictures(method):
    lab = lab_of(product, LOGS, ("a", "b"))
    question = Sensitivity(kind="sensitivity", method=method, samples=8)
    figure = question.picture(lab, question.answer(lab))
    assert figure.layout.meta and figure.to_json()
    assert figure.data[0].type == ("bar" if method == "tornado" else "scatter")


@pytest.mark.parametrize(
    ("asked", "options", "path"),
    [
        ({}, {"sides": ["a", "b", "c"]}, ("scenarios",)),
        ({}, {"axes": [axis({"n": [1, 2]})]}, ("axes",)),
        ({"over": "axes"}, {}, ("axes",)),
        ({"over": "axes"}, {"axes": [axis({"n": [1, 2]})]}, ("axes",)),
        ({"method": "sobol", "samples": 100}, {}, ("question", "samples")),
    ],
)
def test_studies_that_do_not_fit(asked, options, path):
    found = study(options.pop("sides", ["a"]), **options)
    problems = Sensitivity(kind="sensitivity", **asked).problems(found)
    assert [where for where, _, _ in problems] == [path]


def test_without_salib_a_line_says_what_installs_it(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "SALib" else find(name, *more),
    )
    ((path, expected, got),) = Sensitivity(kind="sensitivity", method="morris").problems(
        study(["a"])
    )
    assert path == ("question", "method") and got == "morris without it"
    assert expected == "SALib installed (pip install 'hybridsim[sensitivity]')"
    assert not Sensitivity(kind="sensitivity").problems(study(["a"]))
