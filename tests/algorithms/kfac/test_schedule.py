"""The K-FAC program in time: placement, overlap, what is sent and what is not."""

from __future__ import annotations

import pytest
from harness import IDEAL, document, execute
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.algorithms.kfac.jobs import Job, Prediction, tile_jobs
from hybridsim.algorithms.kfac.placement import makespan_ps, place
from hybridsim.algorithms.kfac.prediction import Predictor
from hybridsim.errors import CapacityError

KFAC = {
    "kind": "kfac",
    "learning_rate": 0.05,
    "damping": 0.1,
    "settle": "2 tau",
    "update": {"kind": "nesterov", "momentum": 0.0},
}
SPUS = {**IDEAL, "count": 4}


def schedule(algorithm=None, live=False, **changes):
    changes = {"steps": 1, "machine": {"spus": SPUS}} | changes
    return execute(document({**KFAC, **(algorithm or {})}, **changes), live)


def spans(sink, start, **wanted):
    return [
        s
        for s in sink.spans
        if s["kind"].startswith(start) and all(s[k] == v for k, v in wanted.items())
    ]


def bits(sink, start):
    return sum(s["bits"] for s in spans(sink, start))


def test_columns_are_one_span_with_a_count():
    _, sink = schedule({"placement": "layers"})
    counts = {(s["layer"], s["kind"]): s["count"] for s in spans(sink, "settle")}
    assert counts == {
        ("0", "settle g"): 65,
        ("0", "settle a"): 5,
        ("2", "settle g"): 6,
        ("2", "settle a"): 10,
    }
    for span in spans(sink, "settle"):
        assert span["end_ps"] - span["start_ps"] == span["count"] * 2_000_000


@pytest.mark.parametrize("rule", ["auto", "layers", "columns"])
def test_factors_are_spread_over_the_spus(rule):
    made, sink = schedule({"placement": rule})
    assert {s["part"] for s in spans(sink, "settle")} == {f"spu{i}" for i in range(4)}
    rows = made.notes["placement"]
    found = {(r["layer"], r["factor"], r["part"], r["columns"]) for r in rows}
    names = {"g": "G", "a": "A"}
    assert found == {
        (s["layer"], names[s["kind"][-1]], s["part"], s["count"]) for s in spans(sink, "settle")
    }


def test_columns_over_several_spus_each_get_the_factor():
    _, one = schedule({"placement": "layers"})
    _, spread = schedule({"placement": "columns"})
    assert bits(spread, "upload factor") == 4 * bits(one, "upload factor")
    assert bits(spread, "upload columns") == bits(one, "upload columns")
    for kind in ("settle g", "settle a"):
        counts = [[s["count"] for s in spans(sink, kind, layer="0")] for sink in (one, spread)]
        assert sum(counts[0]) == sum(counts[1]) and len(counts[1]) == 4
        assert max(counts[1]) - min(counts[1]) <= 1


def test_prediction_is_what_an_undisturbed_run_takes():
    """One SPU for each factor, a private link: device and link times as predicted, to a picosecond
    for each span."""
    machine = {"link": {"part": "paper-50gbps", "sharing": "private"}, "spus": {**SPUS, "count": 4}}
    made, sink = schedule({"placement": "layers"}, machine=machine)
    for row in made.notes["placement"]:
        own = [
            s
            for s in sink.spans
            if s["layer"] == row["layer"] and s["kind"].endswith(" " + row["factor"].lower())
        ]
        device = sum(s["end_ps"] - s["start_ps"] for s in own if s["part"] == row["part"])
        link = sum(s["end_ps"] - s["start_ps"] for s in own if s["part"].startswith("gpu0-"))
        assert abs(device - row["device_s"] * 1e12) <= 5
        assert abs(link - row["link_s"] * 1e12) <= 5


def test_auto_cuts_what_would_keep_the_others_waiting():
    """On many SPUs no stretch takes longer than an equal share of the work, but for the factor's
    own upload."""
    spus = {**SPUS, "count": 16}
    made, _ = schedule({"settle": "50 tau"}, machine={"spus": spus})
    rows = made.notes["placement"]
    columns = {(r["layer"], r["factor"]): [] for r in rows}
    for row in rows:
        columns[row["layer"], row["factor"]] += range(row["first"], row["first"] + row["columns"])
    assert {k: sorted(v) for k, v in columns.items()} == {
        ("0", "G"): list(range(65)), ("0", "A"): list(range(5)), ("2", "G"): list(range(6)), ("2",
            "A"): list(range(10)),
    }  # fmt: skip
    whole = sum(len(v) for v in columns.values())
    busy = [sum(r["columns"] for r in rows if r["part"] == f"spu{k}") for k in range(16)]
    assert max(busy) <= 2 * whole / 16


def nodes(parts):
    """A GPU with SPUs of their own kinds, each on its own link."""
    found = {"gpu0": {"kind": "gpu", "part": "a100-sxm4-80gb"}}
    spu = {"kind": "spu", "part": "rc-1us", "imperfections": "ideal"}
    found |= {f"spu{k}": spu | part for k, part in enumerate(parts)}
    edges = [
        {"between": ["gpu0", name], "link": "paper-50gbps"} for name in found if name != "gpu0"
    ]
    return {"gpu": None, "link": None, "spus": None, "nodes": found, "edges": edges}


def test_spus_of_different_sizes_and_speeds():
    """Large factors go where they fit; a ten times faster SPU gets more of the columns."""
    slow, fast = {"cells": 200}, {"cells": 200, "capacitance": "100 pF"}
    _, sink = schedule({"placement": "columns", "settle": "50 tau"}, machine=nodes([slow, fast]))
    counts = {s["part"]: s["count"] for s in spans(sink, "settle g", layer="0")}
    assert counts["spu1"] > 8 * counts["spu0"]
    made, sink = schedule({"placement": "auto"}, machine=nodes([{"cells": 12}, {"cells": 100}]))
    assert {r["part"] for r in made.notes["placement"] if r["order"] > 12} == {"spu1"}


def test_a_factor_larger_than_every_spu_is_refused_by_name():
    with pytest.raises(CapacityError, match="factor A of layer '0'.*65.*20.*tiling"):
        schedule(machine={"spus": {**SPUS, "cells": 20}})
    with pytest.raises(CapacityError, match="factor A of layer '0'.*resistors"):
        schedule(machine={"spus": {**SPUS, "resistors": 4000}})


def test_tiles_are_all_sent_and_settled():
    made, sink = schedule({"tiling": True}, machine={"spus": {**SPUS, "cells": 20}})
    row = next(r for r in made.notes["placement"] if (r["layer"], r["factor"]) == ("0", "A"))
    assert (row["order"], row["tiles"]) == (65, 4)
    solves = tile_jobs(Job("0", "a", 65, 5), [16, 16, 17, 16])
    found = spans(sink, "settle a", layer="0")
    assert sorted(s["count"] for s in found) == sorted(job.columns for job in solves)
    assert len(spans(sink, "Schur complement", layer="0")) == 3


@pytest.mark.parametrize("buffering", ["single", "double"])
def test_one_upload_travels_while_another_factor_settles(buffering):
    spus = {**SPUS, "count": 1, "buffering": buffering}
    _, sink = schedule({"settle": "50 tau"}, machine={"spus": spus}, steps=3)
    uploads, settles = spans(sink, "upload factor"), spans(sink, "settle")
    both = any(
        u["start_ps"] < s["end_ps"] and s["start_ps"] < u["end_ps"]
        for u in uploads
        for s in settles
    )
    assert both == (buffering == "double")


def test_pipelining_sends_a_layer_before_the_backward_pass_has_ended():
    for pipelining in (False, True):
        _, sink = schedule({"pipelining": pipelining})
        last = max(s["end_ps"] for s in spans(sink, "gather gradient" if pipelining else "factors"))
        first = min(s["start_ps"] for s in spans(sink, "upload factor"))
        assert (first < last) == pipelining


def test_what_still_stands_in_the_array_is_not_sent_again():
    """Two sets of resistors on each of two SPUs hold all four factors between two renewals."""
    spus = {**SPUS, "count": 2, "buffering": "double"}
    algorithm = {"inverses_every": 3, "factors_every": 3, "placement": "layers"}
    _, sink = schedule(algorithm, machine={"spus": spus}, steps=6)
    assert {s["step"] for s in spans(sink, "upload factor")} == {1, 4}
    assert {s["step"] for s in spans(sink, "settle")} == set(range(1, 7))
    _, single = schedule(algorithm, machine={"spus": {**spus, "buffering": "single"}}, steps=6)
    assert {s["step"] for s in spans(single, "upload factor")} == set(range(1, 7))


def test_stale_hides_the_upload_behind_the_backward_pass():
    """The link is long enough for the GPU to wait for what comes back."""
    link = {"part": "paper-50gbps", "latency": "100 us"}
    machine = {"spus": {**SPUS, "buffering": "double"}, "link": link}
    ends = {}
    for stale in (False, True):
        _, sink = schedule({"stale": stale}, machine=machine, steps=6)
        ends[stale] = sink.steps[-1]["end_ps"]
        early = [
            u for u in spans(sink, "upload factor g", step=4)
            if u["start_ps"] < min(s["end_ps"] for s in spans(sink, "forward", step=4))
        ]  # fmt: skip
        assert bool(early) == stale
    assert ends[True] < ends[False]


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_where_columns_are_solved_changes_no_number(noise):
    found = []
    for rule, count, buffering in (
        ("auto", 1, "single"),
        ("columns", 3, "double"),
        ("layers", 4, "single"),
    ):
        spus = {
            "count": count,
            "part": "rc-1us",
            "buffering": buffering,
            "input_bits": 7,
            "output_bits": 9,
            "imperfections": "ideal",  # others are other devices
        }
        made, _ = schedule(
            {"placement": rule, "noise": noise}, live=True, machine={"spus": spus}, steps=2
        )
        found.append(made.theta.value)
    # columns solved in one matrix product or in three differ by its rounding, which a converter may
    # enlarge
    assert (found[0] - found[2]).abs().max() == 0
    assert (found[0] - found[1]).norm() <= 1e-6 * found[0].norm()


class _Machine:
    """SPUs that differ in speed and size alone."""

    def __init__(self, name, speed, order):
        self.name, self.speed, self.order = name, speed, order

    def largest_order(self):
        return self.order

    def lacking(self, load):
        return [("cells", load.cells, self.order)] if load.cells > self.order else []


class _Costs:
    """Time in proportion to order and columns; an upload on a wire that may be shared."""

    def __init__(self, unit, upload=0, shared=False):
        self.unit, self.upload, self.shared = unit, upload, shared

    def __call__(self, job, spu):
        return Prediction(
            self.unit * job.size * job.columns // spu.speed, self.upload * job.size**2
        )

    def kind(self, spu):
        return spu.speed, spu.order

    def wires(self, spu):
        return ("bus",) if self.shared else (spu.name,)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=6),
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.integers(0, 3_000),
    st.booleans(),
)
def test_auto_is_predicted_to_end_no_later_than_its_rivals(sizes, speeds, upload, shared):
    """Neither than all factors whole on the fastest SPU, nor than all columns over all SPUs."""
    spus = [_Machine(f"spu{k}", speed, 60) for k, speed in enumerate(speeds)]
    jobs = [Job(f"l{k}", "a", size, columns) for k, (size, columns) in enumerate(sizes)]
    costs = _Costs(1_000, upload, shared)
    ends = {}
    for rule in ("auto", "columns", "layers"):
        placed = place(
            jobs,
            spus if rule != "layers" else [max(spus, key=lambda s: s.speed)],
            rule,
            costs,
            tiling=False,
        )
        assert all(sum(p.columns for p in placed[j.block, "a"]) == j.columns for j in jobs)
        ends[rule] = makespan_ps(placed, costs)
    assert ends["auto"] <= min(ends.values())


def test_more_spus_on_one_bus_do_not_make_auto_slower():
    """What is sent to several SPUs is sent several times over the same wire: then fewer are
    used."""
    algorithm = {"settle": "1 tau", "fisher": "empirical"}
    workload = {"source": "digits_mlp", "options": {"hidden": 256, "depth": 2}}
    ends = []
    for count in (1, 2, 8, 32):
        spus = {**SPUS, "part": "rc-10ns", "count": count, "buffering": "double"}
        _, sink = schedule(algorithm, machine={"spus": spus}, workload=workload, steps=2)
        ends.append(sink.steps[-1]["end_ps"])
    assert max(ends[1:]) <= 1.02 * ends[0]


def test_gpus_get_what_their_own_spus_can_hold():
    """The only SPU that holds the large factors hangs on the second GPU."""
    found = {
        "gpu0": {"kind": "gpu", "part": "a100-sxm4-80gb"},
        "gpu1": {"kind": "gpu", "part": "a100-sxm4-80gb"},
    }
    found |= {"small": {"kind": "spu", "cells": 20}, "big": {"kind": "spu", "cells": 500}}
    edges = [
        ["gpu0", "gpu1", "nvlink3"],
        ["gpu0", "small", "paper-50gbps"],
        ["gpu1", "big", "paper-50gbps"],
    ]
    machine = {"gpu": None, "link": None, "spus": None, "nodes": found}
    machine["edges"] = [{"between": [a, b], "link": link} for a, b, link in edges]
    for tiling in (False, True):
        made, sink = schedule({"tiling": tiling}, machine=machine, live=True, steps=2)
        rows = made.notes["placement"]
        assert {r["part"] for r in rows if r["order"] > 20} == {"big"} and all(
            r["tiles"] == 1 for r in rows
        )


def test_stretches_in_tiles_have_noise_of_their_own(monkeypatch):
    """Every solved column draws its own noise, wherever its stretch and its tile stand."""
    seeds = []

    def recording(system, state, drive, *, tau, kappa0, noise_seeds):
        seeds.extend(noise_seeds)
        return drive

    monkeypatch.setattr("hybridsim.circuits.modal.Diagonalised.relax", recording)
    spus = {**SPUS, "count": 3, "cells": 23}
    schedule(
        {"tiling": True, "placement": "columns", "noise": 1e-3}, live=True, machine={"spus": spus}
    )
    assert len(seeds) == len(set(seeds)) > 150


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=12),
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
)
def test_longest_first_is_within_twice_the_lower_bound(sizes, speeds):
    """Every column is placed once; on machines of different speeds the list schedule ends within 2x
    (Gonzalez 1977)."""
    spus = [_Machine(f"spu{k}", speed, 60) for k, speed in enumerate(speeds)]
    jobs = [Job(f"l{k}", "a", size, 1) for k, size in enumerate(sizes)]

    placed = place(jobs, spus, "auto", _Costs(10_000), tiling=False)
    assert all(sum(p.columns for p in placed[j.block, "a"]) == j.columns for j in jobs)
    busy = {spu.name: 0 for spu in spus}
    for pieces in placed.values():
        for piece in pieces:
            busy[piece.spu.name] += piece.predicted.total_ps
    bound = max(10_000 * sum(sizes) / sum(speeds), 10_000 * max(sizes) / max(speeds))
    assert max(busy.values()) <= 2 * bound + 1


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 300),
    st.integers(1, 400),
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.integers(1, 80),
)
def test_stretches_of_columns_cover_all_without_overlap(size, columns, speeds, order):
    spus = [_Machine(f"spu{k}", speed, order) for k, speed in enumerate(speeds)]
    job = Job("l", "g", size, columns)

    pieces = place([job], spus, "columns", _Costs(1_000), tiling=True)["l", "g"]
    assert [c for p in pieces for c in range(p.first, p.first + p.columns)] == list(range(columns))
    assert all(sum(p.tiles) == size and max(p.tiles) <= order for p in pieces)


def test_equal_spus_of_a_graph_are_one_kind():
    """Kinds are compared by value: only the slower one is another."""
    nodes = {"gpu": {"kind": "gpu", "part": "a100-sxm4-80gb"}}
    for number in range(8):
        nodes[f"s{number}"] = {"kind": "spu", "part": "rc-1us"}
    nodes["slow"] = {"kind": "spu", "part": "rc-1us", "capacitance": "2 nF"}
    edges = [{"between": ["gpu", name], "link": "paper-50gbps"} for name in nodes if name != "gpu"]
    machine = {"gpu": None, "link": None, "spus": None, "nodes": nodes, "edges": edges}
    made, _ = schedule(machine=machine)
    costs = Predictor(made.machine, made.settings, made.machine.gpu)
    kinds = {spu.name: costs.kind(spu) for spu in made.machine.spus}
    assert len({kind for name, kind in kinds.items() if name != "slow"}) == 1
    assert kinds["slow"] not in {kind for name, kind in kinds.items() if name != "slow"}
