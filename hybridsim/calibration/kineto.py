"""A user's own ``torch.profiler`` trace beside what a datasheet says: operator by operator."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from hybridsim.calibration.aten import counted_call, form_of, is_known, kernels_of
from hybridsim.calibration.prediction import in_a_loop, on_device, seconds_of
from hybridsim.calibration.trace_file import Operator, TraceFile, read_trace
from hybridsim.errors import InputError
from hybridsim.files import write_whole
from hybridsim.scenario.datasheets.sheets import Datasheet
from hybridsim.work import Kernel


class Line(NamedTuple):
    """Equal calls of an operator.

    Attributes:
        operator: e.g. ``aten::addmm``.
        shape: of its tensors, in order.
        dtype: of its tensors.
        calls: how many.
        measured_s: all of them: kernels on the GPU, or of a trace of the CPU alone the calls.
        predicted_s: what the datasheet says.
    """

    operator: str
    shape: str
    dtype: str
    calls: int
    measured_s: float
    predicted_s: float

    @property
    def ratio(self) -> float:
        """``predicted / measured``."""
        return self.predicted_s / self.measured_s if self.measured_s else float("inf")


class Missing(NamedTuple):
    """Time that no prediction answers to, and why."""

    name: str
    calls: int
    measured_s: float
    reason: str


class Table(NamedTuple):
    """A trace beside a datasheet.

    Attributes:
        on_gpu: measured are kernels; else calls on a CPU.
        lines: from the longest.
        missing: what could not be mapped, from the longest.
        host_s: of a trace of the CPU alone: calls that compute nothing (views, allocations,
            composites around what they call, autograd's own).
        total_s: lines, missing and ``host_s``: all kernels, or all outermost calls.
    """

    on_gpu: bool
    lines: list[Line]
    missing: list[Missing]
    host_s: float
    total_s: float


def table_of(path: Path | str, sheet: Datasheet) -> Table:
    """Every operator of a trace, measured and predicted.

    Of a trace with kernels the device's time is predicted, without launches. Of one without, a
    call as in a loop: Python between the calls has no part in it.

    Args:
        path: what ``torch.profiler``'s ``export_chrome_trace`` wrote, with ``record_shapes=True``.
        sheet: a GPU's datasheet.

    Raises:
        InputError: it cannot be read, is broken, or holds no operators.
    """
    trace = read_trace(Path(path))
    if not trace.operators:
        raise InputError(f"{path}: expected operators (events of category cpu_op), got none")
    on_gpu = bool(trace.kernels)
    priced = on_device(sheet) if on_gpu else in_a_loop(sheet)
    rows = _Rows(lambda work: seconds_of(priced, work))
    total_s = rows.kernels(trace) if on_gpu else rows.calls(trace)
    lines = sorted(rows.lines.values(), key=lambda line: -line.measured_s)
    missing = sorted(rows.missing.values(), key=lambda one: -one.measured_s)
    return Table(on_gpu, lines, missing, rows.host_s, total_s)


class _Rows:
    """Adds up calls."""

    def __init__(self, price: Callable[[tuple[Kernel, ...]], float]) -> None:
        self._price = price
        self._known: dict[tuple[str, str], tuple[str, str, tuple[Kernel, ...] | str]] = {}
        self.lines: dict[tuple[str, str, str], Line] = {}
        self.missing: dict[tuple[str, str], Missing] = {}
        self.host_s = 0.0

    def kernels(self, trace: TraceFile) -> float:
        """Kernels, by the operator that launched them; returns their seconds."""
        launched: dict[Operator, float] = {}
        for kernel in trace.kernels:
            counted = counted_call(kernel.operator)
            if counted is not None:
                launched[counted] = launched.get(counted, 0.0) + kernel.duration_us * 1e-6
            elif kernel.operator is None:
                self._miss(kernel.name, kernel.duration_us * 1e-6, "launched in no operator")
            else:
                name = f"{kernel.operator.name}: {kernel.name}"
                self._miss(name, kernel.duration_us * 1e-6, "torch knows no such operator here")
        for operator, seconds in launched.items():
            if not self._add(operator, seconds):
                self._miss(operator.name, seconds, "counted as computing nothing")
        return sum(kernel.duration_us for kernel in trace.kernels) * 1e-6

    def calls(self, trace: TraceFile) -> float:
        """Calls on the CPU; returns the seconds of the outermost."""
        for operator in trace.operators:
            counted = counted_call(operator)
            if counted is operator:
                seconds = operator.duration_us * 1e-6
                if not self._add(operator, seconds):
                    self.host_s += seconds
            elif counted is None:
                seconds = operator.self_us * 1e-6
                if operator.children or is_known(operator.name):
                    self.host_s += seconds
                else:
                    self._miss(operator.name, seconds, "torch knows no such operator here")
        return sum(one.duration_us for one in trace.operators if one.parent is None) * 1e-6

    def _add(self, operator: Operator, seconds: float) -> bool:
        """Add a call; False: it computes nothing."""
        form = operator.name, form_of(operator)
        if form not in self._known:
            self._known[form] = kernels_of(operator)
        shape, dtype, found = self._known[form]
        if isinstance(found, str):
            self._miss(f"{operator.name} {shape}".rstrip(), seconds, found)
            return True
        if not found:
            return False
        key = operator.name, shape, dtype
        before = self.lines.get(key, Line(*key, 0, 0.0, 0.0))
        self.lines[key] = Line(
            *key,
            before.calls + 1,
            before.measured_s + seconds,
            before.predicted_s + self._price(found),
        )
        return True

    def _miss(self, name: str, seconds: float, reason: str) -> None:
        before = self.missing.get((name, reason), Missing(name, 0, 0.0, reason))
        self.missing[name, reason] = before._replace(
            calls=before.calls + 1, measured_s=before.measured_s + seconds
        )


def write_table(table: Table, path: Path) -> None:
    """All lines, then what could not be mapped, as CSV; seconds in microseconds.

    Raises:
        InputError: no file can be written there.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        (
            "operator",
            "shape",
            "dtype",
            "calls",
            "measured_us",
            "predicted_us",
            "ratio",
            "not_mapped",
        )
    )
    for line in table.lines:
        cells = (
            f"{1e6 * line.measured_s:.6g}",
            f"{1e6 * line.predicted_s:.6g}",
            f"{line.ratio:.4g}",
        )
        writer.writerow((*line[:4], *cells, ""))
    for one in table.missing:
        writer.writerow(
            (one.name, "", "", one.calls, f"{1e6 * one.measured_s:.6g}", "", "", one.reason)
        )
    write_whole(path, out.getvalue())


def texts_of(table: Table, most: int = 40) -> Iterator[str]:
    """The table for a terminal: the longest lines, totals, and all that could not be mapped."""
    rows = [("operator", "shape", "dtype", "calls", "measured us", "predicted us", "ratio")]
    for line in table.lines[:most]:
        numbers = f"{1e6 * line.measured_s:.1f}", f"{1e6 * line.predicted_s:.1f}"
        rows.append((*line[:3], str(line.calls), *numbers, f"{line.ratio:.2f}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
    if len(table.lines) > most:
        yield f"... and {len(table.lines) - most} more"
    measured = sum(line.measured_s for line in table.lines)
    predicted = sum(line.predicted_s for line in table.lines)
    missed = sum(one.measured_s for one in table.missing)
    what = "kernels" if table.on_gpu else "calls"
    share = f"{measured / table.total_s:.1%}" if table.total_s else "none"
    ratio = f", ratio {predicted / measured:.2f}" if measured else ""
    yield (
        f"mapped: measured {1e6 * measured:.1f} us ({share} of all {what}), "
        f"predicted {1e6 * predicted:.1f} us{ratio}"
    )
    if not table.on_gpu:
        yield f"host alone (views, allocations, composites, autograd): {1e6 * table.host_s:.1f} us"
    yield f"not mapped: {1e6 * missed:.1f} us" + (":" if table.missing else "")
    for one in table.missing:
        yield f"  {one.name}: {one.calls} calls, {1e6 * one.measured_s:.1f} us ({one.reason})"
