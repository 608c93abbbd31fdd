"""The desk of doubts: which reminders may have been sent or not, and what a person found out of them."""

from dataclasses import dataclass
from typing import Any

import click
import orjson
from rich.table import Table

from app.cli import changelog
from app.cli.failures import Failure, Misuse
from app.cli.remind import now_ms, stamped, submit
from app.cli.root import load, run
from app.cli.show import console, plain
from app.cli.times import moment
from app.config import Settings
from schemas.ids import provider_token
from schemas.names import Action, Channel, State
from schemas.records import ReminderEvent, ReminderRow
from tables import doubt, transition
from tables import due as index

_MAYBE = index.STATE_CODES[State.MAYBE_SENT]
ANSWERS = {"sent": Action.CONFIRM_SENT, "not-sent": Action.CONFIRM_NOT_SENT}
_DONE = {doubt.RESOLVED_SENT: Action.CONFIRM_SENT, doubt.RESOLVED_NOT_SENT: Action.CONFIRM_NOT_SENT}
MAX_REASON = 200


@dataclass(frozen=True, slots=True)
class Doubt:
    """One reminder that may have been sent or not. ``token``: what its provider knows it by (a mail's Message-ID begins
    with it). ``ended``: nothing of it is pending any more."""

    reminder_id: str
    delivery_id: str
    token: str
    channel: Channel
    attempt: int
    since: int
    reason: str
    detail: str
    deadline: int
    ended: bool


def doubt_of(reminder_id: str, row: ReminderRow) -> Doubt | None:
    """Return what is in doubt of a reminder, None if nothing is."""
    if transition.state(row) is not State.MAYBE_SENT:
        return None
    told = next(e for e in (*reversed(row.trail), None) if e is None or e.state is State.MAYBE_SENT)
    first = next((e for e in row.trail if e.state is State.MAYBE_SENT and e.reason != "review"), told)
    since = first.at if first is not None else row.updated_at
    reason, detail = (first.reason, first.detail) if first is not None else ("", "")
    o = row.open
    if o is not None:
        delivery = transition.delivery_id(reminder_id, o)
        token = provider_token(delivery)
        return Doubt(reminder_id, delivery, token, o.channel, o.attempt, since, reason, detail, o.deadline, False)
    last = row.closed[-1]
    attempt = told.attempt if told is not None else 0
    token = provider_token(last.delivery_id)
    return Doubt(reminder_id, last.delivery_id, token, last.channel, attempt, since, reason, detail, 0, True)


@click.group()
def maybe() -> None:
    """List reminders that may have been sent or not, and say what became of them."""


@maybe.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_(as_json: bool) -> None:
    """List what is in doubt, the oldest first: whose mail, call or message nobody knows to have gone out or not.

    `ended` says that something else was decided since (a cancel, say): whatever you find out, nothing is sent.
    """
    doubts, unread = run(_doubts(load()))
    if as_json:
        for one in doubts:
            click.echo(orjson.dumps(one))
        return
    if not doubts:
        click.echo("nothing is in doubt")
    else:
        console().print(_table(doubts))
    for rid in unread:
        click.echo(f"{plain(rid)}: its row cannot be read by this release; see `trail --audit`", err=True)


async def _doubts(settings: Settings) -> tuple[list[Doubt], list[str]]:
    found: list[Doubt] = []
    unread: list[str] = []
    for rid, raw in (await changelog.rows(settings, lambda header: header.state == _MAYBE)).items():
        row = changelog.body(raw)
        one = doubt_of(rid, row) if row is not None else None
        if one is not None:
            found.append(one)
        else:
            unread.append(rid)
    return sorted(found, key=lambda one: (one.since, one.reminder_id)), sorted(unread)


def _table(doubts: list[Doubt]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("since", "reminder", "channel", "attempt", "too late after", "what", "token"):
        table.add_column(column, no_wrap=column not in ("reminder", "what"))
    for one in doubts:
        what = "; ".join(part for part in (one.reason.replace("_", " "), one.detail) if part)
        until = "ended" if one.ended else moment(one.deadline)
        cells: Any = (moment(one.since), one.reminder_id, one.channel.value, str(one.attempt), until, what, one.token)
        table.add_row(*map(plain, cells))
    return table


@maybe.command()
@click.argument("id")
@click.argument("answer", type=click.Choice(list(ANSWERS)))
@click.option("--reason", required=True, help="How you know; kept on the trail with your name.")
@click.option("--watch", is_flag=True, help="Show its trail until it ends.")
def resolve(id: str, answer: str, reason: str, watch: bool) -> None:  # noqa: A002
    """Say whether the reminder ID, now in MAYBE_SENT, went out.

    \b
    python -m app maybe resolve clinic/visit-42 sent --reason "the server's log has 250 for it"

    sent settles it as SENT. not-sent sends it again, in a new round, unless its deadline has passed: then it is
    EXPIRED, and `fire ID` sends it all the same. Saying it twice changes nothing.
    """
    reason = reason.strip()
    if not reason or len(reason) > MAX_REASON:
        raise Misuse(f"--reason: say how you know, in at most {MAX_REASON} characters")
    settings = load()
    action = ANSWERS[answer]
    raw = run(changelog.rows(settings, reminder_id=id)).get(id)
    row = changelog.body(raw) if raw is not None else None
    if raw is None:
        raise Failure(f"{plain(id)}: no such reminder, or it ended longer ago than RETENTION_S; see `trail --audit`")
    if row is None:
        raise Failure(f"{plain(id)}: its row cannot be read by this release; see `trail --audit`")
    found = doubt_of(id, row)
    if found is None:
        state = transition.state(row).value
        if _answered(row) is action:
            click.echo(f"{plain(id)}: was resolved as {answer} before; it is {state}")
            return
        raise Failure(f"{plain(id)}: is {state}, not in doubt; see `trail`")
    event = ReminderEvent(id, action=action, text=reason, delivery_id=found.delivery_id)
    submit(settings, stamped(event), now_ms(), watch)


def _answered(row: ReminderRow) -> Action | None:
    """Return what was last said of a doubt, None if nothing was."""
    for entry in reversed(row.trail):
        if entry.reason in _DONE:
            return _DONE[entry.reason]
    return None
