"""Which points may share one live run: those that end with the same parameters."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from hybridsim.results.digest import canonical_json
from hybridsim.scenario.schema import Scenario
from hybridsim.studies.asked import Asked
from hybridsim.studies.evaluate import Backend, Group
from hybridsim.studies.points import Point
from hybridsim.studies.retiming import cost_signature

_NEVER_NUMERIC = ("name", "machine", "thresholds")
"""Of the scenario: what can be different although the parameters end up equal (the machine may
be, or not).
"""


def bucket(scenario: Scenario) -> str:
    """Equal wherever two scenarios may end with the same parameters: 16 hex digits."""
    document = scenario.document()
    kept = {key: value for key, value in document.items() if key not in _NEVER_NUMERIC}
    training = {key: value for key, value in kept["training"].items() if key != "target"}
    return _digest(canonical_json(kept | {"training": training}))


@dataclass
class Numerics:
    """What is known of points' numerics.

    Attributes:
        keys: last key by signature.
        facts: names of published facts by last key.
    """

    keys: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    _buckets: dict[str, dict[str, Asked]] = field(default_factory=dict)
    _signatures: dict[str, str] = field(default_factory=dict)

    def signature(self, point: Asked) -> str:
        """Equal for points that only cost constants set apart: 16 hex digits."""
        if point.id not in self._signatures:
            self._signatures[point.id] = cost_signature(point.scenario)
        return self._signatures[point.id]

    def unknown(self, points: Sequence[Asked]) -> list[Asked]:
        """One point of each signature whose last key must be found, to know what it shares: where
        no other signature could end with the same parameters, it shares nothing.
        """
        for point in points:
            if point.id not in self._signatures:
                members = self._buckets.setdefault(bucket(point.scenario), {})
                members.setdefault(self.signature(point), point)
        shared = [members for members in self._buckets.values() if len(members) > 1]
        return [p for members in shared for name, p in members.items() if name not in self.keys]

    def groups(
        self,
        points: Sequence[Asked],
        backend: Backend,
        gate: float,
        wanted: Callable[[Asked], bool],
    ) -> list[Group]:
        """Groups of points, in the order of their first; of each the points that are wanted.

        A group's name depends on all of its points, so that launches that want different ones call
        it the same.
        """
        found: dict[str, list[Asked]] = {}
        for point in points:
            name = self.signature(point)
            key = self.keys.get(name, "") if backend == "live" else ""
            found.setdefault(key or name, []).append(point)
        return [
            Group(min(p.id for p in members), todo, backend, gate, key, self.facts.get(key, ""))
            for key, members in found.items()
            if (todo := tuple(p for p in members if wanted(p)))
        ]


def distinct(points: Iterable[Point]) -> list[Asked]:
    """What is to be evaluated: each id once."""
    found: dict[str, Asked] = {}
    for point in points:
        found.setdefault(point.id, Asked(point.id, point.scenario))
    return list(found.values())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
