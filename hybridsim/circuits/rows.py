"""J (r, N) as passes over it in float64, block by block along N: only a small upcast buffer exists.

J is a tensor (``Explicit``), or is made as it is read: ``Rows`` needs to know no more than some of
its columns, in the type that they are sent in. A subclass may know products, Gram matrix or sums
of magnitudes better (``layered``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from hybridsim.circuits.precision import largest_magnitude

Change = Callable[[slice, Tensor], Tensor]
"""What becomes of columns: from which they are and J[:, columns] to what stands in their place."""
Base = Callable[[slice], Tensor]

_CPU_ELEMENTS = 1 << 18  # 2 MiB of float64: stays in the cache of a core
_GPU_ELEMENTS = 1 << 25  # 256 MiB: few launches
_GRAM_ROWS = 48  # rows of a panel of a Gram matrix: whole rows of a BLAS kernel (6, 12 or 24)
_MADE_BYTES = 1 << 27  # of columns that are made at once; a few times that while they are changed


class Rows(ABC):
    """J (r, N).

    Attributes:
        shape: (r, N).
        dtype: the floating-point type of its entries.
        device: where they lie.
    """

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device

    @abstractmethod
    def columns(self, part: slice) -> Tensor:
        """J[:, part] (r, n) in the type of J; do not write to it."""

    def mapped(self, change: Change) -> Rows:
        """J with ``change`` in place of its columns, element by element: as resistors hold it."""
        return Mapped(self, change)

    def zeros(self, size: int) -> Tensor:
        """A vector (size,) in the type of J."""
        return torch.zeros(size, dtype=self.dtype, device=self.device)

    def above(self, *others: Rows) -> Rows:
        """The rows of several, one set under the other; all made alike.

        Raises:
            TypeError: they cannot be joined.
        """
        raise TypeError(f"{type(self).__name__} cannot be joined with {len(others)} others")

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def key(self) -> tuple[tuple[int, int], torch.dtype]:
        """What work depends on."""
        return self.shape, self.dtype

    def meta(self) -> Tensor:
        """J as a processor has it, without numbers: work is counted with this."""
        return torch.empty(self.shape, dtype=self.dtype, device="meta")

    @property
    def _width(self) -> int:
        elements = _CPU_ELEMENTS if self.device.type == "cpu" else _GPU_ELEMENTS
        return max(64, elements // max(len(self), 1))

    def chunks(self) -> Iterator[slice]:
        """Columns that are made at once, whole blocks of them."""
        blocks = _MADE_BYTES // (self._width * max(len(self), 1) * self.dtype.itemsize)
        width = self._width * max(1, blocks)
        for start in range(0, self.shape[1], width):
            yield slice(start, min(start + width, self.shape[1]))

    def column_blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield ``(columns, J[:, columns] in float64)`` over all N columns.

        A block lives until the next one, which takes its memory; it may be J itself: do not write
        to it.
        """
        width, raised = min(self._width, self.shape[1]), self.dtype == torch.float64
        size = 0 if raised else len(self) * width
        buffer = torch.empty(size, dtype=torch.float64, device=self.device)
        for chunk in self.chunks():
            made = self.columns(chunk)
            for start in range(0, made.shape[1], width):
                block = made[:, start : start + width]
                first = chunk.start + start
                part = slice(first, first + block.shape[1])
                if not raised:
                    block = buffer[: block.numel()].view(block.shape).copy_(block)
                yield part, block

    def gram(self) -> Tensor:
        """J Jᵀ (r, r) float64, exactly symmetric; N r² FLOP and N r more for each row of a panel.

        Panels of rows, each up to its diagonal block; what lies above is mirrored.
        """
        rows = len(self)
        lower = torch.zeros((rows, rows), dtype=torch.float64, device=self.device)
        for _, block in self.column_blocks():
            for start in range(0, rows, _GRAM_ROWS):
                end = min(start + _GRAM_ROWS, rows)
                lower[start:end, :end].addmm_(block[start:end], block[:end].T)
        return lower.tril() + lower.tril(-1).T

    def times(self, vectors: Tensor) -> Tensor:
        """J V (r, k) float64 for V (N, k)."""
        # A few columns are multiplied much faster where each lies in one piece, result and factor.
        columns = vectors.T.double().contiguous()
        total = columns.new_zeros((len(columns), len(self)))
        for part, block in self.column_blocks():
            total.T.addmm_(block, columns[:, part].T)
        return total.T

    def absolute_sums(self) -> tuple[Tensor, Tensor]:
        """Sums of |J| along each row (r,) and each column (N,), float64."""
        rows = torch.zeros(len(self), dtype=torch.float64, device=self.device)
        columns = rows.new_empty(self.shape[1])
        for part, block in self.column_blocks():
            magnitudes = block.abs()
            rows += magnitudes.sum(dim=1)
            columns[part] = magnitudes.sum(dim=0)
        return rows, columns

    def largest(self) -> Tensor:
        """Largest |J_ij|, 0-dim in the type of J."""
        found = [largest_magnitude(self.columns(chunk)) for chunk in self.chunks()]
        return torch.stack(found).amax()

    def transposed_times(self, weights: Tensor, base: Tensor) -> Tensor:
        """``base + Jᵀ w`` (N,) for w (r,), summed in float64, rounded once to the type of ``base``
        (N,).
        """
        result = torch.empty_like(base)
        for part, block in self.column_blocks():
            result[part] = base[part].double() + block.T @ weights
        return result

    def combined(
        self, weights: Tensor, base: Base | None = None, *, blocks: bool = False
    ) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
        """Yield ``(columns, base(columns) + W J[:, columns])`` for W (k, r) float64.

        Args:
            weights: W, in one piece: BLAS takes few rows times a block fast.
            base: what is added, (k, n) for n columns; nothing.
            blocks: ``J[:, columns]`` in float64 is asked for too, in third place, of the columns
                that ``column_blocks`` yields.
        """
        for part, block in self.column_blocks():
            if base is None:
                yield part, weights @ block, block
            else:
                yield part, torch.addmm(base(part), weights, block), block


class Explicit(Rows):
    """J as a tensor (r, N)."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.shape = (tensor.shape[0], tensor.shape[1])
        self.dtype, self.device = tensor.dtype, tensor.device

    def columns(self, part: slice) -> Tensor:
        """See ``Rows``; a view."""
        return self.tensor[:, part]

    def chunks(self) -> Iterator[slice]:
        """All at once: nothing is made."""
        yield slice(0, self.shape[1])

    def mapped(self, change: Change) -> Rows:
        """See ``Rows``; another tensor."""
        return Explicit(change(slice(0, self.shape[1]), self.tensor))

    def above(self, *others: Rows) -> Rows:
        """See ``Rows``."""
        every = [self, *others]
        return Explicit(torch.cat([rows.tensor for rows in every if isinstance(rows, Explicit)]))


class Mapped(Rows):
    """Rows that are changed as they are read."""

    def __init__(self, source: Rows, change: Change) -> None:
        self.source, self.change = source, change
        self.shape, self.dtype, self.device = source.shape, source.dtype, source.device

    def columns(self, part: slice) -> Tensor:
        """See ``Rows``."""
        return self.change(part, self.source.columns(part))


def as_rows(jacobian: Tensor | Rows) -> Rows:
    """A tensor (r, N) as rows; rows as they are.

    Raises:
        ValueError: the tensor is no matrix of floating-point numbers.
    """
    if isinstance(jacobian, Rows):
        return jacobian
    if jacobian.ndim != 2 or not jacobian.is_floating_point():
        raise ValueError(
            f"expected a floating-point Jacobian (r, N), got {jacobian.dtype} "
            f"{tuple(jacobian.shape)}"
        )
    return Explicit(jacobian)


def cross_gram(left: Rows, right: Rows) -> Tensor:
    """L Rᵀ (r, r) float64 for two arrays (r, N)."""
    total = torch.zeros((len(left), len(right)), dtype=torch.float64, device=left.device)
    for (_, block), (_, other) in zip(left.column_blocks(), right.column_blocks(), strict=True):
        total.addmm_(block, other.T)
    return total
