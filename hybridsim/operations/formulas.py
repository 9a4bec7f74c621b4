"""FLOP and bytes of single operators, from their shapes."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from hybridsim.outcome import Value
from hybridsim.work import Precision, Routine

# Operators go by name: a release of torch that lacks one still imports and never meets it.

# Operators that only allocate: no launch.
ALLOCATIONS = frozenset(
    [
        "aten.empty",
        "aten.empty_like",
        "aten.empty_strided",
        "aten.new_empty",
        "aten.new_empty_strided",
        "aten.resize_",
    ]
)
# Operators that select: of their first operand they read only as much as they write.
_SELECTIONS = frozenset(
    ["aten.index", "aten.index_select", "aten.gather", "aten.embedding", "aten.take_along_dim"]
)
# Operators that overwrite their first operand without reading it.
_OVERWRITES = frozenset(["aten.copy_", "aten.fill_", "aten.zero_"])
# Operators that move or write numbers without arithmetic.
MOVES = frozenset(
    [
        *_SELECTIONS,
        *_OVERWRITES,
        "aten.clone",
        "aten._to_copy",
        "aten.cat",
        "aten.stack",
        "aten.repeat",
        "aten.flip",
        "aten.roll",
        "aten.constant_pad_nd",
        "aten.zeros",
        "aten.zeros_like",
        "aten.new_zeros",
        "aten.ones",
        "aten.ones_like",
        "aten.new_ones",
        "aten.full",
        "aten.full_like",
        "aten.new_full",
        "aten.scalar_tensor",
        "aten.eye",
        "aten.arange",
        "aten.scatter",
        "aten.index_put",
        "aten.index_put_",
        "aten.select_backward",
        "aten.slice_backward",
        "aten.select_scatter",
        "aten.slice_scatter",
        "aten.tril",
        "aten.triu",
        "aten.im2col",
        "aten.diag_embed",
        "aten.lift_fresh_copy",
    ]
)


class Call(NamedTuple):
    """One operator as it was dispatched, with the distinct tensors among its arguments and
    results.
    """

    func: Value
    args: tuple[Value, ...]
    kwargs: dict[str, Value]
    inputs: list[Tensor]
    outputs: list[Tensor]

    @property
    def name(self) -> str:
        """The operator's, without its overload, e.g. ``aten.mm``."""
        return str(self.func.overloadpacket)


class Factorisation(NamedTuple):
    """A dense factorisation of order ``size``, of so many matrices, ``flop`` each."""

    flop: float
    routine: Routine
    matrix: bool
    size: int
    matrices: int


# FLOP / n³: LAPACK working note 41 (potrf, potri, getrf + getri); Golub & Van Loan §8.3 (QR with
# vectors)
_FACTORISATIONS: dict[str, tuple[float, Routine]] = {
    "aten.linalg_cholesky_ex": (1 / 3, "cholesky"),
    "aten.cholesky": (1 / 3, "cholesky"),
    "aten.cholesky_inverse": (2 / 3, "spd_inverse"),
    "aten.linalg_inv_ex": (2.0, "spd_inverse"),
    "aten._linalg_eigh": (9.0, "eigh"),
}


def factorisation(call: Call) -> Factorisation | None:
    """Closed-form cost of a Cholesky factor, an inverse or a symmetric eigendecomposition; else
    None.
    """
    entry = _FACTORISATIONS.get(call.name)
    if entry is None:
        return None
    *batch, size, _ = call.inputs[0].shape
    return Factorisation(entry[0] * size**3, entry[1], entry[1] != "eigh", size, prod(batch))


def contraction_flop(call: Call) -> float | None:
    """FLOP of a contraction, convolution or triangular solve, two per multiply-add; else None."""
    name, packet, args = call.name, call.func.overloadpacket, call.args
    if name == "aten.convolution_backward":
        # torch's own formula forgets the groups, and vmap turns one filter per example into groups
        return _convolution_backward_flop(args)
    if packet in flop_registry:
        # the formulas look at shapes only
        out = call.outputs[0] if len(call.outputs) == 1 else tuple(call.outputs)
        return float(flop_registry[packet](*args, **call.kwargs, out_val=out))
    if name in ("aten.mv", "aten.dot", "aten.vdot"):
        return float(2.0 * args[0].numel())
    if name == "aten.addmv":
        return float(2.0 * args[1].numel())
    if name == "aten.cholesky_solve":
        return float(2.0 * args[0].numel() * args[1].shape[-1])
    if name == "aten.linalg_solve_triangular":
        return float(args[1].numel() * args[0].shape[-1])
    return None


def elementwise_flop(call: Call) -> float:
    """One per element of the largest operand or result; copies, selections and fills none."""
    if call.name in MOVES:
        return 0.0
    return float(max((t.numel() for t in (*call.inputs, *call.outputs)), default=0))


def is_view(func: Value, inputs: list[Tensor], outputs: list[Tensor]) -> bool:
    """Whether an operator only gives a new shape to memory that it neither reads nor writes."""
    if func._schema.is_mutable or not outputs:
        return False
    known = {tensor.untyped_storage()._cdata for tensor in inputs}
    return all(tensor.untyped_storage()._cdata in known for tensor in outputs)


def bytes_moved(call: Call) -> float:
    """Bytes read plus written; a broadcast dimension is read once, an overwritten operand not at
    all.
    """
    name, inputs = call.name, call.inputs
    written = read = sum(map(_stored_bytes, call.outputs))
    others = sum(_stored_bytes(t) for t in inputs if t is not call.args[0])
    if name in _OVERWRITES:
        return float(written + others)
    if name in _SELECTIONS:
        return float(written + read + others)
    if name == "aten.convolution_backward" and not call.args[10][0]:
        inputs = [
            t for t in inputs if t is not call.args[2]
        ]  # the weight's gradient does not read the weight
    return float(written + sum(map(_stored_bytes, inputs)))


def precision_of(tensors: list[Tensor]) -> Precision:
    """Arithmetic of the widest floating-point operand: fp64, bf16, else fp32."""
    types = {tensor.dtype for tensor in tensors}
    if torch.float64 in types:
        return "fp64"
    if torch.float32 not in types and (torch.bfloat16 in types or torch.float16 in types):
        return "bf16"
    return "fp32"


def _convolution_backward_flop(args: tuple[Value, ...]) -> float:
    """The forward pass's for each of the input's and the weight's gradient, one per element for the
    bias.
    """
    grad_out, x, weight, transposed, mask = args[0], args[1], args[2], args[7], args[10]
    positions = prod((x if transposed else grad_out).shape[2:])
    forward = 2 * x.shape[0] * positions * weight.numel()
    return float(forward * (mask[0] + mask[1]) + grad_out.numel() * mask[2])


def _stored_bytes(tensor: Tensor) -> int:
    """Bytes of the distinct elements: dimensions of stride 0 repeat one element."""
    distinct = prod(
        s for s, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride != 0
    )
    return tensor.element_size() * (distinct if tensor.numel() else 0)
