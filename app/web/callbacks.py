"""News that providers send: what became of a message, and what its recipient answered.

Nothing is believed without the provider's signature, made over the public address that the request was sent to. What is
believed is with the brokers before it is answered with 200; without them the answer is 503, and the provider tries
again. The same news may come twice and in any order: what follows from them does not mind.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import NamedTuple, assert_never, cast
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from aiohttp import web
from faust.web import Request, Response
from multidict import MultiDict

from agents.suppressions import STOP as SAID_STOP
from app.callers import REFUSED, Callers
from app.web.answers import error, raw
from app.web.links.views import caller
from app.web.ports import CallbackPorts, Outgoing, Outlet, Unsent
from channels import answers, twilio_news
from channels.stop import Word, word
from channels.twilio_news import News
from schemas import codec, ids
from schemas.names import Action, Channel
from schemas.records import DeliveryReceipt, ReminderEvent

log = logging.getLogger(__name__)

#: Largest form that is read, in bytes. Twilio's are below four thousand.
MAX_FORM_BYTES = 64 * 1024
FORM = "application/x-www-form-urlencoded"
TWIML = "text/xml"
#: The answer that asks for nothing.
NOTHING = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'
#: The key that says "I have heard it".
CONFIRMED = "1"
#: Who acts where a recipient answered.
RECIPIENT = "recipient"

Form = Mapping[str, str]


class Refused(Exception):  # noqa: N818 - an answer more than an error
    """Not to be believed, or not to be read: with which status, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


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
            named = _named(ports, request)
            if form.get("Digits", "") != CONFIRMED:
                return _spoken("That was another key.")
            event = acknowledgement(
                named.reminder_id, named.occurrence, named.delivery, f"{named.delivery}:{form.get('CallSid', '')}"
            )
            await self._reminders.send([Outgoing(named.reminder_id.encode(), codec.encode(event))])
            return _spoken("Thank you. Goodbye.")

        return await self._answered(request, act)

    async def inbound(self, request: Request, _token: None) -> Response:
        """Take what somebody wrote: STOP ends all messages to that address, START lets them begin again, HELP is
        answered, and a word of consent acknowledges the message that waits for it."""

        async def act(ports: CallbackPorts, form: Form) -> bytes:
            channel, number = twilio_news.sender(form)
            if not number:
                return NOTHING
            # Where Twilio keeps the list itself it says what it understood; its own answer has been sent then.
            understood = form.get("OptOutType", "")
            said = word(understood or form.get("Body", ""))
            now = time.time_ns() // 1_000_000
            if channel is Channel.WHATSAPP:
                await ports.replies.send([Outgoing(*ports.waits.came(channel, number, now))])
            log.info("an answer came", extra={"channel": channel.value, "keyword": said.value})
            match said:
                case Word.STOP:
                    noted = ports.desk.record(channel, number, SAID_STOP, now, source="twilio")
                    await ports.suppressions.send([Outgoing(noted.key, noted.value)])
                    return NOTHING
                case Word.HELP:
                    return NOTHING if understood or not ports.help else _written(ports.help)
                case Word.START:
                    # YES is one of its words, and an answer as well.
                    lifted = ports.desk.lifted(channel, number)
                    await ports.suppressions.send([Outgoing(one.key, one.value) for one in lifted])
                    return await self._replied(ports, channel, number, form)
                case Word.NONE:
                    return await self._replied(ports, channel, number, form)
                case other:
                    assert_never(other)

        return await self._answered(request, act)

    async def _replied(self, ports: CallbackPorts, channel: Channel, number: str, form: Form) -> bytes:
        """Acknowledge the occurrence that a texted answer is about, or ask which one is meant."""
        answer = answers.said(form.get("Body", ""))
        if answer is None:
            return NOTHING
        if not ports.waits.fresh():
            # Two may wait where one is known: nobody guesses.
            raise Unsent("this worker does not know at the moment what waits for an answer")
        name = form.get("MessageSid") or form.get("SmsSid") or ""
        # A copy of an answer is about what the first one was about, though that waits no longer.
        found = ports.waits.taken(name) or answers.pick(answer, ports.waits.waiting(channel, number))
        match found:
            case answers.Waiting():
                if name:
                    took = ports.waits.took(name, found, time.time_ns() // 1_000_000)
                    await ports.replies.send([Outgoing(*took)])
                rid = found.reminder_id
                event = acknowledgement(rid, found.occurrence, found.delivery_id, f"reply:{name}:{found.code}")
                await self._reminders.send([Outgoing(rid.encode(), codec.encode(event))])
                return NOTHING
            case answers.AskBack():
                return _written(answers.asking_back(found))
            case None:
                return NOTHING
            case other:
                assert_never(other)

    async def _told(self, request: Request, read: Callable[[Form], News | None]) -> Response:
        async def act(ports: CallbackPorts, form: Form) -> bytes:
            named = _named(ports, request)
            news = read(form)
            if news is not None:
                now = time.time_ns() // 1_000_000
                receipt = DeliveryReceipt(
                    named.reminder_id,
                    named.delivery,
                    news.outcome,
                    now,
                    provider="twilio",
                    provider_id=news.provider_id,
                    code=news.code,
                    detail=news.reason,
                    attempt=named.attempt,
                )
                await ports.receipts.send([Outgoing(named.reminder_id.encode(), codec.encode(receipt))])
            return NOTHING

        return await self._answered(request, act)

    async def _answered(self, request: Request, act: Callable[[CallbackPorts, Form], Awaitable[bytes]]) -> Response:
        who = caller(self._callers, request)
        if wait := self._callers.wait_s(who):
            return error(429, "too many requests that were refused", **{"Retry-After": str(wait)})
        try:
            if self._ports is None:
                raise Refused(404, "no provider was told of this address: TWILIO_CALLBACK_URL is not set")
            # What a provider has signed is not counted: a busy one is no guesser.
            form = await _form(self._ports, cast("web.Request", request))
            return raw(200, await act(self._ports, form), TWIML)
        except Refused as exc:
            self._callers.spend(who, REFUSED)
            return error(exc.status, str(exc))
        except Unsent as exc:
            return error(503, f"not kept: {exc}; send it again", **{"Retry-After": "1"})


async def _form(ports: CallbackPorts, request: web.Request) -> Form:
    """Return a form that Twilio has signed."""
    if request.content_type != FORM:
        raise Refused(415, f"send {FORM}")
    if (request.content_length or 0) > MAX_FORM_BYTES:
        raise Refused(413, f"send at most {MAX_FORM_BYTES} bytes")
    body = await request.content.read(MAX_FORM_BYTES + 1)
    while len(body) <= MAX_FORM_BYTES and (more := await request.content.read(MAX_FORM_BYTES + 1 - len(body))):
        body += more
    if len(body) > MAX_FORM_BYTES:
        raise Refused(413, f"send at most {MAX_FORM_BYTES} bytes")
    try:
        form = MultiDict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=200))
    except ValueError:
        raise Refused(400, "this is no form") from None
    # The address as it was called: behind a proxy the host, port and scheme that arrive here are others.
    url = ports.base.rstrip("/") + request.raw_path
    if not twilio_news.genuine(ports.twilio_token, url, form, request.headers.get("X-Twilio-Signature", "")):
        log.warning("a callback without a valid signature was refused", extra={"path": request.path})
        raise Refused(403, "the signature does not fit; see TWILIO_CALLBACK_URL and TWILIO_AUTH_TOKEN")
    return form


class _Named(NamedTuple):
    """What an address for news names. ``attempt`` 0: only the delivery."""

    delivery: str
    attempt: int
    reminder_id: str
    occurrence: str


def _named(ports: CallbackPorts, request: Request) -> _Named:
    """Return what the address names."""
    opened = ports.references.open(cast("web.Request", request).query.get("delivery", ""))
    delivery, attempt = ids.attempt_named(opened or "")
    named = ids.named(delivery)
    if named is None:
        raise Refused(404, "the address names no delivery of ours; was CALLBACK_KEY changed?")
    return _Named(delivery, attempt, *named)


def acknowledgement(reminder_id: str, occurrence: str, delivery: str, name: str) -> ReminderEvent:
    """Return the event of somebody who says that they have got it. ``delivery``: the message that they answer, which
    tells who they are; ``name``: of the answer, so that a copy of it is known as one."""
    return ReminderEvent(
        reminder_id,
        action=Action.ACKNOWLEDGE,
        occurrence=occurrence.rpartition("/")[0],
        event_id=sha256(name.encode()).hexdigest()[:32],
        source="twilio",
        actor=RECIPIENT,
        delivery_id=delivery,
    )


def _written(text: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?><Response><Message>{escape(text)}</Message></Response>'.encode()


def _spoken(text: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?><Response><Say>{escape(text)}</Say></Response>'.encode()
