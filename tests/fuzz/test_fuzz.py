"""Damaged scenarios, datasheets, workloads, fact stores, run folders and studies: one message and
the right exit code, never a traceback, never a success where there was none.

``make fuzz`` tries 2,200; HYBRIDSIM_FUZZ says how many, HYBRIDSIM_FUZZ_SEED where they begin. A
case is found again by its number alone.
"""

from __future__ import annotations

import faulthandler
import json
import os
import shutil
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import kept
import pytest
from command import call
from mutations import damaged_bytes, damaged_text, damaged_tree

import hybridsim
from hybridsim.results.integrity import FILES, OWN, manifest_sha256
from hybridsim.scenario.emit import emit
from hybridsim.scenario.merge import shipped_scenarios

COUNT = int(os.environ.get("HYBRIDSIM_FUZZ", "60"))
FIRST = int(os.environ.get("HYBRIDSIM_FUZZ_SEED", "0"))
KINDS = (
    "scenario", "run", "datasheet", "store", "folder", "resumed", "checked", "study",
    "study folder", "workload", "scenario",
)  # fmt: skip
SMALL = ["training.steps=3", "training.batch_size=4", "training.evaluate_every=2"]
TINY = {"source": "digits_mlp", "options": {"hidden": 3, "depth": 1}}
MOST_MESSAGE_LINES = 110
GENERAL = {
    "nodes": {
        "g": {"kind": "gpu", "part": "a100-sxm4-80gb", "idle": "60 W"},
        "g-s": {"kind": "switch"},
        "s": {"kind": "spu", "part": "rc-1us", "input_bits": 8},
    },
    "edges": [
        {"between": ["g", "g-s"], "link": {"part": "pcie5", "chunk": "64 KiB"}},
        {"between": ["g-s", "s"], "link": "free"},
    ],
}
HANGS_S = 120
Command = Callable[..., tuple[int, str, str]]


class Place:
    """A folder with what is damaged, once whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shipped = {name: path.read_text() for name, path in shipped_scenarios().items()}
        parts = Path(hybridsim.__file__).parent / "models" / "parts"
        self.parts = {path.stem: path for path in sorted(parts.glob("[gls]*/[!_]*.yaml"))}
        self.small = hybridsim.load("tngd-digits", SMALL).document() | {"workload": TINY}
        self.small["machine"]["spus"]["count"] = 2
        (folder / "small.yaml").write_text(emit(self.small))
        self.store, self.run = folder / "whole.sqlite", folder / "whole"
        scenario = hybridsim.load(folder / "small.yaml")
        live = hybridsim.run(scenario, self.run, facts=self.store)
        self.digest = live.manifest["digest"]
        self.unfinished = shutil.copytree(self.run, folder / "unfinished")
        for name in ("steps", "spans", "events", "requests"):
            (self.unfinished / name).mkdir()
            table = self.unfinished / f"{name}.parquet"
            table.rename(self.unfinished / name / "part-00000.parquet")
        (self.unfinished / "summary.json").unlink()
        manifest = json.loads((self.run / "manifest.json").read_text())
        for key in (FILES, "digest"):
            del manifest[key]
        manifest["status"] = "running"
        manifest[OWN] = manifest_sha256(manifest)
        (self.unfinished / "manifest.json").write_text(json.dumps(manifest))
        self.kept = kept.Kept(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp("whole"))


def scenario(random: Random, place: Place, command: Command) -> int:
    """A damaged scenario is checked: a mistake, or one that loads."""
    text = place.shipped[random.choice(sorted(place.shipped))]
    if random.random() < 0.5:
        text = damaged_text(random, text)
    else:
        document = hybridsim.load(random.choice(sorted(place.shipped))).document()
        if document["workload"]["source"] == "gpt":  # 100 million parameters take their time
            document["workload"]["options"] |= {"width": 24, "vocabulary": 50}
        if random.random() < 0.3:
            document["machine"] = GENERAL
        text = json.dumps(damaged_tree(random, document))
    Path("s.yaml").write_bytes(text.encode("utf-8", errors="surrogatepass"))
    return command("check", "s.yaml", expected=(0, 2))


def run(random: Random, place: Place, command: Command) -> int:
    """A damaged scenario is run: what is a success has a complete run folder."""
    document = damaged_tree(random, place.small)
    Path("s.yaml").write_text(json.dumps(document), encoding="ascii")
    words = ["--set", "training.steps=2", "--set", "training.evaluate_every=2"]
    backend = random.choice(("live", "timing"))
    out = Path("run")
    code = command("run", "s.yaml", "--out", out, "--backend", backend, *words, expected=(0, 1, 2))
    complete = out.is_dir() and hybridsim.Run.open(out).status == "complete"
    assert complete == (code == 0)
    assert code != 0 or (out / "report.html").read_text().endswith("</html>\n")
    return code


def datasheet(random: Random, place: Place, command: Command) -> int:
    """A damaged datasheet is shown, or used by a scenario."""
    name = random.choice(sorted(place.parts))
    path = place.parts[name]
    text = path.read_text().replace("extends: _", f"extends: {path.parent}/_")
    Path("part.yaml").write_bytes(
        damaged_text(random, text).encode("utf-8", errors="surrogatepass")
    )
    code = command("parts", "part.yaml", expected=(0, 2))
    kind = {"gpus": "gpu", "links": "link", "spus": "spus.part"}[path.parent.name]
    used = ("check", place.folder / "small.yaml", "--set", f"machine.{kind}=part.yaml")
    return max(code, command(*used, expected=(0, 2))) if random.random() < 0.3 else code


def store(random: Random, place: Place, command: Command) -> int:
    """A replay of a damaged store gives the live run's numbers or none."""
    path = Path("facts.sqlite")
    shutil.copy(place.store, path)
    if random.random() < 0.5:
        path.write_bytes(damaged_bytes(random, path.read_bytes()))
    else:
        value = random.choice(("{}", "null", "", "[]", b"\0", 3, '{"dissipation": 1e9}', None))
        column = random.choice(("facts", "checksum", "key"))
        with sqlite3.connect(path) as db:
            keys = [key for (key,) in db.execute("SELECT key FROM facts ORDER BY key")]
            chosen = random.sample(keys, random.choice((1, 5, len(keys))))
            if random.random() < 0.2:
                db.executemany("DELETE FROM facts WHERE key = ?", [(key,) for key in chosen])
            elif column != "key":
                rows = [(value, key) for key in chosen]
                db.executemany(f"UPDATE facts SET {column} = ? WHERE key = ?", rows)
            else:
                db.execute("UPDATE facts SET key = ? WHERE key = ?", (b"k" * 16, chosen[0]))
    words = ("run", place.folder / "small.yaml", "--out", "run", "--facts", path)
    backend = random.choice(("replay", "replay", "live"))
    code = command(*words, "--backend", backend, expected=(0, 2))
    assert code != 0 or hybridsim.Run.open("run").manifest["digest"] == place.digest
    return code


def folder(random: Random, place: Place, command: Command) -> int:
    """A damaged run folder is drawn as the whole one is, or not at all."""
    source = random.choice((place.run, place.run, place.unfinished))
    run = Path(shutil.copytree(source, "damaged"))
    damaged = kept.damage_a_file(random, run)
    words = random.choice(
        (
            ("report",),
            ("timeline", "--format", "chrome", "--out", "page"),
            ("compare", "--out", "page"),
        )
    )
    code = command(*words, run, expected=(0, 2))
    page = run / "report.html" if words == ("report",) else Path("page")
    if code == 0 and source == place.run and json_of(run) == json_of(place.run):
        shutil.copy(source / damaged.relative_to(run), damaged)
        drawn = page.read_bytes()
        assert command(*words, run, expected=(0,)) == 0
        assert drawn == page.read_bytes()
    return code


def json_of(folder: Path) -> dict[str, object]:
    """The manifest without the seed, which may be changed."""
    return json.loads((folder / "manifest.json").read_text()) | {"seed": None}


CASES = {
    "scenario": scenario,
    "run": run,
    "datasheet": datasheet,
    "store": store,
    "folder": folder,
    **kept.CASES,
}
SEEN: Counter[tuple[str, int]] = Counter()
SLOWEST: list[tuple[float, str]] = []


@pytest.fixture(scope="module", autouse=True)
def report(pytestconfig):
    yield
    lines = [f"{kind:12} exit {code}: {number}" for (kind, code), number in sorted(SEEN.items())]
    lines += [f"{seconds:.1f} s of the processor: {name}" for seconds, name in sorted(SLOWEST)[-3:]]
    print("\n" + "\n".join(lines))


@pytest.mark.parametrize("number", range(FIRST, FIRST + COUNT))
def test_damage_is_a_message_or_does_not_matter(monkeypatch, capsys, tmp_path, place, number):
    random = Random(number)
    kind = KINDS[number % len(KINDS)]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYBRIDSIM_DATA", raising=False)  # large data and encoders take their time

    def command(*words: object, expected: tuple[int, ...]) -> int:
        code, _, err = call(monkeypatch, capsys, *words)
        assert code in expected, err
        assert "Traceback" not in err
        assert "nobody foresaw" not in err
        assert code == 0 or 0 < len(err.splitlines()) <= MOST_MESSAGE_LINES
        return code

    faulthandler.dump_traceback_later(HANGS_S, exit=True, file=sys.__stderr__)
    started = time.process_time()
    code = CASES[kind](random, place, command)
    faulthandler.cancel_dump_traceback_later()
    SEEN[kind, code] += 1
    SLOWEST.append((time.process_time() - started, f"{kind} {number}"))
