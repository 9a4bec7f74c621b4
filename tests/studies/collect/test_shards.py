"""Array jobs: each shard does its share, whoever collects them has the whole."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest
from command import call
from hypothesis import given
from hypothesis import strategies as st
from small_studies import assert_same_points, computed, evaluated

import hybridsim
from hybridsim.errors import InputError
from hybridsim.studies.collect.shards import merge, shard_of
from hybridsim.studies.evaluate import Group
from hybridsim.studies.folder import Folder
from hybridsim.studies.run import digest


@pytest.fixture(scope="module")
def shards(file, tmp_path_factory):
    """Folders of two shards; the first has the larger share."""
    folders = [tmp_path_factory.mktemp("shard") for _ in range(2)]
    for number, folder in enumerate(folders, 1):
        result = hybridsim.study(file, folder, shard=f"{number}/2")
        assert result.answer is None and result.sentence.startswith(f"shard {number}/2: ")
    return sorted(folders, key=lambda shard: -len(computed(shard)))


def test_shards_share_the_points_and_collecting_computes_nothing(
    monkeypatch, capsys, shards, expected, tmp_path
):
    shares = [set(computed(folder)) for folder in shards]
    assert shares[0] | shares[1] == set(expected["point"]) and not shares[0] & shares[1]
    out = tmp_path / "whole"
    code, told, errors = call(
        monkeypatch, capsys, "study", "--collect", shards[0], shards[1], "--out", out
    )
    assert code == 0, errors
    assert str(out / "report.html") in told
    assert_same_points(pd.read_parquet(out / "points.parquet"), expected)
    assert not computed(out)
    facts = [sorted(p.name for p in (folder / "facts").iterdir()) for folder in (*shards, out)]
    assert sorted(facts[0] + facts[1]) == facts[2]


def test_shards_of_one_folder_need_no_merging(file, study, shards, expected, tmp_path):
    out = tmp_path / "shared"
    shutil.copytree(shards[0], out)
    for shard in ("1/2", "2/2"):  # one of them has nothing left to do
        hybridsim.study(file, out, shard=shard)
    assert merge(Folder(out), [out], digest(study), 0.3) == 0
    done = computed(out)
    assert set(done) == set(expected["point"]) and set(done.values()) == {1}
    assert_same_points(evaluated(study, out), expected)
    assert computed(out) == done


def test_what_shards_lack_is_computed_by_whoever_collects(study, shards, expected, tmp_path):
    damaged, out = tmp_path / "damaged", tmp_path / "whole"
    shutil.copytree(shards[0], damaged)
    first = sorted(computed(damaged))[0]
    outcome = damaged / "points" / first / "outcome.json"
    outcome.write_text(outcome.read_text().replace('"steps": 4', '"steps": 5'))
    found = merge(Folder(out), [damaged], digest(study), 0.3)
    assert found == len(computed(shards[0])) - 1
    assert_same_points(evaluated(study, out), expected)
    assert set(computed(out)) == set(computed(shards[1])) | {first}


def test_what_is_no_shard_of_this_study_is_refused(monkeypatch, capsys, file, shards, tmp_path):
    words = ("study", file, "--out", tmp_path / "new", "--collect")
    code, _, errors = call(monkeypatch, capsys, *words, tmp_path)
    assert code == 2 and f"{tmp_path}: expected a study's folder" in errors
    other = tmp_path / "other"
    shutil.copytree(shards[0], other)
    about = json.loads((other / "study.json").read_text()) | {"study": "another"}
    (other / "study.json").write_text(json.dumps(about))
    code, _, errors = call(monkeypatch, capsys, *words, other)
    assert code == 2 and "a shard of this study, got one of another study" in errors
    assert not (tmp_path / "new" / "points.parquet").exists()


@given(name=st.text(), of=st.integers(1, 50))
def test_every_group_is_of_one_shard(name, of):
    group = Group(name, (), "live", 0.3, "")
    assert sum(shard_of(f"{number}/{of}").has(group) for number in range(1, of + 1)) == 1


@pytest.mark.parametrize(
    "text", ["0/3", "4/3", "3", "1/0", "a/b", "1/2/3", "-1/2", "", "1.0/2", None]
)
def test_what_is_no_share_is_refused(text):
    with pytest.raises(InputError, match=r"--shard: expected k/n with k from 1 to n, e.g. 3/20"):
        shard_of(text)
