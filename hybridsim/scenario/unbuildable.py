"""Parts that nobody can build: converters beyond every published design.

B. Murmann, ADC Performance Survey, rev. 2025-06 (725 designs): an effective number of bits (ENOB)
of 15 ends at 40 MS/s (ISSCC 2024, 9.8); at 100 MS/s and more the best is 12.96. A converter's ENOB
is taken to be its bits - 1, as in its price.
"""

from __future__ import annotations

from hybridsim.scenario.datasheets.sheets import Datasheet
from hybridsim.scenario.machine import SpuSpec
from hybridsim.scenario.quantity import format_quantity
from hybridsim.scenario.schema import Scenario

_FASTEST_OF_15_HZ, _FAST_HZ, _BEST_WHEN_FAST = 40e6, 100e6, 12.96


def unbuildable_parts(scenario: Scenario) -> list[str]:
    """Parts of SPUs that a scenario's run uses and that do not exist, a line each."""
    if not scenario.training.algorithm.needs_spu:
        return []
    nodes = [node for node in scenario.machine.expand().nodes if isinstance(node, SpuSpec)]
    found = (unbuildable_adc(node.sheet) for node in nodes)
    return list(dict.fromkeys(text for text in found if text is not None))


def unbuildable_adc(sheet: Datasheet) -> str | None:
    """Why no such ADC exists, or None; an ideal one, and a rate of 0 (no time), never do."""
    bits, rate_hz = sheet.value("output_bits"), sheet.value("adc_rate_hz")
    if exists(bits, rate_hz):
        return None
    what = f"{bits:.0f}-bit ADCs" if bits else "ideal ADCs"
    rate = f"at {format_quantity(rate_hz, 'Hz')}" if rate_hz else "that take no time"
    return (
        f"{sheet.name}: {what} {rate}: no such part exists (Murmann's survey, rev. 2025-06: ENOB "
        "15 ends at 40 MS/s, at 100 MS/s the best is 12.96)"
    )


def exists(bits: float, rate_hz: float) -> bool:
    """Does the survey hold an ADC of at least this resolution and rate?"""
    enob = bits - 1
    if bits == 0:
        return False
    if rate_hz == 0 or rate_hz >= _FAST_HZ:
        return enob <= _BEST_WHEN_FAST
    return enob < 15 or (enob == 15 and rate_hz <= _FASTEST_OF_15_HZ)
