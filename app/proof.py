"""Whether something personal is still there: topics record by record, files byte by byte, each with its verdict. Pure.

What is looked for is what somebody's rows held before they were erased. Addresses are looked for everywhere. Texts may
be others' as well ("your visit is tomorrow"), so they count only where the record is about that person: by its key, or
because it names the person's or the reminder's id as a whole.
"""

import mmap
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from schemas import ids

#: What is shorter than this stands everywhere by chance, and is not looked for, in bytes.
SHORTEST = 5


class Verdict(StrEnum):
    """What a look at one place came to."""

    CLEAN = "nothing"
    GOES = "goes with its time"
    COMPACTED = "older copies go with the next compaction"
    OTHERS = "held for others too"
    HELD = "STILL HELD"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for: addresses, texts, and the ids that make a record one of theirs. ``short``: how many values
    were too short to be looked for."""

    addresses: tuple[bytes, ...]
    texts: tuple[bytes, ...]
    ids: tuple[bytes, ...]
    short: int = 0

    @classmethod
    def of(cls, addresses: Iterable[str], texts: Iterable[str], named: Iterable[str]) -> "Wanted":
        """Return what is looked for, each once."""
        where, what = {a.encode() for a in addresses if a}, {t.encode() for t in texts if t}
        long_enough = [one for one in where | what if len(one) >= SHORTEST]
        return cls(
            tuple(sorted(one for one in where if len(one) >= SHORTEST)),
            tuple(sorted(one for one in what - where if len(one) >= SHORTEST)),
            tuple(sorted({i.encode() for i in named if i})),
            len(where | what) - len(long_enough),
        )


@dataclass(slots=True)
class Look:
    """What was found in one partition of a topic. ``at``: the offset and the time (ms) of each record that holds
    something; ``last``: by key, whether the newest record of the key does."""

    topic: str
    partition: int
    first: int = -1
    end: int = 0
    records: int = 0
    at: list[tuple[int, int]] = field(default_factory=list)
    others: int = 0
    last: dict[bytes, bool] = field(default_factory=dict)
    others_last: dict[bytes, bool] = field(default_factory=dict)


class Search:
    """Looks at records one by one. ``by_id``: whatever names one of the ids counts, whatever else it holds."""

    def __init__(self, wanted: Wanted, *, by_id: bool = False) -> None:
        self._by_id = by_id
        self._any = _pattern((*wanted.addresses, *wanted.texts))
        self._addresses = _pattern(wanted.addresses)
        self._keys = frozenset(wanted.ids)
        self._ids = _naming(wanted.ids)

    def record(self, look: Look, offset: int, at: int, key: bytes | None, value: bytes | None, rest: bytes) -> None:
        """Take in a record. ``rest``: its headers, one after the other."""
        look.first = offset if look.first < 0 else look.first
        look.end, look.records = offset + 1, look.records + 1
        whole = b"\0".join((key or b"", value or b"", rest))
        holds = self._by_id or (self._any is not None and self._any.search(whole) is not None)
        theirs = holds and (key in self._keys or (self._ids is not None and self._ids.search(whole) is not None))
        others = holds and not theirs and self._addresses is not None and self._addresses.search(whole) is not None
        if theirs:
            look.at.append((offset, at))
        look.others += others
        if key is not None:
            _mark(look.last, key, theirs)
            _mark(look.others_last, key, others)

    def file(self, path: Path) -> int:
        """Return how often something stands in a file, in clear. Raises OSError."""
        if self._any is None or path.stat().st_size == 0:
            return 0
        with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return sum(1 for _ in self._any.finditer(content))


def _mark(last: dict[bytes, bool], key: bytes, holds: bool) -> None:
    """Remember whether the newest record of a key holds something, if any of its records did."""
    if holds:
        last[key] = True
    elif key in last:
        last[key] = False


def _pattern(words: Iterable[bytes]) -> "re.Pattern[bytes] | None":
    found = sorted(set(words), key=len, reverse=True)
    return re.compile(b"|".join(re.escape(word) for word in found)) if found else None


def _naming(known: Iterable[bytes]) -> "re.Pattern[bytes] | None":
    """Return what finds an id as a whole: a string of a record, or the owner in a key of the recipients table."""
    found = []
    for one in known:
        # Avro writes a string as its length, in zigzag, and its bytes.
        length, head = 2 * len(one), b""
        while length > 0x7F:
            head, length = head + bytes([length & 0x7F | 0x80]), length >> 7
        found.append(re.escape(head + bytes([length]) + one))
        owner = re.escape(ids.escape(one.decode()).encode())
        found.append(rb"/[ur]:" + owner + rb"(?=[/:\x00]|$)")
    return re.compile(b"|".join(found)) if found else None


def verdict(look: Look, *, compacted: bool) -> Verdict:
    """Return what a look at a partition came to."""
    if look.at:
        if not compacted:
            return Verdict.GOES
        return Verdict.HELD if any(look.last.values()) else Verdict.COMPACTED
    if look.others and (not compacted or any(look.others_last.values())):
        return Verdict.OTHERS
    return Verdict.COMPACTED if look.others else Verdict.CLEAN


def files(folders: Iterable[Path]) -> Iterator[Path]:
    """Yield all files below some folders, in order."""
    for folder in folders:
        yield from sorted(path for path in folder.rglob("*") if path.is_file())
