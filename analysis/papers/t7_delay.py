"""T7 on MNIST: does some delay help, can it beat the exact solve, and is it the delay or the kept
state that does?

t = 5 tau. One epoch of 10,000 images at b = 32 (see ``mnist_runs`` for what is reduced), ideal
converters, no noise, GGN. The paper's delayed device (arXiv 2405.13817, Fig. 4b) relaxes for
t - t_d for the new system and then t_d for the old one, and keeps its state. Here both are apart:
state kept without delay (synchronous), state kept with a forced delay, and, as a control, a state
that is reset to g whenever a system arrives. What a reset state does during the delay is thrown
away, so it is t - t_d of settling and nothing else. "emerged": no delay is forced, the paper's
50 Gb/s link. "exact" is the SPU at rest (1e9 tau), which is natural gradient descent (T6c). Ratios
of losses are paired by seed, with 95 % t intervals.

Beside it, from the schedule alone: the delay that emerges on three machines when none is forced,
and the idle shares of GPU and SPU, there and with t_d = t forced (T15: neither idles).

    python -m analysis.papers.t7_delay --out analysis/papers/results/t7_delay.json
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import hybridsim
from analysis.papers import sweep
from analysis.papers.mnist_runs import IDEAL, REDUCED, SEEDS, SETTLE, Curve, by_setting, simulate
from analysis.papers.paired import mean_interval, ratio, verdict
from analysis.papers.record import save
from analysis.papers.sweep import Fields, Variant

STEPS, TIMED_STEPS = 312, 8
SETTLE_TAU = 5
DELAYS = ("0.2 tau", "1 tau", "5 tau")  # the paper's two, and t_d = t
RESET, KEPT, EXACT, EMERGED = "reset", "kept", "exact", "kept, delay emerged"
MEASURES = ("test_loss", "late_train_loss", "mean_train_loss", "test_accuracy")
MACHINES = ("paper-50gbps", "pcie5", "nvlink-c2c")
STATE = "training.algorithm.state"
FREE: Fields = {"training.algorithm.mode": "asynchronous", "machine.spus.buffering": "double"}


def delayed(state: str, delay: str) -> str:
    """The name of a setting."""
    return f"{state}, delay {delay}"


def sides(steps: int) -> dict[str, Variant]:
    """All settings by name."""
    base = {"training.steps": steps, **REDUCED, **IDEAL, SETTLE: f"{SETTLE_TAU} tau"}
    found = {state: {**base, STATE: state} for state in (RESET, KEPT)}
    for state, delays in ((RESET, DELAYS[:-1]), (KEPT, DELAYS)):
        for delay in delays:
            fields = {**base, **FREE, STATE: state, "training.algorithm.delay": delay}
            found[delayed(state, delay)] = fields
    found[EMERGED] = {**base, **FREE, STATE: KEPT}  # on the slowest of the machines
    found[EXACT] = {**base, STATE: RESET, SETTLE: "1e9 tau"}
    return {name: Variant("mnist-tngd", fields) for name, fields in found.items()}


def summarise(curves: Sequence[Curve]) -> dict[str, Any]:
    """By measure: means, loss ratios of state alone, of delay alone and to the exact solve."""
    summary: dict[str, Any] = {}
    for measure in MEASURES:
        values = by_setting(curves, measure)
        summary[measure] = {"mean": {setting: mean_interval(v) for setting, v in values.items()}}
        if measure != "test_accuracy":
            summary[measure] |= _compared(values)
    return summary


def _compared(values: Mapping[str, list[float]]) -> dict[str, Any]:
    def over(name: str, base: str) -> dict[str, Any]:
        return ratio(values[name], values[base])

    kept, reset = ([delayed(s, d) for d in DELAYS] for s in (KEPT, RESET))
    delay = {name: over(name, KEPT) for name in kept}
    to_exact = {name: over(name, EXACT) for name in values if name != EXACT}
    return {
        "kept over reset, no delay": over(KEPT, RESET),
        "delay over none, kept": delay,
        "delay over none, reset": {n: over(n, RESET) for n in reset if n in values},
        "over exact": to_exact,
        "keeping the state helps": lower([over(KEPT, RESET)]),
        "some delay helps": lower(delay.values()),
        "delayed beats exact": lower(to_exact[name] for name in kept),
        "kept without delay beats exact": lower([to_exact[KEPT]]),
    }


def lower(ratios: Any) -> str:  # Any: an iterable of intervals as results keep them
    """``holds`` where a whole interval lies below 1, ``does not`` where all lie above."""
    found = {verdict(one, 0.0, 1.0) for one in ratios}
    return next(word for word in ("holds", "not separable", "does not") if word in found)


def schedules() -> dict[str, dict[str, dict[str, float]]]:
    """Delay, step and idle shares of three machines, by link, free-running and at t_d = t."""
    free = {**REDUCED, **IDEAL, **FREE, STATE: KEPT, SETTLE: f"{SETTLE_TAU} tau"}
    counts = {"training.steps": TIMED_STEPS, "training.evaluate_every": TIMED_STEPS}
    forced = {"training.algorithm.delay": f"{SETTLE_TAU} tau"}
    return {
        link: {
            name: _schedule(Variant("mnist-tngd", {**free, **counts, "machine.link": link, **more}))
            for name, more in (("emerged", {}), ("t_d = t forced", forced))
        }
        for link in MACHINES
    }


def _schedule(variant: Variant) -> dict[str, float]:
    """Of a step in the middle of a run: seconds from its reading to the system that answers it, and
    of the step; shares of it without an operation on the GPU, without a kernel on its device, and
    with the SPU's state held.
    """
    run = hybridsim.run(variant.load(), backend="timing")
    step = run.steps.iloc[TIMED_STEPS // 2]
    spans, step_ps = run.spans, float(step["end_ps"] - step["start_ps"])
    inside_ps = spans["end_ps"].clip(upper=step["end_ps"]) - spans["start_ps"].clip(
        lower=step["start_ps"]
    )
    inside = spans.assign(inside_ps=inside_ps)[inside_ps > 0]
    gpu, spu = (inside[inside["lane"] == lane] for lane in ("compute", "relax"))
    return {
        "delay_s": 1e-12 * float(step["delay_ps"]),
        "step_s": 1e-12 * step_ps,
        "gpu idle": 1 - float(gpu["inside_ps"].sum()) / step_ps,
        "gpu without kernel": 1 - float(gpu["busy_ps"].sum()) / step_ps,
        "spu held": 1 - float(spu["inside_ps"].sum()) / step_ps,
    }


def main() -> None:
    """Run what was not run before, and write."""
    parser = sweep.parser(__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args()
    curves = simulate(given, sides(given.steps))
    setting = {"steps": given.steps, "settle": f"{SETTLE_TAU} tau", **REDUCED, **IDEAL}
    setting["seeds"] = list(SEEDS)
    found = {**summarise(curves), "schedules": schedules()}
    save(given.out, "t7_delay", setting, found, [curve.row() for curve in curves])


if __name__ == "__main__":
    main()
