"""Hostile input: whatever bytes come as an event, in either framing, are answered; nothing raises, nothing grows, and
the good events between them are taken as ever.

``HOSTILE_EVENTS`` says how many (``make hostile N=1000000``).
"""

import gc
import json
import os
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from agents import gate, intake
from agents.core import Core, CoreTopics
from agents.delivery import Delivering, DeliveryTopics
from agents.letters import PREFIX
from agents.meter import Meter
from agents.ports import Decision, Job
from agents.publisher import partition_of
from app.reasons import EVENTS, LIFE
from channels.retry import RetryPolicy
from schemas import codec
from schemas.codec import CONTRACTS, Codec
from schemas.ids import MAX_RECORD_BYTES
from schemas.names import Action, Channel, MaybeSent, RecipientAction, State, WaitFor
from schemas.records import AuditEntry, Consent, Contact, Policy, RecipientEvent, ReminderEvent, Step
from tables.transition import Rules
from tests.effort import times
from tests.schemas.samples import any_record

NOW = 1_796_083_200_000
COUNT = int(os.environ.get("HOSTILE_EVENTS", "2000"))
#: Every such event is a good one.
GOOD_EACH = 20
#: What may have been added to memory between the first part and the end: caches that fill up, each of a fixed size.
GROWTH_BYTES = 3 << 20
SCHEMA_ID = 7
#: What is written down for whoever sent it: docs/reasons.md.
REASONS = frozenset({*EVENTS, *LIFE})

GOOD = ReminderEvent(
    "clinic/good", at=NOW + 3_600_000, text="Take two.", steps=(Step(Channel.EMAIL, address="a@b.example"),)
)
PEOPLE = RecipientEvent("anna", zone="Europe/Berlin", contacts=(Contact(Channel.EMAIL, "anna@people.example"),))
SEEDS: tuple[ReminderEvent | RecipientEvent, ...] = (
    GOOD,
    ReminderEvent(
        "clinic/visit-42", "anna", "2027-03-28T02:30", "Europe/Berlin", "Dentist", rrule="FREQ=DAILY;COUNT=9"
    ),
    ReminderEvent("clinic/cron", "anna", zone="Asia/Tokyo", cron="0 9 * * MON", text="Up", exclude=("2027-05-03",)),
    ReminderEvent(
        "clinic/before", "anna", "2027-12-01", "UTC", "Tax", before=("P1D", "PT2H"), data={"who": "Müller ✓"}
    ),
    ReminderEvent(
        "clinic/steps",
        at=NOW + 60_000,
        title="Call",
        text="x" * 400,
        version=3,
        steps=(
            Step(Channel.SMS, WaitFor.DELIVERED, 60, "+4915112345678"),
            Step(Channel.VOICE, WaitFor.ACKNOWLEDGED, 90, "+4915112345678"),
        ),
        policy=Policy(max_attempts=3, maybe_sent=MaybeSent.RESEND),
    ),
    ReminderEvent("clinic/visit-42", action=Action.CANCEL, version=9),
    ReminderEvent("clinic/steps", action=Action.SNOOZE, at=NOW + 90_000),
    ReminderEvent("clinic/steps", action=Action.ERASE),
    PEOPLE,
    RecipientEvent(
        "bob",
        zone="America/New_York",
        locale="en-US",
        quiet=("22:00-07:00",),
        max_per_day=3,
        consents=(Consent(True, NOW, "marketing", Channel.SMS),),
        contacts=(Contact(Channel.SMS, "+12025550123"), Contact(Channel.PUSH, "token:" + "f" * 140)),
    ),
    RecipientEvent("anna", RecipientAction.ERASE),
)


KNOWN = {
    SCHEMA_ID: json.dumps(CONTRACTS[ReminderEvent].schema.root),
    SCHEMA_ID + 1: json.dumps(CONTRACTS[RecipientEvent].schema.root),
}


class Registry:
    """A schema registry that knows ours under two ids, and every other id not at all."""

    async def schemas(self, ids: Iterable[int]) -> dict[int, str | None]:
        return {one: KNOWN.get(one) for one in ids}


class View(dict[bytes, bytes | None]):
    """Rows of a partition."""

    def scan(self, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        found = [(k, v) for k, v in sorted(self.items()) if v is not None and k.startswith(prefix) and k >= start]
        return found[:limit]


@dataclass
class Record:
    """A record as it came."""

    topic: str
    value: bytes | None
    key: bytes | None = b"k"
    timestamp: float = NOW / 1000
    headers: Any = ()
    partition: int = 0
    offset: int = 0


@dataclass
class Doors:
    """Both topics of producers behind their rules."""

    view: View = field(default_factory=View)
    said: Counter[str] = field(default_factory=Counter)
    offset: int = 0

    def __post_init__(self) -> None:
        self.codec = Codec(Registry())
        meter = Meter(CollectorRegistry(), process=False)
        topics = CoreTopics("reminders", "outcomes", "receipts", {}, "requests", "audit", "status", "dlq")
        rules: tuple[Any, ...] = (Rules(), RetryPolicy(), MaybeSent.HOLD)
        self.core = Core(topics, 1, {"reminders": "t"}, *rules, self.codec, meter, lambda _: None)
        of = DeliveryTopics("recipients", "requests", {c: c.value for c in Channel}, "outcomes", "audit", "dlq")
        adapters: Any = {Channel.EMAIL: SimpleNamespace()}
        self.work = Delivering(of, 1, {"recipients": "p"}, 1000_000, 1000, 10, adapters, self.codec, meter, lambda: NOW)

    async def take(self, record: Record) -> str:
        """Let the topic's reader decide on a record; return the reason of its refusal, empty if it was taken."""
        self.offset += 1
        record.offset = self.offset
        await self.codec.prefetch([record.value])
        read: Callable[[], Job] = (
            (lambda: intake.read(self.core, record))
            if record.topic == "reminders"
            else (lambda: gate.read_recipient(self.work, record))
        )
        job = read()
        decision = job.run(self.view, NOW + self.offset)
        for key, row in decision.rows.items():
            self.view[key] = row
        why = _answer(decision)
        self.said[why] += 1
        return why

    def forget(self, *kept: bytes) -> None:
        """Drop all rows but these: here it is not what was taken that may not grow."""
        for key in [key for key in self.view if key not in kept]:
            del self.view[key]


def _answer(decision: Decision) -> str:
    """Return the reason of a refusal, empty for what was taken; the answer must be whole in either case."""
    for out in decision.emits:
        size = len(out.key or b"") + len(out.value or b"") + sum(len(n) + len(v) for n, v in out.headers)
        assert size < 2 * MAX_RECORD_BYTES, "what is answered fits a record"
        assert out.partition == 0
    audit = [codec.decode(AuditEntry, out.value or b"") for out in decision.emits if out.topic == "audit"]
    letters = [dict(out.headers) for out in decision.emits if out.topic == "dlq"]
    refused = [entry for entry in audit if entry.to_state is State.REJECTED]
    if not letters:
        assert not refused
        return ""
    [letter] = letters
    reason = letter[PREFIX + "reason"].decode()
    assert reason in REASONS, reason
    assert letter[PREFIX + "remedy"], "whoever sent it is told what to do"
    assert [entry.reason for entry in refused] == [reason]
    assert all("a@b.example" not in entry.value and "4915112345678" not in entry.value for entry in audit)
    return reason


# -- bytes -------------------------------------------------------------------------------------------------------------


def framed(event: ReminderEvent | RecipientEvent, *, confluent: bool) -> bytes:
    """Return the bytes of an event in one of both framings."""
    value = codec.encode(event)
    schema = SCHEMA_ID + isinstance(event, RecipientEvent)
    return b"\0" + schema.to_bytes(4, "big") + value[10:] if confluent else value


def hurt(value: bytes, luck: random.Random, others: list[bytes]) -> bytes:
    """Return bytes with one to four wounds."""
    for _ in range(luck.choice((1, 1, 1, 2, 4))):
        at = luck.randrange(len(value) + 1)
        match luck.randrange(12):
            case 0 if value:
                at %= len(value)
                value = value[:at] + bytes((value[at] ^ 1 << luck.randrange(8),)) + value[at + 1 :]
            case 1 if value:
                at %= len(value)
                value = value[:at] + luck.randbytes(1) + value[at + 1 :]
            case 2:
                value = value[:at]
            case 3:
                value = value[:at] + luck.randbytes(luck.randrange(1, 12)) + value[at:]
            case 4:
                value = value[:at] + value[at + luck.randrange(1, 12) :]
            case 5:
                value = value[:at] + luck.choice(others)[at:]
            case 6:
                # A length, a count or a number that is far too large.
                value = (
                    value[:at]
                    + luck.choice((b"\xff" * 9 + b"\x01", b"\xfe\xff\xff\xff\x0f", b"\x80" * 20))
                    + value[at:]
                )
            case 7:
                value = (
                    value[:at]
                    + luck.choice((b"\xed\xa0\x80", b"\0", b"\xff\xfe", b"\xe2\x80\xae\xf0\x9f\x92\xa9"))
                    + value[at:]
                )
            case 8:
                value = value[:2] + luck.randbytes(8) + value[10:]
            case 9:
                value = b"\0" + luck.randrange(20).to_bytes(4, "big") + value[luck.choice((5, 10)) :]
            case 10:
                value = value + luck.choice((value, luck.randbytes(3)))
            case _:
                value = luck.choice((b"", b"{}", b'{"reminder_id": 1}', luck.randbytes(luck.randrange(60)), value * 40))
    return value


def hostile(count: int, seed: int) -> Iterator[Record]:
    """Yield records of which most are no events."""
    luck = random.Random(seed)
    every = [framed(event, confluent=confluent) for event in SEEDS for confluent in (False, True)]
    for _ in range(count):
        seed_event, confluent = luck.choice(SEEDS), luck.random() < 0.5
        topic = "recipients" if isinstance(seed_event, RecipientEvent) != (luck.random() < 0.02) else "reminders"
        value: bytes | None = hurt(framed(seed_event, confluent=confluent), luck, every)
        headers = luck.choice(
            (
                (),
                (),
                [("correlation-id", luck.randbytes(9))],
                [("traceparent", b"\xff" * 300)],
                [(PREFIX + "origin", b"?")],
            )
        )
        key = luck.choice((b"k", None, b"", luck.randbytes(6), b"x" * 3000))
        stamp = luck.choice((NOW / 1000, NOW / 1000, 0.0, -0.001, 4e9))
        yield Record(topic, None if luck.random() < 0.005 else value, key, stamp, headers)


async def test_whatever_comes_is_answered_and_memory_stays_flat() -> None:
    doors = Doors()
    taken = 0
    before = 0
    warm = max(COUNT // 5, min(COUNT // 2, 20_000))
    tracemalloc.start(1)
    try:
        for n, record in enumerate(hostile(COUNT, seed=1)):
            await doors.take(record)
            if n % GOOD_EACH == 0:
                # A new version each time, in either framing: it is taken, whatever came before.
                good = replace(GOOD, reminder_id="clinic/ok", version=n + 1, text=f"{n}")
                value = framed(good, confluent=n % 2 == 0)
                assert await doors.take(Record("reminders", value, b"clinic/ok")) == ""
                taken += 1
            if n % 500 == 0:
                doors.forget(b"clinic/ok")
            if n == warm:
                gc.collect()
                before, _ = tracemalloc.get_traced_memory()
        doors.forget(b"clinic/ok")
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    grown = after - before
    print(f"\n{COUNT} hostile events, {taken} good ones between them, memory {grown / 1024:+.0f} KiB")
    print("; ".join(f"{why or 'taken'} {count}" for why, count in doors.said.most_common()))
    assert taken == -(-COUNT // GOOD_EACH)
    assert grown < GROWTH_BYTES
    assert len(doors.said) > 15, "many kinds of faults were among them"


@settings(max_examples=times(200), deadline=None, suppress_health_check=list(HealthCheck))
@given(event=any_record(ReminderEvent) | any_record(RecipientEvent), confluent=st.booleans())
async def test_any_event_that_can_be_written_is_answered(event: Any, confluent: bool) -> None:
    topic = "recipients" if isinstance(event, RecipientEvent) else "reminders"
    await Doors().take(Record(topic, framed(event, confluent=confluent)))


@settings(max_examples=times(400), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    head=st.sampled_from(
        [framed(SEEDS[0], confluent=c)[: 5 if c else 10] for c in (False, True)] + [b"", b"\0\0\0\0\x08"]
    ),
    body=st.binary(max_size=300),
    topic=st.sampled_from(["reminders", "recipients"]),
    key=st.none() | st.binary(max_size=40),
    headers=st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=40)), max_size=3),
    stamp=st.floats(-1, 5e9),
)
async def test_any_bytes_are_answered(
    head: bytes, body: bytes, topic: str, key: bytes | None, headers: Any, stamp: float
) -> None:
    await Doors().take(Record(topic, head + body, key, stamp, headers))


def test_the_seeds_are_good_ones() -> None:
    assert partition_of(b"anything", 1) == 0
    for event in SEEDS:
        assert codec.decode(type(event), codec.encode(event)) == event
