"""Calendars become reminders, and reminders a calendar."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import icalendar
import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner, Result

from agents.publisher import partition_of
from app import ics
from app.cli.root import main
from app.config import VARIABLES, Settings
from app.topics import TopicNames, ensure_topics
from deploy.dev.broker import Broker
from schemas.codec import encode
from schemas.names import Lane, State
from schemas.records import Content, Definition, Occurrence, ReminderEvent, ReminderRow, Sealed
from tables import due as index
from tables import schedule
from tables.admission import times_fault

Invoke = Callable[..., Result]

#: As Outlook writes it: Windows' name of a zone, folded lines, a series with one instance moved, other things.
CALENDAR = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//x//y//EN
BEGIN:VTIMEZONE
TZID:W. Europe Standard Time
BEGIN:STANDARD
DTSTART:16010101T030000
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:16010101T020000
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=3
END:DAYLIGHT
END:VTIMEZONE
BEGIN:VEVENT
UID:standup
DTSTAMP:20261101T000000Z
LAST-MODIFIED:20261102T030405Z
DTSTART;TZID=W. Europe Standard Time:20261201T090000
DTEND;TZID=W. Europe Standard Time:20261201T093000
RRULE:FREQ=WEEKLY;BYDAY=TU,TH;UNTIL=20270301T080000Z
EXDATE;TZID=W. Europe Standard Time:20261224T090000
SUMMARY:Stand-
 up
LOCATION:Room 12
ATTENDEE:mailto:anna@example.org
BEGIN:VALARM
ACTION:DISPLAY
TRIGGER:-PT15M
END:VALARM
BEGIN:VALARM
ACTION:EMAIL
TRIGGER;RELATED=END:PT0S
ATTENDEE:mailto:anna@example.org
END:VALARM
END:VEVENT
BEGIN:VEVENT
UID:standup
RECURRENCE-ID;TZID=W. Europe Standard Time:20261210T090000
DTSTART;TZID=W. Europe Standard Time:20261210T140000
SUMMARY:Stand-up (later)
END:VEVENT
BEGIN:VEVENT
UID:birthday
DTSTART;VALUE=DATE:20261224
RRULE:FREQ=YEARLY
SUMMARY:Birthday
BEGIN:VALARM
TRIGGER:-P1D
END:VALARM
BEGIN:VALARM
TRIGGER:PT9H
END:VALARM
BEGIN:VALARM
TRIGGER;VALUE=DATE-TIME:20261220T080000Z
END:VALARM
END:VEVENT
BEGIN:VEVENT
UID:floating@host
DTSTART:20261203T120000
SEQUENCE:4
SUMMARY:Lunch
END:VEVENT
BEGIN:VEVENT
UID:fixed
DTSTART:20261203T120000Z
SUMMARY:Call
END:VEVENT
BEGIN:VEVENT
UID:lost
DTSTART;TZID=CST:20261210T140000
SUMMARY:y
END:VEVENT
BEGIN:VEVENT
UID:off
DTSTART:20261210T140000Z
STATUS:CANCELLED
SUMMARY:y
END:VEVENT
BEGIN:VTODO
UID:todo
END:VTODO
END:VCALENDAR
"""


@pytest.fixture
def invoke() -> Invoke:
    def run(*args: str, env: dict[str, str] | None = None) -> Result:
        unset = {name: None for v in VARIABLES for name in (v.name, f"{v.name}_FILE")}
        return CliRunner().invoke(main, args, env={**unset, "KAFKA_BOOTSTRAP": "127.0.0.1:1", **(env or {})})

    return run


def line_of(text: str, n: int = 1) -> int:
    return [number for number, line in enumerate(CALENDAR.splitlines(), 1) if line.startswith(text)][n - 1]


def test_events_with_their_alarms_become_reminders() -> None:
    found = {event.reminder_id: event for event in ics.read(CALENDAR, "anna", "cal/").events}
    standup = found["cal/standup"]
    assert (standup.local, standup.zone, standup.title, standup.text) == (
        "2026-12-01T09:00",
        "Europe/Berlin",
        "Stand-up",
        "Room 12",
    )
    # Before the start, and at the end, half an hour after it. What was moved is left out of the series.
    assert standup.before == ("-PT30M", "PT15M")
    assert standup.exclude == ("2026-12-24T09:00", "2026-12-10T09:00")
    assert standup.version == int(datetime(2026, 11, 2, 3, 4, 5, tzinfo=UTC).timestamp())
    first = next(
        schedule.firings(
            Definition(local=standup.local, rrule=standup.rrule, before=standup.before), "Europe/Berlin", 0
        )
    )
    assert first.due_at == schedule.instant("2026-12-01T08:45", "Europe/Berlin")
    moved = found["cal/standup/2026-12-10T09:00"]
    assert (moved.local, moved.rrule, moved.title) == ("2026-12-10T14:00", "", "Stand-up (later)")
    birthday = found["cal/birthday"]
    assert (birthday.local, birthday.zone, birthday.before) == ("2026-12-24", "", ("-PT9H", "P1D"))
    assert found["cal/birthday/alarm-1"].at == 1_797_753_600_000
    assert (found["cal/fixed"].zone, found["cal/fixed"].local) == ("Etc/UTC", "2026-12-03T12:00")
    (lunch,) = [event for event in found.values() if event.title == "Lunch"]
    # On the recipient's clock; a UID that looks like a mail address makes no id.
    assert (lunch.zone, lunch.local, lunch.version) == ("", "2026-12-03T12:00", 5)
    assert "@" not in lunch.reminder_id
    assert all(times_fault(event) is None for event in found.values())
    assert len(found) == 6


def test_what_is_not_imported_is_said_with_its_line() -> None:
    reports = {report.line: report.what for report in ics.read(CALENDAR, "anna", "cal/").reports}
    assert reports == {
        line_of("ATTENDEE"): "ATTENDEE: is not imported",
        line_of("ATTENDEE", 2): "ATTENDEE: is not imported",
        line_of("DTSTART;TZID=CST"): "DTSTART: its TZID is no zone; did you mean America/Chicago or Asia/Shanghai or "
        "America/Havana?; it is not imported",
        line_of("STATUS"): "STATUS: cancelled; it is not imported",
        line_of("BEGIN:VTODO"): "VTODO: is not imported",
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no BEGIN:VCALENDAR"),
        ("nonsense", "no BEGIN:VCALENDAR"),
        ("BEGIN:VCALENDAR\nBEGIN:VEVENT\nEND:VCALENDAR\n", "line 3: END without its BEGIN"),
        ("BEGIN:VCALENDAR\nBEGIN:VEVENT\n", "line 2: VEVENT has no END"),
    ],
)
def test_what_is_no_calendar_is_refused(text: str, says: str) -> None:
    with pytest.raises(ics.IcsError, match=says):
        ics.read(text, "anna", "cal/")


def test_the_command_reports_and_checks(invoke: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "c.ics"
    file.write_text(CALENDAR)
    result = invoke("import", str(file), "--to", "anna", "--id-prefix", "cal/", "--dry-run")
    assert f"line {line_of('STATUS')}: STATUS: cancelled; it is not imported\n" in result.stderr
    lines = [json.loads(line) for line in (tmp_path / "c.ics.jsonl").read_text().splitlines()]
    assert {line["reminder_id"] for line in lines} >= {"cal/standup", "cal/birthday", "cal/fixed"}
    file.write_bytes(b"\xff")
    assert "is no UTF-8" in invoke("import", str(file), "--to", "anna").stderr
    file.write_text("x")
    assert invoke("import", str(file), "--to", "anna").exit_code == 2


def definition(event: ReminderEvent) -> Definition:
    return Definition(
        recipient_id=event.recipient_id,
        local=event.local,
        zone=event.zone,
        at=event.at,
        rrule=event.rrule,
        exclude=event.exclude,
        rdates=event.rdates,
        before=event.before,
        sealed=Sealed(0, encode(Content(event.title, event.text))),
    )


def test_there_and_back_it_fires_at_the_same_instants() -> None:
    events = ics.read(CALENDAR, "anna", "").events
    written = ics.write([(e.reminder_id, definition(e), e.zone) for e in events], datetime(2026, 11, 1, tzinfo=UTC))
    icalendar.Calendar.from_ical(written)
    again = ics.read(written.decode(), "anna", "")
    assert again.reports == ()

    def instants(found: ReminderEvent) -> list[int]:
        firings = schedule.firings(definition(found), found.zone or "Asia/Tokyo", 0)
        return [firing.due_at for firing in islice(firings, 40)]

    assert sorted(map(instants, again.events)) == sorted(map(instants, events))
    assert sorted((e.title, e.text) for e in again.events) == sorted((e.title, e.text) for e in events)


def test_a_recipients_reminders_as_a_calendar(invoke: Invoke, broker: Broker, tmp_path: Path) -> None:
    env = {"KAFKA_BOOTSTRAP": broker.bootstrap, "REMINDERS_NAMESPACE": "ics", "REMINDERS_PARTITIONS": "4"}

    def row(d: Definition, state: State = State.SCHEDULED) -> bytes:
        open_ = Occurrence("2026-12-01T09:00/PT0S", state, 1, 2, 1)
        head = index.pack(index.STATE_CODES[state], Lane.NORMAL, 0, 1, 2)
        return head + encode(ReminderRow(definition=d, open=open_, zone="Europe/Berlin"))

    anna = Definition(
        "anna", "2026-12-01T09:00", rrule="FREQ=WEEKLY", sealed=Sealed(0, encode(Content("Stand-up", "Hi")))
    )
    rows = [
        ("a", row(anna)),
        ("gone", row(anna)),
        ("b", row(Definition("bert", "2026-12-01T09:00"))),
        ("c", row(Definition("anna", cron="0 9 * * *"))),
        ("gone", None),
    ]

    async def fill() -> None:
        await ensure_topics(Settings.load(env))
        topic = TopicNames("ics").reminders_changelog
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
            for rid, value in rows:
                await producer.send_and_wait(topic, value, key=rid.encode(), partition=partition_of(rid.encode(), 4))

    asyncio.run(fill())
    file = tmp_path / "anna.ics"
    result = invoke("export", "anna", "--ics", str(file), env=env)
    assert result.exit_code == 0, result.output
    assert "c: a cron expression has no form in a calendar\n1 reminders\n" in result.stderr
    (event,) = icalendar.Calendar.from_ical(file.read_bytes()).walk("VEVENT")
    assert (event["UID"], event["SUMMARY"], event["DESCRIPTION"]) == ("a@reminders", "Stand-up", "Hi")
    assert event["DTSTART"].to_ical() == b"20261201T090000"
    assert event["DTSTART"].params["TZID"] == "Europe/Berlin"
    assert event["RRULE"].to_ical() == b"FREQ=WEEKLY"


BROKEN = """\
BEGIN:VCALENDAR
VERSION:2.0
BEGIN:VEVENT
UID:no-such-day
DTSTART:20360230T090000Z
END:VEVENT
BEGIN:VEVENT
UID:no-such-exception
DTSTART:20361201T090000Z
RRULE:FREQ=DAILY
EXDATE:tomorrow
END:VEVENT
BEGIN:VEVENT
UID:no-trigger
DTSTART:20361201T090000Z
BEGIN:VALARM
ACTION:DISPLAY
END:VALARM
END:VEVENT
BEGIN:VEVENT
UID:mixed
DTSTART:20361201T090000Z
DTEND;VALUE=DATE:20361202
BEGIN:VALARM
TRIGGER;RELATED=END:-PT5M
END:VALARM
END:VEVENT
BEGIN:VEVENT
UID:from-then-on
RECURRENCE-ID;RANGE=THISANDFUTURE:20361201T090000Z
DTSTART:20361201T100000Z
END:VEVENT
BEGIN:VEVENT
UID:good
DTSTART:20361201T090000Z
END:VEVENT
END:VCALENDAR
"""


def test_an_event_that_cannot_be_read_stops_no_other() -> None:
    found = ics.read(BROKEN, "anna", "cal/")
    assert [(report.line, report.what.split(":")[0]) for report in found.reports] == [
        (5, "DTSTART"),
        (11, "EXDATE"),
        (16, "VALARM"),
        (20, "VEVENT"),
        (30, "RECURRENCE-ID"),
        (30, "RECURRENCE-ID"),
    ]
    assert [event.reminder_id for event in found.events] == [
        "cal/no-trigger", "cal/from-then-on/2036-12-01T09:00", "cal/good",
    ]  # fmt: skip
