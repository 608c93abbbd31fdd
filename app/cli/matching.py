"""The options of commands that act on one reminder by its id, or on all that match."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from app.bulk_acts import Filter
from app.cli.failures import Misuse
from app.cli.root import load, run
from app.cli.times import duration_ms, instant_ms
from schemas.names import Action

_FILTERS = ("tenant", "category", "recipient", "source", "id_prefix", "due_before")
_FILE = click.Path(dir_okay=False, path_type=Path)
_OPTIONS = (
    click.option("--tenant", default="", help="All of this tenant."),
    click.option("--category", default="", help="All of this category."),
    click.option("--recipient", default="", help="All of this recipient."),
    click.option("--source", default="", help="All of this source."),
    click.option("--id-prefix", default="", metavar="TEXT", help="All whose id begins so."),
    click.option("--due-before", default="", metavar="TIME", help="All due before: ISO 8601 with an offset, or 2h."),
    click.option("--dry-run", is_flag=True, help="With all that match: list them, and do nothing."),
    click.option("--yes", is_flag=True, help="With all that match: do not ask."),
    click.option("--list", "list_", type=_FILE, metavar="FILE", help="With all that match: what became of each."),
    click.option("--wait", default="", metavar="DURATION", help="With all that match: how long for answers (60s)."),
)  # fmt: skip


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which reminders are meant."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def one(reminder_id: str | None, given: dict[str, Any]) -> str:
    """Return the id that is meant, "" where all that match are. Raises Misuse where neither or both are given."""
    named = next((name for name, value in given.items() if value), "")
    if reminder_id:
        if named:
            option = named.rstrip("_").replace("_", "-")
            raise Misuse(f"ID and --{option}: give the id of one, or say which are meant")
        return reminder_id
    if not any(given[name] for name in _FILTERS):
        raise Misuse(f"ID: give one, or at least one of {', '.join('--' + f.replace('_', '-') for f in _FILTERS)}")
    return ""


def act_on_all(action: Action, reason: str, now: int, given: dict[str, Any]) -> int:
    """Act on all that match; return the exit code."""
    from app.cli import bulk_act  # noqa: PLC0415 - brings what one reminder does without

    wanted = Filter(
        given["tenant"], given["category"], given["recipient"], given["source"], given["id_prefix"],
        _due(given["due_before"], now),
    )  # fmt: skip
    try:
        wait = duration_ms(given["wait"] or "60s") / 1000
    except ValueError as exc:
        raise Misuse(f"--wait: {exc}") from exc
    wish = bulk_act.Wish(action, wanted, reason, given["dry_run"], given["yes"], given["list_"], wait)
    return run(bulk_act.BulkAct(load(), wish).run())


def _due(text: str, now: int) -> int:
    if not text:
        return 0
    try:
        return (
            now + duration_ms(text) if text[:1].isdigit() and "T" not in text and "-" not in text else instant_ms(text)
        )
    except ValueError as exc:
        raise Misuse(f"--due-before: {exc}; or from now on, such as 2h") from exc
