"""What is assumed of the analog part, by the imperfections that act."""

from __future__ import annotations

from hybridsim.algorithms.base import ANALOG_ASSUMPTIONS
from hybridsim.scenario.machine import MachineSpec, SpuSpec

_FULL_SCALES, _GATES, _PRESET, _ = ANALOG_ASSUMPTIONS
_OFF = {
    "mismatch": "component mismatch",
    "thermal_noise": "Johnson noise",
    "bandwidth": "finite amplifier bandwidth",
}
_ACTING = {
    "full_scales": "The peak of every amplifier stage is known when a settle ends; the first "
    "settle only finds the ranges. Cells are clipped where a settle ends, not while it lasts.",
    "mismatch": "Damping resistors and capacitors match; arrays, feedback and input resistors do "
    "not.",
    "thermal_noise": "kT/C noise of the cells' own resistors has its mean strength at every cell.",
    "bandwidth": "All amplifiers of a stage are as slow as the one of largest noise gain; they are "
    "settled when a settle starts, and while a stage clips their lag is not followed.",
    "finite_gain": "Integrators of finite gain leak by the mean over all cells.",
    "conductances": "A conductance beyond the range scales all of them down: less is relaxed in "
    "the same time. One below it is the smallest or off, whichever is nearer.",
    "converters": "Every cell has a converter of its own.",
    "drift": "Drift is taken at the age that the arrays have after the commanded settling.",
}


def analog_assumptions(spec: MachineSpec) -> list[str]:
    """Of the machine's SPUs: what does not act is assumed away, what acts in a stated form."""
    spus = [node for node in spec.nodes if isinstance(node, SpuSpec)]
    acting = frozenset[str]().union(*(spu.imperfections for spu in spus))
    found = [_GATES]
    if "full_scales" not in acting:
        found.insert(0, _FULL_SCALES)
    if "preset" not in acting:
        found.append(_PRESET)
    off = [text for name, text in _OFF.items() if name not in acting]
    if off:
        found.append(", ".join(f"{'No' if k == 0 else 'no'} {t}" for k, t in enumerate(off)) + ".")
    return [*found, *(text for name, text in _ACTING.items() if name in acting)]
