"""Areas, lines and power at rest of SPUs against hand-made sums and a solved ladder."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hybridsim
from hybridsim.circuits.load import Load
from hybridsim.circuits.low_rank_parts import load as tngd_load
from hybridsim.errors import CapacityError
from hybridsim.hardware.size import extent
from hybridsim.reports.buildability import MOST_DROP, buildability
from hybridsim.scenario.datasheets.sheets import load_part, part_names
from hybridsim.simulate import load_task
from hybridsim.unread import sizes_of

SHEET = load_part("spu", "rc-1us")
SMALL = {
    "name": "size",
    "workload": {"source": "digits_mlp", "options": {"hidden": 6, "depth": 1}},
    "training": {
        "batch_size": 4, "steps": 2, "evaluate_every": 2,
        "algorithm": {"kind": "tngd", "settle": "5 tau"},
    },
}  # fmt: skip
N, R = 64 * 6 + 6 + 6 * 10 + 10, 4 * 10
"""Parameters of the small network, and rows of its Jacobian."""


def small(**spus):
    machine = {"gpu": "a100-sxm4-80gb", "spus": {"count": 1, "part": "rc-1us", **spus}}
    return hybridsim.load(SMALL | {"machine": machine})


loads = st.builds(
    Load,
    cells=st.integers(1, 10**5),
    resistors=st.integers(1, 10**9),
    amplifiers=st.integers(1, 10**5),
    rows=st.integers(0, 10**5),
)
factor = st.floats(0.1, 10)


@given(
    load=loads, sets=st.integers(1, 2), inverted=st.booleans(), factors=st.tuples(*[factor] * 8),
    channels=st.integers(0, 99),
)  # fmt: skip
def test_areas_and_lines_are_hand_made_sums(load, sets, inverted, factors, channels):
    """In µm, fF and Ω, as one would do it on paper."""
    density, resistor, amplifier, dac, adc, pitch, square, picofarad = factors
    values = {
        "capacitor_density_f_per_m2": density * 1e-15 / 1e-12,
        "resistor_area_m2": resistor * 1e-12,
        "amplifier_area_m2": amplifier * 1e-12,
        "dac_area_m2": dac * 1e-12,
        "adc_area_m2": adc * 1e-12,
        "wire_pitch_m": pitch * 1e-6,
        "wire_sheet_resistance_ohm": square,
        "capacitance_f": picofarad * 1e-12,
        "sign_amplifiers": float(inverted),
        "adc_channels": float(channels),
        "amplifier_power_w": 3e-3,
    }
    found = extent(SHEET.overridden(values), load, sets)
    resistors = load.resistors * sets * (1 if inverted else 2)
    amplifiers = load.amplifiers * (2 if inverted else 1)
    side = max(resistor**0.5, pitch)
    areas = {
        "capacitors_mm2": load.cells * picofarad * 1e3 / density,
        "resistors_mm2": resistors * side * side,
        "amplifiers_mm2": amplifiers * amplifier,
        "dacs_mm2": load.cells * dac,
        "adcs_mm2": (channels or load.cells) * adc,
    }
    for key, area in areas.items():
        assert found[key] == pytest.approx(area * 1e-6, rel=1e-9)
    whole = sum(areas.values()) * 1e-6
    assert found["area_mm2"] == pytest.approx(whole, rel=1e-9)
    assert found["reticles"] == pytest.approx(whole / (26 * 33), rel=1e-9)
    line = max(load.cells, load.rows) * side
    ohm = square * line / (pitch / 2)
    assert found["line_m"] == pytest.approx(line * 1e-6, rel=1e-9)
    assert found["line_ohm"] == pytest.approx(ohm, rel=1e-9)
    farad = line * 0.2e-15
    assert found["line_rc"] == pytest.approx(ohm * farad / 2 / (1e3 * picofarad * 1e-12), rel=1e-9)
    assert found["standby_w"] == pytest.approx(amplifiers * 3e-3, rel=1e-9)
    assert (found["resistors"], found["amplifiers"]) == (resistors, amplifiers)


@given(one=loads, other=loads, sets=st.integers(1, 2), name=st.sampled_from(part_names("spu")))
def test_more_of_anything_is_no_smaller(one, other, sets, name):
    sheet = load_part("spu", name)
    more = Load(*map(max, one[:3], other[:3]), rows=max(one.rows, other.rows))
    small_, large = extent(sheet, one, sets), extent(sheet, more, 2)
    assert all(small_[key] <= large[key] for key in small_)


@given(
    n=st.integers(1, 60), ohm=st.floats(1e-6, 1e-4), wire=st.floats(0.001, 1), side=st.floats(1, 9)
)
def test_the_drop_is_that_of_a_ladder_of_resistors(n, ohm, wire, side):
    """n resistors of R from V = 1 to a line of n pieces that ends in a virtual ground."""
    values = {"wire_sheet_resistance_ohm": wire * ohm, "resistor_area_m2": (side * 1e-6) ** 2}
    sheet = SHEET.overridden(values)
    found = extent(sheet, Load(n, n, n))
    piece, unit = 1 / (found["line_ohm"] / n), 1 / sheet.value("resistance_ohm")
    ladder = np.diag([2 * piece + unit] * n) - piece * (np.eye(n, k=1) + np.eye(n, k=-1))
    ladder[-1, -1] -= piece  # nothing lies beyond the far end
    far = np.linalg.solve(ladder, np.full(n, unit))[-1]
    drop = found["line_drop"] * (n + 1) / n
    assert far == pytest.approx(drop, rel=2 * drop + 1e-9)


def test_the_papers_network_takes_25_million_resistors_and_lines_of_19_cm():
    """mnist_cnn, 19,354 parameters, batches of 64 with ten outputs."""
    rows = 64 * 10
    found = extent(SHEET, tngd_load(19_354, rows, outputs=10))
    assert found["resistors"] == rows * (rows + 2 * 19_354) == 25_182_720
    assert found["resistors_mm2"] == pytest.approx(2518.272)
    assert found["line_m"] == pytest.approx(0.19354)
    assert 15e3 < found["line_ohm"] < 20e3 and found["line_drop"] > MOST_DROP
    assert found["amplifiers"] == 2 * (19_354 + 2 * rows)


@pytest.fixture(scope="module")
def task():
    return load_task(small())


def test_a_run_says_how_large_its_device_is_and_its_digest_does_not(task):
    first = hybridsim.run(small(), backend="timing", task=task)
    (size,) = first.summary["sizes"]
    resistors = R * (R + 2 * N)
    assert size["used"]["cells"] == N and size["used"]["resistors"] == resistors
    assert size["whole"]["resistors"] == 10**12
    assert size["used"]["line_m"] == pytest.approx(N * 1e-5)
    low_um2 = N * 1e6 / 10 + resistors * 10 + 2 * (N + 2 * R) * 500 + N * (1e3 + 5e3)
    high_um2 = N * 1e6 / 2 + resistors * 1e3 + 2 * (N + 2 * R) * 2e4 + N * (1e5 + 9e5)
    assert size["used_low_mm2"] == pytest.approx(low_um2 * 1e-6)
    assert size["used_high_mm2"] == pytest.approx(high_um2 * 1e-6)
    twice = small(resistor_area="400 um2", buffering="double")
    second = hybridsim.run(twice, backend="timing", task=task)
    ratio = second.summary["sizes"][0]["used"]["resistors_mm2"] / size["used"]["resistors_mm2"]
    assert ratio == pytest.approx(8)
    other = hybridsim.run(small(resistor_area="400 um2"), backend="timing", task=task)
    assert other.summary["sizes"] != first.summary["sizes"]
    assert other.manifest["digest"] == first.manifest["digest"]


def test_a_limit_of_area_is_a_refusal_before_the_run(task, tmp_path):
    area = sizes_of(small(), task)[0]["used"]["area_mm2"]
    hybridsim.run(small(area_limit=f"{area * 1.01:.6g} mm2"), backend="timing", task=task)
    with pytest.raises(CapacityError, match=r"spu0: .* area_limit is .*machine\.spus\.area_limit"):
        hybridsim.run(small(area_limit=f"{area * 0.99:.6g} mm2"), tmp_path / "b", task=task)
    assert not (tmp_path / "b").exists()


def test_the_one_reticle_part_fits_one_reticle_and_every_part_says_whether_it_was_built():
    sheets = [load_part("spu", name) for name in part_names("spu")]
    reticles = {}
    for sheet in sheets:
        cells, resistors = int(sheet.value("cells")), int(sheet.value("resistors"))
        reticles[sheet.name] = extent(sheet, Load(cells, resistors, cells))["reticles"]
    assert 0.9 < reticles["reticle-1us"] <= 1 and reticles["board-8"] == 0
    assert reticles["paper"] > 1e5
    assert {sheet.name for sheet in sheets if sheet.built} == {"board-8", "rram-16"}
    assert all(sheet.technology for sheet in sheets)


def test_the_line_names_what_exists_what_is_assumed_and_what_nobody_has_built(task):
    (text,) = buildability(sizes_of(small(), task))
    counts = f"{N:,} cells, {R * (R + 2 * N):,} resistors: "
    for words in (counts, "IR drop", "12-bit ADCs at 100 MHz exist", "assumed: capacitor density",
                  "nobody is known to have built it"):  # fmt: skip
        assert words in text
    wide = small(wire_sheet_resistance="1e-9 ohm", output_bits=16)
    (text,) = buildability(sizes_of(wide, task))
    assert "IR drop up to" in text and "16-bit ADCs at 100 MHz do not exist" in text
