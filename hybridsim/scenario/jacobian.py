"""How the simulation holds the Jacobian of a linearization, as far as a scenario says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from hybridsim.scenario.settings.tngd import Tngd

if TYPE_CHECKING:
    from hybridsim.scenario.machine import MachineSpec
    from hybridsim.scenario.schema import Training

JacobianForm = Literal["auto", "explicit", "streamed", "products"]


class Wanted(NamedTuple):
    """Attributes:
    form: that is asked for.
    whole: why all of it must be in memory; nothing where it need not be.
    """

    form: JacobianForm = "auto"
    whole: str = ""


def needs_whole(training: Training, spec: MachineSpec) -> str:
    """Why all of the Jacobian must be in memory; nothing where it need not be."""
    algorithm = training.algorithm
    if not isinstance(algorithm, Tngd):
        return ""
    if algorithm.spus == "iterated":
        return "under spus: iterated, which cuts it into blocks of columns"
    if algorithm.rounding == "stochastic":
        return "under rounding: stochastic, whose draws follow one another row by row"
    if training.amp != "none" or training.tf32.matmul or training.tf32.convolution:
        return "under tf32 and amp, which round the operands that its entries are products of"
    spus = spec.used_spus(algorithm.spus == "first")
    if algorithm.relaxes_while_written and any(spu.buffering == "row_pairs" for spu in spus):
        return "under buffering: row_pairs, which mixes rows of two batches"
    return ""
