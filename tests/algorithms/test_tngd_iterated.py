"""TNGD on SPUs without lines between them: block Gauss-Seidel, every exchange priced."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from harness import IDEAL, document, execute
from hypothesis import given, settings
from hypothesis import strategies as st

import hybridsim
from hybridsim.circuits.low_rank import Vector
from hybridsim.circuits.low_rank_blocks import blocks
from hybridsim.errors import InputError

TNGD = {"kind": "tngd", "learning_rate": 0.1, "damping": 0.1, "settle": "10000 tau"}
ITERATED = {**TNGD, "spus": "iterated"}


def run(algorithm: dict[str, Any], spus: int = 1, live: bool = True, **given_: Any) -> Any:
    parts = {**IDEAL, "count": spus, **given_}
    made = document(algorithm, machine={"spus": parts}, steps=1, batch_size=2)
    made["training"]["precision"] = "float64"
    return execute(made, live)


@settings(max_examples=10)
@given(
    seed=st.integers(0, 10_000),
    parts=st.integers(1, 4),
    damping=st.floats(0.05, 1),
    tau=st.sampled_from([0.3, 1e6]),
)
def test_a_block_relaxes_for_its_own_part_of_the_system(seed, parts, damping, tau):
    """x_j moves by exp(-A_jj τ) towards A_jj⁻¹ (b_j - Σ A_ji x_i); the rest stays where it is."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=generator)  # noqa: E731
    jacobian, root, x, b = draw(6, 11), draw(2, 3, 3), draw(11), draw(11)
    made = blocks(jacobian, root, 0.7, damping, parts)
    rooted = 0.7 * torch.block_diag(*root).T @ jacobian
    whole = rooted.T @ rooted + damping * torch.eye(11)
    place = seed % parts
    cut, state = made.cut(place), made.vector(perp=x)
    lines = sum(made.lines(state, k) for k in range(parts) if k != place) + torch.zeros_like(b[:6])
    torch.testing.assert_close(
        lines, jacobian @ x - jacobian[:, cut] @ x[cut], rtol=1e-9, atol=1e-9
    )
    drive = made.coupled(made.vector(perp=b), place, lines.double())
    moved, _ = made.settle(state, drive, place, tau=tau, kappa0=0.0, noise_seeds=None)
    assert isinstance(moved, Vector)
    own = whole[cut, cut]
    rest = torch.linalg.solve(own, b[cut] - whole[cut] @ x + own @ x[cut])
    expected = x.clone()
    expected[cut] = rest + torch.linalg.matrix_exp(-own * tau) @ (x[cut] - rest)
    torch.testing.assert_close(made.full(moved), expected, rtol=1e-7, atol=1e-8)


def test_sweeps_converge_to_the_answer_of_one_large_spu_and_one_block_is_it():
    alone, _ = run(TNGD)
    start = alone.parameters().value
    step = alone.theta.value - start
    same, _ = run({**ITERATED, "sweeps": 1})
    torch.testing.assert_close(same.theta.value, alone.theta.value, rtol=1e-12, atol=1e-14)
    errors = []
    for sweeps in (1, 3, 9, 27):
        several, _ = run({**ITERATED, "sweeps": sweeps}, 2)
        errors.append(float((several.theta.value - alone.theta.value).norm() / step.norm()))
    assert errors[0] > errors[1] > errors[2] > errors[3]
    assert errors[3] < 1e-2 * errors[0]


def test_every_exchange_is_priced():
    """k sweeps - 1 readings of r lines go to the GPU, k sweeps sums come back."""
    sweeps, spus, rows = 3, 2, 2 * 10
    made, memory = run({**ITERATED, "sweeps": sweeps}, spus, live=False, output_bits=8, bias_bits=9)
    counts = {
        kind: [s for s in memory.spans if s["kind"] == kind and s["lane"] != "flight"]
        for kind in ("settle", "convert lines", "measure lines", "exchange lines")
    }
    solves = sweeps * spus
    assert [len(found) for found in counts.values()] == [solves, solves, solves - 1, solves - 1]
    for kind in ("convert lines", "measure lines"):
        assert {s["conversions"] for s in counts[kind]} == {rows}
    for kind, bits, number in (("upload lines", 9, solves), ("download lines", 8, solves - 1)):
        sent = [s["bits"] for s in memory.spans if s["kind"] == kind and s["bits"]]
        assert sent == [rows * bits] * number
    assert all(s["part"] == f"spu{k % spus}" for k, s in enumerate(counts["settle"]))
    size = made.task.layout.size
    resistors = [spu.load.resistors for spu in made.machine.spus]
    assert sum(resistors) == 2 * rows * size + spus * rows * rows, "an H array each"
    assert not [r for r in made.machine.static_power() if "lines" in r.component]


def test_live_and_timed_runs_end_with_the_same_key():
    algorithm = {**ITERATED, "sweeps": 2, "noise": 1e-3, "curvature": "empirical_fisher"}
    live, timed = run(algorithm, 3)[0], run(algorithm, 3, live=False)[0]
    assert live.theta.key == timed.theta.key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "asynchronous"}, "mode: expected synchronous"),
        ({"readout": {"samples": 2}}, "readout.samples: expected 1"),
    ],
)
def test_what_does_not_go_with_it(changes, message):
    with pytest.raises(InputError, match=message):
        hybridsim.load(document({**ITERATED, **changes}))


def test_imperfect_devices_are_refused():
    with pytest.raises(InputError, match="iterated: expected imperfections: ideal"):
        run(ITERATED, 2, live=False, imperfections="realistic")
