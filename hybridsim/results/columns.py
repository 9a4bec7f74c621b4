"""Rows to Arrow columns and back: types of the span, event and step tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from numbers import Integral, Real

import numpy as np
import pyarrow as pa

from hybridsim.results.keys import Json
from hybridsim.trace.spans import EVENT_COLUMNS, REQUEST_COLUMNS, SPAN_COLUMNS

_TYPES = {
    "int64": pa.int64(),
    "int32": pa.int32(),
    "double": pa.float64(),
    "string": pa.string(),
    "list<int64>": pa.list_(pa.int64()),
}
_RANK = (pa.null(), pa.bool_(), pa.int64(), pa.float64(), pa.string())
"""Types of step columns; a column has the first that holds all of its values."""


def _schema(columns: Sequence[tuple[str, str]]) -> pa.Schema:
    return pa.schema([(name, _TYPES[kind]) for name, kind in columns])


SPANS = _schema(SPAN_COLUMNS)
EVENTS = _schema(EVENT_COLUMNS)
REQUESTS = _schema(REQUEST_COLUMNS)
STEPS = pa.schema(
    [
        ("step", pa.int64()),
        ("start_ps", pa.int64()),
        ("end_ps", pa.int64()),
        ("train_loss", pa.float64()),
        ("energy_j", pa.float64()),
        ("staleness_steps", pa.float64()),
        ("delay_ps", pa.int64()),
    ]
)
"""Columns that every step table has; evaluations and diagnostics follow."""
STEP_MEANINGS = {
    "step": "training step, from 1",
    "start_ps": "when it began",
    "end_ps": "when its parameters stood",
    "train_loss": "loss of its batch before the update",
    "energy_j": "nominal energy of the run up to its end, static power included",
    "staleness_steps": "updates between the parameters whose system the state last relaxed for and "
    "those that it moves; mean over the readings of a step",
    "delay_ps": "asynchronous: clock time from the first reading of a step until the system that "
    "answers it is in force (pipelined: of the step before)",
    "test_loss": "at evaluations: loss on the test set, which costs no simulated time",
    "test_accuracy": "at evaluations: share of the test set that is correct",
    "solver_cosine": "at evaluations: cosine of the analog answer with the exact one",
    "solver_relative_error": "at evaluations: norm of their difference over the exact one's",
    "solver_error_settling": "of an imperfect answer's error, over the exact one's norm: "
    "an ideal device's, which did not settle for longer",
    "solver_error_rounding": "what levels of resistors and of the drive's converters add to it",
    "solver_error_device": "what else the device's parts add (mismatch, gain, offsets); K-FAC: and "
    "noise, after the converters",
    "solver_error_noise": "what noise adds",
    "solver_error_readout": "what the output's converters add",
    "solver_cosine_settling": "cosine with the exact answer, with settling alone",
    "solver_cosine_rounding": "and with levels",
    "solver_cosine_device": "and with the device's parts",
    "solver_cosine_noise": "and with noise; TNGD: with the output's converters it is solver_cosine",
    "solver_cosine_readout": "K-FAC: and with the output's converters",
    "settle_dissipation": "what the resistors dissipate from the system's start to the last "
    "reading, without noise, in V_fs^2 C",
    "minimum_dissipation": "the least that moving the state so far in that time takes, in V_fs^2 C",
    "splitting_error": "quartic regularisation: estimate of the splitting's error over the "
    "norm of the state",
    "splitting_steps": "quartic regularisation: linear steps of the last settle",
    "cg_iterations": "natural gradient by conjugate gradients: iterations of the step's solve",
    "cg_residual": "norm of the residual of the iterate that is taken, over the gradient's",
    "reduction_ratio": "Levenberg-Marquardt: reduction of the batch's loss over the predicted one",
    "damping": "Levenberg-Marquardt: lambda after the step",
    "refinement_residual": "TNGD with iterative refinement: norm of the last residual that was "
    "computed, of the answer before the last correction, over the gradient's",
    "offset_share": "TNGD where it was calibrated: norm of what offsets make of the answer, over "
    "that of the answer without",
    "rounding_shift": "K-FAC on SPUs: mean that rounding adds to a factor's diagonal",
    "inverse_residual": "K-FAC by Newton-Schulz: largest norm of I - A X over sqrt(n) where its "
    "iterations ended, of the inverses since the last line",
    "inverse_iterations": "K-FAC by Newton-Schulz: most iterations of one of these inverses",
    "inverse_fallbacks": "K-FAC by Newton-Schulz: how many of them Cholesky had to do",
}
"""What the columns of the step table mean; those that a run has no use for are absent."""


def table_of_tuples(rows: Sequence[tuple[Json, ...]], schema: pa.Schema) -> pa.Table:
    """Tuples in the order of the schema's columns, as a table; about 1.5 µs a span."""
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [_array(cells, field.type) for cells, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _array(cells: Sequence[Json], kind: pa.DataType) -> pa.Array:
    if not pa.types.is_list(kind):
        return pa.array(cells, kind)
    offsets = np.zeros(len(cells) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, cells), np.int32, len(cells)), out=offsets[1:])
    numbers = np.fromiter(chain.from_iterable(cells), np.int64, offsets[-1])
    return pa.ListArray.from_arrays(offsets, pa.array(numbers))


def table_of_steps(rows: Sequence[Mapping[str, Json]]) -> pa.Table:
    """Lines of the learning curve; columns that are new, or that other chunks lack, are welcome."""
    names = dict.fromkeys(chain(STEPS.names, *rows))
    columns = {name: [row.get(name) for row in rows] for name in names}
    return pa.table({name: _step_array(name, cells) for name, cells in columns.items()})


def _step_array(name: str, cells: Sequence[Json]) -> pa.Array:
    kind = max((_kind(cell) for cell in cells), key=_RANK.index, default=pa.null())
    if name in STEPS.names:
        kind = STEPS.field(name).type
    if kind == pa.string():
        return pa.array([cell if cell is None else str(cell) for cell in cells], kind)
    converters: dict[pa.DataType, type] = {pa.float64(): float, pa.int64(): int, pa.bool_(): bool}
    convert = converters.get(kind)
    if convert is None:
        return pa.array(cells, kind)
    return pa.array([cell if cell is None else convert(cell) for cell in cells], kind)


def _kind(cell: Json) -> pa.DataType:
    if cell is None:
        return pa.null()
    for base, kind in ((bool | np.bool_, pa.bool_()), (Integral, pa.int64()), (Real, pa.float64())):
        if isinstance(cell, base):
            return kind
    return pa.string()


def joined_schema(schemas: Iterable[pa.Schema]) -> pa.Schema:
    """Every column of all of them, each with the widest type met; numbers where there is no
    value.
    """
    kinds: dict[str, pa.DataType] = {}
    for field in chain.from_iterable(schemas):
        kinds[field.name] = max(kinds.get(field.name, pa.null()), field.type, key=_rank)
    return pa.schema(
        [(name, pa.float64() if kind == pa.null() else kind) for name, kind in kinds.items()]
    )


def _rank(kind: pa.DataType) -> int:
    return _RANK.index(kind) if kind in _RANK else len(_RANK)


def fit(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the columns of a schema: cast where narrower, null where missing."""
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def arrays(table: pa.Table) -> dict[str, np.ndarray]:
    """Columns as NumPy arrays, in the form of ``hybridsim.trace.chunks``."""
    found: dict[str, np.ndarray] = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_list(column.type):
            lengths = column.value_lengths().to_numpy(zero_copy_only=False)
            found[name] = column.flatten().to_numpy(zero_copy_only=False)
            found[f"{name}_offsets"] = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
        elif pa.types.is_string(column.type):
            found[name] = _texts(column)
        else:
            found[name] = column.to_numpy(zero_copy_only=False)
    return found


def _texts(column: pa.StringArray) -> np.ndarray:
    """Strings, or None, as objects; equal ones are one object, which is hashed once."""
    encoded = column.dictionary_encode("encode")
    words: np.ndarray = encoded.dictionary.to_numpy(zero_copy_only=False)
    found: np.ndarray = words[encoded.indices.to_numpy()]
    return found
