"""TF32, BF16 and FP16: operands of products, and nothing else, are rounded; runs in different
arithmetic share no counts, keys or facts."""

from __future__ import annotations

import math
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

import hybridsim
from hybridsim.algorithms.first_order.gradient import gradient
from hybridsim.errors import HybridsimError, InputError
from hybridsim.operations.arithmetic import IEEE, Arithmetic, contraction_precision, operands
from hybridsim.operations.backend import Live, Replay, Shapes, Timing, shapes_of
from hybridsim.operations.count import count
from hybridsim.operations.facts import FactStore
from hybridsim.operations.ref import Computation
from hybridsim.operations.rounding import rounded, rounding
from hybridsim.outcome import Outcome
from hybridsim.results.read import Run
from hybridsim.scenario.unused import unused_fields
from hybridsim.tasks.task import batch
from hybridsim.unread import load_shapes

# bits of mantissa, smallest normal exponent, exponent of the first power of two beyond all numbers
FORMATS = {"tf32": (10, -126, 128), "bf16": (7, -126, 128), "fp16": (10, -14, 16)}
TF32 = Arithmetic(tf32_matmul=True, tf32_convolution=True)
words = st.integers(0, 2**32 - 1)
seeds = st.integers(0, 2**31)


def nearest(number: float, form: str) -> float:
    """From the definition: the multiple of the last place that is nearest, ties to even."""
    mantissa, smallest, beyond = FORMATS[form]
    if number == 0 or not math.isfinite(number):
        return number
    place = 2.0 ** (max(math.frexp(number)[1] - 1, smallest) - mantissa)
    found = round(number / place) * place  # both exact in FP64; round takes ties to even
    return math.copysign(math.inf if abs(found) >= 2.0**beyond else abs(found), number)


def float_of(word: int) -> float:
    return struct.unpack("<f", struct.pack("<I", word))[0]


def word_of(number: float) -> int:
    return struct.unpack("<I", struct.pack("<f", number))[0]


@settings(max_examples=200)
@given(st.lists(words | st.floats(width=32).map(word_of), min_size=1))
@pytest.mark.parametrize("form", FORMATS)
def test_rounding_is_to_the_nearest_with_ties_to_even(form, found):
    """Any bits: normal, subnormal, infinite or no number; halfway cases among them."""
    mantissa = FORMATS[form][0]
    halves = [word & ~((1 << (23 - mantissa)) - 1) | 1 << (22 - mantissa) for word in found]
    numbers = [float_of(word) for word in found + halves]
    given_bits = torch.tensor([w - 2**32 if w >= 2**31 else w for w in found + halves])
    result = rounded(given_bits.to(torch.int32).view(torch.float32), form)
    assert result.dtype == torch.float32
    for number, one in zip(numbers, result.tolist(), strict=True):
        expected = nearest(number, form)
        assert one == expected or (math.isnan(one) and math.isnan(number))
        assert math.isnan(one) or math.copysign(1, one) == math.copysign(1, number)


@given(seeds, st.sampled_from(sorted(FORMATS)))
def test_strides_and_shapes_survive(seed, form):
    whole = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))
    for tensor in (whole, whole.T, whole[::2, 1:], whole[0, 0], whole[:0]):
        assert torch.equal(rounded(tensor, form), rounded(tensor.contiguous(), form))


# ---------------------------------------------------------------- products

PRODUCTS = {
    "mm": lambda a, b, c, r: (r(a) @ r(b)),
    "bmm": lambda a, b, c, r: torch.bmm(r(a)[None], r(b)[None])[0],
    "addmm": lambda a, b, c, r: torch.addmm(c, r(a), r(b), beta=0.5, alpha=2),
    "baddbmm": lambda a, b, c, r: torch.baddbmm(c[None], r(a)[None], r(b)[None])[0],
    "linear": lambda a, b, c, r: functional.linear(r(a), r(b).T, c[0]),
    "einsum": lambda a, b, c, r: torch.einsum("ij,jk->ik", r(a), r(b)),
    "addmm_": lambda a, b, c, r: c.clone().addmm_(r(a), r(b)),
}  # fmt: skip


def same(x):
    return x


def operands_of(seed, m=3, k=4, n=2):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator) for shape in ((m, k), (k, n), (m, n))]


@settings(max_examples=20)
@given(seeds, st.sampled_from(sorted(FORMATS)))
@pytest.mark.parametrize("name", PRODUCTS)
def test_factors_are_rounded_and_summands_are_not(name, seed, form):
    arithmetic = Arithmetic(tf32_matmul=True) if form == "tf32" else Arithmetic(amp=form)
    a, b, c = operands_of(seed)
    with rounding(arithmetic):
        found = PRODUCTS[name](a, b, c, same)
    assert torch.equal(found, PRODUCTS[name](a, b, c, lambda x: rounded(x, form)))
    assert not torch.equal(found, PRODUCTS[name](a, b, c, same))


def convolved(x, w, b, slopes, r=same):
    """Result, and gradients of input, weight and bias for the slopes of the result."""
    x, w = r(x), r(w)
    x, w, b = (t.detach().clone().requires_grad_() for t in (x, w, b))
    result = functional.conv2d(x, w, b, padding=1)
    return result.detach(), *torch.autograd.grad(result, (x, w, b), r(slopes))


@given(seeds, st.sampled_from(["tf32", "bf16"]))
def test_convolutions_round_forward_and_backward(seed, form):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((2, 3, 5, 5), (4, 3, 3, 3), (4,), (2, 4, 5, 5))
    tensors = [torch.randn(*shape, generator=generator) for shape in shapes]
    only = Arithmetic(tf32_convolution=True) if form == "tf32" else Arithmetic(amp=form)
    with rounding(only):
        found = convolved(*tensors)
    exact = convolved(*tensors, r=lambda t: rounded(t, form))
    assert all(torch.equal(f, e) for f, e in zip(found, exact, strict=True))
    with rounding(Arithmetic(tf32_matmul=True)):
        assert all(map(torch.equal, convolved(*tensors), convolved(*tensors)))
        plain = convolved(*tensors)
    assert all(map(torch.equal, plain, convolved(*tensors))), "matrix products alone"


@given(seeds)
def test_derivatives_of_a_product_are_rounded_too(seed):
    a, b, c = operands_of(seed)
    a.requires_grad_()
    with rounding(TF32):
        (found,) = torch.autograd.grad(a @ b, a, c)
        _, forward = torch.func.jvp(lambda x: x @ b, (a.detach(),), (a.detach() * 0.3,))
    assert torch.equal(found, rounded(c, "tf32") @ rounded(b, "tf32").T)
    assert torch.equal(forward, rounded(a.detach() * 0.3, "tf32") @ rounded(b, "tf32"))


@given(seeds)
def test_what_is_no_product_of_single_precision_is_left_alone(seed):
    a, b, _ = operands_of(seed, 4, 4, 4)
    spd = a @ a.T + torch.eye(4)

    def others():
        yield a * b, a + b, a.softmax(-1), a.sum(0), a.norm(), a[:, 0].dot(b[0])
        yield torch.linalg.cholesky(spd), torch.linalg.eigh(spd)[0], a.double() @ b.double()
        yield torch.linalg.solve_triangular(spd.tril(), b, upper=False), a.bfloat16() @ b.bfloat16()

    expected = [t for row in others() for t in row]
    with rounding(Arithmetic(True, True, "bf16")):
        found = [t for row in others() for t in row]
    assert all(map(torch.equal, found, expected))


@given(seeds)
def test_attention_is_rounded_inside(seed):
    generator = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(3, 1, 2, 4, 8, generator=generator)
    with rounding(TF32):
        found = functional.scaled_dot_product_attention(q, k, v)
    root = 8**-0.25
    scores = rounded(q * root, "tf32") @ rounded(k * root, "tf32").mT
    expected = rounded(scores.softmax(-1), "tf32") @ rounded(v, "tf32")
    assert torch.allclose(found, expected, rtol=1e-3, atol=2e-4)


@settings(max_examples=10)
@given(seeds)
@pytest.mark.parametrize(("form", "bits"), [("tf32", 11), ("bf16", 8), ("fp16", 11)])
def test_the_error_of_a_product_is_that_of_two_rounded_factors(form, bits, seed):
    """|ΔC| <= (2 u + u²) |A||B| for every entry, u = 2^-11 or 2^-8; its root mean square is what
    independent errors give, a third of u² for each factor at most."""
    arithmetic = Arithmetic(tf32_matmul=True) if form == "tf32" else Arithmetic(amp=form)
    a, b, _ = operands_of(seed, 40, 200, 40)
    with rounding(arithmetic):
        found = (a @ b).double()
    exact, unit = a.double() @ b.double(), 2.0**-bits
    bound = (2 * unit + unit**2 + 1e-5 * unit) * (a.double().abs() @ b.double().abs())
    assert bool(((found - exact).abs() <= bound + 1e-4 * unit).all())
    spread = (found - exact).square().mean().sqrt() / (unit * 200**0.5)
    assert 0.2 < float(spread) < (2 / 3) ** 0.5


# ---------------------------------------------------------------- what is priced


@pytest.mark.parametrize(
    ("arithmetic", "mm", "convolution", "mv"),
    [
        (IEEE, "fp32", "fp32", "fp32"),
        (Arithmetic(tf32_matmul=True), "tf32", "fp32", "fp32"),
        (Arithmetic(tf32_convolution=True), "fp32", "tf32", "fp32"),
        (Arithmetic(True, True, "bf16"), "bf16", "bf16", "bf16"),
        (Arithmetic(amp="fp16"), "fp16", "fp16", "fp16"),
    ],
)
def test_the_priced_precision_is_the_computed_one(arithmetic, mm, convolution, mv):
    single = torch.float32
    with arithmetic.in_force():
        for name in ("mm", "bmm", "addmm", "baddbmm_"):
            assert contraction_precision(f"aten.{name}", single) == mm
        for name in ("convolution", "convolution_backward"):
            assert contraction_precision(f"aten.{name}", single) == convolution
        assert contraction_precision("aten.mv", single) == mv
        for name in ("linalg_cholesky_ex", "_linalg_eigh", "mul", "dot", "cholesky_solve"):
            assert contraction_precision(f"aten.{name}", single) == "fp32"
        own = {torch.float64: "fp64", torch.bfloat16: "bf16", torch.float16: "fp16"}
        assert {t: contraction_precision("aten.mm", t) for t in own} == own
    assert contraction_precision("aten.mm", single) == "fp32"


@pytest.mark.parametrize("name", ["digits_mlp", "digits_cnn", "gpt", "vit"])
def test_every_product_of_a_network_is_known(name):
    """What is counted as a contraction is one that can be rounded."""
    task = load_shapes(hybridsim.load("adam-digits", [f"workload={name}"]))
    theta = torch.empty(task.layout.size, device="meta")
    data = batch(task.data, torch.arange(4))
    work, _ = count(gradient, (task, theta, data), {})
    products = {kernel.name for kernel in work.kernels if kernel.matrix}
    products = {".".join(name.split(".")[:2]) for name in products}  # gradients are launches
    assert products and all(operands(product) for product in products), products


# ---------------------------------------------------------------- backends and runs


def product(a, b) -> Outcome:
    return Outcome(a @ b, {"first": (a @ b)[0, 0]})


PRODUCT = Computation(product)


def refs(backend, a, b):
    return backend.root(a, "a"), backend.root(b, "b")


@given(seeds)
def test_only_the_gpu_rounds(seed):
    a, b, _ = operands_of(seed)
    backend = Live(b"", Shapes(TF32))
    args = refs(backend, a, b)
    assert torch.equal(backend.evaluate(PRODUCT, args, exact=True).value, a @ b)
    expected = rounded(a, "tf32") @ rounded(b, "tf32")
    assert torch.equal(backend.evaluate(PRODUCT, args).value, expected)


def test_arithmetic_is_part_of_keys_and_of_counts():
    kinds = [
        IEEE,
        TF32,
        Arithmetic(tf32_matmul=True),
        Arithmetic(amp="bf16"),
        Arithmetic(amp="fp16"),
    ]
    a, b, _ = operands_of(0)
    keys, shapes, task = set(), set(), object()
    for arithmetic in kinds:
        live, timing = (kind(b"", shapes_of(task, arithmetic)) for kind in (Live, Timing))
        found = live.evaluate(PRODUCT, refs(live, a, b)).key
        assert found == timing.evaluate(PRODUCT, refs(timing, a, b)).key
        keys.add(found)
        shapes.add(id(shapes_of(task, arithmetic)))
        assert shapes_of(task, arithmetic) is live.shapes
    assert len(keys) == len(shapes) == len(kinds)


def seen(a) -> Outcome:
    SEEN.append(contraction_precision("aten.mm", torch.float32))
    return Outcome(a @ a)


SEEN: list[str] = []


def test_counting_happens_under_the_runs_arithmetic():
    SEEN.clear()
    for arithmetic in (IEEE, TF32, Arithmetic(amp="fp16")):
        shapes = Shapes(arithmetic)
        shapes.count(Computation(seen), (shapes.meta(torch.ones(2, 2)),))
    assert SEEN == ["fp32", "tf32", "fp16"]


def test_what_fp16_does_not_hold_is_counted_live_and_replayed(tmp_path):
    a = torch.tensor([[1e5, 65519.0], [-65520.0, math.inf]])
    b = torch.ones(2, 1)
    store = FactStore(tmp_path / "facts")
    live = Live(b"", Shapes(Arithmetic(amp="fp16")), store)
    live.evaluate(PRODUCT, refs(live, a, b))
    assert live.overflowed == 2 * 2  # two products, each with 1e5 and -65520
    store.commit()
    replay = Replay(b"", Shapes(Arithmetic(amp="fp16")), store)
    replay.evaluate(PRODUCT, refs(replay, a, b))
    assert replay.overflowed == 4
    store.close()


def training(**changes):
    return {
        "extends": "adam-digits",
        "workload": {"source": "digits_mlp", "options": {"hidden": 6, "depth": 1}},
        "training": {"steps": 4, "evaluate_every": 2} | changes,
    }


def test_runs_of_different_arithmetic_do_not_mix():
    """In one process, one after the other: close to each other, and each as if alone."""
    kinds = [{}, {"tf32": {"matmul": True}}, {"amp": "bf16"}, {}]
    runs = [hybridsim.run(hybridsim.load(training(**kind))) for kind in kinds]
    digests = [run.manifest["digest"] for run in runs]
    assert digests[0] == digests[3] and len(set(digests)) == 3
    losses = [run.steps.test_loss.iloc[-1] for run in runs]
    assert 0 < abs(losses[1] - losses[0]) < abs(losses[2] - losses[0]) < 0.05
    said = ["\n".join(run.manifest["model_assumptions"]) for run in runs]
    assert "matrix products on the GPU are rounded to TF32" in said[1] and "BF16" in said[2]
    assert "rounded" not in said[0]


def test_an_overflow_is_an_event(tmp_path):
    algorithm = {"kind": "sgd", "learning_rate": 1e9}
    scenario = hybridsim.load(training(amp="fp16", algorithm=algorithm))
    with pytest.raises(HybridsimError):
        hybridsim.run(scenario, tmp_path / "run")
    events = Run.open(tmp_path / "run").events
    assert (events.kind == "overflow").any() and (events.kind == "non-finite").any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.precision": "float64", "training.amp": "bf16"}, "precision: expected float32"),
        (
            {"training.tf32.matmul": "true", "machine.gpu": "v100-sxm2-32gb"},
            "tf32.matmul: expected a GPU with a peak_tf32_flop_per_s above 0, got v100-sxm2-32gb",
        ),
        ({"training.amp": "int8"}, "training.amp"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        hybridsim.load("adam-digits", [f"{path}={value}" for path, value in changes.items()])


def test_tf32_beside_amp_is_said_to_be_unused():
    scenario = hybridsim.load("adam-digits", ["training.amp=bf16", "training.tf32.matmul=true"])
    assert unused_fields(scenario) == ["training.tf32.matmul (amp: bf16 takes all products)"]
