"""Molecules: the rule by an oracle, and ogbg-molpcba's own files."""

from __future__ import annotations

import gzip
from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hybridsim
from hybridsim.algorithms.kfac.layers import blocks
from hybridsim.errors import InputError
from hybridsim.models.workloads import molecules
from hybridsim.models.workloads.gnn import Gnn, Graphs, packed
from hybridsim.tasks.task import load_workload


def graph_of(graphs: Graphs, molecule: int) -> nx.Graph:
    """One molecule, its atoms' features as ``features``."""
    found, size = nx.Graph(), int(graphs.node_mask[molecule].sum())
    found.add_nodes_from((v, {"features": graphs.nodes[molecule, v]}) for v in range(size))
    ends = torch.cat([graphs.senders[molecule], graphs.receivers[molecule]], dim=1)
    found.add_edges_from(ends[graphs.edge_mask[molecule, :, 0] > 0].int().tolist())
    assert found.number_of_nodes() == size
    return found


@settings(deadline=None, max_examples=3)
@given(st.integers(0, 2**31), st.integers(16, 26))
def test_a_molecule_is_active_where_its_graph_has_the_pair(seed, nodes):
    torch.manual_seed(seed)
    graphs = molecules._draw(4, nodes)
    active = molecules._active(graphs, molecules.ASSAYS)
    for k, row in enumerate(active):
        graph = graph_of(graphs, k)
        assert nx.is_connected(graph)
        assert graph.number_of_edges() == graph.number_of_nodes() - 1 + 3
        features = {v: own["features"] for v, own in graph.nodes(data=True)}
        apart = dict(nx.all_pairs_shortest_path_length(graph))
        for (one, other, bonds), found in zip(molecules.ASSAYS, row, strict=True):
            pairs = ((u, v) for u in graph for v in graph if apart[u][v] == bonds)
            assert found == any((features[u][0], features[v][0]) == (one, other) for u, v in pairs)
        assert all(own[2] == graph.degree(v) for v, own in features.items())


def test_drawn_molecules_are_balanced_and_scaled():
    task = load_workload("molecules", {"train_size": 400, "test_size": 100})
    share = task.data.train_y.float().mean(dim=0)
    assert share.min() > 0.25 and share.max() < 0.75
    assert (task.outputs, task.terms, task.layout.size) == (2, 8, 21_008)
    assert len(blocks(task, sharing="expand")) == 9
    features = task.data.train_x[:, : 24 * 9].reshape(400, 24, 9)
    real = features[task.data.train_x[:, 24 * 9 : 24 * 10] > 0]
    for column in (0, 2, 4):  # element, degree, hydrogens
        assert abs(real[:, column].mean()) < 1e-4 and 0.5 < real[:, column].std() <= 1.01


def test_the_network_learns_a_few_molecules_by_heart():
    few = {"latent": 12, "steps": 1, "nodes": 16, "assays": 3, "train_size": 8, "test_size": 4}
    adam = {"kind": "adam", "learning_rate": 1e-2}
    scenario = {
        "name": "by heart",
        "workload": {"source": "molecules", "options": few},
        "training": {"batch_size": 8, "steps": 40, "evaluate_every": 40, "algorithm": adam},
        "machine": {"gpu": "a100-sxm4-80gb"},
    }
    losses = hybridsim.run(hybridsim.load(scenario)).steps.train_loss
    assert losses.iloc[-1] < 0.5 * losses.iloc[0]


def written(folder, table, name):
    """A table as a gzipped CSV without a head; NaN as nothing."""
    lines = [",".join("" if np.isnan(v) else f"{v:g}" for v in row) for row in table]
    path = folder / f"{name}.csv.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("\n".join(lines).encode() + b"\n"))


@pytest.fixture
def own_files(tmp_path):
    """Twelve chains of 3 to 14 atoms; the fifth was measured in no second assay."""
    folder = tmp_path / "ogbg_molpcba"
    sizes = np.arange(3, 15)
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, (12, 128)).astype(float)
    labels[4, 1] = np.nan
    bonds = [pair for size in sizes for pair in pairwise(range(size))]
    tables = {
        "raw/num-node-list": sizes[:, None], "raw/num-edge-list": sizes[:, None] - 1,
        "raw/node-feat": random.integers(0, 9, (sizes.sum(), 9)), "raw/edge": bonds,
        "raw/edge-feat": random.integers(0, 4, (len(bonds), 3)), "raw/graph-label": labels,
        "split/scaffold/train": np.arange(8)[::-1, None], "split/scaffold/valid": [[8], [9], [10]],
    }  # fmt: skip
    for name, table in tables.items():
        written(folder, np.asarray(table, dtype=float), name)
    return tmp_path, tables


OPTIONS = {"data": "molpcba", "nodes": 16, "assays": 2, "train_size": 6, "test_size": 2}


def test_the_datasets_own_files_are_read(own_files):
    """Train and valid in the order of their files, without what was not measured; every bond there
    and back, features whole numbers before they are scaled."""
    folder, tables = own_files
    task = load_workload("molecules", OPTIONS, str(folder))
    chosen = [7, 6, 5, 3, 2, 1, 8, 9]
    labels = torch.cat([task.data.train_y, task.data.test_y])
    assert labels.tolist() == tables["raw/graph-label"][chosen, :2].astype(int).tolist()
    graphs, _ = molecules.read("molecules", (6, 2), 16, 18, 2, str(folder))
    starts = np.cumsum([0, *tables["raw/num-node-list"][:, 0]])
    for k, molecule in enumerate(chosen):
        graph = graph_of(graphs, k)
        assert nx.is_isomorphic(graph, nx.path_graph(molecule + 3))
        rows = tables["raw/node-feat"][starts[molecule] : starts[molecule + 1]]
        assert graphs.nodes[k, : molecule + 3].int().tolist() == rows.tolist()
        assert not graphs.nodes[k, molecule + 3 :].any()
        assert graphs.edge_mask[k].sum() == 2 * (molecule + 2)
    assert Gnn(4, 1, 4, 16, 18)(packed(graphs)).shape == (8, 4)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"train_size": 8}, "options.train_size: expected at most 7: so many molecules of .*train"),
        ({"test_size": 4}, "options.test_size: expected at most 3"),
        ({"assays": 129}, "options.assays: expected at most 128 of molpcba"),
        ({"nodes": 15}, "options.nodes: expected at least 16"),
        ({"data": "zinc"}, "options.data: expected one of drawn, molpcba"),
        ({"data": "drawn", "assays": 9}, "options.assays: expected at most 8 of drawn"),
    ],
)
def test_options_out_of_range_are_named(own_files, options, named):
    with pytest.raises(InputError, match=named):
        load_workload("molecules", OPTIONS | options, str(own_files[0]))


@pytest.mark.parametrize(
    ("name", "table", "named"),
    [
        ("raw/node-feat", [[1.0, 2.0]], "node-feat.csv.gz: expected lines of 9 numbers, got 2"),
        ("raw/edge", [[0.0, 1.0]], r"edge.csv.gz: expected 90 lines, as .* got 1"),
        ("raw/graph-label", [[0.0, 1.0]], "graph-label.csv.gz: expected a line for each molecule"),
        ("split/scaffold/train", [[12.0]], "train.csv.gz: expected numbers below 12, got 12"),
    ],
)
def test_damaged_files_are_named(own_files, name, table, named):
    written(own_files[0] / "ogbg_molpcba", np.asarray(table), name)
    with pytest.raises(InputError, match=named):
        load_workload("molecules", OPTIONS, str(own_files[0]))


def test_a_missing_folder_says_where_the_files_are_published(tmp_path):
    with pytest.raises(InputError, match=r"data_dir: expected .*ogb\.stanford\.edu"):
        load_workload("molecules", OPTIONS, str(tmp_path))
    (tmp_path / "ogbg_molpcba" / "raw").mkdir(parents=True)
    with pytest.raises(InputError, match="num-node-list.csv.gz: expected lines of 1 numbers"):
        load_workload("molecules", OPTIONS, str(tmp_path))


def test_the_transformer_takes_cifar_alone(tmp_path):
    for options, named in (
        ({"image": 16}, "options.image: expected 32 with data: cifar10"),
        ({"image": 32, "classes": 5}, "options.classes: expected 10"),
        ({"image": 32}, "data_dir: expected cifar10-train"),
        ({"data": "imagenet"}, "options.data: expected one of drawn, cifar10"),
    ):
        with pytest.raises(InputError, match=named):
            load_workload("vit", {"data": "cifar10"} | options, str(tmp_path))
