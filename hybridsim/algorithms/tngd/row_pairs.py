"""Writing one set of resistors while the circuit relaxes: rows of J and of its transpose together.

Between two chunks the arrays hold the new batch's first rows and the old one's others, in J and Jᵀ
alike, so that the circuit is that of a system of its own, which relaxes: Jᵀ H J stays symmetric.
One array written while the other stands would run away. The old gradient drives until the new one,
sent last, takes over with all rows in place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hybridsim.algorithms.natural_gradient.linearization import Linearization
from hybridsim.algorithms.tngd.device import upload
from hybridsim.circuits.imperfections.device import IDEAL, Device
from hybridsim.circuits.load import Load
from hybridsim.circuits.low_rank import Vector
from hybridsim.outcome import Outcome

CHUNKS = 4
"""In which rows are written; each costs the simulation a decomposition."""
ASSUMPTION = (
    f"Rows written while the circuit relaxes take over in {CHUNKS} chunks, each at once when all "
    "of it is written: J, its transpose and H together."
)


def upload_rows(
    old: Linearization,
    new: Linearization,
    last: Vector | None = None,
    *,
    chunks: int,
    damping: float,
    input_bits: int | None,
    device: Device = IDEAL,
    age_tau: float = 1.0,
) -> Outcome:
    """The system of the new rows that ``chunks`` of CHUNKS hold whole, and the old ones of the
    rest; gains are chosen for the old gradient, which drives it. See ``device.upload``.

    Rows are those of a loss term: of J, of the loss Hessian and what the gradient is made of.
    """
    terms = len(new.residual)
    written = terms * chunks // CHUNKS

    def joined(before: Tensor, after: Tensor) -> Tensor:
        rows = len(after) // terms * written
        return torch.cat([after[:rows], before[rows:]])

    def both(before: Tensor | None, after: Tensor | None) -> Tensor | None:
        return None if before is None or after is None else joined(before, after)

    mixed = Linearization(
        joined(old.matrix, new.matrix),
        both(old.hessian, new.hessian),
        old.gradient,
        joined(old.residual, new.residual),
        both(old.probabilities, new.probabilities),
        new.drawn,
    )
    return upload(
        mixed, last, damping=damping, input_bits=input_bits, device=device, age_tau=age_tau
    )


def sent(load: Load, chunk: int) -> Load:
    """Of a system the numbers of the chunk-th of all chunks, without the gradient."""
    return Load(arrays=tuple(a._replace(sent=_share(a.sent, chunk)) for a in load.arrays))


def written(load: Load, chunk: int) -> Load:
    """A system of which the chunk-th of all chunks is written."""
    return load._replace(written=_share(load.written, chunk))


def _share(total: int, chunk: int) -> int:
    """Of the chunk-th of all chunks; together all of it."""
    return total * chunk // CHUNKS - total * (chunk - 1) // CHUNKS
