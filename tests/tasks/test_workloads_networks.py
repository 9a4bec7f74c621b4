"""What holds of the shipped networks whatever their size: counted on meta tensors, trained, causal,
blind to padding."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import hybridsim
from hybridsim.algorithms.first_order.gradient import gradient
from hybridsim.algorithms.natural_gradient.linearization import linearize
from hybridsim.errors import InputError
from hybridsim.models.workloads import gnn, gpt, mlp_cifar, resnet_cifar, vit
from hybridsim.operations.count import count
from hybridsim.tasks.task import batch, load_workload

SIZES = {"train_size": 48, "test_size": 16}
SMALL = {
    "gpt": {"vocabulary": 12, "width": 16, "sequence": 7, "depth": 1, "heads": 2},
    "vit": {"image": 8, "width": 16, "mlp": 24, "depth": 1},
    "gnn": {"latent": 12, "nodes": 10, "outputs": 3},
    "molecules": {"latent": 12, "steps": 1, "nodes": 16, "assays": 3},
    "resnet_cifar": {"width": 4, "groups": 2},
    "mlp_cifar": {"depth": 12, "width": 24, "synthetic": True},
}
RATES = {"mlp_cifar": 1e-3}


@pytest.fixture(scope="session")
def cifar(tmp_path_factory):
    """A data folder with few images, brighter with their class, in CIFAR-10's form."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "cifar10").mkdir()
    random = np.random.default_rng(0)
    for part, size in (("train", 60), ("test", 20)):
        labels = random.integers(0, 10, size, dtype=np.uint8)
        images = (
            20 * labels[:, None, None, None] + random.integers(0, 60, (size, 32, 32, 3))
        ).astype(np.uint8)
        np.savez(folder / "cifar10" / f"cifar10-{part}.npz", images=images, labels=labels)
    return str(folder)


@pytest.fixture(params=sorted(SMALL))
def task(request, cifar):
    return load_workload(request.param, SMALL[request.param] | SIZES, cifar)


def matrix_flop(task, examples):
    theta = torch.zeros(task.layout.size)
    work, outcome = count(gradient, (task, theta, batch(task.data, torch.arange(examples))), {})
    assert outcome.value.shape == theta.shape and outcome.value.is_meta
    return sum(kernel.flop * kernel.count for kernel in work.kernels if kernel.matrix)


def test_counted_contractions_are_proportional_to_the_batch(task):
    few, many = matrix_flop(task, 4), matrix_flop(task, 12)
    assert many == 3 * few
    # every dense weight meets every example at least once forward and once in its own gradient
    layers = [
        m for m in task.network.modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))
    ]
    assert few >= 4 * 4 * sum(layer.weight.numel() for layer in layers) > 0


def test_the_linearisation_batches_every_network(task):
    theta, examples = task.initial_parameters(2), batch(task.data, torch.arange(2))
    lin, whole = linearize(task, theta, examples).value, gradient(task, theta, examples).value
    assert lin.jacobian.shape == (2 * task.terms * task.outputs, task.layout.size)
    assert (lin.gradient - whole).norm() <= 1e-4 * whole.norm()


@pytest.mark.parametrize("name", sorted(set(SMALL) - {"molecules"}))  # a rule takes more steps
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_every_network_trains_in_both_precisions(name, precision, cifar):
    scenario = hybridsim.load(
        {
            "name": name,
            "workload": {"source": name, "options": SMALL[name] | SIZES},
            "training": {
                "batch_size": 16,
                "steps": 24,
                "evaluate_every": 24,
                "precision": precision,
                "algorithm": {"kind": "adam", "learning_rate": RATES.get(name, 1e-2)},
            },
            "machine": {"gpu": "a100-sxm4-80gb"},
        }
    )
    losses = hybridsim.run(scenario, data=cifar).steps.train_loss
    assert losses[-6:].mean() < 0.9 * losses[:3].mean()


def test_a_residual_network_trains_as_published_too(cifar):
    """With BatchNorm, and dropout between the convolutions: as many parameters, and it learns."""
    made = SMALL["resnet_cifar"] | SIZES
    options = made | {"norm": "batch", "dropout": 0.1}
    sizes = [load_workload("resnet_cifar", o, cifar).layout.size for o in (made, options)]
    assert sizes[0] == sizes[1]
    training = {"batch_size": 16, "steps": 24, "evaluate_every": 24}
    training |= {"algorithm": {"kind": "adam", "learning_rate": 1e-2}}
    workload = {"source": "resnet_cifar", "options": options}
    machine = {"gpu": "a100-sxm4-80gb"}
    scenario = {"name": "bn", "workload": workload, "training": training, "machine": machine}
    losses = hybridsim.run(hybridsim.load(scenario), data=cifar).steps.train_loss
    assert losses[-6:].mean() < 0.9 * losses[:3].mean()


def test_a_score_depends_on_no_later_token():
    task = load_workload("gpt", SMALL["gpt"] | SIZES)
    parameters = task.layout.unflatten(task.initial_parameters(1) + 0.1)
    x = task.data.test_x[:4]
    for place in range(x.shape[1]):
        other = x.clone()
        other[:, place] = (other[:, place] + 1) % 12
        before, after = task.apply(parameters, x), task.apply(parameters, other)
        assert torch.allclose(before[:, :place], after[:, :place], atol=1e-6)
        assert (before[:, place:] - after[:, place:]).abs().amax(dim=(1, 2)).min() > 1e-6


def test_tokens_follow_a_chain_of_four_successors():
    data = load_workload(
        "gpt", {"vocabulary": 30, "sequence": 40, "train_size": 400, "test_size": 1}
    ).data
    x, y = data.train_x, data.train_y
    assert torch.equal(x[:, 1:], y[:, :-1]) and x.dtype == torch.int64
    counts = torch.zeros(30, 30).index_put_(
        (x.flatten(), y.flatten()), torch.ones(x.numel()), accumulate=True
    )
    assert (counts > 0).sum(dim=1).max() <= 4
    shares = counts / counts.sum(dim=1, keepdim=True)
    entropy = -(shares * shares.clamp(min=1e-9).log()).sum(dim=1)
    distinct = (counts > 0).sum(dim=1) == 4
    assert distinct.any() and entropy[distinct].mean() == pytest.approx(
        1.75 * math.log(2), abs=0.03
    )
    assert (counts.sum(dim=1) @ entropy / counts.sum()) <= 1.75 * math.log(2) + 0.02


def packed(graph):
    return torch.cat([part.flatten(1) for part in graph], dim=1)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**31), st.integers(4, 14))
def test_a_graph_has_no_order_and_its_padding_says_nothing(seed, nodes):
    torch.manual_seed(seed)
    graph, network = gnn._draw(3, nodes), gnn.Gnn(6, 2, 2, nodes, nodes + 2)
    expected = network(packed(graph))
    order = torch.randperm(nodes)  # node order[i] is called i now
    called = order.argsort().float()
    renamed = graph._replace(
        nodes=graph.nodes[:, order],
        node_mask=graph.node_mask[:, order],
        senders=called[graph.senders.long()],
        receivers=called[graph.receivers.long()],
    )
    assert torch.allclose(network(packed(renamed)), expected, atol=1e-4)
    noisy = graph._replace(
        nodes=graph.nodes + (1 - graph.node_mask) * torch.randn_like(graph.nodes),
        edges=graph.edges + (1 - graph.edge_mask) * torch.randn_like(graph.edges),
        senders=torch.where(
            graph.edge_mask > 0, graph.senders, torch.randint(nodes, graph.senders.shape).float()
        ),
    )
    assert torch.allclose(network(packed(noisy)), expected, atol=1e-4)


def test_padding_is_zero_where_layers_of_a_step_read_it_and_gets_no_gradient():
    torch.manual_seed(5)
    graph, network, seen = gnn._draw(4, 9), gnn.Gnn(6, 3, 2, 9, 11), []
    for step in network.steps:
        for update, mask in ((step.edge, graph.edge_mask), (step.node, graph.node_mask)):

            def keep(_, inputs, output, mask=mask):
                output.retain_grad()
                seen.append((inputs[0].detach(), output, 1 - mask))

            update[0].register_forward_hook(keep)
    network(packed(graph)).square().sum().backward()
    assert len(seen) == 6 and sum(float(padding.sum()) for *_, padding in seen) > 0
    for inputs, output, padding in seen:
        assert not (inputs * padding).any() and not (output.grad * padding).any()
        assert inputs.any() and output.grad.any()


def test_graphs_have_a_molecules_size():
    graph = gnn._draw(2000, 32)
    assert abs(graph.node_mask.sum(dim=(1, 2)).mean() - 26.0) < 0.5
    assert abs(graph.edge_mask.sum(dim=(1, 2)).mean() / 2 - 28.1) < 0.6
    real = graph.edge_mask[..., 0] > 0
    ends = torch.stack([graph.senders[..., 0], graph.receivers[..., 0]])
    assert (
        ends.amax(dim=0)[real] < graph.node_mask.sum(dim=1).expand(-1, real.shape[1])[real]
    ).all()
    assert (ends[0] != ends[1])[real].all()
    half = real.shape[1] // 2
    assert torch.equal(ends[:, :, :half], ends.flip(0)[:, :, half:])  # every bond both ways


def test_parameters_of_the_published_sizes():
    with torch.device("meta"):
        networks = {
            21_974_632: vit.Vit(14, 16, 384, 1536, 12, 6, 1000),
            100_809_216: gpt.Gpt(10_000, 768, 512, 12, 12),
            3_455_872: gnn.Gnn(256, 5, 128, 32, 34),
            272_474: resnet_cifar._network(16, 3, lambda n: nn.GroupNorm(4, n), 0.0),
        }
    for size, network in networks.items():
        assert sum(p.numel() for p in network.parameters()) == size


def test_patches_are_told_apart_by_their_positions_alone():
    network = vit.Vit(3, 2, 8, 8, 2, 2, 5)
    x = torch.rand(2, 3, 6, 6)
    swapped = torch.cat([x[..., 2:], x[..., :2]], dim=3)
    assert not torch.allclose(network(x), network(swapped), atol=1e-4)
    assert len(network.positions.unique(dim=0)) == 9
    network.positions.zero_()
    assert torch.allclose(network(x), network(swapped), atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(st.floats(-1, 1), st.floats(0, 1), st.integers(0, 2**31))
def test_the_correlation_after_a_leaky_layer_is_that_of_normal_numbers(before, slope, seed):
    u, other = torch.randn(2, 400_000, generator=torch.Generator().manual_seed(seed))
    v = before * u + (1 - before * before) ** 0.5 * other
    a, b = (torch.nn.functional.leaky_relu(side, slope) for side in (u, v))
    found = (a * b).mean() / (a.square().mean() * b.square().mean()).sqrt()
    assert mlp_cifar._correlation_after(before, slope) == pytest.approx(float(found), abs=0.01)


@given(st.integers(12, 200))
def test_the_slope_leaves_unrelated_inputs_with_the_correlation_asked_for(depth):
    correlation, slope = 0.0, mlp_cifar._slope(depth)
    for _ in range(depth):
        correlation = mlp_cifar._correlation_after(correlation, slope)
    assert 0 <= slope < 1 and correlation <= 0.9 + 1e-9
    assert slope == 0 or correlation == pytest.approx(0.9, abs=1e-6)


def test_fifty_layers_keep_the_size_of_the_signal():
    torch.manual_seed(0)
    x = torch.randn(64, 3072)
    ratio = mlp_cifar._network(50, 256)[:-1](x).square().mean() / x.square().mean()
    assert 0.3 < ratio < 3


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gpt", {"heads": 5}, "options.heads: expected a divisor of width 32, got 5"),
        ("gpt", {"vocabulary": 0}, "options.vocabulary: expected a whole number >= 1, got 0"),
        ("gpt", {"depth": True}, "options.depth: .* got True"),
        ("vit", {"patch": 5}, "options.patch: expected a divisor of image 16"),
        ("vit", {"width": 30, "heads": 1}, "options.width: expected a multiple of 4"),
        ("gnn", {"nodes": 3}, "options.nodes: expected at least 4 nodes"),
        ("gnn", {"steps": 1.5}, "options.steps: expected a whole number"),
        ("resnet_cifar", {"groups": 3}, "options.groups: expected a divisor of width 8"),
        ("resnet_cifar", {"norm": "layer"}, "options.norm: expected one of group, batch"),
        ("resnet_cifar", {"dropout": 1}, "options.dropout: expected a number from 0 to below 1"),
        (
            "resnet_cifar",
            {"train_size": 50_001},
            "options.train_size: expected a whole number from 1 to 50000",
        ),
        ("mlp_cifar", {"synthetic": "please"}, "options.synthetic: expected true or false"),
        ("mlp_cifar", {"depht": 3}, "did you mean 'depth'"),
    ],
)
def test_options_that_fit_no_network_are_refused(name, options, message):
    with pytest.raises(InputError, match=message):
        load_workload(name, options)
