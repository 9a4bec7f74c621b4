"""A transformer of 10 billion parameters, timed on the computer at hand: peak memory and CPU time
of whole processes. Nothing here asserts a timing. Run by `make bench`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.benchmark
SCENARIO = """
name: A transformer of 10 billion parameters
workload:
  source: gpt
  options: {{vocabulary: 50000, width: 5120, sequence: 512, depth: 31, heads: 40, train_size: 64,
             test_size: 8}}
training: {{batch_size: 16, steps: 3, evaluate_every: 3, algorithm: {algorithm}}}
machine: {{constants: realistic, gpu: {{part: a100-sxm4-80gb, memory_capacity: {memory}}}}}
"""
ADAM = "{kind: adam, learning_rate: 0.0001}"
KFAC = "{kind: kfac, method: digital, learning_rate: 0.01, damping: 0.5, fisher: mc, update: adam}"


@pytest.mark.parametrize("algorithm", [ADAM, KFAC], ids=["adam", "kfac"])
@pytest.mark.parametrize("memory", ["80 GB", "2 TB"])
@pytest.mark.parametrize("command", ["check", "run"])
def test_ten_billion_parameters(command, memory, algorithm, tmp_path):
    scenario = tmp_path / "large.yaml"
    scenario.write_text(SCENARIO.format(algorithm=algorithm, memory=memory))
    arguments = [sys.executable, "-m", "hybridsim", command, str(scenario)]
    if command == "run":
        arguments += ["--backend", "timing", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path
    )
    assert process.stdout is not None
    said = process.stdout.read().strip().splitlines()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    print(
        f"\n{command}: exit code {process.returncode}, {used.ru_utime + used.ru_stime:.1f} s of "
        f"CPU, peak {used.ru_maxrss / 2**20:.2f} GiB: {said[-1]}"
    )
    assert process.returncode == (2 if memory == "80 GB" else 0), said
