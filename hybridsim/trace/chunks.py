"""Chunks of a span table: a mapping from column name to a NumPy array, of bounded length.

A list column arrives as two arrays: ``parents`` holds the values of all rows one after the other,
and ``parents_offsets`` (rows + 1) where each row's values begin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hybridsim.trace.spans import SPAN_COLUMNS, SpanRow

Chunk = Mapping[str, np.ndarray]
_TYPES: dict[str, Any] = {  # Any: numpy has no one type for what a dtype is made from
    "int64": np.int64,
    "int32": np.int32,
    "double": np.float64,
    "string": object,
}


def chunk_of(rows: Sequence[SpanRow]) -> dict[str, np.ndarray]:
    """Rows as the recorder stores them, turned into columns."""
    columns = list(zip(*rows, strict=True)) or [() for _ in SPAN_COLUMNS]
    chunk: dict[str, np.ndarray] = {}
    for (name, kind), cells in zip(SPAN_COLUMNS, columns, strict=True):
        if kind == "list<int64>":
            chunk[name] = np.array([value for cell in cells for value in cell], np.int64)
            chunk[f"{name}_offsets"] = np.cumsum(
                [0, *(len(cell) for cell in cells)], dtype=np.int64
            )
        else:
            chunk[name] = np.array(cells, _TYPES[kind])
    return chunk


class Labels(dict[tuple[str, ...], int]):
    """Numbers tuples of strings in the order in which they are first met."""

    def __missing__(self, key: tuple[str, ...]) -> int:
        self[key] = len(self)
        return self[key]

    def codes(self, *columns: np.ndarray) -> np.ndarray:
        """The number of each row's tuple, shape (rows,)."""
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return np.fromiter(map(self.__getitem__, rows), np.int64, len(columns[0]))
