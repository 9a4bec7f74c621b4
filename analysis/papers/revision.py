"""The revision of the simulator that a result was made with."""

from __future__ import annotations

import subprocess
from pathlib import Path


def revision() -> str:
    """Short hash of the last commit, marked where files have changed since.

    Raises:
        subprocess.CalledProcessError: the sources are no checkout.
    """
    command = ["git", "describe", "--always", "--dirty=, changed", "--abbrev=7"]
    folder = Path(__file__).parent
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()
