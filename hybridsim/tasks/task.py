"""A training task: network, data and loss as functions of one flat parameter vector theta (N,)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from hybridsim.errors import InputError, Problem
from hybridsim.outcome import Outcome
from hybridsim.rng import Draw, address_seed
from hybridsim.tasks.checks import (
    check_factory,
    check_network,
    check_shapes,
    check_type,
    check_workload,
)
from hybridsim.tasks.code import Code
from hybridsim.tasks.layout import Layout, layout_of
from hybridsim.tasks.training import Buffers, Pass, Training, forward, moves
from hybridsim.tasks.users_code import problem_of, users_code
from hybridsim.tasks.workload import (
    Data,
    Loss,
    Options,
    Workload,
    build_workload,
    find_source,
    workload_key,
)

__all__ = [
    "Batch", "Data", "Layout", "Loss", "Task", "Workload",
    "as_task", "batch", "batch_indices", "batch_loss", "evaluate", "load_shapes", "load_workload",
]  # fmt: skip

Batch = tuple[Tensor, Tensor]
_CHUNK = 1000
_CHUNK_ELEMENTS = 1 << 24  # of inputs or outputs evaluated at once: 64 MiB in float32
_FINGERPRINT = 8  # examples; one for a network of more parameters than
LARGE = 10_000_000


@dataclass(frozen=True, eq=False)
class Task:
    """A workload ready for training.

    Attributes:
        name: what the scenario calls it.
        workload: as its file returned it; ``workload.network()`` builds a network with fresh
            parameters.
        network: the module used statelessly through ``torch.func.functional_call``; of its tensors
            only those that do not train are read (frozen parameters and buffers as built for seed
            0); those that train lie on the meta device once a workload is loaded, so that a large
            network is not held twice.
        loss: ``cross_entropy`` = mean over examples and positions; ``mse`` = mean over all outputs.
        data: on the task's device, its floating-point tensors in the task's type.
        layout: where each parameter lies in theta.
        key: digest of code, options, data and the network built for seed 0, see ``load_workload``;
            another type than float32 is part of it.
        outputs: d_z, the width of the network's output (b, ..., d_z).
        terms: T, the loss terms of an example: the product of the output's middle dimensions
            (positions), or 1.
        dtype: floating-point type of data, network and theta.
        options: what the workload was built with.
        file: the workload's, which errors name.
        training: what the network does in training alone (BatchNorm, dropout); None: it computes
            the same as in evaluation.
    """

    name: str
    workload: Workload
    network: nn.Module
    loss: Loss
    data: Data
    layout: Layout
    key: str
    outputs: int
    terms: int = 1
    dtype: torch.dtype = torch.float32
    options: Options = field(default_factory=dict)
    file: str = "workload"
    training: Training | None = None

    def initial_parameters(self, seed: int) -> Tensor:
        """Theta (N,) as the workload's network factory draws it, in float32, from torch seeded by
        ``seed`` alone.

        torch's global random state is left as it was. The result has the task's type and lies on
        its device.

        Raises:
            InputError: the factory fails, or gives another network than for seed 0.
        """
        network, shapes = _fresh(self.workload, seed, self.file), self.layout.shapes
        with users_code(self.file, "network", "the same parameters for every seed"):
            trained = {n: p.detach() for n, p in network.named_parameters() if p.requires_grad}
            if tuple(tuple(trained[name].shape) for name in self.layout.names) != shapes:
                raise ValueError("another shape")
            return self.layout.flatten(trained).to(self.data.train_x.device, self.dtype)

    def initial_buffers(self) -> Buffers:
        """By name, those that training changes, as the network built for seed 0 has them; none of a
        network that computes the same in training and in evaluation.
        """
        names = () if self.training is None else self.training.buffers
        return {name: self.network.get_buffer(name) for name in names}

    def apply(self, tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """The network's outputs z (b, ..., d_z) in evaluation, for inputs x (b, ...) at the given
        parameters (and buffers) by name.
        """
        z: Tensor = functional_call(self.network, dict(tensors), (x,))
        return z

    def train(
        self, parameters: Mapping[str, Tensor], buffers: Buffers, x: Tensor, draw: Draw
    ) -> Pass:
        """Outputs z (b, ..., d_z) and buffers of a forward pass in training, see
        ``training.forward``.

        Raises:
            InputError: the network refuses so few examples, or the masks cannot be shared out.
        """
        try:
            return forward(self.network, parameters, buffers, x, draw)
        except ValueError as error:
            expected = f"a network that trains on {len(x)} examples at a time"
            raise InputError([problem_of(error, self.file, "network", expected)]) from error

    def to(self, device: str | torch.device, dtype: torch.dtype | None = None) -> Task:
        """The same task with its data and constants on another device, or in another floating-point
        type.

        Raises:
            InputError: the network does not compute in this type.
        """
        kind = dtype or self.dtype

        def moved(_: str, tensor: Tensor) -> Tensor:
            return tensor.to(
                "meta" if tensor.is_meta else device, kind if tensor.is_floating_point() else None
            )

        data = Data(*(moved("", tensor) for tensor in self.data))
        key = self.key.removesuffix(f" {self.dtype}") + (
            f" {kind}" if kind != torch.float32 else ""
        )
        task = replace(
            self, data=data, network=_converted(self.network, moved), key=key, dtype=kind
        )
        if kind != self.dtype and data.train_x.device.type != "meta":
            parameters = task.layout.unflatten(task.initial_parameters(0))
            check_type(self.file, lambda: task.apply(parameters, data.train_x[:1]), kind)
        return task

    @property
    def is_meta(self) -> bool:
        """It is shapes alone."""
        return self.data.train_x.is_meta

    def meta(self) -> Task:
        """The same task without numbers: every tensor on the meta device, shapes only."""
        return self if self.is_meta else _meta(self)


@lru_cache(maxsize=8)
def _meta(task: Task) -> Task:
    return task.to("meta")


def load_workload(
    name_or_path: str,
    options: Options,
    data_dir: str | None = None,
    *,
    shapes_above: int | None = None,
) -> Task:
    """A task from a shipped workload's name, or from the path of a user's own ``.py`` file.

    The task's key stands for everything that its results depend on: the bytes of the file as they
    were executed, the bytes of the helper modules it uses (``workload_code``), the options, the
    data, every parameter and buffer of the network built for seed 0 (frozen and non-persistent ones
    too), and this network's outputs on the first 8 training inputs (the first alone above 10
    million parameters), computed by one thread. Installed packages are not part of it, nor are
    files that a network reads without any trace in these. It is the same in every process on one
    machine.

    Args:
        name_or_path: which.
        options: what its ``build`` takes.
        data_dir: folder of external data sets.
        shapes_above: of a network of more parameters shapes alone are made, as of
            ``load_workload(...).meta()``: what it costs is seen before it is built. Its key stands
            for no numbers then. A network that cannot be built on the meta device is loaded, and so
            is one with BatchNorm or dropout.

    Raises:
        InputError: the workload cannot be found, imported or built, network and data do not fit
            together, or a helper module's file has changed since it was imported.
    """
    path = find_source(name_or_path)
    with users_code(str(path), "", "a workload that can be loaded"), Code(path) as code:
        workload = build_workload(code, options, data_dir)
        check_workload(str(path), workload)
        if shapes_above is not None:
            task = _shapes(name_or_path, workload, str(path))
            if task is not None and task.layout.size > shapes_above:
                key = workload_key(code.digest(), options, _constants(task.network))
                return replace(task, key=key, options=dict(options))
        task = as_task(name_or_path, workload, file=str(path))
        shapes = task.to("meta")
        check_shapes(str(path), lambda: shapes.network(shapes.data.train_x[:1]))
        if task.training is not None:
            few, x = shapes.initial_buffers(), shapes.data.train_x[:2]
            check_shapes(str(path), lambda: shapes.train({}, few, x, Draw(0, 0, len(x))).z)
        tensors = {**task.data._asdict(), **_constants(task.network), "outputs": _fingerprint(task)}
        key = workload_key(code.digest(), options, tensors)
        trained = set(task.layout.names)
        network = _converted(
            task.network, lambda name, tensor: tensor.to("meta") if name in trained else tensor
        )
        return replace(task, network=network, key=key, options=dict(options))


def load_shapes(name_or_path: str, options: Options, data_dir: str | None = None) -> Task:
    """``load_workload`` with nothing but shapes, where that can be.

    Raises:
        InputError: as ``load_workload``.
    """
    return load_workload(name_or_path, options, data_dir, shapes_above=0).meta()


def _shapes(name: str, workload: Workload, file: str) -> Task | None:
    """A task of meta tensors alone; None where its network cannot be built of them, or computes
    otherwise in training.
    """
    data = Data(*(tensor.to("meta") for tensor in workload.data))
    try:
        with torch.device("meta"), users_code(file, "network", "shapes alone"):
            network = _fresh(workload, 0, file).eval()
            layout = layout_of(network)
            *positions, outputs = network.requires_grad_(False)(data.train_x[:1]).shape[1:]
            alike = not moves(network, data.train_x[:2])
    except InputError:
        alike = False
    if not alike:
        return None
    terms = prod(positions)
    return Task(
        name, workload, network, workload.loss, data, layout, name, outputs, terms, file=file
    )


def _constants(network: nn.Module) -> dict[str, Tensor]:
    named = [
        *network.named_parameters(remove_duplicate=False),
        *network.named_buffers(remove_duplicate=False),
    ]
    return {f"network.{name}": tensor for name, tensor in named}


def _fingerprint(task: Task) -> Tensor:
    """Outputs (b, d_z) at the parameters of seed 0, by one thread: rounding depends on their
    number.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(address_seed(0, "fingerprint"))
            z: Tensor = task.network(
                task.data.train_x[: _FINGERPRINT if task.layout.size <= LARGE else 1]
            )
            return z
    finally:
        torch.set_num_threads(threads)


def as_task(name: str, workload: Workload, *, file: str = "workload") -> Task:
    """A task from a workload at hand, once it is checked; ``file`` is what errors name. Its key is
    its name.

    Raises:
        InputError: network and data do not fit together.
    """
    check_workload(file, workload)
    network = _fresh(workload, 0, file)
    check_factory(file, network, _fresh(workload, 0, file))
    (*positions, outputs), training = check_network(file, network, workload.data, workload.loss)
    layout = layout_of(network)
    network.eval().requires_grad_(False)
    return Task(
        name,
        workload,
        network,
        workload.loss,
        workload.data,
        layout,
        name,
        outputs,
        prod(positions),
        file=file,
        training=training,
    )


def batch(data: Data, indices: Tensor) -> Batch:
    """The training examples (x, y) with these indices (b,)."""
    return data.train_x[indices], data.train_y[indices]


def batch_indices(seed: int, epoch_size: int, batch_size: int, step: int) -> Tensor:
    """Indices (b,) int64 of a step's batch, without replacement in an epoch; a last partial batch
    is dropped.

    Raises:
        InputError: ``batch_size`` is not in 1..``epoch_size``.
    """
    if not 1 <= batch_size <= epoch_size:
        expected = f"at least 1 and at most {epoch_size}, the training set's size"
        raise InputError(
            [Problem("scenario", None, "training.batch_size", expected, str(batch_size))]
        )
    epoch, position = divmod(step, epoch_size // batch_size)
    order = _permutation(address_seed(seed, "batch", epoch), epoch_size)
    return order[position * batch_size : (position + 1) * batch_size].clone()


@lru_cache(maxsize=4)
def _permutation(address: int, size: int) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(address))


def batch_loss(loss: Loss, z: Tensor, y: Tensor) -> Tensor:
    """Mean loss of outputs z (b, ..., d_z) against targets y: class numbers (b, ...), or like z for
    ``mse``.
    """
    return (
        F.cross_entropy(z.flatten(0, -2), y.flatten())
        if loss == "cross_entropy"
        else F.mse_loss(z, y)
    )


def evaluate(task: Task, theta: Tensor, buffers: Buffers | None = None) -> Outcome:
    """Loss and, for ``cross_entropy``, accuracy (share of positions) on the test data, in chunks;
    with the running statistics ``buffers`` of a network that has some.

    Returns:
        Outcome(None, {"test_loss", "test_accuracy"}), each a 0-dim float64 tensor.
    """
    parameters, data = task.layout.unflatten(theta) | (buffers or {}), task.data
    widest = max(data.test_x[0].numel(), task.terms * task.outputs)
    chunk = max(1, min(_CHUNK, _CHUNK_ELEMENTS // widest))
    losses, hits = [], []
    with torch.no_grad():
        pieces = (torch.split(part, chunk) for part in (data.test_x, data.test_y))
        for x, y in zip(*pieces, strict=True):
            z = task.apply(parameters, x)
            losses.append(batch_loss(task.loss, z, y).double() * len(x))
            hits.append(
                (z.argmax(dim=-1) == y).double().sum()
                if task.loss == "cross_entropy"
                else losses[-1]
            )
    facts = {"test_loss": torch.stack(losses).sum() / len(data.test_x)}
    if task.loss == "cross_entropy":
        facts["test_accuracy"] = torch.stack(hits).sum() / data.test_y.numel()
    return Outcome(None, facts)


def _converted(network: nn.Module, convert: Callable[[str, Tensor], Tensor]) -> nn.Module:
    """A copy with ``convert(name, tensor)`` for every parameter and buffer; what is shared stays
    shared.
    """
    replaced: dict[int, object] = {id(b): convert(name, b) for name, b in network.named_buffers()}
    for name, parameter in network.named_parameters():
        replaced[id(parameter)] = nn.Parameter(
            convert(name, parameter.detach()), requires_grad=False
        )
    return copy.deepcopy(network, replaced)


def _fresh(workload: Workload, seed: int, file: str) -> nn.Module:
    """A network whose initial parameters depend on ``seed`` alone."""
    with torch.random.fork_rng(devices=[]), users_code(file, "network", "a network to train"):
        torch.manual_seed(address_seed(seed, "parameters"))
        return workload.network()
