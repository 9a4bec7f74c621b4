"""The timing claims of thermodynamic K-FAC at tiny sizes: the simulator's numbers against hand
arithmetic, the scripts' own arithmetic against closed forms."""

from __future__ import annotations

import math
from argparse import Namespace
from functools import cache

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import hybridsim
from analysis.papers import (
    break_even,
    break_even_trained,
    k9_scaling,
    k10_memory,
    k11_methods,
    kfac_point,
    sweep,
)
from analysis.papers.kfac_point import DIGITAL, GROUPS, machine, measure, scenario
from hybridsim.circuits.base import settling_tau
from hybridsim.circuits.dense import dense

LAYERS, BATCH = 3, 16
FACTORS = 2 * LAYERS
RC_S = 1e-6
GBPS = {"50 Gb/s": 50e9, "400 Gb/s": 400e9}


@cache
def point(
    n: int,
    spus: int,
    bits: int = 16,
    bandwidth: str = "50 Gb/s",
    tau: float = 7.0,
    placement: str = "columns",
    **own,
):
    hardware = machine(spus, bits, bandwidth)
    method = (
        {"method": "solves", "settle": f"{tau!r} tau", "placement": placement} if spus else DIGITAL
    )
    return measure(scenario({"width": n, "depth": LAYERS}, {**method, **own}, hardware, BATCH))


SIZES = st.sampled_from([16, 24, 64])


# ---------------------------------------------------------------- the simulator against hand
# arithmetic


@settings(max_examples=5, deadline=None)
@given(
    n=SIZES,
    spus=st.sampled_from([1, 2, 4]),
    bits=st.sampled_from([8, 16]),
    bandwidth=st.sampled_from(list(GBPS)),
)
def test_transfers_and_settling_are_what_one_writes_on_an_envelope(n, spus, bits, bandwidth):
    """Every SPU gets each factor's triangle and its share of columns; to the picosecond per
    message."""
    found, first = point(n, spus, bits, bandwidth), "gpu0-spu0"
    wire_s = FACTORS * bits / GBPS[bandwidth]
    flights = 2 * LAYERS * 1e-6  # one microsecond for each message, a lane of its own
    close = {"rel": 1e-6, "abs": 1e-11}
    assert found.total("time_s", "upload factor", part=first) == pytest.approx(
        wire_s * n * (n + 1) / 2 + flights, **close
    )
    assert found.total("time_s", "upload columns", part=first) == pytest.approx(
        wire_s * n * n / spus + flights, **close
    )
    assert found.total("time_s", "download", part=first) == pytest.approx(
        wire_s * n * n / spus + flights, **close
    )
    assert found.total("time_s", "settle", part="spu0") == pytest.approx(
        FACTORS * n / spus * 7 * RC_S, **close
    )
    assert found.total("bits", "upload factor") == FACTORS * n * (n + 1) / 2 * bits * spus


@pytest.mark.parametrize("n", [64, 1024])
def test_an_inversion_on_the_gpu_is_its_latency_and_its_cubes(n):
    """Two factors a layer: floor + step n + n^3 FLOP at a share of the peak, and passes over n^2
    numbers; launches overlap with the device."""
    found, sheet = point(n, 0), hybridsim.load_part("gpu", "a100-sxm4-80gb")
    peak = sheet.value("peak_fp32_flop_per_s")
    latency_s = sheet.value("inverse_floor_s") + sheet.value("inverse_step_s") * n
    latency_s += sheet.value("factorisation_block_s") * (n > 512)
    cubes_s = n**3 / (sheet.value("factorisation_efficiency") * peak)
    passes_s = 10 * (sheet.value("device_floor_s") + 12 * n**2 / 0.85 / 2039e9)
    alone_s = FACTORS * (latency_s + cubes_s)
    assert alone_s <= found.total("busy_s", "invert") <= alone_s + FACTORS * passes_s
    assert found.total("time_s", "invert") == pytest.approx(
        found.total("busy_s", "invert"), rel=1e-9
    )
    products_s = LAYERS * 4 * n**3 / (sheet.value("contraction_efficiency") * peak)
    floors_s = 2 * LAYERS * sheet.value("contraction_floor_s")
    applied_s = found.total("busy_s", "precondition")
    assert products_s + floors_s <= applied_s <= 1.5 * products_s + 3 * floors_s


@pytest.mark.parametrize("spus", [0, 1, 4])
def test_the_groups_of_the_critical_path_add_up_to_the_step(spus):
    found = point(24, spus)
    assert sum(found.groups_s.values()) == pytest.approx(found.step_s, abs=1e-15)
    assert set(found.groups_s) == set(GROUPS)


def test_a_long_settling_sets_the_step():
    """With one SPU nothing hides: the step is all columns of all factors, and hardly anything
    else."""
    found = point(64, 1, tau=1000.0)
    alone = FACTORS * 64 * 1000 * RC_S
    assert alone < found.step_s < 1.01 * alone
    assert found.binding == "settling"
    assert point(64, 4, tau=1000.0).step_s == pytest.approx(alone / 4, rel=0.02)


def test_no_spu_waits_while_the_other_factor_of_a_layer_is_solved():
    """A is solved after G, so that a placement that gives them different SPUs would take twice as
    long."""
    spread, placed = (
        point(64, 2 * LAYERS, tau=1000.0, placement=rule).step_s for rule in ("columns", "auto")
    )
    assert placed < 1.02 * spread


def test_a_slow_link_binds():
    found = point(64, 4, 16, "50 Mb/s", tau=0.1)
    assert found.binding == "upload of factors"
    assert found.step_s > FACTORS * 64 * 65 / 2 * 16 / 50e6


# ---------------------------------------------------------------- the break-even


def crossing(between: tuple[int, int], behind: str, low: float, high: float) -> dict:
    return {"between": list(between), "wins_behind": behind, "low": low, "high": high}


def test_the_spus_needed_are_the_first_number_that_is_ahead():
    analog, gpu = break_even.SIDES
    falls = crossing((20, 21), gpu, 19, 23)
    rises = crossing((7, 8), analog, 6, 9)
    read = break_even.needed
    assert read({"crossings": [rises, falls]}, (1, 64)) == {"SPUs": "8", "low": 6, "high": 9}
    assert read({"crossings": [], "throughout": gpu}, (1, 64))["SPUs"] == "> 64"
    assert read({"crossings": [], "throughout": analog}, (1, 64))["SPUs"] == "1"


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e2))
def test_the_fewest_spus_are_found_by_bisection(work_s, own_s):
    """Against all numbers of the grid in turn."""
    ahead = [s for s in range(1, 65) if work_s / s <= own_s]
    expected = str(ahead[0]) if ahead else "> 64"
    assert break_even.fewest(lambda spus: work_s / spus, own_s) == expected


def test_every_way_to_invert_meets_the_same_spus(monkeypatch):
    """TF32 and graphs change both sides, inversions the digital one alone."""
    monkeypatch.setattr(break_even, "LAYERS", LAYERS)
    monkeypatch.setattr(break_even, "GRID", (1, 2))
    found = break_even.digital_ways((24,))
    ways = len(break_even.INVERSIONS) * len(break_even.PRODUCTS) * len(break_even.LAUNCHES)
    assert len(found) == ways
    for products in break_even.PRODUCTS:
        for launch in break_even.LAUNCHES:
            own = [r for r in found if (r["products"], r["launch"]) == (products, launch)]
            analog_s = {r["digital_step_s"] / r["ratio of one SPU, 1 RC"] for r in own}
            assert max(analog_s) == pytest.approx(min(analog_s), rel=1e-12)
            assert len({r["digital_step_s"] for r in own}) == len(own)
    eager, graph = (
        [r["digital_step_s"] for r in found if r["launch"] == launch]
        for launch in break_even.LAUNCHES
    )
    assert all(g < e for g, e in zip(graph, eager, strict=True))


def test_wide_layers_need_the_spus_that_the_arithmetic_says(tmp_path):
    """A tiny copy of the study of schedules: settling sets the step, so that the SPUs needed are
    settling over what the GPU takes."""
    document = yaml.safe_load((sweep.FILES / "break_even_wide.yaml").read_text())
    for side, file in document["scenarios"].items():
        document["scenarios"][side] = {"scenario": str(sweep.FILES / file)}
    document["set"] = {"workload.options": {"width": 24, "depth": LAYERS, "examples": BATCH},
                       "training.batch_size": BATCH}  # fmt: skip
    document["axes"] = [
        {"field": break_even.SETTLE, "grid": ["20 tau"], "sides": ["thermodynamic"]},
        {"field": break_even.SPUS, "grid": [1, 4, 16], "sides": ["thermodynamic"]},
    ]
    given = Namespace(out=tmp_path / "x.json", runs=tmp_path / "runs", workers=1)
    found = sweep.study(given, document)
    [line] = break_even.lines(found)
    spus = int(break_even.needed(line, (1, 16))["SPUs"])
    steps = found.answer.table.set_index(break_even.SPUS)
    assert steps.loc[spus, "ratio"] < 1 <= steps.loc[spus - 1, "ratio"]
    column_s = FACTORS * 20 * RC_S
    spare_s = steps.loc[spus, "digital"] - (steps.loc[1, "thermodynamic"] - 24 * column_s)
    # Columns are whole, and what SPUs take beside settling is less than one.
    enough = next(s for s in range(1, 25) if math.ceil(24 / s) + 1 <= spare_s / column_s)
    assert 24 * column_s / spare_s <= spus <= enough
    assert not found.answer.trusted, "its settling was never run"


def test_the_trained_break_even_is_summed_up_from_both_studies(tmp_path):
    """Both study files at a tiny size: the script reads what the questions answer."""
    given = Namespace(out=tmp_path / "x.json", runs=tmp_path / "runs", workers=1)
    found = {}
    for name in (break_even_trained.TRAINED, break_even_trained.CONSTANTS):
        document = yaml.safe_load((sweep.FILES / f"{name}.yaml").read_text())
        document |= {"seeds": [0, 1], "set": {"training.steps": 4, "training.evaluate_every": 2,
                     "training.target.test_accuracy": 0.01}}  # fmt: skip
        for axis in document["axes"]:
            axis["grid"] = {break_even_trained.HIDDEN: [4], break_even.SETTLE: ["50 tau"]}.get(
                axis["field"], [1, 2]
            )
        if document["question"]["kind"] == "uncertainty":
            document["scenarios"]["thermodynamic"]["set"]["machine.spus.count"] = 2
            document["question"] |= {"draws": 10, "simulate": 0}
        found[name] = sweep.study(given, document)
    summary = break_even_trained.summarise(found)
    row = summary["by width and settling"]["4, 50 tau"]
    assert row["thermodynamic seeds that reached the target"] == "2 of 2"
    assert row["digital steps"]["mean"] == pytest.approx(2)
    assert row["SPUs"] in ("1", "2", "> 64", "> 2") and row["solver error"]["mean"] > 0
    assert row["shares"]["seconds"]["draws"] == 10
    pairs = [one for one in summary["thermodynamic over digital"] if one[break_even.SPUS] == 1]
    table = found[break_even_trained.TRAINED].points
    ratios = []
    for seed in (0, 1):
        own = table[(table["seed"] == seed) & (table[break_even.SPUS] == 1)].set_index("side")
        ratios.append(own.loc["thermodynamic", "seconds"] / own.loc["digital", "seconds"])
    assert pairs[0]["seconds"]["mean"] == pytest.approx((ratios[0] * ratios[1]) ** 0.5)


# ---------------------------------------------------------------- K9 - K11


@given(st.floats(-2, 3), st.floats(0.1, 10))
def test_exponents_of_a_power_law_are_its_power(power, factor):
    values = {n: factor * n**power for n in (2048, 4096, 8192, 16384)}
    assert list(k9_scaling.exponents(values).values()) == pytest.approx([power] * 3, abs=1e-9)
    assert k9_scaling.asymptotic(values) == pytest.approx(power, abs=1e-9)


@settings(max_examples=5, deadline=None)
@given(st.floats(2.0, 100.0), st.integers(0, 100))
def test_settling_takes_as_long_as_the_norm_of_what_is_left_says(kappa, seed):
    """Closed form from eigenvalues alone: A^-1 e^{-A t} against A^-1, both in the Frobenius
    norm."""
    values = torch.logspace(-math.log10(kappa), 0, 12, dtype=torch.float64)
    tau = k9_scaling.settled_after(k9_scaling.with_condition(kappa, 12, seed), 8)
    left = (torch.exp(-values * tau) / values).norm() / (1 / values).norm()
    assert float(left) == pytest.approx(2**-8, rel=1e-4)


@settings(max_examples=10, deadline=None)
@given(st.floats(2.0, 100.0), st.integers(0, 100), st.floats(0, 100))
def test_a_system_settles_as_the_simulators(kappa, seed, tau):
    system = k9_scaling.with_condition(kappa, 12, seed)
    matrix = (system.vectors * system.values) @ system.vectors.T
    units = torch.eye(12, dtype=torch.float64)
    expected = dense(matrix).relax(None, units, tau=tau, kappa0=0, noise_seeds=None)
    torch.testing.assert_close(k9_scaling.relaxed(system, tau), expected)
    assert kfac_point.settling_tau(8, 1 / kappa) == settling_tau(8, 1 / kappa)


def test_what_is_counted_as_linear_algebra(monkeypatch):
    monkeypatch.setattr(k9_scaling, "SETTLES", {"1 RC": 1.0})
    found, digests = k9_scaling.times(24)
    assert found["method 2, 1 RC: settling"] == pytest.approx(2 * 24 * RC_S)
    assert found["method 1, 1 RC: settling"] == pytest.approx(2 * 24 * RC_S)
    assert found["digital: inversion and products"] > found["digital: inversion"] > 2 * 3e-6 * 24
    assert len(set(digests)) == 3
    summary = k9_scaling.summarise([(24, found), (48, found), (4096, found), (8192, found)])
    ratio = summary["advantage over digital: inversion"]["method 2, 1 RC: settling"]
    assert ratio["large n"] == 0
    assert ratio["ratio"][24] == pytest.approx(found["digital: inversion"] / (2 * 24 * RC_S))


def test_a_moving_average_adds_both_factors_of_every_layer(monkeypatch):
    monkeypatch.setattr(k10_memory, "LAYERS", 2)
    rows = [k10_memory.peaks(n, b) for n in (16, 32) for b in (8, 64)]
    summary = k10_memory.summarise(rows)
    assert summary["the moving average alone / n^2"] == [4.0]
    assert summary["averaged factors"]["smallest extra / n^2"] >= 4
    assert summary["activations"]["largest extra / (b n)"] < 12
    assert rows[0]["resistors"] == {"factors": 16 * 16, "activations": 2 * 8 * 16}


def test_method_1_sends_less_and_gets_more_back():
    """Bits from shapes: n + m columns either way; method 2 also sends the gradient twice, and gets
    it back twice."""
    n, m = 32, 8
    row = k11_methods.row(n, n // m, 2, 1, "1 RC")
    layers, bits = 2, 16
    squares, mixed = layers * (n * n + m * m) * bits, layers * 2 * n * m * bits
    triangles = (squares + layers * (n + m) * bits) // 2
    used = row["solves"]["bits up"] - mixed  # factors, perhaps to both SPUs
    assert used in (triangles, 2 * triangles)
    assert row["inverse"]["bits up"] in (triangles, 2 * triangles)
    assert row["solves"]["bits down"] == mixed
    assert row["inverse"]["bits down"] == squares
    assert (
        row["solves"]["settling"]
        == pytest.approx(row["inverse"]["settling"])
        == layers * (n + m) * RC_S
    )
    assert k11_methods.ratios(row)["inverse"]["bits down"] == pytest.approx(
        (n * n + m * m) / (2 * n * m)
    )


def test_the_summary_counts_where_method_2_is_cheaper():
    base = {"time": 1.0, "binds": "settling"}
    rows = [
        {
            "n": 1,
            "m": k,
            "spus": 1,
            "T2": 1,
            "settle": "s",
            "solves": base,
            "inverse": {**base, "time": t},
            "noise": base,
        }
        for k, t in enumerate((0.5, 1.005, 3.0))
    ]
    found = k11_methods.summarise(rows)["inverse over solves, T2 = 1"]["time"]
    assert found == {"least": 0.5, "most": 3.0, "method 2 cheaper in": "1 of 3"}
