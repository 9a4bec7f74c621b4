"""Fixtures for all tests; this folder is on sys.path, so `from forbid import NoSolver` works below
it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from forbid import NoSolver
from hypothesis import settings

# No test asserts a timing, hypothesis' deadline of 200 ms included: a busy machine is no failure.
settings.register_profile("hybridsim", deadline=None)
settings.load_profile("hybridsim")


@pytest.fixture
def no_solver() -> Iterator[None]:
    """The test fails if anything in it solves, inverts or fits a linear system."""
    with NoSolver():
        yield
