"""What the short and the general form of a machine become."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.errors import InputError
from hybridsim.scenario.datasheets.sheets import load_part
from hybridsim.scenario.load import load
from hybridsim.scenario.machine import EdgeSpec, GpuSpec, MachineSpec, NodeSpec, SpuSpec


def machine(form: dict[str, Any], algorithm: str = "tngd") -> MachineSpec:
    document = load("adam-digits" if algorithm == "adam" else "tngd-digits").document()
    return load(document | {"machine": form}).machine.expand()


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 20))
def test_a_shared_link_is_one_edge(count: int) -> None:
    spec = machine(
        {"gpu": "a100-sxm4-80gb", "link": {"bandwidth": "10 Gb/s"}, "spus": {"count": count}}
    )
    assert [n.kind for n in spec.nodes] == ["gpu", "switch", *["spu"] * count]
    priced = [e for e in spec.edges if e.sheet is not None]
    assert [(e.a, e.b) for e in priced] == [("gpu0", "hub")] and len(spec.edges) == count + 1
    assert spec.usable_spus() == [f"spu{k}" for k in range(count)]


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 20))
def test_private_links_are_one_edge_each(count: int) -> None:
    spec = machine(
        {"gpu": "a100-sxm4-80gb", "link": {"sharing": "private"}, "spus": {"count": count}}
    )
    assert [(e.a, e.b) for e in spec.edges] == [("gpu0", f"spu{k}") for k in range(count)]
    assert all(
        e.sheet is not None and e.sheet.value("bandwidth_bit_per_s") == 50e9 for e in spec.edges
    )


def test_converters_and_buffering() -> None:
    spus = {"input_bits": 4, "bias_bits": "ideal", "buffering": "double"}
    spu = machine({"gpu": "h200-sxm", "spus": spus}).nodes[-1]
    assert (spu.input_bits, spu.bias_bits, spu.output_bits, spu.buffering) == (
        4,
        None,
        12,
        "double",
    )


def test_a_digital_machine_is_its_gpu() -> None:
    for form in ({"gpu": "h200-sxm"}, {"gpu": "h200-sxm", "spus": {"count": 0}}):
        spec = machine(form, "adam")
        assert [n.name for n in spec.nodes] == ["gpu0"] and spec.edges == ()


def test_constants_come_from_sheet_then_set_then_scenario() -> None:
    link = {"part": "pcie5", "latency": "5 ns"}
    sheet = (
        machine({"constants": "paper", "gpu": "h200-sxm", "link": link, "spus": {}}).edges[0].sheet
    )
    assert sheet is not None
    status = {name: (c.value, c.status) for name, c in sheet.constants.items()}
    assert status["bandwidth_bit_per_s"] == (504e9, "derived")
    assert status["energy_j_per_bit"] == (0.0, "assumed")
    assert status["latency_s"] == (5e-9, "given") and sheet.bounds("latency_s") == (5e-9, 5e-9)


@settings(deadline=None, max_examples=40)
@given(
    gpus=st.integers(2, 9), spus=st.integers(0, 20), sharing=st.sampled_from(["shared", "private"])
)
def test_several_gpus_hang_on_a_fabric_and_spus_on_them_in_turn(
    gpus: int, spus: int, sharing: str
) -> None:
    form = {
        "gpu": {"part": "a100-sxm4-80gb", "count": gpus},
        "link": {"sharing": sharing},
        "spus": {"count": spus},
    }
    document = load("adam-digits").document()
    spec = load(
        document | {"machine": form, "training": {**document["training"], "batch_size": gpus}}
    ).machine.expand()
    names = {
        kind: [n.name for n in spec.nodes if n.kind == kind] for kind in ("gpu", "switch", "spu")
    }
    hubs = min(gpus, spus) if sharing == "shared" else 0
    assert names["gpu"] == spec.usable_gpus() == [f"gpu{k}" for k in range(gpus)]
    assert names["switch"] == ["fabric", *(f"hub{k}" for k in range(hubs))]
    assert names["spu"] == spec.usable_spus() == [f"spu{j}" for j in range(spus)]
    assert spec.owners() == {f"spu{j}": f"gpu{j % gpus}" for j in range(spus)}
    priced = {e.name: (e.a, e.b) for e in spec.edges if e.sheet is not None}
    wires = (
        [f"gpu{k}-hub{k}" for k in range(hubs)]
        if hubs
        else [f"gpu{j % gpus}-spu{j}" for j in range(spus)]
    )
    assert list(priced) == [*(f"gpu{k}-fabric" for k in range(gpus)), *wires]
    assert all(name == f"{a}-{b}" for name, (a, b) in priced.items())
    assert len(spec.edges) - len(priced) == (spus if hubs else 0)
    fabric = next(e.sheet for e in spec.edges if e.b == "fabric")
    assert fabric is not None and (fabric.name, fabric.value("bandwidth_bit_per_s")) == (
        "nvlink3",
        2.4e12,
    )


@pytest.mark.parametrize(
    ("gpu", "interconnect"),
    [
        ({"part": "v100-sxm2-32gb", "count": 2}, "nvlink2"),
        ({"part": "h100-sxm5-80gb", "count": 2}, "nvlink4"),
        ({"part": "h200-sxm", "count": 8, "interconnect": {"latency": "5 ns"}}, "nvlink4"),
        ({"part": "host-cpu", "count": 2}, "pcie5"),
        ({"part": "h200-sxm", "count": 2, "interconnect": "pcie4"}, "pcie4"),
        (
            {"part": "h200-sxm", "count": 2, "interconnect": {"part": "pcie3", "chunk": "1 MiB"}},
            "pcie3",
        ),
    ],
)
def test_gpus_are_connected_by_what_they_have(gpu: dict[str, Any], interconnect: str) -> None:
    scenario = load(load("adam-digits").document() | {"machine": {"gpu": gpu}})
    edges = scenario.machine.expand().edges
    assert {edge.sheet.name for edge in edges if edge.sheet is not None} == {interconnect}
    assert len(edges) == gpu["count"] and load(scenario.document()) == scenario


@pytest.mark.parametrize(
    ("gpu", "path"),
    [
        ({"count": 0}, "machine.gpu.count"),
        ({"count": 65}, "machine.gpu.count"),
        ({"count": True}, "machine.gpu.count"),
        ({"count": 2, "interconnect": "nvlink9"}, "machine.gpu.interconnect.part"),
        ({"count": 2, "interconnect": "a100-sxm4-80gb"}, "machine.gpu.interconnect.part"),
        (
            {"count": 2, "interconnect": {"bandwidth": "-1 Gb/s"}},
            "machine.gpu.interconnect.bandwidth",
        ),
        ({"count": 2, "interconnect": "free"}, "machine.gpu.interconnect.part"),
        ({"count": 3}, "training.batch_size"),
    ],
)
def test_several_gpus_that_are_none(gpu: dict[str, Any], path: str) -> None:
    with pytest.raises(InputError) as caught:
        load(
            load("adam-digits").document() | {"machine": {"gpu": {"part": "a100-sxm4-80gb", **gpu}}}
        )
    assert [problem.path for problem in caught.value.problems] == [path]


def graph(pairs: list[tuple[str, str]]) -> MachineSpec:
    """A machine from its edges; a node is what its name begins with."""
    gpu, spu = load_part("gpu", "a100-sxm4-80gb"), load_part("spu", "rc-1us")
    kinds: dict[str, Callable[[str], NodeSpec]] = {
        "g": lambda name: GpuSpec(name, gpu),
        "s": lambda name: SpuSpec(name, spu, "single"),
        "x": NodeSpec,
    }
    names = dict.fromkeys(name for pair in pairs for name in pair)
    nodes = tuple(kinds[name[0]](name) for name in sorted(names))
    return MachineSpec(nodes, tuple(EdgeSpec(f"{a}-{b}", a, b, None) for a, b in pairs))


def test_an_spu_belongs_to_the_nearest_gpu_and_to_several_in_turn() -> None:
    pairs = [
        ("g0", "x"),
        ("g1", "x"),
        ("g2", "s2"),
        ("g2", "x"),
        *((f"s{j}", "x") for j in (0, 1, 3, 4, 5)),
    ]
    owners = graph(pairs).owners()
    assert owners == {"s0": "g0", "s1": "g1", "s2": "g2", "s3": "g2", "s4": "g0", "s5": "g1"}
    apart = graph([("g0", "s0"), ("g1", "s1"), ("g1", "s2"), ("g1", "g2")])
    assert (apart.usable_gpus(), apart.usable_spus(), apart.owners()) == (
        ["g0"],
        ["s0"],
        {"s0": "g0"},
    )


def test_what_lies_on_a_shortest_route() -> None:
    spec = graph(
        [
            ("g0", "xa"),
            ("xa", "g1"),
            ("g0", "xb"),
            ("xb", "g1"),
            ("g1", "xc"),
            ("xc", "xd"),
            ("xd", "g0"),
        ]
    )
    assert [edge.name for edge in spec.shortest("g0", "g1")] == ["g0-xa", "xa-g1", "g0-xb", "xb-g1"]
    assert [edge.name for edge in spec.shortest("g0", "xc")] == ["xc-xd", "xd-g0"]
    assert spec.shortest("g0", "g0") == []


NODES = {"g": {"kind": "gpu", "part": "h200-sxm"}, "s": {"kind": "spu"}, "x": {"kind": "switch"}}


@pytest.mark.parametrize(
    ("form", "path", "words"),
    [
        ({}, "machine.gpu", "a GPU"),
        ({"gpu": "h200-sxm"}, "machine", "at least one SPU"),
        ({"gpu": "h200-sxm", "spus": {"count": 0}}, "machine", "at least one SPU"),
        ({"gpu": "h200-sxm", "nodes": NODES}, "machine.gpu", "either the short form"),
        ({"nodes": {}}, "machine.nodes", "at least one node"),
        ({"nodes": {"s": {"kind": "spu"}}}, "machine.nodes", "kind gpu"),
        ({"edges": []}, "machine.nodes", "at least one node"),
        ({"nodes": NODES}, "machine", "the GPU reaches"),
        (
            {"nodes": NODES, "edges": [{"between": ["g", "x"], "link": "free"}]},
            "machine",
            "the GPU reaches",
        ),
        (
            {"nodes": NODES, "edges": [{"between": ["g", "y"], "link": "free"}]},
            "machine.edges[0].between[1]",
            "'y'",
        ),
        (
            {"nodes": NODES, "edges": [{"between": ["g", "g"], "link": "free"}]},
            "machine.edges[0].between",
            "twice",
        ),
        (
            {
                "nodes": NODES,
                "edges": [{"between": p, "link": "free"} for p in (["g", "s"], ["s", "g"])],
            },
            "machine.edges[1].between",
            "a second one",
        ),
        (
            {
                "nodes": {**NODES, "g-s": {"kind": "spu", "part": "rc-1us"}},
                "edges": [
                    {"between": ["g", "g-s"], "link": "free"},
                    {"between": ["g", "s"], "link": "ucie"},
                ],
            },
            "machine.edges[1].between",
            "'g-s', the name of another node",
        ),
        (
            {
                "nodes": {
                    **NODES,
                    "g-s": {"kind": "switch"},
                    "s-t": {"kind": "switch"},
                    "t": {"kind": "switch"},
                },
                "edges": [
                    {"between": ["g", "s-t"], "link": "ucie"},
                    {"between": ["g-s", "t"], "link": "ucie"},
                    {"between": ["g", "s"], "link": "free"},
                ],
            },
            "machine.edges[1].between",
            "'g-s-t', the name of another link",
        ),
        (
            {"nodes": {**NODES, "a b": {"kind": "switch"}}},
            "machine.nodes.'a b'",
            "a name of letters",
        ),
        (
            {"nodes": NODES, "edges": [{"between": ["g", "s"], "link": None}]},
            "machine.edges[0].link",
            "'free'",
        ),
    ],
)
def test_machines_that_are_none(form: dict[str, Any], path: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        machine(form)
    assert caught.value.problems[0].path == path and words in str(caught.value)


def test_routes_go_over_switches() -> None:
    edges = [{"between": ["g", "x"], "link": "ucie"}, {"between": ["s", "x"], "link": "free"}]
    spec = machine({"nodes": NODES, "edges": edges})
    assert spec.usable_spus() == ["s"] and [e.name for e in spec.edges] == ["g-x", "s-x"]
    assert spec.edges[0].sheet is not None and spec.edges[1].sheet is None


@pytest.mark.parametrize(
    ("override", "path", "words"),
    [
        ({"tdp": "50 W"}, "tdp", "expected tdp >= idle (80 W), got 50 W"),
        ({"idle": "500 W"}, "idle", "expected idle <= tdp (400 W), got 500 W"),
        ({"tdp": "60 W", "idle": "61 W"}, "tdp", "expected tdp >= idle (61 W), got 60 W"),
        ({"tdp": "80 W"}, None, ""),
        ({"tdp": "9 W", "idle": "8 W"}, None, ""),
    ],
)
def test_full_load_draws_no_less_than_idle_in_any_form(
    override: dict[str, str], path: str | None, words: str
) -> None:
    gpu = {"part": "a100-sxm4-80gb", **override}
    nodes = {
        "nodes": {**NODES, "g": {"kind": "gpu", **gpu}},
        "edges": [{"between": ["g", "s"], "link": "free"}],
    }
    for form, where in (({"gpu": gpu, "spus": {}}, "machine.gpu"), (nodes, "machine.nodes.g")):
        if path is None:
            sheet = machine(form).nodes[0].sheet
            assert sheet is not None and sheet.value("tdp_w") >= sheet.value("idle_w")
            continue
        with pytest.raises(InputError, match=re.escape(words)) as caught:
            machine(form)
        assert [p.path for p in caught.value.problems] == [f"{where}.{path}"]


@pytest.mark.parametrize(
    ("settings", "state"),
    [
        ({}, "reset"),
        ({"mode": "synchronous"}, "reset"),
        ({"mode": "asynchronous"}, "kept"),
        ({"mode": "asynchronous", "state": "reset"}, "reset"),
        ({"mode": "synchronous", "state": "kept"}, "kept"),
    ],
)
def test_a_device_that_never_stops_keeps_its_state(settings: dict[str, str], state: str) -> None:
    document = load("tngd-digits").document()
    document["training"]["algorithm"] = {"kind": "tngd", **settings}
    scenario = load(document)
    assert scenario.training.algorithm.model_dump()["state"] == state
    assert load(scenario.document()) == scenario
