"""What is measured: operators over shapes, each the very function whose work is counted.

A family is a kind of operator with a rule by which shapes are drawn: each dimension log-uniform,
and so the shape, from one element to what a device does in ``largest_s`` seconds.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hybridsim.operations.count import count
from hybridsim.outcome import Value
from hybridsim.work import Kernel

Dtype = Literal["float32", "float64"]
DTYPES: tuple[Dtype, ...] = ("float32", "float64")
Shape = tuple[int, ...]
_HELD_OUT = 4
_aten = torch.ops.aten


class Case(NamedTuple):
    """One thing to measure, as the table of measurements names it.

    Attributes:
        family: of operators, ``launch`` or ``step``.
        operator: which of the family; of a step its algorithm.
        shape: sizes joined by ``x``; of a step the network and its options.
        dtype: ``float32`` or ``float64``.
    """

    family: str
    operator: str
    shape: str
    dtype: str

    @property
    def held_out(self) -> bool:
        """Is it kept from the fit? By the hash of family and shape alone: one in four is."""
        found = hashlib.blake2b(f"{self.family} {self.shape}".encode(), digest_size=8)
        return int.from_bytes(found.digest(), "big") % _HELD_OUT == 0


class Rates(NamedTuple):
    """What a device does in a second, roughly: so much that shapes are drawn to fit."""

    flop_per_s: float
    byte_per_s: float
    memory_byte: float


class Maker:
    """Makes the operands of an operator on one device, in one type."""

    def __init__(self, device: str, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype

    def normal(self, *shape: int) -> Tensor:
        """Numbers about 0, (*shape)."""
        return torch.empty(shape, device=self._device, dtype=self._dtype).normal_()

    def spd(self, batch: int, n: int) -> Tensor:
        """Symmetric positive definite matrices of condition about 10, (batch, n, n)."""
        x = self.normal(batch, n, n) / math.sqrt(n)
        return x @ x.mT + self._identity(n)

    def factor(self, batch: int, n: int) -> Tensor:
        """Lower triangular matrices with positive diagonals, (batch, n, n)."""
        x = self.normal(batch, n, n).tril() / n
        return x + self._identity(n)

    def _identity(self, n: int) -> Tensor:
        return torch.eye(n, device=self._device, dtype=self._dtype)


class Operator(NamedTuple):
    """``function(*arguments(maker, shape))`` is what is timed and what is counted."""

    function: Callable[..., Value]
    arguments: Callable[[Maker, Shape], tuple[Value, ...]]


@dataclass(frozen=True)
class Family:
    """Operators that share a shape.

    Attributes:
        operators: by name.
        most: the upper end of each dimension; the lower is 1.
        effort: products and sums of a shape, as if all ran at the rate of a matrix product.
        entries: numbers that a shape touches.
        share: of all cases.
        legal: the nearest shape that can be.
    """

    operators: Mapping[str, Operator]
    most: Shape
    effort: Callable[[Shape], float]
    entries: Callable[[Shape], float]
    share: float
    legal: Callable[[Shape], Shape] = tuple


def _flat(function: Callable[..., Value], operands: int) -> Operator:
    """An operator on equal operands (rows, columns)."""

    def arguments(make: Maker, shape: Shape) -> tuple[Value, ...]:
        return tuple(make.normal(*shape) for _ in range(operands))

    return Operator(function, arguments)


def _sum_rows(x: Tensor) -> Tensor:
    return x.sum(dim=-1)


def _sum_all(x: Tensor) -> Tensor:
    return x.sum()


def _layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.layer_norm(x, (x.shape[-1],), weight, bias)


def _layer_norm_backward(
    g: Tensor, x: Tensor, mean: Tensor, scale: Tensor, weight: Tensor, bias: Tensor
) -> Value:
    return _aten.native_layer_norm_backward(
        g, x, [x.shape[-1]], mean, scale, weight, bias, [True, True, True]
    )


def _softmax(x: Tensor) -> Tensor:
    return torch.softmax(x, -1)


def _softmax_backward(g: Tensor, y: Tensor) -> Value:
    return _aten._softmax_backward_data(g, y, -1, y.dtype)


def _log_softmax(x: Tensor) -> Tensor:
    return torch.log_softmax(x, -1)


def _log_softmax_backward(g: Tensor, y: Tensor) -> Value:
    return _aten._log_softmax_backward_data(g, y, -1, y.dtype)


def _rows_and_vectors(make: Maker, shape: Shape) -> tuple[Value, ...]:
    rows, width = shape
    return make.normal(rows, width), make.normal(width), make.normal(width)


def _normalised(make: Maker, shape: Shape) -> tuple[Value, ...]:
    rows, width = shape
    statistics = make.normal(rows, 1), make.normal(rows, 1)
    vectors = make.normal(width), make.normal(width)
    return make.normal(rows, width), make.normal(rows, width), *statistics, *vectors


# Convolutions: (batch, channels in, channels out, side, side of the filter, stride).
def _convolved(make: Maker, shape: Shape) -> tuple[Value, ...]:
    batch, channels, out, side, kernel, stride = shape
    x, weight = make.normal(batch, channels, side, side), make.normal(out, channels, kernel, kernel)
    return x, weight, make.normal(out), stride, kernel // 2


def _convolution(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    return F.conv2d(x, weight, bias, stride, padding)


def _convolved_backward(make: Maker, shape: Shape) -> tuple[Value, ...]:
    batch, _, out, side, kernel, stride = shape
    x, weight, _, stride, padding = _convolved(make, shape)
    left = (side + 2 * padding - kernel) // stride + 1
    return make.normal(batch, out, left, left), x, weight, stride, padding


def _convolution_backward(g: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Value:
    pair = [stride, stride], [padding, padding], [1, 1]
    mask = [True, True, True]
    return _aten.convolution_backward(g, x, weight, [len(weight)], *pair, False, [0, 0], 1, mask)


def _legal(shape: Shape) -> Shape:
    """Filters of odd side that fit the image."""
    *rest, side, kernel, stride = shape
    kernel -= 1 - kernel % 2
    return *rest, max(side, kernel), kernel, stride


def _convolution_effort(shape: Shape) -> float:
    batch, channels, out, side, kernel, stride = shape
    return 12.0 * batch * channels * out * (side * kernel / stride) ** 2


def _convolution_entries(shape: Shape) -> float:
    batch, channels, out, side, kernel, stride = shape
    return float(
        3 * batch * (channels + out) * side**2 / stride**2 * kernel**2 + channels * out * kernel**2
    )


# Factorisations: (matrices, n).
def _cholesky(a: Tensor) -> Value:
    return torch.linalg.cholesky_ex(a).L


def _spd_inverse(a: Tensor) -> Tensor:
    return torch.cholesky_inverse(torch.linalg.cholesky_ex(a).L)


def _lu(a: Tensor) -> Value:
    return torch.linalg.lu_factor_ex(a)


def _triangular_solve(factor: Tensor, b: Tensor) -> Value:
    return torch.linalg.solve_triangular(factor, b, upper=False)


def _factored(make: Maker, shape: Shape) -> tuple[Value, ...]:
    return make.factor(*shape), make.normal(*shape, shape[1])


def _positive(make: Maker, shape: Shape) -> tuple[Value, ...]:
    return (make.spd(*shape),)


def _square(make: Maker, shape: Shape) -> tuple[Value, ...]:
    return (make.normal(*shape, shape[1]),)


def _linear(make: Maker, shape: Shape) -> tuple[Value, ...]:
    m, n, k = shape
    return make.normal(m, k), make.normal(n, k), make.normal(n)


FAMILIES: Mapping[str, Family] = {
    "product": Family(
        {
            "linear": Operator(F.linear, _linear),
            "mm": Operator(
                torch.mm, lambda make, s: (make.normal(s[0], s[2]), make.normal(s[2], s[1]))
            ),
        },
        most=(8192, 8192, 8192),
        effort=lambda s: 2.0 * math.prod(s),
        entries=lambda s: float(s[0] * s[2] + s[1] * s[2] + s[0] * s[1]),
        share=0.22,
    ),
    "batched product": Family(
        {
            "bmm": Operator(
                torch.bmm,
                lambda make, s: (make.normal(s[0], s[1], s[3]), make.normal(s[0], s[3], s[2])),
            )
        },
        most=(1024, 1024, 1024, 1024),
        effort=lambda s: 2.0 * math.prod(s),
        entries=lambda s: float(s[0] * (s[1] * s[3] + s[2] * s[3] + s[1] * s[2])),
        share=0.08,
    ),
    "element-wise": Family(
        {
            "add": _flat(torch.add, 2),
            "mul": _flat(torch.mul, 2),
            "relu": _flat(torch.relu, 1),
            "gelu": _flat(F.gelu, 1),
            "tanh": _flat(torch.tanh, 1),
            "exp": _flat(torch.exp, 1),
            "addcdiv": _flat(torch.addcdiv, 3),
            "clone": _flat(torch.clone, 1),
        },
        most=(1 << 16, 1 << 16),
        effort=lambda s: 4.0 * math.prod(s),
        entries=lambda s: 4.0 * math.prod(s),
        share=0.2,
    ),
    "reduction": Family(
        {"sum of rows": _flat(_sum_rows, 1), "sum": _flat(_sum_all, 1)},
        most=(1 << 16, 1 << 16),
        effort=lambda s: 1.0 * math.prod(s),
        entries=lambda s: 1.0 * math.prod(s),
        share=0.06,
    ),
    "normalisation": Family(
        {
            "layer norm": Operator(_layer_norm, _rows_and_vectors),
            "layer norm backward": Operator(_layer_norm_backward, _normalised),
            "softmax": _flat(_softmax, 1),
            "softmax backward": _flat(_softmax_backward, 2),
            "log softmax": _flat(_log_softmax, 1),
            "log softmax backward": _flat(_log_softmax_backward, 2),
        },
        most=(1 << 16, 1 << 14),
        effort=lambda s: 8.0 * math.prod(s),
        entries=lambda s: 4.0 * math.prod(s),
        share=0.16,
    ),
    "convolution": Family(
        {
            "convolution": Operator(_convolution, _convolved),
            "convolution backward": Operator(_convolution_backward, _convolved_backward),
        },
        most=(256, 512, 512, 64, 7, 2),
        effort=_convolution_effort,
        entries=_convolution_entries,
        share=0.12,
        legal=_legal,
    ),
    "factorisation": Family(
        {
            "cholesky": Operator(_cholesky, _positive),
            "spd inverse": Operator(_spd_inverse, _positive),
            "eigh": Operator(torch.linalg.eigh, _positive),
            "qr": Operator(torch.linalg.qr, _square),
            "lu": Operator(_lu, _square),
            "triangular solve": Operator(_triangular_solve, _factored),
        },
        most=(256, 8192),
        effort=lambda s: 100.0 * s[0] * s[1] ** 3,  # eigenvectors: 9 n³ at a tenth of the rate
        entries=lambda s: 4.0 * s[0] * s[1] ** 2,
        share=0.16,
    ),
}


LAUNCH = "launch"
"""The family of every operator on one element: what it costs to call one that has nothing to do."""
_HOME = {operator: name for name, family in FAMILIES.items() for operator in family.operators}


def check_case(case: Case) -> None:
    """Raise ValueError for an operator's case that is none."""
    home = _HOME.get(case.operator)
    if home is None or case.family not in (home, LAUNCH) or case.dtype not in DTYPES:
        raise ValueError(f"{case.family}, {case.operator}, {case.dtype}")
    sizes = shape_of(case)
    if len(sizes) != len(FAMILIES[home].most) or min(sizes) < 1:
        raise ValueError(f"{case.operator} of {case.shape}")


def shape_of(case: Case) -> Shape:
    """The sizes of an operator's case."""
    return tuple(map(int, case.shape.split("x")))


def operands(case: Case, device: str) -> tuple[Callable[..., Value], tuple[Value, ...]]:
    """The function of an operator's case, and its arguments on a device (``meta``: shapes)."""
    operator = FAMILIES[_HOME[case.operator]].operators[case.operator]
    make = Maker(device, getattr(torch, case.dtype))
    return operator.function, operator.arguments(make, shape_of(case))


def kernels(case: Case) -> tuple[Kernel, ...]:
    """What an operator's case costs, counted on shapes."""
    function, arguments = operands(case, "meta")
    return count(function, arguments, {})[0].kernels


def draw(number: int, seed: int, rates: Rates, largest_s: float) -> list[Case]:
    """The first ``number`` operators' cases of a seed; more of them begin with the same.

    The first are those of the family ``launch``.
    """
    found = [
        Case(LAUNCH, operator, "x".join("1" * len(kind.most)), dtype)
        for dtype in DTYPES
        for kind in FAMILIES.values()
        for operator in kind.operators
    ]
    names, weights = list(FAMILIES), [kind.share for kind in FAMILIES.values()]
    place = 0
    while len(found) < number:
        place += 1
        generator = random.Random(f"{seed} {place}")
        (name,) = generator.choices(names, weights)
        case = _drawn(name, generator, rates, largest_s)
        if case is not None:
            found.append(case)
    return found[:number]


def _drawn(name: str, generator: random.Random, rates: Rates, largest_s: float) -> Case | None:
    """A case of a family; None where the device would take too long, or has no room."""
    family = FAMILIES[name]
    operator = generator.choice(list(family.operators))
    dtype = generator.choice(DTYPES)
    drawn = (round(math.exp(generator.uniform(0, math.log(most)))) for most in family.most)
    shape = family.legal(tuple(drawn))
    moved_byte = 8 * family.entries(shape)
    seconds = family.effort(shape) / rates.flop_per_s + moved_byte / rates.byte_per_s
    if seconds > largest_s or moved_byte > rates.memory_byte / 8:
        return None
    return Case(name, operator, "x".join(map(str, shape)), dtype)
