"""The store: rows, the due index derived from them, counters and the changelog offset, in one RocksDB write.

A Faust table store (one RocksDB database a partition) with three column families: the default one holds the rows,
``due`` the index that :mod:`tables.due` derives from their headers, ``meta`` the changelog offset, the index version
and the counters. Whoever changes rows (the unit of work, recovery, a standby) does it through
:meth:`DueStore.write_rows`, so that none of the four can be without the others after a kill.

    register()
    App(store="due://", ...)            # all tables
    app.Table(..., store="due://?v=1")  # one table

A bare ``Table(store="due://")`` would silently be the memory store, for ``bool(URL("due://"))`` is False.

Only the unit of work writes: ``table[key] = value`` raises ``TypeError``, before anything has left for the changelog.
No iterator outlives a call: one that lives keeps RocksDB's lock, and the partition could not be opened again after a
rebalance.

What RocksDB finds damaged is raised and noted beside the database, which is removed when it is opened the next time:
the rows come back from the changelog.
"""

import contextlib
import gc
import logging
import shutil
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from faust.stores import STORES
from faust.stores.rocksdb import Store
from faust.types import TP, AppT, CollectionT, EventT
from rocksdict import AccessType, BlockBasedOptions, Cache, Options, Rdict, ReadOptions, WriteBatch
from yarl import URL

from tables.due import HOUSEKEEPING, INDEX_VERSION, due_of, entries, entry, row_key_of

log = logging.getLogger(__name__)

ALIAS = "due"

#: Memory and file handles of one partition, all column families together; Faust's default is 2 GiB of cache.
BLOCK_CACHE_BYTES = 16 << 20
WRITE_BUFFER_BYTES = 8 << 20
MAX_OPEN_FILES = 256
#: A start replays the write-ahead log, and a family that is rarely written would hold on to all of it.
MAX_WAL_BYTES = 32 << 20

#: Rows handled between two writes, or two lookups, while an index is rebuilt or checked.
CHUNK_ROWS = 5_000
PROGRESS_S = 1.0

_ROWS, _DUE, _META = "default", "due", "meta"
_OFFSET_KEY = b"offset"
_VERSION_KEY = b"index_version"
_COUNT_PREFIX = b"count/"
_COUNT = struct.Struct(">Q")
_VERSION = str(INDEX_VERSION).encode()
#: The counter of rows that are shorter than a header, and hence in no state.
_DAMAGED = (255, 255)
#: How RocksDB's errors about bytes that are not what it wrote begin.
_CORRUPTION = "Corruption"
_DAMAGED_MESSAGE = "a row is shorter than its header; it is kept, and never comes due"
#: Above every index key: a group, a time and a key of at most 210 bytes.
_END = b"\xff" * 256

_Count = tuple[int, int]


def register() -> None:
    """Make ``due://`` known to Faust. Call it before the first table is made."""
    STORES.aliases[ALIAS] = f"{DueStore.__module__}:{DueStore.__qualname__}"


@dataclass(slots=True)
class IndexReport:
    """How the index and the counters of one partition compare with its rows."""

    rows: int = 0
    damaged: int = 0
    index_entries: int = 0
    offset: int | None = None
    #: Entries that rows ask for and the index lacks: rows that would never fire. At most ten, as examples.
    missing: list[bytes] = field(default_factory=list)
    missing_total: int = 0
    #: Entries that no row asks for. At most ten, as examples.
    stale: list[bytes] = field(default_factory=list)
    stale_total: int = 0
    #: By (state, channel): what is counted and what is there, where they differ.
    miscounted: dict[_Count, tuple[int, int]] = field(default_factory=dict)
    version_ok: bool = True

    @property
    def ok(self) -> bool:
        """Whether index and counters are exactly what the rows say."""
        return self.version_ok and not (self.missing_total or self.stale_total or self.miscounted)


@dataclass(slots=True)
class _Database:
    """One open partition. Families and their handles keep RocksDB's lock while they live; :meth:`close` drops them."""

    rows: Rdict
    due: Rdict
    meta: Rdict
    due_family: Any
    meta_family: Any
    counts: Counter[_Count]

    def close(self) -> None:
        rows = self.rows
        del self.due, self.meta, self.due_family, self.meta_family, self.rows
        rows.close()


class DueStore(Store):
    """Rows by key, and in the order in which they come due."""

    _open_databases: dict[int, _Database]

    def __init__(
        self,
        url: str | URL,
        app: AppT,
        table: CollectionT,
        *,
        options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        bounded = {
            "block_cache_size": BLOCK_CACHE_BYTES,
            "write_buffer_size": WRITE_BUFFER_BYTES,
            "max_open_files": MAX_OPEN_FILES,
            "max_write_buffer_number": 2,
        }
        self._open_databases = {}
        super().__init__(url, app, table, options=bounded | dict(options or {}), **kwargs)
        # A table sends the changelog record before it asks its store to write: a refusal in _set alone comes too late.
        table.on_key_set = table.on_key_del = self._refuse  # type: ignore[attr-defined]

    # -- rows

    def get_rows(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the rows of the keys, in their order; None where there is none."""
        with self._noticing(partition) as db:
            return _get(db.rows, keys)

    def write_rows(self, partition: int, rows: Mapping[bytes, bytes | None], offset: int | None) -> list[bytes]:
        """Write (None: delete) rows, what follows from them, and the changelog offset they reflect; all or nothing.

        Returns the index keys that were added.
        """
        with self._noticing(partition) as db:
            return self._write(partition, db, rows, offset)

    def _write(
        self, partition: int, db: _Database, rows: Mapping[bytes, bytes | None], offset: int | None
    ) -> list[bytes]:
        due = db.due_family
        batch = WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        added: list[bytes] = []
        delta: Counter[_Count] = Counter()
        keys = list(rows)
        for key, old in zip(keys, _get(db.rows, keys), strict=True):
            new = rows[key]
            if new is None:
                delete(key)
            else:
                put(key, new)
            was, counted = _derive(key, old)
            now, counts = _derive(key, new)
            if counts == _DAMAGED:
                log.error("%s", _DAMAGED_MESSAGE, extra=self._about(partition, key))
            for index_key in was:
                if index_key not in now:
                    delete(index_key, due)
            for index_key in now:
                if index_key not in was:
                    put(index_key, b"", due)
                    added.append(index_key)
            if counted != counts:
                if counted is not None:
                    delta[counted] -= 1
                if counts is not None:
                    delta[counts] += 1
        for which, change in delta.items():
            if change:
                put(_COUNT_PREFIX + bytes(which), _COUNT.pack(db.counts[which] + change), db.meta_family)
        if offset is not None:
            put(_OFFSET_KEY, str(offset).encode(), db.meta_family)
        db.rows.write(batch)
        db.counts.update(delta)
        return added

    def scan_rows(self, partition: int, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return at most limit rows with key >= start, in the order of their keys."""
        with self._noticing(partition) as db:
            return _scan(db.rows, start, None, limit)

    def scan_prefix(self, partition: int, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return at most limit rows whose key begins with prefix and is >= start, in the order of their keys."""
        with self._noticing(partition) as db:
            return _scan(db.rows, max(prefix, start), _after(prefix), limit)

    # -- what is due

    def scan_due(self, partition: int, group: bytes, start: bytes, upto_ms: int, limit: int) -> list[bytes]:
        """Return at most limit index keys of the group that are >= start and due by upto_ms, the earliest first.

        Costs what it returns, not what the table holds, provided that start is where the last scan ended: what has
        been taken out of the index before that would be walked over.
        """
        with self._noticing(partition) as db:
            return _scan_keys(db.due, max(group, start), entry(group, upto_ms + 1, b""), limit)

    def next_due(self, partition: int, group: bytes, start: bytes) -> int | None:
        """Return when the group's first entry at or after start is due (ms UTC), None if there is none."""
        with self._noticing(partition) as db:
            first = _scan_keys(db.due, max(group, start), _after_group(group), 1)
        return due_of(first[0]) if first else None

    def counts(self, partition: int) -> dict[_Count, int]:
        """Return how many rows there are by (state code, channel code). Costs nothing: it is counted on writing."""
        return {which: n for which, n in self._database(partition).counts.items() if n and which != _DAMAGED}

    def damaged(self, partition: int) -> int:
        """Return how many rows are shorter than a header. They are kept and listed, and never come due."""
        return self._database(partition).counts[_DAMAGED]

    # -- partitions and offsets

    def open_partitions(self) -> list[int]:
        """Return the partitions that this worker owns (not its standbys) and has open."""
        topic = self.table.changelog_topic.get_topic_name()
        actives = self.app.assignor.assigned_actives()
        return sorted(p for p in self._open_databases if TP(topic, p) in actives)

    def is_open(self, partition: int) -> bool:
        """Return whether the partition is open here, as owner or standby."""
        return partition in self._open_databases

    def persisted_offset(self, tp: TP) -> int | None:
        """Return the changelog offset up to which this store reflects the changelog."""
        with self._noticing(tp.partition) as db:
            return _offset(db.meta)

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        """Note that everything up to offset is reflected (records that hold no row need no write of rows)."""
        with self._noticing(tp.partition) as db:
            db.meta.put(_OFFSET_KEY, str(offset).encode())

    def apply_changelog_batch(
        self, batch: Iterable[EventT[Any]], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]
    ) -> None:
        """Apply changelog records that Faust read (recovery, standbys). Those already reflected change nothing."""
        rows: dict[int, dict[bytes, bytes | None]] = {}
        offsets: dict[int, int] = {}
        for event in batch:
            message: Any = event.message
            p: int = message.partition
            if p not in offsets:
                offset = self.persisted_offset(message.tp)
                offsets[p], rows[p] = -1 if offset is None else offset, {}
            if message.offset > offsets[p]:
                offsets[p] = message.offset
                rows[p][message.key] = message.value
        for p, changed in rows.items():
            if changed:
                self.write_rows(p, changed, offsets[p])

    def partition_path(self, partition: int) -> Path:
        """Return the directory that holds a partition."""
        path: Path = super().partition_path(partition)
        return path

    # -- comparing

    def check(self, partition: int) -> IndexReport:
        """Compare index and counters with the rows. Reads the whole partition."""
        with self._noticing(partition) as db:
            return _compare(db.rows, db.due, db.meta)

    # -- opening and closing (Faust's own names)

    def _database(self, partition: int) -> _Database:
        try:
            return self._open_databases[partition]
        except KeyError:
            self._db_for_partition(partition)
            return self._open_databases[partition]

    @contextlib.contextmanager
    def _noticing(self, partition: int) -> Iterator[_Database]:
        """Give a partition's database; note damage that is found in it."""
        try:
            yield self._database(partition)
        except Exception as exc:
            if str(exc).startswith(_CORRUPTION):
                log.error("a store is damaged", extra=self._about(partition) | {"found": str(exc)})
                self._note(partition).write_text(str(exc), "utf-8")
            raise

    def _note(self, partition: int) -> Path:
        """Return the file that says that a partition's database is damaged."""
        return self.partition_path(partition).with_suffix(".damage")

    def _begin_anew(self, partition: int, why: str) -> None:
        """Remove a damaged database. No copy is kept: it would outlive what is erased, keys among it."""
        path = self.partition_path(partition)
        if path.exists():
            shutil.rmtree(path)
        self._note(partition).unlink(missing_ok=True)
        log.error(
            "a damaged store was removed; its rows are read from the changelog",
            extra=self._about(partition) | {"found": why},
        )

    def _open_for_partition(self, partition: int) -> Rdict:
        path = self.partition_path(partition)
        path.parent.mkdir(parents=True, exist_ok=True)
        if (note := self._note(partition)).exists():
            self._begin_anew(partition, note.read_text("utf-8"))
        try:
            db = self._opened(partition, path)
        except Exception as exc:
            if not str(exc).startswith(_CORRUPTION):
                raise
            gc.collect()
            self._begin_anew(partition, str(exc))
            db = self._opened(partition, path)
        self._open_databases[partition] = db
        return db.rows

    def _opened(self, partition: int, path: Path) -> _Database:
        cache = Cache(self.rocksdb_options.block_cache_size)
        rows = Rdict(
            str(path),
            options=self._options(cache),
            column_families={_DUE: self._options(cache), _META: self._options(cache)},
        )
        db = _Database(
            rows=rows,
            due=rows.get_column_family(_DUE),
            meta=rows.get_column_family(_META),
            due_family=rows.get_column_family_handle(_DUE),
            meta_family=rows.get_column_family_handle(_META),
            counts=Counter(),
        )
        try:
            if db.meta.get(_VERSION_KEY) == _VERSION:
                db.counts.update(_counts(db.meta))
            else:
                self._rebuild(partition, db)
        except Exception:
            # Held on to, it would keep RocksDB's lock.
            db.close()
            raise
        return db

    def _options(self, cache: Cache) -> Options:
        # Faust's RocksDBOptions.as_options makes a cache of its own for each family.
        bounds = self.rocksdb_options
        blocks = BlockBasedOptions()
        blocks.set_block_cache(cache)
        blocks.set_bloom_filter(10, False)
        blocks.set_cache_index_and_filter_blocks(True)
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.create_missing_column_families(True)
        options.set_block_based_table_factory(blocks)
        options.set_max_open_files(bounds.max_open_files or MAX_OPEN_FILES)
        options.set_write_buffer_size(bounds.write_buffer_size)
        options.set_db_write_buffer_size(bounds.write_buffer_size)
        options.set_max_write_buffer_number(bounds.max_write_buffer_number)
        options.set_max_total_wal_size(MAX_WAL_BYTES)
        options.set_keep_log_file_num(2)
        options.set_max_log_file_size(1 << 20)
        return options

    def _rebuild(self, partition: int, db: _Database) -> None:
        """Derive index and counters from the rows. The version is written last: a kill in between begins anew."""
        batch = WriteBatch(raw_mode=True)
        batch.delete(_VERSION_KEY, db.meta_family)
        batch.delete_range(b"", _END, db.due_family)
        for count_key in _scan_keys(db.meta, _COUNT_PREFIX, _after(_COUNT_PREFIX), 1 << 16):
            batch.delete(count_key, db.meta_family)
        db.rows.write(batch)
        began = said = time.monotonic()
        done, indexed = 0, 0
        for chunk in _chunks(db.rows):
            batch = WriteBatch(raw_mode=True)
            for key, row in chunk:
                derived, counted = _derive(key, row)
                for index_key in derived:
                    batch.put(index_key, b"", db.due_family)
                if counted is not None:
                    db.counts[counted] += 1
                indexed += len(derived)
            db.rows.write(batch)
            done += len(chunk)
            if time.monotonic() - said >= PROGRESS_S:
                said = time.monotonic()
                log.info("rebuilding the due index", extra=self._about(partition) | {"rows": done})
        batch = WriteBatch(raw_mode=True)
        for which, n in db.counts.items():
            batch.put(_COUNT_PREFIX + bytes(which), _COUNT.pack(n), db.meta_family)
        batch.put(_VERSION_KEY, _VERSION, db.meta_family)
        db.rows.write(batch)
        if done:
            took = {"rows": done, "entries": indexed, "seconds": round(time.monotonic() - began, 2)}
            log.info("rebuilt the due index", extra=self._about(partition) | took)
        if db.counts[_DAMAGED]:
            log.error("%s", _DAMAGED_MESSAGE, extra=self._about(partition) | {"damaged": db.counts[_DAMAGED]})

    def _about(self, partition: int, key: bytes | None = None) -> dict[str, Any]:
        about: dict[str, Any] = {"table": self.table_name, "partition": partition}
        return about if key is None else about | {"key": key.decode(errors="backslashreplace")}

    def _close(self, partition: int) -> None:
        self._dbs.pop(partition, None)
        if (db := self._open_databases.pop(partition, None)) is not None:
            db.close()

    def revoke_partitions(self, table: CollectionT, tps: set[TP]) -> None:
        """Close the partitions that another worker takes over."""
        for tp in tps:
            if tp.topic in table.changelog_topic.topics:
                self._close(tp.partition)
        gc.collect()

    async def stop(self) -> None:
        """Close every partition."""
        for p in list(self._open_databases):
            self._close(p)
        await super().stop()

    def reset_state(self) -> None:
        """Remove this table's local data, and no other table's. The changelog is not touched."""
        for p in list(self._open_databases):
            self._close(p)
        self._dbs.clear()
        self._key_index.clear()
        # partition_path gives the name of one partition; its neighbours differ in the number alone.
        name = self.partition_path(0).name
        for path in self.path.glob(name.replace("-0.db", "-*.db")):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(path)

    # -- refused

    def _refuse(self, *_: Any) -> NoReturn:
        raise TypeError(
            f"table {self.table_name!r} is written by the unit of work alone (DueStore.write_rows): "
            "an assignment would bypass the order of emits, changelog and rows"
        )

    def _set(self, key: bytes, value: bytes | None) -> NoReturn:
        self._refuse()

    def _del(self, key: bytes) -> NoReturn:
        self._refuse()


def check_directory(path: Path) -> IndexReport:
    """Compare index and counters of a partition's directory with its rows, read-only: its worker may be running."""
    options = Options(raw_mode=True)
    families = {_DUE: Options(raw_mode=True), _META: Options(raw_mode=True)}
    rows = Rdict(str(path), options=options, column_families=families, access_type=AccessType.read_only())
    try:
        return _compare(rows, rows.get_column_family(_DUE), rows.get_column_family(_META))
    finally:
        rows.close()


def _derive(key: bytes, row: bytes | None) -> tuple[tuple[bytes, ...], _Count | None]:
    """Return the index keys of a row and what it is counted as."""
    if row is None:
        return (), None
    try:
        return tuple(entries(key, row)), (row[1], row[3])
    except struct.error:
        return (), _DAMAGED


def _get(db: Rdict, keys: Sequence[bytes]) -> list[bytes | None]:
    # Of an empty list Rdict.get returns None.
    return list(db.get(list(keys)) or ()) if keys else []


def _after(prefix: bytes) -> bytes | None:
    """Return the first key above every key that begins with prefix, None if there is no such key."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None


def _after_group(group: bytes) -> bytes:
    return _END if group == HOUSEKEEPING else _after(group) or _END


def _bounded(end: bytes | None) -> ReadOptions:
    # Without a bound an iterator that finds nothing below it would walk over everything deleted above it.
    options = ReadOptions()
    if end is not None:
        options.set_iterate_upper_bound(end)
    return options


def _scan(db: Rdict, start: bytes, end: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    if limit > 0 and (end is None or start < end):
        for key, value in db.items(from_key=start, read_opt=_bounded(end)):
            found.append((key, value))  # type: ignore[arg-type]  # raw mode: bytes
            if len(found) >= limit:
                return found
        _at_end(db, found[-1][0] if found else start, end)
    return found


def _scan_keys(db: Rdict, start: bytes, end: bytes | None, limit: int) -> list[bytes]:
    found: list[bytes] = []
    if limit > 0 and (end is None or start < end):
        for key in db.keys(from_key=start, read_opt=_bounded(end)):
            found.append(key)  # type: ignore[arg-type]  # raw mode: bytes
            if len(found) >= limit:
                return found
        _at_end(db, found[-1] if found else start, end)
    return found


def _at_end(db: Rdict, last: bytes, end: bytes | None) -> None:
    """Raise if a scan ended behind ``last`` at damage: rocksdict's iterators end there as if nothing came behind."""
    step = db.iter(_bounded(end))
    step.seek(last)
    if step.valid():
        step.next()
    step.status()


def _chunks(rows: Rdict) -> Iterator[list[tuple[bytes, bytes]]]:
    start = b""
    while chunk := _scan(rows, start, None, CHUNK_ROWS):
        yield chunk
        start = chunk[-1][0] + b"\0"


def _counts(meta: Rdict) -> Counter[_Count]:
    counts: Counter[_Count] = Counter()
    for key, value in _scan(meta, _COUNT_PREFIX, _after(_COUNT_PREFIX), 1 << 16):
        state, channel = key[len(_COUNT_PREFIX) :]
        (counts[state, channel],) = _COUNT.unpack(value)
    return counts


def _offset(meta: Rdict) -> int | None:
    value = meta.get(_OFFSET_KEY)
    return int(value) if value is not None else None


def _compare(rows: Rdict, due: Rdict, meta: Rdict) -> IndexReport:
    report = IndexReport(offset=_offset(meta), version_ok=meta.get(_VERSION_KEY) == _VERSION)
    there: Counter[_Count] = Counter()
    for chunk in _chunks(rows):
        wanted: list[bytes] = []
        for key, row in chunk:
            derived, counted = _derive(key, row)
            wanted.extend(derived)
            if counted is not None:
                there[counted] += 1
        report.rows += len(chunk)
        for index_key, there_is in zip(wanted, _get(due, wanted), strict=True):
            if there_is is None:
                report.missing_total += 1
                report.missing.append(index_key)
        del report.missing[10:]
    start = b""
    while index_keys := _scan_keys(due, start, None, CHUNK_ROWS):
        start = index_keys[-1] + b"\0"
        report.index_entries += len(index_keys)
        owners = [row_key_of(index_key) for index_key in index_keys]
        for index_key, owner, found in zip(index_keys, owners, _get(rows, owners), strict=True):
            if index_key not in _derive(owner, found)[0]:
                report.stale_total += 1
                report.stale.append(index_key)
        del report.stale[10:]
    counted_on_writing = _counts(meta)
    report.damaged = there[_DAMAGED]
    report.miscounted = {
        which: (counted_on_writing[which], there[which])
        for which in there.keys() | counted_on_writing.keys()
        if counted_on_writing[which] != there[which]
    }
    return report
