"""Prices of GPU, links and SPU against closed forms from their datasheets."""

from __future__ import annotations

import math

import pytest
import simpy
from hypothesis import example, given, settings
from hypothesis import strategies as st

import hybridsim
from hybridsim.errors import CapacityError
from hybridsim.hardware.kinds import price
from hybridsim.hardware.lane import Context, Issuer, Label
from hybridsim.hardware.machine import Machine
from hybridsim.hardware.requests import Compute, Convert, Measure, Write
from hybridsim.operations.backend import Shapes, Timing
from hybridsim.operations.ref import Token
from hybridsim.scenario.datasheets.sheets import load_part
from hybridsim.trace.spans import Rows, Trace
from hybridsim.work import Kernel, Work


class Memory:
    def __init__(self) -> None:
        self.spans: list[dict] = []

    def write(self, rows: Rows) -> None:
        self.spans += [row._asdict() for row in rows.spans]


def context():
    env, sink = simpy.Environment(), Memory()
    trace = Trace(sink, lambda: int(env.now))
    return Context(env, trace, Timing(b"", Shapes())), sink


def gpu_price(*kernels, name="a100-sxm4-80gb"):
    return price(load_part("gpu", name), Compute(Work(kernels)))


@settings(max_examples=50)
@given(
    flop=st.floats(0, 1e15),
    size=st.floats(0, 1e12),
    count=st.integers(1, 50),
    synchronous=st.booleans(),
    graph=st.booleans(),
)
def test_a_stretch_takes_the_longer_of_host_and_device(flop, size, count, synchronous, graph):
    value = load_part("gpu", "a100-sxm4-80gb").value
    work = Work((Kernel("k", flop, size, count=count),))
    found = price(load_part("gpu", "a100-sxm4-80gb"), Compute(work, synchronous, graph))
    active_s = max(flop / 19.5e12, size / (value("bandwidth_efficiency") * 2039e9)) * count
    device_s = count * value("device_floor_s") + active_s
    host_s = value("graph_launch_s") if graph else count * value("launch_interval_s")
    expected_s = max(host_s, device_s) + synchronous * value("synchronise_s")
    assert found.duration_ps == pytest.approx(expected_s * 1e12, rel=1e-9, abs=1)
    assert found.busy_ps == pytest.approx(device_s * 1e12, rel=1e-9, abs=1)
    nominal, low, high = found[2:]
    assert nominal == pytest.approx((0.9 * 400 - 80) * active_s, rel=1e-9, abs=1e-18)
    assert low <= nominal <= high


PUBLISHED_A100_CHOLESKY_US = {64: 99, 128: 155, 256: 275, 512: 526, 1024: 1351}


@pytest.mark.parametrize("size", PUBLISHED_A100_CHOLESKY_US)
def test_cholesky_time_is_near_published_a100_points(size):
    """FP64 linalg.cholesky on an A100: within the error that the fit tells of the rest."""
    kernel = Kernel("cholesky", size**3 / 3, 0, "fp64", "cholesky", (1, size))
    seconds = gpu_price(kernel).busy_ps * 1e-12
    assert seconds == pytest.approx(PUBLISHED_A100_CHOLESKY_US[size] * 1e-6, rel=0.2)


def test_precisions_run_at_their_own_peak():
    """A product of many whole tiles: FLOP over the reached share of the peak."""
    n = 128 * 108 * 10
    flop = 2.0 * n**3

    def seconds(precision, name="a100-sxm4-80gb"):
        kernel = Kernel("k", flop, 0, precision, "contraction", (1, n, n, n))
        return gpu_price(kernel, name=name).busy_ps * 1e-12

    value = load_part("gpu", "a100-sxm4-80gb").value
    plain, tensor = value("contraction_efficiency"), value("tensor_efficiency")
    assert seconds("fp32") == pytest.approx(flop / (plain * 19.5e12), rel=0.02)
    assert seconds("tf32") == pytest.approx(flop / (tensor * 156e12), rel=0.02)
    assert seconds("bf16") == pytest.approx(flop / (tensor * 312e12), rel=0.02)
    assert seconds("fp64") == pytest.approx(flop / (plain * 19.5e12), rel=0.02)
    old = load_part("gpu", "v100-sxm2-32gb").value("contraction_efficiency")
    found = seconds("fp64", "v100-sxm2-32gb")
    assert found == pytest.approx(flop / (old * 7.8e12), rel=0.02), "no FP64 tensor cores"
    vector = gpu_price(Kernel("k", 1e15, 0, "fp64")).busy_ps * 1e-12
    assert vector == pytest.approx(1e15 / 9.7e12, rel=1e-6)


def test_what_does_not_fit_is_refused_with_tensor_bytes_and_knob():
    scenario = hybridsim.load(
        "tngd-digits", ["training.batch_size=1400", "workload.options.hidden=4000"]
    )
    with pytest.raises(
        CapacityError, match=r"gpu0: operation 'linearize' needs .*bytes.*training.batch_size"
    ):
        hybridsim.run(scenario, backend="timing")


def graph(links: dict[tuple[str, str], dict]) -> dict:
    nodes = {"gpu": {"kind": "gpu", "part": "a100-sxm4-80gb"}, "hub": {"kind": "switch"}}
    nodes |= {name: {"kind": "spu", "part": "rc-1us"} for name in ("a", "b")}
    edges = [
        {"between": list(pair), "link": {"part": "paper-50gbps", **link}}
        for pair, link in links.items()
    ]
    return {"nodes": nodes, "edges": edges}


def machine(links):
    document = {
        "name": "graph",
        "workload": "digits_mlp",
        "training": {"algorithm": {"kind": "tngd"}},
        "machine": graph(links),
    }
    shared, sink = context()
    return Machine(shared, hybridsim.load(document).machine.expand()), sink


def send(net, source, target, bits, issuer=None):
    return net.context.env.process(
        net.transfer(issuer or Issuer(), Label("m", 0), source, target, Token(), bits)
    )


@settings(max_examples=20, deadline=None)
@given(
    rates=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    latencies=st.tuples(st.integers(0, 5000), st.integers(0, 5000)),
    bits=st.integers(1, 10**9),
)
def test_several_hops_are_cut_through(rates, latencies, bits):
    """Time = bits over the slowest hop + the sum of latencies; every hop carries all bits and is
    held throughout."""
    hops = [
        {"bandwidth": f"{r} Gb/s", "latency": f"{t} ns"}
        for r, t in zip(rates, latencies, strict=True)
    ]
    net, sink = machine({("gpu", "hub"): hops[0], ("hub", "a"): hops[1], ("hub", "b"): {}})
    send(net, "gpu", "a", bits)
    net.context.env.run()
    net.context.trace.close()
    assert net.context.env.now == pytest.approx(
        bits / min(rates) * 1e3 + sum(latencies) * 1e3, abs=2
    )
    wires = [s for s in sink.spans if s["lane"].startswith("to ")]
    assert [s["bits"] for s in wires] == [bits, bits]
    assert len({(s["start_ps"], s["end_ps"]) for s in wires}) == 1


def test_opposite_directions_do_not_wait_and_equal_ones_are_first_in_first_out():
    net, sink = machine({("gpu", "hub"): {"latency": "1 us"}, ("hub", "a"): {}, ("hub", "b"): {}})
    for source, target in (("gpu", "a"), ("gpu", "b"), ("a", "gpu"), ("gpu", "a")):
        send(net, source, target, 50_000_000)
    net.context.env.run()
    net.context.trace.close()
    first = sorted((s for s in sink.spans if s["lane"] == "to hub"), key=lambda s: s["start_ps"])
    down = [s for s in first if s["part"] == first[0]["part"]]
    assert [s["start_ps"] for s in down] == [0, 10**9, 2 * 10**9]
    assert down[1]["blocker"] == down[0]["id"]
    up = next(s for s in sink.spans if s["lane"] == "to gpu")
    assert up["start_ps"] == 0


def test_many_crossing_routes_never_deadlock():
    """Wires are taken in one global order; every message arrives."""
    net, sink = machine({("gpu", "hub"): {}, ("hub", "a"): {}, ("hub", "b"): {}})
    ends = ["gpu", "a", "b"]
    messages = [(s, t) for s in ends for t in ends if s != t] * 20
    done = [send(net, s, t, 1000 * (i % 7 + 1)) for i, (s, t) in enumerate(messages)]
    net.context.env.run()
    assert all(process.triggered for process in done)


def test_chunks_let_others_in_between():
    nets = {}
    for chunk in (None, "1 KiB"):
        link = {"latency": "0 s"} | ({"chunk": chunk} if chunk else {})
        net, sink = machine(
            {
                ("gpu", "hub"): link,
                ("hub", "a"): {"latency": "0 s"},
                ("hub", "b"): {"latency": "0 s"},
            }
        )
        long, short = send(net, "gpu", "a", 10**7), send(net, "gpu", "b", 8192)
        finished = []
        short.callbacks.append(
            lambda _, net=net, finished=finished: finished.append(net.context.env.now)
        )
        net.context.env.run()
        assert long.triggered
        nets[chunk] = (finished[0], net.context.env.now)
    assert nets["1 KiB"][0] < nets[None][0]
    assert nets["1 KiB"][1] == pytest.approx(nets[None][1], abs=2000)


@settings(max_examples=30, deadline=None)
@given(
    bits=st.integers(2, 16),
    cells=st.integers(1, 1000),
    count=st.integers(1, 20),
    channels=st.integers(0, 64),
)
def test_converters_follow_the_survey(bits, cells, count, channels):
    """DAC: 0.3 pJ at 8 bit, doubled per bit. ADC: 35 (0.267 pJ + 0.145 aJ 4^(bits-1)). Rounds over
    the channels."""
    spus = {
        "part": "rc-1us",
        "bias_bits": bits,
        "output_bits": bits,
        "dac_channels": channels,
        "adc_channels": channels,
    }
    document = {
        "name": "c",
        "workload": "digits_mlp",
        "training": {"algorithm": {"kind": "tngd"}},
        "machine": {"gpu": "a100-sxm4-80gb", "link": "paper-50gbps", "spus": spus},
    }
    net = Machine(context()[0], hybridsim.load(document).machine.expand())
    sheet, spu = net.spus[0].sheet, net.spus[0]
    rounds = (math.ceil(cells / channels) if channels else 1) * count
    dac = price(sheet, Convert(cells, spu.bits("bias"), count))
    adc = price(sheet, Measure(cells, spu.bits("output"), count))
    assert dac.duration_ps == adc.duration_ps == rounds * 10_000
    assert dac.energy_j == pytest.approx(cells * count * 0.3e-12 * 2.0 ** (bits - 8))
    envelope = 0.267e-12 + 0.145e-18 * 4.0 ** (bits - 1)
    assert adc[2:] == pytest.approx(tuple(cells * count * f * envelope for f in (35, 5, 400)))


@settings(max_examples=25, deadline=None)
@given(chunk=st.integers(1, 64), rate=st.integers(100, 50_000), bits=st.integers(1, 4000))
@example(chunk=1, rate=9112, bits=2501)
def test_chunks_lose_no_time_to_rounding(chunk, rate, bits):
    link = {"latency": "0 s", "bandwidth": f"{rate} Gb/s", "chunk": f"{chunk} B"}
    net, _ = machine(
        {
            ("gpu", "hub"): link,
            ("hub", "a"): {"bandwidth": "1 Pb/s", "latency": "0 s"},
            ("hub", "b"): {},
        }
    )
    send(net, "gpu", "a", bits)
    net.context.env.run()
    assert abs(net.context.env.now - bits / rate * 1e3) <= 0.5 + 1e-6


def test_ideal_converters_behind_a_free_connection_are_priced_like_others():
    nodes = {"gpu": {"kind": "gpu", "part": "a100-sxm4-80gb"}}
    ideal = {"input_bits": "ideal", "bias_bits": "ideal", "output_bits": "ideal"}
    prices = []
    for bits in (ideal, dict.fromkeys(ideal, 16)):
        spu = {"spu": {"kind": "spu", "part": "rc-1us", **bits}}
        document = {
            "name": "free",
            "workload": "digits_mlp",
            "training": {"algorithm": {"kind": "tngd"}},
            "machine": {
                "nodes": nodes | spu,
                "edges": [{"between": ["gpu", "spu"], "link": "free"}],
            },
        }
        part = Machine(context()[0], hybridsim.load(document).machine.expand()).spus[0]
        requests = (Convert(310, part.bits("bias")), Measure(310, part.bits("output")))
        prices.append([price(part.sheet, request) for request in requests])
    assert prices[0] == prices[1]


def test_a_double_buffer_is_a_second_set_of_resistors():
    resistors = 4 * 10 * (4 * 10 + 2 * 395)
    for buffering, fits in (("single", True), ("double", False)):
        spus = {"part": "rc-1us", "resistors": resistors + 1, "buffering": buffering}
        overrides = {
            "name": "b", "workload": {"source": "digits_mlp", "options": {"hidden": 5, "depth": 1}},
            "training": {"batch_size": 4, "steps": 1, "algorithm": {"kind": "tngd"}},
            "machine": {"gpu": "a100-sxm4-80gb", "link": "paper-50gbps", "spus": spus},
        }  # fmt: skip
        if fits:
            hybridsim.run(hybridsim.load(overrides), backend="timing")
        else:
            with pytest.raises(CapacityError, match="resistors"):
                hybridsim.run(hybridsim.load(overrides), backend="timing")


@settings(max_examples=30)
@given(
    resistors=st.integers(0, 10**6),
    bits=st.integers(2, 16),
    channels=st.integers(0, 1000),
    write_ns=st.integers(0, 10_000),
)
def test_resistors_are_written_in_rounds_over_the_channels(resistors, bits, channels, write_ns):
    given_ = {"write_time_s": write_ns * 1e-9, "write_channels": float(channels)}
    found = price(load_part("spu", "rc-1us").overridden(given_), Write(resistors, bits))
    rounds = math.ceil(resistors / channels) if channels else 1
    expected_ps = rounds * write_ns * 1000 if resistors else 0
    assert found.duration_ps == pytest.approx(expected_ps, rel=1e-12, abs=1)
    assert found.energy_j == pytest.approx(156.25e-15 * resistors * bits)
