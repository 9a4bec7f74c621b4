"""Whether the SPUs of a run could be built: a line for each kind, in plain words."""

from __future__ import annotations

from collections.abc import Sequence

from hybridsim.reports.units_text import percent, quantity
from hybridsim.results.keys import Extent, Size

MOST_DROP = 0.05
"""IR drop along a line from which on its circuit is another one than was asked for."""
_AREAS = {
    "capacitors": "capacitors_mm2",
    "resistors": "resistors_mm2",
    "amplifiers": "amplifiers_mm2",
    "DACs": "dacs_mm2",
    "ADCs": "adcs_mm2",
}


def buildability(sizes: Sequence[Size]) -> list[str]:
    """What of the SPUs exists, what is assumed, and what nobody has built.

    Of parts with one datasheet the largest stands for all.
    """
    kinds: dict[str, list[Size]] = {}
    for size in sizes:
        if size["used"]["area_mm2"] > 0 and size["used"]["cells"]:
            kinds.setdefault(size["sheet"], []).append(size)
    return [_line(alike) for alike in kinds.values()]


def _line(alike: Sequence[Size]) -> str:
    size = max(alike, key=lambda one: one["used"]["area_mm2"])
    name = f"{size['sheet']} ({size['technology']})" if size["technology"] else size["sheet"]
    head = name if len(alike) == 1 else f"{len(alike)} x {name}, the largest with"
    assumed = ", ".join(key.replace("_", " ") for key in size["assumed"])
    whole = size["whole"]
    band = f"{_number(size['used_low_mm2'])} – {_number(size['used_high_mm2'])}"
    parts = (
        f"{head}: {parts_text(size['used'])}: {area_text(size['used'])} ({_areas(size['used'])}; "
        f"{band} within the ranges)",
        line_text(size["used"]),
        f"{quantity(size['used']['standby_w'], 'W')} at rest",
        _writing(size),
        size["adc"],
        f"assumed: {assumed}" if assumed else "",
        f"the whole part has {parts_text(whole)}: {area_text(whole)}",
        f"built: {size['built']}" if size["built"] else "nobody is known to have built it",
    )
    return "; ".join(part for part in parts if part)


def parts_text(extent: Extent) -> str:
    """How many cells and resistors."""
    cells = _count(extent["cells"], "cell")
    return f"{cells}, {_count(extent['resistors'], 'resistor')}"


def area_text(extent: Extent) -> str:
    """An area, and how many exposures it takes."""
    text = f"{_number(extent['area_mm2'])} mm²"
    if not extent["reticles"]:
        return text
    return f"{text} = {_number(extent['reticles'])} reticles"


def line_text(extent: Extent) -> str:
    """The longest line, and whether it drops too much of a voltage."""
    drop, line_ohm = extent["line_drop"], extent["line_ohm"]
    text = f"longest line {quantity(extent['line_m'], 'm')}, {quantity(line_ohm, 'Ω')}"
    if drop > MOST_DROP:
        parallel = quantity(line_ohm / (2 * drop), "Ω")
        text += f" against {parallel} of its resistors in parallel: IR drop"
    else:
        text += f", IR drop up to {percent(drop)}"
    if extent["line_rc"] > MOST_DROP:
        text += f", delay {extent['line_rc']:.2g} RC"
    return text


def _areas(extent: Extent) -> str:
    """Area by kind of part."""
    # keys of an Extent all of them, which a table of texts does not tell
    found = {name: float(extent[key]) for name, key in _AREAS.items()}  # type: ignore[literal-required]
    return ", ".join(f"{_number(area)} {name}" for name, area in found.items() if area > 0)


def _writing(size: Size) -> str:
    """How fast numbers are written, and how long writing takes beyond their transport."""
    rate, seconds = size["numbers_per_s"], size["used"]["write_s"]
    texts = [f"takes up to {quantity(rate, '').strip()} numbers a second"] if rate else []
    return ", ".join([*texts, *([f"{quantity(seconds, 's')} to write them"] if seconds else [])])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
