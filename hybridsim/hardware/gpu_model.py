"""How long a kernel keeps a GPU busy: one formula for each cause.

Seconds on the device of one launch, the host's part apart (``hardware.gpu``). Names in
``typewriter`` are constants of the datasheet.

- Memory: ``device_floor + bytes / (bandwidth_efficiency memory_bandwidth)``; reductions count every
  pass over memory (``operations.formulas``).
- Contractions C (batch, m, n, k) run in tiles of the output, in waves of one tile for each
  multiprocessor: ``contraction_floor + waves (2 tm tn k / (efficiency peak / multiprocessors) +
  tile_prologue)``, at least what memory takes; the best of the tiles that libraries have, and of
  splits of k, which write partial sums. Products with a vector (m or n = 1) have no tiles: FLOP at
  the peak, at least memory.
- Convolutions: the cheaper of an implicit matrix product and, for 3 x 3 kernels of stride 1,
  Winograd's F(2x2, 3x3) and F(4x4, 3x3): 16 or 36 products of 1/4 or 1/16 of the positions, between
  transforms that pass through memory.
- Factorisations: ``floor + step n``, ``block`` more above order 512, FLOP of each matrix, and for
  each further one of a batch its bytes at ``batch_efficiency`` of the memory's bandwidth: small
  matrices of a batch are one launch, and bound by latency.

Sources: tiles and waves as in NVIDIA, "Matrix Multiplication Background User's Guide"; Winograd:
Lavin and Gray 2016, arXiv 1509.09308. The constants are fitted to public measurements by
``analysis/gpu_model/fit.py``, which also tells the errors.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil
from typing import NamedTuple, Protocol

from hybridsim.work import Kernel


class Constants(Protocol):
    """What the formulas read."""

    def value(self, name: str) -> float:
        """A constant by its SI name."""


_VECTOR_PEAK = {"fp64": "peak_fp64_flop_per_s"}
_MATRIX_PEAK = {
    "fp32": "peak_fp32_flop_per_s",
    "tf32": "peak_tf32_flop_per_s",
    "fp64": "peak_fp64_tensor_flop_per_s",
    "bf16": "peak_bf16_flop_per_s",
    "fp16": "peak_bf16_flop_per_s",
}
_TENSOR = frozenset(["tf32", "bf16", "fp16"])
ELEMENT_BYTE = {"fp32": 4, "tf32": 4, "fp64": 8, "bf16": 2, "fp16": 2}

# Tiles (rows, columns) of the output that matrix libraries have, and which efficiency they reach.
_EFFICIENCIES = ("whole", "half", "quarter", "narrow", "small")
_TILES = (
    (256, 128, 0), (128, 256, 0), (128, 128, 0), (128, 64, 1), (64, 128, 1), (64, 64, 2),
    (128, 32, 3), (32, 128, 3), (64, 32, 4), (32, 64, 4), (32, 32, 4),
)  # fmt: skip
_SPLITS = (1, 2, 4, 8, 16, 32)
_SHORTEST = 128  # k is not split into shorter pieces
_K_STEP = 8
_TAIL = 0.3  # of a last wave that is not full: several tiles share a multiprocessor
_SECTOR_BYTE = 32  # memory is read in sectors: of each row one is read in vain
_UNBLOCKED = 512  # factorisations up to this order run in one piece
_WINOGRAD = ((2, 16), (4, 36))  # outputs along a side, products


class Busy(NamedTuple):
    """How long a kernel is on the device, and how long at full use of it that would be: what rests
    on latency, or fills a part of the multiprocessors, draws less power.
    """

    device_s: float
    active_s: float


def busy(constants: Constants, kernel: Kernel) -> Busy:
    """Seconds of one launch of a kernel."""
    match kernel.routine:
        case "stream":
            floor_s, found = constants.value("device_floor_s"), _stream(constants, kernel)
        case "contraction":
            floor_s, found = constants.value("contraction_floor_s"), _contraction(constants, kernel)
        case "convolution":
            floor_s, found = constants.value("convolution_floor_s"), _convolution(constants, kernel)
        case _:
            return _factorisation(constants, kernel)
    return Busy(floor_s + found.device_s, found.active_s)


def _stream(constants: Constants, kernel: Kernel) -> Busy:
    peak = constants.value(_VECTOR_PEAK.get(kernel.precision, "peak_fp32_flop_per_s"))
    seconds = max(kernel.flop / peak, _memory_s(constants, kernel.bytes))
    return Busy(seconds, seconds)


def _memory_s(constants: Constants, moved: float) -> float:
    bandwidth = constants.value("memory_bandwidth_byte_per_s")
    return moved / (constants.value("bandwidth_efficiency") * bandwidth)


class _Way(NamedTuple):
    """One way to run a contraction: ``waves`` of tiles, each of so many FLOP and ``class_``;
    ``full`` of them would do if all multiprocessors had as much; ``partial`` numbers of partial
    sums are written and read besides.
    """

    waves: float
    full: float
    flop: float
    class_: int
    partial: float


@lru_cache(maxsize=100_000)
def _ways(shape: tuple[int, ...], multiprocessors: int) -> tuple[_Way, ...]:
    """The ways that no other one beats whatever the constants are."""
    batch, m, n, k = shape
    found: dict[int, list[_Way]] = {}
    for rows, columns, class_ in _TILES:
        tiles = ceil(m / rows) * ceil(n / columns) * batch
        for split in _SPLITS:
            if split > 1 and k / split < _SHORTEST:
                break
            depth = ceil(k / split / _K_STEP) * _K_STEP
            share = tiles * split / multiprocessors
            waves = max(1.0, share + _TAIL * (ceil(share) - share))
            partial = 0.0 if split == 1 else (split + 1.0) * batch * m * n
            way = _Way(waves, share, 2.0 * rows * columns * depth, class_, partial)
            if not any(_beats(other, way) for other in found.setdefault(class_, [])):
                found[class_] = [w for w in found[class_] if not _beats(way, w)] + [way]
    return tuple(way for ways in found.values() for way in ways)


def _beats(one: _Way, other: _Way) -> bool:
    return (
        one.waves <= other.waves
        and one.waves * one.flop <= other.waves * other.flop
        and one.partial <= other.partial
    )


def _tiles(constants: Constants, kernel: Kernel, shape: tuple[int, ...], share: float) -> Busy:
    """The best way of a matrix product, at a ``share`` of the products' efficiency."""
    value = constants.value
    cores = max(1, int(value("multiprocessors")))
    tensor = kernel.precision in _TENSOR and value(_MATRIX_PEAK[kernel.precision]) > 0
    peak = share * value("tensor_efficiency" if tensor else "contraction_efficiency")
    rate = peak * matrix_peak(constants, kernel) / cores
    tile = "tensor_tile" if tensor else "tile"
    shares = [1.0, *(value(f"{tile}_{name}_efficiency") for name in _EFFICIENCIES[1:])]
    prologue_s = value("tile_prologue_s")
    number_s = _memory_s(constants, ELEMENT_BYTE[kernel.precision])
    best_s, used = min(
        (way.waves * (way.flop / (rate * shares[way.class_]) + prologue_s) + way.partial * number_s,
         way.full / way.waves)
        for way in _ways(shape, cores)
    )  # fmt: skip
    return Busy(best_s, best_s * min(1.0, used))


def matrix_peak(constants: Constants, kernel: Kernel) -> float:
    """Peak of the units that a contraction runs on; of a precision that the device has no matrix
    units for, the vector units'.
    """
    found = constants.value(_MATRIX_PEAK[kernel.precision])
    return found or constants.value(_VECTOR_PEAK.get(kernel.precision, "peak_fp32_flop_per_s"))


def _contraction(constants: Constants, kernel: Kernel) -> Busy:
    batch, m, n, k = kernel.shape
    bandwidth = constants.value("contraction_bandwidth_efficiency") * constants.value(
        "memory_bandwidth_byte_per_s"
    )
    if min(m, n) == 1:  # kernels of their own: all multiprocessors share the sums
        seconds = max(kernel.flop / matrix_peak(constants, kernel), kernel.bytes / bandwidth)
        return Busy(seconds, seconds)
    moved = kernel.bytes + _SECTOR_BYTE * batch * (2 * m + k)
    return _at_least(_tiles(constants, kernel, kernel.shape, 1.0), moved / bandwidth)


def _at_least(tiles: Busy, memory_s: float) -> Busy:
    return Busy(max(tiles.device_s, memory_s), max(tiles.active_s, memory_s))


def _convolution(constants: Constants, kernel: Kernel) -> Busy:
    direction, groups, images, c_in, c_out, height, width, rows, columns, stride, dilation = (
        kernel.shape
    )
    if groups > 1 and c_in == 1:  # of single channels: no matrix product
        return _stream(constants, kernel)
    positions, taps = images * rows * columns, height * width
    product = {
        0: (groups, positions, c_out, c_in * taps),
        1: (groups, positions * stride, c_in, ceil(c_out * taps / stride)),
        2: (groups, c_in * taps, c_out, positions),
    }[direction]
    share = constants.value("convolution_efficiency")
    moved_s = _memory_s(constants, kernel.bytes)
    best = _at_least(_tiles(constants, kernel, product, share), moved_s)
    if (height, width, stride, dilation) != (3, 3, 1, 1) or kernel.precision == "fp64":
        return best
    share = constants.value("winograd_efficiency")
    for side, products in _WINOGRAD:
        patches = images * ceil(rows / side) * ceil(columns / side)
        inner = {0: (patches, c_out, c_in), 1: (patches, c_in, c_out), 2: (c_in, c_out, patches)}
        numbers = products * groups * (patches * (c_in + c_out) + c_in * c_out)
        moved_s = _memory_s(constants, kernel.bytes + numbers * ELEMENT_BYTE[kernel.precision])
        tiles = _tiles(constants, kernel, (products * groups, *inner[direction]), share)
        best = min(best, Busy(tiles.device_s + moved_s, tiles.active_s + moved_s))
    return best


def _factorisation(constants: Constants, kernel: Kernel) -> Busy:
    value, name = constants.value, kernel.routine
    matrices, n = kernel.shape[:2]
    rate = value("factorisation_efficiency") * matrix_peak(constants, kernel)
    bandwidth = value("batch_efficiency") * value("memory_bandwidth_byte_per_s")
    each = kernel.bytes / max(matrices, 1) / bandwidth
    latency_s = value(f"{name}_floor_s") + value(f"{name}_step_s") * n
    if n > _UNBLOCKED:
        latency_s += value("factorisation_block_s")
    active_s = kernel.flop / rate + max(matrices - 1, 0) * each
    return Busy(latency_s + active_s, active_s)
