"""A decoder-only transformer that predicts the next token of a random Markov chain.

token embedding + learned positions - ``depth`` blocks x + attention(norm(x)), x + MLP(norm(x)) with
LayerNorm before each part (GPT-2) and GELU - LayerNorm - untied head without bias. Query, key and
value are three Linear layers of their own, so that each has a Kronecker factor of order ``width``;
the MLP's hidden width is 4 ``width``. N = 30,080 at the defaults. Initialised as GPT-2: normal with
deviation 0.02, divided by sqrt(2 depth) where a part's output joins the residual stream; biases 0.

Sizes of TKFAC (arXiv 2502.08603) Fig. on widths: vocabulary 10000, sequence 64, depth 3, and on a
large vocabulary: vocabulary 10000, width 768, sequence 512, depth 12, heads 12.

LayerNorm's parameters and the learned positions lie outside K-FAC; the embedding's A is diagonal
under expand.

Data: each token has four successors, drawn once, taken with probabilities 1/2, 1/4, 1/8, 1/8. No
network can do better than the chain's entropy, 1.75 ln 2 = 1.213 nats, and one that knows nothing
has ln ``vocabulary``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hybridsim import Data, Workload
from hybridsim.models.workloads._options import divides, whole

_PROBABILITIES = (0.5, 0.25, 0.125, 0.125)


def build(
    vocabulary: int = 64,
    width: int = 32,
    sequence: int = 16,
    depth: int = 2,
    heads: int = 4,
    train_size: int = 1024,
    test_size: int = 128,
) -> Workload:
    """Options: number of tokens, width, positions, blocks and heads of the network, how many
    sequences.
    """
    whole("gpt", vocabulary=vocabulary, width=width, sequence=sequence, depth=depth, heads=heads)
    whole("gpt", train_size=train_size, test_size=test_size)
    divides("gpt", "heads", heads, "width", width)
    tokens = _chain(train_size + test_size, sequence + 1, vocabulary)
    x, y = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    data = Data(x[:train_size], y[:train_size], x[train_size:], y[train_size:])
    return Workload(lambda: Gpt(vocabulary, width, sequence, depth, heads), data, "cross_entropy")


def _chain(count: int, length: int, vocabulary: int) -> Tensor:
    """Sequences (count, length) int64, each started anywhere."""
    successors = torch.randint(vocabulary, (vocabulary, len(_PROBABILITIES)))
    choices = torch.multinomial(
        torch.tensor(_PROBABILITIES), count * length, replacement=True
    ).reshape(length, count)
    states = [torch.randint(vocabulary, (count,))]
    for choice in choices[1:]:
        states.append(successors[states[-1], choice])
    return torch.stack(states, dim=1)


class Gpt(nn.Module):
    """Tokens (b, R) int64 to scores (b, R, vocabulary)."""

    def __init__(self, vocabulary: int, width: int, sequence: int, depth: int, heads: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.empty(sequence, width))
        self.blocks = nn.ModuleList(Block(width, heads, sequence) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                joins = name.endswith(("out.weight", "contract.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * depth) ** 0.5 if joins else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the next token at every position."""
        states = self.tokens(x) + self.positions
        for block in self.blocks:
            states = block(states)
        scores: Tensor = self.head(self.norm(states))
        return scores


class Block(nn.Module):
    """Attention and MLP, each with LayerNorm before and the residual stream beside it."""

    def __init__(self, width: int, heads: int, sequence: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, sequence)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """The residual stream (b, R, width) after this block."""
        x = x + self.attention(self.norm1(x))
        after: Tensor = x + self.contract(nn.functional.gelu(self.expand(self.norm2(x))))
        return after


class Attention(nn.Module):
    """Scaled dot-product attention to a position itself and to those before it."""

    def __init__(self, width: int, heads: int, sequence: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        ahead = torch.ones(sequence, sequence, dtype=torch.bool).triu(1)
        self.register_buffer("ahead", ahead, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """From (b, R, width) to (b, R, width)."""
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        scores = (q @ k.mT) * q.shape[-1] ** -0.5
        weights = scores.masked_fill(self.ahead, -torch.inf).softmax(dim=-1)
        mixed: Tensor = self.out((weights @ v).transpose(1, 2).flatten(2))
        return mixed
