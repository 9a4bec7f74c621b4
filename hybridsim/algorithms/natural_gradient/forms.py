"""In which form the simulation holds the Jacobian: chosen by its size, or as asked."""

from __future__ import annotations

from typing import Literal, NamedTuple

from hybridsim.algorithms.natural_gradient.matrix_free import factored
from hybridsim.scenario.jacobian import Wanted
from hybridsim.tasks.task import Task

LARGEST_BYTES = 1 << 30
"""Of a Jacobian, or a part of one, that is kept in memory unasked."""


class Chosen(NamedTuple):
    """Attributes:
    form: how J is held.
    why: a sentence.
    jacobian_bytes: what all of it takes.
    """

    form: Literal["explicit", "streamed", "products"]
    why: str
    jacobian_bytes: int


def chosen(wanted: Wanted, task: Task, examples: int, each: int) -> Chosen:
    """The form of J with ``each`` rows for each of so many examples."""
    row_bytes = examples * each * task.dtype.itemsize
    whole_bytes = row_bytes * task.layout.size
    if wanted.form != "auto":
        return Chosen(wanted.form, "asked for", whole_bytes)
    if whole_bytes <= LARGEST_BYTES:
        return Chosen("explicit", "it takes at most 1 GiB", whole_bytes)
    if wanted.whole:
        return Chosen("explicit", f"all of it is needed {wanted.whole}", whole_bytes)
    layers = factored(task, each)
    sizes = zip(task.layout.names, task.layout.sizes, strict=True)
    rest = sum(size for name, size in sizes if name not in layers)
    if rest * row_bytes <= LARGEST_BYTES:
        return Chosen("products", "layers have most of its columns", whole_bytes)
    why = "layers whose factors would take less memory have not enough of its columns"
    return Chosen("streamed", why, whole_bytes)
