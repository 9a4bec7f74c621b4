"""What of an analog answer's error is due to what, over a learning curve."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridsim.results.columns import STEP_MEANINGS
from hybridsim.results.solves import EFFECTS, dissipation_over_minimum, error_by_effect

SIZES = st.lists(st.floats(1e-6, 10), min_size=1, max_size=7)


@given(values=SIZES, gaps=st.integers(0, 3))
def test_medians_over_the_steps_that_were_evaluated(values, gaps):
    column = [*values, *[np.nan] * gaps]
    steps = pd.DataFrame({f"solver_error_{effect}": column for effect in EFFECTS[:2]})
    found = error_by_effect(steps)
    assert list(found) == list(EFFECTS[:2])
    assert found["settling"] == pytest.approx(np.median(values))
    assert error_by_effect(pd.DataFrame({"step": [1]})) == {}


@given(values=SIZES)
def test_dissipation_over_the_least(values):
    steps = pd.DataFrame({"settle_dissipation": 3.0, "minimum_dissipation": [*values, 0.0]})
    assert dissipation_over_minimum(steps) == pytest.approx(np.median(3 / np.array(values)))
    assert dissipation_over_minimum(pd.DataFrame({"step": [1]})) is None


def test_every_effect_has_a_meaning():
    assert {f"solver_error_{effect}" for effect in EFFECTS} <= set(STEP_MEANINGS)
