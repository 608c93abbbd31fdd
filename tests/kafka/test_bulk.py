"""Many at once, on the broker: a file that is killed and sent again, and one that is sent twice."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from deploy.dev.broker import Broker
from schemas import codec
from schemas.names import Action, State
from schemas.records import ReminderEvent
from tests.app.conftest import environment
from tests.kafka.harness import ROOT, Installation, installed, mail_event, now_ms
from tests.sandbox.smtp_server import SmtpServer


def command(service: Installation, *args: str) -> "subprocess.Popen[bytes]":
    """Start a command of the product for this installation."""
    env = environment(**service.environ())
    return subprocess.Popen(
        [sys.executable, "-m", "app", *args], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


async def done(service: Installation, *args: str) -> tuple[int, str]:
    """Run a command to its end; return its exit code and what it said."""
    process = command(service, *args)
    out, _ = await asyncio.to_thread(process.communicate, timeout=120)
    return process.returncode, out.decode()


def written(path: Path, ids: list[str], at: int) -> Path:
    steps = [{"channel": "EMAIL", "address": "anna@people.example"}]
    said = ({"reminder_id": rid, "at": at, "text": "Bring your card.", "steps": steps} for rid in ids)
    path.write_text("".join(json.dumps(line) + "\n" for line in said))
    return path


async def on_topic(service: Installation, topic: str) -> list[Any]:
    """Return all records of a topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=service.bootstrap, enable_auto_commit=False)
    await consumer.start()
    found: list[Any] = []
    try:
        tps = [TopicPartition(topic, p) for p in range(service.partitions)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        ends = await consumer.end_offsets(tps)
        while [tp for tp in tps if await consumer.position(tp) < ends[tp]]:
            for batch in (await consumer.getmany(timeout_ms=200, max_records=5000)).values():
                found.extend(batch)
    finally:
        await consumer.stop()
    return found


async def test_a_killed_import_goes_on_where_it_was(broker: Broker, tmp_path: Path) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        ids = [f"bulk/{n}" for n in range(30_000)]
        file = written(tmp_path / "big.jsonl", ids, now_ms() + 3_600_000)
        state = tmp_path / "big.jsonl.import.json"
        process = command(service, "remind", "--file", str(file))
        limit = time.monotonic() + 60
        while not state.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < limit
            await asyncio.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = json.loads(state.read_text())
        assert 0 < before["sent"] < len(ids)
        assert before["ended"] == 0
        code, said = await done(service, "remind", "--file", str(file))
        assert code == 0, said
        assert f"goes on after line {before['line']}; {before['sent']} reminders are sent" in said
        assert f"{len(ids) - before['sent']} reminders sent to {service.names.reminders}" in said
        records = await on_topic(service, service.names.reminders)
        copies = Counter(record.key.decode() for record in records)
        assert set(copies) == set(ids)
        # What was sent and not yet written down as kept goes out again, as the same event.
        assert len(records) - len(ids) <= 2000
        assert len({(record.key, record.value) for record in records}) == len(ids)
        code, said = await done(service, "remind", "--file", str(file))
        assert (code, "nothing to do" in said) == (0, True)
        assert len(await on_topic(service, service.names.reminders)) == len(records)


async def test_a_second_run_changes_nothing(broker: Broker, tmp_path: Path) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        later = now_ms() + 3_600_000
        ids = [f"twice/{n}" for n in range(200)]
        file = written(tmp_path / "twice.jsonl", ids, later)
        service.start()
        code, said = await done(service, "remind", "--file", str(file))
        assert code == 0, said
        await service.all_in(ids, [State.SCHEDULED])
        # Meanwhile one is cancelled, one is changed, one is put off by hand.
        await service.send(ReminderEvent(ids[0], action=Action.CANCEL))
        await service.send(mail_event(ids[1], later + 60_000, version=2))
        await service.send(ReminderEvent(ids[2], action=Action.SNOOZE, at=later + 120_000))
        await service.all_in(ids[:1], [State.CANCELLED])
        await service.tap.until(
            lambda: service.rows()[ids[1]].version == 2 and len(service.rows()[ids[2]].trail) > 1, 60, "the changes"
        )
        before = service.rows()
        (tmp_path / "twice.jsonl.import.json").unlink()
        code, said = await done(service, "remind", "--file", str(file))
        assert code == 0, said
        refused = ("duplicate", "stale_version")
        await service.tap.until(
            lambda: len([e for e in service.audit() if e.reason in refused]) == len(ids), 60, "every line refused"
        )
        after = service.rows()
        for rid in ids:
            assert (after[rid].definition, after[rid].open, after[rid].closed, after[rid].version) == (
                before[rid].definition, before[rid].open, before[rid].closed, before[rid].version,
            )  # fmt: skip
        assert service.row_states()[ids[0]] is State.CANCELLED


async def test_all_that_match_are_acted_on_and_newer_events_win(broker: Broker, tmp_path: Path) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        later = now_ms() + 3_600_000
        ids = {tenant: [f"{tenant}/{n}" for n in range(60)] for tenant in ("clinic", "billing")}
        for tenant, names in ids.items():
            await service.send(*(mail_event(rid, later, tenant=tenant, version=n % 2) for n, rid in enumerate(names)))
        every = [rid for names in ids.values() for rid in names]
        worker = service.start()
        await service.all_in(every, [State.SCHEDULED])
        listed = tmp_path / "list.jsonl"
        pause = ("pause", "--tenant", "clinic", "--due-before", "2h")
        code, said = await done(service, *pause, "--dry-run")
        assert (code, said.splitlines()[-1]) == (0, "60 would be paused; nothing was done")
        code, said = await done(service, *pause, "--yes", "--list", str(listed))
        assert (code, said) == (0, "60 of 60 answered: 60 PAUSED (paused)\n")
        assert {json.loads(line)["reminder_id"] for line in listed.read_text().splitlines()} == set(ids["clinic"])
        await service.all_in(ids["clinic"], [State.PAUSED])
        assert (await done(service, *pause, "--yes"))[1] == "none matches\n"
        code, said = await done(service, "resume", "--tenant", "clinic", "--yes")
        assert (code, said.splitlines()[-1]) == (0, "60 of 60 answered: 60 SCHEDULED (resumed)")
        # With no worker: the acts are kept, and what a producer sent that is newer wins, though it was not read yet.
        worker.kill(signal.SIGTERM)
        assert await worker.exit_code(60) == 0
        numbered, other = ids["clinic"][1], ids["clinic"][0]
        await service.send(mail_event(numbered, later + 60_000, tenant="clinic", version=2))
        event = codec.encode(mail_event(other, later + 60_000, tenant="clinic"))
        await service.send_raw(event, key=other.encode(), timestamp_ms=now_ms() + 300_000)
        cancel = ("cancel", "--tenant", "clinic", "--reason", "moved away", "--yes")
        code, said = await done(service, *cancel, "--wait", "1s")
        assert code == 1
        assert "60 not answered within 1 s: they are sent, and done once a worker reads them" in said
        # Sent once more, they are the same events.
        assert (await done(service, *cancel, "--wait", "1s"))[0] == 1
        service.start()
        await service.all_in(set(ids["clinic"]) - {numbered, other}, [State.CANCELLED])
        stale = lambda rid: [e for e in service.audit(rid) if e.reason == "stale_version"]  # noqa: E731
        await service.tap.until(lambda: stale(numbered) and stale(other), 60, "the older acts refused")
        states = service.row_states()
        assert {rid for rid in every if states[rid] is State.SCHEDULED} == {numbered, other, *ids["billing"]}
        # Told again, it does what is left.
        code, said = await done(service, *cancel)
        assert (code, said.splitlines()[-1]) == (0, "2 of 2 answered: 2 CANCELLED (cancelled)")
        cancelled = [e for e in service.audit() if e.to_state is State.CANCELLED and e.reason == "cancelled"]
        assert sorted(e.reminder_id for e in cancelled) == sorted(ids["clinic"])
