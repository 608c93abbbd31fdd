"""How often a recipient is written to: caps an hour and a day over all channels. Pure.

A delivery counts once, from when the gate lets it pass, however often it is tried; it no longer counts when it turns
out that nothing was sent. What a cap keeps back is held until the window that it counts in has room again.
"""

from collections.abc import Collection

from schemas.quick import replace
from schemas.records import Passed, RecipientProfile, RecipientSends

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
#: So many deliveries of the last day are remembered; nobody's cap is higher than that and still a cap.
KEPT = 1000
#: The reasons by which a cap keeps something back.
REASONS = frozenset({"cap_per_hour", "cap_per_day"})


def capped(profile: RecipientProfile | None) -> bool:
    """Return whether a recipient has a cap."""
    return profile is not None and (profile.max_per_hour > 0 or profile.max_per_day > 0)


def full_until(profile: RecipientProfile, sends: RecipientSends, token: str, now_ms: int) -> tuple[str, int] | None:
    """Return by which cap a delivery is kept back and until when (ms UTC), None if it may pass."""
    others = [sent.at for sent in sends.passed if sent.token != token]
    if len(others) < len(sends.passed):
        return None
    found = [
        (reason, _room(others, cap, window, now_ms))
        for reason, cap, window in (
            ("cap_per_hour", profile.max_per_hour, HOUR_MS),
            ("cap_per_day", profile.max_per_day, DAY_MS),
        )
        if cap > 0
    ]
    reason, until = max(found, key=lambda item: item[1], default=("", 0))
    return (reason, until) if until > now_ms else None


def _room(at: list[int], cap: int, window_ms: int, now_ms: int) -> int:
    """Return when a window that slides has room for one more."""
    inside = sorted(t for t in at if t > now_ms - window_ms)
    return inside[-cap] + window_ms if len(inside) >= cap else now_ms


def passed(sends: RecipientSends, token: str, now_ms: int) -> RecipientSends:
    """Return the memory with a delivery counted, and what is older than a day forgotten."""
    kept = [sent for sent in sends.passed if sent.at > now_ms - DAY_MS]
    if token not in [sent.token for sent in kept]:
        kept.append(Passed(token, now_ms))
    return replace(sends, passed=tuple(kept[-KEPT:]))


def forgotten(sends: RecipientSends, token: str) -> RecipientSends | None:
    """Return the memory without a delivery that was not sent after all, None where it does not count anyway."""
    kept = tuple(sent for sent in sends.passed if sent.token != token)
    return replace(sends, passed=kept) if len(kept) < len(sends.passed) else None


def renamed(sends: RecipientSends, tokens: Collection[str], token: str) -> RecipientSends:
    """Return the memory with deliveries that counted before as one message, from when the first of them did."""
    at = [sent.at for sent in sends.passed if sent.token in tokens]
    if not at:
        return sends
    others = [sent for sent in sends.passed if sent.token not in tokens]
    return replace(sends, passed=tuple(sorted([*others, Passed(token, min(at))], key=lambda sent: sent.at)))


def due(sends: RecipientSends) -> int:
    """Return when nothing of the memory counts any more (ms UTC)."""
    return max([sent.at for sent in sends.passed], default=0) + DAY_MS
