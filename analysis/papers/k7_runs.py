"""What K7 runs: studies, settings of the converters, tuning.

The paper (TKFAC, arXiv 2502.08603): ResNet, CIFAR-10, five runs, K-FAC with rate 0.1, damping 0.001
and an average of weight 0.9999. Scaled here to one core: see :data:`STUDIES`. Rates, and K-FAC's
damping, are tuned on seeds that the comparison does not use; Adam and K-FAC get the same number of
trials. K-FAC is tuned with digital inverses and keeps rate and damping whatever the converters do.
Where few input bits cost accuracy, a second part asks whether a larger rate gives it back, as it
would if rounding were but more damping.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from analysis.papers import sweep
from analysis.papers.sweep import Fields, Variant

Row = dict[str, Any]
BITS = (4, 6, 8, 12, 16)
LONG = "1e6 tau"  # every mode has settled: what is left is the converters'
REALISTIC = "50 tau"
ADAM, DIGITAL, IDEAL = "adam", "digital", "ideal"
FEW = ("input 4", "input 6")
LARGER = (1, 2, 4, 8)  # times the rate that was tuned with digital inverses
FIRST = 10  # training losses kept, to show that the long settle is the digital solve


def _converters(inputs: object = IDEAL, bias: object = IDEAL, outputs: object = IDEAL) -> Fields:
    given = (("input", inputs), ("bias", bias), ("output", outputs))
    return {f"machine.spus.{side}_bits": bits for side, bits in given}


SETTLE = "training.algorithm.settle"
SETTINGS: dict[str, Fields] = {
    DIGITAL: {"training.algorithm.method": "digital"},
    IDEAL: _converters(),
    **{f"input {bits}": _converters(inputs=bits) for bits in BITS},
    **{f"output {bits}": _converters(outputs=bits) for bits in BITS},
    "all 8": _converters(8, 8, 8),
    REALISTIC: {**_converters(), SETTLE: REALISTIC},
    f"{REALISTIC}, all 8": {**_converters(8, 8, 8), SETTLE: REALISTIC},
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
    overrides: Fields
    kfac: Fields
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


_KFAC: Fields = {
    "machine.spus.count": 1,
    "machine.spus.imperfections": "ideal",
    "training.algorithm.fisher": "mc",
    SETTLE: LONG,
}
_DIGITS: Fields = {"workload": "digits_mlp", "training.batch_size": 32}
_EVERY_FIFTH = {f"training.algorithm.{name}_every": 5 for name in ("factors", "inverses")}
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
        {"workload": "resnet_cifar", "training.batch_size": 64},
        {**_KFAC, **_EVERY_FIFTH},
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


class Trial(NamedTuple):
    """A setting with its rate and damping; ``damping`` None is Adam."""

    setting: str
    rate: float
    damping: float | None

    def variant(self, study: Study) -> Variant:
        """As a study runs it."""
        found = {
            **study.overrides,
            "training.steps": study.steps,
            "training.evaluate_every": study.every,
            "training.algorithm.learning_rate": self.rate,
        }
        if self.damping is None:
            return Variant("adam-digits", found)
        found |= {"training.algorithm.damping": self.damping}
        return Variant("kfac-digits", found | study.kfac | SETTINGS[self.setting])


def run_part(
    given: argparse.Namespace,
    study: Study,
    part: str,
    trials: Iterable[Trial],
    seeds: Sequence[int],
) -> list[Row]:
    """All trials with all seeds."""
    named = {str(number): trial for number, trial in enumerate(trials)}
    variants = {name: trial.variant(study) for name, trial in named.items()}
    found = sweep.made(given, variants, seeds) if variants else ()
    return [_row(study, part, named[one.variant], one) for one in found]


def _row(study: Study, part: str, trial: Trial, one: sweep.Made) -> Row:
    """One run; one that diverged says so instead of giving numbers."""
    row: Row = {
        "study": study.name,
        "part": part,
        "setting": trial.setting,
        "seed": one.seed,
        "learning_rate": trial.rate,
        "damping": trial.damping,
    }
    if one.run is None:
        return row | {"digest": None, "failed": one.reason}
    steps = one.run.steps
    tested = steps.dropna(subset=["test_loss"])
    row["digest"] = one.run.manifest["digest"]
    for measure in ("test_accuracy", "test_loss"):
        values = tested[measure].tolist()
        row |= {measure: values[-1], f"late_{measure}": float(np.mean(values[-study.late :]))}
    row["late_train_loss"] = float(steps["train_loss"].iloc[-study.every :].mean())
    if trial.setting in (DIGITAL, IDEAL):
        row["first_train_losses"] = steps["train_loss"].iloc[:FIRST].tolist()
    return row


def tuning(study: Study) -> Iterator[Trial]:
    """The grids of Adam and of K-FAC with digital inverses."""
    yield from (Trial(ADAM, rate, None) for rate in study.adam_rates)
    yield from (Trial(DIGITAL, rate, d) for rate in study.rates for d in study.dampings)


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


def comparison(best: dict[str, tuple[float, float | None]]) -> Iterator[Trial]:
    """All settings at the rates found."""
    if ADAM in best:
        yield Trial(ADAM, *best[ADAM])
    yield from (Trial(setting, *best[DIGITAL]) for setting in SETTINGS)


def retuning(study: Study, best: dict[str, tuple[float, float | None]]) -> Iterator[Trial]:
    """Larger rates for K-FAC with few input bits."""
    rate, damping = best[DIGITAL]
    for setting in study.retuned:
        yield from (Trial(setting, float(f"{factor * rate:g}"), damping) for factor in LARGER)


def make(given: argparse.Namespace, study: Study) -> list[Row]:
    """Tuning, the comparison, then both again for few input bits."""
    rows = run_part(given, study, "tuning", tuning(study), study.tuning_seeds)
    best = chosen(rows, study)
    rows += run_part(given, study, "comparison", comparison(best), study.seeds)
    rows += run_part(given, study, "retuning", retuning(study, best), study.tuning_seeds)
    found = chosen(rows, study, "retuning")
    own = [Trial(setting, *found[setting]) for setting in study.retuned]
    return rows + run_part(given, study, "retuned", own, study.seeds)
