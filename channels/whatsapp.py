"""WhatsApp over Twilio: free text while the recipient's last message is less than 24 hours old, else a template."""

import time

import orjson

from channels import limits, render
from channels.base import Outcome, Send
from channels.twilio_api import PROVIDER, TwilioApi, refused
from channels.twilio_codes import TwilioReason
from channels.twilio_settings import TwilioSettings
from schemas.names import Channel, OutcomeKind

#: How long after a recipient's last message free text may be sent, in ms.
WINDOW_MS = 24 * 3_600_000
#: Longest value of a template's variable; WhatsApp refuses line breaks in it, and runs of more than four spaces.
MAX_VARIABLE = 500


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
        """Return what is sent now: free text, or a template with its variables. The window is looked at when it is
        sent, not when it was planned."""
        said = render.plain(message.title, message.text)
        if not said:
            return refused(TwilioReason.NO_TEXT)
        if in_window(message.last_inbound_ms, now_ms):
            body = limits.fit(self.channel, said, self._settings.whatsapp_too_long, ending=message.reply_hint)
            return refused(TwilioReason.TOO_LONG) if body is None else {"body": body}
        template = self._settings.template(message.category)
        if not template:
            # Another channel may still reach the recipient in time; this one cannot until the recipient writes.
            return refused(TwilioReason.OUTSIDE_WINDOW, OutcomeKind.UNDELIVERABLE)
        given = {name: self._value(message, source) for name, source in self._settings.variables()}
        return {"content_sid": template, "content_variables": orjson.dumps(given).decode()}

    @staticmethod
    def _value(message: Send, source: str) -> str:
        match source:
            case "title":
                value = message.title or message.text
            case "text":
                value = message.text or message.title
            case "name":
                value = message.name
            case "reply":
                value = message.reply_hint
            case _:
                value = message.data.get(source.removeprefix("data."), "")
        # Twilio refuses an empty variable.
        return " ".join(render.one_line(value, MAX_VARIABLE).split()) or "-"


def in_window(last_inbound_ms: int, now_ms: int) -> bool:
    """Return whether free text may be sent: the recipient wrote, and less than 24 hours ago."""
    return last_inbound_ms > 0 and now_ms - last_inbound_ms < WINDOW_MS
