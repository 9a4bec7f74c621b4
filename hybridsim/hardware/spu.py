"""A stochastic processing unit: an analog state that lives in time, resistors, converters."""

from __future__ import annotations

import math
from typing import Any

from hybridsim.circuits.load import Load
from hybridsim.hardware.crossings import Crossings
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
from hybridsim.hardware.price import Quote, Tariff
from hybridsim.hardware.requests import Convert, Drift, Held, Measure, Preset, Settle, Write
from hybridsim.hardware.resistor_sets import ResistorSets
from hybridsim.hardware.spu_capacity import check_capacity, larger
from hybridsim.hardware.spu_events import check_energy, largest_conductance, what_went_wrong
from hybridsim.hardware.spu_tariffs import (
    amplifier_power_w,
    bias_power_w,
    convert_energy,
    convert_time,
    drift_energy,
    drift_time,
    measure_energy,
    measure_time,
    preset_energy,
    preset_time,
    rc_ps,
    realised,
    settle_energy,
    settle_time,
    write_energy,
    write_time,
)
from hybridsim.operations.ref import Computation, Ref
from hybridsim.scenario.machine import SpuSpec
from hybridsim.units import to_ps


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
        Preset: Tariff("preset", preset_time, preset_energy),
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
        self.set_count = node.sets
        self.sets = ResistorSets(context.env, self.set_count)
        self.rc_ps = rc_ps(node.sheet)
        self.system: Ref | None = None
        self.drive: Ref | None = None
        self.state: Ref | None = None
        self.load = Load()
        self.largest = Load()
        self._conductance, self._share = 0.0, 1.0
        self._amplifiers = 0
        self._held: Held | None = None
        self.since_ps = 0
        self._crossings = Crossings(node.name, node.sheet)

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
            written = self.realised(load).written
            return system, self.prices.quote(Write(written, self.bits("input")))

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
        self._amplifiers = max(self._amplifiers, self.realised(load).amplifiers)
        self._crossings.drive(crossings)
        self._share = share
        self.resume()

    def realised(self, load: Load) -> Load:
        """What a system takes on this device, negative entries included."""
        return realised(load, self.sheet, self.node.imperfections)

    def preset(self, issuer: Issuer, label: Label, ref: Ref, cells: int, count: int = 1) -> Process:
        """Set the cells to a start state, or discharge them, before each of ``count`` settles.

        Free, and no operation, where presetting is ideal.
        """
        if "preset" not in self.node.imperfections:
            return ref

        def start() -> tuple[Ref, Quote]:
            return ref, self.prices.quote(Preset(cells, self.bits("bias"), count))

        return (yield from self._core.serve(issuer, label, (ref,), start))

    def crossed(self, rate: float, label: Label) -> None:
        """Lines to other devices must follow changes at ``rate`` per RC; else it is an event."""
        over = self._crossings.follow(rate)
        if over > 1:
            self._event("slow lines", label, over, "rate of the fastest mode over the lines' limit")

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
            heat, supply = self._shared(state, "dissipation"), self._supply(state)
            self._hold(heat, *supply, tau * count)
            return state, self._quote(Settle(tau, self.load.resistors, heat, count, *supply))

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
        heat, resistors = self._shared(state, "dissipation"), self.load.resistors
        supply = self._supply(state)
        self._hold(heat, *supply, (now - start) / self.rc_ps)
        if commanded_tau is None:
            quote = self._quote(Drift(now - start, resistors, heat, *supply))
        else:
            quote = self._quote(Settle(commanded_tau, resistors, heat, 1, *supply))
        assert start + quote.duration_ps <= now, "the state cannot move ahead of the clock"
        span = trace.new_id()
        cause = Cause(span, tuple(sorted({s for a in args for s in a.spans})), -1, start)
        record_start(trace, cause, Place(self.name, "relax", "background"), label, start, quote)
        trace.finish(span)
        self.state, self.since_ps = state.at(*args[1].spans), now
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
            request = Measure(cells, self.bits("output"), count, self._held)
            return reading, self._quote(request)

        return (yield from self._adc.serve(issuer, label, args, start))

    def standing(self) -> list[Standing]:
        """The amplifiers of the largest system in force, and its lines to other devices; unused
        ones are taken to be gated off.
        """
        paid = "bandwidth" in self.node.imperfections
        power_w = amplifier_power_w if paid else bias_power_w
        amplifiers = Standing("amplifiers", power_w, self._amplifiers)
        return [row for row in (amplifiers, self._crossings.standing()) if row.number]

    def limits(self) -> list[Limit]:
        """Cells, resistors, the largest conductance in units of 1/R, and the rate per RC that lines
        to other devices have to follow (the last two of tensors only).
        """
        value, largest = self.sheet.value, self.largest
        return [
            Limit(self.name, "cells", largest.cells, value("cells")),
            Limit(self.name, "resistors", self.set_count * largest.resistors, value("resistors")),
            Limit(self.name, "conductance_range", self._conductance, value("conductance_range")),
            *self._crossings.limits(),
        ]

    def lacking(self, load: Load) -> list[tuple[str, int, float]]:
        """What a system needs more of than the device has: (constant, needed, available)."""
        resistors = self.set_count * self.realised(load).resistors
        needs = (("cells", load.cells), ("resistors", resistors))
        return [
            (name, needed, self.sheet.value(name))
            for name, needed in needs
            if needed > self.sheet.value(name)
        ]

    def largest_order(self) -> int:
        """Order of the largest factor that the device holds, one resistor per entry."""
        each = self.set_count * self.realised(Load(resistors=1)).resistors
        resistors = int(self.sheet.value("resistors") // each)
        return min(int(self.sheet.value("cells")), math.isqrt(resistors))

    def service_ps(self, load: Load, columns: int, tau: float, *, driven: bool = True) -> int:
        """Time of one system without waiting: writing, then for each column DAC, settling, ADC."""
        requests: list[Write | Preset | Convert | Settle | Measure] = [
            Write(self.realised(load).written, self.bits("input")),
            Settle(tau, load.resistors, repeats=columns),
            Measure(load.cells, self.bits("output"), columns),
        ]
        if driven:
            requests.append(Convert(load.cells, self.bits("bias"), columns))
        if "preset" in self.node.imperfections:
            requests.append(Preset(load.cells, self.bits("bias"), columns if driven else 1))
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
        if known is None:
            return backend.evaluate(computation, args, shape, exact=True)
        key = backend.key(computation, args)
        if key not in known:
            known[key] = backend.evaluate(computation, args, shape, exact=True)
        return known[key]

    def _shared(self, state: Ref, fact: str) -> float | None:
        """This device's share of what a relaxation took; None without numbers."""
        found: float | None = state.facts.get(fact)
        return found if found is None or self._share == 1.0 else found * self._share

    def _arguments(self) -> tuple[Ref, Ref, Ref]:
        assert self.system is not None and self.state is not None and self.drive is not None
        return self.system, self.state, self.drive

    def _supply(self, state: Ref) -> tuple[float | None, bool]:
        """Charge that amplifiers deliver while a state relaxes, and whether their rails do."""
        supplied = "load_current" in self.node.imperfections
        return self._shared(state, "charge") if supplied else None, supplied

    def _hold(
        self, dissipation: float | None, charge: float | None, supplied: bool, tau: float
    ) -> None:
        """What the state goes on taking until it is read: as on average over its last settle."""
        if "holding" not in self.node.imperfections or tau == 0:
            self._held = None
            return
        power, current = (None if x is None else x / tau for x in (dissipation, charge))
        self._held = Held(self.load.resistors, power, current, supplied)

    def _quote(self, request: Settle | Drift | Measure) -> Quote:
        """A price, remembered where it may come again: no two trajectories dissipate alike."""
        told = request.held if isinstance(request, Measure) else request
        known = told is not None and (told.dissipation, told.charge) != (None, None)
        if known or isinstance(request, Drift):
            return self.prices.quote_once(request)
        return self.prices.quote(request)

    def _check_capacity(self, load: Load, label: Label) -> None:
        self.largest = larger(self.largest, load)
        check_capacity(self.node, self.lacking(load), self.largest, label)

    def _report(self, result: Ref, label: Label) -> None:
        """Events of what went wrong, and the largest conductance so far."""
        if not result.facts:
            return
        self._conductance = max(self._conductance, largest_conductance(result.facts))
        for found in what_went_wrong(result.facts, self.sheet.value("conductance_range")):
            self._event(found[0], label, *found[1:])
        if not self.device.ideal:
            check_energy(self.name, label, result.facts)

    def _event(self, kind: str, label: Label, value: float, note: str) -> None:
        """Something went wrong now."""
        note = f"{label.operation}: {note}"
        self.context.trace.event(
            kind, self.name, label.step, layer=label.layer, value=float(value), note=note
        )
