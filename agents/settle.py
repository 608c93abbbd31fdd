"""Settle: delivery's answers and providers' receipts move rows on. It alone decides on a retry, the next channel, or
the end."""

from hashlib import sha256

from agents.core import Core
from agents.meter import Stage
from agents.ports import Decision, Inbound, Job, View
from channels import retry
from schemas import codec, ids
from schemas.checks import Reason
from schemas.codec import Undecodable
from schemas.names import AnswerKind, MaybeSent, OutcomeKind, State
from schemas.quick import replace
from schemas.records import DeliveryAnswer, DeliveryReceipt, ReminderRow
from tables import erasure, receipts, settling, turns
from tables.settling import Again, Doubt, GiveUp, NextStep, Skip, Succeed, Verdict
from tables.transition import Arrival, Transition, delivery_id

#: The reason with which gate and channel refuse what has passed its deadline.
EXPIRED = "expired"


def read_outcome(core: Core, record: Inbound) -> Job:
    """Return the job of a record of topic ``notifications.outcomes``."""
    try:
        answer = codec.decode(DeliveryAnswer, record.value or b"")
    except Undecodable as why:
        return core.unreadable(record, why)
    key = answer.reminder_id.encode()

    def run(view: View, now: int) -> Decision:
        row = core.row(view, key)
        step = _step(core, row, answer, core.arrival(record, now, correlation_id=answer.correlation_id))
        if step is None:
            remedy = "upgrade this worker, then redrive"
            return core.unreadable(record, Undecodable(Reason.NEEDS_NEWER_SERVICE, "kind", "", remedy)).run(view, now)
        return core.decision(key, _with_origin(step, record), record)

    return Job((key,), run, record)


def _step(core: Core, row: ReminderRow | None, answer: DeliveryAnswer, arrival: Arrival) -> Transition | None:
    """Return what an answer leads to, None for a kind of answer that this release does not know."""
    rid = answer.reminder_id
    match answer.kind:
        case AnswerKind.OUTCOME:
            judged, again = verdict(core, row, answer, arrival.now), None
            o = row.open if row is not None else None
            if o is not None and o.heard:
                again = _after(core, row, o.heard_as, o.heard_reason, arrival.now)
            step = settling.settle(rid, row, answer, judged, arrival, core.rules, again)
            if step.changed:
                core.meter.lateness(Stage.SETTLED, answer.channel, _late(row, answer, arrival.now))
            return step
        case AnswerKind.WITHDRAWN:
            return settling.withdrawn(rid, row, answer, arrival, core.rules)
        case AnswerKind.PROFILE:
            return settling.profile(rid, row, answer, arrival, core.rules)
        case AnswerKind.ERASED:
            return erasure.recipient_erased(rid, row, answer, arrival, core.rules)
        case AnswerKind.RETRACTED:
            return receipts.retracted(rid, row, answer, arrival, core.rules)
        case AnswerKind.UNKNOWN:
            return None


def read_receipt(core: Core, record: Inbound) -> Job:
    """Return the job of a record of topic ``notifications.receipts``."""
    try:
        news = codec.decode(DeliveryReceipt, record.value or b"")
    except Undecodable as why:
        return core.unreadable(record, why)
    key = news.reminder_id.encode()

    def run(view: View, now: int) -> Decision:
        arrival, row = core.arrival(record, now), core.row(view, key)
        again = _after(core, row, news.outcome, news.detail, now)
        step = receipts.receipt(news.reminder_id, row, news, arrival, core.rules, again)
        return core.decision(key, step, record)

    return Job((key,), run, record)


def _after(core: Core, row: ReminderRow | None, outcome: str, reason: str, now: int) -> Again | None:
    """Return how a step is tried again of which its provider told later that it failed for now, None if it is not."""
    o = row.open if row is not None else None
    if row is None or o is None or outcome != OutcomeKind.DEFERRED:
        return None
    delivery = delivery_id("", o)
    told = DeliveryAnswer(
        AnswerKind.OUTCOME, "", delivery, step=o.step, attempt=o.attempt, outcome=OutcomeKind.DEFERRED, reason=reason
    )
    judged = verdict(core, row, told, now)
    return judged if isinstance(judged, Again) else None


def _late(row: ReminderRow | None, answer: DeliveryAnswer, now: int) -> float:
    """Return how long after its due time an attempt was settled, in seconds."""
    due_at = row.open.due_at if row is not None and row.open is not None else answer.ended_at
    return (now - due_at) / 1000


def _with_origin(step: Transition, record: Inbound) -> Transition:
    """Let the audit of a dead letter say where the answer lies that ended it."""
    at = next((n for n, entry in enumerate(step.audit) if entry.to_state is State.DEAD_LETTER), None)
    if at is None:
        return step
    ended = replace(
        step.audit[at], origin_topic=record.topic, origin_partition=record.partition, origin_offset=record.offset
    )
    return replace(step, audit=(*step.audit[:at], ended, *step.audit[at + 1 :]))


def verdict(core: Core, row: ReminderRow | None, answer: DeliveryAnswer, now: int) -> Verdict:
    """Judge an outcome by the retry rules of the reminder, its category and its channel."""
    d = row.definition if row is not None else None
    wait_ms = max(0, answer.not_before - now) if answer.not_before else 0
    if answer.outcome is OutcomeKind.HELD:
        return Again(wait_ms, "", spent=False, held=True)
    if answer.outcome is OutcomeKind.SKIPPED:
        return Skip(State.EXPIRED if answer.reason == EXPIRED else State.SKIPPED)
    policy = core.retry
    rule = core.maybe_sent
    if d is not None and (own := core.categories.of(d.category).maybe_sent) is not MaybeSent.BY_CATEGORY:
        rule = own
    if d is not None and d.policy is not None:
        if d.policy.max_attempts > 0:
            policy = replace(policy, max_attempts=d.policy.max_attempts)
        if d.policy.maybe_sent in (MaybeSent.RESEND, MaybeSent.HOLD):
            rule = d.policy.maybe_sent
    steps = turns.chain(d, row.open) if row is not None and row.open is not None else ()
    choice = retry.decide(
        answer.outcome,
        answer.reason,
        attempt=answer.attempt,
        policy=policy,
        retry_after_s=wait_ms / 1000 if answer.not_before else None,
        spent=answer.spent,
        # Those who went in one message come back together.
        jitter=jitter(ids.attempt_id(answer.digest or answer.delivery_id, answer.attempt)),
        has_next_step=answer.step + 1 < len(steps),
        more_contacts=answer.more and not steps,
        maybe_sent=rule,
    )
    match choice:
        case retry.Done():
            return Succeed()
        case retry.Retry(wait_ms=wait, tier=tier, attempt=attempt):
            return Again(wait, tier.value, spent=attempt > answer.attempt)
        case retry.Fallback():
            return NextStep()
        case retry.Dead() if answer.outcome is OutcomeKind.OPTED_OUT:
            # They did not want it, which is nobody's failure: no dead letter asks for a second try.
            return Skip(State.SKIPPED)
        case retry.Dead(reason=reason):
            return GiveUp(reason)
        case retry.Doubt():
            return Doubt()


def jitter(attempt: str) -> float:
    """Return the jitter of an attempt, in [0, 1): a replay must come to the same instant."""
    return int.from_bytes(sha256(attempt.encode()).digest()[:6], "big") / 2**48
