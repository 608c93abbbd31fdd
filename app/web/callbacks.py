"""News that Twilio sends: what became of a message, and what its recipient answered.

Nothing is believed without Twilio's signature, made over the public address that the request was sent to. What is
believed is with the brokers before it is answered with 200; without them the answer is 503, and Twilio tries again.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import cast
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from aiohttp import web
from faust.web import Request, Response
from multidict import MultiDict

from app.callers import Callers
from app.web.answers import raw
from app.web.bodies import Refused, answered, body_of
from app.web.hearing import Hearing, Named, acknowledgement, named, receipt
from app.web.ports import CallbackPorts, Outgoing, Outlet
from channels import twilio_news
from channels.news import Heard, News
from schemas import codec

PROVIDER = "twilio"
#: Largest form that is read, in bytes. Twilio's are below four thousand.
MAX_FORM_BYTES = 64 * 1024
FORM = "application/x-www-form-urlencoded"
TWIML = "text/xml"
#: The answer that asks for nothing.
NOTHING = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'
#: The key that says "I have heard it".
CONFIRMED = "1"

Form = Mapping[str, str]


class Callbacks:
    """The handlers of Twilio's callbacks. ``reminders``: where answers of people go, as events."""

    def __init__(self, ports: CallbackPorts | None, reminders: Outlet, callers: Callers) -> None:
        self._ports = ports
        self._reminders = reminders
        self._callers = callers

    async def message(self, request: Request, _token: None) -> Response:
        """Take what became of a message."""
        return await self._told(request, twilio_news.of_message)

    async def call(self, request: Request, _token: None) -> Response:
        """Take what became of a call."""
        return await self._told(request, twilio_news.of_call)

    async def key(self, request: Request, _token: None) -> Response:
        """Take the key that somebody pressed during a call: 1 acknowledges the occurrence."""

        async def act(ports: CallbackPorts, form: Form) -> bytes:
            several = _named(ports, request)
            if form.get("Digits", "") != CONFIRMED:
                return _spoken("That was another key.")
            # Whoever heard the call has heard all that it said.
            sid = form.get("CallSid", "")
            events = [
                acknowledgement(one.reminder_id, one.occurrence, one.delivery, f"{one.delivery}:{sid}", PROVIDER)
                for one in several
            ]
            await self._reminders.send([Outgoing(one.reminder_id.encode(), codec.encode(one)) for one in events])
            return _spoken("Thank you. Goodbye.")

        return await self._answered(request, act)

    async def inbound(self, request: Request, _token: None) -> Response:
        """Take what somebody wrote; what is written back is in the answer."""

        async def act(ports: CallbackPorts, form: Form) -> bytes:
            channel, number = twilio_news.sender(form)
            name = form.get("MessageSid") or form.get("SmsSid") or ""
            # Where Twilio keeps the list itself it says what it understood; its own answer has been sent then.
            said = Heard(PROVIDER, channel, number, form.get("Body", ""), name, form.get("OptOutType", ""))
            back = await Hearing(ports, self._reminders).heard(said)
            return _written(back) if back else NOTHING

        return await self._answered(request, act)

    async def _told(self, request: Request, read: Callable[[Form], News | None]) -> Response:
        async def act(ports: CallbackPorts, form: Form) -> bytes:
            several = _named(ports, request)
            news = read(form)
            if news is not None:
                await ports.receipts.send([receipt(about, news, PROVIDER) for about in several])
            return NOTHING

        return await self._answered(request, act)

    async def _answered(self, request: Request, act: Callable[[CallbackPorts, Form], Awaitable[bytes]]) -> Response:
        async def respond(called: web.Request) -> Response:
            if self._ports is None or not self._ports.base:
                raise Refused(404, "no provider was told of this address: TWILIO_CALLBACK_URL is not set")
            return raw(200, await act(self._ports, await _form(self._ports, called)), TWIML)

        return await answered(self._callers, request, respond)


async def _form(ports: CallbackPorts, request: web.Request) -> Form:
    """Return a form that Twilio has signed."""
    if request.content_type != FORM:
        raise Refused(415, f"send {FORM}")
    body = await body_of(request, MAX_FORM_BYTES)
    try:
        form = MultiDict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=200))
    except ValueError:
        raise Refused(400, "this is no form") from None
    # The address as it was called: behind a proxy the host, port and scheme that arrive here are others.
    url = ports.base.rstrip("/") + request.raw_path
    signature = request.headers.get("X-Twilio-Signature", "")
    if not any(twilio_news.genuine(token, url, form, signature) for token in ports.twilio_tokens()):
        raise Refused(403, "the signature does not fit; see TWILIO_CALLBACK_URL and TWILIO_AUTH_TOKEN")
    return form


def _named(ports: CallbackPorts, request: Request) -> list[Named]:
    """Return what the address names: one delivery, or all that went in one message."""
    found = named(ports.references, cast("web.Request", request).query.get("delivery", ""))
    if not found:
        raise Refused(404, "the address names no delivery of ours; was CALLBACK_KEY changed?")
    return found


def _written(text: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?><Response><Message>{escape(text)}</Message></Response>'.encode()


def _spoken(text: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?><Response><Say>{escape(text)}</Say></Response>'.encode()
