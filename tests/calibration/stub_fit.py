"""A fit for tests: least squares of log seconds over log constants, by the simulator's price."""

from __future__ import annotations

import numpy as np
from scipy.optimize import least_squares

from hybridsim.calibration.fit import Fit, Fitted
from hybridsim.hardware.kinds import PARTS
from hybridsim.hardware.requests import Compute
from hybridsim.scenario.datasheets.constants import CONSTANTS
from hybridsim.work import Work

FITTED = (
    *("contraction_efficiency", "contraction_bandwidth_efficiency", "bandwidth_efficiency"),
    *("factorisation_efficiency", "batch_efficiency"),
)
"""What is searched besides floors; all else stays as it is."""
MOST = {spec.name: spec.at_most or np.inf for spec in CONSTANTS["gpu"]}


class Sheet:
    def __init__(self, constants):
        self.constants = constants

    def value(self, name):
        return self.constants[name]


def priced(constants, requests):
    time, sheet = PARTS["gpu"].tariffs[Compute].time, Sheet(constants)
    return [time(sheet, request).duration_ps * 1e-12 for request in requests]


def seconds(constants, kernels):
    return priced(constants, [Compute(Work(tuple(kernels)))])[0]


def fit(constants, rows, free):
    chosen = [name for name in free if name in FITTED or name.endswith("_floor_s")]
    measured = np.log([row.measured_s for row in rows])
    requests = [Compute(Work(tuple(row.kernels))) for row in rows]
    ends = np.log([MOST[name] for name in chosen])
    start = np.minimum(np.log([max(constants[name], 1e-9) for name in chosen]), ends - 1e-3)

    def residuals(x):
        tried = {**constants, **dict(zip(chosen, np.exp(x), strict=True))}
        return np.log(np.maximum(priced(tried, requests), 1e-12)) - measured

    bounds = (np.full(len(chosen), np.log(1e-13)), ends)
    x = least_squares(residuals, start, bounds=bounds, xtol=1e-9, ftol=1e-9).x
    found = {name: Fitted(*[constants[name]] * 3, 0) for name in free}
    found |= {
        name: Fitted(float(v), float(v * 0.9), float(min(v * 1.1, MOST[name])), len(rows))
        for name, v in zip(chosen, np.exp(x), strict=True)
    }
    return Fit(found, {})
