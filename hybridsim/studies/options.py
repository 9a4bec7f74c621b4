"""How a study is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hybridsim.errors import InputError
from hybridsim.studies.collect.base import Pool
from hybridsim.studies.collect.shards import Shard
from hybridsim.studies.evaluate import Desk

if TYPE_CHECKING:
    from distributed import Client

MOST_WORKERS = 1024


@dataclass(frozen=True)
class Options:
    """How a study is run.

    Attributes:
        workers: processes of this machine; 1: this process.
        client: of ``dask.distributed``, or the address of its scheduler; then ``workers`` is not
            used.
        shard: evaluate this share alone, and do not ask the question.
        collect: folders of shards, taken over first.
        force: the folder may hold another study; points of equal content are kept.
        data: folder of external data sets (default: ``HYBRIDSIM_DATA``).
    """

    workers: int = 1
    client: Client | str | None = None
    shard: Shard | None = None
    collect: tuple[Path, ...] = ()
    force: bool = False
    data: Path | str | None = None

    def pool(self, desk: Desk) -> Pool:
        """Where points are evaluated; in this process at its desk.

        Raises:
            InputError: there is no such place.
        """
        if self.client is not None:
            from hybridsim.studies.collect.cluster import Cluster

            return Cluster(self.client, desk.data)
        if type(self.workers) is not int or not 1 <= self.workers <= MOST_WORKERS:
            raise InputError(
                f"workers: expected a number from 1 to {MOST_WORKERS}, got {self.workers!r}"
            )
        if self.workers == 1:
            from hybridsim.studies.collect.here import Here

            return Here(desk)
        from hybridsim.studies.collect.local import LocalWorkers

        return LocalWorkers(self.workers, desk.facts, desk.data)
