"""What ``hybridsim study`` does: the plan first, then the points, the sentence, the page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hybridsim.errors import HybridsimError, InputError
from hybridsim.progress import StudyReporter
from hybridsim.scenario.quantity import describe
from hybridsim.studies.collect.shards import shard_of
from hybridsim.studies.estimate import Plan
from hybridsim.studies.load import load_study
from hybridsim.studies.options import Options
from hybridsim.studies.points import points_of
from hybridsim.studies.result import StudyResult
from hybridsim.studies.run import launch
from hybridsim.studies.unused import unused


class Unanswered(HybridsimError):
    """Points have no result, and so the question has no answer."""


class Words(NamedTuple):
    """What was typed.

    Attributes:
        names: a study file or the name of a shipped study; with ``collect`` further folders, too.
        out: the study's folder.
        overrides: ``path=value`` texts on the study's fields.
        workers: processes of this machine.
        scheduler: address of a ``dask.distributed`` scheduler.
        shard: ``k/n``.
        collect: folders of shards.
        force: the folder may hold another study.
        data: folder of external data sets.
        check: stop when the plan is known.
    """

    names: tuple[str, ...]
    out: Path | None
    overrides: tuple[str, ...]
    workers: int
    scheduler: str | None
    shard: str | None
    collect: tuple[Path, ...]
    force: bool
    data: Path | None
    check: bool


def run_words(words: Words) -> None:
    """Run a study as it was asked for on the command line.

    Raises:
        InputError: it cannot run as it is.
        Unanswered: the question has no answer.
        KeyboardInterrupt: it was interrupted; what was found is kept.
    """
    source, shards = _source(words)
    if words.shard is not None and (shards or words.scheduler):
        other = "--collect" if shards else "--scheduler"
        raise InputError(f"--shard: expected without {other}, got both")
    if words.scheduler is not None and words.workers != 1:
        raise InputError("--workers: expected without --scheduler, got both")
    loaded = load_study(source, words.overrides)
    shard = shard_of(words.shard) if words.shard is not None else None
    data = words.data
    options = Options(words.workers, words.scheduler, shard, shards, words.force, data)
    folder = words.out or (shards[0] if shards else Path("runs") / Path(source).stem)
    out = None if words.check and not folder.is_dir() else folder  # checks leave nothing behind

    def announce(plan: Plan) -> bool:
        for field in unused(loaded, points_of(loaded)):
            print(f"unused: {field}", file=sys.stderr)
        print(plan, flush=True)
        return not words.check

    with StudyReporter(loaded.name) as reporter:
        result = launch(loaded, out, options, reporter.progress, announce)
    if result is not None:
        _print(result)


def _source(words: Words) -> tuple[str, tuple[Path, ...]]:
    """The study, and the folders of its shards."""
    shards, files = list(words.collect), list(words.names)
    if shards:
        shards += [Path(name) for name in files if Path(name).is_dir()]
        files = [name for name in files if not Path(name).is_dir()]
    if len(files) > 1 or not (files or shards):
        raise InputError(f"FILE: expected one study, got {_shown(files)}")
    return files[0] if files else str(shards[0] / "study.yaml"), tuple(shards)


def _shown(files: Sequence[str]) -> str:
    return " and ".join(map(describe, files[:3])) if files else "none"


def _print(result: StudyResult) -> None:
    """The sentence, what has no result, and where to look.

    Raises:
        Unanswered: there is no answer.
    """
    print(result.sentence)
    failed = result.failed
    if len(failed):
        print(f"{len(failed)} points have no result, e.g. {failed['reason'].iloc[0]}")
    print(result.report or result.folder)
    if result.report is not None and result.reason:
        raise Unanswered(f"the question has no answer: {result.reason}")
