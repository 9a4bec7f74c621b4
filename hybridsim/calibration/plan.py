"""What is measured in a folder: the device, how it is asked, and the cases in their order."""

from __future__ import annotations

import datetime
import json
import os
import platform
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hybridsim.calibration.clock import clock_of
from hybridsim.calibration.families import Case, Rates, draw
from hybridsim.calibration.networks import draw_steps
from hybridsim.errors import InputError
from hybridsim.files import write_whole
from hybridsim.tasks.device import device_name

LARGEST_S = 0.05
"""About what the largest operators take, at the rate of a large matrix product."""
_OPERATORS_A_MINUTE, _STEPS_A_MINUTE = 150, 6
_FEWEST_OPERATORS, _FEWEST_STEPS = 150, 24
_FILE = "device.json"


class Asked(NamedTuple):
    """What was asked for.

    Attributes:
        device: ``cpu`` or ``cuda``.
        minutes: of measuring, over all launches with one folder.
        threads: of the host.
        seed: of the cases and their order.
    """

    device: str
    minutes: float
    threads: int
    seed: int


@dataclass(frozen=True)
class Device:
    """What is measured, as the folder's ``device.json`` says it; a part file's source.

    Attributes:
        device: ``cpu`` or ``cuda``.
        name: of the processor.
        host: the computer's name.
        torch: release.
        threads: of the host.
        seed: of the cases.
        started: when the first measurement was made.
        rates: what shapes are drawn to fit.
    """

    device: str
    name: str
    host: str
    torch: str
    threads: int
    seed: int
    started: str
    rates: Rates

    @property
    def text(self) -> str:
        """One line."""
        threads = f"{self.threads} thread" + ("s" if self.threads != 1 else "")
        return f"{self.name} on {self.host}, torch {self.torch}, {threads}, {self.started}"


def device_of(folder: Path, asked: Asked) -> Device:
    """The device, as the folder knows it or as it is found now; then the folder is made.

    Raises:
        InputError: the folder's measurements were made of another device, or in another way.
    """
    path = folder / _FILE
    found: dict[str, Any] = {  # Any: texts and numbers
        "device": asked.device,
        "name": device_name(asked.device),
        "host": platform.node() or "an unnamed host",
        "torch": torch.__version__,
        "threads": asked.threads,
        "seed": asked.seed,
    }
    if path.exists():
        known = _read(path)
        for key, value in found.items():
            if getattr(known, key) != value:
                raise InputError(
                    f"{path}: {key}: expected {getattr(known, key)} as in the measurements so "
                    f"far, got {value}; choose another --out"
                )
        return known
    try:
        folder.mkdir(parents=True, exist_ok=True)
        strange = next(folder.iterdir(), None)
    except OSError as error:
        raise InputError(
            f"--out: expected a folder that can be made, got {folder}: {error.strerror}"
        ) from None
    if strange is not None:
        raise InputError(
            f"--out: expected a new folder or one of a calibration, got {folder}, which holds "
            f"{strange.name}"
        )
    started = datetime.datetime.now().date().isoformat()
    device = Device(**found, started=started, rates=_rates(asked.device))
    write_whole(path, json.dumps(asdict(device) | {"rates": device.rates._asdict()}, indent=1))
    return device


def _read(path: Path) -> Device:
    try:
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))  # Any: JSON
        rates = Rates(**{key: float(value) for key, value in fields.pop("rates").items()})
        if not all(0 < rate < float("inf") for rate in rates):
            raise ValueError("rates that are no rates")
        return Device(**fields, rates=rates)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: expected what a calibration wrote, got: {error}") from None


def rounds(asked: Asked, device: Device) -> Iterator[tuple[int, Case]]:
    """All cases in an order drawn for each round, without end: drift spreads over all of them."""
    operators = max(_FEWEST_OPERATORS, round(_OPERATORS_A_MINUTE * asked.minutes))
    steps = max(_FEWEST_STEPS, round(_STEPS_A_MINUTE * asked.minutes))
    cases = [
        *draw(operators, asked.seed, device.rates, LARGEST_S),
        *draw_steps(steps, asked.seed),
    ]
    number = 0
    while True:
        order = list(dict.fromkeys(cases))
        random.Random(f"{asked.seed} round {number}").shuffle(order)
        for case in order:
            yield number, case
        number += 1


def memory_byte(device: str) -> float:
    """Memory of the device."""
    if device == "cuda":
        return float(torch.cuda.get_device_properties(0).total_memory)
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _rates(device: str) -> Rates:
    """A matrix product and a sum of vectors, the fastest of a few."""
    clock, n, entries = clock_of(device), 1024, 1 << 23
    a, x = torch.rand(n, n, device=device), torch.rand(entries, device=device)
    product_s = min(clock.burst_s(lambda: a @ a, 1) for _ in range(5))
    sum_s = min(clock.burst_s(lambda: x + x, 1) for _ in range(5))
    return Rates(2.0 * n**3 / product_s, 12.0 * entries / sum_s, memory_byte(device))
