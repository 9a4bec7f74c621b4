"""Finds an algorithm's package by the name of its settings."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from hybridsim.algorithms.base import Algorithm
from hybridsim.algorithms.first_order.program import FirstOrder
from hybridsim.scenario.settings.base import AlgorithmSettings, OptimizerSettings

Kind = type[Algorithm[Any]]  # Any: whatever its settings


def algorithm_of(settings: AlgorithmSettings) -> Kind:
    """The algorithm that has these settings: an optimizer alone is first-order training.

    Any other is the one subclass of ``Algorithm`` in ``hybridsim/algorithms/<kind>/program.py``.
    """
    if isinstance(settings, OptimizerSettings):
        return FirstOrder
    module = import_module(f"hybridsim.algorithms.{settings.kind}.program")
    found: list[Kind] = [
        item
        for item in vars(module).values()
        if isinstance(item, type)
        and issubclass(item, Algorithm)
        and item.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise TypeError(f"{module.__name__}: expected one subclass of Algorithm, got {found}")
    return found[0]
