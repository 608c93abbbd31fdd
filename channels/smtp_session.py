"""One SMTP connection, used for one mail at a time and opened again when it must be.

It knows how far a mail has got. Everything up to the body may fail without harm; once the final dot is handed to the
connection, only a reply says what became of the mail. Whatever is not a proper reply ends the connection: a late answer
would be taken for the answer to the next command.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import TypeVar, cast

import aiosmtplib
from aiosmtplib import SMTPAuthenticationError, SMTPException, SMTPResponseException, SMTPServerDisconnected

from channels.classify import Fault, Phase, smtp_reply
from channels.smtp_settings import AuthMethod, SmtpSettings, Tls

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Limit of a command that only asks whether the connection is still good.
_CHECK_S = 5.0
#: Limit of a farewell.
_QUIT_S = 2.0
_DRAIN_POLL_S = 0.005


@dataclass(frozen=True, slots=True)
class Envelope:
    """One mail for one recipient. ``body`` is dot-stuffed and ends in CRLF; the final dot is not in it."""

    sender: str
    recipient: str
    body: bytes = field(repr=False)
    smtputf8: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What a conversation came to: the server's reply at a phase, or a fault without one."""

    phase: Phase
    code: int = 0
    text: str = field(default="", repr=False)
    fault: Fault | None = None


class Ended(Exception):  # noqa: N818 - it is no error of ours, and stays inside the channel
    """A conversation came to an end that is not a plain reply."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.phase} {answer.code or answer.fault}")
        self.answer = answer


class Session:
    """A place in the pool: at most one connection. Owned by one task at a time, which the pool sees to."""

    def __init__(self, settings: SmtpSettings, context: ssl.SSLContext | None) -> None:
        self._settings = settings
        self._context = context
        self._client = self._new_client()
        self._loop = asyncio.get_running_loop()
        self._reply: asyncio.Task[aiosmtplib.SMTPResponse] | None = None
        self._phase = Phase.CONNECT
        self._fresh = True
        self._dirty = False
        self._mails = 0
        self._opened_at = 0.0
        self._used_at = 0.0

    async def send(self, envelope: Envelope) -> Answer:
        """Send one mail and return what the server said, or what went wrong, and when."""
        return await self._within_limits(self._send(envelope))

    async def check(self) -> Answer | None:
        """Connect, protect and log in; return what is wrong, if anything."""
        return await self._within_limits(self._check())

    async def _within_limits(self, doing: Coroutine[None, None, T]) -> T | Answer:
        """Return the result, or that the time before the final dot was up.

        It runs in a task of its own: ``wait_for`` of Python 3.11, which the library stands on, swallows a cancellation
        that comes together with a reply, so neither our limit nor the caller's could be kept by cancelling it once.
        """
        self._phase = Phase.CONNECT
        work = asyncio.create_task(doing)
        try:
            await asyncio.wait({work}, timeout=self._settings.before_dot_s)
            if not work.done():
                if self._phase is not Phase.DOT:
                    return Answer(self._phase, fault=Fault.TIMEOUT)
                await asyncio.wait({work})
            return work.result()
        finally:
            if not work.done():
                await self._stop(work)

    async def _stop(self, work: "asyncio.Task[T]") -> None:
        # The connection goes first: whatever the task does before it ends, it can no longer send a dot.
        self.abort()
        while not work.done():
            work.cancel()
            await asyncio.wait({work}, timeout=0)
        self.abort()
        if not work.cancelled():
            work.exception()

    async def _send(self, envelope: Envelope) -> Answer:
        sound = False
        try:
            answer = await self._offer(envelope)
            if answer is None:
                with self._translated():
                    answer = await self._finish()
            sound = _keeps_connection(answer) and not self._has_more()
        except Ended as end:
            answer = end.answer
        finally:
            if not sound:
                self.abort()
        self._used_at = self._loop.time()
        return answer

    async def _check(self) -> Answer | None:
        try:
            await self._connect()
        except Ended as end:
            return end.answer
        return None

    async def _connect(self) -> None:
        """Open a connection, protected and logged in as configured; raises ``Ended``."""
        self.hang_up()
        self._client = self._new_client()
        self._fresh, self._dirty, self._mails = True, False, 0
        self._opened_at = self._used_at = self._loop.time()
        with self._translated():
            self._phase = Phase.CONNECT
            await self._client.connect(timeout=self._settings.connect_timeout_s)
            await self._ehlo()
            if self._settings.tls is Tls.STARTTLS:
                await self._start_tls()
                await self._ehlo()
            if self._settings.username:
                await self._login()

    async def quit(self) -> None:
        """Say goodbye if there is a connection, and end it whatever the answer."""
        try:
            if self._client.is_connected:
                await self._client.execute_command(b"QUIT", timeout=_QUIT_S)
        except (SMTPException, OSError):
            log.debug("smtp connection ended without a farewell")
        finally:
            self.abort()

    def hang_up(self) -> None:
        """Say goodbye without waiting for the answer, and end the connection."""
        transport = self._client.transport
        if self._client.is_connected and transport is not None:
            cast("asyncio.WriteTransport", transport).write(b"QUIT\r\n")
        self._client.close()

    def cut(self) -> None:
        """Break the connection under a call that is under way; the call ends with what that means for its mail."""
        transport = self._client.transport
        if transport is not None:
            cast("asyncio.WriteTransport", transport).abort()

    def abort(self) -> None:
        """End the connection at once; what is still in its buffer is not sent."""
        if self._reply is not None:
            if not self._reply.done():
                self._reply.cancel()
            elif not self._reply.cancelled():
                self._reply.exception()
            self._reply = None
        self.cut()
        self._client.close()

    # -- a mail

    async def _offer(self, envelope: Envelope) -> Answer | None:
        """Do everything before the final dot; None means that nothing but the dot is missing."""
        await self._ready()
        try:
            answer = await self._transaction(envelope)
        except Ended as end:
            if self._fresh or not _is_stale(end.answer):
                raise
        else:
            if answer is None or self._fresh or not _is_stale(answer):
                return answer
        # The server had given up a connection that rested in the pool; it has heard nothing of this mail.
        await self._connect()
        return await self._transaction(envelope)

    async def _ready(self) -> None:
        now = self._loop.time()
        settings = self._settings
        worn = self._mails >= settings.max_messages or now - self._opened_at >= settings.max_age_s
        if not self._client.is_connected or worn or not await self._still_good(now):
            await self._connect()
        else:
            self._fresh = False

    async def _still_good(self, now: float) -> bool:
        # A refused mail is cleared away here and not at once, so that a slow RSET cannot hide its answer.
        verb = b"RSET" if self._dirty else b"NOOP"
        if not self._dirty and now - self._used_at < self._settings.idle_check_s:
            return True
        self._phase = Phase.CONNECT
        try:
            response = await self._client.execute_command(verb, timeout=min(_CHECK_S, self._settings.command_timeout_s))
        except (SMTPException, OSError):
            self.abort()
            return False
        self._dirty = False
        return response.code // 100 == 2

    async def _transaction(self, envelope: Envelope) -> Answer | None:
        with self._translated():
            refused = await self._commands(envelope)
            if refused is None:
                await self._write(envelope.body)
            return refused

    async def _commands(self, envelope: Envelope) -> Answer | None:
        """Announce the mail and return what was said against it."""
        client = self._client
        self._phase = Phase.MAIL
        options: list[bytes] = []
        if envelope.smtputf8:
            if not client.supports_extension("smtputf8"):
                return Answer(Phase.MAIL, fault=Fault.SMTPUTF8_MISSING)
            options += [b"BODY=8BITMIME", b"SMTPUTF8"] if client.supports_extension("8bitmime") else [b"SMTPUTF8"]
        if client.supports_extension("size"):
            size = len(envelope.body)
            most = client.esmtp_extensions.get("size", "")
            if most.isdecimal() and 0 < int(most) < size:
                return Answer(Phase.MAIL, fault=Fault.TOO_BIG)
            options.append(b"SIZE=%d" % size)
        # The commands themselves and not mail() and rcpt(): their exceptions carry the address.
        for phase, good, command in (
            (Phase.MAIL, 2, (b"MAIL", b"FROM:<" + envelope.sender.encode() + b">", *options)),
            (Phase.RCPT, 2, (b"RCPT", b"TO:<" + envelope.recipient.encode() + b">")),
            (Phase.DATA, 3, (b"DATA",)),
        ):
            self._phase = phase
            self._dirty = True
            self._expect_silence()
            response = await client.execute_command(*command)
            if response.code // 100 != good:
                return Answer(phase, response.code, response.message)
        return None

    async def _write(self, body: bytes) -> None:
        """Hand the body to the connection, all but the final dot."""
        protocol, transport = self._client.protocol, self._client.transport
        if protocol is None or transport is None:
            raise SMTPServerDisconnected("connection lost")
        self._expect_silence()
        # Reading starts before writing: a server may refuse a body before it has all of it.
        self._reply = asyncio.create_task(protocol.read_response())
        await asyncio.sleep(0)
        protocol.write(body)
        # The dot must not wait behind a body that is still in our buffer: a connection lost then has lost no dot.
        writing = cast("asyncio.WriteTransport", transport)
        while writing.get_write_buffer_size() and not self._reply.done():  # noqa: ASYNC110 - only for a big body
            await asyncio.sleep(_DRAIN_POLL_S)  # a transport tells nobody but its protocol that it is empty
        # Two rounds of the loop, so that news of a closed connection that has arrived is also seen.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        _refuse_early(self._reply)

    def _has_more(self) -> bool:
        """Return whether the server said more than it was asked; the library would take it for the next answer."""
        protocol = self._client.protocol
        return protocol is not None and bool(protocol._buffer)

    def _expect_silence(self) -> None:
        if self._has_more():
            raise Ended(Answer(self._phase, fault=Fault.MALFORMED))

    async def _finish(self) -> Answer:
        """Send the final dot and return the reply to it."""
        protocol, reply = self._client.protocol, self._reply
        if reply is not None:
            _refuse_early(reply)
        if reply is None or protocol is None:
            raise SMTPServerDisconnected("connection lost")
        protocol.write(b".\r\n")
        self._phase = Phase.DOT
        response = await asyncio.wait_for(reply, self._settings.final_reply_timeout_s)
        self._reply = None
        self._mails += 1
        self._dirty = response.code // 100 != 2
        return Answer(Phase.DOT, response.code, response.message)

    # -- a connection

    def _new_client(self) -> aiosmtplib.SMTP:
        settings = self._settings
        return aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            local_hostname=settings.helo_name or settings.id_domain,
            timeout=settings.command_timeout_s,
            use_tls=settings.tls is Tls.IMPLICIT,
            # STARTTLS is done by hand, so that each of its failures has a name.
            start_tls=False,
            tls_context=self._context,
        )

    async def _ehlo(self) -> None:
        self._phase = Phase.EHLO
        await self._client.ehlo()

    async def _start_tls(self) -> None:
        self._phase = Phase.TLS
        if not self._client.supports_extension("starttls"):
            raise Ended(Answer(Phase.TLS, fault=Fault.STARTTLS_MISSING))
        await self._client.starttls()

    async def _login(self) -> None:
        self._phase = Phase.AUTH
        client, settings = self._client, self._settings
        offered = [method for method in settings.auth_methods if method in client.server_auth_methods]
        if not offered:
            raise Ended(Answer(Phase.AUTH, fault=Fault.AUTH_MISSING))
        for left, method in zip(range(len(offered) - 1, -1, -1), offered, strict=True):
            log_in = client.auth_plain if method is AuthMethod.PLAIN else client.auth_login
            try:
                await log_in(settings.username, settings.password)
            except SMTPAuthenticationError as refused:
                # 504: offered, yet not known (RFC 4954 §4). Anything else is about our credentials.
                if refused.code != 504 or not left:
                    raise
            else:
                break

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what the library raises into ``Ended``, which carries neither address nor password."""
        try:
            yield
        except SMTPResponseException as refused:
            if refused.code >= 400:
                answer = Answer(self._phase, refused.code, refused.message)
            else:
                answer = Answer(self._phase, fault=Fault.MALFORMED)
            raise Ended(answer) from None
        except (SMTPException, OSError) as broken:
            raise Ended(Answer(self._phase, fault=_fault(self._phase, broken))) from None


def _fault(phase: Phase, broken: BaseException) -> Fault:
    cause: BaseException | None = broken
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Fault.CERTIFICATE
        # A client certificate that the server refuses shows only after the handshake, in the answer to EHLO.
        torn = isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError)
        if isinstance(cause, ssl.SSLError) and not torn and phase in (Phase.CONNECT, Phase.EHLO, Phase.TLS):
            return Fault.TLS_FAILED
        cause = cause.__cause__
    if isinstance(broken, TimeoutError):
        return Fault.TIMEOUT
    return Fault.UNREACHABLE if phase is Phase.CONNECT else Fault.LOST


def _refuse_early(reply: "asyncio.Task[aiosmtplib.SMTPResponse]") -> None:
    """Raise what was said before the final dot. A body cannot be taken back, so the connection ends with it."""
    if not reply.done():
        return
    response = reply.result()
    if response.code < 400:
        raise Ended(Answer(Phase.DATA, fault=Fault.MALFORMED))
    raise Ended(Answer(Phase.DATA, response.code, response.message))


def _keeps_connection(answer: Answer) -> bool:
    if answer.fault is not None:
        return answer.fault in (Fault.SMTPUTF8_MISSING, Fault.TOO_BIG)
    return not smtp_reply(answer.phase, answer.code, answer.text).close


def _is_stale(answer: Answer) -> bool:
    return answer.phase is Phase.MAIL and (answer.fault is Fault.LOST or answer.code == 421)
