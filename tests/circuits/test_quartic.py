"""Splitting around the exact linear step against an adaptive integrator, the stationary density by
quadrature, and Euler-Maruyama.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.polynomial.hermite_e import hermegauss
from scipy.integrate import quad, solve_ivp

from hybridsim.circuits import modes
from hybridsim.circuits.dense import Dense, dense
from hybridsim.circuits.low_rank import lowrank
from hybridsim.circuits.quartic import TOLERANCE, Quartic, mesh, settle, split

SEEDS = st.integers(0, 2**31 - 1)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def integrated(a, b, x, q: float, tau: float, what=None) -> np.ndarray:  # noqa: ANN001
    """The state (or the integral of ``what`` of it) of dx/dt = b - A x - q x³, by DOP853."""
    a, b, x = (np.asarray(v) for v in (a, b, x))
    more = 0 if what is None else 1

    def slope(_: float, y: np.ndarray) -> np.ndarray:
        nodes = y[: len(x)]
        own = b - a @ nodes - q * nodes**3
        return own if what is None else np.append(own, what(nodes))

    start = np.append(x, np.zeros(more))
    found = solve_ivp(slope, (0, tau), start, "DOP853", rtol=1e-12, atol=1e-14).y[:, -1]
    return found if what is None else found[-1]


class Case:
    """A random system in two circuits, its matrix, drive and start."""

    def __init__(self, seed: int, n: int = 4) -> None:
        rows, self.b, self.x = normal(seed, 3, n), normal(seed + 1, n), normal(seed + 2, n)
        self.low_rank = lowrank(rows, None, 1.0, 0.2)
        self.dense = dense(rows.T @ rows, 0.2)
        self.a = rows.T @ rows + 0.2 * torch.eye(n, dtype=torch.float64)

    def states(self) -> list:
        """System, state and drive of each."""
        own = self.low_rank
        # half of the start in the span of the rows, so that both parts of a vector are used
        coeff = normal(7, 3)
        rest = self.x - own.full(own.vector(coeff=coeff))
        return [
            (own, own.vector(rest, coeff), own.vector(self.b)),
            (self.dense, self.x[:, None], self.b[:, None]),
        ]


@settings(deadline=None, max_examples=4)
@given(seed=SEEDS, q=st.floats(0.1, 3))
def test_without_noise_the_path_is_right_to_second_order(seed, q):
    case, tau = Case(seed), 1.0
    expected = integrated(case.a, case.b, case.x, q, tau)
    for system, state, drive in case.states():
        errors = []
        for count in (60, 120):
            path = split(system, Quartic(q), state, drive, lengths=[tau / count] * count)
            found = system.full(path).reshape(-1).numpy()
            errors.append(np.linalg.norm(found - expected))
        assert errors[1] < 5e-3
        assert errors[0] / errors[1] == pytest.approx(4, rel=0.15) or errors[0] < 1e-9


@settings(deadline=None, max_examples=4)
@given(seed=SEEDS, tau=st.floats(0.01, 20), kappa0=st.sampled_from([0.0, 0.1]))
def test_without_an_element_nothing_is_split(seed, tau, kappa0):
    for system, state, drive in Case(seed).states():
        run = {"tau": tau, "kappa0": kappa0}
        moved, heat, facts = settle(system, Quartic(0.0), state, drive, **run, noise_seeds=[seed])
        assert facts["splitting_error"] < 1e-12 and heat.stages["on_site"] == 0
        exact = system.relax(state, drive, tau=tau, kappa0=0.0, noise_seeds=None)
        if not kappa0:
            torch.testing.assert_close(system.full(moved), system.full(exact), rtol=1e-9, atol=1e-9)
            whole = system.dissipation(state, drive, **run)
            torch.testing.assert_close(heat.total, whole.total, rtol=1e-2, atol=0)  # peaks at nodes
            assert heat.largest_saturation <= 1 + 1e-12


@settings(deadline=None, max_examples=4, phases=[Phase.generate])  # stiff: shrinking takes long
@given(seed=SEEDS, q=st.sampled_from([0.01, 1.0, 3.0]), tau=st.sampled_from([0.7, 6.0, 50.0]))
def test_a_settle_keeps_to_its_estimate_and_pays_for_what_it_dissipates(seed, q, tau):
    case = Case(seed)
    expected = integrated(case.a, case.b, case.x, q, tau)
    elements = integrated(case.a, case.b, case.x, q, tau, lambda x: q * (x**4).sum())
    damping = integrated(case.a, case.b, case.x, q, tau, lambda x: 0.2 * (x**2).sum())
    for system, state, drive in case.states():
        run = {"tau": tau, "kappa0": 0.0, "noise_seeds": None}
        moved, heat, facts = settle(system, Quartic(q), state, drive, **run)
        found = system.full(moved).reshape(-1).numpy()
        error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        assert facts["splitting_error"] <= TOLERANCE
        assert error < 8 * TOLERANCE  # in a few of a thousand above 5
        square = float(heat.full_scales["x"]) ** 2
        assert float(heat.stages["on_site"]) * square == pytest.approx(elements, rel=0.4)
        assert float(heat.stages["damping"]) * square == pytest.approx(damping, rel=0.4)
        assert float(heat.conductances["on_site"]) == pytest.approx(q * square)
        assert heat.largest_saturation == pytest.approx(1)


@settings(max_examples=40)
@given(tau=st.floats(1e-3, 1e4), rate=st.floats(1e-3, 1e3), cuts=st.integers(1, 4))
def test_a_mesh_is_fine_at_its_end_and_fills_the_interval(tau, rate, cuts):
    lengths = np.array(mesh(tau, rate, cuts))
    assert lengths.sum() == pytest.approx(tau) and (lengths > 0).all()
    assert lengths[-1] <= 1 / rate / cuts * (1 + 1e-9)


# ---------------------------------------------------------------- the density


def expectations(system: Dense, q: float, b: torch.Tensor, kappa0: float, h: float) -> tuple:
    """Points x (n, p) with weights of exp(-U/kappa0), and E[f(x') | x] as a function of f, for one
    step x -> x' of length h; Gauss-Hermite in the noise, no sampling.
    """
    n = len(b)
    axis = torch.linspace(-3, 3, 161 if n == 1 else 41, dtype=torch.float64)
    x = torch.stack(torch.meshgrid(*[axis] * n, indexing="ij")).reshape(n, -1)
    a = system.matrix + system.damping * torch.eye(n, dtype=torch.float64)
    potential = (x * (a @ x)).sum(dim=0) / 2 - b @ x + q * (x**4).sum(dim=0) / 4
    density = torch.exp(-(potential - potential.min()) / kappa0)
    node, weight = (torch.from_numpy(v) for v in hermegauss(10))
    z = torch.stack(torch.meshgrid(*[node] * n, indexing="ij")).reshape(n, -1)
    w = torch.stack(torch.meshgrid(*[weight] * n, indexing="ij")).reshape(n, -1).prod(dim=0)
    # A kick sigma(A) z at the end of the linear step is what a drive psi(A)^-1 sigma(A) z adds.
    rates, v, step = system.eigenvalues, system.eigenvectors, torch.tensor(h, dtype=torch.float64)
    gain = modes.spread(rates, step, kappa0) / modes.response(rates, step)
    kicks = v @ (gain[:, None] * (v.T @ z))
    starts = x[:, :, None].expand(-1, -1, z.shape[1]).reshape(n, -1)
    drives = (b[:, None] + kicks)[:, None, :].expand(-1, x.shape[1], -1).reshape(n, -1)
    ends = split(system, Quartic(q), starts, drives, lengths=[h])
    ends = ends.reshape(n, x.shape[1], -1)
    return x, density / density.sum(), lambda f: f(ends) @ (w / w.sum())


@pytest.mark.parametrize("n", [1, 2])
def test_the_density_is_stationary_to_weak_second_order(n):
    """E f(x') - E f(x) under exp(-U/kappa0) is O(h³) a step, for moments up to the fourth."""
    q, kappa0 = 1.3, 0.4
    matrix = torch.tensor([[0.9, -0.6], [-0.6, 1.4]], dtype=torch.float64)[:n, :n]
    system, b = dense(matrix, 0.1), torch.tensor([0.7, -0.4], dtype=torch.float64)[:n]
    moments = [
        lambda x: x[0],
        lambda x: x[0] ** 2,
        lambda x: x[-1] * x[0] ** 3,
        lambda x: torch.cos(x.sum(dim=0)),
    ]
    for f in moments:
        defects = []
        for h in (0.02, 0.01):
            x, density, after = expectations(system, q, b, kappa0, h)
            defects.append(float((after(f) - f(x)) @ density))
        assert defects[0] / defects[1] == pytest.approx(8, rel=0.15)
        assert abs(defects[0]) < 2e-4


COPIES = 20_000  # independent nodes: J = 0 leaves dx = -(λ x - b) dτ + noise in each


def euler_maruyama(x, drift, kappa0: float, dt: float, steps: int, seed: int):  # noqa: ANN001, ANN201
    """The plain integrator, biased at order dt."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        z = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        x = x + drift(x) * dt + (2 * kappa0 * dt) ** 0.5 * z
    return x


def test_sampled_moments_are_those_of_the_density():
    """Every substep has noise of its own; within four standard errors of independent nodes."""
    a, b, q, kappa0 = 0.5, 0.3, 1.0, 0.3
    system = lowrank(torch.zeros(1, COPIES, dtype=torch.float64), None, 1.0, a)
    drive = system.vector(torch.full((COPIES,), b, dtype=torch.float64))
    run = {"lengths": [0.1] * 60, "kappa0": kappa0, "noise_seeds": [5]}
    x = system.full(split(system, Quartic(q), system.rest(), drive, **run))

    def weight(y: float, power: int = 0) -> float:
        return y**power * float(np.exp(-(a * y * y / 2 - b * y + q * y**4 / 4) / kappa0))

    for power in (1, 2, 4):
        expected = quad(weight, -5, 5, args=(power,))[0] / quad(weight, -5, 5)[0]
        values = x**power
        assert float(values.mean()) == pytest.approx(
            expected, abs=4 * float(values.std()) / COPIES**0.5
        )
    fine = euler_maruyama(
        torch.zeros(COPIES, dtype=torch.float64),
        lambda y: b - a * y - q * y**3,
        kappa0,
        dt=0.02,
        steps=300,
        seed=1,
    )
    for power in (1, 2, 4):
        ours, theirs = x**power, fine**power
        error = float((ours.var() + theirs.var()) / COPIES) ** 0.5
        assert float(ours.mean() - theirs.mean()) == pytest.approx(0, abs=4 * error + 0.01)


def test_euler_maruyamas_variance_is_too_large_by_two_over_two_minus_a_dt():
    """Which the exact transition's is not: in each mode, within four standard errors."""
    kappa0, dt = 0.2, 0.5
    for a in (0.4, 1.0, 2.0):
        x = torch.zeros(COPIES, dtype=torch.float64)
        x = euler_maruyama(x, lambda y, a=a: -a * y, kappa0, dt, steps=80, seed=3)
        system = lowrank(torch.zeros(1, COPIES, dtype=torch.float64), None, 1.0, a)
        run = {"tau": 40.0, "kappa0": kappa0, "noise_seeds": [4]}
        exact = system.full(system.relax(system.rest(), system.rest(), **run))
        spread = 4 * (2 / COPIES) ** 0.5
        assert float(x.var()) * a / kappa0 == pytest.approx(2 / (2 - a * dt), rel=spread)
        assert float(exact.var()) * a / kappa0 == pytest.approx(1, rel=spread)
