"""A digital processor: a host that launches, a device that computes (``gpu_model``)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

import simpy

from hybridsim.circuits.load import Array
from hybridsim.errors import CapacityError
from hybridsim.hardware.gpu_model import busy
from hybridsim.hardware.lane import Context, Issuer, Label, Lane, Process
from hybridsim.hardware.part import Limit, Part, Standing
from hybridsim.hardware.price import Constants, Quote, Tariff, Time
from hybridsim.hardware.requests import Compute
from hybridsim.operations.packing import Packed, packing
from hybridsim.operations.ref import Computation, Ref
from hybridsim.scenario.datasheets.sheets import Datasheet
from hybridsim.units import engineering, to_ps
from hybridsim.work import Work


def compute_time(constants: Constants, request: Compute) -> Time:
    """A stretch of launches: ``max(launches host interval, sum of device times)``.

    The host launches ahead of the device. A CUDA graph is launched once: ``graph_launch`` takes the
    place of the intervals. Where the host must wait for another part first, ``synchronise`` passes
    before.
    """
    device_s = _device_s(constants, request)
    if request.graph:
        host_s = constants.value("graph_launch_s")
    else:
        host_s = constants.value("launch_interval_s") * request.work.launches
    seconds = max(host_s, device_s)
    if request.synchronous:
        seconds += constants.value("synchronise_s")
    return Time(to_ps(seconds), to_ps(device_s))


def compute_energy(constants: Constants, request: Compute) -> float:
    """``(active_share TDP - P_idle)`` over the time that kernels take at full use of the device;
    ``P_idle`` is static power.
    """
    active_s = sum(busy(constants, k).active_s * k.count for k in request.work.kernels)
    active_w = constants.value("active_share") * constants.value("tdp_w")
    return max(active_w - constants.value("idle_w"), 0.0) * active_s


def _device_s(constants: Constants, request: Compute) -> float:
    return sum(busy(constants, k).device_s * k.count for k in request.work.kernels)


def idle_w(constants: Constants) -> float:
    """Power when idle."""
    return constants.value("idle_w")


class Gpu(Part):
    """Executes computations one after the other; see ``compute_time`` and ``compute_energy``."""

    kind = "gpu"
    tariffs = {
        Compute: Tariff("compute", compute_time, compute_energy, falls_with=frozenset({"idle_w"}))
    }

    def __init__(
        self, context: Context, name: str, sheet: Datasheet, *, graphs: bool = False
    ) -> None:
        super().__init__(context, name, sheet)
        self._graphs = graphs
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
        return tuple(payload.at(*done.spans) for payload in payloads)

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
        return [Standing("idle power", idle_w, 1)]

    def limits(self) -> list[Limit]:
        """Memory."""
        return [Limit(self.name, "memory_byte", self.peak_bytes, self._capacity_bytes())]

    def _quote(self, work: Work, synchronous: bool, label: Label) -> Quote:
        # Work comes from a cache that keeps it, and is kept here as well, so that its identity can
        # serve as a key: hashing all its kernels would cost more than the simulation's step.
        found = self._quotes.get((id(work), synchronous))
        if found is None:
            self._check_memory(work, label)
            quote = self.prices.quote_once(Compute(work, synchronous, self._graphs), again=True)
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
