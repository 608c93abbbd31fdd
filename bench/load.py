"""What benches feed: realistic events, and rows as the service itself would have made them."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from hashlib import md5

from agents.intake import definition_of
from agents.publisher import partition_of
from bench.stage import PARTITIONS, chunks, connected
from schemas import codec
from schemas.names import Channel
from schemas.records import ReminderEvent, Step
from tables import lifecycle, transition
from tables.transition import Arrival, Rules

HOUR_MS = 3_600_000
RULES = Rules()
#: Stands for Kafka's id of the topic of events.
TOPIC_ID = "5f3a9c0e7b1d4e2a8c6f0b9d3e7a1c5f"


def event(n: int, at: int, *, recipient: bool = False) -> ReminderEvent:
    """Return the ``n``-th reminder: a mail with a text of two sentences, for an address or for a known recipient."""
    mark = md5(str(n).encode(), usedforsecurity=False).hexdigest()
    step = Step(Channel.EMAIL, address="" if recipient else f"patient.{n:07d}@people.example")
    return ReminderEvent(
        f"clinic/visit-{n:07d}",
        recipient_id=f"clinic/patient-{n // 3:07d}" if recipient else "",
        at=at,
        title="Your visit at the clinic",
        text=f"Dear patient, we expect you in room {n % 90 + 10} on the second floor. Please bring your insurance "
        "card and, if you have it, the letter of your family doctor; call us early if you cannot come.",
        category="appointment",
        steps=(step,),
        version=1,
        event_id=mark,
        correlation_id=f"00-{mark}-{mark[:16]}-01",
        source="clinic-planner",
        tenant="clinic-north",
    )


def one(n: int, at: int, *, recipient: bool = False) -> tuple[int, bytes, bytes]:
    """Return (partition, key, value) of an event due at ``at``."""
    key = b"clinic/visit-%07d" % n
    return partition_of(key, PARTITIONS), key, codec.encode(event(n, at, recipient=recipient))


def events(count: int, at: int, *, recipient: bool = False) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield (partition, key, value) of events due at ``at``."""
    return (one(n, at, recipient=recipient) for n in range(count))


def balanced(per_partition: int, at: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield events of which each partition gets the same number."""
    left = dict.fromkeys(range(PARTITIONS), per_partition)
    n = 0
    while any(left.values()):
        key = b"clinic/visit-%07d" % n
        partition = partition_of(key, PARTITIONS)
        if left[partition]:
            left[partition] -= 1
            yield partition, key, codec.encode(event(n, at))
        n += 1


def row(n: int, at: int, now: int) -> bytes:
    """Return the row of an accepted reminder: what intake writes for its event."""
    e = event(n, at)
    arrival = Arrival(now, now, TOPIC_ID, n // PARTITIONS, e.event_id, e.correlation_id)
    step = lifecycle.apply_event(e.reminder_id, None, e, definition_of(e, e.correlation_id), arrival, RULES)
    if step.row is None:
        raise ValueError("an UPSERT makes a row")
    return transition.header(step.row, RULES) + codec.encode(step.row)


def rows(numbers: range, now: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield (partition, key, row) of reminders that are pending, due within the month that begins in an hour."""
    for n in numbers:
        key = b"clinic/visit-%07d" % n
        # 7919 is a prime: neighbours in number are no neighbours in time.
        at = now + HOUR_MS + n * 7919 % (30 * 24 * 3600) * 1000
        yield partition_of(key, PARTITIONS), key, row(n, at, now)


def _write_rows(bootstrap: str, topic: str, numbers: range, now: int) -> int:
    async def run() -> int:
        async with connected(bootstrap) as kafka:
            return await kafka.write(topic, rows(numbers, now))

    return asyncio.run(run())


async def write_rows(bootstrap: str, topic: str, count: int, now: int) -> None:
    """Fill a changelog with rows, from two processes."""
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(2) as pool:
        parts = [loop.run_in_executor(pool, _write_rows, bootstrap, topic, part, now) for part in chunks(count, 2)]
        await asyncio.gather(*parts)
