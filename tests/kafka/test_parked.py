"""What an older release parked is put back by the first worker that knows it: by itself, once."""

import asyncio
import os
from collections import Counter
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from agents import letters
from agents.letters import Complaint
from app import dlq
from app.parked import actor
from deploy.dev.broker import Broker
from schemas.codec import encode
from schemas.names import State
from tests.kafka.harness import Installation, installed, mail_event, now_ms
from tests.kafka.test_kills import mailed
from tests.kafka.test_redrive import Inbound
from tests.sandbox.smtp_server import SmtpServer

PARTITIONS = 2


async def park(service: Installation, record: Inbound) -> None:
    """Write a letter as a release does that does not know a record's schema."""
    complaint = Complaint("unknown_fingerprint", remedy="update the service", parked=True)
    out = letters.dead_letter(service.names.dlq, PARTITIONS, record, complaint, now_ms())
    await service.producer.send_and_wait(
        out.topic, out.value, key=out.key, partition=out.partition, headers=list(out.headers)
    )


async def book_of(service: Installation) -> dlq.Book:
    async with AIOKafkaConsumer(bootstrap_servers=service.bootstrap) as consumer:
        return await dlq.read(consumer, [TopicPartition(service.names.dlq, p) for p in range(PARTITIONS)])


async def closed(service: Installation, count: int) -> dlq.Book:
    async with asyncio.timeout(90):
        while True:
            book = await book_of(service)
            if len(book.closings) >= count and all(run.ended for run in book.runs.values()):
                return book
            await asyncio.sleep(0.5)


async def test_what_was_parked_comes_back_with_the_release_that_knows_it(broker: Broker, tmp_path: Path) -> None:
    async with (
        SmtpServer() as server,
        installed(broker.bootstrap, tmp_path, server.port, partitions=PARTITIONS) as service,
    ):
        known = [Inbound(service.names.reminders, n) for n in range(3)]
        for n, record in enumerate(known):
            record.value = encode(mail_event(f"clinic/{n}", now_ms() + 1000))
            await park(service, record)
        unknown = Inbound(service.names.reminders, 9)
        unknown.value = b"\xc3\x01" + os.urandom(8) + b"of a release to come"
        await park(service, unknown)
        service.start(0)
        ids = [f"clinic/{n}" for n in range(3)]
        await service.all_in(ids, [State.SENT])
        book = await closed(service, 3)
        assert {(closing.how.value, closing.actor) for closing in book.closings.values()} == {("redriven", actor())}
        # Killed and started again, it finds nothing more to do: the one that it does not know either stays parked.
        service.workers[0].kill()
        await service.workers[0].exit_code()
        known.append(Inbound(service.names.reminders, 10))
        known[-1].key, known[-1].value = b"clinic/10", encode(mail_event("clinic/10", now_ms() + 1000))
        await park(service, known[-1])
        service.start(0)
        await service.all_in([*ids, "clinic/10"], [State.SENT])
        book = await closed(service, 4)
        assert Counter(book.state(place) for place in book.letters) == {"redriven": 4, "parked": 1}
        assert set(mailed(server).values()) == {1}
        assert len(server.mails) == 4
