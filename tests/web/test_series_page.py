"""A series on the views and the console: its rule, what comes next, what people moved."""

from dataclasses import replace

from app.web import series_page
from schemas.codec import decode, encode
from schemas.names import State
from schemas.records import Definition, MovedStart, ReminderRow
from tables import due
from tests.web.pages import Page
from tests.web.stage import AT, AUTH, TOKEN, Fake, Serve, row

DAY_MS = 86_400_000


def stored(**more: object) -> bytes:
    """Return the row of a daily reminder whose next day is known, a day cancelled and one moved."""
    raw = row(State.SCHEDULED)
    body = decode(ReminderRow, raw[due.HEADER.size :])
    assert body.definition is not None
    d = replace(
        body.definition, local="2026-11-01T09:00", rrule="FREQ=DAILY", exclude=("2026-12-25",), before=("P1D", "PT0S")
    )
    moves = (MovedStart("2026-12-24T09:00"), MovedStart("2026-12-26T09:00", AT + 25 * DAY_MS))
    changed = replace(
        body, definition=d, next_start="2026-12-03T09:00/P1D", next_due=AT + DAY_MS, told="2026-12-01T09:00/P1D",
        told_at=AT - DAY_MS, moves=moves,
    )  # fmt: skip
    return raw[: due.HEADER.size] + encode(changed)


async def test_a_series_on_its_view_and_in_the_list(serve: Serve) -> None:
    client = await serve(Fake(rows={"pills": stored(), "once": row()}))
    shown = await (await client.get("/reminders/pills", headers=AUTH)).json()
    found = shown["series"]
    assert found["rule"] == "FREQ=DAILY, P1D, PT0S before, 1 left out"
    assert (found["next"], found["next_due"]["ms"]) == ("2026-12-03T09:00/P1D", AT + DAY_MS)
    assert found["next_due"]["local"] == "2026-12-02T09:00:00.000+01:00"
    assert (found["told"], found["told_at"]["ms"]) == ("2026-12-01T09:00/P1D", AT - DAY_MS)
    assert [(move["start"], move["to"] and move["to"]["ms"]) for move in found["moved"]] == [
        ("2026-12-24T09:00", None),
        ("2026-12-26T09:00", AT + 25 * DAY_MS),
    ]
    assert (await (await client.get("/reminders/once", headers=AUTH)).json())["series"] is None
    page = await (await client.get("/reminders", headers=AUTH)).json()
    lines = {line["reminder"]: line for line in page["reminders"]}
    assert (lines["pills"]["rule"], lines["pills"]["next_due"]["ms"]) == (found["rule"], AT + DAY_MS)
    assert (lines["once"]["rule"], lines["once"]["next_due"]) == ("", None)


async def test_a_series_on_the_console(serve: Serve) -> None:
    client = await serve(Fake(rows={"pills": stored(), "once": row()}))
    assert (await client.post("/console/login", data={"token": TOKEN}, allow_redirects=False)).status == 303
    for path, moved in (("/console/reminders", False), ("/console/reminders/pills", True)):
        page = Page(await (await client.get(path)).text())
        assert page.faults == []
        words = " ".join(page.text.split())
        assert "FREQ=DAILY, P1D, PT0S before, 1 left out" in words
        assert "2026-12-02" in words
        assert ("cancelled" in words, "moved to" in words) == (moved, moved)


def test_the_line_of_a_rule() -> None:
    assert series_page.rule(None) == ""
    assert series_page.rule(Definition(at=AT)) == ""
    cron = Definition(cron="0 9 * * MON", rdates=("2026-12-01T09:00", "2026-12-02T09:00"), calendar="bank")
    assert series_page.rule(cron) == "cron 0 9 * * MON, 2 further dates, calendar bank"
