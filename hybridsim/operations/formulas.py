"""FLOP and bytes of single operators, from their shapes."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from hybridsim.outcome import Value
from hybridsim.work import Precision, Routine

# Operators go by name: a release of torch that lacks one still imports and never meets it.

# Operators that only allocate or check: no launch.
_ALLOCATION_NAMES = """
    _linalg_check_errors _assert_async _efficientzerotensor is_same_size _has_same_storage_numel
    set_ empty empty_like empty_strided new_empty new_empty_strided resize_
"""
ALLOCATIONS = frozenset(f"aten.{name}" for name in _ALLOCATION_NAMES.split())
# Operators that select: of their first operand they read only as much as they write.
_SELECTIONS = frozenset(
    ["aten.index", "aten.index_select", "aten.gather", "aten.embedding", "aten.take_along_dim"]
)
# Operators that add up rows of a table, or to them, one for each token of a bag; as one launch
# (assumed: nobody has measured them here).
_BAGS = frozenset(f"aten._embedding_bag{end}" for end in ("", "_forward_only", "_backward"))
# Operators that overwrite their first operand without reading it.
_OVERWRITES = frozenset(["aten.copy_", "aten.fill_", "aten.zero_"])
# Operators that move or write numbers without arithmetic.
MOVES = frozenset(
    [
        *_SELECTIONS,
        *_OVERWRITES,
        "aten.clone",
        "aten._to_copy",
        "aten.to",  # of a number that forward-mode differentiation moves to the device
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


class Priced(NamedTuple):
    """What a kernel's time follows from; see ``work.Kernel``."""

    flop: float
    routine: Routine
    shape: tuple[int, ...]


class Launch(NamedTuple):
    """One of the launches of an operator, and the bytes that it moves."""

    name: str
    priced: Priced
    bytes: float


# FLOP / n³: LAPACK working note 41 (potrf, potri, getrf, getrf + getri); Golub & Van Loan §8.3
# (eigenvectors)
_FACTORISATIONS: dict[str, tuple[float, Routine]] = {
    "aten.linalg_cholesky_ex": (1 / 3, "cholesky"),
    "aten.cholesky": (1 / 3, "cholesky"),
    "aten.cholesky_inverse": (2 / 3, "inverse"),
    "aten.linalg_inv_ex": (2.0, "inverse"),
    "aten._linalg_eigh": (9.0, "eigh"),
    "aten.linalg_lu_factor_ex": (2 / 3, "lu"),
}
# Factorisations and solvers that nobody has given a price.
REFUSED = frozenset(
    [
        "aten._linalg_svd",
        "aten._linalg_eigvals",
        "aten.linalg_eig",
        "aten.linalg_lstsq",
        "aten.linalg_ldl_factor_ex",
        "aten.linalg_ldl_solve",
        "aten.linalg_householder_product",
        "aten.linalg_matrix_exp",
        "aten.geqrf",
        "aten.ormqr",
    ]
)


def factorisation(call: Call) -> Priced | None:
    """A dense factorisation, all of a batch in one launch; else None.

    Shapes are (matrices, n); of a QR factorisation with Q, n is the number of reflections.
    """
    name, inputs = call.name, call.inputs
    if name == "aten.linalg_qr":
        *batch, rows, columns = inputs[0].shape
        n, matrices = min(rows, columns), prod(batch)
        # Golub & Van Loan §5.2: 2 n² (m - n/3) for R, as much again for the thin Q
        return Priced(matrices * 4 * n * n * (max(rows, columns) - n / 3), "qr", (matrices, n))
    if name == "aten._linalg_solve_ex":
        *batch, n, _ = inputs[0].shape
        matrices = prod(batch)
        flop = matrices * 2 / 3 * n**3 + 2.0 * n * inputs[1].numel()
        return Priced(flop, "lu", (matrices, n))
    entry = _FACTORISATIONS.get(name)
    if entry is None:
        return None
    *batch, n, _ = inputs[0].shape
    matrices = prod(batch)
    return Priced(matrices * entry[0] * n**3, entry[1], (matrices, n))


def triangular(call: Call) -> Priced | None:
    """Solves with triangular matrices, shapes (matrices, n, columns of one); else None."""
    name, args = call.name, call.args
    if name == "aten.cholesky_solve":
        right, matrix, solves = args[0], args[1], 2
    elif name == "aten.linalg_solve_triangular":
        right, matrix, solves = args[1], args[0], 1
    elif name == "aten.linalg_lu_solve":
        right, matrix, solves = args[2], args[0], 2
    else:
        return None
    n = int(matrix.shape[-1])
    matrices = prod(right.shape[:-2])
    columns = right.numel() // max(matrices * n, 1)
    return Priced(float(solves * right.numel() * n), "triangular", (matrices, n, columns))


def contraction(call: Call) -> Priced | None:
    """A matrix product, shapes (batch, m, n, k), two FLOP per multiply-add; else None."""
    name, args = call.name, call.args
    match name:
        case "aten.mm":
            shape = (1, args[0].shape[0], args[1].shape[1], args[0].shape[1])
        case "aten.addmm":
            shape = (1, args[1].shape[0], args[2].shape[1], args[1].shape[1])
        case "aten.bmm":
            shape = (*args[0].shape[:2], args[1].shape[2], args[0].shape[2])
        case "aten.baddbmm":
            shape = (*args[1].shape[:2], args[2].shape[2], args[1].shape[2])
        case "aten.mv":
            shape = (1, args[0].shape[0], 1, args[0].shape[1])
        case "aten.addmv":
            shape = (1, args[1].shape[0], 1, args[1].shape[1])
        case "aten.dot" | "aten.vdot":
            shape = (1, 1, 1, args[0].numel())
        case "aten.linear":
            rows, columns = args[0].numel() // args[1].shape[1], args[1].shape[0]
            shape = (1, rows, columns, args[1].shape[1])
        case _ if "scaled_dot_product" in name and call.func.overloadpacket in flop_registry:
            *batch, queries, inner = args[0].shape
            # both products of attention, Q Kᵀ and the weights' with V, as one
            shape = (prod(batch), queries, args[1].shape[-2], inner + args[2].shape[-1])
            if "backward" in name:
                *batch, queries, inner = args[1].shape
                shape = (prod(batch), queries, args[2].shape[-2], 5 * inner)
        case _:
            return None
    return Priced(2.0 * prod(shape), "contraction", tuple(int(size) for size in shape))


def convolutions(call: Call) -> list[Launch]:
    """A convolution, or the launches of its backward pass, by name.

    Shapes: (direction, groups, images, c_in, c_out, kernel height, width, output height, width,
    stride, dilation): channels of one group; direction 0 is forward, 1 the input's and 2 the
    weight's gradient; stride and dilation over both dimensions multiplied. A third dimension counts
    to images and channels.
    """
    args = call.args
    if call.name == "aten.convolution":
        x, weight, strides, dilations = args[0], args[1], args[3], args[5]
        transposed, groups = args[6], args[8]
        small = x if transposed else call.outputs[0]
        direction = 1 if transposed else 0
        priced = _convolution(direction, small, weight, strides, dilations, groups)
        return [Launch(call.name, priced, bytes_moved(call))]
    if call.name != "aten.convolution_backward":
        return []
    gradient, x, weight, strides, dilations = *args[:3], args[4], args[6]
    transposed, groups, wanted = args[7], args[9], args[10]
    small = x if transposed else gradient
    found = []
    for part, direction, asked, tensors in (
        ("input", 0 if transposed else 1, wanted[0], (gradient, weight, x)),
        ("weight", 2, wanted[1], (gradient, x, weight)),
    ):
        if asked:
            priced = _convolution(direction, small, weight, strides, dilations, groups)
            found.append(Launch(f"{call.name}.{part}", priced, float(sum(map(_stored, tensors)))))
    if wanted[2]:
        summed = Priced(float(gradient.numel()), "stream", ())
        found.append(Launch(f"{call.name}.bias", summed, float(_stored(gradient))))
    return found


def _convolution(
    direction: int,
    small: Tensor,
    weight: Tensor,
    strides: list[int],
    dilations: list[int],
    groups: int,
) -> Priced:
    """``small``: the side of the convolution with fewer positions, its output."""
    images, _, *out = small.shape
    c_out, c_in, *kernel = weight.shape
    while len(out) > 2:  # a third dimension
        images, c_in = images * out[0], c_in * kernel[0]
        out, kernel = out[1:], kernel[1:]
    rows, columns = [1] * (2 - len(out)) + out
    height, width = [1] * (2 - len(kernel)) + kernel
    shape = (direction, groups, images, c_in, c_out // groups, height, width, rows, columns)
    flop = 2.0 * prod(shape[1:])
    return Priced(flop, "convolution", (*map(int, shape), prod(strides), prod(dilations)))


def stream(call: Call) -> Priced | None:
    """What memory sets the pace of: one FLOP per element of the largest operand or result; copies,
    selections and fills none. None: an operator that nobody has given a price.
    """
    name = call.name
    if name in MOVES:
        return Priced(0.0, "stream", ())
    if name in REFUSED or not (name in _STREAMED | _BAGS or name in _PASSES or _tagged(call.func)):
        return None
    if name in _BAGS:
        return Priced(float(_bag_numbers(call)), "stream", ())
    elements = max((t.numel() for t in (*call.inputs, *call.outputs)), default=0)
    return Priced(float(elements), "stream", ())


def _tagged(func: Value) -> bool:
    """Whether torch says of an operator that it goes element by element or reduces, or of the one
    that it is the derivative of, does to a list of tensors or in place.
    """
    tags = {str(tag) for tag in func.tags}
    forward = str(func.overloadpacket).rpartition(".")[2].removesuffix("_backward")
    forward = forward.removeprefix("_foreach_").removesuffix("_")
    packet = getattr(torch.ops.aten, forward, None)
    if packet is not None:
        tags |= {str(tag) for name in packet.overloads() for tag in getattr(packet, name).tags}
    return not tags.isdisjoint(("Tag.pointwise", "Tag.reduction"))


def is_view(func: Value, inputs: list[Tensor], outputs: list[Tensor]) -> bool:
    """Whether an operator only gives a new shape to memory that it neither reads nor writes."""
    if "Tag.inplace_view" in map(str, func.tags):
        return True
    if func._schema.is_mutable or not outputs:
        return False
    known = {tensor.untyped_storage()._cdata for tensor in inputs}
    return all(tensor.untyped_storage()._cdata in known for tensor in outputs)


def bytes_moved(call: Call) -> float:
    """Bytes read plus written; a broadcast dimension is read once, an overwritten operand not at
    all; normalisations, softmax and dropout's gradient go over memory several times.
    """
    name, inputs = call.name, call.inputs
    if name in _PASSES:
        return float(_PASSES[name](call) * _stored(inputs[0]))
    written = read = sum(map(_stored, call.outputs))
    others = sum(_stored(t) for t in inputs if t is not call.args[0])
    if name in _OVERWRITES:
        return float(written + others)
    if name in _SELECTIONS:
        return float(written + read + others)
    if name in _BAGS:
        return float(written + _bag_numbers(call) * call.args[0].element_size() + others)
    return float(written + sum(map(_stored, inputs)))


def _bag_numbers(call: Call) -> int:
    """How many numbers the rows of a bag's tokens have, or the gradients that go to them."""
    return int(call.args[1].numel() * call.args[0].shape[-1])


_LONG_ROW = 1024  # beyond it a row is not kept on the chip between its two passes


def _rows_passes(call: Call) -> int:
    """Read and write once where a row stays on the chip, read twice where it does not."""
    x, along = call.inputs[0], call.args[1]
    row = prod(along) if isinstance(along, (list, tuple)) else x.shape[along]
    return 2 if row <= _LONG_ROW else 3


# How often the size of its first operand passes memory. Forward: measured 2.0 to 2.6 of rows up to
# 1,024 and 2.8 to 3.4 of longer ones on V100 and A100; backward: LayerNorm reads both operands in
# two kernels, one of them twice (measured 6.5 to 7.2 on A100), softmax 6.2 to 6.4, dropout 6.3 to
# 7.5 (NeuSight, scripts/asplos: data/dataset, label). Batch normalisation reads twice and writes.
_PASSES: dict[str, Callable[[Call], float]] = {
    "aten.native_layer_norm": _rows_passes,
    "aten._softmax": _rows_passes,
    "aten._safe_softmax": _rows_passes,
    "aten._log_softmax": _rows_passes,
    "aten.native_layer_norm_backward": lambda _: 7,
    "aten._softmax_backward_data": lambda _: 6,
    "aten._log_softmax_backward_data": lambda _: 6,
    "aten.native_dropout_backward": lambda _: 7,
    "aten.native_batch_norm": lambda _: 3,
    "aten._native_batch_norm_legit": lambda _: 3,
    "aten.native_batch_norm_backward": lambda _: 5,
    "aten.native_group_norm": lambda _: 3,
    "aten.native_group_norm_backward": lambda _: 7,
}
# Other operators that memory sets the pace of, not tagged as element-wise or reducing by torch.
_STREAMED_NAMES = """
    _adaptive_avg_pool2d _adaptive_avg_pool2d_backward _cdist_forward _prelu_kernel
    _prelu_kernel_backward amax amin argsort as_strided_scatter avg_pool2d
    avg_pool2d_backward avg_pool3d bernoulli bernoulli_ binary_cross_entropy
    binary_cross_entropy_backward bincount bucketize col2im cumprod cumsum diagonal_backward
    diagonal_copy embedding_dense_backward exponential_ glu glu_backward hardswish
    hardswish_backward histc huber_loss huber_loss_backward index_add index_add_ index_fill
    kthvalue leaky_relu leaky_relu_backward linspace
    log_sigmoid_backward log_sigmoid_forward logcumsumexp logsumexp masked_scatter max
    max_pool2d_with_indices max_pool2d_with_indices_backward max_pool3d_with_indices median
    min mode mse_loss mse_loss_backward multinomial native_dropout nll_loss2d_backward
    nll_loss2d_forward nll_loss_backward nll_loss_forward nonzero normal normal_ one_hot
    rand randint randn random_ randperm renorm rrelu_with_noise
    rrelu_with_noise_backward scatter_ scatter_add scatter_add_
    scatter_reduce searchsorted smooth_l1_loss smooth_l1_loss_backward sort std_mean topk
    trace tril_ triu_ unbind_copy unfold_backward uniform_ upsample_bilinear2d
    upsample_bilinear2d_backward upsample_nearest2d upsample_nearest2d_backward var_mean
"""
_STREAMED = frozenset(f"aten.{name}" for name in _STREAMED_NAMES.split())


def precision_of(tensors: list[Tensor]) -> Precision:
    """Arithmetic of the widest floating-point operand: fp64, bf16, fp16, else fp32."""
    types = {tensor.dtype for tensor in tensors}
    if torch.float64 in types:
        return "fp64"
    if torch.float32 in types or not types & {torch.bfloat16, torch.float16}:
        return "fp32"
    return "bf16" if torch.bfloat16 in types else "fp16"


def _stored(tensor: Tensor) -> int:
    """Bytes of the distinct elements: dimensions of stride 0 repeat one element."""
    distinct = prod(
        s for s, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride != 0
    )
    return tensor.element_size() * (distinct if tensor.numel() else 0)
