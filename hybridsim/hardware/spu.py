"""A stochastic processing unit: an analog state that lives in time, resistors, converters."""

from __future__ import annotations

import math
from typing import Any

from hybridsim.circuits.base import Load
from hybridsim.errors import CapacityError
from hybridsim.hardware.device import device_of
from hybridsim.hardware.lane import (
    Cause,
    Context,
    Issuer,
    Label,
    Lane,
    Place,
    Process,
    Server,
    record_start,
)
from hybridsim.hardware.part import Limit, Part, Standing
from hybridsim.hardware.price import Constants, Quote, Tariff, Time
from hybridsim.hardware.requests import Convert, Drift, Measure, Settle, Write
from hybridsim.hardware.resistor_sets import ResistorSets
from hybridsim.operations.ref import Computation, Ref
from hybridsim.scenario.machine import SpuSpec
from hybridsim.units import to_ps

_FULL = 1 + 1e-9  # an automatic full scale is its own peak, but for rounding
_EVENTS = {
    "clipped": ("clipping", 0.0, "values beyond the converter's full scale"),
    "saturation": ("saturation", _FULL, "largest voltage over full scale"),
    "nonfinite": ("non-finite", 0.0, "values that are not finite"),
    "smallest_eigenvalue": (
        "runaway",
        0.0,
        "rate at which the fastest growing mode runs away, per RC",
    ),
}

_CONDUCTANCE = "conductance_"


def write_time(constants: Constants, request: Write) -> Time:
    """Rounds over the channels, beyond the transport; 0 channels write all at once."""
    channels = constants.value("write_channels")
    rounds = 1 if channels == 0 else math.ceil(request.resistors / channels)
    seconds = rounds * constants.value("write_time_s") if request.resistors else 0.0
    return Time(to_ps(seconds), to_ps(seconds))


def write_energy(constants: Constants, request: Write) -> float:
    """Energy of every bit that is written."""
    return constants.value("write_energy_j_per_bit") * float(request.resistors * request.bits)


def convert_time(constants: Constants, request: Convert) -> Time:
    """Rounds over the input converters, for each system."""
    return _rounds(constants, "dac", request)


def convert_energy(constants: Constants, request: Convert) -> float:
    """The 8-bit figure, doubled for every further bit, for every conversion."""
    one: float = constants.value("dac_energy_8bit_j") * 2.0 ** (request.bits - 8)
    return one * (request.cells * request.repeats)


def measure_time(constants: Constants, request: Measure) -> Time:
    """Rounds over the output converters, for each system."""
    return _rounds(constants, "adc", request)


def measure_energy(constants: Constants, request: Measure) -> float:
    """A factor above the survey's envelope ``floor + thermal 4^ENOB``, ENOB = bits - 1."""
    thermal: float = constants.value("adc_energy_thermal_j") * 4.0 ** (request.bits - 1)
    envelope = constants.value("adc_energy_floor_j") + thermal
    return constants.value("adc_energy_factor") * envelope * (request.cells * request.repeats)


def _rounds(constants: Constants, kind: str, request: Convert | Measure) -> Time:
    channels = constants.value(f"{kind}_channels") or request.cells
    rounds = math.ceil(request.cells / channels) * request.repeats
    rate = constants.value(f"{kind}_rate_hz")
    duration_ps = to_ps(rounds / rate) if rate else 0
    return Time(duration_ps, duration_ps)


def rc_ps(constants: Constants) -> float:
    """The time constant RC."""
    return constants.value("resistance_ohm") * constants.value("capacitance_f") * 1e12


def settle_time(constants: Constants, request: Settle) -> Time:
    """``tau`` RC for each system."""
    duration_ps = to_ps(request.tau * request.repeats * rc_ps(constants) * 1e-12)
    return Time(duration_ps, duration_ps)


def settle_energy(constants: Constants, request: Settle) -> float:
    """What the resistors dissipate; see ``_dissipated``."""
    return _dissipated(constants, request, settle_time(constants, request).duration_ps)


def drift_time(constants: Constants, request: Drift) -> Time:
    """What the clock says."""
    return Time(request.elapsed_ps, request.elapsed_ps)


def drift_energy(constants: Constants, request: Drift) -> float:
    """What the resistors dissipate; see ``_dissipated``."""
    return _dissipated(constants, request, request.elapsed_ps)


def _dissipated(constants: Constants, request: Settle | Drift, duration_ps: int) -> float:
    """``V_fs² C`` times the trajectory's integral.

    Without numbers an estimate: every resistor at R and full scale, times an activity factor.
    """
    volts = constants.value("full_scale_v")
    if request.dissipation is not None:
        return volts * volts * constants.value("capacitance_f") * request.dissipation
    siemens = request.resistors / constants.value("resistance_ohm")
    seconds = duration_ps * 1e-12
    return volts * volts * siemens * seconds * constants.value("activity_factor")


class Spu(Part):
    """Relaxes ``dx = -(A x - b) dtau + sqrt(2 kappa0) dW`` with tau = t / RC.

    Between events nothing runs. At an event the state moves by the exact transition over the time
    that has passed: a number of RC that the program commanded (``settle``), or what the clock says
    (``relax``).

    Args:
        context: environment, trace and backend.
        node: name, datasheet, buffering and resolutions.
        number_bits: what an unquantized number takes on the link that leads here.
    """

    kind = "spu"
    tariffs = {
        Write: Tariff("write", write_time, write_energy),
        Convert: Tariff("convert", convert_time, convert_energy),
        Settle: Tariff("relax", settle_time, settle_energy),
        Drift: Tariff("relax", drift_time, drift_energy),
        Measure: Tariff("measure", measure_time, measure_energy),
    }

    def __init__(self, context: Context, node: SpuSpec, number_bits: int) -> None:
        super().__init__(context, node.name, node.sheet)
        self.node, self.number_bits = node, number_bits
        self.device = device_of(node)
        given = {"input": node.input_bits, "bias": node.bias_bits, "output": node.output_bits}
        self._bits = {end: number_bits if bits is None else bits for end, bits in given.items()}
        self._array, self._core, self._dac, self._adc = (
            Lane(context, node.name, lane) for lane in ("array", "core", "dac", "adc")
        )
        self.integrators = Server(context.env)
        self.set_count = 2 if node.buffering == "double" else 1
        self.sets = ResistorSets(context.env, self.set_count)
        self.rc_ps = rc_ps(node.sheet)
        self.system: Ref | None = None
        self.drive: Ref | None = None
        self.state: Ref | None = None
        self.load = Load()
        self._largest = Load()
        self._conductance = 0.0
        self._amplifiers = 0
        self.since_ps = 0
        self._share = 1.0
        self._crossings = 0
        self._crossing_rate = 0.0

    def duration_ps(self, tau: float) -> int:
        """Clock time of ``tau`` time constants."""
        return to_ps(tau * self.rc_ps * 1e-12)

    def elapsed_tau(self) -> float:
        """Time constants since the state last moved."""
        return float(self.context.env.now - self.since_ps) / self.rc_ps

    def program(
        self,
        issuer: Issuer,
        label: Label,
        computation: Computation,
        args: tuple[Ref, ...],
        load: Load,
        *,
        known: dict[bytes, Ref] | None = None,
    ) -> Process:
        """Write the resistors of a system; the computation is what the device does with them.

        ``known`` collects systems by key: devices that hold the same one compute it once.

        Raises:
            CapacityError: more cells or resistors than the device has.
        """

        def start() -> tuple[Ref, Quote]:
            self._check_capacity(load, label)
            system = self._evaluated(computation, args, known)
            self._report(system, label)
            return system, self.prices.quote(Write(load.written, self.bits("input")))

        return (yield from self._array.serve(issuer, label, args, start))

    def install(
        self,
        system: Ref,
        drive: Ref,
        state: Ref,
        load: Load,
        *,
        share: float = 1.0,
        crossings: int = 0,
    ) -> None:
        """Put a system, its drive and a state in force, atomically and now.

        Of a system that several devices hold together (``SpuGroup``) ``load`` is this one's,
        ``share`` that of the dissipation, ``crossings`` the lines that it drives to others.
        """
        self.system, self.drive, self.state, self.load = system, drive, state, load
        self._amplifiers = max(self._amplifiers, load.amplifiers)
        self._share, self._crossings = share, max(self._crossings, crossings)
        self.resume()

    def crossed(self, rate: float, label: Label) -> None:
        """Lines to other devices must follow changes at ``rate`` per RC; else it is an event."""
        self._crossing_rate = max(self._crossing_rate, rate)
        over = rate / self._crossing_bandwidth()
        if over > 1:
            self._event("slow lines", label, over, "rate of the fastest mode over the lines' limit")

    def _crossing_bandwidth(self) -> float:
        """Rate per RC that a line follows."""
        bandwidth_hz = self.sheet.value("crossing_bandwidth_hz")
        return 2 * math.pi * bandwidth_hz * self.rc_ps * 1e-12

    def resume(self) -> None:
        """Connect the integrators: the state relaxes from now on."""
        self.since_ps = int(self.context.env.now)

    def settle(
        self,
        issuer: Issuer,
        label: Label,
        tau: float,
        relaxation: Computation,
        count: int = 1,
        *,
        known: dict[bytes, Ref] | None = None,
    ) -> Process:
        """Relax for a commanded ``tau`` and wait; ``count`` systems of equal size in a row."""
        args = self._arguments()

        def start() -> tuple[Ref, Quote]:
            state = self._evaluated(relaxation, args, known)
            self._report(state, label)
            heat = self._dissipation(state)
            return state, self._quote(Settle(tau, self.load.resistors, heat, count))

        self.state = yield from self._core.serve(issuer, label, args, start)
        self.resume()
        return self.state

    def relax(
        self,
        label: Label,
        relaxation: Computation,
        commanded_tau: float | None = None,
        *,
        known: dict[bytes, Ref] | None = None,
    ) -> Ref:
        """Move the state by the time since it last moved: a background span, nobody's parent.

        With a commanded time the state is taken to be held for the rest of the interval.
        """
        now, trace, start = int(self.context.env.now), self.context.trace, self.since_ps
        args = self._arguments()
        state = self._evaluated(relaxation, args, known)
        self._report(state, label)
        heat, resistors = self._dissipation(state), self.load.resistors
        if commanded_tau is None:
            quote = self._quote(Drift(now - start, resistors, heat))
        else:
            quote = self._quote(Settle(commanded_tau, resistors, heat))
        assert start + quote.duration_ps <= now, "the state cannot move ahead of the clock"
        span = trace.new_id()
        cause = Cause(span, tuple(sorted({s for a in args for s in a.spans})), -1, start)
        record_start(trace, cause, Place(self.name, "relax", "background"), label, start, quote)
        trace.finish(span)
        self.state, self.since_ps = Ref(state.value, state.key, args[1].spans, state.facts), now
        return self.state

    def convert_input(
        self,
        issuer: Issuer,
        label: Label,
        computation: Computation,
        args: tuple[Ref, ...],
        cells: int,
        count: int = 1,
        *,
        known: dict[bytes, Ref] | None = None,
    ) -> Process:
        """Digital to analog: the drive of ``count`` systems of ``cells`` values."""

        def start() -> tuple[Ref, Quote]:
            drive = self._evaluated(computation, args, known)
            self._report(drive, label)
            return drive, self.prices.quote(Convert(cells, self.bits("bias"), count))

        return (yield from self._dac.serve(issuer, label, args, start))

    def measure(
        self,
        issuer: Issuer,
        label: Label,
        computation: Computation,
        args: tuple[Ref, ...],
        cells: int,
        count: int = 1,
        shape: Any = None,  # Any: what stands for the reading, a meta tensor or a tree of them
        *,
        known: dict[bytes, Ref] | None = None,
    ) -> Process:
        """Sample, hold and convert the state; the relaxation is not disturbed.

        ``shape`` stands in without tensors.
        """

        def start() -> tuple[Ref, Quote]:
            reading = self._evaluated(computation, args, known, shape)
            self._report(reading, label)
            return reading, self.prices.quote(Measure(cells, self.bits("output"), count))

        return (yield from self._adc.serve(issuer, label, args, start))

    def standing(self) -> list[Standing]:
        """The amplifiers of the largest system in force, and its lines to other devices; unused
        ones are taken to be gated off.
        """
        rows = [
            Standing("amplifiers", "amplifier_power_w", self._amplifiers),
            Standing("lines to other SPUs", "crossing_power_w", self._crossings),
        ]
        return [row for row in rows if row.number]

    def limits(self) -> list[Limit]:
        """Cells, resistors, the largest conductance in units of 1/R, and the rate per RC that lines
        to other devices have to follow (the last two of tensors only).
        """
        value, largest = self.sheet.value, self._largest
        resistors, found = self.set_count * largest.resistors, list[Limit]()
        if self._crossings:
            available = self._crossing_bandwidth()
            found = [Limit(self.name, "crossing_rate", self._crossing_rate, available)]
        return [
            Limit(self.name, "cells", largest.cells, value("cells")),
            Limit(self.name, "resistors", resistors, value("resistors")),
            Limit(self.name, "conductance_range", self._conductance, value("conductance_range")),
            *found,
        ]

    def lacking(self, load: Load) -> list[tuple[str, int, float]]:
        """What a system needs more of than the device has: (constant, needed, available)."""
        needs = (("cells", load.cells), ("resistors", self.set_count * load.resistors))
        return [
            (name, needed, self.sheet.value(name))
            for name, needed in needs
            if needed > self.sheet.value(name)
        ]

    def largest_order(self) -> int:
        """Order of the largest factor that the device holds, one resistor per entry."""
        resistors = int(self.sheet.value("resistors") // self.set_count)
        return min(int(self.sheet.value("cells")), math.isqrt(resistors))

    def service_ps(self, load: Load, columns: int, tau: float, *, driven: bool = True) -> int:
        """Time of one system without waiting: writing, then for each column DAC, settling, ADC."""
        requests: list[Write | Convert | Settle | Measure] = [
            Write(load.written, self.bits("input")),
            Settle(tau, load.resistors, None, columns),
            Measure(load.cells, self.bits("output"), columns),
        ]
        if driven:
            requests.append(Convert(load.cells, self.bits("bias"), columns))
        return sum(self.prices.duration_ps(request) for request in requests)

    def bits(self, which: str) -> int:
        """Resolution of an end (input, bias, output); an ideal one is an unquantized number's."""
        return self._bits[which]

    def _evaluated(
        self,
        computation: Computation,
        args: tuple[Ref, ...],
        known: dict[bytes, Ref] | None,
        shape: Any = None,  # Any: as of ``measure``
    ) -> Ref:
        """What the device computes; once for all that share ``known``, which collects by key."""
        backend = self.context.backend
        key = backend.key(computation, args)
        found = known.get(key) if known is not None else None
        if found is None:
            found = backend.evaluate(computation, args, shape, exact=True)
        if known is not None:
            known[key] = found
        return found

    def _dissipation(self, state: Ref) -> float | None:
        """This device's share of what a relaxation dissipated; None without numbers."""
        heat: float | None = state.facts.get("dissipation")
        return heat if heat is None or self._share == 1.0 else heat * self._share

    def _arguments(self) -> tuple[Ref, Ref, Ref]:
        assert self.system is not None and self.state is not None and self.drive is not None
        return self.system, self.state, self.drive

    def _quote(self, request: Settle | Drift) -> Quote:
        """A price, remembered where it may come again: no two trajectories dissipate alike."""
        if isinstance(request, Settle) and request.dissipation is None:
            return self.prices.quote(request)
        return self.prices.quote_once(request)

    def _check_capacity(self, load: Load, label: Label) -> None:
        self._largest = Load(
            cells=max(self._largest.cells, load.cells),
            resistors=max(self._largest.resistors, load.resistors),
        )
        for name, needed, available in self.lacking(load):
            layer = f" of layer '{label.layer}'" if label.layer else ""
            raise CapacityError(
                f"{self.name}: '{label.operation}'{layer} needs {needed} {name}, and "
                f"{self.sheet.name} has {available:.0f}; choose a larger part "
                f"(machine.spus.{name}), a smaller workload or training.batch_size"
            )

    def _report(self, result: Ref, label: Label) -> None:
        """Events of what went wrong, and the largest conductance so far."""
        for fact, value in sorted(result.facts.items()):
            if fact.startswith(_CONDUCTANCE):
                self._conductance = max(self._conductance, value)
                over = value / self.sheet.value("conductance_range")
                if over > _FULL:
                    where = fact.removeprefix(_CONDUCTANCE)
                    note = f"largest conductance ({where}) over the range of the part"
                    self._event("out of range", label, over, note)
            elif fact in _EVENTS:
                kind, limit, note = _EVENTS[fact]
                measured = -value if fact == "smallest_eigenvalue" else value
                if measured > limit:
                    self._event(kind, label, measured, note)

    def _event(self, kind: str, label: Label, value: float, note: str) -> None:
        """Something went wrong now."""
        note = f"{label.operation}: {note}"
        self.context.trace.event(
            kind, self.name, label.step, layer=label.layer, value=float(value), note=note
        )
