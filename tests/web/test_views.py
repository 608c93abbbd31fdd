import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.config import Role
from app.tokens import Keyring
from app.web.ports import Reply
from app.web.routing import GroupOwners, StoreRows, forward
from app.web.views import HOP
from app.web.vitals import Vitals
from schemas.names import State
from tests.app.test_tokens import entry
from tests.web.stage import AT, AUTH, TOKEN, Fake, Serve, row


async def test_live_and_ready_say_why_not(serve: Serve) -> None:
    fake = Fake()
    client = await serve(fake)
    for path in ("/live", "/ready"):
        answer = await client.get(path)
        assert (answer.status, await answer.json()) == (200, {"status": "ok"})
    fake.why_not_ready = "tables are being recovered"
    assert (await client.get("/live")).status == 200
    answer = await client.get("/ready")
    assert (answer.status, await answer.json()) == (503, {"status": "tables are being recovered"})
    fake.noticed = {"held": ["channel:email"], "send_only_to": 2}
    answer = await client.get("/ready")
    assert await answer.json() == {"status": fake.why_not_ready, "held": ["channel:email"], "send_only_to": 2}
    fake.noticed = {}
    fake.why_not_live, fake.why_not_ready = "stuck", ""
    assert [(await client.get(path)).status for path in ("/live", "/ready")] == [503, 503]
    health = await client.get("/health")
    assert (health.status, await health.json()) == (200, {"live": "stuck", "ready": "ok", "role": "core"})


async def test_metrics(serve: Serve) -> None:
    answer = await (await serve(Fake())).get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "reminders_due 0.0" in await answer.text()


async def test_a_delivery_worker_shows_no_reminders(serve: Serve) -> None:
    client = await serve(Fake(), core=False)
    assert (await client.get("/live")).status == 200
    assert (await client.get("/reminders/x", headers=AUTH)).status == 404


@pytest.mark.parametrize(
    "path", ["/table/", "/table/reminders/", "/router/", "/graph/", "/assignment/", "/performance/"]
)
async def test_pages_of_faust_are_off(serve: Serve, path: str) -> None:
    assert (await (await serve(Fake())).get(path)).status == 404


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": f"Bearer {TOKEN}x"},
    ],
)
async def test_without_the_token_nothing_is_shown_and_nothing_passed_on(serve: Serve, headers: dict[str, str]) -> None:
    fake = Fake(rows={"x": row()}, at="http://127.0.0.1:1")
    answer = await (await serve(fake)).get("/reminders/x", headers=headers)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert fake.forwarded == []


async def test_without_a_configured_token_the_view_is_closed(serve: Serve) -> None:
    client = await serve(Fake(rows={"x": row()}), token="")
    assert (await client.get("/reminders/x", headers={"Authorization": "Bearer "})).status == 403


@pytest.mark.parametrize("path", ["clinic/visit-42", "clinic%2Fvisit-42"])
async def test_a_reminder_is_shown_without_what_it_says(serve: Serve, path: str) -> None:
    client = await serve(Fake(rows={"clinic/visit-42": row()}))
    answer = await client.get(f"/reminders/{path}", headers=AUTH)
    text = await answer.text()
    shown = json.loads(text)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert shown["reminder"] == "clinic/visit-42"
    assert shown["state"] == "SENDING"
    assert shown["open"]["due_at"] == {
        "ms": AT,
        "utc": "2026-12-01T08:00:00.000Z",
        "local": "2026-12-01T09:00:00.000+01:00",
    }
    assert [entry["state"] for entry in shown["trail"]] == ["SCHEDULED", "SENDING"]
    assert shown["definition"]["steps"] == [{"channel": "EMAIL", "wait_for": "ACCEPTED", "within_s": 0}]
    assert "canary" not in text.lower()
    assert "example" not in text
    assert shown["content"]["addresses"] == ["c***@e…"]


async def test_a_token_of_a_tenant_sees_that_tenants_reminders_alone(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(
        entry("bound", "viewer", tenant="clinic", prefix="clinic/") + entry("tenant", "viewer", tenant="clinic")
        + entry("free", "viewer")
    )  # fmt: skip
    rows = {"clinic/1": row(tenant="clinic"), "clinic/2": row(tenant="other"), "x": row(), "bad": row()[:60]}
    client = await serve(Fake(rows=rows), keys=Keyring("", path))

    async def seen(token: str) -> list[int]:
        headers = {"Authorization": f"bearer {token}"}
        return [(await client.get(f"/reminders/{rid}", headers=headers)).status for rid in rows]

    assert await seen("bound") == [200, 404, 403, 403]
    assert await seen("tenant") == [200, 404, 404, 404]
    assert await seen("free") == [200, 200, 200, 200]
    assert await seen("nobody") == [401, 401, 401, 401]


@pytest.mark.parametrize(("method", "path"), [("GET", "/canary"), ("PUT", "/reminders/canary"), ("POST", "/live")])
async def test_what_is_not_there_is_said_in_json_and_without_what_was_asked(
    serve: Serve, method: str, path: str
) -> None:
    answer = await (await serve(Fake())).request(method, path, headers={**AUTH, "Origin": "https://other.example"})
    assert answer.status in (404, 405)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert not [name for name in answer.headers if name.startswith("Access-Control")]
    assert set(await answer.json()) == {"error"}
    assert "canary" not in await answer.text()


async def test_our_own_fault_tells_nothing(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    fake = Fake(rows={"x": b"canary"})
    answer = await (await serve(fake)).get("/reminders/x", headers=AUTH)
    assert (answer.status, await answer.json()) == (500, {"error": "our fault; the log of the worker has it"})
    assert "a view failed" in caplog.text


async def test_unknown_recovering_and_unowned(serve: Serve) -> None:
    fake = Fake()
    client = await serve(fake)
    assert (await client.get("/reminders/x", headers=AUTH)).status == 404
    fake.recovering = True
    answer = await client.get("/reminders/x", headers=AUTH)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    fake.at = None
    assert (await client.get("/reminders/x", headers=AUTH)).status == 503


async def test_a_damaged_row_is_shown_by_its_header(serve: Serve) -> None:
    client = await serve(Fake(rows={"x": row()[:60]}))
    answer = await client.get("/reminders/x", headers=AUTH)
    shown = await answer.json()
    assert (answer.status, shown["state"], shown["damaged"]) == (200, "SENDING", "truncated")


async def test_passed_on_once_with_the_token(serve: Serve) -> None:
    fake = Fake(at="http://10.0.0.7:6066/", reply=Reply(404, b'{"error": "no such reminder"}', "application/json"))
    client = await serve(fake)
    answer = await client.get(
        "/reminders/clinic%2Fvisit%3F42", headers={**AUTH, "Cookie": "a=b", "X-Correlation-Id": "c-1"}
    )
    assert (answer.status, await answer.json()) == (404, {"error": "no such reminder"})
    assert fake.forwarded == [
        ("http://10.0.0.7:6066/reminders/clinic%2Fvisit%3F42", {**AUTH, HOP: "1", "X-Correlation-Id": "c-1"})
    ]
    assert (await client.get("/reminders/x", headers={**AUTH, HOP: "1"})).status == 503
    assert len(fake.forwarded) == 1
    for failure in (TimeoutError(), ConnectionError("refused")):
        fake.reply = failure
        assert (await client.get("/reminders/x", headers=AUTH)).status == 503


async def test_two_workers_answer_for_each_other(serve: Serve) -> None:
    here, there = Fake(), Fake(rows={"x": row(State.SENT)})
    owner = await serve(there)
    here.at = str(owner.make_url("/"))
    here.forward = forward  # type: ignore[method-assign]
    answer = await (await serve(here)).get("/reminders/x", headers=AUTH)
    assert (answer.status, (await answer.json())["state"]) == (200, "SENT")


async def test_an_owner_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    monkeypatch.setattr("app.web.routing.LIMIT_S", 0.2)
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(TimeoutError):
        await forward(f"http://127.0.0.1:{port}/reminders/x", {})
    server.close()
    with pytest.raises(ConnectionError):
        await forward("http://127.0.0.1:1/reminders/x", {})


def test_owners_by_assignment() -> None:
    told = {"http://a:1": {"log": [0, 1, 2, 3], "other": [5]}, "http://b:1/": {"log": [4, 5, 6, 7]}}
    owners = GroupOwners(distribution=lambda: told, changelog="log", partitions=8, own="http://b:1")
    assert {owners.owner(str(n)) for n in range(50)} == {"http://a:1", ""}
    assert owners.owner("tea") == "http://a:1"  # murmur2("tea") mod 8 = 2, as in Java
    told.clear()
    assert owners.owner("tea") is None


class Store:
    def get_rows(self, partition: int, keys: list[bytes]) -> list[bytes | None]:
        return [b"%d %s" % (partition, key) for key in keys]

    def scan_rows(self, partition: int, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return [(start, b"%d" % partition)]

    def counts(self, partition: int) -> dict[tuple[int, int], int]:
        return {(2, 1): partition}


def test_rows_only_of_partitions_at_work() -> None:
    work = {2}
    rows = StoreRows(store=Store, at_work=lambda: work, partitions=8)
    assert rows.row("tea") == b"2 tea"
    assert rows.scan(2, b"s", 9) == [(b"s", b"2")]
    assert rows.counts(2) == {(2, 1): 2}
    work.clear()
    for ask in (lambda: rows.row("tea"), lambda: rows.scan(2, b"s", 9), lambda: rows.counts(2)):
        with pytest.raises(LookupError):
            ask()


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def test_vitals() -> None:
    clock, busy, state = Clock(), {}, {"heard": 0.1, "why": "tables are being recovered"}
    vitals = Vitals(
        role=Role.CORE,
        busy_since=lambda: busy,
        heard=lambda: float(state["heard"]),
        recovering=lambda: str(state["why"]),
        partitions=lambda: {3, 1},
        clock=clock,
    )
    assert (vitals.live(), vitals.ready()) == ("", "tables are being recovered")
    state["why"] = ""
    assert vitals.ready() == ""
    state["heard"] = 6.0
    assert vitals.ready() == "the consumer group has not answered for 6 s"
    state["heard"] = float("inf")
    assert vitals.ready() == "the consumer group has not answered yet"
    clock.now += 11
    assert vitals.live() == "the event loop was stuck for 11 s"
    vitals.beat()
    busy[4] = clock.now - 61
    assert vitals.live() == "a unit of partition 4 has been at work for 61 s"
    assert vitals.details() == {
        "role": "core",
        "up_s": 11.0,
        "partitions": [1, 3],
        "units_in_flight": 1,
        "stuck": [],
        "heard_of_group_s": None,
    }


async def test_the_pulse_begins_with_the_first_question_and_leaves_no_task_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.web.vitals._BEAT_S", 0.01)
    vitals = Vitals(role=Role.CORE, busy_since=dict, heard=lambda: 0.0, recovering=lambda: "", partitions=set)
    before = asyncio.all_tasks()
    assert (vitals.live(), vitals.live()) == ("", "")
    beaten = asyncio.Event()
    monkeypatch.setattr(vitals, "beat", beaten.set)
    async with asyncio.timeout(30):
        await beaten.wait()
    # Whoever ends the loop waits for its tasks.
    assert asyncio.all_tasks() == before


async def test_a_provider_that_refuses_us_is_red_and_the_worker_is_ready(serve: Serve) -> None:
    for core in (True, False):
        client = await serve(Fake(), core=core)
        assert (await client.get("/ready")).status == 200
        answer = await client.get("/health/providers/SMTP")
        assert answer.status == 503
        [one] = (await answer.json())["providers"]
        assert (one["channel"], one["misconfigured"], one["reason"]) == ("EMAIL", True, "auth_refused")
        assert (await client.get("/health/providers/nobody")).status == 404
        assert (await client.get("/health/providers")).status == 200
