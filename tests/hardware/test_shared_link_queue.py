"""The shared link as an M/D/1 and an M/M/1 queue: mean wait against Pollaczek-Khinchine."""

from __future__ import annotations

import numpy as np
import pytest
import simpy

import hybridsim
from hybridsim.hardware.lane import Context, Issuer, Label
from hybridsim.hardware.machine import Machine
from hybridsim.operations.backend import Shapes, Timing
from hybridsim.operations.ref import Token
from hybridsim.trace.spans import Rows, Trace

SERVICE_BITS = 50_000  # 1 us at 50 Gb/s
MESSAGES, WARM_UP, REPLICATIONS = 12_000, 2_000, 16
T_999 = 4.073  # Student's t, 15 degrees of freedom, two-sided 99.9 %


class Waits:
    def __init__(self) -> None:
        self.ns: list[float] = []

    def write(self, rows: Rows) -> None:
        spans = [row for row in sorted(rows.spans) if row.lane == "to hub"]
        self.ns += [(row.start_ps - row.queued_ps) * 1e-3 for row in spans]


def mean_wait_ns(load: float, exponential: bool, seed: int) -> float:
    """Messages arrive as a Poisson process and go to a random one of four SPUs behind one link."""
    scenario = hybridsim.load(
        "kfac-digits", ["machine.link.bandwidth=50 Gb/s", "machine.link.latency=0 s"]
    )
    env, sink = simpy.Environment(), Waits()
    trace = Trace(sink, lambda: int(env.now))
    machine = Machine(Context(env, trace, Timing(b"", Shapes())), scenario.machine.expand())
    random = np.random.default_rng(seed)
    gaps = np.rint(random.exponential(1e6 / load, MESSAGES)).astype(int).tolist()
    sizes = (
        random.exponential(SERVICE_BITS, MESSAGES)
        if exponential
        else np.full(MESSAGES, SERVICE_BITS)
    )
    bits = np.maximum(np.rint(sizes), 1).astype(int).tolist()
    targets = random.integers(0, 4, MESSAGES).tolist()

    def arrivals():
        for gap, size, target in zip(gaps, bits, targets, strict=True):
            yield env.timeout(gap)
            env.process(
                machine.transfer(
                    Issuer(), Label("message", 0), "gpu0", f"spu{target}", Token(), size
                )
            )

    env.process(arrivals())
    env.run()
    trace.close()
    assert len(sink.ns) == MESSAGES
    return float(np.mean(sink.ns[WARM_UP:]))


@pytest.mark.parametrize("load", [0.3, 0.7])
@pytest.mark.parametrize("exponential", [False, True])
def test_mean_wait_is_pollaczek_khinchine(load, exponential):
    """W = rho (1 + c²) S / (2 (1 - rho)), c² = 0 for equal messages, 1 for exponential ones; S = 1
    us."""
    means = np.array([mean_wait_ns(load, exponential, seed) for seed in range(REPLICATIONS)])
    half = T_999 * means.std(ddof=1) / REPLICATIONS**0.5
    expected = load * (2.0 if exponential else 1.0) * 1000 / (2 * (1 - load))
    assert abs(means.mean() - expected) <= half, (means.mean(), expected, half)
    assert half <= 0.12 * expected, "an interval that wide would accept anything"
