"""Email over SMTP: a small pool of connections, one recipient a mail, an outcome for whatever the server says.

A mail lost before its final dot was not sent; one lost after it may have been. The Message-ID, the date and the
boundaries come from the delivery, so every attempt sends the same bytes. No address, text or password gets into a log,
an outcome or an exception.
"""

import asyncio
import logging
import re
import ssl

from channels import dkim, mime, render
from channels.addresses import Address, AddressFault, mask, parse
from channels.base import Outcome, Send
from channels.classify import EXPLANATIONS, Phase, Verdict, smtp_fault, smtp_reply, smtp_status
from channels.foot_words import foot_words
from channels.retry import BUSY
from channels.smtp_session import Answer, Envelope, Session
from channels.smtp_settings import AuthMethod, SmtpSettings, Tls
from schemas.names import Channel, OutcomeKind

__all__ = ["AuthMethod", "EmailChannel", "SmtpSettings", "Tls"]

log = logging.getLogger(__name__)

#: The id that a server gave a mail it took, where it says so in one of the usual ways.
_QUEUE_ID = re.compile(r"(?:queued as|id[= ])\s*<?([A-Za-z0-9][A-Za-z0-9.-]{4,63})(?![^\s>)\];,])", re.IGNORECASE)


class EmailChannel:
    """The SMTP adapter (``ChannelAdapter``). ``open`` makes no connection, so a server that is down stops no worker."""

    channel = Channel.EMAIL
    #: No mail server knows a Message-ID that it has seen before.
    repeatable = False

    def __init__(self, settings: SmtpSettings) -> None:
        self._settings = settings
        self.name = settings.provider
        sender = settings.from_address
        self._sender = Address(sender.local, sender.domain, render.one_line(sender.name, render.MAX_NAME))
        self._id_domain = settings.id_domain
        self._context: ssl.SSLContext | None = None
        self._signer: dkim.Signer | None = None
        self._sessions: tuple[Session, ...] = ()
        # Last in, first out: a quiet hour leaves few connections in use.
        self._idle: asyncio.LifoQueue[Session] = asyncio.LifoQueue()

    @property
    def concurrency(self) -> int:
        """One call a connection."""
        return self._settings.pool_size

    @property
    def call_timeout_s(self) -> float:
        """Hard limit of one ``send``, which the caller keeps by cancelling it."""
        return self._settings.call_limit_s

    async def open(self) -> None:
        """Read certificates and the key of signatures; raises ``OSError`` where a file of them cannot be used."""
        self._context = await asyncio.to_thread(tls_context, self._settings)
        self._signer = await asyncio.to_thread(signer, self._settings)
        self._sessions = tuple(Session(self._settings, self._context) for _ in range(self._settings.pool_size))
        self._idle = asyncio.LifoQueue()
        for session in self._sessions:
            self._idle.put_nowait(session)

    async def close(self) -> None:
        """Say goodbye on every connection."""
        idle: set[Session] = set()
        while not self._idle.empty():
            idle.add(self._idle.get_nowait())
        for session in self._sessions:
            if session not in idle:
                session.cut()
        self._sessions = ()
        await asyncio.gather(*(session.quit() for session in idle))

    async def send(self, message: Send) -> Outcome:
        """Send one mail and say what became of it. A cancelled call closes its connection."""
        recipient = parse(message.address)
        outcome = (
            _bad_address(recipient, self.name)
            if isinstance(recipient, AddressFault)
            else await self._deliver(_addressed(recipient, message.name), message)
        )
        log.log(
            logging.WARNING if outcome.kind is OutcomeKind.MISCONFIGURED else logging.INFO,
            "smtp call",
            extra={
                "correlation_id": message.correlation_id,
                "message_token": message.token,
                "attempt": message.attempt,
                "channel": Channel.EMAIL.value,
                "provider": self.name,
                "masked_address": mask(message.address),
                "outcome": outcome.kind.value,
                "reason": outcome.reason,
                "code": outcome.code,
            },
        )
        return outcome

    async def probe(self) -> str:
        """Connect, protect and log in on a connection of its own; raises ``OSError`` that says what is wrong."""
        settings = self._settings
        context = self._context or await asyncio.to_thread(tls_context, settings)
        session = Session(settings, context)
        where = f"{settings.host}:{settings.port}"
        try:
            wrong = await session.check()
        finally:
            await session.quit()
        if wrong is not None:
            said = f" {_code(wrong)}" if wrong.code else ""
            raise OSError(f"{self.name} {where}:{said} {EXPLANATIONS[self._verdict(wrong).reason]}")
        login = "logged in" if settings.username else "no login"
        return f"{self.name} {where}: ready, TLS {settings.tls.value}, {login}"

    async def _deliver(self, recipient: Address, message: Send) -> Outcome:
        if not self._sessions:
            raise RuntimeError("the channel is not open")
        envelope = self._envelope(recipient, message)
        try:
            async with asyncio.timeout(self._settings.before_dot_s):
                session = await self._idle.get()
        except TimeoutError:
            return Outcome(OutcomeKind.DEFERRED, BUSY, self.name, detail="no connection was free", reached=False)
        answer, failure = None, ""
        try:
            answer = await session.send(envelope)
        except Exception as bug:  # noqa: BLE001 - said again below, without what it may quote
            failure = type(bug).__name__
        finally:
            self._idle.put_nowait(session)
        if answer is None:
            raise RuntimeError(f"smtp: {failure} while sending {message.token}")
        return self._outcome(answer)

    def _envelope(self, recipient: Address, message: Send) -> Envelope:
        unsubscribe = message.unsubscribe_url
        headers = mime.Headers(
            self._sender,
            recipient,
            message.token,
            self._id_domain,
            message.created_ms,
            unsubscribe,
            message.unsubscribe_mail,
            mime.feedback_id(message.category, message.tenant, self._sender.domain),
        )
        mail = render.email(message.title, message.text, message.html)
        mail = render.linked(
            mail, message.confirm_url, unsubscribe, message.preferences_url, foot_words(message.locale)
        )
        body = mime.compose(headers, mail)
        if self._signer is not None:
            # By the delivery's own time, so that every attempt sends the same bytes.
            body = self._signer.signed(body, message.created_ms // 1000)
        return Envelope(self._envelope_sender(message), recipient.spec, mime.stuffed(body), recipient.needs_smtputf8)

    def _envelope_sender(self, message: Send) -> str:
        """Return where news of a mail go: to an address that names the delivery, where there are such addresses."""
        if message.bounce and self._settings.bounce_domain:
            return f"{message.bounce}@{self._settings.envelope_domain}"
        return self._sender.spec

    def _verdict(self, answer: Answer) -> Verdict:
        if answer.fault is not None:
            return smtp_fault(answer.phase, answer.fault)
        return smtp_reply(answer.phase, answer.code, answer.text, greylist_s=self._settings.greylist_s)

    def _outcome(self, answer: Answer) -> Outcome:
        verdict = self._verdict(answer)
        accepted = verdict.kind is OutcomeKind.ACCEPTED
        if accepted and answer.phase is not Phase.DOT:
            raise RuntimeError("smtp: a mail cannot be accepted before its final dot")
        queued = _QUEUE_ID.search(answer.text) if accepted else None
        return Outcome(
            kind=verdict.kind,
            reason=verdict.reason,
            provider=self.name,
            code=_code(answer),
            detail=f"{answer.phase.value}: {EXPLANATIONS[verdict.reason]}",
            provider_id=queued[1] if queued else "",
            retry_after_s=verdict.retry_after_s,
            reached=verdict.reached,
            blames_address=verdict.blames_address,
        )


def tls_context(settings: SmtpSettings) -> ssl.SSLContext | None:
    """Return what a connection is checked against, or None where it is not protected. Reads files."""
    if settings.tls is Tls.NONE:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except OSError as bad:
        raise OSError(f"smtp: ca_file {settings.ca_file} cannot be used: {type(bad).__name__}") from None
    if settings.client_cert is not None:
        try:
            context.load_cert_chain(settings.client_cert, settings.client_key)
        except OSError as bad:
            raise OSError(f"smtp: client_cert {settings.client_cert} cannot be used: {type(bad).__name__}") from None
    return context


def signer(settings: SmtpSettings) -> dkim.Signer | None:
    """Return what signs mails, None where no key is configured. Reads the file of the key."""
    if settings.dkim_key is None:
        return None
    try:
        key = dkim.load_key(settings.dkim_key.read_bytes())
    except (OSError, ValueError) as bad:
        why = bad.strerror if isinstance(bad, OSError) else str(bad)
        raise OSError(f"smtp: dkim_key {settings.dkim_key}: {why}") from None
    return dkim.Signer(settings.signing_domain, settings.dkim_selector, key)


def _addressed(recipient: Address, name: str) -> Address:
    shown = render.one_line(name, render.MAX_NAME) or recipient.name
    return Address(recipient.local, recipient.domain, shown)


def _bad_address(fault: AddressFault, provider: str) -> Outcome:
    return Outcome(
        OutcomeKind.UNDELIVERABLE, fault.reason, provider, detail=fault.remedy, reached=False, blames_address=True
    )


def _code(answer: Answer) -> str:
    if not answer.code:
        return ""
    return f"{answer.code} {smtp_status(answer.code, answer.text)}".strip()
