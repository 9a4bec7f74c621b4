"""Counters of energy: sums over packages, wraps, and what is said where there are none."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.calibration import energy as module
from hybridsim.calibration.energy import Meter, NoMeter, Nvml, Power, Rapl, meter_of, power_of


class Zones:
    """A folder as the kernel shows it: packages with domains inside them."""

    def __init__(self, folder, wraps):
        self.folder, self.wraps = folder, wraps
        for place, wrap in enumerate(wraps):
            for name in (f"intel-rapl:{place}", f"intel-rapl:{place}:0"):
                (folder / name).mkdir(parents=True)
                (folder / name / "max_energy_range_uj").write_text(f"{wrap}\n")
        self.set([0] * len(wraps))

    def set(self, energies):
        for place, (energy, wrap) in enumerate(zip(energies, self.wraps, strict=True)):
            for name in (f"intel-rapl:{place}", f"intel-rapl:{place}:0"):
                (self.folder / name / "energy_uj").write_text(f"{energy % wrap}\n")


@given(
    wraps=st.lists(st.integers(10**6, 10**9), min_size=1, max_size=3),
    shares=st.lists(st.floats(0, 0.99), min_size=1, max_size=12),
)
@settings(max_examples=25)
def test_packages_add_up_however_often_their_counters_wrap(tmp_path_factory, wraps, shares):
    zones = Zones(tmp_path_factory.mktemp("powercap"), wraps)
    meter, energies = Rapl(zones.folder), [0] * len(wraps)
    for share in shares:
        energies = [e + int(share * w) for e, w in zip(energies, wraps, strict=True)]
        zones.set(energies)
        assert meter.joules() == pytest.approx(sum(energies) * 1e-6)


def test_without_counters_it_says_so(tmp_path):
    with pytest.raises(NoMeter, match="no RAPL counters in"):
        Rapl(tmp_path / "nowhere")
    zones = Zones(tmp_path / "powercap", [10**6])
    (zones.folder / "intel-rapl:0" / "energy_uj").write_text("secret")
    with pytest.raises(NoMeter, match="cannot be read"):
        Rapl(zones.folder)


class NVMLError(Exception):
    pass


def nvml(millijoules):
    """A stand-in for pynvml whose board has used so much when it is asked."""
    found, read = ModuleType("pynvml"), iter(millijoules)

    def energy(handle):
        value = next(read)
        if value is None:
            raise NVMLError("Not Supported")
        return value

    found.NVMLError = NVMLError
    found.nvmlInit = lambda: None
    found.nvmlDeviceGetHandleByIndex = lambda index: index
    found.nvmlDeviceGetTotalEnergyConsumption = energy
    return found


def test_a_board_counts_in_millijoules(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", nvml([1_000, 4_000, 9_500]))
    meter = meter_of("cuda")
    assert (meter.joules(), meter.joules()) == (4.0, 9.5)


def test_a_board_without_a_counter_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", nvml([None]))
    with pytest.raises(NoMeter, match="NVML: Not Supported"):
        Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(NoMeter, match="pynvml is not installed"):
        Nvml()


class Monitor:
    """A stand-in for Zeus: each window holds what was used since it began."""

    used, asked = 0.0, None

    def __init__(self, gpu_indices, cpu_indices):
        Monitor.asked, self.begun = (gpu_indices, cpu_indices), None

    def begin_window(self, name, sync_execution):
        assert self.begun is None and not sync_execution
        self.begun = Monitor.used

    def end_window(self, name, sync_execution):
        found, self.begun = Monitor.used - self.begun, None
        boards, packages = Monitor.asked
        half = {0: found / 2, 1: found / 2} if packages is None else None
        return SimpleNamespace(gpu_energy=dict.fromkeys(boards, found), cpu_energy=half)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_zeus_reads_what_has_no_counter_of_its_own(monkeypatch, tmp_path, device):
    monkeypatch.setattr(module, "Rapl", lambda: Rapl(tmp_path))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setitem(sys.modules, "zeus", ModuleType("zeus"))
    monkeypatch.setitem(sys.modules, "zeus.monitor", SimpleNamespace(ZeusMonitor=Monitor))
    Monitor.used = 0.0
    meter = meter_of(device)
    for joules in (3.0, 3.0, 10.5):
        Monitor.used = joules
        assert meter.joules() == pytest.approx(joules)


def test_without_zeus_both_reasons_are_said(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "Rapl", lambda: Rapl(tmp_path))
    monkeypatch.setitem(sys.modules, "zeus.monitor", None)
    with pytest.raises(NoMeter, match="no RAPL counters in .*; zeus is not installed"):
        meter_of("cpu")


@given(idle=st.floats(1, 100), extra=st.floats(0, 300))
def test_idle_and_busy_watts(idle, extra):
    """A device that draws ``extra`` more whenever it computes, on a clock of its own."""

    class Device(Meter):
        name, now, used = "a meter", 0.0, 0.0

        def joules(self):
            return self.used

        def spend(self, seconds, watts):
            self.now += seconds
            self.used += watts * seconds

    device = Device()

    class Time:
        monotonic = staticmethod(lambda: device.now)
        sleep = staticmethod(lambda seconds: device.spend(seconds, idle))

    class Clock:
        wait = staticmethod(lambda: device.spend(0.1, idle + extra))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "time", Time)
        patch.setattr(module, "clock_of", lambda name: Clock)
        patch.setattr(module, "_SIDE", 2)
        found = power_of(device, "cpu")
    assert found == Power(pytest.approx((idle,) * 3), pytest.approx((idle + extra,) * 3), "a meter")
