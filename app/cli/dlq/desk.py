"""Putting letters back so that a crash neither loses nor doubles one (ADR 0018).

One run at a time: a run says on the dead letter topic that it has begun, gives signs of life there, and says that it
has ended. Before a letter's record is put back, the run writes down that it is about to and from which offset on the
record will lie; afterwards it closes the letter. A run that finds an earlier one unfinished waits until that has been
silent for ``lease_s``, looks for the records of the letters it left between the two, and closes those that it finds.
"""

import asyncio
import contextlib
import getpass
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import click
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    RecordListTooLargeError,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
)

from agents.letters import ACT, FORWARDED, ORIGIN, PREFIX, RUN
from app import dlq
from app.cli.audit import partitions, reader
from app.cli.failures import Failure
from app.config import Settings
from app.dlq import Act, Book, How, Letter, Place, Run
from app.kafka import producer_options, unreachable
from app.topics import TopicNames

#: How long a run that gives no sign of life is waited for, in seconds, and how often a run gives one.
LEASE_S = 30.0
SIGN_S = 5.0
#: A run whose last sign is older than this on anybody's clock is not waited for, in ms.
LONG_DEAD_MS = 15 * 60_000
#: How many letters a run puts back at once, and how many bytes.
CHUNK = 100
CHUNK_BYTES = 4 << 20
#: How long a run that leaves nothing unknown tries to say that it has ended, whatever made it end, in seconds.
LAST_WORD_S = 5.0
#: Answers of a broker after which it is certain that a record was not appended.
REFUSED = (
    InvalidTimestampError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
)


@dataclass(frozen=True, slots=True)
class Parcel:
    """A record to be put where a letter came from. ``timestamp_ms`` None: now."""

    place: Place
    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int | None
    how: How = How.REDRIVEN
    why: str = ""

    @property
    def size(self) -> int:
        """Return about how many bytes it has."""
        return len(self.value or b"") + len(self.key or b"") + 1000


class Unsure(Failure):
    """It is not known what the brokers took: the run does not end, and the next one looks."""


class Refused(Exception):  # noqa: N818 - an answer more than an error
    """A broker does not take a record; its letter stays open."""


def actor() -> str:
    """Return who acts."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


class Desk:
    """A run. Use within ``open``."""

    def __init__(
        self,
        settings: Settings,
        consumer: AIOKafkaConsumer,
        producer: AIOKafkaProducer,
        letters: list[TopicPartition],
        lease_s: float = LEASE_S,
        told: Callable[[str], None] = lambda step: None,
        who: str = "",
    ) -> None:
        self.consumer = consumer
        self.book = Book()
        self._settings = settings
        self._producer = producer
        self._letters = letters
        self._topic = letters[0].topic
        self._lease_s = lease_s
        self._sign_s = min(SIGN_S, lease_s / 6)
        self._told = told
        self._id = uuid.uuid4().hex
        self._actor = who or actor()
        self._signed = 0.0
        #: Whether something was sent of which it is not known yet what became of it.
        self._unknown = False
        #: Whether the brokers refused a record of the producer: to them it is a gap in what comes after it.
        self._spoilt = False
        self._lows: dict[TopicPartition, int] = {}
        self._counts: dict[str, int] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, **more: Any) -> AsyncIterator["Desk"]:
        """Begin a run as soon as no other is at work; its book is read then. Leaves what a crash left unfinished."""
        topic = TopicNames.of(settings).dlq
        async with reader(settings, topic) as consumer:
            tps = await partitions(consumer, topic)
            desk = cls(settings, consumer, _producer(settings), tps, **more)
            try:
                await desk._producer.start()
                begun = await desk._begin()
                beat = asyncio.create_task(desk._beat())
                try:
                    await desk._follow(begun)
                    yield desk
                    await desk._end()
                except Unsure:
                    raise
                except (Failure, click.Abort):
                    await desk._end()
                    raise
                except BaseException:
                    await desk._last_word()
                    raise
                finally:
                    beat.cancel()
                    await asyncio.gather(beat, return_exceptions=True)
            except (KafkaError, OSError) as exc:
                if isinstance(exc, TopicAuthorizationFailedError):
                    raise Failure(f"{topic}: writing is not allowed; grant Write on it to KAFKA_USERNAME") from exc
                raise Failure(await unreachable(settings, exc)) from exc
            finally:
                await desk._producer.stop()

    # -- one run at a time

    async def _say(self, act: Act, body: object = None, partition: int = 0, **more: str) -> int:
        """Write a record about letters; return its offset."""
        said = {ACT: act.value, RUN: self._id, PREFIX + "actor": self._actor}
        said |= {PREFIX + name.replace("_", "-"): text[:500] for name, text in more.items()}
        sent = await self._producer.send_and_wait(
            self._topic,
            None if body is None else orjson.dumps(body),
            key=b"dlq-run",
            partition=partition,
            headers=[(name, text.encode()) for name, text in said.items()],
        )
        return int(sent.offset)

    async def _sign(self, act: Act, body: object = None) -> int:
        begun = asyncio.get_running_loop().time()
        offset = await self._say(act, body)
        self._signed = max(self._signed, begun)
        return offset

    async def _begin(self) -> int:
        offset = await self._sign(Act.BEGUN)
        self._told("begun")
        return offset

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._sign_s)
            # What goes wrong here shows as a lost turn.
            with contextlib.suppress(KafkaError, OSError):
                await self._sign(Act.SENDING, {})

    async def _end(self, doubts: Iterable[Place] = ()) -> None:
        await self._say(Act.ENDED, [str(place) for place in doubts])
        self._told("ended")

    async def _last_word(self) -> None:
        """End a run that was broken off (a time-out, a cancelled request, a bug), so that nobody waits for it.

        One that may have put something back is left to be looked at by the next.
        """
        if self._unknown:
            return
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(LAST_WORD_S):
                await self._end()

    def _fence(self) -> None:
        """Raise where others may take this run for dead by the time a record that is sent now has been acknowledged."""
        age = asyncio.get_running_loop().time() - self._signed
        if age > self._lease_s / 2:
            raise Unsure(f"no sign of this run reached the brokers for {age:.0f} s; run it again, it goes on")

    async def _follow(self, begun: int) -> None:
        """Read the book, and finish what earlier runs left."""
        self.book = await dlq.read(self.consumer, self._letters)
        earlier = [run for run in self.book.runs.values() if not run.ended and run.offset < begun]
        if not earlier:
            return
        if await self._silent(earlier):
            self.book = await dlq.read(self.consumer, self._letters)
        left = [run for run in earlier if not self.book.runs[run.id].ended]
        await self._recover([self.book.runs[run.id] for run in left])

    async def _silent(self, earlier: Sequence[Run]) -> bool:
        """Return once earlier runs have ended or are dead; fail if one is at work. True: there is something new."""
        newest = max(run.signed_at for run in self.book.runs.values())
        waited = {run.id: run for run in earlier if newest - run.signed_at < LONG_DEAD_MS}
        if not waited:
            return False
        loop = asyncio.get_running_loop()
        until = loop.time() + self._lease_s
        self._told("waiting")
        tp = self._letters[0]
        self.consumer.assign([tp])
        end = (await self.consumer.end_offsets([tp]))[tp]
        self.consumer.seek(tp, end)
        while waited and (left := until - loop.time()) > 0:
            for batch in (await self.consumer.getmany(tp, timeout_ms=int(min(left, 1.0) * 1000))).values():
                for record in batch:
                    said = dlq.headers_of(record)
                    if (run := waited.get(said.get(RUN, ""))) is None:
                        continue
                    if said.get(ACT) != Act.ENDED:
                        raise Failure(f"{run.actor} is acting on dead letters right now; try again when that has ended")
                    del waited[run.id]
        return True

    async def _recover(self, dead: Sequence[Run]) -> None:
        """Close the letters that dead runs put back and did not close, and end those runs."""
        lows: dict[TopicPartition, int] = {}
        doubtful: dict[Place, TopicPartition] = {}
        for run in dead:
            for place, (topic, partition, low) in run.sending.items():
                if place in self.book.letters and self.book.is_open(place):
                    tp = doubtful[place] = TopicPartition(topic, partition)
                    lows[tp] = min(low, lows.get(tp, low))
        first = await self.consumer.beginning_offsets(list(lows)) if lows else {}
        runs = {run.id for run in dead}
        async for record in dlq.span(self.consumer, {tp: max(low, first[tp]) for tp, low in lows.items()}):
            said = dlq.headers_of(record)
            if said.get(RUN) in runs and said.get(ORIGIN, "").startswith(f"{self._topic}/"):
                place = Place.of(said[ORIGIN])
                if doubtful.pop(place, None) is not None:
                    how = How(said.get(PREFIX + "how", How.REDRIVEN))
                    await self._close(place, how, "", f"{record.topic}/{record.partition}/{record.offset}")
        # What lay there may be gone by now: of those letters nobody can say any more whether they were put back.
        lost = [place for place, tp in doubtful.items() if first[tp] > lows[tp]]
        for run in dead:
            mine = [str(place) for place in lost if place in run.sending]
            await self._producer.send_and_wait(
                self._topic,
                orjson.dumps(mine),
                key=b"dlq-run",
                partition=0,
                headers=[(ACT, Act.ENDED.value.encode()), (RUN, run.id.encode())],
            )
            run.ended = True
            self.book.doubts.update(place for place in lost if place in run.sending)
        self._told("recovered")

    # -- what is done with letters

    async def count(self, topic: str) -> int:
        """Return how many partitions a topic has, 0 where there is none."""
        if topic not in self._counts:
            known = await self._producer.client.fetch_all_metadata()
            self._counts[topic] = len(known.partitions_for_topic(topic) or ())
        return self._counts[topic]

    async def put_back(self, parcels: Sequence[Parcel]) -> dict[Place, str]:
        """Put records back and close their letters. Return, by letter, why a broker did not take some."""
        self._fence()
        await self._renew()
        tps = {TopicPartition(parcel.topic, parcel.partition) for parcel in parcels}
        if fresh := [tp for tp in tps if tp not in self._lows]:
            self._lows |= await self.consumer.end_offsets(fresh)
        marks = {
            str(p.place): (p.topic, p.partition, self._lows[TopicPartition(p.topic, p.partition)]) for p in parcels
        }
        self._unknown = True
        await self._sign(Act.SENDING, marks)
        self._told("marked")
        self._fence()
        results = await asyncio.gather(*(self._put(parcel) for parcel in parcels), return_exceptions=True)
        answers = dict(zip((parcel.place for parcel in parcels), results, strict=True))
        for parcel in _together(parcels, answers):
            # One record that is refused takes its whole batch with it: alone, the others pass.
            self._fence()
            answers[parcel.place] = await self._alone(parcel)
        refused: dict[Place, str] = {}
        sent: list[tuple[Parcel, str]] = []
        for parcel in parcels:
            match answers[parcel.place]:
                case Refused() as why:
                    refused[parcel.place] = str(why)
                case BaseException() as exc:
                    # Whether it was appended is not known: the next run looks.
                    raise Unsure(
                        f"{parcel.topic}: {type(exc).__name__} for letter {parcel.place}; "
                        "see `python -m app doctor`, then run it again: it looks first what has been put back"
                    ) from exc
                case str() as went_to:
                    sent.append((parcel, went_to))
        self._told("sent")
        await asyncio.gather(*(self._close(p.place, p.how, p.why, went_to) for p, went_to in sent))
        self._unknown = False
        self._told("closed")
        return refused

    async def _alone(self, parcel: Parcel) -> str | BaseException:
        """Send a record by itself; return where it lies, or why not."""
        try:
            await self._renew()
            return await self._put(parcel)
        except (Refused, KafkaError, OSError) as exc:
            return exc

    async def _renew(self) -> None:
        """Take a new producer where the old one's numbers have a gap."""
        if not self._spoilt:
            return
        old, fresh = self._producer, _producer(self._settings)
        await fresh.start()
        self._producer, self._spoilt = fresh, False
        await old.stop()

    async def _put(self, parcel: Parcel) -> str:
        ours = [(RUN, self._id.encode()), (PREFIX + "how", parcel.how.value.encode())]
        try:
            record = await self._producer.send_and_wait(
                parcel.topic,
                parcel.value,
                key=parcel.key,
                partition=parcel.partition,
                timestamp_ms=parcel.timestamp_ms,
                headers=[*parcel.headers, *ours],
            )
        except REFUSED as exc:
            self._spoilt = True
            raise Refused(f"the broker refuses it ({type(exc).__name__})") from exc
        tp = TopicPartition(parcel.topic, parcel.partition)
        self._lows[tp] = max(self._lows[tp], record.offset + 1)
        self._told("put")
        return f"{record.topic}/{record.partition}/{record.offset}"

    async def _close(self, place: Place, how: How, why: str, went_to: str = "") -> None:
        letter = self.book.letters[place]
        more = {"letter": str(place.offset), "how": how.value, "why": why, "went_to": went_to, "reason": letter.reason}
        await self._say(Act.CLOSED, None, place.partition, **more)
        self._told("closing")
        self.book.closings[place] = dlq.Closing(how, 0, self._actor, why, went_to)

    async def skip(self, places: Iterable[Place], why: str) -> None:
        """Close letters without putting anything back."""
        for place in places:
            self._fence()
            await self._close(place, How.SKIPPED, why)


def _producer(settings: Settings) -> AIOKafkaProducer:
    return AIOKafkaProducer(**producer_options(settings), client_id="reminders-dlq", enable_idempotence=True)


def _together(parcels: Sequence[Parcel], answers: Mapping[Place, str | BaseException]) -> list[Parcel]:
    """Return what certainly was not appended, for itself or for what was refused on its partition."""
    refused = {(p.topic, p.partition) for p in parcels if isinstance(answers[p.place], Refused)}
    return [
        parcel
        for parcel in parcels
        if isinstance(answers[parcel.place], Refused | OutOfOrderSequenceNumber)
        and (parcel.topic, parcel.partition) in refused
    ]


def headers_back(
    headers: Iterable[tuple[str, bytes | None]], letter: Letter, topic: str, **more: str
) -> tuple[tuple[str, bytes], ...]:
    """Return the headers of a record that is put back: those it came with, and where it has been."""
    kept = [(n, v or b"") for n, v in headers if not n.startswith(PREFIX) and n != FORWARDED]
    ours: Mapping[str, str] = {
        "redrives": str(letter.redrives + 1),
        "origin": f"{topic}/{letter.place}",
        **({"edited-by": letter.edited_by} if letter.edited_by else {}),
        **{name.replace("_", "-"): text for name, text in more.items()},
    }
    return (*kept, *((PREFIX + name, text.encode()) for name, text in ours.items()))
