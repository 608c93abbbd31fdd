"""The recipients' partition forgets somebody: what it holds goes, their reminders are told, what is late is caught."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry

from agents import gate
from agents.delivery import Delivering, DeliveryTopics
from agents.letters import PREFIX
from agents.meter import Meter
from agents.ports import Decision
from agents.publisher import partition_of
from schemas import codec, ids
from schemas.codec import Codec
from schemas.names import AnswerKind, Channel, OutcomeKind, RecipientAction, RequestKind
from schemas.records import (
    Contact,
    Content,
    DeliveryAnswer,
    DeliveryRequest,
    Passed,
    RecipientEvent,
    RecipientSends,
    Sealed,
)

PARTITION = partition_of(b"anna", 8)
CANARY = "canary-4711@people.example"
ERASE = RecipientEvent("anna", RecipientAction.ERASE)


class View(dict[bytes, bytes | None]):
    """Rows of a partition."""

    def scan(self, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        found = [(k, v) for k, v in sorted(self.items()) if v is not None and k.startswith(prefix) and k >= start]
        return found[:limit]


@dataclass
class Partition:
    """The rows of Anna's partition, and what is read there."""

    now: int = 1_000_000
    view: View = field(default_factory=View)
    offset: int = 0
    letters: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        topics = DeliveryTopics("recipients", "requests", {c: c.value for c in Channel}, "outcomes", "audit", "dlq")
        adapters: Any = {Channel.EMAIL: SimpleNamespace()}
        self.work = Delivering(
            topics,
            8,
            {"requests": "q", "recipients": "p"},
            1000_000,
            1000,
            10,
            adapters,
            Codec(None),
            Meter(CollectorRegistry(), process=False),
            lambda: self.now,
        )
        self.read(RecipientEvent("anna", zone="UTC", contacts=(Contact(Channel.EMAIL, CANARY, CANARY),)))

    def read(self, event: RecipientEvent | DeliveryRequest) -> list[DeliveryAnswer]:
        """Let the gate read a record; return what core is told."""
        self.offset += 1
        self.now += 1
        of_recipients = isinstance(event, RecipientEvent)
        record: Any = SimpleNamespace(
            topic="recipients" if of_recipients else "requests",
            partition=PARTITION,
            offset=self.offset,
            key=b"anna",
            value=codec.encode(event),
            timestamp=self.now / 1000,
            headers=(),
        )
        job = (gate.read_recipient if of_recipients else gate.read_request)(self.work, record)
        decision: Decision = job.run(self.view, self.now)
        for key, row in decision.rows.items():
            if row is None:
                self.view.pop(key, None)
            else:
                self.view[key] = row
        self.letters += [dict(out.headers)[PREFIX + "reason"].decode() for out in decision.emits if out.topic == "dlq"]
        return [codec.decode(DeliveryAnswer, out.value or b"") for out in decision.emits if out.topic == "outcomes"]

    def profiled(self, person: str, **fields: Any) -> bytes:
        """Let the gate read an event about a person; return their row."""
        self.read(RecipientEvent(person, **fields))
        return self.view[ids.profile_key(person)] or b""

    def link(self, rid: str, link: int = 1, *, kind: RequestKind = RequestKind.LINK, at: int = 0) -> list[Any]:
        return self.read(DeliveryRequest(kind, rid, "anna", link=link, asked_at=at or self.now))

    def deliver(self, *, at: int) -> list[DeliveryAnswer]:
        content = Content("Title", CANARY, {}, (CANARY,))
        return self.read(
            DeliveryRequest(
                RequestKind.DELIVER,
                "a",
                "anna",
                occurrence="@1/PT0S",
                attempt=1,
                ask=1,
                asked_at=at,
                deadline=self.now + 10_000_000,
                due_at=at,
                channel=Channel.EMAIL,
                addressed=True,
                sealed=Sealed(0, codec.encode(content)),
            )
        )


def test_what_is_held_goes_and_every_reminder_is_told_also_one_that_has_ended() -> None:
    anna = Partition()
    anna.link("a", 3)
    anna.link("b", 1)
    anna.link("b", 2, kind=RequestKind.UNLINK)
    anna.view[ids.sends_key("anna")] = anna.work.written(RecipientSends((Passed("token", 1),)), 5)
    told = anna.read(ERASE)
    assert [(a.kind, a.reminder_id, a.link, a.ended_at) for a in told] == [
        (AnswerKind.ERASED, "a", 3, anna.now),
        (AnswerKind.ERASED, "b", 2, anna.now),
    ]
    assert CANARY.encode() not in b"".join(v for v in anna.view.values() if v)
    assert ids.sends_key("anna") not in anna.view
    assert anna.read(ERASE) is not None


def test_a_link_that_comes_after_the_erasure_is_told_when_that_was() -> None:
    anna = Partition()
    anna.read(ERASE)
    erased_at = anna.now
    told = anna.link("late", 1)
    assert [(a.kind, a.reminder_id, a.ended_at) for a in told if a.kind is AnswerKind.ERASED] == [
        (AnswerKind.ERASED, "late", erased_at)
    ]
    assert [a.reachable for a in told if a.kind is AnswerKind.PROFILE] == [False]
    (told_again,) = anna.link("late", 2, kind=RequestKind.UNLINK)
    assert (told_again.kind, told_again.ended_at) == (AnswerKind.ERASED, erased_at)


def test_a_request_from_before_the_erasure_is_not_sent_even_to_an_address_of_its_own() -> None:
    anna = Partition()
    before = anna.now
    anna.read(ERASE)
    (told,) = anna.deliver(at=before)
    assert (told.outcome, told.reason) == (OutcomeKind.SKIPPED, "erased")


def test_whoever_comes_back_is_written_to() -> None:
    anna = Partition()
    before = anna.now
    anna.read(ERASE)
    anna.read(RecipientEvent("anna", contacts=(Contact(Channel.EMAIL, CANARY),)))
    assert anna.deliver(at=anna.now) == [], "it went to its channel"
    assert anna.deliver(at=before) == []
