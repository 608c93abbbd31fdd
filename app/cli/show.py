"""What commands print: nothing that moves a terminal's cursor, and tables that keep their width in a pipe."""

from collections.abc import Sequence
from datetime import tzinfo

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.cli.times import moment
from schemas.names import Channel, State
from schemas.records import AuditEntry

_STYLES = {
    State.SENT: "green",
    State.DELIVERED: "green",
    State.ACKNOWLEDGED: "green",
    State.CANCELLED: "yellow",
    State.SKIPPED: "yellow",
    State.HELD: "yellow",
    State.PAUSED: "yellow",
    State.RETRY: "yellow",
    State.MAYBE_SENT: "magenta",
    State.EXPIRED: "red",
    State.REJECTED: "red",
    State.DEAD_LETTER: "red",
}


def console() -> Console:
    """Return the standard output: as wide as the terminal, or wide enough for everything in a pipe."""
    out = Console(highlight=False, markup=False, emoji=False)
    return out if out.is_terminal else Console(highlight=False, markup=False, emoji=False, width=250)


def plain(text: str) -> str:
    """Return a text without control characters: what producers write must not steer a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def state_text(state: State) -> Text:
    """Return a state in its colour."""
    return Text(state.value, style=_STYLES.get(state, ""))


def about(entry: AuditEntry) -> str:
    """Return what an entry says beside its time and state, in few words."""
    parts = [entry.reason.replace("_", " ")]
    if entry.field:
        parts.append(f"{entry.field}{f' ({entry.value})' if entry.value else ''}")
    if entry.channel is not Channel.ANY:
        parts.append(f"{entry.channel.lower()}{f', attempt {entry.attempt}' if entry.attempt else ''}")
    if entry.provider or entry.code:
        parts.append(f"{entry.provider} {entry.code}".strip())
    if entry.lateness_ms:
        parts.append(f"{entry.lateness_ms} ms late")
    parts += [f"by {entry.actor}" if entry.actor else "", entry.detail, entry.remedy]
    return plain("; ".join(part for part in parts if part))


def line(entry: AuditEntry, zone: tzinfo | None) -> Text:
    """Return an entry as one line."""
    text = Text(f"{moment(entry.at, zone)}  ")
    text.append_text(state_text(entry.to_state))
    text.append(" " * max(1, 13 - len(entry.to_state.value)) + about(entry))
    return text


def trail_table(title: str, entries: Sequence[AuditEntry], zone: tzinfo | None) -> Table:
    """Return a reminder's history as a table."""
    table = Table(title=Text(plain(title)), title_justify="left", box=None, pad_edge=False)
    for column in ("#", "when", "state", "what"):
        table.add_column(column, no_wrap=column != "what")
    for entry in entries:
        what = about(entry)
        if entry.due and entry.to_state in (State.SCHEDULED, State.RETRY, State.HELD):
            what = f"{what}; next {moment(entry.due, zone)}"
        table.add_row(str(entry.seq or "–"), moment(entry.at, zone), state_text(entry.to_state), what)
    return table
