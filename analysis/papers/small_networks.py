"""Four kinds of network on two tasks of 64 numbers and ten classes, to compare architectures.

``mlp``: 64 - 24 - 10. ``cnn``: two 3 x 3 convolutions, the second with stride 2, on 8 x 8 images.
``recurrent``: an Elman network, h <- tanh(W x + U h), over the 8 rows. ``transformer``: one block
with two heads over the 8 rows, mean over positions. Tasks: scikit-learn's ``digits``, and drawn
``clusters`` as in ``many_outputs``. N = 1,042 to 2,138.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from analysis.papers.many_outputs import build as clusters
from hybridsim import Data, Workload

NETWORKS = ("mlp", "cnn", "recurrent", "transformer")
TASKS = ("digits", "clusters")
_WIDTH, _ROWS = 16, 8


def build(network: str = "mlp", task: str = "digits") -> Workload:
    """Options: one of ``NETWORKS``, one of ``TASKS``."""
    data = _digits() if task == "digits" else clusters(noise=1.0, examples=1500).data
    return Workload(lambda: _KINDS[network](), data, "cross_entropy")


def _digits() -> Data:
    """As ``digits_mlp`` splits and scales them."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16).float(), torch.tensor(labels)
    train, test = train_test_split(range(len(y)), test_size=297, stratify=labels, random_state=0)
    return Data(x[train], y[train], x[test], y[test])


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, _ROWS, _ROWS)),
        nn.Conv2d(1, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(96, 10),
    )


class Elman(nn.Module):
    """Over the rows, from first to last; the class follows from the last state."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.kept = nn.Linear(_ROWS, 24), nn.Linear(24, 24, bias=False)
        self.out = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        """From (b, 64) to (b, 10)."""
        rows = x.unflatten(1, (_ROWS, _ROWS))
        state = torch.tanh(self.seen(rows[:, 0]))
        for place in range(1, _ROWS):
            state = torch.tanh(self.seen(rows[:, place]) + self.kept(state))
        found: Tensor = self.out(state)
        return found


class Transformer(nn.Module):
    """One block x + attention(norm(x)), x + MLP(norm(x)), two heads, no mask."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Linear(_ROWS, _WIDTH), nn.Linear(_WIDTH, 10)
        self.places = nn.Parameter(0.02 * torch.randn(_ROWS, _WIDTH))
        self.norm1, self.norm2 = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)
        self.joint, self.mix = nn.Linear(_WIDTH, 3 * _WIDTH), nn.Linear(_WIDTH, _WIDTH)
        self.expand, self.contract = nn.Linear(_WIDTH, 16), nn.Linear(16, _WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """From (b, 64) to (b, 10)."""
        x = self.embed(x.unflatten(1, (_ROWS, _ROWS))) + self.places
        q, k, v = (
            part.unflatten(-1, (2, -1)).transpose(1, 2)
            for part in self.joint(self.norm1(x)).chunk(3, dim=-1)
        )
        weights = ((q @ k.mT) * q.shape[-1] ** -0.5).softmax(dim=-1)
        x = x + self.mix((weights @ v).transpose(1, 2).flatten(2))
        x = x + self.contract(nn.functional.gelu(self.expand(self.norm2(x))))
        found: Tensor = self.out(x.mean(dim=1))
        return found


_KINDS = {"mlp": _mlp, "cnn": _cnn, "recurrent": Elman, "transformer": Transformer}
