"""Whether a stored outcome is still that of its point: users' own code may have changed."""

from __future__ import annotations

from hybridsim.errors import HybridsimError
from hybridsim.studies.asked import Asked
from hybridsim.studies.evaluate import Desk
from hybridsim.studies.records import Record


class Current:
    """Compares what was trained with what would be; for workloads that are files of the user's.

    A point's id stands for the workload's file and for this package, not for modules that the file
    imports, nor for the data that it reads: what it makes of them is looked at here.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def __call__(self, point: Asked, record: Record) -> bool:
        """Whether the same would be trained."""
        if not point.scenario.workload.source.endswith(".py") or not record.found.workload:
            return True
        try:
            return self._desk.task(point.scenario).key == record.found.workload
        except HybridsimError:
            return False  # it cannot be loaded any more: evaluated again, which says so
