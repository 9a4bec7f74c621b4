from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import jvp
from torch.utils.flop_counter import FlopCounterMode

from hybridsim.algorithms import optimizers
from hybridsim.algorithms.first_order.gradient import gradient
from hybridsim.algorithms.natural_gradient.linearization import linearize
from hybridsim.algorithms.optimizers import adam, sgd
from hybridsim.errors import UnpricedError
from hybridsim.operations.count import count, signature, stage, to_meta
from hybridsim.outcome import Outcome
from hybridsim.scenario.settings import OPTIMIZERS
from hybridsim.tasks.layout import Layout
from hybridsim.tasks.task import Data, Workload, as_task, batch, load_workload

sizes = st.integers(2, 9)


def matrix_flop(work):
    return sum(k.flop * k.count for k in work.kernels if k.matrix)


def vector_kernels(work):
    return [k for k in work.kernels if not k.matrix]


def task_of(network, x, outputs):
    y = torch.arange(len(x)) % outputs
    return as_task("counted", Workload(network, Data(x, y, x, y), "cross_entropy"))


def mlp(batch_size, widths):
    def network():
        pairs = zip(widths, widths[1:], strict=False)
        return nn.Sequential(*[m for n, k in pairs for m in (nn.Linear(n, k), nn.Tanh())][:-1])

    return task_of(network, torch.randn(batch_size, widths[0]), widths[-1])


def forward(task, theta, x):
    return Outcome(task.apply(task.layout.unflatten(theta), x))


@settings(deadline=None, max_examples=10)
@given(st.integers(2, 9), st.lists(st.integers(2, 9), min_size=3, max_size=4))
def test_mlp_flop_are_the_closed_forms(b, widths):
    """Forward 2bΣnm; the gradient as much for weights and for inputs, less the first layer's; the
    Jacobian does both for d_z rows per example, and its gradient is one product rᵀJ more."""
    task = mlp(b, widths)
    theta, examples = task.initial_parameters(0), batch(task.data, torch.arange(b))
    products = [2 * b * n * m for n, m in zip(widths, widths[1:], strict=False)]
    run, _ = count(forward, (task, theta, examples[0]), {})
    assert matrix_flop(run) == sum(products)
    run, value = count(gradient, (task, theta, examples), {})
    assert matrix_flop(run) == 3 * sum(products) - products[0]
    assert value.value.shape == (task.layout.size,)
    run, value = count(linearize, (task, theta, examples), {"curvature": "ggn"})
    rows, d = b * widths[-1], widths[-1]
    backward = d * (2 * sum(products) - products[0])
    assert matrix_flop(run) == sum(products) + backward + 2 * rows * task.layout.size
    assert value.value.jacobian.shape == (rows, task.layout.size)
    run, _ = count(linearize, (task, theta, examples), {"curvature": "empirical_fisher"})
    assert matrix_flop(run) == 3 * sum(products) - products[0]


@settings(deadline=None, max_examples=10)
@given(
    st.integers(2, 6), st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(2, 5)
)
def test_cnn_flop_are_the_closed_forms(b, c0, c1, c2, outputs):
    """Two convolutions 3x3 on 8x8 without padding, then a dense layer: every tap once per output
    pixel."""

    def network():
        return nn.Sequential(
            nn.Conv2d(c0, c1, 3),
            nn.Tanh(),
            nn.Conv2d(c1, c2, 3),
            nn.Flatten(),
            nn.Linear(c2 * 16, outputs),
        )

    task = task_of(network, torch.randn(b, c0, 8, 8), outputs)
    theta, examples = task.initial_parameters(0), batch(task.data, torch.arange(b))
    parts = [2 * b * c1 * c0 * 9 * 36, 2 * b * c2 * c1 * 9 * 16, 2 * b * c2 * 16 * outputs]
    run, _ = count(forward, (task, theta, examples[0]), {})
    assert matrix_flop(run) == sum(parts)
    biases = b * (c1 * 36 + c2 * 16)  # summed inside the convolutions' backward kernel
    run, _ = count(gradient, (task, theta, examples), {})
    slack = matrix_flop(run) - (3 * sum(parts) - parts[0])
    assert 0 <= slack <= biases
    run, _ = count(linearize, (task, theta, examples), {"curvature": "ggn"})
    expected = (
        sum(parts) + outputs * (2 * sum(parts) - parts[0]) + 2 * b * outputs * task.layout.size
    )
    assert 0 <= matrix_flop(run) - expected <= outputs * biases


@given(st.integers(1, 40), st.integers(1, 40))
def test_views_are_free_and_elementwise_work_is_exact(n, m):
    def views(x):
        return x.T.reshape(m, n)[:, :1].expand(m, 5).unsqueeze(0).detach()

    run, value = count(views, (torch.randn(n, m),), {})
    assert run.kernels == () and run.bytes == 0 and value.shape == (1, m, 5)
    run, _ = count(lambda x, y: torch.tanh(x + y), (torch.randn(n, m), torch.randn(m)), {})
    add, tanh = run.kernels
    assert (add.flop, add.bytes) == (n * m, 4 * (2 * n * m + m))
    assert (tanh.flop, tanh.bytes) == (n * m, 8 * n * m)
    assert not add.matrix and run.launches == 2 and run.flop == 2 * n * m


def test_copies_selections_and_fills():
    x, index = torch.randn(100, 10), torch.tensor([3, 5])
    run, _ = count(lambda x, i: x[i], (x, index), {})
    assert (run.flop, run.bytes) == (0, 2 * 80 + 16)  # not the whole table
    run, _ = count(lambda x: x.T.contiguous(), (x,), {})
    assert (run.flop, run.bytes) == (0, 8000)
    run, _ = count(lambda x: x.clone().zero_(), (x,), {})
    assert run.bytes == 8000 + 4000  # an overwritten operand is not read
    run, _ = count(lambda x: torch.empty_like(x), (x,), {})
    assert run.launches == 0 and run.peak_bytes == 8000
    run, _ = count(lambda x: x[:, :1].expand(100, 10).sum(), (x,), {})
    assert (run.flop, run.bytes) == (1000, 400 + 4)  # a broadcast dimension is read once
    run, _ = count(lambda x: x * x, (x,), {})
    assert run.bytes == 8000  # read once, written once


def test_equal_launches_are_one_kernel_with_a_count():
    run, _ = count(lambda x: x.sin().sin().sin().cos(), (torch.randn(7),), {})
    assert sorted((k.name, k.count) for k in run.kernels) == [("aten.cos", 1), ("aten.sin", 3)]


@given(sizes, sizes, sizes, sizes)
def test_contractions(b, n, m, k):
    cases = [
        (lambda x, y: x @ y, ((n, m), (m, k)), 2 * n * m * k),
        (lambda x, y: x @ y, ((b, n, m), (b, m, k)), 2 * b * n * m * k),
        (lambda x, y: x @ y, ((n, m), (m,)), 2 * n * m),
        (torch.dot, ((n,), (n,)), 2 * n),
        (lambda x, y: torch.einsum("bn,bm->nm", x, y), ((b, n), (b, m)), 2 * b * n * m),
    ]
    for fn, shapes, flop in cases:
        run, _ = count(fn, tuple(torch.randn(s, dtype=torch.float64) for s in shapes), {})
        assert matrix_flop(run) == flop
        assert {kernel.precision for kernel in run.kernels} == {"fp64"}
    run, _ = count(
        lambda x, y: x @ y, (torch.randn(n, m).bfloat16(), torch.randn(m, k).bfloat16()), {}
    )
    assert run.kernels[0].precision == "bf16"


def staged(x, names):
    """A sine, then a cosine of x in each named stage."""
    x = x.sin()
    for name in names:
        stage(name)
        x = x.cos()
    return Outcome(x)


@given(st.lists(st.sampled_from("abc"), max_size=6))
def test_stages_add_up_in_order_of_appearance(names):
    """What precedes the first name counts to it; a name may come back; without names there are no
    stages."""
    run, _ = count(staged, (torch.randn(7),), {"names": tuple(names)})
    assert run.launches == 1 + len(names) and run.flop == 7 * run.launches
    assert [name for name, _ in run.stages] == list(dict.fromkeys(names))
    for k, (name, part) in enumerate(run.stages):
        assert part.launches == names.count(name) + (k == 0) and part.flop == 7 * part.launches
        assert part.bytes == 56 * part.launches and part.stages == ()


def test_a_stage_without_work_is_there():
    run, _ = count(lambda x: (stage("none"), stage("all"), x + 1)[2], (torch.ones(3),), {})
    assert [(name, part.launches) for name, part in run.stages] == [("none", 0), ("all", 1)]


def test_an_inverse_counts_where_it_is_finished():
    def inverse(x):
        stage("factor")
        factor = torch.linalg.cholesky(x)
        stage("invert")
        return torch.cholesky_inverse(factor)

    run, _ = count(inverse, (torch.eye(30, dtype=torch.float64),), {})
    parts = dict(run.stages)
    assert not [k for k in parts["factor"].kernels if k.routine != "stream"]
    (kernel,) = [k for k in parts["invert"].kernels if k.routine != "stream"]
    assert kernel.routine == "inverse" and abs(kernel.flop - 30**3) < 1e-6
    assert sum(part.flop for part in parts.values()) == run.flop


def test_stages_reach_into_backward_hooks():
    """Named when a gradient arrives: the product that follows belongs to it."""

    def slope(x, y):
        stage("forward")
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            h = x @ y
            h.register_hook(lambda _: stage("backward"))
            loss = h.sum()
        return torch.autograd.grad(loss, x)[0]

    run, _ = count(slope, (torch.randn(3, 4), torch.randn(4, 5)), {})
    parts = dict(run.stages)
    assert list(parts) == ["forward", "backward"]
    assert matrix_flop(parts["forward"]) == matrix_flop(parts["backward"]) == 2 * 3 * 4 * 5


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 6))
def test_factorisations_and_solves_are_closed_forms(n, matrices, columns):
    """One launch for a batch; a factor that is inverted is one SPD inverse of n³."""
    many = torch.zeros(matrices, n, n, dtype=torch.float64)
    right = torch.zeros(matrices, n, columns, dtype=torch.float64)

    def special(fn, *args):
        run, _ = count(fn, args, {})
        (kernel,) = [k for k in run.kernels if k.routine != "stream"]
        assert kernel.precision == "fp64" and kernel.count == 1
        assert not matrix_flop(run)
        return kernel.routine, kernel.shape, kernel.flop / matrices

    about, lower = pytest.approx, {"upper": False}
    assert special(torch.linalg.cholesky, many) == ("cholesky", (matrices, n), about(n**3 / 3))
    inverse = special(lambda a: torch.cholesky_inverse(torch.linalg.cholesky(a)), many)
    assert inverse == ("inverse", (matrices, n), about(n**3))
    assert special(torch.linalg.inv, many) == ("inverse", (matrices, n), about(2 * n**3))
    assert special(lambda a: torch.linalg.eigh(a)[1], many)[0:2] == ("eigh", (matrices, n))
    assert special(torch.linalg.lu_factor, many) == ("lu", (matrices, n), about(2 / 3 * n**3))
    found = special(torch.linalg.solve, many, right)
    assert found == ("lu", (matrices, n), about(2 / 3 * n**3 + 2 * n * n * columns))
    tall = torch.zeros(matrices, n + 3, n, dtype=torch.float64)
    found = special(torch.linalg.qr, tall)
    assert found == ("qr", (matrices, n), about(4 * n * n * (n + 3 - n / 3)))
    solve = ("triangular", (matrices, n, columns))
    found = special(lambda a, b: torch.cholesky_solve(b, a), many, right)
    assert found == (*solve, 2 * n * n * columns)
    found = special(lambda a, b: torch.linalg.solve_triangular(a, b, **lower), many, right)
    assert found == (*solve, n * n * columns)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 30), st.integers(1, 4))
def test_products_are_known_by_their_shape(m, n, k, b):
    a, c = torch.zeros(m, k), torch.zeros(k, n)
    for fn, args, shape in (
        (torch.mm, (a, c), (1, m, n, k)),
        (torch.addmm, (torch.zeros(n), a, c), (1, m, n, k)),
        (torch.bmm, (torch.zeros(b, m, k), torch.zeros(b, k, n)), (b, m, n, k)),
        (torch.mv, (a, torch.zeros(k)), (1, m, 1, k)),
        (torch.dot, (torch.zeros(k), torch.zeros(k)), (1, 1, 1, k)),
    ):
        (kernel,) = count(fn, args, {})[0].kernels
        assert (kernel.routine, kernel.shape) == ("contraction", shape)
        assert kernel.flop == 2 * math.prod(shape)


@settings(deadline=None)
@given(
    st.integers(1, 3),
    st.sampled_from([1, 2]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 2),
    st.booleans(),
)
def test_a_convolution_and_its_gradients_count_every_tap(b, groups, c, o, kernel, stride, bias):
    """Against torch's own formula for the forward pass; each gradient does as much."""
    x = torch.zeros(b, groups * c, 9, 8)
    weight = torch.zeros(groups * o, c, kernel, kernel)

    def forward(x, weight):
        return torch.nn.functional.conv2d(x, weight, None, stride, 1, 1, groups)

    with FlopCounterMode(display=False) as counter:
        out = forward(x, weight)
    (found,) = count(forward, (x, weight), {})[0].kernels
    assert found.flop == counter.get_total_flops()
    assert found.shape[-4:-2] == tuple(out.shape[2:]) and found.shape[1] == groups

    def backward(gradient, x, weight):
        operator = torch.ops.aten.convolution_backward
        sizes, s = [groups * o], [stride, stride]
        mask = [True, True, bias]
        return operator(gradient, x, weight, sizes, s, [1, 1], [1, 1], False, [0, 0], groups, mask)

    kernels = count(backward, (out, x, weight), {})[0].kernels
    assert [k.shape[0] for k in kernels if k.matrix] == [1, 2]
    assert [k.flop for k in kernels if k.matrix] == [found.flop] * 2
    assert len(kernels) == 2 + bias


@pytest.mark.parametrize(
    "fn", [torch.linalg.svd, torch.linalg.eigvals, torch.linalg.matrix_exp, torch.linalg.pinv]
)
def test_an_operator_without_a_price_is_refused_by_name(fn):
    with pytest.raises(UnpricedError, match=r"the operator aten\.\w+ has no price"):
        count(fn, (torch.eye(4),), {})


def test_operators_on_lists_in_place_and_primitives_have_a_price():
    def foreach(a, b):
        return torch._foreach_add(torch._foreach_mul([a, b], 2.0), [b, a])

    run, _ = count(foreach, (torch.zeros(4), torch.zeros(4)), {})
    assert [(k.name, k.bytes) for k in run.kernels] == [
        ("aten._foreach_mul", 64),
        ("aten._foreach_add", 96),
    ]
    run, _ = count(lambda x: torch.ops.prims.mul(x, x), (torch.zeros(4),), {})
    assert run.bytes == 32


def test_numbers_in_forward_mode_move_to_the_device_for_next_to_nothing():
    """As in a scaled product of attention: NGD by conjugate gradients on a transformer."""

    def tangent(x):
        return jvp(lambda v: 0.3 * v, (x,), (x,))[1]

    run, _ = count(tangent, (torch.zeros(1000),), {})
    moved = [k for k in run.kernels if k.name == "aten.to"]
    assert moved and sum(k.bytes * k.count for k in moved) < 100


def test_reductions_count_every_pass_over_memory():
    """Rows of up to 1,024 are read once; longer ones twice (LayerNorm, softmax), and written."""
    for columns, passes in ((1024, 2), (1025, 3)):
        x = torch.zeros(5, columns)
        for fn in (
            lambda t: torch.softmax(t, dim=-1),
            lambda t: torch.nn.functional.layer_norm(t, t.shape[1:]),
        ):
            (kernel,) = count(fn, (x,), {})[0].kernels
            assert kernel.bytes == passes * 4 * x.numel() and kernel.routine == "stream"


def test_peak_memory_by_hand():
    """x (1000 floats) stays; y = 2x and z = y + 1 live together, then y dies before the wide one is
    made."""

    def steps(x):
        y = x * 2
        z = y + 1
        del y
        wide = z.repeat(3)
        return wide[:10] + 0

    run, value = count(steps, (torch.zeros(1000),), {})
    assert run.peak_bytes == 4000 * (1 + 1 + 3) + 40  # x, z, wide, result
    assert run.largest == ("aten.repeat", (3000,), 12000)
    assert value.shape == (10,)
    run, _ = count(lambda x: x.sin().cos().tan(), (torch.zeros(1000),), {})
    assert run.peak_bytes == 4000 * 3  # never more than one temporary besides the result


def test_memory_counts_arguments_and_network_constants_once():
    def network():
        model = nn.Sequential(nn.Linear(10, 20, bias=False), nn.Linear(20, 2, bias=False))
        model[0].requires_grad_(False)
        return model

    x = torch.randn(5, 10)
    task = task_of(network, x, 2)
    run, _ = count(forward, (task, task.initial_parameters(0), x), {})
    assert run.peak_bytes == 4 * (5 * 10 + 40 + 200 + 5 * 20 + 5 * 2)
    run, _ = count(lambda x, y: x + y, (x, x), {})
    assert run.peak_bytes == 3 * 200  # two arguments are two tensors
    run, _ = count(lambda pair: pair[0] + pair[1], ((x, x),), {})
    assert run.peak_bytes == 2 * 200


def test_a_saved_activation_stays_alive_until_its_backward():
    """exp saves its result: x, exp(x), the sum's slope and the gradient's product."""
    run, _ = count(torch.func.grad(lambda x: x.exp().exp().sum()), (torch.zeros(1000),), {})
    assert run.peak_bytes >= 4000 * 4
    assert run.flop == pytest.approx(5000)  # exp, exp, sum; two products


@dataclass(frozen=True)
class Pair:
    left: Tensor
    right: tuple[Tensor, int]


def test_meta_goes_into_pytrees_and_signatures_ignore_data():
    pair = Pair(torch.randn(2, 3).T, (torch.zeros(4, dtype=torch.int64), 7))
    meta = to_meta({"a": [pair, None]})["a"][0]
    assert meta.left.shape == (3, 2) and meta.left.stride() == (1, 3) and meta.right[1] == 7
    assert meta.left.device.type == meta.right[0].device.type == "meta"
    same = Pair(torch.randn(2, 3).T, (torch.ones(4, dtype=torch.int64), 8))
    other = Pair(torch.randn(3, 2), (torch.ones(4, dtype=torch.int64), 8))
    assert signature((pair, None), {"a": 1}) == signature((same, None), {"a": 1})
    assert signature((pair,), {}) != signature((other,), {}) and signature(
        (pair,), {"a": 1}
    ) != signature((pair,), {})
    assert signature((meta,), {}) == signature((pair,), {})
    hash(signature(({"a": [pair]},), {"b": "c"}))


@pytest.mark.parametrize("name", ["digits_cnn", "digits_mlp"])
def test_what_the_gpu_runs_gives_the_shapes_that_it_really_has(name):
    task = load_workload(name, {})
    theta, examples = task.initial_parameters(0), batch(task.data, torch.arange(6))
    slope = torch.zeros_like(theta)
    calls = [(gradient, (task, theta, examples), {}), (linearize, (task, theta, examples), {}),
             (linearize, (task, theta, examples), {"curvature": "empirical_fisher"})]  # fmt: skip
    keywords = {"layout": task.layout, "learning_rate": 0.1}
    for kind in OPTIMIZERS:
        module = optimizers.optimizer(kind)
        state = module.start(theta, layout=task.layout)
        calls.append((module.update, (theta, state, slope), keywords))
    for fn, args, options in calls:
        work, shapes = count(fn, args, options)
        real = fn(*args, **options)
        assert signature((shapes.value,), {}) == signature((real.value,), {})
        assert work.flop > 0 and work.launches < 200


def test_optimizer_bytes():
    """SGD reads two vectors and writes one; Adam's moments and update are counted operator by
    operator."""
    theta = torch.zeros(1000)
    layout = Layout(("p",), ((1000,),))
    keywords = {"layout": layout, "learning_rate": 0.1}
    run, _ = count(sgd.update, (theta, sgd.start(theta, layout=layout), theta), keywords)
    assert (run.flop, run.bytes, run.launches) == (1000, 12000, 1)
    run, _ = count(adam.update, (theta, adam.start(theta, layout=layout), theta), keywords)
    assert run.launches == 7 and run.bytes == 4000 * (3 + 2 + 3 + 2 + 2 + 2 + 4)
