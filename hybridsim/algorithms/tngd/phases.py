"""What TNGD asks of the SPUs that hold a system: be given one, relax, be read."""

from __future__ import annotations

import simpy

from hybridsim.algorithms.base import Algorithm, Process
from hybridsim.algorithms.group import Refs
from hybridsim.algorithms.natural_gradient.linearizer import Linearized
from hybridsim.algorithms.session import Session
from hybridsim.algorithms.tngd import device
from hybridsim.algorithms.tngd.transport import Packed, Posed, Transport
from hybridsim.circuits.load import Load
from hybridsim.hardware.lane import Issuer, Label
from hybridsim.hardware.spu_group import Loads, SpuGroup
from hybridsim.operations.ref import Computation, Ref, Token
from hybridsim.scenario.settings.tngd import Tngd as Settings


class Phases(Algorithm[Settings]):
    """One system at a time on one SPU, or on all together (``spus: split`` and ``iterated``).

    Args:
        session: the run.
        place: numbers the SPU in an ensemble.

    Attributes:
        spu: relaxes.
        transport: what crosses between it and the GPUs.
        asked: the linearization that the SPU is given.
        sent: the same, once it has arrived.
        seen: the last state that had relaxed: gains are chosen from it.
        upload: what the SPU makes of a system that it is sent.
        drive: what it makes of the gradient.
        solve: which of a step's solves this is, in the address of its noise.
        switched_ps: when the system in force was put in force.
        read_taken: a step's state may change from then on.
        in_force: updates before the parameters of the system in force.
        relaxed_for: updates before those of the system that the state last relaxed for.
        ages: of the readings of a step, in updates.
        began: the state with which the system in force began.
        moved_tau: RC since then.
        readings: of a step: when, in RC since then, and what was read.
    """

    asked: Linearized
    sent: Ref
    began: Ref

    def __init__(self, session: Session[Settings], place: int = 0) -> None:
        super().__init__(session)
        settings, spus = self.settings, self.machine.spus
        together = settings.spus in ("split", "iterated")
        self.spu = SpuGroup(spus if together else [spus[place]])
        self.transport = Transport(session, self.group, self.spu)
        self.place, self.solve = place, ""
        self.asynchronous = settings.mode == "asynchronous"
        node, real = self.spu.node, self.spu.device
        drawn = settings.curvature == "sampled_fisher"  # the gradient lies outside of the range
        exact = node.input_bits is None and node.bias_bits is None and not drawn
        # An ideal device is no setting: its keys are those of a computation that knows none.
        built = {} if real.ideal else {"device": real}
        written = {"age_tau": settings.settle_tau} if real.drift > 0 else {}
        if settings.rounding == "stochastic" and settings.jacobian_upload == "twice":
            written["apart"] = True
        self.charge = {"charge": True} if "load_current" in node.imperfections else {}
        self.upload = Computation(
            device.upload, damping=settings.damping, input_bits=node.input_bits, **built, **written
        )
        self.drive = Computation(device.drive, bias_bits=node.bias_bits, exact=exact, **built)
        if settings.strength > 0:
            relaxing = Computation(device.settle_quartic, strength=settings.strength)
        else:
            relaxing = Computation(device.settle, **self.charge)
        self.relaxation = relaxing.but(kappa0=settings.noise)
        self.carry = Computation(device.carry)
        self.read = Computation(device.read, output_bits=node.output_bits, **built)
        self.mean = Computation(device.mean)
        self.seen: Ref | None = None
        self.switched_ps = 0
        self.read_taken: simpy.Event | None = None
        self.in_force = self.relaxed_for = 0
        self.ages: list[int] = []
        self.moved_tau = 0.0
        self.readings: list[tuple[float, Ref]] = []

    @property
    def issuer(self) -> Issuer:
        """The first GPU's thread of control."""
        return self.group.issuers[0]

    # ---------------------------------------------------------------- giving

    def _give(self, step: int, packed: Packed | None = None) -> Process[None]:
        """Give the SPU the system that was asked last, and put it in force; ``packed`` where that
        is done.
        """
        if packed is None:
            packed = yield from self._pack(step)
        self._switch(step, (yield from self._pose(step, packed, self.issuer)))
        if self.seen is None and self.spu.device.headroom > 0:
            yield from self._find_ranges(step)

    def _find_ranges(self, step: int) -> Process[None]:
        """A device that has seen nothing settles once only to show how large its signals are.

        Its gains are then set and it starts again.
        """
        spu, loads, tau = self.spu, self.spu.loads, self.settings.settle_tau
        relaxation = self._relaxation(tau, step, "ranging")
        self.seen = yield from spu.settle(self.issuer, Label("find ranges", step), tau, relaxation)
        label, args, nothing = Label("set gains", step), (self.sent, self.seen), [Load()]
        system = yield from spu.program(self.issuer, label, self.upload, args, nothing * len(loads))
        drive = yield from self._convert(step, system, loads, self.issuer)
        spu.state = None
        self._switch(step, Posed(system, drive, loads))

    def _pack(self, step: int) -> Process[Packed]:
        """Round and pack the arrays on the GPUs."""
        asked = self.asked
        loads = self.transport.loads(asked.shares[0].value, self.group.size)
        shares = yield from self.transport.pack(step, asked.shares, loads)
        return Packed(shares, asked.whole, loads)

    def _pose(self, step: int, packed: Packed, issuer: Issuer) -> Process[Posed]:
        """Send the arrays, write the resistors, convert the drive."""
        spu, loads = self.spu, packed.loads
        self.sent = yield from self.transport.upload(step, packed, issuer)
        label, args = Label("program", step), self._with_seen(self.sent)
        system = yield from spu.program(issuer, label, self.upload, args, loads)
        return Posed(system, (yield from self._convert(step, system, loads, issuer)), loads)

    def _with_seen(self, *args: Ref) -> tuple[Ref, ...]:
        """With the last state that had relaxed, where gains are chosen from it."""
        if self.spu.device.headroom > 0 and self.seen is not None:
            return (*args, self.seen)
        return args

    def _convert(self, step: int, system: Ref, loads: Loads, issuer: Issuer) -> Process[Ref]:
        """The gradient through the DAC, and onto the cells where they start from it."""
        spu, args = self.spu, (system, self.sent)
        label = Label("convert gradient", step)
        drive = yield from spu.convert_input(issuer, label, self.drive, args, loads)
        if self._starts_anew():
            drive = yield from spu.preset(issuer, Label("preset", step), drive, loads)
        return drive

    def _switch(self, step: int, posed: Posed) -> None:
        """Put the system of a step in force."""
        starts = self._starts_anew()
        start = self._start_state(posed.system, posed.drive)
        self._install(posed.system, posed.drive, start, posed.loads)
        self.began, self.moved_tau = start, 0.0
        self.in_force, self.switched_ps = step - 1, self.session.now_ps()
        if starts:
            self.relaxed_for = self.in_force

    def _install(self, system: Ref, drive: Ref, state: Ref, loads: Loads) -> None:
        lines = self._rows() if self.settings.spus == "split" else 0
        self.spu.install(system, drive, state, loads, lines)

    def _starts_anew(self) -> bool:
        """The next system starts from the gradient, not from what the nodes hold."""
        spu = self.spu
        return self.settings.state == "reset" or spu.state is None or spu.system is None

    def _start_state(self, system: Ref, drive: Ref) -> Ref:
        """The state that a new system starts from: the gradient, or what the nodes hold."""
        spu = self.spu
        if self._starts_anew():
            return drive
        assert spu.state is not None
        return self._carried(spu.state, system)

    def _carried(self, value: Ref, system: Ref) -> Ref:
        """A state or drive of the system in force, as another one represents it."""
        assert self.spu.system is not None
        args = (self.spu.system, value, system)
        carried = self.session.backend.evaluate(self.carry, args, exact=True)
        return carried.at(*value.spans)

    # ---------------------------------------------------------------- relaxing

    def _settle(self, step: int, tau: float, reading: int) -> Process[Ref]:
        """Relax for a commanded time."""
        relaxation = self._relaxation(tau, step, f"reading {reading}")
        self._moved(tau)
        self.seen = yield from self.spu.settle(self.issuer, Label("settle", step), tau, relaxation)
        return self.seen

    def _relax(self, step: int, phase: str, tau: float | None) -> None:
        """Move the state by the time that has passed, or by a commanded one.

        With a commanded one the state is held for the rest.
        """
        elapsed = self.spu.elapsed_tau() if tau is None else tau
        self._moved(elapsed)
        if elapsed > 0:
            relaxation = self._relaxation(elapsed, step, phase)
            self.seen = self.spu.relax(Label("relax", step), relaxation, tau)

    def _moved(self, tau: float) -> None:
        """The state relaxes for the system in force, if time passes at all."""
        self.moved_tau += tau
        if tau > 0:
            self.relaxed_for = self.in_force

    def _relaxation(self, tau: float, step: int, phase: str) -> Computation:
        noisy = self.settings.noise > 0 or self.spu.device.thermal > 0
        address = (step, self.solve + phase)
        seed = self.session.noise_seed("relaxation", *address) if noisy else 0
        return self.relaxation.but(tau=tau, noise_seed=seed)

    # ---------------------------------------------------------------- reading

    def _read(self, step: int) -> Process[Refs]:
        """Measure, once or as the mean of several readings, and send the result to the GPUs."""
        samples, self.ages, self.readings = self.settings.readout.samples, [], []
        readings = [(yield from self._measure(step))]
        for index in range(1, samples):
            yield from self._space(step, index)
            readings.append((yield from self._measure(step)))
        if self.read_taken is not None:
            self.read_taken.succeed()
        result = readings[0]
        if len(readings) > 1:
            shape = self.theta[0].value
            average = self.session.backend.evaluate(self.mean, tuple(readings), shape)
            result = average.at(*readings[-1].spans)
        # The mean of S readings of B bits needs B + log2 S bits.
        bits = self.spu.bits("output") + (samples - 1).bit_length()
        return (yield from self.transport.download(step, result, bits, self.spu.loads))

    def _space(self, step: int, index: int) -> Process[None]:
        """Let the state move on by the spacing of two readings.

        A free-running SPU never stops: its state moves by what the clock says, conversion included.
        Otherwise it is held while a reading is converted, and moves by the commanded spacing.
        """
        spacing_tau = self.settings.readout.spacing_tau
        if not self.asynchronous or self.settings.delay_tau is not None:
            yield from self._settle(step, spacing_tau, reading=index)
            return
        left_ps = self.spu.since_ps + self.spu.duration_ps(spacing_tau) - self.session.now_ps()
        label = Label("space readings", step)
        yield from self.machine.pause(self.issuer, label, self.spu.name, left_ps, Token())
        self._relax(step, f"before reading {index}", None)

    def _measure(self, step: int) -> Process[Ref]:
        spu = self.spu
        assert spu.system is not None and spu.state is not None, "installed before it is read"
        args, label, shape = (spu.system, spu.state), Label("measure", step), self.theta[0].value
        self.ages.append(step - 1 - self.relaxed_for)
        self.readings.append((self.moved_tau, spu.state))
        reading = yield from spu.measure(self.issuer, label, self.read, args, shape)
        if reading.facts.get("retaken"):  # on another range: the numbers are already the second's
            again = Label("measure again", step)
            reading = yield from spu.measure(self.issuer, again, self.read, args, shape)
        return reading

    def _rows(self) -> int:
        """Rows of J, of the whole batch."""
        return len(self.asked.shares[0].value.jacobian) * self.group.size
