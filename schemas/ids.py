"""Identifiers that stay the same on every replay, and the keys of the recipients table.

Parts are percent-escaped before they are joined, so that no id of a producer can forge a separator.
"""

import hashlib
import re
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import quote, unquote

#: Longest reminder or recipient id, in bytes of UTF-8.
MAX_ID_BYTES = 200
#: Largest value of an event on ``reminders`` or ``recipients``, in bytes.
MAX_EVENT_BYTES = 256 * 1024
#: Largest row, in bytes, header included.
MAX_ROW_BYTES = 512 * 1024
#: Largest record on any other topic, in bytes.
MAX_RECORD_BYTES = 2 * 1024 * 1024

#: Ten bits as two characters of base32 in lower case; and five bytes thrice, which are forty bits each, and two more.
_TEN_BITS = [a + b for a in "abcdefghijklmnopqrstuvwxyz234567" for b in "abcdefghijklmnopqrstuvwxyz234567"]
_FIVES = struct.Struct(">BIBIBIH15x").unpack
_PLAIN = re.compile(r"[A-Za-z0-9_.\-@]+\Z")
#: What ``quote`` makes of ASCII; an occurrence always has a colon or a slash, and each delivery names it several times.
_ESCAPED = {ord(c): quote(c, safe="@") for c in map(chr, range(128)) if quote(c, safe="@") != c}


@lru_cache(maxsize=4096)
def escape(part: str) -> str:
    """Percent-escape everything but letters, digits and ``_ . - @``. A unit names each of its ids a dozen times."""
    if _PLAIN.match(part):
        return part
    return part.translate(_ESCAPED) if part.isascii() else quote(part, safe="@")


def occurrence_id(start: str, offset: str = "PT0S") -> str:
    """Return the id of one firing: its local start (or ``@ms`` for a fixed instant) and its normalised offset."""
    return f"{start}/{offset}"


def delivery_id(reminder_id: str, occurrence: str, round_: int, step: int) -> str:
    """Return the id of one step of one occurrence, equal over all its attempts."""
    return f"{escape(reminder_id)}:{escape(occurrence)}:{round_}:{step}"


def named(delivery: str) -> tuple[str, str] | None:
    """Return the reminder and the occurrence that a delivery's id names, None for what is no such id."""
    parts = delivery.split(":")
    return (unquote(parts[0]), unquote(parts[1])) if len(parts) == 4 and parts[0] and parts[1] else None


def attempt_id(delivery: str, attempt: int) -> str:
    """Return the id of one attempt of a delivery."""
    return f"{delivery}:{attempt}"


def attempt_ids(attempts: Sequence[str]) -> str:
    """Return the ids of several attempts as one text, for those that went in one message."""
    return ",".join(attempts)


def attempts_named(attempts: str) -> list[tuple[str, int]]:
    """Return the deliveries that a text of attempts' ids names, and the number of each attempt."""
    return [attempt_named(attempt) for attempt in attempts.split(",")]


def attempt_named(attempt: str) -> tuple[str, int]:
    """Return the delivery that an attempt's id names, and the attempt's number: 0 for a delivery's own id."""
    delivery, _, number = attempt.rpartition(":")
    if delivery.count(":") == 3 and number.isascii() and number.isdigit() and len(number) < 10:
        return delivery, int(number)
    return attempt, 0


def step_of(delivery: str) -> int:
    """Return the step of a delivery by its id, 0 where it has none."""
    last = delivery.rpartition(":")[2]
    return int(last) if last.isdecimal() else 0


def digest_id(deliveries: Iterable[str]) -> str:
    """Return the id of the message that several deliveries go in: the same for the same ones, in any order."""
    return "digest:" + hashlib.sha256("\n".join(sorted(deliveries)).encode()).hexdigest()[:32]


def provider_token(delivery: str) -> str:
    """Return the opaque form of a delivery id that providers see: base32(sha256(delivery_id))[:26], lower case."""
    t = _TEN_BITS
    a, b, c, d, e, f, last = _FIVES(hashlib.sha256(delivery.encode()).digest())
    b, d, f = a << 32 | b, c << 32 | d, e << 32 | f
    return (
        f"{t[b >> 30]}{t[b >> 20 & 1023]}{t[b >> 10 & 1023]}{t[b & 1023]}"
        f"{t[d >> 30]}{t[d >> 20 & 1023]}{t[d >> 10 & 1023]}{t[d & 1023]}"
        f"{t[f >> 30]}{t[f >> 20 & 1023]}{t[f >> 10 & 1023]}{t[f & 1023]}{t[last >> 6]}"
    )


def owner(recipient_id: str, reminder_id: str) -> str:
    """Return whose rows these are: ``u:`` a recipient, or ``r:`` a reminder that has no recipient and carries its
    address."""
    return f"u:{escape(recipient_id)}" if recipient_id else f"r:{escape(reminder_id)}"


def profile_key(recipient_id: str) -> bytes:
    """Return the key of a recipient's profile."""
    return f"p/u:{escape(recipient_id)}".encode()


def sends_key(recipient_id: str) -> bytes:
    """Return the key of the row that counts a recipient's deliveries of the last day."""
    return f"c/u:{escape(recipient_id)}".encode()


def digest_prefix(recipient_id: str) -> bytes:
    """Return what the keys of a recipient's rows of digests begin with."""
    return f"g/u:{escape(recipient_id)}/".encode()


def digest_key(recipient_id: str, category: str) -> bytes:
    """Return the key of the row that gathers a recipient's deliveries of a category for one message."""
    return digest_prefix(recipient_id) + escape(category).encode()


def provider_day_key(provider: str) -> bytes:
    """Return the key of the row that counts a partition's calls of a provider today."""
    return f"q/{provider}".encode()


def delivery_key(recipient_id: str, reminder_id: str, delivery: str) -> bytes:
    """Return the key of the row that remembers a delivery's asks, attempts and withdrawals."""
    return f"d/{owner(recipient_id, reminder_id)}/{delivery}".encode()


def link_prefix(recipient_id: str) -> bytes:
    """Return what the keys of all links of a recipient begin with."""
    return f"l/u:{escape(recipient_id)}/".encode()


def link_key(recipient_id: str, reminder_id: str) -> bytes:
    """Return the key of the row that says which reminder belongs to a recipient, or that one stands alone."""
    if not recipient_id:
        return f"l/r:{escape(reminder_id)}".encode()
    return link_prefix(recipient_id) + f"r:{escape(reminder_id)}".encode()


def routing_key(recipient_id: str, reminder_id: str) -> bytes:
    """Return the Kafka key of what goes to delivery: the recipient's id, or the reminder's where there is no
    recipient."""
    return (recipient_id or reminder_id).encode()
