"""The costs of digital K-FAC at tiny sizes: kinds of steps, GPUs that share or repeat work,
networks extended, verdicts."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hybridsim
from analysis.papers import k1_shares, k5_widths, k6_vocabulary, kfac_figure
from analysis.papers.kfac_runs import (
    A100,
    GROUPS,
    TENSOR_CORES,
    V100,
    gpus,
    measure,
    measure_anyway,
    scenario,
    share,
    shares,
)
from analysis.papers.record import short
from analysis.papers.step_time import GATHER, INVERSION, PASSES, PRODUCTS, REDUCE

GPT = {"vocabulary": 24, "width": 8, "sequence": 4, "depth": 1, "heads": 2}
GNN = {"latent": 8, "steps": 2, "outputs": 3, "nodes": 8}
NETWORKS = {"gpt": GPT, "gnn": GNN, "mlp_cifar": {"depth": 3, "width": 12, "synthetic": True}}
RESULTS = Path(k1_shares.__file__).with_name("results")
BATCH = 8


@cache
def costs(network: str, part: str = A100, count: int = 1, batch: int = BATCH, **changes: object):
    return measure(network, NETWORKS[network], batch, gpus(part, count, **changes))


# ---------------------------------------------------------------- kinds of steps


@settings(max_examples=6, deadline=None)
@given(
    network=st.sampled_from(sorted(NETWORKS)),
    count=st.sampled_from([1, 2]),
    every=st.sampled_from([(1, 1), (1, 3), (3, 6), (2, 4)]),
)
def test_steps_at_any_intervals_are_made_of_three_kinds(network, count, every):
    """Against a run at these intervals: its last T2 steps, whole, and the inversions in them."""
    factors, inverses = every
    algorithm = {"factors_every": factors, "inverses_every": inverses}
    document = scenario(network, NETWORKS[network], BATCH, gpus(A100, count), algorithm)
    training = document.training.model_copy(update={"steps": 2 * inverses})
    run = hybridsim.run(document.model_copy(update={"training": training}), backend="timing")
    start_ps, end_ps = (int(run.steps["end_ps"].iloc[k]) for k in (inverses - 1, -1))
    groups = costs(network, A100, count).per_step(factors, inverses)
    assert sum(groups.values()) == pytest.approx((end_ps - start_ps) * 1e-12 / inverses, rel=1e-3)
    inverting = sum(
        s.end_ps - s.start_ps for s in run.path if s.kind == "invert" and s.start_ps >= start_ps
    )
    assert groups[INVERSION] == pytest.approx(inverting * 1e-12 / inverses, rel=1e-9)


def test_forward_and_backward_are_those_of_a_step_without_factors():
    found = costs("gpt")
    assert found.plain[INVERSION] == found.renewed[INVERSION] == found.plain["factors"] == 0
    assert found.full[PASSES] == found.renewed[PASSES] == found.plain[PASSES] > 0
    assert found.full["factors"] > 0


@given(values=st.lists(st.floats(1e-6, 1.0), min_size=len(GROUPS), max_size=len(GROUPS)))
def test_shares_add_up(values):
    groups = dict(zip(GROUPS, values, strict=True))
    assert sum(shares(groups).values()) == pytest.approx(1)
    assert share(groups, PASSES) == pytest.approx(groups[PASSES] / sum(values))


# ---------------------------------------------------------------- what a price changes, and what it
# leaves


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_a_microsecond_more_per_column_is_a_microsecond_per_order_of_every_factor(network):
    """By block; the embedding's diagonal A is not factorised. CUDA graphs: no host hides it."""
    orders = {
        "head": 24 + 8,
        "tokens": 8,
        "blocks.0.attention.query": 8 + 9,
        "decoder": 3 + 9,
        "2": 12 + 13,
    }
    base, slower = (costs(network, launch="graph", inverse_step=s) for s in ("2.4 us", "3.4 us"))
    assert base.inversions.keys() == slower.inversions.keys()
    known = {name: order for name, order in orders.items() if name in base.inversions}
    assert known
    for name, order in known.items():
        assert slower.inversions[name] - base.inversions[name] == pytest.approx(
            order * 1e-6, rel=1e-6
        )


@pytest.mark.parametrize("part", [A100, V100])
def test_tensor_cores_leave_inversions_as_they_are(part):
    options = {"depth": 2, "width": 256, "synthetic": True}
    base, fast = (
        measure("mlp_cifar", options, 512, gpus(part), products=products)
        for products in (None, TENSOR_CORES[part])
    )
    assert fast.inversions == pytest.approx(base.inversions, rel=1e-6)
    assert fast.full[PASSES] < base.full[PASSES]
    assert fast.full["factors"] < base.full["factors"]


@pytest.mark.parametrize("kind", ["cholesky", "newton_schulz"])
def test_another_way_of_inversion_changes_inversions_alone(kind):
    """Of a step; the groups add up to it, and its inversions to those of the blocks."""
    inversion = {"kind": kind, "batched": True, "iterations": 2}
    base = costs("gnn")
    other = measure("gnn", NETWORKS["gnn"], BATCH, gpus(), {"inversion": inversion})
    assert other.full[INVERSION] == pytest.approx(sum(other.inversions.values()), rel=1e-9)
    for group in {*GROUPS} - {INVERSION}:
        assert other.full[group] == pytest.approx(base.full[group], rel=1e-9)
    assert 0 < other.full[INVERSION] != base.full[INVERSION]


@pytest.mark.parametrize("network", ["gpt", "gnn"])
def test_replicated_inversions_are_those_of_one_gpu_with_a_share_of_the_batch(network):
    apart, alone = costs(network, A100, 2), costs(network, A100, 1, BATCH // 2)
    together = apart.replicated()
    for group in (INVERSION, PRODUCTS, PASSES):
        assert together.full[group] == pytest.approx(alone.full[group], rel=1e-9)
    assert together.full[GATHER] == 0 < apart.full[GATHER]
    assert together.full[REDUCE] == apart.full[REDUCE] > alone.full[REDUCE]
    assert (
        apart.full[INVERSION] < together.full[INVERSION] <= 2 * apart.full[INVERSION] * (1 + 1e-9)
    )


def test_what_does_not_fit_is_refused_and_priced_alike():
    small = gpus(memory_capacity="10 kB")
    with pytest.raises(hybridsim.CapacityError, match="has 10 kB"):
        measure("gpt", GPT, BATCH, small)
    found, refusal = measure_anyway("gpt", GPT, BATCH, small)
    assert "has 10 kB" in refusal
    assert found.full == pytest.approx(costs("gpt").full)
    assert measure_anyway("gpt", GPT, BATCH, gpus())[1] == ""


# ---------------------------------------------------------------- K5


@pytest.mark.parametrize(("width", "depth"), [(8, 5), (24, 3), (40, 9)])
def test_a_network_extended_layer_by_layer_costs_what_it_costs_whole(width, depth):
    assert k5_widths.check(width, depth, BATCH) < 1e-8
    _, made = k5_widths.extended(width, depth, BATCH)
    assert made.parameters == k5_widths.mlp(width, depth, BATCH).parameters


@given(
    power=st.floats(0, 4),
    factor=st.floats(1e-6, 10),
    widths=st.sets(st.integers(2, 9000), min_size=2, max_size=6),
)
def test_the_local_exponent_of_a_power_law_is_its_power(power, factor, widths):
    found = k5_widths.exponents({n: factor * n**power for n in widths})
    assert len(found) == len(widths) - 1
    assert list(found.values()) == pytest.approx([power] * len(found), abs=1e-6)


def line(network: str, width: int, inversion: float, layer_s: float) -> dict:
    rest = {"factors": 0.25, PASSES: 0.75 - inversion}
    times = {"step_s": 1.0, "hidden_layer_inversions_s": layer_s}
    return {"network": network, "width": width, "shares": {INVERSION: inversion, **rest}, **times}


def test_main_cost_and_cubic_growth_are_found_where_they_are():
    rows = [
        line("mlp", n, s, n**p) for n, s, p in ((100, 0.7, 1.0), (200, 0.3, 1.2), (400, 0.5, 1.5))
    ]
    found = k5_widths.summarise([*rows, line("gpt", 100, 0.7, 1.0), line("gpt", 200, 0.6, 7.9)])
    assert found["mlp"]["main cost"] == "at widths [100, 400] of [100, 200, 400]"
    assert found["mlp"]["largest other group"][200] == {
        "group": PASSES,
        "share": pytest.approx(0.45),
    }
    assert found["gpt"]["main cost"] == "holds"
    assert found["gpt"]["nearly cubic"] == ["100 - 200"]
    assert found["mlp"]["nearly cubic"] == ["200 - 400"]  # 400^1.5 / 200^1.2


# ---------------------------------------------------------------- K6


def test_a_larger_vocabulary_means_more_inversion_and_under_reduce_twice(tmp_path):
    sizes = {"width": 8, "sequence": 4, "depth": 1, "heads": 2}
    found = {
        (row["setting"], row["vocabulary"]): row
        for row in k6_vocabulary.rows((16, 512), sizes, BATCH)
    }
    assert len(found) == 2 * len(k6_vocabulary.SETTINGS)
    for setting in k6_vocabulary.SETTINGS:
        small, large = (found[setting, v]["shares"][INVERSION] for v in (16, 512))
        # products of tiny factors take as long as their launches, whatever the order
        assert large >= small if "Newton-Schulz" in setting else large > small
    inverted = {
        s: found[s, 512]["step_s"] * found[s, 512]["shares"][INVERSION]
        - found[s, 16]["step_s"] * found[s, 16]["shares"][INVERSION]
        for s in ("expand", "reduce")
    }
    assert inverted["reduce"] == pytest.approx(2 * inverted["expand"], rel=0.1)
    kfac_figure.draw(
        tmp_path / "page.html", "shares", [(list(found.values()), "vocabulary", "caption")]
    )
    assert (tmp_path / "page.html").stat().st_size > 1000


def test_domination_and_capacity_are_found_where_they_are():
    def one(vocabulary: int, inversion: float, refusal: str) -> dict:
        rest = {INVERSION: inversion, PASSES: 1 - inversion}
        return {
            "setting": "x",
            "vocabulary": vocabulary,
            "shares": rest,
            "memory_bytes": vocabulary * 1e9,
            "refusal": refusal,
        }

    found = k6_vocabulary.summarise([one(3, 0.95, "no"), one(1, 0.2, ""), one(2, 0.6, "")])["x"]
    assert found["largest that fits"] == 2
    assert found["inversion is the largest group at"] == [2, 3]
    assert found["dominates fully at"] == [3]
    assert found["memory in GB"] == {1: 1.0, 2: 2.0, 3: 3.0}


# ---------------------------------------------------------------- K1, K2


@given(factor=st.floats(1, 9), which=st.sampled_from(sorted(k1_shares.PAPER)), up=st.booleans())
def test_the_factor_off_is_the_largest_in_either_direction(factor, which, up):
    found = {f"{w}, {m}": value for (w, m), value in k1_shares.PAPER.items()}
    assert k1_shares.off(found) == pytest.approx(1)
    found[", ".join(which)] *= factor if up else 1 / factor
    assert k1_shares.off(found) == pytest.approx(factor)


def test_combinations_are_ranked_by_the_workload_asked_for():
    names = [f"{w}, {m}" for w, m in k1_shares.PAPER]
    paper = [*k1_shares.PAPER.values()]
    lines = [
        {
            "name": name,
            "shares": dict(
                zip(names, (p * f for p, f in zip(paper, factors, strict=True)), strict=True)
            ),
        }
        for name, factors in {
            "vit": (1, 1.2, 3, 1),
            "gnn": (4, 1, 1.1, 1),
            "both": (1.4, 1.3, 1.4, 1.45),
        }.items()
    ]
    for workload, best in (("vit", "vit"), ("gnn", "gnn"), ("", "both")):
        found = k1_shares.closest(lines, workload)
        assert found["closest"][0]["name"] == best
        assert found["within a factor of 1.25"] == (1 if workload else 0)
        assert found["within a factor of 1.5"] == (2 if workload else 1)


@pytest.mark.parametrize("machine", sorted(k1_shares.MACHINES))
def test_nothing_beats_amdahl(monkeypatch, machine):
    monkeypatch.setattr(k1_shares, "WORKLOADS", {"gnn": (GNN, 32)})
    monkeypatch.setattr(k1_shares, "PAPER", {("gnn", machine): 0.2})
    row = k1_shares.row("gnn", machine, "base", {})
    found = k1_shares.amdahl([row])[f"gnn, {machine}"]
    assert 1 < found["simulated without inversions"] <= found["at most"] * 1.01
    assert found["at most"] == pytest.approx(1 / (1 - row["shares"][INVERSION]))
    assert found["paper"] == pytest.approx(1.25)


def test_combinations_are_the_runs_they_say_they_are(monkeypatch):
    monkeypatch.setattr(k1_shares, "WORKLOADS", {"gnn": (GNN, 32)})
    monkeypatch.setattr(k1_shares, "PAPER", {("gnn", "4 x V100"): 0.2})
    found = k1_shares.combinations()
    assert len(found) == math.prod(len(values) for values in k1_shares.COMBINED.values())
    base = k1_shares.row("gnn", "4 x V100", "base", {})["shares"][INVERSION]
    wanted = {
        "fisher": "mc",
        "sharing": "expand",
        "products": "FP32",
        "inversions": "layer-parallel",
        "intervals": "1, 1",
    }
    (same,) = [line for line in found if all(line[key] == value for key, value in wanted.items())]
    assert same["shares"]["gnn, 4 x V100"] == pytest.approx(base)


# ---------------------------------------------------------------- the results that are shipped


@pytest.mark.parametrize("name", ["k5_widths", "k6_vocabulary"])
def test_shipped_summaries_are_those_of_the_shipped_runs(name):
    result = json.loads((RESULTS / f"{name}.json").read_text())
    rows = [dict(zip(result["columns"], values, strict=True)) for values in result["runs"]]
    again = json.loads(
        json.dumps(
            short({"k5_widths": k5_widths, "k6_vocabulary": k6_vocabulary}[name].summarise(rows))
        )
    )
    for key, value in _leaves(again):
        assert dict(_leaves(result["summary"]))[key] == (
            pytest.approx(value, abs=2e-3) if _number(value) else value
        )


def test_shipped_shares_are_ranked_as_their_runs_say():
    result = json.loads((RESULTS / "k1_shares.json").read_text())
    rows = [dict(zip(result["columns"], values, strict=True)) for values in result["runs"]]
    again = k1_shares.summarise(rows, result["summary"]["all combinations"])
    shipped = dict(_leaves(result["summary"]))
    for key, value in _leaves(json.loads(json.dumps(short(again)))):
        assert shipped[key] == (pytest.approx(value, abs=2e-3) if _number(value) else value)


def _number(value: object) -> bool:
    return isinstance(value, float)


def _leaves(tree: object, path: tuple = ()):
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, (*path, key))
    elif isinstance(tree, list) and tree and isinstance(tree[0], dict):
        for index, value in enumerate(tree):
            yield from _leaves(value, (*path, index))
    else:
        yield path, tree
