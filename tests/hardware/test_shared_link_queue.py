"""The shared link as an M/D/1 and an M/M/1 queue: every wait against Lindley's recursion, and mean
waits against Pollaczek-Khinchine."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import simpy

import hybridsim
from hybridsim.hardware.lane import Context, Issuer, Label
from hybridsim.hardware.machine import Machine
from hybridsim.operations.backend import Shapes, Timing
from hybridsim.operations.ref import Token
from hybridsim.trace.spans import Rows, Trace

SERVICE_BITS, PS_PER_BIT = 50_000, 20  # 1 us at 50 Gb/s
WARM_UP, REPLICATIONS = 2_000, 16
T_999 = 4.073  # Student's t, 15 degrees of freedom, two-sided 99.9 %


class Stream(NamedTuple):
    """Messages that arrive as a Poisson process, each ``gaps_ps`` after the one before."""

    gaps_ps: np.ndarray
    bits: np.ndarray
    targets: np.ndarray


def stream(load: float, exponential: bool, seed: int, messages: int) -> Stream:
    """Messages to a random one of four SPUs."""
    random = np.random.default_rng(seed)
    gaps_ps = np.rint(random.exponential(1e6 / load, messages)).astype(int)
    sizes = random.exponential(1.0, messages) if exponential else np.ones(messages)
    bits = np.maximum(np.rint(SERVICE_BITS * sizes), 1).astype(int)
    return Stream(gaps_ps, bits, random.integers(0, 4, messages))


class Waits:
    def __init__(self) -> None:
        self.ps: list[int] = []

    def write(self, rows: Rows) -> None:
        spans = [row for row in sorted(rows.spans) if row.lane == "to hub"]
        self.ps += [row.start_ps - row.queued_ps for row in spans]


def simulated_waits_ps(messages: Stream) -> list[int]:
    """What each message waits for the one link that leads to all SPUs."""
    scenario = hybridsim.load(
        "kfac-digits", ["machine.link.bandwidth=50 Gb/s", "machine.link.latency=0 s"]
    )
    env, sink = simpy.Environment(), Waits()
    trace = Trace(sink, lambda: int(env.now))
    machine = Machine(Context(env, trace, Timing(b"", Shapes())), scenario.machine.expand())

    def arrivals():
        for gap_ps, bits, target in zip(*(column.tolist() for column in messages), strict=True):
            yield env.timeout(gap_ps)
            label, to = Label("message", 0), f"spu{target}"
            env.process(machine.transfer(Issuer(), label, "gpu0", to, Token(), bits))

    env.process(arrivals())
    env.run()
    trace.close()
    return sink.ps


def waits_ps(messages: Stream) -> np.ndarray:
    """Lindley's recursion W <- max(0, W + service - gap), from an idle server on, as a running
    maximum of its sums."""
    steps = messages.bits[:-1] * PS_PER_BIT - messages.gaps_ps[1:]
    walk = np.concatenate(([0], np.cumsum(steps)))
    return walk - np.minimum.accumulate(walk)


@pytest.mark.parametrize("load", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("exponential", [False, True])
def test_every_message_waits_for_those_before_it(load, exponential):
    messages = stream(load, exponential, seed=round(100 * load), messages=4_000)
    expected = waits_ps(messages)
    assert simulated_waits_ps(messages) == expected.tolist()
    assert (expected > 0).mean() > 0.2, "a queue that nobody waits in would show nothing"


@pytest.mark.parametrize("load", [0.3, 0.7])
@pytest.mark.parametrize("exponential", [False, True])
def test_mean_wait_is_pollaczek_khinchine(load, exponential):
    """W = rho (1 + c²) S / (2 (1 - rho)), c² = 0 for equal messages, 1 for exponential ones; S = 1
    us. Of waits that the test above finds in the simulation."""
    streams = [stream(load, exponential, seed, 100_000) for seed in range(REPLICATIONS)]
    means = np.array([waits_ps(found)[WARM_UP:].mean() for found in streams])
    half = T_999 * means.std(ddof=1) / REPLICATIONS**0.5
    expected = load * (2.0 if exponential else 1.0) * 1e6 / (2 * (1 - load))
    assert abs(means.mean() - expected) <= half, (means.mean(), expected, half)
    assert half <= 0.05 * expected, "an interval that wide would accept anything"
