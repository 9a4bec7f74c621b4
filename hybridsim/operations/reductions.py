"""What several processors compute together: the sum of two pieces, the mean of what each has
found.
"""

from __future__ import annotations

from torch import Tensor
from torch.utils._pytree import tree_map

from hybridsim.outcome import Outcome, Value


def add(left: Tensor, right: Tensor) -> Outcome:
    """Elementwise sum of two pieces of equal shape: what a receiver does in a round of an
    all-reduce.
    """
    return Outcome(left + right)


def mean(*trees: Value) -> Outcome:
    """Mean over G pytrees (tuples, lists, dicts, named tuples) of tensors, leaf by leaf: sum in
    order, then 1/G.

    Equal shards of a batch have the mean gradient of the whole batch as the mean of theirs.

    Raises:
        ValueError: no pytree, or pytrees of different form.
    """
    if not trees:
        raise ValueError("expected at least one pytree, got none")
    return Outcome(tree_map(_mean, trees[0], *trees[1:]))


def _mean(first: Tensor, *others: Tensor) -> Tensor:
    total = first
    for other in others:
        total = total + other
    return total / (1 + len(others))
