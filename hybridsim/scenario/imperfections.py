"""Which imperfections of an SPU act in a run; how large they are is its datasheet's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from hybridsim.scenario.fields import Complaint, Strict, complain

_SWITCH = "; default: as the base says"


class Imperfections(Strict):
    """A switch for each; ``base`` sets all that are not set here."""

    base: Literal["ideal", "realistic"] = Field(
        "realistic", description="ideal: none of them acts; realistic: all of them"
    )
    mismatch: bool | None = Field(
        None, description=f"parts differ, J and its transpose apart{_SWITCH}"
    )
    thermal_noise: bool | None = Field(None, description=f"kT/C noise{_SWITCH}")
    finite_gain: bool | None = Field(None, description=f"of amplifiers{_SWITCH}")
    bandwidth: bool | None = Field(
        None, description=f"of amplifiers, and the power that it costs{_SWITCH}"
    )
    offset: bool | None = Field(None, description=f"of amplifiers{_SWITCH}")
    load_current: bool | None = Field(
        None, description=f"amplifiers supply what resistors draw, from their rails{_SWITCH}"
    )
    full_scales: bool | None = Field(
        None, description=f"gains are chosen from the past, and stages clip{_SWITCH}"
    )
    conductances: bool | None = Field(
        None, description=f"a smallest and a largest one; what it takes to fit in{_SWITCH}"
    )
    preset: bool | None = Field(
        None, description=f"start states and discharges take time and energy{_SWITCH}"
    )
    holding: bool | None = Field(None, description=f"a held state dissipates{_SWITCH}")
    signs: bool | None = Field(
        None, description=f"negative entries take amplifiers or resistors{_SWITCH}"
    )
    converters: bool | None = Field(None, description=f"non-linear, ranged from the past{_SWITCH}")
    dead_cells: bool | None = Field(None, description=f"some cells do not work{_SWITCH}")
    drift: bool | None = Field(None, description=f"resistors drift between writes{_SWITCH}")

    @model_validator(mode="after")
    def _differ(self) -> Imperfections:
        """A switch that says what the base says is a base that was forgotten."""
        on = self.base == "realistic"
        same = [name for name in SWITCHES if getattr(self, name) is on]
        other = "base: ideal beside it" if on else "base: realistic beside it"
        expected = f"{str(not on).lower()} (the base is {self.base}), or {other}"
        complain([Complaint((name,), expected, str(on).lower()) for name in same])
        return self

    @property
    def acting(self) -> frozenset[str]:
        """The names of those that act."""
        given = {name: getattr(self, name) for name in SWITCHES}
        default = self.base == "realistic"
        return frozenset(name for name, on in given.items() if (default if on is None else on))


SWITCHES = tuple(name for name in Imperfections.model_fields if name != "base")
"""Names of the imperfections."""
READ_WITH: dict[str, tuple[str, ...]] = {
    "smallest_conductance": ("conductances",),
    "temperature_k": ("thermal_noise",),
    "noise_excess": ("thermal_noise",),
    "mismatch": ("mismatch",),
    "amplifier_gain": ("finite_gain",),
    "gain_bandwidth_hz": ("bandwidth",),
    "load_capacitance_f": ("bandwidth",),
    "overdrive_v": ("bandwidth",),
    "rail_v": ("bandwidth", "load_current"),
    "offset_v": ("offset",),
    "headroom": ("full_scales",),
    "gain_step": ("full_scales",),
    "preset_resistance_ohm": ("preset",),
    "nonlinearity": ("converters",),
    "dead_share": ("dead_cells",),
    "drift_per_decade": ("drift",),
}
"""Constants of a datasheet that only imperfections read, and which."""
REALISTIC = Imperfections.model_validate({})
