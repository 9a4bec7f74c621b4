"""A digital processor: every executed kernel under a roofline, factorisations with their
latency-bound term.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hybridsim.errors import CapacityError
from hybridsim.hardware.lane import Context, Issuer, Label, Lane, Price, Process
from hybridsim.operations.ref import Computation, Ref
from hybridsim.scenario.datasheets.sheets import Datasheet
from hybridsim.units import engineering, to_ps
from hybridsim.work import Kernel, Work

_PEAK = {
    ("fp32", False): "peak_fp32_flop_per_s",
    ("fp32", True): "peak_fp32_flop_per_s",
    ("tf32", True): "peak_tf32_flop_per_s",
    ("fp64", False): "peak_fp64_flop_per_s",
    ("fp64", True): "peak_fp64_tensor_flop_per_s",
    ("bf16", True): "peak_bf16_flop_per_s",
}
_FALLBACK = {
    "tf32": "peak_fp32_flop_per_s",
    "fp64": "peak_fp64_flop_per_s",
    "bf16": "peak_fp32_flop_per_s",
}


class Gpu:
    """Executes computations one after the other.

    A kernel takes ``t0 + max(FLOP / (eta_F peak), bytes / (eta_B bandwidth))``; a factorisation of
    order n takes ``t0 + a n + c n^3 / (eta peak)``. Power is ``P_idle + (TDP - P_idle) *
    utilisation``, utilisation being the share of the time in which the roofline, not a launch or a
    latency, sets the pace; ``P_idle`` is static power.
    """

    def __init__(self, context: Context, name: str, sheet: Datasheet) -> None:
        self.name, self.sheet = name, sheet
        self.resident_bytes = 0
        self.peak_bytes = 0
        self._context = context
        self._lane = Lane(context, name, "compute")
        self._prices: dict[tuple[int, bool], tuple[Work, Price]] = {}

    def execute(
        self,
        issuer: Issuer,
        label: Label,
        computation: Computation,
        args: tuple[Ref, ...],
        *,
        synchronous: bool = False,
        known: Ref | None = None,
    ) -> Process:
        """Run a computation.

        Args:
            issuer: the thread that asks.
            label: what the operation is called.
            computation: what is computed, and so what it costs.
            args: its arguments.
            synchronous: the host must wait for data from another part first.
            known: the result, where another GPU has computed the same already; this one is priced
                alike.

        Raises:
            CapacityError: the operation needs more memory than the processor has.
        """

        def start() -> tuple[Ref, Price]:
            work, shape = self._context.backend.work(computation, args)
            price = self._price(work, synchronous, label)
            result = (
                self._context.backend.evaluate(computation, args, shape) if known is None else known
            )
            return result, price

        return (yield from self._lane.serve(issuer, label, args, start))

    def execute_stages(
        self,
        issuer: Issuer,
        label_of: Callable[[str], Label],
        computation: Computation,
        args: tuple[Ref, ...],
        reached: Callable[[str, Ref], None],
    ) -> Process:
        """Run a computation stage by stage (``learning.cost.stage``), one span each; others may
        come in between.

        Its numbers are computed when the first stage starts; ``reached(stage, result)`` is called
        when a stage ends, with the result as produced by that stage's span: what the stage
        completes may be used from then on.

        Raises:
            CapacityError: the operation needs more memory than the processor has.
        """
        backend = self._context.backend
        work, shape = backend.work(computation, args)
        self._check_memory(work, label_of(work.stages[0][0]))
        found: list[Ref] = []
        for name, part in work.stages:

            def start(part: Work = part) -> tuple[Ref, Price]:
                if not found:
                    found.append(backend.evaluate(computation, args, shape))
                return found[0], self._price(part, False, label_of(""))

            result = yield from self._lane.serve(issuer, label_of(name), args, start)
            reached(name, result)
        return result

    def static_power(self) -> list[dict[str, Any]]:
        """Power drawn whatever happens."""
        return [static_row(self.name, "idle power", self.sheet, "idle_w", 1)]

    def energy_basis(self) -> list[dict[str, Any]]:
        """Which constants set the energy of which lane."""
        return [basis_row(self.name, "compute", self.sheet, "tdp_w", "idle_w")]

    def _price(self, work: Work, synchronous: bool, label: Label) -> Price:
        # Work comes from a cache that keeps it, and is kept here as well, so that its identity can
        # serve as a key.
        found = self._prices.get((id(work), synchronous))
        if found is None:
            self._check_memory(work, label)
            found = self._prices[id(work), synchronous] = (work, self.price(work, synchronous))
        return found[1]

    def price(self, work: Work, synchronous: bool = False) -> Price:
        """Time and energy of one operation."""
        value = self.sheet.value
        launch_s = value("launch_asynchronous_s")
        seconds = busy_s = 0.0
        for kernel in work.kernels:
            busy, latency = self._kernel_s(kernel)
            busy_s += busy * kernel.count
            seconds += (launch_s + latency + busy) * kernel.count
        if synchronous:
            seconds += value("launch_synchronous_s") - launch_s
        low, high = _power_band(self.sheet)
        nominal = value("tdp_w") - value("idle_w")
        return Price(
            to_ps(seconds),
            to_ps(busy_s),
            (work.flop, work.bytes, work.launches, 0, 0, 0),
            (nominal * busy_s, low * busy_s, high * busy_s),
        )

    def _kernel_s(self, kernel: Kernel) -> tuple[float, float]:
        """(throughput-bound, latency-bound) seconds of one launch."""
        value = self.sheet.value
        if kernel.routine == "roofline":
            compute = kernel.flop / (value("flop_efficiency") * self._peak(kernel))
            memory = kernel.bytes / (
                value("bandwidth_efficiency") * value("memory_bandwidth_byte_per_s")
            )
            return max(compute, memory), 0.0
        name = {"cholesky": "cholesky", "spd_inverse": "inverse", "eigh": "eigh"}[kernel.routine]
        cubic = value(f"{name}_coefficient") * kernel.size**3
        return (
            cubic / (value("factorisation_efficiency") * self._peak(kernel)),
            value(f"{name}_step_s") * kernel.size,
        )

    def _peak(self, kernel: Kernel) -> float:
        name = _PEAK.get((kernel.precision, kernel.matrix), "peak_fp32_flop_per_s")
        return self.sheet.value(name) or self.sheet.value(_FALLBACK[kernel.precision])

    def _check_memory(self, work: Work, label: Label) -> None:
        capacity = self.sheet.value("memory_capacity_byte")
        needed = work.peak_bytes + self.resident_bytes
        self.peak_bytes = max(self.peak_bytes, needed)
        if needed <= capacity:
            return
        operator, shape, size = work.largest or ("its arguments", (), work.peak_bytes)
        raise CapacityError(
            f"{self.name}: operation '{label.kind}' needs {engineering(needed, 'B')} "
            f"({needed:.0f} bytes, {self.resident_bytes} of them resident), and "
            f"{self.sheet.name} has "
            f"{engineering(capacity, 'B')}; its largest tensor is {operator} {tuple(shape)} with "
            f"{engineering(size, 'B')}. Lower training.batch_size, choose a smaller workload or "
            "a larger machine.gpu."
        )


def _power_band(sheet: Datasheet) -> tuple[float, float]:
    """Lowest and highest dynamic power at full utilisation."""
    (tdp_low, tdp_high), (idle_low, idle_high) = sheet.bounds("tdp_w"), sheet.bounds("idle_w")
    return max(tdp_low - idle_high, 0.0), tdp_high - idle_low


def basis_row(part: str, lane: str, sheet: Datasheet, *constants: str) -> dict[str, Any]:
    """A line of the table that says what the energy of a lane rests on: constants with their
    status.
    """
    return {
        "part": part,
        "lane": lane,
        "constants": {name: sheet.constants[name].status for name in constants},
    }


def static_row(
    part: str, component: str, sheet: Datasheet, constant: str, count: int
) -> dict[str, Any]:
    """A line of the static-power table: ``count`` times a constant, with its band, status and
    source.
    """
    entry = sheet.constants[constant]
    return {
        "part": part,
        "component": component,
        "power_w": entry.value * count,
        "power_low_w": entry.low * count,
        "power_high_w": entry.high * count,
        "status": entry.status,
        "source": entry.source,
    }
