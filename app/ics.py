"""Calendars (RFC 5545) to reminders and back. No I/O; the present is a parameter.

An event with alarms becomes a reminder that fires at each of them; one without fires at its start. What of a calendar
has no place in a reminder is reported with its line, never dropped in silence.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import icalendar
from icalendar.prop.broken import vBroken

from schemas import zones
from schemas.ids import MAX_ID_BYTES
from schemas.records import Content, Definition, ReminderEvent
from tables import offsets

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
PRODUCT = "-//reminders//reminders//EN"

#: What is acted on, and what says nothing that a reminder could show.
_EVENT = {
    "UID", "SUMMARY", "DESCRIPTION", "LOCATION", "DTSTART", "DTEND", "DURATION", "RRULE", "EXDATE", "RDATE",
    "RECURRENCE-ID", "STATUS", "SEQUENCE", "LAST-MODIFIED",
}  # fmt: skip
_ALARM = {"TRIGGER", "ACTION", "DESCRIPTION", "SUMMARY"}
_SILENT = {
    "DTSTAMP", "CREATED", "TRANSP", "CLASS", "PRIORITY", "BEGIN", "END", "UID", "ACKNOWLEDGED", "X-WR-ALARMUID",
}  # fmt: skip
_TAKEN = {"VCALENDAR", "VEVENT", "VALARM", "VTIMEZONE", "STANDARD", "DAYLIGHT"}


@dataclass(frozen=True, slots=True)
class Report:
    """Something that was not taken over: its line in the file, and what about it. Shows nothing personal."""

    line: int
    what: str


@dataclass(frozen=True, slots=True)
class Imported:
    """What a calendar became."""

    events: tuple[ReminderEvent, ...]
    reports: tuple[Report, ...]


class IcsError(ValueError):
    """A file that is no calendar; the text says where and what."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A component as it lies in the file: the line it begins at, and those of its properties."""

    name: str
    line: int
    lines: dict[str, list[int]]
    parts: "list[_Part]"

    def at(self, name: str, n: int = 0) -> int:
        """Return the line of a property, else of the component."""
        found = self.lines.get(name, [])
        return found[min(n, len(found) - 1)] if found else self.line


# -- reading -----------------------------------------------------------------------------------------------------------


def read(text: str, recipient: str, prefix: str) -> Imported:
    """Return the reminders of a calendar for a recipient. Raises IcsError.

    A time without a zone is on the recipient's clock. Ids are ``prefix`` and the event's UID.
    """
    root = _lines(text)
    try:
        calendars = icalendar.Calendar.from_ical(text, multiple=True)
    except (ValueError, KeyError, IndexError) as exc:
        raise IcsError(f"is no calendar that can be read: {exc}") from exc
    reports = list(_strange(root))
    events: list[ReminderEvent] = []
    for calendar, part in zip(calendars, root.parts, strict=False):
        found = [p for p in part.parts if p.name == "VEVENT"]
        read_, more = _calendar(list(zip(calendar.walk("VEVENT"), found, strict=False)), recipient, prefix)
        events += read_
        reports += more
    return Imported(tuple(events), tuple(sorted(reports, key=lambda r: r.line)))


def _lines(text: str) -> _Part:
    """Return the components of a file with their lines; folded lines belong to the one before."""
    root = _Part("", 0, {}, [])
    open_ = [root]
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line[0] in " \t":
            continue
        name = re.split("[:;]", line, maxsplit=1)[0].upper()
        if name == "BEGIN":
            part = _Part(line.partition(":")[2].strip().upper(), number, {}, [])
            open_[-1].parts.append(part)
            open_.append(part)
        elif name == "END":
            if len(open_) < 2 or open_[-1].name != line.partition(":")[2].strip().upper():
                raise IcsError(f"line {number}: END without its BEGIN")
            open_.pop()
        else:
            open_[-1].lines.setdefault(name, []).append(number)
    if len(open_) > 1:
        raise IcsError(f"line {open_[-1].line}: {open_[-1].name[:40]} has no END")
    if not any(part.name == "VCALENDAR" for part in root.parts):
        raise IcsError("is no calendar: it has no BEGIN:VCALENDAR")
    return root


def _strange(part: _Part) -> Iterator[Report]:
    """Report what nothing here acts on."""
    for inner in part.parts:
        if inner.name not in _TAKEN:
            yield Report(inner.line, f"{inner.name[:40]}: is not imported")
            continue
        known = {"VEVENT": _EVENT | _SILENT, "VALARM": _ALARM | _SILENT}.get(inner.name)
        for name, lines in inner.lines.items() if known is not None else ():
            if known is not None and name not in known:
                yield from (Report(line, f"{name[:40]}: is not imported") for line in lines)
        if inner.name != "VTIMEZONE":
            yield from _strange(inner)


def _calendar(
    found: Sequence[tuple[Any, _Part]], recipient: str, prefix: str
) -> tuple[list[ReminderEvent], list[Report]]:
    events: list[ReminderEvent] = []
    reports: list[Report] = []
    series = {str(event.get("UID", "")): event for event, _ in found if "RECURRENCE-ID" not in event}
    left_out: dict[str, list[Any]] = {}
    for event, _ in found:
        if "RECURRENCE-ID" in event and not isinstance(event["RECURRENCE-ID"], vBroken):
            left_out.setdefault(str(event.get("UID", "")), []).append(event["RECURRENCE-ID"].dt)
    for event, part in found:
        uid = str(event.get("UID", "")).strip()
        if not uid:
            reports.append(Report(part.line, "VEVENT: has no UID; it is not imported"))
            continue
        try:
            _readable(event, part)
            moved = event["RECURRENCE-ID"].dt if "RECURRENCE-ID" in event else None
            if moved is not None and "RANGE" in event["RECURRENCE-ID"].params:
                what = "RECURRENCE-ID: its RANGE is not followed; that one instance alone is taken"
                reports.append(Report(part.at("RECURRENCE-ID"), what))
            if moved is not None and uid not in series:
                reports.append(Report(part.at("RECURRENCE-ID"), "RECURRENCE-ID: of a series that is not in the file"))
            if str(event.get("STATUS", "")).upper() == "CANCELLED":
                reports.append(Report(part.at("STATUS"), "STATUS: cancelled; it is not imported"))
                continue
            events += _reminders(event, part, recipient, (prefix, uid), left_out.get(uid, []), moved, reports)
        except _Unusable as exc:
            reports.append(Report(exc.line, exc.what))
        except (ValueError, TypeError, AttributeError, OverflowError):
            # Parts that can be read one by one and do not go together: an end that is a date, a start with a time.
            reports.append(Report(part.line, "VEVENT: its times do not go together; it is not imported"))
    return events, reports


def _readable(event: Any, part: _Part) -> None:
    """Raise _Unusable for an event of which a part cannot be read: without it, it would be another event."""
    for name in part.lines:
        value = event.get(name)
        for n, one in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(one, vBroken):
                raise _Unusable(part.at(name, n), f"{name[:40]}: cannot be read; its event is not imported")


class _Unusable(Exception):  # noqa: N818 - an answer more than an error
    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line, self.what = line, what


def _id(prefix: str, uid: str, moved: str) -> str:
    """Return the id of an event's reminder; UIDs may be longer than ids, and hold a mail address."""
    name = f"{uid}/{moved}" if moved else uid
    if len((prefix + name).encode()) > MAX_ID_BYTES or "@" in name or not name.isprintable():
        name = hashlib.sha256(name.encode()).hexdigest()[:32]
    return prefix + name


def _reminders(
    event: Any,
    part: _Part,
    recipient: str,
    named: tuple[str, str],
    left_out: Sequence[date],
    moved: date | None,
    reports: list[Report],
) -> Iterator[ReminderEvent]:
    if "DTSTART" not in event:
        raise _Unusable(part.line, "VEVENT: has no DTSTART; it is not imported")
    start = event["DTSTART"].dt
    zone = _zone(event["DTSTART"], part.at("DTSTART"))
    reminder_id = _id(*named, _local(moved, zone) if moved is not None else "")
    exclude = [*_dates(event, part, "EXDATE", zone, reports), *((_local(day, zone)) for day in left_out)]
    relative, absolute = _alarms(event, part, start, reports)
    title = str(event.get("SUMMARY", "")).strip()
    about = [str(event.get(name, "")).strip() for name in ("LOCATION", "DESCRIPTION")]
    base = ReminderEvent(
        reminder_id,
        recipient,
        _local(start, zone),
        zone,
        "\n".join(line for line in about if line) or title,
        title=title,
        version=_version(event),
    )
    if "RRULE" in event and isinstance(event["RRULE"], list):
        reports.append(Report(part.at("RRULE", 1), "RRULE: a second rule is not imported"))
    repeats = moved is None
    if relative or not absolute:
        rule = event.get("RRULE")
        rule = rule[0] if isinstance(rule, list) else rule
        yield replace(
            base,
            before=tuple(relative),
            rrule=rule.to_ical().decode() if rule is not None and repeats else "",
            exclude=tuple(exclude) if repeats else (),
            rdates=tuple(_dates(event, part, "RDATE", zone, reports)) if repeats else (),
        )
    for n, at in enumerate(absolute, 1):
        yield replace(base, reminder_id=f"{reminder_id}/alarm-{n}"[:MAX_ID_BYTES], local="", zone="", at=at)


def _version(event: Any) -> int:
    """Return a version that grows when the event is changed: when it was last modified (s), else its SEQUENCE."""
    modified = event.get("LAST-MODIFIED")
    if modified is not None and isinstance(modified.dt, datetime):
        return int(modified.dt.astimezone(UTC).timestamp())
    return int(event.get("SEQUENCE", 0)) + 1


def _zone(prop: Any, line: int) -> str:
    """Return the zone of a start: the recipient's where it has none; a date has none either."""
    at = prop.dt
    if not isinstance(at, datetime):
        return ""
    name = str(prop.params.get("TZID", "")).removeprefix("/freeassociation.sourceforge.net/").strip('"')
    if name:
        # Some calendars put a path before the name.
        for known in (name, "/".join(name.split("/")[-3:]), "/".join(name.split("/")[-2:])):
            if found := zones.canonical(known):
                return found
        meant = zones.similar_zone(name)
        hint = f"; did you mean {meant}?" if meant else ""
        raise _Unusable(line, f"DTSTART: its TZID is no zone{hint}; it is not imported")
    if at.tzinfo is not None:
        return "Etc/UTC"
    return ""


def _local(at: date, zone: str) -> str:
    """Return a time as an event has it, on the clock of a zone."""
    if not isinstance(at, datetime):
        return at.isoformat()
    there = zones.zone(zone) if zone else None
    if at.tzinfo is not None and there is not None and str(at.tzinfo) != zone:
        at = at.astimezone(there)
    at = at.replace(tzinfo=None, microsecond=0)
    return at.isoformat(timespec="seconds" if at.second else "minutes")


def _dates(event: Any, part: _Part, name: str, zone: str, reports: list[Report]) -> Iterator[str]:
    given = event.get(name, [])
    for n, one in enumerate(given if isinstance(given, list) else [given]):
        for found in one.dts:
            if isinstance(found.dt, tuple):
                reports.append(Report(part.at(name, n), f"{name}: a period is taken as its start"))
                yield _local(found.dt[0], zone)
            else:
                yield _local(found.dt, zone)


def _alarms(event: Any, part: _Part, start: date, reports: list[Report]) -> tuple[list[str], list[int]]:
    """Return when an event's alarms ring: how long before its start, and at which instants (ms)."""
    relative: list[str] = []
    absolute: list[int] = []
    inner = [p for p in part.parts if p.name == "VALARM"]
    for alarm, where in zip(event.walk("VALARM"), inner, strict=False):
        trigger = alarm.get("TRIGGER")
        if trigger is None:
            reports.append(Report(where.line, "VALARM: has no TRIGGER; it is not imported"))
            continue
        if isinstance(trigger.dt, datetime):
            at = trigger.dt if trigger.dt.tzinfo else trigger.dt.replace(tzinfo=UTC)
            absolute.append((at - _EPOCH) // _MS)
            continue
        if not isinstance(trigger.dt, timedelta):
            reports.append(Report(where.at("TRIGGER"), "TRIGGER: is neither a duration nor a time"))
            continue
        before = -trigger.dt
        if str(trigger.params.get("RELATED", "START")).upper() == "END":
            before -= _length(event, start)
        relative.append(_offset(trigger.to_ical().decode(), before))
    return sorted(set(relative)), sorted(set(absolute))


def _offset(written: str, before: timedelta) -> str:
    """Return an offset: days as days of the calendar where the alarm says days, else elapsed."""
    seconds = int(before.total_seconds())
    if seconds % 86_400 == 0 and re.search("[DW]", written.upper()):
        return offsets.Offset(seconds // 86_400, 0).id
    return offsets.Offset(0, seconds).id


def _length(event: Any, start: date) -> timedelta:
    if "DURATION" in event:
        return event["DURATION"].dt  # type: ignore[no-any-return]
    if "DTEND" in event:
        return event["DTEND"].dt - start  # type: ignore[no-any-return]
    return timedelta() if isinstance(start, datetime) else timedelta(days=1)


# -- writing -----------------------------------------------------------------------------------------------------------


def write(reminders: Iterable[tuple[str, Definition, str]], now: datetime) -> bytes:
    """Return a calendar of reminders: id, definition, and the zone in use ("" where it is not known)."""
    calendar = icalendar.Calendar()
    calendar.add("prodid", PRODUCT)
    calendar.add("version", "2.0")
    for reminder_id, d, zone in reminders:
        event = icalendar.Event()
        event.add("uid", f"{reminder_id}@reminders")
        event.add("dtstamp", now)
        _add_times(event, d, zones.zone(zone or d.zone) if zone or d.zone else None)
        content = _content(d)
        event.add("summary", content.title or content.text.partition("\n")[0] or reminder_id)
        if content.text and content.text != content.title:
            event.add("description", content.text)
        for text in d.before or (() if _all_day(d) else ("PT0S",)):
            event.add_component(_alarm(offsets.parse(text)))
        calendar.add_component(event)
    calendar.add_missing_timezones()
    return calendar.to_ical()  # type: ignore[no-any-return]


def _all_day(d: Definition) -> bool:
    return len(d.local) == 10


def _add_times(event: Any, d: Definition, zone: ZoneInfo | None) -> None:
    if d.at is not None:
        event.add("dtstart", _EPOCH + d.at * _MS)
        return
    event.add("dtstart", _moment(d.local, zone))
    if d.rrule:
        event.add("rrule", icalendar.vRecur.from_ical(d.rrule.removeprefix("RRULE:")))
    for name, texts in (("exdate", d.exclude), ("rdate", d.rdates)):
        for text in texts:
            # A date alone leaves out the whole day, which only the start of that day can say.
            full = f"{text}{d.local[10:]}" if len(text) == 10 and not _all_day(d) else text
            event.add(name, _moment(full, zone))


def _moment(local: str, zone: ZoneInfo | None) -> date:
    if len(local) == 10:
        return date.fromisoformat(local)
    return datetime.fromisoformat(local).replace(tzinfo=zone)


def _alarm(offset: offsets.Offset) -> Any:
    alarm = icalendar.Alarm()
    alarm.add("action", "DISPLAY")
    alarm.add("description", "reminder")
    alarm.add("trigger", -timedelta(days=offset.days, seconds=offset.seconds))
    return alarm


def _content(d: Definition) -> Content:
    from schemas import codec  # noqa: PLC0415 - only what is written in clear is opened

    if d.sealed.key_id or not d.sealed.body:
        return Content()
    return codec.decode(Content, d.sealed.body)


def not_exported(d: Definition) -> str:
    """Return why a reminder has no place in a calendar; nothing where it has."""
    if d.cron:
        return "a cron expression has no form in a calendar"
    return ""


def as_sparse(event: ReminderEvent) -> Mapping[str, Any]:
    """Return an event as sparse JSON."""
    plain = ReminderEvent("")
    names = ("reminder_id", "recipient_id", "local", "zone", "text", "at", "rrule", "title", "version")
    found: dict[str, Any] = {n: getattr(event, n) for n in names if getattr(event, n) != getattr(plain, n)}
    found |= {n: list(getattr(event, n)) for n in ("exclude", "rdates", "before") if getattr(event, n)}
    return found
