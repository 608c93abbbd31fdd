"""A mail server that takes every mail, shows it and keeps it; it sends nothing on.

As a program (python -m tests.sandbox.smtp_sink) it prints each mail and writes it to a folder; in a test it is
`async with SmtpSink() as sink`, on a free port.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import email
import email.policy
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Self

from aiosmtpd.smtp import SMTP, Envelope, Session

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 1025


@dataclass(frozen=True)
class Mail:
    """One accepted mail: the envelope as it was said, and the bytes as they came."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    received_at: dt.datetime

    @property
    def message(self) -> EmailMessage:
        """The content, parsed."""
        return email.message_from_bytes(self.content, policy=email.policy.default)

    @property
    def subject(self) -> str:
        """The subject, decoded; empty if there is none."""
        return str(self.message["Subject"] or "")

    @property
    def text(self) -> str:
        """The plain text if there is one, else the HTML; empty if neither can be read."""
        body = self.message.get_body(("plain", "html"))
        try:
            return str(body.get_content()).strip() if body else ""
        except (LookupError, ValueError):
            return ""


class SmtpSink:
    """An SMTP server on the loopback that keeps what it accepts in mails, oldest first."""

    def __init__(
        self,
        port: int = 0,
        *,
        folder: Path | None = None,
        on_mail: Callable[[Mail], None] | None = None,
        max_bytes: int = 32 * 2**20,
    ) -> None:
        self.mails: list[Mail] = []
        self._port = port
        self._folder = folder
        self._on_mail = on_mail
        self._max_bytes = max_bytes
        self._server: asyncio.Server | None = None
        self._arrived = asyncio.Condition()

    @property
    def port(self) -> int:
        """Where it listens; known once it is open."""
        return self._port

    async def open(self) -> None:
        """Listen; OSError if the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SMTP(self, hostname="localhost", enable_SMTPUTF8=True, data_size_limit=self._max_bytes),
            LOOPBACK,
            self._port,
        )
        self._port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Listen no longer; fine if it never did."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def wait_for(self, count: int, timeout: float = 10) -> list[Mail]:  # noqa: ASYNC109
        """The mails, once there are at least count; TimeoutError if that takes longer."""
        async with asyncio.timeout(timeout), self._arrived:
            await self._arrived.wait_for(lambda: len(self.mails) >= count)
        return list(self.mails)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """What aiosmtpd calls once the final dot has come; the mail is on disk before the answer is given."""
        mail = Mail(
            envelope.mail_from or "", tuple(envelope.rcpt_tos), _bytes(envelope.content), dt.datetime.now(dt.UTC)
        )
        self.mails.append(mail)
        if self._folder:
            self._write(self._folder, mail)
        if self._on_mail:
            self._on_mail(mail)
        async with self._arrived:
            self._arrived.notify_all()
        return "250 2.0.0 kept"

    def _write(self, folder: Path, mail: Mail) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"{mail.received_at:%Y%m%dT%H%M%S.%f}Z-{len(self.mails):05d}"
        fresh = folder / f".{stem}.part"
        fresh.write_bytes(mail.content)
        fresh.replace(folder / f"{stem}.eml")


def _bytes(content: Any) -> bytes:
    return content.encode() if isinstance(content, str) else bytes(content or b"")


def show(mail: Mail) -> None:
    """Print a mail for a person: to whom, when, subject and text, framed."""
    lines = [
        f"┌─ mail, {mail.received_at.astimezone():%H:%M:%S}",
        f"│ to:      {', '.join(mail.recipients)}",
        f"│ from:    {mail.sender or '<>'}",
        f"│ subject: {mail.subject}",
        "│",
        *(f"│ {line}" for line in mail.text.splitlines()),
        "└─",
    ]
    # Control characters of a mail must not reach the terminal.
    print("\n".join("".join(c for c in line if c.isprintable()) for line in lines), flush=True)


async def serve(port: int, folder: Path | None) -> None:
    """Run until SIGTERM or SIGINT."""
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, done.set)
    async with SmtpSink(port, folder=folder, on_mail=show) as sink:
        print(f"listening on {LOOPBACK}:{sink.port}", flush=True)
        await done.wait()


def main() -> int:
    """Command line: --port (else SMTP_SINK_PORT, else 1025) and --folder for the .eml files."""
    parser = argparse.ArgumentParser(prog="smtp_sink", description="A mail server that shows and keeps every mail.")
    parser.add_argument("--port", type=int, default=int(os.environ.get("SMTP_SINK_PORT") or DEFAULT_PORT))
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(options.port, options.folder))
    except OSError as error:
        print(f"smtp_sink: port {options.port}: {error.strerror}; move it with SMTP_SINK_PORT", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
