"""When a provider is asked whether it took a message that is in doubt, and how its list is read. Pure.

Three looks, the first soon and the last once what was on its way to the provider has long arrived or never will: only
then does it count that nothing is there. Providers name no such time; ours is far beyond the hard limits of their own
servers.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from schemas.names import AttemptState, OutcomeKind
from schemas.quick import replace
from schemas.records import Attempt, DeliveryAnswer, RecipientDelivery

#: After the doubt, in ms.
LOOKS_MS = (30_000, 120_000, 600_000)
#: How much later than its last look a doubt may be sent again where its rule says so, in ms: the look takes a while.
SETTLED_MS = LOOKS_MS[-1] + 60_000
#: How long a second copy needs to be sent before a deadline, in ms.
BEFORE_MS = 30_000
#: How far the provider's clock and ours may be apart, in ms.
SKEW_MS = 60_000
#: With this reason a message in doubt turns out to have been sent.
FOUND = "found_at_provider"
#: With this reason it turns out that its provider has nothing of it.
NOT_FOUND = "not_at_provider"


@dataclass(frozen=True, slots=True)
class Listed:
    """A message that a provider has on record. ``created_ms``: UTC, by its clock. ``body`` None: it does not say."""

    provider_id: str
    created_ms: int
    body: str | None


def _open(attempt: Attempt) -> bool:
    said = attempt.outcome
    return (
        attempt.state is AttemptState.ENDED
        and said is not None
        and said.outcome is OutcomeKind.MAYBE_SENT
        and bool(attempt.to_hash)
        and attempt.looks < len(LOOKS_MS)
    )


def look_at(attempt: Attempt) -> int | None:
    """Return when the provider is asked about an attempt next (ms UTC), None: not at all."""
    said = attempt.outcome
    return said.ended_at + LOOKS_MS[attempt.looks] if said is not None and _open(attempt) else None


def next_look(row: RecipientDelivery) -> int | None:
    """Return when the provider is asked about an attempt of a delivery next (ms UTC), None: not at all."""
    return min((at for attempt in row.attempts if (at := look_at(attempt)) is not None), default=None)


def to_look(row: RecipientDelivery, now: int) -> Attempt | None:
    """Return the attempt that the provider is to be asked about now."""
    return next((a for a in row.attempts if (at := look_at(a)) is not None and at <= now), None)


def looked(row: RecipientDelivery, attempt: Attempt) -> RecipientDelivery:
    """Return the row with a look counted."""
    attempts = tuple(replace(a, looks=a.looks + 1) if a.attempt == attempt.attempt else a for a in row.attempts)
    return replace(row, attempts=attempts)


def last(attempt: Attempt) -> bool:
    """Return whether the look that begins is the last one. ``attempt``: as it was before."""
    return attempt.looks == len(LOOKS_MS) - 1


def told(answer: DeliveryAnswer, *, askable: bool, deadline: int | None) -> DeliveryAnswer:
    """Return a doubt's answer with the time before which nothing is sent again for it: once its provider was asked, or
    shortly before its deadline, for late is better than never.

    ``deadline``: ms UTC, 0: none; None: nobody knows it here, so that the first looks must do.
    """
    if not askable or answer.outcome is not OutcomeKind.MAYBE_SENT:
        return answer
    until = answer.ended_at + (SETTLED_MS if deadline is not None else LOOKS_MS[1] + BEFORE_MS)
    if deadline:
        until = max(answer.ended_at, min(until, deadline - BEFORE_MS))
    return replace(answer, not_before=max(answer.not_before, until))


def window(attempt: Attempt) -> tuple[int, int]:
    """Return between which instants the provider would have taken a message (ms UTC)."""
    said = attempt.outcome
    if said is None:
        raise ValueError("an attempt in doubt has an answer")
    return (said.started_at or attempt.at) - SKEW_MS, said.ended_at + SKEW_MS


def found(
    listed: Iterable[Listed], body_hash: str, hashed: Callable[[str], str], others: Collection[str]
) -> Listed | bool | None:
    """Return the message that is the one in doubt; None: it is not there; True: nobody can tell which one it is.

    ``listed``: what there is for its address in its time. ``body_hash`` empty: its words are the provider's own, so
    only its time tells. ``others``: the provider's ids of messages that are known to be others.
    """
    candidates = [one for one in listed if one.provider_id not in others]
    if body_hash:
        known = next((one for one in candidates if one.body and hashed(one.body) == body_hash), None)
        if known is not None:
            return known
        # The provider may have changed the words, or keep none: it is there, or another one is.
        return True if candidates else None
    if len(candidates) > 1:
        return True
    return candidates[0] if candidates else None
