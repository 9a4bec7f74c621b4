"""Settings without an effect are named; settings with one are not."""

from __future__ import annotations

from typing import Any

import pytest

from hybridsim.scenario.load import load
from hybridsim.scenario.merge import shipped_scenarios
from hybridsim.scenario.unused import unused_fields

ALGORITHM, SPUS = "training.algorithm", "machine.spus"
KFAC = f"{ALGORITHM}={{kind: kfac, learning_rate: 0.1, damping: 0.1}}"


@pytest.mark.parametrize("name", sorted(set(shipped_scenarios()) - {"tngd-digits-async"}))
def test_shipped_scenarios_say_nothing_in_vain(name: str) -> None:
    scenario = load(name)
    assert unused_fields(scenario) == unused_fields(load(scenario.document())) == []


@pytest.mark.parametrize(
    ("name", "sets", "unused"),
    [
        ("tngd-digits", [f"{ALGORITHM}.kind=adam"], ["machine.link", "machine.spus"]),
        ("adam-digits", ["machine.link=ucie"], ["machine.link"]),
        (
            "kfac-digits",
            ["host.jacobian=streamed"],
            ["host.jacobian (it is TNGD's)"],
        ),
        ("tngd-digits", ["host.jacobian=streamed"], []),
        ("tngd-digits", [f"{ALGORITHM}.update={{kind: adam, beta1: 0}}"], []),
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
        (
            "tngd-digits",
            ["machine.link.sharing=private", f"{SPUS}.count=2"],
            [f"{SPUS}.count", "machine.link.sharing"],
        ),
        ("tngd-digits", [KFAC, "machine.link.sharing=private", f"{SPUS}.count=2"], []),
        ("tngd-digits", [KFAC, "machine.link.sharing=private"], ["machine.link.sharing"]),
        ("kfac-digits", [f"{ALGORITHM}.inversion=newton_schulz"], [f"{ALGORITHM}.inversion"]),
        ("kfac-digits-digital", [f"{ALGORITHM}.inversion.batched=true"], []),
        (
            "kfac-digits-digital",
            [f"{ALGORITHM}.inversion.iterations=9"],
            [f"{ALGORITHM}.inversion.iterations"],
        ),
        (
            "kfac-digits-digital",
            [f"{ALGORITHM}.inversion={{kind: newton_schulz, iterations: 9}}"],
            [],
        ),
        ("tngd-digits", [f"{SPUS}.activity_factor=0.5"], [f"{SPUS}.activity_factor"]),
    ],
)
def test_what_has_no_effect_is_named(name: str, sets: list[str], unused: list[str]) -> None:
    assert unused_fields(load(name, sets)) == unused


def test_the_activity_factor_counts_where_nothing_is_computed() -> None:
    assert (
        unused_fields(load("tngd-digits", [f"{SPUS}.activity_factor=0.5"]), timing_only=True) == []
    )


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


def asynchronous(**settings: Any) -> list[str]:
    """What is unused under asynchronous TNGD, of the algorithm's fields."""
    document = load("tngd-digits-async").document()
    algorithm = {"kind": "tngd", "mode": "asynchronous", **settings}
    found = unused_fields(
        load(document | {"training": document["training"] | {"algorithm": algorithm}})
    )
    return [text for text in found if text.startswith(ALGORITHM)]


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"state": "reset"}, "a wait"),
        ({"state": "reset", "readout": {"samples": 3, "spacing": "0 tau"}}, "a wait"),
        ({"state": "reset", "delay": "50 tau"}, "a delay below the settling time"),
        (
            {"state": "reset", "delay": "2 tau", "settle": "2 tau"},
            "a delay below the settling time",
        ),
    ],
)
def test_a_reading_at_the_switch_is_sgd(settings: dict[str, Any], remedy: str) -> None:
    assert asynchronous(**settings) == [
        f"{ALGORITHM}.mode (asynchronous with state: reset and no wait reads the gradient "
        "itself: this is SGD; "
        f"set state: kept or {remedy})"
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"state": "kept", "delay": "50 tau"},
        {"state": "reset", "wait": "1 tau"},
        {"state": "reset", "delay": "49 tau"},
        {"state": "reset", "readout": {"samples": 2, "spacing": "1 tau"}},
    ],
)
def test_a_reading_after_some_settling_is_not(settings: dict[str, Any]) -> None:
    assert asynchronous(**settings) == []


def test_further_spus_of_a_graph_unless_they_lie_on_the_way() -> None:
    nodes: dict[str, Any] = {"g": {"kind": "gpu", "part": "h200-sxm"}}
    nodes |= {name: {"kind": "spu"} for name in ("first", "on_the_way", "idle")}
    pairs = [["g", "on_the_way"], ["on_the_way", "first"], ["g", "idle"]]
    machine = {"nodes": nodes, "edges": [{"between": pair, "link": "free"} for pair in pairs]}
    assert unused_fields(load(load("tngd-digits").document() | {"machine": machine})) == [
        "machine.nodes.idle"
    ]


def on_nodes(name: str, kinds: dict[str, str], pairs: list[list[str]]) -> list[str]:
    """What is unused of a machine that is a graph; GPUs and SPUs are of one part each."""
    parts = {"gpu": {"part": "h200-sxm"}, "spu": {}, "switch": {}}
    nodes = {node: {"kind": kind, **parts[kind]} for node, kind in kinds.items()}
    machine = {"nodes": nodes, "edges": [{"between": pair, "link": "free"} for pair in pairs]}
    return unused_fields(load(load(name).document() | {"machine": machine}))


SEVERAL = {
    "a": "gpu",
    "b": "gpu",
    "x": "switch",
    "y": "switch",
    "s": "spu",
    "t": "spu",
    "far": "gpu",
}
PAIRS = [["a", "x"], ["x", "b"], ["a", "y"], ["x", "s"], ["b", "t"]]


def test_several_gpus_use_what_lies_between_them() -> None:
    assert on_nodes("adam-digits", SEVERAL, PAIRS) == [
        *(f"machine.nodes.{name}" for name in ("y", "s", "t", "far")),
        *(f"machine.edges[{index}]" for index in (2, 3, 4)),
    ]


def test_tngd_uses_all_gpus_and_one_spu() -> None:
    found = ["machine.nodes.t", "machine.nodes.far"]
    assert on_nodes("tngd-digits", SEVERAL, PAIRS) == found
    # with the SPU beyond the second GPU, that one is on the way
    assert on_nodes("tngd-digits", SEVERAL, [["a", "x"], ["x", "b"], ["b", "t"], ["b", "y"]]) == [
        "machine.nodes.s",
        "machine.nodes.far",
    ]


@pytest.mark.parametrize(
    ("name", "gpu", "unused"),
    [
        ("adam-digits", "count: 4", []),
        ("adam-digits", "count: 4, interconnect: pcie5", []),
        ("adam-digits", "interconnect: pcie5", ["machine.gpu.interconnect"]),
        (
            "adam-digits",
            "count: 2, interconnect: {number_bits: 8}",
            ["machine.gpu.interconnect.number_bits"],
        ),
        (
            "kfac-digits",
            "count: 2, interconnect: {number_bits: 8}",
            ["machine.gpu.interconnect.number_bits"],
        ),
        ("tngd-digits", "count: 4", []),
        ("tngd-digits", "interconnect: pcie5", ["machine.gpu.interconnect"]),
    ],
)
def test_what_several_gpus_do_not_use(name: str, gpu: str, unused: list[str]) -> None:
    assert unused_fields(load(name, [f"machine.gpu={{part: a100-sxm4-80gb, {gpu}}}"])) == unused


def of_ngd(machine: dict[str, Any] | None = None, **settings: Any) -> list[str]:
    """What is unused under natural gradient descent on the GPU."""
    document = load("ngd-cg-digits").document()
    algorithm = {"kind": "ngd", **settings}
    document |= {"training": document["training"] | {"algorithm": algorithm}}
    return unused_fields(load(document | ({"machine": machine} if machine else {})))


def test_settings_of_cg_are_unused_by_factorisations() -> None:
    settings = {"iterations": 7, "tolerance": 0.5, "warm_start": True}
    assert of_ngd(method="cg", **settings) == []
    assert of_ngd(method="woodbury", **settings) == [f"{ALGORITHM}.{name}" for name in settings]
    rule = {"every": 3, "decay": 0.5}
    assert of_ngd(method="cholesky", damping=0.2, levenberg_marquardt=rule) == []


def test_ngd_leaves_all_gpus_but_the_first_idle() -> None:
    gpu = {"part": "a100-sxm4-80gb", "count": 3, "interconnect": "nvlink3"}
    (text,) = of_ngd({"gpu": gpu})
    assert text.startswith("machine.gpu.count (ngd computes on the first GPU")
    nodes = {name: {"kind": "gpu", "part": "h200-sxm"} for name in ("a", "b")}
    edges = [{"between": ["a", "b"], "link": "nvlink4"}]
    assert of_ngd({"nodes": nodes, "edges": edges}) == ["machine.nodes.b", "machine.edges"]


SETTINGS = {"kind": "kfac", "learning_rate": 0.1, "damping": 0.1}
ONE_GPU = {"gpu": "a100-sxm4-80gb"}
FOUR_GPUS = {"gpu": {"part": "a100-sxm4-80gb", "count": 4}}
ONE_SPU, TWO_SPUS = {"spus": {"count": 1}}, {"spus": {"count": 2}}


@pytest.mark.parametrize(
    ("algorithm", "machine", "expected"),
    [
        (
            {"method": "digital", "settle": "3 tau", "placement": "columns", "tiling": True},
            ONE_GPU,
            ["placement", "settle", "tiling"],
        ),
        ({"fisher_samples": 3}, TWO_SPUS, ["fisher_samples"]),
        ({"fisher_samples": 3, "fisher": "mc"}, TWO_SPUS, []),
        ({"covariance": {"samples": 9}}, TWO_SPUS, ["covariance"]),
        ({"covariance": {"samples": 9}, "method": "noise", "noise": 0.1}, TWO_SPUS, []),
        (
            {"covariance": {"samples": 1, "spacing": "2 tau"}, "method": "noise", "noise": 0.1},
            TWO_SPUS,
            ["covariance.spacing"],
        ),
        (
            {"method": "noise", "noise": 0.1, "placement": "columns"},
            TWO_SPUS,
            ["placement (samples of one factor's noise are taken by one SPU: as auto)"],
        ),
        ({"update": {"kind": "adam", "weight_decay": 0.5}}, TWO_SPUS, []),
        ({"placement": "layers"}, TWO_SPUS, []),
        ({"placement": "layers"}, ONE_SPU, ["placement (one SPU solves everything)"]),
        ({"pipelining": False}, TWO_SPUS, []),
        (
            {"pipelining": False, "method": "digital"},
            FOUR_GPUS,
            ["pipelining (several GPUs average over the whole backward pass)"],
        ),
    ],
)
def test_settings_of_kfac_that_say_nothing(algorithm, machine, expected) -> None:
    training = {"batch_size": 32, "algorithm": SETTINGS | algorithm}
    document = {
        "name": "k",
        "workload": "digits_mlp",
        "training": training,
        "machine": ONE_GPU | machine,
    }
    assert sorted(unused_fields(load(document))) == [
        f"training.algorithm.{path}" for path in expected
    ]


def test_what_tngd_does_with_several_spus() -> None:
    several = ["machine.spus.count=3", "machine.link.sharing=shared"]
    assert "machine.spus.count" in unused_fields(load("tngd-digits", several))
    split = "training.algorithm.spus=split"
    assert unused_fields(load("tngd-digits", [*several, split])) == []
    alone = unused_fields(load("tngd-digits", [split]))
    assert alone == ["training.algorithm.spus (there is one SPU)"]
