from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hybridsim.errors import InputError
from hybridsim.learning.curvature import gradient, linearize, range_coordinates
from hybridsim.learning.kfac import (
    average,
    damp,
    ema,
    factors,
    join_directions,
    join_gradient,
    layer_gradient,
    layers,
    slice_gradient,
)  # fmt: skip
from hybridsim.learning.task import Data, Workload, as_task, load_workload


def random_task(network, loss, seed, size=6, inputs=4, outputs=3):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, inputs, generator=generator)
    labels = torch.randint(outputs, (size,), generator=generator)
    y = labels if loss == "cross_entropy" else torch.randn(size, outputs, generator=generator)
    task = as_task("dense", Workload(network, Data(x, y, x, y), loss))
    return task, task.initial_parameters(seed), (x, y)


def two_layers():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3, bias=False))


def used_twice():
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.Tanh(), layer)


def used_at_two_positions():
    return nn.Sequential(nn.Unflatten(1, (2, 2)), nn.Linear(2, 2), nn.Flatten())


def close(found, expected, tolerance=1e-5):
    assert (found - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1e-30)


cases = st.tuples(st.sampled_from(["cross_entropy", "mse"]), st.integers(0, 2**31))


@settings(deadline=None, max_examples=10)
@given(cases)
def test_a_single_example_has_exact_blocks(case):
    """For one example A ⊗ G is the layer's GGN block itself (weights row-major: G ⊗ A)."""
    task, theta, batch = random_task(two_layers, *case, size=1)
    value = factors(task, theta, batch).value
    lin = linearize(task, theta, batch).value
    root, _ = range_coordinates(lin)
    wide = (root[0].mT @ lin.jacobian.double()).float()
    ggn, offset = wide.T @ wide, 0
    for layer in layers(task):
        weights = layer.outputs * (layer.inputs - (layer.name == "0"))
        block = ggn[offset : offset + weights, offset : offset + weights]
        a = value["a"][layer.name]
        a = a[:-1, :-1] if layer.name == "0" else a
        close(torch.kron(value["g"][layer.name], a), block)
        offset += layer.outputs * layer.inputs


@settings(deadline=None, max_examples=10)
@given(cases, st.sampled_from(["type2", "empirical"]))
def test_factors_against_explicit_loops(case, fisher):
    task, theta, (x, y) = random_task(two_layers, *case)
    found = factors(task, theta, (x, y), fisher=fisher)
    w0, b0, w2 = task.layout.unflatten(theta).values()
    expected_a, expected_g = torch.zeros(5, 5), torch.zeros(5, 5)
    lin = linearize(task, theta, (x, y)).value
    root, _ = range_coordinates(lin)
    for i in range(len(x)):
        a = torch.cat([x[i], torch.ones(1)])
        hidden = torch.tanh(w0 @ x[i] + b0)
        columns = root[i] if fisher == "type2" else lin.residual[i][:, None]
        slopes = (1 - hidden**2)[:, None] * (w2.T @ columns.float())
        expected_a += torch.outer(a, a) / len(x)
        expected_g += slopes @ slopes.T / len(x)
    close(found.value["a"]["0"], expected_a)
    close(found.value["g"]["0"], expected_g)
    assert found.value["a"]["2"].shape == (5, 5) and found.value["g"]["2"].shape == (3, 3)
    reference = gradient(task, theta, (x, y))
    close(found.value["gradient"], reference.value)
    assert torch.isclose(found.facts["train_loss"].float(), reference.facts["train_loss"])


def test_layers_and_gradient_matrices():
    task, theta, _ = random_task(two_layers, "mse", 0)
    assert [tuple(layer) for layer in layers(task)] == [("0", 5, 5), ("2", 3, 5)]
    parts = {layer.name: layer_gradient(task.layout, theta, layer.name) for layer in layers(task)}
    weights = task.layout.unflatten(theta)
    assert torch.equal(parts["0"][:, :-1], weights["0.weight"]) and torch.equal(parts["0"][:, -1], weights["0.bias"])
    assert torch.equal(parts["2"], weights["2.weight"])
    assert torch.equal(join_gradient(task.layout, parts), theta)
    columns = [slice_gradient(task, theta, layer=layer.name).value for layer in layers(task)]
    assert torch.equal(join_directions(task, *columns).value, theta)
    alone, theta, batch = random_task(lambda: nn.Linear(4, 3), "mse", 0)
    assert layers(alone)[0].name == "" and factors(alone, theta, batch).value["a"][""].shape == (5, 5)


def test_ema_weight_belongs_to_the_old_factor():
    old, new = {"l": torch.full((2, 2), 10.0)}, {"l": torch.zeros(2, 2)}
    assert torch.equal(ema(old, new, decay=0.9).value["l"], torch.full((2, 2), 9.0))
    slope = torch.ones(3)
    both = average({"gradient": 0 * slope, "a": old, "g": new}, {"gradient": slope, "a": new, "g": old}, decay=0.9)
    assert torch.equal(both.value["gradient"], slope)  # the gradient is the new one, never averaged
    assert both.value["a"]["l"][0, 0] == 9.0
    assert both.value["g"]["l"][0, 0] == pytest.approx(1.0, rel=1e-6)


@given(st.integers(1, 6), st.integers(1, 6), st.floats(1e-4, 1.0), st.integers(0, 2**31))
def test_damping(n, m, damping, seed):
    generator = torch.Generator().manual_seed(seed)
    a, g = (torch.randn(k, k, generator=generator, dtype=torch.float64) for k in (n, m))
    a, g = a @ a.T + 1e-3 * torch.eye(n), g @ g.T + 1e-3 * torch.eye(m)
    plain = damp(a, g, damping=damping).value
    close(plain[0], a + damping * torch.eye(n))
    close(plain[1], g + damping * torch.eye(m))
    shifted = damp(a, g, damping=damping, rule="pi").value
    left, right = (shifted[0] - a)[0, 0], (shifted[1] - g)[0, 0]
    assert left * right == pytest.approx(damping, rel=1e-6)  # the product is λ,
    ratio = (a.trace() / n) / (g.trace() / m)
    assert left / right == pytest.approx(float(ratio), rel=1e-6)  # shared in proportion to the mean eigenvalues
    with pytest.raises(ValueError, match="'exact'"):
        damp(a, g, damping=damping, rule="exact")


def test_what_kfac_does_not_cover_is_named():
    with pytest.raises(InputError, match="0.weight, 0.bias"):
        layers(load_workload("digits_cnn", {}))
    task, theta, batch = random_task(used_twice, "mse", 0, outputs=4)
    with pytest.raises(InputError, match="a second use"):
        factors(task, theta, batch)
    task, theta, batch = random_task(used_at_two_positions, "mse", 0, outputs=4)
    with pytest.raises(InputError, match="inputs \\(6, 2, 2\\)"):
        factors(task, theta, batch)
    assert not any(module._forward_hooks for module in task.network.modules())
