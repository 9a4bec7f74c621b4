"""What varies in a study: axes with their values, and every combination of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from hybridsim.scenario.document import Node
from hybridsim.scenario.quantity import Raw, unit_of
from hybridsim.studies.values import number, text

_DIGITS = 6


@dataclass(frozen=True)
class Axis:
    """Fields that vary together.

    Attributes:
        kind: as the study file says.
        nodes: the values of each field, in order, with their places in the study file.
        sides: the sides that it applies to.
        index: its number in the study file, from 0.
    """

    kind: Literal["grid", "zip", "sample"]
    nodes: Mapping[str, tuple[Node, ...]]
    sides: tuple[str, ...]
    index: int

    @property
    def fields(self) -> tuple[str, ...]:
        """Its dotted fields."""
        return tuple(self.nodes)

    @property
    def label(self) -> str:
        """Its fields in one text."""
        return ", ".join(self.nodes)

    def values(self, field: str) -> tuple[Raw, ...]:
        """The values of one of its fields, as the file writes them."""
        return tuple(node.plain() for node in self.nodes[field])

    def __len__(self) -> int:
        """How many values each of its fields has."""
        return len(next(iter(self.nodes.values())))


class Range(NamedTuple):
    """Where a sampled axis draws its values.

    Attributes:
        low: as the file writes it.
        high: as the file writes it.
        log: uniform in the logarithm.
        whole: only whole numbers, each equally likely (between them, under ``log``, by its share).
    """

    low: Raw
    high: Raw
    log: bool
    whole: bool

    def at(self, share: float) -> Raw:
        """The value at a share of the way from low to high, as the file would write it, with no
        more digits than it takes to tell such values apart.
        """
        low, high = number(self.low, self.low), number(self.low, self.high)
        assert low is not None and high is not None, "checked"
        start, stop = (low - 0.5, high + 0.5) if self.whole else (low, high)
        if self.log:
            value = math.exp(math.log(start) + share * (math.log(stop) - math.log(start)))
        else:
            value = start + share * (stop - start)
        if self.whole:
            return min(max(round(value), int(low)), int(high))
        largest = max(abs(low), abs(high))
        digits = _DIGITS + max(math.floor(math.log10(largest / (high - low))), 0)
        rounded = float(f"{value:.{min(digits, 17)}g}")
        example = self.low if unit_of(self.low) is not None else 0.5
        return text(example, min(max(rounded, low), high))


def latin_hypercube(ranges: Sequence[Range], count: int, seed: int) -> list[list[Raw]]:
    """``count`` values from each range, such that each of ``count`` equally likely slices of every
    range has one of them; a list for each range.
    """
    from scipy.stats import qmc  # slow to import

    shares = qmc.LatinHypercube(len(ranges), seed=seed).random(count)
    return [
        [span.at(float(share)) for share in shares[:, column]] for column, span in enumerate(ranges)
    ]


def combinations(axes: Sequence[Axis]) -> Iterator[dict[str, Node]]:
    """Every combination of the axes' values, the last axis fastest; sampled axes vary together, in
    the place of their first.
    """
    for chosen in itertools.product(*(range(len(group[0])) for group in _groups(axes))):
        yield {
            field: nodes[place]
            for place, group in zip(chosen, _groups(axes), strict=True)
            for axis in group
            for field, nodes in axis.nodes.items()
        }


def values_of_side(axes: Sequence[Axis], side: str) -> Iterator[dict[str, Node]]:
    """Every combination of the values that apply to a side, each once."""
    yield from combinations([axis for axis in axes if side in axis.sides])


def number_of_combinations(axes: Sequence[Axis]) -> int:
    """How many there are: 1 without axes."""
    return math.prod(len(group[0]) for group in _groups(axes))


def _groups(axes: Sequence[Axis]) -> list[list[Axis]]:
    """Axes that vary together."""
    groups: list[list[Axis]] = []
    sampled: list[Axis] = []
    for axis in axes:
        if axis.kind != "sample":
            groups.append([axis])
        elif sampled:
            sampled.append(axis)
        else:
            sampled = [axis]
            groups.append(sampled)
    return groups
