"""Retract: what is out is taken back once nobody need see it any more, as well as its provider lets us.

It is done once, beside the units, and forgotten with the process: nobody waits for it. What became of it goes to core,
for the trail.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from agents import kept
from agents.delivery import Delivering
from agents.ports import NOTHING, Decision, Inbound, Job, Out, View
from agents.unit_of_work import raised_at
from channels.base import ChannelAdapter, Outcome, Retracting, Send
from schemas import ids
from schemas.names import AnswerKind, AttemptState, Channel, OutcomeKind
from schemas.quick import replace
from schemas.records import Attempt, DeliveryAnswer, DeliveryRequest, RecipientDelivery
from schemas.sealing import Unopened
from tables import retraction

log = logging.getLogger(__name__)

#: How long a message may wait at its provider, or a call ring, and so be worth the attempt, in ms. A push stays.
RECENT_MS: Mapping[Channel, int] = {
    Channel.SMS: 600_000,
    Channel.WHATSAPP: 600_000,
    Channel.VOICE: 300_000,
}
#: Retractions that go on at the same time; those beyond wait their turn.
AT_ONCE = 4
#: Retractions that wait or go on; those beyond are left undone.
MOST = 1_000
#: Devices of a person from which a push is taken back.
MAX_DEVICES = 20


@dataclass(frozen=True, slots=True)
class Message:
    """One message that is out. ``others``: the provider's word for the deliveries that went in it beside the one that
    core asks about."""

    request: DeliveryRequest
    delivery: str
    adapter: Retracting
    said: DeliveryAnswer
    devices: tuple[str, ...]
    others: tuple[DeliveryAnswer, ...] = ()


class Retractions:
    """The retractions of one worker."""

    def __init__(
        self,
        work: Delivering,
        publish: Callable[[list[Out]], Awaitable[None]],
        held: Callable[[Channel, str], bool] = lambda channel, provider: False,
    ) -> None:
        self._work = work
        self._publish = publish
        self._held = held
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def job(self, record: Inbound, request: DeliveryRequest) -> Job:
        """Return the job of a request to take a delivery back."""
        work = self._work
        delivery = ids.delivery_id(request.reminder_id, request.occurrence, request.round, request.step)
        key = ids.delivery_key(request.recipient_id, request.reminder_id, delivery)

        def run(view: View, now: int) -> Decision:
            row = work.delivery(view, key)
            said = _taken(row, now) if row is not None else None
            if row is None or said is None:
                return NOTHING
            rows: dict[bytes, bytes | None] = {}
            others: tuple[DeliveryAnswer, ...] = ()
            if said.digest:
                # Its row remembers it until the last one in the same message is over, too.
                rows[key] = work.remembered(replace(row, unwanted_at=now), now)
                found = _beside(view, key, row, said.digest, now - work.retention_ms)
                if found is None:
                    return Decision(rows)
                others = found
            adapter = self._adapter(said)
            if adapter is None or self._held(said.channel, said.provider):
                return Decision(rows)
            devices: tuple[str, ...] = ()
            if said.channel is Channel.PUSH:
                try:
                    profile = work.profile(view, request.recipient_id)
                except Unopened:
                    return Decision(rows)
                contacts = profile.contacts if profile is not None else ()
                devices = tuple(c.address for c in contacts if c.channel is Channel.PUSH)[:MAX_DEVICES]
                if not devices:
                    return Decision(rows)
            out = Message(request, delivery, adapter, said, devices, others)
            return Decision(rows, (), after=(lambda: self.begin(out),))

        keys = (key, ids.profile_key(request.recipient_id)) if request.recipient_id else (key,)
        return Job(keys, run, record)

    def _adapter(self, said: DeliveryAnswer) -> Retracting | None:
        """Return the provider that has a message, None where it cannot take it back."""
        work = self._work
        there: tuple[ChannelAdapter, ...] = tuple(a for c, a in work.adapters.items() if c is said.channel)
        for adapter in (*there, *work.spares.get(said.channel, ())):
            if adapter.name == said.provider and isinstance(adapter, Retracting):
                return adapter
        return None

    def begin(self, out: Message) -> None:
        """Begin to take a message back."""
        if len(self._tasks) >= MOST:
            log.warning("a message is not taken back: too many wait", extra={"delivery": out.delivery})
            return
        task = asyncio.create_task(self._retract(out))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self, limit_s: float) -> None:
        """Wait for those that go on, up to ``limit_s``."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=limit_s)

    async def _retract(self, out: Message) -> None:
        async with self._turn:
            outcome = await self._called(out)
            log.info(
                "retracted",
                extra={
                    "delivery": out.delivery,
                    "channel": out.said.channel.value,
                    "provider": out.said.provider,
                    "outcome": outcome.kind.value,
                    "reason": outcome.reason,
                    "code": outcome.code,
                },
            )
            request = out.request
            answer = DeliveryAnswer(
                AnswerKind.RETRACTED,
                request.reminder_id,
                out.delivery,
                request.occurrence,
                request.round,
                request.step,
                digest=out.said.digest,
                outcome=outcome.kind,
                reason=outcome.reason,
                channel=out.said.channel,
                provider=out.said.provider,
                code=outcome.code,
                ended_at=self._work.clock(),
                correlation_id=request.correlation_id,
            )
            answers = [
                answer,
                *(
                    replace(
                        answer,
                        reminder_id=other.reminder_id,
                        delivery_id=other.delivery_id,
                        occurrence=other.occurrence,
                        round=other.round,
                        step=other.step,
                        correlation_id=other.correlation_id,
                    )
                    for other in out.others
                ),
            ]
            try:
                await self._publish([self._work.answered(one) for one in answers])
            except Exception as exc:  # noqa: BLE001  # the units end the process where the brokers are gone
                log.warning("what became of a retraction is not told: %s", raised_at(exc))

    async def _called(self, out: Message) -> Outcome:
        send = Send(
            channel=out.said.channel,
            address=out.devices[0] if out.devices else "",
            token=ids.provider_token(out.said.digest or out.delivery),
            attempt=out.said.attempt,
            created_ms=0,
            due_ms=0,
            deadline_ms=0,
            correlation_id=out.request.correlation_id,
            also=out.devices[1:],
            reminder_id=out.request.reminder_id,
            occurrence=out.request.occurrence,
            recipient_id=out.request.recipient_id,
        )
        try:
            async with asyncio.timeout(out.adapter.call_timeout_s):
                return await out.adapter.retract(send, out.said.provider_id)
        except TimeoutError:
            return Outcome(OutcomeKind.MAYBE_SENT, "call_timeout", out.said.provider)
        except Exception as exc:  # noqa: BLE001  # a bug of ours must not end the worker for this
            log.error("the adapter %s raised: %s", out.said.provider, raised_at(exc))
            return Outcome(OutcomeKind.MAYBE_SENT, "bug", out.said.provider, code=type(exc).__name__)


def _taken(row: RecipientDelivery, now: int) -> DeliveryAnswer | None:
    """Return the provider's word that it took a delivery, None where it did not, or so long ago that it is out."""
    for attempt in reversed(row.attempts):
        said = attempt.outcome
        if attempt.state is AttemptState.ENDED and said is not None and said.outcome in _REACHED:
            return said if said.channel in retraction.CHANNELS and _recent(said.channel, attempt, now) else None
    return None


def _beside(
    view: View, key: bytes, row: RecipientDelivery, digest: str, since: int
) -> tuple[DeliveryAnswer, ...] | None:
    """Return the provider's word for the other deliveries that went in a message; None where one of them is still to be
    read, or where nobody can know: there are more than are looked at, or the row of one that was taken before ``since``
    (ms UTC) may have been purged."""
    seen, others, taken_at = 0, [], 0
    for other, theirs in kept.rows_of(view, row.recipient_id, row.reminder_id):
        seen += 1
        for attempt in theirs.attempts:
            said = attempt.outcome
            if said is None or said.digest != digest or said.outcome not in _REACHED:
                continue
            taken_at = max(taken_at, attempt.at)
            if other == key:
                continue
            if not theirs.unwanted_at:
                return None
            others.append(said)
    return tuple(others) if seen < kept.MOST and taken_at > since else None


def _recent(channel: Channel, attempt: Attempt, now: int) -> bool:
    limit = RECENT_MS.get(channel)
    return limit is None or now - attempt.at <= limit


_REACHED = frozenset({OutcomeKind.ACCEPTED, OutcomeKind.DELIVERED, OutcomeKind.READ})
