"""J of a network by its layers, next to each other in N; of a dense layer the factors alone.

A layer with weights W (m, n) that is applied at P positions has columns J_i,(o,k) = sum_p g_i,p,o
a_p,k: a its inputs, the same for all rows of an example, and g the gradients in its outputs. So a
product with J or Jᵀ contracts the d rows of an example first, and costs 2 b P N, not 2 b d N. Of
one position also

    J Jᵀ = (a aᵀ) ∘ (g gᵀ),    sum |J| = sum |g| sum |a|.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from hybridsim.circuits.rows import Base, Rows

_ELEMENTS = 1 << 21  # of a product that is formed at once, float64


class Outer(Rows):
    """Columns of a layer's weights, row-major: (o, k) is column o n + k.

    Args:
        inputs: a (b, P, n) of each example's positions.
        slopes: g (b, d, P, m): d rows for each example, which follow one another in J.
    """

    def __init__(self, inputs: Tensor, slopes: Tensor) -> None:
        self.inputs, self.slopes = inputs, slopes
        self._examples, self._each, self._positions, self._outputs = slopes.shape
        self._fan_in = inputs.shape[2]
        self.shape = (self._examples * self._each, self._outputs * self._fan_in)
        self.dtype, self.device = slopes.dtype, slopes.device

    def columns(self, part: slice) -> Tensor:
        """See ``Rows``; whole outputs are made."""
        first, last = part.start // self._fan_in, -(-part.stop // self._fan_in)
        slopes = self.slopes[..., first:last]
        if self._positions == 1:
            made = slopes[:, :, 0, :, None] * self.inputs[:, None]
        else:
            rows = slopes.transpose(2, 3).flatten(1, 2)
            made = rows @ self.inputs
        skipped = first * self._fan_in
        return made.reshape(len(self), -1)[:, part.start - skipped : part.stop - skipped]

    def above(self, *others: Rows) -> Rows:
        """See ``Rows``."""
        every = [self, *(rows for rows in others if isinstance(rows, Outer))]
        return Outer(torch.cat([r.inputs for r in every]), torch.cat([r.slopes for r in every]))

    def gram(self) -> Tensor:
        """See ``Rows``."""
        if self._positions > 1:
            return super().gram()
        inputs, slopes = self.inputs[:, 0].double(), self.slopes.double().reshape(len(self), -1)
        each = (inputs @ inputs.T).repeat_interleave(self._each, 0)
        found = (slopes @ slopes.T) * each.repeat_interleave(self._each, 1)
        return found / 2 + found.T / 2

    def times(self, vectors: Tensor) -> Tensor:
        """See ``Rows``."""
        inputs = self.inputs.double().flatten(0, 1)
        count = vectors.shape[1]
        total = inputs.new_zeros(self._examples, self._each, count)
        for outputs in self._stretches(count):
            slopes = self.slopes[..., outputs].double().flatten(2)
            first, last = outputs.start * self._fan_in, outputs.stop * self._fan_in
            weights = vectors[first:last].double().reshape(-1, self._fan_in, count)
            seen = inputs @ weights.movedim(1, 0).flatten(1)
            total += slopes @ seen.reshape(self._examples, -1, count)
        return total.reshape(len(self), count)

    def absolute_sums(self) -> tuple[Tensor, Tensor]:
        """See ``Rows``."""
        if self._positions > 1:
            return super().absolute_sums()
        inputs, slopes = self.inputs[:, 0].double().abs(), self.slopes[:, :, 0].double().abs()
        along_rows = slopes.sum(dim=2) * inputs.sum(dim=1, keepdim=True)
        return along_rows.reshape(-1), (slopes.sum(dim=1).T @ inputs).reshape(-1)

    def largest(self) -> Tensor:
        """See ``Rows``."""
        if self._positions > 1:
            return super().largest()
        return (self.inputs.abs().amax(dim=(1, 2)) * self.slopes.abs().amax(dim=(1, 2, 3))).amax()

    def transposed_times(self, weights: Tensor, base: Tensor) -> Tensor:
        """See ``Rows``."""
        result = torch.empty_like(base)
        for part, values, _ in self.combined(weights[None], lambda part: base[part].double()[None]):
            result[part] = values[0]
        return result

    def combined(
        self, weights: Tensor, base: Base | None = None, *, blocks: bool = False
    ) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
        """See ``Rows``."""
        if blocks:
            yield from super().combined(weights, base, blocks=True)
            return
        count, inputs = len(weights), self.inputs.double().flatten(0, 1)
        of_examples = weights.reshape(count, self._examples, self._each).movedim(0, 1)
        for outputs in self._stretches(count):
            slopes = self.slopes[..., outputs].double().flatten(2)
            joined = (of_examples @ slopes).reshape(self._examples, count, self._positions, -1)
            joined = joined.permute(1, 3, 0, 2).flatten(2).flatten(0, 1)
            values = (joined @ inputs).reshape(count, -1)
            part = slice(outputs.start * self._fan_in, outputs.stop * self._fan_in)
            yield part, values if base is None else values + base(part), None

    def _stretches(self, count: int) -> Iterator[slice]:
        """Of the outputs, such that ``count`` columns of their weights are not too much."""
        width = max(1, _ELEMENTS // (max(self._fan_in, self._examples * self._positions) * count))
        for start in range(0, self._outputs, width):
            yield slice(start, min(start + width, self._outputs))


class SideBySide(Rows):
    """Groups of columns next to each other, in their order."""

    def __init__(self, groups: Sequence[Rows]) -> None:
        self.groups = tuple(groups)
        first = self.groups[0]
        self._ends = list(accumulate(group.shape[1] for group in self.groups))
        self.shape = (len(first), self._ends[-1])
        self.dtype, self.device = first.dtype, first.device

    def _placed(self) -> Iterator[tuple[slice, Rows]]:
        for end, group in zip(self._ends, self.groups, strict=True):
            yield slice(end - group.shape[1], end), group

    def columns(self, part: slice) -> Tensor:
        """See ``Rows``."""
        found = []
        for place, group in self._placed():
            first, last = max(part.start, place.start), min(part.stop, place.stop)
            if first < last:
                found.append(group.columns(slice(first - place.start, last - place.start)))
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)

    def above(self, *others: Rows) -> Rows:
        """See ``Rows``."""
        rest = [rows.groups for rows in others if isinstance(rows, SideBySide)]
        pairs = zip(self.groups, *rest, strict=True)
        return SideBySide([first.above(*under) for first, *under in pairs])

    def gram(self) -> Tensor:
        """See ``Rows``."""
        total = self.groups[0].gram()
        for group in self.groups[1:]:
            total += group.gram()
        return total

    def times(self, vectors: Tensor) -> Tensor:
        """See ``Rows``."""
        found = [group.times(vectors[place]) for place, group in self._placed()]
        return torch.stack(found).sum(dim=0)

    def absolute_sums(self) -> tuple[Tensor, Tensor]:
        """See ``Rows``."""
        found = [group.absolute_sums() for group in self.groups]
        rows = torch.stack([along for along, _ in found]).sum(dim=0)
        return rows, torch.cat([columns for _, columns in found])

    def largest(self) -> Tensor:
        """See ``Rows``."""
        return torch.stack([group.largest() for group in self.groups]).amax()

    def transposed_times(self, weights: Tensor, base: Tensor) -> Tensor:
        """See ``Rows``."""
        found = [group.transposed_times(weights, base[place]) for place, group in self._placed()]
        return torch.cat(found)

    def combined(
        self, weights: Tensor, base: Base | None = None, *, blocks: bool = False
    ) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
        """See ``Rows``."""
        if blocks:
            yield from super().combined(weights, base, blocks=True)
            return
        for place, group in self._placed():
            for part, values, _ in group.combined(weights):
                there = slice(place.start + part.start, place.start + part.stop)
                yield there, values if base is None else values + base(there), None
