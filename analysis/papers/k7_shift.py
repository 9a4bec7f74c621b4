"""What conservative rounding of K-FAC's factors adds to their diagonals, beside the damping that is
asked for.

Rounding that keeps a factor semidefinite must raise its diagonal (physics.precision.conservative,
the fact "diagonal_shift" of programs.kronecker.program): input quantization acts as damping.
Factors are those of digital K-FAC, trained here outside the simulator on the same batches and drawn
labels; the training loss of every step is returned, so that it can be held against the simulator's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hybridsim.algorithms import optimizers
from hybridsim.algorithms.kfac import algebra as kfac
from hybridsim.algorithms.kfac.factors import Draw, factors
from hybridsim.algorithms.kfac.layers import blocks
from hybridsim.circuits.precision import conservative
from hybridsim.rng import address_seed
from hybridsim.scenario.schema import Scenario
from hybridsim.scenario.settings.algorithms import Kfac
from hybridsim.tasks.task import Task, batch, batch_indices

Factors = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Step:
    """Training loss before a step, and the moving averages {block: (A, G)} that it used."""

    loss: float
    averages: Factors


def digital(task: Task, scenario: Scenario) -> Iterator[Step]:
    """K-FAC with digital inverses under Nesterov momentum, step by step, as the scenario's
    algorithm says.
    """
    training = scenario.training
    algorithm = _kfac(scenario)
    theta = task.initial_parameters(scenario.seed)
    state = optimizers.initial_state("nesterov", theta)
    sharing, names = (
        algorithm.sharing,
        [block.name for block in blocks(task, sharing=algorithm.sharing)],
    )
    averages: Factors = {}
    for step in range(1, training.steps + 1):
        indices = batch_indices(
            scenario.seed, len(task.data.train_x), training.batch_size, step - 1
        )
        draw = Draw(address_seed(scenario.seed, "labels", step), 0, training.batch_size)
        found = factors(
            task, theta, batch(task.data, indices), draw, fisher=algorithm.fisher, sharing=sharing
        )
        value = found.value
        if (step - 1) % algorithm.factors_every == 0:
            averages = {
                n: _averaged(averages.get(n), value["a"][n], value["g"][n], algorithm.ema)
                for n in names
            }
        yield Step(float(found.facts["train_loss"]), averages)
        parts = [_solved(*averages[n], value["d"][n], algorithm) for n in names]
        rate = algorithm.learning_rate
        direction = kfac.join(
            task, value["gradient"], *parts, sharing=sharing, learning_rate=rate, kl_clip=None
        ).value
        moved = optimizers.nesterov(
            theta, state, direction, learning_rate=rate, momentum=algorithm.momentum
        )
        theta, state = moved.value


def _kfac(scenario: Scenario) -> Kfac:
    algorithm = scenario.training.algorithm
    assert isinstance(algorithm, Kfac), "the scenario is K-FAC's"
    return algorithm


def _solved(a: Tensor, g: Tensor, d: Tensor, algorithm: Kfac) -> Tensor:
    rule, damping = algorithm.damping_rule, algorithm.damping
    direction: Tensor = kfac.precondition(
        kfac.invert(a, g, damping=damping, rule=rule).value, d, rule=rule, damping=damping
    ).value
    return direction


def _averaged(
    old: tuple[Tensor, Tensor] | None, a: Tensor, g: Tensor, decay: float
) -> tuple[Tensor, Tensor]:
    averaged: tuple[Tensor, Tensor] = (
        (a, g) if old is None else kfac.average(*old, a, g, decay=decay).value
    )
    return averaged


def growth(averages: Factors, bits: int, damping: float) -> dict[str, dict[str, float]]:
    """Mean growth of each factor's diagonal, in units of its damping term (rule pi) and of its mean
    diagonal.

    Returns:
        {"over damping", "over mean diagonal"}: median and largest over all factors A and G.
    """
    ratios: dict[str, list[float]] = {"over damping": [], "over mean diagonal": []}
    for a, g in averages.values():
        terms = kfac.damping_terms(a, g, damping=damping, rule="pi").value
        for factor, term in zip((a, g), terms, strict=True):
            added = float(conservative(factor, bits)[1])
            ratios["over damping"].append(added / float(term))
            ratios["over mean diagonal"].append(added / float(factor.diagonal().mean()))
    return {name: {"median": float(np.median(r)), "largest": max(r)} for name, r in ratios.items()}


def shifts(task: Task, scenario: Scenario, bits: tuple[int, ...]) -> dict[str, Any]:
    """Growth at each number of bits, of the first and of the last step's factors, and the first
    training losses.
    """
    torch.set_num_threads(1)
    steps = list(digital(task, scenario))
    damping = _kfac(scenario).damping
    found = {
        name: {str(b): growth(step.averages, b, damping) for b in bits}
        for name, step in (("first step", steps[0]), ("last step", steps[-1]))
    }
    return {**found, "losses": [step.loss for step in steps]}
