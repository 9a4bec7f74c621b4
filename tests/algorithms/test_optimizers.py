from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.algorithms import optimizers

rates = st.floats(1e-4, 0.3)
betas = st.floats(0.0, 0.99)
decays = st.sampled_from([0.0, 0.01, 0.3])


def compare(kind, ours, make, seed, steps=12):
    """Feed the same directions to ours and to torch's, and compare the parameters after every
    step."""
    generator = torch.Generator().manual_seed(seed)
    theta = torch.randn(17, generator=generator)
    parameter = torch.nn.Parameter(theta.clone())
    reference, state = make([parameter]), optimizers.initial_state(kind, theta)
    for _ in range(steps):
        direction = torch.randn(17, generator=generator)
        before = theta.clone()
        new, state = getattr(optimizers, kind)(theta, state, direction, **ours).value
        assert torch.equal(theta, before)  # functional
        theta = new
        parameter.grad = direction.clone()
        reference.step()
        assert torch.allclose(theta, parameter.data, rtol=2e-6, atol=2e-6)


@settings(deadline=None, max_examples=20)
@given(rates, decays, st.integers(0, 2**31))
def test_sgd(rate, decay, seed):
    compare(
        "sgd",
        {"learning_rate": rate, "weight_decay": decay},
        lambda p: torch.optim.SGD(p, lr=rate, weight_decay=decay),
        seed,
    )


@settings(deadline=None, max_examples=20)
@given(rates, st.floats(0.01, 0.95), decays, st.integers(0, 2**31))
def test_nesterov(rate, momentum, decay, seed):
    compare(
        "nesterov",
        {"learning_rate": rate, "momentum": momentum, "weight_decay": decay},
        lambda p: torch.optim.SGD(p, lr=rate, momentum=momentum, weight_decay=decay, nesterov=True),
        seed,
    )


@settings(deadline=None, max_examples=20)
@given(rates, betas, betas, decays, st.integers(0, 2**31))
def test_adam(rate, beta1, beta2, decay, seed):
    ours = {"learning_rate": rate, "beta1": beta1, "beta2": beta2, "weight_decay": decay}
    compare(
        "adam", ours, lambda p: torch.optim.Adam(p, rate, (beta1, beta2), weight_decay=decay), seed
    )


@settings(deadline=None, max_examples=20)
@given(rates, betas, betas, decays, st.integers(0, 2**31))
def test_nadamw(rate, beta1, beta2, decay, seed):
    ours = {"learning_rate": rate, "beta1": beta1, "beta2": beta2, "weight_decay": decay}
    compare(
        "nadamw",
        ours,
        lambda p: torch.optim.NAdam(
            p, lr=rate, betas=(beta1, beta2), weight_decay=decay, decoupled_weight_decay=True
        ),
        seed,
    )


@pytest.mark.parametrize("kind", ["adam", "nadamw"])
def test_defaults_are_torchs(kind):
    make = torch.optim.Adam if kind == "adam" else torch.optim.NAdam
    compare(kind, {}, make, 0)


def test_errors_say_what_was_expected():
    with pytest.raises(ValueError, match="'rmsprop'"):
        optimizers.initial_state("rmsprop", torch.zeros(2))
    with pytest.raises(ValueError, match="initial_state"):
        optimizers.adam(torch.zeros(2), optimizers.State(), torch.zeros(2))
