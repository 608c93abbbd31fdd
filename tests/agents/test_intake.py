"""Intake behind the unit of work: what is refused, and what its neighbours keep."""

from dataclasses import replace
from typing import Any

from prometheus_client import CollectorRegistry

from agents import intake
from agents.core import Core, CoreTopics
from agents.meter import Meter
from agents.ports import Decision
from agents.unit_of_work import _Overlay
from channels.retry import RetryPolicy
from schemas import codec
from schemas.codec import Codec
from schemas.names import Action, Channel, MaybeSent, State
from schemas.records import AuditEntry, ReminderEvent, ReminderRow, Step
from tables import due as index
from tables.transition import Rules
from tests.agents.memory import MemoryStore

NOW = 1_796_083_200_000
EVENT = ReminderEvent(
    "clinic/1", at=NOW + 3_600_000, text="?", steps=(Step(Channel.EMAIL, address="a@b.example"),), tenant="clinic"
)


class Record:
    """An event as it came."""

    topic = "reminders"
    partition = 0
    headers = ()

    def __init__(self, event: ReminderEvent, offset: int) -> None:
        self.key: bytes | None = event.reminder_id.encode()
        self.value: bytes | None = codec.encode(event)
        self.offset = offset
        self.timestamp = (NOW + offset) / 1000


class Intake:
    """Intake over memory."""

    def __init__(self) -> None:
        topics = CoreTopics("reminders", "outcomes", "receipts", {}, "requests", "audit", "status", "dlq")
        self.meter = Meter(CollectorRegistry(), process=False)
        self.core = Core(
            topics,
            1,
            {"reminders": "t"},
            Rules(),
            RetryPolicy(),
            MaybeSent.HOLD,
            Codec(),
            self.meter,
            lambda _subject: None,
        )
        self.store = MemoryStore()
        self.offset = -1

    def take(self, event: ReminderEvent) -> Decision:
        self.offset += 1
        record: Any = Record(event, self.offset)
        job = intake.read(self.core, record)
        decision = job.run(_Overlay(self.store, 0, job.keys), NOW + self.offset)
        self.store.write_rows(0, decision.rows, None)
        return decision

    def row(self) -> ReminderRow:
        return codec.decode(ReminderRow, self.store.rows[b"clinic/1"][index.HEADER.size :])


def test_what_another_tenant_sends_is_rejected_and_changes_nothing() -> None:
    work = Intake()
    work.take(EVENT)
    before = work.store.rows[b"clinic/1"]
    for event in (
        replace(EVENT, tenant="bank", text="mine now"),
        replace(EVENT, tenant=""),
        ReminderEvent("clinic/1", action=Action.CANCEL, tenant="bank"),
    ):
        decision = work.take(event)
        assert not decision.rows
        letter, said = decision.emits
        assert dict(letter.headers)["dlq-reason"] == b"other_tenant"
        assert letter.value == codec.encode(event)
        entry = codec.decode(AuditEntry, said.value or b"")
        assert (entry.to_state, entry.reason, entry.field, entry.tenant) == (
            State.REJECTED,
            "other_tenant",
            "tenant",
            event.tenant,
        )
        assert "clinic" not in (entry.value + entry.remedy)
    assert work.store.rows[b"clinic/1"] == before
    assert b'reminders_rejected_total{reason="other_tenant",source="none"} 3.0' in work.meter.expose()


def test_its_own_tenant_and_operators_may_act() -> None:
    work = Intake()
    work.take(EVENT)
    work.take(ReminderEvent("clinic/1", action=Action.PAUSE))
    assert work.row().paused
    work.take(ReminderEvent("clinic/1", action=Action.CANCEL, tenant="clinic"))
    assert work.row().cancelled
