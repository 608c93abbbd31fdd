"""Which worker owns a reminder, and how a request gets there: Faust's own router passes no time limit and no end."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import aiohttp
from yarl import URL

from agents.publisher import partition_of
from app.web.ports import Reply

#: How long another worker may take.
LIMIT_S = 5.0
#: Largest answer that is passed on.
MAX_ANSWER_BYTES = 4 * 1024 * 1024


class RowStore(Protocol):
    """The part of the table's store that views read."""

    def get_rows(self, partition: int, keys: list[bytes]) -> list[bytes | None]:
        """Return rows by key."""
        ...

    def scan_rows(self, partition: int, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return rows from a key on, in order."""
        ...

    def counts(self, partition: int) -> Mapping[tuple[int, int], int]:
        """Return how many rows stand in each (state, channel)."""
        ...


class GroupOwners:
    """Owners by the assignment that the consumer group has told every member.

    ``distribution``: for each worker's URL the partitions of each changelog (``app.assignor.changelog_distribution``).
    ``own``: this worker's URL.
    """

    def __init__(
        self,
        *,
        distribution: Callable[[], Mapping[str, Mapping[str, list[int]]]],
        changelog: str,
        partitions: int,
        own: str,
    ) -> None:
        self._distribution = distribution
        self._changelog = changelog
        self._partitions = partitions
        self._own = own.rstrip("/")

    def owner(self, reminder_id: str) -> str | None:
        """Return the owner's URL, "" for this worker, None while nobody is known."""
        return self.owner_of(partition_of(reminder_id.encode(), self._partitions))

    def owner_of(self, partition: int) -> str | None:
        """Return the same of a partition."""
        for url, topics in self._distribution().items():
            if partition in topics.get(self._changelog, ()):
                return "" if url.rstrip("/") == self._own else url
        return None


class StoreRows:
    """Rows out of this worker's own store. ``at_work``: the partitions that are assigned here and recovered."""

    def __init__(
        self,
        *,
        store: Callable[[], RowStore],
        at_work: Callable[[], set[int]],
        partitions: int,
    ) -> None:
        self._store = store
        self._at_work = at_work
        self._partitions = partitions

    def row(self, reminder_id: str) -> bytes | None:
        """Return a row. Raises LookupError while its partition is not recovered here."""
        key = reminder_id.encode()
        partition = partition_of(key, self._partitions)
        return self._of(partition).get_rows(partition, [key])[0]

    def scan(self, partition: int, start: bytes, limit: int) -> Sequence[tuple[bytes, bytes]]:
        """Return rows of a partition from a key on, in order. Raises LookupError likewise."""
        return self._of(partition).scan_rows(partition, start, limit)

    def counts(self, partition: int) -> Mapping[tuple[int, int], int]:
        """Return how many rows stand in each (state, channel). Raises LookupError likewise."""
        return self._of(partition).counts(partition)

    def _of(self, partition: int) -> RowStore:
        if partition not in self._at_work():
            raise LookupError(partition)
        return self._store()


async def forward(url: str, headers: Mapping[str, str], body: bytes | None = None) -> Reply:
    """GET a URL of another worker, or POST a body to it, as it is: no redirect, no proxy of the environment, within the
    limit."""
    limit = aiohttp.ClientTimeout(total=LIMIT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit, trust_env=False) as session,
            session.request(
                "GET" if body is None else "POST",
                URL(url, encoded=True),
                headers=headers,
                data=body,
                allow_redirects=False,
            ) as response,
        ):
            got = bytearray()
            async for chunk in response.content.iter_chunked(64 * 1024):
                got += chunk
                if len(got) > MAX_ANSWER_BYTES:
                    raise ConnectionError(f"more than {MAX_ANSWER_BYTES} bytes")
            return Reply(response.status, bytes(got), response.content_type)
    except aiohttp.ClientError as exc:
        raise ConnectionError(str(exc)) from exc
