"""The K-FAC program: what it computes against plain dense algebra, whatever the machine looks
like."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import pytest
import torch
from forbid import NoSolver
from harness import IDEAL, document, execute

from hybridsim.algorithms.kfac.factors import factors
from hybridsim.algorithms.kfac.layers import blocks
from hybridsim.operations.count import signature
from hybridsim.rng import Draw
from hybridsim.tasks.task import batch, batch_indices

DENSE = {"source": "digits_mlp", "options": {"hidden": 5, "depth": 1}}
CONVOLUTION = {"source": "digits_cnn", "options": {"channels": 3, "hidden": 6}}
KFAC = {
    "kind": "kfac",
    "learning_rate": 0.05,
    "damping": 0.1,
    "settle": "1000000 tau",
    "update": {"kind": "nesterov", "momentum": 0.5},
    "ema": 0.5,
}
SPUS = {**IDEAL, "count": 4}


def train(algorithm=None, steps=20, live=True, machine=None, **changes):
    changes = {"workload": DENSE, "precision": "float64", "steps": steps, "seed": 3} | changes
    return execute(
        document(
            {**KFAC, **(algorithm or {})}, machine={"spus": SPUS} | (machine or {}), **changes
        ),
        live,
        False,
    )


def relative(found, expected, start):
    """Difference of two parameter vectors over the distance that training went."""
    return float((found - expected).norm() / (expected - start).norm())


def reference(made, rule="pi", every=(1, 1), stale=False, kl_clip=None):
    """K-FAC written down plainly: torch.linalg.solve, its factors from ``factors`` (checked
    elsewhere)."""
    algorithm, task = made.settings, made.task
    theta, velocity, averages, snapshots = made.parameters().value, 0.0, None, []
    settings = {"fisher": algorithm.fisher, "sharing": algorithm.sharing}
    for step in range(made.steps):
        data = batch(
            task.data, batch_indices(made.seed, len(task.data.train_x), made.batch_size, step)
        )
        value = factors(task, theta, data, Draw(0, 0, made.batch_size), **settings).value
        if step % every[0] == 0:
            new = {(side, name): m for side in "ag" for name, m in value[side].items()}
            averages = (
                new if averages is None else {k: 0.5 * averages[k] + 0.5 * new[k] for k in new}
            )
        if step % every[1] == 0:
            snapshots.append(averages)
        used = (
            snapshots[-2]
            if stale and len(snapshots) > 1 and step % every[1] == 0
            else snapshots[-1]
        )
        parts = {
            b.name: solved(b.name, used, value["d"][b.name], rule)
            for b in blocks(task, sharing="expand")
        }
        scale = 1.0
        if kl_clip is not None:
            inner = sum(float((parts[n] * value["d"][n]).sum()) for n in parts)
            scale = min(1.0, (kl_clip / (0.05**2 * abs(inner))) ** 0.5)
        direction = flat(task, {name: scale * part for name, part in parts.items()})
        velocity = 0.5 * velocity + direction
        theta = theta - 0.05 * (direction + 0.5 * velocity)
    return theta


def solved(name, averages, d, rule):
    a, g = averages["a", name], averages["g", name]
    pi = 1.0 if rule == "plain" else float(torch.sqrt(a.diagonal().mean() / g.diagonal().mean()))
    if rule == "exact":
        curvature = torch.kron(g, a) + 0.1 * identity(len(a) * len(g))
        return torch.linalg.solve(curvature, d.reshape(-1)).reshape(d.shape)
    root = 0.1 if rule == "plain" else 0.1**0.5
    left = torch.linalg.solve(g + root / pi * identity(len(g)), d)
    return torch.linalg.solve(a + pi * root * identity(len(a)), left.T).T


def identity(size):
    return torch.eye(size, dtype=torch.float64)


def flat(task, parts):
    """Parts (m, n + 1) of dense and convolutional layers in the order of theta."""
    named = {}
    for name, part in parts.items():
        shape = dict(zip(task.layout.names, task.layout.shapes, strict=True))[f"{name}.weight"]
        named[f"{name}.weight"], named[f"{name}.bias"] = part[:, :-1].reshape(shape), part[:, -1]
    return task.layout.flatten(named)


@pytest.mark.parametrize("workload", [DENSE, CONVOLUTION])
@pytest.mark.parametrize("rule", ["plain", "pi", "exact"])
def test_digital_kfac_is_the_plain_algorithm(rule, workload):
    made, _ = train({"method": "digital", "damping_rule": rule}, workload=workload)
    assert relative(made.theta.value, reference(made, rule), made.parameters().value) < 1e-8


@pytest.mark.parametrize("rule", ["plain", "pi"])
@pytest.mark.parametrize("workload", [DENSE, CONVOLUTION])
def test_method_2_after_long_settling_is_digital_kfac(rule, workload):
    """Twenty steps in float64, to 1e-8; and nowhere a solver."""
    with NoSolver():
        made, _ = train({"damping_rule": rule}, workload=workload)
    digital, _ = train({"method": "digital", "damping_rule": rule}, workload=workload)
    assert relative(made.theta.value, digital.theta.value, made.parameters().value) < 1e-8
    assert relative(made.theta.value, reference(made, rule), made.parameters().value) < 1e-8


VARIANTS = {
    "unit columns": {"method": "inverse"},
    "columns spread": {"placement": "columns"},
    "layers in turn": {"placement": "layers"},
    "unit columns spread": {"method": "inverse", "placement": "columns"},
    "not pipelined": {"pipelining": False},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_way_to_the_inverse_is_digital_kfac(name):
    with NoSolver():
        made, _ = train(VARIANTS[name])
    assert relative(made.theta.value, reference(made), made.parameters().value) < 1e-8


@pytest.mark.parametrize("cells", [64, 23, 7])
@pytest.mark.parametrize("method", ["solves", "inverse"])
def test_tiles_are_digital_kfac(method, cells):
    """Block elimination on SPUs that hold a third, or a tenth, of the largest factor (order 65)."""
    spus = {"spus": {**SPUS, "cells": cells}}
    with NoSolver():
        made, sink = train({"method": method, "tiling": True}, machine=spus)
    assert relative(made.theta.value, reference(made), made.parameters().value) < 1e-8
    tiles = [
        s for s in sink.spans if s["kind"] == "settle a" and s["layer"] == "0" and s["step"] == 1
    ]
    assert len(tiles) == -(-65 // cells)


def test_activations_in_the_array_are_digital_kfac_without_average():
    digital, _ = train({"method": "digital", "ema": 0.0})
    with NoSolver():
        made, _ = train({"upload": "activations", "ema": 0.0})
    assert relative(made.theta.value, digital.theta.value, made.parameters().value) < 1e-8


@pytest.mark.parametrize("method", ["digital", "solves", "inverse"])
@pytest.mark.parametrize("every", [(1, 1), (1, 3), (2, 4), (3, 3)])
@pytest.mark.parametrize("stale", [False, True])
def test_intervals_and_staleness(method, every, stale):
    """Factors every T1, inverses every T2 steps; stale: the step that renews still uses what was
    there before."""
    changes = {
        "method": method,
        "factors_every": every[0],
        "inverses_every": every[1],
        "stale": stale,
    }
    made, sink = train(changes, steps=9)
    assert (
        relative(
            made.theta.value, reference(made, every=every, stale=stale), made.parameters().value
        )
        < 1e-8
    )
    expected = [(s % every[1]) or (every[1] if stale and s else 0) for s in range(9)]
    assert [row["staleness_steps"] for row in sink.steps] == expected


@pytest.mark.parametrize("kl_clip", [1e-6, 1e-3, 1e3])
def test_kl_clipping(kl_clip):
    made, _ = train({"method": "digital", "kl_clip": kl_clip}, steps=6)
    expected = reference(made, kl_clip=kl_clip)
    assert relative(made.theta.value, expected, made.parameters().value) < 1e-8


UPDATES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.5, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.05),
    "nadamw": lambda p: torch.optim.NAdam(
        p, lr=0.05, weight_decay=0.01, decoupled_weight_decay=True
    ),
}


@pytest.mark.parametrize("update", UPDATES)
def test_the_direction_feeds_the_base_optimizer(update):
    given = {"nesterov": {"momentum": 0.5}, "nadamw": {"weight_decay": 0.01}}.get(update, {})
    algorithm = {"method": "digital", "update": {"kind": update, **given}}
    first, _ = train({**algorithm, "update": "sgd"}, steps=1)
    start = first.parameters().value
    direction = (start - first.theta.value) / 0.05
    made, _ = train(algorithm, steps=1)
    parameter = start.clone().requires_grad_()
    parameter.grad = direction
    UPDATES[update]([parameter]).step()
    tolerance = (
        1e-6 if update == "nadamw" else 1e-9
    )  # torch.optim.NAdam keeps its product of momenta in float32
    assert relative(made.theta.value, parameter.detach(), start) < tolerance


def test_covariance_of_the_noise_converges_as_one_over_the_root_of_the_samples():
    """Method 1 from noise: the step's error falls with slope -1/2 in the number of samples."""
    exact = [train({"method": "digital"}, steps=1, seed=seed)[0] for seed in range(4)]
    errors = []
    for samples in (500, 2_000, 8_000):
        found = []
        for seed in range(4):
            algorithm = {
                "method": "noise", "noise": 1e-2, "settle": "1000 tau",
                "covariance": {"samples": samples, "spacing": "100 tau"},
            }  # fmt: skip
            with NoSolver():
                made, _ = train(algorithm, steps=1, seed=seed)
            one = exact[seed]
            found.append(relative(made.theta.value, one.theta.value, one.parameters().value))
        errors.append(sum(found) / len(found))
    slopes = [math.log(b / a) / math.log(4) for a, b in pairwise(errors)]
    assert all(-0.7 < slope < -0.3 for slope in slopes), (errors, slopes)


GPUS = {"gpu": {"part": "a100-sxm4-80gb", "count": 4, "interconnect": "nvlink3"}}


@pytest.mark.parametrize("method", ["digital", "solves"])
@pytest.mark.parametrize("fisher", ["type2", "mc", "empirical"])
def test_several_gpus_are_one_with_the_global_batch(method, fisher):
    algorithm = {"method": method, "fisher": fisher}
    alone, _ = train(algorithm, batch_size=8, steps=8)
    together, sink = train(algorithm, batch_size=8, steps=8, machine=GPUS)
    assert relative(together.theta.value, alone.theta.value, alone.parameters().value) < 1e-9
    assert {s["part"] for s in sink.spans if s["kind"] == "factors"} == {
        f"gpu{k}" for k in range(4)
    }
    losses = [[row["train_loss"] for row in run.steps] for run in (sink, _)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


def test_a_draw_of_another_size_is_other_work():
    """Batches of four, then of eight examples, in one process and of one task."""
    mc = {"method": "digital", "fisher": "mc"}
    for size in (4, 8, 2):
        train(mc, batch_size=size, steps=1)
    made = [Draw(5, 0, 8), Draw(6, 4, 8), Draw(5, 0, 4)]
    forms = [signature((draw,), {}) for draw in made]
    assert forms[0] == forms[1] != forms[2]


def test_fidelity_is_one_at_rest_and_falls_with_settling_and_bits():
    """The diagnostic against the joined exact solutions: all blocks, solved here by the plain
    algorithm."""
    found = {}
    for name, settle, bits in (
        ("rest", "1000000 tau", "ideal"),
        ("short", "3 tau", "ideal"),
        ("coarse", "1000000 tau", 6),
    ):
        machine = {"spus": {**SPUS, "input_bits": bits}}
        document_ = document(
            {**KFAC, "settle": settle},
            workload=DENSE,
            precision="float64",
            steps=1,
            machine=machine,
        )
        made, sink = execute(document_)
        found[name] = sink.steps[0]
        if name == "short":
            exact = reference(made) - made.parameters().value
            moved = made.theta.value - made.parameters().value
            error = float((moved - exact).norm() / exact.norm())
            assert found[name]["solver_relative_error"] == pytest.approx(error, rel=1e-6)
    assert found["rest"]["solver_relative_error"] < 1e-9 and found["rest"][
        "solver_cosine"
    ] == pytest.approx(1.0)
    assert found["short"]["solver_relative_error"] > 0.1
    assert found["coarse"]["solver_relative_error"] > 0.01 and found["coarse"]["rounding_shift"] > 0
    assert "rounding_shift" not in found["rest"] or found["rest"]["rounding_shift"] == 0


def test_a_factor_with_a_negative_eigenvalue_is_reported_as_a_runaway():
    """Too little analog time for the first tile leaves a Schur complement that is not definite."""
    machine = {"spus": {**SPUS, "cells": 23}}
    algorithm = {**KFAC, "tiling": True, "settle": "0.5 tau", "damping": 1e-4, "noise": 10.0}
    _, sink = execute(document(algorithm, workload=DENSE, steps=1, machine=machine))
    kinds = {event.kind for event in sink.events}
    assert "runaway" in kinds


SHARED = {
    "gpt": {
        "vocabulary": 12,
        "width": 8,
        "sequence": 5,
        "depth": 1,
        "heads": 2,
        "train_size": 40,
        "test_size": 4,
    },
    "gnn": {"latent": 6, "steps": 2, "train_size": 40, "test_size": 4},
    "vit": {"width": 8, "mlp": 12, "depth": 1, "heads": 2, "train_size": 40, "test_size": 4},
}


@cache
def at_many_positions(workload, sharing, method):
    changes = {"workload": {"source": workload, "options": SHARED[workload]}, "steps": 5}
    algorithm = {"sharing": sharing, "fisher": "mc", "learning_rate": 0.01, "damping_rule": "plain"}
    return train({**algorithm, "method": method}, **changes)[0]


@pytest.mark.parametrize("workload", SHARED)
@pytest.mark.parametrize("sharing", ["expand", "reduce"])
@pytest.mark.parametrize("method", ["solves", "inverse"])
def test_embeddings_attention_and_messages(workload, sharing, method):
    """Layers at many positions, diagonal factors, parameters outside: SPUs at rest are the GPU's
    Cholesky.

    Damping ``plain``: the slopes of attention's keys add up to zero over the positions, so under
    ``pi`` and reduce G and its share of the damping are rounding errors, and no analog time is long
    enough.
    """
    digital = at_many_positions(workload, sharing, "digital")
    with NoSolver():
        made = at_many_positions(workload, sharing, method)
    assert relative(made.theta.value, digital.theta.value, made.parameters().value) < 1e-8
