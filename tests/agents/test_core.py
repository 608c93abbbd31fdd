"""Core behind the unit of work: what a bug does to a row, and how the row comes back from it."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from agents.core import Core, CoreLogic
from agents.ports import Fire
from agents.replies import Replies
from agents.settle import read_outcome, read_receipt
from agents.unit_of_work import _Overlay
from channels.retry import RetryPolicy
from schemas import codec
from schemas.hashing import AddressHash
from schemas.names import Action, AnswerKind, Channel, MaybeSent, OutcomeKind, ReplyKind, State, WaitFor
from schemas.records import Definition, DeliveryAnswer, DeliveryReceipt, ReminderEvent, ReplyRecord, RowStep
from tables import due as index
from tables import lifecycle, settling, transition
from tables.transition import Arrival, Rules, state
from tests.agents.memory import MemoryStore

NOW = 1_796_083_200_000


def core() -> Core:
    meter: Any = SimpleNamespace(dlq=lambda reason: None, lateness=lambda *_: None)
    topics: Any = SimpleNamespace(
        reminders="reminders", requests="requests", audit="audit", status="status", dlq="dlq", retries={}
    )
    unused: Any = None
    return Core(topics, 4, {}, Rules(), unused, unused, unused, meter, lambda subject: None)


def test_a_row_that_a_bug_moved_is_tried_again_and_does_not_stay_due_for_ever() -> None:
    made, store = core(), MemoryStore()
    logic = CoreLogic(made, {})
    d = Definition(at=NOW, steps=(RowStep(Channel.EMAIL, addressed=True),))
    step = lifecycle.apply_event("r", None, ReminderEvent("r", at=NOW), d, Arrival(NOW - 1000), made.rules)
    step = lifecycle.fire("r", step.row, NOW, NOW, made.rules)
    cancel = ReminderEvent("r", action=Action.CANCEL)
    step = lifecycle.apply_event("r", step.row, cancel, None, Arrival(NOW, record_ms=NOW), made.rules)
    assert step.row is not None
    # It waits for an answer, so no deadline moves it on.
    assert state(step.row) is State.WITHDRAWING
    store.rows[b"r"] = made.written(step.row)
    job = logic.command(0, Fire(index.entry(index.HOUSEKEEPING, NOW, b"r")))

    moved = logic.failed(job, 0, KeyError("a bug"), _Overlay(store, 0, [b"r"]), NOW).rows[b"r"]
    assert moved is not None
    head = index.unpack(moved)
    assert index.STATES[head.state] is State.MAYBE_SENT
    store.rows[b"r"] = moved

    later = logic.command(0, Fire(index.entry(index.HOUSEKEEPING, head.due_ms, b"r")))
    after = later.run(_Overlay(store, 0, [b"r"]), head.due_ms).rows[b"r"]
    assert after is not None
    assert index.unpack(after).due_ms != head.due_ms


def closings(made: Core, d: Definition, action: Action) -> list[ReplyRecord]:
    """Return what is told of replies when a reminder is sent, then ended by an action."""
    told = []
    step = lifecycle.apply_event("r", None, ReminderEvent("r", at=NOW), d, Arrival(NOW - 1000), made.rules)
    told.append(made.decision(b"r", step, None))
    step = lifecycle.fire("r", step.row, NOW, NOW, made.rules)
    told.append(made.decision(b"r", step, None))
    answer = DeliveryAnswer(
        AnswerKind.OUTCOME,
        "r",
        transition.delivery_id("r", step.row.open),
        step.row.open.occurrence,
        attempt=1,
        ask=step.row.open.ask,
        outcome=OutcomeKind.ACCEPTED,
        channel=Channel.SMS,
    )  # type: ignore[union-attr]
    step = settling.settle("r", step.row, answer, settling.Succeed(), Arrival(NOW), made.rules)
    told.append(made.decision(b"r", step, None))
    assert not [out for one in told for out in one.emits if out.topic == "replies"]
    step = lifecycle.apply_event("r", step.row, ReminderEvent("r", action=action), None, Arrival(NOW + 1), made.rules)
    outs = made.decision(b"r", step, None).emits
    return [codec.decode(ReplyRecord, out.value or b"") for out in outs if out.topic == "replies"]


def test_an_occurrence_that_ends_waits_for_no_texted_answer() -> None:
    waits = Definition(at=NOW, steps=(RowStep(Channel.SMS, WaitFor.ACKNOWLEDGED, 600, addressed=True),))
    unused: Any = None
    replies = Replies(unused, "replies", 4, clock=lambda: NOW, hashing=AddressHash(), hint="", fatal=unused)
    [closed] = closings(replace(core(), replies=replies), waits, Action.ACKNOWLEDGE)
    assert (closed.kind, closed.reminder_id, closed.occurrence) == (ReplyKind.CLOSED, "r", f"@{NOW}/PT0S")
    assert closings(core(), waits, Action.ACKNOWLEDGE) == []


def test_a_line_that_was_busy_is_called_again_by_the_retry_rules() -> None:
    made, store = core(), MemoryStore()
    tiers: Any = made.topics
    tiers.retries = {"1m": "retry.1m"}
    made = replace(
        made, retry=RetryPolicy(), maybe_sent=MaybeSent.HOLD, topic_ids={"outcomes": "outcomes", "receipts": "receipts"}
    )
    d = Definition(at=NOW, steps=(RowStep(Channel.VOICE, WaitFor.DELIVERED, 600, addressed=True),))
    step = lifecycle.apply_event("r", None, ReminderEvent("r", at=NOW), d, Arrival(NOW - 1000), made.rules)
    step = lifecycle.fire("r", step.row, NOW, NOW, made.rules)
    assert step.row is not None
    assert step.row.open is not None
    o, delivery = step.row.open, transition.delivery_id("r", step.row.open)
    taken = DeliveryAnswer(
        AnswerKind.OUTCOME, "r", delivery, o.occurrence, attempt=1, ask=o.ask, outcome=OutcomeKind.ACCEPTED
    )
    busy = DeliveryReceipt("r", delivery, OutcomeKind.DEFERRED, NOW, detail="busy_line", attempt=1)
    for inputs in ((taken, busy), (busy, taken)):
        store.rows[b"r"] = made.written(step.row)
        for offset, one in enumerate(inputs):
            topic, read = ("outcomes", read_outcome) if one is taken else ("receipts", read_receipt)
            record: Any = SimpleNamespace(
                topic=topic, partition=0, offset=offset, key=b"r", value=codec.encode(one), timestamp=NOW / 1000,
                headers=[],
            )  # fmt: skip
            decision = read(made, record).run(_Overlay(store, 0, [b"r"]), NOW)
            store.write_rows(0, decision.rows, None)
        row = made.row(_Overlay(store, 0, [b"r"]), b"r")
        assert row is not None
        assert row.open is not None
        assert (row.open.state, row.open.attempt, row.open.reason) == (State.RETRY, 2, "undelivered")
        assert row.open.due >= NOW + 60_000
