"""An encoder adapted by LoRA: what trains, its Jacobian, one step of each algorithm; no network is
reached."""

from __future__ import annotations

import importlib.util
import json
import socket
import sys

import pytest
import torch

import hybridsim
from hybridsim.algorithms.first_order.gradient import gradient
from hybridsim.algorithms.natural_gradient.linearization import linearize
from hybridsim.errors import InputError
from hybridsim.models.workloads import _encoders
from hybridsim.operations.count import count
from hybridsim.tasks.task import batch, load_workload

LENGTH, LAYERS, WIDTH = 12, 1, 8
SMALL = {"train_size": 8, "test_size": 4, "sequence": LENGTH}
TINY = {"vocab_size": 30522, "max_position_embeddings": 16}
CONFIGS = {
    "bert": {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 2}
    | {"intermediate_size": 12}
    | TINY,
    "distilbert": {"dim": WIDTH, "n_layers": LAYERS, "n_heads": 2, "hidden_dim": 12} | TINY,
}
NUMBERS = (
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "no",
    "some",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with twelve questions, and encoders of few numbers."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "squad").mkdir()
    asked = [
        {
            "context": f"There are {n} ships in the harbour today.",
            "qas": [{"question": "How many?", "answers": [{"text": n, "answer_start": 10}]}],
        }
        for n in NUMBERS
    ]  # fmt: skip
    (folder / "squad" / "train.json").write_text(json.dumps({"data": [{"paragraphs": asked}]}))
    transformers, minilm = _encoders.packages("tests")
    for kind, sizes in CONFIGS.items():
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model(kind, **sizes)
        transformers.AutoModel.from_config(config).save_pretrained(folder / kind)
        for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
            (folder / kind / file).symlink_to(minilm / file)
    return folder


def task_of(place, kind="bert", **options):
    return load_workload("squad_lora", SMALL | {"encoder": str(place / kind)} | options, str(place))


def test_the_default_encoder_comes_without_a_network(place, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a network was asked"))
    task = load_workload("squad_lora", SMALL, str(place))
    assert task.layout.size == 37_634 == 6 * 4 * 2 * (384 + 384) + 2 * 384 + 2
    assert (task.terms, task.outputs) == (2, LENGTH) and task.training is None
    assert all(".lora_" in name or name.startswith("head.") for name in task.layout.names)
    assert all(p.abs().max() > 0 for n, p in task.network.named_parameters() if "layer.5" in n
               and not p.is_meta)  # fmt: skip


@pytest.mark.parametrize("kind", sorted(CONFIGS))
def test_the_jacobian_is_that_of_one_sample_and_score_at_a_time(place, kind):
    task = task_of(place, kind, rank=3)
    assert task.layout.size == LAYERS * 4 * 2 * 3 * WIDTH + 2 * WIDTH + 2
    theta = task.initial_parameters(0) + 0.1 * torch.randn(task.layout.size)
    x, y = examples = batch(task.data, torch.tensor([5, 1]))
    lin = linearize(task, theta, examples).value
    rows = []
    for one in x:
        flat = theta.clone().requires_grad_()
        scores = task.apply(task.layout.unflatten(flat), one[None])
        rows += [torch.autograd.grad(z, flat, retain_graph=True)[0] for z in scores.flatten()]
    assert lin.jacobian.shape == (2 * 2 * LENGTH, task.layout.size)
    torch.testing.assert_close(lin.jacobian, torch.stack(rows), rtol=1e-3, atol=1e-5)
    whole = gradient(task, theta, examples).value
    torch.testing.assert_close(lin.gradient, whole, rtol=1e-3, atol=1e-5)
    for computed in (gradient, linearize):  # every operator has a price
        work, _ = count(computed, (task, theta, examples), {})
        assert sum(kernel.flop * kernel.count for kernel in work.kernels) > 0


def test_padding_changes_no_score(place):
    task = task_of(place)
    parameters = task.layout.unflatten(task.initial_parameters(0))
    [x] = task.data.train_x[:1, :, :10].unbind(0)  # a shorter window, ended and padded
    short = torch.nn.functional.pad(x[None], (0, 2))
    z = task.apply(parameters, short)
    torch.testing.assert_close(z[..., :10], task.apply(parameters, x[None]))


def scenario(place, algorithm, **options):
    chosen = SMALL | {"encoder": str(place / "bert")} | options
    training = {"batch_size": 4, "steps": 8, "evaluate_every": 8, "algorithm": algorithm}
    machine = {"gpu": "a100-sxm4-80gb"}
    if algorithm["kind"] == "tngd":
        machine |= {"link": "pcie5", "spus": {"part": "rc-1us", "imperfections": "ideal"}}
    workload = {"source": "squad_lora", "options": chosen}
    return hybridsim.load(
        {"name": "qa", "workload": workload, "training": training, "machine": machine}
    )


TNGD = {"kind": "tngd", "learning_rate": 0.3, "damping": 1, "settle": "0.4 tau"}
ADAM = {"kind": "adam", "learning_rate": 0.02}


def test_it_trains_with_dropout_under_adam_alone(place, monkeypatch):
    monkeypatch.setenv("HYBRIDSIM_DATA", str(place))
    dropout = hybridsim.load_task(scenario(place, ADAM, dropout=0.1))
    tasks = dict.fromkeys("TA", hybridsim.load_task(scenario(place, ADAM))) | {"D": dropout}
    made = {"T": scenario(place, TNGD), "A": scenario(place, ADAM)}
    made["D"] = scenario(place, ADAM, dropout=0.1)
    losses = {k: hybridsim.run(s, task=tasks[k]).steps.train_loss for k, s in made.items()}
    for found in losses.values():
        assert found[-2:].mean() < 0.95 * found[:2].mean()
    assert losses["A"][0] == losses["D"][0], "LoRA starts at nothing"
    assert losses["A"][2] != losses["D"][2]
    with pytest.raises(InputError, match="dropout"):
        hybridsim.run(scenario(place, TNGD, dropout=0.1), task=dropout)


@pytest.mark.parametrize(("options", "words"), [
    ({"sequence": 17}, "options.sequence: expected 8 to 16 tokens, got 17"),
    ({"train_size": 9}, r"at most 12 questions together.*, got 9 \+ 4"),
    ({"encoder": "no/such"}, "options.encoder: expected minilm, .*, got no config.json in no/such"),
])  # fmt: skip
def test_options_that_do_not_fit(place, options, words):
    with pytest.raises(InputError, match=words):
        load_workload("squad_lora", SMALL | {"encoder": str(place / "bert")} | options, str(place))


def test_weights_that_are_not_there_are_not_drawn(place, tmp_path):
    from safetensors.torch import load_file, save_file

    for file in (place / "bert").iterdir():
        (tmp_path / file.name).symlink_to(file)
    kept = load_file(place / "bert" / "model.safetensors")
    name = "encoder.layer.0.output.dense.weight"
    del kept[name]
    (tmp_path / "model.safetensors").unlink()
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=f"no weights for {name}"):
        task_of(place, encoder=str(tmp_path))


def test_a_missing_package_is_named_with_the_extra_that_brings_it(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"pip install 'hybridsim\[qa\]', torch first, got .*peft"):
        task_of(place)


def test_a_torchvision_for_another_torch_counts_as_none(tmp_path, monkeypatch):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('no operator nms')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    with _encoders._no_broken_torchvision():
        assert importlib.util.find_spec("torchvision") is None
    assert "torchvision" not in sys.modules
