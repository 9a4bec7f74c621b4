"""The points of a study: every combination of its axes on every side, under every seed."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from hybridsim.errors import InputError, Problem
from hybridsim.operations.keys import salt
from hybridsim.operations.ref import digest
from hybridsim.scenario.datasheets.sheets import load_constant_set, load_part, sheets_held
from hybridsim.scenario.document import DocumentError, Node, from_python
from hybridsim.scenario.merge import absolutise, keys_of
from hybridsim.scenario.nearest import one_of
from hybridsim.scenario.own_constants import part_choices
from hybridsim.scenario.quantity import Raw, describe
from hybridsim.scenario.schema import Scenario
from hybridsim.studies.axes import combinations
from hybridsim.studies.expansion import refusal
from hybridsim.studies.schema import Study
from hybridsim.studies.values import number as number
from hybridsim.studies.values import text as text

_ID_CHARACTERS = 16
_FILES = (".py", ".yaml", ".yml")


class Point(NamedTuple):
    """One run of a study.

    Attributes:
        side: name of the side.
        seed: seed of the run.
        values: the fields that vary and apply to this side, as the study file writes them.
        scenario: what is run.
        id: equal for points whose content is: the scenario but for its name, datasheets and
            workload file included, the backend, and the code and libraries that run it.
        combination: all fields that vary, those too that do not apply to this side.
    """

    side: str
    seed: int
    values: dict[str, Raw]
    scenario: Scenario
    id: str
    combination: dict[str, Raw]


def assignments(study: Study) -> list[dict[str, Raw]]:
    """Every combination of the axes' values, as field -> value, the last axis fastest."""
    return [
        {field: node.plain() for field, node in found.items()} for found in combinations(study.axes)
    ]


def points_of(study: Study) -> list[Point]:
    """Every combination of the axes on every side under every seed, in this order."""
    with sheets_held():
        return list(_points(study))


def _points(study: Study) -> Iterator[Point]:
    seen: dict[int, bytes] = {}
    for found in combinations(study.axes):
        combination = {field: node.plain() for field, node in found.items()}
        for side in study.sides:
            nodes = {f: node for f, node in found.items() if _applies(study, f, side.name)}
            values = {field: combination[field] for field in nodes}
            scenario = study.expansion.scenario(side.name, nodes)
            if id(scenario) not in seen:
                seen[id(scenario)] = content(scenario)
            for seed in study.seeds:
                seeded = scenario.model_copy(update={"seed": seed})
                name = _identity(study, seeded, seen[id(scenario)])
                yield Point(side.name, seed, values, seeded, name, combination)


def point(study: Study, side: str, seed: int, values: Mapping[str, Raw]) -> Point:
    """One further point.

    Args:
        study: the study.
        side: name of one of its sides.
        seed: any seed.
        values: fields with their values, as a scenario file writes them: of axes, where those that
            do not apply to the side are left out of its scenario, and any others.

    Raises:
        InputError: no such side, or the scenario is not valid: every problem.
    """
    names = [known.name for known in study.sides]
    if side not in names:
        raise _error(study, "scenarios", one_of(names, side, "a side"), describe(side))
    if type(seed) is not int or not 0 <= seed < 2**63:
        expected = "a whole number from 0 to 2^63 - 1"
        raise _error(study, "seeds", expected, describe(seed))
    applied = {field: raw for field, raw in values.items() if _applies(study, field, side)}
    nodes = {field: _node(study, field, raw) for field, raw in applied.items()}
    scenario = study.expansion.scenario(side, nodes).model_copy(update={"seed": seed})
    name = _identity(study, scenario, content(scenario))
    return Point(side, seed, applied, scenario, name, dict(values))


def tuning_assignments(study: Study, side: str) -> list[dict[str, Raw]]:
    """Every combination of the settings that a side chooses among; none without tuning."""
    fields = study.tuning.fields.get(side, {}) if study.tuning is not None else {}
    found: list[dict[str, Raw]] = [{}] if fields else []
    for field, values in fields.items():
        found = [{**before, field: value} for before in found for value in values]
    return found


def _applies(study: Study, field: str, side: str) -> bool:
    """A field of an axis applies to the axis's sides, any other to all."""
    axes = [axis for axis in study.axes if field in axis.nodes]
    return not axes or any(side in axis.sides for axis in axes)


def _node(study: Study, field: str, raw: Raw) -> Node:
    refused = refusal(field, varies=True)
    if refused is not None:
        raise _error(study, "", refused, describe(field))
    try:
        node = from_python(raw, study.root.file)
    except DocumentError as error:
        raise InputError([error.problem]) from None
    absolutise(Node({keys_of(field)[-1]: node}, node.file, None), Path.cwd())
    return node


def _error(study: Study, path: str, expected: str, got: str) -> InputError:
    return InputError([Problem(study.root.file, None, path, expected, got)])


def content(scenario: Scenario) -> bytes:
    """All that the numbers of a scenario's run depend on, but for its seed and this program:
    its fields, the datasheets of its parts, and the text of a workload file (modules that the file
    imports are not followed).

    Raises:
        InputError: the workload file cannot be read.
    """
    fields = scenario.document()
    for key in ("name", "seed", "thresholds"):
        fields.pop(key, None)
    parts = [
        load_part(choice.part_kind, choice.part).content for _, choice, _ in part_choices(scenario)
    ]
    source = scenario.workload.source
    return digest(
        json.dumps(_without_files(fields), sort_keys=True).encode(),
        _constant_set(scenario.machine.constants),
        *parts,
        _bytes(Path(source)) if source.endswith(".py") else b"",
    )


def _identity(study: Study, scenario: Scenario, found: bytes) -> str:
    device, threads = scenario.host.device, scenario.host.threads
    parts = (study.backend.encode(), str(scenario.seed).encode(), found, _salt(device, threads))
    return digest(*parts).hex()[:_ID_CHARACTERS]


@functools.cache
def _salt(device: str, threads: int) -> bytes:
    from hybridsim.tasks.device import check_device

    check_device(device)
    return salt(device, threads)


@functools.cache
def _constant_set(name: str) -> bytes:
    kinds = load_constant_set(name)
    return repr(sorted((kind, sorted(found.items())) for kind, found in kinds.items())).encode()


def _bytes(path: Path) -> bytes:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        got = str(error.strerror)
        raise InputError([Problem(str(path), None, "", "a file that can be read", got)]) from None


def _without_files(value: Raw) -> Raw:
    """Without the names of files, whose contents count."""
    if isinstance(value, dict):
        return {
            key: child if key == "options" else _without_files(child)
            for key, child in value.items()
        }
    if isinstance(value, list):
        return [_without_files(child) for child in value]
    return "" if isinstance(value, str) and value.endswith(_FILES) else value
