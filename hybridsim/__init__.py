"""Discrete-event simulator of hybrid digital-analog training hardware with real Ornstein-Uhlenbeck
numerics.

import hybridsim
run = hybridsim.run(hybridsim.load("tngd-digits"))
run.steps, run.spans, run.energy, run.summary

The names in ``__all__`` are the public ones; everything below is free to change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybridsim.calibration.command import calibrate as calibrate
    from hybridsim.calibration.fit import Fit as Fit
    from hybridsim.calibration.fit import Fitted as Fitted
    from hybridsim.calibration.fit import Measurement as Measurement
    from hybridsim.calibration.fit import active_energy_j as active_energy_j
    from hybridsim.calibration.fit import fit as fit
    from hybridsim.calibration.fit import predicted_s as predicted_s
    from hybridsim.calibration.steps import time_steps as time_steps
    from hybridsim.errors import CapacityError as CapacityError
    from hybridsim.errors import HybridsimError as HybridsimError
    from hybridsim.errors import InputError as InputError
    from hybridsim.errors import Problem as Problem
    from hybridsim.failures import RunFailed as RunFailed
    from hybridsim.operations.count import count_kernels as count_kernels
    from hybridsim.reports.chrome_json import write_chrome_json as write_chrome_json
    from hybridsim.reports.compare import compare_table as compare_table
    from hybridsim.reports.compare import write_comparison as write_comparison
    from hybridsim.reports.export import to_latex as to_latex
    from hybridsim.reports.perfetto import write_perfetto as write_perfetto
    from hybridsim.reports.report import write_report as write_report
    from hybridsim.reports.statistics import log_interval as log_interval
    from hybridsim.reports.statistics import mean_interval as mean_interval
    from hybridsim.reports.statistics import paired_difference as paired_difference
    from hybridsim.reports.statistics import paired_ratio as paired_ratio
    from hybridsim.reports.timeline import write_timeline as write_timeline
    from hybridsim.results.read import Run as Run
    from hybridsim.scenario.datasheets.sheets import Datasheet as Datasheet
    from hybridsim.scenario.datasheets.sheets import load_part as load_part
    from hybridsim.scenario.load import load as load
    from hybridsim.scenario.schema import Scenario as Scenario
    from hybridsim.simulate import load_task as load_task
    from hybridsim.simulate import resume as resume
    from hybridsim.simulate import run as run
    from hybridsim.studies.result import StudyResult as StudyResult
    from hybridsim.studies.run import study as study
    from hybridsim.tasks.task import Task as Task
    from hybridsim.tasks.workload import Data as Data
    from hybridsim.tasks.workload import Workload as Workload
    from hybridsim.work import Kernel as Kernel

__version__ = "0.1.0"

_HOMES = {
    "hybridsim.failures": ("RunFailed",),
    "hybridsim.calibration.fit": (
        "Fit",
        "Fitted",
        "Measurement",
        "active_energy_j",
        "fit",
        "predicted_s",
    ),
    "hybridsim.calibration.command": ("calibrate",),
    "hybridsim.calibration.steps": ("time_steps",),
    "hybridsim.errors": ("CapacityError", "HybridsimError", "InputError", "Problem"),
    "hybridsim.operations.count": ("count_kernels",),
    "hybridsim.reports.chrome_json": ("write_chrome_json",),
    "hybridsim.reports.compare": ("compare_table", "write_comparison"),
    "hybridsim.reports.export": ("to_latex",),
    "hybridsim.reports.perfetto": ("write_perfetto",),
    "hybridsim.reports.report": ("write_report",),
    "hybridsim.reports.statistics": (
        "log_interval",
        "mean_interval",
        "paired_difference",
        "paired_ratio",
    ),
    "hybridsim.reports.timeline": ("write_timeline",),
    "hybridsim.results.read": ("Run",),
    "hybridsim.scenario.datasheets.sheets": ("Datasheet", "load_part"),
    "hybridsim.scenario.load": ("load",),
    "hybridsim.scenario.schema": ("Scenario",),
    "hybridsim.simulate": ("load_task", "resume", "run"),
    "hybridsim.studies.result": ("StudyResult",),
    "hybridsim.studies.run": ("study",),
    "hybridsim.tasks.task": ("Task",),
    "hybridsim.tasks.workload": ("Data", "Workload"),
    "hybridsim.work": ("Kernel",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "CapacityError",
    "Data",
    "Datasheet",
    "Fit",
    "Fitted",
    "HybridsimError",
    "InputError",
    "Kernel",
    "Measurement",
    "Problem",
    "Run",
    "RunFailed",
    "Scenario",
    "StudyResult",
    "Task",
    "Workload",
    "active_energy_j",
    "calibrate",
    "compare_table",
    "count_kernels",
    "fit",
    "load",
    "load_part",
    "load_task",
    "log_interval",
    "mean_interval",
    "paired_difference",
    "paired_ratio",
    "predicted_s",
    "resume",
    "run",
    "study",
    "time_steps",
    "to_latex",
    "write_chrome_json",
    "write_comparison",
    "write_perfetto",
    "write_report",
    "write_timeline",
]


def __getattr__(name: str) -> Any:  # Any: a public name may be anything; checkers see the imports
    """Import on first use: loading a scenario needs no torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """The public names too, although they are imported on first use."""
    return sorted({*globals(), *__all__})
