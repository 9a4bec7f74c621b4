"""What the GPU does to factors and columns before SPUs are sent them: rounding, packing bits.

A factor is packed once for each resolution of the SPUs that take it, when it is renewed; columns
once for all SPUs, when the gradient is there; of a factor in tiles, every tile and its columns.
"""

from __future__ import annotations

from collections.abc import Iterable

import simpy

from hybridsim.algorithms.base import Process
from hybridsim.algorithms.kfac.blocks import Parts
from hybridsim.algorithms.kfac.jobs import Job, Piece, Placement
from hybridsim.algorithms.session import Session
from hybridsim.circuits.load import Array, rectangle
from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.lane import Issuer, Label
from hybridsim.operations.ref import Ref
from hybridsim.scenario.settings.kfac import Kfac as Settings

Sending = list[tuple[Array, int]]
"""Arrays, with the bits of their numbers."""


class Packer:
    """Packs on the GPU that owns a block. ``placement``: which SPUs solve what."""

    def __init__(
        self, session: Session[Settings], owner: dict[str, Gpu], placement: Placement
    ) -> None:
        self._session, self._owner, self._placement = session, owner, placement
        self._element_bytes = session.theta.value.element_size()
        self._columns_of: dict[Job, Sending] = {}  # what is sent of a job's in every step

    def factors(
        self, step: int, jobs: Iterable[Job], refs: tuple[Ref, Ref], issuer: Issuer
    ) -> Process[tuple[Ref, Ref]]:
        """Both factors (or raw rows) of a block, those that are sent whole."""
        jobs = list(jobs)
        sending = [
            (array, bits)
            for job in jobs
            for bits in self._resolutions(self._whole(job), "input")
            for array in job.load.arrays
        ]
        if not sending:
            return refs
        block = jobs[0].block
        a, g = yield from self._owner[block].pack(
            issuer, Label("pack factors", step, block), refs, sending, self._element_bytes
        )
        return a, g

    def columns(
        self, step: int, job: Job, ready: simpy.Event, factor: Ref, issuer: Issuer
    ) -> simpy.Event:
        """The block's gradient, rounded column by column, as an event like ``ready``."""
        if job not in self._columns_of:
            self._columns_of[job] = [
                (rectangle("columns", job.size * job.columns), bits)
                for bits in self._resolutions(self._whole(job), "bias")
            ]
        sending = self._columns_of[job]
        if not sending:
            return ready
        label = Label("pack columns", step, job.block, job.side)
        return self._session.machine.context.env.process(
            self._columns(label, ready, factor, sending, issuer)
        )

    def _columns(
        self,
        label: Label,
        ready: simpy.Event,
        factor: Ref,
        sending: Sending,
        issuer: Issuer,
    ) -> Process[Parts]:
        parts: Parts = yield ready
        d, _ = yield from self._owner[label.layer].pack(
            issuer, label, (parts.d, factor), sending, self._element_bytes
        )
        return parts._replace(d=d, ready_ps=self._session.now_ps())

    def tile(
        self, step: int, job: Job, piece: Piece, refs: tuple[Ref, Ref], issuer: Issuer
    ) -> Process[tuple[Ref, Ref]]:
        """A tile of a factor and the columns that are solved against it."""
        spu, columns = piece.spu, rectangle("columns", job.size * job.columns)
        sending = [(array, spu.bits("input")) for array in job.load.arrays]
        sending.append((columns, spu.bits("bias")))
        tile, packed = yield from self._owner[job.block].pack(
            issuer, Label("pack tile", step, job.block, job.side), refs, sending,
            self._element_bytes,
        )  # fmt: skip
        return tile, packed

    def _whole(self, job: Job) -> list[Piece]:
        """The pieces that are not in tiles."""
        return [piece for piece in self._placement[job.place] if len(piece.tiles) == 1]

    @staticmethod
    def _resolutions(pieces: list[Piece], end: str) -> list[int]:
        """The different bits of an end of the SPUs that take these pieces."""
        return sorted({piece.spu.bits(end) for piece in pieces})
