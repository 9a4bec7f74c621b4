"""Every kind of part, by the kind of its datasheet; what a request costs on a sheet."""

from __future__ import annotations

from hybridsim.hardware.gpu import Gpu
from hybridsim.hardware.link import Wire
from hybridsim.hardware.part import Part
from hybridsim.hardware.price import Price, price_of
from hybridsim.hardware.requests import Request
from hybridsim.hardware.spu import Spu
from hybridsim.scenario.datasheets.sheets import Datasheet

PARTS: dict[str, type[Part]] = {part.kind: part for part in (Gpu, Wire, Spu)}


def price(sheet: Datasheet, request: Request) -> Price:
    """Time and energy of a request on a part with this sheet, with the band; pure.

    Of a message that holds several wires it is what this wire alone would take and takes.

    Raises:
        KeyError: parts of this kind are not asked for such things.
    """
    return price_of(sheet, PARTS[sheet.kind].tariffs[type(request)], request)
