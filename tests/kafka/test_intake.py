"""What comes in on the wire: odd but clear is done and counted, malformed is answered, orders are kept."""

import json
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from agents.publisher import partition_of
from deploy.dev.broker import Broker
from schemas import codec
from schemas.names import Action, Channel, RecipientAction, State
from schemas.records import Contact, RecipientEvent, ReminderEvent, Step
from tests.kafka.harness import installed, mail_event, now_ms
from tests.sandbox.smtp_server import SmtpServer


async def test_odd_but_clear_events_are_done(broker: Broker, tmp_path: Path) -> None:
    """A key that differs from the id is replaced, a wrong partition is forwarded once with its timestamp."""
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        due = now_ms() + 4000
        rid = "odd/partition"
        wrong = (partition_of(rid.encode(), 4) + 1) % 4
        stamp = now_ms() - 5000
        event = codec.encode(mail_event(rid, due))
        await service.send_raw(event, key=rid.encode(), partition=wrong, timestamp_ms=stamp)
        right = partition_of(b"odd/key", 4)
        await service.send_raw(codec.encode(mail_event("odd/key", due)), key=b"another", partition=right)
        await service.send_raw(codec.encode(mail_event("odd/none", due)), key=None, partition=wrong)
        worker = service.start()
        await service.all_in([rid, "odd/key", "odd/none"], [State.SENT])
        assert service.rows()[rid].version == stamp
        assert len(server.mails) == 3
        metrics = await service.get(worker, "/metrics")
        assert "reminders_forwarded_total" in metrics
        assert 'reminders_events_total{action="UPSERT",result="key_replaced"} 1.0' in metrics


async def test_a_clock_far_ahead_is_refused_by_the_broker(broker: Broker, tmp_path: Path) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        with pytest.raises(KafkaError):
            await service.send_raw(b"x", timestamp_ms=now_ms() + 2 * 3_600_000)


async def test_each_fault_is_answered_in_the_audit_and_the_dlq(broker: Broker, tmp_path: Path) -> None:
    """Every rule of intake, on the wire: reason, field, remedy; personal values masked; ids of any shape survive."""
    canary = "canary-secret@people.example"
    step = (Step(Channel.EMAIL, address=canary),)
    faults = {
        "both": ReminderEvent(
            "f-both", at=now_ms(), local="2027-01-01T09:00", zone="Europe/Berlin", text="x", steps=step
        ),
        "neither": ReminderEvent("f-neither", text="x", steps=step),
        "no zone": ReminderEvent("f-zone", local="2027-01-01T09:00", text="x", steps=step),
        "unknown zone": ReminderEvent(
            "f-unknown", local="2027-01-01T09:00", zone="Europe/Berlln", text="x", steps=step
        ),
        "impossible": ReminderEvent("f-date", local="2027-02-30T09:00", zone="Europe/Berlin", text="x", steps=step),
        "year 1": ReminderEvent("f-year-1", local="0001-01-01T00:00", zone="Europe/Berlin", text="x", steps=step),
        "year 9999": ReminderEvent("f-year-9999", local="9999-12-31T23:59", zone="Europe/Berlin", text="x", steps=step),
        "micros": ReminderEvent("f-micros", at=1_768_467_600, text="x", steps=step),
        "empty id": ReminderEvent("", at=now_ms(), text="x", steps=step),
        "long id": ReminderEvent("i" * 10_240, at=now_ms(), text="x", steps=step),
        "control": ReminderEvent("f-\x00\n", at=now_ms(), text="x", steps=step),
        "address": ReminderEvent(
            "f-address", at=now_ms(), text="x", steps=(Step(Channel.EMAIL, address="canary-secret"),)
        ),
        "snooze": ReminderEvent("f-snooze", action=Action.SNOOZE),
        "rrule": ReminderEvent(
            "f-rrule", local="2027-01-01T09:00", zone="UTC", rrule="FREQ=DALY", text="x", steps=step
        ),
        "template": ReminderEvent("f-template", at=now_ms(), template="pills@", steps=step),
    }
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        for event in faults.values():
            await service.send_raw(codec.encode(event), key=b"k")
        await service.send_raw(b"\xc3\x01" + b"x" * (257 * 1024), key=b"k")
        await service.send(mail_event("f-good", now_ms() + 500))
        worker = service.start()
        await service.all_in(["f-good"], [State.SENT])
        letters = await service.tap.until(
            lambda: len(service.dead_letters()) >= len(faults) + 1 and service.dead_letters(), 20, "every dead letter"
        )
        assert len(letters) == len(faults) + 1
        for letter in letters:
            assert letter["dlq-reason"]
            assert letter["dlq-remedy"]
            assert "canary-secret" not in json.dumps(letter)
        rejected = [e for e in service.audit() if e.to_state is State.REJECTED]
        assert len(rejected) == len(faults) + 1
        assert all(e.reason and e.remedy and e.origin_topic == service.names.reminders for e in rejected)
        reasons = {e.reminder_id: e.reason for e in rejected}
        assert reasons["f-rrule"] == "bad_rrule"
        assert reasons["f-template"] == "invalid"
        assert "canary" not in worker.log.read_text()
        assert set(service.rows()) == {"f-good"}


async def test_orders_of_create_update_cancel(broker: Broker, tmp_path: Path) -> None:
    """Case O-32 on the wire: a lower version never changes a higher one, late creates revive nothing."""
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        soon, later = now_ms() + 3000, now_ms() + 4000
        cancel = ReminderEvent("o32", action=Action.CANCEL, version=3)
        create, update = mail_event("o32", soon, version=1), mail_event("o32", later, version=2)
        await service.send(update, cancel, create, update)
        await service.send(mail_event("o32-second", later, version=2), mail_event("o32-second", soon, version=1))
        service.start()
        await service.all_in(["o32-second"], [State.SENT])
        await service.all_in(["o32"], [State.CANCELLED])
        assert [mail.recipients for mail in server.mails] == [("o32-second@people.example",)]
        assert service.rows()["o32-second"].closed[-1].occurrence == f"@{later}/PT0S"
        assert [e.reason for e in service.audit("o32") if e.action == "UPSERT"][-2:] == ["stale_version"] * 2


async def test_every_event_twice_is_one_mail(broker: Broker, tmp_path: Path) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        events = [mail_event(f"twice-{n}", now_ms() + 2000, event_id=f"e-{n}", version=n % 2) for n in range(20)]
        await service.send(*events, *events)
        service.start()
        await service.all_in([e.reminder_id for e in events], [State.SENT])
        assert len(server.mails) == 20


async def test_a_reminder_without_zone_waits_for_its_recipient(broker: Broker, tmp_path: Path) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        service.start()
        await service.send(ReminderEvent("follows", recipient_id="anna", local="2026-01-01T09:00", text="x", title="t"))
        await service.send(ReminderEvent("follows-2", recipient_id="anna", local="2029-01-01T09:00", text="x"))
        await service.all_in(["follows-2"], [State.PENDING])
        contacts = (Contact(Channel.EMAIL, "anna@people.example"),)
        await service.send_recipient(RecipientEvent("anna", zone="Europe/Berlin", contacts=contacts))
        await service.all_in(["follows-2"], [State.SCHEDULED])
        row = service.rows()["follows-2"]
        assert row.open is not None
        assert row.open.due_at == 1_861_948_800_000
        assert row.zone == "Europe/Berlin"


async def test_a_recipient_id_finds_its_address(broker: Broker, tmp_path: Path) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        service.start()
        contacts = (Contact(Channel.SMS, "+15005550006"), Contact(Channel.EMAIL, "Bea <bea@people.example>"))
        await service.send_recipient(RecipientEvent("bea", contacts=contacts))
        await service.send(ReminderEvent("to-bea", recipient_id="bea", at=now_ms() + 3000, title="Hello", text="x"))
        await service.all_in(["to-bea"], [State.SENT])
        assert [mail.recipients for mail in server.mails] == [("bea@people.example",)]
        canary = "canary-4711"
        await service.send(ReminderEvent("of-bea", recipient_id="bea", at=now_ms() + 86_400_000, text=canary))
        await service.all_in(["of-bea"], [State.SCHEDULED])
        await service.send_recipient(RecipientEvent("bea", RecipientAction.ERASE))
        await service.all_in(["of-bea"], [State.CANCELLED])
        assert service.audit("of-bea")[-1].reason == "erased"
        assert canary.encode() not in codec.encode(service.rows()["of-bea"])
        at = now_ms() + 1000
        nobody = ReminderEvent("to-nobody", recipient_id="bea", at=at, expires_at=at + 4000, title="Hello", text="x")
        await service.send(nobody)
        await service.all_in(["to-nobody"], [State.HELD], 60)
        assert service.audit("to-nobody")[-1].reason == "unknown_recipient"
        await service.all_in(["to-nobody"], [State.EXPIRED], 60)


async def test_confluent_framing_with_a_registry(broker: Broker, tmp_path: Path) -> None:
    """Case O-28 on the wire: known id, unknown id; an unreachable registry commits nothing."""
    schema = (Path(codec.__file__).parent / "avro" / "reminder_event.avsc").read_text()
    up = True

    async def answer(request: web.Request) -> web.Response:
        if not up:
            return web.Response(status=503)
        if request.match_info["id"] == "42":
            return web.json_response({"schema": schema})
        return web.json_response({"error_code": 40403, "message": "Schema not found"}, status=404)

    server = TestServer(web.Application())
    server.app.router.add_get("/schemas/ids/{id}", answer)
    await server.start_server()
    extra = {"SCHEMA_REGISTRY_URL": str(server.make_url("/"))}
    async with SmtpServer() as smtp, installed(broker.bootstrap, tmp_path, smtp.port, extra=extra) as service:

        def framed(schema_id: int, rid: str) -> bytes:
            return b"\0" + schema_id.to_bytes(4, "big") + codec.encode(mail_event(rid, now_ms()))[10:]

        worker = service.start()
        await service.send_raw(framed(42, "framed"), key=b"framed")
        await service.send_raw(framed(9999, "nobody"), key=b"nobody")
        await service.all_in(["framed"], [State.SENT])
        (letter,) = await service.tap.until(service.dead_letters, 20, "the dead letter of id 9999")
        assert letter["dlq-reason"] == "unknown_schema_id"
        up = False
        await service.send_raw(framed(43, "later"), key=b"later")
        assert await worker.exit_code(60) == 70
        up = True
        await service.send_raw(framed(42, "last"), key=b"later")
        service.start()
        await service.all_in(["last"], [State.SENT])
        # A dead letter may come twice after a crash, as anything at least once; its origin says that it is one.
        origins = {(letter["dlq-partition"], letter["dlq-offset"]) for letter in service.dead_letters()}
        assert len(origins) == 2
    await server.close()


async def test_what_no_topic_can_take_whole_stops_nobody(broker: Broker, tmp_path: Path) -> None:
    """A compressed batch may hold what no topic takes again: as a letter, by its key, or forwarded with its headers."""
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        big = b"x" * (6 << 20)
        event = codec.encode(mail_event("heavy", now_ms() + 1000))
        wrong = (partition_of(b"heavy", service.partitions) + 1) % service.partitions
        options = {"compression_type": "gzip", "max_batch_size": 64 << 20, "max_request_size": 64 << 20}
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, **options) as producer:
            topic, recipients = service.names.reminders, service.names.recipients
            for into in (topic, recipients):
                await producer.send_and_wait(into, big, key=b"value", partition=0)
                await producer.send_and_wait(into, b"", key=big, partition=1)
                await producer.send_and_wait(into, b"", headers=[("x", big)], partition=2)
            await producer.send_and_wait(topic, event, key=b"heavy", headers=[("x", big)], partition=wrong)
        ids = [f"behind/{n}" for n in range(8)]
        worker = service.start()
        await service.send(*(mail_event(rid, now_ms() + 1000) for rid in ids))
        await service.all_in(ids, [State.SENT])
        await service.tap.until(lambda: len(service.dead_letters()) == 7, 60, "every dead letter")
        letters = service.dead_letters()
        assert {letter["dlq-reason"] for letter in letters} == {"oversize", "empty_value"}
        assert all(int(letter["dlq-cut"].removesuffix(" bytes")) >= len(big) for letter in letters)
        assert max(len(record.value or b"") for record in service.tap.records[service.names.dlq]) == 64 * 1024
        assert worker.process.poll() is None
        assert "heavy" not in service.row_states()
