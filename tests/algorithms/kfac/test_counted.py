"""K-FAC's factors on shapes: counted as they run, stage by stage."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tasks import random_task, whole
from torch import nn

from hybridsim.algorithms.kfac.factors import factors
from hybridsim.algorithms.kfac.layers import blocks, layers
from hybridsim.operations.count import count, signature

losses = st.sampled_from(["cross_entropy", "mse"])
fishers = st.sampled_from(["type2", "empirical", "mc"])
sharings = st.sampled_from(["expand", "reduce"])


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


class Transformer(nn.Module):
    """Embedding, both ways to write attention, LayerNorm, GELU, a sequence of outputs."""

    def __init__(self, fused):
        super().__init__()
        self.fused, self.tokens, self.places = (
            fused,
            nn.Embedding(9, 8),
            nn.Parameter(torch.randn(4, 8)),
        )
        self.norm, self.last = nn.LayerNorm(8), nn.LayerNorm(8, bias=False)
        self.queries, self.keys, self.values, self.out = (nn.Linear(8, 8) for _ in range(4))
        self.wide, self.narrow, self.head = (
            nn.Linear(8, 12),
            nn.Linear(12, 8),
            nn.Linear(8, 9, bias=False),
        )

    def forward(self, x):
        h = self.tokens(x) + self.places
        q, k, v = (
            f(self.norm(h)).unflatten(-1, (2, 4)).transpose(1, 2)
            for f in (self.queries, self.keys, self.values)
        )
        if self.fused:
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            mixed = (q @ k.mT / 2).masked_fill(
                torch.ones(4, 4, device=q.device).triu(1).bool(), -1e9
            ).softmax(-1) @ v
        h = h + self.out(mixed.transpose(1, 2).flatten(2))
        return self.head(self.last(h + self.narrow(nn.functional.gelu(self.wide(h)))))


NETWORKS = {
    "small": (Small, (2, 4, 4), (3,), 0),
    "fused": (lambda: Transformer(True), (4,), (4, 9), 9),
    "written": (lambda: Transformer(False), (4,), (4, 9), 9),
}


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(deadline=None, max_examples=8)
@given(losses, fishers, sharings, st.sampled_from(["factors", "roots"]), st.integers(1, 2))
def test_counted_on_shapes_and_live_alike(name, dtype, loss, fisher, sharing, form, samples):
    """Same shapes and types; no operator falls back to a loop; stages add up and come in backward
    order."""
    network, shape, outputs, integers = NETWORKS[name]
    task, theta, batch = random_task(
        network, loss, 0, shape, outputs, integers=integers, dtype=dtype
    )
    options = {"fisher": fisher, "sharing": sharing, "form": form, "samples": samples}
    args = (task, theta, batch, whole(batch))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        real = factors(*args, **options)
        work, shapes = count(factors, args, options)
    assert signature((shapes.value,), {}) == signature((real.value,), {})
    assert {t.dtype for t in real.value["g"].values()} == {dtype}
    names = [stage for stage, _ in work.stages]
    found = layers(task, sharing)
    backward = [b.name for layer in reversed(found) for b in layer.blocks]
    if name == "small":
        assert names == ["forward", *backward, "rest"]
    assert names[0] == "forward" and names[-1] == "rest" and sorted(names[1:-1]) == sorted(backward)
    assert sum(part.flop for _, part in work.stages) == work.flop
    assert sum(part.bytes for _, part in work.stages) == work.bytes
    assert sum(part.launches for _, part in work.stages) == work.launches
    for layer in found:
        first, *others = (dict(work.stages)[block.name] for block in layer.blocks)
        assert first.launches > 0 and not any(part.launches for part in others)


def test_fused_and_written_attention_agree():
    parts = []
    for name in ("fused", "written"):
        network, shape, outputs, integers = NETWORKS[name]
        task, theta, batch = random_task(
            network, "cross_entropy", 0, shape, outputs, integers=integers
        )
        parts.append(
            factors(task, theta, batch, whole(batch), fisher="type2", sharing="expand").value
        )
    for side in ("a", "g", "d"):
        for block in blocks(task, sharing="expand"):
            found, expected = (part[side][block.name] for part in parts)
            assert (found - expected).norm() <= 1e-12 * expected.norm()
