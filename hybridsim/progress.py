"""Progress of a run on the terminal: a live line, or plain lines where nobody watches."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from hybridsim.units import engineering

_EVERY_S = 5.0


class Reporter:
    """Shows step, loss, simulated time, joules and the time left; a context manager."""

    def __init__(self, name: str, steps: int) -> None:
        self._name, self._steps = name, steps
        self._started = self._printed = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> Reporter:
        """Start the clock."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the live line."""
        if self._terminal:
            self._print("\n")

    def step(self, row: Mapping[str, Any]) -> None:  # Any: names, counts and quantities
        """Show one line of the learning curve."""
        now, last = time.monotonic(), row["step"] == self._steps
        if not last and now - self._printed < (0.1 if self._terminal else _EVERY_S):
            return
        self._printed = now
        left_s = (now - self._started) / row["step"] * (self._steps - row["step"])
        loss = "-" if row["train_loss"] is None else f"{row['train_loss']:.4g}"
        text = (
            f"{self._name}: step {row['step']}/{self._steps}  loss {loss}  "
            f"simulated {engineering(row['end_ps'] * 1e-12, 's')}  "
            f"{engineering(row['energy_j'], 'J')}  "
            f"left {left_s:.0f} s"
        )
        if self._terminal:
            text = f"\r\x1b[2K{text}"
        self._print(text if self._terminal else f"{text}\n")

    def _print(self, text: str) -> None:
        """A reader that has gone away stops no run."""
        with contextlib.suppress(OSError):
            print(text, end="", file=sys.stderr, flush=True)


class StudyState(Protocol):
    """How far a study is; see ``hybridsim.studies.collect.collector.Progress``."""

    @property
    def what(self) -> str:
        """What is going on."""

    @property
    def done(self) -> int:
        """Points with an outcome."""

    @property
    def points(self) -> int:
        """Points asked for so far."""

    @property
    def failed(self) -> int:
        """Points without a result."""


class StudyReporter:
    """Shows how many points of a study have their outcome; a context manager."""

    def __init__(self, name: str) -> None:
        self._name, self._printed = name, time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(name, total=None)
        self._terminal = self._bar.console.is_terminal

    def __enter__(self) -> StudyReporter:
        """Show the line, where there is a terminal."""
        if self._terminal:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the line away."""
        if self._terminal:
            self._bar.stop()

    def progress(self, state: StudyState) -> None:
        """Show a state."""
        failed = f", {state.failed} without a result" if state.failed else ""
        text = f"{self._name}: {state.what}" if state.what else f"{self._name}{failed}"
        if self._terminal:
            self._bar.update(self._task, description=text, completed=state.done, total=state.points)
        elif time.monotonic() - self._printed >= _EVERY_S:
            self._printed = time.monotonic()
            with contextlib.suppress(OSError):
                print(f"{text}: {state.done} of {state.points} points", file=sys.stderr, flush=True)


class CalibrationState(Protocol):
    """How far a calibration is; see ``hybridsim.calibration.measure.State``."""

    @property
    def round(self) -> int:
        """How often every case has been measured."""

    @property
    def done(self) -> int:
        """Rows of the table."""

    @property
    def spent_s(self) -> float:
        """Seconds of measuring so far."""

    @property
    def budget_s(self) -> float:
        """Seconds in all."""


class CalibrationReporter:
    """Shows measurements and the time left, and says what comes; a context manager."""

    def __init__(self, name: str) -> None:
        self._name, self._printed = name, time.monotonic()
        self._terminal, self._open = sys.stderr.isatty(), False

    def __enter__(self) -> CalibrationReporter:
        """Nothing to show yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the live line."""
        self._end_line()

    def progress(self, state: CalibrationState) -> None:
        """Show a state."""
        now = time.monotonic()
        if now - self._printed < (0.1 if self._terminal else _EVERY_S):
            return
        self._printed = now
        text = (
            f"{self._name}: {state.done} measurements, round {state.round + 1}, "
            f"left {max(state.budget_s - state.spent_s, 0):.0f} s"
        )
        self._open = self._terminal
        self._print(f"\r\x1b[2K{text}" if self._terminal else f"{text}\n")

    def say(self, text: str) -> None:
        """A line of its own."""
        self._end_line()
        self._print(f"{self._name}: {text}\n")

    def _end_line(self) -> None:
        if self._open:
            self._print("\n")
        self._open = False

    def _print(self, text: str) -> None:
        with contextlib.suppress(OSError):
            print(text, end="", file=sys.stderr, flush=True)
