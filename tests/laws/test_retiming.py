"""A recorded schedule under other constants equals a simulation under them, wherever it holds."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import PROGRAMS, changed

import hybridsim
from hybridsim.scenario.datasheets.constants import CONSTANTS
from hybridsim.scenario.machine import MachineSpec, SpuSpec
from hybridsim.studies.retiming import cost_signature, record, retime
from hybridsim.studies.retiming.again import simulated
from hybridsim.studies.retiming.evaluate import moments_of
from hybridsim.studies.retiming.prices import prices
from hybridsim.studies.retiming.recording import sheets_of

_HELD = {
    "number_bits", "input_bits", "bias_bits", "output_bits",
    "cells", "resistors", "memory_capacity_byte", "conductance_range",
}  # fmt: skip
_TIED = {"kfac-digital-4-gpus", "tngd-split-2-gpus"}
"""GPUs that are alike ask for links at the same instant."""
_NEVER_ALIKE = {"tngd-asynchronous", "tngd-asynchronous-pipelined", *_TIED}
"""The clock decides, or chance."""


def jittered(spec: MachineSpec, rng: np.random.Generator, spread: float, share: float):
    """A machine whose constants of cost are all over the place; parts alike stay alike."""
    once = {}

    def other(sheet):
        if id(sheet) not in once:
            constants = dict(sheet.constants)
            for constant in CONSTANTS[sheet.kind]:
                old = constants[constant.name]
                if constant.name in _HELD or not old.value or rng.random() > share:
                    continue
                value = old.value * math.exp(rng.normal() * spread)
                value = min(value, constant.at_most or math.inf)
                value = max(1.0, float(round(value))) if constant.whole else value
                constants[constant.name] = dataclasses.replace(old, value=value)
            once[id(sheet)] = dataclasses.replace(sheet, constants=constants)
        return once[id(sheet)]

    def changed(part):
        if not has_sheet(part):
            return part
        # what sizes an imperfection is a number of the run, and stays
        sized = {"sized_by": part.sheet} if isinstance(part, SpuSpec) else {}
        return dataclasses.replace(part, sheet=other(part.sheet), **sized)

    def has_sheet(part):
        return getattr(part, "sheet", None) is not None

    return MachineSpec(tuple(map(changed, spec.nodes)), tuple(map(changed, spec.edges)))


@pytest.fixture(scope="module")
def recorded(program):
    name, document, run, facts = program
    scenario = hybridsim.load(document)
    return name, run, facts, record(scenario, hybridsim.load_task(scenario), facts)


def test_at_its_own_constants_it_is_the_run(recorded):
    name, run, _, recording = recorded
    found = retime(recording, [recording.spec])
    assert found.valid.all() == (name not in _TIED)
    if not found.valid.all():
        return
    assert found.end_ps[0].tolist() == run.steps["end_ps"].tolist()
    assert found.joules[0].tolist() == run.steps["energy_j"].tolist()
    assert found.run_joules[0] == pytest.approx(
        run.summary["energy"]["total"]["energy_j"], rel=1e-12
    )


@given(seed=st.integers(0, 2**32), spread=st.sampled_from([0.01, 0.2, 1.5]))
@settings(max_examples=4)
def test_draws_that_count_equal_a_simulation_to_the_picosecond(recorded, seed, spread):
    _, _, facts, recording = recorded
    rng = np.random.default_rng(seed)
    machines = [jittered(recording.spec, rng, spread, rng.choice([0.1, 1.0])) for _ in range(3)]
    found = retime(recording, machines)
    for draw in np.flatnonzero(found.valid):
        again = simulated(recording, facts, machines[draw])
        assert again is not None
        assert found.end_ps[draw].tolist() == again.end_ps.tolist()
        np.testing.assert_allclose(found.joules[draw], again.joules, rtol=1e-12)
        assert found.run_joules[draw] == pytest.approx(again.run_joules, rel=1e-12)


def test_small_changes_count(recorded):
    name, _, _, recording = recorded
    rng = np.random.default_rng(1)
    machines = [jittered(recording.spec, rng, 1e-3, 1.0) for _ in range(20)]
    assert retime(recording, machines).valid.any() == (name not in _NEVER_ALIKE)


def test_without_the_order_the_times_would_be_wrong():
    scenario = hybridsim.load(PROGRAMS["kfac-auto"])
    recording = record(scenario, hybridsim.load_task(scenario))
    rng = np.random.default_rng(2)
    machines = [jittered(recording.spec, rng, 1.5, 1.0) for _ in range(30)]
    valid = retime(recording, machines).valid
    marks = [step.moment for step in recording.steps]
    wrong = 0
    for machine in [machines[draw] for draw in np.flatnonzero(~valid)]:
        moments = moments_of(recording, [prices(recording.asked, sheets_of(machine))])[marks, 0]
        again = simulated(recording, None, machine)
        assert again is not None
        wrong += moments.tolist() != again.end_ps.tolist()
    assert wrong


def test_a_machine_that_is_too_small_does_not_count():
    scenario = hybridsim.load(PROGRAMS["tngd"])
    recording = record(scenario, hybridsim.load_task(scenario))

    def with_cells(cells):
        return hybridsim.load(changed(PROGRAMS["tngd"], "machine.spus.cells", cells))

    needed = next(limit.needed for limit in recording.limits if limit.name == "cells")
    machines = [with_cells(cells).machine.expand() for cells in (int(needed), int(needed) - 1)]
    assert retime(recording, machines).valid.tolist() == [True, False]


def test_a_flight_where_there_was_none_does_not_count():
    fast = changed(PROGRAMS["tngd"], "machine.link.latency", "0 s")
    scenario, other = hybridsim.load(fast), hybridsim.load(PROGRAMS["tngd"])
    recording = record(scenario, hybridsim.load_task(scenario))
    assert not retime(recording, [other.machine.expand()]).valid.any()


@pytest.mark.parametrize(
    ("field", "value", "same"),
    [
        ("machine.link.bandwidth", "10 Gb/s", True),
        ("machine.spus.resistance", "10 ohm", True),
        ("machine.gpu.launch_interval", "1 us", True),
        ("machine.gpu", "h100-sxm5-80gb", True),
        ("name", "another", True),
        ("machine.link.number_bits", 8, False),
        ("machine.spus.output_bits", 12, False),
        ("machine.spus.count", 2, False),
        ("machine.spus.buffering", "double", False),
        ("seed", 2, False),
        ("training.algorithm.learning_rate", 0.1, False),
    ],
)
def test_signature_is_that_of_all_that_is_no_cost(field, value, same):
    base = PROGRAMS["tngd"]
    one, other = (hybridsim.load(found) for found in (base, changed(base, field, value)))
    assert (cost_signature(one) == cost_signature(other)) == same


def test_where_the_clock_decides_every_constant_counts():
    base = PROGRAMS["tngd-asynchronous"]
    other = changed(base, "machine.link.bandwidth", "10 Gb/s")
    assert cost_signature(hybridsim.load(base)) != cost_signature(hybridsim.load(other))


def test_where_the_clock_decides_energy_is_still_priced_again():
    base = PROGRAMS["tngd-asynchronous"]
    scenario = hybridsim.load(base)
    recording = record(scenario, hybridsim.load_task(scenario))
    dear = hybridsim.load(changed(base, "machine.spus.full_scale", "1 V"))
    slow = hybridsim.load(changed(base, "machine.link.bandwidth", "10 Gb/s"))
    found = retime(recording, [dear.machine.expand(), slow.machine.expand()])
    run = hybridsim.run(dear, backend="timing")
    assert found.valid.tolist() == [True, False]
    assert found.joules[0].tolist() == run.steps["energy_j"].tolist()
