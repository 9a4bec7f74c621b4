"""What the three methods cost: forms of the counted work, memory, and who uses which part."""

from __future__ import annotations

import pytest
import torch
from harness import document, execute
from hypothesis import given
from hypothesis import settings as run
from hypothesis import strategies as st
from small_tasks import random_task
from torch import nn

from hybridsim.algorithms.natural_gradient.linearization import linearize
from hybridsim.algorithms.ngd import conjugate_gradients, direct
from hybridsim.errors import CapacityError
from hybridsim.hardware.requests import decode
from hybridsim.operations.count import count

NGD = {"kind": "ngd", "learning_rate": 0.1, "damping": 0.1}
ALONE = {"link": None, "spus": None}
CURVATURES = st.sampled_from(["ggn", "empirical_fisher"])


def tall(width, size):
    def network():
        return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 3))

    return random_task(network, "cross_entropy", 0, (4,), (3,), size)


@run(max_examples=8)
@given(CURVATURES, st.integers(5, 40), st.integers(2, 9))
def test_products_and_factorisations_are_those_of_the_textbook(curvature, width, size):
    """Cholesky: 2 r N^2 for A, N^3/3, 2 N^2; Woodbury: 2 r^2 N, r^3/3, 2 r^2 and two products
    2 r N."""
    task, theta, batch = tall(width, size)
    lin, shift = linearize(task, theta, batch, curvature=curvature).value, torch.tensor(0.1)
    r, n = lin.jacobian.shape
    root = 2 * r * 3 * n if curvature == "ggn" else 0
    expected = {
        direct.cholesky: 2 * r * n**2 + n**3 / 3 + 2 * n**2,
        direct.woodbury: 2 * r**2 * n + r**3 / 3 + 2 * r**2 + 2 * (2 * r * n),
    }
    for method, flop in expected.items():
        work = count(method, (lin, shift.double()), {})[0]
        matrix = sum(k.flop * k.count for k in work.kernels if k.matrix)
        elementwise = 6 * r * n + 20 * n + 2 * n**2
        assert root + flop <= work.flop + 1e-6
        assert matrix <= work.flop <= root + flop + elementwise
        (factor,) = [k for k in work.kernels if k.routine == "cholesky"]
        assert factor.shape == (1, n if method is direct.cholesky else r)


@run(max_examples=5)
@given(CURVATURES)
def test_an_iteration_holds_neither_the_jacobian_nor_the_curvature(curvature):
    """Its memory stays a few vectors, whatever the batch: activations apart."""
    peaks = {}
    for size in (4, 32):
        task, theta, batch = tall(200, size)
        shift = theta.new_tensor(0.1)
        state = conjugate_gradients.start(theta).value
        args = (task, theta, batch, shift, state)
        peaks[size] = count(conjugate_gradients.iterate, args, {"curvature": curvature})[0]
    n = len(theta)
    assert peaks[32].peak_bytes < 32 * n * theta.itemsize
    grown = peaks[32].peak_bytes - peaks[4].peak_bytes
    assert grown <= 28 * 8 * (10 * 200)


def test_a_gpu_too_small_for_the_matrix_runs_what_does_not_form_it():
    """N = 30,010: two matrices of 3.6 GB."""
    workload = {"source": "digits_mlp", "options": {"hidden": 400, "depth": 1}}
    machine = {**ALONE, "gpu": {"part": "a100-sxm4-80gb", "memory_capacity": "5 GB"}}
    fields = {"workload": workload, "machine": machine, "steps": 1}
    with pytest.raises(CapacityError, match="'solve' needs"):
        execute(document({**NGD, "method": "cholesky"}, **fields), live=False)
    for method in ("woodbury", "cg"):
        execute(document({**NGD, "method": method}, **fields), live=False)


def test_memory_that_stays_between_operations_is_counted():
    """The iterate with the smallest residual, the last solution, the parameters before a step."""
    base = {**NGD, "method": "cg", "iterations": 2}
    rule = {"levenberg_marquardt": {"every": 1}}
    found = []
    for more in ({}, {"warm_start": True}, {"warm_start": True, **rule}, {"method": "woodbury"}):
        made, _ = execute(document({**base, **more}, machine=ALONE, steps=1), live=False)
        found.append((made.machine.gpus[0].resident_bytes - made.resident_bytes()) // 4)
    size = made.task.layout.size
    assert found == [size, 2 * size, 3 * size, 0]


def test_the_host_waits_for_every_residual_it_reads():
    """An iteration, and the update after the last, is launched when the host has read the one
    before."""
    waits = {}
    for method in ("cg", "woodbury"):
        algorithm = {**NGD, "method": method, "iterations": 5}
        _, sink = execute(document(algorithm, machine=ALONE, steps=1), live=False)
        requests = {row.request: decode(row.form, row.detail) for row in sink.requests}
        waits[method] = [s["kind"] for s in sink.spans if requests[s["request"]].synchronous]
    assert waits == {"cg": ["cg iteration"] * 5 + ["update"], "woodbury": []}


def test_the_first_gpu_computes_and_the_others_idle():
    gpu = {"part": "a100-sxm4-80gb", "count": 3, "interconnect": "nvlink3"}
    one, sink = execute(document(NGD, machine=ALONE, batch_size=4))
    three, others = execute(document(NGD, machine={**ALONE, "gpu": gpu}, batch_size=4))
    assert torch.equal(one.theta.value, three.theta.value)
    assert {s["part"] for s in others.spans} == {"gpu0"}
    assert len(three.machine.static_power()) == 3 * len(one.machine.static_power())
    assert len(sink.spans) == len(others.spans)
