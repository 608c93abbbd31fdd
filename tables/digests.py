"""Digests: several reminders of one recipient in one message. Pure.

A delivery waits for others as core's own row, where it can still be cancelled, moved or expire: the gate answers that
it is held until its window ends. Who comes back then is gathered, and goes in one message as soon as all have come who
were told to, or after a short time without them. Each keeps its own row, attempts and outcome; the message is only what
their calls share.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from schemas import ids
from schemas.names import AttemptState, Channel, Priority
from schemas.quick import replace
from schemas.records import Awaited, DeliveryRequest, RecipientDelivery, RecipientDigest
from tables import deliveries
from tables.consent import Caps, Category

#: With this reason a delivery is held that waits for others.
WINDOW = "digest_window"
#: The longest window, in seconds: half of the day that a reminder may be late where nobody says another.
MAX_WINDOW_S = 43_200
#: The shortest one: what comes due together is asked for within it.
MIN_WINDOW_S = 2
#: How long what has come waits where nobody else was told to come, and where somebody was, in ms.
LINGER_MS, PATIENCE_MS = 2_000, 10_000
#: How long after its window somebody is awaited at all, in ms: a worker's restart, or a queue in front of its channel.
AWAITED_MS = 60_000
#: Deliveries in one message, and bytes of their requests that are gathered (a row is 512 KiB at the most).
MOST, MOST_BYTES = 50, 128 * 1024
#: A webhook reaches a machine, which reads one by one; and its receiver knows a message again by its token.
NEVER = frozenset({Channel.WEBHOOK})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Alone:
    """It goes at once, by itself."""


@dataclass(frozen=True, slots=True)
class Wait:
    """It is held until then (ms UTC) for others to come."""

    until: int


@dataclass(frozen=True, slots=True)
class Gather:
    """Its time to wait is over: it goes with those who have come, or come presently."""


class Why(StrEnum):
    """Why a reminder of a category with digests goes alone."""

    URGENT = "urgent"
    ANSWER = "answer"
    ADDRESS = "address"
    COST = "cost"


def never(request: DeliveryRequest) -> Why | None:
    """Return why a request never goes in a digest, None if it may.

    What is urgent waits for nobody. An answer must be about one reminder, and so must be the cost that it may have.
    Without a recipient nobody knows who is the same.
    """
    if request.priority is Priority.URGENT:
        return Why.URGENT
    if request.wants_answer:
        return Why.ANSWER
    if request.max_cost_micros:
        return Why.COST
    return Why.ADDRESS if not request.recipient_id else None


def digests(category: Category) -> bool:
    """Return whether a category has digests at all."""
    return category.digest_window_s > 0 or category.caps is Caps.DIGEST


def place(
    category: Category,
    group: RecipientDigest,
    row: RecipientDelivery,
    request: DeliveryRequest,
    channel: Channel,
    now: int,
) -> Alone | Wait | Gather:
    """Return what becomes of a delivery that may go.

    It waits once: a further attempt, a further step and a delivery that waited before go with whoever else has come.
    One whose own deadline may come before the message goes does not wait: the others would be what lets it expire.
    """
    if channel in NEVER or never(request) is not None or _too_late(request, max(now, row.digest_due)):
        return Alone()
    if group.gathered or row.digest:
        return Gather()
    if row.digest_due:
        return Wait(row.digest_due) if row.digest_due > now else Gather()
    if not category.digest_window_s:
        return Alone()
    if request.step or request.attempt > 1 or request.tried:
        return Gather()
    until = window(category, group, request, now)
    if _too_late(request, until):
        return Alone()
    return Wait(until) if until > now else Gather()


def window(category: Category, group: RecipientDigest, request: DeliveryRequest, now: int) -> int:
    """Return when the window of a delivery ends, ms UTC: the one that is open, else its own from when core asked.

    By the time of asking, not by the clock, so that a replay comes to the same end.
    """
    return group.until if group.until > now else request.asked_at + category.digest_window_s * 1000


def capped_until(category: Category, group: RecipientDigest, request: DeliveryRequest, until: int, now: int) -> int:
    """Return until when a delivery waits that a cap keeps back until ``until``, 0: as any other that it keeps back,
    also where the others may come too late for its deadline."""
    if category.caps is not Caps.DIGEST or never(request) is not None:
        return 0
    end = group.until if group.until > now else until
    return 0 if _too_late(request, end) else end


def _too_late(request: DeliveryRequest, until: int) -> bool:
    """Return whether a deadline may be over before a message goes whose deliveries wait until ``until``, ms UTC: there
    is patience with those who come after that."""
    return bool(request.deadline) and until + PATIENCE_MS >= request.deadline


def waits(group: RecipientDigest, token: str, until: int, now: int) -> RecipientDigest:
    """Return the group with a delivery that was told to come back at the end of a window."""
    others = (one for one in _awaited(group, now) if one.token != token)
    return replace(group, until=max(group.until, until), waiting=(*others, Awaited(token, until)))


def comes(
    group: RecipientDigest, delivery: str, request: bytes, known: Callable[[bytes], str], now: int
) -> RecipientDigest:
    """Return the group with a request that has come. ``known``: the delivery of a request that came before; a newer
    one of the same takes its place.

    The last one who was awaited closes it. For the others there is patience, counted from the end of their window, and
    from each who comes after that. Who was not awaited, as for a further attempt, comes with others or not: a short
    time tells.
    """
    gathered = (*(raw for raw in group.gathered if known(raw) != delivery), request)
    awaited, token = _awaited(group, now), ids.provider_token(delivery)
    waiting = tuple(one for one in awaited if one.token != token)
    late = [one.until for one in waiting if one.until <= now]
    if late:
        closes = max(group.closes, max(late) + PATIENCE_MS, now + LINGER_MS)
    elif len(waiting) < len(awaited):
        closes = now
    else:
        closes = group.closes or now + LINGER_MS
    return replace(group, gathered=gathered, waiting=waiting, closes=closes)


def gone(group: RecipientDigest, token: str, now: int) -> RecipientDigest | None:
    """Return the group that waits for a delivery no longer, None where it did not."""
    waiting = tuple(one for one in group.waiting if one.token != token)
    if len(waiting) == len(group.waiting):
        return None
    last = group.closes and not any(one.until <= now for one in waiting)
    return replace(group, waiting=waiting, closes=min(group.closes, now) if last else group.closes)


def complete(group: RecipientDigest, now: int) -> bool:
    """Return whether what has come goes now: its time is over, or there is room for no more."""
    full = len(group.gathered) >= MOST or sum(map(len, group.gathered)) >= MOST_BYTES
    return bool(group.gathered) and (full or group.closes <= now)


def left(group: RecipientDigest, now: int) -> RecipientDigest | None:
    """Return what is left of a group once those who have come are gone, None: nothing."""
    waiting = tuple(_awaited(group, now))
    if not waiting and group.until <= now:
        return None
    return replace(group, gathered=(), closes=0, waiting=waiting, until=group.until if group.until > now else 0)


def due(group: RecipientDigest) -> int:
    """Return when a group must be looked at, ms UTC."""
    last = max((one.until for one in group.waiting), default=group.until)
    return group.closes or last + AWAITED_MS


def _awaited(group: RecipientDigest, now: int) -> list[Awaited]:
    return [one for one in group.waiting if one.until > now - AWAITED_MS]


def stands(row: RecipientDelivery | None, request: DeliveryRequest) -> bool:
    """Return whether a request that has come is still to be answered: not withdrawn, not begun, not asked anew."""
    if row is None or request.ask <= row.withdrawn or request.ask < row.ask:
        return False
    known = deliveries.attempt_of(row, request.attempt)
    return known is not None and known.state is AttemptState.ASKED


def parted(some: Sequence[T], fits: Callable[[Sequence[T]], bool]) -> list[list[T]]:
    """Return as few messages as hold some deliveries in their order, none of several that does not fit."""
    messages: list[list[T]] = []
    for one in some:
        if messages and len(messages[-1]) < MOST and fits([*messages[-1], one]):
            messages[-1].append(one)
        else:
            messages.append([one])
    return messages
