"""Power of the device, where something reads it: NVML of a GPU, RAPL of a CPU's packages, or Zeus,
which reads other boards too, and RAPL through its daemon where only root may.
"""

from __future__ import annotations

import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from hybridsim.calibration.clock import clock_of
from hybridsim.errors import HybridsimError

_RAPL = Path("/sys/class/powercap")
_READINGS, _BETWEEN_S = 8, 0.4
_SIDE = 2048  # of the matrices


class Power(NamedTuple):
    """Watts (median, lowest, highest of several readings) and who read them."""

    idle_w: tuple[float, float, float]
    busy_w: tuple[float, float, float]
    meter: str


class NoMeter(HybridsimError):
    """Nothing reads the device's power; the message says why."""


class Meter(ABC):
    """Counts joules."""

    name: str

    @abstractmethod
    def joules(self) -> float:
        """Since some moment; only differences mean anything."""


class Rapl(Meter):
    """Packages of a CPU by the kernel's powercap files; their counters wrap.

    Source: Linux kernel, Documentation/power/powercap/powercap.rst.

    Raises:
        NoMeter: there are none, or only root reads them.
    """

    def __init__(self, folder: Path = _RAPL) -> None:
        self._zones = sorted(folder.glob("intel-rapl:*[0-9]")) if folder.is_dir() else []
        self._zones = [zone for zone in self._zones if zone.name.count(":") == 1]
        if not self._zones:
            raise NoMeter(f"no RAPL counters in {folder}")
        try:
            self._wraps = [int((zone / "max_energy_range_uj").read_text()) for zone in self._zones]
            self._last = [self._read(zone) for zone in self._zones]
        except (OSError, ValueError) as error:
            raise NoMeter(f"RAPL counters that cannot be read: {error}") from None
        self.name = f"RAPL of {len(self._zones)} package(s)"
        self._whole_uj = 0

    def joules(self) -> float:
        """All packages; to be asked more often than their counters wrap (about a minute)."""
        for place, zone in enumerate(self._zones):
            now = self._read(zone)
            passed = now - self._last[place]
            self._whole_uj += passed if passed >= 0 else passed + self._wraps[place]
            self._last[place] = now
        return self._whole_uj * 1e-6

    @staticmethod
    def _read(zone: Path) -> int:
        return int((zone / "energy_uj").read_text())


class Nvml(Meter):
    """The whole board of a GPU, by its own counter (Volta and later).

    Raises:
        NoMeter: pynvml is not installed, or the driver does not answer.
    """

    def __init__(self, index: int = 0) -> None:
        try:
            import pynvml
        except ImportError:
            raise NoMeter("pynvml is not installed: pip install hybridsim[energy]") from None
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            self._device = pynvml.nvmlDeviceGetHandleByIndex(index)
            self.joules()
        except pynvml.NVMLError as error:
            raise NoMeter(f"NVML: {error}") from None
        self.name = "NVML, whole board"

    def joules(self) -> float:
        """By the board's counter of millijoules."""
        return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._device)) * 1e-3


class Zeus(Meter):
    """What Zeus reads (ml.energy/zeus): a board, or the packages of a CPU.

    Raises:
        NoMeter: it is not installed, or reads nothing here.
    """

    _WINDOW = "hybridsim"

    def __init__(self, device: str) -> None:
        try:
            from zeus.monitor import ZeusMonitor
        except ImportError:
            raise NoMeter("zeus is not installed: pip install hybridsim[zeus]") from None
        boards = [0] if device == "cuda" else []
        packages: list[int] | None = [] if device == "cuda" else None  # None: all
        try:
            self._monitor = ZeusMonitor(gpu_indices=boards, cpu_indices=packages)
            self._monitor.begin_window(self._WINDOW, sync_execution=False)
            self._whole_j, self._read = 0.0, False
            self.joules()
        except Exception as error:  # of its own classes, of drivers, of a daemon
            raise NoMeter(f"zeus: {error}") from None
        if not self._read:
            raise NoMeter("zeus: nothing to read")
        self.name = "Zeus"

    def joules(self) -> float:
        """One window after the other, added up."""
        window = self._monitor.end_window(self._WINDOW, sync_execution=False)
        self._monitor.begin_window(self._WINDOW, sync_execution=False)
        found = [*window.gpu_energy.values(), *(window.cpu_energy or {}).values()]
        self._read = self._read or bool(found)
        self._whole_j += sum(found)
        return self._whole_j


def meter_of(device: str) -> Meter:
    """What reads the power of a device: its own counters, or Zeus.

    Raises:
        NoMeter: nothing does.
    """
    try:
        return Nvml() if device == "cuda" else Rapl()
    except NoMeter as error:
        try:
            return Zeus(device)
        except NoMeter as other:
            raise NoMeter(f"{error}; {other}") from None


def power_of(meter: Meter, device: str) -> Power:
    """Idle, then under large matrix products, several seconds each."""
    clock = clock_of(device)
    a = torch.rand(_SIDE, _SIDE, device=device)

    def busy() -> None:
        ends = time.monotonic() + _BETWEEN_S
        while time.monotonic() < ends:
            a @ a
            clock.wait()

    idle_w = _watts(meter, lambda: time.sleep(_BETWEEN_S))
    busy()
    return Power(idle_w, _watts(meter, busy), meter.name)


def _watts(meter: Meter, spend: Callable[[], None]) -> tuple[float, float, float]:
    found = []
    for _ in range(_READINGS):
        joules, started = meter.joules(), time.monotonic()
        spend()
        found.append((meter.joules() - joules) / (time.monotonic() - started))
    return statistics.median(found), min(found), max(found)
