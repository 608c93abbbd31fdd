"""A series as people may see it: its rule in a line, how far it has come, what comes next. Pure."""

from collections.abc import Callable

from schemas.records import Definition, ReminderRow
from tables import series

Shown = Callable[[int, str], dict[str, object] | None]


def rule(d: Definition | None) -> str:
    """Return by what a reminder fires again, in a line; "" for one that fires once, at its start."""
    if d is None or not series.is_series(d):
        return ""
    parts = [d.rrule, f"cron {d.cron}" if d.cron else "", _many(len(d.rdates), "further date")]
    parts += [f"{', '.join(d.before)} before" if d.before else "", _many(len(d.exclude), "left out", plural="left out")]
    parts += [f"calendar {d.calendar}" if d.calendar else ""]
    return ", ".join(part for part in parts if part)


def _many(count: int, what: str, plural: str = "") -> str:
    return f"{count} {what if count == 1 else plural or what + 's'}" if count else ""


def shown(row: ReminderRow, zone: str, time: Shown) -> dict[str, object] | None:
    """Return where a series stands, None for what is none. ``time`` shows an instant on a zone's clock."""
    if not (line := rule(row.definition)):
        return None
    return {
        "rule": line,
        "next": row.next_start,
        "next_due": time(row.next_due, zone),
        "told": row.told,
        "told_at": time(row.told_at, zone),
        "moved": [{"start": move.start, "to": time(move.to, zone)} for move in row.moves],
    }
