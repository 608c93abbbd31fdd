"""The commands that act on a reminder that exists: snooze, acknowledge, pause, resume, fire."""

import getpass
import sys
from datetime import datetime
from typing import Any

import click

from app.cli import matching
from app.cli.failures import Misuse
from app.cli.remind import now_ms, stamped, submit
from app.cli.root import load
from app.cli.times import duration_ms, instant_ms
from schemas.names import Action
from schemas.records import ReminderEvent

_occurrence = click.option(
    "--occurrence", default="", metavar="START", help="Original start of one occurrence; without it, the open one."
)
_version = click.option(
    "--version", "version_", type=click.IntRange(min=0), default=0, help="Version it is about; 0: whatever is there."
)
_watch = click.option("--watch", is_flag=True, help="Show its trail until it ends.")


def _do(reminder_id: str, action: Action, occurrence: str, version: int, watch: bool, **fields: object) -> None:
    event = ReminderEvent(
        reminder_id,
        action=action,
        occurrence=occurrence,
        version=version,
        actor=getpass.getuser(),
        **fields,  # type: ignore[arg-type]
    )
    submit(load(), stamped(event), now_ms(), watch)


@click.command()
@click.argument("id")
@click.option("--for", "length", default="", metavar="DURATION", help="From now, such as 10m or 2h.")
@click.option("--until", default="", metavar="TIME", help="ISO 8601 with an offset, or a wall clock with --zone.")
@click.option("--zone", default="", metavar="ZONE", help="IANA zone of --until; without it, the reminder's.")
@_occurrence
@_version
@_watch
def snooze(id: str, length: str, until: str, zone: str, occurrence: str, version_: int, watch: bool) -> None:  # noqa: A002
    """Remind of ID again later. What was sent already can be snoozed, too: it comes again.

    \b
    python -m app snooze clinic/visit-42 --for 2h
    """
    if bool(length) is bool(until):
        raise Misuse("give either --for, such as 10m, or --until")
    new: dict[str, object]
    try:
        if length:
            new = {"at": now_ms() + duration_ms(length)}
        else:
            new = {"local": until, "zone": zone} if zone or _is_wall_clock(until) else {"at": instant_ms(until)}
    except ValueError as exc:
        raise Misuse(str(exc)) from exc
    _do(id, Action.SNOOZE, occurrence, version_, watch, **new)


def _is_wall_clock(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).utcoffset() is None
    except ValueError:
        return False


@click.command()
@click.argument("id")
@_version
@_watch
def fire(id: str, version_: int, watch: bool) -> None:  # noqa: A002
    """Send ID now, in a new round: what is pending, in doubt, dead, expired or was sent already."""
    _do(id, Action.FIRE, "", version_, watch)


@click.command()
@click.argument("id")
@_occurrence
@_version
@_watch
def acknowledge(id: str, occurrence: str, version_: int, watch: bool) -> None:  # noqa: A002
    """Note that the recipient has answered ID: nothing more is sent of it."""
    _do(id, Action.ACKNOWLEDGE, occurrence, version_, watch)


_reason = click.option("--reason", default="", help="With all that match: why; kept with the events.")


@click.command()
@click.argument("id", required=False)
@_version
@_reason
@matching.options
def pause(id: str | None, version_: int, reason: str, **given: Any) -> None:  # noqa: A002
    """Send nothing of ID, or of all that match, until it is resumed. Its deadline goes on.

    \b
    python -m app pause --tenant clinic --category marketing --dry-run
    """
    _one_or_all(id, Action.PAUSE, version_, reason, given)


@click.command()
@click.argument("id", required=False)
@_version
@_reason
@matching.options
def resume(id: str | None, version_: int, reason: str, **given: Any) -> None:  # noqa: A002
    """Let ID, or all that match, go on. What came due meanwhile is sent now, unless its deadline has passed."""
    _one_or_all(id, Action.RESUME, version_, reason, given)


def _one_or_all(reminder_id: str | None, action: Action, version: int, reason: str, given: dict[str, Any]) -> None:
    if rid := matching.one(reminder_id, given):
        _do(rid, action, "", version, False, text=reason)
        return
    if version:
        raise Misuse("--version: goes with an ID; each of those that match has its own")
    sys.exit(matching.act_on_all(action, reason, now_ms(), given))
