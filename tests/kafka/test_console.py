"""The console on real parts: what its letters, holds and acts do on the brokers, and that they can be repeated."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiokafka import AIOKafkaConsumer, TopicPartition

from app import dlq
from deploy.dev.broker import Broker
from schemas.names import State
from tests.kafka.harness import Installation, Worker, installed, mail_event, now_ms
from tests.sandbox.smtp_server import SmtpServer
from tests.web.pages import Page

PARTITIONS = 2
TOKEN = "a-token-of-tests-only"
#: Longer than the desk waits for a run that another process left.
PATIENCE_S = 120.0


@dataclass
class Browser:
    """Somebody who is signed in."""

    session: aiohttp.ClientSession
    base: str

    async def see(self, path: str) -> Page:
        async with self.session.get(self.base + path) as answer:
            return Page(await answer.text())

    async def press(self, path: str, to: str, button: str, **fields: str) -> Page:
        """Fill a form of a page and press one of its buttons; return the page to which it leads."""
        page = await self.see(path)
        [form, *_] = [
            f for f in page.forms if f.action == to and (("act", button) in f.buttons or f.fields.get("act") == button)
        ]
        data = {**form.fields, **fields, "act": button}
        async with self.session.post(self.base + to, data=data) as answer:
            return Page(await answer.text())


@asynccontextmanager
async def signed_in(worker: Worker) -> AsyncIterator[Browser]:
    base = f"http://127.0.0.1:{worker.web_port}"
    jar = aiohttp.CookieJar(unsafe=True)
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(cookie_jar=jar, timeout=timeout) as session:
        async with session.post(f"{base}/console/login", data={"token": TOKEN}) as answer:
            assert answer.status == 200, await answer.text()
        yield Browser(session, base)


async def _book(service: Installation) -> dlq.Book:
    async with AIOKafkaConsumer(bootstrap_servers=service.bootstrap) as consumer:
        return await dlq.read(consumer, [TopicPartition(service.names.dlq, p) for p in range(PARTITIONS)])


async def test_a_letter_that_was_refused_is_closed_right_after(broker: Broker, tmp_path: Path) -> None:
    async with installed(broker.bootstrap, tmp_path, 1, partitions=PARTITIONS) as service:
        worker = service.start(0)
        await service.until_ready(worker)
        await service.send_raw(b"{}", b"clinic/1")
        await service.tap.until(service.dead_letters, 30, "the letter")
        [place] = (await _book(service)).letters
        page = f"/console/letters/{place}"
        async with signed_in(worker) as browser:
            assert str(place) in (await browser.see("/console/letters")).text
            assert "JSON" in (await browser.see(page)).text
            refused = await browser.press(page, "/console/letters", "redrive", force="")
            assert "is left where it is: would be refused again" in " ".join(refused.text.split()), worker.tail()
            begun = asyncio.get_running_loop().time()
            closed = await browser.press(page, "/console/letters", "skip", why="told the clinic")
            assert f"Letter {place} was closed." in closed.text, worker.tail()
            # A run that had not ended would have been waited for, 30 s.
            assert asyncio.get_running_loop().time() - begun < 25
            again = await browser.press(page, "/console/letters", "skip", why="told the clinic")
            assert "is closed already (skipped)" in again.text
        book = await _book(service)
        assert (book.state(place), book.closings[place].why) == ("skipped", "told the clinic")
        assert all(run.ended for run in book.runs.values())


async def test_a_letter_is_put_back_and_a_hold_keeps_what_is_fired(broker: Broker, tmp_path: Path) -> None:
    """An administrator holds all mail, puts a refused event back, fires a reminder, and lets the mail go."""
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port, partitions=2) as service:
        worker = service.start(0)
        await service.until_ready(worker)
        later = now_ms() + 3_600_000
        await service.send(mail_event("clinic/1", later), mail_event("clinic/2", later, zone="Mars/Base"))
        await service.all_in(["clinic/1"], [State.SCHEDULED])
        await service.tap.until(service.dead_letters, 30, "the letter")
        [place] = (await _book(service)).letters
        async with signed_in(worker) as browser:
            held = await browser.press(
                "/console/holds", "/console/holds", "hold", scope="channel:email", reason="provider trouble"
            )
            assert "channel:email is held" in held.text
            async with asyncio.timeout(30):
                while "provider trouble" not in (await browser.see("/console/holds")).text:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            await browser.press("/console/reminders/clinic/1", "/console/reminders", "fire")
            await service.tap.until(lambda: any(e.actor for e in service.audit("clinic/1")), 30, "the act on the trail")
            put = await browser.press(f"/console/letters/{place}", "/console/letters", "redrive", force="yes")
            assert f"Letter {place} was put back." in put.text, worker.tail()
            # It is refused again: the second letter comes behind the event that was fired.
            await service.tap.until(
                lambda: [x for x in service.dead_letters() if x.get("dlq-redrives") == "1"], 30, "the second letter"
            )
            assert service.row_states()["clinic/1"] is State.SCHEDULED
            assert server.mails == []
            await browser.press("/console/holds", "/console/holds", "release", scope="channel:email")
            await service.all_in(["clinic/1"], [State.SENT])
            trail = " ".join((await browser.see("/console/reminders/clinic/1")).text.split())
            assert "admin" in trail
        assert len(server.mails) == 1
        assert (await _book(service)).state(place) == "redriven"
