"""The command that lists reminders: asks any core worker, which gathers over all."""

from collections.abc import Iterator, Sequence
from typing import Any

import aiohttp
import click
import orjson
from rich.table import Table
from yarl import URL

from app.cli.failures import Failure, Misuse
from app.cli.root import load, run
from app.cli.show import console, plain, state_text
from app.config import Settings
from schemas.names import State

#: One page may be looked for by several workers.
_LIMIT_S = 15.0
#: Most of one page.
_PAGE = 500


@click.command("list")
@click.option(
    "--state",
    "states",
    multiple=True,
    metavar="STATE",
    help="Such as SCHEDULED or MAYBE_SENT; may be repeated. FAILED: RETRY and DEAD_LETTER. Without it: all.",
)
@click.option("--channel", default="", help="Channel of the step that it is at, or was at last.")
@click.option("--due-before", default="", metavar="TIME", help="ISO 8601 with an offset, or from now, such as -2h.")
@click.option("--due-after", default="", metavar="TIME", help="Likewise.")
@click.option("--tenant", default="", help="Of this tenant.")
@click.option("--category", default="", help="Of this category.")
@click.option("--recipient", default="", metavar="ID", help="Of this recipient.")
@click.option("--source", default="", help="Of this producer.")
@click.option("--prefix", default="", help="Whose id begins so.")
@click.option("--unreachable", is_flag=True, help="Open, and with nobody whom they can reach.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@click.option("--all", "everything", is_flag=True, help="All of them, however many.")
@click.option("--cursor", default="", help="Go on where the last call ended.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_(
    states: Sequence[str], limit: int, everything: bool, cursor: str, as_json: bool, unreachable: bool, **filters: str
) -> None:
    """List reminders by state, channel and due time, over all workers.

    \b
    python -m app list --state FAILED --channel email --due-before -2h

    Needs a worker that answers (WEB_HOST, WEB_PORT) and a token (WEB_TOKEN). Addresses are masked. The order is stable
    and has no meaning.
    """
    query = {name: value for name, value in filters.items() if value}
    if states:
        query["state"] = ",".join(states)
    if unreachable:
        query["unreachable"] = "true"
    found, after = run(_found(load(), query, None if everything else limit, cursor))
    if as_json:
        for row in found:
            click.echo(orjson.dumps(row))
    elif found:
        console().print(_table(found))
    else:
        click.echo("nothing fits")
    if after:
        click.echo(f"more: --cursor {after}", err=True)


async def _found(
    settings: Settings, query: dict[str, str], limit: int | None, cursor: str
) -> tuple[list[dict[str, Any]], str]:
    """Return what fits, and the cursor of what is left; "" where nothing is."""
    web = settings.web
    if not web.token:
        raise Misuse("WEB_TOKEN: is not set; the list is a worker's view and needs a token, see docs/produce/http.md")
    found: list[dict[str, Any]] = []
    timeout = aiohttp.ClientTimeout(total=_LIMIT_S)
    headers = {"Authorization": f"Bearer {web.token}"}
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False, headers=headers) as session:
        while True:
            room = _PAGE if limit is None else min(_PAGE, limit - len(found))
            asked = query | {"limit": str(room)} | ({"cursor": cursor} if cursor else {})
            told = await _page(session, URL(f"http://{web.host}:{web.port}/reminders").with_query(asked))
            found += told["reminders"]
            cursor = told["next"] or ""
            if not cursor or (limit is not None and len(found) >= limit):
                return found, cursor


async def _page(session: aiohttp.ClientSession, url: URL) -> dict[str, Any]:
    where = f"http://{url.host}:{url.port}"
    try:
        async with session.get(url, allow_redirects=False) as response:
            told = orjson.loads(await response.read())
    except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as exc:
        raise Failure(
            f"{where}: no worker answers ({type(exc).__name__}); set WEB_HOST and WEB_PORT to a core worker's"
        ) from exc
    if response.status == 400:
        raise Misuse("; ".join(f"--{part}" for part in _options(str(told["error"]))))
    if response.status != 200:
        raise Failure(f"{where} answers {response.status}: {told.get('error', '')}")
    page: dict[str, Any] = told
    return page


def _options(why: str) -> Iterator[str]:
    """Yield a complaint about a parameter as one about the option of that name."""
    name, colon, rest = why.partition(":")
    yield f"{name.replace('_', '-')}{colon}{rest}"


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("due", "state", "reminder", "channel", "attempt", "acts next", "then", "rule", "to", "why"):
        table.add_column(column, no_wrap=column not in ("reminder", "rule", "why"))
    for row in rows:
        table.add_row(
            _clock(row["due_at"]),
            state_text(State(row["state"])),
            plain(row["reminder"]),
            row["channel"].lower(),
            str(row["attempt"] or ""),
            _clock(row["acts_next"]),
            _clock(row.get("next_due")),
            plain(row.get("rule", "")),
            plain(row["address"] or row["recipient_id"]),
            plain((row["damaged"] and f"damaged: {row['damaged']}") or row["reason"].replace("_", " ")),
        )
    return table


def _clock(time: dict[str, Any] | None) -> str:
    return str(time.get("local") or time.get("utc") or time["ms"]) if time else ""
