"""The list of reminders: what fits, page by page, over several workers, in slices."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from agents.publisher import partition_of
from app.tokens import Access, Keyring, Token
from app.web import listing
from app.web.listing import Later, Listing, Place, Unfit, read
from app.web.routing import forward
from app.web.views import HOP
from schemas.codec import encode
from schemas.names import Channel, State
from schemas.records import Closed, Content, Definition, Occurrence, ReminderRow, RowStep, Sealed
from tables import due
from tests.app.test_tokens import entry
from tests.web.stage import AT, AUTH, Fake, Serve

NOBODY = Token("t", b"", Access.VIEWER)
OPEN = (State.SCHEDULED, State.RETRY, State.HELD, State.SENDING, State.MAYBE_SENT, State.PAUSED)


def stored(
    state: State, due_at: int = AT, channel: Channel = Channel.EMAIL, tenant: str = "", category: str = "general"
) -> bytes:
    sealed = Sealed(body=encode(Content(text="canary", addresses=("canary@example.org",))))
    steps = (RowStep(channel, addressed=True),)
    definition = Definition(recipient_id="anna", tenant=tenant, category=category, steps=steps, sealed=sealed)
    if state in OPEN:
        row = ReminderRow(
            definition=definition,
            open=Occurrence("@1/PT0S", state, due_at, due_at + 9_000, due_at, channel=channel, reason="due"),
        )
        return due.pack(due.STATE_CODES[state], 1, due.CHANNEL_CODES[channel], due_at, due_at + 9_000) + encode(row)
    closed = Closed("@1/PT0S", state, due_at + 50, 1, channel=channel, reason="temporary", due_at=due_at)
    row = ReminderRow(definition=definition, closed=(closed,))
    return due.pack(due.STATE_CODES[state], 1, 0, due_at + 50 + 604_800_000, 0) + encode(row)


def many(count: int = 60) -> dict[str, bytes]:
    states = (State.SCHEDULED, State.RETRY, State.DEAD_LETTER, State.SENT)
    return {
        f"r/{n:03}": stored(
            states[n % 4], AT + n * 1000, Channel.SMS if n % 3 == 0 else Channel.EMAIL, f"t{n % 2}", f"c{n % 5}"
        )
        for n in range(count)
    }


async def pages(client: Any, limit: int, **query: str) -> list[dict[str, Any]]:
    found, cursor = [], ""
    for _ in range(200):
        asked = query | {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
        answer = await client.get("/reminders", params=asked, headers=AUTH)
        told = await answer.json()
        assert answer.status == 200, told
        assert len(told["reminders"]) <= limit
        found += told["reminders"]
        cursor = told["next"]
        if not cursor:
            return found
    raise AssertionError("it never ends")


@pytest.mark.parametrize("limit", [1, 7, 60, 500])
@pytest.mark.parametrize(
    ("query", "fits"),
    [
        ({}, lambda n: True),
        ({"state": "RETRY"}, lambda n: n % 4 == 1),
        ({"state": "failed", "channel": "email"}, lambda n: n % 4 in (1, 2) and n % 3),
        ({"state": "SENT,SCHEDULED", "channel": "SMS"}, lambda n: n % 4 in (0, 3) and n % 3 == 0),
        ({"state": "FAILED", "due_before": str(AT + 20_000)}, lambda n: n % 4 in (1, 2) and n < 20),
        ({"state": "SCHEDULED", "due_before": "2026-12-01T08:00:20Z"}, lambda n: n % 4 == 0 and n < 20),
        ({"due_after": str(AT + 50_000)}, lambda n: n >= 50),
        ({"tenant": "t1", "category": "c3", "recipient": "anna"}, lambda n: n % 2 == 1 and n % 5 == 3),
        ({"recipient": "nobody"}, lambda n: False),
        ({"unreachable": "true"}, lambda n: False),
        ({"prefix": "r/01"}, lambda n: 10 <= n < 20),
    ],
)
async def test_all_that_fits_once_whatever_the_size_of_a_page(
    serve: Serve, limit: int, query: dict[str, str], fits: Any
) -> None:
    client = await serve(Fake(rows=many()))
    found = await pages(client, limit, **query)
    assert sorted(row["reminder"] for row in found) == [f"r/{n:03}" for n in range(60) if fits(n)]


async def test_a_line_says_what_an_operator_wants_and_nothing_personal(serve: Serve) -> None:
    client = await serve(Fake(rows={"a": stored(State.DEAD_LETTER), "b": stored(State.RETRY)}))
    answer = await client.get("/reminders", headers=AUTH)
    text = await answer.text()
    rows = {row["reminder"]: row for row in json.loads(text)["reminders"]}
    assert (rows["a"]["state"], rows["a"]["reason"], rows["a"]["channel"]) == ("DEAD_LETTER", "temporary", "EMAIL")
    assert rows["a"]["because"] == "The server gave a temporary failure."
    assert rows["a"]["due_at"]["ms"] == AT
    assert rows["a"]["acts_next"] is None
    assert (rows["b"]["acts_next"]["ms"], rows["b"]["attempt"]) == (AT, 1)
    assert rows["b"]["address"] == "c***@e…"
    assert "canary" not in text


async def test_tokens_see_their_own(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(
        entry("one", "viewer", tenant="t1") + entry("ten", "viewer", prefix="r/01") + entry("both", "operator",
        tenant="t1", prefix="r/01")
    )  # fmt: skip
    client = await serve(Fake(rows=many(30) | {"r/0": b"damaged"}), keys=Keyring("", path))

    async def seen(token: str, **query: str) -> list[str] | int:
        answer = await client.get("/reminders", params=query, headers={"Authorization": f"Bearer {token}"})
        return (
            sorted(row["reminder"] for row in (await answer.json())["reminders"])
            if answer.status == 200
            else answer.status
        )

    assert await seen("one") == [f"r/{n:03}" for n in range(1, 30, 2)]
    assert await seen("ten") == [f"r/{n:03}" for n in range(10, 20)]
    assert await seen("both") == [f"r/{n:03}" for n in range(11, 20, 2)]
    assert await seen("one", tenant="t0") == 403
    assert await seen("ten", prefix="r/02") == 403
    assert await seen("ten", prefix="r/015") == ["r/015"]
    assert await seen("ten", prefix="r/") == [f"r/{n:03}" for n in range(10, 20)]
    assert await seen("nobody") == 401


async def test_a_damaged_row_is_listed(serve: Serve) -> None:
    client = await serve(Fake(rows={"bad": stored(State.RETRY)[:60], "worse": b"x"}))
    rows = await pages(client, 9, state="RETRY")
    assert [(row["reminder"], row["state"], row["damaged"]) for row in rows] == [("bad", "RETRY", "truncated")]
    assert await pages(client, 9, state="RETRY", category="general") == []


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ({"state": "BROKEN"}, "state: use some of"),
        ({"channel": "pigeon"}, "channel: use one of"),
        ({"limit": "0"}, "limit: send a whole number from 1 to 500"),
        ({"limit": "501"}, "limit:"),
        ({"due_before": "tomorrow"}, "due_before: cannot be read; send ISO 8601"),
        ({"due_after": "9" * 30}, "due_after: cannot be read"),
        ({"cursor": "x"}, "cursor: send the `next`"),
        ({"cursor": "9.YQ"}, "cursor:"),
        ({"cursor": "1.***"}, "cursor:"),
        ({"partition": "8"}, "partition: send a whole number below 8"),
        ({"unreachable": "1"}, "unreachable: send true"),
        ({"canary": "1"}, "1 parameters are not known"),
    ],
)
async def test_what_cannot_be_used_is_named(serve: Serve, query: dict[str, str], why: str) -> None:
    answer = await (await serve(Fake())).get("/reminders", params=query, headers=AUTH)
    told = await answer.json()
    assert answer.status == 400
    assert told["error"].startswith(why)
    assert "canary" not in told["error"]


def test_times_from_now() -> None:
    for text, ms in (("-2h", AT - 7_200_000), ("+90m", AT + 5_400_000), (" 1s", AT + 1_000), ("17", 17)):
        assert read({"due_before": text}, NOBODY, 8, AT).due_before == ms
    assert read({"due_before": "2026-12-01T09:00:00 01:00"}, NOBODY, 8, AT).due_before == AT
    with pytest.raises(Unfit):
        read({"due_before": "+"}, NOBODY, 8, AT)


@pytest.mark.parametrize("place", [Place(), Place(7, b"a/b\0"), Place(3, "é".encode() * 100)])
def test_cursors(place: Place) -> None:
    assert Place.of(str(place), 8) == place


async def test_several_workers_gather_for_each_other(serve: Serve) -> None:
    rows = many()
    here, there = Fake(rows=rows), Fake(rows=rows)
    other = str((await serve(there)).make_url("/"))

    def owner_of(partition: int) -> str:
        return "" if partition % 2 else other

    here.owner_of = owner_of  # type: ignore[method-assign,assignment]
    here.forward = forward  # type: ignore[method-assign]
    client = await serve(here)
    for limit in (3, 500):
        found = await pages(client, limit, state="FAILED", channel="email")
        assert sorted(row["reminder"] for row in found) == [f"r/{n:03}" for n in range(60) if n % 4 in (1, 2) and n % 3]
    there.recovering = True
    answer = await client.get("/reminders", headers=AUTH)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    there.recovering, here.at = False, None
    here.owner_of = lambda partition: None  # type: ignore[method-assign]
    assert (await client.get("/reminders", headers=AUTH)).status == 503


async def test_what_is_passed_on_is_answered_here_or_not_at_all(serve: Serve) -> None:
    """Two workers that each believe the other to be the owner would else ask each other for ever."""
    fake = Fake(rows=many(), at="http://127.0.0.1:1")
    client = await serve(fake)
    answer = await client.get("/reminders", params={"partition": "3"}, headers=AUTH | {HOP: "1"})
    mine = sorted(rid for rid in fake.rows if partition_of(rid.encode(), 8) == 3)
    assert [row["reminder"] for row in (await answer.json())["reminders"]] == mine
    assert fake.forwarded == []
    assert (await client.get("/reminders", headers=AUTH)).status == 503
    url, headers = fake.forwarded[0]
    assert url.startswith("http://127.0.0.1:1/reminders?partition=0&cursor=0.")
    assert headers == {**AUTH, HOP: "1"}


class Rows:
    """A million rows would be as many as these, only more."""

    def __init__(self, count: int, state: State) -> None:
        self.found = [(b"%07d" % n, stored(State.SCHEDULED if n else state, AT + n)) for n in range(count)]
        self.scans = 0

    def scan(self, partition: int, start: bytes, limit: int) -> Sequence[tuple[bytes, bytes]]:
        self.scans += 1
        first = int(start.rstrip(b"\0") or b"0") + start.endswith(b"\0")
        return self.found[first : first + limit]

    def counts(self, partition: int) -> Mapping[tuple[int, int], int]:
        return {(self.found[0][1][1], 1): 1, (due.STATE_CODES[State.SCHEDULED], 1): len(self.found) - 1}

    def owner_of(self, partition: int) -> str | None:
        return ""


async def test_the_loop_turns_while_a_page_is_looked_for() -> None:
    """By a clock that each slice moves on: after 2 ms at the latest others have their turn."""
    rows = Rows(10_000, State.SCHEDULED)
    clock = {"now": 0.0, "turned": 0.0, "longest": 0.0}

    def timer() -> float:
        clock["now"] += 0.0005
        return clock["now"]

    async def pause() -> None:
        clock["longest"] = max(clock["longest"], clock["now"] - clock["turned"])
        clock["turned"] = clock["now"]
        await asyncio.sleep(0)

    looked = Listing(rows, rows, forward, 1, timer=timer, pause=pause)
    wanted = read({"category": "none"}, NOBODY, 1, AT)
    found = await looked.gathered(wanted, {})
    assert found.rows == ()
    assert clock["longest"] <= listing.SLICE_S + 0.002
    # What takes long is answered with what was found, and where to go on.
    assert found.next is not None
    assert found.next.key > b"0001000"


async def test_nothing_is_walked_for_what_is_not_there() -> None:
    rows = Rows(10_000, State.DEAD_LETTER)
    looked = Listing(rows, rows, forward, 1)
    assert (await looked.gathered(read({"state": "EXPIRED"}, NOBODY, 1, AT), {})).rows == ()
    assert rows.scans == 0
    found = await looked.gathered(read({"state": "DEAD_LETTER"}, NOBODY, 1, AT), {})
    assert [row["reminder"] for row in found.rows] == ["0000000"]
    assert rows.scans == 1


async def test_a_partition_that_moves_is_no_empty_page() -> None:
    fake = Fake(recovering=True)
    with pytest.raises(Later, match="partition 0 is being taken over"):
        await Listing(fake, fake, fake.forward, 8).gathered(read({}, NOBODY, 8, AT), {})
