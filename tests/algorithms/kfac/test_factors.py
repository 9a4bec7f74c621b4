from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tasks import random_task, whole
from torch import nn

from hybridsim.algorithms.first_order.gradient import gradient
from hybridsim.algorithms.kfac.factors import factors, gradient_parts
from hybridsim.algorithms.kfac.layers import blocks, layers, matrices, outside
from hybridsim.errors import InputError
from hybridsim.rng import Draw

seeds = st.integers(0, 2**31)
losses = st.sampled_from(["cross_entropy", "mse"])
fishers = st.sampled_from(["type2", "type2_per_term", "empirical", "mc"])
sharings = st.sampled_from(["expand", "reduce"])


def close(found, expected, tolerance=1e-12):
    assert found.shape == expected.shape
    assert (found - expected).norm() <= tolerance * expected.norm()


def exact_blocks(task, theta, x):
    """The blocks of the GGN of the mean loss by name, weights as (m, n) row by row, from the full
    Jacobian."""

    def outputs(theta):
        return task.apply(task.layout.unflatten(theta), x).flatten(0, -2)

    jacobian, z = torch.autograd.functional.jacobian(outputs, theta), outputs(theta)
    p = z.softmax(dim=-1)
    hessian = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    if task.loss == "mse":
        hessian = (torch.eye(task.outputs, dtype=theta.dtype) * 2 / task.outputs).expand(
            len(z), -1, -1
        )
    ggn = torch.einsum("kiN,kij,kjM->NM", jacobian, hessian, jacobian) / len(z)
    indices = task.layout.unflatten(torch.arange(task.layout.size))
    places = {
        b.name: m.flatten()
        for layer in layers(task, "expand")
        for b, m in zip(layer.blocks, matrices(layer, indices), strict=True)
    }
    return {name: ggn[place][:, place] for name, place in places.items()}


class Pooled(nn.Sequential):
    def forward(self, x):
        return super().forward(x).mean(dim=1)


@settings(deadline=None, max_examples=20)
@given(
    seeds,
    st.lists(st.integers(1, 5), min_size=2, max_size=4),
    st.integers(1, 4),
    sharings,
    st.booleans(),
)
def test_deep_linear_networks_have_exact_blocks(seed, widths, positions, sharing, bias):
    """Expand where each position has its own loss term, reduce where positions are averaged
    (KFAC-E, props. 1, 2)."""
    kind = nn.Sequential if sharing == "expand" else Pooled

    def network():
        return kind(*(nn.Linear(n, m, bias=bias) for n, m in zip(widths, widths[1:], strict=False)))

    outputs = (positions, widths[-1]) if sharing == "expand" else (widths[-1],)
    task, theta, batch = random_task(network, "mse", seed, (positions, widths[0]), outputs)
    value = factors(task, theta, batch, whole(batch), fisher="type2", sharing=sharing).value
    for name, block in exact_blocks(task, theta, batch[0]).items():
        close(torch.kron(value["g"][name], value["a"][name]), block)


@settings(deadline=None, max_examples=15)
@given(seeds, losses, sharings)
def test_a_single_example_has_exact_blocks(seed, loss, sharing):
    def network():
        return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3, bias=False))

    task, theta, batch = random_task(network, loss, seed, (4,), (3,), size=1)
    value = factors(task, theta, batch, whole(batch), fisher="type2", sharing=sharing).value
    for name, block in exact_blocks(task, theta, batch[0]).items():
        close(torch.kron(value["g"][name], value["a"][name]), block)


class Spread(nn.Module):
    """One hidden vector of an example that every one of its T outputs sees, each differently."""

    def __init__(self, terms):
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)
        self.register_buffer("gains", torch.linspace(-1, 2, 5 * terms).reshape(terms, 5))

    def forward(self, x):
        return self.last(torch.tanh(self.first(x))[:, None] * self.gains)


@settings(deadline=None, max_examples=25)
@given(seeds, losses, sharings, st.integers(1, 4), st.sampled_from(["factors", "roots"]))
def test_terms_apart_have_exact_blocks_where_terms_together_keep_cross_terms(
    seed, loss, sharing, terms, form
):
    """A layer applied once whose output every term sees: A x G of a single example is its block of
    the GGN only where no products of different terms are in G."""
    task, theta, batch = random_task(lambda: Spread(terms), loss, seed, (4,), (terms, 3), size=1)
    options = {"sharing": sharing, "form": form}
    found = {}
    for fisher in ("type2", "type2_per_term"):
        value = factors(task, theta, batch, whole(batch), fisher=fisher, **options).value
        a, g = (value[side]["first"] for side in "ag")
        found[fisher] = torch.kron(g, a) if form == "factors" else torch.kron(g.T @ g, a.T @ a)
    exact = exact_blocks(task, theta, batch[0])["first"]
    close(found["type2_per_term"], exact)
    if terms == 1:
        close(found["type2"], exact)
    else:
        assert (found["type2"] - exact).norm() > 1e-3 * exact.norm()


@settings(deadline=None, max_examples=15)
@given(seeds, losses, st.sampled_from([1, 3, 64, 65, 130]))
def test_the_last_layer_sees_the_mean_hessian(seed, loss, outputs):
    """However many columns are backpropagated at once."""
    task, theta, batch = random_task(
        lambda: nn.Linear(2, outputs), loss, seed, (2, 2), (2, outputs)
    )
    value = factors(task, theta, batch, whole(batch), fisher="type2", sharing="expand").value
    p = task.apply(task.layout.unflatten(theta), batch[0]).flatten(0, 1).softmax(dim=1)
    hessian = torch.diag(p.mean(dim=0)) - p.T @ p / len(p)
    if loss == "mse":
        hessian = torch.eye(outputs, dtype=torch.float64) * 2 / outputs
    assert (value["g"][""] - hessian).norm() <= 1e-12 * p.norm()


class Split(nn.Module):
    """A grouped convolution written out: one convolution for each group."""

    def __init__(self, options):
        super().__init__()
        self.parts = nn.ModuleList(nn.Conv2d(2, 3, 3, **options) for _ in range(2))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        h = torch.cat(
            [part(piece) for part, piece in zip(self.parts, x.chunk(2, dim=1), strict=True)], dim=1
        )
        return self.head(torch.tanh(h).mean(dim=(2, 3)))


class Grouped(nn.Module):
    def __init__(self, options):
        super().__init__()
        self.conv, self.head = nn.Conv2d(4, 6, 3, groups=2, **options), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.conv(x)).mean(dim=(2, 3)))


def assert_same(found, expected, names):
    """Values of two networks, under the names of each."""
    for side in ("a", "g", "d"):
        for ours, theirs in names:
            close(found[side][ours], expected[side][theirs])


@settings(deadline=None, max_examples=20)
@given(
    seeds,
    losses,
    fishers,
    sharings,
    st.booleans(),
    st.integers(1, 2),
    st.integers(1, 2),
    st.sampled_from([0, 2, "valid"]),
)
def test_each_group_is_a_block(seed, loss, fisher, sharing, bias, stride, dilation, padding):
    options = {"bias": bias, "stride": stride, "dilation": dilation, "padding": padding}
    task, theta, batch = random_task(lambda: Grouped(options), loss, seed, (4, 6, 7), (3,))
    apart, _, _ = random_task(lambda: Split(options), loss, seed, (4, 6, 7), (3,))
    named = task.layout.unflatten(theta)
    split = {f"head.{name}": named[f"head.{name}"] for name in ("weight", "bias")}
    for name in ("weight", "bias")[: 1 + bias]:
        split |= {
            f"parts.{g}.{name}": part for g, part in enumerate(named[f"conv.{name}"].chunk(2))
        }
    options = {"fisher": fisher, "sharing": sharing}
    found = factors(task, theta, batch, whole(batch), **options).value
    expected = factors(apart, apart.layout.flatten(split), batch, whole(batch), **options).value
    assert_same(found, expected, [("conv[0]", "parts.0"), ("conv[1]", "parts.1"), ("head", "head")])


class Tokens(nn.Module):
    """Token vectors, given as an embedding or as a dense layer of one-hot inputs; token 6 is
    padding."""

    def __init__(self, one_hot, padding):
        super().__init__()
        self.one_hot, self.padding = one_hot, padding
        self.table = (
            nn.Linear(7, 4, bias=False) if one_hot else nn.Embedding(7, 4, padding_idx=padding)
        )
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        if self.one_hot:
            x = nn.functional.one_hot(x, 7).to(self.table.weight.dtype)
            if self.padding is not None:
                x = x * (torch.arange(7) != self.padding)
        return self.head(torch.tanh(self.table(x)))


@settings(deadline=None, max_examples=20)
@given(seeds, losses, fishers, sharings, st.sampled_from([None, 6]))
def test_an_embedding_is_a_dense_layer_of_one_hot_inputs(seed, loss, fisher, sharing, padding):
    make = (lambda: Tokens(False, padding)), (lambda: Tokens(True, padding))
    (task, theta, batch), (dense, _, _) = (
        random_task(m, loss, seed, (5,), (5, 3), integers=7) for m in make
    )
    named = task.layout.unflatten(theta)
    turned = dense.layout.flatten(named | {"table.weight": named["table.weight"].T})
    options = {"fisher": fisher, "sharing": sharing}
    found = factors(task, theta, batch, whole(batch), **options).value
    expected = factors(dense, turned, batch, whole(batch), **options).value
    if sharing == "expand":
        assert found["a"]["table"].shape == (7,)
        found["a"]["table"] = torch.diag(found["a"]["table"])
    assert_same(found, expected, [("table", "table"), ("head", "head")])


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("positions", [(), (3,)])
def test_drawn_labels_have_the_type2_factor_as_mean(loss, positions):
    """64 independent estimates scatter around it: their mean is within five of its standard
    deviations."""

    def network():
        return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))

    task, theta, batch = random_task(network, loss, 3, (*positions, 4), (*positions, 3))
    expected = factors(task, theta, batch, whole(batch), fisher="type2", sharing="expand").value[
        "g"
    ]
    options = {"fisher": "mc", "sharing": "expand", "samples": 20}
    drawn = [
        factors(task, theta, batch, whole(batch, seed), **options).value["g"] for seed in range(64)
    ]
    for name, g in expected.items():
        found = torch.stack([value[name] for value in drawn])
        variance = (found - found.mean(dim=0)).square().sum() / 63
        assert (found.mean(dim=0) - g).square().sum() <= 25 * variance / 64
        assert variance.sqrt() < 0.3 * g.norm()  # so that the law above is a sharp one


class Small(nn.Module):
    """Convolution, embedded kind of every block, norms and shared positions in one network."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3, padding=1, groups=2), nn.GroupNorm(2, 4)
        self.mix, self.head = nn.Linear(4, 5), nn.Linear(5, 3)
        self.scale = nn.Parameter(torch.ones(5))

    def forward(self, x):
        h = nn.functional.gelu(self.norm(self.conv(x))).flatten(2).mT
        return self.head(self.scale * torch.tanh(self.mix(h)).mean(dim=1))


small_cases = st.tuples(losses, seeds)


@settings(deadline=None, max_examples=15)
@given(small_cases, fishers, sharings, st.sampled_from([1, 3, 70]))
def test_shards_average_to_the_whole_batch(case, fisher, sharing, samples):
    task, theta, (x, y) = random_task(Small, *case, (2, 4, 4), (3,))
    options = {"fisher": fisher, "sharing": sharing, "samples": samples}
    expected = factors(task, theta, (x, y), Draw(5, 0, 6), **options)
    parts = [
        factors(task, theta, (x[k : k + 2], y[k : k + 2]), Draw(5, k, 6), **options)
        for k in (0, 2, 4)
    ]
    close(sum(part.value["gradient"] for part in parts) / 3, expected.value["gradient"])
    for side in ("a", "g", "d"):
        for name, factor in expected.value[side].items():
            close(sum(part.value[side][name] for part in parts) / 3, factor)
    mean_loss = sum(part.facts["train_loss"] for part in parts) / 3
    assert torch.isclose(mean_loss, expected.facts["train_loss"], rtol=1e-12)


@settings(deadline=None, max_examples=15)
@given(small_cases, fishers, sharings, st.sampled_from([2, 70]))
def test_roots_are_rows_whose_products_are_the_factors(case, fisher, sharing, samples):
    task, theta, batch = random_task(Small, *case, (2, 4, 4), (3,))
    options = {"fisher": fisher, "sharing": sharing, "samples": samples}
    expected = factors(task, theta, batch, whole(batch), **options).value
    found = factors(task, theta, batch, whole(batch), **options, form="roots").value
    positions = 1 if sharing == "reduce" else 16
    columns = {"type2": 3, "type2_per_term": 3, "mc": samples, "empirical": 1}[fisher]
    for block in blocks(task, sharing=sharing):
        x, y, shared = (
            found["a"][block.name],
            found["g"][block.name],
            1 if block.name == "head" else positions,
        )
        assert x.shape == (6 * shared, block.inputs) and y.shape == (
            6 * columns * shared,
            block.outputs,
        )
        close(x.T @ x, expected["a"][block.name])
        close(y.T @ y, expected["g"][block.name])


@settings(deadline=None, max_examples=15)
@given(small_cases, fishers, sharings)
def test_the_gradient_comes_along(case, fisher, sharing):
    task, theta, batch = random_task(Small, *case, (2, 4, 4), (3,))
    found = factors(task, theta, batch, whole(batch), fisher=fisher, sharing=sharing)
    alone, reference = (
        gradient_parts(task, theta, batch, sharing=sharing),
        gradient(task, theta, batch),
    )
    for outcome in (found, alone):
        close(outcome.value["gradient"], reference.value)
        assert torch.isclose(
            outcome.facts["train_loss"].double(), reference.facts["train_loss"].double()
        )
        assert list(outcome.value["d"]) == [block.name for block in blocks(task, sharing=sharing)]
    named = task.layout.unflatten(reference.value)
    for layer in layers(task, sharing):
        for block, d in zip(layer.blocks, matrices(layer, named), strict=True):
            close(found.value["d"][block.name], d)
            close(alone.value["d"][block.name], d)


@settings(deadline=None, max_examples=10)
@given(small_cases, fishers)
def test_an_activation_in_place_changes_nothing(case, fisher):
    found = []
    for in_place in (False, True):

        def network(in_place=in_place):
            return nn.Sequential(
                nn.Conv2d(2, 3, 2),
                nn.ReLU(in_place),
                nn.Flatten(),
                nn.Linear(27, 4),
                nn.ELU(inplace=in_place),
                nn.Linear(4, 3),
            )

        task, theta, batch = random_task(network, *case, (2, 4, 4), (3,))
        found.append(
            factors(task, theta, batch, whole(batch), fisher=fisher, sharing="expand").value
        )
    assert_same(*found, [(name, name) for name in ("0", "3", "5")])


class Aside(nn.Module):
    """A layer that is called and without effect."""

    def __init__(self):
        super().__init__()
        self.head, self.aside, self.spare = (
            nn.Linear(4, 3),
            nn.Linear(4, 2),
            nn.Parameter(torch.ones(2)),
        )

    def forward(self, x):
        self.aside(x)
        return self.head(x)


@pytest.mark.parametrize("fisher", ["type2", "empirical", "mc"])
@pytest.mark.parametrize("form", ["factors", "roots"])
def test_a_layer_without_effect_has_zero_gradients(fisher, form):
    task, theta, batch = random_task(Aside, "mse", 0, (4,), (3,))
    value = factors(
        task, theta, batch, whole(batch), fisher=fisher, sharing="expand", form=form
    ).value
    assert (
        not value["g"]["aside"].any()
        and not value["d"]["aside"].any()
        and value["a"]["aside"].any()
    )
    assert value["g"]["head"].any() and outside(task, sharing="expand") == ("spare",)
    assert value["g"]["aside"].shape[1:] == (2,) and value["gradient"].shape == theta.shape


class Calls(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.layer, self.head = kind, nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        if self.kind == "twice":
            x = self.layer(self.layer(x))
        elif self.kind == "turned":
            x = self.layer(x.T.mean(dim=1)[None]) + x
        elif self.kind == "around":
            x = nn.functional.linear(x, self.layer.weight, self.layer.bias)
        return self.head(x)


@pytest.mark.parametrize(
    ("kind", "got"),
    [
        ("twice", "a second call"),
        ("turned", r"inputs \(1, 4\) for 6 examples"),
        ("around", "no call"),
        ("", "no call"),
    ],
)
def test_a_layer_that_is_not_called_once_on_the_batch_is_named(kind, got):
    task, theta, batch = random_task(lambda: Calls(kind), "mse", 0, (4,), (3,))
    with pytest.raises(InputError, match=f"K-FAC, layer: .*{got}"):
        factors(task, theta, batch, whole(batch), fisher="empirical", sharing="expand")
    assert not any(module._forward_hooks for module in task.network.modules())
    assert (
        gradient_parts(task, theta, batch, sharing="expand").value["gradient"].shape == theta.shape
    )


def test_unknown_settings():
    task, theta, batch = random_task(Small, "mse", 0, (2, 4, 4), (3,))
    for options in ({"fisher": "exact"}, {"form": "wide"}, {"sharing": "shrink"}):
        with pytest.raises(ValueError, match=next(iter(options.values()))):
            factors(
                task, theta, batch, whole(batch), **{"fisher": "mc", "sharing": "expand"} | options
            )
