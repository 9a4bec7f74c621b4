"""Which circuits serve which algorithm."""

from __future__ import annotations

from collections.abc import Iterator

from hybridsim.scenario.fields import Complaint
from hybridsim.scenario.machine import Machine
from hybridsim.scenario.settings.base import AlgorithmSettings
from hybridsim.scenario.settings.kfac import Kfac


def circuit_complaints(machine: Machine, algorithm: AlgorithmSettings) -> Iterator[Complaint]:
    """What does not go together of the SPUs' circuits and what is to be solved on them."""
    choices = machine.spu_choices()
    if not algorithm.needs_spu or not choices:
        return
    first = next(iter(choices.values()))
    for path, choice in choices.items():
        place, got = ("machine", *path, "circuit"), f"'{choice.circuit}'"
        if (choice.circuit, choice.dual_rail) != (first.circuit, first.dual_rail):
            rails = " with dual_rail" if first.dual_rail else ""
            expected = f"one circuit for all SPUs ('{first.circuit}'{rails})"
            yield Complaint(place, expected, got + " with dual_rail" * choice.dual_rail)
        if choice.circuit == "summing":
            if choice.dual_rail:
                expected = "false under circuit: summing (amplifiers invert)"
                yield Complaint(("machine", *path, "dual_rail"), expected, "True")
            continue
        if not isinstance(algorithm, Kfac):
            expected = (
                f"'summing' for algorithm '{algorithm.kind}' (J and its transpose are arrays)"
            )
            yield Complaint(place, expected, got)
            continue
        if choice.circuit == "capacitive" and algorithm.method != "noise":
            expected = "method: noise, or a circuit whose mean sees the matrix"
            yield Complaint(place, expected, f"{got} with method: {algorithm.method}")
        if algorithm.upload == "activations":
            yield Complaint(place, "'summing' under upload: activations (two arrays)", got)
        if algorithm.tiling:
            yield Complaint(place, "'summing' under tiling", got)
