"""Views of studies as their pages show them: two sides, two axes, seeds, marks and failures."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import numpy as np
import pandas as pd

from hybridsim.reports import figures
from hybridsim.reports.study_view import StudyView

LINK, COUNT = "machine.link.bandwidth", "machine.spus.count"
SIDES = ("thermodynamic", "digital")
WIDTHS = ("10 Gb/s", "50 Gb/s", "200 Gb/s", "800 Gb/s")
COUNTS = (1, 2, 4)
MARK = "solver error {:.2f} above 0.3"
REASON = "spu0: operation 'program' needs {} cells, and rc-1us has 512"


def row_of(side: str, link: str, count: int, seed: int, rng: np.random.Generator) -> dict[str, Any]:
    """A point of a made-up study; the digital side has neither of the fields."""
    digital, width = side == "digital", float(link.partition(" ")[0])
    key = (side, seed) if digital else (side, link, count, seed)
    seconds = 0.9 if digital else 6.0 / width + 0.8 / count + 0.05
    seconds *= 1 + 0.03 * rng.standard_normal()
    joules = 120 * seconds if digital else 70 * seconds + 4 * count
    slow = 6.0 / width > 0.8 / count
    bottleneck = "gpu0 · inverses" if digital else "link0 · factors" if slow else "spu0 · settle"
    return {
        "side": side, "seed": seed, "point": hashlib.sha256(repr(key).encode()).hexdigest()[:16],
        LINK: link, COUNT: count, "status": "ok", "reason": "",
        "how": "live" if seed == 0 else "replayed", "seconds": seconds, "joules": joules,
        "reached": True, "step": 80 + seed, "run_seconds": 1.3 * seconds,
        "run_joules": 1.3 * joules, "run_joules_low": joules, "run_joules_high": 2.1 * joules,
        "steps": 100, "step_seconds": seconds / 80, "step_joules": joules / 80,
        "final_test_accuracy": 0.92, "final_test_loss": 0.31, "final_train_loss": 0.2,
        "solver_error": np.nan if digital else 0.12, "mark": "", "bottleneck": bottleneck,
        "bottleneck_share": 0.55, "unbuildable": "", "digest": "d" * 16, "wall_s": 2.5,
    }  # fmt: skip


def points(seeds: int = 3, widths: tuple[str, ...] = WIDTHS) -> pd.DataFrame:
    """The table of points, with failures of the largest machine and marks of the slowest link."""
    rng = np.random.default_rng(7)
    combinations = itertools.product(SIDES, widths, COUNTS, range(seeds))
    table = pd.DataFrame([row_of(*values, rng=rng) for values in combinations])
    analog = table["side"] == "thermodynamic"
    lost = analog & (table[COUNT] == COUNTS[-1]) & (table[LINK] == widths[1])
    outcomes = ["seconds", "joules", "run_seconds", "run_joules", "bottleneck_share"]
    table.loc[lost, outcomes] = np.nan
    table.loc[lost, "status"], table.loc[lost, "bottleneck"] = "refused", ""
    table.loc[lost, "reason"] = [REASON.format(600 + i) for i in range(lost.sum())]
    doubtful = analog & (table[LINK] == widths[0]) & (table[COUNT] == 1)
    errors = 0.3 + 0.1 * rng.random(doubtful.sum())
    table.loc[doubtful, "solver_error"] = errors
    table.loc[doubtful, "mark"] = [MARK.format(error) for error in errors]
    first = table.drop_duplicates(["side", "point"]).set_index(["side", "point"])
    same = table.set_index(["side", "point"]).index
    columns = [name for name in first.columns if name not in (LINK, COUNT)]
    table[columns] = first.loc[same, columns].to_numpy()
    numbers = [name for name in columns if isinstance(first[name].iloc[0], float)]
    return table.astype(dict.fromkeys(numbers, float))


def view_of(table: pd.DataFrame, **given: Any) -> StudyView:
    """The page's content for a table of points."""
    figure = figures.blank("link bandwidth (Gb/s)", "time to target (ms)", height=380)
    for index, count in enumerate(COUNTS):
        rows = table[(table["side"] == "thermodynamic") & (table[COUNT] == count)]
        means = rows.groupby(LINK, sort=False)["seconds"].mean() * 1e3
        x = [float(str(name).partition(" ")[0]) for name in means.index]
        figure.add_scatter(x=x, y=means.tolist(), mode="lines+markers", name=f"{count} SPUs",
            line={"color": figures.COLOURS[index]})  # fmt: skip
    answer = pd.DataFrame({
        "spus": [1, 2, 4], "crossing": ["52 Gb/s", "23 Gb/s", "none in range"],
        "seconds": [0.91, 0.88, np.nan], "low_s": [0.85, 0.83, np.nan],
    })  # fmt: skip
    content: dict[str, Any] = {
        "name": "Link speed against number of SPUs", "kind": "break_even",
        "sentence": "With two SPUs the thermodynamic side is faster from 23 Gb/s on [19, 31].",
        "notes": ("Intervals are over 3 seeds.", "The digital side has no link."),
        "figure": figure, "answer_table": answer, "points": table, "fields": (LINK, COUNT),
        "sides": SIDES, "seeds": tuple(sorted(set(table["seed"]))), "gate": 0.3,
        "tuning": [
            {"side": side, "candidates": "learning_rate 0.01, 0.02", "budget": "4 runs",
                "chosen": "learning_rate 0.02"}
            for side in SIDES
        ],
        "provenance": {"revision": "0123456789", "versions": {"torch": "2.13.0"},
            "digest": "abc", "study_file": "name: Link speed\nseeds: 3\n"},
        "folders": {point: f"points/{point}" for point in table["point"]},
    }  # fmt: skip
    return StudyView(**{**content, **given})
