"""What ``check`` finds out of a scenario that is valid; whatever it cannot, it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hybridsim.errors import CapacityError, InputError
from hybridsim.reports.buildability import buildability
from hybridsim.scenario.own_constants import own_constants
from hybridsim.scenario.unused import unused_fields

if TYPE_CHECKING:  # they bring torch
    from hybridsim.scenario.schema import Scenario
    from hybridsim.tasks.task import Task


class Checked(NamedTuple):
    """Fields that change nothing, lines on the size of the SPUs, and what was not checked."""

    unused: list[str]
    sizes: list[str]
    unknown: list[str]


def checked(scenario: Scenario) -> Checked:
    """All that can be known before a run; the network is shapes alone.

    Raises:
        CapacityError: something does not fit.
    """
    found = Checked(unused_fields(scenario), [], [])
    source = scenario.workload.source
    if source.endswith(".py"):
        found.unknown.append(f"{source} and its options (they are when it runs)")
    try:
        if found.unknown:
            raise InputError("the workload is not loaded")
        _by_shapes(scenario, found)
    except CapacityError:
        raise
    except InputError as error:
        found.unknown.extend(f"{what}: {error}" for what in _asked(scenario))
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        found.unknown.extend(f"{what}: torch is not installed" for what in _asked(scenario))
    return found


def _asked(scenario: Scenario) -> list[str]:
    """What shapes tell."""
    asked = {
        "which constants of parts change a number": bool(own_constants(scenario)),
        "how large the SPUs are": scenario.training.algorithm.needs_spu,
        "whether everything fits": True,
    }
    return [what for what, wanted in asked.items() if wanted]


def _by_shapes(scenario: Scenario, found: Checked) -> None:
    from hybridsim.unread import load_shapes, sizes_of  # slow: it brings torch

    shapes = load_shapes(scenario)
    found.sizes.extend(buildability(sizes_of(scenario, shapes)))
    found.unused.extend(unread(scenario, shapes, found.unused))


def unread(scenario: Scenario, task: Task, known: list[str]) -> list[str]:
    """Constants of parts that the scenario sets and that change nothing, beside those known."""
    from hybridsim.unread import unread_constants

    paths = {field.partition(" ")[0] for field in known}
    found = unread_constants(scenario, task)
    return [field for field in found if field.partition(" ")[0] not in paths]
