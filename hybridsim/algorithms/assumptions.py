"""What is taken for granted of analog parts: by the imperfections that act, and that do not."""

from __future__ import annotations

from typing import NamedTuple

from hybridsim.scenario.machine import MachineSpec, SpuSpec
from hybridsim.scenario.settings.analog import AnalogSettings


class _Said(NamedTuple):
    """Of an imperfection: what is assumed where it does not act, and of its model where it does."""

    ideal: str
    acting: str


_GATED = (
    "Amplifiers that the largest system does not need are gated off; the others draw their power "
    "all the time."
)
_SAID = {
    "full_scales": _Said(
        "Every stage of the SPU has a programmable gain that just fits each settling (automatic "
        "full scales).",
        "The peak of every amplifier stage is known when a settle ends, and programs the next; the "
        "first settle only finds the ranges. Cells are clipped where a settle ends, not while it "
        "lasts.",
    ),
    "preset": _Said("Integrators are preset to a start state at no cost.", ""),
    "mismatch": _Said(
        "No component mismatch.",
        "Resistors of arrays and inputs differ from part to part; damping resistors and capacitors "
        "are matched.",
    ),
    "thermal_noise": _Said(
        "No Johnson noise.",
        "kT/C noise of the cells' own resistors has its mean strength at every cell.",
    ),
    "bandwidth": _Said(
        "Amplifiers follow at once: no finite bandwidth.",
        "All amplifiers of a stage are as slow as the one of largest noise gain; they are settled "
        "when a settle starts, and while a stage clips their lag is not followed.",
    ),
    "finite_gain": _Said(
        "Amplifiers have infinite gain.",
        "Integrators of finite gain leak by the mean over all cells.",
    ),
    "offset": _Said("Amplifiers have no offset.", ""),
    "load_current": _Said(
        "Resistors are paid for by their heat alone, not by the current that rails supply.",
        "Amplifiers are class AB: rails supply the magnitude of the current that resistors draw.",
    ),
    "conductances": _Said(
        "A conductance out of the part's range is realised, and reported.",
        "A conductance beyond the range scales all of them down: less is relaxed in the same time. "
        "One below it is the smallest or off, whichever is nearer.",
    ),
    "signs": _Said("A negative entry takes neither an amplifier nor a resistor more.", ""),
    "converters": _Said(
        "Converters are linear and range themselves.", "Every cell has a converter of its own."
    ),
    "drift": _Said(
        "", "Drift is taken at the age that the arrays have after the commanded settling."
    ),
}


def analog_assumptions(spec: MachineSpec) -> list[str]:
    """What is assumed of a machine's SPUs."""
    spus = [node for node in spec.nodes if isinstance(node, SpuSpec)]
    found = [_GATED]
    for name, said in _SAID.items():
        acting = {name in spu.imperfections for spu in spus}
        found += [said.ideal] * (False in acting) + [said.acting] * (True in acting)
    return [text for text in found if text] + _ideal_bits(spus)


def use_assumptions(settings: AnalogSettings) -> list[str]:
    """What is assumed of how SPUs are used."""
    found = []
    if settings.settling.rule == "agreement":
        found.append("Without tensors no two readings agree: every solve settles to its bound.")
    if settings.settling.rule == "bits":
        found.append(
            "Settling to bits rests on the damping alone: that no mode is slower is for the device "
            "to keep. K-FAC without tensors knows no damping of a factor and settles to the bound."
        )
    if settings.refinement:
        found.append(
            "Without tensors refinement takes all its iterations; else it ends where residuals no "
            "longer shrink."
        )
    if settings.rounding == "stochastic":
        found.append("Rounding at random costs the GPU what rounding to nearest costs.")
    return found


def _ideal_bits(spus: list[SpuSpec]) -> list[str]:
    """What is assumed where a converter or a resistor is ideal."""
    if not any(None in (spu.input_bits, spu.bias_bits, spu.output_bits) for spu in spus):
        return []
    return ["Ideal converters and resistors are sent and priced as the link's unquantized numbers."]
