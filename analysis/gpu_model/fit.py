"""Fits the GPU model's constants to public measurements and tells its errors on the rest.

    HYBRIDSIM_DATA=... python -m analysis.gpu_model.fit [--write]

One half of the rows, by a hash of operator and shape, is for fitting (at most 150 of each operator
and device), the other for checking. Rows that time the host's dispatch are left out. Constants are
fitted for each generation of cards; ``--write`` puts them into the sheets that cards extend. The
errors, beside those of a plain roofline, go to ``results/gpu_model.csv``.
"""

from __future__ import annotations

import argparse
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

import hybridsim
from analysis.gpu_model.rows import FLOORS, measurement, table

HERE = Path(__file__).parent
SHEETS = HERE.parent.parent / "models" / "parts" / "gpus"
RESULT = HERE / "results" / "gpu_model.csv"
MOST = 150
PRODUCTS = [
    "contraction_efficiency",
    "tile_half_efficiency",
    "tile_quarter_efficiency",
    "tile_narrow_efficiency",
    "tile_small_efficiency",
    "tile_prologue_s",
    "contraction_bandwidth_efficiency",
    "tensor_efficiency",
    "tensor_tile_half_efficiency",
    "tensor_tile_quarter_efficiency",
    "tensor_tile_narrow_efficiency",
    "tensor_tile_small_efficiency",
]
CONVOLUTIONS = ["convolution_efficiency", "winograd_efficiency"]
FACTORISATIONS = [
    "cholesky_floor_s",
    "cholesky_step_s",
    "factorisation_block_s",
    "batch_efficiency",
]
SOURCES = {
    "bandwidth": "element-wise operators (NeuSight, scripts/asplos/data/dataset)",
    "tensor": "16-bit products (Vidur, data/profiling/compute; DeepBench, results/train)",
    "contraction_floor": "16-bit products (Vidur, data/profiling/compute)",
    "convolution": "convolutions (NeuSight, scripts/asplos/data/dataset; DeepBench, results/train)",
    "winograd": "convolutions (NeuSight, scripts/asplos/data/dataset; DeepBench, results/train)",
    "cholesky": "torch.linalg.cholesky FP64 (xwang233/code-snippet, linalg)",
    "batch": "batches of torch.linalg.cholesky FP64 (xwang233/code-snippet, linalg)",
    "factorisation": "torch.linalg.cholesky FP64 (xwang233/code-snippet, linalg)",
    "": "matrix products (NeuSight, scripts/asplos/data/dataset; DeepBench, results/train)",
}
UNITS = {"_s": ("us", 1e-6)}


class Generation(NamedTuple):
    """Cards that share what is fitted: name in the table of measurements -> part."""

    sheet: str
    parts: dict[str, str]
    free: list[str]


GENERATIONS = (
    Generation(
        "_volta",
        {"v100-pcie-32gb": "v100-pcie-32gb", "v100-sxm2-16gb": "v100-sxm2-16gb"},
        ["bandwidth_efficiency", *PRODUCTS, *CONVOLUTIONS, "convolution_floor_s"],
    ),
    Generation(
        "_ampere",
        {
            "a100-pcie-40gb": "a100-pcie-40gb",
            "a100-pcie-80gb": "a100-pcie-80gb",
            "a100": "a100-sxm4-80gb",
        },
        ["bandwidth_efficiency", *PRODUCTS, "contraction_floor_s", *CONVOLUTIONS, *FACTORISATIONS],
    ),
    Generation(
        "_hopper",
        {"h100-sxm5-80gb": "h100-sxm5-80gb", "h100": "h100-sxm5-80gb"},
        ["contraction_efficiency", "tensor_efficiency"],
    ),
)


def main() -> None:
    """Fit, check, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the constants into the sheets")
    asked = parser.parse_args()
    rows = scored(Path(os.environ["HYBRIDSIM_DATA"]))
    found = []
    for generation in GENERATIONS:
        mine = rows[rows.device.isin(generation.parts)]
        result, start = fitted(generation, mine)
        if asked.write:
            write(generation.sheet, result, len(mine))
        found.append(checked(generation, mine, result, start))
    everything = pd.concat(found, ignore_index=True)
    errors = summary(everything)
    RESULT.parent.mkdir(exist_ok=True)
    errors.to_csv(RESULT, index=False, float_format="%.4g")
    print(errors.to_string(index=False))
    print(worst(everything).to_string(index=False))


def scored(data: Path) -> pd.DataFrame:
    """Rows that time the device, with their measurements, whether they are for fitting, sizes."""
    rows = table(data)
    floor = rows.groupby(["file", "device", "op"]).measured_us.transform("min")
    timed = rows.source.str.startswith("neusight-train") & (rows.measured_us < FLOORS * floor)
    timed |= rows.op.str.endswith("_bw") & (rows.measured_us < FLOORS * 20)
    rows = rows[~timed].copy()
    rows["row"] = pd.Series([measurement(row) for _, row in rows.iterrows()], rows.index, object)
    rows = rows[rows.row.notna()]
    names = rows.op + rows["shape"] + rows["dtype"]
    rows["fitting"] = [zlib.crc32(name.encode()) % 2 == 0 for name in names]
    rows["size"] = pd.cut(
        rows.measured_us, [0, 100, 1000, 1e9], labels=["< 0.1 ms", "0.1 to 1 ms", "> 1 ms"]
    )
    return rows


def fitted(
    generation: Generation, rows: pd.DataFrame
) -> tuple[hybridsim.Fit, dict[str, dict[str, float]]]:
    """The fit, and each device's constants before it."""
    sheets = {
        name: {key: c.value for key, c in hybridsim.load_part("gpu", part).constants.items()}
        for name, part in generation.parts.items()
    }
    chosen = rows[rows.fitting].groupby(["device", "op"], group_keys=False).head(MOST)
    start = next(iter(sheets.values())) | before(generation.free)
    own = {
        name: {k: v for k, v in values.items() if k not in generation.free}
        for name, values in sheets.items()
    }
    return hybridsim.fit(start, list(chosen.row), generation.free, own), sheets


def before(free: list[str]) -> dict[str, float]:
    """What the free constants are where nothing has been fitted yet: those of ``_digital.yaml``."""
    text = (SHEETS / "_digital.yaml").read_text()
    found = re.findall(r"^  (\w+): \{value: ([\d.]+)( us| ms)?,", text, re.MULTILINE)
    scale = {"": 1.0, " us": 1e-6, " ms": 1e-3}
    values = {f"{key}_s" if unit else key: float(n) * scale[unit] for key, n, unit in found}
    return {name: values[name] for name in free}


def checked(
    generation: Generation,
    rows: pd.DataFrame,
    result: hybridsim.Fit,
    sheets: Mapping[str, Mapping[str, float]],
) -> pd.DataFrame:
    """The rows that were not fitted, with what model and roofline say."""
    rest = rows[~rows.fitting].copy()
    predictions, plain = [], []
    for _, row in rest.iterrows():
        dispatch_s = result.dispatch_s.get(row.row.dispatch, 0.0)
        constants = result.over(sheets[row.device])
        predictions.append(hybridsim.predicted_s(constants, row.row, dispatch_s))
        plain.append(roofline_s(sheets[row.device], row.row) + dispatch_s)
    measured = rest.measured_us * 1e-6
    return rest.assign(
        family=[row.family for row in rest.row],
        ratio=np.array(predictions) / measured,
        plain=np.array(plain) / measured,
        part=[generation.parts[device] for device in rest.device],
    )


def roofline_s(constants: Mapping[str, float], row: hybridsim.Measurement) -> float:
    """max(FLOP / (0.75 peak), bytes / (0.85 bandwidth)) for each launch: what is compared with."""
    peaks = {"fp32": "fp32", "fp64": "fp64", "tf32": "tf32", "bf16": "bf16", "fp16": "bf16"}
    total = 0.0
    for kernel in row.kernels:
        compute = kernel.flop / (0.75 * constants[f"peak_{peaks[kernel.precision]}_flop_per_s"])
        memory = kernel.bytes / (0.85 * constants["memory_bandwidth_byte_per_s"])
        total += kernel.count * max(compute, memory)
    return total


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Errors |predicted / measured - 1| by family, device, precision and size, and over all."""

    def lines() -> Iterator[dict[str, object]]:
        for keys in (["family"], ["family", "part", "dtype"], ["family", "part", "dtype", "size"]):
            for _, some in rows.groupby(keys, observed=True):
                error, plain = (some.ratio - 1).abs(), (some.plain - 1).abs()
                yield {key: some[key].iloc[0] if key in keys else "all" for key in
                       ("family", "part", "dtype", "size")} | {
                    "rows": len(some), "median": error.median(), "p90": error.quantile(0.9),
                    "bias": some.ratio.median() - 1,
                    "roofline_median": plain.median(), "roofline_p90": plain.quantile(0.9),
                }  # fmt: skip

    return pd.DataFrame(lines())


def worst(rows: pd.DataFrame) -> pd.DataFrame:
    """The largest misses of each family."""
    rows = rows.assign(off=np.log(rows.ratio).abs()).sort_values("off", ascending=False)
    columns = ["family", "device", "op", "shape", "dtype", "measured_us", "ratio"]
    return rows.groupby("family").head(4)[columns]


def write(sheet: str, result: hybridsim.Fit, number: int) -> None:
    """Put fitted constants between the marks of a generation's sheet."""
    path, lines = SHEETS / f"{sheet}.yaml", []
    for name, found in result.constants.items():
        key, unit, scale = (name[:-2], " us", 1e-6) if name.endswith("_s") else (name, "", 1.0)
        value, low, high = (f"{x / scale:.4g}{unit}" for x in (found.value, found.low, found.high))
        source = next(text for word, text in SOURCES.items() if key.startswith(word))
        lines.append(
            f"  {key}: {{value: {value}, low: {low}, high: {high}, status: fitted,\n"
            f'    source: "analysis/gpu_model/fit.py: {found.rows} rows of {source}"}}\n'
        )
    text = path.read_text()
    marks = r"(  # fitted: begin\n).*?(  # fitted: end\n)"
    path.write_text(re.sub(marks, lambda m: m[1] + "".join(lines) + m[2], text, flags=re.DOTALL))


if __name__ == "__main__":
    main()
