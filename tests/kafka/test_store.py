"""The store by itself: rows, index, counters and offset go together. No broker; the store is the real one."""

import logging
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from rocksdict import Options, Rdict

from schemas.names import State
from tables import due, store
from tables.due import HOUSEKEEPING, STATE_CODES, entry, group, pack
from tables.store import DueStore, check_directory

pytestmark = pytest.mark.asyncio

ROOT = Path(__file__).resolve().parents[2]
SCHEDULED = STATE_CODES[State.SCHEDULED]
SENT = STATE_CODES[State.SENT]
NORMAL_SMS = group(1, 2)


def row(
    state: int = SCHEDULED, lane: int = 1, channel: int = 2, due_ms: int = 0, deadline_ms: int = 0, body: bytes = b"x"
) -> bytes:
    return pack(state, lane, channel, due_ms, deadline_ms) + body


def make_table(path: Path, name: str = "rows") -> Any:
    store.register()
    path.mkdir(parents=True, exist_ok=True)
    app = faust.App("store-test", datadir=str(path), store="due://", broker="kafka://127.0.0.1:1", topic_partitions=4)
    app.conf.tabledir.mkdir(parents=True, exist_ok=True)
    return app.Table(name, partitions=4, key_type=bytes, value_type=bytes)


def make_store(path: Path) -> DueStore:
    data = make_table(path).data
    assert isinstance(data, DueStore)
    return data


async def test_a_written_row_is_read_back_with_its_index_counters_and_offset(tmp_path: Path) -> None:
    s = make_store(tmp_path)
    added = s.write_rows(1, {b"a": row(due_ms=50, deadline_ms=90), b"b": row(state=SENT, due_ms=70)}, 41)
    assert sorted(added) == sorted(
        [entry(NORMAL_SMS, 50, b"a"), entry(HOUSEKEEPING, 90, b"a"), entry(HOUSEKEEPING, 70, b"b")]
    )
    assert s.get_rows(1, [b"b", b"none", b"a"]) == [row(state=SENT, due_ms=70), None, row(due_ms=50, deadline_ms=90)]
    assert s.get_rows(1, []) == []
    assert s.counts(1) == {(SCHEDULED, 2): 1, (SENT, 2): 1}
    assert s.persisted_offset(faust.types.TP("any", 1)) == 41
    assert s.check(1).ok


async def test_a_rewritten_row_moves_its_entries_and_returns_only_the_new_ones(tmp_path: Path) -> None:
    s = make_store(tmp_path)
    s.write_rows(0, {b"a": row(due_ms=50, deadline_ms=90)}, 1)
    assert s.write_rows(0, {b"a": row(due_ms=60, deadline_ms=90)}, 2) == [entry(NORMAL_SMS, 60, b"a")]
    assert s.write_rows(0, {b"a": row(due_ms=60, deadline_ms=90, body=b"longer")}, 3) == []
    assert s.scan_due(0, NORMAL_SMS, b"", 100, 10) == [entry(NORMAL_SMS, 60, b"a")]
    s.write_rows(0, {b"a": None, b"never": None}, 4)
    assert s.counts(0) == {}
    report = s.check(0)
    assert (report.ok, report.rows, report.index_entries) == (True, 0, 0)


async def test_the_store_equals_a_model_after_random_writes(tmp_path: Path) -> None:
    s, model, rng = make_store(tmp_path), dict[bytes, bytes](), random.Random(7)
    states = [*due.STATES, SCHEDULED, SCHEDULED]
    for offset in range(200):
        batch: dict[bytes, bytes | None] = {}
        for _ in range(rng.randrange(1, 20)):
            key = b"k%d" % rng.randrange(120)
            new = row(
                rng.choice(states), rng.randrange(3), rng.randrange(7), rng.choice([0, 5, 9, 700]), rng.choice([0, 9])
            )
            batch[key] = None if rng.random() < 0.2 else new
        s.write_rows(3, batch, offset)
        model = {k: v for k, v in (model | batch).items() if v is not None}
    wanted = {index_key for k, v in model.items() for index_key in due.entries(k, v)}
    found = {k for g in due.GROUPS for k in s.scan_due(3, g, b"", due.MAX_DUE_MS, 10_000)}
    assert dict(s.scan_rows(3, b"", 10_000)) == model
    assert found == wanted
    assert s.counts(3) == Counter((v[1], v[3]) for v in model.values())
    assert s.check(3).ok


async def test_scan_due_gives_one_group_in_order_of_time_up_to_the_limit(tmp_path: Path) -> None:
    s = make_store(tmp_path)
    s.write_rows(0, {b"%d" % i: row(due_ms=i) for i in range(1, 50)} | {b"m": row(channel=1, due_ms=1)}, 1)
    first = s.scan_due(0, NORMAL_SMS, b"", 20, 15)
    assert [due.due_of(k) for k in first] == list(range(1, 16))
    rest = s.scan_due(0, NORMAL_SMS, first[-1] + b"\0", 20, 15)
    assert [due.due_of(k) for k in rest] == list(range(16, 21))
    assert s.next_due(0, NORMAL_SMS, entry(NORMAL_SMS, 20, b"\xff")) == 21
    assert s.next_due(0, NORMAL_SMS, entry(NORMAL_SMS, 50, b"")) is None
    assert s.next_due(0, HOUSEKEEPING, b"") is None
    assert s.next_due(0, group(1, 1), b"") == 1
    assert s.scan_due(0, NORMAL_SMS, b"", 20, 0) == []
    s.write_rows(0, {b"late": row(state=SENT, due_ms=due.MAX_DUE_MS)}, 2)
    assert s.next_due(0, HOUSEKEEPING, b"") == due.MAX_DUE_MS
    assert len(s.scan_due(0, HOUSEKEEPING, b"", due.MAX_DUE_MS, 5)) == 1


async def test_rows_are_listed_by_prefix_and_in_chunks(tmp_path: Path) -> None:
    s = make_store(tmp_path)
    s.write_rows(0, dict.fromkeys([b"d/1", b"p/1", b"p/2", b"p/3", b"q/1", b"\xff\xff"], row()), 1)
    assert [k for k, _ in s.scan_prefix(0, b"p/", b"", 9)] == [b"p/1", b"p/2", b"p/3"]
    assert [k for k, _ in s.scan_prefix(0, b"p/", b"p/1\0", 1)] == [b"p/2"]
    assert [k for k, _ in s.scan_prefix(0, b"p/", b"q", 9)] == []
    assert [k for k, _ in s.scan_prefix(0, b"\xff", b"", 9)] == [b"\xff\xff"]
    assert [k for k, _ in s.scan_rows(0, b"p/3", 2)] == [b"p/3", b"q/1"]


async def test_a_damaged_row_is_kept_counted_and_logged_and_its_neighbours_come_due(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    s = make_store(tmp_path)
    assert len(s.write_rows(0, {b"bad": b"\x01\x02", b"good": row(due_ms=5), b"empty": b""}, 1)) == 1
    assert s.damaged(0) == 2
    assert s.counts(0) == {(SCHEDULED, 2): 1}
    assert "shorter than its header" in caplog.text
    report = s.check(0)
    assert (report.ok, report.damaged, report.rows) == (True, 2, 3)
    s.write_rows(0, {b"bad": row(due_ms=6), b"empty": None}, 2)
    assert s.damaged(0) == 0
    assert s.check(0).ok


@pytest.mark.parametrize("version", [None, b"0"])
async def test_a_missing_or_older_index_is_rebuilt_from_the_rows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, version: bytes | None
) -> None:
    monkeypatch.setattr(store, "CHUNK_ROWS", 7)
    monkeypatch.setattr(store, "PROGRESS_S", 0.0)
    caplog.set_level(logging.INFO)
    s = make_store(tmp_path)
    s.write_rows(2, {b"k%03d" % i: row(due_ms=i, deadline_ms=2 * i) for i in range(1, 100)} | {b"bad": b"?"}, 9)
    meta = s._open_databases[2].meta
    meta.delete(b"index_version") if version is None else meta.put(b"index_version", version)
    meta.put(b"count/\x07\x02", store._COUNT.pack(5))
    s._open_databases[2].due.put(entry(NORMAL_SMS, 3, b"ghost"), b"")
    s._open_databases[2].due.delete(entry(NORMAL_SMS, 1, b"k001"))
    del meta
    before = s.check(2)
    assert (before.ok, before.version_ok, before.missing_total, before.stale_total) == (False, False, 1, 1)
    assert before.miscounted == {(7, 2): (5, 0)}
    await s.stop()
    s = make_store(tmp_path)
    after = s.check(2)
    assert (after.ok, after.rows, after.damaged, after.offset) == (True, 100, 1, 9)
    assert s.counts(2) == {(SCHEDULED, 2): 99}
    assert "rebuilding the due index" in caplog.text
    assert "rebuilt the due index" in caplog.text


async def test_a_store_of_before_the_index_is_upgraded(tmp_path: Path) -> None:
    path = make_store(tmp_path).partition_path(0)
    plain = Rdict(str(path), options=Options(raw_mode=True))
    for i in range(10):
        plain.put(b"%d" % i, row(due_ms=i + 1))
    plain.close()
    s = make_store(tmp_path)
    assert s.counts(0) == {(SCHEDULED, 2): 10}
    assert s.check(0).index_entries == 10


async def test_a_closed_partition_can_be_opened_again_at_once(tmp_path: Path) -> None:
    s = make_store(tmp_path)
    topic = next(iter(s.table.changelog_topic.topics))
    for i in range(5):
        s.write_rows(0, {b"a": row(due_ms=i + 1)}, i)
        s.scan_due(0, NORMAL_SMS, b"", 9, 9)
        s.scan_prefix(0, b"a", b"", 1)
        s.revoke_partitions(s.table, {faust.types.TP(topic, 0)})
        assert s._open_databases == {}
        assert s._dbs == {}
    assert s.get_rows(0, [b"a"]) == [row(due_ms=5)]
    await s.stop()
    assert make_store(tmp_path).get_rows(0, [b"a"]) == [row(due_ms=5)]


def kill_after(program: str, writes: int) -> int:
    """Run a program that prints the number of each write it has done; kill it after so many, return the last one."""
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= writes:
                process.kill()
                break
        return max([writes, *(int(line) for line in process.stdout if line.endswith("\n"))])


async def test_a_killed_process_leaves_index_and_rows_equal(tmp_path: Path) -> None:
    writer = f"""
import asyncio, itertools, os, pathlib, random
from tests.kafka.test_store import make_store, row
async def main():
    s = make_store(pathlib.Path({str(tmp_path)!r})); rng = random.Random(1)
    for offset in itertools.count():
        s.write_rows(0, {{b"k%d" % rng.randrange(500): row(due_ms=rng.randrange(1, 99)) for _ in range(50)}}, offset)
        print(offset, flush=True)
asyncio.run(main())
"""
    last = kill_after(writer, 200)
    s = make_store(tmp_path)
    report = s.check(0)
    assert report.ok
    assert report.rows > 400
    assert report.offset in (last, last + 1)


def filled(path: Path) -> tuple[Path, dict[bytes, bytes | None]]:
    """Return the directory of a partition whose rows lie in files of RocksDB, and the rows."""
    s, chance = make_store(path), random.Random(1)
    rows: dict[bytes, bytes | None] = {b"k%05d" % n: row(due_ms=n, body=chance.randbytes(200)) for n in range(20_000)}
    s.write_rows(1, rows, 19_999)
    s._open_databases[1].rows.flush()
    s._close(1)
    return s.partition_path(1), rows


def damage(file: Path, how: str) -> None:
    """Overwrite some bytes amid a file, or cut it."""
    with file.open("r+b") as f:
        if how == "cut":
            f.truncate(file.stat().st_size // 2)
        else:
            f.seek(file.stat().st_size // 2)
            f.write(bytes(3000))


async def test_a_scan_that_meets_damage_fails_and_the_store_begins_anew_with_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An iterator of RocksDB ends at damage as if nothing came behind it: what is due there would never be found."""
    directory, rows = filled(tmp_path)
    damage(max(directory.glob("*.sst"), key=lambda file: file.stat().st_size), "overwritten")
    s = make_store(tmp_path)
    assert len(s.scan_rows(1, b"", 10)) == 10
    with pytest.raises(Exception, match=r"^Corruption"):
        s.scan_rows(1, b"", 1_000_000)
    assert "a store is damaged" in caplog.text
    s._close(1)
    # What is read next may be whole: the note counts.
    s = make_store(tmp_path)
    assert (s.persisted_offset(faust.types.TP("any", 1)), s.scan_rows(1, b"", 10), s.counts(1)) == (None, [], {})
    s.write_rows(1, rows, 19_999)
    assert s.check(1).ok
    s._close(1)
    assert sorted(path.name for path in directory.parent.glob("rows-1.*")) == ["rows-1.db"]
    assert make_store(tmp_path).get_rows(1, [b"k00007"]) == [rows[b"k00007"]]


async def test_a_store_that_cannot_be_opened_begins_anew_at_once(tmp_path: Path) -> None:
    for again in range(2):
        directory, rows = filled(tmp_path)
        damage(max(directory.glob("*.sst"), key=lambda file: file.stat().st_size), "cut")
        s = make_store(tmp_path)
        assert s.get_rows(1, [b"k00007"]) == [None], again
        assert s.persisted_offset(faust.types.TP("any", 1)) is None
        s.write_rows(1, rows, 19_999)
        assert s.check(1).ok
        s._close(1)
    assert sorted(path.name for path in directory.parent.glob("rows-1.*")) == ["rows-1.db"]
    make_store(tmp_path).reset_state()
    assert list(directory.parent.glob("rows-1.*")) == []


async def test_a_directory_is_checked_while_its_worker_runs(tmp_path: Path) -> None:
    s = make_store(tmp_path)
    s.write_rows(0, {b"a": row(due_ms=5)}, 3)
    report = check_directory(s.partition_path(0))
    assert (report.ok, report.rows, report.offset) == (True, 1, 3)


async def test_changelog_records_keep_the_index_and_old_ones_change_nothing(tmp_path: Path) -> None:
    s = make_store(tmp_path)

    def record(offset: int, key: bytes, value: bytes | None) -> Any:
        tp = faust.types.TP("changelog", 0)
        return SimpleNamespace(message=SimpleNamespace(partition=0, tp=tp, offset=offset, key=key, value=value))

    first = [record(0, b"a", row(due_ms=1)), record(1, b"b", row(due_ms=2)), record(5, b"a", row(due_ms=3))]
    s.apply_changelog_batch(first, bytes, bytes)
    assert s.scan_due(0, NORMAL_SMS, b"", 9, 9) == [entry(NORMAL_SMS, 2, b"b"), entry(NORMAL_SMS, 3, b"a")]
    s.apply_changelog_batch([record(0, b"a", row(due_ms=1)), record(6, b"b", None)], bytes, bytes)
    assert s.get_rows(0, [b"a", b"b"]) == [row(due_ms=3), None]
    assert s.persisted_offset(faust.types.TP("changelog", 0)) == 6
    assert s.check(0).ok


async def test_only_the_unit_of_work_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = make_table(tmp_path)
    sent: list[Any] = []
    monkeypatch.setattr(table, "send_changelog", lambda *a, **k: sent.append(a))
    monkeypatch.setattr(table, "partition_for_key", lambda key: 0)
    assert isinstance(table.data, DueStore)  # made on first use; in a worker, by recovery
    with pytest.raises(TypeError, match="unit of work alone"):
        table[b"a"] = row()
    with pytest.raises(TypeError, match="unit of work alone"):
        del table[b"a"]
    with pytest.raises(TypeError, match="unit of work alone"):
        table.data[b"a"] = row()
    assert sent == []


async def test_reset_removes_this_tables_partitions_alone(tmp_path: Path) -> None:
    s = make_store(tmp_path)
    s.write_rows(0, {b"a": row()}, 1)
    s.write_rows(11, {b"a": row()}, 1)
    other = s.partition_path(0).with_name("other-0.db")
    shutil.copytree(s.partition_path(0), other)
    s.reset_state()
    assert not s.partition_path(0).exists()
    assert not s.partition_path(11).exists()
    assert other.exists()
    assert s.get_rows(0, [b"a"]) == [None]


async def test_the_url_needs_a_query_to_name_this_store_for_one_table(tmp_path: Path) -> None:
    store.register()
    app = faust.App("store-url", datadir=str(tmp_path), broker="kafka://127.0.0.1:1")
    app.conf.tabledir.mkdir(parents=True, exist_ok=True)
    assert isinstance(app.Table("t", store="due://?v=1").data, DueStore)
    assert not isinstance(app.Table("u", store="due://").data, DueStore)
