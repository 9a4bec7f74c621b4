"""What a computation costs a digital processor: counted by running it on shapes alone."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Mapping
from contextvars import ContextVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hybridsim.errors import UnpricedError
from hybridsim.operations.arithmetic import contraction_precision
from hybridsim.operations.formulas import (
    ALLOCATIONS,
    Call,
    Priced,
    bytes_moved,
    contraction,
    convolutions,
    factorisation,
    is_view,
    precision_of,
    stream,
    triangular,
)
from hybridsim.outcome import Value
from hybridsim.work import Kernel, Precision, Work


def count(
    fn: Callable[..., Value], args: tuple[Value, ...], settings: Mapping[str, Value]
) -> tuple[Work, Value]:
    """Run ``fn(*args, **settings)`` on the meta device and count what its operators do.

    Counted below autograd and vmap, so each operator that would really be launched counts once.
    FLOP: contractions and convolutions by their shapes (two per multiply-add), factorisations in
    closed form, what goes element by element or reduces one per element of its largest operand,
    copies and fills none. Bytes: each distinct operand read once plus what is written, of
    normalisations and softmax every pass; views are free. Memory: storages alive at once,
    including the arguments and whatever else is read (frozen parameters of a task's network).

    Args:
        fn: a computation that neither branches on tensor values nor copies to the host.
        args: pytrees of tensors, dataclasses and tasks on any device; only shapes and dtypes are
            read. A tensor given twice is shared within one argument, not between two.
        settings: keyword arguments, passed through.

    Returns:
        The work (one Kernel per distinct operator, size and precision) and the result on the meta
        device.

    Raises:
        UnpricedError: an operator that has no price.
    """
    memos: list[dict[int, Tensor]] = [{} for _ in args]
    arguments = [to_meta(a, memo) for a, memo in zip(args, memos, strict=True)]
    counter = _Counter([tensor for memo in memos for tensor in memo.values()])
    outer = _COUNTER.set(counter)
    try:
        with counter, torch.no_grad():
            value = fn(*arguments, **settings)
    finally:
        _COUNTER.reset(outer)
    return counter.work(), value


def count_kernels(fn: Callable[..., object], *args: object) -> tuple[Kernel, ...]:
    """The kernels that ``fn(*args)`` would launch on a digital processor, counted on shapes alone.

    Raises:
        UnpricedError: an operator that has no price.
    """
    return count(fn, args, {})[0].kernels


def stage(name: str) -> None:
    """Name the part of a computation that follows, until the next name; a name may come back.

    Without effect but while the computation is counted (``Work.stages``); what precedes the first
    name counts to it.
    """
    counter = _COUNTER.get()
    if counter is not None:
        counter.enter(name)


def to_meta(value: Value, memo: dict[int, Tensor] | None = None) -> Value:
    """The same pytree with every tensor's shape, strides and dtype but no numbers.

    Goes into tuples, lists, dicts and dataclasses; an object with a ``meta()`` method, such as a
    Task, answers for itself. A tensor that occurs twice stays one tensor.
    """
    memo = {} if memo is None else memo
    if isinstance(value, Tensor):
        if id(value) not in memo:
            memo[id(value)] = torch.empty_strided(
                value.shape, value.stride(), dtype=value.dtype, device="meta"
            )
        return memo[id(value)]
    if hasattr(value, "meta"):
        return value.meta()
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(to_meta(v, memo) for v in value))
    if isinstance(value, (tuple, list)):
        return type(value)(to_meta(v, memo) for v in value)
    if isinstance(value, dict):
        return {k: to_meta(v, memo) for k, v in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            f.name: to_meta(getattr(value, f.name), memo)
            for f in dataclasses.fields(value)
            if f.init
        }
        return dataclasses.replace(value, **fields)
    return value


def signature(args: tuple[Value, ...], settings: Mapping[str, Value]) -> tuple[Value, ...]:
    """Hashable key of everything a count depends on: equal signatures of one function have equal
    work.

    Shapes, strides and dtypes of tensors, keys of tasks, settings; numbers among the arguments (a
    step count) are data and do not enter.
    """
    return (*(_shape_of(a) for a in args), tuple(sorted(settings.items())))


def _shape_of(value: Value) -> Value:
    if isinstance(value, Tensor):
        return tuple(value.shape), value.stride(), value.dtype
    if hasattr(value, "meta"):
        return type(value).__name__, value.key
    if isinstance(value, (tuple, list)):
        return _type_of(value), *(_shape_of(v) for v in value)
    if isinstance(value, dict):
        return tuple((k, _shape_of(v)) for k, v in value.items())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _type_of(value), *(
            _shape_of(getattr(value, f.name)) for f in dataclasses.fields(value)
        )
    return value if isinstance(value, (str, bool)) else type(value).__name__


def _type_of(value: Value) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


_TYPES = {
    "fp32": torch.float32,
    "fp64": torch.float64,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
_COUNTER: ContextVar[_Counter | None] = ContextVar("counter", default=None)


class _Counter(TorchDispatchMode):
    """Adds up kernels and follows storages while operators run on meta tensors."""

    def __init__(self, arguments: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves its __init__ untyped
        self._stages: dict[str | None, dict[Kernel, int]] = {None: {}}
        self._kernels = self._stages[None]
        self._largest: tuple[str, tuple[int, ...], int] | None = None
        self._memory = _Memory()
        self._cholesky: dict[int, tuple[weakref.ref[Value], Kernel, dict[Kernel, int]]] = {}
        for tensor in arguments:
            self._memory.given(tensor)

    def __torch_dispatch__(
        self,
        func: Value,
        types: Value,
        args: tuple[Value, ...] = (),
        kwargs: dict[str, Value] | None = None,
    ) -> Value:
        kwargs = kwargs or {}
        inputs = _tensors((args, kwargs))
        for tensor in inputs:
            self._memory.given(tensor)
        out = func(*args, **kwargs)
        outputs = _tensors(out)
        if is_view(func, inputs, outputs):
            return out
        call = Call(func, args, kwargs, inputs, outputs)
        for tensor in outputs:
            self._allocated(call.name, tensor)
        if call.name not in ALLOCATIONS and outputs:
            self._add(call)
        return out

    def _allocated(self, name: str, tensor: Tensor) -> None:
        if self._memory.made(tensor):
            size = tensor.untyped_storage().nbytes()
            if self._largest is None or size > self._largest[2]:
                self._largest = (name, tuple(tensor.shape), size)

    def _add(self, call: Call) -> None:
        """Record the launches of an operator.

        Raises:
            UnpricedError: nobody has given it a price.
        """
        precision = precision_of(call.outputs or call.inputs)
        product = contraction_precision(call.name, _TYPES[precision])
        launches = convolutions(call)
        for name, priced, moved in launches:
            self._launch(_kernel(name, priced, moved, product))
        if launches:
            return
        moved = bytes_moved(call)
        special = factorisation(call)
        if special is not None:
            self._factorised(call, _kernel(call.name, special, moved, precision))
            return
        found = contraction(call)
        if found is not None:
            self._launch(_kernel(call.name, found, moved, product))
            return
        found = triangular(call) or stream(call)
        if found is None:
            raise UnpricedError(call.name)
        self._launch(_kernel(call.name, found, moved, precision))

    def _factorised(self, call: Call, kernel: Kernel) -> None:
        """Record a factorisation; a Cholesky factor that is then inverted is one SPD inverse, n³ in
        all.
        """
        if kernel.routine == "cholesky":
            storage = call.outputs[0].untyped_storage()
            self._cholesky[storage._cdata] = (weakref.ref(storage), kernel, self._kernels)
        if kernel.routine == "inverse":
            storage = call.inputs[0].untyped_storage()
            factor, before, there = self._cholesky.pop(storage._cdata, (None, None, {}))
            if factor is not None and before is not None and factor() is storage:
                there[before] -= 1
                flop, moved = before.flop + kernel.flop, before.bytes + kernel.bytes
                kernel = dataclasses.replace(kernel, flop=flop, bytes=moved)
        self._launch(kernel)

    def _launch(self, kernel: Kernel) -> None:
        self._kernels[kernel] = self._kernels.get(kernel, 0) + 1

    def enter(self, name: str) -> None:
        """Count what follows to this stage."""
        if None in self._stages:
            self._stages[name] = self._stages.pop(None)
        self._kernels = self._stages.setdefault(name, {})

    def work(self) -> Work:
        """The totals so far, and the stages'."""
        total: dict[Kernel, int] = {}
        for kernels in self._stages.values():
            for kernel, number in kernels.items():
                total[kernel] = total.get(kernel, 0) + number
        stages = [
            (name, Work(_counted(part))) for name, part in self._stages.items() if name is not None
        ]
        peak, largest = self._memory.peak_bytes, self._largest
        return Work(_counted(total), peak_bytes=peak, largest=largest, stages=tuple(stages))


def _kernel(name: str, priced: Priced, moved: float, precision: Precision) -> Kernel:
    return Kernel(name, priced.flop, moved, precision, priced.routine, priced.shape)


def _counted(kernels: dict[Kernel, int]) -> tuple[Kernel, ...]:
    return tuple(dataclasses.replace(k, count=n) for k, n in kernels.items() if n)


class _Memory:
    """Bytes alive: what was given stays, what is made lives as long as its storage."""

    def __init__(self) -> None:
        self._alive: dict[int, int] = {}
        self._given_bytes = 0
        self._made_bytes = 0
        self._peak_made_bytes = 0

    def given(self, tensor: Tensor) -> None:
        """Count a storage that existed before the computation."""
        self._given_bytes += self._enter(tensor)

    def made(self, tensor: Tensor) -> bool:
        """Count a storage that the computation allocated; False if it is known already."""
        size = self._enter(tensor, made=True)
        self._made_bytes += size
        self._peak_made_bytes = max(self._peak_made_bytes, self._made_bytes)
        return size > 0

    @property
    def peak_bytes(self) -> int:
        """Most bytes alive at once."""
        return self._given_bytes + self._peak_made_bytes

    def _enter(self, tensor: Tensor, made: bool = False) -> int:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._alive:
            return 0
        self._alive[key] = storage.nbytes()
        weakref.finalize(storage, self._leave, key, made)
        return storage.nbytes()

    def _leave(self, key: int, made: bool) -> None:
        size = self._alive.pop(key)
        if made:
            self._made_bytes -= size


def _tensors(tree: Value) -> list[Tensor]:
    """The distinct tensors of a pytree."""
    return list({id(leaf): leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)}.values())
