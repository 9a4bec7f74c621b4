"""The timing claims of thermodynamic K-FAC at tiny sizes: the simulator's numbers against hand
arithmetic, the scripts' own arithmetic against closed forms."""

from __future__ import annotations

import json
import math
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.papers import (
    break_even,
    break_even_figure,
    k9_scaling,
    k10_memory,
    k11_methods,
    kfac_point,
)
from analysis.papers import break_even_variants as variants
from analysis.papers.kfac_point import COMMON, DIGITAL, GROUPS, machine, measure, scenario
from hybridsim.circuits.base import settling_tau
from hybridsim.circuits.dense import dense

LAYERS, BATCH = 3, 16
FACTORS = 2 * LAYERS
LAUNCH_S, RC_S = 5e-6, 1e-6
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
    """Two factors a layer: a n + n^3/(eta peak) each, a few launches, and passes over n^2 numbers
    for copy and damping."""
    found = point(n, 0)
    cubes, passes = n**3 / (0.5 * 19.5e12), 4 * 4 * n**2 / (0.85 * 2039e9)
    assert FACTORS * cubes <= found.total("busy_s", "invert") <= FACTORS * (cubes + passes + 1e-8)
    waited = found.total("time_s", "invert") - found.total("busy_s", "invert")
    assert FACTORS * 3e-6 * n < waited < FACTORS * (3e-6 * n + 8 * LAUNCH_S)
    products = LAYERS * 4 * n**3 / (0.75 * 19.5e12)
    assert (
        products
        <= found.total("busy_s", "precondition")
        <= products + LAYERS * 12 * 4 * n**2 / (0.85 * 2039e9)
    )


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


@given(st.floats(0.2, 5.0), st.floats(150.0, 7000.0), st.booleans())
def test_a_power_law_crosses_where_it_equals_one(power, at, rising):
    sign = 1 if rising else -1
    found = break_even.crossings([(n, (n / at) ** (sign * power)) for n in break_even.ORDERS])
    assert len(found) == 1
    assert found[0]["n"] == pytest.approx(at, rel=1e-6)
    assert found[0]["pays"] == ("above" if rising else "below")


def test_rows_compare_what_both_share_and_what_each_adds():
    base, found = point(24, 0), point(24, 2)
    row = break_even.row(base, found, n=24)
    assert row["ratio"] == pytest.approx(base.step_s / found.step_s)
    own = base.step_s - base.groups_s[COMMON]
    assert row["preconditioning_ratio"] == pytest.approx(
        own / (found.step_s - base.groups_s[COMMON])
    )
    assert (row["ratio"] > 1) == (row["preconditioning_ratio"] > 1)
    assert base.groups_s[COMMON] == pytest.approx(
        base.step_s - base.total("time_s", "invert", "precondition"), rel=0.05
    )


def _row(spus: int, n: int, ratio: float, binds: str = "settling") -> dict:
    return {
        "settle": "s",
        "bits": 8,
        "bandwidth": "w",
        "spus": spus,
        "n": n,
        "ratio": ratio,
        "binds": binds,
    }


def test_the_summary_names_the_fewest_spus_that_pay_and_what_binds():
    rows = [
        _row(1, 128, 0.5),
        _row(4, 128, 0.9),
        _row(1, 512, 0.9),
        _row(4, 512, 1.2, "readback"),
        _row(8, 512, 2.0),
    ]
    found = break_even.break_even(rows)["s, 8 bit, w"]
    assert found["SPUs needed"] == {128: "> 8", 512: 4}
    assert found["lines"][1]["breaks even"] == "nowhere"
    assert found["lines"][8]["breaks even"] == "pays throughout"
    assert 128 < found["lines"][4]["breaks even"][0]["n"] < 512
    assert found["lines"][4]["binds"] == {"settling": "128 - 128", "readback": "512 - 512"}


def test_more_spus_are_never_worse_because_some_may_idle(monkeypatch):
    monkeypatch.setattr(break_even, "LAYERS", 1)
    labels = {"settle": break_even.PAPER, "bits": 16}
    hardware = {"bits": 16, "bandwidth": "50 Mb/s", "sharing": "shared"}
    found = break_even.line(24, (1, 2, 4), labels, hardware)
    times = [one.step_s for _, one in found]
    assert times == sorted(times, reverse=True)
    assert [use["spus"] for use, _ in found] == [1, 2, 4]
    assert found[2][0]["used"] < 4, "on one slow link a factor is not sent four times"


@pytest.mark.parametrize(
    "sharing, bandwidth, tau", [("shared", "50 Mb/s", 1.0), ("private", "400 Gb/s", 200.0)]
)
def test_the_faster_placement_is_taken(sharing, bandwidth, tau):
    hardware = {"bits": 16, "bandwidth": bandwidth, "sharing": sharing}
    name, found = break_even.thermodynamic(24, 3, tau, hardware)
    algorithm = {"method": "solves", "settle": f"{tau!r} tau"}
    size = {"width": 24, "depth": break_even.LAYERS}
    both = {
        rule: measure(
            scenario(size, {**algorithm, "placement": rule}, machine(3, **hardware))
        ).step_s
        for rule in ("columns", "auto")
    }
    assert sharing == "private" or both["columns"] != both["auto"], "there is something to choose"
    assert found.step_s == both[name] == min(both.values())


@given(st.floats(0.1, 3000.0), st.floats(0.01, 10.0))
def test_the_longest_settling_is_a_zero_of_the_gap(zero, slope):
    """Convex, in straight pieces: flat up to a point, then rising."""
    gap = lambda tau: slope * (max(tau, zero / 2) - zero)  # noqa: E731  # a function in one line
    assert variants._root(gap) == pytest.approx(zero, rel=2e-3)


def test_nothing_settles_fast_enough_for_a_side_that_is_slower_without_settling():
    assert variants._root(lambda tau: 1 + tau) is None


def test_the_settling_reaches_the_converters_accuracy():
    assert math.exp(
        -break_even.DAMPING * break_even.settle_tau(break_even.ACCURATE, 8)
    ) == pytest.approx(2**-8)
    assert break_even.settle_tau(break_even.PAPER, 8) == 1.0


def test_the_figure_shows_every_line_and_the_page_is_written(tmp_path):
    rows = [
        {**_row(s, n, 0.1 * s * n), "binds": "readback", "step_s": 1 / s}
        for s in (1, 2)
        for n in (128, 256)
    ]
    result = {
        "columns": list(rows[0]),
        "runs": [list(r.values()) for r in rows],
        "setting": {"settle in RC": {"s, 8 bit": 3.0}},
        "summary": {"digital step": {"128": {"favoured step": 5.0}, "256": {"favoured step": 7.0}}},
    }
    figure = break_even_figure.figure(rows, result)
    drawn = [list(trace.y) for trace in figure.data if len(trace.y) == 2]
    assert drawn == [
        pytest.approx(y) for y in ([12.8, 25.6], [25.6, 51.2], [5.0, 7.0], [10.0, 14.0])
    ]
    break_even_figure.draw(json.loads(json.dumps(result)), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert r"digital \u002f thermodynamic" in text  # how plotly writes a slash


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
