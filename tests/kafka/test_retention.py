"""With its time everything goes: what was erased stands in no segment of the broker's log, where times are short."""

import asyncio
import time
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from app import proof
from app.proof import Search, Wanted
from app.topics import Cleanup, full_name, topics_of
from deploy.dev.broker import Broker
from schemas.names import Action, Channel, RecipientAction, State
from schemas.records import Consent, Contact, RecipientEvent, ReminderEvent, Step
from tests.kafka.harness import PATIENCE, Installation, installed, mail_event, now_ms
from tests.sandbox.smtp_server import SmtpServer

DAY_MS = 86_400_000
#: A broker that looks after its logs all the time, instead of every five minutes.
EAGER = {
    "log.retention.check.interval.ms": "500",
    "log.initial.task.delay.ms": "500",
    "log.segment.delete.delay.ms": "200",
    "log.cleaner.backoff.ms": "200",
}
WANTED = Wanted.of(["canary-4713@people.example", "canary-4714@people.example"], ["canary text for anna alone"], [])


async def shorten(service: Installation) -> None:
    """Let the time of every topic be over, and every log be compacted as soon as it can be."""
    admin = AIOKafkaAdminClient(bootstrap_servers=service.bootstrap)
    await admin.start()
    try:
        for spec in topics_of(service.settings):
            config = spec.config(1) | {"segment.ms": "500", "file.delete.delay.ms": "200"}
            if spec.cleanup is Cleanup.TIME:
                config["retention.ms"] = "1000"
            else:
                config |= {"min.cleanable.dirty.ratio": "0.001", "max.compaction.lag.ms": "500"}
            name = full_name(service.namespace, spec.name)
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs=config)])
    finally:
        await admin.close()


def held(folder: Path) -> list[str]:
    """Return the files of a broker's log in which a canary stands."""
    search, found = Search(WANTED), []
    for path in proof.files([folder]):
        try:
            if search.file(path):
                found.append(str(path.relative_to(folder)))
        except FileNotFoundError:
            continue
    return found


async def test_what_was_erased_leaves_the_logs_of_the_broker(tmp_path: Path) -> None:
    with Broker.start(tmp_path / "kafka", extra_config=EAGER, heap="384m") as broker:
        extra = {"SEAL_KEY": "a key of tests that seals contents", "LOG_LEVEL": "DEBUG"}
        async with (
            SmtpServer() as server,
            installed(broker.bootstrap, tmp_path, server.port, extra=extra, partitions=1) as service,
        ):
            worker = service.start()
            address, other = "canary-4713@people.example", "canary-4714@people.example"
            text = "canary text for anna alone"
            await service.send_recipient(
                RecipientEvent(
                    "anna",
                    zone="UTC",
                    contacts=(Contact(Channel.EMAIL, address),),
                    consents=(Consent(True, now_ms() - DAY_MS, evidence=text),),
                )
            )
            carried = (Step(Channel.EMAIL, address=other),)
            await service.send(
                ReminderEvent("sent", recipient_id="anna", at=now_ms(), text=text),
                ReminderEvent("pending", recipient_id="anna", at=now_ms() + DAY_MS, text=text),
                ReminderEvent("alone", at=now_ms() + DAY_MS, text=text, steps=carried),
                ReminderEvent("refused", at=now_ms(), text=text, zone="no/zone", local="x", steps=carried),
            )
            await service.all_in(["sent"], [State.SENT])
            await service.all_in(["pending", "alone"], [State.SCHEDULED])
            await service.tap.until(service.dead_letters, 60, "the refused one is a dead letter")
            logs = broker.data_dir / "log"
            assert held(logs), "the canaries are there to be found"
            await service.send_recipient(RecipientEvent("anna", RecipientAction.ERASE))
            await service.send(ReminderEvent("alone", action=Action.ERASE))
            await service.all_in(["pending", "alone"], [State.CANCELLED])
            await shorten(service)
            end, n = time.monotonic() + 60 * PATIENCE, 0
            while found := held(logs):
                assert time.monotonic() < end, found
                # A segment is closed, and then cleaned, when something is written after its time.
                n += 1
                await service.send_recipient(RecipientEvent(f"bob-{n}", zone="UTC"))
                await service.send(mail_event(f"of-bob-{n}", now_ms() + DAY_MS))
                await asyncio.sleep(1)
            seen = [Search(WANTED).file(worker.log), Search(WANTED).file(broker.log_path)]
            assert seen == [0, 0]
            metrics = await service.get(worker, "/metrics")
            assert "canary" not in metrics
            # Changelogs that were cleaned to the last are recovered from, and nothing comes back.
            worker.kill()
            await worker.exit_code()
            fresh = service.start(1)
            await service.until_ready(fresh)
            for name in ("pending", "alone"):
                view = await service.get_settled(fresh, f"/reminders/{name}", token="a-token-of-tests-only")
                assert '"CANCELLED"' in view
                assert "canary" not in view
