"""The mail server of development keeps what it accepted and shows it to a person."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import pytest

from tests.sandbox.smtp_sink import SmtpSink

ROOT = Path(__file__).resolve().parents[2]


def mail(text: str = "Take the bins out.\n", subject: str = "Müll") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "reminders@example.org", "anna@example.org", subject
    message.set_content(text)
    message.add_alternative("<p>Take the bins out.</p>", subtype="html")
    return message


def stored(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*.eml"))]


async def test_a_mail_is_kept_as_it_came_and_on_disk_before_the_answer(tmp_path: Path) -> None:
    async with SmtpSink(folder=tmp_path) as sink:
        await aiosmtplib.send(mail(), hostname="127.0.0.1", port=sink.port)
        files = await asyncio.to_thread(stored, tmp_path)
        (kept,) = await sink.wait_for(1)
    assert (kept.sender, kept.recipients) == ("reminders@example.org", ("anna@example.org",))
    assert (kept.subject, kept.text) == ("Müll", "Take the bins out.")
    assert files == [kept.content]


async def test_waiting_for_a_mail_that_does_not_come_ends() -> None:
    async with SmtpSink() as sink:
        with pytest.raises(TimeoutError):
            await sink.wait_for(1, timeout=0.05)


async def test_as_a_program_it_prints_the_mail_and_ends_on_sigterm(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.sandbox.smtp_sink", "--port", "0", "--folder", str(tmp_path),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout
    listening = re.fullmatch(rb"listening on 127\.0\.0\.1:(\d+)\n", await process.stdout.readline())
    assert listening
    await aiosmtplib.send(mail("Red \x1b[31malert\n"), hostname="127.0.0.1", port=int(listening[1]))
    process.send_signal(signal.SIGTERM)
    shown = (await process.stdout.read()).decode()
    assert await process.wait() == 0
    assert "to:      anna@example.org" in shown
    assert "subject: Müll" in shown
    assert "Red [31malert" in shown
    assert "\x1b" not in shown


def test_a_taken_port_names_the_variable_that_moves_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = subprocess.run(
            [sys.executable, "-m", "tests.sandbox.smtp_sink", "--port", str(taken.getsockname()[1])],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "SMTP_SINK_PORT" in done.stderr
