"""What operators do beside reminders: dead letters and holds, by the same means as the command line."""

import asyncio
import re
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any, TypeVar

import click
from aiokafka.errors import KafkaError

from app import dlq
from app.cli import hold as holding
from app.cli.dlq import desk as runs
from app.cli.dlq import judge
from app.cli.dlq.pick import Named, chosen, filtered, opened, records_of
from app.cli.dlq.redrive import judge_for, why_left
from app.cli.dlq.view import shown
from app.cli.dlq.words import words
from app.cli.failures import Failure
from app.cli.times import moment
from app.config import Settings
from app.dlq import Letter
from app.topics import TopicNames
from app.web.ports import Outgoing, Outlet, Refused, Unsent
from schemas.checks import shown as fit
from schemas.codec import encode
from schemas.records import ControlRecord
from tables import holds as rules

T = TypeVar("T")

#: How long the brokers may take to be asked for letters, in seconds; a run of another may have to be waited for.
READ_S = 30.0
ACT_S = 90.0
#: Records of the topic that are read until the loop may turn.
AT_ONCE = 50
#: Bytes of a letter that are shown.
DUMP_BYTES = 2048
_NAMED = re.compile(r"(\d{1,9})/(\d{1,18})\Z")


class KafkaDesk:
    """Reads and writes as the brokers have it. ``control``: the holds that this worker knows of."""

    def __init__(self, settings: Settings, control: Callable[[], Iterable[ControlRecord]], outlet: Outlet) -> None:
        self._settings = settings
        self._names = TopicNames.of(settings)
        self._control = control
        self._outlet = outlet
        self._one = asyncio.Lock()

    # -- dead letters

    async def letters(self, reason: str, topic: str, which: str, most: int) -> tuple[list[dict[str, str]], int]:
        """Return letters as lines, the oldest first, and how many there are. Raises Refused."""

        async def read() -> tuple[list[dict[str, str]], int]:
            async with opened(self._settings) as (consumer, tps):
                book = await dlq.read(consumer, tps, at_once=AT_ONCE)
            found = filtered(
                book, self._settings, reason or None, topic or None, all_=which == "all", parked=which == "parked"
            )
            return [self._line(letter, book) for letter in found[:most]], len(found)

        return await self._asked(read(), READ_S)

    def _line(self, letter: Letter, book: dlq.Book) -> dict[str, str]:
        key = (letter.key or b"").decode("utf-8", "replace")
        of_a_reminder = letter.topic in self._names.intakes or letter.occurrence
        return {
            "place": str(letter.place),
            "since": moment(letter.at),
            "state": book.state(letter.place),
            "words": words(letter.reason, letter.remedy, occurrence=letter.occurrence),
            "origin": letter.origin,
            "key": fit(key),
            "reminder": key if of_a_reminder and key.isprintable() else "",
        }

    async def letter(self, place: str) -> list[str]:
        """Return the lines that tell of a letter, personal values masked. Raises Refused."""
        return await self._asked(shown(self._settings, _named(place), False, DUMP_BYTES), READ_S)

    async def redrive(self, place: str, actor: str, force: bool) -> str:
        """Put a letter back; return what was done. Raises Refused."""
        named = _named(place)

        async def put() -> str:
            async with runs.Desk.open(self._settings, who=actor) as desk:
                letter = self._open_one(desk.book, named)
                judged = await judge_for(self._settings, desk.consumer, [letter], force, occurrences=True)
                found = [record async for record in records_of(desk.consumer, self._names.dlq, [letter])]
                if not found:
                    raise Failure(f"Letter {place} is gone; the topic keeps letters for so long only.")
                (record,) = found
                if why := await why_left(self._settings, judged, letter, record, desk.book):
                    raise Failure(f"Letter {place} is left where it is: {why}.")
                if letter.occurrence:
                    count = judged.partitions[self._names.reminders]
                    parcel = judge.renewed(letter, record, self._names, count, actor)
                else:
                    parcel = judge.parcel(letter, record, judged.partitions[letter.topic])
                refused = await desk.put_back([parcel])
                if why := refused.get(letter.place, ""):
                    raise Failure(f"Letter {place} is left where it is: {why}.")
                return f"Letter {place} was put back."

        return await self._asked(put(), ACT_S)

    async def skip(self, place: str, why: str, actor: str) -> str:
        """Close a letter without putting anything back; return what was done. Raises Refused."""
        named = _named(place)

        async def close() -> str:
            async with runs.Desk.open(self._settings, who=actor) as desk:
                await desk.skip([self._open_one(desk.book, named).place], why)
                return f"Letter {place} was closed."

        return await self._asked(close(), ACT_S)

    def _open_one(self, book: dlq.Book, named: Named) -> Letter:
        """Return an open letter. Raises Failure: whatever else is raised within a run leaves it to be found
        unfinished."""
        letter = chosen(book, named, self._settings)
        if not book.is_open(letter.place):
            raise Failure(f"Letter {letter.place} is closed already ({book.state(letter.place)}).")
        return letter

    async def _asked(self, work: Coroutine[Any, Any, T], limit_s: float) -> T:
        """Await what the brokers are asked, one at a time; a fault becomes words."""
        try:
            async with asyncio.timeout(limit_s), self._one:
                return await work
        except TimeoutError:
            raise Refused(
                f"The brokers did not answer within {limit_s:g} s; look at it again before you repeat it."
            ) from None
        except click.ClickException as exc:
            raise Refused(exc.message) from exc
        except (KafkaError, OSError) as exc:
            raise Refused(f"The brokers do not answer ({type(exc).__name__}).") from exc
        finally:
            with suppress(RuntimeError):
                work.close()

    # -- holds

    def holds(self) -> list[dict[str, str]]:
        """Return what is held or to come, as lines."""
        now = _now()
        found = [(at, one) for one in self._control() if (at := rules.window(one, now)) is not None]
        found.sort(key=lambda each: (each[0], each[1].scope, each[1].every))
        return [holding.told(one, now) for _, one in found]

    async def hold(self, scope: str, reason: str, length: str, start: str, actor: str) -> str:
        """Hold a scope; return what was done. Raises Refused."""
        try:
            record = holding.planned(_scope(scope), reason, length, start, "", "", "", _now(), actor)
        except click.ClickException as exc:
            raise Refused(exc.message) from exc
        await self._say(record)
        return f"{record.scope} is held; every worker obeys within a second."

    async def release(self, scope: str, rate: str, recurring: bool, actor: str) -> str:
        """Release a scope; return what was done. Raises Refused."""
        try:
            per_s = holding.rate_of(rate) if rate else 0.0
        except click.ClickException as exc:
            raise Refused(exc.message) from exc
        record = ControlRecord(
            _scope(scope),
            rules.RELEASE,
            _now(),
            actor=actor,
            rate_per_s=per_s,
            every="recurring" if recurring else "",
        )
        await self._say(record)
        return f"{record.scope} is released."

    async def _say(self, record: ControlRecord) -> None:
        key = rules.key(record.scope, recurring=record.every != "")
        try:
            await self._outlet.send([Outgoing(key.encode(), encode(record))])
        except Unsent as exc:
            raise Refused(
                f"The brokers did not acknowledge it ({exc}); look at the list before you repeat it."
            ) from exc


def _named(place: str) -> Named:
    found = _NAMED.match(place)
    if found is None:
        raise Refused("A letter is named by PARTITION/OFFSET.")
    return "", int(found[1]), int(found[2])


def _scope(text: str) -> str:
    try:
        return rules.scope(text)
    except ValueError as exc:
        raise Refused(f"{str(exc)[:1].upper()}{str(exc)[1:]}.") from exc


def _now() -> int:
    return time.time_ns() // 1_000_000
