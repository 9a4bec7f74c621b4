"""Whole steps of networks, and mean powers, that others measured: predicted against measured.

    HYBRIDSIM_DATA=... python -m analysis.gpu_model.whole

Nothing is fitted here. Steps of training include the input pipeline of whoever measured, which the
prediction leaves out; powers are predicted from the measured step time. ``results/gpu_whole.csv``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

import hybridsim
from analysis.gpu_model.networks import Kernels, forward, in_precision, step

RESULT = Path(__file__).parent / "results" / "gpu_whole.csv"
# samples of an epoch; of MovieLens-1M each interaction with four that did not happen
SAMPLES = {"cifar100": 50_000, "imagenet": 1_281_167, "movielens-1m": 5 * 994_169}


def main() -> None:
    """Predict, compare, write."""
    data = Path(os.environ["HYBRIDSIM_DATA"]) / "gpu"
    rows = pd.DataFrame([*passes(data), *training(data), *powers(data)])
    rows["ratio"] = rows.predicted / rows.measured
    RESULT.parent.mkdir(exist_ok=True)
    rows.to_csv(RESULT, index=False, float_format="%.4g")
    print(rows.to_string(index=False))
    for what, some in rows.groupby("what", sort=False):
        off = (some.ratio - 1).abs()
        print(
            f"{what}: median {off.median():.1%}, p90 {np.quantile(off, 0.9):.1%}, {len(some)} rows"
        )


def passes(data: Path) -> Iterator[dict[str, object]]:
    """Forward passes of transformers in FP32 (NeuSight, scripts/asplos/label)."""
    for _, row in pd.read_csv(data / "neusight_steps.csv").iterrows():
        kernels = forward(row.model, int(row.seq), int(row.batch))
        predicted = 1e3 * device_s("v100-pcie-32gb", kernels)
        yield line("FP32 pass, ms", row.device, row.model, row.batch, "fp32", row.fw_ms, predicted)


def training(data: Path) -> Iterator[dict[str, object]]:
    """Steps of training (NVIDIA/DeepLearningExamples; lambdal/deeplearning-benchmark)."""
    for _, row in pd.read_csv(data / "training_throughput.csv").iterrows():
        precision = str(row["dtype"])
        length = int(row.seq) if row.seq == row.seq else 0
        kernels = step(row.model, int(row.batch), length, half=precision == "amp")
        kernels = in_precision(kernels, "tf32" if precision == "tf32" else "fp32")
        what = f"training step in {'FP32' if precision == 'fp32' else 'TF32 or AMP'}, ms"
        predicted = 1e3 * device_s(row.device, kernels)
        yield line(what, row.device, row.model, row.batch, precision, row.step_ms, predicted)


def powers(data: Path) -> Iterator[dict[str, object]]:
    """Mean board powers at the highest limit (Zeus, research_reproducibility/zeus_nsdi23)."""
    rows = pd.read_csv(data / "zeus_power.csv")
    part = hybridsim.load_part("gpu", "v100-pcie-32gb")
    for _, row in rows[rows.power_limit_w == rows.power_limit_w.max()].iterrows():
        step_s = row.epoch_s * row.batch / SAMPLES[row.dataset]
        active_j = hybridsim.active_energy_j(part, step(row.model, int(row.batch)))
        most_w = part.value("active_share") * part.value("tdp_w")
        predicted = min(most_w, part.value("idle_w") + active_j / step_s)
        yield line(
            "mean power, W", row.device, row.model, row.batch, "fp32", row.average_w, predicted
        )


def device_s(part: str, kernels: Kernels) -> float:
    """Seconds on the device."""
    values = {k: c.value for k, c in hybridsim.load_part("gpu", part).constants.items()}
    return hybridsim.predicted_s(values, hybridsim.Measurement(kernels, 1.0, "step", ""))


def line(
    what: str,
    device: str,
    model: str,
    batch: float,
    precision: str,
    measured: float,
    predicted: float,
) -> dict[str, object]:
    """One row of the table."""
    return {
        "what": what, "device": device, "model": model, "batch": int(batch), "precision": precision,
        "measured": measured, "predicted": predicted,
    }  # fmt: skip


if __name__ == "__main__":
    main()
