"""Thermodynamic natural gradient descent (arXiv 2405.13817), synchronous and asynchronous.

The GPU sends Jacobian, loss Hessian and gradient; the SPU relaxes towards ``(Jᵀ H J / b + lambda
I)⁻¹ g``; the GPU reads the state and updates. Synchronous: the SPU is held from the reading to the
next start. Asynchronous: it relaxes without pause, and the delay between a reading and the upload
that answers it emerges from GPU and link times, or is forced.

``pipeline: upload``: reading and linearization go on while the upload before is in flight, so that
GPU, link and SPU work at once. Reading k is of system k - 1, at least ``wait`` after that was put
in force; system k is put in force when it is there and reading k has been taken; one upload is in
flight at a time. With T_g from a reading to the packed system, T_u of the upload and w of the wait
a step takes max(T_g, T_u, w, (T_g + T_u + w)/2) in place of T_g + T_u + w: a wait of T_u - T_g is
free. Directions are one update staler.

Two columns of the learning curve tell how old a direction is. ``staleness_steps``: the updates
between the parameters whose system the state last relaxed for (by any time at all; a reset state is
as fresh as its gradient) and those that it moves, on average over the readings of a step.
``delay_ps``: clock time from the first reading of a step to the instant at which the system that
answers it is in force; 0 where the SPU is held meanwhile, nothing at the last step (pipelined: of
the reading of the step before, so nothing at the first). A forced delay is analog time from the
first reading on; the clock shows more where GPU and link take longer or readings are converted, the
state being held meanwhile. Under ``buffering: row_pairs`` a circuit of some rows of either batch
counts as the system before.
"""

from __future__ import annotations

import simpy

from hybridsim.algorithms.assumptions import analog_assumptions, use_assumptions
from hybridsim.algorithms.base import Columns, Direction, Process
from hybridsim.algorithms.group import Refs
from hybridsim.algorithms.natural_gradient.exact import fidelity, quartic_fidelity
from hybridsim.algorithms.natural_gradient.forms import chosen
from hybridsim.algorithms.natural_gradient.linearizer import Linearizer
from hybridsim.algorithms.session import Session
from hybridsim.algorithms.tngd import diagnosis, row_pairs
from hybridsim.algorithms.tngd.iterated import Iterated
from hybridsim.algorithms.tngd.solving import Solving
from hybridsim.algorithms.tngd.transport import SPLIT_ASSUMPTION, Packed, Posed
from hybridsim.circuits.load import Load
from hybridsim.errors import InputError
from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.lane import Issuer, Label
from hybridsim.hardware.spu_group import Loads
from hybridsim.operations.ref import Computation, Ref
from hybridsim.scenario.machine import MachineSpec
from hybridsim.scenario.settings.base import OptimizerSettings
from hybridsim.scenario.settings.tngd import Tngd as Settings
from hybridsim.tasks.task import Task

SPLITTING = ("splitting_error", "splitting_steps")
QUARTIC_ASSUMPTION = (
    "A cell's quartic element draws exactly q x³ at no static power, the same in every cell."
)


class Tngd(Solving):
    """All GPUs; of the SPUs the one at ``place``, or all together (``spus: split``).

    Of an ensemble the first one's program leads: the others' solve what it asks.
    """

    waits_for_answer = True

    def __init__(self, session: Session[Settings], place: int = 0) -> None:
        super().__init__(session, place)
        settings = self.settings
        self._check_delay()
        self.linearizer = self._linearizer()
        self.iterated: Iterated | None = None
        if settings.spus == "iterated":
            self.iterated = Iterated(session, self.spu, self.group.gpus[0])
            self.upload = self.iterated.upload
        self.fidelity = Computation(fidelity, damping=settings.damping)
        if settings.strength > 0:
            self._check_cells()
            run = {"damping": settings.damping, "strength": settings.strength}
            self.fidelity = Computation(quartic_fidelity, **run)
        self.read_ps = 0
        self.sender = Issuer()  # the thread of an upload in flight
        self.upload_in_flight: simpy.Process | None = None
        self.loads_in_flight: Loads = self._loads() if settings.pipeline == "upload" else ()
        self.members: list[Solving] = [self]
        if settings.spus == "ensemble" and place == 0:
            self.members += [Tngd(session, k) for k in range(1, len(self.machine.spus))]

    @property
    def update(self) -> OptimizerSettings:
        """The scenario's ``update``."""
        return self.settings.update

    @classmethod
    def assumptions(cls, settings: Settings, spec: MachineSpec, task: Task) -> list[str]:
        """Those of every algorithm, and of the analog part."""
        split = settings.spus == "split" and len(spec.usable_spus()) > 1
        rows = settings.relaxes_while_written and any(
            node.buffering == "row_pairs" for node in spec.used_spus(settings.spus == "first")
        )
        return [
            *super().assumptions(settings, spec, task),
            *analog_assumptions(spec),
            *use_assumptions(settings),
            *([SPLIT_ASSUMPTION] if split else []),
            *([row_pairs.ASSUMPTION] if rows else []),
            *([QUARTIC_ASSUMPTION] if settings.strength > 0 else []),
        ]

    @classmethod
    def assumptions_of_gpus(cls, gpus: int) -> list[str]:
        """Rows are sent by who has them."""
        return [
            *super().assumptions_of_gpus(gpus),
            "Every GPU sends its own rows of J and H to the SPUs; answers go round the ring.",
        ]

    def resident_bytes(self, gpu: Gpu) -> int:
        """With what is packed and still on its way while the next system is made."""
        found = super().resident_bytes(gpu)
        if self.loads_in_flight:
            found += self.transport.packed_bytes(gpu, self.loads_in_flight)
        return found

    def _loads(self) -> Loads:
        """What a system takes, from the shapes of one GPU's share alone."""
        share = self.linearizer.operands(1, self.theta[0], (0, self.group.size))
        work = self.session.backend.work
        shapes = work(self.linearizer.computation, share)[1]
        return self.transport.loads(shapes, self.group.size)

    def _linearizer(self) -> Linearizer:
        """With the Jacobian in a form that is told."""
        session, settings, task = self.session, self.settings, self.session.task
        each = {
            "ggn": task.terms * task.outputs,
            "empirical_fisher": 1,
            "sampled_fisher": settings.fisher_samples,
        }[settings.curvature]
        found = chosen(session.jacobian, task, session.batch_size, each)
        session.told["jacobian"] = {
            "form": found.form,
            "why": found.why,
            "bytes": found.jacobian_bytes,
        }
        return Linearizer(session, settings.curvature, settings.fisher_samples, found.form)

    def _check_delay(self) -> None:
        delay_tau, spread_tau = self.settings.delay_tau, self._spread_tau()
        if delay_tau is not None and spread_tau > delay_tau:
            raise InputError(
                f"training.algorithm.delay: expected at least the {spread_tau:g} tau over which "
                f"the readings are spread, got {delay_tau:g} tau"
            )

    def _check_cells(self) -> None:
        node = self.spu.node
        if node.imperfections:
            raise InputError(
                "training.algorithm.regularisation: expected imperfections: ideal, got "
                f"{node.name} with {', '.join(sorted(node.imperfections))}"
            )

    # ---------------------------------------------------------------- steps

    def prepare(self) -> Process[None]:
        """An SPU that never stops has its first system before the first step."""
        if self.asynchronous:
            self.asked = yield from self.linearizer.linearize(1, self.group, self.theta)
            yield from self._give(1)

    def direction(self, step: int) -> Process[Direction]:
        """Synchronous: linearize, upload, settle, read. Asynchronous: wait, then read."""
        if self.asynchronous:
            yield from self._wait(step)
            answers = yield from self._read(step)
        else:
            self.asked = yield from self.linearizer.linearize(step, self.group, self.theta)
            answers = yield from self._answered(step)
        loss = self.asked.loss
        found = self.session.diagnose(step, self.fidelity, (self.asked.whole, answers[0]))
        found |= self._split_error(step, answers[0])
        stale = sum(self.ages) / len(self.ages)
        columns: Columns = {"staleness_steps": stale, "delay_ps": 0, **found}
        columns |= self._solving_columns()
        if self.settings.strength > 0:
            assert self.spu.state is not None, "it was read"
            columns |= {name: self.spu.state.facts.get(name) for name in SPLITTING}
        return Direction(answers, loss, columns)

    def _split_error(self, step: int, answer: Ref) -> Columns:
        """What of an imperfect device's error is due to what; nothing where an answer is made of
        several settles, or belongs to an older system than the newest that was asked.
        """
        spu, settings = self.spu, self.settings
        if spu.device.ideal or not settings.split_by_effect:
            return {}
        assert spu.system is not None and spu.drive is not None, "it was read"
        split = Computation(
            diagnosis.diagnose,
            damping=settings.damping,
            taus=tuple(tau for tau, _ in self.readings),
            input_bits=spu.node.input_bits,
            bias_bits=spu.node.bias_bits,
            reset=settings.state == "reset",
        )
        states = (state for _, state in self.readings)
        args = (self.asked.whole, answer, spu.system, spu.drive, self.began, *states)
        return self.session.diagnose(step, split, args)

    def _answered(self, step: int) -> Process[Refs]:
        """The answer of a synchronous step, on every GPU."""
        if self.iterated is None:
            return (yield from self._solved(step, self.members))
        yield from self._give(step)
        self._moved(self.settings.settle_tau)
        yield from self.iterated.solve(step, self._rows(), self.issuer)
        return (yield from self._read(step))

    def finish(self, step: int) -> Process[Columns]:
        """Asynchronous: answer the reading with a new system, which takes over when it is there."""
        if not self.asynchronous:
            return {}
        if step < self.session.steps:
            self.asked = yield from self.linearizer.linearize(step + 1, self.group, self.theta)
            if self.settings.pipeline == "upload":
                delay_ps = yield from self._answer_in_flight(step)
                self._relax(step, "until the step's end", None)
                return {"delay_ps": delay_ps}
            yield from self._answer(step)
            return {"delay_ps": self.session.now_ps() - self.read_ps}
        if self.settings.delay_tau is None:
            self._relax(step, "until the end", None)
        return {"delay_ps": None}

    def _wait(self, step: int) -> Process[None]:
        """Let the SPU relax until it is read."""
        wait_tau, spu = self._wait_tau(), self.spu
        assert spu.system is not None, "installed before the first step"
        pause_ps = self.switched_ps + spu.duration_ps(wait_tau) - self.session.now_ps()
        yield from self.machine.pause(
            self.issuer, Label("wait", step), spu.name, pause_ps, spu.system
        )
        self.read_ps = self.session.now_ps()
        forced = self.settings.delay_tau is not None
        self._relax(step, "before reading", wait_tau if forced else None)

    # ---------------------------------------------------------------- asynchronous

    def _answer(self, step: int) -> Process[None]:
        """Upload while the SPU goes on (held meanwhile without a second buffer); switch over."""
        spu, delay = self.spu, self.settings.delay_tau
        packed = yield from self._pack(step + 1)
        if delay is None and spu.node.buffering == "single":
            self._relax(step, "until held", None)
        if delay is None and spu.node.buffering == "row_pairs":
            posed = yield from self._pose_rows(step, packed)
        else:
            posed = yield from self._pose(step + 1, packed, self.issuer)
        if delay is not None:
            left_tau = delay - self._spread_tau()
            left_ps = spu.since_ps + spu.duration_ps(left_tau) - self.session.now_ps()
            label, after = Label("forced delay", step), (posed.system, posed.drive)
            system = yield from self.machine.pause(self.issuer, label, spu.name, left_ps, *after)
            posed = posed._replace(system=system)
            self._relax(step, "until switched", left_tau)
        elif spu.node.buffering != "single":
            self._relax(step, "until switched", None)
        self._switch(step + 1, posed)

    def _pose_rows(self, step: int, packed: Packed) -> Process[Posed]:
        """As ``_pose`` of the next step, while the SPU relaxes for some rows of either batch."""
        spu, issuer, old, loads = self.spu, self.issuer, self.sent, packed.loads
        label = Label("program", step + 1)
        for chunk in range(1, row_pairs.CHUNKS + 1):
            part = packed._replace(loads=[row_pairs.sent(load, chunk) for load in loads])
            new = yield from self.transport.upload(step + 1, part, issuer)
            rows = Computation(row_pairs.upload_rows, chunks=chunk, **self.upload.settings)
            written = [row_pairs.written(load, chunk) for load in loads]
            mixed = yield from spu.program(issuer, label, rows, self._with_seen(old, new), written)
            self._relax(step, f"until rows {chunk}", None)
            assert spu.drive is not None and spu.state is not None, "in force"
            drive, state = (self._carried(value, mixed) for value in (spu.drive, spu.state))
            self._install(mixed, drive, state, loads)
        rest = packed._replace(loads=[Load(cells=load.cells) for load in loads])
        self.sent = yield from self.transport.upload(step + 1, rest, issuer)
        nothing, args = [load._replace(written=0) for load in loads], self._with_seen(self.sent)
        system = yield from spu.program(issuer, label, self.upload, args, nothing)
        drive = yield from self._convert(step + 1, system, loads, issuer)
        return Posed(system, drive, loads)

    def _answer_in_flight(self, step: int) -> Process[int | None]:
        """Hand a new system to the link once the upload before is in force; returns how long that
        one was on its way since its reading.
        """
        packed, before = (yield from self._pack(step + 1)), self.upload_in_flight
        delay_ps, ready_ps = None, self.session.now_ps()
        if before is not None:
            delay_ps = yield before
            if self.session.now_ps() > ready_ps:
                for issuer in self.group.issuers:
                    issuer.last = self.sender.last
        self.read_taken = self.env.event()
        replacing = self._replace(step + 1, packed, self.read_taken, self.read_ps)
        self.upload_in_flight = self.env.process(replacing)
        return delay_ps

    def _replace(
        self, step: int, packed: Packed, read_taken: simpy.Event, since_ps: int
    ) -> Process[int]:
        """Upload the system of a step and put it in force when its step has read the one before."""
        posed = yield from self._pose(step, packed, self.sender)
        yield read_taken
        self._relax(step - 1, "until switched", None)
        self._switch(step, posed)
        return self.session.now_ps() - since_ps

    def _spread_tau(self) -> float:
        """Time between the first and the last reading of a measurement, as commanded."""
        readout = self.settings.readout
        return float((readout.samples - 1) * readout.spacing_tau)

    def _wait_tau(self) -> float:
        """Time between a switch and the next reading.

        As asked, or what is left of the settle after a forced delay.
        """
        settings = self.settings
        if settings.delay_tau is None:
            return settings.wait_tau
        return settings.settle_tau - settings.delay_tau
