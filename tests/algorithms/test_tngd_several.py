"""TNGD on several GPUs and on several SPUs that hold one system: the numbers of one of each, in the
time and at the price of their parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from harness import IDEAL, Memory, document, execute
from hypothesis import given, settings
from hypothesis import strategies as st

import hybridsim
from hybridsim.algorithms.session import Session
from hybridsim.circuits import low_rank_parts
from hybridsim.errors import CapacityError, InputError
from hybridsim.units import to_ps

TNGD = {"kind": "tngd", "learning_rate": 0.1, "damping": 0.1, "settle": "30 tau"}
SPLIT = {**TNGD, "spus": "split"}


def machine(gpus: int = 1, spus: int = 1, sharing: str = "private", **constants: Any) -> Any:
    return {
        "gpu": {"part": "a100-sxm4-80gb", "count": gpus},
        "link": {"part": "paper-50gbps", "sharing": sharing},
        "spus": {**IDEAL, "count": spus, **constants},
    }


def run(
    algorithm: dict[str, Any], parts: dict[str, Any], live: bool = True, **changes: Any
) -> tuple[Session, Memory]:
    made = document(algorithm, machine=parts, batch_size=4, **changes)
    made["training"]["precision"] = "float64"
    return execute(made, live)


def total(memory: Memory, kind: str, what: str) -> float:
    return sum(span[what] for span in memory.spans if span["kind"] == kind)


@pytest.mark.parametrize(
    "curvature",
    [
        {"curvature": "ggn"},
        {"curvature": "empirical_fisher"},
        {"curvature": "sampled_fisher", "fisher_samples": 2},
    ],
)
@pytest.mark.parametrize("bits", [{}, {"input_bits": 8, "bias_bits": 10, "output_bits": 8}])
def test_any_number_of_gpus_trains_as_one(curvature, bits):
    """Equal to the rounding of sums that are taken in another order; an 8-bit reading may fall on
    the other side of a level."""
    algorithm = {**TNGD, **curvature}
    alone, one = run(algorithm, machine(**bits))
    start = alone.parameters().value
    moved = (alone.theta.value - start).norm()
    tolerance = 1e-2 if bits else 1e-9
    for gpus in (2, 4):
        several, memory = run(algorithm, machine(gpus, **bits))
        assert (several.theta.value - alone.theta.value).norm() <= tolerance * moved
        for row, expected in zip(memory.steps, one.steps, strict=True):
            assert row["train_loss"] == pytest.approx(expected["train_loss"], rel=tolerance)
        for kind in ("upload jacobian", "upload hessian", "upload gradient"):
            own = [s for s in memory.spans if s["kind"] == kind and s["part"].endswith("spu0")]
            assert sum(s["bits"] for s in own) == total(one, kind, "bits")


@settings(max_examples=6)
@given(
    spus=st.integers(2, 5),
    gpus=st.sampled_from([1, 2]),
    mode=st.sampled_from([{}, {"noise": 1e-3}, {"curvature": "empirical_fisher"}]),
    sharing=st.sampled_from(["shared", "private"]),
)
def test_spus_that_share_a_system_are_one_large_spu(spus, gpus, mode, sharing):
    """To the bit: cells, resistors, numbers sent and joules of settling add up to those of one."""
    bits = {"output_bits": 12, "bias_bits": 12, "input_bits": 16}
    alone, one = run({**TNGD, **mode}, machine(gpus, 1, sharing, **bits))
    several, memory = run({**SPLIT, **mode}, machine(gpus, spus, sharing, **bits))
    assert torch.equal(several.theta.value, alone.theta.value)
    for kind in ("settle", "measure", "convert gradient", "program"):
        for what in ("conversions", "writes"):
            assert total(memory, kind, what) == total(one, kind, what)
        assert total(memory, kind, "energy_j") == pytest.approx(total(one, kind, "energy_j"))
    cells = [spu.load.cells for spu in several.machine.spus]
    assert sum(cells) == alone.task.layout.size and max(cells) - min(cells) <= 1
    resistors = sum(spu.load.resistors for spu in several.machine.spus)
    assert resistors == alone.machine.spus[0].load.resistors


@given(
    size=st.integers(5, 10_000),
    rows=st.integers(1, 500),
    outputs=st.integers(0, 10),
    parts=st.integers(1, 5),
    copies=st.integers(1, 2),
)
def test_shares_of_a_circuit_add_up(size, rows, outputs, parts, copies):
    """All but the amplifiers: every further device needs r of its own to drive w."""
    whole = low_rank_parts.load(size, rows, outputs=outputs, copies=copies)
    found = low_rank_parts.loads(size, rows, outputs=outputs, copies=copies, parts=parts)
    for name in ("cells", "resistors", "written"):
        assert sum(getattr(load, name) for load in found) == getattr(whole, name)
    assert sum(load.amplifiers for load in found) == whole.amplifiers + (parts - 1) * rows
    sent = sum(array.sent for load in found for array in load.arrays)
    assert sent == sum(array.sent for array in whole.arrays)


def test_what_does_not_fit_one_fits_several():
    size = 385  # of the harness' network
    few = {"cells": size // 2 + 1}
    for algorithm, spus in ((TNGD, 1), (TNGD, 2)):
        with pytest.raises(CapacityError, match="needs 385 cells"):
            run(algorithm, machine(1, spus, **few), live=False)
    made, _ = run(SPLIT, machine(1, 2, **few), live=False)
    assert made.task.layout.size == size


def test_links_of_their_own_carry_their_own_share():
    """A link that leads to one of k SPUs is held for 1/k of the rows, whoever computed them."""
    steps = {"live": False, "steps": 1}
    _, one = run(SPLIT, machine(), **steps)
    _, four = run(SPLIT, machine(2, 2), **steps)

    def busy(memory: Memory, kind: str) -> int:
        held: dict[str, int] = {}
        for span in memory.spans:
            if span["kind"] == kind and span["lane"].startswith("to ") and "spu" in span["lane"]:
                held[span["part"]] = held.get(span["part"], 0) + span["end_ps"] - span["start_ps"]
        return max(held.values())

    whole, half = busy(one, "upload jacobian"), busy(four, "upload jacobian")
    assert half == pytest.approx(whole / 2, rel=0.01)
    assert {s["part"] for s in four.spans if s["kind"] == "upload hessian"} >= {"gpu0-spu0"}
    assert not [s for s in four.spans if s["part"] == "gpu1-spu1" and "hessian" in s["kind"]]


@settings(max_examples=5)
@given(spus=st.integers(1, 4), power=st.sampled_from(["2 mW", "0 W"]))
def test_lines_between_neighbours_are_counted(spus, power):
    """r for u and r for w between any two: 2 r (k - 1) of them draw power."""
    made, _ = run(SPLIT, machine(1, spus, crossing_power=power), live=False, steps=1)
    rows = 4 * 10
    found = [r for r in made.machine.static_power() if r.component == "lines to other SPUs"]
    watts = 2e-3 if power == "2 mW" else 0.0
    assert sum(row.power_w for row in found) == pytest.approx(2 * rows * (spus - 1) * watts)
    assert [row.part for row in found] == [f"spu{k}" for k in range(spus if spus > 1 else 0)]


@pytest.mark.parametrize(("bandwidth", "slow"), [("1 GHz", False), ("1 MHz", True)])
def test_lines_that_are_too_slow_are_an_event(bandwidth, slow):
    """A tenth of the fastest mode's time constant, for 2 (k - 1) lines in a row."""
    made, memory = run(SPLIT, machine(1, 3, crossing_bandwidth=bandwidth))
    events = [event for event in memory.events if event.kind == "slow lines"]
    assert bool(events) is slow
    limit = next(r for r in made.machine.limits() if r.name == "crossing_rate")
    assert (limit.share > 1) is slow and limit.needed > 0
    systems = [s.system for s in made.machine.spus]
    assert limit.needed >= 10 * 4 * systems[0].facts["largest_eigenvalue"]


def test_unlike_spus_are_refused():
    spu = {"kind": "spu", **{k: v for k, v in IDEAL.items() if k != "count"}}
    nodes = {
        "g": {"kind": "gpu", "part": "a100-sxm4-80gb"},
        "s": spu,
        "t": {**spu, "resistance": "2 kohm"},
    }
    edges = [{"between": ["g", name], "link": "paper-50gbps"} for name in "st"]
    made = document(SPLIT)
    made["machine"] = {"nodes": nodes, "edges": edges}
    with pytest.raises(InputError, match="expected SPUs that are alike"):
        execute(made, live=False)


@pytest.mark.parametrize("mode", [{}, {"mode": "asynchronous", "pipeline": "upload"}])
def test_without_tensors_the_same_schedule_ends_with_the_same_key(mode):
    parts = machine(2, 3, buffering="double")
    algorithm = {**SPLIT, **mode, "curvature": "sampled_fisher"}
    live, seen = run(algorithm, parts)
    timed, dry = run(algorithm, parts, live=False)
    assert live.theta.key == timed.theta.key
    assert [s["end_ps"] for s in seen.spans] == [s["end_ps"] for s in dry.spans]
    assert seen.steps[-1]["end_ps"] > to_ps(1e-6)


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(InputError, match="a multiple of 3"):
        hybridsim.load(document(TNGD, machine=machine(3)))
