"""What every training algorithm answers: one step's direction. The rest is shared (``loop``)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import Any, Generic, NamedTuple, TypeVar

import simpy

from hybridsim.algorithms.group import Group, Refs
from hybridsim.algorithms.session import Session, Settings
from hybridsim.errors import InputError
from hybridsim.hardware.gpu import Gpu
from hybridsim.operations.ref import Ref, Token
from hybridsim.scenario.machine import MachineSpec
from hybridsim.scenario.settings.base import OptimizerSettings
from hybridsim.tasks.task import Task

Columns = dict[str, Any]  # Any: cells of the learning curve, numbers or nothing
T = TypeVar("T")
Process = Generator[simpy.Event, Any, T]  # Any: what SimPy sends back is the event's own


class Direction(NamedTuple):
    """What a step moves the parameters along.

    Attributes:
        refs: (N,), as it lies on each GPU of the group.
        loss: carries the training loss as the fact ``train_loss``.
        columns: what else the step's line of the learning curve says.
    """

    refs: Refs
    loss: Ref | Token
    columns: Columns


def _check_network(session: Session[Any]) -> None:  # Any: whatever the algorithm's settings
    """Curvature is that of one network, the same in training and in evaluation.

    Raises:
        InputError: this one is not, and trains under first-order optimizers alone.
    """
    settings, training = session.settings, session.task.training
    if training is None or isinstance(settings, OptimizerSettings):
        return
    raise InputError(
        "training.algorithm: expected an optimizer by itself (adam, muon, ...) for a network that "
        "computes otherwise in training than in evaluation (BatchNorm, dropout; here "
        f"{training.what}), got {settings.kind}"
    )


class Algorithm(ABC, Generic[Settings]):
    """A training algorithm on a machine.

    Attributes:
        session: what it works with.
        settings: the scenario's.
        machine: the parts.
        group: the GPUs that hold the parameters.
        theta: the parameters as they lie on each of them; the loop keeps them up to date.
        waits_for_answer: before it updates, the host waits for an answer: of an analog part, or
            of a solver that it watches.
    """

    waits_for_answer = False

    def __init__(self, session: Session[Settings]) -> None:
        _check_network(session)
        self.session, self.settings, self.machine = session, session.settings, session.machine
        self.env = session.machine.context.env
        self.group = self.make_group()
        self.theta = self.group.everywhere(session.theta)

    def make_group(self) -> Group:
        """The GPUs that take part: all of the machine, or the first."""
        return Group(self.session, self.machine.gpus[:1] if self.settings.one_gpu else None)

    @property
    @abstractmethod
    def update(self) -> OptimizerSettings:
        """The optimizer that moves the parameters along the direction."""

    @property
    def plan(self) -> object:
        """What was decided by the constants of the machine before the first step: equal plans make
        equal programs. None: nothing is.
        """
        return None

    def prepare(self) -> Process[None]:
        """What comes before the first step."""
        yield from ()

    @abstractmethod
    def direction(self, step: int) -> Process[Direction]:
        """Find the direction of a step, at the parameters ``theta``."""

    def finish(self, step: int) -> Process[Columns]:
        """What follows the update of a step, and more columns for its line."""
        yield from ()
        return {}

    def resident_bytes(self, gpu: Gpu) -> int:
        """Memory that a GPU holds throughout, besides the operands at hand and what the optimizer
        keeps.
        """
        return self.session.resident_bytes()

    @classmethod
    def assumptions(cls, settings: Settings, spec: MachineSpec, task: Task) -> list[str]:
        """What the model takes for granted in such a run, besides the constants."""
        gpus = len(spec.usable_gpus())
        found = [
            "The training data lies in the GPU's memory; loading it costs nothing.",
            "GPU kernels run one after the other, unfused; dynamic power follows the share of the "
            "device at work.",
        ]
        if gpus > 1:
            found += cls.assumptions_of_gpus(gpus)
        if any(node.kind == "switch" for node in spec.nodes):
            found.append(
                "Switches take no time and no energy, and carry any number of messages at once."
            )
        return found

    @classmethod
    def assumptions_of_gpus(cls, gpus: int) -> list[str]:
        """What is assumed of several GPUs."""
        return [
            f"{gpus} GPUs train data-parallel: each holds all parameters and all training data and "
            "takes an equal share of every batch.",
            "Collectives are rings that start when all GPUs are ready; in an all-reduce every "
            "addition is a kernel of its own, where libraries have one for all.",
        ]


TIMING_ASSUMPTION = (
    "Without tensors, settling dissipates an estimate: every programmable resistor at R and full "
    "scale, times activity_factor. Conductances above 1/R, damping and feedback resistors can "
    "dissipate more."
)
