"""The numbers of the report against sweeps over events and plain loops."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedules import Op, column, cut, operations, simulate, write_run

from hybridsim.errors import InputError
from hybridsim.results.lanes import LaneBook
from hybridsim.results.read import Run
from hybridsim.results.summary import target_reached


def book_of(rows, length):
    book = LaneBook()
    for chunk in cut(rows, length):
        book.add(chunk)
    return book


def lanes_of(rows):
    frame = pd.DataFrame(
        {
            name: column(rows, name)
            for name in ("part", "lane", "queued_ps", "start_ps", "end_ps", "bits")
        }
    )
    return frame.groupby(["part", "lane"])


@settings(max_examples=60, deadline=None)
@given(operations(60), st.integers(1, 30))
def test_littles_law_on_every_queue(ops, length):
    """λ W equals the time average of the number waiting, swept over arrivals and starts."""
    rows = simulate(ops)
    book, end = book_of(rows, length), max(column(rows, "end_ps"))
    for line, (_, own) in zip(book.lanes(), lanes_of(rows), strict=True):
        times = np.concatenate([own.queued_ps, own.start_ps])
        changes = np.repeat([1, -1], len(own))
        order = np.argsort(times, kind="stable")
        area = np.sum(np.cumsum(changes[order])[:-1] * np.diff(times[order]))
        assert line["queue_mean"] == pytest.approx(area / max(end, 1), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(operations(60), st.integers(1, 30))
def test_utilisation_waits_and_work_of_every_lane(ops, length):
    rows = simulate(ops)
    book, end = book_of(rows, length), max(max(column(rows, "end_ps")), 1)
    for line, (key, own) in zip(book.lanes(), lanes_of(rows), strict=True):
        assert (line["part"], line["lane"]) == key
        assert line["utilisation"] == pytest.approx((own.end_ps - own.start_ps).sum() / end)
        assert line["utilisation"] <= 1 + 1e-12
        waits = (own.start_ps - own.queued_ps).to_numpy()
        exact = np.quantile(waits, 0.95, method="inverted_cdf") * 1e-12
        assert exact * (1 - 1e-9) <= line["wait_p95_s"] <= exact * 1.011
        assert line["wait_max_s"] == pytest.approx(waits.max() * 1e-12)
        assert line["wait_mean_s"] == pytest.approx(waits.mean() * 1e-12)
        assert (line["bits"], line["conversions"], line["spans"]) == (
            own.bits.sum(),
            3 * len(own),
            len(own),
        )


def test_a_run_worked_out_by_hand(tmp_path):
    second = 10**12
    rows = simulate(
        [Op(0, 0, 5 * second), Op(1, 0, 20 * second), Op(0, 1, second), Op(0, 1, 4 * second, (1,))]
    )
    times = (
        {"step": 1, "start_ps": 0, "end_ps": 9 * second},
        {"step": 2, "start_ps": 9 * second, "end_ps": 29 * second},
    )
    values = ((2.0, 10.0, 0.5), (1.0, 30.0, 0.9))
    names = ("train_loss", "energy_j", "test_accuracy")
    steps = [
        time | dict(zip(names, value, strict=True))
        for time, value in zip(times, values, strict=True)
    ]
    target = {"metric": "test_accuracy", "threshold": 0.9, "direction": "above"}
    events = [
        (3 * second, "clipping", "spu0", 1, "", 1.0, ""),
        (2 * second, "clipping", "spu0", 1, "", 1.0, ""),
    ]
    found = write_run(tmp_path / "run", rows, steps=steps, events=events, target=target)
    assert (found["name"], found["status"], found["steps"], found["spans"]) == (
        "made up",
        "complete",
        2,
        4,
    )
    assert found["simulated_s"] == 29.0 and found["makespan_ps"] == 29 * second
    assert found["throughput"] == {"steps_per_s": 2 / 29, "samples_per_s": pytest.approx(16 / 29)}
    assert found["step_latency"]["p50_s"] == pytest.approx(14.5)
    spans_j = 25 * 1 + 5 * 2
    assert found["energy"]["total"]["energy_j"] == pytest.approx(spans_j + 50.5 * 29)
    assert found["energy"]["static_share"] == pytest.approx(50.5 * 29 / (spans_j + 50.5 * 29))
    assert found["energy"]["by_part"]["gpu0"]["energy_high_j"] == pytest.approx(65 * 29)
    bottleneck = found["critical_path"]["bottleneck"]
    assert (bottleneck["part"], bottleneck["lane"], bottleneck["kind"]) == (
        "part0",
        "lane0",
        "kind1",
    )
    assert found["critical_path"]["length_s"] == 29.0 and bottleneck["share"] == pytest.approx(
        20 / 29
    )
    assert found["target"] == {
        **target,
        "evaluated": True,
        "reached": True,
        "step": 2,
        "seconds": 29.0,
        "joules": 30.0,
    }
    assert found["events"] == {"clipping": {"count": 2, "first_s": 2.0}}
    assert found["final"]["train_loss"] == 1.0
    energy = Run.open(tmp_path / "run").energy
    assert energy.energy_j.sum() == pytest.approx(found["energy"]["total"]["energy_j"], rel=1e-12)


def test_targets():
    steps = pd.DataFrame(
        {
            "step": [1, 2, 3],
            "end_ps": [10, 20, 30],
            "energy_j": [1.0, 2.0, 3.0],
            "loss": [3.0, None, 1.0],
        }
    )
    below = {"metric": "loss", "threshold": 1.0, "direction": "below"}
    assert target_reached(steps, below)["step"] == 3
    assert target_reached(steps, below | {"threshold": 0.5})["reached"] is False
    assert target_reached(steps, below | {"direction": "above"})["joules"] == 1.0
    assert target_reached(steps, below | {"metric": "absent"})["seconds"] is None
    assert target_reached(steps, None) is None
    with pytest.raises(InputError, match="above or below, got 'max'"):
        target_reached(steps, below | {"direction": "max"})


def test_a_broken_path_is_reported_and_the_rest_kept(tmp_path):
    rows = simulate([Op(0, 0, 5), Op(0, 0, 5)])
    orphan = (*rows[1][:1], (), *rows[1][2:])
    found = write_run(tmp_path / "run", [rows[0], orphan])
    assert "span 1 " in found["critical_path"]["error"]
    assert found["spans"] == 2
