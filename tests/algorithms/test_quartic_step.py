"""TNGD with a quartic term: the step that it asks for, the circuit that takes it, its facts."""

from __future__ import annotations

import pytest
import torch
from harness import document, execute
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.algorithms.natural_gradient.exact import (
    natural_gradient,
    quartic_fidelity,
    quartic_step,
)
from hybridsim.algorithms.natural_gradient.linearization import linearize
from hybridsim.algorithms.tngd import device
from hybridsim.circuits.quartic import TOLERANCE
from hybridsim.errors import InputError
from hybridsim.tasks.task import batch, batch_indices

TNGD = {"kind": "tngd", "learning_rate": 0.1, "damping": 0.1, "settle": "60 tau"}
DAMPING = 0.1


def with_term(strength: float, **more) -> dict:
    return {**TNGD, "regularisation": {"kind": "quartic", "strength": strength}, **more}


def linearization(seed: int):
    made, _ = execute(document(TNGD, seed=seed, steps=1))
    indices = batch_indices(seed, len(made.task.data.train_x), made.batch_size, 0)
    data = batch(made.task.data, indices)
    return linearize(made.task, made.parameters().value, data).value


@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 1000), strength=st.sampled_from([1e-3, 1.0, 1e3]))
def test_the_step_is_where_the_models_slope_vanishes(seed, strength):
    """By a dense matrix; and the circuit gets there."""
    lin = linearization(seed)
    b, d = lin.residual.shape
    j = lin.jacobian.double().reshape(b, d, -1)
    a = torch.einsum("icn,icd,idm->nm", j, lin.hessian.double(), j) / b
    a += DAMPING * torch.eye(j.shape[-1], dtype=torch.float64)
    g = torch.einsum("icn,ic->n", j, lin.residual) / b
    x = quartic_step(lin, damping=DAMPING, strength=strength)
    assert (a @ x + strength * x**3 - g).norm() <= 1e-5 * g.norm()
    system = device.upload(lin, damping=DAMPING, input_bits=None).value
    drive = device.drive(system, lin, bias_bits=None, exact=True).value
    run = {"tau": 300.0, "kappa0": 0.0, "noise_seed": 0, "strength": strength}
    state, facts = device.settle_quartic(system, drive, drive, **run)
    answer = device.read(system, state, output_bits=None).value
    found = quartic_fidelity(lin, answer, damping=DAMPING, strength=strength).facts
    assert found["solver_relative_error"] < 5 * TOLERANCE
    assert facts["splitting_error"] <= TOLERANCE
    if strength < 1e-2:
        linear = natural_gradient(lin, damping=DAMPING)
        assert (x - linear).norm() < 0.05 * linear.norm()


def test_it_trains_and_says_how_exact_the_splitting_was():
    made, sink = execute(document(with_term(10.0), steps=2))
    plain, _ = execute(document(TNGD, steps=2))
    for row in sink.steps:
        assert row["splitting_error"] <= TOLERANCE and row["splitting_steps"] > 1
    ours, theirs = (run.theta.value - run.parameters().value for run in (made, plain))
    assert ours.norm() < 0.95 * theirs.norm()  # shorter steps
    # one element more in every cell, never written
    loads = [run.machine.spus[0].load for run in (made, plain)]
    assert loads[0].resistors - loads[1].resistors == loads[0].cells
    assert loads[0].written == loads[1].written


def test_a_strength_is_positive():
    with pytest.raises(InputError, match="strength"):
        execute(document(with_term(-1.0)))
