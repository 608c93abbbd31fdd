"""Replay of changelogs, and the store across every way in which a worker ends, on the real broker."""

import asyncio
import logging
import random
import shutil
import signal
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from faust.types import TP

from tables import recovery
from tables.recovery import ReplayError, replay
from tables.store import DueStore, check_directory
from tests.kafka.conftest import Kafka, Worker, Workers
from tests.kafka.test_store import make_store, row

pytestmark = pytest.mark.asyncio


async def changelog_of(kafka: Kafka, name: str, partitions: int = 1) -> str:
    return await kafka.topic(name, partitions, cleanup_policy="compact")


def rows_of(store: DueStore, partition: int) -> dict[bytes, bytes]:
    return dict(store.scan_rows(partition, b"", 1_000_000))


async def test_a_wiped_directory_of_50000_rows_is_the_same_byte_for_byte(
    kafka: Kafka, unique: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, logger="tables.recovery")
    monkeypatch.setattr(recovery, "PROGRESS_S", 0.05)
    topic, rng = await changelog_of(kafka, unique, 2), random.Random(5)
    model: list[dict[bytes, bytes]] = [{}, {}]
    for partition in (0, 1):
        keys = [b"key-%d" % i for i in range(25_000)]
        again = rng.sample(keys, 5_000)
        records = [(k, row(due_ms=i, body=rng.randbytes(180))) for i, k in enumerate([*keys, *again], start=1)]
        gone: list[tuple[bytes, bytes | None]] = [(k, None) for k in rng.sample(keys, 100)]
        await kafka.produce(topic, [*records, *gone], partition)
        model[partition] = dict(records)
        for k, _ in gone:
            del model[partition][k]
    store = make_store(tmp_path)
    assert store.counts(0) == store.counts(1) == {}
    done = await replay({TP(topic, p): store for p in (0, 1)}, kafka.consumer)
    assert (done.partitions, done.records) == (2, 60_200)
    for partition in (0, 1):
        assert rows_of(store, partition) == model[partition]
        assert store.persisted_offset(TP(topic, partition)) == 30_099
        report = store.check(partition)
        assert (report.ok, report.index_entries) == (True, len(model[partition]))
    assert "replaying changelogs" in caplog.text
    again_done = await replay({TP(topic, p): store for p in (0, 1)}, kafka.consumer)
    assert (again_done.records, again_done.rows) == (0, 0)


async def test_only_the_tail_is_read_and_the_marker_of_a_transaction_is_passed(
    kafka: Kafka, unique: str, tmp_path: Path
) -> None:
    topic, store = await changelog_of(kafka, unique), make_store(tmp_path)
    tp = TP(topic, 0)
    await kafka.produce(topic, [(b"a", row(due_ms=1)), (b"b", row(due_ms=2))])
    store.write_rows(0, {b"a": row(due_ms=1)}, 0)
    assert (await replay({tp: store}, kafka.consumer)).records == 1
    await kafka.produce(topic, [(b"a", row(due_ms=9)), (b"b", None)], transaction=True)
    assert (await replay({tp: store}, kafka.consumer)).records == 2
    assert rows_of(store, 0) == {b"a": row(due_ms=9)}
    assert store.persisted_offset(tp) == 4, "the marker's offset, so that nothing is left for Faust to wait for"
    assert store.check(0).ok


async def test_a_store_ahead_of_its_changelog_is_left_as_it_is_and_the_remedy_named(
    kafka: Kafka, unique: str, tmp_path: Path
) -> None:
    topic, store = await changelog_of(kafka, unique, 2), make_store(tmp_path)
    await kafka.produce(topic, [(b"a", row(due_ms=1))], partition=1)
    store.write_rows(0, {b"old": row(due_ms=5)}, 7)
    store.counts(1)
    with pytest.raises(ReplayError) as refused:
        await replay({TP(topic, 0): store, TP(topic, 1): store}, kafka.consumer)
    message = str(refused.value)
    assert f"{store.partition_path(0)} (has read 8, there are 0)" in message
    assert str(store.partition_path(1)) not in message
    assert "move the named directories away" in message
    assert rows_of(store, 0) == {b"old": row(due_ms=5)}
    assert rows_of(store, 1) == {}


async def test_a_changelog_whose_beginning_was_deleted_is_read_from_what_is_left(
    kafka: Kafka, unique: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    topic = await kafka.topic(unique, cleanup_policy="delete")
    await kafka.produce(topic, [(b"%d" % i, row(due_ms=i + 1)) for i in range(10)])
    await kafka.admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=6)})
    fresh, behind = make_store(tmp_path / "fresh"), make_store(tmp_path / "behind")
    fresh.counts(0)
    behind.write_rows(0, {b"0": row(due_ms=1)}, 0)
    for store in (fresh, behind):
        assert (await replay({TP(topic, 0): store}, kafka.consumer)).records == 4
        assert store.persisted_offset(TP(topic, 0)) == 9
    assert sorted(rows_of(fresh, 0)) == [b"6", b"7", b"8", b"9"]
    assert sorted(rows_of(behind, 0)) == [b"0", b"6", b"7", b"8", b"9"]
    assert [r.levelname for r in caplog.records if "were deleted" in r.message] == ["WARNING", "ERROR"]


async def test_a_replay_that_stands_still_is_given_up(kafka: Kafka, unique: str, tmp_path: Path) -> None:
    topic, store = await changelog_of(kafka, unique), make_store(tmp_path)
    await kafka.produce(topic, [(b"a", row())])
    store.counts(0)

    def silent() -> Any:
        consumer = kafka.consumer()

        async def getmany(**_: Any) -> dict[Any, Any]:
            await asyncio.sleep(0.05)
            return {}

        consumer.getmany = getmany
        return consumer

    with pytest.raises(ReplayError, match=f"no changelog record came for 0.6 s .{topic}-0"):
        await replay({TP(topic, 0): store}, silent, stall_s=0.6)


async def test_a_broker_that_is_not_there_is_an_error(unique: str, tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.counts(0)
    with pytest.raises(ReplayError):
        await replay({TP(unique, 0): store}, Kafka("127.0.0.1:1", None).consumer, stall_s=5)


async def test_a_partition_that_is_closed_meanwhile_is_left_alone(kafka: Kafka, unique: str, tmp_path: Path) -> None:
    topic, store = await changelog_of(kafka, unique), make_store(tmp_path)
    await kafka.produce(topic, [(b"a", row())])
    assert not store.is_open(0)
    store.counts(0)
    closing = kafka.consumer()
    seek = closing.seek

    def close_then_seek(*arguments: Any) -> None:
        store._close(0)
        seek(*arguments)

    closing.seek = close_then_seek
    assert (await replay({TP(topic, 0): store}, lambda: closing)).records == 0
    assert not store.is_open(0)


# -- workers: the store across every way in which one ends


def directories(workers: Workers, app_id: str, place: str) -> list[Path]:
    return sorted(workers.directory(app_id, place).glob("**/rows-*.db"))


def bits_of(workers: Workers, app_id: str, place: str) -> dict[bytes, int]:
    """Return key to bits of a worker that has ended, from its directories."""
    found: dict[bytes, int] = {}
    for path in directories(workers, app_id, place):
        report = check_directory(path)
        assert report.ok, (path, report)
        store = make_store(path.parents[3] / "read")
        shutil.rmtree(store.partition_path(0), ignore_errors=True)
        shutil.copytree(path, store.partition_path(0))
        found |= {k: struct.unpack(">Q", v[20:])[0] for k, v in store.scan_rows(0, b"", 100_000)}
        store._close(0)
    return found


async def done(worker: Worker, count: int) -> None:
    for _ in range(count):
        await worker.says("done")


async def test_index_and_rows_stay_equal_however_a_worker_ends(kafka: Kafka, workers: Workers, unique: str) -> None:
    topic = await kafka.topic(unique, 2)
    expected: Counter[bytes] = Counter()

    async def produce(bit: int, count: int) -> None:
        for partition in (0, 1):
            records = [(b"p%d-%d" % (partition, i), b"%d" % bit) for i in range(count)]
            await kafka.produce(topic, records, partition)
            for key, _ in records:
                expected[key] |= 1 << bit

    def start(place: str) -> Worker:
        return workers.start("units", unique, place=place, topic=topic, partitions=2, session_s=3.0)

    async def stopped(worker: Worker) -> None:
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 0, worker.tail()

    # A clean stop, and a start on what it left.
    first = start("w0")
    await produce(0, 60)
    await done(first, 120)
    await stopped(first)
    assert bits_of(workers, unique, "w0") == expected

    # kill -9 amid work.
    first = start("w0")
    await first.says("ready")
    await produce(1, 60)
    await done(first, 40)
    await first.kill()
    assert bits_of(workers, unique, "w0")
    first = start("w0")
    await produce(2, 5)
    await until_bits(kafka, unique, topic, expected)
    await stopped(first)
    assert bits_of(workers, unique, "w0") == expected

    # A wiped directory.
    shutil.rmtree(workers.directory(unique, "w0"))
    first = start("w0")
    await first.says("ready")
    await stopped(first)
    assert bits_of(workers, unique, "w0") == expected

    # Two workers; the one is killed, the other takes over from its standby.
    first, second = start("w0"), start("w1")
    await first.says("ready")
    await second.says("ready")
    await produce(3, 20)
    await until_bits(kafka, unique, topic, expected)
    await first.kill()
    await second.says("ready [0, 1]")
    await produce(4, 5)
    await until_bits(kafka, unique, topic, expected)
    await stopped(second)
    assert bits_of(workers, unique, "w1") == expected


async def until_bits(kafka: Kafka, app_id: str, topic: str, expected: Counter[bytes]) -> None:
    """Wait until the changelogs say what is expected."""
    async with asyncio.timeout(90):
        while True:
            found: dict[bytes, int] = {}
            for partition in (0, 1):
                for record in await kafka.records(f"{app_id}-rows-changelog", partition):
                    found[record.key] = struct.unpack(">Q", record.value[20:])[0]
            if found == expected:
                return
            await asyncio.sleep(0.2)
