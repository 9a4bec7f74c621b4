"""One set of resistors written in pairs of rows while the circuit relaxes: against a loop of dense
systems, and what it is not for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from harness import IDEAL, document, execute
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import hybridsim
from hybridsim.algorithms.catalogue import algorithm_of
from hybridsim.algorithms.natural_gradient.linearization import Linearization, linearize
from hybridsim.algorithms.tngd import device, row_pairs
from hybridsim.circuits.load import Array, Load
from hybridsim.errors import InputError
from hybridsim.scenario.unused import unused_fields
from hybridsim.tasks.task import batch, batch_indices

TNGD = {"kind": "tngd", "learning_rate": 0.1, "damping": 0.1, "settle": "20 tau"}
ASYNCHRONOUS = {**TNGD, "mode": "asynchronous", "wait": "5 tau"}
ROWS = {**IDEAL, "buffering": "row_pairs"}


def dense(lin: Linearization, damping: float) -> torch.Tensor:
    """JᵀHJ/b + lambda I, or of the Fisher JᵀJ/b; float64 (N, N)."""
    j, size = lin.jacobian.double(), lin.size
    hessian = torch.eye(len(j)).double()
    if lin.hessian is not None:
        hessian = torch.block_diag(*lin.hessian.double())
    return j.mT @ hessian @ j / size + damping * torch.eye(j.shape[1]).double()


def relaxed(a: torch.Tensor, x: torch.Tensor, g: torch.Tensor, tau: float) -> torch.Tensor:
    """x after tau of x' = g - A x."""
    values, vectors = torch.linalg.eigh(a)
    fixed = torch.linalg.solve(a, g)
    return fixed + vectors @ (torch.exp(-tau * values) * (vectors.mT @ (x - fixed)))


def joined(old: Linearization, new: Linearization, terms: int) -> Linearization:
    """The new rows of so many loss terms, the old ones of the others."""
    rows = len(new.jacobian) // len(new.residual) * terms
    jacobian = torch.cat([new.jacobian[:rows], old.jacobian[rows:]])
    if new.hessian is None or old.hessian is None:
        return new._replace(jacobian=jacobian)
    hessian = torch.cat([new.hessian[:terms], old.hessian[terms:]])
    return new._replace(jacobian=jacobian, hessian=hessian)


@settings(max_examples=3, deadline=None, phases=[Phase.generate])
@given(
    seed=st.integers(0, 1000),
    size=st.integers(2, 7),
    curvature=st.sampled_from(["ggn", "empirical_fisher"]),
    bandwidth=st.sampled_from(["0.1 Gb/s", "1 Gb/s"]),
)
def test_it_relaxes_for_the_rows_that_it_holds(
    seed: int, size: int, curvature: Any, bandwidth: str
) -> None:
    """Two steps, by dense systems over the times that the spans tell."""
    algorithm = {**ASYNCHRONOUS, "curvature": curvature, "wait": "0.5 tau"}
    machine = {"spus": ROWS, "link": {"part": "paper-50gbps", "bandwidth": bandwidth}}
    made, sink = execute(document(algorithm, steps=2, batch_size=size, seed=seed, machine=machine))
    spans = [span for span in sink.spans if span["role"] == "background"]
    taus = [(span["end_ps"] - span["start_ps"]) / 1e6 for span in spans]
    ends = [span["end_ps"] for span in spans]
    assert [span["start_ps"] for span in spans[1:]] == ends[:-1]  # without pause
    theta, task, data = made.parameters().value, made.task, made.task.data

    def linearized(step: int) -> Linearization:
        drawn = batch_indices(made.seed, len(data.train_x), size, step - 1)
        found: Linearization = linearize(task, theta, batch(data, drawn), curvature=curvature).value
        return found

    old = linearized(1)
    g = x = old.gradient.double()
    x = relaxed(dense(old, 0.1), x, g, taus.pop(0))
    theta = theta - 0.1 * x.to(theta.dtype)
    new = linearized(2)
    for chunk in range(5):
        mixed = joined(old, new, size * chunk // 4)
        x = relaxed(dense(mixed, 0.1), x, g, taus.pop(0))
    x = relaxed(dense(new, 0.1), x, new.gradient.double(), taus.pop(0))
    theta = theta - 0.1 * x.to(theta.dtype)
    moved = (theta - made.parameters().value).abs().max()
    assert float((made.theta.value - theta).abs().max()) < 2e-5 * float(moved) + 2e-7


@pytest.mark.parametrize("curvature", ["ggn", "empirical_fisher", "sampled_fisher"])
@pytest.mark.parametrize("imperfections", ["realistic", {"base": "ideal", "mismatch": True}])
def test_rows_written_in_pairs_are_systems_that_relax(curvature: str, imperfections: Any) -> None:
    """No mode of a mixture grows; shapes alone know the same operations."""
    algorithm = {**ASYNCHRONOUS, "curvature": curvature}
    spus = {"part": "rc-1us", "imperfections": imperfections, "buffering": "row_pairs"}
    made, sink = execute(document(algorithm, machine={"spus": spus}))
    _, known = execute(document(algorithm, machine={"spus": spus}), live=False)
    steps, other = (
        Counter(span["step"] for span in memory.spans if span["kind"] == "program")
        for memory in (sink, known)
    )
    assert steps == other == {1: 1, 2: 5, 3: 5}
    assert "runaway" not in {event.kind for event in sink.events}
    assert made.theta.value.isfinite().all()


def test_the_last_chunk_is_the_upload() -> None:
    made, _ = execute(document(TNGD, steps=1))
    theta, task = made.parameters().value, made.task
    old, new = (
        linearize(task, theta, batch(task.data, torch.arange(4) + 4 * k)).value for k in (0, 1)
    )
    run = {"damping": 0.1, "input_bits": None}
    for chunks in range(1, 5):
        mixed = row_pairs.upload_rows(old, new, chunks=chunks, **run).value.matrix
        assert torch.equal(mixed.jacobian.tensor[: 10 * chunks], new.jacobian[: 10 * chunks])
        assert torch.equal(mixed.jacobian.tensor[10 * chunks :], old.jacobian[10 * chunks :])
    whole = device.upload(new, **run).value.matrix
    assert torch.equal(mixed.jacobian.tensor, whole.jacobian.tensor) and torch.equal(
        mixed.root, whole.root
    )


@given(sent=st.integers(0, 10_000), written=st.integers(0, 10_000))
def test_chunks_are_together_the_whole(sent: int, written: int) -> None:
    load, chunks = Load(3, 4, 5, written, (Array("a", 1, sent),)), range(1, row_pairs.CHUNKS + 1)
    assert sum(row_pairs.sent(load, k).arrays[0].sent for k in chunks) == sent
    assert sum(row_pairs.written(load, k).written for k in chunks) == written


REFUSED = {
    "several GPUs": ({}, {"gpu": {"part": "a100-sxm4-80gb", "count": 2}}, "with 2 GPUs"),
    "several SPUs": ({"spus": "split"}, {"spus": {**ROWS, "count": 3}}, "with 3 SPUs"),
    "pipeline": ({"pipeline": "upload"}, {}, "pipeline: expected none without a second set"),
    "ensemble": ({"spus": "ensemble"}, {"spus": {**ROWS, "count": 2}}, "first or split in async"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_rows_are_not_written_in_pairs_for_is_refused(what: str) -> None:
    algorithm, machine, message = REFUSED[what]
    with pytest.raises(InputError, match=message):
        hybridsim.load(document({**ASYNCHRONOUS, **algorithm}, machine={"spus": ROWS, **machine}))


@pytest.mark.parametrize(
    "algorithm", [TNGD, {**TNGD, "mode": "asynchronous", "delay": "2 tau"}, {"kind": "kfac"}]
)
def test_where_nothing_relaxes_meanwhile_it_is_named_as_unused(algorithm: dict[str, Any]) -> None:
    settings = {"learning_rate": 0.1, "damping": 0.1, **algorithm}
    scenario = hybridsim.load(document(settings, machine={"spus": ROWS}))
    assert "machine.spus.buffering" in unused_fields(scenario)


def test_in_how_many_chunks_is_assumed() -> None:
    for buffering, expected in (("row_pairs", True), ("double", False)):
        scenario = hybridsim.load(
            document(ASYNCHRONOUS, machine={"spus": {**IDEAL, "buffering": buffering}})
        )
        made, _ = execute(document(ASYNCHRONOUS, steps=1), live=False)
        run = (scenario.training.algorithm, scenario.machine.expand(), made.task)
        said = algorithm_of(scenario.training.algorithm).assumptions(*run)
        assert (row_pairs.ASSUMPTION in said) is expected
