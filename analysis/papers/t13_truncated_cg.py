"""T13 on digits: does truncated CG diverge where the SPU does not?

The smaller lambda, the worse the condition of A + lambda I, A the GGN of a batch of 32 (rank at
most 288 of N = 1,210 directions). Conjugate gradients are cut after some iterations, the SPU (ideal
converters, reset state, no noise) is read after some RC; both compute in float32, the exact solve
(Woodbury) in float64.

Systems: parameters as drawn (a learning rate of 1e-12), ten batches for each seed. Of CG the norm
of the residual over the gradient's, 1 at x = 0; of the SPU the norm of the error over the exact
solution's, as its diagnostic measures it, 1 at x = 0 as well. Training: 20 steps from there. A run
diverges if its loss leaves the finite numbers, or is higher over the last five batches than on the
first one.

    python -m analysis.papers.t13_truncated_cg --out analysis/papers/results/t13_truncated_cg.json
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any, NamedTuple

from analysis.papers import sweep
from analysis.papers.mnist_runs import IDEAL
from analysis.papers.record import save
from analysis.papers.sweep import Fields, Variant

SEEDS = (0, 1, 2, 3)
DAMPINGS = (1e-1, 1e-3, 1e-5)
ITERATIONS, SETTLES = (5, 20), (10, 100, 1000)
STEPS, LATE, RATE = 20, 5, 0.2
BATCHES, FROZEN = 10, 1e-12
EXACT = "exact"
FIELDS: Fields = {"workload": {"source": "digits_mlp", "options": {"hidden": 16, "depth": 1}}}


class Solver(NamedTuple):
    """A scenario and the algorithm in it, without damping and learning rate; other fields."""

    scenario: str
    algorithm: Fields
    fields: Fields = {}


SOLVERS = {
    EXACT: Solver(
        "ngd-cg-digits", {"kind": "ngd", "method": "woodbury"}, {"training.precision": "float64"}
    ),
    **{
        f"cg {count}": Solver(
            "ngd-cg-digits", {"kind": "ngd", "method": "cg", "iterations": count, "tolerance": 0}
        )
        for count in ITERATIONS
    },
    **{
        f"spu {settle} tau": Solver(
            "tngd-digits",
            {"kind": "tngd", "settle": f"{settle} tau", "calibration_every": None},
            {**IDEAL, "machine.spus.imperfections": "ideal"},
        )
        for settle in SETTLES
    },
}


class Found(NamedTuple):
    """One run: what its solves left, and its losses; ``reason`` where it was stopped.

    Attributes:
        solver: a name of ``SOLVERS``.
        damping: lambda.
        seed: of parameters and batches.
        trained: with a learning rate that moves the parameters.
        left: residual or error of every solve that was checked.
        losses: on the batches, in order.
        events: what went wrong in solves, by kind.
        reason: of a run without a result.
    """

    solver: str
    damping: float
    seed: int
    trained: bool
    left: list[float]
    losses: list[float]
    events: dict[str, int]
    reason: str

    @property
    def diverged(self) -> bool:
        """Whether training made the loss worse."""
        return not self.losses or self.late > self.losses[0]

    @property
    def late(self) -> float:
        """Mean loss of the last batches."""
        return sum(self.losses[-LATE:]) / LATE

    def row(self) -> dict[str, Any]:
        """For the result file."""
        row = {name: getattr(self, name) for name in ("solver", "damping", "seed", "trained")}
        worst = max(self.left, default=None)
        row |= {"largest residual or error": worst, "events": sum(self.events.values())}
        row |= {"late_loss": self.late if self.losses else None, "reason": self.reason}
        return row


def variant(solver: Solver, damping: float, trained: bool) -> Variant:
    """A solver's scenario at a damping."""
    steps, rate = (STEPS, RATE) if trained else (BATCHES, FROZEN)
    settings = {**solver.algorithm, "damping": damping, "learning_rate": rate}
    run = {"training.steps": steps, "training.evaluate_every": steps if trained else 1}
    return Variant(
        solver.scenario, {**FIELDS, **run, **solver.fields, "training.algorithm": settings}
    )


def runs(given: argparse.Namespace) -> list[Found]:
    """All solvers at all dampings for all seeds, trained and not."""
    cases = {
        f"{name}, lambda {damping:g}, {'trained' if trained else 'frozen'}": (
            name, damping, trained
        )
        for name in SOLVERS
        for damping in DAMPINGS
        for trained in (False, True)
    }  # fmt: skip
    variants = {
        key: variant(SOLVERS[name], damping, trained)
        for key, (name, damping, trained) in cases.items()
    }
    return [_found(made, *cases[made.variant]) for made in sweep.made(given, variants, SEEDS)]


def _found(made: sweep.Made, solver: str, damping: float, trained: bool) -> Found:
    if made.run is None:
        return Found(solver, damping, made.seed, trained, [], [], {}, made.reason)
    steps = made.run.steps
    known = [name for name in ("cg_residual", "solver_relative_error") if name in steps]
    left = [float(value) for name in known for value in steps[name].dropna()]
    events = {kind: found["count"] for kind, found in made.run.summary["events"].items()}
    losses = steps["train_loss"].tolist()
    return Found(solver, damping, made.seed, trained, left, losses, events, "")


def summarise(found: Sequence[Found]) -> dict[str, Any]:
    """What solves leave on the same systems; how many seeds diverge; where CG does and the SPU does
    not.
    """
    summary: dict[str, Any] = {"systems": {}, "training": {}}
    for damping in DAMPINGS:
        at = [one for one in found if one.damping == damping]
        summary["systems"][f"{damping:g}"] = {
            name: _left(one for one in at if one.solver == name and not one.trained)
            for name in SOLVERS
            if name != EXACT
        }
        summary["training"][f"{damping:g}"] = {
            name: _training([one for one in at if one.solver == name and one.trained])
            for name in SOLVERS
        }
    summary["SPU trains where CG diverges"] = {
        f"{settle} tau": _where(summary["training"], f"spu {settle} tau") for settle in SETTLES
    }
    return summary


def _left(found: Iterable[Found]) -> dict[str, Any]:
    found = list(found)
    left = [value for one in found for value in one.left]
    broken = sum(count for one in found for kind, count in one.events.items() if "cg" in kind)
    return {
        "median": median(left) if left else None,
        "largest": max(left, default=None),
        "share worse than x = 0": sum(value > 1 for value in left) / max(len(left), 1),
        "breakdowns": broken,
    }


def _training(found: Sequence[Found]) -> dict[str, Any]:
    losses = [one.late for one in found if one.losses]
    return {
        "diverged": sum(one.diverged for one in found),
        "seeds": len(found),
        "median late loss": median(losses) if losses else None,
        "events": sum(sum(one.events.values()) for one in found),
    }


def _where(training: dict[str, Any], spu: str) -> list[str]:
    """At which damping every seed of a truncated CG diverges, and none of this SPU."""
    return [
        f"{name}, lambda {damping}"
        for damping, solvers in training.items()
        for name, cut in solvers.items()
        if name.startswith("cg ")
        and cut["diverged"] == cut["seeds"]
        and solvers[spu]["diverged"] == 0
    ]


def main() -> None:
    """Run and write."""
    given = sweep.parser(__doc__).parse_args()
    found = runs(given)
    setting = {**FIELDS, "steps": STEPS, "batches": BATCHES, "learning rate": RATE}
    setting |= {"dampings": list(DAMPINGS), "seeds": list(SEEDS)}
    save(given.out, "t13_truncated_cg", setting, summarise(found), [one.row() for one in found])


if __name__ == "__main__":
    main()
