"""Data-parallel first-order training: the numbers of one GPU with the whole batch, in the time of
its parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from harness import document, execute, session
from hypothesis import given, settings
from hypothesis import strategies as st

import hybridsim
from hybridsim.algorithms.first_order.program import GRADIENT
from hybridsim.algorithms.group import MEAN, Group
from hybridsim.errors import CapacityError, InputError
from hybridsim.hardware.kinds import price
from hybridsim.hardware.lane import Issuer, Label
from hybridsim.hardware.requests import Compute
from hybridsim.operations import reductions as parallel
from hybridsim.tasks.task import batch_indices

KINDS = ("sgd", "nesterov", "adam", "nadamw")
PART = "a100-sxm4-80gb"


def parallel_document(
    kind: str, gpus: int, batch_size: int = 8, steps: int = 4, **machine: Any
) -> dict[str, Any]:
    algorithm = {"kind": kind, "learning_rate": 0.05}
    # Where a gradient is nearly zero, Adam divides its rounding error by epsilon.
    algorithm |= {"epsilon": 1e-3} if kind in ("adam", "nadamw") else {}
    made = document(algorithm, batch_size=batch_size, steps=steps)
    made["machine"] = {"gpu": {"part": PART, "count": gpus, **machine}}
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_any_number_of_gpus_trains_as_one(kind, precision, tolerance):
    """Equal to the rounding of sums that are taken in another order."""
    thetas, losses = [], []
    for gpus in (1, 2, 4, 8):
        made = parallel_document(kind, gpus)
        made["training"]["precision"] = precision
        done, memory = execute(made)
        assert str(done.theta.value.dtype) == f"torch.{precision}"
        thetas.append(done.theta.value)
        losses.append([row["train_loss"] for row in memory.steps])
    start = session(parallel_document(kind, 1))[0].theta.value
    assert (thetas[0] - start).abs().max() > 0.01, "nothing was learnt, so nothing was compared"
    for theta, loss in zip(thetas[1:], losses[1:], strict=True):
        torch.testing.assert_close(theta, thetas[0], rtol=tolerance, atol=tolerance)
        assert loss == pytest.approx(losses[0], rel=tolerance)


def test_the_shares_of_a_batch_are_the_batch():
    made, _ = session(parallel_document("sgd", 4))
    for step in (1, 2, 7):
        whole, shares = made.batch(step), [made.batch(step, shard=(k, 4)) for k in range(4)]
        indices = batch_indices(made.seed, len(made.task.data.train_x), 8, step - 1)
        torch.testing.assert_close(whole.value[0], made.task.data.train_x[indices], rtol=0, atol=0)
        for part in (0, 1):
            torch.testing.assert_close(
                torch.cat([s.value[part] for s in shares]), whole.value[part], rtol=0, atol=0
            )
        assert len({whole.key, *(share.key for share in shares)}) == 5
    with pytest.raises(InputError, match="a multiple of 3, the number of GPUs, got 8"):
        made.batch(1, shard=(0, 3))


@settings(deadline=None, max_examples=10)
@given(gpus=st.sampled_from([2, 4, 8]), bandwidth=st.floats(1, 2000), latency=st.floats(0, 5))
def test_a_step_is_gradient_all_reduce_update(gpus, bandwidth, latency):
    """2 (G - 1) hops of N/G numbers of 32 bits between two prices that one GPU would ask for its
    share."""
    wire = {"interconnect": {"bandwidth": f"{bandwidth!r} Gb/s", "latency": f"{latency!r} us"}}
    done, memory = execute(parallel_document("adam", gpus, steps=3, **wire), live=False)
    spans = [span for span in memory.spans if span["part"] == "gpu0" and span["lane"] == "compute"]
    lengths = {span["kind"]: (span["end_ps"] - span["start_ps"]) * 1e-12 for span in spans}
    piece = -(-32 * done.task.layout.size // gpus)
    hops_s = 2 * (gpus - 1) * (piece / (bandwidth * 1e9) + 2 * latency * 1e-6)
    expected_s = (
        lengths["gradient"] + hops_s + (gpus - 1) * lengths["all-reduce add"] + lengths["update"]
    )
    for row in memory.steps:
        assert (row["end_ps"] - row["start_ps"]) * 1e-12 == pytest.approx(
            expected_s, rel=1e-9, abs=1e-10
        )
    alone, _ = session(parallel_document("adam", 1, batch_size=8 // gpus), live=False)
    args = (alone.task_ref, alone.theta, alone.batch(1))
    found = price(alone.machine.gpu.sheet, Compute(alone.backend.work(GRADIENT, args)[0]))
    assert found.duration_ps * 1e-12 == pytest.approx(lengths["gradient"], rel=1e-12)


def test_every_gpu_does_the_same_work_at_the_same_time():
    _, memory = execute(parallel_document("nadamw", 4))
    lanes: dict[str, list[tuple[Any, ...]]] = {}
    for span in memory.spans:
        if span["lane"] == "compute":
            columns = ("kind", "step", "start_ps", "end_ps", "flop", "bytes", "energy_j")
            lanes.setdefault(span["part"], []).append(tuple(span[c] for c in columns))
    assert sorted(lanes) == ["gpu0", "gpu1", "gpu2", "gpu3"]
    assert all(sorted(lane) == sorted(lanes["gpu0"]) for lane in lanes.values())


def test_replicas_compute_their_numbers_once(monkeypatch):
    made, _ = session(parallel_document("sgd", 4))
    group, called = Group(made), []
    evaluate = made.backend.evaluate
    monkeypatch.setattr(made.backend, "evaluate", lambda *a: called.append(a) or evaluate(*a))

    def run():
        results = yield from group.replicate(Label("mean", 1), MEAN, [(made.theta, made.theta)] * 4)
        assert len({ref.spans for ref in results}) == 4
        assert len({ref.key for ref in results}) == 1
        assert len({issuer.last for issuer in group.issuers}) == 1
        branch = group.fork()
        yield from branch.each(Label("mean", 1), MEAN, [(r,) for r in results])
        assert branch.issuers[0].last > group.issuers[0].last

    made.machine.context.env.run(made.machine.context.env.process(run()))
    assert len(called) == 1 + 4


def test_the_loss_is_the_mean_of_the_shares():
    made, _ = session(parallel_document("sgd", 4))
    group = Group(made)

    def run():
        args = [(made.task_ref, made.theta, share) for share in group.shards(1)]
        slopes = yield from group.each(Label("gradient", 1), GRADIENT, args)
        expected = sum(slope.facts["train_loss"] for slope in slopes) / 4
        assert group.loss(slopes).facts == {"train_loss": pytest.approx(expected)}
        whole = made.backend.evaluate(GRADIENT, (made.task_ref, made.theta, made.batch(1)))
        assert expected == pytest.approx(whole.facts["train_loss"], rel=1e-6)
        joined = parallel.mean(*(slope.value for slope in slopes)).value
        torch.testing.assert_close(joined, whole.value, rtol=1e-5, atol=1e-7)

    made.machine.context.env.run(made.machine.context.env.process(run()))
    assert Group(made, issuers=[Issuer(3) for _ in range(4)]).issuers[2].last == 3


def general(parts: dict[str, dict[str, str]]) -> dict[str, Any]:
    nodes = {name: {"kind": "gpu", "part": PART, **constants} for name, constants in parts.items()}
    edges = [{"between": [name, "x"], "link": "nvlink3"} for name in parts]
    return {"nodes": nodes | {"x": {"kind": "switch"}}, "edges": edges}


def test_memory_is_checked_on_every_gpu():
    made = parallel_document("adam", 2)
    made["machine"] = general({"big": {}, "small": {"memory_capacity": "300 kB"}})
    with pytest.raises(CapacityError, match="small"):
        hybridsim.run(hybridsim.load(made))


@settings(deadline=None, max_examples=10)
@given(launch=st.floats(20, 500))
def test_the_slower_of_two_gpus_sets_the_pace(launch):
    """A step takes what the slower one computes, and the two hops of the piece that it adds to."""
    made = parallel_document("adam", 2, steps=1)
    made["machine"] = general({"a": {}, "b": {"launch_interval": f"{launch!r} us"}})
    done, memory = execute(made, live=False)
    computed = sum(
        s["end_ps"] - s["start_ps"]
        for s in memory.spans
        if (s["part"], s["lane"]) == ("b", "compute")
    )
    route = done.machine.route("a", "b")
    hop_ps = route.occupancy_ps(16 * done.task.layout.size) + route.latency_ps
    assert memory.steps[0]["end_ps"] == computed + 2 * hop_ps


def test_a_batch_is_shared_equally_or_refused():
    with pytest.raises(InputError) as caught:
        hybridsim.load(parallel_document("adam", 3))
    assert [(p.path, p.expected) for p in caught.value.problems] == [
        ("training.batch_size", "a multiple of 3, the number of GPUs")
    ]
