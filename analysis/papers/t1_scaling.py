"""T1 to T4: how the time of a step of TNGD grows with N and d_z, against NGD's digital ways and
Adam.

The paper's setting: b = 32, d_z = 20, N = 1e4 ... 1e5, c = 200 iterations of conjugate gradients,
one sample after 50 RC. Its network is not given: here 2 layers without biases, d_z -> h -> d_z, so
that N = 2 d_z h, under mean squared error. Timing-only: every operation is counted and priced on an
A100 and an H100, eager and (A100) as CUDA graphs; TNGD with one SPU of 1 us behind 50 Gb/s, and
with a link that takes no time but its latency. What does not fit into a GPU's memory is refused by
the simulator, and left out.

T1: exponents of N, log(t'/t) / log(N'/N), between the two largest N; "as claimed" within 0.25 of 3
(NGD, Cholesky), 0 (CG), 1 (Woodbury, TNGD). T2: times of digital second-order steps over TNGD's;
"about 100" is read as 50 or more. T3: over d_z at N = 20,000; how competitive TNGD is: the fastest
digital second-order step over its own. T4: TNGD over Adam on the MNIST CNN, b = 64, widths from
N = 5,074 to 149,706 (the paper names none); "about 2" is read as 1.5 to 2.5.

Measured: wall-clock time of the digital steps on this computer, one thread, at small N.

    python -m analysis.papers.t1_scaling --out analysis/papers/results/t1_scaling.json
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import hybridsim
from analysis.papers.record import arguments, save

Fields = dict[str, Any]  # Any: as a scenario says it
BATCH, OUTPUTS, ITERATIONS = 32, 20, 200
SIZES, SMALL = (10_000, 20_000, 50_000, 100_000), (1_000, 2_000, 4_000)
OUTPUT_SIZES, AT_N = (2, 5, 10, 20, 50, 100, 200, 500), 20_000
MACHINES = {
    "A100": {"part": "a100-sxm4-80gb"},
    "A100, graphs": {"part": "a100-sxm4-80gb", "launch": "graph"},
    "H100": {"part": "h100-sxm5-80gb"},
}
ANALOG: Fields = {
    "link": "paper-50gbps",
    "spus": {"count": 1, "part": "rc-1us", "imperfections": "ideal"},
}
FREE_LINK: Fields = {**ANALOG, "link": {"part": "paper-50gbps", "bandwidth": "1e9 Gb/s"}}
TNGD, TNGD_FREE, ADAM = "TNGD", "TNGD, link for free", "Adam"
NGD, CG, WOODBURY = "NGD", "NGD-CG", "NGD-Woodbury"
_TNGD: Fields = {"kind": "tngd", "settle": "50 tau", "damping": 0.1}
ALGORITHMS: dict[str, tuple[Fields, Fields]] = {  # algorithm, and the machine beside the GPU
    TNGD: (_TNGD, ANALOG),
    TNGD_FREE: (_TNGD, FREE_LINK),
    NGD: ({"kind": "ngd", "method": "cholesky"}, {}),
    # a small lambda, so that where numbers are computed none of the iterations is spared
    CG: (
        {"kind": "ngd", "method": "cg", "iterations": ITERATIONS, "tolerance": 0, "damping": 1e-6},
        {},
    ),
    WOODBURY: ({"kind": "ngd", "method": "woodbury"}, {}),
    ADAM: ({"kind": "adam"}, {}),
}
CLAIMED = {NGD: 3, CG: 0, WOODBURY: 1, TNGD: 1}
RIVALS = (NGD, CG, WOODBURY)
NEAR = 0.25
CNNS = ((4, 32), (8, 64), (16, 64), (8, 128), (32, 64), (32, 128))  # channels, hidden units
CNN_BATCH = 64
Row = Mapping[str, Any]


def network(parameters: int, outputs: int, **more: bool) -> Fields:
    """A workload of two layers with about so many parameters; ``more``: drawn."""
    options = {"width": outputs, "other": parameters // (2 * outputs), "depth": 2, **more}
    source = str(Path(__file__).resolve().with_name("wide_mlp.py"))
    return {"source": source, "options": {**options, "examples": BATCH}}


def scenario(
    workload: Fields, batch: int, name: str, gpu: Fields, steps: int = 2
) -> hybridsim.Scenario:
    """A scenario of one of ``ALGORITHMS``."""
    algorithm, beside = ALGORITHMS[name]
    training = {
        "batch_size": batch,
        "steps": steps,
        "evaluate_every": 10**6,
        "algorithm": {"learning_rate": 1e-3, **algorithm},
    }
    machine = {"constants": "realistic", "gpu": gpu, **beside}
    return hybridsim.load(
        {"name": name, "workload": workload, "training": training, "machine": machine}
    )


def timed(workload: Fields, batch: int, machine: str, names: Iterable[str]) -> list[Fields]:
    """A step of every algorithm: seconds, and those of its operations by kind; or a refusal."""
    found = []
    task: hybridsim.Task | None = None
    for name in names:
        asked = scenario(workload, batch, name, MACHINES[machine])
        task = task or hybridsim.load_task(asked)
        row: Fields = {"machine": machine, "algorithm": name, "parameters": task.layout.size}
        try:
            run = hybridsim.run(asked, backend="timing", task=task)
        except hybridsim.CapacityError as error:
            found.append({**row, "step_s": None, "refusal": str(error)})
            continue
        last = run.steps.iloc[-1]
        spans = run.spans[run.spans["step"] == last["step"]]
        kinds = (spans["end_ps"] - spans["start_ps"]).groupby(spans["kind"]).sum() * 1e-12
        seconds = float(last["end_ps"] - last["start_ps"]) * 1e-12
        parts = {str(kind): float(value) for kind, value in kinds.items()}
        memory = max(run.summary["gpu_peak_bytes"].values())
        own = {"step_s": seconds, "refusal": "", "memory_bytes": memory, "operations_s": parts}
        found.append({**row, **own, "digest": run.manifest["digest"][:16]})
    return found


def over_sizes(sizes: Sequence[int] = SIZES) -> list[Fields]:
    """T1 and T2."""
    return [
        {"claim": "T1", "outputs": OUTPUTS, **row}
        for machine in MACHINES
        for size in sizes
        for row in timed(network(size, OUTPUTS), BATCH, machine, ALGORITHMS)
    ]


def over_outputs(
    outputs: Sequence[int] = OUTPUT_SIZES, parameters: int = AT_N, machine: str = "A100"
) -> list[Fields]:
    """T3."""
    return [
        {"claim": "T3", "outputs": d, **row}
        for d in outputs
        for row in timed(network(parameters, d), BATCH, machine, ALGORITHMS)
    ]


def over_networks(networks: Sequence[tuple[int, int]] = CNNS) -> list[Fields]:
    """T4."""
    return [
        {"claim": "T4", "outputs": 10, "channels": channels, "hidden": hidden, **row}
        for machine in MACHINES
        for channels, hidden in networks
        for row in timed(
            {"source": "mnist_cnn", "options": {"channels": channels, "hidden": hidden}},
            CNN_BATCH,
            machine,
            (TNGD, TNGD_FREE, ADAM),
        )
    ]


def measured(sizes: Sequence[int] = SMALL, steps: int = 1, rounds: int = 3) -> list[Fields]:
    """Seconds of a step's digital part on this computer, one thread: the median of ``rounds``
    visits, all pairs in turn. Weights are drawn: with zeros CG is done at once.
    """
    seconds: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for size in sizes:
            task: hybridsim.Task | None = None
            for name in (TNGD, *RIVALS, ADAM):
                workload = network(size, OUTPUTS, drawn=True)
                asked = scenario(workload, BATCH, name, {"part": "host-cpu"})
                task = task or hybridsim.load_task(asked)
                found = hybridsim.time_steps(asked, steps, task=task)
                seconds.setdefault((name, size), []).extend(one.measured_s for one in found)
    return [
        {"claim": "T1", "machine": "this CPU", "algorithm": name, "parameters": size,
         "outputs": OUTPUTS, "step_s": median(times)}
        for (name, size), times in seconds.items()
    ]  # fmt: skip


def series(rows: Iterable[Row], over: str) -> dict[str, dict[str, dict[int, float]]]:
    """Seconds by machine, algorithm and a column, where there are any."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for row in rows:
        if row["step_s"] is not None:
            own = found.setdefault(row["machine"], {}).setdefault(row["algorithm"], {})
            own[row[over]] = row["step_s"]
    return found


def exponents(values: Mapping[int, float]) -> dict[str, float]:
    """log(t'/t) / log(N'/N) from each size to the next."""
    return {
        f"{n} - {m}": math.log(values[m] / values[n]) / math.log(m / n)
        for n, m in pairwise(sorted(values))
    }


def over_tngd(found: Mapping[str, Mapping[int, float]]) -> dict[str, dict[int, float]]:
    """Each algorithm's time over TNGD's, where both are known."""
    own = found[TNGD]
    return {
        name: {size: values[size] / own[size] for size in values if size in own}
        for name, values in found.items()
        if name != TNGD
    }


def as_claimed(slopes: Mapping[str, Mapping[str, float]]) -> dict[str, bool]:
    """Whether the last exponent is near the claimed one."""
    last = {name: list(slopes[name].values())[-1] for name in CLAIMED if slopes.get(name)}
    return {name: abs(value - CLAIMED[name]) <= NEAR for name, value in last.items()}


def competitive(ratios: Mapping[str, Mapping[int, float]]) -> dict[int, float]:
    """The fastest digital second-order step over TNGD's, by size."""
    sizes = dict.fromkeys(size for name in RIVALS for size in ratios.get(name, ()))
    return {n: min(ratios[a][n] for a in RIVALS if n in ratios.get(a, ())) for n in sizes}


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """T1 to T4 by machine."""
    claim = {name: [row for row in rows if row["claim"] == name] for name in ("T1", "T3", "T4")}
    sizes = series(claim["T1"], "parameters")
    slopes = {m: {a: exponents(v) for a, v in own.items()} for m, own in sizes.items()}
    widths = series(claim["T4"], "parameters")
    adam = {
        machine: {
            name: {n: own[name][n] / own[ADAM][n] for n in own[name]} for name in (TNGD, TNGD_FREE)
        }
        for machine, own in widths.items()
    }
    by_outputs = {m: over_tngd(own) for m, own in series(claim["T3"], "outputs").items()}
    return {
        "T1: exponents of N": slopes,
        "T1: as claimed": {machine: as_claimed(found) for machine, found in slopes.items()},
        "T1: step in seconds": sizes,
        "T2: time over TNGD's": {machine: over_tngd(found) for machine, found in sizes.items()},
        "T3: time over TNGD's, by d_z": by_outputs,
        "T3: fastest rival over TNGD": {m: competitive(own) for m, own in by_outputs.items()},
        "T3: step in seconds": series(claim["T3"], "outputs"),
        "T4: time over Adam's": adam,
        "refused": {
            f"{row['machine']}, {row['algorithm']}, N = {row['parameters']}": row["refusal"]
            for row in rows
            if row.get("refusal")
        },
    }


def main() -> None:
    """Run and write."""
    given = arguments(__doc__)
    rows = [*over_sizes(), *over_outputs(), *over_networks(), *measured()]
    setting = {
        "batch_size": BATCH,
        "d_z": OUTPUTS,
        "iterations of CG": ITERATIONS,
        "settle": _TNGD["settle"],
        "machines": MACHINES,
        "T3 at N": AT_N,
        "T4 (channels, hidden units)": CNNS,
    }
    save(given.out, "t1_scaling", setting, summarise(rows), rows)


if __name__ == "__main__":
    main()
