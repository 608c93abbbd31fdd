"""Holds: which scopes are held at a moment, and what a scope takes in. Pure.

A scope is ``*`` (everything) or ``kind:name`` with one of the kinds below, names as producers and operators write them,
in any case. A hold on a channel takes its credit away, so that its rows stay due; any other hold turns what comes due
into HELD. A hold stands once, from a time to a time, or recurs on a wall clock, as the windows of a maintenance do.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from schemas import checks
from schemas.records import ControlRecord

EVERYTHING = "*"
HOLD = "HOLD"
RELEASE = "RELEASE"

#: How often a hold may recur, and the days from one start to the next.
EVERY = {"daily": 1, "weekly": 7}
_DAY_MS = 86_400_000


class Kind(StrEnum):
    """What a scope can name."""

    CHANNEL = "channel"
    PROVIDER = "provider"
    CATEGORY = "category"
    TENANT = "tenant"
    SOURCE = "source"


#: The kinds of scopes as metrics name them.
KINDS = (*(kind.value for kind in Kind), "everything")


@dataclass(frozen=True, slots=True)
class Subject:
    """What a reminder, or a call, is in the eyes of a hold. Empty: not known (yet)."""

    channel: str = ""
    provider: str = ""
    category: str = ""
    tenant: str = ""
    source: str = ""


class Window(NamedTuple):
    """When a hold stands, in ms UTC; ``ends`` 0: until it is released."""

    begins: int
    ends: int


def scope(text: str) -> str:
    """Return a scope as it is compared and keyed. Raises ValueError, saying what a scope looks like."""
    text = text.strip()
    if text.lower() in (EVERYTHING, "everything"):
        return EVERYTHING
    kind, colon, name = text.partition(":")
    if not colon or not name.strip() or kind.strip().lower() not in list(Kind):
        kinds = ", ".join(f"{kind}:NAME" for kind in Kind)
        raise ValueError(f"a scope is {kinds} or everything, not {text!r}")
    return f"{kind.strip().lower()}:{name.strip().lower()}"


def key(scope: str, *, recurring: bool) -> str:
    """Return the key of a scope's record: what recurs stands beside what was held by hand and is released by itself."""
    return f"{scope} recurring" if recurring else scope


def kind_of(scope: str) -> str:
    """Return the kind of a scope: one of KINDS."""
    return "everything" if scope == EVERYTHING else scope.partition(":")[0]


def is_channel(held: str) -> bool:
    """Return whether a scope takes credit away instead of turning rows into HELD."""
    return held == EVERYTHING or held.startswith(f"{Kind.CHANNEL}:")


def window(record: ControlRecord, now: int) -> Window | None:
    """Return the window in which a hold stands now, else the next one to come; None where there is none any more.

    A window that recurs begins when its zone's wall clock shows the time (one that the clocks jump over comes later, of
    two the first is meant) and lasts for as long as it says, whatever the clocks do meanwhile.
    """
    if record.kind != HOLD or (record.ends_at and record.ends_at <= now):
        return None
    days = EVERY.get(record.every)
    zone = checks.zone(record.zone) if days else None
    first = checks.wall_clock(record.local) if zone else None
    if days is None or zone is None or first is None:
        # What recurs in a way that a newer release knows is rather held all along than not at all.
        return Window(record.starts_at, record.ends_at)
    shown = datetime.fromtimestamp(now / 1000, UTC).astimezone(zone).replace(tzinfo=None)
    step = timedelta(days=days)
    back = record.lasts_ms // (days * _DAY_MS) + 2
    start = first + step * max(0, (shown - first) // step - back)
    while True:
        begins = checks.instant_of(start, zone)
        if record.ends_at and begins >= record.ends_at:
            return None
        ends = begins + record.lasts_ms
        if ends > now:
            return Window(begins, min(ends, record.ends_at) if record.ends_at else ends)
        start += step


def standing(record: ControlRecord, now: int) -> ControlRecord | None:
    """Return a hold that stands now, with the beginning and the end of its present window; None if it does not."""
    found = window(record, now)
    return None if found is None or found.begins > now else replace(record, starts_at=found.begins, ends_at=found.ends)


def active(record: ControlRecord, now: int) -> bool:
    """Return whether a record holds its scope now: it has begun and has not ended by itself."""
    return standing(record, now) is not None


def takes(held: str, subject: Subject) -> bool:
    """Return whether a scope takes a subject in."""
    if held == EVERYTHING:
        return True
    kind, _, name = held.partition(":")
    value: str = getattr(subject, kind, "")
    return bool(value) and value.lower() == name


def longest(standing: Iterable[ControlRecord], subject: Subject) -> ControlRecord | None:
    """Return the one of the holds that stand which keeps a subject back longest, None if none does."""
    found = [record for record in standing if takes(record.scope, subject)]
    return max(found, key=lambda record: record.ends_at or 1 << 62, default=None)


def next_change(records: Iterable[ControlRecord], now: int) -> int | None:
    """Return when the next hold begins or ends by itself."""
    windows = [found for record in records if (found := window(record, now)) is not None]
    return min((t for found in windows for t in found if t > now), default=None)
