"""A reminder in the hands of a test: events, answers and time in, its row and what it said out.

``HYPOTHESIS_PROFILE=deep`` tries forty times as many examples as the usual run, and longer ones; ``fast`` a quarter.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, settings

from schemas import ids
from schemas.names import Action, AnswerKind, Channel, OutcomeKind, RequestKind, State
from schemas.records import (
    AuditEntry,
    Definition,
    DeliveryAnswer,
    DeliveryReceipt,
    DeliveryRequest,
    Occurrence,
    ReminderEvent,
    ReminderRow,
    RowStep,
)
from tables import due as index
from tables import erasure, lifecycle, receipts, settling, transition
from tables.transition import Arrival, Rules, Transition
from tests.effort import times

#: 2026-12-01T00:00:00Z
T0 = 1_796_083_200_000
SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
RULES = Rules()
EMAIL = (RowStep(Channel.EMAIL, addressed=True),)
AT_NINE = T0 + 9 * HOUR
AT_TEN = T0 + 10 * HOUR
NINE = Definition(at=AT_NINE, steps=EMAIL)
TEN = Definition(at=AT_TEN, steps=EMAIL)


def examples(usual: int) -> settings:
    """Return the settings of a property that is usually tried ``usual`` times."""
    return settings(
        max_examples=times(usual),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


class Reminder:
    """One reminder. Every input is a record of its topic at the next offset, as it would come from Kafka."""

    def __init__(self, *, now: int = T0, rid: str = "r1") -> None:
        self.rid = rid
        self.now = now
        self.rules = RULES
        self.row: ReminderRow | None = None
        self.audit: list[AuditEntry] = []
        self.last = Transition(None, False)
        self._offsets: dict[str, int] = {}
        self._again: Callable[[ReminderRow | None], Transition] = lambda row: Transition(row, False)

    # -- inputs

    def upsert(self, d: Definition, version: int = 0, *, at: int | None = None, event_id: str = "") -> Transition:
        return self._event(ReminderEvent(self.rid, version=version, event_id=event_id), d, at)

    def cancel(self, version: int = 0, *, at: int | None = None, event_id: str = "") -> Transition:
        return self._event(ReminderEvent(self.rid, action=Action.CANCEL, version=version, event_id=event_id), None, at)

    def act(self, action: Action, version: int = 0, **fields: Any) -> Transition:
        """Do what a person does with a reminder that exists: snooze, acknowledge, pause, resume."""
        return self._event(ReminderEvent(self.rid, action=action, version=version, **fields), None, None)

    def _event(self, event: ReminderEvent, d: Definition | None, at: int | None) -> Transition:
        a = replace(self._arrival("reminders"), record_ms=self.now if at is None else at, event_id=event.event_id)
        return self._apply(lambda row: lifecycle.apply_event(self.rid, row, event, d, a, self.rules))

    def fire(self, now: int | None = None) -> Transition:
        """Let the timer act on what is due, at ``now`` or when it is due."""
        head = self.header()
        due = min(t for t in (head.due_ms, head.deadline_ms) if t)
        self.now = max(self.now, due if now is None else now)
        return self._apply(lambda row: lifecycle.fire(self.rid, row, head.due_ms, self.now, self.rules))

    def outcome(
        self,
        kind: OutcomeKind,
        verdict: settling.Verdict,
        *,
        reason: str = "",
        of: Occurrence | None = None,
        again: settling.Again | None = None,
        **more: Any,
    ) -> Transition:
        """Let delivery answer the open attempt, or the one that ``of`` was at."""
        answer = replace(self._answer(AnswerKind.OUTCOME, of), outcome=kind, reason=reason, **more)
        a = self._arrival("outcomes")
        return self._apply(lambda row: settling.settle(self.rid, row, answer, verdict, a, self.rules, again))

    def accepted(self, of: Occurrence | None = None, **more: Any) -> Transition:
        return self.outcome(OutcomeKind.ACCEPTED, settling.Succeed(), of=of, **more)

    def withdrawn(self, of: Occurrence | None = None, **more: Any) -> Transition:
        answer = replace(self._answer(AnswerKind.WITHDRAWN, of), **more)
        a = self._arrival("outcomes")
        return self._apply(lambda row: settling.withdrawn(self.rid, row, answer, a, self.rules))

    def profile(self, zone: str, *, link: int | None = None, reachable: bool = True) -> Transition:
        known = self.row.link if self.row is not None else 0
        answer = DeliveryAnswer(
            AnswerKind.PROFILE, self.rid, link=known if link is None else link, zone=zone, reachable=reachable
        )
        a = self._arrival("outcomes")
        return self._apply(lambda row: settling.profile(self.rid, row, answer, a, self.rules))

    def receipt(
        self, outcome: OutcomeKind, delivery_id: str = "", attempt: int = 0, again: settling.Again | None = None
    ) -> Transition:
        news = DeliveryReceipt(self.rid, delivery_id or self.delivery_id(), outcome, self.now, attempt=attempt)
        a = self._arrival("receipts")
        return self._apply(lambda row: receipts.receipt(self.rid, row, news, a, self.rules, again))

    def retracted(self, outcome: OutcomeKind, reason: str) -> Transition:
        answer = DeliveryAnswer(
            AnswerKind.RETRACTED, self.rid, self.delivery_id(), outcome=outcome, reason=reason, channel=Channel.SMS
        )
        a = self._arrival("outcomes")
        return self._apply(lambda row: receipts.retracted(self.rid, row, answer, a, self.rules))

    def erased(self) -> Transition:
        known = self.row.link if self.row is not None else 0
        answer = DeliveryAnswer(AnswerKind.ERASED, self.rid, link=known, ended_at=self.now)
        a = self._arrival("outcomes")
        return self._apply(lambda row: erasure.recipient_erased(self.rid, row, answer, a, self.rules))

    def noted(self, told: str, delivery_id: str) -> Transition:
        news = DeliveryReceipt(self.rid, delivery_id, OutcomeKind.NONE, self.now, detail=told)
        a = self._arrival("receipts")
        return self._apply(lambda row: receipts.receipt(self.rid, row, news, a, self.rules))

    def rearm(self, record: Any) -> Transition:
        a = self._arrival("retry")
        return self._apply(lambda row: settling.rearm(self.rid, row, record, a, self.rules))

    def new_tzdata(self) -> Transition:
        """Let the worker look at the row by its time zone data."""
        return self._apply(lambda row: settling.new_tzdata(self.rid, row, self.now, self.rules))

    def again(self) -> Transition:
        """Replay the last input."""
        return self._again(self.row)

    def _arrival(self, topic: str) -> Arrival:
        self._offsets[topic] = self._offsets.get(topic, -1) + 1
        return Arrival(self.now, topic_id=topic, offset=self._offsets[topic])

    def _answer(self, kind: AnswerKind, of: Occurrence | None) -> DeliveryAnswer:
        o = of or self.open
        delivery = transition.delivery_id(self.rid, o)
        return DeliveryAnswer(kind, self.rid, delivery, o.occurrence, o.round, o.step, o.attempt, o.ask)

    def _apply(self, rule: Callable[[ReminderRow | None], Transition]) -> Transition:
        step = rule(self.row)
        self._again = rule
        self.row = step.row
        self.audit.extend(step.audit)
        self.last = step
        return step

    # -- what it came to

    @property
    def open(self) -> Occurrence:
        assert self.row is not None
        assert self.row.open is not None, f"nothing is open: {self.row.closed}"
        return self.row.open

    @property
    def state(self) -> State:
        assert self.row is not None
        return transition.state(self.row)

    @property
    def reason(self) -> str:
        return self.audit[-1].reason

    def delivery_id(self) -> str:
        assert self.row is not None
        if self.row.open is not None:
            return transition.delivery_id(self.rid, self.row.open)
        return self.row.closed[-1].delivery_id

    def header(self) -> index.Header:
        assert self.row is not None
        return index.unpack(transition.header(self.row, self.rules))

    def asked(self, kind: RequestKind = RequestKind.DELIVER) -> list[DeliveryRequest]:
        """Return what the last input asked of delivery."""
        return [e for e in self.last.emits if isinstance(e, DeliveryRequest) and e.kind is kind]

    def sending(self, d: Definition = NINE) -> "Reminder":
        """Bring a new reminder to where it has been asked for."""
        self.upsert(d, 1)
        self.fire()
        return self


def start(d: Definition) -> str:
    """Return the occurrence that a definition with a fixed instant opens."""
    return ids.occurrence_id(f"@{d.at}")
