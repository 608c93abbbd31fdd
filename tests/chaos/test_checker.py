"""The checker finds every fault that is planted alone, by its name, and none in a history that is good."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from schemas import codec
from schemas.names import Action, Channel, MaybeSent, OutcomeKind, State
from schemas.records import AuditEntry, DeliveryReceipt, Policy, ReminderEvent, ReminderStatus
from tests.chaos.checker import DOUBLES, LOSSES, FaultKind, History, Received, Span, Stop, Written, check, token_of

T = 1_800_000_000_000
OCCURRENCE = f"@{T}/PT0S"
MAIL, SMS, HOOK = Channel.EMAIL, Channel.SMS, Channel.WEBHOOK


def delivery(rid: str) -> str:
    return f"{rid}:{OCCURRENCE.replace('/', '%2F')}:0:0"


@dataclass
class Plot:
    """A history in the making. Every entry is numbered and goes on from the one before."""

    events: list[ReminderEvent] = field(default_factory=list)
    entries: list[AuditEntry] = field(default_factory=list)
    receipts: list[DeliveryReceipt] = field(default_factory=list)
    statuses: list[ReminderStatus] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)

    def event(self, rid: str, action: Action = Action.UPSERT, at: int = T - 1000, **more: Any) -> None:
        made = ReminderEvent(rid, at=at, action=action, event_id=f"{rid}/{len(self.events)}", **more)
        self.events.append(made)

    def entry(self, rid: str, at: int, to: State, reason: str = "", **more: Any) -> None:
        last = next((e for e in reversed(self.entries) if e.reminder_id == rid), None)
        carried = {
            "seq": last.seq + 1 if last else 1,
            "from_state": last.to_state if last else State.NONE,
            "version": last.version if last else 1,
            "occurrence": OCCURRENCE,
            "attempt": 1,
            "channel": last.channel if last else MAIL,
            "due_at": T,
        }
        self.entries.append(AuditEntry(reminder_id=rid, at=at, to_state=to, reason=reason, **(carried | more)))

    def status(self, rid: str, state: State, occurrence: str = OCCURRENCE) -> None:
        self.statuses.append(ReminderStatus(rid, occurrence, state, T))

    def took(self, rid: str, at: int, channel: Channel = MAIL, round_: int = 0, step: int = 0, **more: Any) -> None:
        token = "" if channel is SMS else token_of(rid, OCCURRENCE, round_, step)
        self.received.append(Received(rid, channel, at, token, **more))

    def life(self, rid: str, channel: Channel = MAIL, **policy: Any) -> None:
        """Write a reminder that is sent at its time."""
        self.event(rid, policy=Policy(**policy) if policy else None)
        self.entry(rid, T - 900, State.SCHEDULED, "created", event_id=f"{rid}/{len(self.events) - 1}", channel=channel)
        self.entry(rid, T + 5, State.SENDING, "due", due=T + 60_000)
        self.took(rid, T + 20, channel)
        self.entry(rid, T + 40, State.SENT, "ok")
        self.status(rid, State.SENT)

    def history(self) -> History:
        def records(some: list[Any], at: Callable[[Any], int]) -> list[Written]:
            return [Written(0, n, at(one), codec.encode(one)) for n, one in enumerate(some)]

        made = History(
            records(self.events, lambda e: T - 950),
            records(self.entries, lambda e: e.at),
            records(self.receipts, lambda e: e.at),
            records(self.statuses, lambda e: e.at),
            self.received,
            ended_at=T + 600_000,
        )
        return replace(made, **self.more)


def good() -> Plot:
    """A history with all that is allowed, and no fault."""
    plot = Plot()
    plot.life("plain")
    plot.life("text", SMS)
    # Cancelled before its time, and too late.
    plot.event("cancelled")
    plot.event("cancelled", Action.CANCEL)
    plot.entry("cancelled", T - 900, State.SCHEDULED, "created", event_id=plot.events[-2].event_id)
    plot.entry("cancelled", T - 800, State.CANCELLED, "cancelled", event_id=plot.events[-1].event_id)
    plot.status("cancelled", State.CANCELLED)
    # Tried again: late, for a reason.
    plot.event("again")
    plot.entry("again", T - 900, State.SCHEDULED, "created", event_id=plot.events[-1].event_id)
    plot.entry("again", T + 5, State.SENDING, "due")
    plot.took("again", T + 20, taken=False)
    plot.entry("again", T + 40, State.FAILED, "busy")
    plot.entry("again", T + 40, State.RETRY, "busy", due=T + 9000, attempt=2)
    plot.entry("again", T + 9000, State.SENDING, "due", attempt=2)
    plot.took("again", T + 9010)
    plot.entry("again", T + 9020, State.SENT, "ok", attempt=2)
    plot.status("again", State.SENT)
    # No receipt came in time, so the next channel was asked; both came through, the first late.
    plot.event("chain")
    plot.entry("chain", T - 900, State.SCHEDULED, "created", event_id=plot.events[-1].event_id, channel=SMS)
    plot.entry("chain", T + 5, State.SENDING, "due")
    plot.took("chain", T + 20, SMS)
    plot.entry("chain", T + 30, State.SENT, "ok", due=T + 2000)
    plot.entry("chain", T + 2000, State.FAILED, "receipt_missing")
    plot.entry("chain", T + 2000, State.SENDING, "fallback", step=1, channel=MAIL)
    plot.took("chain", T + 2020, MAIL, step=1)
    plot.entry("chain", T + 2030, State.SENT, "ok", step=1)
    plot.receipts.append(DeliveryReceipt("chain", delivery("chain"), OutcomeKind.DELIVERED, T + 2100))
    plot.entry("chain", T + 2100, State.DELIVERED, "receipt")
    plot.status("chain", State.DELIVERED)
    # A unit died after its emits: what it said is replaced.
    plot.event("replayed")
    plot.entry("replayed", T - 900, State.SCHEDULED, "created", event_id=plot.events[-1].event_id)
    plot.entry("replayed", T + 5, State.SENDING, "due")
    plot.entry("replayed", T + 7000, State.SENDING, "due", seq=2, from_state=State.SCHEDULED)
    plot.took("replayed", T + 7010)
    plot.entry("replayed", T + 7020, State.SENT, "ok")
    plot.status("replayed", State.SENT)
    # A doubt that is held, and one that was sent again by its rule.
    plot.event("doubt")
    plot.entry("doubt", T - 900, State.SCHEDULED, "created", event_id=plot.events[-1].event_id)
    plot.entry("doubt", T + 5, State.SENDING, "due")
    plot.took("doubt", T + 20)
    plot.entry("doubt", T + 5000, State.MAYBE_SENT, "no_outcome", due=T + 86_400_000)
    plot.event("resent", policy=Policy(maybe_sent=MaybeSent.RESEND))
    plot.entry("resent", T - 900, State.SCHEDULED, "created", event_id=plot.events[-1].event_id)
    plot.entry("resent", T + 5, State.SENDING, "due")
    plot.took("resent", T + 20)
    plot.entry("resent", T + 5000, State.FAILED, "no_outcome")
    plot.entry("resent", T + 5000, State.RETRY, "no_outcome", attempt=2)
    plot.entry("resent", T + 6000, State.SENDING, "due", attempt=2)
    plot.took("resent", T + 6010)
    plot.entry("resent", T + 6020, State.SENT, "ok", attempt=2)
    plot.status("resent", State.SENT)
    # A receiver that knows copies has it, and nobody could hear of it: the trail says so.
    plot.event("hook")
    plot.entry("hook", T - 900, State.SCHEDULED, "created", event_id=plot.events[-1].event_id, channel=HOOK)
    plot.entry("hook", T + 5, State.SENDING, "due", attempt=5)
    plot.took("hook", T + 20, HOOK)
    plot.entry("hook", T + 5000, State.FAILED, "no_outcome", attempt=5)
    plot.entry("hook", T + 5000, State.DEAD_LETTER, "no_outcome", attempt=5)
    plot.status("hook", State.DEAD_LETTER)
    # Asked about twice, then answered.
    plot.event("nag")
    plot.entry("nag", T - 900, State.SCHEDULED, "created", event_id=plot.events[-1].event_id)
    plot.entry("nag", T + 5, State.SENDING, "due")
    plot.took("nag", T + 20)
    plot.entry("nag", T + 30, State.SENT, "awaits_answer", due=T + 2000)
    plot.entry("nag", T + 2000, State.SENDING, "nagged", round=1)
    plot.took("nag", T + 2010, round_=1)
    plot.entry("nag", T + 2020, State.SENT, "awaits_answer", due=T + 4000, round=1)
    plot.entry("nag", T + 3000, State.ACKNOWLEDGED, "acknowledged", round=1)
    plot.status("nag", State.ACKNOWLEDGED)
    # Its time is still to come.
    plot.event("far", at=T + 86_400_000)
    far = {"occurrence": "@far/PT0S", "due": T + 86_400_000, "due_at": T + 86_400_000}
    plot.entry("far", T - 900, State.SCHEDULED, "created", event_id=plot.events[-1].event_id, **far)
    # A worker was down meanwhile.
    plot.event("down")
    plot.entry("down", T - 900, State.SCHEDULED, "created", event_id=plot.events[-1].event_id)
    plot.entry("down", T + 30_005, State.SENDING, "due")
    plot.took("down", T + 30_010)
    plot.entry("down", T + 30_020, State.SENT, "ok")
    plot.status("down", State.SENT)
    plot.more["disturbed"] = [Span(T - 100, T + 30_000)]
    return plot


def lost(plot: Plot) -> None:
    plot.event("nowhere")


def lost_update(plot: Plot) -> None:
    plot.event("plain", text="Other words.")


def unfinished(plot: Plot) -> None:
    plot.event("open")
    plot.entry("open", T - 900, State.SCHEDULED, "created", event_id=plot.events[-1].event_id)
    plot.entry("open", T + 5, State.SENDING, "due", due=T + 60_000)


def overdue(plot: Plot) -> None:
    plot.event("waits")
    plot.entry("waits", T - 900, State.SCHEDULED, "created", event_id=plot.events[-1].event_id, due=T)


def two_ends(plot: Plot) -> None:
    plot.entry("plain", T + 50, State.EXPIRED, "too_late")
    plot.status("plain", State.EXPIRED)


def hole(plot: Plot) -> None:
    plot.entry("plain", T + 50, State.SENT, "late_outcome", seq=9)


def torn(plot: Plot) -> None:
    plot.entry("plain", T + 50, State.SENT, "late_outcome", from_state=State.SENDING)


def backwards(plot: Plot) -> None:
    plot.entry("plain", T + 50, State.SENT, "text_only", version=0)


def doubled(plot: Plot) -> None:
    plot.took("plain", T + 60)


def doubled_without_ids(plot: Plot) -> None:
    plot.took("text", T + 60, SMS)


def doubled_by_a_step(plot: Plot) -> None:
    plot.event("both")
    plot.entry("both", T - 900, State.SCHEDULED, "created", event_id=plot.events[-1].event_id)
    plot.entry("both", T + 5, State.SENDING, "due")
    plot.took("both", T + 20)
    plot.entry("both", T + 30, State.FAILED, "refused")
    plot.entry("both", T + 30, State.SENDING, "fallback", step=1)
    plot.took("both", T + 40, step=1)
    plot.entry("both", T + 50, State.SENT, "ok", step=1)
    plot.status("both", State.SENT)


def doubled_by_a_round(plot: Plot) -> None:
    plot.entry("plain", T + 50, State.SENDING, "due", round=1)
    plot.took("plain", T + 60, round_=1)
    plot.entry("plain", T + 70, State.SENT, "ok", round=1)


def doubled_though_resent(plot: Plot) -> None:
    plot.took("resent", T + 7000)


def unasked(plot: Plot) -> None:
    plot.took("plain", T + 60, HOOK, step=7)


def unsaid(plot: Plot) -> None:
    plot.event("quiet")
    plot.entry("quiet", T - 900, State.SCHEDULED, "created", event_id=plot.events[-1].event_id)
    plot.entry("quiet", T + 5, State.SENDING, "due")
    plot.took("quiet", T + 20)
    plot.entry("quiet", T + 5000, State.EXPIRED, "too_late")
    plot.status("quiet", State.EXPIRED)


def missing(plot: Plot) -> None:
    plot.received = [m for m in plot.received if m.reminder_id != "plain"]


def missing_without_ids(plot: Plot) -> None:
    plot.received = [m for m in plot.received if m.reminder_id != "text"]


def refused_and_said(plot: Plot) -> None:
    plot.received = [replace(m, taken=m.taken and m.reminder_id != "plain") for m in plot.received]


def unsent(plot: Plot) -> None:
    plot.more["resend"] = True


def after_cancel(plot: Plot) -> None:
    plot.received.append(Received("cancelled", MAIL, T, token_of("cancelled", OCCURRENCE, 0, 0), taken=False))


def after_a_cancel_that_was_replaced(plot: Plot) -> None:
    plot.entry("replayed", T + 30, State.CANCELLED, "cancelled", seq=9)
    at = next(n for n, e in enumerate(plot.entries) if e.reminder_id == "replayed" and e.at == T + 7000)
    plot.entries.insert(at, plot.entries.pop())
    plot.entries[at] = replace(plot.entries[at], seq=3)
    # What was cancelled goes on as if it were not.
    plot.entries[at + 1] = replace(plot.entries[at + 1], to_state=State.SENDING)
    plot.entries[at] = replace(plot.entries[at], from_state=State.SENDING)


def after_erase(plot: Plot) -> None:
    plot.event("gone")
    plot.entry("gone", T - 900, State.SCHEDULED, "created", event_id=plot.events[-1].event_id)
    plot.entry("gone", T - 800, State.CANCELLED, "erased")
    plot.received.append(Received("gone", SMS, T + 10, taken=False))
    plot.status("gone", State.CANCELLED)


def after_stop(plot: Plot) -> None:
    plot.more["stops"] = [Stop(frozenset({"text"}), SMS, T - 2000)]


def unfolded(plot: Plot) -> None:
    plot.receipts.append(DeliveryReceipt("plain", delivery("plain"), OutcomeKind.DELIVERED, T + 100))


def early(plot: Plot) -> None:
    plot.received = [replace(m, began_at=T - 300) if m.reminder_id == "plain" else m for m in plot.received]


def late(plot: Plot) -> None:
    plot.more["disturbed"] = [Span(T - 100, T + 20_000)]


def told_otherwise(plot: Plot) -> None:
    plot.status("plain", State.DEAD_LETTER)


def told_nothing(plot: Plot) -> None:
    plot.statuses = [s for s in plot.statuses if s.reminder_id != "plain"]


PLANTED: list[tuple[Callable[[Plot], None], FaultKind, str]] = [
    (lost, FaultKind.LOST, "nowhere"),
    (lost_update, FaultKind.LOST, "plain"),
    (unfinished, FaultKind.UNFINISHED, "open"),
    (overdue, FaultKind.UNFINISHED, "waits"),
    (two_ends, FaultKind.TWO_ENDS, "plain"),
    (hole, FaultKind.HOLE, "plain"),
    (torn, FaultKind.HOLE, "plain"),
    (backwards, FaultKind.BACKWARDS, "plain"),
    (doubled, FaultKind.DOUBLED, "plain"),
    (doubled_without_ids, FaultKind.DOUBLED, "text"),
    (doubled_by_a_step, FaultKind.DOUBLED, "both"),
    (doubled_by_a_round, FaultKind.DOUBLED, "plain"),
    (doubled_though_resent, FaultKind.DOUBLED, "resent"),
    (unasked, FaultKind.UNASKED, "plain"),
    (unsaid, FaultKind.UNSAID, "quiet"),
    (missing, FaultKind.MISSING, "plain"),
    (missing_without_ids, FaultKind.MISSING, "text"),
    (refused_and_said, FaultKind.MISSING, "plain"),
    (unsent, FaultKind.UNSENT, "doubt"),
    (after_cancel, FaultKind.AFTER_CANCEL, "cancelled"),
    (after_a_cancel_that_was_replaced, FaultKind.AFTER_CANCEL, "replayed"),
    (after_erase, FaultKind.AFTER_ERASE, "gone"),
    (after_stop, FaultKind.AFTER_STOP, "text"),
    (unfolded, FaultKind.UNFOLDED, "plain"),
    (early, FaultKind.EARLY, "plain"),
    (late, FaultKind.LATE, "down"),
    (told_otherwise, FaultKind.STATUS, "plain"),
    (told_nothing, FaultKind.STATUS, "plain"),
]


def test_a_good_history_has_no_fault() -> None:
    verdict = check(good().history())
    assert [str(fault) for fault in verdict.faults] == []
    assert verdict.reminders == 12
    assert verdict.maybe_sent == 1


@pytest.mark.parametrize(("plant", "kind", "whose"), PLANTED, ids=[plant.__name__ for plant, _, _ in PLANTED])
def test_a_planted_fault_is_found_and_named(plant: Callable[[Plot], None], kind: FaultKind, whose: str) -> None:
    plot = good()
    plant(plot)
    found = check(plot.history()).faults
    assert {(fault.kind, fault.reminder_id) for fault in found} == {(kind, whose)}, [str(f) for f in found]


def test_every_kind_of_fault_is_planted_and_counted() -> None:
    assert {kind for _, kind, _ in PLANTED} == set(FaultKind)
    assert LOSSES.isdisjoint(DOUBLES)
    assert set(FaultKind) - {FaultKind.EARLY, FaultKind.LATE} == LOSSES | DOUBLES


def test_an_empty_history_has_no_fault() -> None:
    assert check(History()).faults == ()
