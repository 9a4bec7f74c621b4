from __future__ import annotations

import textwrap

import pytest
import torch

from hybridsim.errors import InputError
from hybridsim.tasks.task import load_workload

GOOD = """
import torch
from torch import nn
from hybridsim.tasks.task import Data, Workload

def data(classes=3):
    x = torch.randn(12, 4)
    y = torch.arange(12) % classes
    return Data(x[:8], y[:8], x[8:], y[8:])

def build(width=5, data_dir=None):
    network = lambda: nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 3))
    return Workload(network=network, data=data(), loss="cross_entropy")
"""


@pytest.fixture
def write(tmp_path):
    def written(text):
        path = tmp_path / "mine.py"
        path.write_text(textwrap.dedent(text))
        return str(path)

    return written


def test_a_users_file_loads_from_its_path_the_same_each_time(write, monkeypatch):
    path = write(GOOD)
    load_workload("digits_mlp", {})  # torch imports some of itself on first use
    monkeypatch.setattr("sys.path", [])
    first, second = load_workload(path, {"width": 7}), load_workload(path, {"width": 7})
    assert first.layout.size == 4 * 7 + 7 + 21 + 3
    assert torch.equal(first.data.train_x, second.data.train_x) and first.key == second.key
    assert first.key != load_workload(path, {"width": 6}).key
    assert first.key != load_workload(write(GOOD + "# another text"), {"width": 7}).key


def test_the_key_follows_the_data(write, monkeypatch):
    path = write(
        GOOD.replace(
            "torch.randn(12, 4)", "torch.full((12, 4), float(__import__('os').environ['V']))"
        )
    )
    monkeypatch.setenv("V", "1")
    first = load_workload(path, {})
    monkeypatch.setenv("V", "2")
    assert load_workload(path, {}).key != first.key


def test_the_data_folder_reaches_a_build_that_takes_it(write):
    path = write(
        GOOD.replace("return Workload(", "assert data_dir == 'there'\n    return Workload(")
    )
    load_workload(path, {}, "there")
    with pytest.raises(InputError, match="AssertionError"):
        load_workload(path, {}, "elsewhere")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digits_cn", "did you mean 'digits_cnn'"),
        ("nowhere/mine.py", "existing .py file"),
        ("", "one of"),
    ],
)
def test_a_workload_that_is_not_there(name, message):
    with pytest.raises(InputError, match=message):
        load_workload(name, {})


def test_options_are_checked_against_the_signature(write):
    with pytest.raises(InputError, match="did you mean 'width'"):
        load_workload(write(GOOD), {"widht": 3})


CHANGES = {
    "does not import": (
        "import torch\n",
        "import torch\nimport no_such_module\n",
        "no_such_module",
    ),
    "syntax": ("def build(", "def build((", "SyntaxError"),
    "no build": ("def build(", "def built(", "a function build"),
    "build fails": ("return Workload(", "raise RuntimeError('boom')\n    return Workload(", "boom"),
    "returns nothing": ("    return Workload(", "    Workload(", "got nothing"),
    "network is a module": ("lambda: nn.Seq", "nn.Seq", "function without arguments"),
    "not seeded": ("nn.Tanh()", "nn.PReLU(init=__import__('random').random())", "random numbers"),
    "factory gives no module": ("lambda: nn", "lambda: (lambda x: x) or nn", "torch.nn.Module"),
    "unknown loss": ('loss="cross_entropy"', 'loss="hinge"', "'hinge'"),
    "inputs of another type": (
        "torch.randn(12, 4)",
        "torch.ones(12, 4, dtype=torch.int32)",
        "float32 or int64",
    ),
    "integers for a dense layer": (
        "torch.randn(12, 4)",
        "torch.ones(12, 4, dtype=torch.long)",
        "takes torch.int64",
    ),
    "a token without embedding": (
        "torch.randn(12, 4)",
        "torch.arange(48).reshape(12, 4)",
        "index out of range",
    ),
    "targets for positions that are not there": (
        "torch.arange(12) % classes",
        "torch.zeros(12, 2, dtype=torch.long)",
        "targets (n,) for outputs (n, 3), got shape (8, 2)",
    ),
    "nan inputs": ("torch.randn(12, 4)", "torch.full((12, 4), float('nan'))", "finite inputs"),
    "labels out of range": ("data=data()", "data=data(5)", "labels from 0 to 2 for 3 outputs"),
    "labels of another type": (
        "torch.arange(12) % classes",
        "torch.rand(12)",
        "int64 class numbers",
    ),
    "more inputs than labels": ("x[:8], y[:8]", "x[:8], y[:7]", "as many targets"),
    "train and test differ": ("x[8:], y", "x[8:, :3], y", "shape"),
    "input width": ("nn.Linear(4, width)", "nn.Linear(6, width)", "inputs of shape"),
    "output shape": ("nn.Tanh()", "nn.Unflatten(1, (1, -1))", "shape"),
    "random numbers but for dropout": ("nn.Tanh()", "nn.AlphaDropout(1e-9)", "by dropout alone"),
    "a buffer that evaluation changes": (
        "nn.Tanh()",
        "type('C', (nn.Module,), {'__init__': lambda s: (super(type(s), s).__init__(), "
        "s.register_buffer('seen', torch.zeros(1)))[0], "
        "'forward': lambda s, x: (s.seen.add_(1), x)[1]})()",
        "a buffer that evaluation changes",
    ),
    "a mean over batches that branches on their number": (
        "nn.Tanh()",
        "nn.BatchNorm1d(width, momentum=None)",
        "no branch on values",
    ),
    "float64 network": (
        "nn.Linear(width, 3)",
        "nn.Linear(width, 3).double()",
        "float32 parameters",
    ),
    "a branch on values": (
        "nn.Tanh()",
        "type('B', (nn.Module,), {'forward': lambda _, x: x if x.sum() < 1e9 else -x})()",
        "no branch on values",
    ),
    "all frozen": (
        "nn.Linear(width, 3))",
        "nn.Linear(width, 3)).requires_grad_(False)",
        "at least one",
    ),
    "mse needs targets of its width": ('loss="cross_entropy"', 'loss="mse"', "float32 targets"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_every_mistake_is_named_with_the_file(write, case):
    old, new, message = CHANGES[case]
    assert GOOD.count(old) >= 1
    text = GOOD.replace(old, new)
    if case == "a token without embedding":  # the largest of all: it is in the test data alone
        text = text.replace(
            "nn.Linear(4, width)",
            "nn.Embedding(47, width), nn.Flatten(), nn.Linear(4 * width, width)",
        )
    path = write(text)
    with pytest.raises(InputError) as caught:
        load_workload(path, {})
    assert message in str(caught.value) and path in str(caught.value)


def test_an_error_inside_the_file_is_given_its_line(write):
    path = write(
        GOOD.replace("return Workload(", "raise RuntimeError('boom')\n    return Workload(")
    )
    line = next(i for i, text in enumerate(GOOD.splitlines(), 1) if "return Workload(" in text)
    with pytest.raises(InputError, match=f"mine.py:{line}: build"):
        load_workload(path, {})


def test_mse_targets_of_another_width(write):
    text = GOOD.replace("torch.arange(12) % classes", "torch.randn(12, 2)").replace(
        "cross_entropy", "mse"
    )
    with pytest.raises(
        InputError, match=r"targets \(n, 3\) for outputs \(n, 3\), got shape \(8, 2\)"
    ):
        load_workload(write(text), {})


def test_a_factory_that_keeps_its_network(write):
    text = GOOD.replace("def build(", "NET = nn.Linear(4, 3)\n\ndef build(")
    whole = "nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 3))"
    text = text.replace(f"lambda: {whole}", "lambda: NET")
    with pytest.raises(InputError, match="a new network at each call"):
        load_workload(write(text), {})
