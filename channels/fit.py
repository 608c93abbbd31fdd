"""Cutting a text until what holds it is small enough on the wire. Pure."""

from collections.abc import Callable

from channels.limits import TooLong
from channels.render import shorten


def fit(make: Callable[[str], bytes], text: str, limit: int, rule: TooLong) -> bytes | None:
    """Return ``make(text)``, with as much of the text as ``limit`` bytes allow; None where that may not be.

    A text that is cut ends in an ellipsis and never inside what a reader sees as one character. None, too, where even
    an empty text is too long: what else the message holds is not ours to cut.
    """
    whole = make(text)
    if len(whole) <= limit:
        return whole
    if rule is TooLong.REFUSE:
        return None
    low, high, best = 0, len(text), None
    while low <= high:
        middle = (low + high) // 2
        made = make(shorten(text, middle) if middle else "")
        if len(made) <= limit:
            low, best = middle + 1, made
        else:
            high = middle - 1
    return best
