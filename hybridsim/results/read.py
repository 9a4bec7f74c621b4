"""Read a run folder: finished, still running, interrupted or killed."""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pandas as pd

from hybridsim.errors import InputError
from hybridsim.results.alive import is_gone
from hybridsim.results.integrity import check_file, read_manifest, read_map
from hybridsim.results.keys import Json, Summary
from hybridsim.results.parts import Chunks
from hybridsim.results.summary import summarise
from hybridsim.scenario.document import DocumentError, parse
from hybridsim.trace.critical_path import PATH_COLUMNS, Segment, critical_path
from hybridsim.units import PS_PER_S, engineering

if TYPE_CHECKING:
    from hybridsim.results.time_band import TimeBand

_EXTRAS = ("name", "seed", "batch_size", "target", "thresholds")


class Run:
    """One run folder. Tables are read when they are first asked for.

    Attributes:
        folder: where the run is.
        manifest: provenance and status.
        temporary: whatever must live as long as this object (a temporary folder), or None.
    """

    def __init__(self, folder: Path, manifest: dict[str, Json]) -> None:
        self.folder, self.manifest = folder, manifest
        self.temporary: Json = None
        self._checked: set[str] = set()
        self._died = False

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """Open a run folder.

        Raises:
            InputError: there is none at this place, it was written by another version, or its
                manifest has been changed. A file of it that has been changed is found when it is
                read.
        """
        path = Path(folder)
        manifest = path / "manifest.json"
        if not path.is_dir():
            raise InputError(
                f"{path}: expected a run folder, got "
                f"{'a file' if path.exists() else 'nothing there'}"
            )
        if not manifest.is_file():
            raise InputError(f"{path}: expected a run folder, got a folder without manifest.json")
        found = cls(path, read_manifest(path))
        if found._without_its_process():
            found.manifest = read_manifest(path)  # it may have finished just now
            found._died = found._without_its_process()
        return found

    def _without_its_process(self) -> bool:
        process = self.manifest.get("process")
        unfinished = self.manifest.get("status") == "running"
        return unfinished and isinstance(process, dict) and is_gone(process) is True

    @property
    def name(self) -> str:
        """The scenario's name, or the folder's."""
        return str(self.summary.get("name") or self.folder.name)

    @property
    def status(self) -> str:
        """``running``, ``complete``, ``interrupted``, ``failed``, or ``died``: its process ended
        without a word.
        """
        return "died" if self._died else str(self.manifest.get("status", "unknown"))

    @property
    def status_text(self) -> str:
        """The status, with the last step of a run that is not complete, of what was stored."""
        if self.status == "complete":
            return self.status
        return f"{self.status} at step {len(self.steps):,}"

    @cached_property
    def scenario_text(self) -> str:
        """The resolved scenario as it was written."""
        path = self._whole("scenario.yaml")
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    @cached_property
    def scenario(self) -> dict[str, Json]:
        """The resolved scenario as plain maps; empty where none was kept.

        Raises:
            InputError: the stored text is no scenario.
        """
        if not self.scenario_text:
            return {}
        try:
            root, problems = parse(self.scenario_text, str(self.folder / "scenario.yaml"))
        except DocumentError as error:
            raise InputError([error.problem]) from None
        if problems:
            raise InputError(problems)
        return cast("dict[str, Json]", root.plain())

    @cached_property
    def summary(self) -> Summary:
        """The content of summary.json; for a run that has not finished, the sum of what was stored
        so far.
        """
        path = self._whole("summary.json")
        if path.is_file():
            return cast("Summary", read_map(path))
        known: dict[str, Json] = {"status": self.status}
        known |= {key: self.manifest[key] for key in _EXTRAS if key in self.manifest}
        return summarise(self.folder, self.manifest.get("static_power", []), known)

    @cached_property
    def steps(self) -> pd.DataFrame:
        """The learning curve, with ``time_s`` (end of the step) added."""
        frame = self._frame("steps")
        return frame.assign(time_s=frame["end_ps"] / PS_PER_S)

    @cached_property
    def spans(self) -> pd.DataFrame:
        """Every span, in the order of end; see ``hybridsim.trace.spans`` for the columns."""
        return self._frame("spans")

    @cached_property
    def events(self) -> pd.DataFrame:
        """What went wrong and when."""
        return self._frame("events")

    @cached_property
    def requests(self) -> pd.DataFrame:
        """What the spans were priced for: see ``hybridsim.hardware.requests``."""
        return self._frame("requests")

    @cached_property
    def energy(self) -> pd.DataFrame:
        """Joules by part and kind with low and high, of spans and of static power."""
        columns = [
            "part",
            "kind",
            "energy_j",
            "energy_low_j",
            "energy_high_j",
            "origin",
            "status",
            "source",
        ]
        return pd.DataFrame(self.summary["energy"]["by_part_kind"], columns=columns)

    @cached_property
    def path(self) -> tuple[Segment, ...]:
        """The critical path in the order of time.

        Raises:
            BrokenPath: it has a gap.
        """
        return critical_path(self.span_chunks(PATH_COLUMNS)).segments

    @cached_property
    def time_band(self) -> TimeBand:
        """Simulated time with every constant of time at its fastest and at its slowest end, in the
        recorded order; see ``hybridsim.results.time_band``.
        """
        # it knows the parts, which opening a run does not need
        from hybridsim.results.time_band import COLUMNS, time_band

        columns = (self.requests[name] for name in ("request", "form", "detail"))
        requests = {number: (form, detail) for number, form, detail in zip(*columns, strict=True)}
        return time_band(self.manifest.get("machine") or {}, requests, self.span_chunks(COLUMNS))

    def span_chunks(self, columns: Sequence[str] | None = None) -> Chunks:
        """The spans as a sequence of chunks, each read when asked for; see
        ``hybridsim.trace.chunks``.
        """
        self._whole("spans.parquet")
        return Chunks(self.folder, "spans", columns)

    def _frame(self, name: str) -> pd.DataFrame:
        """A whole table."""
        self._whole(f"{name}.parquet")
        found: pd.DataFrame = Chunks(self.folder, name).whole().to_pandas()
        return found

    def _whole(self, name: str) -> Path:
        """The path of a file of the run, once it is known to be what the run wrote.

        Raises:
            InputError: it is not.
        """
        if name not in self._checked:
            check_file(self.folder, self.manifest, name)
            self._checked.add(name)
        return self.folder / name

    def spans_between(self, start_ps: int, end_ps: int) -> pd.DataFrame:
        """The spans that overlap a time window, read chunk by chunk; spans of no length count at
        its edges too.
        """
        chunks = self.span_chunks()
        found = [chunks.whole().slice(0, 0).to_pandas()] if not len(chunks) else []
        for frame in (chunks.table(index).to_pandas() for index in range(len(chunks))):
            inside = (frame["start_ps"] < end_ps) & (frame["end_ps"] > start_ps)
            point = (frame["start_ps"] == frame["end_ps"]) & frame["start_ps"].between(
                start_ps, end_ps
            )
            found.append(frame[inside | point])
        joined: pd.DataFrame = pd.concat(found, ignore_index=True)
        return joined

    def __repr__(self) -> str:
        """One line."""
        return f"Run({str(self.folder)!r}, status={self.status!r}, steps={self.summary['steps']})"

    def _repr_html_(self) -> str:
        """A small table for notebooks."""
        energy = self.summary["energy"]["total"]
        band = " – ".join(
            engineering(energy[key], "J") for key in ("energy_low_j", "energy_high_j")
        )
        rows = {
            "run": self.name,
            "status": self.status,
            "steps": self.summary["steps"],
            "simulated time": engineering(self.summary["simulated_s"], "s"),
            "energy": f"{engineering(energy['energy_j'], 'J')} ({band})",
            **{
                key: f"{value:.4g}"
                for key, value in self.summary["final"].items()
                if key.endswith(("loss", "accuracy"))
            },
            "folder": self.folder,
        }
        cells = (
            f"<tr><th>{html.escape(str(k))}</th><td>{html.escape(str(v))}</td></tr>"
            for k, v in rows.items()
        )
        return f"<table>{''.join(cells)}</table>"
