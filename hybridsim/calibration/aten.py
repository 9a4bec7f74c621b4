"""Calls in a trace as calls on shapes: which of them count, and what they cost.

The simulator counts the operators that torch dispatches below autograd. In a trace these are the
outermost ones that are no mere composition of others; what happens inside one belongs to it. Each
is called again on the meta device, from the sizes, types and scalars in the trace.
"""

from __future__ import annotations

import json
import math
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


FORM = ("Input Dims", "Input type", "Input Strides", "Concrete Inputs")
"""What an event says of its arguments: equal in these, equal in cost."""


def counted_call(operator: Operator | None) -> Operator | None:
    """The call that is counted of all those around a call: the outermost that is no composite."""
    counted = [one for one in chain(operator) if _overloads(one.name) and not _composite(one.name)]
    return counted[-1] if counted else None


_cache: dict[str, tuple[list[Any], bool]] = {}  # Any: torch's overloads


def _overloads(name: str) -> list[Any]:  # Any: torch's overloads
    """Those that torch has under a name, in torch's order; none of what is no operator."""
    return _looked_up(name)[0]


def _composite(name: str) -> bool:
    """Is it made of other operators, above autograd?"""
    return _looked_up(name)[1]


def is_known(name: str) -> bool:
    """A name of torch's operators, or of autograd's nodes, which compute by operators alone."""
    return bool(_overloads(name)) or "::" not in name or name.startswith("autograd::")


def _looked_up(name: str) -> tuple[list[Any], bool]:  # Any: torch's overloads
    if name not in _cache:
        space, _, rest = name.partition("::")
        packet = getattr(getattr(torch.ops, space), rest, None) if rest.isidentifier() else None
        overloads = [getattr(packet, one) for one in packet.overloads()] if packet else []
        found = [one for one in overloads if torch._C._dispatch_has_kernel(one.name())]
        key = torch._C.DispatchKey.CompositeImplicitAutograd
        _cache[name] = found, any(one.has_kernel_for_dispatch_key(key) for one in found)
    return _cache[name]


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
    given = [operator.arguments.get(key) for key in FORM]
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
        kind, value = str(wanted.type), None
        if kind == "Optional[Device]":
            value = "meta"  # wherever it was
        else:
            value = _argument(kind, cell, columns[1])
        if value is None and wanted.has_default_value():
            value = wanted.default_value
        if value is None and not kind.startswith("Optional"):
            return None
        if wanted.kwarg_only:
            named[wanted.name] = value
        else:
            positional.append(value)
    return positional, named


def _argument(wanted: str, cell: tuple[Json, ...], kinds: list[Json]) -> Value:
    """One argument; None where the trace says none, or none of this kind."""
    dims, kind, strides, concrete = cell
    if "Tensor" in wanted:
        if "List" in wanted:
            return _tensors(dims, strides, kinds) if kind == "TensorList" else None
        return _tensor(dims, strides, _type(kind))
    if _type(kind) is not None or not isinstance(concrete, str) or concrete == "":
        return None
    if "str" in wanted:
        return concrete
    text = concrete.replace("True", "true").replace("False", "false")
    try:
        value = json.loads(f"{text}0" if text.endswith(".") else text)
    except ValueError:
        return {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}.get(text)
    return value if isinstance(value, list) == ("List" in wanted) else None


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
