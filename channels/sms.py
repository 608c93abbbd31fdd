"""Text messages over Twilio: from a number, a short code, a name or a messaging service."""

from channels import limits, render
from channels.base import OnRecord, Outcome, Send
from channels.twilio_api import PROVIDER, TwilioApi, refused
from channels.twilio_codes import TwilioReason
from channels.twilio_settings import TwilioSettings
from schemas.names import Channel, OutcomeKind
from schemas.phones import PhoneFault, e164


class SmsChannel:
    """The SMS adapter (``ChannelAdapter``). ``open`` makes no connection."""

    name = PROVIDER
    channel = Channel.SMS
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
        """Send one text message and say what became of it. A cancelled call closes its connection."""
        return self._api.told(message, await self._send(message))

    def units(self, message: Send) -> int:
        """Return the parts that carriers bill a message as."""
        body = self._body(message)
        return limits.sms_size(body).parts if body else 1

    async def retract(self, message: Send, provider_id: str) -> Outcome:
        """Cancel what waits at Twilio; what has left cannot be taken back."""
        return self._api.told(message, await self._api.cancel(self._api.client.messages(provider_id)))

    def words(self, message: Send) -> str:
        """Return the text as it is sent."""
        return self._body(message) or ""

    async def look_up(self, address: str, since_ms: int, until_ms: int) -> tuple[OnRecord, ...] | Outcome:
        """Return what Twilio has on record for a number, sent by us between two instants (ms UTC), or why nobody can
        know."""
        number = e164(address)
        if isinstance(number, PhoneFault):
            return Outcome(OutcomeKind.UNDELIVERABLE, number.reason, PROVIDER, reached=False)
        return await self._api.listed(number, since_ms, until_ms)

    async def probe(self) -> str:
        """Ask for the account; raises ``OSError`` that says what is wrong."""
        return await self._api.probe("SMS")

    async def _send(self, message: Send) -> Outcome:
        number = self._api.number(message)
        if isinstance(number, Outcome):
            return number
        settings, body = self._settings, self._body(message)
        if body is None:
            return refused(TwilioReason.TOO_LONG)
        if not body:
            return refused(TwilioReason.NO_TEXT)
        return await self._api.create(
            self._api.client.messages,
            to=number,
            from_=settings.sms_from or None,
            messaging_service_sid=settings.messaging_service_sid or None,
            body=body,
            status_callback=self._api.callback("status", message.reference),
        )

    def _body(self, message: Send) -> str | None:
        """Return what is sent, empty where there is nothing to say, None where it does not fit."""
        said = render.plain(message.title, message.text)
        settings = self._settings
        # Nobody can answer a name.
        hint = "" if any(char.isalpha() for char in settings.sms_from) else message.reply_hint
        return limits.fit(self.channel, said, settings.sms_too_long, settings.sms_max_parts, hint) if said else ""
