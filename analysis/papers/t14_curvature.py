"""T14: is the Gauss-Newton matrix better than the empirical Fisher?

``studies/t14_curvature.yaml`` says what runs: natural gradient descent with either, solved exactly
on the GPU (which an SPU at rest equals, T8b), to 93 % test accuracy on the 8 x 8 digits. Each side
chooses learning rate and damping on seeds of their own, with equal budgets. Steps to the target are
compared, paired by seed over the seeds at which both got there. ``--mnist`` runs the same on MNIST
in the reduced setting of ``mnist_runs``, to 90 %; it needs the files and some minutes a run.

    python -m analysis.papers.t14_curvature --out analysis/papers/results/t14_curvature.json
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from ruamel.yaml import YAML

import hybridsim
from analysis.papers import sweep
from analysis.papers.mnist_runs import REDUCED
from analysis.papers.paired import ends
from analysis.papers.record import save

SIDES = ("ggn", "fisher")
MNIST = {
    "training.target": {"test_accuracy": 0.9},
    "training.steps": 312,
    "training.evaluate_every": 4,
    "workload": {
        "source": "mnist_cnn",
        "options": {
            name.rpartition(".")[2]: REDUCED[name] for name in REDUCED if "options" in name
        },
    },
}


def summarise(points: pd.DataFrame) -> dict[str, Any]:
    """Steps to the target with either curvature, and their ratio over the seeds of both."""
    reached = points[points["reached"] == True]  # noqa: E712  # a column of True, False, None
    steps: dict[str, dict[int, float]] = {}
    found: dict[str, Any] = {}
    for side in SIDES:
        rows = reached[reached["side"] == side]
        steps[side] = {
            int(seed): float(step) for seed, step in zip(rows["seed"], rows["step"], strict=True)
        }
        found[side] = {
            "seeds that reached the target": f"{len(rows)} of {(points['side'] == side).sum()}",
            "steps": _mean(list(steps[side].values())),
        }
    both = sorted(set(steps["ggn"]) & set(steps["fisher"]))
    found["fisher over ggn, paired by seed"] = {}
    if both:
        ggn, fisher = ([steps[side][seed] for seed in both] for side in SIDES)
        compared = hybridsim.paired_ratio(ggn, fisher)
        found["fisher over ggn, paired by seed"] = {
            **ends(compared.interval),
            "pairs": len(both),
            "p": compared.p_value,
            "separable": compared.detectable,
        }
    return found


def _mean(values: list[float]) -> dict[str, float]:
    return ends(hybridsim.log_interval(values)) if values else {}


def main() -> None:
    """Run the study and write what it found."""
    parser = sweep.parser(__doc__)
    parser.add_argument("--mnist", action="store_true", help="on MNIST rather than on the digits")
    given = parser.parse_args()
    document = YAML(typ="safe").load((sweep.FILES / "t14_curvature.yaml").read_text())
    if given.mnist:
        document["set"] |= MNIST
    found = sweep.study(given, document)
    assert found.view is not None, "no shard"
    tuned = [dict(row) for row in found.view.tuning]
    setting = {"study": "t14_curvature.yaml", "set": document["set"], "tuning": tuned}
    save(given.out, "t14_curvature", setting, summarise(found.points), list(sweep.rows(found)))


if __name__ == "__main__":
    main()
