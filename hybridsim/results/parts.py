"""Part files: a table that grows while the run goes on, one closed parquet file at a time.

A parquet file without its footer is unreadable, so a part takes its name when it is complete
(``hybridsim.files``): whatever is called ``part-*.parquet`` can be read, also after a crash.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hybridsim.errors import InputError
from hybridsim.files import cannot_write, whole_file
from hybridsim.results.columns import EVENTS, REQUESTS, SPANS, STEPS, arrays, fit, joined_schema

BASE_SCHEMAS = {"spans": SPANS, "events": EVENTS, "steps": STEPS, "requests": REQUESTS}
ROWS_PER_GROUP = 50_000
_FORM: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}


def write_part(table: pa.Table, folder: Path, index: int) -> None:
    """Write one part and close it."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    with whole_file(folder / f"part-{index:05d}.parquet") as file:
        pq.write_table(table, file, **_FORM)


def files_of(run: Path, name: str) -> list[Path]:
    """The files that hold a table of a run: the merged one, or the parts written so far, in
    order.
    """
    merged = run / f"{name}.parquet"
    return [merged] if merged.is_file() else sorted((run / name).glob("part-*.parquet"))


class _File(NamedTuple):
    """A parquet file, and what its footer says."""

    path: Path
    schema: pa.Schema
    groups: int
    rows: int


def _described(path: Path) -> _File:
    """What is in a file, before anything is read of it.

    Raises:
        InputError: it is damaged.
    """
    with _opened(path) as opened:
        schema, footer = opened.schema_arrow.remove_metadata(), opened.metadata
        return _File(path, schema, footer.num_row_groups, footer.num_rows)


def _schema_of(files: Sequence[_File], base: pa.Schema) -> pa.Schema:
    """The columns of all files together; the base columns come first.

    Raises:
        InputError: a file has a base column of another type.
    """
    for file in files:
        for field in base:
            if field.name in file.schema.names and file.schema.field(field.name).type != field.type:
                got = file.schema.field(field.name).type
                raise InputError(f"{file.path}: {field.name}: expected {field.type}, got {got}")
    return joined_schema([base, *(file.schema for file in files)])


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[pq.ParquetFile]:
    """A file to read, every page with its checksum.

    Raises:
        InputError: it is damaged.
    """
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as opened:
            yield opened
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
        text = " ".join(str(error).split())
        raise InputError(
            f"{file}: expected a whole parquet file, got: {text}; remove it to read the rest"
        ) from error


def merge_parts(run: Path, name: str) -> None:
    """Join the parts of a table into one file with row groups of equal length, and remove the
    parts.

    One row group is in memory at a time; a table of one part is that part. The groups do not depend
    on how the run was cut into parts (which depends on the host's clock), so neither does anything
    that is summed over them.
    """
    folder, target = run / name, run / f"{name}.parquet"
    parts = [_described(path) for path in sorted(folder.glob("part-*.parquet"))]
    schema = _schema_of(parts, BASE_SCHEMAS[name])
    if [(part.schema, part.rows <= ROWS_PER_GROUP) for part in parts] == [(schema, True)]:
        _rename(parts[0].path, target)
    else:
        with whole_file(target) as file, pq.ParquetWriter(file, schema, **_FORM) as writer:
            for table in _equal_groups((fit(group, schema) for group in _groups(parts)), schema):
                writer.write_table(table, row_group_size=ROWS_PER_GROUP)
    remove_parts(folder)


def _rename(path: Path, target: Path) -> None:
    try:
        path.replace(target)
    except OSError as error:
        raise cannot_write(target, error) from error


def remove_parts(folder: Path) -> None:
    """Remove a folder of parts; what else lies in it stays."""
    if folder.is_dir():
        for part in (*folder.glob("part-*.parquet"), *folder.glob("part-*.tmp")):
            part.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()


def _groups(files: Sequence[_File]) -> Iterator[pa.Table]:
    for file in files:
        with _opened(file.path) as opened:
            for group in range(file.groups):
                yield opened.read_row_group(group)


def _equal_groups(tables: Iterator[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    pending = schema.empty_table()
    for table in tables:
        pending = pa.concat_tables([pending, table])
        while pending.num_rows >= ROWS_PER_GROUP:
            yield pending.slice(0, ROWS_PER_GROUP)
            pending = pending.slice(ROWS_PER_GROUP)
    if pending.num_rows:
        yield pending


class Chunks(Sequence[Mapping[str, np.ndarray]]):
    """A table of a run as a sequence of chunks, each read from disk when it is asked for.

    Args:
        run: the run folder.
        name: ``spans``, ``events`` or ``steps``.
        columns: what to read; all by default.
    """

    def __init__(self, run: Path, name: str, columns: Sequence[str] | None = None) -> None:
        files = [_described(path) for path in files_of(run, name)]
        self._schema = _schema_of(files, BASE_SCHEMAS[name])
        if columns is not None:
            self._schema = pa.schema([self._schema.field(column) for column in columns])
        self._places = [(file, group) for file in files for group in range(file.groups)]

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, np.ndarray]]: ...
    def __getitem__(self, index: int | slice) -> Any:  # Any: the overloads say which
        """Read one chunk (or several)."""
        if isinstance(index, slice):
            return [arrays(self.table(i)) for i in range(*index.indices(len(self)))]
        return arrays(self.table(index))

    def table(self, index: int) -> pa.Table:
        """Read one chunk as an Arrow table."""
        file, group = self._places[index]
        present = [name for name in self._schema.names if name in file.schema.names]
        with _opened(file.path) as opened:
            return fit(opened.read_row_group(group, columns=present), self._schema)

    def whole(self) -> pa.Table:
        """The whole table in memory."""
        return pa.concat_tables([self._schema.empty_table(), *map(self.table, range(len(self)))])
