"""What ``hybridsim calibrate`` does: measure until the time is up, fit, write the part."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import torch

from hybridsim.calibration.energy import NoMeter, Power, meter_of, power_of
from hybridsim.calibration.fit import fit as fit_constants
from hybridsim.calibration.measure import TABLE, measure, over_rounds, refused
from hybridsim.calibration.part_file import ERRORS, PART, write_part, write_tables
from hybridsim.calibration.plan import Asked, Device, device_of
from hybridsim.calibration.result import FitFunction, Result, calibrated
from hybridsim.errors import InputError
from hybridsim.progress import CalibrationReporter
from hybridsim.scenario.datasheets.sheets import Datasheet, load_part, part_names
from hybridsim.tasks.device import on_host

MOST_MINUTES = 10.0


class Calibration(NamedTuple):
    """What came of it.

    Attributes:
        part: the part file.
        sheet: as it reads.
        result: every prediction, and the errors by family.
    """

    part: Path
    sheet: Datasheet
    result: Result


def calibrate(
    out: Path | str,
    *,
    device: str = "cpu",
    minutes: float = 8.0,
    threads: int = 1,
    seed: int = 0,
    base: str | None = None,
    fit: FitFunction = fit_constants,
) -> Calibration:
    """Measure the device that this runs on, and write a datasheet of it.

    Args:
        out: folder of the measurements and of the part; one that is there is taken up again.
        device: ``cpu`` or ``cuda``.
        minutes: of measuring, over all launches with this folder.
        threads: of the host.
        seed: of shapes and order.
        base: the part whose constants stand where nothing is measured; default: ``host-cpu``, or
            the shipped part of the GPU's name.
        fit: finds constants from measurements.

    Raises:
        InputError: something asked for is not there, or the folder is another's.
        KeyboardInterrupt: it was interrupted; what was measured is kept.
    """
    asked, folder = _checked(Asked(device, minutes, threads, seed)), Path(out)
    with on_host(device, threads):
        found = device_of(folder, asked)
    sheet = load_part("gpu", base or _base(found))
    try:
        with CalibrationReporter(f"calibrate {device}") as reporter:
            visits = measure(folder, asked, found, reporter.progress)
            for case in refused(visits):
                reporter.say(f"not measured: {case.operator} {case.shape} {case.dtype}: refused")
            power = _power(found, reporter)
            reporter.say(f"fitting {len(over_rounds(visits))} measurements")
            result = calibrated(sheet, over_rounds(visits), found, fit, power)
    except KeyboardInterrupt:
        kept = folder / TABLE
        raise KeyboardInterrupt(
            f"interrupted; the measurements so far are in {kept}; the same command goes on"
            if kept.exists()
            else "interrupted"
        ) from None
    path = folder / PART
    write_tables(result, folder)
    return Calibration(path, write_part(result, path), result)


def print_calibration(found: Calibration) -> None:
    """Errors by family, and where the part is."""
    rows = [("family", "part", "rows", "median", "p90")]
    rows += [
        (one.family, one.part, str(one.rows), f"{one.median:.1%}", f"{one.p90:.1%}")
        for one in found.result.errors
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    print(found.part.with_name(ERRORS))
    print(found.part)


def _checked(asked: Asked) -> Asked:
    if asked.device not in ("cpu", "cuda"):
        raise InputError(f"--device: expected cpu or cuda, got {asked.device!r}")
    if asked.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device: expected a device that is present, got 'cuda' and none is")
    if not 0 < asked.minutes <= MOST_MINUTES:
        raise InputError(f"--minutes: expected > 0 and <= {MOST_MINUTES:g}, got {asked.minutes:g}")
    if asked.threads < 1:
        raise InputError(f"--threads: expected >= 1, got {asked.threads}")
    return asked


def _base(device: Device) -> str:
    """The shipped part to start from.

    Raises:
        InputError: none is named as the GPU is.
    """
    if device.device == "cpu":
        return "host-cpu"
    words = set(re.findall(r"[a-z]+\d+\w*", device.name.lower()))
    for name in part_names("gpu"):
        if name.split("-")[0] in words:
            return name
    raise InputError(
        f"--base: expected a part to start from, since none is shipped for {device.name}: "
        f"{', '.join(part_names('gpu'))} or a path ending in .yaml; got none"
    )


def _power(device: Device, reporter: CalibrationReporter) -> Power | None:
    try:
        meter = meter_of(device.device)
    except NoMeter as error:
        reporter.say(f"energy is not measured: {error}")
        return None
    reporter.say(f"power by {meter.name}")
    with on_host(device.device, device.threads):
        return power_of(meter, device.device)
