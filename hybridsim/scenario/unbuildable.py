"""Parts that nobody can build: converters beyond the frontier of published designs.

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
_SURVEY = "Murmann's survey, rev. 2025-06"


def unbuildable_parts(scenario: Scenario) -> list[str]:
    """Parts of SPUs that a scenario's run uses and that do not exist, a line each."""
    if not scenario.training.algorithm.needs_spu:
        return []
    nodes = [node for node in scenario.machine.expand().nodes if isinstance(node, SpuSpec)]
    found = (unbuildable_adc(node.sheet) for node in nodes)
    return list(dict.fromkeys(text for text in found if text is not None))


def unbuildable_adc(sheet: Datasheet) -> str | None:
    """Why no such ADC exists, or None; an ideal one, and a rate of 0 (no time), never do."""
    if _exists(sheet):
        return None
    return (
        f"{sheet.name}: {_adcs(sheet)}: no such part exists ({_SURVEY}: ENOB "
        "15 ends at 40 MS/s, at 100 MS/s the best is 12.96)"
    )


def adc_text(sheet: Datasheet) -> str:
    """A datasheet's ADCs, and whether the survey has such a part."""
    verdict = "exist" if _exists(sheet) else "do not exist"
    return f"{_adcs(sheet)} {verdict} ({_SURVEY})"


def _exists(sheet: Datasheet) -> bool:
    return exists(sheet.value("output_bits"), sheet.value("adc_rate_hz"))


def _adcs(sheet: Datasheet) -> str:
    bits, rate_hz = sheet.value("output_bits"), sheet.value("adc_rate_hz")
    what = f"{bits:.0f}-bit ADCs" if bits else "ideal ADCs"
    return f"{what} at {format_quantity(rate_hz, 'Hz')}" if rate_hz else f"{what} that take no time"


def exists(bits: float, rate_hz: float) -> bool:
    """Does the survey hold an ADC of at least this resolution and rate?"""
    return bits != 0 and bits - 1 <= best_enob(rate_hz)


def best_enob(rate_hz: float) -> float:
    """The frontier: the largest ENOB of a published ADC of at least this rate; 0: of any.

    Between 40 and 100 MS/s it lies below 15, and no whole number of bits is lost by taking 14.
    """
    if rate_hz == 0 or rate_hz >= _FAST_HZ:
        return _BEST_WHEN_FAST
    return 15.0 if rate_hz <= _FASTEST_OF_15_HZ else 14.0
