"""The gate: recipients, links, requests and withdrawals. What may be sent, to which contact, is decided here and
now."""

from collections.abc import Callable
from functools import partial
from hashlib import sha256

from agents import digests, forgetting, keeping, letters, ways, wording
from agents.delivery import Delivering
from agents.letters import Complaint
from agents.meter import Stage
from agents.ports import NOTHING, Decision, Inbound, Job, Out, View
from agents.publisher import partition_of
from channels import addresses
from channels.send_only import NOT_ON_LIST
from channels.word_reasons import UNKNOWN_MS
from schemas import checks, codec, ids
from schemas.checks import Reason
from schemas.codec import Undecodable
from schemas.names import AnswerKind, Channel, OutcomeKind, RecipientAction, RequestKind
from schemas.quick import replace
from schemas.records import (
    Contact,
    Content,
    Delivery,
    DeliveryAnswer,
    DeliveryRequest,
    RecipientDelivery,
    RecipientEvent,
    RecipientLink,
    RecipientProfile,
    RecipientSends,
    Sealed,
)
from schemas.sealing import CLEAR, Unopened
from tables import caps, consent, deliveries, recipients
from tables import digests as rules

#: Channels that reach all devices of a person with one delivery.
_SEVERAL = frozenset({Channel.PUSH})
#: Devices of a person that one delivery reaches: the first ones, in the recipient's order.
MAX_DEVICES = 20


# -- topic recipients --------------------------------------------------------------------------------------------------


def read_recipient(work: Delivering, record: Inbound) -> Job:
    """Return the job of a record of topic ``recipients``; a tombstone is ERASE."""
    if record.value is None and record.key:
        event = RecipientEvent(record.key.decode("utf-8", "replace"), RecipientAction.ERASE)
    else:
        try:
            event = work.codec.decode_event(RecipientEvent, record.value)
        except Undecodable as why:
            work.meter.rejected(str(why.reason), "")
            return work.unreadable(record, why)
    key = ids.profile_key(event.recipient_id)

    def run(view: View, now: int) -> Decision:
        record_ms = round(record.timestamp * 1000)
        event_id = event.event_id or sha256((record.value or b"") + str(record_ms).encode()).hexdigest()[:32]
        correlation = event.correlation_id or letters.correlation(record) or event_id
        action = f"RECIPIENT_{event.action.value}"
        fault = checks.check_recipient(event, now, record_ms)
        if fault is not None:
            work.meter.rejected(str(fault.reason), event.source)
            complaint = Complaint(
                str(fault.reason),
                fault.field,
                fault.value,
                fault.remedy,
                correlation_id=correlation[:200],
                parked=fault.parked,
            )
            return work.rejected(record, complaint, now, action)
        route = event.recipient_id.encode()
        if partition_of(route, work.partitions) != record.partition:
            if letters.header(record, letters.FORWARDED):
                remedy = f"topic {record.topic} must have {work.partitions} partitions; see docs/topics.md"
                complaint = Complaint("misrouted", "partition", str(record.partition), remedy)
                return work.rejected(record, complaint, now, action)
            if (heavy := letters.too_heavy(record)) is not None:
                complaint = Complaint(heavy.reason.value, heavy.field, heavy.value, heavy.remedy)
                return work.rejected(record, complaint, now, action)
            work.meter.forwarded()
            origin = f"{record.topic}/{record.partition}/{record.offset}".encode()
            headers = (*letters.original_headers(record), (letters.FORWARDED, origin))
            target = partition_of(route, work.partitions)
            return Decision({}, (Out(record.topic, target, route, record.value, headers, record_ms),))
        try:
            before = work.profile(view, event.recipient_id)
        except Unopened as why:
            if event.action is not RecipientAction.ERASE:
                return work.rejected(record, _unopened(why, correlation), now, action)
            before = work.known(view, event.recipient_id)
        after, result = recipients.apply(before, event, work.arrival(record, now, event_id, correlation))
        work.meter.event(action, result)
        if after is None:
            if result == "mixed_versions":
                remedy = "number every event of a recipient, or none"
                complaint = Complaint(result, "version", str(event.version), remedy, correlation_id=correlation)
                return work.rejected(record, complaint, now, action)
            return NOTHING
        rows: dict[bytes, bytes | None] = {key: work.kept(event.recipient_id, after)}
        if after.erased:
            forgotten, words = forgetting.recipient(work, view, event.recipient_id, after.updated_at, now, correlation)
            return Decision(rows | forgotten, words)
        told, emits = tell_links(work, view, event.recipient_id, before, after, now)
        return Decision(rows | told, emits)

    return Job((key,), run, record)


def _unopened(why: Unopened, correlation: str) -> Complaint:
    """Return what is said of an event about a recipient of whom we cannot read what we know."""
    closed = keeping.closed(why)
    remedy = "set SEAL_KEY to what it was sealed with, behind the new one, then redrive"
    if not closed.wait_ms:
        remedy = "erase the recipient, then send all of what is known of them"
    return Complaint(closed.reason, remedy=remedy, correlation_id=correlation)


def tell_links(
    work: Delivering,
    view: View,
    recipient_id: str,
    before: RecipientProfile | None,
    after: RecipientProfile,
    now: int,
) -> tuple[dict[bytes, bytes | None], tuple[Out, ...]]:
    """Return what a changed profile says to the recipient's reminders: their links as rows, and the answers."""
    rows: dict[bytes, bytes | None] = {}
    emits = []
    if before is None or before.zone != after.zone or before.contacts != after.contacts:
        for link_key, link in forgetting.links_of(work, view, recipient_id):
            if not link.linked or link.stands_in:
                continue
            told, answer = _tell(work, link, after, now)
            if answer is not None:
                rows[link_key] = work.written(told, 0)
                emits.append(work.answered(answer))
    return rows, tuple(emits)


def _reachable(work: Delivering, link: RecipientLink, profile: RecipientProfile | None) -> bool:
    """Return whether a recipient has a contact that a reminder can use."""
    channels = frozenset(c for c in work.adapters if not link.channels or c.value in link.channels)
    return recipients.reachable(profile, channels, unverified=work.categories.of(link.category).unverified)


def _tell(
    work: Delivering, link: RecipientLink, profile: RecipientProfile | None, now: int, *, readable: bool = True
) -> tuple[RecipientLink, DeliveryAnswer | None]:
    """Return the link and the answer to its reminder, None where it knows already. Not ``readable``: whether there are
    contacts cannot be seen, and what was told of them stands."""
    zone = profile.zone if profile is not None and link.follows_zone else ""
    reach = _reachable(work, link, profile) if readable else link.told_reachable
    if zone == link.told_zone and reach is link.told_reachable:
        return link, None
    answer = DeliveryAnswer(
        AnswerKind.PROFILE,
        link.reminder_id,
        link=link.link,
        zone=zone,
        reachable=reach,
        ended_at=now,
        correlation_id=link.correlation_id,
    )
    return replace(link, told_zone=zone, told_reachable=reach), answer


# -- topic notifications.requests --------------------------------------------------------------------------------------


def read_request(
    work: Delivering, record: Inbound, retract: Callable[[Inbound, DeliveryRequest], Job] | None = None
) -> Job:
    """Return the job of a record of topic ``notifications.requests``. ``retract``: of those that take something
    back."""
    try:
        request = codec.decode(DeliveryRequest, record.value or b"")
    except Undecodable as why:
        return work.unreadable(record, why)
    match request.kind:
        case RequestKind.DELIVER:
            return _deliver(work, record, request)
        case RequestKind.WITHDRAW:
            return _withdraw(work, record, request)
        case RequestKind.LINK | RequestKind.UNLINK | RequestKind.ERASE:
            return _link(work, record, request)
        case RequestKind.RETRACT:
            return retract(record, request) if retract is not None else Job((), lambda _view, _now: NOTHING, record)
        case RequestKind.UNKNOWN:
            return work.unreadable(
                record, Undecodable(Reason.NEEDS_NEWER_SERVICE, "kind", "", "upgrade this worker, then redrive")
            )


def _key(request: DeliveryRequest) -> tuple[str, bytes]:
    delivery = ids.delivery_id(request.reminder_id, request.occurrence, request.round, request.step)
    return delivery, ids.delivery_key(request.recipient_id, request.reminder_id, delivery)


def _link(work: Delivering, record: Inbound, request: DeliveryRequest) -> Job:
    key = ids.link_key(request.recipient_id, request.reminder_id)

    def run(view: View, now: int) -> Decision:
        raw, readable = view.get(key), True
        known = work.link(raw) if raw is not None else None
        if known is not None and known.link > request.link:
            return NOTHING
        try:
            profile = work.profile(view, request.recipient_id)
        except Unopened:
            profile, readable = work.known(view, request.recipient_id), False
        late = forgetting.late(work, profile, request)
        # An older core worker, or one that starts later, may still wrap with the master key of before.
        brought = work.sealing.rewrapped(request.reminder_id, request.wrapped_key, work.random) or request.wrapped_key
        if request.kind is not RequestKind.LINK:
            gone = keeping.with_key(
                replace(
                    known or RecipientLink(request.reminder_id, request.link, False, stands_in=request.stands_in),
                    link=request.link,
                    linked=False,
                ),
                brought,
            )
            if request.kind is RequestKind.ERASE:
                gone = forgetting.keyless(gone)
            return Decision({key: work.written(gone, keeping.until(gone, now, work.retention_ms))}, late)
        # A renewed link is told anew: it may be the question of a reminder that still waits for an answer.
        link = RecipientLink(
            request.reminder_id,
            request.link,
            request.follows_zone,
            wrapped_key=brought or (known.wrapped_key if known is not None else b""),
            correlation_id=request.correlation_id,
            channels=request.channels,
            category=request.category,
            stands_in=request.stands_in,
        )
        if request.stands_in or not request.recipient_id:
            return Decision({key: work.written(link, 0)})
        link, answer = _tell(work, link, profile, now, readable=readable)
        return Decision({key: work.written(link, 0)}, (*late, work.answered(answer)) if answer else late)

    return Job((key, ids.profile_key(request.recipient_id)), run, record)


def _withdraw(work: Delivering, record: Inbound, request: DeliveryRequest) -> Job:
    _, key = _key(request)

    def run(view: View, now: int) -> Decision:
        row = work.delivery(view, key) or deliveries.new(request, now)
        verdict = deliveries.withdraw(row, request, now)
        decision = _decision(work, key, verdict, now)
        gone = digests.withdrawn(work, view, request, now)
        return replace(decision, rows={**decision.rows, **gone}) if gone else decision

    return Job((key,), run, record)


def _decision(
    work: Delivering, key: bytes, verdict: deliveries.Verdict, now: int, more: tuple[Out, ...] = ()
) -> Decision:
    rows = {key: work.remembered(verdict.row, now)} if verdict.row is not None else {}
    return Decision(rows, (*(work.answered(a) for a in verdict.answers), *more))


def _deliver(work: Delivering, record: Inbound, request: DeliveryRequest) -> Job:
    delivery, key = _key(request)
    keys = [key]
    if request.recipient_id:
        keys += (ids.profile_key(request.recipient_id), ids.sends_key(request.recipient_id))
    if request.sealed.key_id != CLEAR:
        keys.append(ids.link_key(request.recipient_id, request.reminder_id))
    category = work.categories.of(request.category)

    def run(view: View, now: int) -> Decision:
        known = work.delivery(view, key)
        row = known or deliveries.new(request, now)
        verdict = deliveries.ask(row, request, now, now - work.retention_ms // 2)
        if not verdict.proceed or verdict.row is None:
            return _decision(work, key, verdict, now)
        read = keeping.read(work, view, request, now)
        sent, refusal = _address(work, view, request, read, delivery, row, now)
        if rules.digests(category):
            said, judge = (sent, refusal), partial(judged, work)
            in_digest = digests.asked(work, view, record.partition, request, verdict.row, said, judge, now)
            if in_digest is not None:
                return in_digest
        if refusal is not None:
            ended = deliveries.ended(verdict.row, request.attempt, refusal, now)
            return _decision(work, key, deliveries.Verdict(ended, (refusal,)), now)
        if sent is None or isinstance(read, keeping.Closed):
            raise AssertionError("a request is either refused or sent on")
        counted = _counted(work, view, request, read[0], delivery, now)
        work.meter.lateness(Stage.GATED, sent.channel, (now - request.due_at) / 1000)
        route = ids.routing_key(request.recipient_id, request.reminder_id)
        out = Out(work.topics.channels[sent.channel], record.partition, route, codec.encode(sent))
        kept = replace(verdict.row, channel=sent.channel, template=sent.template)
        return Decision({key: work.remembered(kept, now), **counted}, (out,))

    return Job(keys, run, record)


def _counted(
    work: Delivering,
    view: View,
    request: DeliveryRequest,
    profile: RecipientProfile | None,
    delivery: str,
    now: int,
) -> dict[bytes, bytes | None]:
    """Return the row that counts a delivery against its recipient's caps, if they have any."""
    if not request.recipient_id or work.categories.of(request.category).overrides_caps:
        return {}
    if not caps.capped(profile):
        return {}
    known = work.sends(view, request.recipient_id) or RecipientSends()
    sends = caps.passed(known, ids.provider_token(delivery), now)
    return {ids.sends_key(request.recipient_id): work.written(sends, caps.due(sends))}


def judged(
    work: Delivering, view: View, request: DeliveryRequest, delivery: str, row: RecipientDelivery, now: int
) -> tuple[Delivery | None, DeliveryAnswer | None]:
    """Return the delivery for the contact that serves now, or why there is none. ``row``: what is remembered of it."""
    return _address(work, view, request, keeping.read(work, view, request, now), delivery, row, now)


def _address(
    work: Delivering,
    view: View,
    request: DeliveryRequest,
    read: tuple[RecipientProfile | None, Content] | keeping.Closed,
    delivery: str,
    row: RecipientDelivery,
    now: int,
) -> tuple[Delivery | None, DeliveryAnswer | None]:
    """Return the delivery for the contact that serves now, or why there is none. ``read``: whom it is for and what it
    says."""

    def refuse(
        outcome: OutcomeKind, reason: str, *, ours: bool = False, wait_ms: int = 0, detail: str = ""
    ) -> tuple[None, DeliveryAnswer]:
        answer = deliveries.answer(
            request,
            delivery,
            outcome,
            reason,
            now,
            channel=request.channel,
            spent=not ours,
            not_before=now + wait_ms if wait_ms else 0,
            detail=detail,
        )
        return None, answer

    if isinstance(read, keeping.Closed):
        return refuse(read.outcome, read.reason, ours=read.wait_ms > 0, wait_ms=read.wait_ms)
    profile, content = read
    channel, address, more, last_inbound_at, chosen = request.channel, "", False, 0, ""
    also: tuple[str, ...] = ()
    category = work.categories.of(request.category)
    if request.addressed:
        address = content.addresses[request.step]
    else:
        if profile is None or profile.erased:
            # The profile may be on its way: topics keep no order among each other. It is held until its deadline, and
            # uses up no attempt: nothing was sent, and a copy of this answer may be lost.
            return refuse(OutcomeKind.HELD, "unknown_recipient", ours=True, wait_ms=UNKNOWN_MS)
        contacts = recipients.usable(profile, channel, request.tried, work.adapters, unverified=category.unverified)
        if not contacts:
            return refuse(OutcomeKind.UNDELIVERABLE, "no_contact")
        judged = [(c, _unwanted(work, profile, request, category, c.channel, c.address)) for c in contacts]
        served = [c for c, why in judged if not why]
        if not served:
            # None of those that remain may be used, so that there is no other to go on to.
            return refuse(OutcomeKind.OPTED_OUT, judged[0][1])
        served, chosen = ways.ordered(work, request, profile, category, served, now)
        channel, address, last_inbound_at = served[0].channel, served[0].address, served[0].last_inbound_at
        more = channel is not request.channel and any(c.channel is not channel for c in served[1:])
        if channel in _SEVERAL:
            address, *others = _devices(work, channel, served) or [address]
            also = tuple(others[: MAX_DEVICES - 1])
    address = addresses.in_one_form(channel, address)
    closed, detail = ways.closed(work, request, channel, address)
    if closed:
        return refuse(OutcomeKind.UNDELIVERABLE, closed, detail=detail)
    if not work.send_only_to.allows(channel, address):
        return refuse(OutcomeKind.SKIPPED, NOT_ON_LIST)
    if request.addressed and (unwanted := _unwanted(work, profile, request, category, channel, address)):
        return refuse(OutcomeKind.OPTED_OUT, unwanted)
    # What they allow has been looked at with the contact: only the hour is left.
    stopped = consent.hour(profile or RecipientProfile(), category, channel, now) or _full(
        work, view, request, row.digest or delivery, profile, now
    )
    if stopped is not None:
        return refuse(OutcomeKind.HELD, stopped.reason, ours=True, wait_ms=stopped.until - now)
    worded = wording.worded(work.templates, request, row.template, content, category, channel, profile, work.foot)
    if isinstance(worded, wording.Unworded):
        wait_ms = worded.wait_ms
        return refuse(worded.outcome, worded.reason, ours=wait_ms > 0, wait_ms=wait_ms, detail=worded.detail)
    message = replace(worded.message, address=address, also=also, last_inbound_at=last_inbound_at)
    return Delivery(
        delivery_id=delivery,
        reminder_id=request.reminder_id,
        occurrence=request.occurrence,
        channel=channel,
        recipient_id=request.recipient_id,
        round=request.round,
        step=request.step,
        attempt=request.attempt,
        ask=request.ask,
        asked_at=request.asked_at,
        due_at=request.due_at,
        deadline=request.deadline,
        category=request.category,
        tenant=request.tenant,
        source=request.source,
        correlation_id=request.correlation_id,
        more=more,
        priority=request.priority,
        stages=deliveries.gated(request, now),
        wants_answer=request.wants_answer,
        sealed=Sealed(0, codec.encode(message)),
        template=worded.template,
        max_cost_micros=request.max_cost_micros,
        chosen=chosen,
    ), None


def _devices(work: Delivering, channel: Channel, served: list[Contact]) -> list[str]:
    """Return the addresses of a channel that may be sent to, each once, in the recipient's order."""
    devices = dict.fromkeys(c.address for c in served if c.channel is channel)
    return [d for d in devices if work.send_only_to.allows(channel, d)]


def _unwanted(
    work: Delivering,
    profile: RecipientProfile | None,
    request: DeliveryRequest,
    category: consent.Category,
    channel: Channel,
    address: str,
) -> str:
    """Return why a contact must not be used for a request, empty if it may."""
    why = consent.refused(profile or RecipientProfile(), request.category, category, channel)
    return why or work.suppressed(channel, address, request.category)


def _full(
    work: Delivering,
    view: View,
    request: DeliveryRequest,
    delivery: str,
    profile: RecipientProfile | None,
    now: int,
) -> consent.Held | None:
    """Return what a recipient's caps say of a delivery, or of the message that it went in before."""
    if profile is None or not caps.capped(profile) or work.categories.of(request.category).overrides_caps:
        return None
    sends = work.sends(view, request.recipient_id)
    full = caps.full_until(profile, sends, ids.provider_token(delivery), now) if sends is not None else None
    return consent.Held(*full) if full is not None else None
