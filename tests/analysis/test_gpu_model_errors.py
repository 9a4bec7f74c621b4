"""The committed errors of the GPU model are as promised, and the shipped sheets give them."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

import hybridsim
from analysis.gpu_model.fit import GENERATIONS, RESULT, scored
from analysis.gpu_model.networks import forward, in_precision, step
from analysis.gpu_model.page import PAGE, filled
from analysis.gpu_model.whole import RESULT as WHOLE
from hybridsim.scenario.datasheets.sheets import part_names

PROMISED = {
    "matrix products": (0.10, 0.25),
    "element-wise": (0.08, 0.15),
    "normalisation, softmax": (0.20, 0.40),
    "convolution": (0.30, 0.75),
    "factorisation": (0.10, 0.25),
}


@pytest.mark.parametrize("family", PROMISED)
def test_errors_on_what_was_not_fitted_are_as_promised(family):
    rows = pd.read_csv(RESULT)
    (row,) = rows[(rows.family == family) & (rows.part == "all")].to_dict("records")
    median, p90 = PROMISED[family]
    assert row["median"] <= median and row["p90"] <= p90 and row["rows"] >= 50
    assert row["median"] < row["roofline_median"]


def test_whole_passes_and_powers_are_near_what_was_measured():
    rows = pd.read_csv(WHOLE)
    off = (rows.predicted / rows.measured - 1).abs()
    passes = off[rows.what.str.startswith("FP32 pass")]
    assert passes.median() <= 0.08 and passes.quantile(0.9) <= 0.15
    assert off[rows.what == "mean power, W"].median() <= 0.12


def test_every_fitted_generation_says_its_errors():
    for name in part_names("gpu"):
        sheet = hybridsim.load_part("gpu", name)
        fitted = [c for c in sheet.constants.values() if c.status == "fitted"]
        assert bool(fitted) == bool(sheet.checked) == (name != "host-cpu")
        assert all("rows of" in constant.source for constant in fitted)


def test_a_sheet_that_changes_what_was_fitted_says_nothing_of_errors(tmp_path):
    path = tmp_path / "mine.yaml"
    text = "kind: gpu\nextends: a100-sxm4-80gb\nconstants:\n  {}: {{value: {}, low: {}, high: {}, "
    text += 'status: assumed, source: "mine"}}\n'
    path.write_text(text.format("idle", *["10 W"] * 3))
    assert hybridsim.load_part("gpu", str(path)).checked
    path.write_text(text.format("contraction_efficiency", *[0.5] * 3))
    assert not hybridsim.load_part("gpu", str(path)).checked


@pytest.fixture(scope="module")
def measured():
    """Rows without dispatch that were not fitted: profiles of kernels, and means over loops."""
    rows = scored(Path(os.environ["HYBRIDSIM_DATA"]))
    rows = rows[~rows.fitting & rows.row.map(lambda row: not row.dispatch)]
    return rows.groupby(["device", "op", "dtype"], group_keys=False).head(60)


@pytest.mark.parametrize("generation", GENERATIONS[:2], ids=lambda g: g.sheet)
def test_the_shipped_sheets_predict_measurements(generation, measured):
    mine, ratios = measured[measured.device.isin(generation.parts)], []
    for device, row in zip(mine.device, mine.row, strict=True):
        part = hybridsim.load_part("gpu", generation.parts[device])
        values = {name: constant.value for name, constant in part.constants.items()}
        ratios.append(hybridsim.predicted_s(values, row) / row.measured_s)
    off = (pd.Series(ratios) - 1).abs()
    assert len(off) > 100 and off.median() < 0.16 and off.quantile(0.9) < 0.5


def test_networks_do_the_work_that_is_known_of_them():
    """ResNet-50: 4.09 G multiply-adds an image (its paper: 3.8 without the last layers' shortcut);
    a transformer 2 P FLOP a token and the scores' 4 L s d."""

    def flop(kernels):
        return sum(k.flop * k.count for k in kernels if k.matrix)

    assert flop(step("resnet50", 8)) == pytest.approx(8 * 3 * 2 * 4.09e9, rel=0.03)
    layers, d, length, vocabulary = 24, 1024, 512, 30522
    parameters = layers * 12 * d * d + vocabulary * d
    expected = length * (2 * parameters + 4 * layers * length * d)
    assert flop(forward("bert_large", length, 1)) == pytest.approx(expected, rel=0.01)
    tf32 = in_precision(forward("bert_large", 8, 1), "tf32")
    assert {k.precision for k in tf32 if k.matrix} == {"tf32"}
    assert {k.precision for k in step("bert_base_squad", 1, 8, half=True) if k.matrix} == {"fp16"}


def test_the_page_has_the_committed_tables():
    text = PAGE.read_text()
    assert filled(text) == text and text.count("| a100-pcie-40gb |") >= 4
