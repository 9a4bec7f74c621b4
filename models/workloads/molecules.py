"""The graph network of ``gnn`` on molecules whose activity has a rule, or on ogbg-molpcba.

For each assay two scores, inactive and active: outputs (b, assays, 2) under cross entropy, so that
``test_accuracy`` is the share of (molecule, assay) pairs that are told. (ogbg-molpcba is ranked by
average precision, which is not computed here.) N = 21,008 at the defaults; AlgoPerf's network
(arXiv 2306.07179) by latent 256, steps 5.

Drawn molecules: random chains with branches, of 5/8 to 8/8 of ``nodes`` atoms, closed to three
rings of mostly four to six atoms; every atom is C, N, O or S by chance (70, 12, 12, 6 %); of the
nine features of ogbg-molpcba the atomic number, degree and hydrogens differ, of bonds' three none.
The rule: a molecule is active in an assay if two of its atoms, of the two elements of that assay,
are so many bonds apart (``ASSAYS``; atom pairs: Carhart, Smith, Venkataraghavan, J. Chem. Inf.
Comput. Sci. 25, 64, 1985). One to three rounds of messages can tell; between 30 and 70 % are
active.

``data: molpcba``: the dataset's own files (Hu et al., NeurIPS 2020), see ``_molpcba.py``. Features
have mean 0 and deviation 1 over the atoms and bonds of the training molecules.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hybridsim import Data, Workload
from hybridsim.models.workloads._graphs import EDGE_FEATURES, NODE_FEATURES, Gnn, Graphs, packed
from hybridsim.models.workloads._molpcba import read
from hybridsim.models.workloads._options import one_of, refuse, whole

_C, _N, _O, _S = 5, 6, 7, 15  # as ogbg-molpcba numbers elements: atomic number - 1
_SHARES = {_C: 0.7, _N: 0.12, _O: 0.12, _S: 0.06}
_VALENCES = {_C: 4, _N: 3, _O: 2, _S: 2}
ASSAYS = (
    (_N, _O, 1), (_N, _O, 2), (_N, _O, 3), (_N, _N, 3), (_O, _O, 3), (_C, _S, 1), (_N, _S, 3),
    (_O, _S, 3),
)  # fmt: skip
"""Two elements, and how many bonds lie between."""
_RINGS, _CLOSED = 3, 5
_FEWEST = 16


def build(
    data: str = "drawn",
    latent: int = 32,
    steps: int = 2,
    nodes: int = 24,
    assays: int = 8,
    train_size: int = 1024,
    test_size: int = 256,
    data_dir: str | None = None,
) -> Workload:
    """Options: ``drawn`` or ``molpcba``; width and message-passing steps of the network; atoms of
    the largest molecule; assays, the first so many; how many molecules; data folder.
    """
    one_of("molecules", "drawn", "molpcba", data=data)
    whole("molecules", latent=latent, steps=steps, nodes=nodes, assays=assays)
    whole("molecules", train_size=train_size, test_size=test_size)
    most = len(ASSAYS) if data == "drawn" else 128
    if assays > most:
        refuse("molecules", "assays", f"at most {most} of {data}", assays)
    if nodes < _FEWEST:
        refuse("molecules", "nodes", f"at least {_FEWEST} atoms", nodes)
    bonds = nodes - 1 + _RINGS
    if data == "drawn":
        graphs = _draw(train_size + test_size, nodes)
        y = _active(graphs, ASSAYS[:assays])
    else:
        graphs, y = read("molecules", (train_size, test_size), nodes, bonds, assays, data_dir)
    x = packed(_scaled(graphs, train_size))
    found = Data(x[:train_size], y[:train_size], x[train_size:], y[train_size:])
    return Workload(lambda: Scores(latent, steps, nodes, bonds, assays), found, "cross_entropy")


class Scores(nn.Module):
    """Packed molecules (b, ...) to two scores for each assay (b, assays, 2)."""

    def __init__(self, latent: int, steps: int, nodes: int, bonds: int, assays: int) -> None:
        super().__init__()
        self.network = Gnn(latent, steps, 2 * assays, nodes, bonds)

    def forward(self, x: Tensor) -> Tensor:
        """Inactive and active."""
        scores: Tensor = self.network(x).unflatten(1, (-1, 2))
        return scores


def _draw(count: int, largest: int) -> Graphs:
    """Molecules with their features as whole numbers."""
    sizes = torch.randint(-(-5 * largest // 8), largest + 1, (count, 1))
    number = torch.arange(largest).expand(count, -1)
    child = number[:, 1:]
    back = torch.rand(count, largest - 1) ** 3 * child.clamp(max=3)  # 70 % to the one before
    parent = child - 1 - back.long()
    stretch = (sizes - _CLOSED) // _RINGS  # each ring starts in a stretch of its own
    start = torch.arange(_RINGS) * stretch + (torch.rand(count, _RINGS) * stretch).long()
    real = torch.cat([child < sizes, torch.ones(count, _RINGS, dtype=torch.bool)], dim=1)
    one, other = (torch.cat(e, dim=1) for e in ((child, start), (parent, start + _CLOSED)))
    ends = [torch.cat(pair, dim=1)[:, :, None].float() for pair in ((one, other), (other, one))]
    node_mask, edge_mask = ((number < sizes)[:, :, None], real.repeat(1, 2)[:, :, None])
    edges = torch.zeros(count, edge_mask.shape[1], EDGE_FEATURES)
    graphs = Graphs(_atoms(count, largest), node_mask.float(), edges, edge_mask.float(), *ends)
    degree = _adjacent(graphs).sum(dim=2)
    valence = sum((graphs.nodes[..., 0] == e) * float(v) for e, v in _VALENCES.items())
    graphs.nodes[..., 2], graphs.nodes[..., 4] = degree, (valence - degree).clamp(min=0)
    return graphs


def _atoms(count: int, largest: int) -> Tensor:
    """Features of which only the element is there."""
    elements, shares = torch.tensor(list(_SHARES)), torch.tensor(list(_SHARES.values()))
    drawn = elements[torch.multinomial(shares, count * largest, replacement=True)]
    return torch.cat(
        [drawn.reshape(count, largest, 1).float(), torch.zeros(count, largest, NODE_FEATURES - 1)],
        dim=2,
    )


def _adjacent(graphs: Graphs) -> Tensor:
    """Which atoms a bond joins, (count, V, V) of zeros and ones."""
    count, nodes, _ = graphs.nodes.shape
    place = (graphs.senders * nodes + graphs.receivers).long().flatten(1)
    found = torch.zeros(count, nodes * nodes).scatter_add(1, place, graphs.edge_mask.flatten(1))
    return found.clamp(max=1).reshape(count, nodes, nodes)


def _active(graphs: Graphs, assays: tuple[tuple[int, int, int], ...]) -> Tensor:
    """Class numbers (count, assays): 1 where the molecule has the assay's pair of atoms."""
    bonds, real = _adjacent(graphs), graphs.node_mask
    apart = [torch.eye(bonds.shape[1]).expand_as(bonds)]  # pairs 0, 1, 2, 3 bonds apart
    for _ in range(max(distance for *_, distance in assays)):
        within = torch.stack(apart).sum(dim=0)
        apart.append(((apart[-1] @ bonds > 0) & (within == 0)).float())
    of = {e: ((graphs.nodes[..., :1] == e) * real) for e in _SHARES}
    pairs = [of[a].mT @ apart[distance] @ of[b] for a, b, distance in assays]
    return torch.cat(pairs, dim=1).squeeze(2).gt(0).long()


def _scaled(graphs: Graphs, count: int) -> Graphs:
    """Features with mean 0 and deviation 1 over what is no padding in the first ``count``."""

    def scale(features: Tensor, mask: Tensor) -> Tensor:
        real = features[:count][mask[:count, :, 0] > 0]
        return (features - real.mean(dim=0)) / real.std(dim=0, unbiased=False).clamp(min=1) * mask

    return graphs._replace(
        nodes=scale(graphs.nodes, graphs.node_mask), edges=scale(graphs.edges, graphs.edge_mask)
    )
