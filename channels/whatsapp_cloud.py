"""WhatsApp over Meta's own Cloud API: free text while the recipient's last message is less than 24 hours old, else a
template.

Meta knows no idempotency key for messages, so whatever is lost after the request began to leave is a doubt. What it
says later names the attempt by ``biz_opaque_callback_data``, sealed.
https://developers.facebook.com/documentation/business-messaging/whatsapp/reference/whatsapp-business-phone-number/message-api
"""

import logging
import time
from urllib.parse import urlsplit

import orjson

from channels import addresses
from channels.base import Outcome, Send
from channels.cloud_codes import EXPLANATIONS, OF_ONE, CloudReason, Read, read_answer
from channels.cloud_settings import CloudSettings
from channels.http_answers import Answer, Failure, HttpReason, fault_meaning, status_meaning
from channels.http_call import HttpCaller
from channels.whatsapp_rules import Unsaid, Words, words
from schemas.names import Channel, OutcomeKind
from schemas.phones import PhoneFault, e164

log = logging.getLogger(__name__)

PROVIDER = "meta"
#: Longest ``biz_opaque_callback_data`` that Meta takes, in characters. A longer reference is left out: its message has
#: no news.
MAX_REFERENCE = 512
#: How much longer than its own limit a call may take before the caller cuts it off, in seconds.
_GRACE_S = 5.0


class WhatsAppCloudChannel:
    """The adapter of WhatsApp's own API (``ChannelAdapter``). ``open`` makes no connection."""

    name = PROVIDER
    channel = Channel.WHATSAPP
    #: Meta has no idempotency key for messages.
    repeatable = False

    def __init__(self, settings: CloudSettings) -> None:
        self._settings = settings
        self._caller = _caller(settings)

    @property
    def concurrency(self) -> int:
        """One call a connection."""
        return self._settings.connections

    @property
    def call_timeout_s(self) -> float:
        """Hard limit of one ``send``; the transport's own comes first and knows how far the call had got."""
        return self._settings.timeout_s + _GRACE_S

    async def open(self) -> None:
        """Read certificates; raises ``OSError`` where the file of them cannot be used."""
        try:
            await self._caller.open()
        except OSError as bad:
            raise OSError(f"{PROVIDER}: {bad}") from None

    async def close(self) -> None:
        """Close every connection."""
        await self._caller.close()

    async def send(self, message: Send) -> Outcome:
        """Send one message and say what became of it. A cancelled call closes its connection."""
        outcome = await self._send(message, time.time_ns() // 1_000_000)
        log.log(
            logging.WARNING if outcome.kind is OutcomeKind.MISCONFIGURED else logging.INFO,
            "meta call",
            extra={
                "correlation_id": message.correlation_id,
                "message_token": message.token,
                "attempt": message.attempt,
                "channel": self.channel.value,
                "provider": PROVIDER,
                "masked_address": addresses.mask_phone(message.address),
                "outcome": outcome.kind.value,
                "reason": outcome.reason,
                "code": outcome.code,
            },
        )
        return outcome

    async def probe(self) -> str:
        """Ask for the sender's number; raises ``OSError`` that says what is wrong. Sends nothing to anybody."""
        where = urlsplit(self._settings.base_url).netloc
        caller = _caller(self._settings)
        try:
            await caller.open()
            got = await caller.call("GET", f"{self._settings.url}?fields=id,quality_rating", headers=self._headers())
        except OSError as bad:
            raise OSError(f"{PROVIDER}: {bad}") from None
        finally:
            await caller.close()
        if isinstance(got, Failure):
            raise OSError(f"{PROVIDER} {where}: {EXPLANATIONS[fault_meaning(got).reason]}")
        if status_meaning(got.status).kind is not OutcomeKind.ACCEPTED:
            read = read_answer(got)
            raise OSError(f"{PROVIDER} {where}: {read.code} {EXPLANATIONS[read.meaning.reason]}")
        if not _is_ours(got, self._settings.phone_id):
            raise OSError(f"{PROVIDER} {where}: {EXPLANATIONS[HttpReason.PROTOCOL]}")
        return f"{PROVIDER} {where}: ready for WhatsApp, the number is known"

    async def _send(self, message: Send, now_ms: int) -> Outcome:
        number = e164(message.address)
        if isinstance(number, PhoneFault):
            return Outcome(
                OutcomeKind.UNDELIVERABLE,
                number.reason,
                PROVIDER,
                detail=number.remedy,
                reached=False,
                blames_address=True,
            )
        settings = self._settings
        said = words(message, now_ms, settings.template(message.category), settings.sources(), settings.too_long)
        match said:
            case Unsaid.OUTSIDE_WINDOW:
                # Another channel may still reach the recipient in time; this one cannot until the recipient writes.
                return _refused(CloudReason.OUTSIDE_WINDOW, OutcomeKind.UNDELIVERABLE)
            case Unsaid():
                return _refused(CloudReason(said.value), OutcomeKind.REJECTED)
            case Words():
                content = _text(said.text) if not said.template else _template(said)
                return await self._post(number, content, message.reference)

    async def _post(self, number: str, content: dict[str, object], reference: str) -> Outcome:
        body: dict[str, object] = {
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            "to": number,
            **content,
        }
        if reference and len(reference) <= MAX_REFERENCE:
            body["biz_opaque_callback_data"] = reference
        headers = {**self._headers(), "Content-Type": "application/json"}
        return _outcome(
            await self._caller.call("POST", f"{self._settings.url}/messages", body=orjson.dumps(body), headers=headers)
        )

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._settings.token}"}


def _caller(settings: CloudSettings) -> HttpCaller:
    return HttpCaller(
        connections=settings.connections,
        connect_timeout_s=settings.connect_timeout_s,
        timeout_s=settings.timeout_s,
        ca_file=settings.ca_file,
    )


def _text(text: str) -> dict[str, object]:
    return {"type": "text", "text": {"preview_url": False, "body": text}}


def _template(said: Words) -> dict[str, object]:
    """Return a template with its values: by place where all variables are numbers, else by their names."""
    name, _, language = said.template.partition("/")
    placed = all(variable.isdigit() for variable, _ in said.values)
    values = sorted(said.values, key=lambda one: int(one[0])) if placed else said.values
    parameters = [
        {"type": "text", "text": value} | ({} if placed else {"parameter_name": variable}) for variable, value in values
    ]
    template: dict[str, object] = {"name": name, "language": {"code": language}}
    if parameters:
        template["components"] = [{"type": "body", "parameters": parameters}]
    return {"type": "template", "template": template}


def _outcome(got: Answer | Failure) -> Outcome:
    """Return what an answer of the API, or the lack of one, means for one message."""
    if isinstance(got, Failure):
        read, wait = Read(fault_meaning(got)), None
    else:
        read, wait = read_answer(got), got.retry_after_s
    meaning = read.meaning
    later = meaning.kind in (OutcomeKind.DEFERRED, OutcomeKind.MAYBE_SENT)
    return Outcome(
        kind=meaning.kind,
        reason=str(meaning.reason),
        provider=PROVIDER,
        code=read.code,
        detail=EXPLANATIONS[meaning.reason],
        provider_id=read.wamid,
        retry_after_s=wait if later and meaning.reason not in OF_ONE else None,
        reached=meaning.reached,
        blames_address=meaning.blames_address,
    )


def _refused(reason: CloudReason, kind: OutcomeKind) -> Outcome:
    """Return the outcome of a message that was not sent for a reason of ours."""
    return Outcome(kind, str(reason), PROVIDER, detail=EXPLANATIONS[reason], reached=False)


def _is_ours(got: Answer, phone_id: str) -> bool:
    try:
        found = orjson.loads(got.body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(found, dict) and found.get("id") == phone_id
