"""From how many SPUs on is thermodynamic K-FAC faster than digital K-FAC to 95 % on the digits?

Both sides are trained with ten seeds, so that the steps to the target and the solver's error belong
to the settling time that is paid for. ``break_even_constants`` asks who wins at 64 SPUs under joint
draws of all constants.

    python -m analysis.papers.break_even_trained --out build/papers/break_even_trained.json
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

import hybridsim
from analysis.papers import sweep
from analysis.papers.break_even import GRID, SETTLE, SIDES, SPUS, Row, lines, needed
from analysis.papers.digits_race import shares
from analysis.papers.paired import ends
from analysis.papers.record import save

TRAINED, CONSTANTS = "break_even_trained", "break_even_constants"
HIDDEN = "workload.options.hidden"


def trained(points: pd.DataFrame) -> Iterator[tuple[tuple[int, str], Row]]:
    """By hidden units and settling time: what training came to, SPUs left aside."""
    once = points.drop_duplicates(["side", "seed", HIDDEN, SETTLE])
    for key, own in once.groupby([HIDDEN, SETTLE], sort=False):
        row: Row = {}
        for side in SIDES:
            mine = own[own["side"] == side]
            steps = [float(step) for step in mine["step"] if step == step and step is not None]
            row[f"{side} steps"] = ends(hybridsim.log_interval(steps))
            row[f"{side} seeds that reached the target"] = f"{len(steps)} of {len(mine)}"
        errors = own.loc[own["side"] == SIDES[0], "solver_error"].astype(float)
        row["solver error"] = {"mean": errors.mean(), "highest": errors.max()}
        yield (int(str(key[0])), str(key[1])), row


def at_each(points: pd.DataFrame, measures: tuple[str, ...]) -> Iterator[Row]:
    """Thermodynamic over digital at every combination, paired by seed."""
    fields = [HIDDEN, SETTLE, SPUS]
    for key, own in points.groupby(fields, sort=True):
        sides = [own[own["side"] == side].set_index("seed") for side in SIDES]
        row: Row = dict(zip(fields, key, strict=True))
        for measure in measures:
            both = pd.concat([side[measure] for side in sides], axis=1).dropna().astype(float)
            pair = hybridsim.paired_ratio(both.iloc[:, 1].tolist(), both.iloc[:, 0].tolist())
            row[measure] = ends(pair.interval) | {"pairs": len(both)}
        yield row


def summarise(found: Mapping[str, hybridsim.StudyResult]) -> Row:
    """Both answers as tables by hidden units and settling time."""
    table, told = found[TRAINED].points, dict(trained(found[TRAINED].points))
    for line in lines(found[TRAINED]):
        told[_key(line["values"])] |= needed(line, GRID)
    constants = found[CONSTANTS].answer
    assert constants is not None, "no shard"
    for point in constants.facts["points"]:
        told[_key(point["values"])]["shares"] = shares({"points": [point]})
    return {
        "by width and settling": {f"{n}, {settle}": row for (n, settle), row in told.items()},
        "thermodynamic over digital": list(at_each(table, ("seconds", "joules"))),
        "answers": {name: sweep.said(one) for name, one in found.items()},
    }


def _key(values: Mapping[str, Any]) -> tuple[int, str]:
    return int(values[HIDDEN]), str(values[SETTLE])


def main() -> None:
    """Run the studies and write what they found."""
    given = sweep.parser(__doc__).parse_args()
    found = {name: sweep.study(given, name) for name in (TRAINED, CONSTANTS)}
    runs = [{"study": name, **row} for name, one in found.items() for row in sweep.rows(one)]
    save(given.out, "break_even_trained", {"studies": list(found)}, summarise(found), runs)


if __name__ == "__main__":
    main()
