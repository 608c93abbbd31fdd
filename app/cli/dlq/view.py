"""One letter in full, for people."""

from typing import Any

from agents.letters import PREFIX
from app import dlq as book_
from app.cli.dlq import dissect
from app.cli.dlq.pick import Named, chosen, codec_for, kinds, opened, records_of
from app.cli.dlq.words import words
from app.cli.failures import Failure
from app.cli.show import plain
from app.cli.times import moment
from app.config import Settings
from app.dlq import Book, Letter
from app.topics import TopicNames
from schemas.checks import masked
from schemas.codec import Undecodable
from schemas.records import ReminderEvent

#: Headers that are shown as they are; of the others, which producers choose, only the size.
_KNOWN_HEADERS = frozenset({"correlation-id", "traceparent", "tracestate", "content-type", "forwarded-from"})


async def shown(settings: Settings, named: Named, reveal: bool, limit: int) -> list[str]:
    """Return the lines that tell of a letter."""
    names = TopicNames.of(settings)
    async with opened(settings) as (consumer, tps):
        book = await book_.read(consumer, tps)
        letter = chosen(book, named, settings)
        records = [record async for record in records_of(consumer, names.dlq, [letter])]
    if not records:
        raise Failure(f"{letter.place}: is gone; the topic keeps letters for so long only")
    (record,) = records
    lines = [
        f"letter {letter.place}: {book.state(letter.place)}",
        f"  {words(letter.reason, letter.remedy, occurrence=letter.occurrence)}",
        *_facts(letter, book),
        "",
        "headers",
        *(_header(name, value, reveal) for name, value in record.headers if not name.startswith(PREFIX)),
        "",
    ]
    value = record.value
    if value is None:
        return [plain(line) for line in [*lines, "no bytes: the value is null"]]
    lines += [f"{len(value)} bytes, framing: {dissect.framing(value)[1]}", *dissect.dump(value, limit, reveal=reveal)]
    lines.append("")
    if settings.registry.url and value[:1] == b"\0":
        lines += await _by_registry(settings, letter, value, reveal)
    lines += _decodings(value, kinds(names).get(letter.topic), reveal)
    return [plain(line) for line in lines]


def _facts(letter: Letter, book: Book) -> list[str]:
    closing = book.closings.get(letter.place)
    value = f" ({letter.value})" if letter.value else ""
    facts = {
        "reason": letter.reason,
        "field": f"{letter.field}{value}",
        "what to do": letter.remedy,
        "came from": f"{letter.origin}, written {moment(letter.timestamp)}" if letter.origin else "",
        "dead since": moment(letter.at),
        "key": (letter.key or b"").decode("utf-8", "replace"),
        "correlation": letter.correlation_id,
        "attempts": str(letter.attempts or ""),
        "redriven": f"{letter.redrives} times, last from {letter.came_from}" if letter.redrives else "",
        "edited by": letter.edited_by,
        "copy of": str(book.copies.get(letter.place, "")),
        "closed": ""
        if closing is None
        else f"{closing.how} by {closing.actor}, {moment(closing.at)}"
        + (f", to {closing.went_to}" if closing.went_to else "")
        + (f": {closing.why}" if closing.why else ""),
    }
    return [f"  {name:<12} {text}" for name, text in facts.items() if text]


def _header(name: str, value: bytes | None, reveal: bool) -> str:
    text = (value or b"").decode("utf-8", "backslashreplace")
    known = reveal or name in _KNOWN_HEADERS
    return f"  {name}: {text if known else masked(text, 'content')}"


async def _by_registry(settings: Settings, letter: Letter, value: bytes, reveal: bool) -> list[str]:
    kind = kinds(TopicNames.of(settings)).get(letter.topic, ReminderEvent)
    try:
        async with codec_for(settings, [value]) as codec:
            record = codec.decode_event(kind, value)
    except Undecodable as wrong:
        return [f"by the registry: {wrong}"]
    return [f"by the registry: {kind.__name__}", *_fields(record, reveal)]


def _fields(record: Any, reveal: bool, sure: bool = True) -> list[str]:
    return [f"  {path} = {text}" for path, text in dissect.fields(record, reveal=reveal, sure=sure).items()]


def _decodings(value: bytes, meant: Any, reveal: bool) -> list[str]:
    found = dissect.readings(value)
    good = [reading for reading in found if reading.record is not None]
    named = dissect.named(value) or getattr(meant, "__name__", "")
    lines = []
    for reading in good:
        lines += [f"readable as {reading.kind}", *_fields(reading.record, reveal, reading.kind == named)]
    lines.append("not readable as" if good else "readable under no known schema")
    return lines + [f"  {reading.kind:<18} {reading.why}" for reading in found if reading.record is None]
