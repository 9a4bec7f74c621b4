"""What a Jacobian that is not in memory saves: ratios measured side by side, in CPU seconds."""

from __future__ import annotations

import time
from statistics import median

import pytest
import torch

import hybridsim
from hybridsim.algorithms.natural_gradient.linearization import linearize
from hybridsim.algorithms.natural_gradient.matrix_free import linearize_free
from hybridsim.algorithms.tngd import device
from hybridsim.simulate import load_task

pytestmark = pytest.mark.benchmark


def test_jacobian_gram_matrix_and_modes_of_mnist():
    """N = 19,354, 640 rows, on an undisturbed device."""
    scenario = hybridsim.load("mnist-tngd")
    task = load_task(scenario)
    theta, data = task.initial_parameters(0), task.data
    batch = (data.train_x[:64], data.train_y[:64])
    makes = {
        "explicit": lambda: linearize(task, theta, batch),
        "products": lambda: linearize_free(task, theta, batch, curvature="ggn", form="products"),
        "streamed": lambda: linearize_free(task, theta, batch, curvature="ggn", form="streamed"),
    }
    spent = {form: [] for form in makes}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(5):
            for form, make in makes.items():
                started = time.process_time()
                device.upload(make().value, damping=0.01, input_bits=None)
                spent[form].append(time.process_time() - started)
    finally:
        torch.set_num_threads(before)
    explicit = median(spent["explicit"])
    for form, each in spent.items():
        print(f"\n{form}: {median(each):.3f} s, {median(each) / explicit:.2f} of explicit", end="")
