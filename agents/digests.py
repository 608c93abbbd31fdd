"""The gate's digests: who waits for whom, and the message that they go in (``tables/digests.py`` has the rules)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from agents import wording
from agents.delivery import Delivering
from agents.meter import Stage
from agents.ports import NOTHING, Decision, Job, Out, View
from agents.publisher import partition_of
from channels import digest as layout
from schemas import codec, ids
from schemas.ids import MAX_RECORD_BYTES
from schemas.names import Channel, OutcomeKind
from schemas.quick import replace
from schemas.records import (
    Delivery,
    DeliveryAnswer,
    DeliveryRequest,
    Message,
    RecipientDelivery,
    RecipientDigest,
    RecipientProfile,
    RecipientSends,
)
from tables import caps, deliveries, digests
from tables.digests import Alone, Gather, Wait

#: What the gate says of a request at this moment: the delivery for its channel, or why there is none.
Judge = Callable[[View, DeliveryRequest, str, RecipientDelivery, int], tuple[Delivery | None, DeliveryAnswer | None]]
#: How long the ids of the attempts in one message may be together, in characters, where the provider tells later what
#: became of it, by a reference that names all: sealed they are a part of an address or of a mail's marks
#: (``schemas/references.py``), or of what Meta sends back, 512 characters (``channels/whatsapp_cloud.py``).
MOST_NAMED = {Channel.EMAIL: 1_200, Channel.SMS: 1_200, Channel.VOICE: 1_200, Channel.WHATSAPP: 350}
#: Bytes of the deliveries that one record on a channel's topic holds together, each with what it says and so many for
#: the rest of it: half of what a record may have.
MOST_TOGETHER, BESIDE = MAX_RECORD_BYTES // 2, 2_048


class Draft:
    """Rows as they stand within one decision."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.rows: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        """Return a row."""
        return self.rows[key] if key in self.rows else self._view.get(key)

    def scan(self, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return rows as they stood before."""
        return self._view.scan(prefix, start, limit)


@dataclass(slots=True)
class _Closing:
    """What a group that goes leads to."""

    work: Delivering
    partition: int
    draft: Draft
    judge: Judge
    now: int
    emits: list[Out] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Member:
    """A delivery that may go."""

    key: bytes
    row: RecipientDelivery
    request: DeliveryRequest
    sent: Delivery
    message: Message


def asked(
    work: Delivering,
    view: View,
    partition: int,
    request: DeliveryRequest,
    row: RecipientDelivery,
    said: tuple[Delivery | None, DeliveryAnswer | None],
    judge: Judge,
    now: int,
) -> Decision | None:
    """Return what becomes of a request in a category with digests, None: what becomes of any other.

    ``row``: its delivery, with the attempt on record. ``said``: what the gate says of it.
    """
    category = work.categories.of(request.category)
    sent, refusal = said
    delivery, key = _of(request)
    group_key = ids.digest_key(request.recipient_id, request.category)
    group = work.digest(view, group_key) or RecipientDigest(request.recipient_id, request.category)
    token = ids.provider_token(delivery)
    if refusal is not None:
        if refusal.reason not in caps.REASONS:
            return None
        until = digests.capped_until(category, group, request, refusal.not_before, now)
        if not until:
            return None
        held = replace(refusal, not_before=until)
        return _held(work, key, row, held, group_key, digests.waits(group, token, until, now), now)
    if sent is None:
        raise AssertionError("a request is either refused or sent on")
    match digests.place(category, group, row, request, sent.channel, now):
        case Alone():
            return None
        case Wait(until):
            held = deliveries.answer(
                request,
                delivery,
                OutcomeKind.HELD,
                digests.WINDOW,
                now,
                channel=request.channel,
                spent=False,
                not_before=until,
            )
            return _held(work, key, row, held, group_key, digests.waits(group, token, until, now), now)
        case Gather():
            group = digests.comes(group, delivery, codec.encode(request), _delivery_of, now)
            draft = Draft(view)
            draft.rows[key] = work.remembered(row, now)
            if not digests.complete(group, now):
                draft.rows[group_key] = work.written(group, digests.due(group))
                return Decision(draft.rows)
            return _closed(_Closing(work, partition, draft, judge, now), group_key, group)
        case other:
            assert_never(other)


def _held(
    work: Delivering,
    key: bytes,
    row: RecipientDelivery,
    held: DeliveryAnswer,
    group_key: bytes,
    group: RecipientDigest,
    now: int,
) -> Decision:
    row = replace(deliveries.ended(row, held.attempt, held, now), digest_due=held.not_before)
    rows = {key: work.remembered(row, now), group_key: work.written(group, digests.due(group))}
    return Decision(rows, (work.answered(held),))


def withdrawn(work: Delivering, view: View, request: DeliveryRequest, now: int) -> dict[bytes, bytes | None]:
    """Return the row of the group that waits for a delivery no longer, which was withdrawn."""
    if not digests.digests(work.categories.of(request.category)):
        return {}
    key = ids.digest_key(request.recipient_id, request.category)
    group = work.digest(view, key)
    after = digests.gone(group, ids.provider_token(_of(request)[0]), now) if group is not None else None
    return {key: work.written(after, digests.due(after))} if after is not None else {}


def fired(work: Delivering, key: bytes, judge: Judge, ready: Callable[[int], bool]) -> Job:
    """Return the job of a group whose time has come. ``ready``: whether all requests of a partition have been read that
    lay there when it was assigned; who is among them is waited for."""

    def run(view: View, now: int) -> Decision:
        group = work.digest(view, key)
        if group is None or digests.due(group) > now:
            return NOTHING
        partition = partition_of(group.recipient_id.encode(), work.partitions)
        if not ready(partition):
            return NOTHING
        return _closed(_Closing(work, partition, Draft(view), judge, now), key, group)

    return Job((key,), run)


def _closed(closing: _Closing, key: bytes, group: RecipientDigest) -> Decision:
    """Let go who has come: each is judged by this moment, and those who may go are put into as few messages as hold
    them."""
    work, draft, now = closing.work, closing.draft, closing.now
    left = digests.left(group, now)
    draft.rows[key] = work.written(left, digests.due(left)) if left is not None else None
    members: dict[tuple[str, str, str], list[_Member]] = {}
    for raw in group.gathered:
        member = _member(closing, codec.decode(DeliveryRequest, raw))
        if member is not None:
            to = (member.sent.channel.value, member.message.address, member.sent.tenant)
            members.setdefault(to, []).append(member)
    for some in members.values():
        some.sort(key=lambda one: (one.sent.due_at, one.sent.delivery_id))
        for several in digests.parted(some, lambda ones: _fit(work, draft, ones)):
            _sent(closing, key, several)
    return Decision(draft.rows, tuple(closing.emits))


def _member(closing: _Closing, request: DeliveryRequest) -> _Member | None:
    """Return a delivery that may go, None: it was answered, or somebody else answers it."""
    work, draft, now = closing.work, closing.draft, closing.now
    delivery, key = _of(request)
    row = work.delivery(draft, key)
    if row is None or not digests.stands(row, request):
        return None
    sent, refusal = closing.judge(draft, request, delivery, row, now)
    if refusal is not None:
        draft.rows[key] = work.remembered(deliveries.ended(row, request.attempt, refusal, now), now)
        closing.emits.append(work.answered(refusal))
        return None
    if sent is None:
        raise AssertionError("a request is either refused or sent on")
    return _Member(key, row, request, sent, codec.decode(Message, sent.sealed.body))


def _fit(work: Delivering, view: View, members: Sequence[_Member]) -> bool:
    """Return whether some deliveries are one message."""
    first = members[0].sent
    named = MOST_NAMED.get(first.channel)
    if named is not None and sum(len(one.sent.delivery_id) + 4 for one in members) > named:
        return False
    if sum(len(one.sent.sealed.body) + BESIDE for one in members) > MOST_TOGETHER:
        return False
    if any(one.message.also != members[0].message.also for one in members):
        return False
    profile = work.known(view, first.recipient_id) or RecipientProfile()
    several = [(one.sent, one.message) for one in members]
    category = work.categories.of(first.category)
    said = wording.together(work.templates, first.channel, several, category, profile, work.foot)
    return layout.fits(first.channel, said.title, said.text)


def _sent(closing: _Closing, group_key: bytes, members: Sequence[_Member]) -> None:
    """Pass some deliveries on to their channel as one message, or hold them if a cap is full by now."""
    work, draft, now = closing.work, closing.draft, closing.now
    first = members[0].sent
    digest = ids.digest_id(one.sent.delivery_id for one in members) if len(members) > 1 else ""
    full = _count(closing, members, ids.provider_token(digest or first.delivery_id))
    if full is not None:
        _held_by_cap(closing, group_key, members, full)
        return
    for one in members:
        # Asked for again before its call, it counts as what it already counts as.
        kept = replace(one.row, channel=one.sent.channel, template=one.sent.template, digest=digest)
        draft.rows[one.key] = work.remembered(kept, now)
        work.meter.lateness(Stage.GATED, one.sent.channel, (now - one.sent.due_at) / 1000)
    own = [replace(one.sent, digest=digest) for one in members]
    out = replace(own[0], together=tuple(codec.encode(other) for other in own[1:]))
    route = ids.routing_key(first.recipient_id, first.reminder_id)
    closing.emits.append(Out(work.topics.channels[first.channel], closing.partition, route, codec.encode(out)))


def _count(closing: _Closing, members: Sequence[_Member], token: str) -> tuple[str, int] | None:
    """Count a message against its recipient's caps, in place of what its deliveries counted before; return by which cap
    it is kept back and until when, None: it may pass."""
    work, draft, now = closing.work, closing.draft, closing.now
    recipient_id = members[0].sent.recipient_id
    profile = work.known(draft, recipient_id)
    if profile is None or not caps.capped(profile) or work.categories.of(members[0].sent.category).overrides_caps:
        return None
    sends = work.sends(draft, recipient_id) or RecipientSends()
    before = {ids.provider_token(one.row.digest or one.sent.delivery_id) for one in members}
    known = next((old for old in before if any(sent.token == old for sent in sends.passed)), token)
    full = caps.full_until(profile, sends, known, now)
    if full is not None:
        return full
    sends = caps.passed(caps.renamed(sends, before, token), token, now)
    draft.rows[ids.sends_key(recipient_id)] = work.written(sends, caps.due(sends))
    return None


def _held_by_cap(closing: _Closing, group_key: bytes, members: Sequence[_Member], full: tuple[str, int]) -> None:
    """Hold those whose message came behind another one that was the last that a cap lets pass."""
    work, draft, now = closing.work, closing.draft, closing.now
    reason, until = full
    group = work.digest(draft, group_key) or RecipientDigest(members[0].sent.recipient_id, members[0].sent.category)
    for one in members:
        held = deliveries.answer(
            one.request,
            one.sent.delivery_id,
            OutcomeKind.HELD,
            reason,
            now,
            channel=one.request.channel,
            spent=False,
            not_before=until,
        )
        row = replace(deliveries.ended(one.row, held.attempt, held, now), digest_due=until)
        draft.rows[one.key] = work.remembered(row, now)
        group = digests.waits(group, ids.provider_token(one.sent.delivery_id), until, now)
        closing.emits.append(work.answered(held))
    draft.rows[group_key] = work.written(group, digests.due(group))


def _of(request: DeliveryRequest) -> tuple[str, bytes]:
    delivery = ids.delivery_id(request.reminder_id, request.occurrence, request.round, request.step)
    return delivery, ids.delivery_key(request.recipient_id, request.reminder_id, delivery)


def _delivery_of(request: bytes) -> str:
    return _of(codec.decode(DeliveryRequest, request))[0]
