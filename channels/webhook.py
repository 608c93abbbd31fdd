"""Webhooks out: one signed request for each message, an outcome for whatever the receiver says.

The receiver knows a second copy by its ``webhook-id``, so a call without an answer is made again. URLs come from
others: where a connection leads is looked at when it is made. No URL, text or secret gets into a log or an outcome.
"""

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass

from channels import webhook_rules
from channels.base import Outcome, Send
from channels.egress import guard
from channels.fit import fit
from channels.http_answers import Failure, Meaning
from channels.http_call import HttpCaller, trusted
from channels.retry import BUSY
from channels.webhook_rules import Endpoint, Reason, endpoint, judged, mask, payload, unanswered
from channels.webhook_settings import WebhookSettings
from schemas.names import Channel, OutcomeKind

__all__ = ["WebhookChannel", "WebhookSettings"]

log = logging.getLogger(__name__)

PROVIDER = "webhook"
#: What a call may take besides its request: signing, and the wait for the loop.
SLACK_S = 5.0
#: How long a message waits for a receiver that has all the calls that it may have.
BUSY_S = 1.0


@dataclass(frozen=True, slots=True)
class Ended:
    """What a call came to: its meaning, the status and the wait that the receiver asked for, where there was one."""

    meaning: Meaning
    status: int = 0
    retry_after_s: float | None = None


class WebhookChannel:
    """The webhook adapter (``ChannelAdapter``)."""

    name = PROVIDER
    channel = Channel.WEBHOOK
    repeatable = True

    def __init__(self, settings: WebhookSettings) -> None:
        self._settings = settings
        self._callers: dict[str, HttpCaller] = {}
        self._busy: Counter[str] = Counter()

    @property
    def concurrency(self) -> int:
        """How many receivers may be waited for at once."""
        return self._settings.concurrency

    @property
    def call_timeout_s(self) -> float:
        """Hard limit of one ``send``, which the caller keeps by cancelling it."""
        return self._settings.timeout_s + SLACK_S

    async def open(self) -> None:
        """Read certificates; raises ``OSError`` where a file of them cannot be used. Makes no connection."""
        settings = self._settings
        # In clear only where somebody has said that this very address is ours.
        for scheme, egress in (("https", settings.egress), ("http", settings.egress.only_permitted())):
            self._callers[scheme] = HttpCaller(
                connections=settings.concurrency,
                connect_timeout_s=settings.connect_timeout_s,
                timeout_s=settings.timeout_s,
                ca_file=settings.ca_file,
                more_trust=True,
                socket_factory=guard(egress),
            )
            try:
                await self._callers[scheme].open()
            except OSError as wrong:
                raise OSError(f"{PROVIDER}: {wrong}") from None

    async def close(self) -> None:
        """Close every connection."""
        callers, self._callers = self._callers, {}
        for caller in callers.values():
            await caller.close()

    async def send(self, message: Send) -> Outcome:
        """Send one message and say what became of it."""
        return await self.call(message, webhook_rules.DUE)

    async def call(self, message: Send, kind: str) -> Outcome:
        """Send one message of a kind."""
        if not self._callers:
            raise RuntimeError("the channel is not open")
        receiver = endpoint(message.address)
        ended = Ended(Meaning(OutcomeKind.UNDELIVERABLE, Reason.BAD_URL, reached=False, blames_address=True))
        if receiver is not None:
            ended = await self._deliver(receiver, message, kind)
        outcome = _outcome(ended, message)
        log.info(
            "webhook call",
            extra={
                "correlation_id": message.correlation_id,
                "message_token": message.token,
                "attempt": message.attempt,
                "channel": Channel.WEBHOOK.value,
                "provider": PROVIDER,
                "masked_address": mask(message.address),
                "outcome": outcome.kind.value,
                "reason": outcome.reason,
                "code": outcome.code,
            },
        )
        return outcome

    async def probe(self) -> str:
        """Return what is ready; receivers are asked by ``webhook test``. Raises ``OSError`` where files are wrong."""
        try:
            await asyncio.to_thread(trusted, self._settings.ca_file, more=True)
        except OSError as wrong:
            raise OSError(f"{PROVIDER}: {wrong}") from None
        keys = len(self._settings.keys)
        inner = f", inner addresses: {self._settings.allow}" if self._settings.allow else ""
        return f"{PROVIDER}: ready, {keys} key{'s' if keys > 1 else ''}{inner}"

    async def _deliver(self, receiver: Endpoint, message: Send, kind: str) -> Ended:
        settings = self._settings
        if receiver.scheme == "http" and not settings.egress.permits:
            return Ended(Meaning(OutcomeKind.UNDELIVERABLE, Reason.HTTP_NOT_ALLOWED, reached=False))
        body = fit(lambda text: payload(message, text, kind), message.text, settings.max_body, settings.too_long)
        if body is None:
            return Ended(Meaning(OutcomeKind.REJECTED, Reason.MESSAGE_TOO_BIG, reached=False))
        if self._busy[receiver.place] >= settings.per_host:
            return Ended(Meaning(OutcomeKind.DEFERRED, BUSY, reached=False), retry_after_s=BUSY_S)
        self._busy[receiver.place] += 1
        try:
            signed = webhook_rules.headers(settings.keys, receiver.url, message.token, int(time.time()), body)
            answer = await self._callers[receiver.scheme].call("POST", receiver.url, body=body, headers=signed)
        finally:
            self._busy[receiver.place] -= 1
            if not self._busy[receiver.place]:
                del self._busy[receiver.place]
        if isinstance(answer, Failure):
            return Ended(unanswered(answer))
        meaning = judged(answer.status, answer.body if answer.whole else b"")
        later = meaning.kind is OutcomeKind.DEFERRED
        return Ended(meaning, answer.status, answer.retry_after_s if later else None)


def _outcome(ended: Ended, message: Send) -> Outcome:
    meaning = ended.meaning
    return Outcome(
        kind=meaning.kind,
        reason=str(meaning.reason),
        provider=PROVIDER,
        code=str(ended.status) if ended.status else "",
        detail=webhook_rules.explained(str(meaning.reason)),
        retry_after_s=ended.retry_after_s,
        reached=meaning.reached,
        blames_address=meaning.blames_address,
        gone=(message.address,) if meaning.reason == Reason.GONE else (),
    )
