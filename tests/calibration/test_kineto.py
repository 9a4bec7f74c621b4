"""Traces: operators are counted as simulations count them, every microsecond is accounted for, and
damaged files are named.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections import Counter
from dataclasses import replace

import pytest
import torch
from command import call
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.profiler import ProfilerActivity, profile

import hybridsim
from hybridsim.calibration.aten import counted_call, kernels_of
from hybridsim.calibration.kineto import table_of, texts_of, write_table
from hybridsim.calibration.prediction import in_a_loop, on_device, seconds_of
from hybridsim.calibration.trace_file import read_trace
from hybridsim.errors import InputError
from hybridsim.operations.count import count

GPU = hybridsim.load_part("gpu", "a100-sxm4-80gb")


def exported(path, function, record_shapes=True):
    with profile(activities=[ProfilerActivity.CPU], record_shapes=record_shapes) as profiler:
        function()
    profiler.export_chrome_trace(str(path))
    return path


def network(hidden, dtype):
    layers = [
        nn.Conv2d(2, 3, 3, padding=1),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(3 * 36, hidden),
        nn.LayerNorm(hidden),
        nn.Tanh(),
        nn.Linear(hidden, 4),
    ]
    return nn.Sequential(*layers).to(dtype)


def slopes(net, x, y):
    with torch.enable_grad():
        loss = nn.functional.cross_entropy(net(x), y)
        return torch.autograd.grad(loss, list(net.parameters()))


def kernels(works):
    found: Counter = Counter()
    for kernel in (k for work in works for k in work):
        found[replace(kernel, count=1)] += kernel.count
    return found


def of_trace(path):
    trace = read_trace(path)
    counted = {id(one): one for one in map(counted_call, trace.operators) if one is not None}
    return kernels(kernels_of(one)[2] for one in counted.values())


@given(
    batch=st.integers(2, 9), hidden=st.integers(2, 9), dtype=st.sampled_from(["float32", "float64"])
)
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_training_step_is_counted_as_simulations_count_it(tmp_path_factory, batch, hidden, dtype):
    net = network(hidden, getattr(torch, dtype))
    x = torch.randn(batch, 2, 6, 6, dtype=getattr(torch, dtype))
    y = torch.randint(4, (batch,))
    path = exported(tmp_path_factory.mktemp("t") / "t.json", lambda: slopes(net, x, y))
    expected, _ = count(slopes, (net.to("meta"), x, y), {})
    got, wanted = of_trace(path), kernels([expected.kernels])
    # the slope of the loss with respect to itself is filled in by autograd's engine alone
    got.pop(next((k for k in got if k.name == "aten.ones_like"), None), None)
    wanted.pop(next((k for k in wanted if k.name == "aten.ones_like"), None), None)
    assert got == wanted


def various():
    a = torch.randn(6, 6)
    spd = a @ a.mT + torch.eye(6)
    torch.cholesky_inverse(torch.linalg.cholesky_ex(spd).L)
    torch.linalg.eigh(spd)
    torch.cat([a, a, spd], dim=1).double().sum(dim=0, keepdim=True)
    torch.bmm(a.expand(3, 6, 6), a.expand(3, 6, 6)).softmax(-1).amax()
    torch.nn.functional.embedding(torch.randint(6, (9,)), a)
    torch._foreach_add_([a, spd], 1.0)
    a.t()[1:3].contiguous().lerp_(a[:, :2].t(), 0.3)
    nn.functional.max_pool2d(torch.randn(1, 2, 8, 8), 2)
    return torch.where(a > 0, a, torch.zeros(())).std().item()


def several(a, spd, which):
    """Names with overloads of which some are composites: each is counted once."""
    torch.where(a > 0, a, 0.0)
    torch.where(a > 0, a, spd)
    torch.tril(a).tanh().clamp(0, 1).pow(2)
    a.std()
    a.var(dim=0)
    a.max(dim=1)
    a.max()
    a.norm()
    torch.matmul(a.expand(2, 6, 6), spd)
    nn.functional.mse_loss(a, spd)
    torch.linalg.solve_triangular(spd, a, upper=False)
    a.index_select(0, which)
    return torch.cat([a, spd]).logsumexp(0)


def test_whatever_is_dispatched_is_counted_once(tmp_path):
    arguments = torch.randn(6, 6), torch.eye(6), torch.tensor([3, 1])
    path = exported(tmp_path / "t.json", lambda: several(*arguments))
    assert of_trace(path) == kernels([count(several, arguments, {})[0].kernels])


def test_every_microsecond_of_a_trace_is_somewhere(tmp_path):
    table = table_of(exported(tmp_path / "t.json", various), GPU)
    mapped = sum(line.measured_s for line in table.lines)
    missed = sum(one.measured_s for one in table.missing)
    assert mapped + missed + table.host_s == pytest.approx(table.total_s)
    names = {line.operator for line in table.lines}
    assert names >= {"aten::mm", "aten::linalg_cholesky_ex", "aten::_linalg_eigh", "aten::cat"}
    assert names >= {"aten::bmm", "aten::_softmax", "aten::embedding", "aten::where"}
    assert {one.name.split()[0] for one in table.missing} <= {
        "aten::_local_scalar_dense",
        "aten::_linalg_check_errors",
        "aten::_foreach_add_",  # where nobody has stated what it costs
    }
    (line,) = [line for line in table.lines if line.operator == "aten::cat"]
    assert (line.shape, line.calls) == ("6x6+6x6+6x6", 1)
    assert [line.measured_s for line in table.lines] == sorted(
        (line.measured_s for line in table.lines), reverse=True
    )


def test_a_call_costs_its_work_and_a_launch_in_a_loop(tmp_path):
    a, b = torch.randn(7, 8), torch.randn(8, 9)
    path = exported(tmp_path / "t.json", lambda: [torch.mm(a, b) for _ in range(5)])
    work, _ = count(torch.mm, (a, b), {})
    (line,) = table_of(path, GPU).lines
    assert line[:4] == ("aten::mm", "7x8 8x9", "float32", 5)
    assert line.predicted_s == pytest.approx(5 * seconds_of(in_a_loop(GPU), work.kernels))


def test_without_shapes_nothing_is_mapped_and_it_says_why(tmp_path):
    table = table_of(exported(tmp_path / "t.json", various, record_shapes=False), GPU)
    assert not table.lines
    reasons = {one.reason for one in table.missing}
    assert reasons == {"its sizes are not in the trace: profile with record_shapes=True"}


def operator(name, number, start, length, dims=(), kinds=(), concrete=(), tid=1):
    arguments = {"External id": number, "Input Dims": [list(size) for size in dims]}
    arguments |= {"Input type": list(kinds), "Concrete Inputs": list(concrete)}
    event = {"ph": "X", "cat": "cpu_op", "name": name, "pid": 1, "tid": tid, "ts": start}
    return event | {"dur": length, "args": arguments}


def launch(correlation, start, tid=1, **arguments):
    found = {"correlation": correlation} | arguments
    event = {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": 1, "tid": tid}
    return event | {"ts": start, "dur": 2, "args": found}


def kernel(name, start, length, cat="kernel", **arguments):
    event = {"ph": "X", "cat": cat, "name": name, "pid": 0, "tid": 7, "ts": start}
    return event | {"dur": length, "args": arguments}


PRODUCT = (((4, 5), (5, 6)), ("float", "float"), ("", ""))
LINEAR = (((4, 5), (6, 5), (6,)), ("float",) * 3, ("",) * 3)
ADDMM = (((6,), (4, 5), (5, 6), (), ()), ("float",) * 3 + ("Scalar",) * 2, ("", "", "", "1", "1"))


def gpu_trace():
    """A linear layer of two kernels, products linked in three ways, and what nobody launched."""
    return [
        {"ph": "M", "name": "process_name", "pid": 0, "args": {"name": "GPU 0"}},
        operator("aten::linear", 1, 0, 100, *LINEAR),
        operator("aten::addmm", 2, 10, 80, *ADDMM),
        operator("aten::copy_", 3, 20, 10, ((4, 6), (4, 6), ()), ("float", "float", "Scalar")),
        launch(50, 22, **{"External id": 3}),
        launch(51, 60, **{"External id": 2}),
        kernel("elementwise_kernel", 200, 3, **{"External id": 3, "correlation": 50}),
        kernel("ampere_sgemm", 204, 7, **{"External id": 2, "correlation": 51}),
        operator("aten::mm", 4, 110, 20, *PRODUCT),
        launch(52, 115),
        kernel("ampere_sgemm", 220, 11, correlation=52),  # by its launch's place in time
        operator("aten::mm", 5, 140, 20, *PRODUCT),
        launch(53, 145, **{"External id": 5}),
        kernel("ampere_sgemm", 240, 13, correlation=53),  # by its launch's operator
        operator("aten::mm", 6, 110, 20, *PRODUCT, tid=2),  # of another thread, with no kernel
        operator("mine::fused", 7, 170, 20, ((4, 5),), ("float",), ("",)),
        kernel("fused_kernel", 260, 17, **{"External id": 7}),
        kernel("graph_kernel", 280, 19, correlation=99),
        kernel("Memcpy HtoD", 300, 23, cat="gpu_memcpy"),
        operator("aten::t", 8, 195, 3, ((5, 6),), ("float",), ("",)),
    ]


def written(path, events):
    text = json.dumps({"schemaVersion": 1, "traceEvents": events})
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["t.json", "t.json.gz"])
@pytest.mark.parametrize("seed", range(4))
def test_kernels_belong_to_the_operator_that_launched_them(tmp_path, name, seed):
    events = gpu_trace()
    random.Random(seed).shuffle(events)
    table = table_of(written(tmp_path / name, events), GPU)
    product = count(torch.mm, (torch.empty(4, 5), torch.empty(5, 6)), {})[0].kernels
    addmm = count(torch.addmm, tuple(map(torch.empty, ((6,), (4, 5), (5, 6)))), {})[0].kernels
    assert {
        line[:4]: (round(1e6 * line.measured_s, 6), line.predicted_s) for line in table.lines
    } == {
        ("aten::addmm", "6 4x5 5x6", "float32", 1): (10, seconds_of(on_device(GPU), addmm)),
        ("aten::mm", "4x5 5x6", "float32", 2): (24, 2 * seconds_of(on_device(GPU), product)),
    }
    assert {(one.name, round(1e6 * one.measured_s, 6)) for one in table.missing} == {
        ("mine::fused: fused_kernel", 17),
        ("graph_kernel", 19),
        ("Memcpy HtoD", 23),
    }
    assert 1e6 * table.total_s == pytest.approx(93)


def test_the_command_prints_the_table_and_writes_it(tmp_path, monkeypatch, capsys):
    trace, out = written(tmp_path / "t.json", gpu_trace()), tmp_path / "table.csv"
    words = ("kineto", trace, "--part", "a100-sxm4-80gb", "--out", out)
    code, text, err = call(monkeypatch, capsys, *words)
    assert (code, err) == (0, "")
    assert text.splitlines() == [*texts_of(table_of(trace, GPU)), str(out)]
    assert "mapped: measured 34.0 us (36.6% of all kernels)" in text
    assert "  graph_kernel: 1 calls, 19.0 us (launched in no operator)" in text
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert sum(float(row["measured_us"]) for row in rows) == pytest.approx(93)
    assert [row["not_mapped"] == "" for row in rows] == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a trace that torch.profiler exported (JSON)"),
        (b'{"traceEvents": [', "a trace that torch.profiler exported (JSON)"),
        (b"\x1f\x8b\x08nothing", "a trace that torch.profiler exported (JSON)"),
        (b"[" * 100_000, "a trace that torch.profiler exported (JSON)"),
        (b"{}", "traceEvents: expected a list of events, got nothing"),
        (b'{"traceEvents": [3]}', "traceEvents[0]: expected an event, got 3"),
        (b'{"traceEvents": []}', "expected operators (events of category cpu_op), got none"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path, monkeypatch, capsys, content, message):
    path = tmp_path / "t.json"
    path.write_bytes(content)
    code, _, err = call(monkeypatch, capsys, "kineto", path, "--part", "a100-sxm4-80gb")
    assert code == 2 and message in err and str(path) in err and err.count("\n") == 1


JUNK = st.sampled_from([None, -1, 0, True, "x", [], {}, [[]], [-3], 1e400, float("nan"), 2**70, ""])


@given(data=st.data())
@settings(max_examples=120)
def test_a_damaged_trace_is_named_or_read(tmp_path_factory, data):
    """No field of any event can be replaced so that anything else comes out."""
    events = gpu_trace()
    for _ in range(data.draw(st.integers(1, 3))):
        event = data.draw(st.sampled_from(events))
        where = data.draw(st.sampled_from([event, event["args"]] if event["args"] else [event]))
        key = data.draw(st.sampled_from(sorted(where)))
        if isinstance(where[key], list) and where[key] and data.draw(st.booleans()):
            where[key][data.draw(st.integers(0, len(where[key]) - 1))] = data.draw(JUNK)
        else:
            where[key] = data.draw(JUNK)
        if not all(isinstance(one.get("args"), dict) for one in events):
            break
    path = written(tmp_path_factory.getbasetemp() / "damaged.json", events)
    try:
        table = table_of(path, GPU)
    except InputError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
    else:
        parts = [*table.lines, *table.missing]
        assert sum(one.measured_s for one in parts) + table.host_s == pytest.approx(table.total_s)
        write_table(table, path.with_suffix(".csv"))
        assert all(texts_of(table))
