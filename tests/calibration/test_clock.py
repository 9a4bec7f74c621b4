"""Repeats follow from the first call; what is reported is the median of what was seen."""

from __future__ import annotations

import statistics

from hypothesis import given
from hypothesis import strategies as st

from hybridsim.calibration.clock import Clock, CpuClock


class Given(Clock):
    """Calls that take given seconds."""

    device = "cpu"

    def __init__(self, times):
        self.times, self.bursts, self.waits = list(times), [], 0

    def burst_s(self, call, calls):
        seconds = self.times[len(self.bursts) % len(self.times)] * calls
        self.bursts.append((calls, seconds))
        return seconds

    def wait(self):
        self.waits += 1


@given(st.floats(1e-8, 0.29))
def test_a_steady_call_is_found_whatever_it_takes(seconds):
    clock = Given([seconds])
    found = clock.time(lambda: None)
    assert abs(found.seconds / seconds - 1) < 1e-12
    assert 3 <= found.bursts <= 25 and len(clock.bursts) == found.bursts + 1
    calls = {calls for calls, _ in clock.bursts[1:]}
    assert len(calls) == 1
    assert calls == {1} or abs(calls.pop() * seconds / 2e-4 - 1) < 0.5 / (2e-4 / seconds) + 1e-9


@given(st.floats(0.31, 1e3))
def test_a_long_call_is_timed_once(seconds):
    clock = Given([seconds])
    assert clock.time(lambda: None) == (seconds, seconds, seconds, 1)
    assert len(clock.bursts) == 1


@given(st.lists(st.floats(1e-3, 2e-3), min_size=30, max_size=30))
def test_the_median_and_the_quartiles(times):
    clock = Given(times)
    found = clock.time(lambda: None)
    seen = [seconds / calls for calls, seconds in clock.bursts[1:]]
    assert found.seconds == statistics.median(seen)
    assert min(seen) <= found.low_s <= found.seconds <= found.high_s <= max(seen)


def test_a_first_call_warms_up_and_is_not_counted():
    warm, clock = [], Given([1e-3])
    clock.time(lambda: warm.append(len(clock.bursts)))
    assert warm == [0] and clock.waits == 1


def test_bursts_call_what_they_time():
    calls = []
    found = CpuClock().time(lambda: calls.append(None))
    assert found.seconds > 0 and len(calls) >= found.bursts + 2
