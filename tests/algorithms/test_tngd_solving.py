"""TNGD on SPUs that err: settling by agreement, refinement, ensembles, random programmes."""

from __future__ import annotations

import pytest
import torch
from harness import document, execute
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.algorithms.natural_gradient.exact import natural_gradient
from hybridsim.algorithms.natural_gradient.linearization import linearize
from hybridsim.algorithms.tngd import device
from hybridsim.circuits.imperfections.parts import built
from hybridsim.tasks.task import batch, batch_indices

TNGD = {"kind": "tngd", "learning_rate": 1.0, "damping": 0.5}
SEEDS = st.integers(0, 10_000)


def machine(count=1, **bits):
    ends = {f"{end}_bits": bits.get(end, "ideal") for end in ("input", "bias", "output")}
    return {"spus": {"count": count, "part": "rc-1us", "imperfections": "ideal", **ends}}


def answer(algorithm, seed=0, live=True, **changes):
    """The direction of one step: what theta moved by, at rate 1; and what was seen."""
    asked = document({**TNGD, **algorithm}, seed=seed, steps=1, **changes)
    made, sink = execute(asked, live=live, diagnose=False)
    if not live:
        return made, sink
    return made, sink, (made.parameters().value - made.theta.value).double()


def linearized(made):
    indices = batch_indices(made.seed, len(made.task.data.train_x), made.batch_size, 0)
    data = batch(made.task.data, indices)
    return linearize(made.task, made.parameters().value, data).value


def count(sink, kind):
    return sum(s["kind"] == kind and s["role"] != "flight" for s in sink.spans)


def conversions(sink, lane):
    return sum(s["conversions"] for s in sink.spans if s["lane"] == lane)


@settings(max_examples=2, deadline=None)
@given(seed=SEEDS, tolerance=st.floats(0.02, 0.4))
def test_agreement_stops_at_the_first_reading_that_agrees(seed, tolerance):
    """Without noise a settle in stretches is one settle: its readings are those of fixed times."""
    rule = {"rule": "agreement", "tolerance": tolerance, "first": "0.5 tau"}
    made, sink, found = answer({"settle": "40 tau", "settling": rule}, seed)
    readings = count(sink, "measure")
    times = [min(0.5 * 2**k, 40) for k in range(readings)]
    fixed = [answer({"settle": f"{tau} tau"}, seed)[2] for tau in times[-3:]]
    assert (found - fixed[-1]).norm() <= 1e-5 * found.norm()
    apart = [float((y - x).norm() / y.norm()) for x, y in zip(fixed, fixed[1:], strict=False)]
    assert apart[-1] <= tolerance * 1.001 or times[-1] == 40
    assert len(apart) < 2 or apart[0] >= tolerance * 0.999
    settled = sum(s["end_ps"] - s["start_ps"] for s in sink.spans if s["kind"] == "settle")
    assert settled == pytest.approx(times[-1] * 1e6)
    size = made.task.layout.size
    assert conversions(sink, "adc") == readings * size == size * count(sink, "settle")
    assert count(sink, "compare readings") == readings - 1
    assert {s["part"] for s in sink.spans if s["kind"] == "compare readings"} == {
        made.machine.gpu.name
    }


def test_readings_that_never_agree_end_at_the_bound_and_say_so():
    rule = {"rule": "agreement", "tolerance": 1e-6, "first": "3 tau"}
    made, sink, found = answer({"settle": "7 tau", "settling": rule})
    assert [event.kind for event in sink.events] == ["no agreement"]
    assert (found - answer({"settle": "7 tau"})[2]).norm() <= 1e-5 * found.norm()
    _, shapes = answer({"settle": "7 tau", "settling": rule}, live=False)
    assert count(shapes, "measure") == count(sink, "measure") == 3


def test_noise_of_every_stretch_is_its_own():
    """Over three stretches without damping's pull the noise adds up as over one settle."""
    rule = {"rule": "agreement", "tolerance": 1e-6, "first": "1 tau"}
    noisy = {"noise": 0.5, "settle": "4 tau"}
    spread = {}
    for name, changes in (("whole", {}), ("stretches", {"settling": rule})):
        still = answer({"settle": "4 tau"})[2]
        spread[name] = (answer({**noisy, **changes})[2] - still).square().mean()
    assert spread["stretches"] == pytest.approx(float(spread["whole"]), rel=0.25)


def programmed(made, bits):
    """The matrix that stands in the resistors, and the one that was asked for; dense."""
    lin, found = linearized(made), []
    for resolution in (bits, None):
        system = device.upload(lin, damping=made.settings.damping, input_bits=resolution).value
        identity = torch.eye(system.matrix.size, dtype=torch.float64)
        rows = system.matrix.project(identity)
        found.append(rows.T @ rows + made.settings.damping * identity)
    return found


@settings(max_examples=2, deadline=None)
@given(seed=SEEDS)
def test_refinement_shrinks_the_error_by_rho_an_iteration(seed):
    """With 3-bit resistors e_k = (I - Ã⁻¹A)^k e_0 to the end of float32."""
    longest = {"settle": "200 tau", "settling": "fixed"}
    small = {"workload": {"source": "digits_mlp", "options": {"hidden": 3, "depth": 1}}}
    errors = []
    for iterations in range(3):
        asked = {**longest, "refinement": iterations}
        made, sink, found = answer(asked, seed, machine=machine(input=3), **small)
        exact = natural_gradient(linearized(made), damping=made.settings.damping)
        errors.append(found - exact)
        assert count(sink, "residual") == count(sink, "add correction") == iterations
        size = made.task.layout.size
        assert conversions(sink, "dac") == conversions(sink, "adc") == (1 + iterations) * size
    held, asked = programmed(made, 3)
    once = torch.eye(len(held), dtype=torch.float64) - torch.linalg.solve(held, asked)
    for before, after in zip(errors, errors[1:], strict=False):
        assert (after - once @ before).norm() <= 2e-5 * exact.norm()
    assert errors[2].norm() < 0.5 * errors[0].norm()


def test_refinement_on_arrays_that_differ_shrinks_the_error_by_what_was_built():
    """Mismatch of J, Jᵀ, H and inputs: e_(k+1) = (I - M⁻¹ D A) e_k with the device's own M and
    D."""
    small = {"workload": {"source": "digits_mlp", "options": {"hidden": 2, "depth": 1}}}
    there = machine()
    there["spus"] |= {"imperfections": {"base": "ideal", "mismatch": True}, "mismatch": 0.1}
    errors = []
    for iterations in range(3):
        asked = {"settle": "200 tau", "refinement": iterations}
        made, sink, found = answer(asked, 5, machine=there, **small)
        exact = natural_gradient(linearized(made), damping=made.settings.damping)
        errors.append(found - exact)
    real = made.machine.spus[0].device
    lin, damping = linearized(made), made.settings.damping
    asked = {"damping": damping, "input_bits": None, "device": real}
    matrix = device.upload(lin, **asked).value.matrix
    identity = torch.eye(matrix.size, dtype=torch.float64)
    held = matrix.transposed.tensor.double().T @ matrix.middle(matrix.jacobian.tensor.double())
    held += damping * identity
    inputs = built(torch.ones(matrix.size), real, "input").double()
    _, ideal = programmed(made, None)
    once = identity - torch.linalg.solve(held, inputs[:, None] * ideal)
    for before, after in zip(errors, errors[1:], strict=False):
        assert (after - once @ before).norm() <= 1e-5 * exact.norm()
    assert errors[0].norm() > 0.03 * exact.norm() and errors[2].norm() < 0.3 * errors[0].norm()


def test_corrections_fit_ranges_that_are_chosen_from_the_past():
    """Nothing clips, also in the steps after: ranges come from all settles of the last system."""
    there = machine(bias=8, output=8)
    there["spus"]["imperfections"] = {"base": "ideal", "full_scales": True}
    asked = {**TNGD, "damping": 0.1, "learning_rate": 0.1, "settle": "100 tau", "refinement": 3}
    made, sink = execute(document(asked, steps=4, machine=there))
    assert not sink.events
    assert all(row["refinement_residual"] < 1e-4 for row in sink.steps)
    assert sum(s["kind"] == "find ranges" for s in sink.spans) == 1


OFFSETS = {"base": "ideal", "offset": True}


@pytest.mark.parametrize("imperfections", [OFFSETS, {**OFFSETS, "full_scales": True}])
def test_a_calibration_takes_the_offsets_off(imperfections):
    there = machine()
    there["spus"] |= {"imperfections": imperfections, "offset": "1 mV"}
    still = answer({})[2]
    calibrated = answer({"calibration_every": 1}, machine=there)
    off = (answer({}, machine=there)[2] - still).norm() / still.norm()
    assert off > 0.05
    assert (calibrated[2] - still).norm() <= 1e-4 * still.norm()
    assert calibrated[1].steps[0]["offset_share"] == pytest.approx(float(off), rel=1e-2)


def test_calibrations_come_every_so_many_steps_and_are_paid():
    asked = document({**TNGD, "calibration_every": 2}, steps=4)
    made, sink = execute(asked, live=False)
    for step in range(1, 5):
        own = [s["kind"] for s in sink.spans if s["step"] == step and s["role"] != "flight"]
        due = step in (1, 3)
        assert own.count("settle") == own.count("measure") == own.count("download") == 1 + due
        assert own.count("convert reversed gradient") == own.count("find offset") == due
        assert own.count("subtract offset") == 1


def test_refinement_passes_the_converters_resolution():
    coarse = {"machine": machine(input=8, bias=5, output=5)}
    errors = []
    for iterations in (0, 6):
        asked = {"settle": "200 tau", "refinement": iterations}
        made, sink, found = answer(asked, **coarse)
        exact = natural_gradient(linearized(made), damping=made.settings.damping)
        errors.append((found - exact).norm() / exact.norm())
    assert errors[0] > 2e-2 and errors[1] < 1e-5


def test_refinement_that_makes_it_worse_is_ended():
    """2-bit resistors with little damping: ρ > 1 somewhere, and the iterate before is taken."""
    asked = {"settle": "2000 tau", "damping": 1e-3, "refinement": 30}
    made, sink, found = answer(asked, machine=machine(input=2, bias=4, output=4))
    assert [event.kind for event in sink.events] == ["refinement ends"]
    assert count(sink, "residual") == count(sink, "settle") < 31


def test_an_ensemble_averages_noise_over_its_spus():
    asked = {"settle": "20 tau", "noise": 0.01}
    still = answer({"settle": "20 tau"})[2]
    off = {}
    for number in (1, 4):
        several = {**asked, "spus": "ensemble"} if number > 1 else asked
        made, sink, found = answer(several, machine=machine(number))
        off[number] = (found - still).square().mean()
        assert count(sink, "settle") == count(sink, "program") == number
        assert len({s["part"] for s in sink.spans if s["kind"] == "settle"}) == number
    assert off[4] / off[1] == pytest.approx(0.25, rel=0.25)


def test_ideal_members_of_an_ensemble_agree_and_settle_side_by_side():
    made, sink, found = answer({"spus": "ensemble"}, machine=machine(3))
    _, alone, single = answer({})
    assert torch.allclose(found, single, rtol=1e-4, atol=1e-7)
    settles = [(s["start_ps"], s["end_ps"]) for s in sink.spans if s["kind"] == "settle"]
    assert len(settles) == 3
    assert max(start for start, _ in settles) < min(end for _, end in settles)
    assert count(sink, "average answers") == 1 and not count(alone, "average answers")


def test_randomly_rounded_programmes_are_priced_and_average():
    """The Fisher has no loss Hessian that rounding spoils: ε/√K until ε²."""
    fisher = {"curvature": "empirical_fisher", "settle": "200 tau", "rounding": "stochastic"}
    exact = answer({**fisher, "rounding": "nearest"})[2]
    errors = {}
    for number in (1, 16):
        asked = {**fisher, "programmes": number}
        made, sink, found = answer(asked, machine=machine(input=7, bias=7))
        errors[number] = (found - exact).norm() / exact.norm()
        for kind in ("program", "upload jacobian", "settle", "measure"):
            assert count(sink, kind) == number
    assert errors[16] / errors[1] < 0.5
