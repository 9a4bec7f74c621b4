"""Kronecker factors of a batch's curvature, layer by layer, from one forward pass and its backward
passes.

Conventions, as in curvlinops 3 (Dangel et al.): the batch has b examples of T loss terms each (T =
1, or the positions of a sequence). A layer sees R shared positions per example (1, tokens, pixels).
Source of the two
settings: Eschenhagen et al., K-FAC for modern neural network architectures, NeurIPS 2023.

- expand: A = Σ a aᵀ/(bR) and G = Σ g gᵀ/(bT), both over examples and positions;
- reduce: a is the mean over positions, A = Σ a aᵀ/b; g is the sum over positions, G = Σ g gᵀ/(bT);
- a is the layer's input with a 1 appended for the bias; g is the derivative, in the layer's output
  at one position, of the unaveraged loss summed over all terms of the batch.

Where each loss term has its own seeds (``type2``: the columns of the root S of its loss Hessian S
Sᵀ; ``mc``: the loss gradient at a label drawn from the network), all terms of an example are
backpropagated at once, column c of all of them together: g at a position is the sum over the terms
that it influences. Where a position influences several terms (attention, a mean over positions),
``type2`` so keeps products of different terms, which the GGN has not (as curvlinops does; under
``mc`` they vanish in the mean). ``type2_per_term`` backpropagates one term of every example at a
time, T times as many passes, and has none. A ⊗ G approximates the layer's block of the GGN of the
mean loss; it is this block for linear networks of dense layers with mse, under expand where each
position has its own loss term and no other, under reduce where positions are averaged into one.

mse is the mean over d_z outputs of a squared error, weight 1/d_z: S = √(2/d_z) I, labels are drawn
with variance 1/2, and g of ``empirical`` is 2(z - y)/√d_z backpropagated, √d_z times the loss
term's gradient, as in curvlinops.

A weight E (tokens, width) that an embedding and the scores' Linear layer share (weight tying: Press
& Wolf, EACL 2017) has two uses u, with factors L_u on the side of the tokens (A of the embedding, G
of the scores) and R_u on that of the width (G, A). What they do to one another left aside, its
block is Σ L_u ⊗ R_u, which no solve by factors inverts. In its place stands the Kronecker product
with the same partial traces, A = Σ L_u tr R_u / S and G = Σ R_u tr L_u with S = Σ tr L_u tr R_u:
the factors of all uses added, each by its weight, whatever scale L_u and R_u share out between
them. It is the block where the L_u, or the R_u, are alike. (Shares of a batch on several GPUs weigh
each by itself, before they are averaged.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import torch
from torch import Tensor

from hybridsim.algorithms.drawn_labels import generator_of, loss_gradients, random_numbers
from hybridsim.algorithms.kfac.layers import (
    Layer,
    Sharing,
    input_rows,
    layers,
    matrices,
    output_rows,
)
from hybridsim.algorithms.kfac.tape import Tape, enter
from hybridsim.errors import InputError, Problem
from hybridsim.operations.count import stage
from hybridsim.outcome import Outcome
from hybridsim.rng import Draw
from hybridsim.tasks.task import Batch, Task

Fisher = Literal["type2", "type2_per_term", "empirical", "mc"]
Form = Literal["factors", "roots"]

_COLUMNS = 64  # backpropagated at once


def factors(
    task: Task,
    theta: Tensor,
    batch: Batch,
    draw: Draw,
    *,
    fisher: Fisher,
    sharing: Sharing,
    samples: int = 1,
    form: Form = "factors",
) -> Outcome:
    """Kronecker factors (see the module) and the gradient of the mean loss, all in theta's type.

    ``type2`` backpropagates the d_z columns of the loss Hessians' roots, ``type2_per_term`` those
    of each of the T terms of an example on their own, ``mc`` the loss gradients
    of ``samples`` labels for each term (G is their mean), ``empirical`` the batch's own loss
    gradients, in the same pass as the gradient. ``roots`` gives the rows X (rows, n) and Y (rows,
    m) with A = XᵀX and G = YᵀY in place of the factors; a diagonal A stays a vector.

    Stages (``cost.stage``): ``forward`` (with the gradient's backward pass, where it is one of its
    own), the blocks in the order in which backward reaches them, ``rest``. The groups of a
    convolution are computed together and counted to the first.

    Returns:
        Outcome({"gradient": (N,), "d": {block: (m, n)}, "a": {block: (n, n) or (n,)}, "g": {block:
        (m, m)}}, {"train_loss"}); D is a block's part of the gradient as a matrix.

    Raises:
        InputError: as ``blocks``; a layer that is not applied exactly once, to inputs (b, ...);
            roots of a weight that two layers share.
        ValueError: unknown fisher, sharing or form.
    """
    if fisher not in get_args(Fisher) or form not in get_args(Form):
        raise ValueError(
            f"expected one of {get_args(Fisher)} and of {get_args(Form)}, got {fisher!r} and "
            f"{form!r}"
        )
    stage("forward")
    found = layers(task, sharing)
    _check_roots(task, found, form)
    tape = Tape(task, theta, batch, found)
    products = _Products(tape, sharing, form)
    terms = tape.z[..., 0].numel()
    if fisher == "empirical":
        gradients, slopes = tape.gradients_and_slopes()
        products.add_g(
            slopes, float(terms if task.loss == "cross_entropy" else terms * task.outputs)
        )
    else:
        gradients = tape.gradients(keep=True)
        if fisher == "mc":
            columns = _mc(task, tape.z, draw, samples)
        else:
            columns = _type2(task, tape.z)
        if fisher == "type2_per_term" and task.terms > 1:
            columns = _per_term(columns)
        for seeds, last in columns:
            slopes = tape.backpropagate(seeds, keep=not last)
            products.add_g(slopes, 1 / (terms * samples) if fisher == "mc" else 1 / terms)
    value = products.value(gradients)
    stage("rest")
    return Outcome(
        {"gradient": task.layout.flatten(gradients), **value}, {"train_loss": tape.loss.detach()}
    )


def gradient_parts(task: Task, theta: Tensor, batch: Batch, *, sharing: Sharing) -> Outcome:
    """The gradient of the mean loss alone, as ``factors`` gives it: for steps that keep their
    factors.

    Returns:
        Outcome({"gradient": (N,), "d": {block: (m, n)}}, {"train_loss"}).

    Raises:
        InputError: as ``blocks``.
    """
    found = layers(task, sharing)
    tape = Tape(task, theta, batch, ())
    gradients = tape.gradients()
    parts = {
        b.name: d
        for layer in found
        for b, d in zip(layer.blocks, matrices(layer, gradients), strict=True)
    }
    return Outcome(
        {"gradient": task.layout.flatten(gradients), "d": parts}, {"train_loss": tape.loss.detach()}
    )


class _Products:
    """Collects A, G and D block by block."""

    def __init__(self, tape: Tape, sharing: Sharing, form: Form) -> None:
        self._tape, self._sharing, self._form = tape, sharing, form
        self._layers = {layer.module: layer for layer in tape.layers}
        self._g: dict[str, Tensor] = {}

    def add_g(self, slopes: dict[str, Tensor], scale: float) -> None:
        """Add ``scale`` · g gᵀ over the rows of output gradients (columns, b, ...), which are given
        up.
        """
        for name in self._tape.reached:
            layer, before = self._layers[name], self._g.get(name)
            enter(layer)
            part = self._product(output_rows(layer, slopes.pop(name), self._sharing), scale)
            if before is not None:
                part = (
                    torch.cat([before, part], dim=-2)
                    if self._form == "roots"
                    else part.add_(before)
                )
            self._g[name] = part

    def value(self, gradients: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """By block in the network's order: D, A and G."""
        heads = {layer.head.module for layer in self._tape.layers if layer.head is not None}
        found: dict[str, dict[str, tuple[Tensor, ...]]] = {"d": {}, "a": {}, "g": {}}
        for name in self._tape.reached:
            layer = self._layers[name]
            enter(layer)
            if name not in heads:
                found["d"][name] = matrices(layer, gradients)
            found["a"][name], found["g"][name] = self._a(layer), _by_group(layer, self._g[name])
        own = [layer for name, layer in self._layers.items() if name not in heads]
        for layer in own:
            if layer.head is not None:
                enter(layer)
                (a,), (g,) = (found[side][layer.module] for side in "ag")
                (of_head,), (back,) = (found[side][layer.head.module] for side in "ag")
                a, g = tied(((a, g), (back, of_head)))
                found["a"][layer.module], found["g"][layer.module] = (a,), (g,)
        return {
            side: {
                block.name: part
                for layer in own
                for block, part in zip(layer.blocks, parts[layer.module], strict=True)
            }
            for side, parts in found.items()
        }

    def _a(self, layer: Layer) -> tuple[Tensor, ...]:
        x, module = self._tape.inputs[layer.module], self._tape.modules[layer.module]
        rows = input_rows(layer, module, x, self._sharing)
        if rows.ndim == 1:
            return (rows,)
        product = self._product(rows, 1 / rows.shape[-2])
        if layer.kind == "in_projection":  # one input, one A
            return (product,) * len(layer.blocks)
        return _by_group(layer, product)

    def _product(self, rows: Tensor, scale: float) -> Tensor:
        """``scale`` · rowsᵀ rows, or its root."""
        return rows * scale**0.5 if self._form == "roots" else _gram(rows).mul_(scale)


def tied(uses: tuple[tuple[Tensor, Tensor], ...]) -> tuple[Tensor, Tensor]:
    """A (n, n) and G (m, m) of a weight with several uses, from the factors (L, R) of each: Σ L tr
    R / S and Σ R tr L, S = Σ tr L tr R. A diagonal L is a vector (n,).
    """
    full = [(torch.diag(left) if left.ndim == 1 else left, right) for left, right in uses]
    traces = [(left.trace(), right.trace()) for left, right in full]
    total = torch.stack([left * right for left, right in traces]).sum()
    share = total.clamp(min=torch.finfo(total.dtype).tiny).reciprocal()
    a = torch.stack([left * (t * share) for (left, _), (_, t) in zip(full, traces, strict=True)])
    g = torch.stack([right * t for (_, right), (t, _) in zip(full, traces, strict=True)])
    return a.sum(dim=0), g.sum(dim=0)


def _check_roots(task: Task, found: tuple[Layer, ...], form: Form) -> None:
    for layer in found:
        if layer.head is not None and form == "roots":
            expected = f"upload: factors, {layer.head.module} having its weight too"
            where = f"K-FAC, {layer.module}"
            raise InputError([Problem(task.name, None, where, expected, "activations")])


def _gram(rows: Tensor) -> Tensor:
    """rowsᵀ rows; narrow ones in stretches, because libraries sum those row by row and round at
    each.
    """
    narrow, stretch = 16, 32
    whole = rows.shape[-2] // stretch * stretch
    if rows.shape[-1] >= narrow or whole <= stretch:
        return rows.mT @ rows
    pieces = rows[..., :whole, :].unflatten(-2, (-1, stretch))
    total, rest = (pieces.mT @ pieces).sum(dim=-3), rows[..., whole:, :]
    found: Tensor = total + rest.mT @ rest if rest.shape[-2] else total
    return found


def _by_group(layer: Layer, product: Tensor) -> tuple[Tensor, ...]:
    return product.unbind(0) if len(layer.blocks) > 1 else (product,)


def _type2(task: Task, z: Tensor) -> Iterator[tuple[Tensor, bool]]:
    """Columns (columns, b, ..., d_z) of the roots of the loss Hessians: diag(√p) - p√pᵀ, or
    √(2/d_z) I for mse.
    """
    z, outputs = z.detach(), task.outputs
    p = z.softmax(dim=-1) if task.loss == "cross_entropy" else None
    for start in range(0, outputs, _COLUMNS):
        columns = slice(start, min(start + _COLUMNS, outputs))
        if p is None:
            seeds = z.new_zeros(columns.stop - start, *z.shape)
            seeds[..., columns].diagonal(dim1=0, dim2=-1).fill_((2 / outputs) ** 0.5)
        else:
            roots = p[..., columns].sqrt()
            seeds = -p * roots.movedim(-1, 0)[..., None]
            seeds[..., columns].diagonal(dim1=0, dim2=-1).add_(roots)
        yield seeds, columns.stop == outputs


def _per_term(columns: Iterator[tuple[Tensor, bool]]) -> Iterator[tuple[Tensor, bool]]:
    """The same seeds, those of one loss term of every example at a time, zero at the others."""
    for seeds, last in columns:
        flat = seeds.flatten(2, -2)
        for term in range(flat.shape[2]):
            alone = torch.zeros_like(flat)
            alone[:, :, term] = flat[:, :, term]
            yield alone.reshape(seeds.shape), last and term == flat.shape[2] - 1


def _mc(task: Task, z: Tensor, draw: Draw, samples: int) -> Iterator[tuple[Tensor, bool]]:
    """Loss gradients (samples, b, ..., d_z) in z for drawn labels: p - y, or √(2/d_z) times
    standard normals.
    """
    z = z.detach()
    generator = generator_of(z, draw)
    p = z.softmax(dim=-1) if task.loss == "cross_entropy" else None
    shape = z.shape if p is None else z.shape[:-1]
    for start in range(0, samples, _COLUMNS):
        number = min(_COLUMNS, samples - start)
        numbers = random_numbers(task, shape, z, draw, number, generator)
        yield loss_gradients(p, numbers), start + number == samples
