"""An event that no worker gets past: named by `dlq skip`, it becomes one letter, and what lies behind it is done."""

import asyncio
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestServer
from aiokafka import AIOKafkaConsumer, TopicPartition

from agents.publisher import partition_of
from app import dlq
from deploy.dev.broker import Broker
from schemas import codec
from schemas.names import State
from tests.kafka.harness import installed, mail_event, now_ms
from tests.kafka.test_bulk import command, done, on_topic
from tests.sandbox.smtp_server import SmtpServer


async def test_a_stuck_event_is_passed_over_once_through_kills(broker: Broker, tmp_path: Path) -> None:
    """The registry fails to answer for one schema: every worker ends at the event that names it."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=503)

    registry = TestServer(web.Application())
    registry.app.router.add_get("/schemas/ids/{id}", answer)
    await registry.start_server()
    extra = {"SCHEMA_REGISTRY_URL": str(registry.make_url("/"))}
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port, extra=extra) as service:
        key = b"stuck/0"
        partition = partition_of(key, service.partitions)
        poison = b"\0" + (43).to_bytes(4, "big") + codec.encode(mail_event("stuck/0", now_ms()))[10:]
        await service.send_raw(poison, key=key)
        behind = next(rid for n in range(100) if partition_of((rid := f"behind/{n}").encode(), 4) == partition)
        await service.send(mail_event(behind, now_ms() + 500))
        for _ in range(2):
            assert await service.start().exit_code(60) == 70
        log = service.workers[-1].log.read_text()
        place = f"{service.names.reminders}/{partition}/0"
        assert f"the unit of partition {partition} that failed held {place}" in log
        assert service.row_states() == {}
        # Told while no worker runs; the first that hears of it is killed between the letter and the ack.
        skipping = command(service, "dlq", "skip", place, "--reason", "schema 43 is lost", "--wait", "2m")
        while not await on_topic(service, service.names.control):
            assert skipping.poll() is None, skipping.communicate()
            await asyncio.sleep(0.1)
        assert await service.start(STOP_AT="emitted", STOP_ROLE="core").exit_code(60) == -9
        service.start()
        await service.all_in([behind], [State.SENT])
        out, _ = await asyncio.to_thread(skipping.communicate, timeout=60)
        assert (skipping.returncode, f"{place}: passed over; its letter is" in out.decode()) == (0, True), out
        assert list(service.row_states()) == [behind]
        assert len(server.mails) == 1
        # A unit that was repeated leaves its letters twice; one of them counts.
        tps = [TopicPartition(service.names.dlq, p) for p in range(service.partitions)]
        async with AIOKafkaConsumer(bootstrap_servers=broker.bootstrap) as consumer:
            book = await dlq.read(consumer, tps)
        (letter,) = book.unclosed()
        assert (letter.reason, letter.origin, letter.size) == ("skipped", place, len(poison))
        assert "schema 43 is lost" in letter.remedy
        (refused,) = {(e.reason, e.to_state) for e in service.audit("stuck/0")}
        assert refused == ("skipped", State.REJECTED)
        code, said = await done(service, "dlq", "skip", place, "--reason", "again")
        assert (code, "was passed over already" in said) == (1, True), said
        code, said = await done(service, "dlq", "skip", f"reminders/{partition}/1", "--reason", "not stuck")
        assert (code, "was read already" in said) == (1, True), said
    await registry.close()
