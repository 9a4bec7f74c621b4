"""A study from its file to its answer: points, table, question, page."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from hybridsim.errors import InputError
from hybridsim.reports.study import write_study_report
from hybridsim.results.digest import canonical_json
from hybridsim.results.keys import Json
from hybridsim.scenario.quantity import Raw
from hybridsim.studies.collect.base import Progress, Settings
from hybridsim.studies.collect.collector import Collector
from hybridsim.studies.collect.shards import Shard, merge, shard_of
from hybridsim.studies.current import Current
from hybridsim.studies.estimate import Plan, minutes
from hybridsim.studies.evaluate import Desk, Group
from hybridsim.studies.folder import OWN, Folder, about_of
from hybridsim.studies.groups import distinct
from hybridsim.studies.lab import StudyLab
from hybridsim.studies.load import load_study
from hybridsim.studies.options import Options
from hybridsim.studies.outcome import WITH_RESULT
from hybridsim.studies.points import Point, points_of
from hybridsim.studies.questions.base import Answer
from hybridsim.studies.result import StudyResult
from hybridsim.studies.schema import Study
from hybridsim.studies.tuning import Tuned, tune, tuning_points
from hybridsim.studies.view import digest_of, provenance, view_of

if TYPE_CHECKING:
    from distributed import Client

REPORT = "report.html"
Announce = Callable[[Plan], bool]
"""Told what is going to be done; whether to go on."""


def study(
    source: str | Path | Mapping[str, Raw] | Study,
    out: Path | str | None = None,
    *,
    workers: int = 1,
    client: Client | str | None = None,
    shard: str | None = None,
    force: bool = False,
    progress: Callable[[Progress], None] | None = None,
    data: Path | str | None = None,
) -> StudyResult:
    """Run a study: evaluate its points, answer its question, write its folder and page.

    What the folder holds already is not computed again, and several launches with one folder share
    the work.

    Args:
        source: a study file, the name of a shipped study, or plain maps as in a file.
        out: the study's folder; without it a temporary one that lives as long as what is returned.
        workers: processes of this machine; 1: this process.
        client: a ``dask.distributed`` client, or a scheduler's address (``tcp://...``): points are
            evaluated by the cluster's workers.
        shard: ``k/n``: evaluate this share alone; ``hybridsim study --collect`` asks the question.
        force: the folder may hold another study; points of equal content are kept.
        progress: told how far it is.
        data: folder of external data sets (default: ``HYBRIDSIM_DATA``).

    Raises:
        InputError: the study cannot run as it is, or the folder is another study's.
        HybridsimError: the folder cannot be written.
        KeyboardInterrupt: it was interrupted; what was found is kept.
    """
    loaded = source if isinstance(source, Study) else load_study(source)
    taken = shard_of(shard) if shard is not None else None
    options = Options(workers, client, taken, (), force, data)
    found = launch(loaded, out, options, progress)
    assert found is not None, "nobody was asked whether to go on"
    return found


def launch(
    loaded: Study,
    out: Path | str | None,
    options: Options,
    progress: Callable[[Progress], None] | None = None,
    announce: Announce | None = None,
) -> StudyResult | None:
    """As ``study``; ``announce`` is told first what is going to be done, and may stop it (None)."""
    temporary = None
    if out is None:
        temporary = tempfile.TemporaryDirectory(prefix="hybridsim-study-")
        out = temporary.name
    _check_owner(Path(out), loaded, options.force)
    folder, gate = Folder(out), loaded.gate.solver_error
    merge(folder, options.collect, digest(loaded), gate)
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="hybridsim-study-"))
        data = None if options.data is None else str(options.data)
        desk = Desk(Path(scratch), folder.facts, data)
        settings, pool = Settings(loaded.backend, gate), options.pool(desk)
        collector = Collector(folder, pool, settings, progress, Current(desk))
        stack.callback(collector.close)
        if announce is not None and not announce(_plan(loaded, collector, desk, options)):
            return None
        found = _Launch(loaded, folder, collector).run(options.shard)
        return replace(found, temporary=temporary)


class _Launch:
    """One launch of a study, and what it has found so far."""

    def __init__(self, loaded: Study, folder: Folder, collector: Collector) -> None:
        self.loaded, self.study = loaded, loaded
        self.folder, self.collector = folder, collector
        self.tuned: list[Tuned] = []
        self.points: list[Point] = []
        self.lab: StudyLab | None = None

    def run(self, shard: Shard | None) -> StudyResult:
        """Points, table, question, page; whatever stops it, the table is written."""
        self.folder.study(self.loaded.document())
        self.folder.say(about(self.loaded, "running"))
        try:
            return self._answered() if shard is None else self._shared(shard)
        except KeyboardInterrupt:
            self._write("interrupted")
            done, asked = len(self.collector.known), len(self.collector.asked)
            where = f"{done} of {asked} points are in {self.folder.path}"
            raise KeyboardInterrupt(f"interrupted; {where}") from None
        except Exception as error:
            self._write("failed", reason=str(error))
            raise

    def _evaluate(self, wanted: Callable[[Group], bool]) -> None:
        """All that is asked for to choose settings; then, of the study's own points, groups that
        are wanted.
        """
        self.study, self.tuned = tune(self.loaded, self.collector.outcomes)
        self.points = points_of(self.study)
        self.collector.outcomes(self.points, wanted)

    def _shared(self, shard: Shard) -> StudyResult:
        """One share of the points. Settings are chosen by every shard: those of one folder share
        that work, too.
        """
        self._evaluate(shard.has)
        reason = f"shard {shard}: hybridsim study --collect answers when all have ended"
        table = self._write(f"shard {shard}", reason=reason)
        return StudyResult(self.loaded, self.folder.path, table, reason=reason)

    def _answered(self) -> StudyResult:
        """All points, and what the question makes of them."""
        self._evaluate(lambda group: True)
        self.lab = StudyLab(self.study, self.points, self.collector)
        question = self.study.question
        try:
            answer, reason = question.answer(self.lab), ""
        except InputError as error:
            if not self._lost():
                raise
            answer, reason = Answer(f"No answer: {error}", trusted=False), str(error)
        reason = reason or self._unanswered()
        table = self._write("complete", answer, reason)
        figure = question.picture(self.lab, answer) if len(answer.table) else None
        notes = [f"Not answered: {reason}"] if reason else []
        notes += self.collector.notes
        view = view_of(self.study, table, answer, figure, self.tuned, notes)
        write_study_report(view, self.folder.path / REPORT)
        return StudyResult(
            self.study, self.folder.path, table, answer, reason, self.folder.path / REPORT, view
        )

    def _lost(self) -> bool:
        """Whether points have no result."""
        return bool((self._table()["status"] != WITH_RESULT).any())

    def _unanswered(self) -> str:
        """Why there can be no answer; empty: there may be one."""
        table = self._table()
        for side in (side.name for side in self.study.sides):
            rows = table[table["side"] == side]
            if len(rows) and not (rows["status"] == WITH_RESULT).any():
                why = next((text for text in rows["reason"] if text), "")
                return f"no point of side '{side}' has a result: {why}"
        return ""

    def _table(self) -> pd.DataFrame:
        lab = self.lab or StudyLab(self.study, self.points, self.collector)
        return lab.everything()

    def _write(self, status: str, answer: Answer | None = None, reason: str = "") -> pd.DataFrame:
        """The table of points, and what study.json says."""
        table = self._table()
        self.folder.table(table)
        known: dict[str, Json] = about(self.loaded, status) | {"reason": reason}
        once = table.drop_duplicates("point")
        counts = {name: dict(Counter(once[name])) for name in ("status", "how")}
        known |= {"points": len(once), "counts": counts, "digest": digest_of(table)}
        known |= {"tuning": [one.facts() for one in self.tuned], "notes": self.collector.notes}
        if answer is not None:
            known["answer"] = {
                "sentence": answer.sentence,
                "notes": list(answer.notes),
                "trusted": answer.trusted,
                "facts": dict(answer.facts),
            }
        self.folder.say(known)
        return table


def digest(loaded: Study) -> str:
    """Equal for equal studies, question included."""
    return hashlib.sha256(canonical_json(loaded.document()).encode()).hexdigest()


def about(loaded: Study, status: str) -> dict[str, Json]:
    """What study.json says whatever was found."""
    return {
        "name": loaded.name,
        "study": digest(loaded),
        "status": status,
        "question": loaded.document()["question"],
        **provenance(),
    }


def _check_owner(path: Path, loaded: Study, force: bool) -> None:
    """A folder must be empty, or this study's.

    Raises:
        InputError: it holds something else, or another study that may not be replaced.
    """
    names = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    if strange := sorted(name for name in names if not name.startswith(OWN)):
        raise InputError(
            f"{path}: expected an empty folder or a study's, got other files in it ({strange[0]})"
        )
    known = about_of(path)
    if known is not None and known.get("study") != digest(loaded) and not force:
        raise InputError(
            f"{path}: expected an empty folder or this study's, got the study "
            f"{known.get('name')!r:.80}, or this one as it was before a change (--force, or "
            "force=True, replaces it; points that both share are kept)"
        )


def _plan(loaded: Study, collector: Collector, desk: Desk, options: Options) -> Plan:
    """What is going to be done; tuned settings are not known yet, nor what a question asks for."""
    points = points_of(loaded)
    every = [*tuning_points(loaded), *points]
    asked = distinct(every)
    groups = collector.plan(every)
    if options.shard is not None:
        groups = [group for group in groups if options.shard.has(group)]
    known = sum(point.id in collector.known for point in asked)
    live = sum(group.backend == "live" and not group.facts for group in groups)
    return Plan(len(points), len(asked), known, live, minutes(groups, desk, collector.at_once))
