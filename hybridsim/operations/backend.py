"""Three ways to evaluate the same program: live (tensors), timing-only (shapes), replay (facts)."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import torch

from hybridsim.errors import HybridsimError, MissingFacts
from hybridsim.operations.arithmetic import IEEE, Arithmetic
from hybridsim.operations.count import count, signature, to_meta
from hybridsim.operations.facts import FactStore
from hybridsim.operations.ref import Computation, Ref, digest, digest_of_keys
from hybridsim.operations.rounding import rounding
from hybridsim.outcome import Value
from hybridsim.work import Work


class ComputationRaised(Exception):
    """What a computation raised, on its way through the simulation.

    The simulation's engine copies the exceptions of its processes, which not every class survives.

    Attributes:
        error: what was raised.
        what: the function's name.
    """

    def __init__(self, error: BaseException, what: str) -> None:
        super().__init__(error, what)
        self.error, self.what = error, what


@contextlib.contextmanager
def _carried(computation: Computation) -> Iterator[None]:
    try:
        yield
    except (HybridsimError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise ComputationRaised(error, computation.function.__name__) from error


OVERFLOWED = "overflowed"
"""The fact of how many operands of its products FP16 did not hold."""
_MOST_COUNTS = 2_000
"""Counts that are kept for further runs; settings that vary from run to run would add up."""


class Shapes:
    """Counts work and output shapes once per function, settings and argument shapes, in one
    arithmetic.
    """

    def __init__(self, arithmetic: Arithmetic = IEEE) -> None:
        self.arithmetic = arithmetic
        self._metas: dict[Value, Value] = {}
        self._counts: dict[Value, tuple[Work, Value]] = {}
        self._known: dict[Value, tuple[tuple[Work, Value], tuple[Value, ...]]] = {}
        self._columns: dict[tuple[int, int, int], tuple[Value, Value]] = {}

    def meta(self, value: Value) -> Value:
        """The one meta value that stands for all values of this signature; it lives as long as this
        object.
        """
        form = signature((value,), {})
        if form not in self._metas:
            # The value itself is kept where its identity is part of the signature, so that the id
            # stays taken.
            self._metas[form] = (to_meta(value), value if hasattr(value, "meta") else None)
        return self._metas[form][0]

    def columns(self, meta: Value, first: int, last: int) -> Value:
        """The meta value of some columns of a matrix, itself a meta value of this object."""
        quick = (id(meta), first, last)
        if quick not in self._columns:
            # the whole is kept as well, so that its id stays taken
            self._columns[quick] = (self.meta(meta[:, first:last]), meta)
        return self._columns[quick][0]

    def count(self, computation: Computation, metas: tuple[Value, ...]) -> tuple[Work, Value]:
        """Work and meta output of a computation; ``metas`` must come from ``meta`` or from an
        earlier count.
        """
        # The meta values are kept with the entry, so that their identities are safe keys, which
        # cost nothing to hash.
        quick = (computation.token, *map(id, metas))
        known = self._known.get(quick)
        found = known[0] if known is not None else None
        if found is None:
            form = (computation.token, signature(metas, {}))
            found = self._counts.get(form)
            if found is None:
                if len(self._counts) >= _MOST_COUNTS:
                    self._counts.clear()
                    self._known.clear()
                with _carried(computation), self.arithmetic.in_force():
                    work, outcome = count(computation.function, metas, computation.settings)
                found = (work, self._intern(outcome.value))
                self._counts[form] = found
            self._known[quick] = (found, metas)
        return found

    def _intern(self, meta: Value) -> Value:
        return self._metas.setdefault(signature((meta,), {}), (meta, None))[0]


@lru_cache(maxsize=8)
def shapes_of(task: Value, arithmetic: Arithmetic) -> Shapes:
    """The counts of all runs of a task in one arithmetic: else operations cost by shapes alone."""
    return Shapes(arithmetic)


class Backend(ABC):
    """Evaluates computations.

    Attributes:
        arithmetic: of the GPUs' products, as they are counted (``shapes``); part of every key.
        numeric_s: host time spent inside computations.
        overflowed: operands of products that FP16 did not hold, so far.
    """

    name: str
    tensors: bool

    def __init__(self, salt: bytes, shapes: Shapes, store: FactStore | None = None) -> None:
        self.shapes, self.store, self.arithmetic = shapes, store, shapes.arithmetic
        self.salt = digest(salt, repr(self.arithmetic).encode())
        self.numeric_s, self.overflowed = 0.0, 0

    def root(self, value: Value, *identity: object) -> Ref:
        """A reference to an input of the run, named by what determines it."""
        key = digest(self.salt, *(str(i).encode() for i in identity))
        return Ref.of(value if self.tensors else self.shapes.meta(value), key)

    def key(self, computation: Computation, args: tuple[Ref, ...]) -> bytes:
        """Key of the outcome: the salt, the computation and the keys of its arguments."""
        return digest_of_keys(self.salt, computation.token, *[arg.cell.key for arg in args])

    def work(self, computation: Computation, args: tuple[Ref, ...]) -> tuple[Work, Value]:
        """Work on a digital processor, and the shapes of the outcome."""
        values = (
            (self.shapes.meta(a.value) for a in args) if self.tensors else (a.value for a in args)
        )
        return self.shapes.count(computation, tuple(values))

    def pick(self, ref: Ref, index: int | str) -> Ref:
        """One component of a tuple or dict value; costs nothing."""
        part = None if ref.value is None else ref.value[index]
        return Ref.of(part, digest(ref.key, b"pick", repr(index).encode()), ref.spans)

    def columns(self, ref: Ref, first: int, last: int) -> Ref:
        """Columns ``first`` to ``last`` of a matrix; costs nothing."""
        if (first, last) == (0, ref.value.shape[1]):
            return ref
        shapes = self.shapes
        value = ref.value[:, first:last] if self.tensors else shapes.columns(ref.value, first, last)
        key = digest(ref.key, f"columns {first}:{last}".encode())
        return Ref.of(value, key, ref.spans)

    @abstractmethod
    def evaluate(
        self,
        computation: Computation,
        args: tuple[Ref, ...],
        shape: Value = None,
        *,
        exact: bool = False,
    ) -> Ref:
        """The outcome of a computation.

        Args:
            computation: what is computed.
            args: its arguments.
            shape: the meta value that stands for the outcome where nothing is computed.
            exact: it is no GPU that computes, but an analog part, or a diagnostic: nothing is
                rounded to the GPUs' arithmetic.
        """


class Live(Backend):
    """Real tensors; facts are remembered when there is a store."""

    name, tensors = "live", True

    def evaluate(
        self,
        computation: Computation,
        args: tuple[Ref, ...],
        shape: Value = None,
        *,
        exact: bool = False,
    ) -> Ref:
        """Call the function and keep its facts."""
        value, facts = self.computed(computation, [a.value for a in args], exact)
        self.overflowed += facts.get(OVERFLOWED, 0)
        key = self.key(computation, args)
        if self.store is not None:
            self.store.put(key, facts)
        return Ref.of(value, key, (), facts)

    def computed(
        self, computation: Computation, values: Sequence[Value], exact: bool
    ) -> tuple[Value, dict[str, Value]]:
        """The outcome of these values: a value, and facts."""
        started = time.perf_counter()
        with _carried(computation), rounding(IEEE if exact else self.arithmetic) as mode:
            outcome = computation.function(*values, **computation.settings)
            facts = _plain(outcome.facts)
        if mode is not None and mode.overflowed:
            facts[OVERFLOWED] = mode.overflowed
        self.numeric_s += time.perf_counter() - started
        return outcome.value, facts


class Timing(Backend):
    """Shapes only: the schedule and every key, without numbers."""

    name, tensors = "timing", False

    def evaluate(
        self,
        computation: Computation,
        args: tuple[Ref, ...],
        shape: Value = None,
        *,
        exact: bool = False,
    ) -> Ref:
        """A reference with shapes and no facts."""
        return Ref.of(shape, self.key(computation, args))


class Replay(Backend):
    """Shapes and remembered facts.

    ``missing``: the last error, which nobody hears of whose process fails as the run ends.

    Raises:
        MissingFacts: on evaluation, when the store does not know the key.
    """

    name, tensors = "replay", False
    missing: MissingFacts | None = None

    def evaluate(
        self,
        computation: Computation,
        args: tuple[Ref, ...],
        shape: Value = None,
        *,
        exact: bool = False,
    ) -> Ref:
        """A reference with shapes and the facts of an earlier live run."""
        key = self.key(computation, args)
        assert self.store is not None, "a replay needs a store"
        facts: Mapping[str, Value] | None = self.store.get(key)
        if facts is None:
            text = f"no facts of {computation.function.__name__} under key {key.hex()}"
            self.missing = MissingFacts(text)
            raise self.missing
        self.overflowed += facts.get(OVERFLOWED, 0)
        return Ref.of(shape, key, (), facts)


def _plain(facts: Mapping[str, Value]) -> dict[str, Value]:
    """Facts as Python's numbers; those of one type leave their device in one copy."""
    alike: dict[tuple[torch.dtype, torch.device], list[str]] = {}
    for name, fact in facts.items():
        if isinstance(fact, torch.Tensor) and fact.ndim == 0:
            alike.setdefault((fact.dtype, fact.device), []).append(name)
    found = dict(facts)
    for names in alike.values():
        copied = torch.stack([facts[name] for name in names]).tolist()
        found.update(zip(names, copied, strict=True))
    return {n: f.tolist() if isinstance(f, torch.Tensor) else f for n, f in found.items()}
