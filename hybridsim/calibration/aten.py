"""Calls in a trace as calls on shapes: which of them count, and what they cost.

The simulator counts the operators that torch dispatches below autograd. In a trace these are the
outermost ones that are no mere composition of others; what happens inside one belongs to it. Each
is called again on the meta device, from the sizes, types and scalars in the trace.
"""

from __future__ import annotations

import json
import math
from functools import cache
from typing import Any

import torch
from torch import Tensor

from hybridsim.calibration.trace_file import Json, Operator, chain
from hybridsim.errors import HybridsimError, InputError
from hybridsim.operations.count import count
from hybridsim.outcome import Value
from hybridsim.work import Kernel

_TYPES = {
    "float": torch.float32,
    "double": torch.float64,
    "c10::Half": torch.float16,
    "c10::BFloat16": torch.bfloat16,
    "long int": torch.int64,
    "long": torch.int64,
    "int": torch.int32,
    "short": torch.int16,
    "signed char": torch.int8,
    "unsigned char": torch.uint8,
    "bool": torch.bool,
    "c10::complex<float>": torch.complex64,
    "c10::complex<double>": torch.complex128,
}


class Unmapped(HybridsimError):
    """An operator whose work cannot be counted from what the trace says."""


_FORM = ("Input Dims", "Input type", "Input Strides", "Concrete Inputs")


def counted_call(operator: Operator | None) -> Operator | None:
    """The call that is counted of all those around a call: the outermost that is no composite."""
    counted = [one for one in chain(operator) if _overloads(one.name) and not _composite(one)]
    return counted[-1] if counted else None


def _composite(operator: Operator) -> bool:
    """Is a call made of other operators, above autograd? By the overload that takes its arguments;
    where none does, if all are.
    """
    key = (operator.name, form_of(operator))
    if key not in _composites:
        taken = [one for one in _overloads(operator.name) if _arguments(operator, one) is not None]
        implicit = torch._C.DispatchKey.CompositeImplicitAutograd
        found = [one.has_kernel_for_dispatch_key(implicit) for one in taken[:1]]
        if not taken:
            found = [one.has_kernel_for_dispatch_key(implicit) for one in _overloads(operator.name)]
        _composites[key] = all(found)
    return _composites[key]


_composites: dict[tuple[str, str], bool] = {}


def form_of(operator: Operator) -> str:
    """What an event says of its arguments: equal in this, equal in cost."""
    if operator.form is None:
        operator.form = json.dumps([operator.arguments.get(key) for key in _FORM])
    return operator.form


def is_known(name: str) -> bool:
    """A name of torch's operators, or of autograd's nodes, which compute by operators alone."""
    return bool(_overloads(name)) or "::" not in name or name.startswith("autograd::")


@cache
def _overloads(name: str) -> tuple[Any, ...]:  # Any: torch's overloads
    """Those that torch has under a name, in torch's order; none of what is no operator."""
    space, _, rest = name.partition("::")
    packet = getattr(getattr(torch.ops, space), rest, None) if rest.isidentifier() else None
    found = [getattr(packet, one) for one in packet.overloads()] if packet else []
    return tuple(one for one in found if torch._C._dispatch_has_kernel(one.name()))


def kernels_of(operator: Operator) -> tuple[str, str, tuple[Kernel, ...] | str]:
    """(shapes, types, kernels) of a call, or why there are none."""
    shape, dtype = _texts(operator)
    try:
        return shape, dtype, _work(operator)
    except Unmapped as error:
        return shape, dtype, str(error)


def _texts(operator: Operator) -> tuple[str, str]:
    dims, types = (operator.arguments.get(key) for key in ("Input Dims", "Input type"))
    if not isinstance(dims, list) or not isinstance(types, list):
        return "", ""
    sizes: list[str] = []
    names: dict[str, None] = {}
    for size, kind in zip(dims, types, strict=False):
        if not isinstance(size, list):
            continue
        dtype = _type(kind)
        if dtype is not None:
            sizes.append(_size(size))
            names[str(dtype).removeprefix("torch.")] = None
        elif kind == "TensorList":
            sizes.append("+".join(_size(one) for one in size if isinstance(one, list)))
    return " ".join(sizes), " ".join(names)


def _size(dims: list[Json]) -> str:
    return "x".join(map(str, dims)) or "1"


def _work(operator: Operator) -> tuple[Kernel, ...]:
    """What a call costs.

    Raises:
        Unmapped: the trace does not say enough, or torch refuses it without numbers.
    """
    reason = "its sizes are not in the trace: profile with record_shapes=True"
    if not isinstance(operator.arguments.get("Input Dims"), list):
        raise Unmapped(reason)
    reason = "no overload takes these arguments"
    for overload in _overloads(operator.name):
        arguments = _arguments(operator, overload)
        if arguments is None:
            continue
        positional, named = arguments
        try:
            return count(overload, tuple(positional), named)[0].kernels
        except InputError as error:
            reason = str(error)
        except Exception as error:  # whatever a kernel for shapes says of what it cannot do
            reason = f"{type(error).__name__} on shapes alone"
    raise Unmapped(reason)


def _arguments(
    operator: Operator,
    overload: Any,  # Any: torch's
) -> tuple[list[Value], dict[str, Value]] | None:
    """The arguments of a call, by place and by name; None where the overload does not take them."""
    given = [operator.arguments.get(key) for key in _FORM]
    size = len(given[0]) if isinstance(given[0], list) else 0
    columns = [
        one if isinstance(one, list) and len(one) == size else [None] * size for one in given
    ]
    schema = overload._schema.arguments
    if size > len(schema) or not all(one.has_default_value() for one in schema[size:]):
        return None
    positional: list[Value] = []
    named: dict[str, Value] = {}
    for wanted, cell in zip(schema, zip(*columns, strict=True), strict=False):
        try:
            value = _argument(wanted, cell, columns[1])
        except _Another:
            return None
        if wanted.kwarg_only:
            named[wanted.name] = value
        else:
            positional.append(value)
    return positional, named


class _Another(Exception):
    """The trace says an argument that this schema does not take."""


def _argument(
    wanted: Any,  # Any: torch's, of a schema
    cell: tuple[Json, ...],
    kinds: list[Json],
) -> Value:
    """One argument of a call.

    Raises:
        _Another: it is of another type, or there is none and there must be one.
    """
    dims, given, strides, concrete = cell
    kind, dtype = str(wanted.type), _type(given)
    if kind == "Optional[Device]":
        return "meta"  # wherever it was
    if "Tensor" in kind and "List" in kind and given == "TensorList":
        found: Value = _tensors(dims, strides, kinds)
    elif "Tensor" in kind and dtype is not None:
        found = _tensor(dims, strides, dtype)
    elif given in ("", None) and concrete in ("", None):
        if kind.startswith("Optional"):
            return None
        unsaid = concrete is None or "str" in kind  # texts never are, scalars in newer traces
        if unsaid and wanted.has_default_value():
            return wanted.default_value
        raise _Another
    elif "Tensor" in kind or dtype is not None or not isinstance(concrete, str):
        raise _Another
    else:
        return _scalar(kind, concrete)
    if found is None:
        raise _Another
    return found


def _scalar(kind: str, concrete: str) -> Value:
    """A number or a list of numbers.

    Raises:
        _Another: it is no ``kind``.
    """
    text = concrete.replace("True", "true").replace("False", "false")
    try:
        value = json.loads(f"{text}0" if text.endswith(".") else text)
    except (ValueError, RecursionError):
        value = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}.get(text)
    some = value if isinstance(value, list) else [value]
    if isinstance(value, list) != ("List" in kind) or not all(_is(kind, one) for one in some):
        raise _Another
    return value


def _is(wanted: str, value: Json) -> bool:
    """Is a number of the type that a schema names?"""
    if "bool" in wanted:
        return isinstance(value, bool)
    if "int" in wanted:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, int | float)


def _type(kind: Json) -> torch.dtype | None:
    return _TYPES.get(kind) if isinstance(kind, str) else None


def _tensor(dims: Json, strides: Json, dtype: torch.dtype | None) -> Tensor | None:
    """A tensor without numbers."""
    if dtype is None or not _sizes(dims):
        return None
    if _sizes(strides) and len(strides) == len(dims):
        return torch.empty_strided(dims, strides, dtype=dtype, device="meta")
    return torch.empty(dims, dtype=dtype, device="meta")


def _tensors(dims: Json, strides: Json, kinds: list[Json]) -> list[Tensor] | None:
    """A list of tensors; their type is the other arguments', or float32: a trace says none."""
    if not isinstance(dims, list):
        return None
    dtype = next(filter(None, map(_type, kinds)), torch.float32)
    some = (
        strides if isinstance(strides, list) and len(strides) == len(dims) else [None] * len(dims)
    )
    found = [_tensor(size, step, dtype) for size, step in zip(dims, some, strict=True)]
    return [one for one in found if one is not None] if None not in found else None


def _sizes(value: Json) -> bool:
    return isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)
