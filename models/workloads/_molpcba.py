"""ogbg-molpcba from its own files (Hu et al., Open Graph Benchmark, NeurIPS 2020).

In ``<data folder>/ogbg_molpcba``, gzipped CSV without heads: ``raw/num-node-list``,
``raw/num-edge-list``, ``raw/node-feat`` (9 whole numbers for each atom), ``raw/edge`` (a bond's two
atoms, counted within the molecule; each bond once), ``raw/edge-feat`` (3 whole numbers),
``raw/graph-label`` (128 assays: 0, 1, or empty where nobody measured), ``split/scaffold/train`` and
``valid`` (numbers of molecules).

Taken are the first molecules of ``train`` and ``valid`` that fit the padding and were measured in
each of the assays asked for: the loss has no mask.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from hybridsim import InputError, Problem
from hybridsim.models.workloads._graphs import EDGE_FEATURES, NODE_FEATURES, Graphs

PUBLISHED = "https://ogb.stanford.edu/docs/graphprop"
Table = npt.NDArray[np.float64]


def read(
    workload: str,
    counts: tuple[int, int],
    nodes: int,
    bonds: int,
    assays: int,
    data_dir: str | None,
) -> tuple[Graphs, Tensor]:
    """So many molecules of ``train``, then of ``valid``, of at most so many atoms and bonds; and
    their class numbers (count, assays).

    Raises:
        InputError: the files are not there, hold something else, or hold fewer such molecules.
    """
    folder = _folder(workload, data_dir)
    sizes = [_table(folder / "raw" / f"num-{of}-list.csv.gz", 1)[:, 0] for of in ("node", "edge")]
    labels = _table(folder / "raw" / "graph-label.csv.gz", None)
    if labels.shape[1] < assays or len({len(labels), *map(len, sizes)}) > 1:
        expected = f"a line for each molecule, of {assays} assays or more"
        got = f"{labels.shape} for {len(sizes[0])} and {len(sizes[1])} molecules"
        raise InputError(
            [Problem(str(folder / "raw" / "graph-label.csv.gz"), None, "", expected, got)]
        )
    fits = (sizes[0] <= nodes) & (sizes[1] <= bonds) & ~np.isnan(labels[:, :assays]).any(axis=1)
    chosen = []
    for part, count in zip(("train", "valid"), counts, strict=True):
        path = folder / "split" / "scaffold" / f"{part}.csv.gz"
        numbers = _table(path, 1)[:, 0].astype(np.int64)
        if numbers.max(initial=0) >= len(labels):
            problem = f"numbers below {len(labels)}", str(numbers.max())
            raise InputError([Problem(str(path), None, "", *problem)])
        able = numbers[fits[numbers]]
        if len(able) < count:
            option = "train_size" if part == "train" else "test_size"
            expected = (
                f"at most {len(able)}: so many molecules of {path} have at most {nodes} atoms and "
                f"{bonds} bonds and were measured in all {assays} assays"
            )
            raise InputError([Problem(workload, None, f"options.{option}", expected, str(count))])
        chosen.append(able[:count])
    molecules = np.concatenate(chosen)
    y = torch.from_numpy(labels[molecules, :assays]).long()
    return _graphs(folder / "raw", molecules, sizes, nodes, bonds), y


def _folder(workload: str, data_dir: str | None) -> Path:
    root = data_dir or os.environ.get("HYBRIDSIM_DATA")
    folder = Path(root or ".").expanduser() / "ogbg_molpcba"
    if not root or not (folder / "raw").is_dir():
        expected = (
            "<dir>/ogbg_molpcba with the folders raw and split of ogbg-molpcba, and "
            f"HYBRIDSIM_DATA=<dir> (published at {PUBLISHED})"
        )
        got = f"no {folder / 'raw'}" if root else "HYBRIDSIM_DATA not set"
        raise InputError([Problem(workload, None, "data_dir", expected, got)])
    return folder


def _table(path: Path, columns: int | None) -> Table:
    """A file's numbers (lines, columns), NaN where there is none."""
    expected = f"lines of {columns} numbers" if columns else "lines of numbers"
    try:
        found: Table = pd.read_csv(path, header=None).to_numpy(dtype=np.float64)
    except (OSError, EOFError, ValueError) as error:
        got = " ".join(str(error).split())
        raise InputError([Problem(str(path), None, "", expected, got)]) from error
    if columns and found.shape[1] != columns:
        raise InputError([Problem(str(path), None, "", expected, f"{found.shape[1]}")])
    return found


def _graphs(
    raw: Path, molecules: npt.NDArray[np.int64], sizes: list[Table], nodes: int, bonds: int
) -> Graphs:
    """The molecules, padded; every bond as two edges."""
    atoms, joined, kinds = (
        _table(raw / f"{name}.csv.gz", columns)
        for name, columns in (
            ("node-feat", NODE_FEATURES),
            ("edge", 2),
            ("edge-feat", EDGE_FEATURES),
        )
    )
    starts = [np.concatenate([[0], np.cumsum(part)]).astype(np.int64) for part in sizes]
    for name, table, start in (("node-feat", atoms, starts[0]), ("edge", joined, starts[1]),
                               ("edge-feat", kinds, starts[1])):  # fmt: skip
        if len(table) != start[-1]:
            problem = f"{start[-1]} lines, as the molecules have", str(len(table))
            raise InputError([Problem(str(raw / f"{name}.csv.gz"), None, "", *problem)])
    count = len(molecules)
    features, node_mask = np.zeros((count, nodes, NODE_FEATURES)), np.zeros((count, nodes, 1))
    ends, edges = np.zeros((count, bonds, 2)), np.zeros((count, bonds, EDGE_FEATURES))
    edge_mask = np.zeros((count, bonds, 1))
    for place, molecule in enumerate(molecules):
        own, links = (slice(*start[molecule : molecule + 2]) for start in starts)
        size, number = own.stop - own.start, links.stop - links.start
        features[place, :size], node_mask[place, :size] = atoms[own], 1
        ends[place, :number], edges[place, :number] = joined[links], kinds[links]
        edge_mask[place, :number] = 1
        if number and not 0 <= joined[links].min() <= joined[links].max() < size:
            problem = f"numbers below {size} in molecule {molecule}", str(joined[links].max())
            raise InputError([Problem(str(raw / "edge.csv.gz"), None, "", *problem)])
    twice = [np.concatenate(pair, axis=1) for pair in ((edges, edges), (edge_mask, edge_mask))]
    there, back = ends[:, :, :1], ends[:, :, 1:]
    turned = [np.concatenate(pair, axis=1) for pair in ((there, back), (back, there))]
    parts = (features, node_mask, *twice, *turned)
    return Graphs(*(torch.from_numpy(part).float() for part in parts))
