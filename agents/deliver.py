"""Deliver: the calls. An attempt is recorded as begun before its provider is called, and its outcome is recorded after.

A call runs outside of units; its outcome comes back as a command. Right before it begins come the fence and the last
look: is it still asked for, is it still in time?
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from agents import digests, forgetting, gate, ways, wording
from agents.breakers import Admitted, Breakers
from agents.control import Control
from agents.delivery import BUSY_MS, GRACE_MS, MOST_BUSY_MS, Delivering
from agents.kept import rows_of
from agents.lookups import Doubt, Looked, Lookups
from agents.meter import Stage
from agents.pacing import Pacing
from agents.ports import NOTHING, Check, Command, Decision, Inbound, Job, Out, Store, View, Word
from agents.publisher import partition_of
from agents.routes import Affordable, Routes, uncounted
from agents.suppressions import BOUNCED, STOP
from agents.unit_of_work import Observer, raised_at
from channels.base import ChannelAdapter, Metered, Outcome, Reconciling, Send
from channels.http_answers import UNKNOWN_CODE
from channels.send_only import NOT_ON_LIST
from schemas import codec, ids
from schemas.codec import Undecodable
from schemas.names import LANES, Channel, Lane, OutcomeKind
from schemas.quick import replace
from schemas.records import Attempt, Delivery, DeliveryAnswer, Message, RecipientDelivery, RecipientProfile, Stages
from schemas.sealing import Unopened
from tables import caps, consent, deliveries, holding, lookup, prices, profiles, quota, recipients
from tables import due as index
from tables.holds import Subject
from tables.prices import Prices
from tables.transition import REACHED

#: Outcomes after which a recipient has got nothing, so that it does not count against their caps.
_NOT_SENT = frozenset(
    {
        OutcomeKind.REJECTED,
        OutcomeKind.UNDELIVERABLE,
        OutcomeKind.OPTED_OUT,
        OutcomeKind.MISCONFIGURED,
        OutcomeKind.HELD,
        OutcomeKind.SKIPPED,
    }
)

#: With this reason a call is held whose provider has had all calls that it may have today.
DAILY_QUOTA = "daily_quota"
#: Of how many calls it is said how long they took of late.
_OF_LATE = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Member:
    """A delivery that a call is for. ``message``: what it says where it goes alone; ``offset``: of the record that
    asks for it, in its partition; -1: not known; ``of``: how many that record asks for, in one message."""

    key: bytes
    delivery: Delivery
    message: Message = field(repr=False)
    offset: int = -1
    of: int = 1


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a delivery by a call. ``body_hash``: of the words that were sent, where they are not those that
    were on record when the call began."""

    key: bytes
    delivery: Delivery
    answer: DeliveryAnswer
    body_hash: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """A call's outcome on its way to the partition's worker. ``others``: of those in the same message."""

    key: bytes
    delivery: Delivery
    answer: DeliveryAnswer
    gone: tuple[str, ...] = field(default=(), repr=False)
    more: tuple[Out, ...] = field(default=(), repr=False)
    address: str = field(default="", repr=False)
    others: tuple[Done, ...] = ()
    body_hash: str = ""

    @property
    def all(self) -> tuple[Done, ...]:
        """Return what became of each delivery."""
        return (Done(self.key, self.delivery, self.answer, self.body_hash), *self.others)


class Rows(Protocol):
    """Rows of one partition, by key."""

    def get(self, key: bytes) -> bytes | None:
        """Return a row."""


class Backlogs(Protocol):
    """The part of the units that calls use."""

    def give(self, partition: int, commands: Iterable[Command]) -> None:
        """Add commands to the backlog of a partition."""

    def parked(self, partition: int, room: str) -> int:
        """Return how many inputs of a partition wait in a room."""

    def call(self, room: str, count: int) -> int:
        """Call up to ``count`` inputs out of a room; return how many."""


def room_of(channel: Channel, lane: Lane) -> str:
    """Return the room in which deliveries of a channel and lane wait for a slot."""
    return f"{channel.value}/{lane.name}"


class Calls:
    """The calls in flight of one worker, their slots, and what becomes of them."""

    def __init__(
        self,
        work: Delivering,
        *,
        store: Callable[[], Store],
        publish: Callable[[list[Out]], Awaitable[None]],
        owns: Callable[[int], bool],
        fence: Check,
        observer: Observer,
        control: Control,
        fatal: Callable[[str, BaseException | None], None],
        breakers: Breakers | None = None,
        pacing: Pacing | None = None,
        quotas: Mapping[str, int] | None = None,
    ) -> None:
        self._work = work
        self._store = store
        self._publish = publish
        self._owns = owns
        self._fence = fence
        self._observer = observer
        self._control = control
        self._fatal = fatal
        self._routes = Routes(work, control, breakers, pacing, fence, quotas)
        if pacing is not None:
            pacing.wake = self._call_out
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[bytes] = set()
        self._used: dict[Channel, int] = dict.fromkeys(work.adapters, 0)
        #: What goes on: when it began, by the loop's clock, its limit in seconds, and what it is.
        self._going_on: dict[bytes, tuple[float, float, str]] = {}
        #: When each call of a channel began that goes on, the oldest first, and how long its calls took of late, both
        #: by the loop's clock, in seconds.
        self._begun_at: dict[Channel, dict[bytes, float]] = {channel: {} for channel in work.adapters}
        self._took: dict[Channel, float] = dict.fromkeys(work.adapters, 0.0)
        self.lookups = Lookups(work, self._found_out, self._shut, self._moot)
        self.accepting = True
        self.given_up = False
        #: Whether a partition's withdrawals have all been read again; until then no call of it begins.
        self.caught_up: Callable[[int], bool] = lambda partition: False
        #: The units of the same app, which are made after what they call.
        self.backlogs: Backlogs

    # -- topics notifications.<channel>

    def read(self, work: Delivering, record: Inbound) -> Job:
        """Return the job of a record of a channel topic."""
        try:
            members = tuple(_members(record))
        except Undecodable as why:
            return work.unreadable(record, why)
        partition, channel = record.partition, members[0].delivery.channel

        def run(view: View, now: int) -> Decision:
            refused = Decision({})
            some: list[tuple[Member, RecipientDelivery]] = []
            adapter = work.adapters.get(channel)
            for one in members:
                row = work.delivery(view, one.key)
                if row is None or not deliveries.may_start(row, one.delivery):
                    continue
                if adapter is None:
                    why = OutcomeKind.UNDELIVERABLE, "channel_not_configured"
                    refused = _both(refused, self._refuse(one.key, row, one.delivery, *why, now))
                elif one.delivery.deadline and one.delivery.deadline <= now:
                    refused = _both(
                        refused, self._refuse(one.key, row, one.delivery, OutcomeKind.SKIPPED, "expired", now)
                    )
                elif one.delivery.max_cost_micros and not self._affordable(
                    one.delivery, one.message, work.providers(channel)
                ):
                    refused = _both(refused, self._too_dear(view, one, row, adapter, now))
                else:
                    some.append((one, row))
            used = self._used.get(channel, 0)
            done = _both(refused, self._begun(view, partition, some, adapter, now)) if some and adapter else refused
            if adapter is not None and not done.park and self._used[channel] == used:
                done = replace(done, after=(*done.after, lambda: self._next(channel)))
            return done

        return Job((*(one.key for one in members), *self._routes.counts(channel)), run, record)

    def _begun(
        self,
        view: View,
        partition: int,
        some: Sequence[tuple[Member, RecipientDelivery]],
        adapter: ChannelAdapter,
        now: int,
    ) -> Decision:
        """Return the decision that begins a call, or lets it wait, or has it asked for again later."""
        work, first = self._work, some[0][0]
        delivery, key = first.delivery, first.key

        def held(reason: str, until: int) -> Decision:
            all_ = Decision({})
            for one, row in some:
                said = self._refuse(
                    one.key, row, one.delivery, OutcomeKind.HELD, reason, now, spent=False, not_before=until
                )
                all_ = _both(all_, said)
            return all_

        waits = not self.accepting or not self.caught_up(partition)
        waits = waits or self._used[delivery.channel] >= work.concurrency(adapter)
        counted = {} if waits else self._routes.within_quota(view, partition, key, adapter, now, self._picks(first))
        if counted is None:
            return held(DAILY_QUOTA, quota.next_day(now))
        if waits or not self._routes.paced(key, adapter):
            room = room_of(delivery.channel, LANES[delivery.priority])
            if (waiting := self.backlogs.parked(partition, room)) >= work.room:
                return held("busy", now + self._busy_ms(adapter, waiting))
            return Decision({}, park=room)
        until = now + int(work.call_limit_s(adapter) * 1000) + GRACE_MS
        begun: dict[bytes, bytes | None] = {}
        traces = self._traces(view, [one for one, _ in some])
        for one, row in some:
            hashes = traces.get(one.key, {})
            begun[one.key] = work.remembered(deliveries.started(row, one.delivery, now, until, **hashes), now)
        self._used[delivery.channel] += 1
        self._open.update(begun)

        def begin() -> None:
            self.begin_all(partition, tuple(one for one, _ in some), adapter)

        # Before the call, so that the fastest answer finds what it is about.
        asked = work.replies.asked(delivery, first.message.address, now) if work.replies is not None else ()
        return Decision({**begun, **counted}, asked, after=(begin,))

    def _busy_ms(self, adapter: ChannelAdapter, waiting: int) -> int:
        """Return for how long what finds its room full is to wait, in ms: until half of those before it have been
        served, at the pace of late. Sooner it would find it full again, and write so each time."""
        begun = next(iter(self._begun_at[adapter.channel].values()), None)
        oldest_s = asyncio.get_running_loop().time() - begun if begun is not None else 0.0
        took_s = max(self._took[adapter.channel], oldest_s)
        served_ms = int(1000 * took_s * waiting / 2 / max(1, self._work.concurrency(adapter)))
        return min(max(BUSY_MS, served_ms), MOST_BUSY_MS)

    def _too_dear(self, view: View, one: Member, row: RecipientDelivery, adapter: ChannelAdapter, now: int) -> Decision:
        """Return the decision on a message that costs more than it may by every provider of its channel."""
        delivery = one.delivery
        cost = self._cost(delivery, one.message, adapter)
        why = prices.beyond(delivery.max_cost_micros, cost)
        detail = ways.allowed(self._work, delivery.max_cost_micros, cost)
        dear = self._refuse(one.key, row, delivery, OutcomeKind.UNDELIVERABLE, why, now, detail=detail)
        return replace(dear, rows={**dear.rows, **self._uncounted(view, delivery)})

    def _traces(self, view: Rows, members: Sequence[Member]) -> dict[bytes, dict[str, str]]:
        """Return the keyed hashes by which a call can be looked for if it ends in doubt, for the rows of its
        deliveries; none where it cannot be."""
        delivery = members[0].delivery
        adapter = self.lookups.adapter(delivery.channel, "")
        if adapter is None:
            return {}
        message = self._said(view, members)
        words = adapter.words(self._outgoing(delivery, message, adapter.name))
        to_hash = self._work.mail_links.hashing.key(delivery.channel, message.address)
        return {
            one.key: {"body_hash": self.lookups.hashed(one.key.decode("utf-8", "replace"), words), "to_hash": to_hash}
            for one in members
        }

    def _refuse(
        self,
        key: bytes,
        row: RecipientDelivery,
        delivery: Delivery,
        outcome: OutcomeKind,
        reason: str,
        now: int,
        **more: object,
    ) -> Decision:
        work = self._work
        answer = deliveries.answer(
            delivery, delivery.delivery_id, outcome, reason, now, channel=delivery.channel, more=delivery.more, **more
        )
        return Decision(
            {key: work.remembered(deliveries.ended(row, delivery.attempt, answer, now), now)}, (work.answered(answer),)
        )

    # -- calls

    def begin(self, partition: int, key: bytes, delivery: Delivery, message: Message, adapter: ChannelAdapter) -> None:
        """Begin a call whose attempt is on record."""
        self.begin_all(partition, (Member(key, delivery, message),), adapter)

    def begin_all(self, partition: int, members: tuple[Member, ...], adapter: ChannelAdapter) -> None:
        """Begin the call of one message for several deliveries whose attempts are on record."""
        task = asyncio.create_task(self._call(partition, members, adapter))
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            # Its slot and its attempt would stay taken for ever, and nobody would learn of its outcome.
            self._fatal("a call could not be ended", exc)

    async def _call(self, partition: int, members: tuple[Member, ...], adapter: ChannelAdapter) -> None:
        key, delivery = members[0].key, members[0].delivery
        limit_s = self._work.call_limit_s(adapter) + GRACE_MS / 1000
        what = f"the call of {adapter.name} for {delivery.delivery_id}, attempt {delivery.attempt},"
        clock = asyncio.get_running_loop().time
        begun = clock()
        self._going_on[key] = begun, limit_s, what
        going = self._begun_at[delivery.channel]
        going[key] = begun
        try:
            await self._called(partition, members, adapter)
        finally:
            self._going_on.pop(key, None)
            going.pop(key, None)
            self._took[delivery.channel] += ((clock() - begun) - self._took[delivery.channel]) / _OF_LATE

    def overdue(self, now: float) -> list[tuple[str, float]]:
        """Return each call that goes on though its limit is over, and for how many seconds it has been so."""
        return [
            (what, now - begun - limit_s) for begun, limit_s, what in self._going_on.values() if now > begun + limit_s
        ]

    async def _called(self, partition: int, members: tuple[Member, ...], adapter: ChannelAdapter) -> None:
        work, delivery = self._work, members[0].delivery
        context = {
            "reminder": delivery.reminder_id,
            "delivery": delivery.delivery_id,
            "attempt": delivery.attempt,
            "channel": delivery.channel.value,
            "provider": adapter.name,
            "correlation_id": delivery.correlation_id,
        }
        if delivery.digest:
            context |= {"digest": delivery.digest, "deliveries": len(members)}
        await self._observer.stage(Stage.STARTED, partition, 1)
        admitted = await self._routes.admitted(members[0].key, delivery, adapter, self._picks(members[0]))
        started = work.clock()
        looks = _Looks(
            members,
            lambda one, by: self._last_look(partition, one.key, one.delivery, one.message.address, by, work.clock()),
        )

        outcome: Outcome | None
        if isinstance(admitted, Outcome):
            outcome, admitted = admitted, Admitted(())
        else:
            outcome = looks.look(admitted.adapters[0])
        called = outcome is None
        if outcome is None:
            self._fence("call")
            for one in looks.left:
                self._late(one.delivery, started)
            if delivery.digest:
                work.meter.digest(delivery.channel, len(looks.left))
            log.info("calling", extra=context)
            await self._observer.stage(Stage.CALLED, partition, 1)
            with work.meter.in_flight(delivery.channel):
                outcome = await self._routes.through(
                    delivery.channel, admitted, lambda by: self._send(partition, looks.left, by), looks.look
                )
            await self._observer.stage(Stage.ANSWERED, partition, 1)
        ended = work.clock()
        if called:
            for one in looks.left:
                work.meter.lateness(Stage.ANSWERED, delivery.channel, (ended - one.delivery.due_at) / 1000)
        provider = outcome.provider or adapter.name
        work.meter.call(delivery.channel, provider, (ended - started) / 1000)
        work.meter.outcome(delivery.channel, provider, outcome.kind)
        if outcome.reason == UNKNOWN_CODE:
            work.meter.unknown_code(delivery.channel, provider)
        log.info(
            "called", extra=context | {"outcome": outcome.kind.value, "reason": outcome.reason, "code": outcome.code}
        )
        done = looks.ended(uncounted(admitted, outcome), started, ended, work.prices)
        first, *others = self._traced_anew(partition, members, looks, done)
        self._used[delivery.channel] -= 1
        # One who is left speaks for all: they have the address in common.
        told = self._told(looks.left[0].delivery, looks.left[0].message, outcome, ended)
        if self._ours(partition):
            speaks = looks.left[0].message.address
            word = Ended(
                first.key,
                first.delivery,
                first.answer,
                outcome.gone,
                told,
                speaks,
                tuple(others),
                body_hash=first.body_hash,
            )
            self.backlogs.give(partition, [Word(word)])
        else:
            # The partition has a new owner, who knows the attempt only as begun: this is all it can ever learn.
            await self._publish([*(work.answered(one.answer) for one in (first, *others)), *told])
            self._open.difference_update(one.key for one in members)
        if self.accepting:
            self._call_out(delivery.channel, 1)

    def _traced_anew(self, partition: int, members: Sequence[Member], looks: "_Looks", done: list[Done]) -> list[Done]:
        """Return what became of each, with the hash of what was sent where some were left out after they were on
        record: the words are of those who were left."""
        if len(looks.left) == len(members) or all(one.answer.outcome is not OutcomeKind.MAYBE_SENT for one in done):
            return done
        traces = self._traces(_Stored(self._store(), partition), looks.left)
        return [replace(one, body_hash=traces.get(one.key, {}).get("body_hash", "")) for one in done]

    def _late(self, delivery: Delivery, started: int) -> None:
        """Measure how late a call begins."""
        meter = self._work.meter
        if delivery.stages is not None:
            meter.lateness(Stage.QUEUED, delivery.channel, (delivery.stages.queued_at - delivery.due_at) / 1000)
        meter.lateness(Stage.CALLED, delivery.channel, (started - delivery.due_at) / 1000)

    def _ours(self, partition: int) -> bool:
        """Return whether the partition's worker may still write: until it is given up, then again once it is
        assigned."""
        return not self.given_up and (not self.accepting or self._owns(partition))

    def _last_look(
        self, partition: int, key: bytes, delivery: Delivery, address: str, adapter: ChannelAdapter, now: int
    ) -> Outcome | None:
        """Return why the call must not begin, None if it may."""
        if not self.accepting:
            return Outcome(OutcomeKind.HELD, "stopping", adapter.name, retry_after_s=0, reached=False)
        if not self._control.fresh():
            # Whoever cannot know of a hold begins no call.
            return Outcome(OutcomeKind.HELD, "control_unknown", adapter.name, retry_after_s=1, reached=False)
        record = self._control.holding(
            Subject(delivery.channel.value, adapter.name, delivery.category, delivery.tenant, delivery.source)
        )
        if record is not None:
            # Its release lets it go, a channel's too: what goes by the recipient's order has no channel to wait for.
            wait_ms = (record.ends_at or now + self._work.review_ms) - now
            reason = holding.reason(record.scope)
            return Outcome(OutcomeKind.HELD, reason, adapter.name, retry_after_s=wait_ms / 1000, reached=False)
        raw = self._store().get_rows(partition, [key])[0]
        row = codec.decode(RecipientDelivery, raw[index.HEADER.size :]) if raw is not None else None
        if row is None or delivery.ask <= row.withdrawn:
            return Outcome(OutcomeKind.SKIPPED, "withdrawn", adapter.name, reached=False)
        if delivery.deadline and delivery.deadline <= now:
            return Outcome(OutcomeKind.SKIPPED, "expired", adapter.name, reached=False)
        if (why := self._not_now(partition, delivery, adapter, now)) is not None:
            return why
        suppressions = self._work.suppressions
        if suppressions is not None and not suppressions.fresh():
            # Whoever cannot know of a STOP begins no call.
            return Outcome(OutcomeKind.HELD, "suppressions_unknown", adapter.name, retry_after_s=1, reached=False)
        if suppressed := self._work.suppressed(delivery.channel, address, delivery.category):
            return Outcome(OutcomeKind.OPTED_OUT, suppressed, adapter.name, reached=False)
        if not self._work.send_only_to.allows(delivery.channel, address):
            # The gate looked too: by the list of a worker that was set up otherwise, perhaps.
            return Outcome(OutcomeKind.SKIPPED, NOT_ON_LIST, adapter.name, reached=False)
        return None

    def _may_have(self, delivery: Delivery, address: str) -> bool:
        """Return whether a further device may have a message, by the lists of this moment."""
        work = self._work
        return work.send_only_to.allows(delivery.channel, address) and not work.suppressed(
            delivery.channel, address, delivery.category
        )

    def _told(self, delivery: Delivery, message: Message, outcome: Outcome, now: int) -> tuple[Out, ...]:
        """Return what others must know of how a call ended."""
        suppress = self._suppression(delivery, message, outcome, now)
        told = (suppress,) if suppress is not None else ()
        if self._work.replies is not None and (outcome.kind in _NOT_SENT or outcome.kind is OutcomeKind.DEFERRED):
            told = (*told, *self._work.replies.taken_back(delivery, message.address, now))
        return told

    def _suppression(self, delivery: Delivery, message: Message, outcome: Outcome, now: int) -> Out | None:
        """Return the record that lets nobody use the address again, where its provider says so."""
        suppressions = self._work.suppressions
        if suppressions is None or not outcome.reached:
            return None
        if outcome.kind is OutcomeKind.OPTED_OUT:
            reason = STOP
        elif outcome.kind is OutcomeKind.UNDELIVERABLE and outcome.blames_address:
            reason = BOUNCED
        else:
            return None
        return suppressions.record(delivery.channel, message.address, reason, now, outcome.provider)

    def _not_now(self, partition: int, delivery: Delivery, adapter: ChannelAdapter, now: int) -> Outcome | None:
        """Return what the recipient has said, or the hour has become, since the gate let the delivery pass."""
        category = self._work.categories.of(delivery.category)
        profile = RecipientProfile()
        if delivery.recipient_id:
            raw = self._store().get_rows(partition, [ids.profile_key(delivery.recipient_id)])[0]
            if raw is not None:
                profile = profiles.known(raw[index.HEADER.size :])
        if forgetting.asked_before(profile, delivery.asked_at):
            return Outcome(OutcomeKind.SKIPPED, "erased", adapter.name, reached=False)
        match consent.look(profile, delivery.category, category, delivery.channel, now):
            case consent.Refused(reason):
                return Outcome(OutcomeKind.OPTED_OUT, reason, adapter.name, reached=False)
            case consent.Held(reason, until):
                wait_s = (until - now) / 1000
                return Outcome(OutcomeKind.HELD, reason, adapter.name, retry_after_s=wait_s, reached=False)
            case None:
                return None

    def _picks(self, one: Member) -> Affordable | None:
        """Return what picks the providers by which a message costs no more than it may, None where it may cost
        anything."""
        return partial(self._affordable, one.delivery, one.message) if one.delivery.max_cost_micros else None

    def _affordable(
        self, delivery: Delivery, message: Message, adapters: tuple[ChannelAdapter, ...]
    ) -> tuple[ChannelAdapter, ...]:
        """Return the providers by which a message costs no more than it may."""
        cap = delivery.max_cost_micros
        return tuple(one for one in adapters if not prices.beyond(cap, self._cost(delivery, message, one)))

    def _cost(
        self, delivery: Delivery, message: Message, adapter: ChannelAdapter, send: Send | None = None
    ) -> int | None:
        """Return what a message costs by a provider, in micros, all its parts; None where nobody knows."""
        micros = self._work.prices.of(delivery.channel, adapter.name, message.address)
        if not micros or not isinstance(adapter, Metered):
            return micros
        return micros * adapter.units(send or self._outgoing(delivery, message, adapter.name))

    def _outgoing(
        self,
        delivery: Delivery,
        message: Message,
        provider: str,
        others: Sequence[Delivery] = (),
        bounce: str = "",
    ) -> Send:
        """Return what the adapter of a provider is given. ``others``: those that the message is of, too."""
        replies, work = self._work.replies, self._work
        every = (delivery, *others)
        return Send(
            channel=delivery.channel,
            address=message.address,
            token=ids.provider_token(delivery.digest or delivery.delivery_id),
            bounce=bounce,
            reference=work.references.seal(
                ids.attempt_ids([ids.attempt_id(one.delivery_id, one.attempt) for one in every])
            ),
            attempt=delivery.attempt,
            created_ms=delivery.due_at,
            due_ms=delivery.due_at,
            deadline_ms=min((one.deadline for one in every if one.deadline), default=0),
            name=message.name,
            title=message.title,
            text=message.text,
            html=message.html,
            data=message.data,
            locale=message.locale,
            category=delivery.category,
            tenant=delivery.tenant,
            correlation_id=delivery.correlation_id,
            reminder_id=delivery.reminder_id,
            occurrence=delivery.occurrence,
            recipient_id=delivery.recipient_id,
            also=tuple(address for address in message.also if self._may_have(delivery, address)),
            last_inbound_ms=max(
                message.last_inbound_at,
                replies.wrote(delivery.channel, message.address, provider) if replies else 0,
            ),
            reply_hint=replies.hint(delivery) if replies else "",
            **work.mail_links.of(delivery, message.address, work.categories.of(delivery.category)),
        )

    async def _send(self, partition: int, members: Sequence[Member], adapter: ChannelAdapter) -> Outcome:
        delivery, message = members[0].delivery, self._said(_Stored(self._store(), partition), members)
        bounce = ""
        # The address names all of its record: where some were left out, nothing that comes back must be told to them.
        whole = len(members) == members[0].of
        if delivery.channel is Channel.EMAIL and members[0].offset >= 0 and whole:
            bounce = self._work.bounces.local(partition, members[0].offset, delivery.delivery_id)
        send = self._outgoing(delivery, message, adapter.name, [one.delivery for one in members[1:]], bounce)
        try:
            async with asyncio.timeout(adapter.call_timeout_s):
                outcome = await adapter.send(send)
        except TimeoutError:
            outcome = Outcome(OutcomeKind.MAYBE_SENT, "call_timeout", adapter.name)
        except Exception as exc:  # noqa: BLE001  # a bug of ours says nothing of what has been sent
            log.error("the adapter %s raised: %s", adapter.name, raised_at(exc))
            outcome = Outcome(OutcomeKind.MAYBE_SENT, "bug", adapter.name, code=type(exc).__name__)
        if outcome.kind is OutcomeKind.MAYBE_SENT and adapter.repeatable:
            # Whoever got it knows the second copy by its token, so nobody need decide.
            return replace(outcome, kind=OutcomeKind.DEFERRED)
        if self._work.prices and outcome.kind in REACHED and not outcome.cost_micros:
            return replace(outcome, cost_micros=self._cost(delivery, message, adapter, send) or 0)
        return outcome

    def _said(self, rows: Rows, members: Sequence[Member]) -> Message:
        """Return what is said: of several who are left by now, all of them in one message."""
        first, work = members[0].delivery, self._work
        if len(members) == 1:
            return members[0].message
        raw = rows.get(ids.profile_key(first.recipient_id))
        profile = profiles.known(raw[index.HEADER.size :]) if raw is not None else RecipientProfile()
        several = [(one.delivery, one.message) for one in members]
        category = work.categories.of(first.category)
        return wording.together(work.templates, first.channel, several, category, profile, work.foot)

    # -- commands

    def said(self, word: Word) -> Job:
        """Return the job of a call's outcome."""
        ended = word.body
        if isinstance(ended, Looked):
            return self._looked(ended)
        if not isinstance(ended, Ended):
            raise TypeError("delivery knows no other words than the end of a call, and of a look")
        work = self._work

        def run(view: View, now: int) -> Decision:
            done = ended.all
            after = (lambda: self._open.difference_update(one.key for one in done),)
            rows, told = self._forget(view, ended, now)
            emits = []
            for one in done:
                row, answer = work.delivery(view, one.key), one.answer
                if row is None:
                    emits.append(work.answered(answer))
                    continue
                # The ask may have been renewed while the call went on; core knows the attempt by the last one.
                answer = replace(answer, ask=max(answer.ask, row.ask))
                answer = self._doubted(row, one.key, answer, ended.address, one.delivery.deadline)
                emits.append(work.answered(answer))
                row = deliveries.ended(row, one.delivery.attempt, answer, now, body_hash=one.body_hash)
                if deliveries.owes_withdrawal(row):
                    emits.append(work.answered(deliveries.withdrawn(row, one.delivery.correlation_id, now)))
                rows[one.key] = work.remembered(row, now)
            if rows.keys() & {one.key for one in done} and all(one.answer.outcome in _NOT_SENT for one in done):
                rows = rows | self._uncounted(view, ended.delivery)
            return Decision(rows, (*emits, *told, *ended.more), after)

        keys, recipient_id = [one.key for one in ended.all], ended.delivery.recipient_id
        return Job((*keys, ids.profile_key(recipient_id)) if ended.gone and recipient_id else keys, run)

    def _doubted(
        self, row: RecipientDelivery, key: bytes, answer: DeliveryAnswer, address: str = "", deadline: int | None = None
    ) -> DeliveryAnswer:
        """Return an answer with the time before which nothing is sent again, where its provider is asked first."""
        known = deliveries.attempt_of(row, answer.attempt)
        traced = known is not None and bool(known.to_hash)
        if answer.outcome is OutcomeKind.MAYBE_SENT:
            if address:
                self.lookups.doubted(key, address)
            askable = traced and self.lookups.adapter(answer.channel, answer.provider) is not None
            return lookup.told(answer, askable=askable, deadline=deadline)
        if traced and answer.provider_id:
            self.lookups.took(answer.digest.encode() or key, answer.provider_id)
        return answer

    def _looked(self, looked: Looked) -> Job:
        """Return the job of what a provider said of a doubt."""
        work = self._work

        def run(view: View, now: int) -> Decision:
            row = work.delivery(view, looked.key)
            attempt = deliveries.attempt_of(row, looked.attempt) if row is not None else None
            said = attempt.outcome if attempt is not None else None
            if row is None or said is None or said.outcome is not OutcomeKind.MAYBE_SENT:
                return NOTHING
            answer = replace(said, ask=max(said.ask, row.ask), ended_at=now, not_before=0, provider=looked.provider)
            if looked.found is None:
                not_found = replace(answer, reason=lookup.NOT_FOUND, detail="", code="")
                return Decision({}, (work.answered(not_found),))
            if looked.counts:
                work.meter.outcome(row.channel, looked.provider, OutcomeKind.ACCEPTED)
            answer = replace(
                answer,
                outcome=OutcomeKind.ACCEPTED,
                reason=lookup.FOUND,
                provider_id=looked.found.provider_id,
                code="",
                detail=_costing(f"on its list as {looked.found.provider_id}", looked.cost_micros, work.prices),
                cost_micros=looked.cost_micros,
            )
            row = deliveries.ended(row, looked.attempt, answer, now)
            return Decision({looked.key: work.remembered(row, now)}, (work.answered(answer),))

        return Job((looked.key,), run)

    def _look(self, view: View, key: bytes, row: RecipientDelivery, now: int) -> Decision | None:
        """Return what begins a look that is due, None where none is."""
        work, attempt = self._work, lookup.to_look(row, now)
        if attempt is None:
            return None
        try:
            profile = work.profile(view, row.recipient_id)
        except Unopened:
            profile = None
        contacts = profile.contacts if profile is not None else ()
        address = self.lookups.address(
            key, row, attempt, tuple(c.address for c in contacts if c.channel is row.channel)
        )
        after: tuple[Callable[[], None], ...] = ()
        # Nobody is asked about somebody who wants to be forgotten.
        if address and not (profile is not None and profile.erased):
            partition = partition_of((row.recipient_id or row.reminder_id).encode(), work.partitions)
            others, counts = _others(view, key, row, attempt)
            doubt = Doubt(partition, key, row, attempt, address, others, counts)
            after = (lambda: self.lookups.begin(doubt),)
        return Decision({key: work.remembered(lookup.looked(row, attempt), now)}, after=after)

    def _found_out(self, partition: int, looked: Looked) -> None:
        if self._ours(partition):
            self.backlogs.give(partition, [Word(looked)])

    def _shut(self, channel: Channel, adapter: Reconciling) -> bool:
        """Return whether a provider must not be asked now: its circuit is open, or somebody holds it back."""
        return self._control.holding(Subject(channel.value, adapter.name)) is not None or self._routes.shut(
            channel, adapter.name
        )

    def _moot(self, partition: int, recipient_id: str) -> bool:
        """Return whether nobody is to be asked about somebody: they have been erased, by the row of this moment, or the
        partition is another worker's."""
        if not self._ours(partition):
            return True
        if not recipient_id:
            return False
        raw = self._store().get_rows(partition, [ids.profile_key(recipient_id)])[0]
        return raw is not None and profiles.known(raw[index.HEADER.size :]).erased

    def _forget(self, view: View, ended: Ended, now: int) -> tuple[dict[bytes, bytes | None], tuple[Out, ...]]:
        """Return what takes addresses that are gone from the recipient's contacts."""
        work, delivery = self._work, ended.delivery
        if not ended.gone:
            return {}, ()
        try:
            before = work.profile(view, delivery.recipient_id)
        except Unopened:
            # The next message to it will tell again.
            return {}, ()
        if before is None:
            return {}, ()
        after = recipients.forget(before, delivery.channel, ended.gone, ended.answer.started_at)
        if after is None:
            return {}, ()
        log.info(
            "contact forgotten",
            extra={"delivery": delivery.delivery_id, "channel": delivery.channel.value, "reason": ended.answer.reason},
        )
        told, emits = gate.tell_links(work, view, delivery.recipient_id, before, after, now)
        return told | {ids.profile_key(delivery.recipient_id): work.kept(delivery.recipient_id, after)}, emits

    def _uncounted(self, view: View, delivery: Delivery) -> dict[bytes, bytes | None]:
        """Return the row that no longer counts a delivery of which nothing was sent, if anything counts it."""
        sends = self._work.sends(view, delivery.recipient_id)
        token = ids.provider_token(delivery.digest or delivery.delivery_id)
        left = caps.forgotten(sends, token) if sends is not None else None
        if left is None:
            return {}
        return {ids.sends_key(delivery.recipient_id): self._work.written(left, caps.due(left)) if left.passed else None}

    def fired(self, key: bytes) -> Job:
        """Return the job of a row whose time has come: a call in doubt, or a record to purge."""
        work = self._work
        if key.startswith(b"g/"):
            return digests.fired(work, key, partial(gate.judged, work), self.caught_up)

        def run(view: View, now: int) -> Decision:
            if not key.startswith(b"d/"):
                raw = view.get(key)
                return Decision({key: None}) if raw is not None and 0 < index.unpack(raw).due_ms <= now else NOTHING
            row = work.delivery(view, key)
            raw = view.get(key)
            if row is None or raw is None or index.unpack(raw).due_ms > now:
                return NOTHING
            late = deliveries.overdue(row, now)
            if late is None:
                return self._look(view, key, row, now) or Decision({key: None})
            if key in self._open:
                # It is our own, and its hard limit will end it: look again then.
                return Decision({key: work.written(row, now + GRACE_MS)})
            adapter = work.adapters.get(row.channel)
            answer = deliveries.doubt(row, late, now, repeatable=adapter is not None and adapter.repeatable)
            answer = self._doubted(row, key, answer)
            work.meter.outcome(row.channel, "", answer.outcome)
            emits = [work.answered(answer)]
            row = deliveries.ended(row, late.attempt, answer, now)
            if deliveries.owes_withdrawal(row):
                emits.append(work.answered(deliveries.withdrawn(row, "", now)))
            return Decision({key: work.remembered(row, now)}, tuple(emits))

        return Job((key,), run)

    # -- partitions come and go

    def resume(self) -> None:
        """Begin calls again: the rebalance is over."""
        self.accepting, self.given_up = True, False
        self.summon()

    def summon(self) -> None:
        """Call what waits for the slots that are free."""
        for channel, adapter in self._work.adapters.items():
            self._call_out(channel, self._work.concurrency(adapter) - self._used[channel])

    def _next(self, channel: Channel) -> None:
        """Give the turn on: what was called for a free slot has not used it."""
        if self.accepting and self._used[channel] < self._work.concurrency(self._work.adapters[channel]):
            self._call_out(channel, 1)

    def _call_out(self, channel: Channel, slots: int) -> None:
        """Call what waits for the slots of a channel, urgent before normal before bulk."""
        for lane in Lane:
            if slots <= 0:
                return
            slots -= self.backlogs.call(room_of(channel, lane), slots)

    async def drain(self, limit_s: float) -> None:
        """Begin no call any more and wait for those in flight, up to ``limit_s``; what outlives it publishes its own
        outcome."""
        self.accepting = False
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=limit_s)
        await self.lookups.drain(0)


@dataclass(frozen=True, slots=True)
class _Stored:
    """The rows of a partition as they stand in the store."""

    store: Store
    partition: int

    def get(self, key: bytes) -> bytes | None:
        """Return a row."""
        return self.store.get_rows(self.partition, [key])[0]


class _Looks:
    """The last looks at those who go in one message: who may still go, and why the others may not."""

    def __init__(self, members: tuple[Member, ...], why: Callable[[Member, ChannelAdapter], Outcome | None]) -> None:
        self._members = members
        self._why = why
        self.left = members
        self._refused: dict[bytes, Outcome] = {}
        #: The refusals of those who were the last, and went nowhere.
        self._last: dict[bytes, Outcome] = {}

    def look(self, by: ChannelAdapter) -> Outcome | None:
        """Return why the call must not begin, None if it may: for whoever is left."""
        whys = {one.key: self._why(one, by) for one in self.left}
        going = tuple(one for one in self.left if whys[one.key] is None)
        refused = {key: why for key, why in whys.items() if why is not None}
        if not going:
            self._last = refused
            return refused[self.left[0].key]
        self._refused |= refused
        self.left = going
        return None

    def ended(self, outcome: Outcome, started: int, ended: int, table: Prices) -> list[Done]:
        """Return what became of each: of those who were left by the call, of the others before it. What it cost stands
        once."""
        done = []
        for one in self._members:
            own = self._refused.get(one.key) or self._last.get(one.key) or outcome
            paid = own if one is self.left[0] else replace(own, cost_micros=0)
            said = _answer(one.delivery, paid, started, ended, table)
            if own is outcome and one.delivery.digest:
                said = replace(said, digest=one.delivery.digest, detail=_among(said.detail, len(self.left)))
            done.append(Done(one.key, one.delivery, said))
        return done


def _others(view: View, key: bytes, row: RecipientDelivery, attempt: Attempt) -> tuple[frozenset[str], bool]:
    """Return the provider's ids of a recipient's other messages, as their rows have them: whoever took over the
    partition knows them by nothing else. And whether no other delivery in the same message comes before this one, so
    that the message is counted with it."""
    digest = attempt.outcome.digest if attempt.outcome is not None else ""
    found: set[str] = set()
    first = True
    for other, theirs in rows_of(view, row.recipient_id, row.reminder_id):
        if other == key:
            continue
        for said in (a.outcome for a in theirs.attempts if a.outcome is not None):
            if digest and said.digest == digest:
                first = first and key < other
            elif said.provider_id:
                found.add(said.provider_id)
    return frozenset(found), first


def _among(detail: str, count: int) -> str:
    return "; ".join(part for part in (detail, f"{count} in one message" if count > 1 else "") if part)


def _members(record: Inbound) -> Iterator[Member]:
    """Yield the deliveries that a record of a channel topic is about. Raises Undecodable."""
    first = codec.decode(Delivery, record.value or b"")
    others = (codec.decode(Delivery, raw) for raw in first.together)
    # A record has the time at which it was put into its batch, right after the gate's decision.
    queued = round(record.timestamp * 1000)
    for one in (first, *others):
        delivery = replace(one, stages=replace(one.stages or Stages(one.due_at), queued_at=queued), together=())
        key = ids.delivery_key(one.recipient_id, one.reminder_id, one.delivery_id)
        yield Member(key, delivery, codec.decode(Message, one.sealed.body), record.offset, 1 + len(first.together))


def _both(one: Decision, other: Decision) -> Decision:
    """Return two decisions on one input as one. Of what waits in a room nothing is written: it is looked at again."""
    return replace(
        one,
        rows={**one.rows, **other.rows},
        emits=(*one.emits, *other.emits),
        after=(*one.after, *other.after),
        park=other.park,
    )


def _answer(delivery: Delivery, outcome: Outcome, started: int, ended: int, table: Prices) -> DeliveryAnswer:
    retry_after = outcome.retry_after_s
    unspent = outcome.kind is OutcomeKind.MISCONFIGURED or not outcome.reached
    return deliveries.answer(
        delivery,
        delivery.delivery_id,
        outcome.kind,
        outcome.reason,
        ended,
        channel=delivery.channel,
        provider=outcome.provider,
        provider_id=outcome.provider_id,
        code=outcome.code,
        detail=_detail(outcome, delivery, table),
        not_before=ended + int(retry_after * 1000) if retry_after is not None else 0,
        spent=not unspent,
        more=delivery.more,
        cost_micros=outcome.cost_micros,
        started_at=started,
    )


def _detail(outcome: Outcome, delivery: Delivery, table: Prices) -> str:
    """Return what is told of a call: with the version of the template that it was rendered with, why this channel was
    chosen, and what it costs."""
    parts = (outcome.detail, f"template {delivery.template}" if delivery.template else "", delivery.chosen)
    return _costing("; ".join(part for part in parts if part), outcome.cost_micros, table)


def _costing(said: str, micros: int, table: Prices) -> str:
    """Return what is told of a call, with its cost, if it has one."""
    return "; ".join(part for part in (said, f"cost {table.words(micros)}" if micros else "") if part)
