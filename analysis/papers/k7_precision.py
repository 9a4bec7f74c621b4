"""K7: 6-16 input bits hardly matter, the output needs at least 8; 8-bit K-FAC competitive with Adam
in float32.

Verdicts rest on the test accuracy averaged over the last evaluations, paired by seed (95 % t
intervals), against a margin of 1 point (digits) and 3 points (CIFAR-10) that was fixed before the
runs: "hardly matters", the whole interval of the difference to ideal converters within +- margin;
"enough" and "competitive", the whole interval above -margin; "needs more", the whole interval below
-margin; each "does not" where the interval lies on the other side, else "not separable". A run that
diverges counts as accuracy 0 and is listed. Finished runs stay in the folder of runs, and a second
call goes on where the first stopped.

    python -m analysis.papers.k7_precision --out analysis/papers/results/k7_precision.json

With ``--page FILE`` the result file is drawn and nothing runs.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

import hybridsim
from analysis.papers import sweep
from analysis.papers.k7_figure import draw
from analysis.papers.k7_runs import (
    ADAM,
    BITS,
    DIGITAL,
    IDEAL,
    REALISTIC,
    SETTINGS,
    STUDIES,
    Row,
    Study,
    Trial,
    chosen,
    comparison,
    make,
    score,
)
from analysis.papers.k7_shift import shifts
from analysis.papers.paired import difference, mean_interval, ratio, verdict
from analysis.papers.record import save

NEVER = "not separable"
ENOUGH = (8, 12, 16)  # output bits that the claim calls enough
MATTER_LITTLE = (6, 8, 12, 16)  # input bits of the claim


def compared(rows: list[Row], study: Study) -> dict[str, list[Row]]:
    """Runs of the comparison by setting, those seeds at which every setting has one, in the order
    of the seeds.
    """
    mine = [row for row in rows if _is(row, study, "comparison")]
    wanted = {trial.setting for trial in comparison(chosen(rows, study))} if mine else set()
    by_seed: dict[int, dict[str, Row]] = {}
    for row in mine:
        by_seed.setdefault(row["seed"], {})[row["setting"]] = row
    whole = sorted(seed for seed, found in by_seed.items() if wanted <= set(found))
    return {
        setting: [by_seed[seed][setting] for seed in whole]
        for setting in (ADAM, *SETTINGS)
        if setting in wanted
    }


def summarise(rows: list[Row], study: Study) -> dict[str, Any]:
    """Tuning, means, differences to ideal converters and to Adam, and verdicts; fewer than two
    seeds: tuning alone.
    """
    found = compared(rows, study)
    summary: dict[str, Any] = {"tuning": _tuned(rows, study), "margin": study.margin}
    if not found or len(found[IDEAL]) < 2:
        return summary
    scores = {setting: [score(row) for row in of] for setting, of in found.items()}
    summary["seeds"] = [row["seed"] for row in found[IDEAL]]
    summary["settings"] = {setting: _means(of) for setting, of in found.items()}
    thermodynamic = [setting for setting in found if setting not in (ADAM, IDEAL)]
    summary["accuracy minus ideal"] = {
        s: difference(scores[s], scores[IDEAL]) for s in thermodynamic
    }
    summary["loss over ideal"] = {s: _loss_ratio(found[s], found[IDEAL]) for s in thermodynamic}
    if ADAM in scores:
        summary["accuracy minus adam"] = {
            s: difference(scores[s], scores[ADAM]) for s in (IDEAL, *thermodynamic)
        }
        summary["loss over adam"] = {
            s: _loss_ratio(found[s], found[ADAM]) for s in (IDEAL, *thermodynamic)
        }
    summary["long settle against digital"] = _settled(found)
    if study.retuned:
        summary["retuned"] = _retuned(rows, study, found[IDEAL])
    return summary | {"verdicts": verdicts(summary, study.margin)}


def _retuned(rows: list[Row], study: Study, ideal: list[Row]) -> dict[str, Any]:
    """Few input bits at a rate of their own, against ideal converters."""
    result: dict[str, Any] = {"tuning": _grid(rows, study, "retuning")}
    for setting in study.retuned:
        mine = {r["seed"]: r for r in rows if _is(r, study, "retuned") and r["setting"] == setting}
        if not {row["seed"] for row in ideal} <= set(mine):
            continue
        paired = [mine[row["seed"]] for row in ideal]
        gap = difference([score(row) for row in paired], [score(row) for row in ideal])
        result[setting] = {
            "learning_rate": paired[0]["learning_rate"],
            **_means(paired),
            "accuracy minus ideal": gap,
            "loss over ideal": _loss_ratio(paired, ideal),
            "hardly matters": verdict(gap, -study.margin, study.margin),
        }
    return result


def _is(row: Row, study: Study, part: str) -> bool:
    return (row["study"], row["part"]) == (study.name, part)


def at_least(found: dict[str, Any], low: float) -> str:
    """``holds`` where the whole interval lies above ``low``, ``does not`` where all of it lies
    below.
    """
    return verdict(found, low, math.inf)


def verdicts(summary: dict[str, Any], margin: float) -> dict[str, Any]:
    """By setting, then the claim's three sentences."""
    gaps = summary["accuracy minus ideal"]
    little = {f"input {b}": verdict(gaps[f"input {b}"], -margin, margin) for b in BITS}
    enough = {f"output {b}": at_least(gaps[f"output {b}"], -margin) for b in BITS}
    opposite = {"holds": "does not", "does not": "holds", NEVER: NEVER}
    result: dict[str, Any] = {
        "hardly matters": little,
        "6 to 16 input bits hardly matter": together([little[f"input {b}"] for b in MATTER_LITTLE]),
        "enough": enough,
        "8 to 16 output bits are enough": together([enough[f"output {b}"] for b in ENOUGH]),
        "6 output bits are too few": opposite[enough["output 6"]],
        "4 output bits are too few": opposite[enough["output 4"]],
    }
    if "accuracy minus adam" in summary:
        against = summary["accuracy minus adam"]
        for setting in (IDEAL, "all 8", f"{REALISTIC}, all 8"):
            result[f"{setting}: competitive with adam"] = at_least(against[setting], -margin)
    return result


def together(found: list[str]) -> str:
    """All hold, or one does not, or neither is known."""
    return "does not" if "does not" in found else "holds" if set(found) == {"holds"} else NEVER


def _means(rows: list[Row]) -> dict[str, Any]:
    failed = [row["seed"] for row in rows if "failed" in row]
    result: dict[str, Any] = {"late_test_accuracy": mean_interval([score(row) for row in rows])}
    if failed:
        return result | {"failed seeds": failed}
    measures = ("test_accuracy", "late_test_loss", "test_loss", "late_train_loss")
    return result | {m: mean_interval([row[m] for row in rows]) for m in measures}


def _loss_ratio(first: list[Row], second: list[Row]) -> dict[str, Any] | None:
    """None where a run failed: it has no loss."""
    if any("failed" in row for row in (*first, *second)):
        return None
    return ratio(
        [row["late_test_loss"] for row in first], [row["late_test_loss"] for row in second]
    )


def _settled(found: dict[str, list[Row]]) -> dict[str, float]:
    """How far the first training losses of the long settle with ideal converters lie from digital
    K-FAC's.
    """
    pairs = zip(found[IDEAL], found[DIGITAL], strict=True)
    losses = [
        (a["first_train_losses"], b["first_train_losses"])
        for a, b in pairs
        if not {"failed"} & {*a, *b}
    ]
    gaps = [np.abs(np.subtract(a, b) / b).max() for a, b in losses]
    return {
        "largest relative difference of the first training losses": float(
            max(gaps, default=math.nan)
        )
    }


def _tuned(rows: list[Row], study: Study) -> dict[str, Any]:
    grid = _grid(rows, study, "tuning")
    return {
        "mean late test accuracy": grid,
        "chosen": chosen(rows, study),
        "seeds": list(study.tuning_seeds),
    }


def _grid(rows: list[Row], study: Study, part: str) -> dict[str, dict[str, float]]:
    """Mean score over the tuning seeds, by setting and what was tried."""
    grid: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if _is(row, study, part):
            damping = "" if row["damping"] is None else f", damping {row['damping']:g}"
            at = f"rate {row['learning_rate']:g}{damping}"
            grid.setdefault(row["setting"], {}).setdefault(at, []).append(score(row))
    return {
        setting: {at: float(np.mean(v)) for at, v in of.items()} for setting, of in grid.items()
    }


def _described(study: Study) -> dict[str, Any]:
    kept = ("overrides", "kfac", "steps", "every", "late", "seeds", "tuning_seeds", "margin")
    return {name: getattr(study, name) for name in kept}


def measured_shifts(rows: list[Row]) -> dict[str, Any]:
    """Growth of the diagonals in every study, at the rate and damping it compares with, seed 0."""
    result = {}
    for study in STUDIES:
        trial = Trial(DIGITAL, *chosen(rows, study)[DIGITAL])
        scenario = trial.variant(study).load(seed=study.seeds[0])
        found = shifts(hybridsim.load_task(scenario), scenario, BITS)
        first = [row for row in compared(rows, study)[DIGITAL] if row["seed"] == study.seeds[0]]
        theirs = first[0]["first_train_losses"]
        gaps = np.abs(np.subtract(found.pop("losses")[: len(theirs)], theirs)) / theirs
        result[study.name] = {
            **found,
            "first losses differ from the simulator's by at most": float(gaps.max()),
        }
    return result


def main() -> None:
    """Run what is missing and write, or draw."""
    parser = sweep.parser(__doc__)
    parser.add_argument("--page", type=Path, help="draw the result file to this HTML file")
    given = parser.parse_args()
    if given.page:
        return draw(given.page, json.loads(given.out.read_text())["summary"])
    rows = [row for study in STUDIES for row in make(given, study)]
    setting = {study.name: _described(study) for study in STUDIES}
    setting["diagonal shift"] = measured_shifts(rows)
    summary = {study.name: summarise(rows, study) for study in STUDIES}
    return save(given.out, "k7_precision", setting, summary, rows)


if __name__ == "__main__":
    main()
