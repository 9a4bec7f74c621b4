"""Ratios measured side by side in one run; nothing here asserts a timing. Run by `make bench`."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import simpy
import torch

import hybridsim
from hybridsim.algorithms import optimizers
from hybridsim.algorithms.natural_gradient.exact import fidelity
from hybridsim.algorithms.natural_gradient.linearization import linearize
from hybridsim.algorithms.tngd import device as analog
from hybridsim.simulate import load_task
from hybridsim.tasks.task import batch, batch_indices, evaluate, load_workload

pytestmark = pytest.mark.benchmark
STEPS = 4_000


def holds_per_second(holds: int, contended: bool) -> float:
    """Raw SimPy: one process that holds a resource (contended: request, timeout, release) or only
    lets time pass."""
    env = simpy.Environment()
    server = simpy.Resource(env)

    def timeouts() -> simpy.events.ProcessGenerator:
        for _ in range(holds):
            yield env.timeout(5)

    def requests() -> simpy.events.ProcessGenerator:
        for _ in range(holds):
            with server.request() as turn:
                yield turn
                yield env.timeout(5)

    env.process(requests() if contended else timeouts())
    started = time.perf_counter()
    env.run()
    return holds / (time.perf_counter() - started)


def timing_only(steps: int, out: Path) -> tuple[int, float]:
    scenario = hybridsim.load("tngd-digits", [f"training.steps={steps}"])
    hybridsim.run(scenario, out / "warm", backend="timing", force=True)
    run = hybridsim.run(scenario, out / "run", backend="timing", force=True)
    return run.summary["spans"], run.summary["host"]["wall_s"]


def test_spans_per_second_beside_raw_simpy(tmp_path):
    for repeat in range(3):
        spans, seconds = timing_only(STEPS, tmp_path)
        rate = spans / seconds
        bare, held = holds_per_second(300_000, False), holds_per_second(300_000, True)
        print(
            f"\n[{repeat}] {spans} spans to parquet: {rate:,.0f} spans/s; raw SimPy {held:,.0f} "
            "resource holds/s "
            f"(ratio {rate / held:.2f}), {bare:,.0f} bare timeouts/s (ratio {rate / bare:.3f})"
        )


@pytest.mark.parametrize("name", ["kfac-digits", "tngd-digits"])
def test_a_replay_beside_raw_simpy_and_the_live_run(name, tmp_path):
    """With the task loaded and the process warm, as a study replays one point after the other."""
    scenario = hybridsim.load(name)
    task, facts = load_task(scenario), tmp_path / "facts.sqlite"

    def seconds(backend: str) -> tuple[float, int]:
        started = time.perf_counter()
        run = hybridsim.run(scenario, backend=backend, facts=facts, task=task)
        assert run.summary["host"]["backend"] == backend
        return time.perf_counter() - started, run.summary["spans"]

    seconds("live")
    live_s, spans = seconds("live")
    seconds("replay")
    for repeat in range(5):
        replay_s, _ = seconds("replay")
        held = holds_per_second(100_000, True)
        print(
            f"\n[{name}, {repeat}] replay {replay_s:.3f} s, {spans / replay_s:,.0f} spans/s; raw "
            f"SimPy {held:,.0f} resource holds/s (ratio {spans / replay_s / held:.3f}); live "
            f"{live_s:.2f} s ({live_s / replay_s:.1f} times as long)"
        )


def test_host_time_outside_numerics(tmp_path):
    scenario = hybridsim.load("tngd-digits", ["training.steps=60"])
    algorithm = scenario.training.algorithm
    for repeat in range(3):
        started = time.perf_counter()
        run = hybridsim.run(scenario, tmp_path / "run", force=True)
        whole = time.perf_counter() - started
        host = run.summary["host"]
        bare = bare_loop(scenario, algorithm)
        print(
            f"\n[{repeat}] live: {host['wall_s']:.2f} s, outside numerics "
            f"{100 * (1 - host['numeric_s'] / host['wall_s']):.1f} % (with set-up, capacity "
            "check and files: "
            f"{100 * (1 - host['numeric_s'] / whole):.1f} %); bare torch loop {bare:.2f} s "
            f"(ratio {host['wall_s'] / bare:.3f})"
        )


def bare_loop(scenario, algorithm) -> float:
    """The same functions in the same order, without machine, clock, trace and files.

    With the run's number of threads: rounding and time depend on it.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(scenario.host.threads)
    try:
        return _bare_loop(scenario, algorithm)
    finally:
        torch.set_num_threads(before)


def _bare_loop(scenario, algorithm) -> float:
    task = load_workload(scenario.workload.source, dict(scenario.workload.options))
    theta = task.initial_parameters(scenario.seed)
    state = optimizers.start(algorithm.update, theta, task.layout)
    rule = optimizers.Rule(algorithm.update, algorithm.learning_rate, task.layout)
    node = next(n for n in scenario.machine.expand().nodes if n.kind == "spu")
    bits = {"input": node.input_bits, "bias": node.bias_bits, "output": node.output_bits}
    exact = bits["input"] is None and bits["bias"] is None
    started = time.perf_counter()
    for step in range(scenario.training.steps):
        size = scenario.training.batch_size
        data = batch(task.data, batch_indices(scenario.seed, len(task.data.train_x), size, step))
        lin = linearize(task, theta, data).value
        system = analog.upload(lin, damping=algorithm.damping, input_bits=bits["input"]).value
        drive = analog.drive(system, lin, bias_bits=bits["bias"], exact=exact).value
        state_x = analog.settle(
            system, drive, drive, tau=algorithm.settle_tau, kappa0=algorithm.noise, noise_seed=0
        ).value
        x = analog.read(system, state_x, output_bits=bits["output"]).value
        update = rule.at(step + 1)
        theta, state = update.function(theta, state, x, 1.0, **update.settings).value
        if (step + 1) % scenario.training.evaluate_every == 0:
            evaluate(task, theta)
            fidelity(lin, x, damping=algorithm.damping)
    return time.perf_counter() - started


def test_memory_from_1e5_to_1e6_spans(tmp_path):
    """Peak resident memory of two processes that record ten times as many spans."""
    program = (
        "import sys, resource, hybridsim\n"
        "s = hybridsim.load('tngd-digits', [f'training.steps={sys.argv[1]}', "
        "'training.evaluate_every=1000'])\n"
        "r = hybridsim.run(s, sys.argv[2], backend='timing', force=True)\n"
        "print(r.summary['spans'], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    peaks = []
    for steps in (7_150, 71_500):
        command = [sys.executable, "-c", program, str(steps), str(tmp_path / "run")]
        spans, peak_kib = subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout.split()
        peaks.append(int(peak_kib))
        print(f"\n{int(spans):,} spans: peak {int(peak_kib) / 1024:.0f} MiB")
    print(f"growth {100 * (peaks[1] / peaks[0] - 1):.1f} %")
