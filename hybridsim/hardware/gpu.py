"""A digital processor: every kernel under a roofline, factorisations with a latency-bound term."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

import simpy

from hybridsim.circuits.base import Array
from hybridsim.errors import CapacityError
from hybridsim.hardware.lane import Context, Issuer, Label, Lane, Process
from hybridsim.hardware.part import Limit, Part, Standing
from hybridsim.hardware.price import Constants, Quote, Tariff, Time
from hybridsim.hardware.requests import Compute
from hybridsim.operations.packing import Packed, packing
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
_FACTORISATIONS = {"cholesky": "cholesky", "spd_inverse": "inverse", "eigh": "eigh"}


def kernel_s(constants: Constants, kernel: Kernel) -> tuple[float, float]:
    """(throughput-bound, latency-bound) seconds of one launch, the launch itself apart.

    ``max(FLOP / (eta_F peak), bytes / (eta_B bandwidth))``; of a factorisation of order n
    ``c n^3 / (eta peak)`` and ``a n``.
    """
    value = constants.value
    if kernel.routine == "roofline":
        compute = kernel.flop / (value("flop_efficiency") * _peak(constants, kernel))
        bandwidth = value("bandwidth_efficiency") * value("memory_bandwidth_byte_per_s")
        return max(compute, kernel.bytes / bandwidth), 0.0
    name = _FACTORISATIONS[kernel.routine]
    cubic = value(f"{name}_coefficient") * kernel.size**3
    rate = value("factorisation_efficiency") * _peak(constants, kernel)
    return cubic / rate, value(f"{name}_step_s") * kernel.size


def _peak(constants: Constants, kernel: Kernel) -> float:
    name = _PEAK.get((kernel.precision, kernel.matrix), "peak_fp32_flop_per_s")
    return constants.value(name) or constants.value(_FALLBACK[kernel.precision])


def compute_time(constants: Constants, request: Compute) -> Time:
    """All kernels one after the other, each after a launch of ``t0``."""
    launch_s = constants.value("launch_asynchronous_s")
    seconds = busy_s = 0.0
    for kernel in request.work.kernels:
        busy, latency = kernel_s(constants, kernel)
        busy_s += busy * kernel.count
        seconds += (launch_s + latency + busy) * kernel.count
    if request.synchronous:
        seconds += constants.value("launch_synchronous_s") - launch_s
    return Time(to_ps(seconds), to_ps(busy_s))


def compute_energy(constants: Constants, request: Compute) -> float:
    """``(TDP - P_idle)`` while the roofline sets the pace; ``P_idle`` is static power."""
    busy_s = 0.0
    for kernel in request.work.kernels:
        busy_s += kernel_s(constants, kernel)[0] * kernel.count
    return max(constants.value("tdp_w") - constants.value("idle_w"), 0.0) * busy_s


class Gpu(Part):
    """Executes computations one after the other; see ``compute_time`` and ``compute_energy``."""

    kind = "gpu"
    tariffs = {
        Compute: Tariff("compute", compute_time, compute_energy, falls_with=frozenset({"idle_w"}))
    }

    def __init__(self, context: Context, name: str, sheet: Datasheet) -> None:
        super().__init__(context, name, sheet)
        self.resident_bytes = 0
        self.peak_bytes = 0
        self._lane = Lane(context, name, "compute")
        self._quotes: dict[tuple[int, bool], tuple[Work, Quote]] = {}

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
            known: the result, where another GPU has computed it already; this one is priced alike.

        Raises:
            CapacityError: the operation needs more memory than the processor has.
        """

        def start() -> tuple[Ref, Quote]:
            work, shape = self.context.backend.work(computation, args)
            quote = self._quote(work, synchronous, label)
            if known is not None:
                return known, quote
            return self.context.backend.evaluate(computation, args, shape), quote

        return (yield from self._lane.serve(issuer, label, args, start))

    def pack(
        self,
        issuer: Issuer,
        label: Label,
        payloads: tuple[Ref, ...],
        sending: Sequence[tuple[Array, int]],
        element_bytes: int,
    ) -> Generator[simpy.Event, None, tuple[Ref, ...]]:
        """Round and pack arrays for a link, each to its bits (``operations.packing``).

        Time and energy pass; what rounding makes of the numbers is computed by the device that they
        are sent to. Numbers that cross as they are cost nothing and leave no span.

        Raises:
            CapacityError: the packed numbers do not fit beside the others.
        """
        packed = [
            Packed(a.entries, min(a.sent, a.entries), a.diagonal, bits) for a, bits in sending
        ]
        work = packing(packed, element_bytes)
        if not work.kernels:
            return payloads

        def start() -> tuple[Ref, Quote]:
            return payloads[0], self._quote(work, False, label)

        done = yield from self._lane.serve(issuer, label, payloads, start)
        return tuple(payload._replace(spans=done.spans) for payload in payloads)

    def execute_stages(
        self,
        issuer: Issuer,
        label_of: Callable[[str], Label],
        computation: Computation,
        args: tuple[Ref, ...],
        reached: Callable[[str, Ref], None],
    ) -> Process:
        """Run a computation stage by stage (``operations.count.stage``), one span each.

        Others may come in between. Its numbers are computed when the first stage starts;
        ``reached(stage, result)`` is called when a stage ends, with the result as produced by that
        stage's span: what the stage completes may be used from then on.

        Raises:
            CapacityError: the operation needs more memory than the processor has.
        """
        backend = self.context.backend
        work, shape = backend.work(computation, args)
        self._check_memory(work, label_of(work.stages[0][0]))
        found: list[Ref] = []
        for name, part in work.stages:

            def start(part: Work = part) -> tuple[Ref, Quote]:
                if not found:
                    found.append(backend.evaluate(computation, args, shape))
                return found[0], self._quote(part, False, label_of(""))

            result = yield from self._lane.serve(issuer, label_of(name), args, start)
            reached(name, result)
        return result

    def standing(self) -> list[Standing]:
        """Idle power."""
        return [Standing("idle power", "idle_w", 1)]

    def limits(self) -> list[Limit]:
        """Memory."""
        return [Limit(self.name, "memory_byte", self.peak_bytes, self._capacity_bytes())]

    def _quote(self, work: Work, synchronous: bool, label: Label) -> Quote:
        # Work comes from a cache that keeps it, and is kept here as well, so that its identity can
        # serve as a key: hashing all its kernels would cost more than the simulation's step.
        found = self._quotes.get((id(work), synchronous))
        if found is None:
            self._check_memory(work, label)
            quote = self.prices.quote_once(Compute(work, synchronous), again=True)
            found = self._quotes[id(work), synchronous] = (work, quote)
        return found[1]

    def _capacity_bytes(self) -> float:
        return self.sheet.value("memory_capacity_byte")

    def _check_memory(self, work: Work, label: Label) -> None:
        capacity = self._capacity_bytes()
        needed = work.peak_bytes + self.resident_bytes
        self.peak_bytes = max(self.peak_bytes, needed)
        if needed <= capacity:
            return
        operator, shape, size = work.largest or ("its arguments", (), work.peak_bytes)
        raise CapacityError(
            f"{self.name}: operation '{label.operation}' needs {engineering(needed, 'B')} "
            f"({needed:.0f} bytes, {self.resident_bytes} of them resident), and "
            f"{self.sheet.name} has {engineering(capacity, 'B')}; its largest tensor is {operator} "
            f"{tuple(shape)} with {engineering(size, 'B')}. Lower training.batch_size, choose a "
            "smaller workload or a larger machine.gpu."
        )
