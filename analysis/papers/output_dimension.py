"""Where does TNGD stop being competitive as the output dimension d_z grows, and what stops it?

J has r = b d_z rows for the GGN. A sampled Fisher (one label drawn for each example) or the
empirical Fisher has b rows for any d_z. *Costs*, timing-only, CUDA graphs on an A100: a network of
one hidden layer with d_z classes (b = 32), and a small language model whose head has d_z tokens
(b = 8 sequences of 32: 256 loss terms), against Adam, K-FAC (Cholesky, one drawn label) and NGD-CG
(10 iterations) on the GPU alone. The SPU is ``rc-1us`` as it could be built, behind 50 Gb/s. A
step's critical path is divided into Jacobian (packing included), upload, settling and the rest.
*Quality*, live, ideal SPUs: steps to 80 % test accuracy on drawn clusters (b = 8), each side tuned
on seeds of its own with equal budgets.

    python -m analysis.papers.output_dimension --out analysis/papers/results/output_dimension.json
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hybridsim
from analysis.papers import sweep
from analysis.papers.paired import mean_interval
from analysis.papers.record import save

Fields = dict[str, Any]  # Any: as a scenario says it
DIMENSIONS = (10, 30, 100, 300, 1000, 3000, 10_000, 50_000)
GPU: Fields = {"part": "a100-sxm4-80gb", "launch": "graph"}
ANALOG: Fields = {"link": "paper-50gbps", "spus": {"count": 1, "part": "rc-1us"}}
TNGD: Fields = {"kind": "tngd", "settle": "50 tau", "damping": 0.1}
GGN, SAMPLED, EMPIRICAL = "TNGD, GGN", "TNGD, sampled Fisher", "TNGD, empirical Fisher"
ALGORITHMS: dict[str, tuple[Fields, Fields]] = {  # algorithm, and the machine beside the GPU
    GGN: (TNGD, ANALOG),
    SAMPLED: ({**TNGD, "curvature": "sampled_fisher"}, ANALOG),
    EMPIRICAL: ({**TNGD, "curvature": "empirical_fisher"}, ANALOG),
    "Adam": ({"kind": "adam"}, {}),
    "K-FAC": ({"kind": "kfac", "method": "digital", "damping": 0.1, "fisher": "mc"}, {}),
    "NGD-CG": ({"kind": "ngd", "method": "cg", "iterations": 10, "damping": 0.1}, {}),
}
ANALOGS = (GGN, SAMPLED, EMPIRICAL)
DIGITAL = tuple(name for name in ALGORITHMS if name not in ANALOGS)
PARTS = {
    "linearize": "Jacobian",
    "pack": "Jacobian",
    "upload jacobian": "upload",
    "upload hessian": "upload",
    "upload gradient": "upload",
    "settle": "settling",
    "find ranges": "settling",
}
CLASSES = str(Path(__file__).resolve().with_name("many_outputs.py"))
QUALITY = (10, 30, 60)
TARGET, STEPS, SEEDS, TUNING = 0.8, 80, 4, (100, 101)
RATES: dict[str, Sequence[float]] = {
    "tngd": (0.05, 0.1, 0.2, 0.4),
    "adam": (3e-3, 1e-2, 3e-2, 1e-1),
}


def workload(network: str, dimension: int) -> tuple[Fields, int]:
    """A network with so many outputs, and its batch."""
    if network == "classes":
        return {"source": CLASSES, "options": {"classes": dimension, "examples": 64}}, 32
    options = {"vocabulary": dimension, "sequence": 32, "width": 64, "depth": 1, "train_size": 8}
    return {"source": "gpt", "options": options}, 8


def costs(network: str, dimensions: Iterable[int] = DIMENSIONS) -> list[Fields]:
    """A step of every algorithm: seconds, joules, where its critical path goes; or a refusal."""
    found = []
    for dimension in dimensions:
        source, batch = workload(network, dimension)
        for name, (algorithm, beside) in ALGORITHMS.items():
            document = {
                "name": f"{network}, {dimension}, {name}",
                "workload": source,
                "training": {
                    "batch_size": batch,
                    "steps": 3,
                    "evaluate_every": 10**6,
                    "algorithm": {"learning_rate": 1e-3, **algorithm},
                },
                "machine": {"gpu": GPU, **beside},
            }
            row = {"network": network, "outputs": dimension, "algorithm": name}
            found.append(row | _timed(hybridsim.load(document)))
    return found


def _timed(scenario: hybridsim.Scenario) -> Fields:
    task = hybridsim.load_task(scenario)
    row: Fields = {"parameters": task.layout.size}
    try:
        run = hybridsim.run(scenario, backend="timing", task=task)
    except hybridsim.CapacityError as error:
        return row | {"step_s": None, "refusal": str(error)}
    last = run.steps.iloc[-1]
    start, end = int(last["start_ps"]), int(last["end_ps"])
    parts: dict[str, float] = {}
    for segment in run.path:
        inside = min(segment.end_ps, end) - max(segment.start_ps, start)
        if inside > 0:
            name = PARTS.get(segment.kind, "rest")
            parts[name] = parts.get(name, 0.0) + inside / (end - start)
    sizes = run.summary.get("sizes", [])
    return row | {
        "step_s": (end - start) * 1e-12,
        "refusal": "",
        "shares": parts,
        "area_mm2": sum(one["used"]["area_mm2"] for one in sizes),
        "digest": run.manifest["digest"][:16],
    }


def compared(rows: Sequence[Fields]) -> Fields:
    """By number of outputs: seconds of a step, TNGD's over the fastest digital second-order one's,
    and where TNGD's critical path goes.
    """
    found: Fields = {}
    for dimension in dict.fromkeys(row["outputs"] for row in rows):
        own = {row["algorithm"]: row for row in rows if row["outputs"] == dimension}
        second = [own[n]["step_s"] for n in ("K-FAC", "NGD-CG") if own[n]["step_s"] is not None]
        found[str(dimension)] = {
            "parameters": own[GGN]["parameters"],
            "step in seconds": {name: row["step_s"] for name, row in own.items()},
            "over the fastest digital second-order step": {
                name: own[name]["step_s"] / min(second)
                for name in ANALOGS
                if own[name]["step_s"] is not None and second
            },
            "shares": {n: own[n]["shares"] for n in ANALOGS if own[n]["step_s"] is not None},
            "area in mm2": {n: own[n].get("area_mm2") for n in ANALOGS},
            "refused": {n: row["refusal"] for n, row in own.items() if row["refusal"]},
        }
    return found


def side(dimension: int, name: str) -> Fields:
    """A side of the study of quality."""
    adam = name == "Adam"
    algorithm = {"learning_rate": 0.01, **ALGORITHMS[name][0]}
    return {
        "scenario": "adam-digits" if adam else "tngd-digits",
        "set": {
            "workload": {"source": CLASSES, "options": {"classes": dimension, "noise": 1.0}},
            "training.batch_size": 8,
            "training.steps": STEPS,
            "training.evaluate_every": 1,
            "training.target": {"test_accuracy": TARGET},
            "training.algorithm": algorithm,
            **({} if adam else {"machine.spus.imperfections": "ideal"}),
        },
    }


def quality(given: Any, dimension: int) -> tuple[Fields, list[Fields]]:
    """Steps to the target of every curvature and of Adam, at so many outputs."""
    names = {"ggn": GGN, "sampled": SAMPLED, "empirical": EMPIRICAL, "adam": "Adam"}
    found = sweep.study(
        given,
        {
            "name": f"{dimension} classes",
            "scenarios": {short: side(dimension, name) for short, name in names.items()},
            "seeds": SEEDS,
            "tuning": {
                "seeds": list(TUNING),
                "fields": {
                    short: {
                        "training.algorithm.learning_rate": list(
                            RATES["adam" if short == "adam" else "tngd"]
                        )
                    }
                    for short in names
                },
            },
            "question": {"kind": "table", "measure": "step"},
        },
    )
    assert found.view is not None, "no shard"
    summary: Fields = {"tuning": [dict(row) for row in found.view.tuning]}
    rows = [{"classes": dimension, **row} for row in sweep.rows(found)]
    for short, name in names.items():
        own = [row for row in rows if row["side"] == short]
        steps = [float(row["step"]) for row in own if row["reached"]]
        summary[name] = {"reached": f"{len(steps)} of {len(own)}"}
        if len(steps) > 1:
            summary[name]["steps"] = mean_interval(steps)
    return summary, rows


def main() -> None:
    """Run and write."""
    given = sweep.parser(__doc__).parse_args()
    rows, summary = [], {}
    for network in ("classes", "tokens"):
        own = costs(network)
        rows += own
        summary[f"costs, {network}"] = compared(own)
    for dimension in QUALITY:
        told, more = quality(given, dimension)
        summary[f"quality, {dimension} classes"] = told
        rows += more
    setting: Mapping[str, Any] = {
        "machine": {"gpu": GPU, **ANALOG},
        "algorithms": {name: algorithm for name, (algorithm, _) in ALGORITHMS.items()},
        "target": TARGET,
        "steps at most": STEPS,
    }
    save(given.out, "output_dimension", setting, summary, rows)


if __name__ == "__main__":
    main()
