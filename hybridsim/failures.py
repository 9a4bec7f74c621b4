"""What ends a run, by name: the kind of its event, and the sentence that its reason begins with."""

from __future__ import annotations

import torch

from hybridsim.algorithms.session import Diverged
from hybridsim.errors import CapacityError, HybridsimError
from hybridsim.files import DiskFailed
from hybridsim.operations.backend import ComputationRaised
from hybridsim.tasks.users_code import line_of, problem_of, text_of
from hybridsim.trace.spans import ClockOverflow

_KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (CapacityError, "capacity"),
    (ClockOverflow, "clock overflow"),
    (DiskFailed, "disk failed"),
    (torch.linalg.LinAlgError, "not positive definite"),
    (MemoryError, "host out of memory"),
)
_SENTENCES = {
    "not positive definite": "a matrix is singular or not positive definite",
    "host out of memory": "this computer has no memory left",
}
_NO_MEMORY = ("can't allocate memory", "CUDA out of memory")


class RunFailed(HybridsimError):
    """The run could not go on; the message says what stopped it."""


def kind_of(error: BaseException) -> str:
    """What the event of an error that ends a run is called, by itself or by what it came from;
    empty where it has one already.
    """
    if isinstance(error, Diverged):
        return ""
    if isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY):
        return "host out of memory"
    found = next((name for kind, name in _KINDS if isinstance(error, kind)), "")
    return found or ("failure" if error.__cause__ is None else kind_of(error.__cause__))


def failure_of(raised: BaseException, file: str, step: int) -> tuple[str, BaseException]:
    """Kind of event, and what to raise, for an error that ended a run in a step: it names the
    user's file where that is to blame. A bug stays what it is, with its traceback.
    """
    error = raised.error if isinstance(raised, ComputationRaised) else raised
    kind = kind_of(error)
    if isinstance(error, HybridsimError):
        return kind, error
    if line_of(error, file) is not None or isinstance(error, SystemExit):
        return kind, RunFailed(str(problem_of(error, file, "network", "a network that computes")))
    if not isinstance(error, RuntimeError | ArithmeticError | OSError | MemoryError):
        return kind, error
    what = raised.what if isinstance(raised, ComputationRaised) else ""
    parts = (f"step {step}", what, _SENTENCES.get(kind, ""), text_of(error))
    return kind, RunFailed(": ".join(filter(None, parts)))
