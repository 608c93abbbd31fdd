"""Calls over Twilio: the text is read aloud, repeated, and confirmed by a key where somebody can take the news of it.

An answering machine or a completed call is not an acknowledgement; only the key is.
"""

from twilio.twiml.voice_response import Gather, VoiceResponse

from channels import limits, render
from channels.base import Outcome, Send
from channels.twilio_api import PROVIDER, TwilioApi, refused
from channels.twilio_codes import TwilioReason
from channels.twilio_settings import TwilioSettings
from schemas.names import Channel

#: Longest TwiML that a call takes.
MAX_TWIML = 4000
#: Seconds that a called person has to press the key after each reading.
_KEY_WAIT_S = 5
_EVENTS = ["initiated", "ringing", "answered", "completed"]
_DETECTION = {"enable": "Enable", "detect_message_end": "DetectMessageEnd"}


class VoiceChannel:
    """The voice adapter (``ChannelAdapter``). ``open`` makes no connection."""

    name = PROVIDER
    channel = Channel.VOICE
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
        """Begin one call and say what became of that. A cancelled request closes its connection."""
        return self._api.told(message, await self._send(message))

    async def retract(self, message: Send, provider_id: str) -> Outcome:
        """Cancel what waits at Twilio or rings; what has left cannot be taken back."""
        return self._api.told(message, await self._api.cancel(self._api.client.calls(provider_id)))

    async def probe(self) -> str:
        """Ask for the account; raises ``OSError`` that says what is wrong."""
        return await self._api.probe("calls")

    async def _send(self, message: Send) -> Outcome:
        number = self._api.number(message)
        if isinstance(number, Outcome):
            return number
        said = render.plain(message.title, message.text)
        if not said:
            return refused(TwilioReason.NO_TEXT)
        settings = self._settings
        key = self._api.callback("key", message.reference)
        # The whole of it is limited, and the text is in it as often as it is read.
        # An empty element would be written shorter.
        room = (MAX_TWIML - len(spoken("x", settings, key))) // (settings.voice_repeat + 1)
        text = limits.fit(self.channel, said, settings.voice_too_long, max(1, room))
        if text is None:
            return refused(TwilioReason.TOO_LONG)
        status = self._api.callback("call", message.reference)
        return await self._api.create(
            self._api.client.calls,
            to=number,
            from_=settings.voice_from,
            twiml=spoken(text, settings, key),
            timeout=settings.voice_ring_s,
            machine_detection=_DETECTION.get(settings.voice_machine_detection),
            status_callback=status,
            status_callback_event=_EVENTS if status else None,
        )


def spoken(text: str, settings: TwilioSettings, key_url: str | None) -> str:
    """Return what is said in a call, as TwiML: the text, once and as often as it is repeated, each time with the key.

    The text is inert: what looks like a tag is read aloud.
    """
    voice = {"language": settings.voice_language, **({"voice": settings.voice_name} if settings.voice_name else {})}
    response = VoiceResponse()
    for reading in range(settings.voice_repeat + 1):
        if reading:
            response.pause(length=1)
        if key_url is None:
            response.say(text, **voice)
            continue
        gather = Gather(num_digits=1, action=key_url, method="POST", timeout=_KEY_WAIT_S, action_on_empty_result=False)
        gather.say(text, **voice)
        gather.say(settings.voice_confirm, **voice)
        response.append(gather)
    response.hangup()
    return str(response)
