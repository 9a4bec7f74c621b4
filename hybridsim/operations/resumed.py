"""Live evaluation that can be left and taken up again: values that are still alive are known.

A value is alive as long as its cell is, which frames of processes, resistor sets and programs
point to. What is ``derivable`` keeps instead how it is made: a computation and its arguments, of
which those that are derivable too keep no value of theirs either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple
from weakref import WeakSet

from hybridsim.errors import HybridsimError
from hybridsim.operations.backend import OVERFLOWED, Live, Shapes
from hybridsim.operations.facts import FactStore
from hybridsim.operations.ref import Cell, Computation, Ref
from hybridsim.operations.values import Values
from hybridsim.outcome import Value


class NotResumable(HybridsimError):
    """A run cannot be taken up where it was left."""


class _Made(NamedTuple):
    """A computation of these arguments."""

    computation: Computation
    args: tuple[Cell, ...]
    exact: bool


class _Item(NamedTuple):
    """An entry of a tuple or a map."""

    whole: Cell
    place: int | str


class _Columns(NamedTuple):
    """Columns of a matrix."""

    whole: Cell
    first: int
    last: int


class Resumable(Live):
    """As ``Live``; counts its evaluations, and knows what is alive.

    Args:
        until: so many evaluations take their facts from the store, and have no value yet.
        values: those that were alive then.
    """

    def __init__(
        self,
        salt: bytes,
        shapes: Shapes,
        store: FactStore,
        until: int = 0,
        values: Values | None = None,
    ) -> None:
        super().__init__(salt, shapes, store)
        self._facts, self._until, self._values = store, until, values
        self.evaluations = 0
        self._alive: WeakSet[Cell] = WeakSet()

    def alive(self) -> dict[bytes, Value]:
        """What a file must keep: the values of all cells that cannot be derived, by key."""
        return {cell.key: self._real(cell) for cell in tuple(self._alive)}

    def evaluate(
        self,
        computation: Computation,
        args: tuple[Ref, ...],
        shape: Value = None,
        *,
        exact: bool = False,
    ) -> Ref:
        """Facts of the store at first, numbers afterwards.

        Raises:
            NotResumable: facts are missing, or others than this computer now finds.
        """
        self.evaluations += 1
        key = self.key(computation, args)
        kept = self._facts.get(key) if self._until else None
        if self.evaluations <= self._until:
            if kept is None:
                raise NotResumable(
                    f"expected facts of evaluation {self.evaluations} of {self._until}, "
                    f"{computation.function.__name__}, got none under key {key.hex()}"
                )
            self.overflowed += kept.get(OVERFLOWED, 0)
            found = Ref(Cell(shape, key, known=False), (), kept)
        else:
            known = tuple(Ref.of(self._real(arg.cell), arg.key) for arg in args)
            found = super().evaluate(computation, known, shape, exact=exact)
            _compare(key, computation, kept, found.facts)
        if computation.derivable:
            found.cell.made = _Made(computation, tuple(_form(a.cell) for a in args), exact)
        else:
            self._alive.add(found.cell)
        return found

    def pick(self, ref: Ref, index: int | str) -> Ref:
        """One component; see ``Backend``."""
        return self._part(super().pick(ref, index), ref, _Item(_form(ref.cell), index))

    def columns(self, ref: Ref, first: int, last: int) -> Ref:
        """Some columns; see ``Backend``."""
        found = super().columns(ref, first, last)
        if found is ref:
            return ref
        return self._part(found, ref, _Columns(_form(ref.cell), first, last))

    def _part(self, part: Ref, whole: Ref, made: _Item | _Columns) -> Ref:
        part.cell.known = whole.cell.known
        derivable = isinstance(whole.cell.made, _Made)
        if derivable or not whole.cell.known:
            part.cell.made = made
        if not derivable:
            self._alive.add(part.cell)
        return part

    def _real(self, cell: Cell) -> Value:
        """The value of a cell, which is made or read if need be."""
        waiting = [cell]
        while waiting:
            one = waiting[-1]
            if not one.known and (lacking := self._lacking(one)):
                waiting += lacking
                continue
            waiting.pop()
            if not one.known:
                one.value, one.known = self._found(one), True
                self._after(one)
        return cell.value

    def _lacking(self, cell: Cell) -> list[Cell]:
        """What it is made of and is not known yet."""
        if self._values is not None and cell.key in self._values:
            return []
        of: tuple[Cell, ...] = ()
        if isinstance(cell.made, _Made):
            of = cell.made.args
        elif isinstance(cell.made, _Item | _Columns):
            of = (cell.made.whole,)
        return [one for one in of if not one.known]

    def _found(self, cell: Cell) -> Value:
        """The value of a cell, once all that it is made of is known."""
        if self._values is not None and cell.key in self._values:
            return self._values[cell.key]
        if isinstance(cell.made, _Made):
            return self._made(cell.key, cell.made)
        if isinstance(cell.made, _Item):
            return cell.made.whole.value[cell.made.place]
        if isinstance(cell.made, _Columns):
            return cell.made.whole.value[:, cell.made.first : cell.made.last]
        raise NotResumable(f"expected a value under key {cell.key.hex()}, got none")

    def _made(self, key: bytes, made: _Made) -> Value:
        return self.computed(made.computation, [arg.value for arg in made.args], made.exact)[0]

    def _after(self, cell: Cell) -> None:
        """A cell's value has become known."""


class OnDemand(Resumable):
    """Facts of the store as far as it has them; of the rest numbers, and of the values that these
    need those that no file keeps are computed.
    """

    def evaluate(
        self,
        computation: Computation,
        args: tuple[Ref, ...],
        shape: Value = None,
        *,
        exact: bool = False,
    ) -> Ref:
        """Facts of the store, or numbers."""
        key = self.key(computation, args)
        kept = self._facts.get(key)
        if kept is None:
            known = tuple(Ref.of(self._real(arg.cell), arg.key) for arg in args)
            return Live.evaluate(self, computation, known, shape, exact=exact)
        self.overflowed += kept.get(OVERFLOWED, 0)
        made = _Made(computation, tuple(arg.cell for arg in args), exact)
        return Ref(Cell(shape, key, known=False, made=made), (), kept)

    def _part(self, part: Ref, whole: Ref, made: _Item | _Columns) -> Ref:
        part.cell.known = whole.cell.known
        if not whole.cell.known:
            part.cell.made = made._replace(whole=whole.cell)
        return part

    def _made(self, key: bytes, made: _Made) -> Value:
        value, facts = self.computed(made.computation, [a.value for a in made.args], made.exact)
        _compare(key, made.computation, self._facts.get(key), facts)
        return value

    def _after(self, cell: Cell) -> None:
        cell.made = None  # what it was made of need not be kept


def _compare(
    key: bytes, computation: Computation, kept: Mapping[str, Value] | None, facts: Value
) -> None:
    """Raise a NotResumable where facts are others than those that were found before."""
    if kept is not None and json.dumps(dict(kept)) != json.dumps(dict(facts)):
        raise NotResumable(
            f"{computation.function.__name__}: expected the facts that were found before "
            f"(key {key.hex()}), got others: this computer computes otherwise"
        )


def _form(cell: Cell) -> Cell:
    """A cell as an argument of what may be made again: without a value where it has a recipe."""
    return Cell(None, cell.key, False, cell.made) if isinstance(cell.made, _Made) else cell
