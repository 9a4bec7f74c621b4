"""Kronecker factors against curvlinops 3 (Dangel et al.), independently implemented.

curvlinops computes in float64 from the same numbers: in float32 its own sums over pixels are no
better than 1e-6.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from curvlinops import KFACLinearOperator
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from hybridsim.algorithms.kfac.factors import factors
from hybridsim.algorithms.kfac.layers import blocks, outside
from hybridsim.rng import Draw
from hybridsim.tasks.task import Data, Workload, as_task

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
NAMES = {"type2": "type-2", "empirical": "empirical", "mc": "mc"}


class Case(NamedTuple):
    loss: str
    fisher: str
    sharing: str
    dtype: torch.dtype
    seed: int
    samples: int


cases = st.builds(
    Case,
    st.sampled_from(["cross_entropy", "mse"]),
    st.sampled_from(["type2", "empirical", "mc"]),
    st.sampled_from(["expand", "reduce"]),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(0, 2**31),
    st.integers(1, 3),
)


def random_task(network, shape, outputs, case, size=5):
    """A task with inputs (size, *shape) and network outputs (size, *outputs)."""
    generator = torch.Generator().manual_seed(case.seed)
    x = torch.randn(size, *shape, generator=generator)
    labels = torch.randint(outputs[-1], (size, *outputs[:-1]), generator=generator)
    y = labels if case.loss == "cross_entropy" else torch.randn(size, *outputs, generator=generator)
    task = as_task("oracle", Workload(network, Data(x, y, x, y), case.loss)).to("cpu", case.dtype)
    return task, task.initial_parameters(case.seed), (task.data.train_x, task.data.train_y)


class ClassesSecond(nn.Module):
    """Outputs as torch's cross-entropy wants them: classes in dimension 1."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x).movedim(-1, 1)


class SameDraws:
    """Labels as ``factors`` is documented to draw them, for one sample after the other."""

    def __init__(self, case, like):
        like = torch.empty(case.samples, *like.shape, dtype=case.dtype)
        generator = torch.Generator().manual_seed(case.seed)
        draw = like.uniform_ if case.loss == "cross_entropy" else like.normal_
        self.loss, self.left, self.margin = case.loss, list(draw(generator=generator).double()), 1.0

    def __call__(self, z):
        number = self.left.pop(0)
        if self.loss == "mse":
            return z.detach() - number.reshape(z.shape) / 2**0.5
        below = number.reshape(-1, 1) - z.detach().softmax(dim=1).cumsum(dim=1)
        self.margin = min(self.margin, float(below.abs().min()))
        return (below >= 0).sum(dim=1)


def oracle(network, task, theta, batch, case):
    """curvlinops' factors A and G by layer, over the parameters that are in a block here."""
    x, y = (t.double() if t.is_floating_point() else t for t in batch)
    model = network().double()
    model.load_state_dict(task.layout.unflatten(theta))
    free = outside(task, sharing=case.sharing)
    trained = [p for name, p in model.named_parameters() if name not in free]
    classes = case.loss == "cross_entropy"
    operator = KFACLinearOperator(
        ClassesSecond(model) if classes else nn.Sequential(model),
        nn.CrossEntropyLoss() if classes else nn.MSELoss(),
        trained,
        [(x, y)],
        fisher_type=NAMES[case.fisher],
        mc_samples=case.samples if case.fisher == "mc" else 1,
        kfac_approx=case.sharing,
        separate_weight_and_bias=False,
        check_deterministic=False,
    )
    operator.draw_label = SameDraws(case, y)
    operator.compute_kronecker_factors()
    assume(operator.draw_label.margin > 1e-5)  # or rounding may decide on a label
    return (
        operator._input_covariances,
        operator._gradient_covariances,
        "network." if classes else "0.",
    )


def assert_equal_factors(network, shape, outputs, case, tolerance=TOLERANCE):
    task, theta, batch = random_task(network, shape, outputs, case)
    options = {"fisher": case.fisher, "sharing": case.sharing, "samples": case.samples}
    found = factors(task, theta, batch, Draw(case.seed, 0, len(batch[0])), **options).value
    a, g, prefix = oracle(network, task, theta, batch, case)
    for block in blocks(task, sharing=case.sharing):
        for side, theirs in (("a", a), ("g", g)):
            ours, expected = found[side][block.name], theirs[prefix + block.name]
            assert ours.dtype == case.dtype
            assert (ours.double() - expected).norm() <= tolerance[case.dtype] * expected.norm()


@settings(deadline=None, max_examples=40)
@given(cases, st.lists(st.integers(3, 8), min_size=2, max_size=4), st.integers(0, 2), st.booleans())
def test_dense_layers_and_shared_positions(case, widths, positions, bias):
    """Loss terms at no, 2 or 2 x 3 positions; not too narrow, where a single sum may cancel beyond
    float32."""

    def network():
        pairs = zip(widths, [*widths[1:], 3], strict=True)
        return nn.Sequential(
            *[m for n, k in pairs for m in (nn.Linear(n, k, bias=bias), nn.Tanh())]
        )

    middle = (2, 3)[:positions]
    assert_equal_factors(network, (*middle, widths[0]), (*middle, 3), case)


convolutions = st.fixed_dictionaries(
    {
        "kernel_size": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "stride": st.tuples(st.integers(1, 2), st.integers(1, 3)),
        "padding": st.one_of(st.tuples(st.integers(0, 2), st.integers(0, 2)), st.just("valid")),
        "dilation": st.tuples(st.integers(1, 2), st.integers(1, 2)),
        "bias": st.booleans(),
    }
)
same = st.fixed_dictionaries(
    {
        "kernel_size": st.sampled_from([1, 3, (3, 1)]),
        "padding": st.just("same"),
        "dilation": st.integers(1, 2),
        "bias": st.booleans(),
    }
)


@settings(deadline=None, max_examples=40)
@given(cases, st.one_of(convolutions, same), st.integers(1, 3), st.integers(1, 4))
def test_convolutions(case, options, channels, filters):
    def network():
        return nn.Sequential(
            nn.Conv2d(channels, filters, **options), nn.Tanh(), nn.Conv2d(filters, 3, 1),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 4),
        )  # fmt: skip

    assert_equal_factors(network, (channels, 7, 8), (4,), case)


class Attention(nn.Module):
    """One head and an MLP around LayerNorm: each output depends on all positions."""

    def __init__(self, pooled):
        super().__init__()
        self.pooled, self.norm = pooled, nn.LayerNorm(4)
        self.queries, self.keys, self.values = (nn.Linear(4, 4) for _ in range(3))
        self.wide, self.out = nn.Linear(4, 6), nn.Linear(6, 3, bias=False)

    def forward(self, x):
        h = self.norm(x)
        # without a factor for each position the keys' gradients would sum to zero, up to rounding
        keys = self.keys(h) * torch.arange(1, x.shape[1] + 1).to(x)[:, None]
        weights = (self.queries(h) @ keys.mT / 4).softmax(dim=-1)
        h = nn.functional.gelu(self.wide(x + weights @ self.values(h)))
        return self.out(h.mean(dim=1) if self.pooled else h)


@settings(deadline=None, max_examples=30)
@given(cases, st.booleans(), st.integers(2, 5))
def test_attention(case, pooled, positions):
    outputs = (3,) if pooled else (positions, 3)
    # softmax's gradients cancel in sums over positions: float32 loses a digit there
    tolerance = TOLERANCE | {torch.float32: 1e-5}
    assert_equal_factors(lambda: Attention(pooled), (positions, 4), outputs, case, tolerance)


class Residual(nn.Module):
    """Normalised convolutions with a shortcut and an activation in place."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (
            nn.Conv2d(2, 4, 3, padding=1),
            nn.Conv2d(4, 4, 3, padding=1, bias=False),
        )
        self.norm, self.relu, self.head = nn.GroupNorm(2, 4), nn.ReLU(inplace=True), nn.Linear(4, 3)

    def forward(self, x):
        h = self.relu(self.first(x))
        return self.head((h + self.norm(self.second(h))).mean(dim=(2, 3)))


@settings(deadline=None, max_examples=20)
@given(cases)
def test_residual_convolutions(case):
    assert_equal_factors(Residual, (2, 5, 4), (3,), case)
