"""In which floating-point format the GPU's products of FP32 numbers are: what is priced and what is
computed alike.

NVIDIA's TF32 has the 8-bit exponent of FP32 and 10 bits of mantissa, BF16 has 8 and 7, FP16 5 and
10; products are summed in FP32 (NVIDIA A100 Tensor Core GPU Architecture, 2020, pp. 26-28). PyTorch
asks for them by ``torch.backends.cuda.matmul.allow_tf32`` (default False),
``torch.backends.cudnn.allow_tf32`` (default True) and ``torch.autocast``.

Only the operands of products are rounded (``rounding``); their sums and results, all element-wise
operators, reductions, factorisations and the parameters stay FP32. Autocast would also keep results
in 16 bits between operators and scale FP16's loss; neither is modelled. What is FP64 or of 16 bits
by itself stays so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

import torch

from hybridsim.work import Precision

Format = Literal["tf32", "bf16", "fp16"]

_MATMULS = {
    "aten.mm": (0, 1),
    "aten.bmm": (0, 1),
    "aten.addmm": (1, 2),
    "aten.baddbmm": (1, 2),
    "aten.addbmm": (1, 2),
}
_CONVOLUTIONS = {"aten.convolution": (0, 1), "aten.convolution_backward": (0, 1, 2)}
# no TF32 in cuBLAS's matrix-vector products; autocast's list has them
_MATRIX_VECTOR = {"aten.mv": (0, 1), "aten.addmv": (1, 2)}
_OPERANDS = _MATMULS | _CONVOLUTIONS | _MATRIX_VECTOR
_OTHER_TYPES: dict[torch.dtype, Precision] = {
    torch.float64: "fp64",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
}


@dataclass(frozen=True)
class Arithmetic:
    """What FP32 operands of products are rounded to.

    Attributes:
        tf32_matmul: matrix products to TF32.
        tf32_convolution: convolutions and their backward passes to TF32.
        amp: both, and matrix-vector products, to 16 bits; comes before TF32.
    """

    tf32_matmul: bool = False
    tf32_convolution: bool = False
    amp: Literal["none", "bf16", "fp16"] = "none"

    def format_of(self, name: str) -> Format | None:
        """The format of an operator's FP32 operands, e.g. of ``aten.mm``; None: they stay FP32."""
        if operands(name) == ():
            return None
        if self.amp != "none":
            return self.amp
        bare = name.removesuffix("_")
        tf32 = self.tf32_matmul and bare in _MATMULS
        return "tf32" if tf32 or (self.tf32_convolution and bare in _CONVOLUTIONS) else None

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """What ``contraction_precision`` answers by, inside."""
        before = _IN_FORCE.set(self)
        try:
            yield
        finally:
            _IN_FORCE.reset(before)


IEEE = Arithmetic()
"""Everything in the type that it has."""
_IN_FORCE = ContextVar("arithmetic", default=IEEE)


def operands(name: str) -> tuple[int, ...]:
    """Which arguments of an operator, in place or not, are multiplied with each other; none of one
    that is no product.
    """
    return _OPERANDS.get(name.removesuffix("_"), ())


def contraction_precision(name: str, dtype: torch.dtype) -> Precision:
    """Arithmetic of an operator ``aten.<name>`` on operands of a type, under what is in force."""
    if dtype in _OTHER_TYPES:
        return _OTHER_TYPES[dtype]
    return _IN_FORCE.get().format_of(name) or "fp32"
