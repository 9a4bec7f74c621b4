"""Fixtures for all tests; this folder is on sys.path, so `from forbid import NoSolver` works below
it."""

from __future__ import annotations

import os
from collections.abc import Iterator

# Before torch is loaded, here and in the processes that tests start: the matrices of tests are
# small, and threads that wait for each other take more time than what they share.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from forbid import NoSolver
from hypothesis import settings

# No test asserts a timing, hypothesis' deadline of 200 ms included: a busy machine is no failure.
settings.register_profile("hybridsim", deadline=None)
settings.load_profile("hybridsim")

# No test pulls the plug: waiting for the disk, ten times in every run, would find nothing.
os.fsync = lambda file: None


@pytest.fixture
def no_solver() -> Iterator[None]:
    """The test fails if anything in it solves, inverts or fits a linear system."""
    with NoSolver():
        yield
