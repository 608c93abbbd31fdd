"""A sealed content from intake to the gate: core keeps nothing readable, and the gate opens while the key is there."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from agents import gate
from agents.ports import Decision
from agents.publisher import partition_of
from schemas import codec, ids
from schemas.names import AnswerKind, Channel, OutcomeKind, RecipientAction, RequestKind
from schemas.records import (
    Contact,
    Definition,
    Delivery,
    DeliveryAnswer,
    DeliveryRequest,
    Message,
    Policy,
    RecipientEvent,
    RecipientLink,
    ReminderEvent,
    Step,
)
from schemas.sealing import Sealing
from tables import erasure, lifecycle, transition
from tests.agents.test_forgetting import CANARY, PARTITION, Partition
from tests.agents.test_intake import NOW, Intake

SEALING = Sealing.of(("the key of this test's house",))
STEPS = (Step(Channel.EMAIL, address=CANARY),)
#: Somebody else of Anna's partition, as the rows of this test have one.
BOB = next(name for n in range(99) if partition_of((name := f"bob{n}").encode(), 8) == PARTITION)
EVENT = ReminderEvent("clinic/1", recipient_id="anna", at=NOW + 3_600_000, text=CANARY, steps=STEPS)


class Whole:
    """Intake and gate, sealed."""

    def __init__(self) -> None:
        self.intake = Intake()
        object.__setattr__(self.intake.core, "sealing", SEALING)
        self.partition = Partition(now=NOW)
        object.__setattr__(self.partition.work, "sealing", SEALING)
        self.offset = 0

    def take(self, event: ReminderEvent) -> list[DeliveryRequest]:
        """Let intake take an event, and the gate what it says to delivery."""
        decision = self.intake.take(event)
        assert CANARY.encode() not in b"".join(row or b"" for row in decision.rows.values())
        assert CANARY.encode() not in b"".join(out.value or b"" for out in decision.emits)
        words = [codec.decode(DeliveryRequest, o.value or b"") for o in decision.emits if o.topic == "requests"]
        for word in words:
            self.gate(word)
        return words

    def request(self) -> DeliveryRequest:
        """Return what core asks of delivery when the reminder is due."""
        row = self.intake.row()
        assert row.open is not None
        step = lifecycle.fire("clinic/1", row, row.open.due, row.open.due, self.intake.core.rules)
        (asked,) = [e for e in step.emits if isinstance(e, DeliveryRequest)]
        return replace(asked, asked_at=self.partition.now)

    def gate(self, request: DeliveryRequest) -> Decision:
        """Let the gate read a request."""
        self.offset += 1
        record: Any = SimpleNamespace(
            topic="requests", partition=0, offset=self.offset, key=b"k", value=codec.encode(request), timestamp=0.0
        )
        decision = gate.read_request(self.partition.work, record).run(self.partition.view, self.partition.now)
        for key, row in decision.rows.items():
            assert row is not None
            self.partition.view[key] = row
        return decision

    def link_of(self, person: str) -> RecipientLink:
        """Return what a person's partition keeps of the reminder."""
        return self.partition.work.link(self.partition.view[ids.link_key(person, "clinic/1")] or b"")

    def sent(self, request: DeliveryRequest) -> Message | DeliveryAnswer:
        """Return the message that goes to its channel, or what core is told."""
        (out,) = self.gate(request).emits
        if out.topic == "outcomes":
            return codec.decode(DeliveryAnswer, out.value or b"")
        return codec.decode(Message, codec.decode(Delivery, out.value or b"").sealed.body)


def refused(answer: Message | DeliveryAnswer) -> tuple[OutcomeKind, str]:
    assert isinstance(answer, DeliveryAnswer)
    return answer.outcome, answer.reason


@pytest.mark.parametrize("recipient", ["anna", ""])
def test_core_keeps_nothing_that_can_be_read_and_the_gate_opens(recipient: str) -> None:
    whole = Whole()
    whole.take(replace(EVENT, recipient_id=recipient))
    message = whole.sent(whole.request())
    assert isinstance(message, Message)
    assert (message.address, CANARY in message.text) == (CANARY, True)


def test_a_new_text_has_a_new_key_and_an_older_request_is_asked_for_again() -> None:
    whole = Whole()
    whole.take(EVENT)
    older = whole.request()
    whole.take(replace(EVENT, text=CANARY + " again"))
    assert refused(whole.sent(older)) == (OutcomeKind.HELD, "another_key")
    message = whole.sent(replace(whole.request(), ask=9))
    assert isinstance(message, Message)
    assert CANARY + " again" in message.text


def test_without_the_key_nobody_reads_it_any_more() -> None:
    whole = Whole()
    whole.take(EVENT)
    request = whole.request()
    told = whole.partition.read(RecipientEvent("anna", RecipientAction.ERASE))
    assert [a.reminder_id for a in told if a.kind is AnswerKind.ERASED] == ["clinic/1"]
    assert whole.link_of("anna").wrapped_key == b""
    later = replace(request, asked_at=whole.partition.now + 1)
    assert refused(whole.sent(later)) == (OutcomeKind.SKIPPED, "key_gone")


def test_one_reminder_alone_is_erased_with_its_key() -> None:
    whole = Whole()
    whole.take(replace(EVENT, recipient_id=""))
    request = whole.request()
    d = whole.intake.row().definition
    assert d is not None
    whole.gate(transition.link_request(RequestKind.ERASE, "clinic/1", 9, d, NOW))
    assert refused(whole.sent(request)) == (OutcomeKind.SKIPPED, "key_gone")


def test_without_the_master_key_it_is_held_and_not_lost() -> None:
    whole = Whole()
    whole.take(EVENT)
    object.__setattr__(whole.partition.work, "sealing", Sealing.of(("some other key of another house",)))
    answer = whole.sent(whole.request())
    assert refused(answer) == (OutcomeKind.MISCONFIGURED, "sealed_with_unknown_key")
    assert isinstance(answer, DeliveryAnswer)
    assert not answer.spent


def test_what_was_in_clear_before_is_sent_as_it_was() -> None:
    whole = Whole()
    object.__setattr__(whole.intake.core, "sealing", Sealing())
    whole.intake.take(EVENT)
    assert isinstance(whole.sent(whole.request()), Message)
    object.__setattr__(whole.intake.core, "sealing", SEALING)
    whole.take(replace(EVENT, text=CANARY + " again"))
    assert whole.request().sealed.key_id
    assert isinstance(whole.sent(replace(whole.request(), ask=9)), Message)


CALL = replace(EVENT, policy=Policy(nag_every_s=60, nag_max=1, escalate_to=(BOB,)))


def bobs(whole: Whole) -> DeliveryRequest:
    """Return what core asks of delivery when it is Bob's turn."""
    whole.partition.read(RecipientEvent(BOB, zone="UTC", contacts=(Contact(Channel.EMAIL, "bob@people.example"),)))
    asked = whole.request()
    return replace(asked, recipient_id=BOB, round=1, addressed=False, channel=Channel.ANY, ask=5)


def test_each_person_of_the_round_is_served() -> None:
    whole = Whole()
    whole.take(CALL)
    assert isinstance(whole.sent(whole.request()), Message)
    message = whole.sent(bobs(whole))
    assert isinstance(message, Message)
    assert (message.address, CANARY in message.text) == ("bob@people.example", True)


def test_whoever_stands_in_says_nothing_of_the_reminder_and_takes_nothing_of_it_along() -> None:
    whole = Whole()
    told = [
        codec.decode(DeliveryAnswer, out.value or b"") for word in whole.take(CALL) for out in whole.gate(word).emits
    ]
    assert all(word.kind is AnswerKind.PROFILE and word.link == 1 for word in told)
    request = bobs(whole)
    assert not whole.partition.read(RecipientEvent(BOB, zone="Asia/Tokyo", contacts=()))
    assert not whole.partition.read(RecipientEvent(BOB, RecipientAction.ERASE)), "it is not his reminder"
    later = replace(request, asked_at=whole.partition.now + 1)
    assert refused(whole.sent(later)) == (OutcomeKind.SKIPPED, "key_gone")
    assert isinstance(whole.sent(whole.request()), Message), "hers is as it was"
    whole.take(replace(CALL, text=CANARY + " again"))
    assert whole.link_of(BOB).wrapped_key, "the next version has its key again"


def test_an_erasure_of_the_recipient_reaches_the_keys_of_those_who_stand_in() -> None:
    whole = Whole()
    whole.take(CALL)
    request = bobs(whole)
    told = whole.partition.read(RecipientEvent("anna", RecipientAction.ERASE))
    (word,) = [a for a in told if a.kind is AnswerKind.ERASED]
    arrival = transition.Arrival(whole.partition.now + 1, topic_id="outcomes", offset=1)
    step = erasure.recipient_erased("clinic/1", whole.intake.row(), word, arrival, whole.intake.core.rules)
    for said in step.emits:
        if isinstance(said, DeliveryRequest):
            whole.gate(said)
    assert refused(whole.sent(request)) == (OutcomeKind.SKIPPED, "key_gone")
    assert not whole.link_of(BOB).wrapped_key


def test_the_sealed_part_of_another_reminder_opens_nowhere_else() -> None:
    whole = Whole()
    whole.take(EVENT)
    request = whole.request()
    key = ids.link_key("anna", "clinic/1")
    whole.partition.view[ids.link_key("anna", "clinic/2")] = whole.partition.view[key]
    moved = replace(request, reminder_id="clinic/2")
    assert refused(whole.sent(moved)) == (OutcomeKind.REJECTED, "sealed_damaged")


OTHER_KEY = Sealing.of(("some other key of another house",))
BY_CONTACT = replace(EVENT, steps=())


def test_contacts_are_sealed_where_they_lie_and_the_gate_uses_them() -> None:
    whole = Whole()
    raw = whole.partition.profiled("anna", zone="UTC", contacts=(Contact(Channel.EMAIL, CANARY, "label " + CANARY),))
    assert CANARY.encode() not in raw
    whole.take(BY_CONTACT)
    message = whole.sent(whole.request())
    assert isinstance(message, Message)
    assert message.address == CANARY
    later = whole.partition.profiled("anna", zone="Asia/Tokyo")
    known = whole.partition.work.profile(whole.partition.view, "anna")
    assert known is not None
    assert known.contacts, "a patch leaves the contacts as they are"
    assert CANARY.encode() not in later
    object.__setattr__(whole.partition.work, "seal_contacts", False)
    assert CANARY.encode() in whole.partition.profiled("anna", zone="UTC"), "on the way back it is as it was"


def test_without_the_master_key_nobody_is_lost_and_whoever_is_forgotten_is_forgotten() -> None:
    whole = Whole()
    sealed = whole.partition.profiled("anna", contacts=(Contact(Channel.EMAIL, CANARY),))
    whole.take(BY_CONTACT)
    request = whole.request()
    object.__setattr__(whole.partition.work, "sealing", OTHER_KEY)
    assert refused(whole.sent(request)) == (OutcomeKind.MISCONFIGURED, "sealed_with_unknown_key")
    assert whole.partition.profiled("anna", zone="Asia/Tokyo") == sealed, "the event waits in the dead letters"
    assert whole.partition.letters == ["sealed_with_unknown_key"]
    whole.gate(replace(transition.link_request(RequestKind.LINK, "clinic/2", 1, Definition("anna"), NOW)))
    assert whole.partition.work.link(whole.partition.view[ids.link_key("anna", "clinic/2")] or b"").told_reachable
    told = whole.partition.read(RecipientEvent("anna", RecipientAction.ERASE))
    assert [a.reminder_id for a in told if a.kind is AnswerKind.ERASED] == ["clinic/1", "clinic/2"]
    known = whole.partition.work.profile(whole.partition.view, "anna")
    assert known is not None
    assert known.erased


def test_a_key_that_the_master_key_of_before_wraps_is_wrapped_anew_when_it_comes() -> None:
    whole = Whole()
    new = Sealing.of(("a new key of this test's house",))
    object.__setattr__(whole.partition.work, "sealing", Sealing((*new.masters, *SEALING.masters)))
    whole.take(EVENT)
    assert new.first_wraps(whole.link_of("anna").wrapped_key)
    object.__setattr__(whole.partition.work, "sealing", new)
    assert isinstance(whole.sent(whole.request()), Message)
