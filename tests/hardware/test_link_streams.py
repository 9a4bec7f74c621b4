"""Messages sent back to back: latency is paid once."""

from __future__ import annotations

import simpy
from harness import Memory, document, execute
from hypothesis import given, settings
from hypothesis import strategies as st

import hybridsim
from hybridsim.hardware.lane import Context, Issuer, Label
from hybridsim.hardware.link import Message
from hybridsim.hardware.machine import Machine
from hybridsim.operations.backend import Shapes, Timing
from hybridsim.operations.ref import Token
from hybridsim.trace.spans import Trace

TNGD = {"kind": "tngd", "learning_rate": 0.1, "damping": 0.1, "settle": "5 tau"}
NODES = {
    "gpu0": {"kind": "gpu", "part": "a100-sxm4-80gb"},
    "middle": {"kind": "switch"},
    "spu0": {"kind": "spu"},
}


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(0, 10**7), min_size=1, max_size=6),
    hops=st.lists(
        st.tuples(st.integers(1, 400), st.sampled_from(["0 s", "2 ns", "1 us", "3 ms"])),
        min_size=2,
        max_size=2,
    ),
    chunk=st.sampled_from([None, "10 kB"]),
)
def test_a_stream_takes_the_sum_of_its_bits_and_one_latency(sizes, hops, chunk):
    """sum of bits / slowest bandwidth + sum of the hops' latencies; each hop holds FIFO order."""
    links = [
        {"part": "paper-50gbps", "bandwidth": f"{rate} Gb/s", "latency": latency}
        | ({"chunk": chunk} if chunk else {})
        for rate, latency in hops
    ]
    edges = [
        {"between": ["gpu0", "middle"], "link": links[0]},
        {"between": ["middle", "spu0"], "link": links[1]},
    ]
    scenario = hybridsim.load(
        document({"kind": "sgd", "learning_rate": 0.1})
        | {"machine": {"nodes": NODES, "edges": edges}}
    )
    env, sink = simpy.Environment(), Memory()
    trace = Trace(sink, lambda: int(env.now))
    machine = Machine(Context(env, trace, Timing(b"", Shapes())), scenario.machine.expand())
    messages = [Message(Label(f"message {k}", 1), bits) for k, bits in enumerate(sizes)]
    route = machine.route("gpu0", "spu0")
    arrived = env.run(env.process(route.transfer(Issuer(), messages, Token())))
    trace.close()
    slowest = min(rate for rate, _ in hops) * 1e9
    wires_ps = [round(bits / slowest * 1e12) for bits in sizes]
    assert abs(env.now - sum(wires_ps) - (route.latency_ps if sum(sizes) else 0)) <= len(sizes)
    flights = [s for s in sink.spans if s["role"] == "flight"]
    assert all(s["end_ps"] - s["start_ps"] == route.latency_ps for s in flights)
    for wire in route.wires:
        held = [s for s in sink.spans if (s["part"], s["lane"]) == (wire.name, wire.lane)]
        assert sum(s["bits"] for s in held) == sum(sizes)
        assert all(a["end_ps"] == b["start_ps"] for a, b in zip(held, held[1:], strict=False))
    if sum(sizes):
        ends = {s["id"]: s["end_ps"] for s in sink.spans}
        assert max(ends[span] for span in arrived.spans) == env.now
        if route.latency_ps:
            assert len(arrived.spans) == sum(map(bool, sizes))


def test_jacobian_hessian_and_gradient_pay_the_latency_once():
    ends = {}
    for latency_ms in (0, 5):
        link = {"part": "paper-50gbps", "latency": f"{latency_ms} ms"}
        _, sink = execute(document(TNGD, steps=1, machine={"link": link}), live=False)
        given = [s for s in sink.spans if s["kind"].startswith("upload")]
        ends[latency_ms] = max(s["end_ps"] for s in given) - min(s["start_ps"] for s in given)
        program = next(s for s in sink.spans if s["kind"] == "program")
        assert program["start_ps"] == max(s["end_ps"] for s in given)
    assert ends[5] - ends[0] == 5_000_000_000
