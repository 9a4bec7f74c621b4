"""Converters that no published design reaches are called that; those of the survey are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import hybridsim
from hybridsim.cli import app
from hybridsim.errors import CapacityError
from hybridsim.scenario.unbuildable import exists, unbuildable_parts


@pytest.mark.parametrize(
    ("bits", "rate_hz", "there"),
    [
        (12, 100e6, True),
        (13, 1e9, True),
        (14, 100e6, False),  # ENOB 13 > 12.96
        (16, 100e6, False),
        (16, 40e6, True),  # ENOB 15, ISSCC 2024
        (16, 41e6, False),
        (15, 60e6, True),
        (12, 0, True),
        (16, 0, False),  # no time at all
        (0, 1e6, False),  # ideal
    ],
)
def test_what_the_survey_holds(bits, rate_hz, there):
    assert exists(bits, rate_hz) == there


@given(st.integers(2, 16), st.integers(2, 16), st.floats(1e3, 1e10), st.floats(1e3, 1e10))
def test_a_slower_and_coarser_part_exists_where_a_better_one_does(bits, fewer, rate, slower):
    if exists(max(bits, fewer), max(rate, slower)):
        assert exists(min(bits, fewer), min(rate, slower))


def test_shipped_parts_exist_and_sixteen_bits_at_their_rate_do_not():
    for name in ("tngd-digits", "kfac-digits"):
        assert unbuildable_parts(hybridsim.load(name)) == []
        (text,) = unbuildable_parts(hybridsim.load(name, ["machine.spus.output_bits=16"]))
        assert text.startswith("rc-1us: 16-bit ADCs at 100 MHz: no such part exists")
    assert unbuildable_parts(hybridsim.load("kfac-digits-digital")) == []


def test_check_says_so():
    done = CliRunner().invoke(app, ["check", "tngd-digits", "--set", "machine.spus.output_bits=16"])
    assert done.exit_code == 0 and "unbuildable: rc-1us: 16-bit ADCs at 100 MHz" in done.output


def test_check_says_how_large_it_is_and_refuses_what_is_too_large():
    done = CliRunner().invoke(app, ["check", "tngd-digits"])
    assert done.exit_code == 0 and "size: rc-1us" in done.output and "5,679,360" in done.output
    limit = ["--set", "machine.spus.area_limit=858 mm2"]
    refused = CliRunner().invoke(app, ["check", "tngd-digits", *limit])
    assert isinstance(refused.exception, CapacityError) and "area_limit is 858" in str(
        refused.exception
    )
    fits = ["--set", "machine.spus.part=reticle-1us"]
    assert CliRunner().invoke(app, ["check", "tngd-digits", *limit, *fits]).exit_code == 0
