"""From values of fields to a scenario: the sides' documents, read once, with values put in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from hybridsim.errors import InputError, Problem
from hybridsim.scenario.document import DocumentError, Node
from hybridsim.scenario.merge import keys_of, put
from hybridsim.scenario.problems import problems_of
from hybridsim.scenario.quantity import Raw
from hybridsim.scenario.schema import Scenario
from hybridsim.scenario.workload_options import check_options

_NOT_SET = {
    "extends": "a field (a file is what extends)",
    "seed": "another field (runs have the study's seeds)",
    "thresholds": "another field (a study has a question instead)",
}
_NOT_VARIED = _NOT_SET | {"name": "another field (a name changes no number)"}


class Expansion:
    """The scenarios of a study's sides under values of fields, each validated once."""

    def __init__(self, bases: Mapping[str, Node]) -> None:
        self.bases = dict(bases)
        """The document of each side, with the fields that the study sets."""
        self._scenarios: dict[tuple[str, str], Scenario] = {}
        self._workloads: set[str] = set()

    def __getstate__(self) -> dict[str, Raw]:
        """Without scenarios, which can be made again: a study travels to its workers."""
        return {"bases": self.bases, "_scenarios": {}, "_workloads": set()}

    def scenario(self, side: str, values: Mapping[str, Node]) -> Scenario:
        """A side's scenario under values of dotted fields.

        Raises:
            InputError: every problem of it, at the values' own places where they are to blame.
        """
        key = side, json.dumps({field: node.plain() for field, node in values.items()})
        if key not in self._scenarios:
            self._scenarios[key] = self._validated(with_values(self.bases[side], values))
        return self._scenarios[key]

    def _validated(self, root: Node) -> Scenario:
        try:
            found = Scenario.model_validate(root.plain())
        except ValidationError as error:
            raise InputError(problems_of(error, Scenario, root)) from None
        found._source, found._root = root.file, root
        workload = found.workload.model_dump_json()
        if workload not in self._workloads:
            check_options(found)
            self._workloads.add(workload)
        return found


def with_values(base: Node, values: Mapping[str, Node]) -> Node:
    """A document with values at dotted fields, a field before those within it.

    Raises:
        InputError: a list has no such item.
    """
    for field in outer_first(list(values)):
        try:
            base = put(base, keys_of(field), values[field])
        except DocumentError as error:
            raise InputError([error.problem]) from None
    return base


def outer_first(fields: Sequence[str]) -> list[str]:
    """``machine.gpu`` before ``machine.gpu.idle``: the other way round, the text would replace the
    map.
    """
    return sorted(fields, key=lambda field: len(keys_of(field)))


def is_within(problem: Problem, field: str) -> bool:
    """Does the problem stand at this dotted field, or below it?"""
    keys = keys_of(field)
    return keys_of(problem.path)[: len(keys)] == keys


def refusal(field: str, varies: bool) -> str | None:
    """What is expected in place of a field that a study cannot set, or vary; None: it can."""
    keys = keys_of(field)
    if not keys:
        return "a field like machine.link.bandwidth"
    return (_NOT_VARIED if varies else _NOT_SET).get(keys[0])
