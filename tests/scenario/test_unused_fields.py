"""Settings without an effect are named; settings with one are not."""

from __future__ import annotations

from typing import Any

import pytest

from hybridsim.scenario.load import load
from hybridsim.scenario.merge import shipped_scenarios
from hybridsim.scenario.unused import unused_fields

ALGORITHM, SPUS = "training.algorithm", "machine.spus"


@pytest.mark.parametrize("name", sorted(set(shipped_scenarios()) - {"tngd-digits-async"}))
def test_shipped_scenarios_say_nothing_in_vain(name: str) -> None:
    scenario = load(name)
    assert unused_fields(scenario) == unused_fields(load(scenario.document())) == []


@pytest.mark.parametrize(
    ("name", "sets", "unused"),
    [
        ("tngd-digits", [f"{ALGORITHM}.kind=adam"], ["machine.link", "machine.spus"]),
        ("adam-digits", ["machine.link=ucie"], ["machine.link"]),
        ("tngd-digits", [f"{ALGORITHM}.adam.beta1=0"], [f"{ALGORITHM}.adam"]),
        ("tngd-digits", [f"{ALGORITHM}.adam.beta1=0", f"{ALGORITHM}.update=adam"], []),
        ("tngd-digits", [f"{ALGORITHM}.readout.spacing=2 tau"], [f"{ALGORITHM}.readout.spacing"]),
        ("tngd-digits", [f"{ALGORITHM}.readout={{samples: 2, spacing: 2 tau}}"], []),
        (
            "tngd-digits",
            [f"{ALGORITHM}.curvature=empirical_fisher", f"{ALGORITHM}.hessian_upload=full"],
            [f"{ALGORITHM}.hessian_upload"],
        ),
        ("tngd-digits", [f"{ALGORITHM}.hessian_upload=full"], []),
        ("tngd-digits-async", [], [f"{ALGORITHM}.settle"]),
        ("tngd-digits-async", [f"{ALGORITHM}.wait=5 tau"], [f"{ALGORITHM}.settle"]),
        ("tngd-digits-async", [f"{ALGORITHM}.delay=5 tau"], [f"{SPUS}.buffering"]),
        (
            "tngd-digits-async",
            [f"{ALGORITHM}.delay=5 tau", f"{ALGORITHM}.wait=1 tau", f"{SPUS}.buffering=single"],
            [f"{ALGORITHM}.wait"],
        ),
        ("tngd-digits", [f"{SPUS}.buffering=double"], [f"{SPUS}.buffering"]),
        ("tngd-digits", ["machine.link.sharing=private"], ["machine.link.sharing"]),
        ("tngd-digits", ["machine.link.sharing=private", f"{SPUS}.count=2"], []),
        ("tngd-digits", [f"{SPUS}.activity_factor=0.5"], [f"{SPUS}.activity_factor"]),
    ],
)
def test_what_has_no_effect_is_named(name: str, sets: list[str], unused: list[str]) -> None:
    assert unused_fields(load(name, sets)) == unused


def test_the_activity_factor_counts_where_nothing_is_computed() -> None:
    assert unused_fields(load("tngd-digits", [f"{SPUS}.activity_factor=0.5"]), timing_only=True) == []


def test_nodes_nobody_reaches() -> None:
    nodes: dict[str, Any] = {
        "g": {"kind": "gpu", "part": "h200-sxm"},
        "s": {"kind": "spu"},
        "far": {"kind": "spu"},
    }
    machine = {"nodes": nodes, "edges": [{"between": ["g", "s"], "link": "free"}]}
    document = load("tngd-digits").document() | {"machine": machine}
    assert unused_fields(load(document)) == ["machine.nodes.far"]
    digital = load("adam-digits").document() | {"machine": machine}
    assert unused_fields(load(digital)) == ["machine.nodes.s", "machine.nodes.far", "machine.edges"]
