"""Which parameters K-FAC preconditions: linear layers as Kronecker-factored blocks, their inputs as
rows.

``nn.MultiheadAttention`` packs the projections to query, key and value into one parameter: three
blocks with one A, as three Linear layers on one input have, each shared over the positions. Its
projection of the output is a Linear layer. An ``nn.EmbeddingBag`` is a dense layer of how often
each token is in the bag.

An embedding and the Linear layer of the scores may share one weight E (tokens, width): one block,
see ``factors.tied``. The bias of that Linear layer lies outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from hybridsim.algorithms.patches import patches
from hybridsim.errors import InputError, Problem
from hybridsim.tasks.task import Task

Sharing = Literal["expand", "reduce"]
Kind = Literal["linear", "conv2d", "embedding", "embedding_bag", "in_projection"]

_KINDS: dict[type[nn.Module], Kind] = {
    nn.Linear: "linear",
    nn.Conv2d: "conv2d",
    nn.Embedding: "embedding",
    nn.EmbeddingBag: "embedding_bag",
    nn.MultiheadAttention: "in_projection",
}
_TOKENS = ("embedding", "embedding_bag")
_PROJECTED = ("query", "key", "value")
_PLAIN = {"padding_mode": "zeros", "max_norm": None, "scale_grad_by_freq": False, "sparse": False}
_OTHERWISE = "freeze it (requires_grad_(False)) or train with an optimizer by itself (adam, ...)"
# Modules of torch with weight matrices, and what to do where no rule applies: an error, rather than
# left to the base optimizer.
_INSTEAD: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.RNNBase, "no recurrent layer, whose weights every time step shares"),
    (nn.RNNCellBase, "no recurrent cell, whose weights every time step shares"),
    (_ConvTransposeNd, "no transposed convolution: nn.Upsample and nn.Conv2d in its place"),
    (nn.Conv2d, "nn.Conv2d with zero padding and its own forward pass"),
    (nn.Conv1d, "nn.Conv2d on inputs (b, channels, 1, length) in place of nn.Conv1d"),
    (_ConvNd, "nn.Conv2d with zero padding"),
    (nn.MultiheadAttention, "nn.MultiheadAttention without kdim, vdim, its own forward pass"),
    (nn.EmbeddingBag, "nn.EmbeddingBag of mode sum or mean, without max_norm, frequencies, sparse"),
    (nn.Embedding, "nn.Embedding without max_norm, frequencies, sparse, its own forward pass"),
    (nn.Linear, "nn.Linear with its own forward pass"),
    (nn.Bilinear, "nn.Linear on products of the inputs in place of nn.Bilinear"),
)


class Block(NamedTuple):
    """One Kronecker-factored block: a layer, one group of a grouped convolution, or one of the
    three projections of attention.

    Attributes:
        name: unique: the module's name; ``conv1[2]`` for group 2 of a grouped convolution,
            ``attention[key]`` for a projection.
        module: the module's name in the network.
        kind: what the module is.
        outputs: m, order of G.
        inputs: n, order of A, the bias counted as one more input.
        group: which group of a convolution, or which projection, counted from 0.
        groups: how many groups or projections it has.
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
    """A module with its blocks (one for each group or projection) and its parameters' names."""

    module: str
    kind: Kind
    weight: str
    bias: str | None
    blocks: tuple[Block, ...]
    head: Layer | None = None
    """Of an embedding, the Linear layer that has its weight too, as if it were alone."""


def blocks(task: Task, *, sharing: Sharing) -> tuple[Block, ...]:
    """The blocks that K-FAC preconditions, in the network's order.

    Linear, Conv2d, Embedding, EmbeddingBag and MultiheadAttention modules whose weight trains,
    subclasses only with the forward pass unchanged.

    Raises:
        InputError: there is none; a weight that trains belongs to two modules, or to a torch module
            that has weight matrices without a rule here (transposed or padded convolution,
            recurrent layer ...): the error says what to do in its place. An embedding and a Linear
            layer may share a weight.
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
    heads = _heads(task)
    for name, module in task.network.named_modules():
        prefix = f"{name}." if name else ""
        kind = _kind(module)
        own = [n for n, _ in module.named_parameters(prefix=name, recurse=False)]
        if kind is not None and prefix + _weight(kind) in trained:
            layer = _layer(name, module, kind, prefix + _bias(kind) in trained, sharing)
            found.append(_with_head(layer, heads[name]) if name in heads else layer)
        elif kind is None and trained.intersection(own):
            _refuse(task, name, module)
    if not found:
        expected = "a Linear, Conv2d, Embedding or attention layer whose weight trains"
        raise InputError(
            [Problem(task.name, None, "K-FAC", expected, ", ".join(task.layout.names))]
        )
    return tuple(found)


def _kind(module: nn.Module) -> Kind | None:
    """The rule for a module, if there is one."""
    for base, kind in _KINDS.items():
        if isinstance(module, base) and type(module).forward is base.forward:
            plain = all(getattr(module, name, value) == value for name, value in _PLAIN.items())
            packed = getattr(module, "_qkv_same_embed_dim", True)
            return kind if plain and packed and getattr(module, "mode", "sum") != "max" else None
    return None


def _refuse(task: Task, name: str, module: nn.Module) -> None:
    """An error if a module without a rule is one of torch's with a weight matrix."""
    for base, instead in _INSTEAD:
        if isinstance(module, base):
            expected = f"{instead}; or {_OTHERWISE}"
            raise InputError(
                [Problem(task.name, None, f"K-FAC, {name}", expected, type(module).__name__)]
            )


def _weight(kind: Kind) -> str:
    return "in_proj_weight" if kind == "in_projection" else "weight"


def _bias(kind: Kind) -> str:
    return "in_proj_bias" if kind == "in_projection" else "bias"


def _layer(name: str, module: nn.Module, kind: Kind, bias: bool, sharing: Sharing) -> Layer:
    prefix = f"{name}." if name else ""
    weight = module.get_parameter(_weight(kind))
    parts: tuple[object, ...] = tuple(range(int(getattr(module, "groups", 1))))
    if kind == "in_projection":
        parts = _PROJECTED
    groups = len(parts)
    outputs, inputs = weight.shape[0] // groups, weight.numel() // weight.shape[0] + bias
    if kind in _TOKENS:
        outputs, inputs = inputs, outputs
    names = [f"{name}[{part}]" if groups > 1 else name for part in parts]
    diagonal = kind == "embedding" and sharing == "expand"
    found = (
        Block(n, name, kind, outputs, inputs, g, groups, diagonal) for g, n in enumerate(names)
    )
    own = prefix + _weight(kind), prefix + _bias(kind) if bias else None
    return Layer(name, kind, *own, tuple(found))


def _heads(task: Task) -> dict[str, Layer]:
    """By embedding, the Linear layer that has its weight too.

    Raises:
        InputError: other modules share a parameter, of which no single block follows.
    """
    first: dict[int, str] = {}
    found: dict[str, Layer] = {}
    for name, parameter in task.network.named_parameters(remove_duplicate=False):
        other = first.setdefault(id(parameter), name)
        if (
            other == name
            or other not in task.layout.names
            or _same_module(task.network, other, name)
        ):
            continue
        owners = [key.rpartition(".")[0] for key in (other, name)]
        modules = [task.network.get_submodule(owner) for owner in owners]
        if [_kind(module) for module in modules] != ["embedding", "linear"] or owners[0] in found:
            expected = (
                "a parameter of its own in each module, or one that an nn.Embedding and then one "
                "nn.Linear share"
            )
            raise InputError(
                [Problem(task.name, None, "K-FAC", expected, f"{other} shared with {name}")]
            )
        head = _layer(owners[1], modules[1], "linear", False, "expand")
        found[owners[0]] = head._replace(weight=other)
    return found


def _with_head(layer: Layer, head: Layer) -> Layer:
    """An embedding whose A is no diagonal: the scores' curvature is added to it."""
    whole = tuple(block._replace(diagonal=False) for block in layer.blocks)
    return layer._replace(blocks=whole, head=head)


def _same_module(network: nn.Module, one: str, other: str) -> bool:
    """Whether two names lead to the same parameter of one module that the network holds twice."""
    owners = [network.get_submodule(name.rpartition(".")[0]) for name in (one, other)]
    return owners[0] is owners[1]


def matrices(layer: Layer, parameters: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The (m, n) matrix of each block from parameters, or gradients, by name; a bias is the last
    column.
    """
    weight = parameters[layer.weight]
    if layer.kind in _TOKENS:
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
    if layer.kind in _TOKENS:
        return {layer.weight: parts[0].T}
    matrix = parts[0] if len(parts) == 1 else torch.cat(parts)
    if layer.bias is None:
        return {layer.weight: matrix}
    return {layer.weight: matrix[:, :-1], layer.bias: matrix[:, -1]}


def input_rows(layer: Layer, module: nn.Module, x: Tensor, sharing: Sharing) -> Tensor:
    """The inputs a whose mean of a aᵀ is A: (rows, n), or (groups, rows, n) for a grouped
    convolution; a bias is a 1 appended. The projections of attention have one input.

    Rows are examples and shared positions (expand), or examples with the mean over positions
    (reduce). An embedding's rows are one-hot; a ``padding_idx`` has the zero row, since its vector
    never moves. Under expand the mean itself, the diagonal of A (n,), is returned instead. The row
    of a bag is the sum of its tokens' one-hot inputs, or their mean.
    """
    if isinstance(module, nn.Embedding):
        return _token_rows(module, x, sharing)
    if isinstance(module, nn.EmbeddingBag):
        return _bag_rows(module, x)
    groups = module.groups if isinstance(module, nn.Conv2d) else 1
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
    return _counted(module, tokens, counts) / tokens.shape[1]


def _bag_rows(module: nn.EmbeddingBag, x: Tensor) -> Tensor:
    """How often each token is in each bag (b, n), divided by their number if it means; padding does
    not count.
    """
    ones = torch.ones(x.shape, dtype=module.weight.dtype, device=x.device)
    if module.padding_idx is not None:
        ones = ones * (x != module.padding_idx)
    rows = _counted(module, x, ones)
    return rows / ones.sum(dim=1, keepdim=True).clamp(min=1) if module.mode == "mean" else rows


def _counted(module: nn.Embedding | nn.EmbeddingBag, tokens: Tensor, counts: Tensor) -> Tensor:
    """Sums (b, n) of the counts (b, R) of each token."""
    return counts.new_zeros(len(tokens), module.num_embeddings).scatter_add(1, tokens, counts)
