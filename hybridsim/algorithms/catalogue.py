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
from hybridsim.scenario.settings.algorithms import needs_spu

Program = Callable[[Session], Generator[simpy.Event, object, None]]
PROGRAMS: dict[str, Program] = {
    "sgd": first_order.run,
    "nesterov": first_order.run,
    "adam": first_order.run,
    "nadamw": first_order.run,
    "tngd": tngd.run,
    "kfac": kfac_program.run,
}


def program(algorithm: Any, spus: int) -> Program:
    """The program for an algorithm.

    Raises:
        InputError: it needs an SPU and the machine has none.
    """
    if needs_spu(algorithm) and not spus:
        raise InputError(
            f"machine: expected at least one SPU for algorithm '{algorithm.kind}', got none"
        )
    return PROGRAMS[algorithm.kind]
