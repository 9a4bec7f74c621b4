"""Whether a system fits an SPU."""

from __future__ import annotations

from collections.abc import Sequence

from hybridsim.circuits.load import Load
from hybridsim.errors import CapacityError
from hybridsim.hardware.lane import Label
from hybridsim.hardware.size import too_large
from hybridsim.scenario.machine import SpuSpec


def larger(one: Load, other: Load) -> Load:
    """What serves either of two systems."""
    return Load(
        cells=max(one.cells, other.cells),
        resistors=max(one.resistors, other.resistors),
        amplifiers=max(one.amplifiers, other.amplifiers),
        rows=max(one.rows, other.rows),
    )


def check_capacity(
    node: SpuSpec, lacking: Sequence[tuple[str, int, float]], largest: Load, label: Label
) -> None:
    """Args:
        node: the device.
        lacking: what an operation needs more of than it has: (constant, needed, available).
        largest: what serves all systems so far, this one included.
        label: the operation.

    Raises:
        CapacityError: it lacks something, or is too large to be built.
    """
    layer = f" of layer '{label.layer}'" if label.layer else ""
    for name, needed, available in lacking:
        raise CapacityError(
            f"{node.name}: '{label.operation}'{layer} needs {needed} {name}, and "
            f"{node.sheet.name} has {available:.0f}; choose a larger part "
            f"(machine.spus.{node.name}), a smaller workload or training.batch_size"
        )
    if reason := too_large(node, largest):
        raise CapacityError(
            f"{node.name}: with '{label.operation}'{layer} {reason}; choose a denser part or "
            "fewer converters, a smaller workload or training.batch_size, or another "
            "machine.spus.area_limit"
        )
