"""The key of a sealed content: it always leaves with its UPSERT, before every request that needs it."""

from dataclasses import replace

import pytest

from schemas.names import Action, RequestKind, State
from schemas.records import Definition, DeliveryRequest, Insistence, Policy, Sealed, Turn
from tables import keys
from tables.transition import Transition
from tests.rules.life import MINUTE, NINE, TEN, Reminder

ANNA = replace(NINE, recipient_id="anna", sealed=Sealed(7, b"sealed"))
ALONE = replace(NINE, sealed=Sealed(7, b"sealed"))


def upsert(r: Reminder, d: Definition, version: int) -> Transition:
    step = r.upsert(d, version)
    assert step.row is not None
    assert step.row.definition is d
    return keys.sent_along(r.rid, step, b"wrapped", r.now)


def words(step: Transition) -> list[DeliveryRequest]:
    return [e for e in step.emits if isinstance(e, DeliveryRequest)]


def carried(step: Transition) -> DeliveryRequest:
    (word,) = [e for e in words(step) if e.wrapped_key]
    assert word.wrapped_key == b"wrapped"
    assert step.row is not None
    assert step.row.definition is not None
    assert word.recipient_id == step.row.definition.recipient_id
    assert word.link == step.row.link, "no older word takes it back"
    return word


@pytest.mark.parametrize("d", [ANNA, ALONE])
def test_a_new_one_is_linked_with_its_key_and_unlinked_at_its_end(d: Definition) -> None:
    r = Reminder()
    assert carried(upsert(r, d, 1)).kind is RequestKind.LINK
    r.fire()
    assert r.asked()[0].sealed == d.sealed
    r.accepted()
    (gone,) = r.asked(RequestKind.UNLINK)
    assert not gone.wrapped_key
    r.act(Action.FIRE)
    assert r.asked(RequestKind.LINK), "its key must not be purged while it lives again"


@pytest.mark.parametrize("d", [ANNA, ALONE])
def test_a_text_that_is_changed_while_it_is_sent_comes_with_its_key(d: Definition) -> None:
    r = Reminder()
    upsert(r, d, 1)
    r.fire()
    step = upsert(r, replace(d, at=TEN.at), 2)
    assert r.state is State.WITHDRAWING
    assert carried(step).kind is RequestKind.LINK
    r.withdrawn()
    assert r.state is State.SCHEDULED


def test_what_has_ended_keeps_its_key_as_ended() -> None:
    r = Reminder()
    upsert(r, ALONE, 1)
    r.fire()
    r.accepted()
    assert carried(upsert(r, replace(ALONE, category="other"), 2)).kind is RequestKind.UNLINK
    late = Reminder(now=(NINE.at or 0) + 48 * 60 * MINUTE)
    assert carried(upsert(late, ALONE, 1)).kind is RequestKind.UNLINK
    assert late.state is State.EXPIRED


def test_another_recipient_gets_the_key_and_the_old_one_lets_go() -> None:
    r = Reminder()
    upsert(r, ALONE, 1)
    step = upsert(r, ANNA, 2)
    assert carried(step).recipient_id == "anna"
    assert [w.kind for w in words(step) if not w.recipient_id and w.kind is RequestKind.UNLINK]


def test_what_may_be_escalated_is_read_in_several_places() -> None:
    assert keys.may_seal(ANNA, None)
    assert not keys.may_seal(replace(ANNA, policy=Policy(escalate_to=("bob",))), None)
    r = Reminder()
    r.upsert(ANNA, 1)
    assert r.row is not None
    assert keys.may_seal(ANNA, r.row)
    bobs_turn = Insistence((Turn(0, "anna"), Turn(1, "bob")))
    assert not keys.may_seal(ANNA, replace(r.row, open=replace(r.open, insistence=bobs_turn)))


def test_what_is_no_longer_sealed_lets_go_of_its_key() -> None:
    r = Reminder()
    upsert(r, ALONE, 1)
    r.upsert(NINE, 2)
    assert [w.kind for w in r.asked(RequestKind.UNLINK)] == [RequestKind.UNLINK]


def test_in_clear_nothing_is_said_of_one_without_recipient() -> None:
    r = Reminder()
    r.upsert(NINE, 1)
    assert not r.asked(RequestKind.LINK)
    r.fire()
    r.accepted()
    assert not r.asked(RequestKind.UNLINK)
