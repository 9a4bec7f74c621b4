"""The functions of one eigenvalue against 60-digit arithmetic, from s = 0 to stiff."""

from __future__ import annotations

import mpmath as mp
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from hybridsim.circuits import modes

rates = st.one_of(st.just(0.0), st.floats(-30, 6).map(lambda e: 10.0**e))
times = st.floats(-6, 8).map(lambda e: 10.0**e)
dampings = st.floats(-8, 2).map(lambda e: 10.0**e)


def tensor(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def exact_response(a: mp.mpf, h: mp.mpf) -> mp.mpf:
    return h if a == 0 else -mp.expm1(-a * h) / a


def exact_slope(f, s: float, damping: float) -> mp.mpf:  # noqa: ANN001 - a function of one rate
    step = mp.mpf(s) if s else mp.mpf(10) ** -40
    return (f(step + mp.mpf(damping)) - f(mp.mpf(damping))) / step


@given(rates, times)
def test_response(a: float, h: float) -> None:
    with mp.workdps(120):
        exact = exact_response(mp.mpf(a), mp.mpf(h))
    assert float(modes.response(tensor(a), tensor(h))) == pytest.approx(float(exact), rel=1e-14)


@given(rates.filter(lambda a: a < 10), st.floats(1e-3, 30))
def test_response_of_a_runaway_mode(a: float, h: float) -> None:
    with mp.workdps(120):
        exact = exact_response(-mp.mpf(a), mp.mpf(h))
    assert float(modes.response(tensor(-a), tensor(h))) == pytest.approx(float(exact), rel=1e-12)


@given(rates, dampings, times)
def test_slopes_do_not_cancel(s: float, damping: float, h: float) -> None:
    """Relative accuracy, with rounding allowed for where s times the slope vanishes beside
    f(damping)."""
    with mp.workdps(120):
        hh = mp.mpf(h)
        slopes = {
            "decay": (modes.decay_slope, lambda a: mp.exp(-a * hh)),
            "response": (modes.response_slope, lambda a: exact_response(a, hh)),
        }
        for name, (ours, f) in slopes.items():
            got = float(ours(tensor(s), tensor(damping), tensor(h)))
            exact = float(exact_slope(f, s, damping))
            floor = 1e-15 * float(f(mp.mpf(damping))) / max(s, damping, 1e-300)
            assert got == pytest.approx(exact, rel=1e-11, abs=floor + 1e-300), name


@given(rates, dampings, times, st.floats(1e-8, 10))
def test_spread_slope(s: float, damping: float, h: float, kappa0: float) -> None:
    with mp.workdps(120):
        sigma = lambda a: mp.sqrt(mp.mpf(kappa0) * exact_response(a, 2 * mp.mpf(h)))  # noqa: E731
        exact = float(exact_slope(sigma, s, damping))
        at_damping = float(sigma(mp.mpf(damping)))
    got = float(modes.spread_slope(tensor(s), tensor(damping), tensor(h), kappa0))
    assert got == pytest.approx(exact, rel=1e-11, abs=1e-15 * at_damping / max(s, damping))


@given(rates, dampings, st.floats(0, 1e-300), st.floats(0, 1e-2))
@example(0.0, 1.0, 5e-324, 0.01)
def test_spread_slope_vanishes_with_the_noise(
    s: float, damping: float, h: float, kappa0: float
) -> None:
    got = float(modes.spread_slope(tensor(s), tensor(damping), tensor(h), kappa0))
    assert got == pytest.approx(0.0, abs=1e-300)


@given(dampings, times, st.floats(0.1, 10))
def test_variance_is_kappa0_times_response_of_twice_the_time(
    a: float, h: float, kappa0: float
) -> None:
    got = modes.spread(tensor(a), tensor(h), kappa0) ** 2
    assert float(got) == pytest.approx(
        float(kappa0 * modes.response(tensor(a), tensor(2 * h))), rel=1e-14
    )
