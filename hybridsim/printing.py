"""Plain tables on standard output."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence


def print_rows(rows: Sequence[Mapping[str, object]]) -> None:
    """A plain table, as wide as its contents."""
    texts = [{key: _cell(value) for key, value in row.items()} for row in rows]
    widths = {key: max(len(key), *(len(row[key]) for row in texts)) for key in texts[0]}
    for row in [{key: key for key in widths}, *texts]:
        print("  ".join(row[key].ljust(width) for key, width in widths.items()).rstrip())


def print_blocks(rows: Sequence[Mapping[str, object]]) -> None:
    """A table in blocks of columns that fit the terminal, each with the first column before it."""
    first, *others = rows[0]
    width = shutil.get_terminal_size((120, 24)).columns
    widths = {key: 2 + max(len(key), *(len(_cell(row[key])) for row in rows)) for key in rows[0]}
    while others:
        fits, used = 0, widths[first]
        while fits < len(others) and (not fits or used + widths[others[fits]] <= width + 2):
            used += widths[others[fits]]
            fits += 1
        block, others = others[:fits], others[fits:]
        print_rows([{key: row[key] for key in (first, *block)} for row in rows])
        print()


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
