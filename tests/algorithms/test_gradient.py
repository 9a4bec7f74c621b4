"""The gradient: equal to torch.func's, at the price of ``loss.backward()``."""

from __future__ import annotations

from collections import Counter

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tasks import random_task
from torch import nn
from torch.func import grad_and_value

from hybridsim.algorithms.first_order.gradient import gradient
from hybridsim.operations.count import count
from hybridsim.tasks.task import batch_loss

NORMS = {
    "group": lambda: nn.GroupNorm(2, 4),
    "instance": lambda: nn.InstanceNorm2d(4, affine=True),
    "layer": lambda: nn.LayerNorm([4, 5, 5]),
    "none": nn.Identity,
}


def network(norm: str) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), NORMS[norm](), nn.SiLU(), nn.Flatten(), nn.Linear(100, 3)
    )


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(sorted(NORMS)), st.sampled_from(["cross_entropy", "mse"]), st.integers(0))
def test_it_is_that_of_the_mean_loss(norm, loss, seed):
    task, theta, (x, y) = random_task(lambda: network(norm), loss, seed % 2**31, (1, 5, 5), (3,))
    found = gradient(task, theta, (x, y))
    expected, value = grad_and_value(
        lambda parameters: batch_loss(task.loss, task.apply(parameters, x), y)
    )(task.layout.unflatten(theta))
    torch.testing.assert_close(found.value, task.layout.flatten(expected), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.facts["train_loss"], value, rtol=1e-13, atol=0)
    assert not found.value.requires_grad and not theta.requires_grad


def test_the_backward_pass_of_a_norm_is_one_kernel():
    """As in ``loss.backward()``."""
    kernels = {}
    for norm in ("group", "layer", "none"):
        task, theta, batch = random_task(lambda n=norm: network(n), "mse", 0, (1, 5, 5), (3,))
        work = count(gradient, (task, theta, batch), {})[0]
        kernels[norm] = Counter({k.name: k.count for k in work.kernels})
    for norm in ("group", "layer"):
        more = kernels[norm] - kernels["none"]
        passes = {f"aten.native_{norm}_norm", f"aten.native_{norm}_norm_backward"}
        assert more == Counter(dict.fromkeys(passes, 1))
