"""Which parameters K-FAC preconditions: linear layers as Kronecker-factored blocks, their inputs as
rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from hybridsim.algorithms.patches import patches
from hybridsim.errors import InputError, Problem
from hybridsim.tasks.task import Task

Sharing = Literal["expand", "reduce"]
Kind = Literal["linear", "conv2d", "embedding"]

_KINDS: dict[type[nn.Module], Kind] = {
    nn.Linear: "linear",
    nn.Conv2d: "conv2d",
    nn.Embedding: "embedding",
}
_PLAIN = {"padding_mode": "zeros", "max_norm": None, "scale_grad_by_freq": False, "sparse": False}
# modules of torch with weight matrices: an error where no rule applies, rather than left to the
# base optimizer
_MATRICES = (
    nn.Linear,
    nn.Embedding,
    _ConvNd,
    nn.Bilinear,
    nn.EmbeddingBag,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
)


class Block(NamedTuple):
    """One Kronecker-factored block: a layer, or one group of a grouped convolution.

    Attributes:
        name: unique: the module's name; ``conv1[2]`` for group 2 of a grouped convolution.
        module: the module's name in the network.
        kind: what the module is.
        outputs: m, order of G.
        inputs: n, order of A, the bias counted as one more input.
        group: which group of a convolution, counted from 0.
        groups: how many groups it has.
        diagonal: A is a vector (n,): an embedding under expand, whose inputs are one-hot.
    """

    name: str
    module: str
    kind: Kind
    outputs: int
    inputs: int
    group: int
    groups: int
    diagonal: bool


class Layer(NamedTuple):
    """A module with its blocks (one for each group) and the names of its parameters."""

    module: str
    kind: Kind
    weight: str
    bias: str | None
    blocks: tuple[Block, ...]


def blocks(task: Task, *, sharing: Sharing) -> tuple[Block, ...]:
    """The blocks that K-FAC preconditions, in the network's order.

    Linear, Conv2d and Embedding modules whose weight trains, subclasses only with the forward pass
    unchanged.

    Raises:
        InputError: there is none; a weight that trains belongs to two modules, or to a torch module
            that has weight matrices without a rule here (transposed or padded convolution,
            recurrent layer ...).
        ValueError: unknown sharing.
    """
    return tuple(block for layer in layers(task, sharing) for block in layer.blocks)


def outside(task: Task, *, sharing: Sharing) -> tuple[str, ...]:
    """Trained parameters in no block (norms, free parameters): the base optimizer takes their raw
    gradient.
    """
    covered = {name for layer in layers(task, sharing) for name in (layer.weight, layer.bias)}
    return tuple(name for name in task.layout.names if name not in covered)


@lru_cache(maxsize=16)
def layers(task: Task, sharing: Sharing) -> tuple[Layer, ...]:
    """The modules behind ``blocks``; raises what it raises."""
    if sharing not in get_args(Sharing):
        raise ValueError(f"expected expand or reduce, got {sharing!r}")
    found, trained = [], set(task.layout.names)
    for name, module in task.network.named_modules():
        prefix = f"{name}." if name else ""
        kind = _kind(module)
        own = [n for n, _ in module.named_parameters(prefix=name, recurse=False)]
        if kind is not None and f"{prefix}weight" in trained:
            found.append(_layer(name, module, kind, f"{prefix}bias" in trained, sharing))
        elif kind is None and isinstance(module, _MATRICES) and trained.intersection(own):
            expected = (
                "plain Linear, Conv2d (zero padding) and Embedding layers; freeze this "
                "one or build it from these"
            )
            raise InputError(
                [Problem(task.name, None, f"K-FAC, {name}", expected, type(module).__name__)]
            )
    _check_sharing(task)
    if not found:
        expected = "a Linear, Conv2d or Embedding layer whose weight trains"
        raise InputError(
            [Problem(task.name, None, "K-FAC", expected, ", ".join(task.layout.names))]
        )
    return tuple(found)


def _kind(module: nn.Module) -> Kind | None:
    """The rule for a module, if there is one."""
    for base, kind in _KINDS.items():
        if isinstance(module, base) and type(module).forward is base.forward:
            return (
                kind
                if all(getattr(module, name, value) == value for name, value in _PLAIN.items())
                else None
            )
    return None


def _layer(name: str, module: nn.Module, kind: Kind, bias: bool, sharing: Sharing) -> Layer:
    prefix = f"{name}." if name else ""
    weight = module.get_parameter("weight")
    groups = int(getattr(module, "groups", 1))
    outputs, inputs = weight.shape[0] // groups, weight.numel() // weight.shape[0] + bias
    if kind == "embedding":
        outputs, inputs = inputs, outputs
    names = [f"{name}[{g}]" if groups > 1 else name for g in range(groups)]
    diagonal = kind == "embedding" and sharing == "expand"
    parts = (
        Block(n, name, kind, outputs, inputs, g, groups, diagonal) for g, n in enumerate(names)
    )
    return Layer(name, kind, f"{prefix}weight", f"{prefix}bias" if bias else None, tuple(parts))


def _check_sharing(task: Task) -> None:
    """A parameter used by two modules has no Kronecker-factored block."""
    first: dict[int, str] = {}
    for name, parameter in task.network.named_parameters(remove_duplicate=False):
        other = first.setdefault(id(parameter), name)
        if (
            other != name
            and other in task.layout.names
            and not _same_module(task.network, other, name)
        ):
            expected = "a parameter of its own in each module"
            raise InputError(
                [Problem(task.name, None, "K-FAC", expected, f"{other} shared with {name}")]
            )


def _same_module(network: nn.Module, one: str, other: str) -> bool:
    """Whether two names lead to the same parameter of one module that the network holds twice."""
    owners = [network.get_submodule(name.rpartition(".")[0]) for name in (one, other)]
    return owners[0] is owners[1]


def matrices(layer: Layer, parameters: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The (m, n) matrix of each block from parameters, or gradients, by name; a bias is the last
    column.
    """
    weight = parameters[layer.weight]
    if layer.kind == "embedding":
        return (weight.T,)
    groups = len(layer.blocks)
    matrix = weight.reshape(groups, weight.shape[0] // groups, -1)
    if layer.bias is not None:
        matrix = torch.cat([matrix, parameters[layer.bias].reshape(groups, -1, 1)], dim=2)
    return matrix.unbind(0)


def parameters_of(layer: Layer, parts: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Parameters by name, with their entries in order, from the matrices of a layer's blocks:
    undoes ``matrices``.
    """
    if layer.kind == "embedding":
        return {layer.weight: parts[0].T}
    matrix = parts[0] if len(parts) == 1 else torch.cat(parts)
    if layer.bias is None:
        return {layer.weight: matrix}
    return {layer.weight: matrix[:, :-1], layer.bias: matrix[:, -1]}


def input_rows(layer: Layer, module: nn.Module, x: Tensor, sharing: Sharing) -> Tensor:
    """The inputs a whose mean of a aᵀ is A: (rows, n), or (groups, rows, n); a bias is a 1
    appended.

    Rows are examples and shared positions (expand), or examples with the mean over positions
    (reduce). An embedding's rows are one-hot; a ``padding_idx`` has the zero row, since its vector
    never moves. Under expand the mean itself, the diagonal of A (n,), is returned instead.
    """
    if isinstance(module, nn.Embedding):
        return _token_rows(module, x, sharing)
    groups = len(layer.blocks)
    rows = (
        patches(module, x)
        if isinstance(module, nn.Conv2d)
        else x.flatten(1, -2)[None]
        if x.ndim > 2
        else x[None]
    )
    if sharing == "reduce" and rows.ndim == 4:
        rows = rows.mean(dim=2)
    if layer.bias is not None:
        rows = torch.cat([rows, rows.new_ones(*rows.shape[:-1], 1)], dim=-1)
    rows = rows.reshape(groups, -1, rows.shape[-1])
    return rows if groups > 1 else rows[0]


def output_rows(layer: Layer, slopes: Tensor, sharing: Sharing) -> Tensor:
    """The output gradients g whose sum of g gᵀ is G, up to scale: (rows, m), or (groups, rows, m).

    Args:
        layer: the layer.
        slopes: gradients in its output, (columns, b, ..., m), for a convolution (columns, b, m,
            height, width).
        sharing: rows are columns, examples and positions (expand), or columns and examples (reduce:
            summed).
    """
    groups = len(layer.blocks)
    if layer.kind == "conv2d":
        slopes = slopes.flatten(3)
        slopes = slopes.sum(dim=3) if sharing == "reduce" else slopes.mT
    elif sharing == "reduce" and slopes.ndim > 3:
        slopes = slopes.flatten(2, -2).sum(dim=2)
    if groups == 1:
        return slopes.reshape(-1, slopes.shape[-1])
    found: Tensor = slopes.unflatten(-1, (groups, -1)).movedim(-2, 0).flatten(1, -2)
    return found


def _token_rows(module: nn.Embedding, x: Tensor, sharing: Sharing) -> Tensor:
    """Mean of the one-hot inputs (n,) under expand; their means over positions (b, n) under
    reduce.
    """
    ones = torch.ones(x.shape, dtype=module.weight.dtype, device=x.device)
    if module.padding_idx is not None:
        ones = ones * (x != module.padding_idx)
    if sharing == "expand":
        return (
            ones.new_zeros(module.num_embeddings).index_add(0, x.flatten(), ones.flatten())
            / x.numel()
        )
    tokens, counts = x.reshape(len(x), -1), ones.reshape(len(x), -1)
    return (
        ones.new_zeros(len(x), module.num_embeddings).scatter_add(1, tokens, counts)
        / tokens.shape[1]
    )
