"""From how many SPUs on does thermodynamic K-FAC pay, against digital K-FAC on the same GPU?

Four studies. ``break_even`` trains both sides on the digits, ten seeds, to 95 % test accuracy, so
that the steps to the target and the solver's error belong to the settling time that is paid for.
``break_even_constants`` asks who wins there under joint draws of all constants.
``break_even_wide`` and ``break_even_settling`` are schedules of four layers of n x n at the
paper's batch, up to n = 8192: how many SPUs, and how long a solve may settle. Nothing is trained
there, so that no point of theirs is trusted, and there are no seeds.

    python -m analysis.papers.break_even --out analysis/papers/results/break_even.json
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

import hybridsim
from analysis.papers import sweep
from analysis.papers.digits_race import shares
from analysis.papers.paired import ends
from analysis.papers.record import save

TRAINED, CONSTANTS = "break_even", "break_even_constants"
WIDE, SETTLING = "break_even_wide", "break_even_settling"
HIDDEN, WIDTH = "workload.options.hidden", "workload.options.width"
SETTLE, SPUS = "training.algorithm.settle", "machine.spus.count"
BANDWIDTH = "machine.link.bandwidth"
SIDES = ("thermodynamic", "digital")
Row = dict[str, Any]


def needed(line: Mapping[str, Any], grid: tuple[int, ...]) -> Row:
    """The least number of SPUs with which the thermodynamic side is ahead, from a line of the
    answer: as a text, with the numbers between which no difference is detectable.
    """
    found = [one for one in line["crossings"] if one["wins_behind"].startswith(SIDES[0])]
    if not found:
        ahead = (line["throughout"] or "").startswith(SIDES[0])
        return {"SPUs": str(grid[0]) if ahead else f"> {grid[-1]}", "low": None, "high": None}
    first = found[0]
    spus = str(round(first["between"][-1]))
    return {"SPUs": spus, "low": first["low"], "high": first["high"]}


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


def lines(found: hybridsim.StudyResult) -> list[dict[str, Any]]:
    """The answer's lines: one for each combination of the other axes' values."""
    assert found.answer is not None, "no shard"
    own: list[dict[str, Any]] = list(found.answer.facts["lines"])
    return own


def summarise(found: Mapping[str, hybridsim.StudyResult]) -> Row:
    """All four answers as tables."""
    table, told = found[TRAINED].points, dict(trained(found[TRAINED].points))
    for line in lines(found[TRAINED]):
        key = (int(line["values"][HIDDEN]), str(line["values"][SETTLE]))
        told[key] |= needed(line, (1, 64))
    constants = found[CONSTANTS].answer
    assert constants is not None, "no shard"
    for point in constants.facts["points"]:
        values = point["values"]
        told[int(values[HIDDEN]), str(values[SETTLE])]["shares"] = shares({"points": [point]})
    return {
        "trained": {f"{n}, {settle}": row for (n, settle), row in told.items()},
        "thermodynamic over digital": list(at_each(table, ("seconds", "joules"))),
        "SPUs needed on wide layers": _by_width(found[WIDE], (SETTLE, BANDWIDTH), _spus),
        "longest settling that pays": _by_width(found[SETTLING], (SPUS,), _settling),
        "answers": {name: sweep.said(one) for name, one in found.items()},
    }


def _spus(line: Mapping[str, Any]) -> str:
    return str(needed(line, (1, 64))["SPUs"])


def _settling(line: Mapping[str, Any]) -> str:
    if not line["crossings"]:
        return "pays throughout" if line["throughout"].startswith(SIDES[0]) else "nowhere"
    return str(line["crossings"][0]["text"])


def _by_width(found: hybridsim.StudyResult, fields: tuple[str, ...], read: Any) -> Row:
    """What is read from each line, by the fields beside the width, then by width."""
    told: Row = {}
    for line in lines(found):
        name = ", ".join(str(line["values"][field]) for field in fields)
        told.setdefault(name, {})[line["values"][WIDTH]] = read(line)
    return told


def main() -> None:
    """Run the studies and write what they found."""
    given = sweep.parser(__doc__).parse_args()
    found = {name: sweep.study(given, name) for name in (TRAINED, CONSTANTS, WIDE, SETTLING)}
    runs = [{"study": name, **row} for name, one in found.items() for row in sweep.rows(one)]
    save(given.out, "break_even", {"studies": list(found)}, summarise(found), runs)


if __name__ == "__main__":
    main()
