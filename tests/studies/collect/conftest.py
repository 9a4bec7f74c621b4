"""One study that all places must find the same points of."""

from __future__ import annotations

import pytest
from small_studies import each_alone, slow_study

from hybridsim.studies.load import load_study


@pytest.fixture(scope="session")
def file(tmp_path_factory):
    """A study file."""
    return slow_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def study(file):
    """The study."""
    return load_study(file)


@pytest.fixture(scope="session")
def expected(study):
    """Its table, every point run by itself."""
    return each_alone(study)
