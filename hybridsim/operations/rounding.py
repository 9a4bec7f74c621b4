"""Operands of products rounded as a tensor core rounds them, so that numbers carry the precision
that is priced.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from hybridsim.operations.arithmetic import IEEE, Arithmetic, Format, operands
from hybridsim.outcome import Value

_DROPPED_BITS = 23 - 10  # of FP32's mantissa, to TF32's


def rounded(tensor: Tensor, form: Format) -> Tensor:
    """FP32 numbers to the nearest of a format, ties to even, as FP32.

    What lies beyond its largest number becomes infinite (FP16: 65520 and more); infinities and NaN
    stay, subnormal numbers are kept (TF32 and BF16 have FP32's, FP16 its own).
    """
    if form != "tf32":
        return tensor.to(torch.bfloat16 if form == "bf16" else torch.float16).to(torch.float32)
    bits = tensor.view(torch.int32)
    odd = (bits >> _DROPPED_BITS) & 1
    nearest = (bits + (odd + ((1 << (_DROPPED_BITS - 1)) - 1))) & -(1 << _DROPPED_BITS)
    return torch.where(tensor.isnan(), tensor, nearest.view(torch.float32))


class Rounding(TorchDispatchMode):
    """Rounds the FP32 operands of every product that runs inside, forward and backward.

    ``overflowed``: how many finite operands FP16 does not hold, so far.
    """

    def __init__(self, arithmetic: Arithmetic) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves its __init__ untyped
        self._arithmetic = arithmetic
        self.overflowed = 0

    def __torch_dispatch__(
        self,
        func: Value,
        types: Value,
        args: tuple[Value, ...] = (),
        kwargs: dict[str, Value] | None = None,
    ) -> Value:
        name = str(func.overloadpacket)
        form = self._arithmetic.format_of(name)
        if form is not None:
            given = list(args)
            for place in operands(name):
                if given[place].dtype == torch.float32:
                    given[place] = self._rounded(given[place], form)
            args = tuple(given)
        return func(*args, **(kwargs or {}))

    def _rounded(self, operand: Tensor, form: Format) -> Tensor:
        found = rounded(operand, form)
        if form == "fp16":
            self.overflowed += int((found.isinf() & operand.isfinite()).sum())
        return found


@contextlib.contextmanager
def rounding(arithmetic: Arithmetic) -> Iterator[Rounding | None]:
    """What is computed inside has operands as ``arithmetic`` says; None where nothing is rounded.

    Attention is computed in its parts, whose products are then rounded like all others.
    """
    if arithmetic == IEEE:
        yield None
        return
    with sdpa_kernel(SDPBackend.MATH), Rounding(arithmetic) as mode:
        yield mode
