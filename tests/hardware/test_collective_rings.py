"""Ring collectives: closed forms on a fabric of their own, contention on a shared one, books that
balance anywhere."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import simpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.hardware import collective
from hybridsim.hardware.lane import Context, Issuer, Label
from hybridsim.hardware.machine import Machine
from hybridsim.operations import reductions as parallel
from hybridsim.operations.backend import Live, Shapes
from hybridsim.operations.ref import Computation, Ref
from hybridsim.outcome import Outcome
from hybridsim.scenario.datasheets.sheets import load_part
from hybridsim.scenario.machine import EdgeSpec, GpuSpec, MachineSpec, NodeSpec
from hybridsim.trace.chunks import chunk_of
from hybridsim.trace.critical_path import critical_path
from hybridsim.trace.spans import Rows as Chunk
from hybridsim.trace.spans import SpanRow, Trace

MEAN = Computation(parallel.mean)
GPU = load_part("gpu", "a100-sxm4-80gb")
IDEAL = GPU.overridden(
    {
        "launch_interval_s": 0.0,
        "device_floor_s": 0.0,
        "memory_bandwidth_byte_per_s": 1e30,
        "peak_fp32_flop_per_s": 1e30,
    }
)


def double(x: torch.Tensor) -> Outcome:
    return Outcome(2 * x)


class Rows:
    def __init__(self) -> None:
        self.rows: list[SpanRow] = []

    def write(self, rows: Chunk) -> None:
        self.rows += rows.spans

    def spans(self) -> list[dict[str, Any]]:
        return [row._asdict() for row in self.rows]


def fabric(wires: list[tuple[float, float] | None], gpu: Any = GPU) -> MachineSpec:
    """GPUs g0, g1, ... on a switch; one (bit/s, latency s) for each, None: a free edge."""
    sheet = load_part("link", "nvlink3")
    nodes = tuple(GpuSpec(f"g{k}", gpu) for k in range(len(wires)))
    edges = []
    for k, wire in enumerate(wires):
        own = wire and sheet.overridden({"bandwidth_bit_per_s": wire[0], "latency_s": wire[1]})
        edges.append(EdgeSpec(f"g{k}-x", f"g{k}", "x", own or None))
    return MachineSpec((*nodes, NodeSpec("x")), tuple(edges))


class Bench:
    """A machine, its clock, and a payload of random numbers on each GPU."""

    def __init__(self, spec: MachineSpec, numbers: int = 3) -> None:
        self.env, self.sink = simpy.Environment(), Rows()
        self.trace = Trace(self.sink, lambda: int(self.env.now))
        self.backend = Live(b"", Shapes())
        self.machine = Machine(Context(self.env, self.trace, self.backend), spec)
        self.gpus = self.machine.gpus
        self.values = [torch.randn(numbers, dtype=torch.float64) for _ in self.gpus]
        self.payloads = [self.backend.root(v, "payload", k) for k, v in enumerate(self.values)]
        self.issuers = [Issuer() for _ in self.gpus]

    def finish(self, *processes: Any) -> list[Any]:
        running = [self.env.process(process) for process in processes]
        self.env.run(self.env.all_of(running))
        self.trace.close()
        return [process.value for process in running]

    def all_reduce(self, bits: int, issuers: list[Issuer] | None = None) -> Any:
        label, issuers = Label("sum", 1), issuers or self.issuers
        return collective.all_reduce(
            self.machine, issuers, label, self.gpus, self.payloads, bits, MEAN
        )

    def all_gather(self, bits: list[int]) -> Any:
        return collective.all_gather(
            self.machine, self.issuers, Label("all", 1), self.gpus, self.payloads, bits
        )


@settings(deadline=None, max_examples=40)
@given(
    size=st.integers(2, 7),
    bits=st.integers(1, 10**9),
    bandwidth=st.floats(1e9, 1e13),
    latency=st.floats(0, 1e-5),
)
def test_an_all_reduce_takes_2_g_minus_1_hops_and_g_minus_1_adds(size, bits, bandwidth, latency):
    bench = Bench(fabric([(bandwidth, latency)] * size))
    (results,) = bench.finish(bench.all_reduce(bits))
    numbers = math.ceil(math.ceil(bits / size) / 32)
    value = GPU.value
    device_s = value("device_floor_s") + max(
        numbers / value("peak_fp32_flop_per_s"),
        12 * numbers / (value("bandwidth_efficiency") * value("memory_bandwidth_byte_per_s")),
    )
    add_s = max(value("launch_interval_s"), device_s)
    hops = 2 * (size - 1)
    expected_s = hops * (bits / size / bandwidth + 2 * latency) + (size - 1) * add_s
    # a piece is rounded up to a bit; times to a picosecond, three in each hop
    slack_s = hops / bandwidth + 3 * hops * 1e-12
    assert bench.env.now * 1e-12 == pytest.approx(expected_s, abs=slack_s, rel=1e-9)
    ended_last = {span["id"] for span in bench.sink.spans() if span["end_ps"] == bench.env.now}
    assert {issuer.last for issuer in bench.issuers} <= ended_last
    assert len({r.key for r in results}) == 1
    for result in results:
        torch.testing.assert_close(
            result.value, torch.stack(bench.values).mean(0), rtol=1e-14, atol=1e-15
        )


def test_eight_a100_reach_what_nccl_reckons_with():
    """NCCL's tuning model (src/graph/tuning.cc) caps the bus bandwidth of an A100 at 235 GB/s."""
    sheet = load_part("link", "nvlink3")
    size, gigabyte = 8, 8 * 10**9
    bench = Bench(fabric([(sheet.value("bandwidth_bit_per_s"), sheet.value("latency_s"))] * size))
    bench.finish(bench.all_reduce(gigabyte))
    bus_byte_per_s = 2 * (size - 1) / size * gigabyte / 8 / (bench.env.now * 1e-12)
    assert bus_byte_per_s == pytest.approx(235e9, rel=0.1)


def test_with_one_gpu_nothing_happens():
    bench = Bench(fabric([(1e9, 0.0)]))
    reduced, gathered = bench.finish(bench.all_reduce(10**6), bench.all_gather([10**6]))
    assert reduced == gathered == bench.payloads
    assert bench.env.now == 0 and not bench.sink.rows


@settings(deadline=None, max_examples=20)
@given(size=st.integers(2, 5), piece_bits=st.integers(32, 10**8), bandwidth=st.floats(1e9, 1e12))
def test_two_at_once_take_turns_on_the_wires(size, piece_bits, bandwidth):
    """Without latency and with additions that cost nothing, two take exactly twice as long as
    one."""
    alone = Bench(fabric([(bandwidth, 0.0)] * size, IDEAL))
    alone.finish(alone.all_reduce(piece_bits * size))
    both = Bench(fabric([(bandwidth, 0.0)] * size, IDEAL))
    others = [issuer.fork() for issuer in both.issuers]
    both.finish(both.all_reduce(piece_bits * size), both.all_reduce(piece_bits * size, others))
    assert both.env.now == 2 * alone.env.now


WIRES = st.lists(
    st.tuples(st.floats(1e9, 1e12), st.floats(0, 1e-6)) | st.none(), min_size=2, max_size=5
)


@settings(deadline=None, max_examples=60)
@given(
    wires=WIRES,
    bits=st.integers(0, 10**7),
    starts=st.lists(st.integers(0, 10**6), min_size=5, max_size=5),
)
def test_books_balance_on_any_fabric(wires, bits, starts):
    """Payloads that are ready at different times, unequal and free wires: what was sent arrives, no
    gap, no overlap."""
    bench = Bench(fabric(wires))
    size = len(wires)

    def run() -> Any:
        work = [
            bench.machine.pause(i, Label("work", 1), g.name, 1 + t, p)
            for i, g, t, p in zip(bench.issuers, bench.gpus, starts, bench.payloads, strict=False)
        ]
        running = [bench.env.process(process) for process in work]
        yield bench.env.all_of(running)
        bench.payloads = [process.value for process in running]
        results = yield from bench.all_reduce(bits)
        after = [
            g.execute(i, Label("use", 1), Computation(double), (r,))
            for g, i, r in triples(bench, results)
        ]
        yield from collective.side_by_side(bench.env, bench.issuers, after)
        yield from bench.all_gather([bits * k for k in range(size)])

    bench.finish(run())
    spans = bench.sink.spans()
    check_books(spans, int(bench.env.now), bench.sink.rows)
    piece, gathered = math.ceil(bits / size), sum(bits * k for k in range(size))
    for k, wire in enumerate(wires):
        carried = {s["lane"]: 0 for s in spans if s["part"] == f"g{k}-x" and s["bits"]}
        for span in spans:
            if span["part"] == f"g{k}-x" and span["bits"]:
                carried[span["lane"]] += span["bits"]
        if wire is not None and bits:
            right = (k + 1) % size
            sent, received = (
                2 * (size - 1) * piece + gathered - bits * right,
                2 * (size - 1) * piece + gathered - bits * k,
            )
            assert carried == {name: n for name, n in (("to x", sent), (f"to g{k}", received)) if n}


def triples(bench: Bench, results: list[Ref]) -> list[Any]:
    return list(zip(bench.gpus, bench.issuers, results, strict=True))


def check_books(spans: list[dict[str, Any]], end_ps: int, rows: list[Any]) -> None:
    by_id = {span["id"]: span for span in spans}
    for span in spans:
        assert span["queued_ps"] <= span["start_ps"] <= span["end_ps"]
        assert all(by_id[parent]["end_ps"] <= span["queued_ps"] for parent in span["parents"])
    servers: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for span in spans:
        if span["role"] == "server":
            servers.setdefault((span["part"], span["lane"]), []).append(span)
    for lane in servers.values():
        ordered = sorted(lane, key=lambda s: (s["start_ps"], s["end_ps"]))
        assert all(a["end_ps"] <= b["start_ps"] for a, b in pairwise(ordered))
    path = critical_path([chunk_of(rows)])
    assert sum(segment.end_ps - segment.start_ps for segment in path.segments) == end_ps


@settings(deadline=None, max_examples=20)
@given(bits=st.lists(st.integers(0, 10**9), min_size=2, max_size=5), latency=st.floats(0, 1e-5))
def test_an_all_gather_brings_every_piece_to_everyone(bits, latency):
    """No faster than the busiest wire, no slower than every hop waiting for the largest piece."""
    size, bandwidth = len(bits), 1e11
    bench = Bench(fabric([(bandwidth, latency)] * size))
    (results,) = bench.finish(bench.all_gather(bits))
    assert [r.key for r in results] == [p.key for p in bench.payloads]
    busiest_s = max(sum(bits) - own for own in bits) / bandwidth
    seconds, rounding_s = bench.env.now * 1e-12, 1e-11 * size
    assert (
        busiest_s - rounding_s
        <= seconds
        <= (size - 1) * (max(bits) / bandwidth + 2 * latency) + rounding_s
    )
    if len(set(bits)) == 1 and bits[0]:
        assert seconds == pytest.approx(
            (size - 1) * (bits[0] / bandwidth + 2 * latency), rel=1e-9, abs=rounding_s
        )


@settings(deadline=None, max_examples=20)
@given(data=st.data(), count=st.integers(1, 5))
def test_the_mean_of_pytrees_is_leaf_by_leaf(data, count):
    shapes = data.draw(
        st.lists(st.lists(st.integers(0, 3), max_size=2).map(tuple), min_size=1, max_size=3)
    )
    trees = [
        {"a": [torch.randn(s, dtype=torch.float64) for s in shapes], "b": (torch.randn(2),)}
        for _ in range(count)
    ]
    found = parallel.mean(*trees).value
    for k in range(len(shapes)):
        torch.testing.assert_close(
            found["a"][k], torch.stack([t["a"][k] for t in trees]).mean(0), rtol=1e-14, atol=1e-15
        )
    assert found["b"][0].dtype == torch.float32
    assert all(tree["a"] is not found["a"] for tree in trees)
    with pytest.raises(ValueError, match="at least one"):
        parallel.mean()
