"""A thousand random lives of reminders, each explained after every turn without a gap: why, what next, when."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from app import reasons, why
from schemas.names import Action, Channel, OutcomeKind, Priority, State, WaitFor
from schemas.quick import replace
from schemas.records import Definition, Policy, RowStep
from tables import due as index
from tables import transition
from tables.settling import Again, Doubt, GiveUp, NextStep, Skip
from tests.rules.life import AT_NINE, DAY, HOUR, MINUTE, RULES, T0, Reminder, examples

MAIL, TEXT = Channel.EMAIL, Channel.SMS
#: What delivery may hold a request for.
HELD = (
    "digest_window",
    "cap_per_hour",
    "calling_hours",
    "zone_unknown",
    "daily_quota",
    "busy",
    "paced",
    "stopping",
    "control_unknown",
    "suppressions_unknown",
    "unknown_recipient",
    "another_key",
    "stale_ask",
    "hold:channel:sms",
    "hold:provider:twilio",
    "hold:circuit:twilio",
)
#: What it may answer, with the verdict that settle comes to.
ANSWERS = (
    (OutcomeKind.DEFERRED, Again(MINUTE, "1m", spent=True), "greylisted", MAIL),
    (OutcomeKind.DEFERRED, Again(MINUTE, "1m", spent=False), "unreachable", MAIL),
    (OutcomeKind.HELD, Again(HOUR, "", spent=False, held=True), "quiet_hours", TEXT),
    (OutcomeKind.HELD, Again(MINUTE, "", spent=False, held=True), "unknown_template", MAIL),
    (OutcomeKind.HELD, Again(MINUTE, "", spent=False, held=True), "hold:category:x", MAIL),
    (OutcomeKind.HELD, Again(MINUTE, "", spent=False, held=True), "cap_per_day", TEXT),
    (OutcomeKind.REJECTED, GiveUp("template_variable_missing"), "template_variable_missing", MAIL),
    (OutcomeKind.UNDELIVERABLE, NextStep(), "no_contact", TEXT),
    (OutcomeKind.UNDELIVERABLE, GiveUp("channel_not_configured"), "channel_not_configured", TEXT),
    (OutcomeKind.OPTED_OUT, Skip(State.SKIPPED), "suppressed_stop", TEXT),
    (OutcomeKind.OPTED_OUT, Skip(State.SKIPPED), "no_consent", MAIL),
    (OutcomeKind.SKIPPED, Skip(State.EXPIRED), "expired", MAIL),
    (OutcomeKind.SKIPPED, Skip(State.SKIPPED), "not_on_send_only_list", MAIL),
    (OutcomeKind.MISCONFIGURED, Again(HOUR, "1h", spent=False), "sealed_with_unknown_key", MAIL),
    (OutcomeKind.MAYBE_SENT, Doubt(), "call_timeout", MAIL),
    (OutcomeKind.MAYBE_SENT, Doubt(), "no_outcome", TEXT),
    *((OutcomeKind.HELD, Again(MINUTE, "", spent=False, held=True), reason, TEXT) for reason in HELD),
)
ACTS = (
    Action.PAUSE,
    Action.RESUME,
    Action.ACKNOWLEDGE,
    Action.FIRE,
    Action.CONFIRM_SENT,
    Action.CONFIRM_NOT_SENT,
)
TWO = (RowStep(MAIL, WaitFor.READ, 600, addressed=True), RowStep(TEXT, addressed=True))
DEFINITIONS = (
    Definition(at=AT_NINE, steps=TWO),
    Definition(at=AT_NINE, steps=TWO[1:], priority=Priority.URGENT),
    Definition(recipient_id="anna", local="2026-12-01T09:00"),
    Definition(at=AT_NINE, recipient_id="anna", policy=Policy(nag_every_s=600, nag_max=2, escalate_to=("bob",))),
    Definition(local="2026-12-01T09:00", zone="UTC", rrule="FREQ=DAILY;COUNT=4", steps=TWO[1:]),
    Definition(local="2026-12-01T09:00", zone="UTC", before=("PT1H", "PT0S"), steps=TWO),
)


def turns(r: Reminder) -> list[Callable[[int], object]]:
    """Return what may happen to a reminder now; each is told a number to choose by."""
    row = r.row
    if row is None:
        return [lambda n: r.upsert(DEFINITIONS[n % len(DEFINITIONS)], 1)]
    version = row.version + 1
    may: list[Callable[[int], object]] = [
        lambda n: r.act(ACTS[n % len(ACTS)], version),
        lambda n: r.act(Action.SNOOZE, version, at=r.now + (n % 3 + 1) * HOUR),
        lambda n: r.cancel(version),
        lambda n: r.upsert(replace(DEFINITIONS[n % len(DEFINITIONS)], category="x"), version),
        lambda n: setattr(r, "now", r.now + n % 5 * 10 * MINUTE),
    ]
    if r.header().due_ms:
        may += [lambda n: r.fire()] * 4
    if row.link and row.definition is not None and row.definition.recipient_id:
        may.append(lambda n: r.profile("Europe/Vienna" if n % 3 else "Asia/Tokyo", reachable=n % 2 == 0))
        may += [lambda n: r.erased()] if row.seq > 6 else []
    if row.open is not None or row.closed:
        said = (OutcomeKind.ACCEPTED, "ok"), (OutcomeKind.REJECTED, "too_late_to_cancel")
        may.append(lambda n: r.retracted(*said[n % 2]))
    may.append(lambda n: r.new_tzdata())
    o = row.open
    if o is None:
        return may
    if o.state is State.SENDING:
        may += [lambda n: r.accepted(reason="ok", channel=MAIL)] * 2
        may += [lambda n: answer(r, n)] * 4
    if o.state is State.WITHDRAWING:
        may += [lambda n: r.withdrawn(), lambda n: r.accepted(reason="ok", channel=MAIL), lambda n: answer(r, n)]
    if o.state in (State.SENT, State.MAYBE_SENT):
        may += [lambda n: r.receipt((OutcomeKind.DELIVERED, OutcomeKind.READ)[n % 2])] * 2
        may += [lambda n: failed(r, n), lambda n: r.noted(("delay_told", "complaint_told")[n % 2], r.delivery_id())]
    if o.state is State.MAYBE_SENT:
        may += [lambda n: looked_up(r, n)] * 3
    return may


def looked_up(r: Reminder, n: int) -> None:
    """Let a provider have been asked about a doubt: alone, or as one of several in a message."""
    detail = ("on its list as SM1; cost 0.008 EUR", "on its list as SM1")[n % 2]
    if n % 3:
        r.accepted(reason="found_at_provider", channel=TEXT, provider="twilio", provider_id="SM1", detail=detail)
    else:
        r.outcome(OutcomeKind.MAYBE_SENT, Doubt(), reason="not_at_provider", channel=TEXT, provider="twilio")


def failed(r: Reminder, n: int) -> None:
    """Let news tell that what was taken has failed, for good or for now."""
    kinds = (OutcomeKind.UNDELIVERABLE, OutcomeKind.REJECTED, OutcomeKind.DEFERRED)
    r.receipt(kinds[n % 3], again=Again(MINUTE, "1m", spent=True) if n % 2 else None)


def answer(r: Reminder, n: int) -> None:
    kind, verdict, reason, channel = ANSWERS[n % len(ANSWERS)]
    r.outcome(kind, verdict, reason=reason, channel=channel, spent=not isinstance(verdict, Again) or verdict.spent)


def explained(r: Reminder) -> None:
    """Look at everything that a person is told of it."""
    again = why.recount(r.audit, r.now)
    assert again.state, again
    assert again.next, again
    if r.row is None:
        # Its row has been purged: the audit topic tells it all the same.
        return
    found = why.explain(r.row, index.unpack(transition.header(r.row, RULES)), r.now)
    said = (found.state, found.because, found.next)
    assert all(said), (said, r.state, r.audit[-3:])
    for words in said:
        assert "no more words" not in words, words
        assert words.rstrip(")").endswith((".", "?")) or "(" in words, words
    if r.row.open is not None:
        assert found.at > 0, (found, r.state)
    for entry in (*r.row.trail, *r.audit):
        assert "no more words" not in reasons.sentence(entry.reason, entry.channel), entry.reason


@examples(1000)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)), min_size=1, max_size=14))
def test_a_thousand_lives_are_explained_without_a_gap(life: list[tuple[int, int]]) -> None:
    r = Reminder(now=T0)
    for which, n in life:
        may = turns(r)
        may[which % len(may)](n)
        r.now += n % 7 * 1000
        explained(r)
    assert r.now < T0 + 1000 * DAY
