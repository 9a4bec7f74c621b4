"""Fixtures for all tests; this folder is on sys.path, so `from forbid import NoSolver` works below
it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from importlib.abc import MetaPathFinder
from importlib.util import find_spec

# Before torch is loaded, here and in the processes that tests start: the matrices of tests are
# small, and threads that wait for each other take more time than what they share.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# No test asserts a timing, hypothesis' deadline of 200 ms included: a busy machine is no failure.
settings.register_profile("hybridsim", deadline=None)
settings.load_profile("hybridsim")

if find_spec("torch") is None:  # make pythons: tests that ask for it are skipped

    class Skip(MetaPathFinder):
        """The last importer."""

        def find_spec(self, name: str, path: object, target: object = None) -> None:
            if name == "torch":
                pytest.skip("needs torch", allow_module_level=True)

    sys.meta_path.append(Skip())

# A job in the background ignores SIGINT, and tests send it to themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test pulls the plug: waiting for the disk, ten times in every run, would find nothing.
os.fsync = lambda file: None


@pytest.fixture
def no_solver() -> Iterator[None]:
    """The test fails if anything in it solves, inverts or fits a linear system."""
    from forbid import NoSolver  # it needs torch, which some tests do without

    with NoSolver():
        yield
