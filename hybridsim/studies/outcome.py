"""What a study keeps of a run: the outcome columns of the table of points."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from hybridsim.hardware.size import area_mm2
from hybridsim.reports.buildability import buildability
from hybridsim.results.keys import Bottleneck, Json, operation
from hybridsim.results.read import Run
from hybridsim.results.solves import solves
from hybridsim.scenario.load import load

NAN = math.nan
WITH_RESULT = "ok"
NEVER_LIVE = "settling was never run live"
_HOW = {"live": "live", "replay": "replayed", "timing": "timing"}


class Outcome(NamedTuple):
    """The outcome of a point. Numbers that there are not are NaN.

    Attributes:
        status: ``ok``; ``failed``: the run could not go on; ``diverged``: training left the finite
            numbers; ``refused``: something does not fit, or cannot be loaded; ``missing``: not run.
        reason: why it is not ``ok``.
        how: ``live``; ``replayed`` from the facts of a live run; ``retimed``: the recorded graph of
            a run under other constants; ``timing``: nothing was trained.
        seconds: simulated, to the target where the scenario has one (NaN: not reached, or nothing
            was trained), else of the whole run.
        joules: nominal, as ``seconds``.
        reached: whether the target was reached; None where there is none, or nothing was trained.
        step: at which it was first reached.
        run_seconds: simulated, of the whole run.
        run_joules: nominal, of the whole run.
        run_joules_low: with every constant of energy at its low end.
        run_joules_high: with every constant of energy at its high end.
        steps: training steps that ended.
        step_seconds: simulated, mean of a step.
        step_joules: nominal, mean of a step.
        final_test_accuracy: last share of the test set correct.
        final_test_loss: last loss on the test set.
        final_train_loss: last training loss.
        solver_error: median relative error of the analog answers that were checked.
        mark: why the point is not to be trusted; empty: it is.
        bottleneck: part and operation that take most of the critical path.
        bottleneck_share: how much of it.
        area: mm² of all SPUs together, as far as the run uses them.
        buildability: what of them exists, and what nobody has built.
        unbuildable: parts that nobody can build today; empty: none.
        digest: of the run; empty where none was written.
        wall_s: host seconds that the point took.
    """

    status: str
    reason: str = ""
    how: str = ""
    seconds: float = NAN
    joules: float = NAN
    reached: bool | None = None
    step: int | None = None
    run_seconds: float = NAN
    run_joules: float = NAN
    run_joules_low: float = NAN
    run_joules_high: float = NAN
    steps: int | None = None
    step_seconds: float = NAN
    step_joules: float = NAN
    final_test_accuracy: float = NAN
    final_test_loss: float = NAN
    final_train_loss: float = NAN
    solver_error: float = NAN
    mark: str = ""
    bottleneck: str = ""
    bottleneck_share: float = NAN
    area: float = NAN
    buildability: str = ""
    unbuildable: str = ""
    digest: str = ""
    wall_s: float = NAN


MISSING = Outcome("missing", "not run")


def outcome_of(run: Run, gate: float) -> Outcome:
    """The outcome of a complete run.

    Args:
        run: the run.
        gate: median relative error above which an analog answer is no solution.
    """
    summary = run.summary
    energy, final, target = summary["energy"]["total"], summary["final"], summary["target"]
    seconds, joules, steps = summary["simulated_s"], energy["energy_j"], summary["steps"]
    trained = summary["host"]["backend"] != "timing"
    answers = solves(run.steps)
    error = NAN if answers is None else answers.error
    needs_spu = load(run.scenario).training.algorithm.needs_spu
    binds, sizes = summary["critical_path"].get("bottleneck"), summary.get("sizes", [])
    return Outcome(
        status="ok",
        how=_HOW[summary["host"]["backend"]],
        seconds=seconds if target is None else _number(target["seconds"]),
        joules=joules if target is None else _number(target["joules"]),
        reached=target["reached"] if target is not None and trained else None,
        step=None if target is None else target["step"],
        run_seconds=seconds,
        run_joules=joules,
        run_joules_low=energy["energy_low_j"],
        run_joules_high=energy["energy_high_j"],
        steps=steps,
        step_seconds=seconds / steps if steps else NAN,
        step_joules=joules / steps if steps else NAN,
        final_test_accuracy=_number(final.get("test_accuracy")),
        final_test_loss=_number(final.get("test_loss")),
        final_train_loss=_number(final.get("train_loss")),
        solver_error=error,
        mark=mark(error, gate) if needs_spu else "",
        bottleneck=_bottleneck_text(binds),
        bottleneck_share=NAN if binds is None else binds["share"],
        area=area_mm2(sizes),
        buildability="; ".join(buildability(sizes)),
        unbuildable="; ".join(run.manifest.get("unbuildable") or ()),
        digest=run.manifest.get("digest", ""),
        wall_s=summary["host"]["wall_s"],
    )


def without_result(status: str, reason: str, how: str = "", wall_s: float = NAN) -> Outcome:
    """The outcome of a point that has no numbers; its reason takes one line."""
    return Outcome(status, " ".join(reason.split()), how, wall_s=wall_s)


def mark(solver_error: float, gate: float) -> str:
    """Why analog answers with this median error are not to be trusted; empty where they are."""
    if math.isnan(solver_error):
        return NEVER_LIVE
    return f"solver error {solver_error:.3g} above {gate:g}" if solver_error > gate else ""


def regated(outcome: Outcome, gate: float) -> Outcome:
    """The same under another gate."""
    analog = outcome.mark or not math.isnan(outcome.solver_error)
    return outcome._replace(mark=mark(outcome.solver_error, gate)) if analog else outcome


def to_json(outcome: Outcome) -> dict[str, Json]:
    """Plain values; floats that are not finite, which JSON does not know, as texts."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in outcome._asdict().items()
    }


def from_json(found: Mapping[str, Json]) -> Outcome:
    """What ``to_json`` wrote.

    Raises:
        ValueError: it is something else.
    """
    if set(found) != set(Outcome._fields):
        raise ValueError(f"expected {', '.join(Outcome._fields)}")
    return Outcome(**{name: _checked(name, value) for name, value in found.items()})


def _checked(name: str, value: Json) -> Json:
    default = Outcome._field_defaults.get(name, "")
    if isinstance(default, float):
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            return float(value)
    elif isinstance(default, str):
        if isinstance(value, str):
            return value
    elif value is None or type(value) is (bool if name == "reached" else int):
        return value
    raise ValueError(f"{name}: expected a {type(default).__name__}, got {value!r:.40}")


def _number(value: float | None) -> float:
    return NAN if value is None else float(value)


def _bottleneck_text(found: Bottleneck | None) -> str:
    """Part and operation."""
    if found is None:
        return ""
    return f"{found['part']} · {operation(found['kind'], found['factor'])}"
