"""Reading the rows of all reminders from the table's changelog: it needs no worker, and no token."""

from collections.abc import Callable

from aiokafka import TopicPartition

from agents.publisher import partition_of
from app.cli.audit import partitions, reader, records
from app.config import Settings
from app.topics import TopicNames
from schemas import codec
from schemas.codec import Undecodable
from schemas.records import ReminderRow
from tables import due as index


async def rows(
    settings: Settings, wanted: Callable[[index.Header], bool] = lambda header: True, reminder_id: str = ""
) -> dict[str, bytes]:
    """Return the rows whose header is ``wanted``, as they stand now, by id; of one reminder alone, if it is named.

    Costs a reading of the whole changelog, or of one partition of it, and memory for what is wanted.
    """
    topic = TopicNames.of(settings).reminders_changelog
    async with reader(settings, topic) as consumer:
        tps = await partitions(consumer, topic)
        key = reminder_id.encode()
        if key:
            tps = [TopicPartition(topic, partition_of(key, len(tps)))]
        found: dict[str, bytes] = {}
        async for record in records(consumer, tps):
            if record.key is None or (key and record.key != key):
                continue
            rid = record.key.decode("utf-8", "replace")
            value = record.value
            if value is not None and len(value) >= index.HEADER.size and wanted(index.unpack(value)):
                found[rid] = value
            else:
                found.pop(rid, None)
        return found


def body(raw: bytes) -> ReminderRow | None:
    """Return what a row says behind its header, None where this release cannot read it."""
    try:
        return codec.decode(ReminderRow, raw[index.HEADER.size :])
    except Undecodable:
        return None
