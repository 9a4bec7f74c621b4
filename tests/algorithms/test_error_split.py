"""The error of answers split by effect: each alone is the whole, together they bound it."""

from __future__ import annotations

import pytest
import scipy.linalg
import torch
from harness import IDEAL, document, execute
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hybridsim.algorithms.natural_gradient.linearization import linearize
from hybridsim.scenario.imperfections import SWITCHES
from hybridsim.tasks.task import batch, batch_indices

EFFECTS = ("settling", "rounding", "device", "noise", "readout")
REST = "100000 tau"
ASYNCHRONOUS = {"mode": "asynchronous", "delay": "2 tau", "readout": {"samples": 2}}


def rows(algorithm: dict, bits: dict, seed: int = 0, steps: int = 2):
    settings = {"kind": "tngd", "learning_rate": 0.1, "damping": 0.1, "settle": "6 tau"}
    # an imperfection too small to tell: what is split are time, levels and noise
    spus = {**IDEAL, **bits, "imperfections": {"base": "ideal", "mismatch": True}}
    spus["mismatch"] = 1e-13
    given = document({**settings, **algorithm}, seed=seed, steps=steps, machine={"spus": spus})
    made, sink = execute(given)
    return made, sink.steps[-1:]  # diagnostics are due at the last


def parts(row: dict) -> dict[str, float]:
    return {name: row[f"solver_error_{name}"] for name in EFFECTS}


ALONE = {
    "settling": ({}, {}),
    "rounding": ({"settle": REST}, {"input_bits": 6, "bias_bits": 8}),
    "noise": ({"settle": REST, "noise": 1e-4}, {}),
    "readout": ({"settle": REST}, {"output_bits": 6}),
}


@pytest.mark.parametrize("effect", ALONE)
def test_an_effect_by_itself_is_the_whole_error(effect):
    _, found = rows(*ALONE[effect])
    for row in found:
        own = parts(row)
        assert own[effect] > 1e-3
        assert own[effect] == pytest.approx(row["solver_relative_error"], rel=1e-3)
        assert sum(own.values()) - own[effect] < 2e-5


# pixels of half the range lie between two levels of a drive: without bias_bits
KFAC = {
    "settling": ({}, {}),
    "rounding": ({"settle": REST}, {"input_bits": 8}),
    "device": ({"settle": REST, "noise": 1e-4}, {}),
    "readout": ({"settle": REST}, {"output_bits": 6}),
}


@pytest.mark.parametrize("upload", ["factors", "activations"])
@pytest.mark.parametrize("effect", KFAC)
def test_an_effect_by_itself_is_the_whole_error_of_kfac(effect, upload):
    algorithm, bits = KFAC[effect]
    ema = {"ema": 0.0} if upload == "activations" else {}
    _, found = rows({"kind": "kfac", "upload": upload, **ema, **algorithm}, bits)
    row = found[0]
    own = {name: row[f"solver_error_{name}"] for name in KFAC}
    assert own[effect] > 1e-3
    assert own[effect] == pytest.approx(row["solver_relative_error"], rel=1e-3)
    assert sum(own.values()) - own[effect] < 2e-5


@settings(max_examples=3, deadline=None, phases=[Phase.generate])
@given(seed=st.integers(0, 1000), mode=st.sampled_from([{}, {"state": "kept"}, ASYNCHRONOUS]))
def test_parts_bound_the_whole_and_no_settle_is_below_the_least(seed, mode):
    every = {"input_bits": 8, "bias_bits": 8, "output_bits": 8}
    _, found = rows({**mode, "noise": 1e-5}, every, seed, steps=3)
    for row in found:
        own = parts(row)
        assert row["solver_relative_error"] <= sum(own.values()) * (1 + 1e-9)
        assert max(own.values()) <= row["solver_relative_error"] + sum(own.values()) - max(
            own.values()
        )
        assert 0 < row["minimum_dissipation"] < row["settle_dissipation"]
        assert all(-1 <= row[f"solver_cosine_{name}"] <= 1 + 1e-9 for name in EFFECTS[:-1])


def test_the_least_dissipation_is_the_square_of_the_way_over_the_time():
    """And settling's error that of the dense exponential."""
    made, found = rows({}, {}, steps=1)
    theta, tau, damping = made.parameters().value, 6.0, 0.1
    indices = batch_indices(made.seed, len(made.task.data.train_x), made.batch_size, 0)
    lin = linearize(made.task, theta, batch(made.task.data, indices)).value
    b, d = lin.residual.shape
    j = lin.jacobian.double().reshape(b, d, -1)
    a = torch.einsum("icn,icd,idm->nm", j, lin.hessian.double(), j) / b
    a += damping * torch.eye(len(theta), dtype=torch.float64)
    g = torch.einsum("icn,ic->n", j, lin.residual) / b
    solution = torch.linalg.solve(a, g)
    left = torch.from_numpy(scipy.linalg.expm(-tau * a.numpy())) @ (g - solution)
    row = found[0]
    assert row["solver_error_settling"] == pytest.approx(
        float(left.norm() / solution.norm()), rel=1e-4
    )
    moved = float((solution + left - g).square().sum())
    largest = float((solution + left).abs().max())  # the state grows from g
    assert row["minimum_dissipation"] == pytest.approx(moved / tau / largest**2, rel=1e-3)


BUILT = {"imperfections": {"base": "ideal", **dict.fromkeys(SWITCHES, True)}, "output_bits": 10}


@pytest.mark.parametrize("algorithm", [{}, {"spus": "split"}, {"settling": "agreement"}])
def test_a_device_with_every_imperfection_is_split_too(algorithm):
    """Johnson noise is noise; what is read is a device's, whose error the parts bound."""
    settings = {"kind": "tngd", "damping": 0.1, "settle": "6 tau", **algorithm}
    spus = {"part": "rc-1us", "count": 2, **BUILT, "mismatch": 0.05}
    _, sink = execute(document(settings, steps=2, machine={"spus": spus}))
    row = sink.steps[-1]
    if "settling" in algorithm:  # several readings of one solve
        assert "solver_error_noise" not in row
        return
    own = parts(row)
    assert row["solver_relative_error"] <= sum(own.values()) * (1 + 1e-9)
    assert own["device"] > 1e-2 and own["noise"] > 1e-7 and own["settling"] > 1e-3
    assert 0 < row["minimum_dissipation"] < row["settle_dissipation"]


def test_an_ideal_device_is_not_split():
    given = document({"kind": "tngd", "settle": "6 tau"}, steps=1)
    _, sink = execute(given)
    assert not [name for name in sink.steps[0] if name.startswith("solver_error_")]
