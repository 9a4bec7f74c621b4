"""Gradient, Jacobian and loss Hessian of a batch: what the GPU computes and the SPU is programmed
with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.func import grad_and_value, jacrev, vmap

from hybridsim.circuits.rows import Rows, as_rows
from hybridsim.operations.ref import derivable
from hybridsim.outcome import Outcome
from hybridsim.tasks.task import Batch, Task, batch_loss

Curvature = Literal["ggn", "empirical_fisher"]

Jacobian = Tensor | Rows
"""J (r, N) in memory, or made as it is read (``matrix_free``)."""

GRADIENT = 2
"""Where a linearization has its gradient."""
_FLOOR = 1e-16
_EIGENVALUE_TOLERANCE = 1e-14


class Linearization(NamedTuple):
    """First-order model of the network on one batch: b examples of T loss terms, d_z outputs, N
    parameters.

    Attributes:
        jacobian: (r, N) in theta's type. ``ggn``: dz/dtheta, r = b T d_z, row i d_z + c is output c
            of loss term i; the terms of one example follow one another. ``empirical_fisher``: the
            examples' own loss gradients, r = b.
        hessian: (b T, d_z, d_z) in theta's type, Hessian of each loss term in its outputs; None for
            the Fisher; ``sampled_fisher``: see there.
        gradient: (N,) in theta's type, of the mean loss.
        residual: float64 (b T, d_z), each loss term's gradient in the outputs.
        probabilities: float64 (b T, d_z), softmax of the outputs; None for ``mse``.
        drawn: the rows of J are loss gradients at drawn labels, and the gradient is none of their
            combinations.
    """

    jacobian: Jacobian
    hessian: Tensor | None
    gradient: Tensor
    residual: Tensor
    probabilities: Tensor | None
    drawn: bool = False

    @property
    def matrix(self) -> Tensor:
        """J as a tensor, all of it."""
        if isinstance(self.jacobian, Tensor):
            return self.jacobian
        return self.jacobian.columns(slice(0, self.jacobian.shape[1]))

    @property
    def size(self) -> int:
        """What the curvature is a mean over: b T loss terms, or the rows of J for the Fisher."""
        return len(self.jacobian) if self.hessian is None else len(self.residual)


@derivable
def linearize(task: Task, theta: Tensor, batch: Batch, *, curvature: Curvature = "ggn") -> Outcome:
    """Jacobian, loss Hessian and gradient in one pass over the batch.

    ``ggn``: A = Jᵀ H J / (b T), J (b T d_z, N); ``empirical_fisher``: A = Jᵀ J / b, J (b, N) (TNGD,
    Methods). The damping λI is a resistor of its own and is added by the SPU.

    Returns:
        Outcome(Linearization, {"train_loss"}).
    """
    if curvature == "empirical_fisher":
        return _fisher(task, theta, batch)
    (x, y), size = batch, len(batch[0])

    def outputs(parameters: Mapping[str, Tensor], example: Tensor) -> tuple[Tensor, Tensor]:
        z = task.apply(parameters, example[None])[0]
        return z, z

    rows = vmap(jacrev(outputs, has_aux=True), in_dims=(None, 0))
    jacobians, z = rows(task.layout.unflatten(theta), x)
    jacobian = task.layout.flatten_rows(jacobians, size * task.terms * task.outputs)
    residual, hessian, probabilities, loss = output_derivatives(task, z, y)
    mean_gradient = residual.to(jacobian.dtype).reshape(-1) @ jacobian / len(residual)
    value = Linearization(jacobian, hessian, mean_gradient, residual, probabilities)
    return Outcome(value, {"train_loss": loss})


def joined(gradient: Tensor, *shares: Linearization) -> Outcome:
    """The linearization of a batch from those of equal shares of it, in order, and the mean of
    their gradients.
    """
    first = shares[0]
    rooted = first.hessian is not None
    return Outcome(
        Linearization(
            _under_each_other([share.jacobian for share in shares]),
            torch.cat([s.hessian for s in shares if s.hessian is not None]) if rooted else None,
            gradient,
            torch.cat([share.residual for share in shares]),
            None
            if first.probabilities is None
            else torch.cat([s.probabilities for s in shares if s.probabilities is not None]),
            first.drawn,
        )
    )


def _under_each_other(shares: list[Jacobian]) -> Jacobian:
    tensors = [share for share in shares if isinstance(share, Tensor)]
    if tensors:
        return torch.cat(tensors)
    first, *others = (as_rows(share) for share in shares)
    return first.above(*others)


def output_residuals(task: Task, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """Residual of each loss term in the outputs z (b, ..., d_z), probabilities, mean loss; float64.

    ``cross_entropy``: p = softmax(z), residual p - y; ``mse`` (a mean over the d_z outputs):
    residual 2(z - y)/d_z and no probabilities. Residual and probabilities have a row for each loss
    term, (b T, d_z).
    """
    rows = z.reshape(-1, z.shape[-1]).double()
    if task.loss == "mse":
        error = rows - y.reshape(rows.shape).double()
        return error * (2 / rows.shape[1]), None, error.square().mean()
    log_p = torch.log_softmax(rows, dim=1)
    p, labels = log_p.exp(), y.reshape(-1, 1)
    return p.scatter_add(1, labels, -torch.ones_like(p[:, :1])), p, -log_p.gather(1, labels).mean()


def output_derivatives(
    task: Task, z: Tensor, y: Tensor
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Residual, Hessian of each loss term in the outputs z (b, ..., d_z), probabilities, mean loss.

    As ``output_residuals``, with the Hessians (b T, d_z, d_z): diag(p) - ppᵀ, or (2/d_z) I for
    ``mse``; evaluated in float64, returned in the type of z.
    """
    residual, p, loss = output_residuals(task, z, y)
    size, outputs = residual.shape
    if p is None:
        identity = torch.eye(outputs, dtype=z.dtype, device=z.device)
        return residual, (2 / outputs * identity).expand(size, outputs, outputs), None, loss
    hessian = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    return residual, hessian.to(z.dtype), p, loss


def range_coordinates(
    lin: Linearization, *, hessian: Tensor | None = None
) -> tuple[Tensor | None, Tensor]:
    """Root of the loss Hessian, and the gradient's coordinates in the range of J̃ᵀ, J̃ =
    blockdiag(rootᵀ) J/√(b T).

    The gradient is J̃ᵀβ (plus ``out_of_range``, zero for the ideal Hessians): driven by β, the
    circuit's exact transition needs no difference of nearly equal numbers. Softmax: root S =
    diag(√p) - p√pᵀ, β = (p - y)/√(p b T), with p raised to 1e-16 in both, which moves the Hessian
    by at most that.
    mse: √(2/d_z) I. Fisher: no root, β = 1/√b; with drawn labels β = 0, all of the gradient is
    out of range.

    Args:
        lin: the linearization.
        hessian: (b T, d_z, d_z), used in place of the ideal one (e.g. quantized); its root is V√e
            by float64 eigendecomposition, negative eigenvalues taken as zero, and β = Vᵀ
            residual/√(e b T) where e > 0.

    Returns:
        root float64 (b T, d_z, d_z) or None, and beta float64 (r,).
    """
    size = lin.size
    if lin.hessian is None:
        return None, lin.residual.new_full((size,), 0.0 if lin.drawn else size**-0.5)
    if hessian is not None:
        root, beta = _eigen_root(hessian.double(), lin.residual)
    else:
        root = hessian_root(lin.residual, lin.probabilities)
        beta = _root_coordinates(lin.residual, lin.probabilities)
    return root, (beta / size**0.5).reshape(-1)


def hessian_root(residual: Tensor, probabilities: Tensor | None) -> Tensor:
    """Roots S (b T, d_z, d_z) of the loss Hessians S Sᵀ: diag(√p) - p√pᵀ, or √(2/d_z) I for mse;
    float64.
    """
    size, outputs = residual.shape
    if probabilities is None:
        identity = torch.eye(outputs, dtype=torch.float64, device=residual.device)
        found: Tensor = ((2 / outputs) ** 0.5 * identity).expand(size, -1, -1)
        return found
    p = probabilities.clamp(min=_FLOOR)
    return torch.diag_embed(p.sqrt()) - p[:, :, None] * p.sqrt()[:, None, :]


def out_of_range(lin: Linearization, root: Tensor | None, beta: Tensor) -> Tensor:
    """Jᵀ(residual - √(b T) root β)/(b T) (N,): the part of the gradient that J̃ᵀβ misses."""
    if root is None:
        return lin.gradient if lin.drawn else torch.zeros_like(lin.gradient)
    size = len(lin.residual)
    reached = (root @ beta.reshape(size, -1, 1)).squeeze(-1) * size**0.5
    rest = (lin.residual - reached) / size
    nothing = torch.zeros_like(lin.gradient)
    return as_rows(lin.jacobian).transposed_times(rest.reshape(-1), nothing)


def _fisher(task: Task, theta: Tensor, batch: Batch) -> Outcome:
    (x, y), size = batch, len(batch[0])

    def example_loss(
        parameters: Mapping[str, Tensor], example: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor]:
        z = task.apply(parameters, example[None])
        return batch_loss(task.loss, z, target[None]), z[0]

    rows = vmap(grad_and_value(example_loss, has_aux=True), in_dims=(None, 0, 0))
    gradients, (_, z) = rows(task.layout.unflatten(theta), x, y)
    jacobian = task.layout.flatten_rows(gradients, size)
    residual, probabilities, loss = output_residuals(task, z, y)
    value = Linearization(jacobian, None, jacobian.mean(dim=0), residual, probabilities)
    return Outcome(value, {"train_loss": loss})


def _root_coordinates(residual: Tensor, probabilities: Tensor | None) -> Tensor:
    """The v (b T, d_z) with S v = residual for the closed roots: (p - y)/√p, or residual/√(2/d_z)
    for mse.
    """
    if probabilities is None:
        found: Tensor = residual / (2 / residual.shape[1]) ** 0.5
        return found
    target = (probabilities - residual).round()  # 0 or 1 again, without the rounding of p - (p - y)
    p = probabilities.clamp(min=_FLOOR)
    return (p - target) / p.sqrt()


def _eigen_root(hessian: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
    """V√e and e^(-1/2) Vᵀ residual, example by example, over the eigenvalues that are not
    rounding.
    """
    values, vectors = torch.linalg.eigh(hessian)
    floor = _EIGENVALUE_TOLERANCE * values.amax(dim=1, keepdim=True).clamp(min=0)
    live = values > floor
    root_values = torch.where(live, values, 0.0).sqrt()
    along = (vectors.mT @ residual[:, :, None]).squeeze(-1)
    beta = torch.where(live, along / torch.where(live, root_values, 1.0), 0.0)
    return vectors * root_values[:, None, :], beta
