"""What conservative rounding of K-FAC's factors adds to their diagonals, beside the damping that is
asked for.

Rounding that keeps a factor semidefinite must raise its diagonal: input quantization acts as
damping. Factors are those of digital K-FAC, trained here outside the simulator, with formulas of
its own, on the same batches and drawn labels; the training loss of every step is returned, so that
it can be held against the simulator's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hybridsim
from analysis.papers.exact_gradient import address_seed, batch_order

Factors = dict[str, tuple[Tensor, Tensor]]
_EXPECTED = {
    "fisher": "mc",
    "fisher_samples": 1,
    "sharing": "expand",
    "damping_rule": "pi",
    "kl_clip": None,
}


@dataclass(frozen=True)
class Step:
    """Training loss before a step, and the moving averages {layer: (A, G)} that it used."""

    loss: float
    averages: Factors


class Batch(NamedTuple):
    """Loss, gradients by parameter, and {layer: (A, G)} of a batch."""

    loss: float
    gradients: dict[str, Tensor]
    factors: Factors


def digital(task: hybridsim.Task, scenario: hybridsim.Scenario) -> Iterator[Step]:
    """K-FAC with digital inverses under Nesterov momentum, step by step, as the scenario's
    algorithm says.
    """
    training, chosen = scenario.training, _settings(scenario)
    theta = task.initial_parameters(scenario.seed)
    velocity, averages = torch.zeros_like(theta), Factors()
    for step in range(1, training.steps + 1):
        examples = batch_order(scenario.seed, len(task.data.train_x), training.batch_size, step - 1)
        found = measured(task, theta, examples, address_seed(scenario.seed, "labels", step))
        if (step - 1) % chosen["factors_every"] == 0:
            averages = {
                name: _averaged(averages.get(name), new, chosen["ema"])
                for name, new in found.factors.items()
            }
        yield Step(found.loss, averages)
        direction = task.layout.flatten(
            found.gradients | _preconditioned(found.gradients, averages, chosen["damping"])
        )
        momentum = chosen["update"]["momentum"]
        velocity = momentum * velocity + direction
        theta = theta - chosen["learning_rate"] * (direction + momentum * velocity)


def _settings(scenario: hybridsim.Scenario) -> dict[str, Any]:
    """The algorithm's settings.

    Raises:
        ValueError: one has no formula here.
    """
    chosen = scenario.training.algorithm.model_dump()
    if chosen["update"]["kind"] != "nesterov":
        raise ValueError(f"expected update: nesterov, got {chosen['update']}")
    other = {name: chosen.get(name) for name, value in _EXPECTED.items() if chosen[name] != value}
    if other:
        raise ValueError(f"expected K-FAC with {_EXPECTED}, got {other}")
    return chosen


def measured(task: hybridsim.Task, theta: Tensor, examples: Tensor, label_seed: int) -> Batch:
    """Gradient of the mean loss and factors: A = mean of a a^T over examples and positions (a: a
    layer's inputs, and 1 for the bias), G = sum of g g^T/b, g the gradient at a drawn label.
    """
    x, y = task.data.train_x[examples], task.data.train_y[examples]
    parameters = {n: p.clone().requires_grad_() for n, p in task.layout.unflatten(theta).items()}
    layers = {
        name: module
        for name, module in task.network.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d))
    }
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        return module.register_forward_hook(
            lambda _, given, output: seen.__setitem__(name, (given[0], output))
        )

    handles = [keep(name, module) for name, module in layers.items()]
    try:
        z = task.apply(parameters, x)
    finally:
        for handle in handles:
            handle.remove()
    loss = F.cross_entropy(z, y)
    gradients = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)
    outputs = [seen[name][1] for name in layers]
    slopes = torch.autograd.grad(z, outputs, _label_gradients(z.detach(), label_seed))
    factors = {}
    for (name, module), slope in zip(layers.items(), slopes, strict=True):
        a, g = _inputs(module, seen[name][0].detach()), _rows(slope)
        factors[name] = (a.T @ a / len(a), g.T @ g / len(x))
    return Batch(float(loss.detach()), dict(zip(parameters, gradients, strict=True)), factors)


def _label_gradients(z: Tensor, seed: int) -> Tensor:
    """P - y for labels y drawn from the softmax p, with the simulator's numbers."""
    p = z.softmax(dim=1)
    uniform = torch.empty(1, len(z), dtype=z.dtype)
    uniform.uniform_(generator=torch.Generator().manual_seed(seed))
    passed = p.cumsum(dim=1)
    labels = torch.searchsorted(passed, uniform.T * passed[:, -1:], right=True)
    return p - F.one_hot(labels[:, 0].clamp(max=z.shape[1] - 1), z.shape[1])


def _inputs(module: nn.Linear | nn.Conv2d, x: Tensor) -> Tensor:
    """What a layer multiplies its weights with: (examples and positions, inputs and bias)."""
    if isinstance(module, nn.Conv2d):
        assert module.groups == 1 and not isinstance(module.padding, str)
        x = F.unfold(x, module.kernel_size, module.dilation, module.padding, module.stride).mT
    rows = x.flatten(0, -2)
    return rows if module.bias is None else torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)


def _rows(slope: Tensor) -> Tensor:
    """Gradients in a layer's outputs: (examples and positions, outputs)."""
    return slope.flatten(2).mT.flatten(0, 1) if slope.ndim > 2 else slope


def _preconditioned(
    gradients: Mapping[str, Tensor], averages: Factors, damping: float
) -> dict[str, Tensor]:
    """(G + damping)^-1 D (A + damping)^-1 for the weights and biases of every layer."""
    found = {}
    for name, (a, g) in averages.items():
        weight, bias = gradients[f"{name}.weight"], gradients.get(f"{name}.bias")
        d = weight.flatten(1) if bias is None else torch.cat([weight.flatten(1), bias[:, None]], 1)
        term_a, term_g = damping_terms(a, g, damping)
        u = _inverse(g, term_g) @ d @ _inverse(a, term_a)
        if bias is not None:
            u, found[f"{name}.bias"] = u[:, :-1], u[:, -1]
        found[f"{name}.weight"] = u.reshape(weight.shape)
    return found


def _inverse(factor: Tensor, term: Tensor) -> Tensor:
    return torch.cholesky_inverse(torch.linalg.cholesky(factor + term * torch.eye(len(factor))))


def damping_terms(a: Tensor, g: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """What rule pi adds to the diagonals of A and G: pi sqrt(damping) and sqrt(damping)/pi."""
    pi = (a.diagonal().mean() / g.diagonal().mean()).sqrt()
    return pi * damping**0.5, damping**0.5 / pi


def _averaged(
    old: tuple[Tensor, Tensor] | None, new: tuple[Tensor, Tensor], decay: float
) -> tuple[Tensor, Tensor]:
    if old is None:
        return new
    return torch.lerp(new[0], old[0], decay), torch.lerp(new[1], old[1], decay)


def added(factor: Tensor, bits: int) -> float:
    """Mean growth of a factor's diagonal by conservative rounding (arXiv 2502.08603, 4.5.1).

    Off the diagonal: the nearest level of its range. On it: the rounding errors of the row are
    added, and the sum is rounded up to a level of the diagonal's own range.
    """
    top, exact = 2 ** (bits - 1) - 1, (factor.double() + factor.double().T) / 2
    diagonal = exact.diagonal()
    rest = exact - diagonal.diag()
    step = rest.abs().max() / top
    raised = diagonal + (torch.round(rest / step) * step - rest).abs().sum(dim=1)
    step = raised.max() / top
    return float((torch.ceil(raised / step).clamp(max=top) * step - diagonal).mean())


def growth(averages: Factors, bits: int, damping: float) -> dict[str, dict[str, float]]:
    """Mean growth of each factor's diagonal, in units of its damping term (rule pi) and of its mean
    diagonal.

    Returns:
        {"over damping", "over mean diagonal"}: median and largest over all factors A and G.
    """
    ratios: dict[str, list[float]] = {"over damping": [], "over mean diagonal": []}
    for a, g in averages.values():
        for factor, term in zip((a, g), damping_terms(a, g, damping), strict=True):
            grown = added(factor, bits)
            ratios["over damping"].append(grown / float(term))
            ratios["over mean diagonal"].append(grown / float(factor.diagonal().mean()))
    return {name: {"median": float(np.median(r)), "largest": max(r)} for name, r in ratios.items()}


def shifts(
    task: hybridsim.Task, scenario: hybridsim.Scenario, bits: tuple[int, ...]
) -> dict[str, Any]:
    """Growth at each number of bits, of the first and of the last step's factors, and the first
    training losses.
    """
    torch.set_num_threads(1)
    steps = list(digital(task, scenario))
    damping = _settings(scenario)["damping"]
    found = {
        name: {str(b): growth(step.averages, b, damping) for b in bits}
        for name, step in (("first step", steps[0]), ("last step", steps[-1]))
    }
    return {**found, "losses": [step.loss for step in steps]}
