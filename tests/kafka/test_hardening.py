"""Each correction on the real broker: the loss, or the hang, without it, and none with it."""

import asyncio
import importlib.metadata
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Any

import faust.streams
import pytest

from app import hardening
from tests.kafka.conftest import ROOT, Kafka, Worker, Workers

pytestmark = pytest.mark.asyncio

OK = (b"k", b"ok")


async def both(run: Any, name: str, shows: Any = lambda *_: True) -> tuple[Any, Any]:
    """Run without the correction and with it, at the same time.

    What goes wrong without it takes some luck, and Faust may not even get that far: shows(without, corrected) is given
    three tries. What must hold with the correction is for the test to assert, and has one.
    """

    async def tried(number: int) -> Any:
        try:
            return await run(f"without-{number}", (name,))
        except AssertionError as error:
            return error

    without, corrected = await asyncio.gather(tried(1), run("with", ()))
    for number in (2, 3):
        if not isinstance(without, AssertionError) and shows(without, corrected):
            break
        without = await tried(number)
    else:
        assert not isinstance(without, AssertionError), without
        assert shows(without, corrected), f"without {name} nothing went wrong: {without}"
    return without, corrected


async def hang_and_end(without: Worker, corrected: Worker) -> tuple[int | None, int | None]:
    """Return the exit codes: once the corrected worker has ended, the other one has a while longer."""
    code = await corrected.ended()
    return await without.ended(1.5), code


@pytest.mark.parametrize(("name", "first"), [("new_offset", b"hold"), ("unacked_kept", b"drop")])
async def test_no_commit_goes_past_an_event_that_was_not_acked(
    kafka: Kafka, workers: Workers, unique: str, name: str, first: bytes
) -> None:
    topic = await kafka.topic(unique)
    await kafka.produce(topic, [(b"k", first), *[OK] * 9])

    async def run(label: str, skip: tuple[str, ...]) -> int:
        worker = workers.start("unacked", f"{unique}-{label}", topic=topic, skip=skip)
        await worker.says("got 9")
        found = await kafka.until_committed(f"{unique}-{label}", topic, 10, 2.0)
        await worker.kill()
        return found

    without, corrected = await both(run, name, lambda without, _: without == 10)
    assert without == 10, "the event at offset 0 is lost: a restarted worker goes on behind it"
    assert corrected == 0


async def test_a_record_that_the_broker_refused_is_not_committed_away(
    kafka: Kafka, workers: Workers, unique: str
) -> None:
    topic = await kafka.topic(unique)
    await kafka.produce(topic, [(b"k", b"v" * 5000)])

    async def run(label: str, skip: tuple[str, ...]) -> tuple[int, int, int | None]:
        app_id = f"{unique}-{label}"
        changelog = await kafka.topic(f"{app_id}-plain-changelog", cleanup_policy="compact", max_message_bytes=1000)
        worker = workers.start("refused", app_id, topic=topic, skip=skip)
        await worker.says("wrote 5000")
        committed = await kafka.until_committed(app_id, topic, 1, 2.0)
        code = await worker.ended(0.1 if committed else 60)
        await worker.kill()
        return committed, len(await kafka.records(changelog)), code

    without, corrected = await both(run, "flush", lambda without, _: without == (1, 0, None))
    assert without == (1, 0, None), "committed, with nothing in the changelog, and the worker goes on"
    assert corrected[:2] == (0, 0)
    assert corrected[2] not in (0, None), "the worker ends, so that Kafka replays"


async def test_a_failed_commit_is_tried_again(kafka: Kafka, workers: Workers, unique: str) -> None:
    topic = await kafka.topic(unique)
    await kafka.produce(topic, [OK] * 5)

    async def run(label: str, skip: tuple[str, ...]) -> int:
        worker = workers.start("failed_commit", f"{unique}-{label}", topic=topic, skip=skip)
        await worker.says("failed")
        found = await kafka.until_committed(f"{unique}-{label}", topic, 5, 2.0)
        await worker.kill()
        return found

    without, corrected = await both(run, "commit_bookkeeping", lambda without, _: without < 5)
    assert without < 5
    assert corrected == 5


async def test_a_rebalance_redoes_nothing_that_is_acked(kafka: Kafka, workers: Workers, unique: str) -> None:
    async def run(label: str, skip: tuple[str, ...]) -> tuple[int, bool, int]:
        app_id = f"{unique}-{label}"
        topic = await kafka.topic(app_id)
        await kafka.produce(topic, [OK] * 50)
        worker = workers.start("rebalanced", app_id, topic=topic, skip=skip)
        await worker.says("got 49")
        worker.tell("rejoin")
        await worker.says("ready")
        await kafka.produce(topic, [OK])
        await worker.says("got 50")
        times = sum(line.startswith("got ") for line in worker.lines)
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 0
        return times, "hook" in worker.lines, await kafka.committed(app_id, topic)

    without, corrected = await both(run, "commit_before_revoke", lambda without, _: without[:2] == (101, False))
    assert without[:2] == (101, False), "all fifty were done twice"
    assert corrected == (51, True, 51)


async def test_a_rebalance_does_not_wait_for_ever(kafka: Kafka, workers: Workers, unique: str) -> None:
    topic = await kafka.topic(unique)
    await kafka.produce(topic, [OK])

    async def run(label: str, skip: tuple[str, ...]) -> Worker:
        worker = workers.start("held_for_ever", f"{unique}-{label}", topic=topic, skip=skip)
        await worker.says("got 0")
        worker.tell("rejoin")
        return worker

    without, corrected = await both(run, "wait_empty_limit")
    assert await hang_and_end(without, corrected) == (None, 70)
    assert f"{topic}-0" in corrected.tail()


async def test_a_crash_commits_nothing_half_done(kafka: Kafka, workers: Workers, unique: str) -> None:
    topic = await kafka.topic(unique)
    await kafka.produce(topic, [OK])

    async def run(label: str, skip: tuple[str, ...]) -> int:
        worker = workers.start("crash", f"{unique}-{label}", topic=topic, skip=skip)
        await worker.says("began 0")
        code = await worker.ended()
        # Faust's own way out of a crash may hang; with the correction the worker ends.
        assert code not in ((0,) if skip else (0, None))
        await worker.kill()
        return await kafka.committed(f"{unique}-{label}", topic)

    without, corrected = await both(run, "commit_after_crash", lambda without, _: without == 1)
    assert without == 1, "an event that was never done is committed"
    assert corrected == 0


async def test_a_flow_that_is_resumed_twice_drops_nothing(kafka: Kafka, workers: Workers, unique: str) -> None:
    async def run(label: str, skip: tuple[str, ...]) -> tuple[set[int], int]:
        app_id = f"{unique}-{label}"
        topic = await kafka.topic(app_id)
        await kafka.produce(topic, [OK] * 200)
        worker = workers.start("resumed_twice", app_id, topic=topic, skip=skip)
        await worker.says("got 20")
        worker.tell("rejoin")
        await worker.says("ready")
        await kafka.produce(topic, [OK])
        await worker.says("got 200")
        committed = await kafka.until_committed(app_id, topic, 201, 3.0)
        await worker.kill()
        seen = {int(line.split()[1]) for line in worker.lines if line.startswith("got ")}
        return set(range(200)) - seen, committed

    # Whether a fetch comes in time to be lost is luck; that nothing is lost with the correction is not.
    without, corrected = await both(run, "flow_resume", lambda without, _: bool(without[0]))
    assert corrected == (set(), 201)
    assert without[1] == 201, "and what came after them is committed"


async def test_what_comes_while_the_flow_is_stopped_is_fetched_again_though_nothing_was_committed(
    kafka: Kafka, workers: Workers, unique: str
) -> None:
    async def run(label: str, skip: tuple[str, ...]) -> tuple[list[str], int]:
        app_id = f"{unique}-{label}"
        topic = await kafka.topic(app_id)
        worker = workers.start("stopped_flow", app_id, topic=topic, skip=skip)
        await worker.says("ready")
        worker.tell("stop")
        await worker.says("stopped")
        await kafka.produce(topic, [OK])
        # The fetch that was under way ends within 1 s.
        await asyncio.sleep(1.5)
        worker.tell("go")
        if not skip:
            await worker.says("got 0")
        await kafka.produce(topic, [OK])
        await worker.says("got 1")
        committed = await kafka.until_committed(app_id, topic, 2, 10.0)
        await worker.kill()
        return [line for line in worker.lines if line.startswith("got ")], committed

    # Whether a fetch is under way just then is luck; that nothing is lost with the correction is not.
    without, corrected = await both(run, "seek_uncommitted", lambda without, _: "got 0" not in without[0])
    assert corrected == (["got 0", "got 1"], 2)
    assert without == (["got 1"], 2), "the first event is lost, and the second is committed"


async def test_a_stop_amid_a_rebalance_ends(kafka: Kafka, workers: Workers, unique: str) -> None:
    topic = await kafka.topic(unique)

    async def run(label: str, skip: tuple[str, ...]) -> Worker:
        worker = workers.start("slow_fetcher", f"{unique}-{label}", topic=topic, skip=skip)
        await worker.says("ready")
        worker.tell("end")
        return worker

    without, corrected = await both(run, "stop_amid_rebalance")
    assert await hang_and_end(without, corrected) == (None, 0)


async def test_a_recovery_without_an_answer_ends_the_worker(kafka: Kafka, workers: Workers, unique: str) -> None:
    topic = await kafka.topic(unique)

    async def run(label: str, skip: tuple[str, ...]) -> Worker:
        worker = workers.start("slow_answer", f"{unique}-{label}", topic=topic, skip=skip, session_s=2.0)
        await worker.says("asked")
        return worker

    without, corrected = await both(run, "recovery_timeout")
    assert await hang_and_end(without, corrected) == (None, 70)
    assert not await without.hears("ready", 0.5), "the worker hangs"


async def test_a_changelog_that_ends_in_a_marker_is_recovered(kafka: Kafka, workers: Workers, unique: str) -> None:
    topic = await kafka.topic(unique)
    row = b"\x01\x02\x01\x02" + struct.pack(">QQ", 7, 9) + b"body"

    async def run(label: str, skip: tuple[str, ...]) -> Worker:
        app_id = f"{unique}-{label}"
        changelog = await kafka.topic(f"{app_id}-rows-changelog", cleanup_policy="compact")
        await kafka.produce(changelog, [(b"a", row), (b"b", row)], transaction=True)
        return workers.start("recover", app_id, topic=topic, skip=skip)

    without, corrected = await both(run, "replay_before_recovery")
    await corrected.says("ready")
    assert not await without.hears("ready", 4.0), "recovery waits for the record before the end, which is none"
    assert any("Restoring state" in line for line in without.errors), without.tail()


async def test_a_takeover_does_not_wait_behind_idle_fetches(kafka: Kafka, workers: Workers, unique: str) -> None:
    topic = await kafka.topic(unique)

    async def run(label: str, skip: tuple[str, ...]) -> float:
        worker = workers.start("recover", f"{unique}-{label}", topic=topic, skip=skip)
        await worker.says("ready")
        began = time.monotonic()
        worker.tell("rejoin")
        await worker.says("ready")
        await worker.kill()
        return time.monotonic() - began

    without, corrected = await both(run, "fetch_wait", lambda without, corrected: without - corrected > 1.0)
    assert without - corrected > 1.0


async def test_a_worker_asks_for_partitions_at_once(kafka: Kafka, workers: Workers, unique: str) -> None:
    topic = await kafka.topic(unique)

    async def run(label: str, skip: tuple[str, ...]) -> float:
        worker = workers.start("recover", f"{unique}-{label}", topic=topic, skip=skip)
        await worker.says("starting tables")
        began = time.monotonic()
        await worker.says("tables there")
        await worker.kill()
        return time.monotonic() - began

    without, corrected = await both(run, "start_at_once", lambda without, corrected: without - corrected > 0.5)
    assert without - corrected > 0.5


async def test_a_store_that_cannot_write_ends_the_worker(kafka: Kafka, workers: Workers, unique: str) -> None:
    topic = await kafka.topic(unique)
    row = b"\x01\x02\x01\x02" + struct.pack(">QQ", 7, 9) + b"body"

    async def run(label: str, skip: tuple[str, ...]) -> Worker:
        app_id = f"{unique}-{label}"
        changelog = await kafka.topic(f"{app_id}-rows-changelog", cleanup_policy="compact")
        await kafka.produce(changelog, [(b"a", row), (b"b", row)])
        # Faust's own recovery is what standbys use.
        worker = workers.start("full_disk", app_id, topic=topic, skip=("replay_before_recovery", *skip))
        await worker.says("full")
        return worker

    without, corrected = await both(run, "apply_failure")
    assert await hang_and_end(without, corrected) == (None, 70)
    assert not await without.hears("ready", 0.5), "the worker hangs"


@pytest.mark.parametrize("scenario", ["failed_join", "refused_join"])
async def test_a_failed_join_ends_the_worker(kafka: Kafka, workers: Workers, unique: str, scenario: str) -> None:
    topic = await kafka.topic(unique)

    async def run(label: str, skip: tuple[str, ...]) -> Worker:
        worker = workers.start(scenario, f"{unique}-{label}", topic=topic, skip=skip)
        await worker.says("assigned")
        return worker

    without, corrected = await both(run, "coordinator_death")
    assert await hang_and_end(without, corrected) == (None, 70)
    assert not await without.hears("ready", 0.5), "the worker hangs"


async def test_unequal_partitions_end_the_worker(kafka: Kafka, workers: Workers, unique: str) -> None:
    names = [await kafka.topic(f"{unique}-{x}", 4) for x in "abc"]

    async def run(label: str, skip: tuple[str, ...]) -> tuple[int | None, int | None, str]:
        app_id = f"{unique}-{label}"
        start: dict[str, Any] = {"topic": names[0], "partitions": 4, "skip": skip}
        old = workers.start("topics", app_id, place="w0", topics=names[:2], **start)
        await old.says("ready [0, 1, 2, 3]")
        new = workers.start("topics", app_id, place="w1", topics=names, **start)
        # The old worker is told its half only by a rebalance that the new one takes part in.
        code = await new.ended(0.1 if skip else 60.0)
        if skip:
            await old.says("ready [")
            await new.says("ready [")
            code = new.process.poll()
        return old.process.poll(), code, new.tail()

    without, corrected = await both(run, "unequal_partitions")
    assert without[:2] == (None, None), "both go on, each with events whose rows the other one owns"
    assert corrected[:2] == (None, 70)
    assert "same release" in corrected[2]


async def test_a_dropped_backlog_neither_holds_up_a_stop_nor_is_committed_past(
    kafka: Kafka, workers: Workers, unique: str
) -> None:
    topic = await kafka.topic(unique)
    await kafka.produce(topic, [OK] * 20)

    async def run(how: str) -> tuple[int | None, int]:
        worker = workers.start("backlog", f"{unique}-{how}", topic=topic, discard=how)
        await worker.says("full")
        worker.signal(signal.SIGTERM)
        code = await worker.ended(6.0 if how == "none" else 90.0)
        await worker.kill()
        return code, await kafka.committed(f"{unique}-{how}", topic)

    none, forget, floor = await asyncio.gather(run("none"), run("forget"), run("floor"))
    assert none[0] is None, "the stop waits for events that nobody will ack"
    assert forget == (0, 6), "five dropped events are committed past by the one that was in the pump's hand"
    assert floor == (0, 0)


@pytest.mark.parametrize("fenced", [False, True])
async def test_a_frozen_worker_changes_nothing_once_it_is_thawed(
    kafka: Kafka, workers: Workers, unique: str, fenced: bool
) -> None:
    topic = await kafka.topic(unique)
    first = workers.start("units", unique, place="w0", topic=topic, fence=fenced, session_s=3.0)
    await first.says("ready")
    first.tell("age")
    assert float((await first.says("age")).split()[1]) < 3.0
    first.tell("hold")
    await kafka.produce(topic, [(b"row", b"1")])
    await first.says("holding 0")
    first.signal(signal.SIGSTOP)
    second = workers.start("units", unique, place="w1", topic=topic, fence=fenced, session_s=3.0)
    await second.says("done 0")
    await kafka.produce(topic, [(b"row", b"2")])
    await second.says("done 1")
    first.tell("go")
    first.signal(signal.SIGCONT)
    ended = await first.ended(90.0 if fenced else 4.0)
    if fenced:
        assert ended == 70
        assert "fenced at changelog" in first.tail()
    else:
        assert "done 0" in first.lines
    changelog = await kafka.records(f"{unique}-rows-changelog")
    bits = [struct.unpack(">Q", record.value[20:])[0] for record in changelog]
    after = bits[bits.index(0b110) :]
    assert (0b010 in after) is not fenced, "the thawed worker wrote the row as it knew it, without what happened since"


async def test_other_versions_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    hardening.check_versions()
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.15.4" if "faust" in name else real(name))
    with pytest.raises(SystemExit) as ended:
        hardening.install()
    assert ended.value.code == 78
    assert "faust-streaming==0.15.3 is needed, 0.15.4 is installed" in capsys.readouterr().err


async def test_faust_without_its_compiled_stream_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(faust.streams, "_CStreamIterator", None)
    with pytest.raises(SystemExit):
        hardening.check_versions()
    assert "compiled extension" in capsys.readouterr().err


async def test_every_correction_is_described_and_can_be_skipped() -> None:
    told = (ROOT / "docs" / "faust.md").read_text()
    packages = Path(faust.streams.__file__).parents[1]
    assert len({c.name for c in hardening.CORRECTIONS}) == len(hardening.CORRECTIONS)
    for correction in hardening.CORRECTIONS:
        assert correction.fault.endswith(".")
        path, line = correction.source.rsplit(":", 1)
        assert int(line) <= len((packages / path).read_text().splitlines())
        assert f"| `{correction.name}` |" in told
        assert correction.source in told
    with pytest.raises(ValueError, match="no such correction: nonesuch"):
        hardening.install(skip=("nonesuch",))


async def test_a_fatal_fault_ends_the_process_even_if_its_log_is_blocked() -> None:
    program = """
import logging, time
from agents import fence
class Blocked(logging.Handler):
    def emit(self, record):
        time.sleep(60)
logging.getLogger().addHandler(Blocked())
fence.fatal("the disk is gone")
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=ROOT)
    assert await asyncio.wait_for(process.wait(), 20) == 70
