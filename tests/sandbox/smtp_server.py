"""A mail server that says what a test tells it to: a reply a stage, a cut, a wait, TLS or its absence, logins.

It speaks SMTP over real sockets, keeps each mail with its envelope, and counts connections. ``until`` waits for
something to have happened, so that no test sleeps for luck.
"""

import asyncio
import base64
import socket
import ssl
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType


class Stage(StrEnum):
    """When an answer is given. ``BODY`` comes between 354 and the final dot, ``DOT`` right after the dot was read."""

    CONNECT = "CONNECT"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BODY = "BODY"
    DOT = "DOT"
    RSET = "RSET"
    NOOP = "NOOP"
    QUIT = "QUIT"


@dataclass(frozen=True, slots=True)
class Drop:
    """Close the connection without an answer; at ``BODY`` after that many bytes were read."""

    after_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Hold:
    """Say nothing until ``event`` is set, then go on with ``then``."""

    event: asyncio.Event
    then: "str | Drop" = "250 ok"


Said = str | Drop | Hold


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail that the server has in full: it answered 2xx, or was told to vanish instead of answering."""

    sender: str
    recipients: tuple[str, ...]
    options: tuple[str, ...]
    data: bytes = field(repr=False)
    connection: int
    tls: bool
    user: str


@dataclass(frozen=True, slots=True)
class Command:
    """One line that a client sent."""

    connection: int
    line: str
    tls: bool


class _Gone(Exception):
    """The connection is to be closed, or was."""


class SmtpServer:
    """Use as ``async with SmtpServer(...) as server``; ``server.port`` is where it listens.

    ``starttls`` and ``implicit`` take a server context. ``users`` asks for a login with PLAIN or LOGIN.
    """

    def __init__(
        self,
        *,
        starttls: ssl.SSLContext | None = None,
        implicit: ssl.SSLContext | None = None,
        users: dict[str, str] | None = None,
        auth_methods: tuple[str, ...] = ("PLAIN", "LOGIN"),
        smtputf8: bool = False,
        size: int = 0,
        receive_buffer: int = 0,
    ) -> None:
        self.port = 0
        self.mails: list[Mail] = []
        self.commands: list[Command] = []
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self.holds = 0
        self._starttls = starttls
        self._implicit = implicit
        self._users = users
        self._auth_methods = auth_methods
        self._smtputf8 = smtputf8
        self._size = size
        self._receive_buffer = receive_buffer
        self._script: dict[tuple[Stage, str], list[Said]] = defaultdict(list)
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "SmtpServer":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; on the port of before, if there was one."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        sock.bind(("127.0.0.1", self.port))
        self._server = await asyncio.start_server(self._serve, sock=sock, ssl=self._implicit, limit=2**16)
        self.port = sock.getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def say(self, stage: Stage, *answers: Said, to: str = "") -> None:
        """Answer a stage (RCPT and later: ``to`` one recipient) with these, one a time, the last from then on."""
        self._script[stage, to.lower()] = list(answers)

    async def until(self, happened: Callable[[], bool], within: float = 30.0) -> None:
        """Return as soon as ``happened``; it is asked after each command, mail and connection."""
        async with asyncio.timeout(within), self._changed:
            await self._changed.wait_for(happened)

    def lines(self, verb: str) -> list[str]:
        """Return the command lines that begin with a verb, in the order of their arrival."""
        return [command.line for command in self.commands if command.line.upper().startswith(verb)]

    def mails_to(self, address: str) -> list[Mail]:
        """Return the mails for an address."""
        return [mail for mail in self.mails if address in mail.recipients]

    # -- one connection

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is served in a task")
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        dialog = _Dialog(self, self.connections, reader, writer, tls=self._implicit is not None)
        try:
            await self._tell()
            await dialog.run()
        except (_Gone, OSError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            dialog.writer.transport.abort()
            self.open -= 1
            self._tasks.discard(task)
            with suppress(asyncio.CancelledError):
                await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def next_said(self, stage: Stage, to: str, usual: str) -> Said:
        """Return what to answer, by recipient first."""
        for key in ((stage, to.lower()), (stage, "")):
            answers = self._script.get(key)
            if answers:
                return answers.pop(0) if len(answers) > 1 else answers[0]
        return usual

    async def note(self, connection: int, line: str, *, tls: bool) -> None:
        """Keep a command line."""
        self.commands.append(Command(connection, line, tls))
        await self._tell()

    async def hold(self) -> None:
        """Count an answer that is held back."""
        self.holds += 1
        await self._tell()

    async def keep(self, mail: Mail) -> None:
        """Keep a mail."""
        self.mails.append(mail)
        await self._tell()

    def extensions(self, *, tls: bool) -> Iterator[str]:
        """Say what is offered."""
        yield "sandbox"
        yield "8BITMIME"
        if self._size:
            yield f"SIZE {self._size}"
        if self._smtputf8:
            yield "SMTPUTF8"
        if self._starttls is not None and not tls:
            yield "STARTTLS"
        if self._users is not None and (tls or self._starttls is None):
            yield f"AUTH {' '.join(self._auth_methods)}"

    @property
    def starttls(self) -> ssl.SSLContext | None:
        """The context of STARTTLS."""
        return self._starttls

    @property
    def users(self) -> dict[str, str] | None:
        """Who may log in; None: everybody sends without."""
        return self._users


class _Dialog:
    """The conversation of one connection."""

    def __init__(
        self, server: SmtpServer, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, tls: bool
    ) -> None:
        self.server = server
        self.number = number
        self.reader = reader
        self.writer = writer
        self.tls = tls
        self.user = ""
        self.sender: str | None = None
        self.options: tuple[str, ...] = ()
        self.recipients: list[str] = []

    async def run(self) -> None:
        await self.answer(Stage.CONNECT, "220 sandbox ready")
        while True:
            line = await self.line()
            verb, _, rest = line.partition(" ")
            match verb.upper():
                case "EHLO" | "HELO":
                    await self.ehlo()
                case "STARTTLS":
                    await self.start_tls()
                case "AUTH":
                    await self.auth(rest)
                case "MAIL":
                    await self.mail(rest)
                case "RCPT":
                    await self.rcpt(rest)
                case "DATA":
                    await self.data()
                case "RSET":
                    self.forget()
                    await self.answer(Stage.RSET, "250 2.0.0 ok")
                case "NOOP":
                    await self.answer(Stage.NOOP, "250 2.0.0 ok")
                case "QUIT":
                    await self.answer(Stage.QUIT, "221 2.0.0 bye")
                    return
                case _:
                    await self.write("500 5.5.2 what?")

    async def line(self) -> str:
        raw = await self.reader.readline()
        if not raw.endswith(b"\n"):
            raise _Gone
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        await self.server.note(self.number, line, tls=self.tls)
        return line

    async def write(self, reply: str) -> None:
        if "\r\n" in reply:
            # Written as it is: several replies at once, or half of one.
            self.writer.write(reply.encode())
            await self.writer.drain()
            return
        lines = reply.split("\n")
        code = lines[0][:3]
        parts = [lines[0]] + [f"{code} {line}" for line in lines[1:]]
        parts = [part[:3] + ("-" if at < len(parts) - 1 else " ") + part[4:] for at, part in enumerate(parts)]
        self.writer.write("".join(f"{part}\r\n" for part in parts).encode())
        await self.writer.drain()

    async def answer(self, stage: Stage, usual: str) -> bool:
        """Give the answer of a stage; return whether it was a good one."""
        said = self.server.next_said(stage, self.recipients[0] if self.recipients else "", usual)
        return await self.give(said)

    async def give(self, said: Said) -> bool:
        if isinstance(said, Hold):
            await self.server.hold()
            await said.event.wait()
            said = said.then
        if isinstance(said, Drop):
            raise _Gone
        await self.write(said)
        return said[:1] in "23"

    def forget(self) -> None:
        self.sender, self.options, self.recipients = None, (), []

    async def ehlo(self) -> None:
        self.forget()
        await self.answer(Stage.EHLO, "250 " + "\n".join(self.server.extensions(tls=self.tls)))

    async def start_tls(self) -> None:
        context = self.server.starttls
        if context is None or self.tls:
            await self.write("502 5.5.1 not here")
        elif await self.answer(Stage.STARTTLS, "220 2.0.0 go ahead"):
            await self.writer.start_tls(context)
            self.tls = True

    async def auth(self, rest: str) -> None:
        method, _, initial = rest.partition(" ")
        if method.upper() == "PLAIN":
            _, user, password = base64.b64decode(initial).decode().split("\0")
        else:
            user = base64.b64decode(initial).decode()
            await self.write("334 UGFzc3dvcmQ6")
            password = base64.b64decode(await self.line()).decode()
        right = self.server.users is not None and self.server.users.get(user) == password
        usual = "235 2.7.0 welcome" if right else "535 5.7.8 wrong user or password"
        if await self.answer(Stage.AUTH, usual):
            self.user = user

    async def mail(self, rest: str) -> None:
        path, *options = rest.removeprefix("FROM:").split(" ")
        if self.sender is not None:
            await self.write("503 5.5.1 nested MAIL")
        elif self.server.users is not None and not self.user:
            await self.write("530 5.7.0 log in first")
        elif await self.answer(Stage.MAIL, "250 2.1.0 ok"):
            self.sender, self.options = path.strip("<>"), tuple(options)

    async def rcpt(self, rest: str) -> None:
        address = rest.removeprefix("TO:").split(" ")[0].strip("<>")
        said = self.server.next_said(Stage.RCPT, address, "250 2.1.5 ok")
        if self.sender is None:
            await self.write("503 5.5.1 MAIL first")
        elif await self.give(said):
            self.recipients.append(address)

    async def data(self) -> None:
        if not self.recipients:
            await self.write("554 5.5.1 no valid recipients")
            return
        if not await self.answer(Stage.DATA, "354 go on"):
            return
        cut = self.server.next_said(Stage.BODY, self.recipients[0], "")
        if isinstance(cut, Drop):
            if cut.after_bytes:
                await self.reader.readexactly(cut.after_bytes)
            raise _Gone
        if cut:
            await self.reader.read(1000)
            await self.give(cut)
            # Reading on keeps the answer from being torn away with the connection.
            while await self.reader.read(2**16):
                pass
            raise _Gone
        lines: list[bytes] = []
        while (line := await self.reader.readline()) != b".\r\n":
            if not line.endswith(b"\n"):
                raise _Gone
            lines.append(line.removeprefix(b".") if line.startswith(b".") else line)
        mail = Mail(
            self.sender or "", tuple(self.recipients), self.options, b"".join(lines), self.number, self.tls, self.user
        )
        said = self.server.next_said(Stage.DOT, self.recipients[0], f"250 2.0.0 ok: queued as {self.number:05d}X")
        taken = said.then if isinstance(said, Hold) else said
        if isinstance(taken, Drop) or taken.startswith("2"):
            await self.server.keep(mail)
        self.forget()
        await self.give(said)
