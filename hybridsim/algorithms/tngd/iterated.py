"""One system on several SPUs that share no analog line: block Gauss-Seidel over the link.

Every SPU holds the diagonal block of its own parameters, and an H array of its own. They relax one
after the other; what the others' summing lines carry, r numbers, goes through ADC, link, GPU, link
and DAC each time. A sweep contracts the error by about (s/(s + λ))² at worst, s the share of a
block in the largest eigenvalue: it converges for every system, and slowly for the stiff ones.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hybridsim.algorithms.base import Process
from hybridsim.algorithms.natural_gradient.linearization import Linearization, range_coordinates
from hybridsim.algorithms.session import Session
from hybridsim.circuits.low_rank import Vector
from hybridsim.circuits.low_rank_blocks import LowRankBlocks, blocks
from hybridsim.circuits.precision import conservative, quantize
from hybridsim.errors import InputError
from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.lane import Issuer, Label
from hybridsim.hardware.spu import Spu
from hybridsim.hardware.spu_group import SpuGroup
from hybridsim.operations.ref import Computation, Ref
from hybridsim.outcome import Outcome
from hybridsim.scenario.settings.tngd import Tngd as Settings


class System(NamedTuple):
    """As ``device.System``, block by block."""

    matrix: LowRankBlocks
    coordinates: Tensor


def upload(
    linearization: Linearization, *, damping: float, input_bits: int | None, parts: int
) -> Outcome:
    """As ``device.upload``, for the diagonal blocks."""
    jacobian, _ = quantize(linearization.matrix, input_bits)
    held = None
    if linearization.hessian is not None and input_bits is not None:
        held, _ = conservative(linearization.hessian, input_bits)
    root, coordinates = range_coordinates(linearization, hessian=held)
    matrix = blocks(jacobian, root, linearization.size**-0.5, damping, parts)
    return Outcome(System(matrix, coordinates), matrix.facts())


def feed(
    system: System, drive: Vector, lines: Tensor, *, place: int, bias_bits: int | None
) -> Outcome:
    """What the DACs feed into a block: the sum of the others' lines (k, r), beside the gradient."""
    others = torch.cat([lines[:place], lines[place + 1 :]]).double().sum(dim=0)
    rounded, clipped = quantize(others, bias_bits)
    return Outcome(system.matrix.coupled(drive, place, rounded), {"clipped": clipped})


def settle(
    system: System,
    state: Vector,
    drive: Vector,
    *,
    place: int,
    tau: float,
    kappa0: float,
    noise_seed: int,
) -> Outcome:
    """One block relaxes; see ``device.settle``."""
    run = {"tau": tau, "kappa0": kappa0}
    moved, heat = system.matrix.settle(state, drive, place, **run, noise_seeds=[noise_seed])
    return Outcome(moved, {"dissipation": heat.total, **heat.facts()})


def measure(system: System, state: Vector, *, place: int, output_bits: int | None) -> Outcome:
    """A block's summing lines (r,) through the ADC, auto-ranged."""
    lines = system.matrix.lines(state, place).to(state.perp.dtype)
    reading, clipped = quantize(lines, output_bits)
    return Outcome(reading, {"clipped": clipped})


def exchange(lines: Tensor, reading: Tensor, *, place: int) -> Outcome:
    """The GPU replaces one block's lines."""
    rows = [*lines[:place].unbind(), reading, *lines[place + 1 :].unbind()]
    return Outcome(torch.stack(rows))


class Iterated:
    """Sweeps over the SPUs of a group; the first GPU passes on what their lines carry.

    Raises:
        InputError: the SPUs are not ideal.
    """

    def __init__(self, session: Session[Settings], spus: SpuGroup, gpu: Gpu) -> None:
        self.session, self.machine, self.spus, self.gpu = session, session.machine, spus, gpu
        node, parts = spus.node, len(spus.spus)
        if node.imperfections:
            raise InputError(
                "training.algorithm.spus: iterated: expected imperfections: ideal, got "
                f"{spus.name} with {', '.join(sorted(node.imperfections))}"
            )
        self.upload = Computation(
            upload,
            damping=session.settings.damping,
            input_bits=node.input_bits,
            parts=parts,
        )
        bits, places = {"bias_bits": node.bias_bits}, range(parts)
        self._feed = [Computation(feed, place=k, **bits) for k in places]
        self._measure = [
            Computation(measure, place=k, output_bits=node.output_bits) for k in places
        ]
        self._exchange = [Computation(exchange, place=k) for k in places]

    def solve(self, step: int, rows: int, issuer: Issuer) -> Process[None]:
        """Relax block after block, sweep after sweep; the state ends on all SPUs."""
        first, spus = self.spus.first, self.spus.spus
        assert first.system is not None and first.drive is not None and first.state is not None
        system, drive, state = first.system, first.drive, first.state
        shape, sweeps = (len(spus), rows), self.session.settings.sweeps
        zeros = torch.zeros(shape, dtype=self.session.theta.value.dtype)
        lines = self.session.backend.root(zeros, "no lines", *shape)
        for sweep in range(sweeps):
            for place, spu in enumerate(spus):
                fed = yield from self._fed(step, place, spu, (system, drive, lines), issuer)
                spu.install(system, fed, state, spu.load)
                state = yield from self._settle(step, sweep, place, spu, issuer)
                if (sweep, place) != (sweeps - 1, len(spus) - 1):  # nobody asks for the last
                    lines = yield from self._passed_on(step, place, spu, lines, issuer)
        for spu in spus:
            spu.state = state

    def _fed(
        self, step: int, place: int, spu: Spu, args: tuple[Ref, Ref, Ref], issuer: Issuer
    ) -> Process[Ref]:
        """The others' lines to an SPU, and into its amplifiers."""
        *fixed, lines = args
        rows, label = lines.value.shape[1], Label("upload lines", step)
        bits = rows * spu.bits("bias")
        sent = yield from self.machine.transfer(issuer, label, self.gpu.name, spu.name, lines, bits)
        label, operands = Label("convert lines", step), (*fixed, sent)
        return (yield from spu.convert_input(issuer, label, self._feed[place], operands, rows))

    def _settle(self, step: int, sweep: int, place: int, spu: Spu, issuer: Issuer) -> Process[Ref]:
        settings, kappa0 = self.session.settings, self.session.settings.noise
        address = ("relaxation", step, f"sweep {sweep}", place)
        seed = self.session.noise_seed(*address) if kappa0 > 0 else 0
        run = {"tau": settings.settle_tau, "kappa0": kappa0, "noise_seed": seed}
        relaxation = Computation(settle, place=place, **run)
        label = Label("settle", step)
        return (yield from spu.settle(issuer, label, settings.settle_tau, relaxation))

    def _passed_on(
        self, step: int, place: int, spu: Spu, lines: Ref, issuer: Issuer
    ) -> Process[Ref]:
        """An SPU's lines, measured and sent to the GPU, which keeps all of them."""
        assert spu.system is not None and spu.state is not None, "it has just relaxed"
        rows, label = lines.value.shape[1], Label("measure lines", step)
        empty = torch.empty(rows, dtype=self.session.theta.value.dtype, device="meta")
        shape = self.session.backend.shapes.meta(empty)
        args = (spu.system, spu.state)
        reading = yield from spu.measure(
            issuer, label, self._measure[place], args, rows, shape=shape
        )
        label, bits = Label("download lines", step), rows * spu.bits("output")
        sent = yield from self.machine.transfer(
            issuer, label, spu.name, self.gpu.name, reading, bits
        )
        label, operands = Label("exchange lines", step), (lines, sent)
        computation = self._exchange[place]
        return (yield from self.gpu.execute(issuer, label, computation, operands, synchronous=True))
