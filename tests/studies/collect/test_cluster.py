"""A cluster whose scheduler and workers somebody has started finds what one process finds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from small_studies import adam, assert_same_points, computed, document, evaluated, wait_for

import hybridsim
from hybridsim.errors import InputError
from hybridsim.studies.collect.cluster import Cluster, on_worker


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Address of a scheduler, and what starts a worker: processes of their own."""
    folder, running = tmp_path_factory.mktemp("dask"), []

    def start(program: str, *words: object) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.{program}", *map(str, words)]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        log = (folder / f"{len(running)}.log").open("w")
        running.append(subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=folder))
        return running[-1]

    address = folder / "scheduler.json"
    start("dask_scheduler", "--host", "127.0.0.1", "--port", 0, "--no-dashboard",
          "--scheduler-file", address)  # fmt: skip
    wait_for(address.exists)

    def worker() -> subprocess.Popen:
        return start("dask_worker", "--scheduler-file", address, "--nworkers", 1, "--nthreads", 1,
                     "--no-dashboard", "--no-nanny", "--local-directory", folder)  # fmt: skip

    from distributed import Client

    with Client(scheduler_file=str(address)) as client:
        yield client, worker
    for process in reversed(running):
        process.kill()
        process.wait()


def test_a_worker_that_is_lost_has_its_points_run_by_another(study, expected, cluster, tmp_path):
    client, worker = cluster
    workers = [worker(), worker()]
    client.wait_for_workers(2, timeout=60)
    address = client.scheduler.address
    pool, lost = Cluster(address, None), []

    def lose_one(progress, _):
        if progress.done >= 2 and not lost:
            lost.append(workers[0])
            workers[0].send_signal(signal.SIGKILL)

    out = tmp_path / "study"
    found = evaluated(study, out, place=lambda facts: pool, watch=lose_one)
    assert lost
    assert_same_points(found, expected)
    assert set(computed(out).values()) == {1}
    assert not [*(out / "facts").iterdir()]  # they stay where the workers are
    again = hybridsim.study(document({"adam": adam(tmp_path)}), client=client)
    assert (again.points["status"] == "ok").all() and again.report.is_file()
    assert client.status == "running"  # a client that was given stays open
    assert not any(client.run(lambda: "plotly" in sys.modules).values())  # workers do not draw


def test_other_sources_on_a_worker_are_refused():
    with pytest.raises(InputError, match="same sources of hybridsim"):
        on_worker(None, "another", None)


def test_nobody_at_an_address_is_said(monkeypatch):
    monkeypatch.setattr("hybridsim.studies.collect.cluster._CONNECT_S", 0.2)
    with pytest.raises(InputError, match="--scheduler: expected a scheduler's address, got 'tcp:"):
        Cluster("tcp://127.0.0.1:1", None)
    with pytest.raises(InputError, match="--scheduler: expected"):
        Cluster("no address", None)
