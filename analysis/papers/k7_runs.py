"""What K7 runs: studies, settings of the converters, tuning and one run, with every finished run
kept in the file.

The paper (TKFAC, arXiv 2502.08603): ResNet, CIFAR-10, five runs, K-FAC with rate 0.1, damping 0.001
and an average of weight 0.9999. Scaled here to one core: see :data:`STUDIES`. Rates, and K-FAC's
damping, are tuned on seeds that the comparison does not use; Adam and K-FAC get the same number of
trials. K-FAC is tuned with digital inverses and keeps rate and damping whatever the converters do.
Where few input bits cost accuracy, a second part asks whether a larger rate gives it back, as it
would if rounding were but more damping.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import hybridsim

Row = dict[str, Any]
BITS = (4, 6, 8, 12, 16)
LONG = "1e6 tau"  # every mode has settled: what is left is the converters'
REALISTIC = "50 tau"
ADAM, DIGITAL, IDEAL = "adam", "digital", "ideal"
FEW = ("input 4", "input 6")
LARGER = (1, 2, 4, 8)  # times the rate that was tuned with digital inverses
FIRST = 10  # training losses kept, to show that the long settle is the digital solve


def _converters(
    inputs: object = IDEAL, bias: object = IDEAL, outputs: object = IDEAL
) -> tuple[str, ...]:
    given = (("input", inputs), ("bias", bias), ("output", outputs))
    return tuple(f"machine.spus.{side}_bits={bits}" for side, bits in given)


SETTINGS: dict[str, tuple[str, ...]] = {
    DIGITAL: ("training.algorithm.method=digital",),
    IDEAL: _converters(),
    **{f"input {bits}": _converters(inputs=bits) for bits in BITS},
    **{f"output {bits}": _converters(outputs=bits) for bits in BITS},
    "all 8": _converters(8, 8, 8),
    REALISTIC: (*_converters(), f"training.algorithm.settle={REALISTIC}"),
    f"{REALISTIC}, all 8": (*_converters(8, 8, 8), f"training.algorithm.settle={REALISTIC}"),
}


@dataclass(frozen=True)
class Study:
    """A workload, how long it trains and what is tried on it.

    Attributes:
        overrides: over the shipped scenarios kfac-digits and adam-digits.
        kfac: over kfac-digits only.
        late: evaluations at the end that are averaged.
        margin: test accuracy that does not matter, a fraction; chosen before the runs.
        retuned: settings that are tried at larger rates too.
    """

    name: str
    overrides: tuple[str, ...]
    kfac: tuple[str, ...]
    steps: int
    every: int
    late: int
    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...]
    adam_rates: tuple[float, ...]
    rates: tuple[float, ...]
    dampings: tuple[float, ...]
    margin: float
    retuned: tuple[str, ...] = ()


_KFAC = (
    "machine.spus.count=1",
    "training.algorithm.fisher=mc",
    f"training.algorithm.settle={LONG}",
)
_DIGITS = ("workload=digits_mlp", "training.batch_size=32")
STUDIES = (
    Study(
        "digits",
        _DIGITS,
        _KFAC,
        150,
        10,
        4,
        (0, 1, 2, 3, 4),
        (10, 11, 12),
        (5e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 2e-2, 3e-2, 5e-2),
        (0.01, 0.02, 0.05),
        (0.03, 0.1, 0.3),
        0.01,
        FEW,
    ),
    Study(
        "digits, weak damping",
        _DIGITS,
        _KFAC,
        150,
        10,
        4,
        (0, 1, 2, 3, 4),
        (10, 11, 12),
        (),
        (0.001, 0.003, 0.01),
        (0.01,),
        0.01,
        FEW,
    ),
    Study(
        "cifar",
        ("workload=resnet_cifar", "training.batch_size=64"),
        (*_KFAC, "training.algorithm.factors_every=5", "training.algorithm.inverses_every=5"),
        240,
        30,
        3,
        (0, 1, 2, 3),
        (10, 11),
        (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2),
        (0.002, 0.005, 0.015),
        (0.003, 0.01),
        0.03,
    ),
)


@dataclass(frozen=True)
class Job:
    """One run to make; ``damping`` None is Adam."""

    study: Study
    part: str
    setting: str
    seed: int
    rate: float
    damping: float | None

    @property
    def key(self) -> Row:
        """What tells it from the others."""
        return {
            "study": self.study.name,
            "part": self.part,
            "setting": self.setting,
            "seed": self.seed,
            "learning_rate": self.rate,
            "damping": self.damping,
        }

    def overrides(self) -> list[str]:
        """Over a shipped scenario."""
        study = self.study
        found = [*study.overrides, f"seed={self.seed}", f"training.steps={study.steps}"]
        found += [
            f"training.evaluate_every={study.every}",
            f"training.algorithm.learning_rate={self.rate}",
        ]
        if self.damping is not None:
            found += [
                f"training.algorithm.damping={self.damping}",
                *study.kfac,
                *SETTINGS[self.setting],
            ]
        return found


def simulate(job: Job, tasks: dict[str, hybridsim.Task]) -> Row:
    """One run; one that diverges says so instead of giving numbers."""
    scenario = hybridsim.load(
        "adam-digits" if job.damping is None else "kfac-digits", job.overrides()
    )
    workload = job.study.overrides[0]
    if workload not in tasks:
        tasks[workload] = hybridsim.load_task(scenario)
    started = time.perf_counter()
    try:
        run = hybridsim.run(scenario, task=tasks[workload])
    except hybridsim.HybridsimError as error:
        return {**job.key, "digest": None, "failed": str(error)}
    tested = run.steps.dropna(subset=["test_loss"])
    row = {**job.key, "digest": run.manifest["digest"]}
    for measure in ("test_accuracy", "test_loss"):
        values = tested[measure].tolist()
        row |= {measure: values[-1], f"late_{measure}": float(np.mean(values[-job.study.late :]))}
    row["late_train_loss"] = float(run.steps["train_loss"].iloc[-job.study.every :].mean())
    if job.setting in (DIGITAL, IDEAL):
        row["first_train_losses"] = run.steps["train_loss"].iloc[:FIRST].tolist()
    return row | {"wall_s": round(time.perf_counter() - started, 1)}


def tuning(study: Study) -> Iterator[Job]:
    """The grids of Adam and of K-FAC with digital inverses."""
    for seed in study.tuning_seeds:
        yield from (Job(study, "tuning", ADAM, seed, rate, None) for rate in study.adam_rates)
        yield from (
            Job(study, "tuning", DIGITAL, seed, rate, damping)
            for rate in study.rates
            for damping in study.dampings
        )


def score(row: Row) -> float:
    """Late test accuracy; a run that failed stands at nothing."""
    return 0.0 if "failed" in row else float(row["late_test_accuracy"])


def chosen(
    rows: list[Row], study: Study, part: str = "tuning"
) -> dict[str, tuple[float, float | None]]:
    """By setting (Adam, digital K-FAC; with ``retuning`` others), rate and damping of the best mean
    score over the tuning seeds.
    """
    scores: dict[str, dict[tuple[float, float | None], list[float]]] = {}
    for row in rows:
        if (row["study"], row["part"]) == (study.name, part):
            at = (row["learning_rate"], row["damping"])
            scores.setdefault(row["setting"], {}).setdefault(at, []).append(score(row))
    return {
        setting: max(grid, key=lambda at: float(np.mean(grid[at])))
        for setting, grid in scores.items()
    }


def comparison(study: Study, best: dict[str, tuple[float, float | None]]) -> Iterator[Job]:
    """All settings at the rates found, seed by seed."""
    for seed in study.seeds:
        if ADAM in best:
            yield Job(study, "comparison", ADAM, seed, *best[ADAM])
        yield from (Job(study, "comparison", setting, seed, *best[DIGITAL]) for setting in SETTINGS)


def retuning(study: Study, best: dict[str, tuple[float, float | None]]) -> Iterator[Job]:
    """Larger rates for K-FAC with few input bits."""
    rate, damping = best[DIGITAL]
    for seed in study.tuning_seeds:
        for setting in study.retuned:
            yield from (
                Job(study, "retuning", setting, seed, float(f"{factor * rate:g}"), damping)
                for factor in LARGER
            )


def retuned(study: Study, best: dict[str, tuple[float, float | None]]) -> Iterator[Job]:
    """Few input bits at the rates found for them."""
    for seed in study.seeds:
        yield from (
            Job(study, "retuned", setting, seed, *best[setting]) for setting in study.retuned
        )


class Store:
    """Finished runs in a file, rewritten after each, so that a run that was cut goes on where it
    stopped.
    """

    def __init__(self, path: Path, until: float, say: Callable[[str], None]) -> None:
        self.path, self.until, self.say = path, until, say
        self.rows: list[Row] = json.loads(path.read_text())["runs"] if path.exists() else []
        self.tasks: dict[str, hybridsim.Task] = {}

    def make(self, job: Job, write: Callable[[list[Row]], None]) -> bool:
        """Run it unless it is there; False: no time is left."""
        if any(all(row[k] == v for k, v in job.key.items()) for row in self.rows):
            return True
        if time.monotonic() > self.until:
            return False
        row = simulate(job, self.tasks)
        self.rows.append(row)
        write(self.rows)
        self.say(f"{job.key}: {row.get('failed') or row['late_test_accuracy']}")
        return True


def jobs(study: Study, rows: list[Row]) -> Iterator[Job]:
    """Tuning, the comparison, then both again for few input bits; ``rows`` grows while they are
    made.
    """
    yield from tuning(study)
    best = chosen(rows, study)
    yield from comparison(study, best)
    yield from retuning(study, best)
    yield from retuned(study, chosen(rows, study, "retuning"))


def make_all(store: Store, studies: tuple[Study, ...], write: Callable[[list[Row]], None]) -> bool:
    """Study by study; False: time ran out."""
    return all(store.make(job, write) for study in studies for job in jobs(study, store.rows))
