"""The outcomes of points that differ from a recorded one in costs alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hybridsim.hardware.size import area_mm2, sizes_on
from hybridsim.reports.buildability import buildability
from hybridsim.results.keys import operation
from hybridsim.scenario.schema import Scenario
from hybridsim.scenario.unbuildable import unbuildable_parts
from hybridsim.studies.outcome import Outcome
from hybridsim.studies.retiming.energy import Energies
from hybridsim.studies.retiming.evaluate import moments_of, retime
from hybridsim.studies.retiming.prices import prices
from hybridsim.studies.retiming.recording import Recording, sheets_of
from hybridsim.units import to_s


def outcomes(
    recording: Recording, scenarios: Sequence[Scenario], like: Outcome
) -> list[Outcome | None]:
    """What runs of these scenarios would find; None: the recording does not hold for this one.

    Args:
        recording: of a scenario with the same ``cost_signature``.
        scenarios: what is asked for.
        like: the outcome of what was recorded, whose numbers of training hold for all.
    """
    energies = Energies(recording)
    found = retime(recording, [scenario.machine.expand() for scenario in scenarios])
    numbers = [int(step.row["step"]) for step in recording.steps]
    mark = len(numbers) - 1 if like.step is None else numbers.index(like.step)
    result: list[Outcome | None] = []
    for draw, scenario in enumerate(scenarios):
        if not found.valid[draw]:
            result.append(None)
            continue
        run_s = to_s(int(found.end_ps[draw, -1]))
        spec = scenario.machine.expand()
        sheets, sizes = sheets_of(spec), sizes_on(spec, recording.loads)
        moments = moments_of(recording, [prices(recording.asked, sheets)])[:, 0]
        run_j, low, high = energies.of(sheets, moments)
        has_target = scenario.training.target is not None
        seconds, joules = (run_s, run_j) if not has_target else (float("nan"), float("nan"))
        if has_target and like.step is not None:
            seconds = to_s(int(found.end_ps[draw, mark]))
            joules = float(found.joules[draw, mark])
        binds, share = _bottleneck(recording, moments)
        result.append(
            like._replace(
                how="retimed",
                seconds=seconds,
                joules=joules,
                run_seconds=run_s,
                run_joules=run_j,
                run_joules_low=low,
                run_joules_high=high,
                step_seconds=run_s / len(numbers),
                step_joules=run_j / len(numbers),
                bottleneck=binds,
                bottleneck_share=share,
                area=area_mm2(sizes),
                buildability="; ".join(buildability(sizes)),
                unbuildable="; ".join(unbuildable_parts(scenario)),
                digest="",
            )
        )
    return result


def _bottleneck(recording: Recording, moments: np.ndarray) -> tuple[str, float]:
    """Part and operation that take most of the critical path, and their share."""
    graph, total = recording.graph, dict[tuple[str, str, str], int]()
    if recording.fixed_ps is not None or not recording.spans:
        return "", float("nan")
    last_of = {
        int(node): recording.spans[k] for k, node in enumerate(recording.ends)
    }  # of several wires that a message holds the last one
    node = int(max(recording.ends[: len(recording.ends) - recording.open], key=moments.__getitem__))
    while node:
        first, second = graph.first[node], graph.second[node]
        if second >= 0:
            node = first if moments[first] >= moments[second] else second
            continue
        row = last_of[node]
        key = (row.part, row.kind, row.factor)
        total[key] = total.get(key, 0) + int(moments[node] - moments[first])
        node = first
    length = sum(total.values())
    (part, kind, factor), most = min(total.items(), key=lambda item: (-item[1], item[0]))
    return f"{part} · {operation(kind, factor)}", most / length if length else float("nan")
