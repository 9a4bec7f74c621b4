"""The race: digital and thermodynamic optimizers to one accuracy, in steps, seconds and joules.

``studies/race-<task>.yaml`` says what runs: each side chooses its settings on seeds of its own,
with equal budgets; all of them run with every kernel launched by the host (eager) and with CUDA
graphs. Means over seeds are geometric, with 95 % intervals by Student's t on logs. Each side is
held against the best digital one, paired by seed; with CUDA graphs, where all are at their fastest,
also under joint draws of both machines' constants.

    python -m analysis.papers.race digits --out analysis/papers/results/race_digits.json

Whatever the folder of runs holds is not run again: after a change of datasheets alone the same
command prices the stored numbers anew. A change of the program trains all again; with ``--settings
analysis/papers/results/race_digits.json`` the settings stay those that the result chose, and the
seeds of the race alone are trained. After a change of SPUs alone ``--kept`` takes the digital sides
from a result: the best of them alone is tuned and trained, and must come to the kept digests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

import hybridsim
from analysis.papers import sweep
from analysis.papers.digits_race import shares
from analysis.papers.paired import ends, mean_interval, ratio
from analysis.papers.record import runs_of, save

TASKS = ("digits", "mnist", "molecules", "vit")
MEASURES = ("step", "seconds", "joules")
DRAWN = ("seconds", "joules")
DRAWS = 1000
ANALOG = ("kfac-thermodynamic", "tngd")
LAUNCH = "machine.gpu.launch"
DRAWN_UNDER = "graph"
Row = dict[str, Any]  # Any: goes to JSON
Settings = Mapping[str, Mapping[str, Any]]
"""By side: what it chose, by field."""


def told(points: pd.DataFrame, side: str) -> Row:
    """A side's means with their intervals, over the seeds that reached the target."""
    own = points[points["side"] == side]
    reached = own[own["reached"] == True]  # noqa: E712  # a column of True, False, None
    found: Row = {"reached": len(reached), "seeds": len(own)}
    if len(reached):
        for measure in MEASURES:
            found[measure] = ends(hybridsim.log_interval(_values(reached, measure)))
    errors = own["solver_error"].astype(float).dropna().tolist()
    if errors:
        found["solver error"] = {**mean_interval(errors), "highest": max(errors)}
    return found


def best(rows: Mapping[str, Row], measure: str, sides: Sequence[str]) -> str:
    """Of the sides that reached the target with most seeds the one with the lowest mean."""

    def order(side: str) -> tuple[int, float]:
        row = rows[side]
        return -row["reached"], row[measure]["mean"] if row["reached"] else float("inf")

    return min(sides, key=order)


def against(points: pd.DataFrame, side: str, rival: str, measure: str) -> Row:
    """``side`` over ``rival``, paired by seed over the seeds at which both got there."""
    reached = points[points["reached"] == True]  # noqa: E712  # a column of True, False, None
    own, other = (reached[reached["side"] == name].set_index("seed") for name in (side, rival))
    both = sorted(set(own.index) & set(other.index))
    if len(both) < 2:
        return {"rival": rival, "pairs": len(both)}
    values = [_values(one.loc[both], measure) for one in (own, other)]
    return {"rival": rival, **ratio(*values)}


def _values(rows: pd.DataFrame, measure: str) -> list[float]:
    return [float(value) for value in rows[measure]]


def standings(points: pd.DataFrame) -> Row:
    """The outcome under one way of launching: every side, the best digital and the best
    thermodynamic one by each measure, and everybody against that digital one.
    """
    sides = list(dict.fromkeys(points["side"]))
    rows = {side: told(points, side) for side in sides}
    digital = [side for side in sides if side not in ANALOG]
    analog = [side for side in sides if side in ANALOG]
    rivals = {measure: best(rows, measure, digital) for measure in MEASURES}
    challengers = {measure: best(rows, measure, analog) for measure in MEASURES}
    for side, row in rows.items():
        row["over the best digital"] = {
            measure: against(points, side, rivals[measure], measure)
            for measure in MEASURES
            if side != rivals[measure]
        }
        if side in ANALOG:
            row["over each digital"] = {
                rival: {measure: against(points, side, rival, measure) for measure in MEASURES}
                for rival in digital
            }
    return {"best digital": rivals, "best thermodynamic": challengers, "sides": rows}


def duel(document: Row, sides: Sequence[str], measures: Sequence[str], draws: int = DRAWS) -> Row:
    """The study that asks how often ``sides`` win under joint draws; it trains nothing anew."""
    return document | {
        "name": " against ".join(sides),
        "scenarios": {side: document["scenarios"][side] for side in sides},
        "set": document["set"] | {LAUNCH: DRAWN_UNDER},
        "axes": [],
        "question": {"kind": "uncertainty", "draws": draws, "measures": list(measures)},
    }


def duels(found: Row) -> list[tuple[str, str, list[str]]]:
    """Who meets whom, by which measures: each side the best digital one."""
    rivals = {measure: found["best digital"][measure] for measure in DRAWN}
    return [
        (side, rival, [measure for measure in DRAWN if rivals[measure] == rival])
        for side, row in found["sides"].items()
        for rival in dict.fromkeys(rivals.values())
        if side != rival and row["reached"]
    ]


def study_of(task: str, chosen: Settings | None) -> Row:
    """The study file as maps; with settings that were chosen before there is no tuning."""
    found: Row = YAML(typ="safe").load((sweep.FILES / f"race-{task}.yaml").read_text())
    if chosen is not None:
        del found["tuning"]
        for side, own in chosen.items():
            found["scenarios"][side]["set"] |= own
    return found


def thermodynamic_of(task: str, kept: Row) -> Row:
    """The study with thermodynamic sides, and of digital ones those that ``kept`` has as best."""
    best_ones = {kept["summary"][DRAWN_UNDER]["best digital"][measure] for measure in DRAWN}
    found = study_of(task, None)
    for sides in (found["scenarios"], found["tuning"]["fields"]):
        for side in set(sides) - {*ANALOG, *best_ones}:
            del sides[side]
    return found


def with_kept(points: pd.DataFrame, kept: Row) -> pd.DataFrame:
    """Thermodynamic sides from ``points``, digital ones from an earlier result.

    Raises:
        ValueError: a digital side that was trained is not what was kept.
    """
    before = pd.DataFrame(runs_of(kept))
    digital = before[~before["side"].isin(ANALOG)]
    again = points[~points["side"].isin(ANALOG)].drop_duplicates("point")
    known = {(r.side, r.seed, r.digest) for r in digital.itertuples()}
    if lost := [r for r in again.itertuples() if (r.side, r.seed, r.digest) not in known]:
        raise ValueError(f"{lost[0].side}, seed {lost[0].seed}: expected the kept digest")
    return pd.concat([digital, points[points["side"].isin(ANALOG)]], ignore_index=True)


def settings_of(found: hybridsim.StudyResult) -> list[Row]:
    """How each side chose, as ``study.json`` says it, without the candidates."""
    said = json.loads((found.folder / "study.json").read_text())["tuning"]
    return [{name: row[name] for name in row if name != "candidates"} for row in said]


def main() -> None:
    """Run the study and the duels, and write what they found."""
    parser = sweep.parser(__doc__)
    parser.add_argument("task", choices=TASKS, help="what is trained")
    parser.add_argument("--settings", type=Path, help="an earlier result, whose settings to take")
    parser.add_argument("--kept", type=Path, help="an earlier result, whose digital sides to take")
    parser.add_argument(
        "--draws", type=int, default=DRAWS, help="joint draws of each duel; 0: none"
    )
    given = parser.parse_args()
    tuned: list[Row] = []
    kept: Row | None = None
    if given.settings is not None:
        tuned = json.loads(given.settings.read_text())["setting"]["tuning"]
    if given.kept is not None:
        kept = json.loads(given.kept.read_text())
        found = sweep.study(given, thermodynamic_of(given.task, kept))
        points = with_kept(found.points, kept)
        before = kept["setting"]["tuning"]
        tuned = [row for row in before if row["side"] not in ANALOG] + settings_of(found)
    else:
        chosen = {row["side"]: row["choice"] for row in tuned} if tuned else None
        found = sweep.study(given, study_of(given.task, chosen))
        points = found.points
    setting: Row = {"study": f"race-{given.task}.yaml", "tuning": tuned or settings_of(found)}
    if kept is not None:
        setting["digital sides"] = {name: kept[name] for name in ("version", "revision")}
    summary = {str(launch): standings(own) for launch, own in points.groupby(LAUNCH, sort=False)}
    for side, rival, measures in duels(summary[DRAWN_UNDER]) if given.draws else ():
        own = summary[DRAWN_UNDER]["sides"][side]["over the best digital"]
        if kept is not None and side not in ANALOG:
            same = kept["summary"][DRAWN_UNDER]["sides"][side]["over the best digital"]
            own |= {m: own[m] | {"shares": same[m]["shares"]} for m in measures}
            continue
        asked = duel(found.study.document(), (side, rival), measures, given.draws)
        drawn = sweep.study(given, asked)
        assert drawn.answer is not None, "no shard"
        for measure, share in shares(drawn.answer.facts).items():
            own[measure]["shares"] = share
    rows = points.drop_duplicates(["side", "seed", LAUNCH])[["side", "seed", LAUNCH, *sweep.KEPT]]
    table = [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]
    save(given.out, f"race {given.task}", setting, summary, table)


if __name__ == "__main__":
    main()
