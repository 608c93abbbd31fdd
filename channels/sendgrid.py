"""Email over SendGrid's API: the mail that SMTP would carry, as JSON.

SendGrid knows no idempotency key, so whatever is lost after the request began to leave is a doubt. What it says later
names the attempt by a custom argument, sealed. Nothing of the mail is changed on the way: no tracking, no foot.
https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send
"""

import contextlib
import logging
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import orjson

from channels import mime, render
from channels.addresses import Address, AddressFault, mask, parse
from channels.base import Outcome, Send
from channels.foot_words import foot_words
from channels.http_answers import Answer, Failure, fault_meaning, retry_after_s, status_meaning
from channels.http_call import HttpCaller
from channels.sendgrid_codes import EXPLANATIONS, SendGridReason, read_answer
from channels.sendgrid_news import CATEGORY, DELIVERY
from channels.sendgrid_settings import SendGridSettings
from schemas.names import Channel, OutcomeKind

log = logging.getLogger(__name__)

PROVIDER = "sendgrid"
#: How much longer than its own limit a call may take before the caller cuts it off, in seconds.
_GRACE_S = 5.0
#: What is read of an answer's headers: the id of the mail, and when calls are taken again.
_ID, _RESET, _DATE = "X-Message-Id", "X-RateLimit-Reset", "Date"
#: The scope that an API key needs.
_SCOPE = "mail.send"
_OFF = {"enable": False}


class SendGridChannel:
    """The SendGrid adapter (``ChannelAdapter``). ``open`` makes no connection."""

    name = PROVIDER
    channel = Channel.EMAIL
    #: SendGrid has no idempotency key.
    repeatable = False

    def __init__(self, settings: SendGridSettings) -> None:
        self._settings = settings
        self._caller = _caller(settings)
        sender = settings.from_address
        self._sender = Address(sender.local, sender.domain, render.one_line(sender.name, render.MAX_NAME))

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
        """Send one mail and say what became of it. A cancelled call closes its connection."""
        outcome = await self._send(message)
        log.log(
            logging.WARNING if outcome.kind is OutcomeKind.MISCONFIGURED else logging.INFO,
            "sendgrid call",
            extra={
                "correlation_id": message.correlation_id,
                "message_token": message.token,
                "attempt": message.attempt,
                "channel": self.channel.value,
                "provider": PROVIDER,
                "masked_address": mask(message.address),
                "outcome": outcome.kind.value,
                "reason": outcome.reason,
                "code": outcome.code,
            },
        )
        return outcome

    async def probe(self) -> str:
        """Ask what the key may do; raises ``OSError`` that says what is wrong. Sends nothing to anybody."""
        where = urlsplit(self._settings.base_url).netloc
        caller = _caller(self._settings)
        try:
            await caller.open()
            got = await caller.call("GET", f"{self._base}/v3/scopes", headers=self._headers())
        except OSError as bad:
            raise OSError(f"{PROVIDER}: {bad}") from None
        finally:
            await caller.close()
        if isinstance(got, Failure):
            raise OSError(f"{PROVIDER} {where}: {EXPLANATIONS[fault_meaning(got).reason]}")
        meaning = status_meaning(got.status)
        if meaning.kind is not OutcomeKind.ACCEPTED:
            raise OSError(f"{PROVIDER} {where}: {got.status} {EXPLANATIONS[meaning.reason]}")
        if not _may_send(got):
            raise OSError(f"{PROVIDER} {where}: the key may not send mails: give it the scope {_SCOPE}")
        return f"{PROVIDER} {where}: ready, the key may send mails"

    async def _send(self, message: Send) -> Outcome:
        recipient = parse(message.address)
        if isinstance(recipient, AddressFault):
            return Outcome(
                OutcomeKind.UNDELIVERABLE,
                recipient.reason,
                PROVIDER,
                detail=recipient.remedy,
                reached=False,
                blames_address=True,
            )
        if recipient.needs_smtputf8:
            reason = SendGridReason.NEEDS_SMTPUTF8
            return Outcome(OutcomeKind.UNDELIVERABLE, reason, PROVIDER, detail=EXPLANATIONS[reason], reached=False)
        headers = {**self._headers(), "Content-Type": "application/json"}
        body = orjson.dumps(self._mail(recipient, message))
        return _outcome(await self._caller.call("POST", f"{self._base}/v3/mail/send", body=body, headers=headers))

    def _mail(self, recipient: Address, message: Send) -> dict[str, object]:
        mail = render.linked(
            render.email(message.title, message.text, message.html),
            message.confirm_url,
            message.unsubscribe_url,
            message.preferences_url,
            foot_words(message.locale),
        )
        name = render.one_line(message.name, render.MAX_NAME) or recipient.name
        named = {DELIVERY: message.reference} if message.reference else {}
        return {
            "personalizations": [{"to": [_mailbox(Address(recipient.local, recipient.domain, name))]}],
            "from": _mailbox(self._sender),
            "subject": mail.subject,
            "content": [{"type": "text/plain", "value": mail.text}, {"type": "text/html", "value": mail.html}],
            "headers": {
                "Message-ID": f"<{message.token}@{self._sender.domain}>",
                "Auto-Submitted": "auto-generated",
                "Feedback-ID": mime.feedback_id(message.category, message.tenant, self._sender.domain),
                **mime.unsubscribe_headers(message.unsubscribe_url, message.unsubscribe_mail),
            },
            "custom_args": {"token": message.token, CATEGORY: message.category, **named},
            # Links of ours are sealed and counted by nobody; who reads a reminder when is nobody's business.
            "tracking_settings": {
                "click_tracking": {"enable": False, "enable_text": False},
                "open_tracking": _OFF,
                "subscription_tracking": _OFF,
            },
        }

    @property
    def _base(self) -> str:
        return self._settings.base_url.rstrip("/")

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._settings.api_key}"}


def _caller(settings: SendGridSettings) -> HttpCaller:
    return HttpCaller(
        connections=settings.connections,
        connect_timeout_s=settings.connect_timeout_s,
        timeout_s=settings.timeout_s,
        ca_file=settings.ca_file,
        kept=(_ID, _RESET, _DATE),
    )


def _mailbox(address: Address) -> dict[str, str]:
    return {"email": address.spec} | ({"name": address.name} if address.name else {})


def _outcome(got: Answer | Failure) -> Outcome:
    """Return what an answer of the API, or the lack of one, means for one mail."""
    if isinstance(got, Failure):
        meaning, code, wait, mail_id = fault_meaning(got), "", None, ""
    else:
        meaning, code, mail_id = read_answer(got), str(got.status), got.headers.get(_ID, "")[:64]
        wait = got.retry_after_s
        if wait is None and got.status == 429:
            wait = _until(got.headers, time.time())
    accepted = meaning.kind is OutcomeKind.ACCEPTED
    return Outcome(
        kind=meaning.kind,
        reason=str(meaning.reason),
        provider=PROVIDER,
        code="" if accepted else code,
        detail=EXPLANATIONS[meaning.reason],
        provider_id=mail_id if accepted else "",
        retry_after_s=wait if meaning.kind in (OutcomeKind.DEFERRED, OutcomeKind.MAYBE_SENT) else None,
        reached=meaning.reached,
        blames_address=meaning.blames_address,
    )


def _until(headers: Mapping[str, str], now_s: float) -> float | None:
    """Return the seconds until calls are taken again, by SendGrid's own clock; None where it does not say."""
    reset, date = headers.get(_RESET, ""), headers.get(_DATE, "")
    if not (reset.isascii() and reset.isdigit() and len(reset) < 12):
        return None
    # An answer need not say when it was given.
    with contextlib.suppress(ValueError, TypeError, IndexError, OverflowError):
        now_s = parsedate_to_datetime(date).timestamp()
    return retry_after_s(str(int(int(reset) - now_s)), date, now_s) if int(reset) > now_s else None


def _may_send(got: Answer) -> bool:
    try:
        said = orjson.loads(got.body)
    except orjson.JSONDecodeError:
        return False
    scopes = said.get("scopes") if isinstance(said, dict) else None
    return isinstance(scopes, list) and _SCOPE in scopes
