"""Which program runs which kind of algorithm."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import simpy

from hybridsim.algorithms.first_order import program as first_order
from hybridsim.algorithms.kfac import program as kfac_program
from hybridsim.algorithms.session import Session
from hybridsim.algorithms.tngd import program as tngd
from hybridsim.errors import InputError
from hybridsim.scenario.settings import OptimizerSettings

Program = Callable[[Session], Generator[simpy.Event, object, None]]
PROGRAMS: dict[str, Program] = {
    "tngd": tngd.run,
    "kfac": kfac_program.run,
}


def program(algorithm: Any, spus: int) -> Program:
    """The program for an algorithm; an optimizer by itself trains on the gradient.

    Raises:
        InputError: it needs an SPU and the machine has none.
    """
    if algorithm.needs_spu and not spus:
        raise InputError(
            f"machine: expected at least one SPU for algorithm '{algorithm.kind}', got none"
        )
    if isinstance(algorithm, OptimizerSettings):
        return first_order.run
    return PROGRAMS[algorithm.kind]
