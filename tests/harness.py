"""One session outside a run folder, so that tests can look at parameters and spans directly."""

from __future__ import annotations

from typing import Any

import simpy
from shared_tasks import task_of

import hybridsim
from hybridsim.algorithms.catalogue import algorithm_of
from hybridsim.algorithms.loop import train
from hybridsim.algorithms.session import Session
from hybridsim.execute import arithmetic_of
from hybridsim.hardware.lane import Context
from hybridsim.hardware.machine import Machine
from hybridsim.operations.backend import Backend, ComputationRaised, Live, Timing, shapes_of
from hybridsim.results.keys import operation
from hybridsim.trace.spans import Rows, Trace

IDEAL = {
    "count": 1,
    "part": "rc-1us",
    "input_bits": "ideal",
    "bias_bits": "ideal",
    "output_bits": "ideal",
    "imperfections": "ideal",
}


class Memory:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        self.events: list[Any] = []
        self.steps: list[dict[str, Any]] = []
        self.requests: list[Any] = []

    def write(self, rows: Rows) -> None:
        # with the factor that an operation is for, as people read it
        named = [row._replace(kind=operation(row.kind, row.factor)) for row in rows.spans]
        self.spans += [row._asdict() for row in named]
        self.events += rows.events
        self.steps += rows.steps
        self.requests += rows.requests


def document(algorithm: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A small task on one SPU with ideal converters; ``changes`` go to training and machine."""
    machine = {"gpu": "a100-sxm4-80gb", "link": "paper-50gbps", "spus": IDEAL} | changes.pop(
        "machine", {}
    )
    return {
        "name": "test",
        "seed": changes.pop("seed", 0),
        "workload": changes.pop(
            "workload", {"source": "digits_mlp", "options": {"hidden": 5, "depth": 1}}
        ),
        "training": {"batch_size": 4, "steps": 3, "evaluate_every": 3, "algorithm": algorithm}
        | changes,
        "machine": machine,
    }


def session(document: dict[str, Any], live: bool = True) -> tuple[Session, Memory]:
    scenario = hybridsim.load(document)
    training = scenario.training
    env, sink = simpy.Environment(), Memory()
    kind: type[Backend] = Live if live else Timing
    task = task_of(scenario)
    backend = kind(b"test", shapes_of(task, arithmetic_of(scenario)))
    trace = Trace(sink, lambda: int(env.now))
    machine = Machine(Context(env, trace, backend), scenario.machine.expand())
    made = Session(
        task,
        machine,
        backend,
        trace,
        training.algorithm,
        scenario.seed,
        training.batch_size,
        training.steps,
        10**9,
        jacobian=scenario.wanted_jacobian,
    )
    return made, sink


def execute(
    document: dict[str, Any], live: bool = True, diagnose: bool = True
) -> tuple[Session, Memory]:
    """Run to the end; diagnostics may use solvers, which nothing else may."""
    made, sink = session(document, live)
    if not diagnose:
        made.diagnose = lambda *_: {}  # type: ignore[method-assign] - what a test forbids
    env = made.machine.context.env
    try:
        env.run(env.process(train(algorithm_of(made.settings)(made))))
    except ComputationRaised as raised:
        raise raised.error from None
    made.trace.close()
    return made, sink
