"""News that SendGrid sends of mails: what became of them, and which addresses must not be used any more.

Nothing is believed without SendGrid's signature over the timestamp and the body as it came. One request brings many
events; what follows from all of them is with the brokers before it is answered with 200. Without them the answer is
503, and SendGrid sends the whole request again.
"""

import time

from aiohttp import web
from faust.web import Request, Response

from app.callers import Callers
from app.web.answers import raw
from app.web.bodies import Refused, answered, body_of
from app.web.hearing import named, receipt
from app.web.ports import EventPorts, Outgoing
from channels import sendgrid_news
from channels.sendgrid_news import Suppress
from schemas.names import Channel

#: Largest body that is read, in bytes: SendGrid sends at most 768 KB.
MAX_BODY_BYTES = 1024 * 1024
_SIGNATURE = "X-Twilio-Email-Event-Webhook-Signature"
_TIMESTAMP = "X-Twilio-Email-Event-Webhook-Timestamp"


class SendGridCallbacks:
    """The handler of SendGrid's signed event webhook."""

    def __init__(self, ports: EventPorts | None, callers: Callers) -> None:
        self._ports = ports
        self._callers = callers

    async def news(self, request: Request, _token: None) -> Response:
        """Take what became of mails."""

        async def respond(called: web.Request) -> Response:
            ports = self._ports
            if ports is None:
                raise Refused(404, "SendGrid was not told of this address: SENDGRID_EVENT_KEY is not set")
            body = await body_of(called, MAX_BODY_BYTES)
            said, stamp = called.headers.get(_SIGNATURE, ""), called.headers.get(_TIMESTAMP, "")
            if not sendgrid_news.genuine(ports.keys, stamp, body, said):
                raise Refused(403, "the signature does not fit; see SENDGRID_EVENT_KEY")
            batch = sendgrid_news.read(body)
            if batch is None:
                raise Refused(400, "this is no list of events")
            about = [(named(ports.references, told.reference), told.news) for told in batch.told]
            # What somebody else sends by the same account is none of our business.
            ours = [one for one in batch.suppress if named(ports.references, one.reference)]
            suppressed = [record for one in ours for record in _records(ports, one)]
            if suppressed:
                await ports.suppressions.send(suppressed)
            receipts = [receipt(one, news, sendgrid_news.PROVIDER) for several, news in about for one in several]
            if receipts:
                await ports.receipts.send(receipts)
            return raw(200, b"", "text/plain")

        return await answered(self._callers, request, respond)


def _records(ports: EventPorts, one: Suppress) -> list[Outgoing]:
    """Return the records that suppress an address, or let it be used again. As of when it was so: a copy that comes
    late suppresses for no longer."""
    if not one.why:
        lifted = ports.desk.lifted(Channel.EMAIL, one.address, scope=one.category)
        return [Outgoing(noted.key, noted.value) for noted in lifted]
    at = one.at or time.time_ns() // 1_000_000
    source = sendgrid_news.PROVIDER
    noted = ports.desk.record(Channel.EMAIL, one.address, one.why, at, scope=one.category, source=source)
    return [Outgoing(noted.key, noted.value)]
