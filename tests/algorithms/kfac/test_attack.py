"""K-FAC against oracles of its own: per-term factors, each SPU's own rounding, closed forms of
time, bits and books."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from harness import IDEAL, document, execute
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

import hybridsim
from hybridsim.algorithms.kfac.jobs import Job, tile_jobs
from hybridsim.tasks.task import batch_indices

NETWORKS = '''
import torch
from torch import nn
from hybridsim.tasks.task import Data, Workload

class Convolutions(nn.Module):
    """Strides, dilations, groups, no bias, a norm; 2 x 6 x 5 images."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.second = nn.Conv2d(4, 6, (3, 2), dilation=(1, 2), padding=(2, 1), groups=2, bias=False)
        self.norm, self.head = nn.GroupNorm(2, 6), nn.Linear(90, 3)

    def forward(self, x):
        return self.head(self.norm(torch.tanh(self.second(torch.tanh(self.first(x))))).flatten(1))

class Sequence(nn.Module):
    """Tokens, positions, LayerNorm and attention; an answer at every position."""

    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding(7, 4), nn.Parameter(torch.randn(5, 4) / 10)
        self.norm, self.mix = nn.LayerNorm(4), nn.Linear(4, 4, bias=False)
        self.value, self.head = nn.Linear(4, 3), nn.Linear(3, 7)

    def forward(self, x):
        h = self.norm(self.tokens(x) + self.places)
        return self.head(torch.tanh((self.mix(h) @ h.mT).softmax(-1) @ self.value(h)))

def build(kind: str = "images") -> Workload:
    if kind == "images":
        x, y = torch.randn(40, 2, 6, 5), torch.randint(0, 3, (40,))
    elif kind == "tokens":
        x, y = torch.randint(0, 7, (40, 5)), torch.randint(0, 7, (40, 5))
    else:
        x, y = torch.randn(40, 3, 5), torch.randn(40, 3, 2)
    made = {
        "images": Convolutions,
        "tokens": Sequence,
        "regression": lambda: nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2)),
    }[kind]
    loss = "mse" if kind == "regression" else "cross_entropy"
    return Workload(network=made, data=Data(x[:32], y[:32], x[32:], y[32:]), loss=loss)
'''
KFAC = {"kind": "kfac", "learning_rate": 0.02, "damping": 0.3, "update": "sgd", "ema": 0.5}


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    path = tmp_path_factory.mktemp("networks") / "networks.py"
    path.write_text(NETWORKS)
    return str(path)


# ---------------------------------------------------------------- an oracle: one loss term, one
# patch at a time


def patches(module, x, group):
    """Inputs of a layer (b, positions, n), cut out one output pixel after the other."""
    if isinstance(module, nn.Embedding):
        rows = F.one_hot(x, module.num_embeddings).double()
    elif isinstance(module, nn.Linear):
        rows = x.reshape(len(x), -1, x.shape[-1])
    else:
        (kh, kw), (ph, pw), (dh, dw), (sh, sw) = (
            module.kernel_size,
            module.padding,
            module.dilation,
            module.stride,
        )
        width = module.in_channels // module.groups
        x = F.pad(x, (pw, pw, ph, ph))[:, group * width : (group + 1) * width]
        tall, wide = dh * (kh - 1) + 1, dw * (kw - 1) + 1
        rows = torch.stack(
            [
                x[:, :, i : i + tall : dh, j : j + wide : dw].flatten(1)
                for i in range(0, x.shape[2] - tall + 1, sh)
                for j in range(0, x.shape[3] - wide + 1, sw)
            ],
            1,
        )
    if getattr(module, "bias", None) is not None:
        rows = torch.cat([rows, torch.ones_like(rows[..., :1])], -1)
    return rows


def slopes(module, gradient, group):
    """Gradients in a layer's outputs (b, positions, m)."""
    if isinstance(module, nn.Conv2d):
        width = module.out_channels // module.groups
        return gradient[:, group * width : (group + 1) * width].flatten(2).mT
    return gradient.reshape(len(gradient), -1, gradient.shape[-1])


def seeds_of(loss, fisher, z, y):
    """Derivatives of the loss terms in z (b, T, d): columns of a root of their Hessians, or the
    data's own."""
    d, p = z.shape[-1], z.softmax(-1)
    unit = torch.eye(d, dtype=z.dtype)
    if fisher == "empirical":
        return [2 * (z - y) / d**0.5 if loss == "mse" else p - unit[y]]
    if loss == "mse":
        return [(2 / d) ** 0.5 * unit[c].expand_as(z) for c in range(d)]
    return [p[..., c : c + 1].sqrt() * (unit[c] - p) for c in range(d)]


def factors(network, parameters, x, y, loss, algorithm):
    """Gradients by name; modules by name; A and G by (module, group)."""
    reduce, inputs, outputs, a, g = algorithm["sharing"] == "reduce", {}, {}, {}, {}
    kinds = (nn.Linear, nn.Conv2d, nn.Embedding)
    modules = {name: m for name, m in network.named_modules() if isinstance(m, kinds)}

    def keep(name):
        def hook(_, given, made):
            inputs[name], outputs[name] = given[0].detach(), made

        return hook

    hooks = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    z = functional_call(network, parameters, (x,))
    for hook in hooks:
        hook.remove()
    flat = z.reshape(len(z), -1, z.shape[-1])
    value = F.mse_loss(z, y) if loss == "mse" else F.cross_entropy(flat.flatten(0, 1), y.flatten())
    named = zip(
        parameters,
        torch.autograd.grad(value, list(parameters.values()), retain_graph=True),
        strict=True,
    )
    targets = y.reshape(flat.shape if loss == "mse" else flat.shape[:2])
    places = [(name, k) for name, m in modules.items() for k in range(getattr(m, "groups", 1))]
    for name, k in places:
        rows = patches(modules[name], inputs[name], k)
        rows = (rows.mean(1, keepdim=True) if reduce else rows).flatten(0, 1)
        a[name, k], g[name, k] = rows.T @ rows / len(rows), 0
    for seed in seeds_of(loss, algorithm["fisher"], flat.detach(), targets):
        found = torch.autograd.grad(
            z, [outputs[n] for n in modules], seed.reshape(z.shape), retain_graph=True
        )
        by_name = dict(zip(modules, found, strict=True))
        for name, k in places:
            rows = slopes(modules[name], by_name[name], k)
            rows = (rows.sum(1, keepdim=True) if reduce else rows).flatten(0, 1)
            g[name, k] = g[name, k] + rows.T @ rows / flat[..., 0].numel()
    return dict(named), modules, a, g


def direction(gradients, modules, a, g, damping):
    """Every block by two inverses under rule pi; what is in no block keeps its gradient."""
    found = {name: part.clone() for name, part in gradients.items()}
    for (name, k), left in g.items():
        module, right, weight = modules[name], a[name, k], gradients[f"{name}.weight"]
        pi = math.sqrt(float(right.diagonal().mean() / left.diagonal().mean()))
        left = torch.linalg.inv(left + damping**0.5 / pi * torch.eye(len(left), dtype=left.dtype))
        right = torch.linalg.inv(
            right + damping**0.5 * pi * torch.eye(len(right), dtype=left.dtype)
        )
        if isinstance(module, nn.Embedding):
            found[f"{name}.weight"] = (left @ weight.T @ right).T
            continue
        own = slice(k * len(left), (k + 1) * len(left))
        d, bias = weight[own].flatten(1), gradients.get(f"{name}.bias")
        u = left @ (d if bias is None else torch.cat([d, bias[own, None]], 1)) @ right
        found[f"{name}.weight"][own] = u[:, : d.shape[1]].reshape(weight[own].shape)
        if bias is not None:
            found[f"{name}.bias"][own] = u[:, -1]
    return found


def trained(made, algorithm):
    """Parameters after all steps of plain K-FAC, and those before."""
    task = made.task
    network = task.workload.network().double()
    start = made.parameters().value
    parameters, average = {n: p.clone() for n, p in task.layout.unflatten(start).items()}, None
    for step in range(made.steps):
        indices = batch_indices(made.seed, len(task.data.train_x), made.batch_size, step)
        x, y = task.data.train_x[indices], task.data.train_y[indices]
        leaves = {n: p.requires_grad_() for n, p in parameters.items()}
        gradients, modules, *new = factors(network, leaves, x, y, task.loss, algorithm)
        old, e = average or new, algorithm["ema"]
        average = [
            {k: e * was[k] + (1 - e) * now[k] for k in now}
            for was, now in zip(old, new, strict=True)
        ]
        move = direction(gradients, modules, *average, algorithm["damping"])
        parameters = {
            n: p.detach() - algorithm["learning_rate"] * move[n] for n, p in parameters.items()
        }
    return task.layout.flatten(parameters), start


@pytest.mark.parametrize("kind", ["images", "tokens", "regression"])
@pytest.mark.parametrize(("fisher", "gpus"), [("type2", 1), ("empirical", 2)])
@pytest.mark.parametrize("sharing", ["expand", "reduce"])
def test_method_2_on_any_network_is_kfac_term_by_term(networks, kind, fisher, sharing, gpus):
    """Eight steps to 1e-8: convolutions, groups, tokens, norms, positions; columns and tiles over
    several SPUs."""
    algorithm = {
        **KFAC,
        "fisher": fisher,
        "sharing": sharing,
        "settle": "1000000 tau",
        "placement": "columns",
    }
    machine = {
        "gpu": {"part": "a100-sxm4-80gb", "count": gpus},
        "spus": {**IDEAL, "count": 3, "cells": 40, "buffering": "double"},
    }
    changes = {
        "workload": {"source": networks, "options": {"kind": kind}},
        "precision": "float64",
        "batch_size": 8,
    }
    made, _ = execute(document({**algorithm, "tiling": True}, steps=8, machine=machine, **changes))
    expected, start = trained(made, algorithm)
    assert float((made.theta.value - expected).norm() / (expected - start).norm()) < 1e-8


# ---------------------------------------------------------------- every SPU its own resolutions

BITS = [(4, 6, 8), (8, None, 12), (None, 5, None)]


def unequal(cells=(200, 100, 70)):
    """A GPU with three SPUs that differ in resolution, speed and size."""
    nodes = {"gpu0": {"kind": "gpu", "part": "a100-sxm4-80gb"}}
    for k, bits in enumerate(BITS):
        names = ("input_bits", "bias_bits", "output_bits")
        own = {name: b or "ideal" for name, b in zip(names, bits, strict=True)}
        part = ("rc-1us", "rc-100ns", "rc-1us")[k]
        spu = {"kind": "spu", "part": part, "cells": cells[k], "imperfections": "ideal"}
        nodes[f"spu{k}"] = spu | own
    edges = [
        {"between": ["gpu0", name], "link": "paper-50gbps"} for name in nodes if name != "gpu0"
    ]
    return {"gpu": None, "link": None, "spus": None, "nodes": nodes, "edges": edges}


def rounded(x, bits):
    """Columns, each to 2^bits - 1 levels up to its own largest value."""
    if bits is None:
        return x
    step = x.abs().amax(0, keepdim=True) / (2 ** (bits - 1) - 1)
    return torch.where(step > 0, torch.round(x / step) * step, 0 * x)


def held(factor, bits):
    """Off-diagonals to nearest, the diagonal raised by its row's errors, then up to the next level
    of its own range."""
    if bits is None:
        return factor
    diagonal, top = torch.diag(factor.diagonal()), 2 ** (bits - 1) - 1
    rest = factor - diagonal
    near = torch.round(rest / (rest.abs().max() / top)) * (rest.abs().max() / top)
    raised = factor.diagonal() + (near - rest).abs().sum(1)
    return near + torch.diag(torch.ceil(raised / (raised.max() / top)) * (raised.max() / top))


def relaxed(factor, shift, columns, pieces, tau):
    """Every stretch of columns on its own device: x = A⁻¹ (1 - exp(-A tau)) b."""
    answers = []
    for first, count, (put, driven, read) in pieces:
        a = held(factor, put) + shift * torch.eye(len(factor), dtype=factor.dtype)
        b = rounded(columns[:, first : first + count], driven)
        answers.append(
            rounded(torch.linalg.solve(a, b - torch.linalg.matrix_exp(-tau * a) @ b), read)
        )
    return torch.cat(answers, 1)


@pytest.mark.parametrize("placement", ["columns", "layers", "auto"])
@pytest.mark.parametrize("tau", [0.7, 20.0])
def test_every_spu_rounds_what_it_solves_with_its_own_bits(placement, tau):
    algorithm = {
        **KFAC,
        "learning_rate": 1.0,
        "fisher": "type2",
        "sharing": "expand",
        "settle": f"{tau} tau",
        "placement": placement,
    }
    made, _ = execute(document(algorithm, precision="float64", steps=1, machine=unequal()))
    task, start = made.task, made.parameters().value
    indices = batch_indices(0, len(task.data.train_x), 4, 0)
    network = task.workload.network().double()
    leaves = {n: p.requires_grad_() for n, p in task.layout.unflatten(start.clone()).items()}
    x, y = task.data.train_x[indices], task.data.train_y[indices]
    move, modules, a, g = factors(network, leaves, x, y, task.loss, algorithm)
    pieces = defaultdict(list)
    for row in made.notes["placement"]:
        pieces[row["layer"], row["factor"]].append(
            (row["first"], row["columns"], BITS[int(row["part"][3:])])
        )
    for name in modules:
        left, right = g[name, 0], a[name, 0]
        pi = math.sqrt(float(right.diagonal().mean() / left.diagonal().mean()))
        d = torch.cat([move[f"{name}.weight"], move[f"{name}.bias"][:, None]], 1)
        half = relaxed(left, KFAC["damping"] ** 0.5 / pi, d, sorted(pieces[name, "G"]), tau)
        u = relaxed(right, KFAC["damping"] ** 0.5 * pi, half.T, sorted(pieces[name, "A"]), tau).T
        move[f"{name}.weight"], move[f"{name}.bias"] = u[:, :-1], u[:, -1]
    expected = start - task.layout.flatten({n: part.detach() for n, part in move.items()})
    assert float((made.theta.value - expected).norm() / (expected - start).norm()) < 1e-12


# ---------------------------------------------------------------- time, bits and books


@st.composite
def cases(draw):
    """A method, a placement and SPUs of any size, some smaller than the factors, on one GPU."""
    spus = {
        "count": draw(st.sampled_from([1, 2, 3, 7])),
        "part": draw(st.sampled_from(["rc-1us", "rc-10ns"])),
        "buffering": draw(st.sampled_from(["single", "double"])),
        "cells": draw(st.sampled_from([3, 11, 40, 65])),
        "input_bits": draw(st.sampled_from([4, 9, "ideal"])),
        "bias_bits": draw(st.sampled_from([5, 11, "ideal"])),
        "output_bits": draw(st.sampled_from([6, 13, "ideal"])),
        "adc_channels": draw(st.sampled_from([0, 3])),
        "write_time": draw(st.sampled_from(["0 s", "3 ns"])),
        "write_channels": draw(st.sampled_from([0, 7])),
        "imperfections": draw(
            st.sampled_from(["ideal", {"base": "ideal", "preset": True, "signs": True}])
        ),
    }
    link = {"part": "paper-50gbps", "sharing": draw(st.sampled_from(["shared", "private"]))}
    if draw(st.booleans()):
        link["chunk"] = "64 B"
    algorithm = {
        **KFAC,
        "tiling": True,
        "method": draw(st.sampled_from(["solves", "inverse"])),
        "placement": draw(st.sampled_from(["auto", "layers", "columns"])),
        "settle": draw(st.sampled_from(["0.5 tau", "7 tau"])),
        "stale": draw(st.booleans()),
        "pipelining": draw(st.booleans()),
    }
    return algorithm, {"link": link, "spus": spus}


@settings(deadline=None, max_examples=15)
@given(cases())
def test_every_piece_takes_what_was_predicted_and_carries_what_its_sizes_say(case):
    """Device time to a picosecond for each span; bits, conversions and writes in closed form, tiles
    included."""
    algorithm, machine = case
    made, sink = execute(document({**algorithm, "stale": False}, steps=1, machine=machine), False)
    spu = made.machine.spus[0]
    found = defaultdict(list)
    for span in sink.spans:
        kind, _, side = span["kind"].rpartition(" ")
        on_wire = span["lane"].startswith("to ")
        if span["part"].startswith("spu") or on_wire:
            found[span["layer"], side.upper(), kind].append(span)

    def sums(place, kind, column):
        return sum(s[column] for s in found[*place, kind])

    for place in {(row["layer"], row["factor"]) for row in made.notes["placement"]}:
        rows = [row for row in made.notes["placement"] if (row["layer"], row["factor"]) == place]
        spans = [
            s
            for kind in ("program", "convert", "discharge", "settle", "measure")
            for s in found[*place, kind]
        ]
        device_ps = sum(s["end_ps"] - s["start_ps"] for s in spans)
        assert abs(device_ps - 1e12 * sum(row["device_s"] for row in rows)) <= len(spans)
        solves = [
            job
            for row in rows
            for job in tile_jobs(
                Job("", "", row["order"], row["columns"]), tiles(row["order"], row["tiles"])
            )
        ]
        entries, numbers = sum(j.size**2 for j in solves), sum(j.size * j.columns for j in solves)
        triangles = sum(j.size * (j.size + 1) // 2 for j in solves)
        assert sums(place, "upload factor", "bits") == triangles * spu.bits("input")
        assert sums(place, "program", "writes") == entries
        unit = algorithm["method"] == "inverse" and all(row["tiles"] == 1 for row in rows)
        assert sums(place, "upload columns", "bits") == (0 if unit else numbers * spu.bits("bias"))
        assert (
            sums(place, "convert", "conversions")
            == sums(place, "measure", "conversions")
            == numbers
        )
        assert sums(place, "download", "bits") == numbers * spu.bits("output")


def tiles(order, number):
    """Nearly equal orders."""
    edges = [round(k * order / number) for k in range(number + 1)]
    return [b - a for a, b in pairwise(edges)]


@settings(deadline=None, max_examples=10)
@given(case=cases())
def test_the_books_balance_on_any_machine(case, tmp_path_factory):
    """No lane serves two at once, no wait without a culprit, and the critical path covers the run
    without a gap."""
    algorithm, machine = case
    scenario = hybridsim.load(document(algorithm, steps=3, machine=machine))
    run = hybridsim.run(scenario, tmp_path_factory.mktemp("run") / "run", backend="timing")
    serving = run.spans[run.spans.role == "server"]
    for _, lane in serving.groupby(["part", "lane"]):
        ordered = lane.sort_values(["start_ps", "end_ps"])
        assert (ordered.start_ps.to_numpy()[1:] >= ordered.end_ps.to_numpy()[:-1]).all()
    ends = dict(zip(run.spans.id, run.spans.end_ps, strict=True))
    for span in run.spans.itertuples():
        assert all(ends[parent] <= span.queued_ps for parent in span.parents)
        assert (
            ends[span.blocker] == span.start_ps
            if span.blocker >= 0
            else span.start_ps == span.queued_ps
        )
    assert "error" not in run.summary["critical_path"], run.summary["critical_path"]
    times = [(segment.start_ps, segment.end_ps) for segment in run.path]
    assert times[0][0] == 0 and all(before[1] == after[0] for before, after in pairwise(times))
