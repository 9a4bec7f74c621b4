"""Every kind of part, by the kind of its datasheet; what a request costs on a sheet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.link import Wire
from hybridsim.hardware.part import Part
from hybridsim.hardware.price import Constants, Price, price_of
from hybridsim.hardware.requests import Pause, Propagate, Request, Transmit
from hybridsim.hardware.spu import Spu
from hybridsim.scenario.datasheets.sheets import Datasheet
from hybridsim.units import to_ps

PARTS: dict[str, type[Part]] = {part.kind: part for part in (Gpu, Wire, Spu)}


def price(sheet: Datasheet, request: Request) -> Price:
    """Time and energy of a request on a part with this sheet, with the band; pure.

    Of a message that holds several wires it is what this wire alone would take and takes.

    Raises:
        KeyError: parts of this kind are not asked for such things.
    """
    return price_of(sheet, PARTS[sheet.kind].tariffs[type(request)], request)


class Sheet(Constants, Protocol):
    """Constants of a part of some kind."""

    kind: str


def duration_ps(part: str, request: Request, sheets: Mapping[str, Sheet]) -> int:
    """How long a part is taken by a request, on a machine of parts with these sheets: by a message
    on several wires as long as by the slowest; its flight is that of all of them.

    Raises:
        KeyError: a part without a sheet, or one that is not asked for such things.
    """
    if isinstance(request, Pause):
        return request.wait_ps
    if isinstance(request, Propagate):
        return to_ps(sum(sheets[wire].value("latency_s") for wire in request.wires))
    sheet = sheets[part]
    if isinstance(request, Transmit):
        rates = [sheets[wire].value("bandwidth_bit_per_s") for wire in request.wires]
        sheet = sheets[request.wires[rates.index(min(rates))]]
    time = PARTS[sheet.kind].tariffs[type(request)].time(sheet, request)
    return int(time.duration_ps)
