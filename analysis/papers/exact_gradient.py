"""Exact damped natural gradient descent in float64, independent of the simulator's numerics.

With z the outputs of a batch of b examples, J = dz/dtheta (b d_z, N), H_i = diag(p_i) - p_i p_iᵀ
and r = p - y, the step is theta <- theta - eta (Jᵀ B J + lambda I)⁻¹ Jᵀ r/b, B = blockdiag(H)/b
(TNGD, arXiv 2405.13817). By the push-through identity the direction is Jᵀ (lambda I + B J Jᵀ)⁻¹
r/b: one LU solve of size b d_z, and no root of H. Cross-entropy only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import jacrev, vmap

import hybridsim

_CHUNK = 1000


def address_seed(seed: int, purpose: str, *address: int) -> int:
    """The seed of the simulator's draw at an address (ARCHITECTURE.md, "Randomness by logical
    address").
    """
    text = "\x1f".join([str(seed), purpose, *(f"int:{number}" for number in address)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def batch_order(seed: int, examples: int, size: int, step: int) -> Tensor:
    """Indices (size,) of the batch of ``step`` (from 0): the simulator's own order, from its seeds
    by address.
    """
    epoch, position = divmod(step, examples // size)
    generator = torch.Generator().manual_seed(address_seed(seed, "batch", epoch))
    return torch.randperm(examples, generator=generator)[position * size : (position + 1) * size]


def direction(
    apply: Callable[[Tensor, Tensor], Tensor], theta: Tensor, x: Tensor, y: Tensor, damping: float
) -> Tensor:
    """(JᵀHJ/b + damping I)⁻¹ g of the batch's mean loss, shape (N,) float64.

    Args:
        apply: outputs (b, d_z) of inputs (b, ...) at the flat parameters theta (N,).
        theta: parameters, float64.
        x: inputs (b, ...), float64.
        y: labels (b,).
        damping: lambda.
    """
    size = len(x)
    jacobian = vmap(jacrev(lambda t, one: apply(t, one[None])[0]), in_dims=(None, 0))(
        theta, x
    ).flatten(0, 1)
    p = torch.softmax(apply(theta, x), dim=1)
    residual = p - torch.nn.functional.one_hot(y, p.shape[1])
    hessian = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    gram = (jacobian @ jacobian.T).reshape(size, p.shape[1], -1)
    matrix = (hessian @ gram / size).flatten(0, 1)
    matrix.diagonal().add_(damping)
    found: Tensor = jacobian.T @ torch.linalg.solve(matrix, residual.reshape(-1) / size)
    return found


def train(
    task: hybridsim.Task, seed: int, steps: int, size: int, rate: float, damping: float, every: int
) -> dict[str, Any]:
    """Train a task of the simulator (``hybridsim.load_task``): its learning curve.

    Returns:
        ``train_loss``: one per step, before the update; ``test``: {step: (test loss, test
        accuracy)}.
    """

    def apply(flat: Tensor, inputs: Tensor) -> Tensor:
        outputs: Tensor = task.apply(task.layout.unflatten(flat), inputs)
        return outputs

    theta, data = task.initial_parameters(seed).double(), task.data
    losses: list[float] = []
    test: dict[int, tuple[float, float]] = {}
    for step in range(1, steps + 1):
        chosen = batch_order(seed, len(data.train_x), size, step - 1)
        x, y = data.train_x[chosen].double(), data.train_y[chosen]
        losses.append(float(torch.nn.functional.cross_entropy(apply(theta, x), y)))
        theta = theta - rate * direction(apply, theta, x, y, damping)
        if step % every == 0 or step == steps:
            test[step] = _test(apply, theta, data)
    return {"train_loss": losses, "test": test}


@torch.no_grad()
def _test(
    apply: Callable[[Tensor, Tensor], Tensor], theta: Tensor, data: hybridsim.Data
) -> tuple[float, float]:
    """Mean loss and accuracy on the test examples."""
    z = torch.cat([apply(theta, x.double()) for x in torch.split(data.test_x, _CHUNK)])
    loss = torch.nn.functional.cross_entropy(z, data.test_y)
    return float(loss), float((z.argmax(dim=1) == data.test_y).double().mean())
