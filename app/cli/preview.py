"""The command that says when something would fire, before anything is sent."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import click
import orjson
from rich.table import Table

from app.cli import trail, tzdata
from app.cli.failures import Failure, Misuse
from app.cli.root import load, run
from app.cli.show import console, plain
from app.cli.times import duration_ms
from schemas import zones
from schemas.checks import Fault, wall_clock
from schemas.records import Definition, ReminderEvent
from tables import admission, schedule
from tables.schedule import Firing, TimeRules

#: Firings shown of what has no end of its own, and of what has one, unless --count says otherwise; the most there are.
COUNT = 10
ALL = 1000
MOST = 10_000
_YEARS = (1800, 2200)
#: Nobody else can say what is stored, so a busy worker is waited for.
_VIEW_LIMIT_S = 30.0
#: What a comparison looks at, unless --window says otherwise: two years.
_COMPARED_MS = 731 * 86_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
#: Names of the interface, with those of the event.
_TEXTS = {"dtstart": "local", "rrule": "rrule", "cron": "cron", "calendar": "calendar"}
_LISTS = {"exdates": "exclude", "rdates": "rdates", "before": "before"}
_KEYS = ("zone", *_TEXTS, *_LISTS, "at", "from", "until", "window", "count")
#: The event's own names are taken as well.
_ALSO = {"local": "dtstart", "exclude": "exdates", "exdate": "exdates", "rdate": "rdates", "take": "count"}
#: What a line may say of itself.
_LABELS = frozenset({"n", "id", "name", "note", "comment"})


class Wrong(ValueError):  # noqa: N818 - an answer more than an error
    """What is asked for cannot be shown; the text says which part, and what to do."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be shown: the times of a reminder, from when on, until when (not included) or how long, how many."""

    event: ReminderEvent
    from_ms: int | None
    until_ms: int | None
    window_ms: int | None
    count: int


@click.command()
@click.option("--zone", default="", metavar="ZONE", help="IANA zone (or a name of Windows) of the wall clock.")
@click.option("--dtstart", "--local", "dtstart", default="", metavar="TIME", help="Start: 2026-12-01T09:00, or a date.")
@click.option("--at", default="", metavar="INSTANT", help="Fixed instant instead: 2026-12-01T09:00:00Z.")
@click.option("--rrule", default="", metavar="RULE", help="RFC 5545 rule, counted from --dtstart.")
@click.option("--cron", default="", metavar="EXPR", help="Five fields, instead of --dtstart and --rrule.")
@click.option("--exdate", multiple=True, metavar="TIME", help="Leave this start out; again for more.")
@click.option("--rdate", multiple=True, metavar="TIME", help="A further start; again for more.")
@click.option("--before", multiple=True, metavar="DURATION", help="Remind before: P1D, PT2H, PT0S; again for more.")
@click.option("--calendar", default="", metavar="NAME", help="Holiday calendar of CALENDARS_FILE.")
@click.option("--from", "from_", default="", metavar="TIME", help="Show from then on. Default: from the start.")
@click.option("--window", default="", metavar="DURATION", help="Show what fires within: 90d, 2w, 36h.")
@click.option("--count", type=click.IntRange(1, MOST), help=f"Show so many at the most; {COUNT} by default.")
@click.option("--reminder", "reminder_id", default="", metavar="ID", help="A stored reminder, from now on.")
@click.option(
    "--file", type=click.File("rb"), metavar="FILE", help="JSON lines, answered one by one; - reads standard input."
)
@click.option("--compare-zone", default="", metavar="ZONE", help="List what would fire at another time there.")
@click.option("--compare-tzdata", default="", metavar="VERSION", help="The same with time zone data such as 2025b.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def preview(
    zone: str,
    dtstart: str,
    at: str,
    rrule: str,
    cron: str,
    exdate: tuple[str, ...],
    rdate: tuple[str, ...],
    before: tuple[str, ...],
    calendar: str,
    from_: str,
    window: str,
    count: int | None,
    reminder_id: str,
    file: click.utils.LazyFile | None,
    compare_zone: str,
    compare_tzdata: str,
    as_json: bool,
) -> None:
    """Show when a rule, or a stored reminder, fires next; nothing is sent.

    \b
    python -m app preview --zone Europe/Berlin --dtstart 2026-03-27T02:30 --rrule FREQ=DAILY --count 4
    python -m app preview --zone America/New_York --cron "0 9 * * MON-FRI" --calendar bank --window 30d
    """
    rules = load().rules.times()
    said = {"zone": zone, "dtstart": dtstart, "at": at, "rrule": rrule, "cron": cron, "calendar": calendar}
    if file is not None:
        if any(said.values()) or exdate or rdate or before or reminder_id:
            raise Misuse("--file: its lines say all; leave the other options out, but --count and --window")
        for line in answers(file, rules, {"count": count, "window": window or None}):
            click.echo(line)
        return
    try:
        span = {name: value for name, value in (("from", from_), ("window", window), ("count", count)) if value}
        if reminder_id:
            asked = _stored(reminder_id, zone, span)
        else:
            lists = {"exdates": list(exdate), "rdates": list(rdate), "before": list(before)}
            asked = ask({**{name: value for name, value in said.items() if value}, **lists, **span})
        if compare_zone or compare_tzdata:
            _show_changes(asked, rules, compare_zone, compare_tzdata, as_json)
            return
        found = firings(asked, rules)
    except Wrong as exc:
        raise Misuse(plain(str(exc))) from exc
    shown = zones.zone(asked.event.zone) or ZoneInfo("UTC")
    if as_json:
        click.echo(orjson.dumps({"occurrences": [_json(f, shown) for f in found]}))
        return
    if warning := zones.hint(asked.event.zone):
        click.echo(f"note: {warning}", err=True)
    console().print(_table(found, shown))


# -- lines of JSON -----------------------------------------------------------------------------------------------------


def answers(lines: Iterable[bytes], rules: TimeRules, defaults: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield a line of JSON for each line of JSON: its occurrences, or what is wrong with it. Never raises."""
    for line in lines:
        if not line.strip():
            continue
        try:
            given = orjson.loads(line)
            if not isinstance(given, dict):
                raise Wrong("is no JSON object; send one a line")
            asked = ask({**{key: value for key, value in defaults.items() if value}, **given})
            shown = zones.zone(asked.event.zone) or ZoneInfo("UTC")
            answer: dict[str, Any] = {"occurrences": [_json(f, shown) for f in firings(asked, rules)]}
        except orjson.JSONDecodeError as exc:
            answer = {"error": f"is no JSON: {exc}"}
        except Wrong as exc:
            answer = {"error": str(exc)}
        except OverflowError:
            answer = {"error": "leads beyond the years that the calendar has"}
        yield orjson.dumps(answer)


def _json(firing: Firing, zone: ZoneInfo) -> dict[str, Any]:
    found: dict[str, Any] = {
        "utc": _utc(firing.due_at),
        "local": _local(firing.due_at, zone),
        "note": firing.note or None,
    }
    if firing.offset_id != "PT0S":
        found |= {"before": firing.offset_id, "start": firing.start_id}
    return found


def _local(at: int, zone: ZoneInfo) -> str:
    there = (_EPOCH + at * _MS).astimezone(zone).replace(tzinfo=None)
    return there.isoformat(timespec="seconds" if there.second or there.microsecond else "minutes")[:19]


def ask(given: Mapping[str, Any]) -> Asked:
    """Return what is asked for by name: ``zone``, ``dtstart``, ``rrule``, ``cron``, ``at``, ``exdates``, ``rdates``,
    ``before``, ``calendar``, ``from``, ``until``, ``window``, ``count``. Raises Wrong."""
    given = {_ALSO.get(str(key), str(key)): value for key, value in given.items() if value is not None}
    for key in given:
        if key not in _KEYS and key not in _LABELS:
            raise Wrong(f"{plain(key)[:40]}: is unknown; use {', '.join(_KEYS)}")
    name, at = _text(given, "zone"), _text(given, "at")
    if not name and not at:
        raise Wrong("zone: is missing; send an IANA zone such as Europe/Berlin")
    zone = _zone(name or "UTC", "zone")
    texts = {field: _text(given, key) for key, field in _TEXTS.items()}
    texts["local"] = _as_local(texts["local"], zone, "dtstart")
    lists = {
        field: tuple(text if field == "before" else _as_local(text, zone, key) for text in _list(given, key))
        for key, field in _LISTS.items()
    }
    begin, until, window = _span(given, zone)
    if texts["cron"] and texts["local"]:
        # Cron counts from nowhere: its start says from when on.
        begin = _instant(texts.pop("local"), "dtstart", zone) if begin is None else begin
    event = ReminderEvent("preview", zone=name, at=_instant(at, "at", zone), **texts, **lists)  # type: ignore[arg-type]
    ends = not texts["cron"] and (not texts["rrule"] or "COUNT" in texts["rrule"] or "UNTIL" in texts["rrule"])
    fallback = ALL if ends or until is not None or window is not None else COUNT
    return Asked(event, begin, until, window, _count(given, fallback))


def _zone(name: str, key: str) -> ZoneInfo:
    found = zones.zone(name)
    if found is None:
        meant = zones.similar_zone(name)
        hint = f"did you mean {meant}?" if meant else "use one such as Europe/Berlin"
        raise Wrong(f"{key}: {name[:60]!r} is no zone; {hint}")
    return found


def _text(given: Mapping[str, Any], key: str) -> str:
    value = given.get(key, "")
    if not isinstance(value, str):
        raise Wrong(f"{key}: is no text; send it in quotes")
    return value.strip()


def _list(given: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = given.get(key, [])
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Wrong(f'{key}: is no list of texts; send it as ["…", "…"]')
    return tuple(item.strip() for item in value)


def _count(given: Mapping[str, Any], fallback: int) -> int:
    count = given.get("count", fallback)
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST:
        raise Wrong(f"count: send a whole number from 1 to {MOST}")
    return count


def _as_local(text: str, zone: ZoneInfo, key: str) -> str:
    """Return a local time in the form of events: without seconds that are none, and of RFC 5545's form as well."""
    if not text or wall_clock(text) is not None:
        return text
    for form, kept in (("%Y%m%dT%H%M%SZ", True), ("%Y%m%dT%H%M%S", False), ("%Y%m%d", False)):
        try:
            at = datetime.strptime(text, form)  # noqa: DTZ007 - placed below
        except ValueError:
            continue
        if kept:
            return at.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None).isoformat()
        return at.isoformat() if form != "%Y%m%d" else at.date().isoformat()
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Wrong(f"{key}: {text!r} is no local time; send 2026-12-01T09:00, or 2026-12-01 for all day") from None
    return (at.astimezone(zone) if at.tzinfo else at).replace(tzinfo=None, microsecond=0).isoformat()


def _instant(text: str, key: str, zone: ZoneInfo) -> int | None:
    """Return an instant; a time without an offset is on the clock of the zone."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Wrong(f"{key}: {text!r} is no time; send 2026-12-01T09:00:00Z") from None
    _plausible(at, key)
    return ((at if at.tzinfo else at.replace(tzinfo=zone)) - _EPOCH) // _MS


def _plausible(at: datetime, key: str) -> None:
    if not _YEARS[0] <= at.year <= _YEARS[1]:
        raise Wrong(f"{key}: send a year from {_YEARS[0]} to {_YEARS[1]}")


def _span(given: Mapping[str, Any], zone: ZoneInfo) -> tuple[int | None, int | None, int | None]:
    """Return from when, until when and for how long is asked. A window is a duration, or two times."""
    begin = _instant(_text(given, "from"), "from", zone)
    end = _instant(_text(given, "until"), "until", zone)
    match given.get("window"):
        case None | "":
            return begin, end, None
        case [str(first), str(last)]:
            pair = (first, last)
        case {"from": str(first), "to": str(last)}:
            pair = (first, last)
        case str(text) if "/" in text:
            first, _, last = text.partition("/")
            pair = (first.strip(), last.strip())
        case str(text):
            try:
                return begin, end, duration_ms(text)
            except ValueError as exc:
                raise Wrong(f"window: {exc}") from None
        case _:
            raise Wrong('window: send a duration such as 90d, or two times as ["…", "…"]')
    return _instant(pair[0], "window", zone), _instant(pair[1], "window", zone), None


# -- working out -------------------------------------------------------------------------------------------------------


def definition(event: ReminderEvent) -> Definition:
    """Return the times of an event as a row would keep them."""
    return Definition(
        local=event.local,
        zone=event.zone,
        at=event.at,
        rrule=event.rrule,
        cron=event.cron,
        exclude=event.exclude,
        rdates=event.rdates,
        before=event.before,
        calendar=event.calendar,
    )


def check(event: ReminderEvent, rules: TimeRules) -> None:
    """Raise Wrong with what intake would say to an event's times."""
    starts = (event.local != "") + (event.at is not None) + (event.cron != "")
    if starts != 1:
        raise Wrong(f"dtstart: send exactly one of dtstart, at and cron; {starts or 'none'} is given")
    if event.local:
        wall = wall_clock(event.local)
        if wall is None:
            raise Wrong(f"dtstart: {event.local!r} is no date and time that the calendar has")
        _plausible(wall, "dtstart")
    if fault := admission.times_fault(event, rules):
        raise Wrong(_said(fault))


_NAMES = {"local": "dtstart", "exclude": "exdates"}


def _said(fault: Fault) -> str:
    name, bracket, rest = fault.field.partition("[")
    value = f" ({fault.value})" if fault.value else ""
    return f"{_NAMES.get(name, name)}{bracket}{rest}: {fault.reason.value}{value}; {fault.remedy}"


def firings(asked: Asked, rules: TimeRules) -> list[Firing]:
    """Return what is asked for. Raises Wrong."""
    check(asked.event, rules)
    d, zone = definition(asked.event), asked.event.zone
    begin = asked.from_ms
    if begin is None:
        begin = _now() if asked.event.cron else _first(d, zone, rules)
    ends = [end for end in (asked.until_ms, begin + asked.window_ms if asked.window_ms else None) if end is not None]
    found = []
    for firing in islice(schedule.firings(d, zone, begin, rules), asked.count):
        if ends and firing.due_at >= min(ends):
            break
        found.append(firing)
    return found


def _first(d: Definition, zone: str, rules: TimeRules) -> int:
    """Return when the first firing of all is."""
    first = schedule.next_firing(d, zone, -(2**45), rules)
    return first.due_at if first is not None else _now()


def _now() -> int:
    return time.time_ns() // 1_000_000


def _table(found: Sequence[Firing], zone: ZoneInfo) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("#", f"local ({zone.key})", "", "utc", "note"):
        table.add_column(column, no_wrap=column != "note")
    for n, firing in enumerate(found, 1):
        there = (_EPOCH + firing.due_at * _MS).astimezone(zone)
        start = f"{firing.offset_id} before {firing.start_id}" if firing.offset_id != "PT0S" else ""
        note = "; ".join(part for part in (start, firing.note) if part)
        utc = _json(firing, zone)["utc"]
        table.add_row(str(n), _local(firing.due_at, zone).replace("T", " "), f"{there:%a} {there.tzname()}", utc, note)
    if not found:
        table.add_row("–", "nothing", "", "", "")
    return table


# -- stored reminders --------------------------------------------------------------------------------------------------


def _stored(reminder_id: str, zone: str, span: Mapping[str, Any]) -> Asked:
    """Return what a worker's view says of a reminder, from now on unless said otherwise."""
    row = run(trail.from_view(load(), reminder_id, _VIEW_LIMIT_S))
    if row is None:
        raise Failure(f"{plain(reminder_id)}: no worker answers for it; check the id, WEB_HOST, WEB_PORT and WEB_TOKEN")
    d = row.get("definition")
    if not d:
        raise Failure(f"{plain(reminder_id)}: nothing of it is known but that it was acted on")
    use = zone or d.get("zone") or row.get("zone") or ""
    at = d.get("at")
    given: dict[str, Any] = {
        "dtstart": d.get("local") or None,
        "at": at["utc"] if at else None,
        "rrule": d.get("rrule") or None,
        "cron": d.get("cron") or None,
        "exdates": d.get("exclude"),
        "rdates": d.get("rdates"),
        "before": d.get("before"),
        "calendar": d.get("calendar") or None,
        "zone": use,
    }
    if not use and not at:
        raise Wrong(f"{plain(reminder_id)}: waits for its recipient's zone; try one with --zone")
    asked = ask({**given, **span})
    return asked if asked.from_ms is not None else replace(asked, from_ms=_now())


# -- comparing ---------------------------------------------------------------------------------------------------------


def _show_changes(asked: Asked, rules: TimeRules, zone: str, version: str, as_json: bool) -> None:
    """Show what would fire at another time in another zone, or with other time zone data."""
    check(asked.event, rules)
    if not asked.event.zone:
        raise Wrong("--zone: say in which zone it is now")
    here = _zone(asked.event.zone, "--zone")
    there = _zone(zone, "--compare-zone") if zone else here
    if version:
        there = tzdata.other(version, there.key)
    d = definition(asked.event)
    begin = asked.from_ms if asked.from_ms is not None else max(_now(), _first(d, here.key, rules))
    end = asked.until_ms or begin + (asked.window_ms or _COMPARED_MS)
    changes = schedule.moved(d, here, there, begin, end, rules)[: asked.count if asked.count != COUNT else ALL]
    names = (here.key if zone else zones.release(), there.key if zone else version)
    if as_json:
        told = [{"occurrence": id_, "before": _utc(before), "after": _utc(after)} for id_, before, after in changes]
        click.echo(orjson.dumps({"before": names[0], "after": names[1], "changes": told}))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("occurrence", names[0], names[1], "moves by"):
        table.add_column(column, no_wrap=True)
    for id_, before, after in changes:
        by = f"{(after - before) / 60_000:+g} min" if before is not None and after is not None else ""
        table.add_row(plain(id_), _utc(before) or "–", _utc(after) or "–", by)
    out = console()
    out.print(table if changes else "nothing would fire at another time")


def _utc(at: int | None) -> str | None:
    if at is None:
        return None
    return (_EPOCH + at * _MS).isoformat(timespec="milliseconds" if at % 1000 else "seconds").replace("+00:00", "Z")
