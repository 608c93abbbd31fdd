"""The key of a sealed content: it always leaves with its UPSERT, before every request that needs it."""

from dataclasses import replace

import pytest

from schemas.names import Action, RequestKind, State
from schemas.records import Definition, DeliveryRequest, Policy, Sealed
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


CALL = Policy(nag_every_s=600, nag_max=1, escalate_to=("bob", "anna", "cleo"))


def standing_in(step: Transition) -> dict[str, list[tuple[RequestKind, bytes]]]:
    found: dict[str, list[tuple[RequestKind, bytes]]] = {}
    for word in words(step):
        if word.stands_in:
            assert step.row is not None
            assert (word.follows_zone, word.channels) == (False, ())
            assert word.link == step.row.link or word.kind is not RequestKind.LINK, "no older word takes it back"
            found.setdefault(word.recipient_id, []).append((word.kind, word.wrapped_key))
    return found


def test_whoever_may_be_asked_in_her_place_gets_the_key_and_lets_go_of_it_at_the_end() -> None:
    r = Reminder()
    first = upsert(r, replace(ANNA, policy=CALL), 1)
    assert standing_in(first) == {p: [(RequestKind.LINK, b"wrapped")] for p in ("bob", "cleo")}
    (own,) = [w for w in words(first) if not w.stands_in]
    assert (own.recipient_id, own.wrapped_key) == ("anna", b"wrapped")
    while r.state in (State.SCHEDULED, State.SENDING) or not standing_in(r.last):
        r.accepted() if r.state is State.SENDING else r.fire()
    assert standing_in(r.last) == {p: [(RequestKind.UNLINK, b"")] for p in ("bob", "cleo")}
    r.act(Action.FIRE)
    assert standing_in(r.last) == {p: [(RequestKind.LINK, b"")] for p in ("bob", "cleo")}, "it lives again"


def test_a_word_of_its_end_brings_the_key_to_all_of_them() -> None:
    late = Reminder(now=(NINE.at or 0) + 48 * 60 * MINUTE)
    step = upsert(late, replace(ANNA, policy=CALL), 1)
    assert standing_in(step) == {p: [(RequestKind.UNLINK, b"wrapped")] for p in ("bob", "cleo")}


def test_whoever_is_no_longer_named_loses_the_key_at_once() -> None:
    r = Reminder()
    upsert(r, replace(ANNA, policy=CALL), 1)
    step = upsert(r, replace(ANNA, policy=replace(CALL, escalate_to=("cleo",))), 2)
    assert standing_in(step) == {"bob": [(RequestKind.ERASE, b"")], "cleo": [(RequestKind.LINK, b"wrapped")]}
    step = upsert(r, ANNA, 3)
    assert standing_in(step) == {"cleo": [(RequestKind.ERASE, b"")]}


def test_one_who_stood_in_becomes_the_recipient_and_the_other_way_round() -> None:
    r = Reminder()
    upsert(r, replace(ANNA, policy=CALL), 1)
    bobs = replace(ANNA, recipient_id="bob", policy=replace(CALL, escalate_to=("anna",)))
    step = upsert(r, bobs, 2)
    assert standing_in(step) == {"cleo": [(RequestKind.ERASE, b"")], "anna": [(RequestKind.LINK, b"wrapped")]}
    assert [(w.recipient_id, w.kind) for w in words(step) if not w.stands_in] == [("bob", RequestKind.LINK)]


def test_an_erasure_destroys_the_key_in_every_place() -> None:
    r = Reminder()
    upsert(r, replace(ANNA, policy=CALL), 1)
    step = r.act(Action.ERASE)
    assert {p: said[-1] for p, said in standing_in(step).items()} == {
        "bob": (RequestKind.ERASE, b""),
        "cleo": (RequestKind.ERASE, b""),
    }


def test_in_clear_nothing_is_said_to_those_who_may_be_asked() -> None:
    r = Reminder()
    assert not standing_in(r.upsert(replace(ANNA, sealed=Sealed(), policy=CALL), 1))


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
