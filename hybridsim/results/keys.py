"""The keys of summary.json, which are those of ``Run.summary``."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from hybridsim.hardware.extent import Extent as Extent  # a map of the summary, as the others
from hybridsim.hardware.extent import Size as Size

Json = Any  # what JSON or a table of mixed columns holds


EnergyName = Literal["energy_j", "energy_low_j", "energy_high_j"]
ENERGY_NAMES: tuple[EnergyName, ...] = ("energy_j", "energy_low_j", "energy_high_j")


def operation(kind: str, factor: str) -> str:
    """What an operation is called with the Kronecker factor that it is for."""
    return f"{kind} {factor}" if factor else kind


class Energies(TypedDict):
    """Joules: nominal, and with every constant of energy at its low and at its high end.

    Attributes:
        energy_j: nominal.
        energy_low_j: each constant at the end of its range that makes it least.
        energy_high_j: each at the end that makes it most.
    """

    energy_j: float
    energy_low_j: float
    energy_high_j: float


class EnergyLine(Energies):
    """A line of the energy book.

    Attributes:
        part: who spends.
        kind: on what operation, or on which component that draws static power.
        factor: the Kronecker factor that the operation is for, or nothing.
        origin: ``spans`` or ``static``.
        status: of the weakest constant behind the line: assumed, derived, public, paper, given.
        source: of a static line's constant.
    """

    part: str
    kind: str
    factor: str
    origin: Literal["spans", "static"]
    status: str
    source: str


class EnergySummary(TypedDict):
    """Where the energy went.

    Attributes:
        total: of the whole run.
        static_share: share of the total that is static power.
        assumed_share: share of the total in lines that rest on an assumed constant.
        by_part: by part.
        by_part_kind: the lines of the book.
    """

    total: Energies
    static_share: float
    assumed_share: float
    by_part: dict[str, Energies]
    by_part_kind: list[EnergyLine]


class Throughput(TypedDict):
    """Training steps and examples per simulated second; None where nothing was done.

    Attributes:
        steps_per_s: training steps.
        samples_per_s: examples.
    """

    steps_per_s: float | None
    samples_per_s: float | None


class Latency(TypedDict):
    """Simulated seconds of a step: percentiles, mean and longest.

    Attributes:
        p50_s: half of the steps took at most so long.
        p95_s: 95 % of them.
        p99_s: 99 % of them.
        mean_s: mean.
        max_s: longest.
    """

    p50_s: float
    p95_s: float
    p99_s: float
    mean_s: float
    max_s: float


class Work(TypedDict):
    """What adds up over operations.

    Attributes:
        spans: operations.
        flop: floating-point operations.
        bytes: bytes moved in memory.
        launches: kernel launches.
        bits: bits sent or written.
        conversions: conversions.
        writes: resistors written.
    """

    spans: int
    flop: float
    bytes: float
    launches: int
    bits: int
    conversions: int
    writes: int


class LaneUse(Work):
    """What a lane of a part did.

    Attributes:
        part: the part.
        lane: the lane.
        role: ``server``, ``background``, ``flight`` or ``pause``, see ``hybridsim.trace.spans``.
        utilisation: time in service over the makespan: for a lane that serves one operation at a
            time the share of time it was taken, else the mean number in service.
        busy_share: of it the time in which the resource did what it is for.
        queue_mean: mean number waiting, by Little's law arrival rate times mean wait.
        wait_mean_s: mean wait.
        wait_p95_s: 95 % of the waits are at most so long; rounded up by at most 1.1 %.
        wait_max_s: longest wait.
    """

    part: str
    lane: str
    role: str
    utilisation: float
    busy_share: float
    queue_mean: float
    wait_mean_s: float
    wait_p95_s: float
    wait_max_s: float


class OperationTimes(Work):
    """What one kind of operation took on one lane.

    Attributes:
        part: the part.
        lane: the lane.
        role: the lane's role.
        category: what the part was asked to do.
        kind: what the operation is called.
        factor: the Kronecker factor that it is for, or nothing.
        time_s: seconds in service.
        busy_s: of them those in which the resource did what it is for.
        wait_s: seconds waited.
    """

    part: str
    lane: str
    role: str
    category: str
    kind: str
    factor: str
    time_s: float
    busy_s: float
    wait_s: float


class PathShare(TypedDict):
    """What one kind of operation on one part contributes to the critical path.

    Attributes:
        part: the part.
        kind: what the operation is called.
        factor: the Kronecker factor that it is for, or nothing.
        time_s: seconds on the path.
        share: of the path.
    """

    part: str
    kind: str
    factor: str
    time_s: float
    share: float


class Bottleneck(PathShare):
    """The largest share.

    Attributes:
        lane: the lane that spent most time on it.
    """

    lane: str


class PathSummary(TypedDict, total=False):
    """The critical path.

    Attributes:
        error: where it has a gap; then nothing else is known.
        length_s: its length, or None where nothing happened.
        shares: what it consists of, the largest first.
        bottleneck: the largest share, or None.
    """

    error: str
    length_s: float | None
    shares: list[PathShare]
    bottleneck: Bottleneck | None


class Target(TypedDict):
    """When training counts as done.

    Attributes:
        metric: ``test_accuracy`` or ``test_loss``.
        threshold: from where on.
        direction: on which side of it.
    """

    metric: str
    threshold: float
    direction: Literal["above", "below"]


class TargetReached(Target):
    """The target, and when it was first met.

    Attributes:
        evaluated: the metric was measured at all.
        reached: it was met.
        step: the first step after which it was met, or None.
        seconds: simulated seconds up to there, or None.
        joules: nominal energy up to there, or None.
    """

    evaluated: bool
    reached: bool
    step: int | None
    seconds: float | None
    joules: float | None


class ThresholdAsked(TypedDict):
    """What a scenario asks of a number of its run.

    Attributes:
        name: the number, one of ``hybridsim.scenario.thresholds.Thresholds``.
        sign: ``>=``, ``<=``, ``>`` or ``<``.
        value: in SI units.
        unit: of the value, or nothing.
        asked: sign and value as text.
    """

    name: str
    sign: Literal[">=", "<=", ">", "<"]
    value: float
    unit: str
    asked: str


class ThresholdLine(ThresholdAsked):
    """The same, and what came out.

    Attributes:
        got: the number, or None.
        met: whether it is on the side that was asked for; never without a number.
        reason: why there is no number (``not evaluated``, ``not reached``), or nothing.
    """

    got: float | None
    met: bool
    reason: str


class EventCount(TypedDict):
    """Events of one kind.

    Attributes:
        count: how many.
        first_s: simulated second of the first.
    """

    count: int
    first_s: float


class PlacedPiece(TypedDict):
    """Columns of a factor on one SPU, and what they were predicted to take without waiting.

    Attributes:
        layer: the block.
        factor: ``A`` or ``G``.
        part: the SPU.
        first: the first column.
        columns: how many.
        order: of the factor.
        tiles: how many blocks it is cut into.
        device_s: predicted seconds on the SPU.
        link_s: predicted seconds on the link.
    """

    layer: str
    factor: str
    part: str
    first: int
    columns: int
    order: int
    tiles: int
    device_s: float
    link_s: float


class LimitUse(TypedDict):
    """The most that a run needed of what a part has so much of.

    Attributes:
        part: the part.
        name: of what: a constant of its datasheet.
        needed: the most that was needed at once.
        available: what there is.
        share: their ratio.
    """

    part: str
    name: str
    needed: float
    available: float
    share: float


class HostSummary(TypedDict, total=False):
    """About the computer that ran the simulation; not part of the digest.

    Attributes:
        backend: ``live``, ``timing`` or ``replay``.
        replay_missing: why a replay was thrown away and run live, or nothing.
        numeric_s: host seconds in computations.
        wall_s: host seconds of the run, without set-up and files.
        facts_failure: why facts could not be stored, or nothing.
        jacobian: TNGD: the ``form`` in which it is held, ``why``, and ``bytes`` of all of it.
        checkpoints: of a run that keeps them: how many, bytes of the last, host seconds, why the
            last one failed.
    """

    backend: str
    replay_missing: str
    numeric_s: float
    wall_s: float
    facts_failure: str
    jacobian: dict[str, Json]
    checkpoints: dict[str, Json]


class Summary(TypedDict, total=False):
    """The numbers of a report.

    Attributes:
        name: of the scenario.
        seed: of all draws.
        batch_size: examples of a step.
        status: ``running``, ``complete``, ``interrupted`` or ``failed``.
        reason: why it did not end well, or nothing.
        simulated_s: simulated seconds.
        makespan_ps: the same in picoseconds: the end of the last span.
        steps: training steps that ended.
        spans: operations recorded.
        energy: where the energy went.
        throughput: steps and examples per second.
        step_latency: how long a step took, or None.
        lanes: what every lane did.
        times: what every kind of operation took.
        critical_path: the chain of spans that decided when the run ended.
        target: the scenario's, or None.
        final: last value of every column of the learning curve.
        events: what went wrong, by kind.
        limits: how full the parts were.
        sizes: how large the SPUs are; not part of the digest.
        gpu_peak_bytes: most memory in use at once, by GPU.
        placement: K-FAC on SPUs: which SPU solves what.
        thresholds: what the scenario asks of the run, and whether it was met; not part of the
            digest, and missing where nothing was asked.
        host: about the computer that ran the simulation.
    """

    name: str
    seed: int
    batch_size: int
    status: str
    reason: str
    simulated_s: float
    makespan_ps: int
    steps: int
    spans: int
    energy: EnergySummary
    throughput: Throughput
    step_latency: Latency | None
    lanes: list[LaneUse]
    times: list[OperationTimes]
    critical_path: PathSummary
    target: TargetReached | None
    final: dict[str, float]
    events: dict[str, EventCount]
    limits: list[LimitUse]
    sizes: list[Size]
    gpu_peak_bytes: dict[str, int]
    placement: list[PlacedPiece]
    thresholds: list[ThresholdLine]
    host: HostSummary
