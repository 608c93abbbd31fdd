"""Reminders that would reach nobody: told when it is known, and a day before they are due."""

from schemas.names import Channel, State
from schemas.quick import replace
from schemas.records import Contact, Definition, RecipientProfile, ReminderStatus, RowStep
from tables import recipients
from tests.rules.life import AT_NINE, DAY, EMAIL, HOUR, T0, Reminder

FAR = Definition("anna", at=T0 + 3 * DAY)


def told(r: Reminder) -> list[tuple[State, str]]:
    """Return what the last input told producers."""
    return [(e.state, e.reason) for e in r.last.emits if isinstance(e, ReminderStatus)]


def unreachable(d: Definition = FAR) -> Reminder:
    r = Reminder()
    r.upsert(d, 1)
    r.profile("", reachable=False)
    return r


def test_it_is_told_at_once_and_again_a_day_before() -> None:
    r = unreachable()
    assert told(r) == [(State.SCHEDULED, "recipient_unreachable")]
    assert r.header().deadline_ms == T0 + 2 * DAY
    r.fire()
    assert (r.now, told(r), r.reason) == (
        T0 + 2 * DAY,
        [(State.SCHEDULED, "still_unreachable")],
        "still_unreachable",
    )
    r.fire()
    assert (r.now, r.state, told(r)) == (T0 + 3 * DAY, State.SENDING, [])


def test_whoever_can_be_reached_by_then_is_not_told_of() -> None:
    r = unreachable()
    r.profile("", reachable=True)
    assert told(r) == []
    r.fire()
    assert (r.now, r.state) == (T0 + 3 * DAY, State.SENDING)


def test_what_is_due_within_a_day_is_told_of_once() -> None:
    r = unreachable(replace(FAR, at=AT_NINE))
    assert told(r) == [(State.SCHEDULED, "recipient_unreachable")]
    r.fire()
    assert (r.now, r.state) == (AT_NINE, State.SENDING)


def test_an_address_of_its_own_reaches_somebody() -> None:
    r = unreachable(replace(FAR, steps=(RowStep(Channel.SMS), *EMAIL)))
    assert told(r) == []
    r.fire()
    assert (r.now, r.state) == (T0 + 3 * DAY, State.SENDING)


def test_each_occurrence_of_a_series_is_told_of() -> None:
    daily = Definition("anna", local="2026-12-04T09:00", zone="UTC", rrule="FREQ=DAILY;INTERVAL=2")
    r = unreachable(daily)
    r.fire()
    assert (r.now, told(r)) == (T0 + 2 * DAY + 9 * HOUR, [(State.SCHEDULED, "still_unreachable")])
    r.fire()
    r.accepted()
    r.fire()
    assert (r.now, told(r)) == (T0 + 4 * DAY + 9 * HOUR, [(State.SCHEDULED, "still_unreachable")])


def test_a_contact_counts_where_its_channel_is_there() -> None:
    sms = RecipientProfile(contacts=(Contact(Channel.SMS, "+4930123456"),))
    assert recipients.reachable(sms)
    assert recipients.reachable(sms, frozenset({Channel.SMS}))
    assert not recipients.reachable(sms, frozenset({Channel.EMAIL}))
    assert not recipients.reachable(None, frozenset({Channel.SMS}))
