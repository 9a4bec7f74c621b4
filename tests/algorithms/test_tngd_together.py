"""Several parts and an imperfect device used well, together: the numbers of one of each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from harness import document, execute

import hybridsim
from hybridsim.errors import InputError
from hybridsim.scenario.imperfections import SWITCHES

TNGD = {"kind": "tngd", "learning_rate": 0.1, "damping": 0.1, "settle": "20 tau"}
SPLIT = {**TNGD, "spus": "split"}
BUILT = {"imperfections": {"base": "ideal", **dict.fromkeys(SWITCHES, True)}, "input_bits": 10}
AGREEMENT = {"settling": {"rule": "agreement", "tolerance": 0.1, "first": "1 tau"}}
QUARTIC = {"regularisation": {"kind": "quartic", "strength": 10.0}}
PROGRAMMES = {"rounding": "stochastic", "programmes": 2}


def run(
    algorithm: dict[str, Any], gpus: int = 1, spus: int = 1, live: bool = True, **constants: Any
) -> Any:
    machine = {
        "gpu": {"part": "a100-sxm4-80gb", "count": gpus},
        "spus": {"part": "rc-1us", "count": spus, "imperfections": "ideal", **constants},
    }
    made = document(algorithm, machine=machine, batch_size=4, steps=2)
    made["training"]["precision"] = "float64"
    return execute(made, live)


def joules(memory: Any, kind: str) -> float:
    return sum(span["energy_j"] for span in memory.spans if span["kind"] == kind)


@pytest.mark.parametrize(
    "use",
    [
        {},
        {"calibration_every": 1, "refinement": 2},
        {**AGREEMENT, "noise": 1e-4},
        {**PROGRAMMES, "jacobian_upload": "twice"},
    ],
)
def test_a_split_device_is_one_device_whatever_it_is_used_for(use: dict[str, Any]) -> None:
    """To the bit, and every settle's joules add up: mismatch, offsets, dead cells, ranging."""
    alone, one = run({**TNGD, **use}, **BUILT)
    several, memory = run({**SPLIT, **use}, 1, 3, **BUILT)
    assert torch.equal(several.theta.value, alone.theta.value)
    for kind in ("settle", "find ranges", "program", "measure"):
        assert joules(memory, kind) == pytest.approx(joules(one, kind), rel=1e-9)
    assert joules(memory, "find ranges") > 0
    timed, _ = run({**SPLIT, **use}, 1, 3, live=False, **BUILT)
    if "settling" not in use:  # how many readings it takes is a fact
        assert timed.theta.key == several.theta.key


def test_a_split_device_that_never_stops_pays_for_its_shares() -> None:
    made, memory = run({**SPLIT, "mode": "asynchronous", "wait": "5 tau"}, 1, 3, **BUILT)
    assert made.theta.value.isfinite().all()
    for spu in made.machine.spus:
        own = [s for s in memory.spans if s["part"] == spu.name and s["kind"] == "relax"]
        alone = [s for s in memory.spans if s["part"] == "spu0" and s["kind"] == "relax"]
        share = spu.load.resistors / made.machine.spus[0].load.resistors
        assert [s["energy_j"] for s in own] == pytest.approx(
            [share * s["energy_j"] for s in alone], rel=1e-9
        )


@pytest.mark.parametrize("use", [AGREEMENT, PROGRAMMES, {"calibration_every": 1}])
@pytest.mark.parametrize("spus", [TNGD, SPLIT])
def test_several_gpus_use_a_device_as_one_does(use: dict[str, Any], spus: dict[str, Any]) -> None:
    """Readings are compared, averaged and calibrated on each, alike."""
    alone, one = run({**TNGD, **use})
    several, memory = run({**spus, **use}, 2, 2)
    moved = (alone.theta.value - alone.parameters().value).norm()
    assert (several.theta.value - alone.theta.value).norm() <= 1e-9 * moved
    for kind in ("compare readings", "average answers", "find offset"):
        gpus = [s["part"] for s in memory.spans if s["kind"] == kind]
        assert len(gpus) == 2 * sum(s["kind"] == kind for s in one.spans)
        assert gpus.count("gpu0") == gpus.count("gpu1")


def test_a_split_quartic_step_is_one_large_ones() -> None:
    alone, one = run({**TNGD, **QUARTIC})
    several, memory = run({**SPLIT, **QUARTIC}, 2, 3)
    moved = (alone.theta.value - alone.parameters().value).norm()
    assert (several.theta.value - alone.theta.value).norm() <= 1e-9 * moved
    assert joules(memory, "settle") == pytest.approx(joules(one, "settle"), rel=1e-6)
    resistors = sum(spu.load.resistors for spu in several.machine.spus)
    assert resistors == alone.machine.spus[0].load.resistors


def test_a_quartic_step_is_for_ideal_devices() -> None:
    with pytest.raises(InputError, match="regularisation: expected imperfections: ideal, got spu0"):
        run({**TNGD, **QUARTIC}, live=False, **BUILT)


@pytest.mark.parametrize(
    ("changes", "gpus", "message"),
    [
        ({"spus": "ensemble"}, 2, "spus: expected first or split with 2 GPUs"),
        ({"refinement": 1}, 2, "refinement: expected 0 with 2 GPUs"),
        ({"spus": "ensemble", "mode": "asynchronous"}, 1, "spus: expected first or split in asyn"),
        ({"spus": "iterated", "refinement": 1}, 1, "refinement: expected 0 under spus: iterated"),
        ({"spus": "iterated", **PROGRAMMES}, 1, "programmes: expected 1 under spus: iterated"),
        ({"spus": "iterated", **AGREEMENT}, 1, "settling: expected fixed under spus: iterated"),
        ({"spus": "iterated", **QUARTIC}, 1, "regularisation: expected nothing under spus: iter"),
        ({**QUARTIC, "refinement": 1}, 1, "refinement: expected 0 under regularisation"),
        ({"spus": "iterated", "calibration_every": 1}, 1, "every: expected never under spus: ite"),
    ],
)
def test_what_does_not_go_together_is_refused(
    changes: dict[str, Any], gpus: int, message: str
) -> None:
    machine = {"gpu": {"part": "a100-sxm4-80gb", "count": gpus}, "spus": {"count": 2}}
    machine["spus"]["part"] = "rc-1us"
    with pytest.raises(InputError, match=message):
        hybridsim.load(document({**TNGD, **changes}, machine=machine, batch_size=4))
