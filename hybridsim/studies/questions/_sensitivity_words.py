"""What is said of effects."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from hybridsim.reports.differences import short_names
from hybridsim.reports.units_text import percent
from hybridsim.studies.questions._contest import basis_text
from hybridsim.studies.questions._factors import ConstantFactors, Factors
from hybridsim.studies.questions._measures import Measure, word
from hybridsim.studies.questions._sensitivity import Effect, Effects
from hybridsim.studies.questions._sentences import called, fit, listed

_SHOWN = 3
_MOST_NAMES = 8


def sentence(found: Effects, measure: Measure, sides: Sequence[str]) -> str:
    """What matters most, in one sentence."""
    names = [called(side) for side in sides]
    what = f"{word(measure)} of {names[0]}"
    if len(sides) == 2:
        what = f"the ratio of {word(measure)}, {names[0]} / {names[1]}"
    doubt = f"Not trusted ({found.marks[0]}): " if found.marks else ""
    if not found.effects:
        lost = f"{found.left_out} of {found.draws} evaluations have no numbers"
        return fit(f"Nothing can be said of {what}: {lost}" if found.left_out else "Nothing varies")
    short = _short(found.effects)
    if found.effects[0].size <= 1e-9:
        return fit(f"{doubt}none of {len(found.effects)} factors changes {what}")
    says = {"tornado": _tornado, "sobol": _sobol, "morris": _morris}[found.method]
    return says(found, what, short, doubt, len(sides) == 2)


def _tornado(found: Effects, what: str, short: dict[str, str], doubt: str, ratio: bool) -> str:
    top = found.effects[0]
    size = f"{_times(top, 'low')} at its lowest, {_times(top, 'high')} at its highest"
    basis = f"({basis_text(found.seeds)})"
    others = [short[one.name] for one in found.effects[1:_SHOWN] if one.size > 1e-9]
    tail = f"; then {listed(others)}" if others else ""
    flips = [one for one in found.effects if _flips(found, one)] if ratio else []
    if ratio:
        which = listed([short[one.name] for one in flips[:_SHOWN]]) if flips else "none"
        more = f" and {len(flips) - _SHOWN} more" if len(flips) > _SHOWN else ""
        tail += f"; {which}{more} alone changes the winner"
    head = f"{doubt}{short[top.name]} moves {what} most: {size}"
    return fit(
        f"{head} {basis}{tail}", f"{head} {basis}", f"{doubt}{short[top.name]}: {size} {basis}"
    )


def _times(one: Effect, end: str) -> str:
    middle, low, high = (one.numbers[f"at_{end}{part}"] for part in ("", "_low", "_high"))
    if middle != middle:
        return "unknown"
    ends = f" [{low:.3g}, {high:.3g}]" if low == low else ""
    return f"{middle:.3g} times{ends}"


def _flips(found: Effects, one: Effect) -> bool:
    """One end of it alone makes the other side win."""
    return any(
        found.nominal * one.numbers[f"at_{end}"] < 1 < found.nominal
        or found.nominal < 1 < found.nominal * one.numbers[f"at_{end}"]
        for end in ("low", "high")
    )


def _sobol(found: Effects, what: str, short: dict[str, str], doubt: str, ratio: bool) -> str:
    texts = [
        f"{short[one.name]} {percent(one.numbers['total'])} "
        f"[{_end(one, 'total', -1)}, {_end(one, 'total', 1)}]"
        for one in found.effects[:_SHOWN]
        if one.size > 0
    ]
    explained = sum(one.numbers["first_order"] for one in found.effects)
    head = f"{doubt}of the variance of the logarithm of {what} takes part: {listed(texts)}"
    basis = f"(total indices, 95 % by bootstrap, {found.draws - found.left_out:,} evaluations)"
    alone = f"; single factors explain {percent(min(max(explained, 0.0), 1.0))}"
    brief = [
        f"{doubt}share in the variance of {what}: {listed(texts[:n])} {basis}" for n in (3, 2, 1)
    ]
    return fit(f"{head} {basis}{alone}", f"{head} {basis}", *brief)


def _end(one: Effect, name: str, sign: int) -> str:
    end = one.numbers[name] + sign * one.numbers[f"{name}_half"]
    return f"{100 * min(max(end, 0.0), 1.0):.3g}"


def _morris(found: Effects, what: str, short: dict[str, str], doubt: str, ratio: bool) -> str:
    texts = []
    for one in found.effects[:_SHOWN]:
        middle, half = one.numbers["mean_effect"], one.numbers["mean_effect_half"]
        if middle > 0:
            low, high = math.exp(max(middle - half, 0)), math.exp(middle + half)
            texts.append(f"{short[one.name]} {math.exp(middle):.3g} times [{low:.3g}, {high:.3g}]")
    head = f"{doubt}over its range moves {what} on average: {listed(texts)}"
    count = found.draws - found.left_out
    basis = f"(mean elementary effects, 95 % by bootstrap, {count:,} evaluations)"
    brief = [f"{doubt}{what} moves on average: {listed(texts[:n])} {basis}" for n in (3, 2, 1)]
    return fit(f"{head} {basis}", *brief)


def _short(effects: Sequence[Effect]) -> dict[str, str]:
    return short_names([one.name for one in effects])


def notes_of(found: Effects, factors: Factors) -> Iterator[str]:
    """What must be said beside the sentence."""
    if isinstance(factors, ConstantFactors) and factors.held:
        names = [one.name for one in factors.held]
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        yield f"Held at nominal: {', '.join(names[:_MOST_NAMES])}{more}."
    assumed = sum(one.assumed for one in found.effects)
    if assumed:
        yield f"{assumed} of {len(found.effects)} ranges are assumed."
    if found.left_out:
        yield (
            f"{found.left_out:,} of {found.draws:,} evaluations are left out: they, or others of "
            "their base sample, were not evaluated or a side did not get there."
        )
    if found.method == "tornado":
        yield "One at a time: what factors do together is not seen (method: sobol)."
    else:
        yield "Uniform over each range, of constants in their logarithm (where low is not zero)."
