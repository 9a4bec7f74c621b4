"""Discrete-event simulator of hybrid digital-analog training hardware with real Ornstein-Uhlenbeck
numerics.

import hybridsim
run = hybridsim.run(hybridsim.load("tngd-digits"))
run.steps, run.spans, run.energy, run.summary
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybridsim.results.read import Run as Run
    from hybridsim.scenario.load import load as load
    from hybridsim.scenario.schema import Scenario as Scenario
    from hybridsim.simulate import run as run

__version__ = "0.1.0"
__all__ = ["Run", "Scenario", "load", "run"]

_HOMES = {
    "load": "hybridsim.scenario.load",
    "Scenario": "hybridsim.scenario.schema",
    "run": "hybridsim.simulate",
    "Run": "hybridsim.results.read",
}


def __getattr__(name: str) -> Any:
    """Import on first use: loading a scenario needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hybridsim' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
