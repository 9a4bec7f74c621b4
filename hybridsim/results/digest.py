"""One number for what a run found: equal for equal results, whatever the host or the file
layout.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hybridsim.results.keys import Json
from hybridsim.results.parts import BASE_SCHEMAS, Chunks

_NOT_FOUND = ("host", "thresholds", "sizes")
_NO_INTEGER = -(2**63)


def run_digest(run: Path, summary: Mapping[str, Json]) -> str:
    """SHA-256 over the column contents of steps, spans and events, and the summary without its
    ``host`` part, without ``thresholds``, which say what was asked and not what was found, and
    without ``sizes``, which follow from datasheets and shapes.

    Integers count as int64, floats as float64 (every NaN and null alike, -0 as 0); row groups,
    compression, the order of columns and the width of a type do not count.
    """
    parts: dict[str, Json] = {name: _table_digest(Chunks(run, name)) for name in BASE_SCHEMAS}
    parts["summary"] = {key: value for key, value in summary.items() if key not in _NOT_FOUND}
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


_PLAIN = (str, int, bool, type(None))


def canonical_json(value: Json) -> str:
    """JSON with sorted keys, where NaN and infinities are null."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def plain(value: Json) -> Json:
    """Mappings, sequences and numbers as JSON knows them."""
    if type(value) in _PLAIN:  # nearly all values are; the other checks take longer
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)


def _table_digest(chunks: Chunks) -> dict[str, str]:
    """SHA-256 per stream of a table: values, and lengths where values have one."""
    hashes: dict[str, Json] = {}
    for index in range(len(chunks)):
        table = chunks.table(index)
        for name in table.column_names:
            for stream, data in _streams(table[name].combine_chunks()).items():
                hashes.setdefault(f"{name}.{stream}", hashlib.sha256()).update(data)
    return {name: digest.hexdigest() for name, digest in hashes.items()}


def _streams(column: pa.Array) -> dict[str, bytes]:
    if pa.types.is_list(column.type):
        return {"length": _integers(column.value_lengths()), "int": _integers(column.flatten())}
    if pa.types.is_string(column.type):
        whole = pa.ListArray.from_arrays([0, len(column)], column.fill_null(""))
        text = pc.binary_join(whole, "")[0].as_buffer()
        return {"length": _integers(pc.binary_length(column)), "text": text.to_pybytes()}
    if pa.types.is_floating(column.type) or pa.types.is_null(column.type):
        return {"float": _floats(column)}
    return {"int": _integers(column)}


def _integers(column: pa.Array) -> bytes:
    filled = column.cast(pa.int64()).fill_null(_NO_INTEGER)
    found: bytes = filled.to_numpy(zero_copy_only=False).astype("<i8").tobytes()
    return found


def _floats(column: pa.Array) -> bytes:
    values = column.cast(pa.float64()).fill_null(math.nan).to_numpy(zero_copy_only=False)
    return (np.where(np.isnan(values), math.nan, values) + 0.0).astype("<f8").tobytes()
