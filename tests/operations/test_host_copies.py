"""What crosses between the computer's processor and the device that tensors live on: facts alone.

On a processor nothing crosses, so that what *would* cross is counted: numbers that Python asks for,
and tensors that are made on no device in particular.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

import hybridsim
from hybridsim.operations.backend import _plain

ASKED = {Tensor.item, Tensor.tolist, Tensor.cpu, Tensor.numpy,
         Tensor.__bool__, Tensor.__float__, Tensor.__int__, Tensor.__index__}  # fmt: skip
MADE = {torch.tensor, torch.as_tensor, torch.zeros, torch.ones, torch.empty, torch.full, torch.eye,
        torch.arange, torch.rand, torch.randn, torch.randint, torch.randperm}  # fmt: skip
ONCE = {"_network", "_permutation", "<listcomp>"}  # weights, and an epoch's order, are made there


class Crossings(TorchFunctionMode):
    """Names the functions of hybridsim that ask for numbers or make tensors nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.asking: list[str] = []
        self.making: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in ASKED:
            self.asking.append(next(callers()))
        elif func in MADE and kwargs.get("device") is None:
            self.making.append(next(callers()))
        return func(*args, **kwargs)


def callers() -> Iterator[str]:
    stack = reversed(traceback.extract_stack())
    return (frame.name for frame in stack if "hybridsim/" in frame.filename)


@pytest.mark.parametrize("name", ["adam-digits", "kfac-digits-digital"])
def test_of_a_digital_step_facts_alone_cross(name):
    scenario = hybridsim.load(name, ["training.steps=2", "training.evaluate_every=2"])
    task = hybridsim.load_task(scenario)
    with Crossings() as found:
        run = hybridsim.run(scenario, task=task)
    assert set(found.asking) <= {"_plain", "<dictcomp>"}
    assert len(found.asking) <= 3 * len(run.steps)
    assert set(found.making) <= ONCE


def test_facts_of_one_type_cross_together():
    facts = {"a": torch.tensor(1.5), "b": torch.tensor(3), "c": torch.tensor(2.5), "d": 4,
             "e": torch.tensor([1.0, 2.0]), "f": torch.tensor(True)}  # fmt: skip
    with Crossings() as found:
        plain = _plain(facts)
    assert plain == {"a": 1.5, "b": 3, "c": 2.5, "d": 4, "e": [1.0, 2.0], "f": True}
    assert list(plain) == list(facts) and type(plain["b"]) is int and plain["f"] is True
    assert len(found.asking) == 4  # floats, whole numbers, a truth; what has a shape by itself
