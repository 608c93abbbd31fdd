"""Reminders by state, channel and due time, page by page, over all workers.

Each worker answers for the partitions that it owns; the one that is asked gathers. A page is walked in slices of a few
milliseconds, so that reminders never wait for whoever looks at them. What is walked are the rows' headers; a body is
read only where its header fits. The order is that of partitions and ids: it does not change while somebody pages.
"""

import asyncio
import base64
import binascii
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import orjson

from app.cli.times import duration_ms, instant_ms
from app.tokens import Token
from app.web import page
from app.web.ports import Reply
from schemas.codec import Undecodable, decode
from schemas.ids import MAX_ID_BYTES
from schemas.names import DELIVERY_CHANNELS, Channel, State
from schemas.records import ReminderRow
from tables import due as index
from tables import reach

#: What a page has unless told otherwise, and at most.
USUAL = 50
MOST = 500
#: Rows that are taken out of the store at once, and how long a slice may last until the loop may turn, in seconds.
SLICE_ROWS = 200
SLICE_S = 0.002
#: A page that has been looked for so long is answered with what was found, in seconds.
BUDGET_S = 2.0
#: Partitions that are looked into at the same time.
AT_ONCE = 4
#: Digits of the latest time in ms that a calendar has.
MAX_DIGITS = 15
#: What stands for several states.
GROUPS: dict[str, tuple[State, ...]] = {"FAILED": (State.RETRY, State.DEAD_LETTER)}
#: The states that a row can be in.
STATES = tuple(state for state in index.STATE_CODES if state not in (State.NONE, State.FAILED))
_SCHEDULED = index.STATE_CODES[State.SCHEDULED]
_FILTERS = ("tenant", "category", "recipient", "source")
PARAMETERS = (
    "state",
    "channel",
    "due_before",
    "due_after",
    *_FILTERS,
    "prefix",
    "unreachable",
    "limit",
    "cursor",
    "partition",
)


class Unfit(ValueError):  # noqa: N818 - an answer more than an error
    """A parameter that cannot be used; ``status`` is the answer's."""

    def __init__(self, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.status = status


class Later(Exception):  # noqa: N818 - an answer more than an error
    """Not all workers can answer at the moment."""


class Scanned(Protocol):
    """The rows of the partitions that this worker owns."""

    def scan(self, partition: int, start: bytes, limit: int) -> Sequence[tuple[bytes, bytes]]:
        """Return rows from a key on, in order. Raises LookupError where this worker cannot tell at the moment."""
        ...

    def counts(self, partition: int) -> Mapping[tuple[int, int], int]:
        """Return how many rows stand in each (state, channel). Raises LookupError likewise."""
        ...


class Placed(Protocol):
    """Which worker owns which partition."""

    def owner_of(self, partition: int) -> str | None:
        """Return the base URL of the owner's web server, "" where it is this worker, None where nobody knows."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ends: the next one begins with this partition at this key."""

    partition: int = 0
    key: bytes = b""

    def __str__(self) -> str:
        return f"{self.partition}." + base64.urlsafe_b64encode(self.key).decode().rstrip("=")

    @classmethod
    def of(cls, text: str, partitions: int) -> "Place":
        """Return the place that a cursor names. Raises Unfit."""
        number, dot, key = text.partition(".")
        try:
            found = cls(int(number), base64.b64decode(key + "=" * (-len(key) % 4), b"-_", validate=True))
        except (ValueError, binascii.Error):
            raise Unfit("cursor: send the `next` of the page before, as it is") from None
        if not dot or not number.isdecimal() or found.partition >= partitions or len(found.key) > MAX_ID_BYTES + 1:
            raise Unfit("cursor: send the `next` of the page before, as it is")
        return found


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for. ``channel`` None: any. Times are ms UTC; 0: no limit. ``query``: as it was asked."""

    states: frozenset[int]
    channel: Channel | None = None
    due_before: int = 0
    due_after: int = 0
    tenant: str = ""
    category: str = ""
    recipient: str = ""
    source: str = ""
    prefix: bytes = b""
    unreachable: bool = False
    limit: int = USUAL
    place: Place = Place()
    partition: int | None = None
    query: tuple[tuple[str, str], ...] = ()

    @property
    def channels(self) -> frozenset[int]:
        """The codes that headers may have: of what has ended, and of a recipient's choice, only the body tells."""
        codes = index.CHANNEL_CODES
        return frozenset(codes.values()) if self.channel is None else frozenset({codes[self.channel], 0})

    def heads(self, row: bytes) -> bool:
        """Return whether a row is in a state, and may be on a channel, that is looked for."""
        return len(row) >= index.HEADER.size and row[1] in self.states and row[3] in self.channels

    def may_have(self, row: bytes) -> bool:
        """Return whether the rest of its header fits."""
        if self.due_before and row[1] == _SCHEDULED:
            # What waits for its first attempt is due when it acts.
            return index.unpack(row).due_ms < self.due_before
        return True

    def has(self, row: ReminderRow) -> bool:
        """Return whether a row fits."""
        o, last = row.open, row.closed[-1] if row.closed else None
        channel = o.channel if o is not None else last.channel if last is not None else Channel.ANY
        if self.channel is not None and channel is not self.channel:
            return False
        due_at = page.due_at(row)
        if (self.due_before and not 0 < due_at < self.due_before) or due_at < self.due_after:
            return False
        d = row.definition
        if self.unreachable and (o is None or not reach.nobody(row)):
            return False
        return all(
            not wanted or (d is not None and wanted == found)
            for wanted, found in (
                (self.tenant, d.tenant if d else ""),
                (self.category, d.category if d else ""),
                (self.recipient, d.recipient_id if d else ""),
                (self.source, d.source if d else ""),
            )
        )


def read(query: Mapping[str, str], token: Token, partitions: int, now: int) -> Wanted:
    """Return what a request asks for. Raises Unfit, naming the parameter and what to send instead."""
    if unknown := [name for name in query if name not in PARAMETERS]:
        raise Unfit(f"{len(unknown)} parameters are not known; use {', '.join(PARAMETERS)}")
    tenant, prefix = query.get("tenant", ""), query.get("prefix", "")
    if token.tenant and tenant not in ("", token.tenant):
        raise Unfit("this token sees reminders of its own tenant alone", 403)
    if prefix and not prefix.startswith(token.prefix) and not token.prefix.startswith(prefix):
        raise Unfit("this token may only use ids with its prefix", 403)
    partition = query.get("partition", "")
    if partition and not (partition.isdecimal() and int(partition) < partitions):
        raise Unfit(f"partition: send a whole number below {partitions}")
    text = query.get("limit", str(USUAL))
    if not text.isdecimal() or not 0 < int(text) <= MOST:
        raise Unfit(f"limit: send a whole number from 1 to {MOST}")
    cursor = query.get("cursor", "")
    if query.get("unreachable", "") not in ("", "true"):
        raise Unfit("unreachable: send true, or leave it out")
    return Wanted(
        states=frozenset(_states(query.get("state", ""))),
        channel=_channel(query.get("channel", "")),
        due_before=_time("due_before", query.get("due_before", ""), now),
        due_after=_time("due_after", query.get("due_after", ""), now),
        tenant=token.tenant or tenant,
        category=query.get("category", ""),
        recipient=query.get("recipient", ""),
        source=query.get("source", ""),
        prefix=max(prefix, token.prefix, key=len).encode(),
        unreachable=bool(query.get("unreachable", "")),
        limit=int(text),
        place=Place.of(cursor, partitions) if cursor else Place(int(partition or 0)),
        partition=int(partition) if partition else None,
        query=tuple(query.items()),
    )


def _states(text: str) -> Iterator[int]:
    names = [name.strip().upper().replace("-", "_") for name in text.split(",") if name.strip()]
    known = {state.value: (state,) for state in STATES} | GROUPS
    for name in names or [state.value for state in STATES]:
        if name not in known:
            raise Unfit(f"state: use some of {', '.join(known)}, with commas between them")
        yield from (index.STATE_CODES[state] for state in known[name])


def _channel(text: str) -> Channel | None:
    if not text:
        return None
    name = text.strip().upper()
    if name not in DELIVERY_CHANNELS:
        raise Unfit(f"channel: use one of {', '.join(channel.lower() for channel in DELIVERY_CHANNELS)}")
    return Channel(name)


def _time(name: str, text: str, now: int) -> int:
    """Return an instant: ISO 8601 with an offset, ms since 1970, or a duration from now on (``-`` before: ago)."""
    if not text:
        return 0
    # A query makes a space of a + that was not escaped.
    text = text.replace(" ", "+")
    if text.isdecimal() and len(text) <= MAX_DIGITS:
        return int(text)
    try:
        if text[0] in "+-":
            return max(1, now + (-1 if text[0] == "-" else 1) * duration_ms(text[1:]))
        return max(1, instant_ms(text, "send ms since 1970"))
    except (ValueError, OverflowError):
        why = "send ISO 8601 with an offset, ms since 1970, or a duration from now such as +2h or -2h"
        raise Unfit(f"{name}: cannot be read; {why}") from None


@dataclass(frozen=True, slots=True)
class Page:
    """What was found. ``next``: where to go on; None where all has been looked at."""

    rows: tuple[dict[str, Any], ...]
    next: Place | None


class Listing:
    """Answers what is asked on this worker. ``now``: ms UTC; ``pause`` lets the loop turn."""

    def __init__(
        self,
        rows: Scanned,
        owners: Placed,
        forward: Callable[[str, Mapping[str, str]], Awaitable[Reply]],
        partitions: int,
        *,
        timer: Callable[[], float] = time.perf_counter,
        pause: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0),
    ) -> None:
        self._rows = rows
        self._owners = owners
        self._forward = forward
        self.partitions = partitions
        self._timer = timer
        self._pause = pause
        self._turns = asyncio.Lock()

    async def gathered(self, wanted: Wanted, headers: Mapping[str, str]) -> Page:
        """Return a page out of all partitions. Raises Later where one cannot answer."""
        until = self._timer() + BUDGET_S
        found: list[dict[str, Any]] = []
        first = wanted.place.partition
        end = self.partitions if wanted.partition is None else wanted.partition + 1
        while first < end:
            numbers = range(first, min(first + AT_ONCE, end))
            starts = {n: wanted.place.key if n == wanted.place.partition else b"" for n in numbers}
            pages = await asyncio.gather(*(self._of(wanted, n, key, until, headers) for n, key in starts.items()))
            for number, part in zip(numbers, pages, strict=True):
                room = wanted.limit - len(found)
                found.extend(part.rows[:room])
                if len(part.rows) > room:
                    last = part.rows[room - 1]["reminder"].encode() if room else b""
                    return Page(tuple(found), Place(number, last + b"\0" if room else starts[number]))
                if part.next is not None:
                    return Page(tuple(found), part.next)
                if len(found) == wanted.limit and number + 1 < end:
                    return Page(tuple(found), Place(number + 1))
            first += AT_ONCE
            if self._timer() > until and first < end:
                return Page(tuple(found), Place(first))
        return Page(tuple(found), None)

    async def _of(self, wanted: Wanted, number: int, start: bytes, until: float, headers: Mapping[str, str]) -> Page:
        owner = self._owners.owner_of(number)
        if owner is None:
            raise Later(f"no worker owns partition {number} at the moment")
        if not owner:
            return await self.walked(wanted, number, start, until)
        query = [(name, value) for name, value in wanted.query if name not in ("cursor", "partition")]
        query += [("partition", str(number)), ("cursor", str(Place(number, start)))]
        try:
            reply = await self._forward(f"{owner.rstrip('/')}/reminders?{urlencode(query, quote_via=quote)}", headers)
        except (OSError, TimeoutError) as exc:
            raise Later(f"the worker that owns partition {number} does not answer ({type(exc).__name__})") from exc
        if reply.status != 200:
            raise Later(f"the worker that owns partition {number} answers {reply.status}")
        try:
            told = orjson.loads(reply.body)
            after = Place.of(told["next"], self.partitions) if told["next"] else None
            return Page(tuple(told["reminders"]), after)
        except (KeyError, TypeError, ValueError) as exc:
            raise Later(f"the worker that owns partition {number} is of another release") from exc

    async def walked(self, wanted: Wanted, number: int, start: bytes, until: float = float("inf")) -> Page:
        """Return a page out of one partition of this worker. Raises Later where it is not owned or not recovered."""
        walk = _Walk(wanted, number, max(start, wanted.prefix))
        try:
            counts = self._rows.counts(number)
            walk.left = sum(n for (state, ch), n in counts.items() if state in wanted.states and ch in wanted.channels)
            while walk.goes_on():
                # One slice a turn of the loop, however many walks there are.
                async with self._turns:
                    self._slice(walk)
                    await self._pause()
                if walk.goes_on() and self._timer() > until:
                    return Page(tuple(walk.found), Place(number, walk.key))
        except LookupError:
            raise Later(f"partition {number} is being taken over") from None
        return Page(tuple(walk.found), None if walk.ended else Place(number, walk.key))

    def _slice(self, walk: "_Walk") -> None:
        """Walk on for SLICE_S."""
        began = self._timer()
        while walk.goes_on() and self._timer() - began < SLICE_S:
            chunk = self._rows.scan(walk.number, walk.key, SLICE_ROWS)
            for key, raw in chunk:
                walk.look(key, raw)
                if not walk.goes_on():
                    return
                if walk.fitted and self._timer() - began > SLICE_S:
                    return
            if len(chunk) < SLICE_ROWS:
                walk.ended = True


class _Walk:
    """How far a walk over one partition has come. ``left``: rows that may fit and have not been seen; a partition
    that was begun at its first row has no more of them."""

    __slots__ = ("_whole", "ended", "fitted", "found", "key", "left", "number", "wanted")

    def __init__(self, wanted: Wanted, number: int, key: bytes) -> None:
        self.wanted = wanted
        self.number = number
        self.key = key
        self.found: list[dict[str, Any]] = []
        self.left = 0
        self.fitted = False
        self.ended = False
        self._whole = key == b""

    def goes_on(self) -> bool:
        """Whether there is more to look at, and room for it."""
        if self.left <= 0 and not self.ended:
            self.ended = True
        return not self.ended and len(self.found) < self.wanted.limit

    def look(self, key: bytes, raw: bytes) -> None:
        """Look at the next row."""
        self.key = key + b"\0"
        self.fitted = False
        if not key.startswith(self.wanted.prefix):
            self.ended = True
            return
        if not self.wanted.heads(raw):
            return
        if self._whole:
            self.left -= 1
        if self.wanted.may_have(raw):
            self.fitted = True
            if (shown := _shown(self.wanted, key, raw)) is not None:
                self.found.append(shown)


def _shown(wanted: Wanted, key: bytes, raw: bytes) -> dict[str, Any] | None:
    """Return what is shown of a row that fits, None for one that does not."""
    rid = key.decode("utf-8", "replace")
    try:
        row = decode(ReminderRow, raw[index.HEADER.size :])
    except Undecodable as exc:
        narrow = wanted.channel or wanted.due_before or wanted.due_after
        if narrow or wanted.tenant or wanted.category or wanted.recipient or wanted.source:
            return None
        return page.damaged_line(rid, raw, str(exc.reason))
    return page.line(rid, raw, row) if wanted.has(row) else None
