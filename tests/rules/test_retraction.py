"""What is to be taken back once somebody has answered, and what became of it."""

from schemas.names import Action, AnswerKind, Channel, OutcomeKind, RequestKind, State, WaitFor
from schemas.quick import replace
from schemas.records import Definition, DeliveryAnswer, Policy, RowStep
from tables import receipts
from tables.transition import Arrival
from tests.rules.life import AT_NINE, EMAIL, NINE, RULES, Reminder

PUSH = RowStep(Channel.PUSH, WaitFor.ACKNOWLEDGED, 60)
DUTY = Definition("anna", at=AT_NINE, steps=(PUSH, RowStep(Channel.SMS)))


def retracted(r: Reminder) -> list[tuple[str, int, int]]:
    return [(e.recipient_id, e.round, e.step) for e in r.asked(RequestKind.RETRACT)]


def on_its_second_step(d: Definition = DUTY) -> Reminder:
    r = Reminder().sending(d)
    r.accepted()
    r.fire()
    r.fire()
    r.accepted()
    return r


def test_an_answer_takes_back_every_step_the_last_one_first() -> None:
    r = on_its_second_step(replace(DUTY, policy=Policy(nag_every_s=600, nag_max=1)))
    r.act(Action.ACKNOWLEDGE)
    assert retracted(r) == [("anna", 0, 1), ("anna", 0, 0)]


def test_every_round_to_whomever_it_went() -> None:
    policy = Policy(nag_every_s=600, nag_max=1, escalate_to=("ben",))
    r = Reminder().sending(Definition("anna", at=AT_NINE, steps=(RowStep(Channel.SMS),), policy=policy))
    for _ in range(2):
        r.accepted()
        r.fire()
        r.fire()
    r.accepted()
    r.act(Action.ACKNOWLEDGE)
    assert retracted(r) == [("ben", 2, 0), ("anna", 1, 0), ("anna", 0, 0)]


def test_an_answer_that_comes_late_does_so_too() -> None:
    r = on_its_second_step()
    assert r.state is State.SENT
    r.act(Action.ACKNOWLEDGE)
    assert retracted(r) == [("anna", 0, 1), ("anna", 0, 0)]


def test_a_cancel_takes_back_what_is_out() -> None:
    r = Reminder().sending(DUTY)
    r.accepted()
    r.cancel(2)
    assert retracted(r) == [("anna", 0, 0)]


def test_nothing_is_taken_back_that_is_not_out_or_cannot_be() -> None:
    r = Reminder()
    r.upsert(DUTY, 1)
    r.act(Action.ACKNOWLEDGE)
    assert (r.state, retracted(r)) == (State.ACKNOWLEDGED, [])
    r = Reminder().sending(replace(NINE, steps=(replace(EMAIL[0], wait_for=WaitFor.ACKNOWLEDGED),)))
    r.accepted()
    r.act(Action.ACKNOWLEDGE)
    assert (r.state, retracted(r)) == (State.ACKNOWLEDGED, [])


def test_what_became_of_it_is_on_the_trail_and_changes_nothing_else() -> None:
    r = Reminder().sending(DUTY)
    r.accepted()
    r.act(Action.ACKNOWLEDGE)
    for n, outcome in enumerate((OutcomeKind.ACCEPTED, OutcomeKind.REJECTED)):
        answer = DeliveryAnswer(
            AnswerKind.RETRACTED, "r1", outcome=outcome, channel=Channel.PUSH, provider="fcm", reason="ok"
        )
        a = Arrival(r.now, topic_id="outcomes", offset=100 + n)
        step = receipts.retracted("r1", r.row, answer, a, RULES)
        (entry,) = step.audit
        assert (entry.to_state, entry.reason) == (State.ACKNOWLEDGED, ("retracted", "not_retracted")[n])
        assert (entry.provider, entry.detail) == ("fcm", "PUSH: ok")
        assert not receipts.retracted("r1", step.row, answer, a, RULES).changed
        r.row = step.row
