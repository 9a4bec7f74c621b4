"""Charts of answers: ticks that can be read, nothing that JSON cannot say."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridsim.reports.study_figures import Axis, Curve, Heat, curves, heat_map


def curve_of(x, y) -> Curve:
    none = [math.nan] * len(x)
    return Curve("", x, y, none, none, [False] * len(x), [""] * len(x))


@given(st.floats(1e-9, 1e9), st.floats(10, 1e9))
def test_a_logarithmic_axis_has_few_ticks_in_the_order_of_their_size(low, factor):
    figure = curves([curve_of([low, low * factor], [1, 2])], Axis("x", log=True), Axis("y"), "")
    axis = figure.layout.xaxis
    inside = [tick for tick in axis.tickvals if low <= tick <= low * factor]
    assert list(axis.tickvals) == sorted(axis.tickvals)
    assert 1 <= len(inside) <= 12
    assert len(axis.ticktext) == len(set(axis.ticktext)) == len(axis.tickvals)
    assert figure.layout.yaxis.tickvals is None


def test_values_are_shown_with_the_prefix_of_their_unit():
    x = Axis("bandwidth", log=True, unit="b/s")
    figure = curves([curve_of([1e9, 5e10], [1, 2])], x, Axis(""), "")
    assert figure.layout.xaxis.title.text == "bandwidth (Gb/s)"
    assert list(figure.data[0].x) == [1.0, 50.0]
    assert {"1", "10"} <= set(figure.layout.xaxis.ticktext)


@pytest.mark.parametrize("hole", [math.nan, math.inf, 0.0])
def test_what_is_not_known_is_left_out(hole):
    z = np.array([[1.0, hole], [2.0, 4.0]])
    heat = Heat(["a", "b"], ["c", "d"], z, [["", ""], ["", ""]], [(1, 0)], "s", True)
    figure = heat_map(heat, "x", "y", "caption")
    drawn = json.loads(figure.to_json())["data"]
    assert drawn[0]["z"] == [[0.0, None], [1.0, 2.0]]
    assert (drawn[0]["zmin"], drawn[0]["zmax"]) == (-2.0, 2.0)
    assert (drawn[1]["x"], drawn[1]["y"]) == (["a"], ["d"])
