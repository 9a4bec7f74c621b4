"""What workers need to know of a point."""

from __future__ import annotations

from typing import NamedTuple

from hybridsim.scenario.schema import Scenario


class Asked(NamedTuple):
    """A point that is to be evaluated: its id, and what is run."""

    id: str
    scenario: Scenario
