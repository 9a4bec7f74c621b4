"""All that needs no torch, done with run folders that are there; torch is refused if installed.

    python tests/without_torch.py OUT RUN RUN

Into OUT come the pages, exports and texts; they are the same whatever Python writes them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path

TEXTS = {
    "version": ("--version",),
    "parts": ("parts",),
    "part": ("parts", "paper"),
    "schema": ("schema",),
    "study-schema": ("schema", "--study"),
    "check": ("check", "adam-digits"),
    "verify": ("verify", "first"),
    "report": ("report", "first"),
    "comparison": ("compare", "first", "second"),
    "timeline": ("timeline", "first"),
    "perfetto": ("timeline", "first", "--format", "perfetto"),
    "chrome": ("timeline", "first", "--format", "chrome"),
}
"""What each command prints is kept."""
AGES = ("runs", ".")
"""What it prints changes by the second."""


class Refuse(MetaPathFinder):
    """An importer that refuses torch, and leaves all else to those after it."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return None


def call(*words: str) -> None:
    """The command line in this process."""
    from hybridsim.cli import main

    sys.argv = ["hybridsim", *words]
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise


def public_names() -> str:
    """What a script does with a run and a scenario."""
    import hybridsim

    run, other = hybridsim.Run.open("first"), hybridsim.Run.open("second")
    scenario = hybridsim.load("tngd-digits", ["training.steps=3"])
    table = hybridsim.compare_table([run, other])
    lines = [hybridsim.to_latex(table), scenario.to_yaml(), str(run.summary["energy"])]
    lines += [str(hybridsim.mean_interval([1.0, 2.0, 4.0])), str(run.time_band)]
    return "\n".join([*lines, run.steps.to_string(), str(hybridsim.load_part("gpu", "host-cpu"))])


def main(out: Path, *runs: Path) -> None:
    """Do all of it in OUT, with copies of the runs."""
    for name, folder in zip(("first", "second"), runs, strict=True):
        shutil.copytree(folder, out / name)
    os.chdir(out)
    for name, words in TEXTS.items():
        with Path(f"{name}.txt").open("w") as file, contextlib.redirect_stdout(file):
            call(*words)
    call(*AGES)
    Path("names.txt").write_text(public_names())


if __name__ == "__main__":
    sys.meta_path.insert(0, Refuse())
    main(*map(Path, sys.argv[1:]))
