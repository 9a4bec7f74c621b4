"""What a computation returns."""

from __future__ import annotations

from typing import Any, NamedTuple

Value = Any  # a pytree of tensors, or a fact: a float, a 0-dim tensor, a list of floats


class Outcome(NamedTuple):
    """``value``: a pytree of tensors; ``facts``: the few numbers that programs branch on, price or
    report.

    Facts are floats, 0-dim tensors or lists of floats; the engine turns tensors into floats. They
    are all that the fact store keeps, so a replay sees facts and shapes but no tensors.
    """

    value: Value
    facts: dict[str, Value] = {}
