"""The lock files fit what the project asks for, and name files by hash alone."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
TEXTS = {name: (ROOT / name).read_text() for name in ("requirements.lock", "torch.lock")}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ASKED = [
    Requirement(line)
    for line in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"])
]
PINS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
]
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def entries(text: str) -> dict[str, tuple[Requirement, list[str]]]:
    """By name: the requirement and its hashes, once every word is known to be one or the other."""
    found = {}
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for line in lines.replace("\\\n", "").splitlines():
        words, *hashes = re.split(r"\s+(?=--hash)", line.strip())
        asked = Requirement(words)
        assert [spec.operator for spec in asked.specifier] == ["=="] and not asked.url, line
        assert hashes and all(HASH.fullmatch(word) for word in hashes), line
        assert canonicalize_name(asked.name) not in found, line
        found[canonicalize_name(asked.name)] = asked, hashes
    return found


LOCKED = {name: entry for text in TEXTS.values() for name, entry in entries(text).items()}


def release(name: str) -> str:
    """What is locked."""
    [spec] = LOCKED[canonicalize_name(name)][0].specifier
    return spec.version


@pytest.mark.parametrize("asked", [*ASKED, *PINS], ids=str)
def test_what_the_project_asks_for_is_locked(asked):
    assert canonicalize_name(asked.name) in LOCKED, "make lock"
    assert asked.specifier.contains(release(asked.name), prereleases=True), "make lock"


def test_torch_stands_apart_with_the_one_file_that_was_tested():
    assert "torch" not in entries(TEXTS["requirements.lock"])
    [(name, (_, hashes))] = entries(TEXTS["torch.lock"]).items()
    assert name == "torch" and len(hashes) == 1
    assert re.search(r"^# torch-[\w.+-]+\.whl$", TEXTS["torch.lock"], re.M)


def test_no_cuda_and_no_place_is_named():
    assert not [name for name in LOCKED if name.startswith(("nvidia", "cuda", "triton"))]
    for text in TEXTS.values():
        assert "://" not in text and "find-links" not in text and "index-url" not in text
        assert not re.search(r"(^|\s)/\w", text)
