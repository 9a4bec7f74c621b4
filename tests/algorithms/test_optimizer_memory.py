"""What each optimizer keeps on the GPU counts, and decides what fits."""

from __future__ import annotations

import pytest
import torch
from harness import document, execute
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._pytree import tree_leaves

import hybridsim
from hybridsim.algorithms import optimizers
from hybridsim.algorithms.first_order.gradient import gradient
from hybridsim.errors import HybridsimError
from hybridsim.operations.count import count
from hybridsim.scenario.settings import OPTIMIZERS

ALONE = {"learning_rate": 0.01}


def matrices(shapes, most=10**9):
    """Numbers of a square matrix for each dimension; of its diagonal, where it is larger."""
    return sum(n * n if n <= most else n for shape in shapes for n in shape)


KEPT = {  # numbers, of N parameters with these shapes, the hidden matrices among them
    "sgd": lambda n, shapes, hidden: 0,
    "nesterov": lambda n, shapes, hidden: n,
    "adam": lambda n, shapes, hidden: 2 * n,
    "adamw": lambda n, shapes, hidden: 2 * n,
    "nadamw": lambda n, shapes, hidden: 2 * n,
    "muon": lambda n, shapes, hidden: 2 * n - hidden,
    "soap": lambda n, shapes, hidden: 2 * n + 2 * matrices(s for s in shapes if len(s) > 1),
    "shampoo": lambda n, shapes, hidden: 2 * n + 2 * matrices(shapes),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("precision", ["float32", "float64"])
@settings(deadline=None, max_examples=3)
@given(hidden=st.integers(2, 9), depth=st.integers(1, 2))
def test_the_gpu_holds_the_data_and_the_state(kind, precision, hidden, depth):
    workload = {"source": "digits_mlp", "options": {"hidden": hidden, "depth": depth}}
    asked = document({"kind": kind, **ALONE}, steps=1, workload=workload, precision=precision)
    made, _ = execute(asked, live=False)
    task, item = made.task, 4 if precision == "float32" else 8
    layout = task.layout
    inner = sum(
        size for size, role in zip(layout.sizes, layout.kinds, strict=True) if role == "hidden"
    )
    data = sum(tensor.nbytes for tensor in task.data)
    expected = data + item * KEPT[kind](layout.size, layout.shapes, inner)
    assert made.machine.gpus[0].resident_bytes == expected


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        ({"kind": "soap", "precondition_vectors": True}, lambda n, s: 2 * n + 2 * matrices(s)),
        ({"kind": "shampoo", "grafting": "none"}, lambda n, s: n + 2 * matrices(s)),
        ({"kind": "shampoo", "max_dimension": 9}, lambda n, s: 2 * n + 2 * matrices(s, 9)),
    ],
)
def test_settings_that_shape_the_state(more, kept):
    made, _ = execute(document({**ALONE, **more}, steps=1), live=False)
    layout, data = made.task.layout, sum(tensor.nbytes for tensor in made.task.data)
    found = made.machine.gpus[0].resident_bytes
    assert found == data + 4 * kept(layout.size, layout.shapes)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_state_counts_once(kind):
    """Beside the operands of the gradient, and as an operand of the update."""
    made, _ = execute(document({"kind": kind, **ALONE}, steps=2), live=False)
    task, layout = made.task, made.task.layout
    own = OPTIMIZERS[kind](kind=kind, **ALONE)
    state, rule = optimizers.start(own, made.theta.value, layout), optimizers.Rule(own, 1.0, layout)
    args = task, made.theta.value, made.batch(1).value
    state_bytes = sum(t.nbytes for t in tree_leaves(state) if isinstance(t, torch.Tensor))
    peaks = [count(gradient, args, {})[0].peak_bytes + state_bytes]
    for step in (1, 2):
        update, operands = rule.at(step), (made.theta.value, state, made.theta.value + 1, 1.0)
        peaks.append(count(update.function, operands, update.settings)[0].peak_bytes)
    data = sum(tensor.nbytes for tensor in task.data)
    assert made.machine.gpus[0].peak_bytes == data + max(peaks)


def test_under_an_algorithm_the_optimizer_keeps_the_same():
    kfac = {"kind": "kfac", "method": "digital", "damping": 0.1, **ALONE}
    held = {}
    for update in ("sgd", "nesterov", "adam"):
        made, _ = execute(document({**kfac, "update": update}, steps=1), live=False)
        held[update] = made.machine.gpus[0].resident_bytes
    size = 4 * made.task.layout.size
    assert held["nesterov"] - held["sgd"] == size == held["adam"] - held["nesterov"]


def test_what_does_not_fit_is_refused():
    """Between what Adam and what SOAP needs."""
    peak = {}
    for kind in ("adam", "soap"):
        made, _ = execute(document({"kind": kind, **ALONE}, steps=2), live=False)
        peak[kind] = made.machine.gpus[0].peak_bytes
    gpu = {"part": "a100-sxm4-80gb", "memory_capacity": f"{sum(peak.values()) / 2} B"}
    fits = document({"kind": "adam", **ALONE}, steps=2, machine={"gpu": gpu})
    execute(fits, live=False)
    with pytest.raises(HybridsimError, match="resident"):
        execute(document({"kind": "soap", **ALONE}, steps=2, machine={"gpu": gpu}), live=False)


@pytest.mark.parametrize("alone", [True, False])
def test_what_comes_later_is_refused_before_the_run(tmp_path, alone):
    """The first turn of SOAP's bases needs more than all steps before it."""
    own = {"kind": "soap", "basis_every": 3}
    kfac = {"kind": "kfac", "method": "digital", "damping": 0.1, "update": own}
    algorithm = {**(own if alone else kfac), **ALONE}
    peak = [
        execute(document(algorithm, steps=steps), live=False)[0].machine.gpus[0].peak_bytes
        for steps in (3, 4)
    ]
    assert peak[0] < peak[1]
    gpu = {"part": "a100-sxm4-80gb", "memory_capacity": f"{sum(peak) / 2} B"}
    asked = [document(algorithm, steps=n, machine={"gpu": gpu}) for n in (3, 4)]
    assert hybridsim.run(hybridsim.load(asked[0]), backend="timing").status == "complete"
    with pytest.raises(HybridsimError, match="operation 'update' needs"):
        hybridsim.run(hybridsim.load(asked[1]), tmp_path / "run")
    assert not (tmp_path / "run").exists()
