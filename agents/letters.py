"""Dead letters and rejections: what could not be done, with its origin, its reason and its remedy."""

from collections.abc import Iterable
from dataclasses import dataclass

from agents.ports import Headers, Inbound, Out
from agents.publisher import partition_of
from schemas.checks import Fault, Reason
from schemas.ids import MAX_ID_BYTES, MAX_RECORD_BYTES

PREFIX = "dlq-"
#: Where the letter lay (``topic/partition/offset``) from which a record was put back.
ORIGIN = PREFIX + "origin"
#: How often a record was put back.
REDRIVES = PREFIX + "redrives"
#: Who corrected a record before it was put back.
EDITED_BY = PREFIX + "edited-by"
#: The run of a command that put a record back, or that wrote about letters.
RUN = PREFIX + "run"
#: A record of the dead letter topic that has this header is no letter but says what becomes of letters.
ACT = PREFIX + "act"
#: What a record that was put back keeps when it becomes a dead letter again.
_KEPT = ("redrives", "origin", "edited-by")
#: Header of an event that was moved to the partition of its id; it is moved once.
FORWARDED = "forwarded-from"
CORRELATION = "correlation-id"
#: Longest text of a header that we write, in characters.
MAX_HEADER = 500
#: A letter that has only the beginning of its record; the value says how large that was.
CUT = PREFIX + "cut"
#: How much is kept of the value, and of the headers, of a record that no topic of ours can take, in bytes.
KEPT_BYTES = 64 * 1024
#: Longest key of a letter or of an answer that is not the record's id, in bytes.
MAX_KEY_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Complaint:
    """Why an input is a dead letter. ``value`` is masked where the field is personal.

    ``parked``: nothing is wrong with it but that a newer release is needed, which will take it up again.
    """

    reason: str
    field: str = ""
    value: str = ""
    remedy: str = ""
    attempts: int = 1
    correlation_id: str = ""
    parked: bool = False


def passed_over(reason: str) -> Complaint:
    """Return why an event is a dead letter that an operator has named to be passed over."""
    return Complaint("skipped", remedy=f"passed over undone: {reason}; redrive it once it can be done, or close it")


def never(_record: Inbound) -> None:
    """Pass nothing over."""


def original_headers(record: Inbound) -> Headers:
    """Return the headers that a record came with, in order; Faust gives a list of pairs, or a mapping."""
    raw = record.headers
    if not raw:
        return ()
    pairs: Iterable[tuple[object, object]] = raw.items() if isinstance(raw, dict) else raw  # type: ignore[assignment]
    return tuple((str(name), bytes(value) if isinstance(value, bytes | bytearray) else b"") for name, value in pairs)


def header(record: Inbound, name: str) -> str:
    """Return a header of a record as text, "" if it has none."""
    for key, value in original_headers(record):
        if key == name:
            return value.decode("utf-8", "replace")
    return ""


def correlation(record: Inbound) -> str:
    """Return the correlation id that a producer put into a header: ours, else that of W3C Trace Context."""
    return (header(record, CORRELATION) or header(record, "traceparent"))[:MAX_ID_BYTES]


def dead_letter(topic: str, partitions: int, record: Inbound, complaint: Complaint, now: int) -> Out:
    """Return the dead letter of a record: its own key, bytes and headers, and ours beside them.

    Of a record that is larger than any topic takes, it has the beginning, and says so. One that had been put back keeps
    how often, from which letter, and who had corrected it.
    """
    ours = {
        "reason": complaint.reason,
        "field": complaint.field,
        "value": complaint.value,
        "remedy": complaint.remedy,
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "timestamp": str(round(record.timestamp * 1000)),
        "attempts": str(complaint.attempts),
        "correlation-id": complaint.correlation_id,
        "redrives": "0",
        "at": str(now),
    }
    ours |= {name: text for name in _KEPT if (text := header(record, PREFIX + name))}
    if complaint.parked:
        ours["parked"] = "needs_newer_service"
    kept = tuple((name, value) for name, value in original_headers(record) if not name.startswith(PREFIX))
    key, value = record.key, record.value
    if (size := weight(record)) > MAX_RECORD_BYTES:
        # It came in a compressed batch. Whole, it would not go out, and no worker would get past it.
        ours["cut"] = f"{size} bytes"
        key, value = short_key(record), value[:KEPT_BYTES] if value is not None else None
        kept = _within(kept, KEPT_BYTES)
    headers = kept + tuple((PREFIX + name, text[:MAX_HEADER].encode()) for name, text in ours.items())
    partition = partition_of(key, partitions) if key else record.partition
    return Out(topic, partition, key, value, headers)


def _within(headers: Headers, limit: int) -> Headers:
    kept: list[tuple[str, bytes]] = []
    for name, value in headers:
        limit -= len(name) * 4 + len(value)
        if limit < 0:
            break
        kept.append((name, value))
    return tuple(kept)


def weight(record: Inbound) -> int:
    """Return how large a record is, in bytes: its key, value and headers."""
    headers = sum(len(name) * 4 + len(value) for name, value in original_headers(record))
    return len(record.key or b"") + len(record.value or b"") + headers


def too_heavy(record: Inbound) -> Fault | None:
    """Return why a record cannot be written again as it is, None if it can."""
    if (size := weight(record)) <= MAX_RECORD_BYTES:
        return None
    remedy = f"send at most {MAX_RECORD_BYTES} bytes, key and headers included"
    return Fault(Reason.OVERSIZE, "headers", f"{size} bytes", remedy)


def short_key(record: Inbound) -> bytes | None:
    """Return the key of a record, None where it is longer than any of ours."""
    return record.key if record.key is not None and len(record.key) <= MAX_KEY_BYTES else None


def key_text(record: Inbound) -> str:
    """Return the key of a record as text where it can be an id, else ""."""
    text = (short_key(record) or b"").decode("utf-8", "replace")
    return text if text.isprintable() and len(text) <= MAX_ID_BYTES else ""
