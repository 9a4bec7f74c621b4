"""Fixtures for all tests; this folder is on sys.path, so `from forbid import NoSolver` works below
it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from forbid import NoSolver


@pytest.fixture
def no_solver() -> Iterator[None]:
    """The test fails if anything in it solves, inverts or fits a linear system."""
    with NoSolver():
        yield
