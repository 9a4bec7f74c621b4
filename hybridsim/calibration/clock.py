"""How long a function takes on a device: repeated, with its spread."""

from __future__ import annotations

import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch

_BURST_S = 2e-4
"""Calls that take less are timed in bursts of about so long."""
_SHORT_S = 0.02
"""About how long the repeats of one visit take."""
_FEWEST, _MOST = 3, 25
_LONG_S = 0.3
"""What takes longer than this is timed once."""


class Timing(NamedTuple):
    """Seconds of one call: the median of so many bursts, and their quartiles."""

    seconds: float
    low_s: float
    high_s: float
    bursts: int


class Clock(ABC):
    """Times calls on a device. ``now``: seconds, as the host counts them."""

    device: str
    now: Callable[[], float]

    @abstractmethod
    def burst_s(self, call: Callable[[], object], calls: int) -> float:
        """Seconds of so many calls in a row."""

    @abstractmethod
    def wait(self) -> None:
        """Return when the device has done all it was given."""

    def time(self, call: Callable[[], object]) -> Timing:
        """Seconds of one call, after one that is not counted.

        The number of calls in a burst and of bursts follow from the first: bursts of 0.2 ms, about
        20 ms in all, at least 3 and at most 25 of them.
        """
        call()
        self.wait()
        once_s = max(self.burst_s(call, 1), 1e-9)
        if once_s > _LONG_S:
            return Timing(once_s, once_s, once_s, 1)
        calls = max(1, round(_BURST_S / once_s))
        number = min(_MOST, max(_FEWEST, round(_SHORT_S / (calls * once_s))))
        found = sorted(self.burst_s(call, calls) / calls for _ in range(number))
        low, median, high = statistics.quantiles(found, n=4, method="inclusive")
        return Timing(median, low, high, number)


class CpuClock(Clock):
    """On a CPU an operator is done when its call returns.

    One thread is timed by what the process computes, so that whatever else the machine does does
    not show; several by the wall, since they wait for each other.
    """

    device = "cpu"

    def __init__(self) -> None:
        self.now = time.process_time if torch.get_num_threads() == 1 else time.perf_counter

    def burst_s(self, call: Callable[[], object], calls: int) -> float:
        """As the host sees it."""
        started = self.now()
        for _ in range(calls):
            call()
        return self.now() - started

    def wait(self) -> None:
        """Nothing is pending."""


class CudaClock(Clock):
    """By events on the stream. The host's part does not show: the device is kept busy until the
    calls are queued, as far as they do not wait for it themselves.
    """

    device = "cuda"
    now = staticmethod(time.perf_counter)
    _AHEAD_S = 40e-6  # of the host, for each call
    _CYCLES_PER_S = 2e9  # at least as many as a device has

    def burst_s(self, call: Callable[[], object], calls: int) -> float:
        """Between an event before the first call and one behind the last."""
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        torch.cuda._sleep(int(self._AHEAD_S * self._CYCLES_PER_S * (calls + 1)))
        first.record()
        for _ in range(calls):
            call()
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last)) * 1e-3

    def wait(self) -> None:
        """Wait for the device."""
        torch.cuda.synchronize()


def clock_of(device: str) -> Clock:
    """The clock of a device, ``cpu`` (with as many threads as torch has now) or ``cuda``."""
    return CudaClock() if device == "cuda" else CpuClock()
