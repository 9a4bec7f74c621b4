"""The table of measurements: rounds, budget, interrupts, and files that somebody damaged."""

from __future__ import annotations

import math
import os
import signal

import pytest
from command import call
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybridsim.calibration import measure as module
from hybridsim.calibration.clock import Timing
from hybridsim.calibration.families import Case, Rates
from hybridsim.calibration.measure import TABLE, measure, over_rounds, read_visits, refused
from hybridsim.calibration.plan import Asked, Device, rounds
from hybridsim.errors import InputError

DEVICE = Device("cpu", "a processor", "here", "2.x", 1, 0, "today", Rates(1e9, 1e9, 1e9))


class Host:
    """Visits that take given time on a clock of their own, instead of measuring."""

    def __init__(self, monkeypatch, each_s=1.0):
        self.now, self.each_s, self.order, self.before = 0.0, each_s, [], lambda: None
        monkeypatch.setattr(module, "visit", self.visit)
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)

    def visit(self, case, clock, threads):
        self.before()
        self.order.append(case)
        self.now += self.each_s
        seconds = 1e-6 * (1 + len(self.order))
        return Timing(seconds, seconds, seconds, 3)


@pytest.fixture
def host(monkeypatch):
    return Host(monkeypatch)


def asked(minutes=1.0, seed=0):
    return Asked("cpu", minutes, 1, seed)


def go(folder, minutes=1.0, seed=0):
    return measure(folder, asked(minutes, seed), DEVICE, lambda _: None)


@pytest.mark.parametrize("each_s", [0.25, 1.0, 7.0])
def test_it_ends_when_the_time_is_up(tmp_path, monkeypatch, each_s):
    host = Host(monkeypatch, each_s)
    visits = go(tmp_path, 2.0)
    assert len(visits) == math.ceil(120 / each_s)
    assert read_visits(tmp_path / TABLE) == visits
    assert go(tmp_path, 2.0) == visits and len(host.order) == len(visits)


def test_every_case_comes_once_in_every_round_in_another_order():
    plan = rounds(asked(), DEVICE)
    first = [next(plan) for _ in range(2000)]
    by_round = {n: [case for number, case in first if number == n] for n in range(2)}
    assert len(set(by_round[0])) == len(by_round[0]) > 100
    assert set(by_round[0]) == set(by_round[1]) and by_round[0] != by_round[1]
    assert {case.family for case in by_round[0]} > {"step", "product", "factorisation"}


@given(stops=st.lists(st.integers(1, 20), max_size=3), seed=st.integers(0, 99))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_interrupted_one_goes_on_as_if_nothing_had_happened(tmp_path_factory, stops, seed):
    with pytest.MonkeyPatch.context() as patch:
        host, folder = Host(patch), tmp_path_factory.mktemp("calibration")
        for stop in stops:
            ends = len(host.order) + stop

            def before(ends=ends):
                if len(host.order) == ends:
                    raise KeyboardInterrupt

            host.before = before
            with pytest.raises(KeyboardInterrupt):
                go(folder, seed=seed)
            assert len(read_visits(folder / TABLE)) == ends
        host.before = lambda: None
        visits = go(folder, seed=seed)
        plan = rounds(asked(seed=seed), DEVICE)
        assert [(v.round, v.case) for v in visits] == [next(plan) for _ in range(60)]


@given(cut=st.integers(1, 400))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_row_that_was_cut_short_is_measured_again(tmp_path_factory, cut):
    with pytest.MonkeyPatch.context() as patch:
        Host(patch)
        folder = tmp_path_factory.mktemp("calibration")
        whole = go(folder, 0.2)
        content = (folder / TABLE).read_bytes()
        os.truncate(folder / TABLE, max(0, len(content) - cut))
        again = go(folder, 0.2)
        assert [(v.round, v.case) for v in again] == [(v.round, v.case) for v in whole]
        assert read_visits(folder / TABLE) == again


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ("family,", "famly,", 1),
        ("product,mm,8x8x8", "product,mm,8x8", 2),
        ("product,mm", "product,nn", 2),
        ("product,mm", "produce,mm", 2),
        ("8x8x8", "8x0x8", 2),
        ("8x8x8", "8xax8", 2),
        ("float32,0,1e-06", "float16,0,1e-06", 2),
        ("0,1e-06", "0,-1e-06", 2),
        ("0,1e-06", "0,fast", 2),
        ("0,1e-06", "1e-06", 2),
        ("digits_mlp hidden", "digits_nlp hidden", 3),
        ("step,sgd", "step,sdg", 3),
    ],
)
def test_a_damaged_row_is_named_by_its_line(tmp_path, before, after, line):
    path, timing = tmp_path / TABLE, Timing(1e-6, 1e-6, 2e-6, 3)
    shape = "digits_mlp hidden=8 depth=1 batch=4"
    for case in (Case("product", "mm", "8x8x8", "float32"), Case("step", "sgd", shape, "float32")):
        module._append(path, module.Visit(case, 0, timing, 0.5))
    assert [visit.timing for visit in read_visits(path)] == [timing, timing]
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(InputError) as raised:
        read_visits(path)
    assert str(raised.value).startswith(f"{path}:{line}: expected ")
    assert "\n" not in str(raised.value)


def test_the_median_over_rounds_and_what_was_never_measured():
    timing = [Timing(s, s, s, 1) for s in (3.0, 1.0, 2.0)]
    none = Timing(math.nan, math.nan, math.nan, 0)
    a, b, c = (Case("product", "mm", f"{n}x1x1", "float32") for n in (1, 2, 3))
    visits = [module.Visit(a, n, one, 0.0) for n, one in enumerate(timing)]
    visits += [module.Visit(b, 0, none, 0.0), module.Visit(c, 0, none, 0.0)]
    visits += [module.Visit(c, 1, timing[0], 0.0)]
    assert over_rounds(visits) == [(a, 2.0, 1.0, 3.0), (c, 3.0, 3.0, 3.0)]
    assert refused(visits) == [b]


def test_what_a_library_refuses_is_no_measurement(monkeypatch):
    def refuses(case, device):
        raise RuntimeError("not converged")

    monkeypatch.setattr(module, "operands", refuses)
    found = module.visit(Case("product", "mm", "1x1x1", "float32"), module.clock_of("cpu"), 1)
    assert found.bursts == 0 and math.isnan(found.seconds)


def test_an_interrupt_keeps_the_table_and_says_so(tmp_path, monkeypatch, capsys, host):
    folder = tmp_path / "cpu"

    def before():
        if len(host.order) == 4:
            os.kill(os.getpid(), signal.SIGINT)

    host.before = before
    code, out, err = call(monkeypatch, capsys, "calibrate", "--out", folder, "--minutes", "1")
    kept = f"interrupted; the measurements so far are in {folder / TABLE}; the same command goes on"
    assert (code, out) == (130, "") and err.endswith(f"hybridsim: {kept}\n")
    assert len(read_visits(folder / TABLE)) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--device", "tpu"), "--device: expected cpu or cuda, got 'tpu'"),
        (("--minutes", "11"), "--minutes: expected > 0 and <= 10, got 11"),
        (("--minutes", "nan"), "--minutes: expected > 0 and <= 10, got nan"),
        (("--threads", "0"), "--threads: expected >= 1, got 0"),
        (("--base", "abacus"), "expected a shipped gpu or a path ending in .yaml"),
    ],
)
def test_words_that_make_no_sense(tmp_path, monkeypatch, capsys, host, words, message):
    code, _, err = call(monkeypatch, capsys, "calibrate", "--out", tmp_path / "out", *words)
    assert code == 2 and message in err and err.count("\n") == 1
    assert not host.order


def test_a_folder_of_another_device_is_left_alone(tmp_path, monkeypatch, capsys, host):
    words = ("calibrate", "--out", tmp_path / "out", "--minutes", "0.1")
    call(monkeypatch, capsys, *words)
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    code, _, err = call(monkeypatch, capsys, *words, "--seed", "7")
    expected = "seed: expected 0 as in the measurements so far, got 7; choose another --out"
    assert code == 2 and err.endswith(f"{expected}\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    code, _, err = call(monkeypatch, capsys, "calibrate", "--out", tmp_path / "mine")
    assert code == 2 and "which holds thesis.tex" in err
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"rates": 3}', '{"rates": {"flop_per_s": "x"}}', "\x00", "nonsense"]
)
def test_a_damaged_description_of_the_device(tmp_path, monkeypatch, capsys, host, text):
    (tmp_path / "device.json").write_text(text)
    code, _, err = call(monkeypatch, capsys, "calibrate", "--out", tmp_path)
    assert code == 2 and err.count("\n") == 1
    assert f"{tmp_path / 'device.json'}: expected what a calibration wrote" in err
