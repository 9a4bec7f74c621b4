"""What keeps K-FAC's analog answers from the exact ones, effect by effect: a diagnostic, which
costs no simulated time.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hybridsim.algorithms.kfac import built
from hybridsim.algorithms.kfac.fidelity import damped_solve
from hybridsim.circuits.imperfections.device import IDEAL
from hybridsim.outcome import Outcome
from hybridsim.scenario.choices import Circuit

EFFECTS = ("settling", "rounding", "readout", "device")


class _Levels(NamedTuple):
    """Resolutions of factors, drives and answers, None for ideal ones."""

    input_bits: int | None = None
    bias_bits: int | None = None
    output_bits: int | None = None


class _Asked(NamedTuple):
    """What is the same for all of them."""

    form: str
    tau: float
    circuit: Circuit
    dual_rail: bool


def error_split(
    *operands: Tensor,
    form: str,
    tau: float,
    input_bits: int | None,
    bias_bits: int | None,
    output_bits: int | None,
    circuit: Circuit = "summing",
    dual_rail: bool = False,
) -> Outcome:
    """Split the error of answers U to (G + shift_g I) U (A + shift_a I) = D, over all blocks.

    Both solves are computed again on devices with one effect more each time: ideal ones that settle
    for ``tau`` RC, with levels of factors and drives, with levels of answers; what is left is
    the parts of the devices at hand, and noise. Errors are differences of neighbours over the exact
    answers' norm, cosines those of the answers so far with the exact ones.

    Args:
        operands: as of ``preconditioning_fidelity``.
        form: ``roots``: A and G are given as X and Y with A = XᵀX, G = YᵀY.
        tau: RC of each solve.
        input_bits: of the factors.
        bias_bits: of the drives.
        output_bits: of the answers.
        circuit: of the SPUs; without effect for ``roots``.
        dual_rail: whether a passive one has two nodes for each variable.

    Returns:
        Outcome(None, {"solver_error_settling", ..., "solver_cosine_settling", ...}).
    """
    ways = (
        _Levels(),
        _Levels(input_bits, bias_bits),
        _Levels(input_bits, bias_bits, output_bits),
    )
    asked = _Asked(form, tau, circuit, dual_rail)
    blocks = []
    for a, g, shift_a, shift_g, d, u in zip(*(operands[k::6] for k in range(6)), strict=True):
        left = damped_solve(g, shift_g, d.double(), form)
        exact = damped_solve(a, shift_a, left.T, form).T
        steps = [_answer((a, g, shift_a, shift_g), d, asked, way) for way in ways]
        blocks.append(torch.stack([exact, *steps, u.double()]).reshape(len(ways) + 2, -1))
    found = torch.cat(blocks, dim=1)
    norm = found[0].norm()
    facts = {}
    for number, effect in enumerate(EFFECTS, start=1):
        facts[f"solver_error_{effect}"] = (found[number] - found[number - 1]).norm() / norm
    for number, effect in enumerate(EFFECTS[:-1], start=1):
        cosine = found[number] @ found[0] / (found[number].norm() * norm)
        facts[f"solver_cosine_{effect}"] = cosine
    return Outcome(None, facts)


def _answer(
    system: tuple[Tensor, Tensor, Tensor, Tensor], d: Tensor, asked: _Asked, way: _Levels
) -> Tensor:
    """U (m, n) float64 by two settles without noise; a diagonal A divides on the GPU."""
    a, g, shift_a, shift_g = system
    rows = _solve(g, shift_g, d, asked, way)
    if a.ndim == 1:
        return damped_solve(a, shift_a, rows.T, asked.form).T
    return _solve(a, shift_a, rows.T, asked, way).T


def _solve(factor: Tensor, shift: Tensor, columns: Tensor, asked: _Asked, way: _Levels) -> Tensor:
    """By a device that chooses its ranges and rounds as built ones do, and whose parts are
    ideal.
    """
    if asked.form == "roots":
        made = built.program_roots(factor, shift, input_bits=way.input_bits, device=IDEAL)
    else:
        made = built.program(
            factor,
            shift,
            input_bits=way.input_bits,
            device=IDEAL,
            circuit=asked.circuit,
            dual_rail=asked.dual_rail,
        )
    drives = built.convert(columns, None, bias_bits=way.bias_bits, device=IDEAL).value
    settled = built.settle(
        made.value, None, drives, tau=asked.tau, kappa0=0.0, noise_seed=0, device=IDEAL
    ).value
    found: Tensor = built.read(
        settled, output_bits=way.output_bits, dtype="float64", device=IDEAL
    ).value
    return found
