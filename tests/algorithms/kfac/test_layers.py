from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hybridsim.algorithms.kfac.layers import (
    Block,
    blocks,
    input_rows,
    layers,
    matrices,
    output_rows,
    outside,
    parameters_of,
)
from hybridsim.errors import InputError
from hybridsim.tasks.task import Data, Workload, as_task, load_workload

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
paddings = st.one_of(
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.integers(0, 2),
    st.sampled_from(["same", "valid"]),
)
seeds = st.integers(0, 2**31)


def task_of(network, *shape, integers=0, outputs=3, size=4):
    """A task with inputs (size, *shape), integers below ``integers`` if that is given."""
    x = torch.randint(integers, (size, *shape)) if integers else torch.randn(size, *shape)
    y = torch.arange(size) % outputs
    return as_task("layers", Workload(network, Data(x, y, x, y), "cross_entropy"))


class Flat(nn.Module):
    """A layer in front, its outputs as scores."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x).flatten(1)


@settings(deadline=None, max_examples=60)
@given(
    pairs,
    pairs,
    pairs,
    paddings,
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 2),
    st.booleans(),
    seeds,
)
def test_convolution_is_a_dense_layer_of_its_rows(
    kernel, stride, dilation, padding, groups, c, m, bias, seed
):
    """Rows times the (m, n) matrix are the outputs at every pixel; under reduce, their mean."""
    stride = (1, 1) if padding == "same" else stride  # all that torch allows
    torch.manual_seed(seed)
    x = torch.randn(3, c * groups, 7, 8)

    def network():
        return Flat(
            nn.Conv2d(c * groups, m * groups, kernel, stride, padding, dilation, groups, bias)
        )

    task = as_task(
        "layers",
        Workload(
            network,
            Data(x, torch.zeros(3, dtype=int), x, torch.zeros(3, dtype=int)),
            "cross_entropy",
        ),
    )
    (layer,) = layers(task, "expand")
    module = task.network.layer
    parts = matrices(layer, dict(task.network.named_parameters()))
    z = module(x)
    columns = torch.randn(2, *z.shape)
    for sharing in ("expand", "reduce"):
        assert [block.inputs for block in layer.blocks] == [
            c * kernel[0] * kernel[1] + bias
        ] * groups
        rows, slopes = input_rows(layer, module, x, sharing), output_rows(layer, columns, sharing)
        rows = rows if groups > 1 else rows[None]
        slopes = slopes if groups > 1 else slopes[None]
        expected = z.flatten(2).mT if sharing == "expand" else z.mean(dim=(2, 3))[:, None]
        found = torch.stack([r @ part.T for r, part in zip(rows, parts, strict=True)], dim=1)
        assert torch.allclose(found.flatten(1), expected.reshape(-1, m * groups), atol=1e-5)
        expected = columns.flatten(3).mT if sharing == "expand" else columns.sum(dim=(3, 4))
        assert torch.equal(slopes.transpose(0, 1).flatten(1), expected.reshape(-1, m * groups))


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(1, 4), max_size=2),
    st.integers(1, 5),
    st.integers(1, 5),
    st.booleans(),
    seeds,
)
def test_dense_rows(positions, n, m, bias, seed):
    torch.manual_seed(seed)
    x = torch.randn(3, *positions, n)
    task = task_of(lambda: Flat(nn.Linear(n, m, bias=bias)), *positions, n, outputs=m)
    (layer,) = layers(task, "reduce")
    (matrix,) = matrices(layer, dict(task.network.named_parameters()))
    z = task.network.layer(x)
    found = input_rows(layer, task.network.layer, x, "expand") @ matrix.T
    assert torch.allclose(found, z.reshape(-1, m), atol=1e-6)
    found = input_rows(layer, task.network.layer, x, "reduce") @ matrix.T
    assert torch.allclose(found, z.reshape(3, -1, m).mean(dim=1), atol=1e-6)
    columns = torch.randn(2, *z.shape)
    assert torch.equal(output_rows(layer, columns, "expand"), columns.reshape(-1, m))
    assert torch.allclose(
        output_rows(layer, columns, "reduce"), columns.reshape(6, -1, m).sum(dim=1), atol=1e-6
    )


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 6),
    st.integers(1, 5),
    st.lists(st.integers(1, 4), min_size=1, max_size=2),
    st.booleans(),
    seeds,
)
def test_embedding_is_a_dense_layer_of_one_hot_inputs(tokens, width, positions, padded, seed):
    """A padding token has the zero input: its vector does not move."""
    torch.manual_seed(seed)
    padding = tokens - 1 if padded else None
    x = torch.randint(tokens, (5, *positions))
    task = task_of(
        lambda: Flat(nn.Embedding(tokens, width, padding_idx=padding)),
        *positions,
        integers=tokens,
        outputs=width,
    )
    one_hot = nn.functional.one_hot(x, tokens).float()
    if padded:
        one_hot[..., padding] = 0
    for sharing in ("expand", "reduce"):
        (layer,) = layers(task, sharing)
        (block,) = layer.blocks
        assert (block.outputs, block.inputs, block.diagonal) == (width, tokens, sharing == "expand")
        rows = input_rows(layer, task.network.layer, x, sharing)
        flat = one_hot.reshape(-1, tokens)
        if sharing == "expand":
            assert torch.allclose(torch.diag(rows), flat.T @ flat / len(flat), atol=1e-6)
        else:
            assert torch.allclose(rows, one_hot.reshape(5, -1, tokens).mean(dim=1), atol=1e-6)
        (matrix,) = matrices(layer, dict(task.network.named_parameters()))
        moving = x != (-1 if padding is None else padding)
        assert torch.equal((one_hot @ matrix.T)[moving], task.network.layer(x)[moving])


def mixed():
    return nn.Sequential(
        nn.Embedding(7, 4),
        nn.Unflatten(1, (2, 2)),
        nn.Conv2d(2, 4, (2, 1), groups=2),
        nn.Flatten(),
        nn.LayerNorm(16),
        nn.Linear(16, 3, bias=False),
    )


def test_blocks_in_network_order_and_what_lies_outside():
    task = task_of(mixed, 4, integers=7)
    assert blocks(task, sharing="expand") == (
        Block("0", "0", "embedding", 4, 7, 0, 1, True),
        Block("2[0]", "2", "conv2d", 2, 3, 0, 2, False),
        Block("2[1]", "2", "conv2d", 2, 3, 1, 2, False),
        Block("5", "5", "linear", 3, 16, 0, 1, False),
    )
    assert not blocks(task, sharing="reduce")[0].diagonal
    assert outside(task, sharing="expand") == ("4.weight", "4.bias")
    sizes = [block.outputs * block.inputs for block in blocks(task, sharing="expand")]
    assert sum(sizes) + 32 == task.layout.size


@given(seeds)
def test_matrices_and_parameters_are_inverse(seed):
    task = task_of(mixed, 4, integers=7)
    theta = torch.randn(task.layout.size, generator=torch.Generator().manual_seed(seed))
    named = task.layout.unflatten(theta)
    found = dict(named)
    for layer in layers(task, "expand"):
        parts = matrices(layer, named)
        assert [tuple(p.shape) for p in parts] == [(b.outputs, b.inputs) for b in layer.blocks]
        found |= parameters_of(layer, parts)
    assert torch.equal(task.layout.flatten(found), theta)


def test_partly_frozen_layers():
    def network():
        model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3), nn.Linear(3, 3))
        model[1].bias.requires_grad_(False)
        model[2].weight.requires_grad_(False)
        model[3].requires_grad_(False)
        return model

    task = task_of(network, 4)
    assert [(b.name, b.inputs) for b in blocks(task, sharing="expand")] == [("0", 5), ("1", 5)]
    assert outside(task, sharing="expand") == ("2.bias",)
    alone = task_of(lambda: nn.Linear(4, 3), 4)
    assert blocks(alone, sharing="expand") == (Block("", "", "linear", 3, 5, 0, 1, False),)


class Changed(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2


class Inherited(nn.Linear):
    pass


@pytest.mark.parametrize(
    ("network", "shape", "named"),
    [
        (
            lambda: nn.Sequential(nn.ConvTranspose2d(1, 2, 2), nn.Flatten(), nn.Linear(32, 3)),
            (1, 3, 3),
            "K-FAC, 0.*ConvTranspose2d",
        ),
        (
            lambda: nn.Sequential(
                nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), nn.Flatten()
            ),
            (1, 3, 3),
            "zero padding.*Conv2d",
        ),
        (
            lambda: nn.Sequential(nn.Conv1d(1, 2, 2), nn.Flatten(), nn.Linear(4, 3)),
            (1, 3),
            "Conv1d",
        ),
        (lambda: nn.Sequential(Changed(4, 3)), (4,), "Changed"),
        (lambda: nn.Sequential(nn.LayerNorm(4)), (4,), "whose weight trains, got 0.weight, 0.bias"),
    ],
)
def test_what_has_no_rule_is_named(network, shape, named):
    with pytest.raises(InputError, match=named):
        blocks(task_of(network, *shape), sharing="expand")


def test_subclasses_with_the_same_forward_pass_are_accepted():
    assert blocks(task_of(lambda: Inherited(4, 3), 4), sharing="expand")[0].kind == "linear"
    with pytest.raises(ValueError, match="expected expand or reduce"):
        blocks(task_of(lambda: Inherited(4, 3), 4), sharing="shrink")


def tied():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    return model


def one_module_twice():
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, layer)


def test_a_parameter_of_two_modules_is_refused():
    with pytest.raises(
        InputError, match=r"nn.Embedding .* share, got 0.weight shared with 1.weight"
    ):
        blocks(task_of(tied, 4, outputs=4), sharing="expand")
    assert (
        len(blocks(task_of(one_module_twice, 4, outputs=4), sharing="expand")) == 1
    )  # the call is refused, see Tape


def test_shipped_networks():
    assert [b.name for b in blocks(load_workload("digits_mlp", {}), sharing="expand")] == [
        "0",
        "2",
        "4",
    ]
    assert {b.kind for b in blocks(load_workload("digits_cnn", {}), sharing="expand")} == {
        "conv2d",
        "linear",
    }
