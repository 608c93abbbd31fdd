"""What is wrong with an event, said in one closed set of reasons. Pure: the time is a parameter.

An event that is well-formed and asks for what this version cannot do yet is parked, not refused: its reason is
``needs_newer_service``. What is odd but clear (a start in the past, a zone of the recipient's) is no fault.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from schemas import phones, windows
from schemas.ids import MAX_ID_BYTES
from schemas.names import (
    PHONE_CHANNELS,
    Action,
    Channel,
    MaybeSent,
    Missed,
    Overlap,
    Priority,
    RecipientAction,
    WaitFor,
)
from schemas.records import Contact, Policy, RecipientEvent, ReminderEvent, Step
from schemas.zones import similar_zone, zone, zone_names

__all__ = ["similar_zone", "zone", "zone_names"]

#: Longest texts, in bytes of UTF-8; an event as a whole is bounded by ``schemas.ids.MAX_EVENT_BYTES``.
MAX_TITLE_BYTES = 1024
MAX_TEXT_BYTES = 64 * 1024
MAX_DATA_BYTES = 64 * 1024
MAX_ADDRESS_BYTES = 4096
#: Longest names (category, source, tenant, actor, event and correlation id), in bytes of UTF-8.
MAX_NAME_BYTES = 200
MAX_STEPS = 20
MAX_DATA_ENTRIES = 200
MAX_ESCALATIONS = 20
#: Most rounds after the first in which one person is reminded anew of what they have not acknowledged.
MAX_NAGS = 100
MAX_CONTACTS = 20
MAX_QUIET = 20
MAX_CONSENTS = 200
#: No time before this one is meant: it is one in s or µs that was sent as ms, or the other way round.
EARLIEST_MS = 946_684_800_000
FURTHEST_MS = 36_525 * 86_400_000
#: How far ahead of ours a producer's clock may be where it orders the events.
MAX_AHEAD_MS = 3_600_000


class Reason(StrEnum):
    """Why an event is refused or parked."""

    # The bytes are no record.
    EMPTY_VALUE = "empty_value"
    NULL_VALUE = "null_value"
    JSON_NOT_AVRO = "json_not_avro"
    UNKNOWN_FRAMING = "unknown_framing"
    UNKNOWN_FINGERPRINT = "unknown_fingerprint"
    UNKNOWN_SCHEMA_ID = "unknown_schema_id"
    NO_REGISTRY = "no_registry"
    TRUNCATED = "truncated"
    TRAILING_BYTES = "trailing_bytes"
    INCOMPATIBLE_SCHEMA = "incompatible_schema"
    OVERSIZE = "oversize"
    BAD_UTF8 = "bad_utf8"
    INVALID = "invalid"
    # A later version may do it.
    NEEDS_NEWER_SERVICE = "needs_newer_service"
    # The record is no event.
    OUTSIDE_PREFIX = "outside_prefix"
    EMPTY_ID = "empty_id"
    LONG_ID = "long_id"
    CONTROL_CHARACTERS = "control_characters"
    TOO_LARGE = "too_large"
    NEGATIVE = "negative"
    CLOCK_AHEAD = "clock_ahead"
    NO_START = "no_start"
    SEVERAL_STARTS = "several_starts"
    UNREADABLE_TIME = "unreadable_time"
    IMPOSSIBLE_DATE = "impossible_date"
    IMPLAUSIBLE_TIME = "implausible_time"
    EXPIRES_BEFORE_START = "expires_before_start"
    UNKNOWN_ZONE = "unknown_zone"
    NO_ZONE = "no_zone"
    NO_RECIPIENT = "no_recipient"
    NO_ADDRESS = "no_address"
    BAD_ADDRESS = "bad_address"
    UNREADABLE_WINDOW = "unreadable_window"
    NO_CONTENT = "no_content"
    # Its times cannot be followed.
    BAD_RRULE = "bad_rrule"
    BAD_CRON = "bad_cron"
    BAD_DURATION = "bad_duration"
    UNKNOWN_CALENDAR = "unknown_calendar"
    NEVER_FIRES = "never_fires"
    FIRES_TOO_OFTEN = "fires_too_often"
    # An UPSERT is of the whole reminder.
    ONE_OCCURRENCE = "one_occurrence"
    # The event is not about its own reminder.
    OTHER_TENANT = "other_tenant"


#: What a newer version of the service may understand: kept, and read again by the first worker that knows it.
PARKED = frozenset({Reason.UNKNOWN_FINGERPRINT, Reason.NEEDS_NEWER_SERVICE})


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong: why, in which field, with which value (safe to show), and what to do about it."""

    reason: Reason
    field: str
    value: str
    remedy: str

    @property
    def parked(self) -> bool:
        """Whether a newer version of the service may understand it."""
        return self.reason in PARKED


# -- values as they may be shown ---------------------------------------------------------------------------------------

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
#: Characters that would break or disguise a line of a log or a page.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_SHOWN = 80


def shown(value: str, pii: str = "") -> str:
    """Return a value as it may be shown: masked if personal, control characters escaped, at most 80 characters."""
    if pii:
        return masked(value, pii)
    value = value[: _SHOWN + 1]
    if not value.isprintable():
        value = _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), value)
    return value if len(value) <= _SHOWN else value[: _SHOWN - 1] + "…"


def masked(value: str, pii: str) -> str:
    """Return what may be shown of personal data: the ends of an address, of all else the length."""
    if not value:
        return ""
    if pii == "address":
        head, _, domain = value.rpartition("@")
        if head and domain:
            return shown(f"{head[0]}***@{domain[0]}…")
        if value[0] == "+" and len(value) > 8:
            return shown(f"{value[:2]}******{value[-2:]}")
    return f"*** ({len(value)} characters)"


# -- times -------------------------------------------------------------------------------------------------------------


_LOCAL = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?)?")
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - compared with wall clocks alone
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


def wall_clock(local: str) -> datetime | None:
    """Return a local time (``2026-12-01``, ``2026-12-01T09:00``, ``…:30``) without a zone; None if it is not one."""
    n = len(local)
    if (n != 16 or local[13] != ":") and n != 10 and (n != 19 or local[16] != ":"):
        return None
    if local[4] != "-" or local[7] != "-" or (n > 10 and local[10] != "T"):
        return None
    try:
        return datetime.fromisoformat(local)
    except ValueError:
        return None


def instant_of(wall: datetime, zone_: ZoneInfo) -> int:
    """Return when a wall clock shows a time, in ms.

    A time that the clocks jump over counts with the offset before the jump, so it comes later on the clock; one that
    they show twice means its first pass. Both are what ``fold=0`` says.
    """
    return (wall.replace(tzinfo=zone_, fold=0) - _EPOCH_UTC) // _MS


def _iso(ms: int) -> str:
    try:
        return f"{ms} ({(_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec='seconds')}Z)"
    except OverflowError:
        return str(ms)


# -- what events have in common ----------------------------------------------------------------------------------------


def _id(value: str, field: str) -> Fault | None:
    if not value:
        return Fault(Reason.EMPTY_ID, field, "", f"give an id of 1 to {MAX_ID_BYTES} bytes")
    if len(value) * 4 > MAX_ID_BYTES and (size := _size(value)) > MAX_ID_BYTES:
        return Fault(Reason.LONG_ID, field, f"{size} bytes", f"give an id of 1 to {MAX_ID_BYTES} bytes")
    return None if value.isprintable() else _no_control(value, field)


def _no_control(value: str, field: str, pii: str = "") -> Fault | None:
    if _CONTROL.search(value) is None:
        return None
    return Fault(Reason.CONTROL_CHARACTERS, field, shown(value, pii), "leave out control characters, line ends too")


def _size(value: str) -> int:
    return len(value.encode("utf-8", "surrogatepass"))


def _line(value: str, field: str, pii: str = "", most: int = MAX_NAME_BYTES) -> Fault | None:
    """Check a value that is a name or an address: one line, not too long."""
    if len(value) * 4 > most and (size := _size(value)) > most:
        return Fault(Reason.TOO_LARGE, field, f"{size} bytes", f"send at most {most} bytes")
    return None if value.isprintable() else _no_control(value, field, pii)


def _text(value: str, field: str, most: int) -> Fault | None:
    if len(value) * 4 > most and (size := _size(value)) > most:
        return Fault(Reason.TOO_LARGE, field, f"{size} bytes", f"send at most {most} bytes")
    return None


def _count(items: tuple[object, ...] | dict[str, str], field: str, most: int) -> Fault | None:
    if len(items) <= most:
        return None
    return Fault(Reason.TOO_LARGE, field, f"{len(items)} entries", f"send at most {most} entries")


def _negative(value: int, field: str) -> Fault:
    return Fault(Reason.NEGATIVE, field, str(value), "send zero or more")


def _unknown(field: str) -> Fault:
    return Fault(
        Reason.NEEDS_NEWER_SERVICE,
        field,
        "UNKNOWN",
        "never send UNKNOWN; if the symbol is a newer one, update the service",
    )


def _zone(name: str) -> Fault | None:
    if zone(name) is not None:
        return None
    meant = similar_zone(name)
    hint = f"did you mean {meant}?" if meant else "such as Europe/Berlin"
    return Fault(Reason.UNKNOWN_ZONE, "zone", shown(name), f"send an IANA zone name; {hint}")


def _plausible(ms: int, field: str, now_ms: int) -> Fault | None:
    if EARLIEST_MS <= ms <= now_ms + FURTHEST_MS:
        return None
    if ms < EARLIEST_MS:
        remedy = "send ms since 1970 (timestamp-millis): this is before 2000, as seconds sent as ms are"
    else:
        remedy = "send ms since 1970 (timestamp-millis): this is over 100 years ahead, as µs sent as ms are"
    return Fault(Reason.IMPLAUSIBLE_TIME, field, _iso(ms), remedy)


def _stamp(version: int, now_ms: int, record_ms: int) -> Fault | None:
    if version < 0:
        return _negative(version, "version")
    if version == 0 and record_ms > now_ms + MAX_AHEAD_MS:
        # Unnumbered events are ordered by their timestamps: this one would hide every later one until then.
        remedy = "set the producer's clock, or number the events' versions"
        return Fault(Reason.CLOCK_AHEAD, "version", _iso(record_ms), remedy)
    return None


#: A URL that can be called. What is behind it is looked at when it is.
_URL = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[^\s/?#@\\:\[\]]+)(:[0-9]{1,5})?([/?][^\s#]*)?\Z", re.IGNORECASE)
_TOKEN = re.compile(r"[!-~]+\Z")


def _address(channel: Channel, value: str, field: str, region: str = "") -> Fault | None:
    """Check an address lightly; its channel's own rules come before each call. ``region``: where numbers without a
    country code are dialled."""
    if fault := _line(value, field, "address", MAX_ADDRESS_BYTES):
        return fault
    if channel is Channel.EMAIL and (value.count("@") != 1 or value[0] == "@" or value[-1] == "@"):
        return Fault(Reason.BAD_ADDRESS, field, shown(value, "address"), "send one mail address, as name@example.org")
    if channel is Channel.WEBHOOK and not _URL.match(value):
        remedy = "send a URL as https://host/path, without a user and without a fragment"
        return Fault(Reason.BAD_ADDRESS, field, shown(value, "address"), remedy)
    if channel is Channel.PUSH and not _TOKEN.match(value):
        return Fault(Reason.BAD_ADDRESS, field, shown(value, "address"), "send the registration token of one device")
    if channel in PHONE_CHANNELS and isinstance(wrong := phones.e164(value, region), phones.PhoneFault):
        return Fault(Reason.BAD_ADDRESS, field, shown(value, "address"), f"{wrong.reason}: {wrong.remedy}")
    return None


# -- reminders ---------------------------------------------------------------------------------------------------------

#: Longest delivery id: every byte of a reminder id may be escaped.
MAX_DELIVERY_BYTES = 2048
_TEMPLATE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}(?:@[1-9][0-9]{0,8})?\Z")


def check_reminder(event: ReminderEvent, now_ms: int, record_ms: int) -> Fault | None:
    """Return what is wrong with an event of topic ``reminders``, else None. ``record_ms``: the record's timestamp."""
    action = event.action
    fault = (
        _id(event.reminder_id, "reminder_id")
        or (_id(event.recipient_id, "recipient_id") if event.recipient_id else None)
        or (_unknown("action") if action is Action.UNKNOWN else None)
        or _stamp(event.version, now_ms, record_ms)
        or _names(event)
    )
    if fault is not None:
        return fault
    if action is Action.UPSERT:
        return _start(event, now_ms) or _whom(event) or _content(event) or _rules(event) or _whole(event)
    if event.occurrence and (fault := _line(event.occurrence, "occurrence")):
        return fault
    if event.delivery_id and (fault := _line(event.delivery_id, "delivery_id", most=MAX_DELIVERY_BYTES)):
        return fault
    return _snooze(event, now_ms) if action is Action.SNOOZE else None


def check_prefix(reminder_id: str, prefix: str, elsewhere: str) -> Fault | None:
    """Return what is wrong with an id on a topic of one team, where all ids must begin with ``prefix``, else None.

    ``elsewhere``: the topic that takes every id.
    """
    if reminder_id.startswith(prefix):
        return None
    remedy = f"begin the id with {prefix}, which is what this topic takes; all ids may be sent to {elsewhere}"
    return Fault(Reason.OUTSIDE_PREFIX, "reminder_id", shown(reminder_id), remedy)


def _snooze(event: ReminderEvent, now_ms: int) -> Fault | None:
    """Check the new time of a snooze; whether it is still to come is for the reminder to say."""
    starts = (event.local != "") + (event.at is not None)
    if starts != 1:
        return _starts(event, starts)
    if event.zone and zone(event.zone) is None:
        return _zone(event.zone)
    if event.at is not None:
        return _plausible(event.at, "at", now_ms)
    wall = wall_clock(event.local)
    if wall is None:
        return unreadable(event.local)
    if not 2000 <= wall.year <= _year(now_ms) + 100:
        remedy = "send a time from 2000 on, at most 100 years ahead"
        return Fault(Reason.IMPLAUSIBLE_TIME, "local", shown(event.local), remedy)
    return None


def _whole(event: ReminderEvent) -> Fault | None:
    if not event.occurrence:
        return None
    remedy = "SNOOZE it to its new time, or CANCEL it; for other words CANCEL it and send a reminder of its own"
    return Fault(Reason.ONE_OCCURRENCE, "occurrence", shown(event.occurrence), remedy)


def _names(event: ReminderEvent) -> Fault | None:
    named = f"{event.event_id}{event.correlation_id}{event.category}{event.source}{event.tenant}{event.actor}"
    if len(named) <= MAX_NAME_BYTES and named.isascii() and named.isprintable():
        return None
    for field in ("event_id", "correlation_id", "category", "source", "tenant", "actor"):
        if fault := _line(getattr(event, field), field, "actor" if field == "actor" else ""):
            return fault
    return None


def _start(event: ReminderEvent, now_ms: int) -> Fault | None:
    """Check when it is to fire and in which zone."""
    local, at, name = event.local, event.at, event.zone
    starts = (local != "") + (at is not None) + (event.cron != "")
    if starts != 1:
        return _starts(event, starts)
    if name and zone(name) is None:
        return _zone(name)
    if at is not None:
        earliest = at
        fault = _plausible(at, "at", now_ms)
    elif not name and not event.recipient_id:
        return Fault(Reason.NO_ZONE, "zone", "", "send the IANA zone of local, or a recipient_id whose zone counts")
    elif not local:
        return _plausible(event.expires_at, "expires_at", now_ms) if event.expires_at is not None else None
    else:
        wall = wall_clock(local)
        if wall is None:
            return unreadable(local)
        if not 2000 <= wall.year <= _year(now_ms) + 100:
            return Fault(
                Reason.IMPLAUSIBLE_TIME, "local", shown(local), "send a time from 2000 on, at most 100 years ahead"
            )
        fault = None
        if event.expires_at is None:
            return None
        # Without a zone the earliest there is: fourteen hours ahead of UTC.
        earliest = instant_of(wall, known) if (known := zone(name)) else (wall - _EPOCH) // _MS - 14 * 3_600_000
    if fault is None and event.expires_at is not None:
        fault = _plausible(event.expires_at, "expires_at", now_ms)
        if fault is None and event.expires_at <= earliest:
            remedy = "let it expire after its start, or leave expires_at out"
            fault = Fault(Reason.EXPIRES_BEFORE_START, "expires_at", _iso(event.expires_at), remedy)
    return fault


def _starts(event: ReminderEvent, starts: int) -> Fault:
    if not starts:
        return Fault(Reason.NO_START, "local", "", "send exactly one of local, at and cron")
    given = [
        name for name, there in (("local", event.local), ("at", event.at is not None), ("cron", event.cron)) if there
    ]
    return Fault(Reason.SEVERAL_STARTS, given[1], " and ".join(given), "send exactly one of local, at and cron")


def _year(now_ms: int) -> int:
    return 1970 + now_ms // 31_556_952_000


def unreadable(local: str, field: str = "local") -> Fault:
    """Return what is wrong with a value that is no local time."""
    if _LOCAL.fullmatch(local):
        return Fault(Reason.IMPOSSIBLE_DATE, field, shown(local), "send a date and time that the calendar has")
    if re.fullmatch(r"[-0-9:T.]+(Z|[+-][0-9:]+)", local):
        if field != "local":
            return Fault(Reason.UNREADABLE_TIME, field, shown(local), "send it without an offset, on the clock of zone")
        remedy = "send local without an offset and its zone in zone, or send the instant in at"
    else:
        remedy = f"send {field} as 2026-12-01T09:00 or 2026-12-01"
    return Fault(Reason.UNREADABLE_TIME, field, shown(local), remedy)


def _whom(event: ReminderEvent) -> Fault | None:
    """Check that it can reach somebody."""
    steps = event.steps
    if not steps:
        if event.recipient_id:
            return None
        return Fault(Reason.NO_RECIPIENT, "recipient_id", "", "send a recipient_id, or steps that have an address")
    if len(steps) > MAX_STEPS:
        return _count(steps, "steps", MAX_STEPS)
    if not event.recipient_id and not any(step.address for step in steps):
        return Fault(Reason.NO_RECIPIENT, "recipient_id", "", "send a recipient_id, or steps that have an address")
    for n, step in enumerate(steps):
        if fault := _step(step, n, event.recipient_id):
            return fault
    return None


def _step(step: Step, n: int, recipient_id: str) -> Fault | None:
    if step.channel is Channel.UNKNOWN or step.wait_for is WaitFor.UNKNOWN:
        return _unknown(f"steps[{n}].{'channel' if step.channel is Channel.UNKNOWN else 'wait_for'}")
    if step.within_s < 0:
        return _negative(step.within_s, f"steps[{n}].within_s")
    if step.address:
        return _address(step.channel, step.address, f"steps[{n}].address")
    if recipient_id:
        return None
    return Fault(Reason.NO_ADDRESS, f"steps[{n}].address", "", "without a recipient_id each step needs an address")


def _content(event: ReminderEvent) -> Fault | None:
    """Check that it says something, and not too much."""
    if not event.text and not event.title and not event.template:
        return Fault(Reason.NO_CONTENT, "text", "", "send a text, a title or a template")
    if event.template and not _TEMPLATE.match(event.template):
        return Fault(Reason.INVALID, "template", shown(event.template), "send a name, or name@version as in pills@3")
    fault = _text(event.title, "title", MAX_TITLE_BYTES) or _text(event.text, "text", MAX_TEXT_BYTES)
    if fault is None and event.data:
        fault = _count(event.data, "data", MAX_DATA_ENTRIES)
        size = sum(_size(key) + _size(value) for key, value in event.data.items())
        if fault is None and size > MAX_DATA_BYTES:
            fault = Fault(Reason.TOO_LARGE, "data", f"{size} bytes", f"send at most {MAX_DATA_BYTES} bytes")
    return fault


def _rules(event: ReminderEvent) -> Fault | None:
    if event.priority is Priority.UNKNOWN:
        return _unknown("priority")
    if event.jitter_s < 0:
        return _negative(event.jitter_s, "jitter_s")
    policy = event.policy
    return None if policy is None else _policy(policy)


def _policy(policy: Policy) -> Fault | None:
    if policy.missed is Missed.UNKNOWN:
        return _unknown("policy.missed")
    if policy.overlap is Overlap.UNKNOWN:
        return _unknown("policy.overlap")
    if policy.maybe_sent is MaybeSent.UNKNOWN:
        return _unknown("policy.maybe_sent")
    for field, value in (
        ("max_lateness_s", policy.max_lateness_s),
        ("max_attempts", policy.max_attempts),
        ("nag_every_s", policy.nag_every_s),
        ("nag_max", policy.nag_max),
        ("max_cost_micros", policy.max_cost_micros),
        ("quorum", policy.quorum),
    ):
        if value < 0:
            return _negative(value, f"policy.{field}")
    if policy.nag_max and not policy.nag_every_s:
        remedy = "send nag_every_s with it, or leave it out"
        return Fault(Reason.INVALID, "policy.nag_max", str(policy.nag_max), remedy)
    if policy.nag_max > MAX_NAGS:
        return Fault(Reason.TOO_LARGE, "policy.nag_max", str(policy.nag_max), f"send at most {MAX_NAGS}")
    if not policy.escalate_to:
        return None
    fault = _count(policy.escalate_to, "policy.escalate_to", MAX_ESCALATIONS)
    ids = (_id(value, f"policy.escalate_to[{n}]") for n, value in enumerate(policy.escalate_to))
    return fault or _first(ids)


def _first(faults: Iterable[Fault | None]) -> Fault | None:
    return next((fault for fault in faults if fault is not None), None)


# -- recipients --------------------------------------------------------------------------------------------------------


def check_recipient(event: RecipientEvent, now_ms: int, record_ms: int) -> Fault | None:
    """Return what is wrong with an event of topic ``recipients``, else None. ``record_ms``: the record's timestamp."""
    fault = (
        _id(event.recipient_id, "recipient_id")
        or (_unknown("action") if event.action is RecipientAction.UNKNOWN else None)
        or _stamp(event.version, now_ms, record_ms)
        or _first(_line(getattr(event, name), name) for name in ("event_id", "correlation_id", "source"))
    )
    if fault is not None or event.action is RecipientAction.ERASE:
        return fault
    if event.zone and zone(event.zone) is None:
        return _zone(event.zone)
    return (
        _line(event.locale, "locale")
        or _line(event.region, "region")
        or (_contacts(event.contacts, event.region) if event.contacts else None)
        or (_quiet(event.quiet) if event.quiet else None)
        or _caps(event)
        or (_consents(event, now_ms) if event.consents else None)
    )


def _contacts(contacts: tuple[Contact, ...], region: str) -> Fault | None:
    if len(contacts) > MAX_CONTACTS:
        return _count(contacts, "contacts", MAX_CONTACTS)
    for n, contact in enumerate(contacts):
        if contact.channel is Channel.UNKNOWN:
            return _unknown(f"contacts[{n}].channel")
        at = f"contacts[{n}].address"
        if not contact.address:
            return Fault(Reason.NO_ADDRESS, at, "", "send the contact's address, or leave the contact out")
        if fault := _address(contact.channel, contact.address, at, region) or _line(
            contact.label, f"contacts[{n}].label", "content"
        ):
            return fault
    return None


def _quiet(quiet: tuple[str, ...]) -> Fault | None:
    if fault := _count(quiet, "quiet", MAX_QUIET):
        return fault
    for n, text in enumerate(quiet):
        if fault := _line(text, f"quiet[{n}]"):
            return fault
        if windows.parse(text) is None:
            remedy = "send 22:00-07:00 or SA,SU 23:00-10:00"
            return Fault(Reason.UNREADABLE_WINDOW, f"quiet[{n}]", shown(text), remedy)
    return None


def _caps(event: RecipientEvent) -> Fault | None:
    for name in ("max_per_hour", "max_per_day"):
        if (value := getattr(event, name)) < -1:
            return Fault(Reason.NEGATIVE, name, str(value), "send zero or more; 0 leaves it as it is, -1 means no cap")
    return None


def _consents(event: RecipientEvent, now_ms: int) -> Fault | None:
    if len(event.consents) > MAX_CONSENTS:
        return _count(event.consents, "consents", MAX_CONSENTS)
    for n, consent in enumerate(event.consents):
        if consent.channel is Channel.UNKNOWN:
            return _unknown(f"consents[{n}].channel")
        fault = (
            _plausible(consent.at, f"consents[{n}].at", now_ms)
            or _line(consent.category, f"consents[{n}].category")
            or _text(consent.evidence, f"consents[{n}].evidence", MAX_TITLE_BYTES)
        )
        if fault is not None:
            return fault
    return None
