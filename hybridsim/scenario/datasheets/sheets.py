"""Datasheets: what a part costs, every constant with its range, status and source."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from hybridsim.errors import InputError, Problem
from hybridsim.scenario.datasheets.constants import CONSTANTS, PART_KINDS, PartKind
from hybridsim.scenario.nearest import one_of
from hybridsim.scenario.quantity import describe, format_quantity

STATUSES = ("paper", "public", "fitted", "derived", "assumed")
CONSTANT_SETS = ("paper", "realistic", "optimistic")
_sheets: dict[tuple[str, Path], tuple[Datasheet, dict[Path, str]]] = {}
_held: ContextVar[dict[tuple[str, str, Path | None], Datasheet] | None] = ContextVar(
    "_held", default=None
)


@dataclass(frozen=True, slots=True)
class Constant:
    """One number of a datasheet in SI units.

    ``status``: the papers' (paper), a public source (public), fitted to measurements
    (fitted), derived from a source (derived), a guess that reports must flag (assumed), or set in
    the scenario (given).
    """

    value: float
    low: float
    high: float
    unit: str
    status: str
    source: str


@dataclass(frozen=True)
class Datasheet:
    """A part's constants by SI name, e.g. ``capacitance_f``.

    Attributes:
        kind: of part.
        name: the file's.
        constants: by SI name.
        description: in a line.
        checked: how far its times are from measurements, in words.
        technology: what it is made in, in words.
        built: who has built it, with the reference; empty: nobody is known to have.
    """

    kind: str
    name: str
    constants: Mapping[str, Constant]
    description: str = ""
    checked: str = ""
    technology: str = ""
    built: str = ""

    def value(self, name: str) -> float:
        """Nominal value."""
        return self.constants[name].value

    def bounds(self, name: str) -> tuple[float, float]:
        """Lowest and highest plausible value."""
        constant = self.constants[name]
        return constant.low, constant.high

    @cached_property
    def numbers(self) -> tuple[tuple[str, float], ...]:
        """All nominal values: equal for parts that cost the same, whatever they are called."""
        return tuple(sorted((name, constant.value) for name, constant in self.constants.items()))

    @cached_property
    def content(self) -> bytes:
        """All constants with ranges, statuses and sources, as bytes to hash."""
        return repr((self.kind, sorted(self.constants.items()))).encode()

    def corner(self, end: Literal["low", "high"], falls_with: Collection[str] = ()) -> Datasheet:
        """The sheet with every constant of energy at one end of its range, all others nominal.

        ``falls_with``: constants at the other end, because what is asked for falls as they grow.
        """
        other: Literal["low", "high"] = "high" if end == "low" else "low"
        found = dict(self.constants)
        for spec in CONSTANTS[kind_of(self)]:
            if spec.energy:
                constant = self.constants[spec.name]
                value = getattr(constant, other if spec.name in falls_with else end)
                found[spec.name] = replace(constant, value=value)
        return replace(self, constants=found)

    def overridden(self, values: Mapping[str, float]) -> Datasheet:
        """The same part with some constants set by the user: no range, status ``given``."""
        given = {
            name: replace(
                self.constants[name], value=v, low=v, high=v, status="given", source="scenario file"
            )
            for name, v in values.items()
        }
        return replace(self, constants={**self.constants, **given})

    def with_set(self, name: str) -> Datasheet:
        """The same part under a shipped constant set (paper, realistic, optimistic)."""
        return replace(
            self, constants={**self.constants, **load_constant_set(name).get(kind_of(self), {})}
        )


def parts_folder() -> Path:
    """Where the shipped datasheets lie."""
    from importlib.resources import files

    return Path(str(files("hybridsim.models.parts")))


@lru_cache(maxsize=8)
def part_names(kind: PartKind) -> tuple[str, ...]:
    """Shipped parts of a kind (a leading underscore marks a sheet that others extend)."""
    return tuple(sorted(p.stem for p in (parts_folder() / f"{kind}s").glob("[!_]*.yaml")))


def part_path(kind: PartKind, name_or_path: str, base_dir: Path | None = None) -> Path:
    """File of a part: a path ending in .yaml (relative to ``base_dir``) or a shipped name.

    Raises:
        InputError: no such shipped part, no such file.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(os.path.join(str(base_dir or Path.cwd()), name_or_path))
    elif name_or_path in part_names(kind):
        path = parts_folder() / f"{kind}s" / f"{name_or_path}.yaml"
    else:
        expected = one_of(
            part_names(kind), name_or_path, f"a shipped {kind} or a path ending in .yaml"
        )
        raise InputError([Problem("part", None, "", expected, describe(name_or_path))])
    try:
        exists = path.is_file()
    except (OSError, ValueError):
        exists = False
    if not exists:
        raise InputError(
            [Problem("part", None, "", "an existing datasheet file", describe(name_or_path))]
        )
    return path


def load_part(kind: PartKind, name_or_path: str, base_dir: Path | None = None) -> Datasheet:
    """Datasheet of a shipped part or of a user's file.

    Raises:
        InputError: no such part, or every problem of its file.
    """
    held = _held.get()
    key = kind, str(name_or_path), base_dir
    if held is not None and key in held:
        return held[key]
    found = _read_part(part_path(kind, name_or_path, base_dir), kind)
    if held is not None:
        held[key] = found
    return found


@contextmanager
def sheets_held() -> Iterator[None]:
    """Within it every datasheet is read once: a file that changes meanwhile is not read again."""
    if _held.get() is not None:
        yield
        return
    before = _held.set({})
    try:
        yield
    finally:
        _held.reset(before)


def _read_part(path: Path, kind: PartKind) -> Datasheet:
    from hybridsim.scenario.datasheets.reading import read_datasheet

    cached = _sheets.get((kind, path))
    if cached is None or not all(_holds(file, text) for file, text in cached[1].items()):
        cached = _sheets[kind, path] = read_datasheet(kind, path)
    return cached[0]


def _holds(file: Path, text: str) -> bool:
    """Does the file still hold this text? A sheet is read anew when any file that it extends
    changes.
    """
    from hybridsim.scenario.document import DocumentError, read_file

    try:
        return read_file(file) == text
    except DocumentError:
        return False


@lru_cache(maxsize=8)
def load_constant_set(name: str) -> Mapping[PartKind, Mapping[str, Constant]]:
    """Constants that a shipped set puts over every part's: kind -> SI name -> constant."""
    from hybridsim.scenario.datasheets.reading import read_constant_set

    return read_constant_set(parts_folder() / "constants" / f"{name}.yaml")


def words_of(sheet: Datasheet) -> dict[str, str]:
    """What is said of a part beside its constants."""
    found = {key: getattr(sheet, key) for key in ("description", "technology", "built", "checked")}
    return {key: text for key, text in found.items() if text}


def list_parts() -> list[dict[str, Any]]:  # Any: texts and counts
    """One row per shipped part: kind, name, description, number of constants and how many are
    assumed.
    """
    rows = []
    for kind in PART_KINDS:
        for name in part_names(kind):
            sheet = load_part(kind, name)
            assumed = sum(c.status == "assumed" for c in sheet.constants.values())
            row = {"kind": kind, "name": name, "description": sheet.description}
            rows.append({**row, "constants": len(sheet.constants), "assumed": assumed})
    return rows


def describe_part(sheet: Datasheet) -> list[dict[str, Any]]:  # Any: texts and nothing
    """One row per constant: name, value, low and high as text, status, source, meaning."""
    rows = []
    for spec in CONSTANTS[kind_of(sheet)]:
        constant = sheet.constants[spec.name]
        texts = {key: show(getattr(constant, key), spec.unit) for key in ("value", "low", "high")}
        rows.append(
            {"constant": spec.key, **texts, "status": constant.status, "source": constant.source}
        )
        rows[-1]["meaning"] = spec.meaning
    return rows


# Any: texts, numbers and nothing.
def compare_parts(a: Datasheet, b: Datasheet) -> list[dict[str, Any]]:
    """One row per constant of two parts of a kind: values as text, ratio b/a (None: a is zero),
    statuses.

    Raises:
        InputError: the parts are of different kinds.
    """
    if a.kind != b.kind:
        raise InputError(
            [Problem("parts", None, b.name, f"a {a.kind} to compare with {a.name}", f"a {b.kind}")]
        )
    rows = []
    for spec in CONSTANTS[kind_of(a)]:
        first, second = a.constants[spec.name], b.constants[spec.name]
        row = {
            "constant": spec.key,
            "a": show(first.value, spec.unit),
            "b": show(second.value, spec.unit),
        }
        ratio = second.value / first.value if first.value else None
        rows.append({**row, "ratio": ratio, "status_a": first.status, "status_b": second.status})
    return rows


def show(value: float, unit: str) -> str:
    """A constant's number as people write it."""
    return format_quantity(value, unit) if unit else f"{value:.6g}"


def kind_of(sheet: Datasheet) -> PartKind:
    """The kind of part that a sheet is of."""
    return _kind(sheet.kind)


def _kind(kind: str) -> PartKind:
    return next(k for k in PART_KINDS if k == kind)
