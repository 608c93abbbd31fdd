"""Reminders by HTTP: what is taken, what is refused and how, and that nobody is kept waiting by somebody else."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession
from aiohttp.test_utils import TestClient

from app.tokens import Keyring
from app.web import submit
from app.web.ports import Unsent
from app.web.routes import MAX_BODY_BYTES, MAX_EVENTS
from schemas.names import Action, Channel
from schemas.records import ReminderEvent
from tests.app.test_tokens import entry
from tests.web.stage import AUTH, Fake, Serve

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def event(reminder_id: str = "clinic/1", **more: Any) -> dict[str, Any]:
    return {"reminder_id": reminder_id, "recipient_id": "anna", "local": "2027-12-01T09:00", "text": "Canary"} | more


async def post(client: TestClient, body: Any, **headers: str) -> ClientResponse:
    return await client.post("/reminders", json=body, headers=AUTH | headers)


async def faults(answer: ClientResponse) -> list[tuple[int, str, str, str]]:
    assert "Canary" not in await answer.text()
    return [(f["index"], f["reason"], f["field"], f["value"]) for f in (await answer.json())["faults"]]


# -- taken


async def test_one_reminder_is_sent_as_any_producer_does(serve: Serve) -> None:
    fake = Fake()
    body = event("clinic/ä 1", steps=[{"channel": "email", "address": "a@b.c"}], version=7, actor="somebody else")
    answer = await post(await serve(fake), body, traceparent=TRACE)
    assert answer.status == 202
    [[record]] = fake.sent
    assert record.key == "clinic/ä 1".encode()
    assert record.headers == (("correlation-id", TRACE.encode()),)
    [sent] = fake.events
    assert (sent.action, sent.version, sent.steps[0].channel) == (Action.UPSERT, 7, Channel.EMAIL)
    assert (sent.source, sent.tenant, sent.actor, sent.correlation_id) == ("http", "", "admin", TRACE)
    [taken] = (await answer.json())["events"]
    assert taken == {
        "reminder_id": "clinic/ä 1", "event_id": sent.event_id, "correlation_id": TRACE,
        "topic": "reminders", "partition": 3, "offset": 1000, "trail": "/reminders/clinic/%C3%A4%201",
    }  # fmt: skip
    assert answer.headers["Location"] == taken["trail"]
    assert len(sent.event_id) == 32


async def test_an_array_is_sent_in_its_order(serve: Serve) -> None:
    fake = Fake()
    body = [event(f"clinic/{n}") for n in range(50)] + [{"reminder_id": "clinic/0", "action": "cancel", "version": 2}]
    answer = await post(await serve(fake), body)
    assert answer.status == 202
    assert [e.reminder_id for e in fake.events] == [b["reminder_id"] for b in body]
    assert [t["offset"] for t in (await answer.json())["events"]] == list(range(1000, 1051))
    assert len({e.event_id for e in fake.events}) == 51
    assert "Location" not in answer.headers


async def test_what_the_event_says_of_itself_stays(serve: Serve) -> None:
    fake = Fake()
    own = {"event_id": "e-1", "correlation_id": "c-1", "source": "booking", "tenant": "clinic"}
    await post(await serve(fake), event(**own), **{"Idempotency-Key": "k", "Correlation-Id": "other"})
    [sent] = fake.events
    assert {name: getattr(sent, name) for name in own} == own


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"Correlation-Id": "a", "X-Correlation-Id": "b", "traceparent": TRACE}, "a"),
        ({"X-Correlation-Id": "b"}, "b"),
        ({"traceparent": "00-nonsense"}, ""),
    ],
)
async def test_correlation(serve: Serve, headers: dict[str, str], found: str) -> None:
    fake = Fake()
    await post(await serve(fake), event(), **headers)
    assert fake.events[0].correlation_id == (found or fake.events[0].event_id)


async def test_a_doubt_is_resolved(serve: Serve) -> None:
    fake = Fake()
    client = await serve(fake)
    body = {"answer": "not-sent", "reason": " not in its log ", "delivery_id": "a:b:0:0"}
    answer = await client.post("/maybe/clinic/1", json=body, headers=AUTH)
    assert answer.status == 202
    [sent] = fake.events
    assert (sent.reminder_id, sent.action, sent.delivery_id) == ("clinic/1", Action.CONFIRM_NOT_SENT, "a:b:0:0")
    assert (sent.text, sent.actor) == ("not in its log", "admin")
    faulty: list[Any] = [
        {"answer": "sent"},
        {"answer": "yes", "reason": "r"},
        {"answer": "sent", "reason": "r" * 201},
        {"answer": "sent", "reason": "r", "more": "x"},
        {"answer": "sent", "reason": 7},
        [],
    ]
    for wrong in faulty:
        assert (await client.post("/maybe/a", json=wrong, headers=AUTH)).status == 400, wrong
    assert len(fake.sent) == 1


async def test_delete_cancels(serve: Serve) -> None:
    fake = Fake()
    client = await serve(fake)
    answer = await client.delete("/reminders/clinic%2F1", headers=AUTH, params={"version": "4"})
    assert answer.status == 202
    [sent] = fake.events
    assert sent == ReminderEvent(
        "clinic/1", action=Action.CANCEL, version=4, event_id=sent.event_id, correlation_id=sent.event_id,
        source="http", actor="admin",
    )  # fmt: skip
    for query in ({"version": "-1"}, {"version": "x"}, {"verison": "3"}, {"version": "9" * 30}):
        assert (await client.delete("/reminders/a", headers=AUTH, params=query)).status == 400
    assert (await client.delete("/reminders/" + "x" * 201, headers=AUTH)).status == 400
    assert len(fake.sent) == 1


# -- once


async def test_a_repeated_request_has_the_same_event_ids(serve: Serve) -> None:
    fake, more = Fake(), {"Idempotency-Key": "k-1"}
    client = await serve(fake)
    for _ in range(2):
        assert (await post(client, [event("a"), event("b")], **more)).status == 202
        assert (await post(client, [event("a"), event("b")], **{"Idempotency-Key": "k-2"})).status == 202
        assert (await client.delete("/reminders/a", headers=AUTH | {"Idempotency-Key": "k-3"})).status == 202
    ids = [e.event_id for e in fake.events]
    assert ids[:5] == ids[5:]
    assert len(set(ids)) == 5


async def test_the_key_stands_for_its_name_and_tenant(serve: Serve, tmp_path: Path) -> None:
    path, fake = tmp_path / "tokens.toml", Fake()
    path.write_text(entry("a", tenant="t1") + entry("b", name="other", tenant="t1") + entry("c", name="third"))
    client = await serve(fake, keys=Keyring("", path))
    for token, tenant in (("a", ""), ("a", "t1"), ("b", ""), ("c", "t1"), ("c", "t2")):
        body = event(tenant=tenant) if tenant else event()
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": f"k{tenant if token == 'a' else ''}"}
        assert (await client.post("/reminders", json=body, headers=headers)).status == 202, token
    ids = [e.event_id for e in fake.events]
    assert len(set(ids)) == 5


async def test_a_key_that_stood_for_something_else_is_refused(serve: Serve) -> None:
    fake, key = Fake(), {"Idempotency-Key": "k"}
    client = await serve(fake)
    assert (await post(client, event(local="2027-02-30"), **key)).status == 400
    assert (await post(client, event(), **key)).status == 202, "what was refused does not use the key up"
    assert (await post(client, event(text="else"), **key)).status == 422
    assert (await client.delete("/reminders/clinic/1", headers=AUTH | key)).status == 422
    assert len(fake.sent) == 1
    for bad in ("k" * 201, "ä"):
        assert (await post(client, event(), **{"Idempotency-Key": bad})).status == 400


async def test_two_unnumbered_events_of_one_reminder_have_no_order(serve: Serve) -> None:
    fake = Fake()
    answer = await post(await serve(fake), [event("a"), event("b"), {"reminder_id": "a", "action": "CANCEL"}])
    assert (answer.status, await faults(answer)) == (400, [(2, "repeated_id", "reminder_id", "a")])
    assert fake.sent == []


# -- refused


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (event(""), (0, "empty_id", "reminder_id", "")),
        (event(local="2027-02-30"), (0, "impossible_date", "local", "2027-02-30")),
        (event(zone="Europe/Berln"), (0, "unknown_zone", "zone", "Europe/Berln")),
        (
            event(steps=[{"channel": "EMAIL", "address": "Canary"}]),
            (0, "bad_address", "steps[0].address", "*** (6 characters)"),
        ),
        (event(title="Canary" * 300), (0, "too_large", "title", "1800 bytes")),
        (event(rrule="FREQ=DAILY", action="CANCEL", version=-1), (0, "negative", "version", "-1")),
        (event(text=["Canary"]), (0, "invalid_json", "text", "")),
        (event(data={"k": 4915112345678}), (0, "invalid_json", "data.k", "")),
        (event(texd="Canary"), (0, "invalid_json", "texd", "")),
        (event(version=2**63), (0, "invalid", "version", "")),
        (event(text="\ud800"), (0, "invalid", "text", "")),
        (event("\ud800"), (0, "invalid", "reminder_id", "")),
        (event(category="\x00"), (0, "control_characters", "category", "\\x00")),
        ("Canary", (0, "invalid_json", "", "")),
    ],
)
async def test_each_fault_has_the_reason_of_the_dead_letter_queue(serve: Serve, body: Any, found: Any) -> None:
    fake = Fake()
    answer = await post(await serve(fake), body)
    assert (answer.status, await faults(answer)) == (400, [found])
    assert all(fault["remedy"] for fault in (await answer.json())["faults"])
    assert fake.sent == []


async def test_all_or_nothing_with_every_fault_by_its_index(serve: Serve) -> None:
    fake = Fake()
    client = await serve(fake)
    answer = await post(
        client, [event("a"), event("b", local=""), event("c"), {"text": "Canary"}, event("d", zone="x")]
    )
    assert [(i, reason) for i, reason, *_ in await faults(answer)] == [
        (1, "no_start"),
        (3, "invalid_json"),
        (4, "unknown_zone"),
    ]
    assert "more_faults" not in await answer.json()
    answer = await post(client, [event(local="")] * MAX_EVENTS)
    assert (len(await faults(answer)), (await answer.json())["more_faults"]) == (100, True)
    assert fake.sent == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"a": 1, "a": 2}', b'{"version": ' + b"9" * 5000 + b"}", b"[]"]
)
async def test_bytes_that_are_no_event(serve: Serve, body: bytes) -> None:
    fake = Fake()
    answer = await (await serve(fake)).post(
        "/reminders", data=body, headers=AUTH | {"Content-Type": "application/json"}
    )
    assert answer.status == 400
    assert fake.sent == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/json", "Content-Encoding": "deflate"},
    ],
)
async def test_only_json_as_it_is(serve: Serve, headers: dict[str, str]) -> None:
    fake = Fake()
    body = json.dumps(event()).encode()
    answer = await (await serve(fake)).post("/reminders", data=body, headers=AUTH | headers)
    assert (answer.status, fake.sent) == (415, [])


async def test_too_much_is_not_read(serve: Serve) -> None:
    fake = Fake()
    client = await serve(fake)
    answer = await client.post(
        "/reminders", data=b" " * (MAX_BODY_BYTES + 1), headers=AUTH | {"Content-Type": "application/json"}
    )
    assert answer.status == 413

    async def endless() -> Any:
        for _ in range(40):
            yield b" " * 65536

    answer = await client.post("/reminders", data=endless(), headers=AUTH | {"Content-Type": "application/json"})
    assert answer.status == 413
    assert (await post(client, [event()] * (MAX_EVENTS + 1))).status == 413
    large = {"reminder_id": "a", "action": "CANCEL", "text": "x" * 300_000}
    answer = await post(client, large)
    assert (answer.status, (await faults(answer))[0][1]) == (400, "oversize")
    assert fake.sent == []


async def test_without_an_acknowledgement_it_is_503(serve: Serve) -> None:
    fake = Fake(unsent=Unsent("no acknowledgement within 8 s"))
    client = await serve(fake)
    answer = await post(client, event(), **{"Idempotency-Key": "k"})
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert "with the same Idempotency-Key" in (await answer.json())["error"]
    fake.unsent = None
    assert (await post(client, event(), **{"Idempotency-Key": "k"})).status == 202
    first, second = fake.events
    assert first.event_id == second.event_id


# -- who


async def test_who_may_write_what(serve: Serve, tmp_path: Path) -> None:
    path, fake = tmp_path / "tokens.toml", Fake()
    path.write_text(
        entry("viewer", "viewer") + entry("free", name="free")
        + entry("bound", name="bound", tenant="clinic", prefix="clinic/")
    )  # fmt: skip
    client = await serve(fake, keys=Keyring("", path))

    async def tried(token: str, body: Any) -> tuple[int, Any]:
        answer = await client.post("/reminders", json=body, headers={"Authorization": f"Bearer {token}"})
        return answer.status, [f["reason"] for f in (await answer.json()).get("faults", [])]

    assert await tried("viewer", event()) == (403, [])
    assert await tried("nobody", event()) == (401, [])
    assert await tried("free", event("x", tenant="any")) == (202, [])
    assert await tried("bound", event("clinic/1")) == (202, [])
    assert [(e.tenant, e.actor) for e in fake.events] == [("any", "free"), ("clinic", "bound")]
    bad = [event("clinic/1", tenant="other"), event("x"), event("clinic/2"), event("clinic/3", local="")]
    assert await tried("bound", bad) == (403, ["forbidden_tenant", "forbidden_id", "no_start"])
    for rid, status in (("clinic/1", 202), ("other/1", 403)):
        answer = await client.delete(f"/reminders/{rid}", headers={"Authorization": "Bearer bound"})
        assert answer.status == status
    assert (fake.events[-1].action, fake.events[-1].tenant) == (Action.CANCEL, "clinic")
    assert len(fake.events) == 3


async def test_rotation_under_load_fails_nobody(serve: Serve, tmp_path: Path) -> None:
    path, fake = tmp_path / "tokens.toml", Fake()
    path.write_text(entry("old"))
    client = await serve(fake, keys=Keyring("", path))
    now, statuses, done = ["old"], [], asyncio.Event()

    async def load() -> None:
        while not done.is_set():
            headers = {"Authorization": f"Bearer {now[0]}"}
            statuses.append((await client.post("/reminders", json=event(), headers=headers)).status)

    def replaced(text: str) -> None:
        new = tmp_path / "new"
        new.write_text(text)
        new.replace(path)

    workers = [asyncio.create_task(load()) for _ in range(8)]
    for n in range(6):
        following = f"token-{n}"
        replaced(entry(now[0]) + entry(following))
        await asyncio.sleep(0.05)
        now[0] = following
        await asyncio.sleep(0.05)
        replaced(entry(following))
        await asyncio.sleep(0.05)
    done.set()
    await asyncio.gather(*workers)
    assert set(statuses) == {202}
    assert len(statuses) > 50


# -- how much


async def test_a_quota_of_each_source_and_tenant(serve: Serve, tmp_path: Path) -> None:
    path, fake = tmp_path / "tokens.toml", Fake()
    path.write_text(entry("a") + "[quota_per_minute]\nlarge = 4\n")
    client = await serve(fake, keys=Keyring("", path), quota_per_minute=2)

    async def tried(count: int, **more: str) -> int:
        body = [event(f"x{n}", **more) for n in range(count)]
        answer = await client.post("/reminders", json=body, headers={"Authorization": "Bearer a"})
        if answer.status == 429:
            assert answer.headers["Retry-After"] == str((await answer.json())["retry_after_s"])
            assert int(answer.headers["Retry-After"]) in range(1, 61)
        return answer.status

    assert [await tried(1), await tried(1), await tried(1)] == [202, 202, 429]
    assert await tried(2, source="other") == 202
    assert await tried(3, source="third") == 413
    assert await tried(3, tenant="large", source="a") == 202
    assert [await tried(2, tenant="large", source="b"), await tried(1, tenant="large", source="b")] == [429, 202]
    assert (await client.delete("/reminders/x", headers={"Authorization": "Bearer a"})).status == 429


async def test_what_was_not_sent_is_not_counted(serve: Serve) -> None:
    fake = Fake(unsent=Unsent("x"))
    client = await serve(fake, quota_per_minute=1)
    assert [(await post(client, event())).status for _ in range(3)] == [503, 503, 503]
    assert (await post(client, event(local=""))).status == 400
    fake.unsent = None
    assert [(await post(client, event())).status for _ in range(2)] == [202, 429]


# -- nobody waits for somebody else


async def test_a_slow_client_is_let_go_and_holds_up_nobody(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "BODY_S", 0.5)
    client = await serve(Fake())

    async def slow() -> Any:
        yield b'{"reminder_id":'
        await asyncio.sleep(3)
        yield b'"x"}'

    async def one() -> int:
        async with ClientSession() as session:
            headers = AUTH | {"Content-Type": "application/json"}
            return (await session.post(client.make_url("/reminders"), data=slow(), headers=headers)).status

    waiting = [asyncio.create_task(one()) for _ in range(20)]
    await asyncio.sleep(0.1)
    async with asyncio.timeout(0.3):
        assert (await post(client, event())).status == 202
        assert (await client.get("/live")).status == 200
    assert set(await asyncio.gather(*waiting)) == {408}


async def test_too_many_at_once_are_told_so(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "MAX_AT_ONCE", 3)
    client = await serve(Fake(pause_s=0.3))
    answers = await asyncio.gather(*(post(client, event()) for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [202, 202, 202, 503, 503]
    assert [a.headers["Retry-After"] for a in answers if a.status == 503] == ["1", "1"]
    assert (await post(client, event())).status == 202


async def test_a_full_request_holds_the_loop_up_for_milliseconds(serve: Serve) -> None:
    client = await serve(Fake())
    body = json.dumps([event(f"clinic/{n}", text="x" * 700) for n in range(MAX_EVENTS)]).encode()
    longest, done = 0.0, asyncio.Event()

    async def watch() -> None:
        nonlocal longest
        loop = asyncio.get_running_loop()
        while not done.is_set():
            before = loop.time()
            await asyncio.sleep(0)
            longest = max(longest, loop.time() - before)

    watching = asyncio.create_task(watch())
    answer = await client.post("/reminders", data=body, headers=AUTH | {"Content-Type": "application/json"})
    done.set()
    await watching
    assert answer.status == 202
    print(f"longest turn {longest * 1000:.1f} ms for {len(body)} bytes")
    assert longest < 0.25
