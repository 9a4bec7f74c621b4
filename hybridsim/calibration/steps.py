"""Whole steps: the very computations that a simulated GPU is asked for, timed as torch does them.

A simulated step asks its GPU for computations. Here each is timed while it is computed, and its
work is priced on the GPU's datasheet: measured and predicted seconds of the same operators.
Whatever an SPU computes, what is sent, and diagnostics count on neither side.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hybridsim.calibration.clock import Clock, clock_of
from hybridsim.calibration.prediction import seconds_of
from hybridsim.dry import run_on
from hybridsim.errors import InputError
from hybridsim.execute import arithmetic_of
from hybridsim.operations.backend import Backend, Live, Timing, shapes_of
from hybridsim.operations.ref import Computation, Ref
from hybridsim.outcome import Value
from hybridsim.scenario.machine import GpuSpec
from hybridsim.scenario.schema import Scenario
from hybridsim.simulate import load_task
from hybridsim.tasks.device import on_host
from hybridsim.tasks.task import Task
from hybridsim.work import Work


class Step(NamedTuple):
    """What a step asked of the GPU, and the seconds in which the host's device did it."""

    works: tuple[Work, ...]
    seconds: float


class StepTime(NamedTuple):
    """One step of training, measured and predicted.

    Attributes:
        measured_s: seconds that its computations took, all of them and nothing else.
        predicted_s: what they take on the scenario's GPU.
        launches: operators that were launched.
    """

    measured_s: float
    predicted_s: float
    launches: int


def time_steps(
    scenario: Scenario, steps: int = 5, *, task: Task | None = None, data: Path | str | None = None
) -> list[StepTime]:
    """Time the digital part of some steps of a scenario on ``host.device``, by ``host.threads``
    threads, and predict it by the datasheet of its GPU.

    A first step warms up and is left out.

    Args:
        scenario: with one GPU, whose datasheet describes the host's device.
        steps: how many.
        task: what ``load_task`` gave for the scenario.
        data: folder of external data sets, where ``task`` is not given.

    Raises:
        InputError: the machine has several GPUs, or the scenario cannot run.
        HybridsimError: the run failed.
    """
    gpus = [node for node in scenario.machine.expand().nodes if isinstance(node, GpuSpec)]
    if len(gpus) != 1:
        raise InputError(f"machine.gpu: expected one GPU, got {len(gpus)}")
    task = load_task(scenario, data) if task is None else task
    timed = timed_steps(scenario, task, steps)
    sheet = gpus[0].sheet
    return [
        StepTime(
            step.seconds,
            sum(seconds_of(sheet, work.kernels) for work in step.works),
            sum(work.launches for work in step.works),
        )
        for step in timed
    ]


def timed_steps(scenario: Scenario, task: Task, steps: int) -> list[Step]:
    """Steps 2 to ``steps + 1`` of a live run.

    Raises:
        HybridsimError: the run failed.
    """
    with on_host(scenario.host.device, scenario.host.threads):
        shapes = shapes_of(task, arithmetic_of(scenario))
        backend = _Timed(b"calibration", shapes, clock_of(scenario.host.device))
    return _steps(scenario, task, steps, backend)


def counted_steps(scenario: Scenario, task: Task, steps: int) -> list[Step]:
    """The same steps without tensors: what they ask for, in no time."""
    shapes = shapes_of(task, arithmetic_of(scenario))
    return _steps(scenario, task, steps, _Counted(b"calibration", shapes))


def _steps(scenario: Scenario, task: Task, steps: int, backend: _Timed | _Counted) -> list[Step]:
    found: list[Step] = []
    run_on(scenario, task, steps + 1, backend, lambda _: found.append(backend.taken()))
    return found[1:]


class _Recorder(Backend):
    """Keeps what a GPU was asked for since it was last ``taken``."""

    works: list[Work]
    seconds = 0.0

    def work(self, computation: Computation, args: tuple[Ref, ...]) -> tuple[Work, Value]:
        """Only GPUs ask what a computation costs, each before it is computed."""
        found = super().work(computation, args)
        self.works.append(found[0])
        return found

    def taken(self) -> Step:
        """What was recorded; the record begins anew."""
        found = Step(tuple(self.works), self.seconds)
        self.works, self.seconds = [], 0.0
        return found


class _Counted(_Recorder, Timing):
    """Without tensors."""

    def __init__(self, salt: bytes, shapes: Value) -> None:
        super().__init__(salt, shapes)
        self.works = []


class _Timed(_Recorder, Live):
    """Times what is computed for a GPU, and nothing else."""

    def __init__(self, salt: bytes, shapes: Value, clock: Clock) -> None:
        super().__init__(salt, shapes)
        self.works = []
        self._asked: set[bytes] = set()
        self._clock = clock

    def work(self, computation: Computation, args: tuple[Ref, ...]) -> tuple[Work, Value]:
        """What is asked for will be computed."""
        self._asked.add(self.key(computation, args))
        return super().work(computation, args)

    def evaluate(
        self,
        computation: Computation,
        args: tuple[Ref, ...],
        shape: Value = None,
        *,
        exact: bool = False,
    ) -> Ref:
        """Compute, and wait for the device before and after; nothing is rounded by emulation."""
        key = self.key(computation, args)
        if key not in self._asked:
            return super().evaluate(computation, args, shape, exact=True)
        self._asked.discard(key)
        self._clock.wait()
        started_s = self._clock.now()
        found = super().evaluate(computation, args, shape, exact=True)
        self._clock.wait()
        self.seconds += self._clock.now() - started_s
        return found
