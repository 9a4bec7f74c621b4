"""What ends a run is an event with a name, a reason that says so, and results that are kept."""

from __future__ import annotations

import pytest
import torch
from programs import PROGRAMS, changed
from shared_tasks import task_of

import hybridsim
from hybridsim.algorithms import loop
from hybridsim.errors import InputError
from hybridsim.files import DiskFailed
from hybridsim.operations.backend import Live, _carried
from hybridsim.results.read import Run
from hybridsim.results.verify import verify
from hybridsim.results.write import RunWriter

ALLOCATOR = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 400000000000 bytes. Error code 12 (Cannot allocate memory)"
)
NAMED = {
    "not positive definite": (
        torch.linalg.LinAlgError("linalg.cholesky: the leading minor of order 3"),
        r"step \d+: \w+: a matrix is singular or not positive definite: \w*LinAlgError: linalg",
    ),
    "host out of memory": (MemoryError(), r"step \d+: \w+: this computer has no memory left: Mem"),
    "failure": (ZeroDivisionError("division by zero"), r"step \d+: \w+: ZeroDivisionError: div"),
}


def failed(folder) -> Run:
    run = Run.open(folder)
    assert run.status == run.summary["status"] == "failed"
    assert not any(verdict.wrong for verdict in verify(folder))
    return run


@pytest.mark.parametrize("name", [*NAMED, "allocator"])
def test_an_error_of_a_computation_has_a_name(name, monkeypatch, tmp_path):
    kind = "host out of memory" if name == "allocator" else name
    error, words = NAMED[kind]
    error = ALLOCATOR if name == "allocator" else error
    updates, computed = iter(range(3)), Live.computed

    def breaks(backend, computation, values, exact):
        if computation.function.__name__ == "update" and next(updates, None) is None:
            with _carried(computation):
                raise error
        return computed(backend, computation, values, exact)

    monkeypatch.setattr(Live, "computed", breaks)
    scenario = hybridsim.load(PROGRAMS["adam"])
    with pytest.raises(hybridsim.RunFailed, match=words.removesuffix("Mem")):
        hybridsim.run(scenario, tmp_path / "run", task=task_of(scenario))
    run = failed(tmp_path / "run")
    assert len(run.steps) == 3
    (event,) = run.events.itertuples()
    assert (event.kind, event.step, event.note) == (kind, 4, run.manifest["reason"])


def test_a_matrix_that_is_not_positive_definite_ends_a_run_by_name(monkeypatch, tmp_path):
    """Damping below zero is refused; a Fisher matrix that rounding bends is not foreseen."""
    scenario = hybridsim.load(PROGRAMS["ngd-cholesky"])
    cholesky = torch.linalg.cholesky

    def bent(matrix):
        return cholesky(matrix - 1e6 * torch.eye(len(matrix), device=matrix.device))

    monkeypatch.setattr(torch.linalg, "cholesky", bent)
    with pytest.raises(InputError, match="damping: expected enough damping"):
        hybridsim.run(scenario, tmp_path / "run", task=task_of(scenario))
    assert failed(tmp_path / "run").events["kind"].tolist() == ["not positive definite"]


def test_a_loss_that_is_no_number_has_one_event(tmp_path):
    scenario = hybridsim.load(
        changed(PROGRAMS["adam"], "training.algorithm", {"kind": "sgd", "learning_rate": 1e30})
    )
    with pytest.raises(hybridsim.HybridsimError, match="the training loss is"):
        hybridsim.run(scenario, tmp_path / "run", task=task_of(scenario))
    assert failed(tmp_path / "run").events["kind"].tolist() == ["non-finite"]


def test_a_disk_that_fails_once_is_the_reason_and_an_event(monkeypatch, tmp_path):
    """What could not be written is written after it, and once."""
    write, calls = RunWriter.write, []

    def once(writer, rows):
        calls.append(rows)
        if len(calls) == 1:
            raise DiskFailed("spans: could not be written: Input/output error")
        write(writer, rows)

    monkeypatch.setattr(RunWriter, "write", once)
    scenario = hybridsim.load(PROGRAMS["adam"])

    def flush(line) -> None:
        if line["step"] == 2:
            trace.flush()

    trained = loop.train
    monkeypatch.setattr("hybridsim.execute.train", lambda a: (seen(a), trained(a))[1])

    def seen(algorithm) -> None:
        nonlocal trace
        trace = algorithm.session.trace

    trace = None
    with pytest.raises(DiskFailed):
        hybridsim.run(scenario, tmp_path / "run", progress=flush, task=task_of(scenario))
    run = failed(tmp_path / "run")
    assert run.manifest["reason"] == "spans: could not be written: Input/output error"
    assert run.events["kind"].tolist() == ["disk failed"] and len(run.steps) == 2
    assert run.spans["id"].is_unique


@pytest.mark.parametrize("error", [SystemExit(0), MemoryError(), KeyError("x")])
def test_whatever_a_callers_progress_raises_the_folder_says_that_it_failed(error, tmp_path):
    def shown(line) -> None:
        if line["step"] == 3:
            raise error

    scenario = hybridsim.load(PROGRAMS["adam"])
    with pytest.raises((hybridsim.RunFailed, KeyError)):
        hybridsim.run(scenario, tmp_path / "run", progress=shown, task=task_of(scenario))
    run = failed(tmp_path / "run")
    assert type(error).__name__ in run.manifest["reason"] and len(run.steps) == 3


def test_a_host_that_runs_out_of_memory_while_it_finishes_says_so(monkeypatch, tmp_path):
    def summarise(*_):
        raise MemoryError

    monkeypatch.setattr("hybridsim.results.write.summarise", summarise)
    scenario = hybridsim.load(PROGRAMS["adam"])
    with pytest.raises(hybridsim.RunFailed, match="could not be completed: MemoryError"):
        hybridsim.run(scenario, tmp_path / "run", task=task_of(scenario))
    assert "MemoryError" in failed_before_its_summary(tmp_path / "run").manifest["reason"]


def failed_before_its_summary(folder) -> Run:
    run = Run.open(folder)
    assert run.status == "failed" and len(run.steps) == 4
    return run
