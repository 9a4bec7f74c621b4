"""What the user probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def one_of(valid: Iterable[str], given: object, what: str) -> str:
    """``what`` with the nearest valid name, or with the list of names where none is near; only what
    can be printed.
    """
    names, text = sorted(name for name in valid if name.isprintable()), str(given)[:80]
    close = difflib.get_close_matches(text, names, n=1, cutoff=0.5)
    close = close or [name for name in names if len(text) >= 3 and text.lower() in name.lower()][:1]
    if close:
        return f"{what} (nearest: '{close[0]}')"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"{what} (one of {shown})" if names else what
