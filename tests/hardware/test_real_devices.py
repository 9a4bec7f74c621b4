"""What limits of amplifiers and switches cost: closed forms, and where they act."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hybridsim
from hybridsim.errors import HybridsimError, InputError
from hybridsim.hardware.kinds import price
from hybridsim.hardware.lane import Label
from hybridsim.hardware.requests import Held, Measure, Preset, Settle, decode, encode
from hybridsim.hardware.spu_events import check_energy
from hybridsim.hardware.spu_tariffs import amplifier_power_w
from hybridsim.scenario.datasheets.sheets import load_part

SHEET = load_part("spu", "rc-1us")


def scenario(kind: str, **spus):
    algorithm = {
        "tngd": {"kind": "tngd", "settle": "5 tau"},
        "kfac": {"kind": "kfac", "method": "solves", "learning_rate": 0.1, "damping": 0.1},
    }[kind]
    return hybridsim.load(
        {
            "name": "device",
            "workload": {"source": "digits_mlp", "options": {"hidden": 6, "depth": 1}},
            "training": {"batch_size": 4, "steps": 2, "algorithm": algorithm},
            "machine": {"gpu": "a100-sxm4-80gb", "spus": {"imperfections": "ideal", **spus}},
        }
    )


@given(
    st.integers(1, 10**5), st.integers(2, 16), st.integers(1, 50), st.floats(10, 1e3),
    st.floats(1e-12, 1e-8),
)  # fmt: skip
def test_a_preset_lasts_until_the_last_bit(cells, bits, count, ohm, farad):
    given_ = SHEET.overridden({"preset_resistance_ohm": ohm, "capacitance_f": farad})
    found = price(given_, Preset(cells, bits, count))
    assert found.duration_ps == pytest.approx(ohm * farad * math.log(2**bits) * count * 1e12, abs=1)
    assert found.energy_j == pytest.approx(cells * count * farad * SHEET.value("full_scale_v") ** 2)


def test_ten_bits_through_100_ohm_take_seven_tenths_of_a_microsecond():
    assert price(SHEET, Preset(1, 10, 1)).duration_ps == 693_147


@given(st.floats(1e7, 1e10), st.floats(1e-13, 1e-11), st.floats(0.05, 0.5), st.floats(0.5, 2))
def test_an_amplifier_draws_what_its_gain_bandwidth_asks_for(gbw, load, overdrive, rail):
    """g = 2 pi GBW C; I = g V/2; from both rails."""
    names = ("gain_bandwidth_hz", "load_capacitance_f", "overdrive_v", "rail_v")
    sheet = SHEET.overridden(dict(zip(names, (gbw, load, overdrive, rail), strict=True)))
    current = 2 * math.pi * gbw * load * overdrive / 2
    assert amplifier_power_w(sheet) == pytest.approx(2 * rail * current, rel=1e-12)


@settings(max_examples=50)
@given(
    st.floats(0, 100), st.integers(1, 10**6), st.floats(0, 1e6), st.floats(0, 1e6),
    st.booleans(),
)  # fmt: skip
def test_rails_pay_for_charge_where_they_supply_it(tau, resistors, heat, charge, supplied):
    request = Settle(tau, resistors, heat, 1, charge, supplied)
    volts, rail, farad = (SHEET.value(name) for name in ("full_scale_v", "rail_v", "capacitance_f"))
    expected = rail * volts * farad * charge if supplied else volts**2 * farad * heat
    assert price(SHEET, request).energy_j == pytest.approx(expected)
    kept = request if supplied else request._replace(charge=None)
    assert decode(*encode(request)) == kept


@settings(max_examples=50)
@given(st.integers(1, 10**4), st.integers(1, 9), st.floats(0, 1e6), st.booleans())
def test_a_held_state_takes_its_power_while_it_is_read(cells, count, amount, supplied):
    request = Measure(cells, 8, count, Held(5, amount, amount, supplied))
    free = price(SHEET, Measure(cells, 8, count))
    found = price(SHEET, request)
    volts, ohm = SHEET.value("full_scale_v"), SHEET.value("resistance_ohm")
    source = SHEET.value("rail_v") if supplied else volts
    expected = source * volts / ohm * amount * free.duration_ps * 1e-12
    assert found.duration_ps == free.duration_ps
    assert found.energy_j == pytest.approx(free.energy_j + expected)
    assert decode(*encode(request)) == request


@pytest.mark.parametrize("kind", ["tngd", "kfac"])
def test_a_settle_and_its_holding_are_one_power(kind):
    """Ten settling times held while one converter reads all cells."""
    on = {"base": "ideal", "holding": True}
    run = hybridsim.run(scenario(kind, imperfections=on, adc_channels=1))
    plain = hybridsim.run(scenario(kind, adc_channels=1))
    for a, b in zip(run.spans.itertuples(), plain.spans.itertuples(), strict=True):
        if a.category == "relax":
            power_w = a.energy_j / (a.end_ps - a.start_ps)
        if a.category == "measure":
            held_j = power_w * (a.end_ps - a.start_ps)
            assert a.energy_j - b.energy_j == pytest.approx(held_j, rel=1e-9)


@pytest.mark.parametrize("kind", ["tngd", "kfac"])
def test_signs_take_amplifiers_or_resistors(kind):
    def found(**spus):
        made = scenario(kind, **spus)
        run = hybridsim.run(made, backend="timing")
        amplifiers = next(r for r in run.manifest["static_power"] if r["component"] == "amplifiers")
        written = run.spans.loc[run.spans["category"] == "write", "writes"].sum()
        return amplifiers["power_w"], written

    power, writes = found()
    on = {"base": "ideal", "signs": True}
    assert found(imperfections=on) == (2 * power, writes)
    assert found(imperfections=on, sign_amplifiers=0) == (power, 2 * writes)


@pytest.mark.parametrize("kind", ["tngd", "kfac"])
def test_presets_are_operations_of_their_own_and_cost_time(kind):
    ideal = hybridsim.run(scenario(kind), backend="timing")
    on = {"base": "ideal", "preset": True}
    preset = hybridsim.run(scenario(kind, imperfections=on), backend="timing")
    spans = preset.spans[preset.spans["category"] == "preset"]
    assert len(spans) and "preset" not in set(ideal.spans["category"])
    assert preset.steps["end_ps"].iloc[-1] > ideal.steps["end_ps"].iloc[-1]


def test_a_full_scale_of_zero_or_beyond_the_rails_is_refused():
    for on, text in (("thermal_noise", "> 0 V"), ("load_current", "<= the rail")):
        volts = "0 V" if on == "thermal_noise" else "2 V"
        made = scenario("tngd", full_scale=volts, imperfections={"base": "ideal", on: True})
        with pytest.raises(InputError, match=text):
            hybridsim.run(made, backend="timing")


def test_gains_that_do_not_step_up_are_refused():
    made = scenario("tngd", gain_step=0.5, imperfections={"base": "ideal", "full_scales": True})
    with pytest.raises(InputError, match="ratio >= 1"):
        hybridsim.run(made, backend="timing")


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("fact", ["dissipation", "charge"])
def test_an_energy_that_is_no_number_ends_the_run_with_a_message(fact, value):
    label = Label("settle", 3)
    check_energy("spu0", label, {fact: 1.0, "saturation": math.inf})
    with pytest.raises(HybridsimError, match=f"spu0: step 3: 'settle' ran away.* finite {fact}"):
        check_energy("spu0", label, {fact: value})
