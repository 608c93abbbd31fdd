"""What follows from what people write to us, and from news of messages, whichever provider brings them.

All of it is with the brokers before the provider is answered. The same may come twice and in any order: what follows
does not mind.
"""

import logging
import math
import time
from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple, assert_never

from agents.replies import FIRST
from agents.suppressions import STOP as SAID_STOP
from app.web.ports import CallbackPorts, Outgoing, Outlet, Unsent
from channels import answers, cloud_news
from channels.news import Heard, News
from channels.stop import Word, word
from schemas import codec, ids
from schemas.names import Action, Channel
from schemas.records import DeliveryReceipt, ReminderEvent
from schemas.references import References

log = logging.getLogger(__name__)

#: Who acts where a recipient answered.
RECIPIENT = "recipient"
#: Those on whose numbers people write on WhatsApp: a STOP to one holds for all.
_WHATSAPP = (FIRST, cloud_news.PROVIDER)


class Named(NamedTuple):
    """What a sealed reference names. ``attempt`` 0: only the delivery."""

    delivery: str
    attempt: int
    reminder_id: str
    occurrence: str


def named(references: References, reference: str) -> list[Named]:
    """Return what a reference names: a delivery, or all that went in one message; none where none of our secrets sealed
    it."""
    several = []
    for delivery, attempt in ids.attempts_named(references.open(reference) or ""):
        found = ids.named(delivery)
        if found is None:
            return []
        several.append(Named(delivery, attempt, *found))
    return several


def receipt(about: Named, news: News, provider: str) -> Outgoing:
    """Return the record of news of an attempt."""
    record = DeliveryReceipt(
        about.reminder_id,
        about.delivery,
        news.outcome,
        time.time_ns() // 1_000_000,
        provider=provider,
        provider_id=news.provider_id,
        code=news.code,
        detail=news.reason,
        attempt=about.attempt,
    )
    return Outgoing(about.reminder_id.encode(), codec.encode(record))


class Hearing:
    """Takes what people write. ``reminders``: where their answers go, as events."""

    def __init__(self, ports: CallbackPorts, reminders: Outlet) -> None:
        self._ports = ports
        self._reminders = reminders

    async def heard(self, said: Heard) -> str:
        """Return what is to be written back, empty for nothing: STOP ends all messages to that address, START lets them
        begin again unless the same number has written since, HELP is answered, and a word of consent acknowledges the
        message that waits for it. Raises Unsent where it is to be sent again."""
        ports, channel, number = self._ports, said.channel, said.number
        if not number:
            return ""
        meant = _meant(said)
        now = time.time_ns() // 1_000_000
        if channel is Channel.WHATSAPP:
            at = min(said.at, now) if said.at else now
            await ports.replies.send([Outgoing(*ports.waits.came(channel, number, at, said.provider))])
        log.info("an answer came", extra={"channel": channel.value, "keyword": meant.value})
        match meant:
            case Word.STOP:
                noted = ports.desk.record(channel, number, SAID_STOP, now, source=said.provider)
                await ports.suppressions.send([Outgoing(noted.key, noted.value)])
                return ""
            case Word.HELP:
                return "" if said.understood else ports.help
            case Word.START:
                # YES is one of its words, and an answer as well.
                if self._overtaken(said):
                    log.info("a START is passed over: its writer has written since")
                else:
                    lifted = ports.desk.lifted(channel, number)
                    await ports.suppressions.send([Outgoing(one.key, one.value) for one in lifted])
                return await self._answered(said)
            case Word.NONE:
                return await self._answered(said)
            case other:
                assert_never(other)

    async def all_heard(self, every: Iterable[Heard]) -> list[tuple[str, str]]:
        """Return what is to be written back and to which number, once all of it is with the brokers: nothing to one
        whose STOP is among it. What was written first is heard first."""
        in_order = sorted(every, key=lambda said: said.at or math.inf)
        stopped = {said.number for said in in_order if _meant(said) is Word.STOP}
        back = [(said.number, await self.heard(said)) for said in in_order]
        return [(number, text) for number, text in back if text and number not in stopped]

    def _overtaken(self, said: Heard) -> bool:
        """Return whether the same number has written since: what comes again late must not undo a newer STOP. Raises
        Unsent where that is not known."""
        if said.channel is not Channel.WHATSAPP or not said.at:
            return False
        waits = self._ports.waits
        if not waits.fresh():
            raise Unsent("this worker does not know at the moment what was written last")
        return any(waits.wrote(said.channel, said.number, provider) > said.at for provider in _WHATSAPP)

    async def _answered(self, said: Heard) -> str:
        """Acknowledge the occurrence that a texted answer is about, or ask which one is meant."""
        ports = self._ports
        answer = answers.said(said.text)
        if answer is None:
            return ""
        if not ports.waits.fresh():
            # Two may wait where one is known: nobody guesses.
            raise Unsent("this worker does not know at the moment what waits for an answer")
        # A copy of an answer is about what the first one was about, though that waits no longer.
        waiting = ports.waits.waiting(said.channel, said.number)
        found = ports.waits.taken(said.name) or answers.pick(answer, waiting, said.at)
        match found:
            case answers.Waiting():
                if said.name:
                    took = ports.waits.took(said.name, found, time.time_ns() // 1_000_000)
                    await ports.replies.send([Outgoing(*took)])
                rid, name = found.reminder_id, f"reply:{said.name}:{found.code}"
                event = acknowledgement(rid, found.occurrence, found.delivery_id, name, said.provider)
                await self._reminders.send([Outgoing(rid.encode(), codec.encode(event))])
                return ""
            case answers.AskBack():
                return answers.asking_back(found)
            case None:
                return ""
            case other:
                assert_never(other)


def _meant(said: Heard) -> Word:
    """Return the keyword that a message is, as its provider understood it or as we do."""
    return word(said.understood or said.text)


def acknowledgement(reminder_id: str, occurrence: str, delivery: str, name: str, source: str) -> ReminderEvent:
    """Return the event of somebody who says that they have got it. ``delivery``: the message that they answer, which
    tells who they are; ``name``: of the answer, so that a copy of it is known as one; ``source``: who brought it."""
    return ReminderEvent(
        reminder_id,
        action=Action.ACKNOWLEDGE,
        occurrence=occurrence.rpartition("/")[0],
        event_id=sha256(name.encode()).hexdigest()[:32],
        source=source,
        actor=RECIPIENT,
        delivery_id=delivery,
    )
