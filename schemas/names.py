"""Closed sets of names used on the wire, in rows, metrics and logs.

Each enum is a ``StrEnum`` whose values are the Avro symbols. ``UNKNOWN`` is what an Avro reader returns for a symbol
that this version does not know; it is never written and never guessed at: what carries it is parked.
"""

from enum import IntEnum, StrEnum


class Action(StrEnum):
    """What a producer asks for (topic ``reminders``)."""

    UNKNOWN = "UNKNOWN"
    UPSERT = "UPSERT"
    CANCEL = "CANCEL"
    SNOOZE = "SNOOZE"
    ACKNOWLEDGE = "ACKNOWLEDGE"
    PAUSE = "PAUSE"
    RESUME = "RESUME"
    FIRE = "FIRE"
    CONFIRM_SENT = "CONFIRM_SENT"
    CONFIRM_NOT_SENT = "CONFIRM_NOT_SENT"
    ERASE = "ERASE"


class RecipientAction(StrEnum):
    """What a producer asks for (topic ``recipients``)."""

    UNKNOWN = "UNKNOWN"
    UPSERT = "UPSERT"
    ERASE = "ERASE"


class Channel(StrEnum):
    """A way to reach a person. ``ANY``: the recipient's own order of contacts decides (internal topics only)."""

    UNKNOWN = "UNKNOWN"
    ANY = "ANY"
    EMAIL = "EMAIL"
    SMS = "SMS"
    WHATSAPP = "WHATSAPP"
    VOICE = "VOICE"
    PUSH = "PUSH"
    WEBHOOK = "WEBHOOK"


#: The channels that have a topic of their own, in the order of their header codes.
DELIVERY_CHANNELS = (Channel.EMAIL, Channel.SMS, Channel.WHATSAPP, Channel.VOICE, Channel.PUSH, Channel.WEBHOOK)

#: The channels whose addresses are phone numbers.
PHONE_CHANNELS = frozenset({Channel.SMS, Channel.WHATSAPP, Channel.VOICE})


class Priority(StrEnum):
    """A producer's wish for a lane."""

    UNKNOWN = "UNKNOWN"
    BULK = "BULK"
    NORMAL = "NORMAL"
    URGENT = "URGENT"


class Lane(IntEnum):
    """Order of admission; lower goes first. The value is the header byte."""

    URGENT = 0
    NORMAL = 1
    BULK = 2


LANES: dict[Priority, Lane] = {
    Priority.URGENT: Lane.URGENT,
    Priority.NORMAL: Lane.NORMAL,
    Priority.BULK: Lane.BULK,
    Priority.UNKNOWN: Lane.NORMAL,
}


class State(StrEnum):
    """Where an occurrence stands. ``NONE`` is the state before the first event, ``REJECTED`` exists in the audit topic
    alone."""

    UNKNOWN = "UNKNOWN"
    NONE = "NONE"
    PENDING = "PENDING"
    SCHEDULED = "SCHEDULED"
    SENDING = "SENDING"
    SENT = "SENT"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"
    RETRY = "RETRY"
    HELD = "HELD"
    PAUSED = "PAUSED"
    MAYBE_SENT = "MAYBE_SENT"
    WITHDRAWING = "WITHDRAWING"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    SKIPPED = "SKIPPED"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    DEAD_LETTER = "DEAD_LETTER"
    REJECTED = "REJECTED"


class WaitFor(StrEnum):
    """What ends a chain at a step."""

    UNKNOWN = "UNKNOWN"
    ACCEPTED = "ACCEPTED"
    DELIVERED = "DELIVERED"
    READ = "READ"
    ACKNOWLEDGED = "ACKNOWLEDGED"


class Missed(StrEnum):
    """What to do with occurrences that came due while nobody could fire them."""

    UNKNOWN = "UNKNOWN"
    LATEST = "LATEST"
    SKIP = "SKIP"
    ALL = "ALL"


class Overlap(StrEnum):
    """What to do when the next occurrence comes due while one is open."""

    UNKNOWN = "UNKNOWN"
    SUPERSEDE = "SUPERSEDE"
    SKIP = "SKIP"


class MaybeSent(StrEnum):
    """What to do when it cannot be known whether the provider took the message."""

    UNKNOWN = "UNKNOWN"
    BY_CATEGORY = "BY_CATEGORY"
    RESEND = "RESEND"
    HOLD = "HOLD"


class RequestKind(StrEnum):
    """What core asks of delivery (topic ``notifications.requests``)."""

    UNKNOWN = "UNKNOWN"
    DELIVER = "DELIVER"
    WITHDRAW = "WITHDRAW"
    LINK = "LINK"
    UNLINK = "UNLINK"
    ERASE = "ERASE"
    RETRACT = "RETRACT"


class AnswerKind(StrEnum):
    """What delivery tells core (topic ``notifications.outcomes``)."""

    UNKNOWN = "UNKNOWN"
    OUTCOME = "OUTCOME"
    WITHDRAWN = "WITHDRAWN"
    PROFILE = "PROFILE"
    ERASED = "ERASED"
    RETRACTED = "RETRACTED"


class OutcomeKind(StrEnum):
    """What became of one attempt (design: an outcome is one of these)."""

    UNKNOWN = "UNKNOWN"
    NONE = "NONE"
    ACCEPTED = "ACCEPTED"
    DELIVERED = "DELIVERED"
    READ = "READ"
    REJECTED = "REJECTED"
    DEFERRED = "DEFERRED"
    UNDELIVERABLE = "UNDELIVERABLE"
    OPTED_OUT = "OPTED_OUT"
    MISCONFIGURED = "MISCONFIGURED"
    MAYBE_SENT = "MAYBE_SENT"
    HELD = "HELD"
    SKIPPED = "SKIPPED"


class ReplyKind(StrEnum):
    """What is said of a message that wants an answer, or of who may give it (topic ``notifications.replies``)."""

    UNKNOWN = "UNKNOWN"
    ASKED = "ASKED"
    TAKEN_BACK = "TAKEN_BACK"
    CLOSED = "CLOSED"
    WROTE = "WROTE"
    ANSWERED = "ANSWERED"


class AttemptState(StrEnum):
    """How far delivery has got with an attempt (recipients table, ``d/`` rows)."""

    UNKNOWN = "UNKNOWN"
    ASKED = "ASKED"
    STARTED = "STARTED"
    ENDED = "ENDED"


class Withdrawal(StrEnum):
    """Why an occurrence is being withdrawn, hence what it becomes once delivery has answered."""

    UNKNOWN = "UNKNOWN"
    NONE = "NONE"
    CANCEL = "CANCEL"
    EXPIRE = "EXPIRE"
    REPLACE = "REPLACE"
    PAUSE = "PAUSE"
    SNOOZE = "SNOOZE"
    ACKNOWLEDGE = "ACKNOWLEDGE"
    CANCEL_ONE = "CANCEL_ONE"
    SUPERSEDE = "SUPERSEDE"
    ERASE = "ERASE"
