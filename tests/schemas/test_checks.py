"""Each fault of an event has its reason, its field, its value (masked where personal) and its remedy."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import checks
from schemas.checks import Fault, Reason, check_recipient, check_reminder, masked, shown
from schemas.names import (
    Action,
    Channel,
    MaybeSent,
    Missed,
    Overlap,
    Priority,
    RecipientAction,
    WaitFor,
)
from schemas.records import Consent, Contact, Policy, RecipientEvent, ReminderEvent, Step
from tests.effort import times
from tests.schemas.samples import any_record

NOW = 1_768_467_600_000  # 2026-01-15T09:00Z
HOUR = 3_600_000
DAY = 24 * HOUR
GOOD = ReminderEvent("crm-1", "anna", "2026-12-01T09:00", "Europe/Berlin", "Take your pills")
MAIL = Step(Channel.EMAIL, address="anna@example.org")


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def reminder(**changes: Any) -> ReminderEvent:
    return replace(GOOD, **changes)


def fault_of(event: ReminderEvent, record_ms: int = NOW) -> Fault | None:
    return check_reminder(event, NOW, record_ms)


@pytest.mark.parametrize(
    "event",
    [
        GOOD,
        reminder(local="2026-12-01"),
        reminder(local="2026-12-01T09:00:30"),
        reminder(zone=""),
        reminder(local="", zone="", at=NOW + HOUR),
        reminder(local="", at=NOW - 365 * DAY),
        reminder(local="2001-01-01T00:00"),
        reminder(local="2126-01-15T09:00"),
        reminder(recipient_id="", steps=(MAIL, Step(Channel.SMS, address="+491701234567"))),
        reminder(steps=(MAIL, Step(Channel.SMS))),
        reminder(text="", title="Pills"),
        reminder(reminder_id="ä" * 100, recipient_id="x" * 200),
        reminder(reminder_id="crm 1 \u00a0 nbsp and \u200d joiner"),
        reminder(text="two\nlines\tand a tab"),
        reminder(expires_at=ms("2026-12-01T08:01+00:00")),
        reminder(local="2026-12-01", expires_at=ms("2026-12-01T00:00+01:00") + 1),
        reminder(zone="", expires_at=ms("2026-12-01T09:01+14:00")),
        reminder(policy=Policy()),
        reminder(policy=Policy(Missed.ALL, Overlap.SKIP, MaybeSent.HOLD, max_lateness_s=1, max_attempts=2)),
        reminder(version=(1 << 63) - 1, jitter_s=60, priority=Priority.URGENT),
        reminder(data={str(n): "x" for n in range(200)}),
        ReminderEvent("crm-1", action=Action.CANCEL),
        ReminderEvent("crm-1", action=Action.CANCEL, version=7, local="nonsense", zone="nowhere"),
    ],
)
def test_a_good_event_has_no_fault(event: ReminderEvent) -> None:
    assert fault_of(event) is None


ID = "1 to 200 bytes"
FAULTS: list[tuple[ReminderEvent, str, str, str, str]] = [
    (reminder(reminder_id=""), "empty_id", "reminder_id", "", ID),
    (reminder(reminder_id="x" * 10_000), "long_id", "reminder_id", "10000 bytes", ID),
    (reminder(reminder_id="ä" * 101), "long_id", "reminder_id", "202 bytes", ID),
    (reminder(reminder_id="a\nb\x00"), "control_characters", "reminder_id", "a\\nb\\x00", "leave out control"),
    (reminder(reminder_id="a\x85b"), "control_characters", "reminder_id", "a\\x85b", "leave out control"),
    (reminder(recipient_id="x" * 201), "long_id", "recipient_id", "201 bytes", ID),
    (reminder(recipient_id="an\x7fna"), "control_characters", "recipient_id", "an\\x7fna", "leave out"),
    (reminder(correlation_id="a\r\nb"), "control_characters", "correlation_id", "a\\r\\nb", "line ends"),
    (reminder(source="\x1b[31m"), "control_characters", "source", "\\x1b[31m", "leave out"),
    (reminder(actor="Anna\x00"), "control_characters", "actor", "*** (5 characters)", "leave out"),
    (reminder(tenant="x" * 201), "too_large", "tenant", "201 bytes", "at most 200 bytes"),
    (reminder(category="ä" * 101), "too_large", "category", "202 bytes", "at most 200 bytes"),
    (reminder(version=-1), "negative", "version", "-1", "zero or more"),
    (reminder(action=Action.UNKNOWN), "needs_newer_service", "action", "UNKNOWN", "update the service"),
    (reminder(local=""), "no_start", "local", "", "exactly one of local, at and cron"),
    (reminder(at=NOW), "several_starts", "at", "local and at", "exactly one of"),
    (reminder(cron="0 9 * * *"), "several_starts", "cron", "local and cron", "exactly one of"),
    (reminder(local="", at=NOW, cron="0 9 * * *"), "several_starts", "cron", "at and cron", "exactly one of"),
    (reminder(zone="", recipient_id="", steps=(MAIL,)), "no_zone", "zone", "", "IANA zone of local, or a recipient_id"),
    (
        reminder(local="", cron="0 9 * * *", zone="", recipient_id="", steps=(MAIL,)),
        "no_zone",
        "zone",
        "",
        "or a recipient_id",
    ),
    (reminder(zone="Europe/Berlln"), "unknown_zone", "zone", "Europe/Berlln", "did you mean Europe/Berlin?"),
    (reminder(zone="CST"), "unknown_zone", "zone", "CST", "did you mean America/Chicago or Asia/Shanghai or"),
    (reminder(zone="../../../etc/passwd"), "unknown_zone", "zone", "../../../etc/passwd", "such as Europe/Berlin"),
    (reminder(zone="Mars/\x00Base"), "unknown_zone", "zone", "Mars/\\x00Base", "IANA"),
    (reminder(zone="Z" * 5000), "unknown_zone", "zone", "Z" * 79 + "…", "IANA"),
    (reminder(local="", at=NOW, zone="nowhere"), "unknown_zone", "zone", "nowhere", "IANA"),
    (reminder(local="2026-02-30"), "impossible_date", "local", "2026-02-30", "that the calendar has"),
    (reminder(local="2027-02-29T09:00"), "impossible_date", "local", "2027-02-29T09:00", "the calendar has"),
    (reminder(local="2026-12-01T24:00"), "impossible_date", "local", "2026-12-01T24:00", "the calendar has"),
    (reminder(local="0000-01-01T09:00"), "impossible_date", "local", "0000-01-01T09:00", "the calendar has"),
    (reminder(local="tomorrow"), "unreadable_time", "local", "tomorrow", "as 2026-12-01T09:00 or 2026-12-01"),
    (reminder(local="2026-12-01T09:00Z"), "unreadable_time", "local", "2026-12-01T09:00Z", "without an offset"),
    (
        reminder(local="2026-12-01T09:00+01:00"),
        "unreadable_time",
        "local",
        "2026-12-01T09:00+01:00",
        "without an offset",
    ),
    (reminder(local="2026-12-01T09:00:00.5"), "unreadable_time", "local", "2026-12-01T09:00:00.5", "as 2026-12-01T09"),
    (reminder(local="2026-12-01 09:00"), "unreadable_time", "local", "2026-12-01 09:00", "as 2026-12-01T09:00"),
    (reminder(local="20261201T0900+01"), "unreadable_time", "local", "20261201T0900+01", "without an offset"),
    (reminder(local="2026-W01-1T09:00"), "unreadable_time", "local", "2026-W01-1T09:00", "as 2026-12-01T09:00"),
    (reminder(local="２０２６-12-01"), "unreadable_time", "local", "２０２６-12-01", "as 2026-12-01T09:00"),
    (reminder(local="0001-01-01T09:00"), "implausible_time", "local", "0001-01-01T09:00", "from 2000 on"),
    (reminder(local="1999-12-31T23:59"), "implausible_time", "local", "1999-12-31T23:59", "from 2000 on"),
    (reminder(local="9999-12-31T23:59"), "implausible_time", "local", "9999-12-31T23:59", "at most 100 years ahead"),
    (
        reminder(local="", at=1_768_467_600),
        "implausible_time",
        "at",
        "1768467600 (1970-01-21T11:14:27Z)",
        "as seconds sent as ms are",
    ),
    (
        reminder(local="", at=1_768_467_600_000_000),
        "implausible_time",
        "at",
        "1768467600000000",
        "as µs sent as ms are",
    ),
    (reminder(local="", at=-1), "implausible_time", "at", "-1 (1969-12-31T23:59:59Z)", "timestamp-millis"),
    (reminder(local="", at=0), "implausible_time", "at", "0 (1970-01-01T00:00:00Z)", "timestamp-millis"),
    (reminder(local="", at=-(1 << 63)), "implausible_time", "at", str(-(1 << 63)), "timestamp-millis"),
    (
        reminder(local="", at=NOW, expires_at=5),
        "implausible_time",
        "expires_at",
        "5 (1970-01-01T00:00:00Z)",
        "ms since",
    ),
    (
        reminder(local="", at=NOW, expires_at=NOW),
        "expires_before_start",
        "expires_at",
        "1768467600000 (2026-01-15T09:00:00Z)",
        "after its start",
    ),
    (
        reminder(expires_at=ms("2026-12-01T09:00+01:00")),
        "expires_before_start",
        "expires_at",
        "1796112000000 (2026-12-01T08:00:00Z)",
        "after its start",
    ),
    (
        reminder(zone="", expires_at=ms("2026-12-01T09:00+14:00")),
        "expires_before_start",
        "expires_at",
        "1796065200000 (2026-11-30T19:00:00Z)",
        "after its start",
    ),
    (reminder(recipient_id=""), "no_recipient", "recipient_id", "", "a recipient_id, or steps that have an address"),
    (reminder(recipient_id="", steps=(Step(Channel.SMS),)), "no_recipient", "recipient_id", "", "or steps that have"),
    (
        reminder(recipient_id="", steps=(MAIL, Step(Channel.SMS))),
        "no_address",
        "steps[1].address",
        "",
        "each step needs an address",
    ),
    (
        reminder(steps=(Step(Channel.EMAIL, address="anna"),)),
        "bad_address",
        "steps[0].address",
        "*** (4 characters)",
        "name@example.org",
    ),
    (
        reminder(steps=(Step(Channel.EMAIL, address="a@b@example.org"),)),
        "bad_address",
        "steps[0].address",
        "a***@e…",
        "one mail address",
    ),
    (
        reminder(steps=(Step(Channel.SMS, address="+49170123\n4567"),)),
        "control_characters",
        "steps[0].address",
        "+4******67",
        "leave out",
    ),
    (
        reminder(steps=(Step(Channel.PUSH, address="t" * 4097),)),
        "too_large",
        "steps[0].address",
        "4097 bytes",
        "at most 4096 bytes",
    ),
    (reminder(steps=(MAIL,) * 21), "too_large", "steps", "21 entries", "at most 20 entries"),
    (reminder(steps=(replace(MAIL, within_s=-1),)), "negative", "steps[0].within_s", "-1", "zero or more"),
    (
        reminder(steps=(replace(MAIL, channel=Channel.UNKNOWN),)),
        "needs_newer_service",
        "steps[0].channel",
        "UNKNOWN",
        "update",
    ),
    (
        reminder(steps=(replace(MAIL, wait_for=WaitFor.UNKNOWN),)),
        "needs_newer_service",
        "steps[0].wait_for",
        "UNKNOWN",
        "update",
    ),
    (reminder(text=""), "no_content", "text", "", "a text, a title or a template"),
    (reminder(title="ä" * 600), "too_large", "title", "1200 bytes", "at most 1024 bytes"),
    (reminder(text="x" * 65_537), "too_large", "text", "65537 bytes", "at most 65536 bytes"),
    (reminder(data={str(n): "x" for n in range(201)}), "too_large", "data", "201 entries", "at most 200"),
    (reminder(data={"a": "x" * 65_536}), "too_large", "data", "65537 bytes", "at most 65536 bytes"),
    (reminder(jitter_s=-5), "negative", "jitter_s", "-5", "zero or more"),
    (reminder(priority=Priority.UNKNOWN), "needs_newer_service", "priority", "UNKNOWN", "update"),
    (reminder(policy=Policy(Missed.UNKNOWN)), "needs_newer_service", "policy.missed", "UNKNOWN", "update"),
    (reminder(policy=Policy(overlap=Overlap.UNKNOWN)), "needs_newer_service", "policy.overlap", "UNKNOWN", "update"),
    (reminder(policy=Policy(maybe_sent=MaybeSent.UNKNOWN)), "needs_newer_service", "policy.maybe_sent", "UNKNOWN", "u"),
    (reminder(policy=Policy(nag_every_s=9, nag_max=101)), "too_large", "policy.nag_max", "101", "at most 100"),
    (reminder(policy=Policy(nag_max=3)), "invalid", "policy.nag_max", "3", "nag_every_s"),
    (reminder(policy=Policy(escalate_to=("x",) * 21)), "too_large", "policy.escalate_to", "21 entries", "at most 20"),
    (reminder(policy=Policy(escalate_to=("x", ""))), "empty_id", "policy.escalate_to[1]", "", ID),
    *(
        (reminder(policy=Policy(**{name: -1})), "negative", f"policy.{name}", "-1", "zero or more")  # type: ignore[arg-type]
        for name in ("max_lateness_s", "max_attempts", "nag_every_s", "nag_max", "max_cost_micros", "quorum")
    ),
    # What a later release does is parked.
    (ReminderEvent("crm-1", action=Action.SNOOZE), "no_start", "local", "", "exactly one"),
    (
        ReminderEvent("crm-1", action=Action.SNOOZE, local="2026-12-32T09:00", zone="UTC"),
        "impossible_date",
        "local",
        "2026-12-32T09:00",
        "",
    ),
    (
        ReminderEvent("crm-1", action=Action.SNOOZE, local="2026-12-02T09:00", zone="Europe/Nowhere"),
        "unknown_zone",
        "zone",
        "Europe/Nowhere",
        "",
    ),
    (reminder(template="../pills", text=""), "invalid", "template", "../pills", "pills@3"),
    (reminder(template="pills@x", text=""), "invalid", "template", "pills@x", "pills@3"),
    (reminder(occurrence="2026-12-02T09:00"), "one_occurrence", "occurrence", "2026-12-02T09:00", "SNOOZE it"),
    # What is wrong in any release is refused, however new the rest is.
    (reminder(rrule="FREQ=DAILY", zone="Mars"), "unknown_zone", "zone", "Mars", "IANA"),
    (reminder(template="x", recipient_id=""), "no_recipient", "recipient_id", "", "recipient_id"),
]


@pytest.mark.parametrize(
    ("event", "reason", "field", "value", "remedy"), FAULTS, ids=[f"{n}-{f[1]}" for n, f in enumerate(FAULTS)]
)
def test_a_fault_of_a_reminder(event: ReminderEvent, reason: str, field: str, value: str, remedy: str) -> None:
    fault = fault_of(event)
    assert fault is not None
    assert (fault.reason.value, fault.field, fault.value) == (reason, field, value)
    assert remedy in fault.remedy
    assert fault.parked is (reason == "needs_newer_service")


@pytest.mark.parametrize("event", [GOOD, ReminderEvent("crm-1", action=Action.CANCEL)])
def test_a_clock_far_ahead_would_hide_later_events(event: ReminderEvent) -> None:
    assert fault_of(event, NOW + HOUR) is None
    fault = fault_of(event, NOW + HOUR + 1)
    assert fault is not None
    assert (fault.reason, fault.field) == (Reason.CLOCK_AHEAD, "version")
    assert fault.value == "1768471200001 (2026-01-15T10:00:00Z)"
    assert "number the events" in fault.remedy
    assert fault_of(replace(event, version=1), NOW + DAY) is None


@settings(max_examples=times(400), deadline=None)
@given(event=any_record(ReminderEvent), now=st.integers(0, 1 << 42), record=st.integers(0, 1 << 43))
def test_any_event_is_answered(event: ReminderEvent, now: int, record: int) -> None:
    _is_fit_to_show(check_reminder(event, now, record))


@settings(max_examples=times(200), deadline=None)
@given(event=any_record(RecipientEvent), record=st.integers(0, 1 << 43))
def test_any_recipient_is_answered(event: RecipientEvent, record: int) -> None:
    _is_fit_to_show(check_recipient(event, NOW, record))


@settings(max_examples=times(300), deadline=None)
@given(
    local=st.text(st.sampled_from("0123456789-T:ZW+. \x00٣"), max_size=20)
    | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?)?", fullmatch=True),
    expires_at=st.none() | st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(NOW, NOW * 2),
    zone_=st.sampled_from(["", "Europe/Berlin", "Pacific/Apia", "Etc/GMT+12", "Asia/Kathmandu"]),
)
def test_any_local_time_is_answered(local: str, expires_at: int | None, zone_: str) -> None:
    _is_fit_to_show(fault_of(reminder(local=local, expires_at=expires_at, zone=zone_)))


def _is_fit_to_show(fault: Fault | None) -> None:
    if fault is not None:
        assert isinstance(fault.reason, Reason)
        assert fault.field
        assert fault.remedy
        assert len(fault.value) <= 80
        assert not checks._UNSEEN.search(fault.value)


# -- recipients --------------------------------------------------------------------------------------------------------

ANNA = RecipientEvent(
    "anna",
    zone="Europe/Berlin",
    contacts=(Contact(Channel.EMAIL, "anna@example.org", "home"), Contact(Channel.SMS, "+491701234567")),
    quiet=("22:00-07:00",),
    consents=(Consent(True, NOW, channel=Channel.SMS), Consent(False, NOW, "offers")),
)


@pytest.mark.parametrize(
    "event",
    [
        ANNA,
        RecipientEvent("anna"),
        RecipientEvent("anna", RecipientAction.ERASE),
        replace(ANNA, contacts=()),
        replace(ANNA, max_per_hour=-1, max_per_day=-1),
        replace(ANNA, contacts=(Contact(Channel.PUSH, "t" * 4096), Contact(Channel.WEBHOOK, "https://example.org/x"))),
    ],
)
def test_a_good_recipient_has_no_fault(event: RecipientEvent) -> None:
    assert check_recipient(event, NOW, NOW) is None


def anna(**changes: Any) -> RecipientEvent:
    return replace(ANNA, **changes)


RECIPIENTS: list[tuple[RecipientEvent, str, str, str]] = [
    (anna(recipient_id=""), "empty_id", "recipient_id", ""),
    (anna(recipient_id="x" * 201), "long_id", "recipient_id", "201 bytes"),
    (anna(recipient_id="a\tb"), "control_characters", "recipient_id", "a\\tb"),
    (anna(action=RecipientAction.UNKNOWN), "needs_newer_service", "action", "UNKNOWN"),
    (anna(version=-2), "negative", "version", "-2"),
    (anna(source="a\nb"), "control_characters", "source", "a\\nb"),
    (anna(zone="GMT+5"), "unknown_zone", "zone", "GMT+5"),
    (anna(locale="x" * 300), "too_large", "locale", "300 bytes"),
    (anna(region="\x00"), "control_characters", "region", "\\x00"),
    (anna(contacts=(Contact(Channel.EMAIL, "a@b.c"),) * 21), "too_large", "contacts", "21 entries"),
    (anna(contacts=(Contact(Channel.UNKNOWN, "x"),)), "needs_newer_service", "contacts[0].channel", "UNKNOWN"),
    (anna(contacts=(Contact(Channel.SMS, ""),)), "no_address", "contacts[0].address", ""),
    (anna(contacts=(Contact(Channel.EMAIL, "anna@"),)), "bad_address", "contacts[0].address", "*** (5 characters)"),
    (
        anna(contacts=(Contact(Channel.WEBHOOK, "https://u:p@a.example/"),)),
        "bad_address",
        "contacts[0].address",
        "h***@a…",
    ),
    (anna(contacts=(Contact(Channel.WEBHOOK, "ftp://a"),)), "bad_address", "contacts[0].address", "*** (7 characters)"),
    (anna(contacts=(Contact(Channel.PUSH, "to ken"),)), "bad_address", "contacts[0].address", "*** (6 characters)"),
    (anna(contacts=(Contact(Channel.EMAIL, "a\nb@c.de"),)), "control_characters", "contacts[0].address", "a***@c…"),
    (
        anna(contacts=(Contact(Channel.EMAIL, "a@b.c", "ho\nme"),)),
        "control_characters",
        "contacts[0].label",
        "*** (5 characters)",
    ),
    (anna(quiet=("x",) * 21), "too_large", "quiet", "21 entries"),
    (anna(quiet=("22:00-07:00", "\x00")), "control_characters", "quiet[1]", "\\x00"),
    (anna(quiet=("22:00-07:00", "at night")), "unreadable_window", "quiet[1]", "at night"),
    (anna(max_per_hour=-2), "negative", "max_per_hour", "-2"),
    (anna(consents=(Consent(True, NOW),) * 201), "too_large", "consents", "201 entries"),
    (anna(consents=(Consent(True, 5),)), "implausible_time", "consents[0].at", "5 (1970-01-01T00:00:00Z)"),
    (
        anna(consents=(Consent(True, NOW, channel=Channel.UNKNOWN),)),
        "needs_newer_service",
        "consents[0].channel",
        "UNKNOWN",
    ),
    (anna(consents=(Consent(True, NOW, evidence="x" * 1025),)), "too_large", "consents[0].evidence", "1025 bytes"),
]


@pytest.mark.parametrize(
    ("event", "reason", "field", "value"), RECIPIENTS, ids=[f"{n}-{f[1]}" for n, f in enumerate(RECIPIENTS)]
)
def test_a_fault_of_a_recipient(event: RecipientEvent, reason: str, field: str, value: str) -> None:
    fault = check_recipient(event, NOW, NOW)
    assert fault is not None
    assert (fault.reason.value, fault.field, fault.value) == (reason, field, value)
    assert fault.remedy


def test_a_recipient_far_ahead() -> None:
    fault = check_recipient(ANNA, NOW, NOW + DAY)
    assert fault is not None
    assert fault.reason is Reason.CLOCK_AHEAD


# -- masks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "pii", "shows"),
    [
        ("", "address", ""),
        ("anna@example.org", "address", "a***@e…"),
        ("+491701234567", "address", "+4******67"),
        ("+4917", "address", "*** (5 characters)"),
        ("https://example.org/hook?key=1", "address", "*** (30 characters)"),
        ("\n@\x00", "address", "\\n***@\\x00…"),
        ("secret", "content", "*** (6 characters)"),
        ("Anna", "actor", "*** (4 characters)"),
    ],
)
def test_what_is_personal_is_masked(value: str, pii: str, shows: str) -> None:
    assert masked(value, pii) == shows
    assert shown(value, pii) == shows


@pytest.mark.parametrize(
    ("value", "shows"),
    [
        ("plain é", "plain é"),
        ("a\r\nb\x1b[0m", "a\\r\\nb\\x1b[0m"),
        ("\u202egpj", "\\u202egpj"),
        ("\ud800", "\\ud800"),
        ("x" * 80, "x" * 80),
        ("x" * 81, "x" * 79 + "…"),
        ("\x00" * 81, ("\\x00" * 20)[:79] + "…"),
    ],
)
def test_a_value_as_it_may_be_shown(value: str, shows: str) -> None:
    assert shown(value) == shows


def test_now_is_what_it_says() -> None:
    assert datetime.fromtimestamp(NOW / 1000, UTC) == datetime(2026, 1, 15, 9, tzinfo=UTC)
