"""What is said of verdicts over draws of constants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hybridsim.reports.differences import short_names
from hybridsim.reports.statistics import Share
from hybridsim.reports.units_text import percent
from hybridsim.studies.questions._measures import word
from hybridsim.studies.questions._sentences import called, fit, listed, place
from hybridsim.studies.questions._verdict import MARKED, MOST_DECIDING, Drawn, Verdict

_MOST_NAMES = 8
_LEAST_INFLUENCE = 0.01
"""What takes away less of the variance decides nothing, however surely it does."""


def sentence(found: Sequence[Drawn], sides: Sequence[str]) -> str:
    """The verdict in one sentence."""
    if len(found) > 1:
        return _over_axes(found, sides)
    (one,) = found
    if all(verdict.neither == verdict.evaluated for verdict in one.verdicts):
        both = f"neither {called(sides[0])} nor {called(sides[1])} gets there"
        return fit(f"No draw has a winner: {both}, or nothing is known")
    winner = _more(one.verdicts[0], sides)
    first, second = called(sides[winner]), called(sides[1 - winner])
    claims = [_claim(verdict, winner) for verdict in one.verdicts]
    claims[0] = claims[0].replace("]", "] of what the constants allow", 1)
    head = f"{first} beats {second} {listed(claims)}"
    if _undetected(one):
        # What seeds alone may have done is no victory, however many draws agree.
        head = f"no detectable difference in any draw; {first} is lower than {second} "
        head += listed([_claim(verdict, winner, short=True) for verdict in one.verdicts])
    drawn = one.verdicts[0]
    basis = f"(95 %, {drawn.draws:,} draws of {len(one.varied)} constants"
    basis += f", {drawn.evaluated:,} evaluated" if drawn.evaluated < drawn.draws else ""
    basis += f", {_seeds(drawn)})"
    deciding = _decisive(one)
    doubt = _doubt(one, sides)
    tail = f"; {deciding}" if deciding else ""
    return fit(
        f"{doubt}{head} {basis}{tail}",
        f"{doubt}{head} {basis}",
        f"{_doubt(one, sides, short=True)}{head} {basis}",
    )


def _over_axes(found: Sequence[Drawn], sides: Sequence[str]) -> str:
    """Lowest and highest share over the axes, for each measure."""
    winner = _more(found[0].verdicts[0], sides)
    first, second = called(sides[winner]), called(sides[1 - winner])
    claims, short = [], []
    for index, verdict in enumerate(found[0].verdicts):
        ranked = sorted(found, key=lambda one: one.verdicts[index].wins[winner].share)  # noqa: B023
        ends = [(one, one.verdicts[index].wins[winner]) for one in (ranked[0], ranked[-1])]
        texts = [f"{_share(share)} (at {place(one.values)})" for one, share in ends]
        claims.append(f"in {word(verdict.measure)} in {texts[0]} to {texts[1]}")
        short.append(f"in {word(verdict.measure)} in {' to '.join(_share(s) for _, s in ends)}")
    head = f"{first} beats {second}"
    tail = f"of what the constants allow (95 %, {len(found)} points)"
    doubt = next((text for one in found if (text := _doubt(one, sides, short=True))), "")
    return fit(f"{doubt}{head} {listed(claims)} {tail}", f"{doubt}{head} {listed(short)} {tail}")


def _more(verdict: Verdict, sides: Sequence[str]) -> int:
    """The side that is lower in more draws; of equals the first."""
    return int(verdict.lower[1] > verdict.lower[0])


def _share(share: Share) -> str:
    if share.share != share.share:
        return "no draw that was evaluated"
    low, high = (f"{100 * end:.3g}" for end in (share.low, share.high))
    return f"{percent(share.share)} [{low}, {high}]"


def _claim(verdict: Verdict, side: int, short: bool = False) -> str:
    """In what, in which share of the draws; of these which more than seeds explain."""
    text = f"in {word(verdict.measure)} in {_share(verdict.wins[side])}"
    found = verdict.detected[side].share
    if short or verdict.seeds < 2 or not found < verdict.wins[side].share:
        return text
    return f"{text} ({percent(found)} detectably)"


def _undetected(one: Drawn) -> bool:
    """Seeds explain the difference of every draw; with one seed nothing is said of that."""
    return all(
        verdict.seeds > 1 and not any(share.share > 0 for share in verdict.detected)
        for verdict in one.verdicts
    ) and not any(any(verdict.marks) for verdict in one.verdicts)


def _seeds(verdict: Verdict) -> str:
    return "one seed" if verdict.seeds == 1 else f"means over {verdict.seeds} seeds"


def _decisive(one: Drawn) -> str:
    """What decides the verdict that is nearest to even."""
    verdict = min(one.verdicts, key=lambda v: abs(v.wins[0].share - 0.5))
    if not verdict.deciding:
        return ""
    names = _names(verdict, one)[:MOST_DECIDING]
    if not names:
        return ""
    verb = "move the ratio most" if verdict.by_ratio else "decide it"
    if len(names) == 1:
        verb = "moves the ratio most" if verdict.by_ratio else "decides it"
    return f"{listed(names)} {verb}"


def _names(verdict: Verdict, one: Drawn) -> list[str]:
    short = short_names([constant.name for constant in one.varied])
    return [
        short[own.constant.name] for own in verdict.deciding if own.influence >= _LEAST_INFLUENCE
    ]


def _doubt(one: Drawn, sides: Sequence[str], short: bool = False) -> str:
    """Which side cannot win, and why."""
    for verdict in one.verdicts:
        for side, mark, share in zip(sides, verdict.marks, verdict.lower, strict=True):
            if mark and share > 0:
                if short:
                    return f"Not trusted ({called(side)}: {mark}): "
                lower = f"{called(side)} is lower in {percent(share)} but wins none"
                return f"Not trusted ({lower}: {mark}): "
    return ""


def notes_of(one: Drawn, sides: Sequence[str]) -> Iterator[str]:
    """What must be said beside the sentence."""
    where = f"At {place(one.values)}: " if one.values else ""
    yield (
        "A draw takes all constants at once, log-uniform between low and high (uniform where low "
        "is zero); a constant that both sides have takes one value."
    )
    if one.held:
        names = [held.name for held in one.held]
        numeric = [held.name for held in one.held if held.numeric]
        why = " (they change numbers that are computed)" if len(numeric) == len(names) else ""
        yield f"Held at nominal{why}: {_some(names)}."
    if one.clusters:
        names = [constant.name for constant in one.varied if constant.numeric]
        yield (
            f"Constants that change numbers take {one.clusters} Latin-hypercube points, which the "
            f"draws share: {_some(names)}. The interval counts them as clusters."
        )
    for verdict in one.verdicts:
        yield from _on(verdict, one, sides, where)


def _on(verdict: Verdict, one: Drawn, sides: Sequence[str], where: str) -> Iterator[str]:
    what = word(verdict.measure)
    if verdict.evaluated < verdict.draws:
        yield (
            f"{where}{what}: {verdict.again:,} of {verdict.draws:,} draws change the order of "
            f"requests; of these {verdict.evaluated - verdict.draws + verdict.again:,} were "
            f"simulated and stand for all: {_method(verdict)}."
        )
    elif verdict.again:
        yield (
            f"{where}{what}: {percent(verdict.again / verdict.draws)} of the draws changed the "
            "order of requests and were simulated, the others retimed."
        )
    if verdict.neither:
        yield f"{where}{what}: {verdict.neither:,} draws have no winner."
    if verdict.seeds > 1:
        texts = [
            f"{side} {_share(share)}" for side, share in zip(sides, verdict.detected, strict=True)
        ]
        yield (
            f"{where}{what}: draws won by more than {verdict.seeds} seeds explain (95 %, paired): "
            f"{listed(texts)}."
        )
    elif verdict.seeds == 1:
        yield f"{where}{what}: one seed, so that what seeds do is in no interval."
    low, _, middle, _, high = verdict.quantiles
    yield (
        f"{where}{what}, {sides[0]} / {sides[1]}: median {middle:.3g}, 95 % of the draws from "
        f"{low:.3g} to {high:.3g}."
    )
    yield from _on_deciding(verdict, one, sides, where)


def _on_deciding(verdict: Verdict, one: Drawn, sides: Sequence[str], where: str) -> Iterator[str]:
    shown = [own for own in verdict.deciding if own.influence >= _LEAST_INFLUENCE]
    shown = shown[:MOST_DECIDING]
    what = word(verdict.measure)
    if not shown:
        if one.varied and verdict.evaluated:
            yield f"{where}{what}: no single constant decides more than chance would show."
        return
    if verdict.by_ratio:
        texts = [
            f"{name} ({percent(d.influence)}; ratio {d.ratio_low:.3g} in its lowest third, "
            f"{d.ratio_high:.3g} in its highest)"
            for name, d in zip(_names(verdict, one), shown, strict=False)
        ]
        yield (
            f"{where}{what}: all draws agree; share of the variance of the ratio's rank that "
            f"knowing one constant takes away: {listed(texts)}."
        )
        return
    texts = [
        f"{name} ({percent(d.influence)}; {sides[0]} wins {percent(d.low)} in its lowest third, "
        f"{percent(d.high)} in its highest)"
        for name, d in zip(_names(verdict, one), shown, strict=False)
    ]
    yield (
        f"{where}{what}: share of the variance of who wins that knowing one constant takes away "
        f"(by bins of its range, less what chance shows): {listed(texts)}."
    )


def _method(verdict: Verdict) -> str:
    return next((share.method for share in verdict.wins if share.method != MARKED), "all marked")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
