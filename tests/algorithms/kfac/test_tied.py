"""A weight that an embedding and the layer of the scores share, under K-FAC."""

from __future__ import annotations

import pytest
import torch
from harness import document, execute
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tasks import random_task, whole
from torch import nn

import hybridsim
from hybridsim.algorithms.first_order.gradient import gradient
from hybridsim.algorithms.kfac.factors import factors, tied
from hybridsim.algorithms.kfac.layers import blocks, outside
from hybridsim.algorithms.kfac.program import Kfac
from hybridsim.errors import InputError
from hybridsim.operations.count import count

seeds = st.integers(0, 2**31)
fishers = st.sampled_from(["type2", "empirical", "mc"])
sharings = st.sampled_from(["expand", "reduce"])


class Language(nn.Module):
    """Tokens to the scores of tokens, with one weight or two of equal values."""

    def __init__(self, share, bias=False):
        super().__init__()
        self.tokens, self.mix = nn.Embedding(7, 4), nn.Linear(4, 4)
        self.head = nn.Linear(4, 7, bias=bias)
        if share:
            self.head.weight = self.tokens.weight

    def forward(self, x):
        return self.head(torch.tanh(self.mix(self.tokens(x))))


def close(found, expected, tolerance=1e-12):
    assert found.shape == expected.shape
    assert (found - expected).norm() <= tolerance * expected.norm()


def made(seed, bias=False):
    """Task, theta and batch with a shared weight, and with two of the same values."""
    task, theta, batch = random_task(
        lambda: Language(True, bias), "cross_entropy", seed, (5,), (5, 7), integers=7
    )
    apart, _, _ = random_task(
        lambda: Language(False, bias), "cross_entropy", seed, (5,), (5, 7), integers=7
    )
    named = task.layout.unflatten(theta)
    two = apart.layout.flatten(named | {"head.weight": named["tokens.weight"]})
    return task, theta, batch, apart, two


@settings(deadline=None, max_examples=5)
@given(seeds, fishers, sharings, st.booleans())
def test_both_uses_enter_by_their_partial_traces(seed, fisher, sharing, bias):
    task, theta, batch, apart, two = made(seed, bias)
    options = {"fisher": fisher, "sharing": sharing}
    found = factors(task, theta, batch, whole(batch), **options).value
    each = factors(apart, two, batch, whole(batch), **options).value
    embedding = each["a"]["tokens"]
    embedding = torch.diag(embedding) if sharing == "expand" else embedding
    within = each["a"]["head"][:4, :4]  # without the bias
    whole_block = torch.kron(embedding, each["g"]["tokens"]) + torch.kron(each["g"]["head"], within)
    parts = whole_block.reshape(7, 4, 7, 4)
    total = whole_block.trace()
    close(found["a"]["tokens"] * total, torch.einsum("awbw->ab", parts))
    close(found["g"]["tokens"], torch.einsum("awav->wv", parts))
    assert torch.isclose(found["a"]["tokens"].trace() * found["g"]["tokens"].trace(), total)
    close(found["d"]["tokens"], each["d"]["tokens"] + each["d"]["head"][:, :4].T)
    close(found["gradient"], gradient(task, theta, batch).value)
    for side in "agd":
        close(found[side]["mix"], each[side]["mix"])
    assert [(b.name, b.inputs, b.diagonal) for b in blocks(task, sharing=sharing)] == [
        ("tokens", 7, False),
        ("mix", 5, False),
    ]
    assert outside(task, sharing=sharing) == (("head.bias",) if bias else ())


@settings(deadline=None, max_examples=20)
@given(seeds, st.integers(1, 4), st.floats(1e-3, 1e3), st.booleans())
def test_uses_with_a_factor_alike_give_the_block(seed, number, scale, left):
    """Whatever scale the two factors of a use share out between them."""
    generator = torch.Generator().manual_seed(seed)

    def positive(size):
        root = torch.randn(size, size, generator=generator, dtype=torch.float64)
        return root @ root.T

    alike, others = positive(3), [positive(3) for _ in range(number)]
    uses = tuple((alike * scale, o / scale) if left else (o * scale, alike) for o in others)
    a, g = tied(uses)
    close(torch.kron(a, g), sum(torch.kron(one, other) for one, other in uses))


def test_the_block_is_ready_when_both_uses_have_been_reached():
    task, theta, batch, _, _ = made(0)
    options = {"fisher": "mc", "sharing": "expand"}
    work, value = count(factors, (task, theta, batch, whole(batch)), options)
    assert [name for name, _ in work.stages] == ["forward", "head", "mix", "tokens", "rest"]
    assert value.value["a"]["tokens"].shape == (7, 7)


def test_a_third_use_is_refused():
    def network():
        found = Language(True)
        found.again = nn.Linear(4, 7)
        found.again.weight = found.tokens.weight
        return found

    task, _, _ = random_task(network, "mse", 0, (5,), (5, 7), integers=7)
    with pytest.raises(InputError, match="tokens.weight shared with again.weight"):
        blocks(task, sharing="expand")


OWN = """
import torch
from torch import nn
from hybridsim import Data, Workload

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.mix, self.head = nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 7)
        self.head.weight = self.tokens.weight

    def forward(self, x):
        return self.head(torch.tanh(self.mix(self.tokens(x))))

def build():
    x = torch.randint(7, (60, 5))
    return Workload(Net, Data(x, x, x, x), "cross_entropy")
"""


@pytest.mark.parametrize("method", ["solves", "digital"])
def test_a_shared_weight_trains(tmp_path, method):
    (tmp_path / "own.py").write_text(OWN)
    kfac = {"kind": "kfac", "method": method, "learning_rate": 0.1, "damping": 0.1}
    asked = document(kfac | {"fisher": "mc"}, workload=str(tmp_path / "own.py"))
    execute(asked)
    scenario = hybridsim.load(asked)
    told = Kfac.assumptions(
        scenario.training.algorithm, scenario.machine.expand(), hybridsim.load_task(scenario)
    )
    assert any("tokens and head have one weight" in text for text in told)
    kfac |= {"method": "solves", "upload": "activations"}
    with pytest.raises(InputError, match="tokens: expected upload: factors"):
        execute(document(kfac, workload=str(tmp_path / "own.py")))
