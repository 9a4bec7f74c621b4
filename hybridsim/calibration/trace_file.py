"""Reading what ``torch.profiler`` exports: operators nested on their threads, kernels on the GPU.

Format: Chrome's trace events, as Kineto writes them (pytorch/kineto, libkineto/src/
output_json.cpp). An operator is an event of category ``cpu_op``; with ``record_shapes=True`` it
says its inputs' sizes, types and scalars. A kernel names the operator that launched it by
``External id``, or the launch by ``correlation``; the launch lies within the operator on the host's
clock.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hybridsim.errors import InputError, Problem
from hybridsim.scenario.document import ascii_path
from hybridsim.scenario.quantity import describe

_OPERATORS = ("cpu_op", "Operator")
_KERNELS = ("kernel", "gpu_memcpy", "gpu_memset", "Kernel", "Memcpy", "Memset")
_LAUNCHES = ("cuda_runtime", "cuda_driver", "hip_runtime", "Runtime")
_ROUNDING_US = 0.002  # of times that are written with three decimals
Json = Any  # what a trace holds, before it is checked


@dataclass(eq=False)
class Operator:
    """An operator's call on the host.

    Attributes:
        name: e.g. ``aten::addmm``.
        start_us, duration_us: on the host's clock.
        arguments: of the event.
        place: in the file's list of events.
        parent: the call that it was made in.
        children: calls that were made in it.
        form: its arguments as a text, once somebody has asked.
    """

    name: str
    start_us: float
    duration_us: float
    arguments: dict[str, Json]
    place: int
    parent: Operator | None = None
    children: list[Operator] = field(default_factory=list)
    form: str | None = None

    @property
    def self_us(self) -> float:
        """Time outside its children."""
        return self.duration_us - sum(child.duration_us for child in self.children)


@dataclass(frozen=True)
class DeviceKernel:
    """A kernel, copy or fill on a GPU, and the operator in which it was launched (None: none)."""

    name: str
    duration_us: float
    operator: Operator | None


@dataclass(frozen=True)
class TraceFile:
    """All operators, in the order of the file, and all kernels."""

    operators: list[Operator]
    kernels: list[DeviceKernel]


def read_trace(path: Path) -> TraceFile:
    """A trace, plain or compressed with gzip.

    Raises:
        InputError: it cannot be read, is no trace, or an event in it is broken.
    """
    events = list(enumerate(_events(path)))
    shown = ascii_path(path)
    threads: dict[tuple[str, str], list[Operator]] = {}
    launches: dict[int, tuple[tuple[str, str], float, int | None]] = {}
    devices = []
    for place, event in events:
        if not isinstance(event, dict):
            raise _wrong(shown, f"traceEvents[{place}]", "an event", event)
        category = event.get("cat")
        if event.get("ph") != "X" or category not in (*_OPERATORS, *_KERNELS, *_LAUNCHES):
            continue
        name, start, duration, arguments = _fields(shown, place, event)
        thread = str(event.get("pid")), str(event.get("tid"))
        if category in _OPERATORS:
            found = Operator(name, start, duration, arguments, place)
            threads.setdefault(thread, []).append(found)
        elif category in _LAUNCHES:
            number = _number(arguments, "correlation")
            if number is not None:
                launches[number] = (thread, start, _number(arguments, "External id"))
        else:
            devices.append((name, duration, arguments))
    for calls in threads.values():
        _nest(calls)
    operators = sorted((one for calls in threads.values() for one in calls), key=lambda o: o.place)
    by_id = {_number(one.arguments, "External id"): one for one in operators}
    by_id.pop(None, None)
    kernels = []
    for name, duration, arguments in devices:
        thread, start, external = launches.get(
            _number(arguments, "correlation") or 0, (("", ""), 0.0, None)
        )
        named = by_id.get(_number(arguments, "External id")) or by_id.get(external)
        operator = named or _around(threads.get(thread, []), start)
        kernels.append(DeviceKernel(name, duration, operator))
    return TraceFile(operators, kernels)


def _events(path: Path) -> list[Json]:
    shown = ascii_path(path)
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        document = json.loads(content)
    except OSError as error:
        text = error.strerror or str(error)
        raise InputError(f"{shown}: expected a trace that can be read, got: {text}") from None
    except (ValueError, EOFError, zlib.error, RecursionError) as error:
        line = getattr(error, "lineno", None)
        text = getattr(error, "msg", None) or type(error).__name__
        raise InputError(
            [Problem(shown, line, "", "a trace that torch.profiler exported (JSON)", text)]
        ) from None
    events = document.get("traceEvents") if isinstance(document, dict) else document
    if not isinstance(events, list):
        raise _wrong(shown, "traceEvents", "a list of events", events)
    return events


def _fields(shown: str, place: int, event: dict[str, Json]) -> tuple[str, float, float, Json]:
    where = f"traceEvents[{place}]"
    name, arguments = event.get("name"), event.get("args", {})
    if not isinstance(name, str):
        raise _wrong(shown, f"{where}.name", "a text", name)
    if not isinstance(arguments, dict):
        raise _wrong(shown, f"{where}.args", "a map", arguments)
    times = []
    for key, least in (("ts", -math.inf), ("dur", 0.0)):
        value: Json = event.get(key)
        sound = isinstance(value, int | float) and not isinstance(value, bool)
        if not sound or not math.isfinite(value) or value < least:
            expected = "microseconds" if key == "ts" else "microseconds >= 0"
            raise _wrong(shown, f"{where}.{key}", expected, value)
        times.append(float(value))
    return name, times[0], times[1], arguments


def _wrong(shown: str, where: str, expected: str, got: Json) -> InputError:
    return InputError([Problem(shown, None, where, expected, describe(got))])


def _number(arguments: dict[str, Json], key: str) -> int | None:
    value = arguments.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _nest(calls: list[Operator]) -> None:
    """Set parents and children of the calls of one thread."""
    stack: list[Operator] = []
    for call in sorted(calls, key=lambda one: (one.start_us, -one.duration_us, one.place)):
        end_us = call.start_us + call.duration_us - _ROUNDING_US
        while stack and stack[-1].start_us + stack[-1].duration_us < end_us:
            stack.pop()
        if stack:
            call.parent = stack[-1]
            stack[-1].children.append(call)
        stack.append(call)


def _around(calls: list[Operator], at_us: float) -> Operator | None:
    """The innermost call of a thread at an instant."""
    around = [one for one in calls if one.start_us <= at_us <= one.start_us + one.duration_us]
    return min(around, key=lambda one: one.duration_us, default=None)


def chain(operator: Operator | None) -> Iterator[Operator]:
    """A call and those that it was made in, from the innermost outwards."""
    while operator is not None:
        yield operator
        operator = operator.parent
