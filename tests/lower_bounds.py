"""Print the lower bound of every runtime dependency as a constraint: what ``make oldest`` takes."""

from __future__ import annotations

import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def lower_bounds() -> list[str]:
    """``name==bound`` of each; a dependency without a lower bound is an error."""
    pairs = [
        line.split(">=") for line in tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    ]
    return [f"{name}=={bound}" for name, bound in pairs]


if __name__ == "__main__":
    print("\n".join(lower_bounds()))
