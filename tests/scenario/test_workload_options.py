"""What build() does not take is found where the scenario is loaded, without importing anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command import call
from hypothesis import given
from hypothesis import strategies as st

from hybridsim.errors import InputError
from hybridsim.scenario.load import load
from hybridsim.scenario.schema import shipped_workloads
from hybridsim.scenario.workload_options import check_options
from hybridsim.tasks.task import load_workload

HEAD = "extends: adam-digits\nworkload:\n  source: {source}\n  options:\n    {option}\n"


@pytest.mark.parametrize(
    ("source", "option", "words"),
    [
        ("digits_mlp", "hiden: 3", "nearest: 'hidden'), got the unknown option 'hiden'"),
        ("digits_mlp", "hidden: 0", "expected a whole number >= 1, got 0"),
        ("digits_mlp", "hidden: -3", "expected a whole number >= 1, got -3"),
        ("digits_mlp", "depth: 2.0", "expected a whole number >= 1, got 2.0"),
        ("digits_cnn", "channels: wide", "expected a whole number >= 1, got 'wide'"),
        ("digits_cnn", "hidden: true", "expected a whole number >= 1, got true"),
        ("mnist_cnn", "hidden: 0", "expected a whole number >= 1, got 0"),
        ("mlp_cifar", "synthetic: 1", "expected true or false, got 1"),
        ("mlp_cifar", "data_dir: 1", "expected a text, got 1"),
        ("gpt", "widht: 64", "nearest: 'width'"),
    ],
)
def test_a_wrong_option_of_a_shipped_workload_fails_in_check(
    monkeypatch, capsys, tmp_path, source, option, words
):
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(HEAD.format(source=source, option=option))
    code, out, err = call(monkeypatch, capsys, "check", "s.yaml")
    assert (code, out) == (2, "")
    assert f"s.yaml:5: workload.options.{option.partition(':')[0]}: expected " in err
    assert words in err


@given(
    name=st.sampled_from(shipped_workloads()),
    options=st.dictionaries(
        st.sampled_from(["hidden", "depth", "width", "channels", "heads", "synthetic", "steps"]),
        st.integers(-2, 3) | st.booleans() | st.sampled_from([0.5, "x", 2.0]),
        max_size=3,
    ),
)
def test_no_wrong_type_reaches_a_workload(name, options):
    """What is loaded here, its build takes by name, and no size is below 1."""
    document = load("adam-digits").document()
    try:
        check_options(load({**document, "workload": {"source": name, "options": options}}))
    except InputError as error:
        assert all(p.path.startswith("workload.options.") for p in error.problems)
    else:
        assert all(type(value) is int and value >= 1 or value in (True, False) for value in
                   options.values())  # fmt: skip


@pytest.mark.parametrize(
    ("signature", "options", "words"),
    [
        ("width: int, *, rate: float = 0.1", {"width": 0}, None),
        ("width: int, *, rate: float = 0.1", {"width": 2, "rate": 1}, None),
        ("width: int, *, rate: float", {"width": 2}, "rate: expected a value for this option"),
        ("width: int", {}, "width: expected a value for this option, got nothing"),
        ("width: 'int' = 3", {"width": "a"}, None),
        ("width=3", {"width": "a"}, None),
        ("width: int | str = 3", {"width": "a"}, None),
        ("width: int | str = 3", {"width": 0.5}, "expected a whole number or a text, got 0.5"),
        ("width: list = 3", {"width": 0.5}, None),
        ("**options", {"width": "a"}, None),
        ("", {"width": 3}, "expected an option of mine.py, got the unknown option 'width'"),
        ("data_dir", {}, None),
    ],
)
def test_options_of_the_users_own_file(tmp_path, signature, options, words):
    path = tmp_path / "mine.py"
    path.write_text(f"import no_such_module\ndef build({signature}): ...\n")
    document = {**load("adam-digits").document(), "workload": {"source": str(path)}}
    document["workload"]["options"] = options
    if words is None:
        check_options(load(document))
    else:
        with pytest.raises(InputError) as caught:
            check_options(load(document))
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "text", ["def build((:", "build = print", "\0", "@cached\ndef build(): ..."]
)
def test_a_file_whose_text_does_not_tell_is_left_to_the_run(tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(text)
    document = load("adam-digits").document()
    check_options(load({**document, "workload": {"source": str(path), "options": {"a": 1}}}))


def test_loading_options_imports_no_torch():
    code = (
        "import sys\nfrom hybridsim.scenario.load import load\n"
        "from hybridsim.scenario.workload_options import check_options\n"
        "check_options(load('adam-digits', ['workload.options.hidden=3']))\n"
        "print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("digits_mlp", {"depth": -1}),
        ("digits_mlp", {"depth": 10**6}),
        ("digits_mlp", {"hidden": 0}),
        ("digits_cnn", {"channels": 0}),
        ("mnist_cnn", {"hidden": True}),
    ],
)
def test_what_is_no_size_is_refused_by_the_workload_too(name, options):
    size = r"options\.\w+: expected (a whole number >= 1|at most 1000)"
    with pytest.raises(InputError, match=size):
        load_workload(name, options)
