"""What happens to a message on its way out: retries, dead letters, doubts, cancels, on real parts."""

import asyncio
import json
import signal
from pathlib import Path

from deploy.dev.broker import Broker
from deploy.dev.certificates import make_secure_files
from schemas import codec
from schemas.names import Action, MaybeSent, OutcomeKind, State
from schemas.records import DeliveryAnswer, Policy, ReminderEvent, ReminderRow, RetryRecord
from tables.due import HEADER
from tests.kafka.harness import installed, mail_event, now_ms
from tests.kafka.test_holds import cli
from tests.kafka.test_kills import mailed
from tests.sandbox.smtp_server import Drop, Hold, SmtpServer, Stage


async def test_451_for_ever_is_retried_through_a_tier_and_ends_in_the_dlq(broker: Broker, tmp_path: Path) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        server.say(Stage.RCPT, "451 4.3.0 local trouble")
        service.start()
        await service.send(mail_event("always-451", now_ms()))
        await service.all_in(["always-451"], [State.DEAD_LETTER])
        tiers = service.tap.records[service.names.retry["1m"]]
        assert [codec.decode(RetryRecord, r.value).attempt for r in tiers] == [2, 3, 4, 5]
        (letter,) = service.dead_letters()
        assert letter["dlq-attempts"] == "5"
        assert letter["dlq-topic"] == service.names.outcomes
        (record,) = service.tap.records[service.names.dlq]
        assert codec.decode(DeliveryAnswer, record.value).outcome is OutcomeKind.DEFERRED
        assert server.mails == []
        assert [e.to_state for e in service.audit("always-451")].count(State.FAILED) == 5


async def test_a_retry_succeeds_once(broker: Broker, tmp_path: Path) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        server.say(Stage.RCPT, "450 4.2.0 try later", "250 ok")
        service.start()
        await service.send(mail_event("again", now_ms()))
        await service.all_in(["again"], [State.SENT])
        assert mailed(server) == {"again": 1}
        assert service.rows()["again"].closed[-1].state is State.SENT


async def test_an_unknown_user_is_dead_at_once(broker: Broker, tmp_path: Path) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        server.say(Stage.RCPT, "550 5.1.1 unknown user")
        service.start()
        await service.send(mail_event("gone", now_ms()))
        await service.all_in(["gone"], [State.DEAD_LETTER])
        assert len(server.lines("RCPT")) == 1


async def test_lost_after_the_final_dot_is_a_doubt_and_is_kept_one(broker: Broker, tmp_path: Path) -> None:
    """Case O-15 with HOLD: unknown, neither sent nor failed; no second copy, no other channel."""
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        server.say(Stage.DOT, Drop(), "250 ok")
        service.start()
        await service.send(mail_event("doubt", now_ms()))
        await service.all_in(["doubt"], [State.MAYBE_SENT])
        await service.send(mail_event("after-it", now_ms()))
        await service.all_in(["after-it"], [State.SENT])
        assert mailed(server) == {"doubt": 1, "after-it": 1}
        assert service.row_states()["doubt"] is State.MAYBE_SENT


async def test_a_person_settles_doubts_of_real_mails(broker: Broker, tmp_path: Path) -> None:
    """Cut after the final dot, twice: one is said to have gone out and is closed, the other not and is sent once."""
    async with (
        SmtpServer() as server,
        installed(broker.bootstrap, tmp_path, server.port, extra={"SMTP_POOL": "1"}) as service,
    ):
        server.say(Stage.DOT, Drop(), Drop(), "250 ok")
        service.start()
        await service.send(mail_event("arrived", now_ms()), mail_event("lost", now_ms()))
        await service.all_in(["arrived", "lost"], [State.MAYBE_SENT])
        listed = await asyncio.to_thread(cli, service, "maybe", "list", "--json")
        assert {"arrived", "lost"} == {json.loads(line)["reminder_id"] for line in listed.splitlines()}
        for rid, answer in (("arrived", "sent"), ("lost", "not-sent"), ("lost", "not-sent")):
            await asyncio.to_thread(cli, service, "maybe", "resolve", rid, answer, "--reason", "the server's log")
            await service.all_in([rid], [State.SENT])
        assert mailed(server) == {"arrived": 1, "lost": 2}
        assert [e.reason for e in service.audit("lost")].count("resolved_not_sent") == 1
        assert "nothing is in doubt" in await asyncio.to_thread(cli, service, "maybe", "list")


async def test_a_doubt_with_resend_comes_again_with_the_same_bytes(broker: Broker, tmp_path: Path) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        server.say(Stage.DOT, Drop(), "250 ok")
        service.start()
        await service.send(mail_event("resend", now_ms(), policy=Policy(maybe_sent=MaybeSent.RESEND)))
        await service.all_in(["resend"], [State.SENT])
        first, second = server.mails
        assert first.data == second.data


async def test_lost_before_the_final_dot_is_simply_sent_again(broker: Broker, tmp_path: Path) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        server.say(Stage.DATA, Drop(), "354 go on")
        service.start()
        await service.send(mail_event("cut", now_ms()))
        await service.all_in(["cut"], [State.SENT])
        assert mailed(server) == {"cut": 1}


async def test_cancel_and_move_while_the_request_is_in_the_queue(broker: Broker, tmp_path: Path) -> None:
    """Case O-12: A is cancelled, B is moved, both while a slow provider holds them in the queue."""
    extra = {"SMTP_POOL": "1"}
    async with (
        SmtpServer() as server,
        installed(broker.bootstrap, tmp_path, server.port, partitions=1, extra=extra) as service,
    ):
        gate = asyncio.Event()
        server.say(Stage.CONNECT, Hold(gate, "220 at last"))
        service.start()
        ids = [f"queue-{n}" for n in range(150)]
        due = now_ms() + 3000
        await service.send(
            mail_event("first", due - 500), *(mail_event(rid, due, version=1) for rid in [*ids, "moved"])
        )
        await service.all_in([*ids, "moved"], [State.SENDING], 40)
        cancels = [ReminderEvent(rid, action=Action.CANCEL, version=2) for rid in ids]
        moved = now_ms() + 6000
        await service.send(*cancels, mail_event("moved", moved, version=2))
        await service.all_in(ids, [State.CANCELLED], 40)
        gate.set()
        await service.all_in(["moved", "first"], [State.SENT], 60)
        assert mailed(server) == {"first": 1, "moved": 1}
        assert service.rows()["moved"].closed[-1].occurrence == f"@{moved}/PT0S"


async def test_a_cancel_during_the_call_says_that_it_is_too_late(broker: Broker, tmp_path: Path) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        gate = asyncio.Event()
        server.say(Stage.DOT, Hold(gate, "250 ok"))
        service.start()
        await service.send(mail_event("late", now_ms()))
        await server.until(lambda: bool(server.lines("DATA")), 30)
        await service.send(ReminderEvent("late", action=Action.CANCEL))
        await service.all_in(["late"], [State.WITHDRAWING])
        gate.set()
        await service.all_in(["late"], [State.SENT])
        assert "cancel_too_late" in {e.reason for e in service.audit("late")}


async def test_a_tier_record_alone_arms_a_row_again(broker: Broker, tmp_path: Path) -> None:
    """A row restored from before its retry: the public record is enough."""
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        server.say(Stage.RCPT, "450 4.2.0 not now", "250 ok")
        worker = service.start(0, RETRY_BASE_S="15", RETRY_CAP_S="15")
        await service.send(mail_event("rearmed", now_ms()))
        await service.all_in(["rearmed"], [State.RETRY])
        worker.kill(signal.SIGTERM)  # in order, so that its receipt is committed and not read again
        assert await worker.exit_code() == 0
        log = service.tap.records[service.names.reminders_changelog]
        sending = next(
            r for r in log if codec.decode(ReminderRow, r.value[HEADER.size :]).trail[-1].state is State.SENDING
        )
        topic = service.names.reminders_changelog
        # The lease of the restored row is far away: only the tier record can bring it back.
        head = HEADER.pack(*HEADER.unpack(sending.value[: HEADER.size])[:4], now_ms() + 3_600_000, now_ms() + 7_200_000)
        row = head + sending.value[HEADER.size :]
        await service.producer.send_and_wait(topic, row, key=sending.key, partition=sending.partition)
        (tier,) = service.tap.records[service.names.retry["1m"]]
        # Once more, as the worker may have read and committed the first: whichever is read now says the same.
        await service.producer.send_and_wait(service.names.retry["1m"], tier.value, key=tier.key)
        service.start(0)
        await service.all_in(["rearmed"], [State.SENT])
        assert "rearmed" in {e.reason for e in service.audit("rearmed")}
        assert mailed(server) == {"rearmed": 1}


async def test_the_timer_sleeps_when_nothing_is_due(broker: Broker, tmp_path: Path) -> None:
    """No polling: idle for ten seconds, at most one scan."""
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port, partitions=1) as service:
        worker = service.start()
        await service.send(mail_event("soon", now_ms()), mail_event("far", now_ms() + 3_600_000))
        await service.all_in(["soon"], [State.SENT])
        await asyncio.sleep(1)
        before = _scans(await service.get(worker, "/metrics"))
        await asyncio.sleep(10)
        assert _scans(await service.get(worker, "/metrics")) - before <= 1


def _scans(metrics: str) -> float:
    return next(float(line.split()[1]) for line in metrics.splitlines() if line.startswith("reminders_scans_total "))


async def test_an_expired_reminder_is_not_sent(broker: Broker, tmp_path: Path) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        at = now_ms() + 1000
        await service.send(mail_event("too-late", at, expires_at=at + 500))
        await asyncio.sleep(2)
        service.start()
        await service.all_in(["too-late"], [State.EXPIRED])
        assert server.mails == []


async def test_a_life_over_sasl_ssl(tmp_path: Path) -> None:
    """SCRAM over TLS on the real broker: workers, topics and recovery all with credentials."""
    secure = make_secure_files(tmp_path / "secure")
    with Broker.start(tmp_path / "kafka", heap="384m", secure=secure) as broker:
        extra = {
            "KAFKA_SECURITY": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA_USERNAME": secure.username,
            "KAFKA_PASSWORD": secure.password,
            "KAFKA_CA_FILE": str(secure.ca),
            "KAFKA_BOOTSTRAP": broker.sasl_bootstrap,
        }
        async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port, extra=extra) as service:
            service.start()
            await service.send(mail_event("secure", now_ms() + 3000))
            await service.all_in(["secure"], [State.SENT])
            assert mailed(server) == {"secure": 1}


async def test_any_worker_answers_for_any_reminder(broker: Broker, tmp_path: Path) -> None:
    """C7: asked of the wrong worker it answers all the same; without a token 401; addresses are masked."""
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        first, second = service.start(0), service.start(1)
        ids = [f"viewed-{n}" for n in range(12)]
        await service.send(*(mail_event(rid, now_ms() + 3_600_000) for rid in ids))
        await service.all_in(ids, [State.SCHEDULED])
        for worker in (first, second):
            await service.until_ready(worker)
        for worker in (first, second):
            for rid in ids:
                body = await service.get_settled(worker, f"/reminders/{rid}", token="a-token-of-tests-only")
                assert rid in body
                assert "people.example" not in body
            await service.get(worker, f"/reminders/{ids[0]}", status=401)
