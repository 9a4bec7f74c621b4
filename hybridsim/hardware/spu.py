"""A stochastic processing unit: an analog state that lives in time, its resistors, and its
converters.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from hybridsim.errors import CapacityError
from hybridsim.hardware.gpu import basis_row, static_row
from hybridsim.hardware.lane import (
    Context,
    Issuer,
    Label,
    Lane,
    Price,
    Process,
    Server,
    record_start,
)
from hybridsim.hardware.resistor_sets import ResistorSets
from hybridsim.operations.ref import Computation, Ref
from hybridsim.scenario.machine import NodeSpec
from hybridsim.units import to_ps

_EVENTS = {
    "clipped": ("clipping", 0.0, "values beyond the converter's full scale"),
    "saturation": ("saturation", 1.0, "largest voltage over full scale"),
    "conductance": ("out of range", 1.0, "largest conductance over the range of the part"),
    "nonfinite": ("non-finite", 0.0, "values that are not finite"),
    "smallest_eigenvalue": (
        "runaway",
        0.0,
        "rate at which the fastest growing mode runs away, per RC",
    ),
}


class Load(NamedTuple):
    """What a system occupies on the device: cells (state variables), programmable resistors,
    amplifiers.
    """

    cells: int
    resistors: int
    amplifiers: int


class Spu:
    """Relaxes ``dx = -(A x - b) dtau + sqrt(2 kappa0) dW`` with tau = t / RC.

    Between events nothing runs. At an event the state moves by the exact transition over the time
    that has passed: a number of RC that the program commanded (``settle``), or what the clock says
    (``relax``).

    Args:
        context: environment, trace and backend.
        node: name, datasheet, buffering and resolutions.
        number_bits: what an unquantized number takes on the link that leads here.
    """

    def __init__(self, context: Context, node: NodeSpec, number_bits: int) -> None:
        assert node.sheet is not None, "an SPU has a datasheet"
        self.number_bits = number_bits
        self.name, self.sheet, self.node = node.name, node.sheet, node
        self._context = context
        self._array, self._core, self._dac, self._adc = (
            Lane(context, node.name, lane) for lane in ("array", "core", "dac", "adc")
        )
        self.device = Server(context.env)
        self.sets = ResistorSets(context.env, 2 if node.buffering == "double" else 1)
        self.rc_ps = self.sheet.value("resistance_ohm") * self.sheet.value("capacitance_f") * 1e12
        self.system: Ref | None = None
        self.drive: Ref | None = None
        self.state: Ref | None = None
        self.load = Load(0, 0, 0)
        self._amplifiers = 0
        self.since_ps = 0

    def duration_ps(self, tau: float) -> int:
        """Clock time of ``tau`` time constants."""
        return to_ps(tau * self.rc_ps * 1e-12)

    def elapsed_tau(self) -> float:
        """Time constants since the state last moved."""
        return float(self._context.env.now - self.since_ps) / self.rc_ps

    def program(
        self,
        issuer: Issuer,
        label: Label,
        computation: Computation,
        args: tuple[Ref, ...],
        load: Load,
        *,
        written: int,
        known: dict[bytes, Ref] | None = None,
    ) -> Process:
        """Write ``written`` resistors of a system; the computation is what the device does with
        them.

        ``known`` collects systems by key: devices that hold the same one compute it once.

        Raises:
            CapacityError: more cells or resistors than the device has.
        """

        def start() -> tuple[Ref, Price]:
            self._check_capacity(load, label)
            backend = self._context.backend
            key = backend.key(computation, args)
            system = known.get(key) if known is not None else None
            if system is None:
                system = backend.evaluate(computation, args)
            if known is not None:
                known[key] = system
            self._report(system, label)
            return system, self._write_price(written)

        return (yield from self._array.serve(issuer, label, args, start))

    def install(self, system: Ref, drive: Ref, state: Ref, load: Load) -> None:
        """Put a system, its drive and a state in force, atomically and now."""
        self.system, self.drive, self.state, self.load = system, drive, state, load
        self._amplifiers = max(self._amplifiers, load.amplifiers)
        self.resume()

    def resume(self) -> None:
        """Connect the integrators: the state relaxes from now on."""
        self.since_ps = int(self._context.env.now)

    def settle(
        self, issuer: Issuer, label: Label, tau: float, relaxation: Computation, count: int = 1
    ) -> Process:
        """Relax for a commanded ``tau`` (each of ``count`` systems of equal size in a row) and wait
        for it.
        """
        args = self._arguments()

        def start() -> tuple[Ref, Price]:
            state = self._context.backend.evaluate(relaxation, args)
            self._report(state, label)
            return state, self._relax_price(self.duration_ps(tau * count), state, count)

        self.state = yield from self._core.serve(issuer, label, args, start)
        self.resume()
        return self.state

    def relax(self, label: Label, relaxation: Computation, commanded_ps: int | None = None) -> Ref:
        """Move the state by the time since it last moved: a background span, nobody's parent.

        With a commanded time the state is taken to be held for the rest of the interval.
        """
        now, trace = int(self._context.env.now), self._context.trace
        args = self._arguments()
        state = self._context.backend.evaluate(relaxation, args)
        self._report(state, label)
        start = self.since_ps
        duration_ps = now - start if commanded_ps is None else commanded_ps
        assert start + duration_ps <= now, "the state cannot move ahead of the clock"
        price, span = self._relax_price(duration_ps, state, 1), trace.new_id()
        parents = tuple(sorted({s for a in args for s in a.spans}))
        record_start(trace, span, parents, -1, (self.name, "~relax"), label, start, start, price)
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
    ) -> Process:
        """Digital to analog: the drive of ``count`` systems of ``cells`` values."""

        def start() -> tuple[Ref, Price]:
            drive = self._context.backend.evaluate(computation, args)
            self._report(drive, label)
            return drive, self._converter_price("dac", cells, count)

        return (yield from self._dac.serve(issuer, label, args, start))

    def measure(
        self,
        issuer: Issuer,
        label: Label,
        computation: Computation,
        args: tuple[Ref, ...],
        cells: int,
        count: int = 1,
        shape: Any = None,
    ) -> Process:
        """Sample, hold and convert the state; the relaxation is not disturbed. ``shape`` stands in
        without tensors.
        """

        def start() -> tuple[Ref, Price]:
            reading = self._context.backend.evaluate(computation, args, shape)
            self._report(reading, label)
            return reading, self._converter_price("adc", cells, count)

        return (yield from self._adc.serve(issuer, label, args, start))

    def static_power(self) -> list[dict[str, Any]]:
        """The amplifiers of the largest system that was in force; unused ones are taken to be gated
        off.
        """
        rows = [
            static_row(self.name, "amplifiers", self.sheet, "amplifier_power_w", self._amplifiers)
        ]
        return rows if self._amplifiers else []

    def energy_basis(self) -> list[dict[str, Any]]:
        """Which constants set the energy of which lane; without tensors dissipation is an
        estimate.
        """
        settling = (
            ("full_scale_v",)
            if self._context.backend.name != "timing"
            else ("full_scale_v", "activity_factor")
        )
        lanes = {
            "array": ("write_energy_j_per_bit",),
            "core": settling,
            "~relax": settling,
            "dac": ("dac_energy_8bit_j",),
            "adc": ("adc_energy_floor_j", "adc_energy_thermal_j", "adc_energy_factor"),
        }
        return [
            basis_row(self.name, lane, self.sheet, *constants) for lane, constants in lanes.items()
        ]

    def _arguments(self) -> tuple[Ref, Ref, Ref]:
        assert self.system is not None and self.state is not None and self.drive is not None
        return self.system, self.state, self.drive

    def lacking(self, load: Load) -> list[tuple[str, int, float]]:
        """What a system needs more of than the device has: (constant, needed, available)."""
        sets = 2 if self.node.buffering == "double" else 1
        needs = (("cells", load.cells), ("resistors", sets * load.resistors))
        return [
            (name, needed, self.sheet.value(name))
            for name, needed in needs
            if needed > self.sheet.value(name)
        ]

    def largest_order(self) -> int:
        """Order of the largest factor that the device holds, one resistor per entry."""
        sets = 2 if self.node.buffering == "double" else 1
        return min(
            int(self.sheet.value("cells")), math.isqrt(int(self.sheet.value("resistors") // sets))
        )

    def service_ps(
        self, load: Load, columns: int, tau: float, *, written: int, converted: bool = True
    ) -> int:
        """Time of one system without waiting: writing it, then for each column DAC, ``tau`` RC,
        ADC.
        """
        times = [self._write_price(written).duration_ps, self.duration_ps(tau * columns)]
        times += (
            [self._converter_price("dac", load.cells, columns).duration_ps] if converted else []
        )
        return sum(times) + self._converter_price("adc", load.cells, columns).duration_ps

    def _check_capacity(self, load: Load, label: Label) -> None:
        for name, needed, available in self.lacking(load):
            layer = f" of layer '{label.layer}'" if label.layer else ""
            raise CapacityError(
                f"{self.name}: '{label.kind}'{layer} needs {needed} {name}, and "
                f"{self.sheet.name} has "
                f"{available:.0f}; choose a larger part (machine.spus.{name}), a smaller "
                "workload or "
                f"training.batch_size"
            )

    def _write_price(self, resistors: int) -> Price:
        sheet, bits = self.sheet, resistors * self.bits("input")
        channels = sheet.value("write_channels")
        rounds = 1 if channels == 0 else math.ceil(resistors / channels)
        duration = to_ps(rounds * sheet.value("write_time_s")) if resistors else 0
        joules = self._band("write_energy_j_per_bit", float(bits))
        return Price(duration, duration, (0.0, 0.0, 0, bits, 0, resistors), joules)

    def _relax_price(self, duration_ps: int, state: Ref, count: int) -> Price:
        """Dissipation from the trajectory; without numbers an estimate: every resistor at R and
        full scale, times an activity factor.
        """
        capacitance_f, seconds = self.sheet.value("capacitance_f"), duration_ps * 1e-12
        volts = (self.sheet.value("full_scale_v"), *self.sheet.bounds("full_scale_v"))
        integral = state.facts.get("dissipation")
        if integral is not None:
            nominal, low, high = (v * v * capacitance_f * integral for v in volts)
            note = ""
        else:
            active = (self.sheet.value("activity_factor"), *self.sheet.bounds("activity_factor"))
            watts = self.load.resistors / self.sheet.value("resistance_ohm")
            nominal, low, high = (
                v * v * watts * seconds * a for v, a in zip(volts, active, strict=True)
            )
            note = "estimate: full scale x activity factor"
        work = (0.0, 0.0, 0, 0, 0, 0)
        return Price(duration_ps, duration_ps, work, (nominal, low, high), count, note)

    def _converter_price(self, kind: str, cells: int, count: int) -> Price:
        channels = self.sheet.value(f"{kind}_channels") or cells
        rounds = math.ceil(cells / channels) * count
        duration = (
            to_ps(rounds / self.sheet.value(f"{kind}_rate_hz"))
            if self.sheet.value(f"{kind}_rate_hz")
            else 0
        )
        conversions = cells * count
        one = self._dac_conversion_j() if kind == "dac" else self._adc_conversion_j()
        joules = (one[0] * conversions, one[1] * conversions, one[2] * conversions)
        return Price(duration, duration, (0.0, 0.0, 0, 0, conversions, 0), joules, count)

    def _dac_conversion_j(self) -> tuple[float, float, float]:
        """Energy of one conversion: the 8-bit figure, doubled for every further bit."""
        return self._band("dac_energy_8bit_j", 2.0 ** (self.bits("bias") - 8))

    def _adc_conversion_j(self) -> tuple[float, float, float]:
        """A factor above the survey's envelope: ``floor + thermal * 4^ENOB`` with ENOB = bits -
        1.
        """
        enob = self.bits("output") - 1
        envelope = (
            self.sheet.value("adc_energy_floor_j")
            + self.sheet.value("adc_energy_thermal_j") * 4.0**enob
        )
        return self._band("adc_energy_factor", envelope)

    def bits(self, which: str) -> int:
        """Resolution of an end (input, bias, output); an ideal one is sent and priced as an
        unquantized number.
        """
        given: int | None = getattr(self.node, f"{which}_bits")
        return self.number_bits if given is None else given

    def _band(self, constant: str, factor: float) -> tuple[float, float, float]:
        low, high = self.sheet.bounds(constant)
        return self.sheet.value(constant) * factor, low * factor, high * factor

    def _report(self, result: Ref, label: Label) -> None:
        for fact, (kind, limit, note) in _EVENTS.items():
            value = result.facts.get(fact)
            if fact == "conductance" and value is not None:
                value /= self.sheet.value("conductance_range")
            if fact == "smallest_eigenvalue" and value is not None:
                value = -value
            if value is not None and value > limit:
                self._context.trace.event(
                    kind,
                    self.name,
                    label.step,
                    layer=label.layer,
                    value=float(value),
                    note=f"{label.kind}: {note}",
                )
