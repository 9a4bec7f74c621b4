"""What a live step of TNGD takes the computer that simulates it, against the number of parameters.

An MLP (``mlp_cifar``, depth 2) on drawn images, batch 64, d_z 10: J has 640 rows. An ideal device,
50 tau. Every point is a process of its own: CPU seconds of a step without its evaluation (median of
those behind the first), peak memory above that of the smallest point of a form's process before it
trained. The largest number of parameters runs 20 steps. Slopes are exponents of N between the two
largest points of a form.

    python -m analysis.papers.jacobian_forms --out analysis/papers/results/jacobian_forms.json
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import hybridsim
from analysis.papers.record import parser, save

WIDTHS = {"explicit": (32, 97), "streamed": (32, 97), "products": (32, 97, 300, 850, 2000)}
STEPS, MOST_STEPS = 3, 20
GIB = 2**30


def document(form: str, width: int, steps: int) -> dict[str, Any]:
    """The scenario of a point."""
    options = {"depth": 2, "width": width, "synthetic": True, "train_size": 256, "test_size": 64}
    algorithm = {"kind": "tngd", "learning_rate": 0.01, "damping": 1.0, "settle": "50 tau"}
    spus = {"count": 1, "part": "rc-1us", "imperfections": "ideal"}
    return {
        "name": f"{form}, width {width}",
        "workload": {"source": "mlp_cifar", "options": options},
        "host": {"jacobian": form},
        "training": {
            "batch_size": 64,
            "steps": steps,
            "evaluate_every": steps,
            "algorithm": algorithm,
        },
        "machine": {
            "constants": "paper",
            "gpu": "h200-sxm",
            "link": "paper-50gbps",
            "spus": spus | {"cells": 2 * 10**7, "resistors": 10**11},
        },
    }


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(form: str, width: int, steps: int) -> dict[str, Any]:
    """One point, in this process."""
    scenario = hybridsim.load(document(form, width, steps))
    before, ends = peak_bytes(), [time.process_time()]
    run = hybridsim.run(scenario, progress=lambda _: ends.append(time.process_time()))
    spent = [end - start for start, end in pairwise(ends)][1:-1]
    jacobian = run.summary["host"]["jacobian"]
    return {
        "form": form,
        "parameters": jacobian["bytes"] // (4 * 640),
        "steps": steps,
        "step_s": median(spent),
        "whole_s": ends[-1] - ends[0],
        "peak_bytes": peak_bytes() - before,
        "process_bytes": peak_bytes(),
        "solver_relative_error": run.summary["final"]["solver_relative_error"],
        "train_loss": run.summary["final"]["train_loss"],
        "digest": run.manifest["digest"][:16],
    }


def apart(form: str, width: int, steps: int) -> dict[str, Any]:
    """One point, in a process of its own."""
    command = [sys.executable, "-m", "analysis.papers.jacobian_forms", "--out", "-", "--point"]
    words = [*command, form, str(width), str(steps)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def slope(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    """Exponent of N between the two largest points."""
    small, large = sorted(rows, key=lambda row: row["parameters"])[-2:]
    grown = math.log(large[name] / small[name])
    return grown / math.log(large["parameters"] / small["parameters"])


def summarise(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Slopes of each form; memory and time of the largest run; how far forms are apart."""
    rows = list(rows)
    forms = {form: [row for row in rows if row["form"] == form] for form in WIDTHS}
    largest = max(rows, key=lambda row: row["parameters"])
    losses: dict[int, list[float]] = {}
    for row in rows:
        losses.setdefault(row["parameters"], []).append(row["train_loss"])
    return {
        "slopes": {
            form: {name: slope(own, name) for name in ("step_s", "peak_bytes")}
            for form, own in forms.items()
        },
        "step over explicit": {
            form: {
                row["parameters"]: row["step_s"] / other["step_s"]
                for row in own
                for other in forms["explicit"]
                if row["parameters"] == other["parameters"]
            }
            for form, own in forms.items()
        },
        "largest": {
            "parameters": largest["parameters"],
            "steps": largest["steps"],
            "process GiB": largest["process_bytes"] / GIB,
            "step_s": largest["step_s"],
        },
        "largest relative difference of losses": max(
            max(found) / min(found) - 1 for found in losses.values()
        ),
    }


def main() -> None:
    """Run and write."""
    asked = parser(__doc__)
    asked.add_argument("--point", nargs=3, help="form, width, steps of one point, to be printed")
    given = asked.parse_args()
    if given.point is not None:
        form, width, steps = given.point
        print(json.dumps(measure(form, int(width), int(steps))))
        return
    most = max(width for widths in WIDTHS.values() for width in widths)
    rows = [
        apart(form, width, MOST_STEPS if width == most else STEPS)
        for form, widths in WIDTHS.items()
        for width in widths
    ]
    setting = {"batch": 64, "rows": 640, "widths": WIDTHS, "threads": 1}
    save(given.out, "jacobian_forms", setting, summarise(rows), rows)


if __name__ == "__main__":
    main()
