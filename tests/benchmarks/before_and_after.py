"""The engine of two checkouts side by side: ``python tests/benchmarks/before_and_after.py OTHER``.

In turns, each time in a process of its own with one thread, by process CPU time: the timing-only
transformer of 12 layers (steps a second, run folder included), and spans to parquet beside raw
SimPy's resource holds of the same process (``test_engine``).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).resolve().parents[2]
ROUNDS = 3
RUNS = {"kfac-gpt": [], "tngd-digits": ["training.steps=1000"]}
HOLDS = 100_000


def measured(name: str) -> dict[str, float]:
    """CPU seconds of one warm run in this process, and the raw holds that go with it."""
    import simpy

    import hybridsim
    from hybridsim import attempt
    from hybridsim.simulate import load_task

    attempt.time = SimpleNamespace(perf_counter=time.process_time)  # wall_s in CPU time
    scenario = hybridsim.load(name, RUNS[name])
    task = load_task(scenario)
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            started = time.process_time()
            run = hybridsim.run(scenario, folder, backend="timing", force=True, task=task)
            whole_s = time.process_time() - started
            summary = run.summary
    env = simpy.Environment()
    server = simpy.Resource(env)

    def requests():
        for _ in range(HOLDS):
            with server.request() as turn:
                yield turn
                yield env.timeout(5)

    env.process(requests())
    started = time.process_time()
    env.run()
    held = HOLDS / (time.process_time() - started)
    engine_s = summary["host"]["wall_s"]
    return {
        "steps_per_s": summary["steps"] / whole_s,
        "spans_per_hold": summary["spans"] / engine_s / held,
    }


def main(other: Path) -> None:
    """Both checkouts in turns; the median of each, and of their ratio."""
    for name in RUNS:
        found: dict[Path, list[dict[str, float]]] = {other: [], HERE: []}
        for _ in range(ROUNDS):
            for checkout, rows in found.items():
                command = [sys.executable, __file__, "--one", name]
                env = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
                done = subprocess.run(
                    command, env=env, cwd=checkout, check=True, capture_output=True, text=True
                )
                rows.append(json.loads(done.stdout.splitlines()[-1]))
        for what in found[HERE][0]:
            before, after = ([row[what] for row in found[where]] for where in (other, HERE))
            ratios = sorted(b / a for a, b in zip(before, after, strict=True))
            print(
                f"{name} {what}: before {statistics.median(before):.3g}, now "
                f"{statistics.median(after):.3g}, ratio {statistics.median(ratios):.2f} "
                f"({ratios[0]:.2f} - {ratios[-1]:.2f})",
                flush=True,
            )


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        print(json.dumps(measured(sys.argv[2])))
    else:
        main(Path(sys.argv[1]).resolve())
