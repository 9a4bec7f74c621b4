"""nn.MultiheadAttention and nn.EmbeddingBag under K-FAC, held against networks of Linear layers;
layers that have no rule, under every method that needs curvature."""

from __future__ import annotations

import pytest
import torch
from harness import document, execute
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tasks import random_task, whole
from torch import nn

from hybridsim.algorithms.first_order.gradient import gradient
from hybridsim.algorithms.kfac.factors import factors, gradient_parts
from hybridsim.algorithms.kfac.layers import blocks, layers, matrices, outside, parameters_of
from hybridsim.errors import InputError
from hybridsim.operations.count import count

seeds = st.integers(0, 2**31)
losses = st.sampled_from(["cross_entropy", "mse"])
fishers = st.sampled_from(["type2", "type2_per_term", "empirical", "mc"])
sharings = st.sampled_from(["expand", "reduce"])
WIDTH, HEADS, POSITIONS = 6, 2, 5
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")


def close(found, expected):
    assert found.shape == expected.shape
    assert (found - expected).norm() <= 1e-11 * expected.norm() + 1e-20


class Packed(nn.Module):
    """Torch's attention between two layers of the residual stream, averaged or per position."""

    def __init__(self, bias, first, weights, causal, mean):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, bias=bias, batch_first=first)
        self.into, self.head = nn.Linear(4, WIDTH), nn.Linear(WIDTH, 3)
        self.weights, self.mean = weights, mean
        ahead = torch.ones(POSITIONS, POSITIONS, dtype=torch.bool).triu(1)
        self.register_buffer("ahead", ahead if causal else torch.zeros_like(ahead))
        for parameter in self.attention.parameters():  # torch starts biases at zero
            nn.init.normal_(parameter, std=0.5)

    def mix(self, h):
        h = h if self.attention.batch_first else h.transpose(0, 1)
        z, _ = self.attention(h, h, h, attn_mask=self.ahead, need_weights=self.weights)
        return z if self.attention.batch_first else z.transpose(0, 1)

    def forward(self, x):
        h = torch.tanh(self.into(x))
        z = self.head(h + self.mix(h))
        return z.mean(dim=1) if self.mean else z


class Apart(Packed):
    """The same with a Linear layer for each projection."""

    def __init__(self, bias, *others):
        super().__init__(bias, *others)
        del self.attention
        self.parts = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=bias) for _ in range(4))

    def mix(self, h):
        q, k, v = (part(h).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.parts[:3])
        scores = (q @ k.mT) * q.shape[-1] ** -0.5
        weights = scores.masked_fill(self.ahead, -torch.inf).softmax(dim=-1)
        return self.parts[3]((weights @ v).transpose(1, 2).flatten(2))


NAMES = {f"attention[{part}]": f"parts.{k}" for k, part in enumerate(("query", "key", "value"))}
NAMES |= {"attention.out_proj": "parts.3", "into": "into", "head": "head"}


@settings(deadline=None, max_examples=8)
@given(seeds, losses, fishers, sharings, *(st.booleans() for _ in range(5)))
def test_attention_is_four_linear_layers(
    seed, loss, fisher, sharing, bias, first, weights, causal, mean
):
    options = (bias, first, weights, causal, mean)
    outputs = (3,) if mean else (POSITIONS, 3)
    task, theta, batch = random_task(lambda: Packed(*options), loss, seed, (POSITIONS, 4), outputs)
    apart, _, _ = random_task(lambda: Apart(*options), loss, seed, (POSITIONS, 4), outputs)
    named = task.layout.unflatten(theta)
    split = {name: value for name, value in named.items() if not name.startswith("attention")}
    for kind in ("weight", "bias")[: 1 + bias]:
        for k, part in enumerate(named[f"attention.in_proj_{kind}"].chunk(3)):
            split[f"parts.{k}.{kind}"] = part
        split[f"parts.3.{kind}"] = named[f"attention.out_proj.{kind}"]
    settings = {"fisher": fisher, "sharing": sharing}
    found = factors(task, theta, batch, whole(batch), **settings).value
    expected = factors(apart, apart.layout.flatten(split), batch, whole(batch), **settings).value
    assert set(found["a"]) == set(NAMES)
    for side in ("a", "g", "d"):
        for ours, theirs in NAMES.items():
            close(found[side][ours], expected[side][theirs])
    close(found["gradient"], gradient(task, theta, batch).value)
    alone = gradient_parts(task, theta, batch, sharing=sharing).value["d"]
    assert all(torch.allclose(alone[name], d) for name, d in found["d"].items())


@settings(deadline=None, max_examples=5)
@given(seeds, losses, sharings)
def test_one_position_of_one_example_has_exact_blocks(seed, loss, sharing):
    """Attention to the only position is two products: G x A of value and output is the block of
    the GGN; queries and keys are without effect."""

    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x)[0][:, 0]

    task, theta, batch = random_task(One, loss, seed, (1, 4), (4,), size=1)
    value = factors(task, theta, batch, whole(batch), fisher="type2", sharing=sharing).value
    z = task.apply(task.layout.unflatten(theta), batch[0])[0]
    p = z.softmax(dim=0)
    eye = torch.eye(4, dtype=torch.float64)
    hessian = torch.diag(p) - p[:, None] * p if loss == "cross_entropy" else eye / 2
    jacobian = torch.autograd.functional.jacobian(
        lambda t: task.apply(task.layout.unflatten(t), batch[0])[0], theta
    )
    ggn = jacobian.T @ hessian @ jacobian
    numbers = task.layout.unflatten(torch.arange(task.layout.size))
    for layer in layers(task, sharing):
        for block, place in zip(layer.blocks, matrices(layer, numbers), strict=True):
            found = torch.kron(value["g"][block.name], value["a"][block.name])
            exact = ggn[place.flatten()][:, place.flatten()]
            assert (found - exact).abs().max() <= 1e-12 * ggn.abs().max()


def test_the_matrices_of_the_packed_projection():
    task, theta, _ = random_task(lambda: Packed(True, *4 * [True]), "mse", 0, (5, 4), (3,))
    named, joined = task.layout.unflatten(theta), {}
    for layer in layers(task, "expand"):
        joined |= parameters_of(layer, matrices(layer, named))
    assert torch.equal(task.layout.flatten(joined), theta)
    assert outside(task, sharing="expand") == ()
    assert [b.name for b in blocks(task, sharing="expand")] == list(NAMES)


class Bag(nn.Module):
    """Token vectors added up, as a bag or as a dense layer of how often each token is there."""

    def __init__(self, dense, mode, padding):
        super().__init__()
        self.dense, self.mode, self.padding = dense, mode, padding
        bag = nn.EmbeddingBag(7, 4, mode=mode, padding_idx=padding)
        self.table = nn.Linear(7, 4, bias=False) if dense else bag
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        if self.dense:
            ones = nn.functional.one_hot(x, 7).to(self.table.weight.dtype)
            if self.padding is not None:
                ones = ones * (torch.arange(7) != self.padding)
            x = ones.sum(dim=1)
            x = x / x.sum(dim=1, keepdim=True).clamp(min=1) if self.mode == "mean" else x
        return self.head(torch.tanh(self.table(x)))


@settings(deadline=None, max_examples=6)
@given(seeds, losses, fishers, sharings, st.sampled_from(["sum", "mean"]), st.booleans())
def test_a_bag_is_a_dense_layer_of_counts(seed, loss, fisher, sharing, mode, padded):
    padding = 6 if padded else None
    (task, theta, batch), (dense, _, _) = (
        random_task(lambda d=d: Bag(d, mode, padding), loss, seed, (5,), (3,), integers=7)
        for d in (False, True)
    )
    named = task.layout.unflatten(theta)
    turned = dense.layout.flatten(named | {"table.weight": named["table.weight"].T})
    settings = {"fisher": fisher, "sharing": sharing}
    found = factors(task, theta, batch, whole(batch), **settings).value
    expected = factors(dense, turned, batch, whole(batch), **settings).value
    for side in ("a", "g", "d"):
        for name in ("table", "head"):
            close(found[side][name], expected[side][name])


@settings(deadline=None, max_examples=5)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
def test_what_a_bag_costs(tokens, width, size, positions):
    """Every token's row is read and added once, and its gradient once; indices and the bags' starts
    are read, and what torch keeps beside the result written."""
    table = nn.EmbeddingBag(tokens, width, device="meta", mode="sum")
    x = torch.zeros(size, positions, dtype=torch.int64, device="meta")

    def both(weight):
        weight = weight.detach().requires_grad_()
        with torch.enable_grad():
            z = torch.func.functional_call(table, {"weight": weight}, (x,))
            return torch.autograd.grad(z, weight, torch.ones_like(z))[0]

    work, _ = count(both, (table.weight.detach(),), {})
    by_name = {kernel.name: kernel for kernel in work.kernels}
    forward, backward = (by_name[f"aten._embedding_bag{end}"] for end in ("", "_backward"))
    read, indices, bags = size * positions * width, size * positions, size
    assert forward.flop == backward.flop == read
    assert forward.bytes == 4 * (read + size * width) + 8 * (indices + bags) + 8 * (indices + bags)
    kept = 8 * (indices + bags)
    assert backward.bytes == 4 * (read + tokens * width) + 8 * (indices + bags) + kept


class Two(nn.Module):
    """Attention from one sequence to another; or a bag with weights."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.into = kind, nn.Linear(3, 4)
        self.attention, self.bag = nn.MultiheadAttention(4, 2, batch_first=True), None
        if kind == "weighted":
            self.attention, self.bag = None, nn.EmbeddingBag(7, 4, mode="sum")

    def forward(self, x):
        h = self.into(x)
        if self.bag is not None:
            return self.bag(x[:, :, 0].abs().long(), per_sample_weights=x[:, :, 1]) + h.mean(dim=1)
        if self.kind == "twice":
            return (self.attention(h, h, h)[0] + self.attention(h, h, h)[0]).mean(dim=1)
        if self.kind == "single":
            h = h[0]
            return self.attention(h, h, h)[0].mean(dim=0).expand(len(x), -1)
        return self.attention(h, 2 * h, h)[0].mean(dim=1)


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("across", "attention: expected attention of a sequence to itself"),
        ("twice", "attention: expected one call .* got a second call"),
        ("single", r"attention.out_proj: .* got inputs \(5, 4\) for 6 examples"),
        ("weighted", "bag: expected a call with a batch of inputs alone, got also per_sample"),
    ],
)
def test_calls_without_a_rule_are_named(kind, named):
    task, theta, batch = random_task(lambda: Two(kind), "mse", 0, (5, 3), (4,))
    with pytest.raises(InputError, match=f"K-FAC, {named}"):
        factors(task, theta, batch, whole(batch), fisher="mc", sharing="expand")


class Recurrent(nn.Module):
    """A sequence read by a recurrent layer of torch's, or by one of Linear layers."""

    def __init__(self, kind):
        super().__init__()
        own = {"batch_first": True} if kind in (nn.LSTM, nn.GRU, nn.RNN) else {}
        self.reader = kind(3, 4, **own) if kind else nn.Linear(7, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        if isinstance(self.reader, nn.RNNBase):
            return self.head(self.reader(x)[0][:, -1])
        h = x.new_zeros(len(x), 4)
        for here in x.unbind(1):
            if isinstance(self.reader, nn.Linear):
                h = torch.tanh(self.reader(torch.cat([here, h], dim=1)))
            else:
                h = self.reader(here, h)
        return self.head(h)


OF_TORCH = [
    (lambda: Recurrent(nn.LSTM), (5, 3), "reader: expected no recurrent layer.*freeze.*got LSTM"),
    (lambda: Recurrent(nn.GRU), (5, 3), "got GRU"),
    (lambda: Recurrent(nn.GRUCell), (5, 3), "no recurrent cell.*got GRUCell"),
    (
        lambda: nn.Sequential(nn.ConvTranspose1d(5, 2, 2), nn.Flatten(), nn.Linear(8, 3)),
        (5, 3),
        "0: expected no transposed convolution: nn.Upsample and nn.Conv2d.*got ConvTranspose1d",
    ),
]


@pytest.mark.parametrize(("network", "shape", "named"), OF_TORCH)
def test_layers_without_a_rule_say_what_to_do(network, shape, named):
    task, _, _ = random_task(network, "mse", 0, shape, (3,))
    with pytest.raises(InputError, match=named):
        blocks(task, sharing="expand")


def test_a_frozen_layer_needs_no_rule():
    def network():
        found = Recurrent(nn.LSTM)
        found.reader.requires_grad_(False)
        return found

    task, _, _ = random_task(network, "mse", 0, (5, 3), (3,))
    assert [block.name for block in blocks(task, sharing="expand")] == ["head"]


OWN = """
import torch
from torch import nn
from hybridsim import Data, Workload

class Net(nn.Module):
    def __init__(self, reader):
        super().__init__()
        self.tokens = nn.EmbeddingBag(9, 8) if reader == "none" else nn.Embedding(9, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.kind = reader
        if reader == "rule":  # the recurrence that refusals tell of
            self.reader = nn.Linear(16, 8)
        elif reader != "none":
            self.reader = getattr(nn, reader)(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        h = self.tokens(x)
        if self.kind == "none":
            h = h[:, None] * torch.linspace(-1, 1, 4)[:, None].to(h)
            return self.head(self.attention(h, h, h)[0].mean(dim=1))
        if self.kind == "LSTM":
            return self.head(self.reader(h)[0].mean(dim=1))
        state = h.new_zeros(len(h), 8)
        for here in h.unbind(1):
            if self.kind == "rule":
                state = torch.tanh(self.reader(torch.cat([here, state], dim=1)))
            else:
                state = self.reader(here, state)
        return self.head(state)

def build(reader: str) -> Workload:
    x, y = torch.randint(9, (60, 4)), torch.arange(60) % 3
    return Workload(lambda: Net(reader), Data(x, y, x, y), "cross_entropy")
"""
TNGD = {"kind": "tngd", "learning_rate": 0.1, "damping": 0.1, "settle": "10 tau"}
CG = {"kind": "ngd", "method": "cg", "learning_rate": 0.1, "damping": 0.1, "iterations": 2}


def trained(folder, reader, algorithm):
    (folder / "own.py").write_text(OWN)
    workload = {"source": str(folder / "own.py"), "options": {"reader": reader}}
    return execute(document(algorithm, workload=workload))


@pytest.mark.parametrize(
    ("reader", "algorithm", "got"),
    [
        ("LSTM", TNGD, "TNGD, reader: expected a recurrence written with nn.Linear.* got LSTM"),
        ("GRUCell", TNGD, "TNGD, reader: .* got GRUCell"),
        ("LSTM", CG, "NGD, cg: expected operators .* forwards.* mkldnn_rnn_layer"),
    ],
)
def test_natural_gradients_refuse_recurrent_layers(tmp_path, reader, algorithm, got):
    with pytest.raises(InputError, match=got):
        trained(tmp_path, reader, algorithm)


@pytest.mark.parametrize(("reader", "algorithm"), [("rule", TNGD), ("GRUCell", CG)])
def test_what_refusals_tell_to_do_trains(tmp_path, reader, algorithm):
    trained(tmp_path, reader, algorithm)


def test_attention_and_a_bag_train_on_spus(tmp_path):
    kfac = {"kind": "kfac", "learning_rate": 0.1, "damping": 0.1, "settle": "40 tau"}
    trained(tmp_path, "none", kfac | {"update": "sgd"})
