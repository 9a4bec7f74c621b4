"""What the short and the general form of a machine become."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.errors import InputError
from hybridsim.scenario.load import load
from hybridsim.scenario.machine import MachineSpec


def machine(form: dict[str, Any], algorithm: str = "tngd") -> MachineSpec:
    document = load("adam-digits" if algorithm == "adam" else "tngd-digits").document()
    return load(document | {"machine": form}).machine.expand()


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 20))
def test_a_shared_link_is_one_edge(count: int) -> None:
    spec = machine({"gpu": "a100-sxm4-80gb", "link": {"bandwidth": "10 Gb/s"}, "spus": {"count": count}})
    assert [n.kind for n in spec.nodes] == ["gpu", "switch", *["spu"] * count]
    priced = [e for e in spec.edges if e.sheet is not None]
    assert [(e.a, e.b) for e in priced] == [("gpu0", "hub")] and len(spec.edges) == count + 1
    assert spec.usable_spus() == [f"spu{k}" for k in range(count)]


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 20))
def test_private_links_are_one_edge_each(count: int) -> None:
    spec = machine({"gpu": "a100-sxm4-80gb", "link": {"sharing": "private"}, "spus": {"count": count}})
    assert [(e.a, e.b) for e in spec.edges] == [("gpu0", f"spu{k}") for k in range(count)]
    assert all(e.sheet is not None and e.sheet.value("bandwidth_bit_per_s") == 50e9 for e in spec.edges)


def test_converters_and_buffering() -> None:
    spus = {"input_bits": 4, "bias_bits": "ideal", "buffering": "double"}
    spu = machine({"gpu": "h200-sxm", "spus": spus}).nodes[-1]
    assert (spu.input_bits, spu.bias_bits, spu.output_bits, spu.buffering) == (4, None, 16, "double")


def test_a_digital_machine_is_its_gpu() -> None:
    for form in ({"gpu": "h200-sxm"}, {"gpu": "h200-sxm", "spus": {"count": 0}}):
        spec = machine(form, "adam")
        assert [n.name for n in spec.nodes] == ["gpu0"] and spec.edges == ()


def test_constants_come_from_sheet_then_set_then_scenario() -> None:
    link = {"part": "pcie5", "latency": "5 ns"}
    sheet = machine({"constants": "paper", "gpu": "h200-sxm", "link": link, "spus": {}}).edges[0].sheet
    assert sheet is not None
    status = {name: (c.value, c.status) for name, c in sheet.constants.items()}
    assert status["bandwidth_bit_per_s"] == (504e9, "derived")
    assert status["energy_j_per_bit"] == (0.0, "assumed")
    assert status["latency_s"] == (5e-9, "given") and sheet.bounds("latency_s") == (5e-9, 5e-9)


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
        ({"nodes": NODES, "edges": [{"between": ["g", "x"], "link": "free"}]}, "machine", "the GPU reaches"),
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
            {"nodes": NODES, "edges": [{"between": p, "link": "free"} for p in (["g", "s"], ["s", "g"])]},
            "machine.edges[1].between",
            "a second one",
        ),
        ({"nodes": {**NODES, "a b": {"kind": "switch"}}}, "machine.nodes.'a b'", "a name of letters"),
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
def test_full_load_draws_no_less_than_idle_in_any_form(override: dict[str, str], path: str | None, words: str) -> None:
    gpu = {"part": "a100-sxm4-80gb", **override}
    nodes = {"nodes": {**NODES, "g": {"kind": "gpu", **gpu}}, "edges": [{"between": ["g", "s"], "link": "free"}]}
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
