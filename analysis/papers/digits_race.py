"""TNGD against Adam on the 8 x 8 digits: steps, simulated seconds and joules to 95 % test accuracy.

``studies/digits_race.yaml`` says what runs: each side's learning rate is chosen on seeds of its
own, with equal budgets. Means over seeds are geometric, with 95 % intervals by Student's t on logs;
ratios are paired by seed, over the seeds at which both got there. Who wins under other constants is
the study's own answer.

    python -m analysis.papers.digits_race --out analysis/papers/results/digits_race.json
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

import hybridsim
from analysis.papers import sweep
from analysis.papers.paired import ends, mean_interval
from analysis.papers.record import save

MEASURES = ("step", "seconds", "joules")
SIDES = ("tngd", "adam")


def summarise(points: pd.DataFrame) -> dict[str, Any]:
    """Both sides' means with their intervals, and the ratio over the seeds of both."""
    reached = points[points["reached"] == True]  # noqa: E712  # a column of True, False, None
    found: dict[str, Any] = {}
    for side in SIDES:
        mine, all_seeds = reached[reached["side"] == side], (points["side"] == side).sum()
        found[side] = {"seeds that reached the target": f"{len(mine)} of {all_seeds}"}
        found[side] |= {m: _told(hybridsim.log_interval(_values(mine, m))) for m in MEASURES}
    errors = points.loc[points["side"] == "tngd", "solver_error"].astype(float)
    found["tngd"]["solver error"] = {**mean_interval(errors.tolist()), "highest": errors.max()}
    tngd, adam = (reached[reached["side"] == side].set_index("seed") for side in SIDES)
    both = sorted(set(tngd.index) & set(adam.index))
    found["tngd over adam, paired by seed"] = {
        m: _compared(_values(adam.loc[both], m), _values(tngd.loc[both], m))
        for m in (MEASURES if both else ())
    }
    return found


def _values(rows: pd.DataFrame, measure: str) -> list[float]:
    return [float(value) for value in rows[measure]]


def _told(found: Any) -> dict[str, Any]:  # Any: the interval's class is no public name
    return {**ends(found), "basis": found.basis}


def _compared(adam: list[float], tngd: list[float]) -> dict[str, Any]:
    found = hybridsim.paired_ratio(adam, tngd)
    verdict = "a difference" if found.detectable else "no detectable difference"
    return {**_told(found.interval), "p": found.p_value, "verdict": verdict}


def shares(facts: Mapping[str, Any]) -> dict[str, Any]:
    """By measure: the share of joint draws in which each side wins, and what decides it."""
    [point] = facts["points"]
    return {
        measure: {
            "wins": found["wins"],
            "draws": found["draws"],
            "deciding": [one["constant"] for one in found["deciding"][:3]],
        }
        for measure, found in point["verdicts"].items()
    }


def main() -> None:
    """Run the study and write what it found."""
    given = sweep.parser(__doc__).parse_args()
    found = sweep.study(given, "digits_race")
    assert found.answer is not None and found.view is not None, "no shard"
    setting = {"study": "digits_race.yaml", "tuning": [dict(row) for row in found.view.tuning]}
    summary = summarise(found.points) | {"shares": shares(found.answer.facts)} | sweep.said(found)
    save(given.out, "digits_race", setting, summary, list(sweep.rows(found)))


if __name__ == "__main__":
    main()
