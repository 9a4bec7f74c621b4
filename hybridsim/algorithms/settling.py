"""How long an analog solve settles, and whether two of its readings agree."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridsim.circuits.base import settling_tau
from hybridsim.outcome import Outcome
from hybridsim.scenario.settings.analog import AnalogSettings


def readings_tau(
    settings: AnalogSettings, longest_tau: float, slowest: float | None, solves: int
) -> list[float]:
    """Time in RC from the start of a solve to each of its readings; the last is the bound.

    Args:
        settings: the rule.
        longest_tau: the scenario's ``settle``.
        slowest: a lower bound of the rate of the slowest mode, in 1/RC: the damping; None where no
            numbers are known, and so the bound holds.
        solves: among which a budget is shared.
    """
    rule = settings.settling
    if rule.rule == "bits" and slowest is not None:
        return [min(settling_tau(rule.bits, slowest), longest_tau)]
    if rule.rule == "budget":
        return [longest_tau / solves]
    found = [longest_tau]
    if rule.rule == "agreement" and rule.first_tau > 0:
        times = [rule.first_tau]
        while 2 * times[-1] < longest_tau:
            times.append(2 * times[-1])
        found = [time for time in times if time < longest_tau] + found
    return found


def cut_bits(settings: AnalogSettings, longest_tau: float, slowest: float | None) -> float | None:
    """To how many bits the slowest mode settles where ``longest_tau`` cuts rule ``bits`` short;
    None where it does not.
    """
    rule = settings.settling
    if rule.rule != "bits" or slowest is None:
        return None
    share = longest_tau / settling_tau(rule.bits, slowest)
    return rule.bits * share if share < 1 else None


def compare(before: Tensor, reading: Tensor) -> Outcome:
    """How far two readings in a row differ: the GPU's answer to whether the solve has settled.

    Returns:
        Outcome(None, {"disagreement"}): ‖y - x‖/‖y‖, 0 where both are zero.
    """
    apart, size = torch.linalg.vector_norm(reading - before), torch.linalg.vector_norm(reading)
    return Outcome(None, {"disagreement": torch.where(apart == 0, 0.0, apart / size)})


def agree(settings: AnalogSettings, disagreement: float | None) -> bool:
    """Whether two readings agree; where nothing is computed (None) they never do."""
    return disagreement is not None and disagreement <= settings.settling.tolerance
