"""What a program works with: the task, the machine, the algorithm's settings, and the learning
curve it fills.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch

from hybridsim.algorithms.schedule import factor
from hybridsim.errors import HybridsimError, InputError
from hybridsim.hardware.machine import Machine
from hybridsim.operations.backend import Backend
from hybridsim.operations.ref import Computation, Ref, Token
from hybridsim.rng import Draw, address_seed
from hybridsim.scenario.jacobian import Wanted
from hybridsim.scenario.settings.base import AlgorithmSettings
from hybridsim.tasks.task import Batch, Task, batch, batch_indices, evaluate
from hybridsim.trace.spans import Trace

Settings = TypeVar("Settings", bound=AlgorithmSettings)
Line = dict[str, Any]  # Any: cells of the learning curve, numbers or nothing
Progress = Callable[[Line], None]
EVALUATE = Computation(evaluate)


class Diverged(HybridsimError):
    """Training left the finite numbers."""


@dataclass
class Session(Generic[Settings]):
    """One run of one algorithm.

    ``steps`` counts parameter updates from 1. Evaluations on test data are diagnostics: they run on
    the host, cost no simulated time, and draw no random numbers. ``theta`` is the latest
    parameters; equal keys mean equal numbers. ``buffers``: the latest of those that training
    changes (BatchNorm's running statistics), which evaluation takes. ``notes``: what an algorithm
    decided before it began; goes to the summary. ``plan``: what it decided by the constants of the
    machine. ``jacobian``: how the simulation is to hold that of a linearization. ``told``: how this
    computer computes; goes to the summary's ``host``. ``ended``: the last step that has ended.
    """

    task: Task
    machine: Machine
    backend: Backend
    trace: Trace
    settings: Settings
    seed: int
    batch_size: int
    steps: int
    evaluate_every: int
    progress: Progress | None = None
    diverged_above: float = math.inf
    jacobian: Wanted = Wanted()
    notes: dict[str, Any] = field(default_factory=dict)  # Any: goes to JSON
    told: dict[str, Any] = field(default_factory=dict)  # Any: goes to JSON
    task_ref: Ref = field(init=False)
    theta: Ref = field(init=False)
    buffers: Ref = field(init=False)
    plan: object = field(init=False, default=None)
    ended: int = field(init=False, default=0)
    _batch: tuple[int, Batch] | None = field(init=False, default=None)
    _overflowed: int = field(init=False, default=0)
    _first_loss: float | None = field(init=False, default=None)
    _diverged: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.task_ref = self.backend.root(self.task, "task", self.task.key)
        self.theta = self.parameters()
        self.buffers = self.backend.root(self.task.initial_buffers(), "buffers", self.task.key)

    def parameters(self) -> Ref:
        """The initial parameters theta (N,), a function of the seed alone."""
        if self.backend.tensors:
            theta = self.task.initial_parameters(self.seed)
        else:
            theta = torch.empty(self.task.layout.size, dtype=self.task.dtype, device="meta")
        return self.backend.root(theta, "parameters", self.task.key, self.seed)

    def batch(self, step: int, shard: tuple[int, int] = (0, 1)) -> Ref:
        """The batch of a step, or share k of G equal ones, ``shard = (k, G)``: consecutive examples
        of the batch.

        A batch is drawn without replacement within an epoch, by seed and step alone. Without
        tensors any batch has the right shape, so the first is drawn and kept.

        Raises:
            InputError: the batch cannot be divided into G equal shares.
        """
        (k, of), size = shard, self.batch_size
        if size % of:
            raise InputError(
                f"training.batch_size: expected a multiple of {of}, the number of GPUs, got {size}"
            )
        x, y = self._whole_batch(step)
        share = slice(k * size // of, (k + 1) * size // of)
        identity = (
            "batch",
            self.task.key,
            self.seed,
            size,
            step,
            *(("shard", k, of) if of > 1 else ()),
        )
        return self.backend.root((x[share], y[share]), *identity)

    def _whole_batch(self, step: int) -> Batch:
        if self._batch is None or (self.backend.tensors and self._batch[0] != step):
            examples = len(self.task.data.train_x)
            indices = batch_indices(self.seed, examples, self.batch_size, step - 1)
            self._batch = (step, batch(self.task.data, indices))
        return self._batch[1]

    def resident_bytes(self) -> int:
        """Memory that the GPU holds throughout, besides the operands at hand and what the optimizer
        keeps: the data.
        """
        return sum(tensor.numel() * tensor.element_size() for tensor in self.task.data)

    def factor(self, step: int) -> float:
        """What the schedule multiplies the learning rate of a step by."""
        return factor(self.settings.schedule, step, self.steps)

    def number(self, value: float) -> Ref:
        """A number that the host knows: an argument of a computation, named by its value."""
        return self.backend.root(value, "number", value)

    def noise_seed(self, purpose: str, *address: int | str) -> int:
        """Seed of a draw, by logical address."""
        return address_seed(self.seed, purpose, *address)

    def draw(self, seed: int, shard: tuple[int, int] = (0, 1)) -> Ref:
        """What numbers are drawn with for a batch, or for share k of G of it."""
        k, of = shard
        found = Draw(seed, k * self.batch_size // of, self.batch_size)
        return self.backend.root(found, "draw", *found)

    def evaluates(self, step: int) -> bool:
        """Whether diagnostics are due after this step."""
        return step % self.evaluate_every == 0 or step == self.steps

    def diagnose(self, step: int, computation: Computation, args: tuple[Ref, ...]) -> Line:
        """Facts of a diagnostic where one is due: columns for the learning curve; costs no
        simulated time.
        """
        if not self.evaluates(step):
            return {}
        return dict(self.backend.evaluate(computation, args, exact=True).facts)

    def _report_overflow(self, step: int) -> None:
        """An event where FP16 did not hold operands of products since the last one."""
        number = self.backend.overflowed - self._overflowed
        if number:
            note = "operands of products beyond 65504, the largest number of FP16"
            self.trace.event("overflow", "", step, value=number, note=note)
            self._overflowed += number

    def check_loss(self, step: int, result: Ref | Token) -> None:
        """Stop as soon as the training loss is known not to be a number; tell once of one that has
        grown beyond ``diverged_above`` times the first.

        Raises:
            Diverged: with a last line of the learning curve and an event written.
        """
        loss = result.facts.get("train_loss")
        if loss is None:
            return None
        if math.isfinite(loss):
            return self._watch(step, loss)
        self._report_overflow(step)
        self.trace.event("non-finite", "", step, value=loss, note="training loss")
        now = self.now_ps()
        self.trace.step(
            {
                "step": step,
                "start_ps": now,
                "end_ps": now,
                "train_loss": loss,
                "energy_j": self.energy_j(),
            }
        )
        raise Diverged(f"step {step}: the training loss is {loss}; lower the learning rate")

    def _watch(self, step: int, loss: float) -> None:
        if self._first_loss is None:
            self._first_loss = loss
        elif not self._diverged and loss > self.diverged_above * self._first_loss > 0:
            self._diverged = True
            times, note = loss / self._first_loss, "training loss over the first"
            self.trace.event("divergence", "", step, value=times, note=note)

    def energy_j(self) -> float:
        """Nominal energy up to now: spans that ended, and static power."""
        static_w = sum(row.power_w for row in self.machine.static_power())
        return float(self.trace.energy_j + static_w * self.now_ps() * 1e-12)

    def now_ps(self) -> int:
        """The clock."""
        return self.machine.context.now_ps()

    def end_step(
        self, step: int, start_ps: int, theta: Ref, loss: Ref | Token, columns: Line
    ) -> None:
        """Write one line of the learning curve; ``loss`` carries the training loss as a fact."""
        self.theta, self.ended = theta, step
        self._report_overflow(step)
        row: Line = {
            "step": step,
            "start_ps": start_ps,
            "end_ps": self.now_ps(),
            "train_loss": loss.facts.get("train_loss"),
        }
        row |= {"energy_j": self.energy_j(), **columns}
        running = (self.buffers,) if self.buffers.value else ()
        row |= self.diagnose(step, EVALUATE, (self.task_ref, theta, *running))
        self.trace.step(row)
        if self.progress is not None:
            self.progress(row)
