"""K-FAC's host time beside lean curvlinops and plain torch, and how fast a machine too large to
train is simulated.

Ratios of things measured side by side in one run; nothing here asserts a timing. Run by `make
bench`. Set-up, the counting of work and evaluation are taken out as the difference of two lengths
of run. Processor time stands beside the clock's: it is the one to read where others use the
machine.
"""

from __future__ import annotations

import cProfile
import math
import pstats
import time
from typing import NamedTuple

import pytest
import torch
from curvlinops import KFACLinearOperator
from torch import nn

import hybridsim
from hybridsim.algorithms.kfac.layers import blocks, outside
from hybridsim.simulate import load_task
from hybridsim.tasks.task import batch, batch_indices

pytestmark = pytest.mark.benchmark
REPEATS = 3

NETWORKS = {
    "digits_mlp": ({"source": "digits_mlp"}, 32, 60),
    "digits_mlp 3 x 512": (
        {"source": "digits_mlp", "options": {"hidden": 512, "depth": 3}},
        128,
        8,
    ),
    "resnet_cifar width 16": ({"source": "resnet_cifar", "options": {"width": 16}}, 32, 4),
}


class Lean:
    """Digital K-FAC as one would write it by hand: curvlinops' factors, torch's Cholesky, Nesterov;
    no simulator."""

    def __init__(self, scenario, task):
        self.scenario, self.task, self.settings = scenario, task, scenario.training.algorithm
        self.model = task.workload.network()
        theta = task.layout.unflatten(task.initial_parameters(scenario.seed))
        self.model.load_state_dict(theta, strict=False)
        self.parameters = dict(self.model.named_parameters())
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
        self.blocks = blocks(task, sharing="expand")
        self.free = outside(task, sharing="expand")
        self.factors, self.momentum = (
            None,
            {name: torch.zeros_like(p) for name, p in self.parameters.items()},
        )
        self.gradient_s = 0.0

    def train(self, steps):
        for step in range(steps):
            size = self.scenario.training.batch_size
            indices = batch_indices(self.scenario.seed, len(self.task.data.train_x), size, step)
            self.step(*batch(self.task.data, indices))

    def step(self, x, y):
        a, g = self.curvature(x, y)
        started = time.process_time()
        loss = nn.functional.cross_entropy(self.model(x), y)
        slopes = dict(
            zip(
                self.parameters,
                torch.autograd.grad(loss, list(self.parameters.values())),
                strict=True,
            )
        )
        self.gradient_s += time.process_time() - started
        new, decay = {b.name: (a[b.name], g[b.name]) for b in self.blocks}, self.settings.ema
        kept = self.factors or new
        self.factors = {
            n: tuple(torch.lerp(f, o, decay) for f, o in zip(new[n], kept[n], strict=True))
            for n in new
        }
        for block in self.blocks:
            slopes |= self.preconditioned(block, slopes)
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                m = self.momentum[name].mul_(self.settings.update.momentum).add_(slopes[name])
                parameter -= self.settings.learning_rate * (
                    slopes[name] + self.settings.update.momentum * m
                )

    def curvature(self, x, y):
        operator = KFACLinearOperator(
            self.model,
            nn.CrossEntropyLoss(),
            [p for name, p in self.parameters.items() if name not in self.free],
            [(x, y)],
            fisher_type="type-2",
            kfac_approx="expand",
            separate_weight_and_bias=False,
            check_deterministic=False,
        )
        operator.compute_kronecker_factors()
        return operator._input_covariances, operator._gradient_covariances

    def preconditioned(self, block, slopes):
        a, g = self.factors[block.name]
        pi = torch.sqrt(a.diagonal().mean() / g.diagonal().mean())
        root = math.sqrt(self.settings.damping)
        inverses = [inverse(a, pi * root), inverse(g, root / pi)]
        weight, bias = f"{block.name}.weight", f"{block.name}.bias"
        d = slopes[weight].reshape(block.outputs, -1)
        if bias in slopes:
            d = torch.cat([d, slopes[bias][:, None]], dim=1)
        u = inverses[1] @ d @ inverses[0]
        if bias in slopes:
            return {weight: u[:, :-1].reshape(slopes[weight].shape), bias: u[:, -1]}
        return {weight: u.reshape(slopes[weight].shape)}


def inverse(factor, shift):
    damped = factor + shift * torch.eye(len(factor), dtype=factor.dtype)
    return torch.cholesky_inverse(torch.linalg.cholesky(damped))


def digital(workload, size, steps):
    algorithm = {
        "kind": "kfac",
        "method": "digital",
        "learning_rate": 0.01,
        "damping": 0.1,
        "update": "nesterov",
    }
    training = {"batch_size": size, "steps": steps, "evaluate_every": steps, "algorithm": algorithm}
    machine = {"constants": "realistic", "gpu": "a100-sxm4-80gb"}
    return hybridsim.load(
        {"name": "bench", "seed": 0, "workload": workload, "training": training, "machine": machine}
    )


class Seconds(NamedTuple):
    """By the processor and by the clock."""

    processor: float
    clock: float

    def __sub__(self, other):
        return Seconds(self.processor - other.processor, self.clock - other.clock)


def seconds_of(function):
    before = Seconds(time.process_time(), time.perf_counter())
    value = function()
    return Seconds(time.process_time(), time.perf_counter()) - before, value


@pytest.mark.parametrize("name", NETWORKS)
def test_a_digital_step_beside_lean_curvlinops(name, tmp_path):
    """Live steps to files beside the hand-written loop; same batches, same algebra."""
    workload, size, steps = NETWORKS[name]
    one, many = (digital(workload, size, n) for n in (1, steps + 1))
    task = load_task(many)
    torch.set_num_threads(many.host.threads)

    def live(scenario):
        return seconds_of(lambda: hybridsim.run(scenario, tmp_path / "run", force=True, task=task))[
            0
        ]

    live(one)
    Lean(many, task).train(1)
    for repeat in range(REPEATS):
        ours = live(many) - live(one)
        lean = Lean(many, task)
        theirs, _ = seconds_of(lambda lean=lean: lean.train(steps))
        print(
            f"\n[{name}, {repeat}] a step: hybridsim {1e3 * ours.processor / steps:.1f} ms, lean "
            f"{1e3 * theirs.processor / steps:.1f} ms, of it the gradient's own pass "
            f"{1e3 * lean.gradient_s / steps:.1f} ms; ratio "
            f"{ours.processor / theirs.processor:.2f} "
            f"(by the clock {ours.clock / theirs.clock:.2f}), without that pass "
            f"{ours.processor / (theirs.processor - lean.gradient_s):.2f}"
        )


def timing_only(scenario, folder, task=None):
    def run():
        return hybridsim.run(scenario, folder, backend="timing", force=True, task=task).summary[
            "spans"
        ]

    return seconds_of(run)


def print_rates(name, repeat, scenarios, steps, folder):
    """Of what ``steps`` more steps add."""
    task = load_task(scenarios[0])
    (seconds, spans), (longer, more) = (
        timing_only(scenario, folder, task) for scenario in scenarios
    )
    taken, made = longer - seconds, more - spans
    print(
        f"\n[{name}, {repeat}] {steps / taken.processor:.1f} steps/s (by the clock "
        f"{steps / taken.clock:.1f}), "
        f"{made / steps:.0f} spans a step, {made / taken.processor:,.0f} spans/s to parquet"
    )


GPT_MACHINES = {
    "as shipped: 4 GPUs, 8 SPUs": [],
    "1 GPU, 8 SPUs, factors every step": [
        "machine.gpu=a100-sxm4-80gb",
        "training.algorithm.factors_every=1",
        "training.algorithm.inverses_every=1",
    ],
    "1 GPU, digital, factors every step": [
        "machine.gpu=a100-sxm4-80gb",
        "training.algorithm.factors_every=1",
        "training.algorithm.inverses_every=1",
        "training.algorithm.method=digital",
    ],
}


@pytest.mark.parametrize("name", GPT_MACHINES)
def test_steps_per_second_of_a_transformer_of_twelve_layers(name, tmp_path):
    steps = 600 if "digital" in name else 40
    lengths = (11, 11 + steps)
    scenarios = [
        hybridsim.load("kfac-gpt", [*GPT_MACHINES[name], f"training.steps={n}"]) for n in lengths
    ]
    for repeat in range(REPEATS):
        print_rates(name, repeat, scenarios, steps, tmp_path / "run")


def many_spus(sharing, steps):
    spus = {
        "count": 64,
        "part": "rc-1us",
        "buffering": "double",
        "input_bits": 8,
        "bias_bits": 12,
        "output_bits": 12,
    }
    algorithm = {
        "kind": "kfac",
        "learning_rate": 0.01,
        "damping": 0.1,
        "settle": "1 tau",
        "placement": "columns",
    }
    return hybridsim.load(
        {
            "name": "bench",
            "seed": 0,
            "workload": {"source": "digits_mlp", "options": {"hidden": 128, "depth": 3}},
            "training": {
                "batch_size": 32,
                "steps": steps,
                "evaluate_every": steps,
                "algorithm": algorithm,
            },
            "machine": {
                "gpu": "a100-sxm4-80gb",
                "link": {"part": "paper-50gbps", "sharing": sharing},
                "spus": spus,
            },
        }
    )


@pytest.mark.parametrize("sharing", ["shared", "private"])
def test_spans_per_second_of_sixty_four_spus(sharing, tmp_path):
    for repeat in range(REPEATS):
        print_rates(sharing, repeat, [many_spus(sharing, n) for n in (5, 25)], 20, tmp_path / "run")


def test_what_a_timing_only_step_is_spent_on(tmp_path):
    """The dearest functions of the transformer's run, by their own time."""
    scenario = hybridsim.load("kfac-gpt", ["training.steps=41"])
    task = load_task(scenario)
    timing_only(scenario, tmp_path / "run", task)
    with cProfile.Profile() as profile:
        timing_only(scenario, tmp_path / "run", task)
    pstats.Stats(profile).sort_stats("tottime").print_stats(15)
