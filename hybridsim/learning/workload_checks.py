"""What must hold of a workload before anything trains on it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hybridsim.learning.workload import Data, Loss, Workload, reject

_PROBE = 2


def check_workload(file: str, workload: Workload) -> None:
    """Types of what a workload file returned, and its data.

    Raises:
        InputError: ``network`` is not a function, ``loss`` is unknown, or the data do not fit it.
    """
    if isinstance(workload.network, nn.Module) or not callable(workload.network):
        got = f"a {type(workload.network).__name__}"
        reject(file, "network", "a function without arguments that builds the network (lambda: ...)", got)
    if workload.loss not in ("cross_entropy", "mse"):
        reject(file, "loss", "'cross_entropy' or 'mse'", repr(workload.loss))
    if not isinstance(workload.data, Data):
        reject(file, "data", "a hybridsim.learning.task.Data", type(workload.data).__name__)
    for name, tensor in zip(Data._fields, workload.data, strict=True):
        if not isinstance(tensor, Tensor):
            reject(file, f"data.{name}", "a tensor", type(tensor).__name__)
    _check_part(file, "train", workload.data.train_x, workload.data.train_y, workload.loss)
    _check_part(file, "test", workload.data.test_x, workload.data.test_y, workload.loss)
    shapes = [tuple(x.shape[1:]) for x in (workload.data.train_x, workload.data.test_x)]
    if shapes[0] != shapes[1]:
        reject(file, "data.test_x", f"examples of shape {shapes[0]} as in train_x", f"shape {shapes[1]}")


def check_factory(file: str, first: nn.Module, second: nn.Module) -> None:
    """Two networks that the workload built one after the other from the same seed.

    Raises:
        InputError: they are no modules, share parameters, or differ.
    """
    if not isinstance(first, nn.Module) or not isinstance(second, nn.Module):
        reject(file, "network", "a function that returns a torch.nn.Module", type(first).__name__)
    if {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}:
        reject(file, "network", "a function that builds a new network at each call", "one network twice")
    for (name, one), (_, other) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        if not torch.equal(one, other):
            expected = "initial parameters drawn from torch's random numbers alone"
            reject(file, f"network.{name}", expected, "other values for the same seed")


def check_network(file: str, network: nn.Module, data: Data, loss: Loss) -> int:
    """The network's output width d_z, after a trial run on a few examples.

    Raises:
        InputError: it has nothing to train, has parameters that are not float32 or buffers
            that change in training, is random in training, or its outputs do not fit the targets.
    """
    if not any(p.requires_grad for p in network.parameters()):
        reject(file, "network", "at least one parameter with requires_grad", "none")
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            reject(file, f"network.{name}", "float32 parameters", str(parameter.dtype))
    probe = data.train_x[:_PROBE]
    output = _trial(file, network, probe)
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != len(probe):
        got = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        reject(file, "network", "an output of shape (batch, d_z)", got)
    _check_targets(file, data, loss, output.shape[1])
    return int(output.shape[1])


def _check_part(file: str, part: str, x: Tensor, y: Tensor, loss: Loss) -> None:
    if x.dtype != torch.float32:
        reject(file, f"data.{part}_x", "float32 inputs", str(x.dtype))
    if not torch.isfinite(x).all():
        reject(file, f"data.{part}_x", "finite inputs", "NaN or infinity")
    if x.ndim < 2 or len(x) == 0 or len(x) != len(y):
        expected = "inputs (n, ...) and as many targets, n >= 1"
        reject(file, f"data.{part}_y", expected, f"shapes {tuple(x.shape)} and {tuple(y.shape)}")
    if loss == "cross_entropy" and (y.dtype != torch.int64 or y.ndim != 1):
        reject(file, f"data.{part}_y", "int64 class numbers (n,)", f"{y.dtype} {tuple(y.shape)}")
    if loss == "mse" and (y.dtype != torch.float32 or y.ndim != 2 or not torch.isfinite(y).all()):
        reject(file, f"data.{part}_y", "finite float32 targets (n, d_z)", f"{y.dtype} {tuple(y.shape)}")


def _check_targets(file: str, data: Data, loss: Loss, outputs: int) -> None:
    for name, y in (("train_y", data.train_y), ("test_y", data.test_y)):
        if loss == "mse" and y.shape[1] != outputs:
            reject(file, f"data.{name}", f"targets as wide as the output, {outputs}", str(y.shape[1]))
        if loss == "cross_entropy" and (y.min() < 0 or y.max() >= outputs):
            expected = f"labels from 0 to {outputs - 1} for {outputs} outputs"
            reject(file, f"data.{name}", expected, f"labels from {int(y.min())} to {int(y.max())}")


def _trial(file: str, network: nn.Module, x: Tensor) -> object:
    """The output in evaluation mode, once training mode is known to give the same and to change no buffer."""
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            training, evaluating = network.train()(x), network.eval()(x)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            reject(file, "network", f"a network that takes inputs of shape {tuple(x.shape)}", str(error))
    for name, buffer in network.named_buffers():
        if not torch.equal(before[name], buffer):
            expected = "a network without buffers that change in training (no BatchNorm)"
            reject(file, f"network.{name}", expected, "a buffer that a forward pass changes")
    if isinstance(training, Tensor) and not torch.allclose(training, evaluating, rtol=1e-4, atol=1e-5):
        expected = "a network that computes the same in training and in evaluation (no dropout)"
        reject(file, "network", expected, f"outputs that differ by {(training - evaluating).abs().max():.2g}")
    return evaluating
