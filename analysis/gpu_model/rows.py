"""Public measurements of single operators: what was launched, and how long it took.

The tables lie in ``gpu/`` of the folder of data sets. Operators are counted on shapes alone, as a
run's are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from hybridsim import Kernel, Measurement, count_kernels

FILES = (
    "neusight_ops_train",
    "neusight_ops_test",
    "neusight_ops_in_networks",
    "vidur_ops",
    "deepbench_v100",
    "factorisations",
)
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "fp64": torch.float64}
BINARY: dict[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "mul": torch.mul,
    "div": torch.div,
    "pow": lambda x, other: torch.pow(x, other),
}
UNARY = {"gelu": functional.gelu, "relu": torch.relu, "tanh": torch.tanh}
FLOORS = 3.0
"""Rows below so many times the shortest of their kind time the host's dispatch: not scored."""


def table(data: Path) -> pd.DataFrame:
    """All rows of all tables, in microseconds, with the file that they are from."""
    frames = [pd.read_csv(data / "gpu" / f"{name}.csv").assign(file=name) for name in FILES]
    rows = pd.concat(frames, ignore_index=True)
    return rows[~rows.note.fillna("").str.contains("in-sample")]


def measurement(row: pd.Series) -> Measurement | None:
    """One row for the fit; None: an operator that is not modelled (kernels of a library's own)."""
    op, shape, dtype, source = (str(row[key]) for key in ("op", "shape", "dtype", "source"))
    kernels = _kernels(op, [int(n) for n in shape.split("x")], dtype)
    if kernels is None:
        return None
    # profiles of kernels and means over loops hold no dispatch; else each operator's is another,
    # of which few were measured in networks
    dispatch = f"{source}, {row['device']}" if source.startswith("neusight") else ""
    dispatch += f", {op}" if source == "neusight-train" else ""
    return Measurement(
        kernels=kernels,
        measured_s=row["measured_us"] * 1e-6,
        family=family(op),
        shape=f"{op} {shape} {dtype}",
        dispatch=dispatch,
        device=str(row["device"]),
    )


def family(op: str) -> str:
    """What errors are told for."""
    groups = {
        "matrix products": ("linear", "bmm", "linear_nobias", "gemm", "linear_bw", "bmm_bw"),
        "normalisation, softmax": ("ln", "softmax", "ln_bw", "softmax_bw"),
        "convolution": ("conv", "conv_fw", "conv_bw_input", "conv_bw_weight"),
        "factorisation": ("cholesky", "cholesky_inverse", "spd_inverse"),
    }
    return next((name for name, ops in groups.items() if op in ops), "element-wise")


def _kernels(op: str, shape: list[int], dtype: str) -> tuple[Kernel, ...] | None:
    def new(*sizes: int) -> Tensor:
        return torch.empty(*sizes, dtype=DTYPES[dtype], device="meta")

    match op:
        case "linear":
            batch, rows, inner, columns = shape
            linear = partial(functional.linear, new(batch, rows, inner), new(columns, inner))
            return count_kernels(linear, new(columns))
        case "linear_nobias":
            tokens, inner, columns = shape
            return count_kernels(functional.linear, new(tokens, inner), new(columns, inner))
        case "gemm":
            rows, columns, inner = shape
            return count_kernels(torch.mm, new(rows, inner), new(inner, columns))
        case "bmm":
            batch, rows, inner, columns = shape
            return count_kernels(torch.bmm, new(batch, rows, inner), new(batch, inner, columns))
        case "bmm_bw":
            batch, rows, inner, columns = shape
            out = new(batch, rows, columns)
            a, b = new(batch, rows, inner), new(batch, inner, columns)
            return count_kernels(_bmm_backward, out, a, b)
        case "linear_bw":
            rows, inner, columns, bias = shape
            weight = new(columns, inner)
            backward = partial(_linear_backward, bias=bool(bias))
            return count_kernels(backward, new(rows, columns), new(rows, inner), weight)
        case "conv":
            images, c_in, c_out, kernel, size, stride, padding = shape
            convolve = partial(functional.conv2d, stride=stride, padding=padding)
            x, weight = new(images, c_in, size, size), new(c_out, c_in, kernel, kernel)
            return count_kernels(convolve, x, weight)
        case "conv_fw" | "conv_bw_input" | "conv_bw_weight":
            return _deepbench(op, shape, new)
        case "ln":
            rows, columns = shape
            norm = partial(functional.layer_norm, normalized_shape=(columns,))
            return count_kernels(norm, new(rows, columns))
        case "softmax":
            return count_kernels(partial(torch.softmax, dim=-1), new(*shape))
        case "ln_bw" | "softmax_bw" | "dropout_bw" | "tanh_bw":
            return count_kernels(_BACKWARD[op], new(*shape), new(*shape))
        case "cholesky":
            matrices, n = shape
            return count_kernels(torch.linalg.cholesky, new(matrices, n, n))
        case "cholesky_inverse":
            matrices, n = shape
            return count_kernels(torch.cholesky_inverse, new(matrices, n, n))
    return _elementwise(op, new(*shape))


def _elementwise(op: str, x: Tensor) -> tuple[Kernel, ...] | None:
    if op in BINARY:
        return count_kernels(BINARY[op], x, torch.empty_like(x))
    if op.removesuffix("u") in BINARY:  # with a number
        return count_kernels(partial(BINARY[op.removesuffix("u")], other=2.0), x)
    return count_kernels(UNARY[op], x) if op in UNARY else None


def _bmm_backward(gradient: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return gradient @ b.mT, a.mT @ gradient


def _linear_backward(gradient: Tensor, x: Tensor, weight: Tensor, bias: bool) -> tuple[Tensor, ...]:
    found = (gradient @ weight, gradient.T @ x)
    return (*found, gradient.sum(0)) if bias else found


def _layer_norm_backward(gradient: Tensor, x: Tensor) -> object:
    statistics, weight = x.new_empty(len(x), 1), x.new_empty(x.shape[1])
    mask = [True, True, True]
    operator = torch.ops.aten.native_layer_norm_backward
    return operator(gradient, x, [x.shape[1]], statistics, statistics, weight, weight, mask)


def _softmax_backward(gradient: Tensor, out: Tensor) -> object:
    return torch.ops.aten._softmax_backward_data(gradient, out, -1, gradient.dtype)


def _dropout_backward(gradient: Tensor, x: Tensor) -> object:
    return torch.ops.aten.native_dropout_backward(gradient, x.bool(), 1.1)


_BACKWARD: dict[str, Callable[[Tensor, Tensor], object]] = {
    "ln_bw": _layer_norm_backward,
    "softmax_bw": _softmax_backward,
    "dropout_bw": _dropout_backward,
    "tanh_bw": torch.ops.aten.tanh_backward,
}


def _deepbench(op: str, shape: list[int], new: Callable[..., Tensor]) -> tuple[Kernel, ...]:
    """N x C x H x W x K x S x R x padH x padW x strideH x strideW; S runs along the width."""
    images, c_in, height, width, c_out, across, down, *rest = shape
    padding, stride = rest[:2], rest[2:]
    x, weight = new(images, c_in, height, width), new(c_out, c_in, down, across)
    out = functional.conv2d(x, weight, None, stride, padding)
    if op == "conv_fw":
        return count_kernels(lambda a, b: functional.conv2d(a, b, None, stride, padding), x, weight)
    mask = [op == "conv_bw_input", op == "conv_bw_weight", False]
    operator = torch.ops.aten.convolution_backward

    def backward(gradient: Tensor, a: Tensor, b: Tensor) -> object:
        return operator(gradient, a, b, None, stride, padding, [1, 1], False, [0, 0], 1, mask)

    return count_kernels(backward, out, x, weight)
