"""WhatsApp over Twilio: free text while the recipient's last message is less than 24 hours old, else a template."""

import time

import orjson

from channels.base import OnRecord, Outcome, Send
from channels.twilio_api import PROVIDER, TwilioApi, refused
from channels.twilio_codes import TwilioReason
from channels.twilio_settings import TwilioSettings
from channels.whatsapp_rules import Unsaid, words
from schemas.names import Channel, OutcomeKind
from schemas.phones import PhoneFault, e164


class WhatsAppChannel:
    """The WhatsApp adapter (``ChannelAdapter``). ``open`` makes no connection."""

    name = PROVIDER
    channel = Channel.WHATSAPP
    #: Twilio has no idempotency key for messages and calls.
    repeatable = False

    def __init__(self, settings: TwilioSettings) -> None:
        self._settings = settings
        self._api = TwilioApi(settings, self.channel)

    @property
    def concurrency(self) -> int:
        """One call a connection."""
        return self._settings.connections

    @property
    def call_timeout_s(self) -> float:
        """Hard limit of one ``send``, which the caller keeps by cancelling it."""
        return self._api.call_timeout_s

    async def open(self) -> None:
        """Read certificates; raises ``OSError`` where the file of them cannot be used."""
        await self._api.open()

    async def close(self) -> None:
        """Close every connection."""
        await self._api.close()

    async def send(self, message: Send) -> Outcome:
        """Send one message and say what became of it. A cancelled call closes its connection."""
        return self._api.told(message, await self._send(message, time.time_ns() // 1_000_000))

    async def retract(self, message: Send, provider_id: str) -> Outcome:
        """Cancel what waits at Twilio; what has left cannot be taken back."""
        return self._api.told(message, await self._api.cancel(self._api.client.messages(provider_id)))

    def words(self, message: Send) -> str:
        """Return the text as it is sent; empty for a template, whose words are made by Twilio."""
        content = self.content(message, time.time_ns() // 1_000_000)
        return content.get("body", "") if isinstance(content, dict) else ""

    async def look_up(self, address: str, since_ms: int, until_ms: int) -> tuple[OnRecord, ...] | Outcome:
        """Return what Twilio has on record for a number, sent by us between two instants (ms UTC), or why nobody can
        know."""
        number = e164(address)
        if isinstance(number, PhoneFault):
            return Outcome(OutcomeKind.UNDELIVERABLE, number.reason, PROVIDER, reached=False)
        return await self._api.listed(f"whatsapp:{number}", since_ms, until_ms)

    async def probe(self) -> str:
        """Ask for the account; raises ``OSError`` that says what is wrong."""
        return await self._api.probe("WhatsApp")

    async def _send(self, message: Send, now_ms: int) -> Outcome:
        number = self._api.number(message)
        if isinstance(number, Outcome):
            return number
        content = self.content(message, now_ms)
        if isinstance(content, Outcome):
            return content
        return await self._api.create(
            self._api.client.messages,
            to=f"whatsapp:{number}",
            from_=f"whatsapp:{self._settings.whatsapp_from}",
            status_callback=self._api.callback("status", message.reference),
            **content,
        )

    def content(self, message: Send, now_ms: int) -> dict[str, str] | Outcome:
        """Return what is sent now: free text, or a template with its variables."""
        settings = self._settings
        said = words(
            message, now_ms, settings.template(message.category), settings.variables(), settings.whatsapp_too_long
        )
        match said:
            case Unsaid.OUTSIDE_WINDOW:
                # Another channel may still reach the recipient in time; this one cannot until the recipient writes.
                return refused(TwilioReason.OUTSIDE_WINDOW, OutcomeKind.UNDELIVERABLE)
            case Unsaid():
                return refused(TwilioReason(said.value))
            case _:
                if not said.template:
                    return {"body": said.text}
                return {
                    "content_sid": said.template,
                    "content_variables": orjson.dumps(dict(said.values)).decode(),
                }
