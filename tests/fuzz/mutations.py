"""Seeded damage: of texts, of plain trees, of bytes."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

TOKENS = (
    "? ", "- ", ": ", "[", "{", "]", "}", "&a ", "*a", "!!str ", "|", ">", "'", '"', "#", "%",
    "@", "`", "\t", "\n", "\r", "\0", "\x1b", "\ufeff", "\u2028", "\ud800", "é", "null", "true",
    ".nan", "-.inf", "1e400", "-1", "0", "9" * 400, "0x", "1_0", "~", "<<: ", "---\n", "...\n",
    "extends: s.yaml\n", '"\\UFFFFFFFF"', '"\\uD800"', "../x.yaml", "/dev/zero", "1 parsec",
    "50 GB/s", "nan tau", "1e300 tau", "-3 tau", "ideal",
)  # fmt: skip
BOMBS = (
    "? " * 3_000, "[" * 99_000, "{" * 50_000, "- " * 40_000, "a: &a [*a]\n" * 5_000,
    "k: v\n" * 15_000, "a: " + "x " * 45_000, "a: '" + "''" * 40_000 + "'", "\n" * 99_000,
    "a: " + "[{b: " * 9 + "1, " * 9_000, "".join(f"k{n}: [1, {{a: b}}]\n" for n in range(4_000)),
    "a: |\n" + " x\n" * 30_000, "".join(" " * n + "a:\n" for n in range(400)),
    "machine: " + "9" * 90_000,
)  # fmt: skip
VALUES = (
    None, True, False, 0, -1, 1, 2, 3, 7, 10**6, 10**18, 10**400, 0.0, -0.5, 1e-300, 1e300,
    float("nan"), float("inf"), "", "x", "0", "1 us", "1e-300 s", "1e300 s", "0 tau", "1e13 tau",
    "1e-30 tau", "50 Gb/s", "1 b/s", "1e30 b/s", "1e-9 W", "1e9 W", "free", "ideal", "adam",
    "tngd", "kfac", "sgd", "muon", "gpt", "a100-sxm4-80gb", "rc-1us", "digits_cnn", [], {}, [1],
    {"a": 1}, {"kind": "adam"}, "\udcff", "a\nb", "<b>",
)  # fmt: skip


def damaged_text(random: Random, text: str) -> str:
    """A text with one to four pieces cut, doubled, replaced or put in."""
    if random.random() < 0.04:
        return random.choice(("", text)) + random.choice(BOMBS)
    for _ in range(random.randint(1, 4)):
        start = random.randint(0, len(text))
        stop = min(len(text), start + random.randint(0, 30))
        piece = random.choice(("", text[start:stop] * 2, random.choice(TOKENS)))
        text = text[:start] + piece + text[stop if random.random() < 0.5 else start :]
    return text


def damaged_tree(random: Random, document: Any) -> Any:
    """A document with one to three values replaced, by one alike or any other, removed or
    renamed.
    """
    document = copy.deepcopy(document)
    for _ in range(random.choice((1, 1, 2, 3))):
        places = list(_places(document))
        if not places:
            break
        holder, key = random.choice(places)
        what = random.random()
        if what < 0.5:
            holder[key] = _alike(random, holder[key])
        elif what < 0.85 or isinstance(holder, list):
            holder[key] = copy.deepcopy(random.choice(VALUES))
        elif what < 0.93:
            del holder[key]
        else:
            holder[f"{key}x"] = holder.pop(key)
    return document


def _alike(random: Random, value: Any) -> Any:
    """Another number, quantity or truth; what is none of these stays."""
    factor = random.choice((-1, 0, 1e-12, 0.01, 0.5, 2, 3, 100, 1e6, 1e12))
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return type(value)(value * factor)
    number, _, unit = str(value).partition(" ")
    try:
        return f"{float(number) * factor:g} {unit}"
    except ValueError:
        return value


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, child in items:
        yield value, key
        yield from _places(child)


def damaged_bytes(random: Random, content: bytes) -> bytes:
    """Bytes cut short, flipped, overwritten or put in; never the same."""
    found = content
    while found == content:
        place = random.randrange(len(content) + 1)
        length = random.choice((1, 1, 4, 100))
        noise = random.choice((random.randbytes(length), b"\0" * length, b"\xff" * length))
        found = random.choice(
            (
                content[:place],
                content[:place] + noise + content[place + length :],
                content[:place] + noise + content[place:],
                content[:place] + content[place + length :],
            )
        )
    return found
