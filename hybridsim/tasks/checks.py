"""What must hold of a workload before anything trains on it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hybridsim.rng import Draw
from hybridsim.tasks.training import Pass, Training, forward
from hybridsim.tasks.users_code import users_code
from hybridsim.tasks.workload import Data, Loss, Workload, reject

_PROBE = 2


def check_workload(file: str, workload: Workload) -> None:
    """Types of what a workload file returned, and its data.

    Raises:
        InputError: ``network`` is not a function, ``loss`` is unknown, or the data do not fit it.
    """
    if isinstance(workload.network, nn.Module) or not callable(workload.network):
        got = f"a {type(workload.network).__name__}"
        reject(
            file,
            "network",
            "a function without arguments that builds the network (lambda: ...)",
            got,
        )
    if workload.loss not in ("cross_entropy", "mse"):
        reject(file, "loss", "'cross_entropy' or 'mse'", repr(workload.loss))
    if not isinstance(workload.data, Data):
        reject(file, "data", "a hybridsim.tasks.task.Data", type(workload.data).__name__)
    for name, tensor in zip(Data._fields, workload.data, strict=True):
        if not isinstance(tensor, Tensor):
            reject(file, f"data.{name}", "a tensor", type(tensor).__name__)
    _check_part(file, "train", workload.data.train_x, workload.data.train_y, workload.loss)
    _check_part(file, "test", workload.data.test_x, workload.data.test_y, workload.loss)
    forms = [
        f"{x.dtype} of shape {tuple(x.shape[1:])}"
        for x in (workload.data.train_x, workload.data.test_x)
    ]
    if forms[0] != forms[1]:
        reject(file, "data.test_x", f"examples {forms[0]} as in train_x", forms[1])


def check_factory(file: str, first: nn.Module, second: nn.Module) -> None:
    """Two networks that the workload built one after the other from the same seed.

    Raises:
        InputError: they are no modules, share parameters, or differ.
    """
    if not isinstance(first, nn.Module) or not isinstance(second, nn.Module):
        reject(file, "network", "a function that returns a torch.nn.Module", type(first).__name__)
    if {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}:
        reject(
            file,
            "network",
            "a function that builds a new network at each call",
            "one network twice",
        )
    for (name, one), (_, other) in zip(
        first.named_parameters(), second.named_parameters(), strict=True
    ):
        if not torch.equal(one, other):
            expected = "initial parameters drawn from torch's random numbers alone"
            reject(file, f"network.{name}", expected, "other values for the same seed")


def check_network(
    file: str, network: nn.Module, data: Data, loss: Loss
) -> tuple[tuple[int, ...], Training | None]:
    """Shape (..., d_z) of the network's output for one example, and what it does in training
    alone, after trial runs on a few.

    Raises:
        InputError: it has nothing to train, has parameters that are not float32, changes buffers in
            evaluation, draws random numbers in training otherwise than by dropout, or its outputs
            do not fit the targets.
    """
    if not any(p.requires_grad for p in network.parameters()):
        reject(file, "network", "at least one parameter with requires_grad", "none")
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            reject(file, f"network.{name}", "float32 parameters", str(parameter.dtype))
    probe = _probe(data)
    output, training = _trial(file, network, probe)
    if not isinstance(output, Tensor) or output.ndim < 2 or len(output) != len(probe):
        got = (
            f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        )
        reject(file, "network", "an output of shape (batch, ..., d_z)", got)
    if output.dtype != torch.float32:
        reject(file, "network", "a float32 output", str(output.dtype))
    shape = tuple(output.shape[1:])
    _check_targets(file, data, loss, shape)
    return shape, training


def check_shapes(file: str, compute: Callable[[], Tensor]) -> None:
    """Does ``compute``, a network's outputs for an example on the meta device, run? So its work is
    counted.

    Raises:
        InputError: it does not: ``forward`` branches on values, or makes tensors on a device of its
            own.
    """
    expected = (
        "a network that runs on shapes alone: no branch on values, no tensor bound to one device"
    )
    with users_code(file, "network", expected), torch.no_grad():
        compute()


def check_type(file: str, compute: Callable[[], Tensor], dtype: torch.dtype) -> None:
    """Does ``compute``, a network's outputs for one example, run in ``dtype`` throughout?

    Raises:
        InputError: it fails or answers in another type.
    """
    expected = f"a network that computes in {dtype} when its tensors are"
    with users_code(file, "network", expected), torch.no_grad():
        found = compute().dtype
    if found != dtype:
        reject(file, "network", expected, f"outputs in {found}")


def _probe(data: Data) -> Tensor:
    """Two examples; of integers those with the largest and the smallest, which an embedding must
    know.
    """
    if data.train_x.is_floating_point():
        return data.train_x[:_PROBE]
    parts = (data.train_x, data.test_x)
    largest = max(
        (x[x.flatten(1).amax(dim=1).argmax()] for x in parts),
        key=lambda example: int(example.max()),
    )
    smallest = min(
        (x[x.flatten(1).amin(dim=1).argmin()] for x in parts),
        key=lambda example: int(example.min()),
    )
    return torch.stack([largest, smallest])


def _check_part(file: str, part: str, x: Tensor, y: Tensor, loss: Loss) -> None:
    if x.dtype not in (torch.float32, torch.int64):
        reject(file, f"data.{part}_x", "float32 or int64 inputs", str(x.dtype))
    if x.is_floating_point() and not torch.isfinite(x).all():
        reject(file, f"data.{part}_x", "finite inputs", "NaN or infinity")
    if x.ndim < 2 or x.numel() == 0 or y.ndim == 0 or len(x) != len(y):
        expected = "inputs (n, ...) and as many targets, n >= 1"
        reject(file, f"data.{part}_y", expected, f"shapes {tuple(x.shape)} and {tuple(y.shape)}")
    if loss == "cross_entropy" and y.dtype != torch.int64:
        reject(
            file, f"data.{part}_y", "int64 class numbers (n, ...)", f"{y.dtype} {tuple(y.shape)}"
        )
    if loss == "mse" and (y.dtype != torch.float32 or y.ndim < 2 or not torch.isfinite(y).all()):
        reject(
            file,
            f"data.{part}_y",
            "finite float32 targets (n, ..., d_z)",
            f"{y.dtype} {tuple(y.shape)}",
        )


def _check_targets(file: str, data: Data, loss: Loss, shape: tuple[int, ...]) -> None:
    """Targets for outputs (n, *shape)."""
    outputs, expected = shape[-1], shape if loss == "mse" else shape[:-1]
    for name, y in (("train_y", data.train_y), ("test_y", data.test_y)):
        if tuple(y.shape[1:]) != expected:
            fit = f"targets {('n', *expected)} for outputs {('n', *shape)}".replace("'", "")
            reject(file, f"data.{name}", fit, f"shape {tuple(y.shape)}")
        if loss == "cross_entropy" and (y.min() < 0 or y.max() >= outputs):
            labels = f"labels from 0 to {outputs - 1} for {outputs} outputs"
            reject(file, f"data.{name}", labels, f"labels from {int(y.min())} to {int(y.max())}")


def _trial(file: str, network: nn.Module, x: Tensor) -> tuple[object, Training | None]:
    """The output in evaluation, and what differs in training."""
    buffers = dict(network.named_buffers())
    before = {name: buffer.clone() for name, buffer in buffers.items()}
    taken = f"a network that takes {x.dtype} inputs of shape {tuple(x.shape)}"

    def trained() -> Pass:
        return forward(network, {}, buffers, x, Draw(0, 0, len(x)))

    with torch.no_grad(), torch.random.fork_rng(devices=[]), users_code(file, "network", taken):
        evaluated: object = network.eval()(x)
        state = torch.get_rng_state()
        first, second = trained(), trained()
        drawn = not torch.equal(state, torch.get_rng_state())
    for name, buffer in network.named_buffers():
        if not torch.equal(before[name], buffer):
            expected = "a network whose buffers change in training alone"
            reject(file, f"network.{name}", expected, "a buffer that evaluation changes")
    if drawn or not _same((first.z, *first.buffers.values()), (second.z, *second.buffers.values())):
        expected = (
            "random numbers in training drawn by dropout alone (nn.Dropout, Dropout1d, Dropout2d, "
            "Dropout3d, dropout_p of attention)"
        )
        reject(file, "network", expected, "others, or outputs that differ from pass to pass")
    changed = tuple(n for n, b in first.buffers.items() if not torch.equal(before[n], b))
    differs = [f"buffer {changed[0]!r}"] if changed else []
    differs += ["dropout"] if first.drew else []
    if not differs and not _same((first.z,), (evaluated,), rtol=1e-4, atol=1e-5):
        differs = ["its outputs"]
    return evaluated, Training(changed, " and ".join(differs)) if differs else None


def _same(
    one: tuple[object, ...], other: tuple[object, ...], rtol: float = 0.0, atol: float = 0.0
) -> bool:
    """Whether tensors agree; NaN equals NaN, and what is no tensor is not looked at."""
    return all(
        a.shape == b.shape and torch.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True)
        for a, b in zip(one, other, strict=True)
        if isinstance(a, Tensor) and isinstance(b, Tensor)
    )
