"""What parts are asked for, before it has a price: one row each in the table of requests.

A request says all that its price depends on besides the datasheet, so that a table of requests can
be priced again under other sheets.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from hybridsim.work import Kernel, Work


class Compute(NamedTuple):
    """Kernels on a digital processor; ``synchronous``: the host waits for another part first;
    ``graph``: launched as one CUDA graph.
    """

    work: Work
    synchronous: bool = False
    graph: bool = False


class Transmit(NamedTuple):
    """``bits`` of a message after the first ``before`` ones, over ``wires`` held together."""

    bits: int
    before: int
    wires: tuple[str, ...]
    repeats: int = 1


class Propagate(NamedTuple):
    """The flight of a message over ``wires``, each with its own latency."""

    wires: tuple[str, ...]


class Pause(NamedTuple):
    """Time that passes on purpose."""

    wait_ps: int


class Write(NamedTuple):
    """``resistors`` that are set, ``bits`` each."""

    resistors: int
    bits: int


class Preset(NamedTuple):
    """``cells`` set to a start state within 2^-``bits``, before each of ``repeats`` settles."""

    cells: int
    bits: int
    repeats: int = 1


class Convert(NamedTuple):
    """Digital to analog: ``cells`` values of ``bits`` for each of ``repeats`` systems in a row."""

    cells: int
    bits: int
    repeats: int = 1


class Held(NamedTuple):
    """A state that stands while it is read, and drives its arrays: power in units of V_fs²/R and
    current in units of V_fs/R as while it settled; None where no voltages are known.
    """

    resistors: int
    dissipation: float | None
    charge: float | None
    supplied: bool


class Measure(NamedTuple):
    """Analog to digital: as :class:`Convert`; ``held``: what the state costs meanwhile."""

    cells: int
    bits: int
    repeats: int = 1
    held: Held | None = None


class Settle(NamedTuple):
    """A relaxation over a commanded ``tau`` RC, of ``repeats`` systems in a row on ``resistors``.

    ``dissipation``: from the trajectory, in units of V_fs² C; None where no voltages are known.
    ``charge``: that amplifiers deliver to their resistors, of either sign, in units of V_fs C;
    ``supplied``: it comes from their rails, so that the charge is what is paid for.
    """

    tau: float
    resistors: int
    dissipation: float | None = None
    repeats: int = 1
    charge: float | None = None
    supplied: bool = False


class Drift(NamedTuple):
    """As :class:`Settle`, over what the clock says: ``elapsed_ps`` between two events."""

    elapsed_ps: int
    resistors: int
    dissipation: float | None = None
    charge: float | None = None
    supplied: bool = False


Request = (
    Compute | Transmit | Propagate | Pause | Write | Preset | Convert | Measure | Settle | Drift
)
_FORMS = (
    Compute,
    Transmit,
    Propagate,
    Pause,
    Write,
    Preset,
    Convert,
    Measure,
    Settle,
    Drift,
)


class Amounts(NamedTuple):
    """What adds up over operations."""

    flop: float = 0.0
    bytes: float = 0.0
    launches: int = 0
    bits: int = 0
    conversions: int = 0
    writes: int = 0


def amounts(request: Request) -> Amounts:
    """The amounts that a request is for."""
    match request:
        case Compute(work=work):
            return Amounts(work.flop, work.bytes, work.launches)
        case Transmit(bits=bits):
            return Amounts(bytes=bits / 8, bits=bits)
        case Write(resistors=resistors, bits=bits):
            return Amounts(bits=resistors * bits, writes=resistors)
        case Convert(cells=cells, repeats=number) | Measure(cells=cells, repeats=number):
            return Amounts(conversions=cells * number)
    return Amounts()


def repeats(request: Request) -> int:
    """Number of equal operations in a row that a request is for."""
    several = Transmit | Preset | Convert | Measure | Settle
    return request.repeats if isinstance(request, several) else 1


def note(request: Request) -> str:
    """What is to be said of its price."""
    estimated = isinstance(request, Settle | Drift) and (
        (request.charge if request.supplied else request.dissipation) is None
    )
    return "estimate: full scale x activity factor" if estimated else ""


def encode(request: Request) -> tuple[str, str]:
    """A request as (form, JSON of its fields); floats survive exactly."""
    form = type(request).__name__.lower()
    if isinstance(request, Compute):
        kernels = [
            [k.name, k.flop, k.bytes, k.precision, k.routine, k.shape, k.count]
            for k in request.work.kernels
        ]
        return form, json.dumps(request._asdict() | {"work": kernels})
    fields = request._asdict()
    if fields.get("supplied") is False:  # tables of ideal devices stay as they were
        fields = {k: v for k, v in fields.items() if k not in ("charge", "supplied")}
    if isinstance(request, Measure) and request.held is None:
        del fields["held"]
    return form, json.dumps(fields)


def decode(form: str, detail: str) -> Request:
    """The request that was encoded; of work its kernels, without the memory they take."""
    fields: dict[str, Any] = json.loads(detail)  # Any: the fields of the form
    if form == "compute":
        kernels = tuple(
            Kernel(name, flop, moved, precision, routine, tuple(shape), number)
            for name, flop, moved, precision, routine, shape, number in fields["work"]
        )
        return Compute(**fields | {"work": Work(kernels)})
    if "wires" in fields:
        fields["wires"] = tuple(fields["wires"])
    if fields.get("held") is not None:
        fields["held"] = Held(*fields["held"])
    named: dict[str, Any] = {kind.__name__.lower(): kind for kind in _FORMS}  # Any: a class of many
    request: Request = named[form](**fields)
    return request
