"""What is measured is what is counted: closed forms, equal shapes on meta and on the processor."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.calibration.families import (
    DTYPES,
    FAMILIES,
    LAUNCH,
    Case,
    Rates,
    draw,
    kernels,
    operands,
)

RATES = Rates(1e9, 1e9, 1e9)
OPERATORS = [(name, op) for name, family in FAMILIES.items() for op in family.operators]
seeds = st.integers(0, 2**31)


def leaves(value):
    return [value] if isinstance(value, torch.Tensor) else [x for v in value for x in leaves(v)]


def small(family, data):
    kind = FAMILIES[family]
    sizes = tuple(data.draw(st.integers(1, min(most, 9))) for most in kind.most)
    return "x".join(map(str, kind.legal(sizes)))


@pytest.mark.parametrize(("family", "operator"), OPERATORS)
@given(data=st.data(), dtype=st.sampled_from(DTYPES))
@settings(max_examples=8)
def test_an_operator_computes_on_the_processor_what_is_counted_on_shapes(
    family, operator, data, dtype
):
    case = Case(family, operator, small(family, data), dtype)
    function, arguments = operands(case, "cpu")
    shapes, metas = operands(case, "meta")
    assert function is shapes
    got, expected = leaves(function(*arguments)), leaves(shapes(*metas))
    assert [(x.shape, x.dtype) for x in got] == [(x.shape, x.dtype) for x in expected]
    assert all(x.isfinite().all() for x in got if x.is_floating_point())
    assert all(x.device.type == "meta" for x in expected)
    found = kernels(case)
    assert found and all(k.bytes > 0 for k in found)
    assert {k.precision for k in found} == {"fp32" if dtype == "float32" else "fp64"}


@given(m=st.integers(1, 500), n=st.integers(1, 500), k=st.integers(1, 500), b=st.integers(1, 50))
def test_products_are_two_flop_per_multiply_add(m, n, k, b):
    for operator in ("mm", "linear"):
        (kernel,) = kernels(Case("product", operator, f"{m}x{n}x{k}", "float32"))
        assert kernel.flop == 2 * m * n * k
        bias = n if operator == "linear" else 0
        assert kernel.bytes == 4 * (m * k + k * n + m * n + bias)
    (kernel,) = kernels(Case("batched product", "bmm", f"{b}x{m}x{n}x{k}", "float64"))
    assert (kernel.flop, kernel.bytes) == (2 * b * m * n * k, 8 * b * (m * k + k * n + m * n))


@given(data=st.data())
def test_a_convolution_is_a_product_for_each_place(data):
    b, c, o = (data.draw(st.integers(1, 20)) for _ in range(3))
    kernel, stride = data.draw(st.sampled_from([1, 3, 5, 7])), data.draw(st.integers(1, 2))
    side = data.draw(st.integers(kernel, 40))
    shape = f"{b}x{c}x{o}x{side}x{kernel}x{stride}"
    places = ((side + 2 * (kernel // 2) - kernel) // stride + 1) ** 2
    forward = 2 * b * c * o * kernel**2 * places
    (found,) = kernels(Case("convolution", "convolution", shape, "float32"))
    assert found.flop == forward
    both = kernels(Case("convolution", "convolution backward", shape, "float32"))
    assert sum(found.flop * found.count for found in both) == 2 * forward + b * o * places


@given(seed=seeds, some=st.integers(1, 300), more=st.integers(0, 300))
@settings(max_examples=20)
def test_more_cases_of_a_seed_begin_with_the_same(seed, some, more):
    assert draw(some + more, seed, RATES, 0.05)[:some] == draw(some, seed, RATES, 0.05)


@given(seed=seeds, rate=st.floats(1e8, 1e12))
@settings(max_examples=10)
def test_no_case_is_larger_than_the_device_does_in_time(seed, rate):
    rates = Rates(rate, rate, 1e9)
    for case in draw(400, seed, rates, 0.05)[54:]:
        if case.family == "product":
            m, n, k = map(int, case.shape.split("x"))
            assert 2 * m * n * k <= 0.05 * rate
        if case.family == "factorisation":
            matrices, n = map(int, case.shape.split("x"))
            assert 100 * matrices * n**3 <= 0.05 * rate


def test_every_operator_is_called_on_one_element():
    launches = [case for case in draw(60, 0, RATES, 0.05) if case.family == LAUNCH]
    assert {(case.operator, case.dtype) for case in launches} == {
        (operator, dtype) for _, operator in OPERATORS for dtype in DTYPES
    }
    for case in launches:
        function, arguments = operands(case, "cpu")
        function(*arguments)
        assert sum(kernel.flop for kernel in kernels(case)) <= 10


def test_sizes_spread_over_orders_of_magnitude():
    found = draw(2000, 0, Rates(1e11, 1e10, 1e10), 0.05)
    flop = [
        2.0 * math.prod(map(int, case.shape.split("x")))
        for case in found
        if case.family == "product"
    ]
    decades = {int(math.log10(one)) for one in flop}
    assert decades >= set(range(1, 9))
    drawn = {(case.family, case.operator) for case in found if case.family != LAUNCH}
    assert drawn == set(OPERATORS)


@given(seed=seeds)
@settings(max_examples=10)
def test_what_is_held_out_follows_from_family_and_shape_alone(seed):
    found = draw(1000, seed, RATES, 0.05)
    sides: dict[tuple[str, str], set[bool]] = {}
    for case in found:
        sides.setdefault((case.family, case.shape), set()).add(case.held_out)
    assert all(len(side) == 1 for side in sides.values())
    drawn = [case.held_out for case in found if case.family != LAUNCH]
    assert 0.15 < sum(drawn) / len(drawn) < 0.35  # a quarter, within 6 standard deviations
