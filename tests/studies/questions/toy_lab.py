"""A lab whose outcomes are functions: what questions get their numbers from in tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import Any

import pandas as pd

from hybridsim.errors import InputError, Problem
from hybridsim.scenario.document import Node
from hybridsim.studies.axes import Axis, combinations
from hybridsim.studies.questions.base import RangedConstant

Outcome = dict[str, Any]
NO_OUTCOME = {
    "status": "ok", "reason": "", "how": "live", "reached": None, "mark": "",
    "seconds": float("nan"), "joules": float("nan"), "step": float("nan"),
    "step_seconds": float("nan"), "step_joules": float("nan"),
    "run_seconds": float("nan"), "run_joules": float("nan"),
    "bottleneck": "", "bottleneck_share": float("nan"),
}  # fmt: skip


def axis(
    values: Mapping[str, Sequence[Any]], kind: str = "grid", sides: Sequence[str] = ()
) -> Axis:
    """An axis of fields that vary together."""
    nodes = {field: tuple(Node(v, "toy", 1) for v in own) for field, own in values.items()}
    return Axis(kind, nodes, tuple(sides), 0)


def constant(name: str, low: float, high: float, **more: Any) -> RangedConstant:
    """A constant with a range, nominally in its middle."""
    found = {"unit": "s", "status": "assumed", "numeric": False, "sides": ("a", "b")} | more
    return RangedConstant(name, (low + high) / 2, low, high, **found)


class _Scenarios:
    """Scenarios that have a target, or none, and whose numbers of SPUs are whole."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def scenario(self, side: str, values: Mapping[str, Any]) -> Any:
        for field, node in values.items():
            if field.endswith("count") and node.value != int(node.value):
                raise InputError([Problem("toy", 1, field, "a whole number", str(node.value))])
        return SimpleNamespace(training=SimpleNamespace(target=self.target))


def study(sides: Sequence[str], axes: Sequence[Axis] = (), seeds: int = 1, **more: Any) -> Any:
    """What questions ask a study."""
    named = tuple(SimpleNamespace(name=name) for name in sides)
    axes = [one if one.sides else replace(one, sides=tuple(sides)) for one in axes]
    found = {"sides": named, "axes": tuple(axes), "seeds": tuple(range(seeds)), "draw_seed": 0}
    expansion = _Scenarios(more.pop("target", 0.9))
    found |= {
        "backend": "live",
        "axis_choices": [],
        "expansion": expansion,
        "scenarios_of": lambda side: iter([expansion.scenario(side, {})]),
    }
    return SimpleNamespace(**(found | more))


class ToyLab:
    """Outcomes are ``outcome(side, values, seed)``; counts what it was asked for."""

    def __init__(
        self,
        study: Any,
        outcome: Callable[[str, Mapping[str, Any], int], Outcome],
        constants: Sequence[RangedConstant] = (),
        priced: Callable[[str, Mapping[str, float], int], Outcome] | None = None,
    ) -> None:
        self.study, self.outcome, self.priced = study, outcome, priced
        self.ranged = list(constants)
        self.reordered: Callable[[str, Mapping[str, float]], bool] = lambda side, own: False
        self.asked: list[Mapping[str, Any]] = []
        values = [{f: n.plain() for f, n in one.items()} for one in combinations(study.axes)]
        self.table = self.rows(values)
        self.asked.clear()

    def rows(self, values, sides=None, seeds=None) -> pd.DataFrame:
        self.asked += list(values)
        names = [side.name for side in self.study.sides] if sides is None else list(sides)
        wanted = self.study.seeds if seeds is None else seeds
        return pd.DataFrame(
            {"side": side, "seed": seed, "point": f"{side}{seed}{one}", **one, **NO_OUTCOME}
            | self.outcome(side, one, seed)
            for one, side, seed in product(values, names, wanted)
        )

    def constants(self, values=None) -> list[RangedConstant]:
        return self.ranged

    def with_constants(self, settings, values=None, simulate=60) -> pd.DataFrame:
        """Draws that ``reordered`` says need simulating are, the first of each block of 500."""
        names = [side.name for side in self.study.sides]
        rows, left = [], {}
        for (draw, own), side, seed in product(enumerate(settings), names, self.study.seeds):
            full = {constant.name: constant.value for constant in self.ranged} | dict(own)
            row = {"draw": draw, "side": side, "seed": seed, **NO_OUTCOME, "how": "retimed"}
            row |= self.priced(side, full, seed)
            if self.reordered(side, full):
                block = (draw // 500, side, seed)
                left[block] = left.get(block, simulate * min(500, len(settings)) // len(settings))
                row["how"] = "simulated" if left[block] else "not evaluated"
                row |= {} if left[block] else {"seconds": math.nan, "joules": math.nan}
                left[block] = max(left[block] - 1, 0)
            rows.append(row)
        return pd.DataFrame(rows)
