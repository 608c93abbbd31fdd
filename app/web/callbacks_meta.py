"""News that Meta sends of WhatsApp messages, and what people write to our number there.

Nothing is believed without Meta's signature over the body as it came. One request brings many news; all of them are
with the brokers before it is answered with 200. Without them the answer is 503, and Meta sends the whole request again.
"""

import hmac

from aiohttp import web
from faust.web import Request, Response

from app.callers import Callers
from app.web.answers import raw
from app.web.bodies import Refused, answered, body_of
from app.web.hearing import Hearing, named, receipt
from app.web.ports import CallbackPorts, CloudPorts, Outlet
from channels import cloud_news

#: Largest body that is read, in bytes: Meta sends at most 3 MB.
MAX_BODY_BYTES = 3 * 1024 * 1024
#: Longest challenge that is said back, in characters. Meta's are numbers.
MAX_CHALLENGE = 256
TEXT = "text/plain"


class MetaCallbacks:
    """The handlers of Meta's callbacks. ``reminders``: where answers of people go, as events."""

    def __init__(self, ports: CallbackPorts | None, reminders: Outlet, callers: Callers) -> None:
        self._ports = ports
        self._reminders = reminders
        self._callers = callers

    async def verify(self, request: Request, _token: None) -> Response:
        """Say the challenge back to whoever knows the verify token: the address is ours."""

        async def respond(called: web.Request) -> Response:
            _, cloud = self._asked()
            given, challenge = called.query.get("hub.verify_token", ""), called.query.get("hub.challenge", "")
            tokens = (token.encode() for token in cloud.verify_tokens() if token)
            known = any(hmac.compare_digest(given.encode(), token) for token in tokens)
            if not known or called.query.get("hub.mode") != "subscribe":
                raise Refused(403, "the verify token does not fit; see WHATSAPP_VERIFY_TOKEN")
            if not challenge.isascii() or not challenge.isalnum() or len(challenge) > MAX_CHALLENGE:
                raise Refused(400, "hub.challenge: send letters and digits")
            return raw(200, challenge.encode(), TEXT)

        return await answered(self._callers, request, respond)

    async def news(self, request: Request, _token: None) -> Response:
        """Take what became of messages, and what people wrote."""

        async def respond(called: web.Request) -> Response:
            ports, cloud = self._asked()
            body = await body_of(called, MAX_BODY_BYTES)
            signature = called.headers.get("X-Hub-Signature-256", "")
            if not any(cloud_news.genuine(secret, body, signature) for secret in cloud.app_secrets()):
                raise Refused(403, "the signature does not fit; see WHATSAPP_APP_SECRET")
            batch = cloud_news.read(body, cloud.phone_id)
            if batch is None:
                raise Refused(400, "this is no news of WhatsApp")
            about = [(named(ports.references, told.reference), told.news) for told in batch.told]
            # Of what another installation on the same number has sent we know nothing.
            receipts = [receipt(one, news, cloud_news.PROVIDER) for several, news in about for one in several]
            if receipts:
                await ports.receipts.send(receipts)
            for number, text in await Hearing(ports, self._reminders).all_heard(batch.heard):
                cloud.reply(number, text)
            return raw(200, b"", TEXT)

        return await answered(self._callers, request, respond)

    def _asked(self) -> tuple[CallbackPorts, CloudPorts]:
        if self._ports is None or self._ports.cloud is None:
            raise Refused(404, "Meta was not told of this address: WHATSAPP_APP_SECRET is not set")
        return self._ports, self._ports.cloud
