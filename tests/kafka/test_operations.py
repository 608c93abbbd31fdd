"""The procedures of docs/operations.md that no other test executes; each ends with nothing lost, nothing doubled."""

import asyncio
import json
import os
import re
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

from click.testing import CliRunner, Result

from app.cli.root import main
from deploy.dev.broker import Broker
from schemas.names import Action, State
from schemas.records import ReminderEvent
from tables.ledger import GRACE_MS
from tests.kafka.conftest import Kafka
from tests.kafka.harness import ROOT, Installation, Worker, adds_up, installed, mail_event, now_ms
from tests.kafka.test_kills import mailed
from tests.sandbox.smtp_server import Drop, SmtpServer, Stage

LATER_MS = 3_600_000


def command(service: Installation, *words: str) -> Result:
    result = CliRunner().invoke(main, words, env=service.environ())
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


async def test_more_partitions_with_rows_and_events_on_their_way(broker: Broker, tmp_path: Path) -> None:
    """Rows of every kind, a killed worker, events that nobody has taken, a letter and a hold move from 2 to 5."""
    old_home, new_home = tmp_path / "old", tmp_path / "new"
    old_home.mkdir(), new_home.mkdir()
    async with SmtpServer() as server, installed(broker.bootstrap, old_home, server.port, partitions=2) as old:
        began = now_ms()
        sent, waits, cancelled = ([f"{kind}/{n}" for n in range(8)] for kind in ("sent", "waits", "cancelled"))
        server.say(Stage.DOT, Drop(), "250 ok")
        worker = old.start(0)
        await old.send(mail_event("doubt", now_ms()))
        await old.all_in(["doubt"], [State.MAYBE_SENT])
        await old.send(*(mail_event(rid, now_ms()) for rid in sent))
        await old.send(*(mail_event(rid, began + LATER_MS, version=1) for rid in waits + cancelled))
        await old.send_raw(b"{}", b"broken")
        await old.all_in(sent, [State.SENT])
        await old.all_in(waits + cancelled, [State.SCHEDULED])
        await old.tap.until(old.dead_letters, 30, "the letter")
        assert (await asyncio.to_thread(command, old, "hold", "tenant:clinic", "--reason", "they asked")).exit_code == 0
        refused = await asyncio.to_thread(command, old, "move", "--to", f"{old.namespace}b", "--partitions", "5")
        assert (refused.exit_code, "stop all of them" in refused.output) == (1, True), refused.output
        # Killed amid a mail: what its group has not acknowledged lies there, and so does what comes afterwards.
        worker.kill(signal.SIGKILL)
        await worker.exit_code()
        await old.send(*(ReminderEvent(rid, action=Action.CANCEL, version=2) for rid in cancelled))
        await old.send(*(mail_event(rid, began + 1000, version=2) for rid in waits))
        await old.send(mail_event("held", began, tenant="clinic"))
        moving = ("move", "--to", f"{old.namespace}b", "--partitions", "5")
        await _until_at_rest(old, moving)
        again = await asyncio.to_thread(command, old, *moving)
        assert "--anew deletes the topics" in again.output
        moved = await asyncio.to_thread(command, old, *moving, "--anew")
        assert moved.exit_code == 0, moved.output
        assert "1 open letters" in moved.output
        async with installed(
            broker.bootstrap, new_home, server.port, partitions=5, namespace=f"{old.namespace}b"
        ) as new:
            new.start(0)
            await new.all_in(sent + waits, [State.SENT])
            await new.all_in(cancelled, [State.CANCELLED])
            await new.all_in(["doubt"], [State.MAYBE_SENT])
            await new.all_in(["held"], [State.HELD])
            await old.send(mail_event("late", now_ms()))
            again = await asyncio.to_thread(command, old, *moving, "--anew")
            # Which of the two it says depends on whether the new workers have committed yet.
            assert again.exit_code == 1
            assert re.search("was at work|stop all of them", again.output), again.output
            late = await asyncio.to_thread(command, old, *moving, "--late")
            assert "1 late records" in late.output, late.output
            await new.all_in(["late"], [State.SENT])
            assert "0 late records" in (await asyncio.to_thread(command, old, *moving, "--late")).output
            assert mailed(server) == dict.fromkeys(["doubt", "late", *sent, *waits], 1)
            # What the killed worker had not committed is taken again, and in the new topic it is another record.
            letters = new.dead_letters()
            assert (len(letters) in (1, 2), {one["dlq-topic"] for one in letters}) == (True, {new.names.reminders})
            trail = await asyncio.to_thread(command, new, "trail", "waits/0", "--audit")
            assert trail.output.count("SCHEDULED") >= 2, trail.output
            await adds_up(new, began)


async def _until_at_rest(service: Installation, moving: tuple[str, ...]) -> None:
    """Move, once the group has noticed that its killed worker is gone."""
    async with asyncio.timeout(60):
        while (done := await asyncio.to_thread(command, service, *moving)).exit_code:
            assert "stop all of them" in done.output, done.output
            await asyncio.sleep(0.5)


def release(folder: Path, *, writes: bool) -> Path:
    """Make a release to come: its reminder rows have a field more, which it can read, and ``writes`` or not yet."""
    for package in ("app", "agents", "tables", "channels", "schemas", "deploy", "tests"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    avro = folder / "schemas" / "avro"
    schema = json.loads((avro / "reminder_row.avsc").read_text())
    schema["fields"].append({"name": "later", "type": "string", "default": "of a release to come"})
    (avro / "released" / "reminder_row.2.avsc").write_text(json.dumps(schema))
    if writes:
        (avro / "reminder_row.avsc").write_text(json.dumps(schema))
        path = folder / "schemas" / "records.py"
        before, begins, after = path.read_text().partition("class ReminderRow:\n")
        row, blank, rest = after.partition("\n\n\n")
        path.write_text(f'{before}{begins}{row}\n    later: str = "of a release to come"{blank}{rest}')
    return folder


async def replaced(service: Installation, old: Worker, index: int, root: Path) -> Worker:
    """Stop a worker in order and start one of another release in its place; wait until it is at work."""
    old.kill(signal.SIGTERM)
    assert await old.exit_code(90) == 0, old.tail()
    new = service.start(index, root=root)
    await service.until_ready(new, 60)
    return new


async def test_workers_come_and_go_and_two_releases_run_together(broker: Broker, tmp_path: Path) -> None:
    """One worker; another joins; both are updated to what reads new rows, one to what writes them, and back again."""
    reads, writes = (release(tmp_path / name, writes=name == "writes") for name in ("reads", "writes"))
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port, partitions=4) as service:
        began = now_ms()
        ids: list[str] = []

        async def some(step: str) -> None:
            """Reminders that come due while the workers change, and their neighbours that wait, which have a row."""
            fresh = [f"{step}/{n}" for n in range(24)]
            ids.extend(fresh)
            await service.send(*(mail_event(rid, now_ms() + 250 * n) for n, rid in enumerate(fresh)))

        one = service.start(0)
        await some("alone")
        two = service.start(1)
        for worker in (one, two):
            await service.until_ready(worker, 60)
        for step, root, first in (("reads", reads, True), ("reads", reads, False), ("writes", writes, True)):
            await some(f"{step}-{first}")
            if first:
                one = await replaced(service, one, 0, root)
            else:
                two = await replaced(service, two, 1, root)
        await some("together")
        await service.all_in(ids, [State.SENT], 120)
        newer = [raw for raw in service.raw_rows().values() if b"of a release to come" in raw]
        assert newer, "no row was written by the newer release: the test shows nothing"
        one = await replaced(service, one, 0, reads)
        await some("back")
        two.kill(signal.SIGTERM)
        assert await two.exit_code(90) == 0, two.tail()
        await some("last")
        await service.all_in(ids, [State.SENT], 120)
        assert mailed(server) == Counter(ids)
        # This release is the oldest, and does not know the newer rows: their reader looks.
        assert await judged(service, reads, began) == [f"{len(ids)}\n"]


JUDGE = """
import asyncio, os, sys
from app.cli.ledger import compare
from app.config import Settings
found = asyncio.run(compare(Settings.load(os.environ), *map(int, sys.argv[1:])))
print(found.waiting, found.rows, *found.orphans)
"""


async def judged(service: Installation, root: Path, began: int) -> list[str]:
    """Compare with the eyes of a release, once nothing waits: how many rows there are, and the orphans."""
    env = {**os.environ, **service.environ()}
    async with asyncio.timeout(90):
        while True:
            words = [sys.executable, "-c", JUDGE, str(began - 60_000), str(now_ms() + GRACE_MS)]
            done = await asyncio.create_subprocess_exec(*words, cwd=root, env=env, stdout=asyncio.subprocess.PIPE)
            out, _ = await done.communicate()
            waiting, *found = out.decode().split(" ")
            if waiting == "0":
                return found


async def test_a_full_disk_loses_nothing(broker: Broker, tmp_path: Path) -> None:
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port, partitions=1) as service:
        began = now_ms()
        full = service.start(0, FILE_BYTES="150000")
        ids = [f"full/{n}" for n in range(200)]
        await service.send(*(mail_event(rid, began + 1000) for rid in ids))
        assert await full.exit_code(60) == 70, full.tail()
        assert "fatal: " in full.log.read_text()
        service.start(1)  # an empty directory, on another disk
        await service.all_in(ids, [State.SENT, State.MAYBE_SENT], 90)
        states = service.row_states()
        counts = mailed(server)
        assert {rid for rid in ids if counts[rid] > 1} == set()
        assert {states[rid] for rid in ids if counts[rid] == 0} <= {State.MAYBE_SENT}
        await adds_up(service, began)


async def test_topics_that_were_made_anew(broker: Broker, kafka: Kafka, tmp_path: Path) -> None:
    """Intake and changelog are deleted: the worker refuses to choose, and what is sent again is sent once."""
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port, partitions=1) as service:
        worker = service.start(0)
        events = [mail_event(f"r/{n}", now_ms() + (0 if n < 4 else LATER_MS), version=1) for n in range(8)]
        await service.send(*events)
        await service.all_in([f"r/{n}" for n in range(4)], [State.SENT])
        await service.all_in([f"r/{n}" for n in range(4, 8)], [State.SCHEDULED])
        worker.kill(signal.SIGTERM)
        assert await worker.exit_code() == 0, worker.tail()
        names = {service.names.reminders, service.names.reminders_changelog}
        await service.tap.stop()
        await service.producer.stop()
        await kafka.admin.delete_topics(sorted(names))
        async with asyncio.timeout(60):
            while names & set(await kafka.admin.list_topics()):  # noqa: ASYNC110 - the brokers tell nobody
                await asyncio.sleep(0.2)
        await service.open()
        refusing = service.start(0)
        assert await refusing.exit_code(60) == 70, refusing.tail()
        assert "the local store is ahead of its changelog" in refusing.log.read_text()
        (tmp_path / "worker-0" / "core").rename(tmp_path / "kept")
        began = now_ms()
        service.start(0)
        await service.send(*events)
        await service.all_in([f"r/{n}" for n in range(4)], [State.SENT])
        await service.all_in([f"r/{n}" for n in range(4, 8)], [State.SCHEDULED])
        # Delivery remembers what it has sent.
        assert mailed(server) == {f"r/{n}": 1 for n in range(4)}
        await adds_up(service, began)
