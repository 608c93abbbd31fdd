"""Pushes over FCM, over a real socket: what is sent, which answers take a token away, and the login before it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.fcm_codes import ANSWERS, EXPLANATIONS, read_answer
from channels.fcm_payload import MAX_BYTES, RefusedDataError, push, strings, ttl_s
from channels.fcm_settings import PushSettings
from channels.http_answers import Answer
from channels.limits import TooLong
from channels.push import PushChannel
from schemas.names import OutcomeKind
from tests.channels.fcm_stage import channel, credentials, fcm_stage, key, note, settings
from tests.sandbox.fcm_server import FcmServer, mistakes, refusal
from tests.sandbox.http_server import Cut, Half, Hold, Reply

# -- what is sent ------------------------------------------------------------------------------------------------------


async def test_a_push_as_the_device_gets_it() -> None:
    async with fcm_stage(android_channel="appointments") as stage:
        outcome = await stage.adapter.send(note(data={"room": "4"}))
        assert (outcome.kind, outcome.provider_id) == (OutcomeKind.ACCEPTED, "projects/clinic-app/messages/1")
        (message,) = stage.server.taken["device-1"]
        copy = "abcdefghij234567abcdefghij"
        assert message["notification"] == {"title": "Dentist", "body": "Tomorrow at nine."}
        assert message["data"] == {
            "room": "4",
            "reminder_id": "clinic/visit-42",
            "occurrence": "2025-11-24T17:00/PT0S",
        }
        assert message["android"] == {
            "priority": "HIGH",
            "ttl": f"{28 * 86400}s",
            "collapse_key": copy,
            "notification": {"tag": copy, "sound": "default", "channel_id": "appointments"},
        }
        assert message["apns"]["headers"] == {
            "apns-priority": "10",
            "apns-push-type": "alert",
            "apns-collapse-id": copy,
            "apns-expiration": "4102444800",
        }
        assert message["webpush"] == {
            "headers": {"TTL": str(28 * 86400), "Urgency": "high", "Topic": copy},
            "notification": {"tag": copy},
        }


async def test_a_push_is_taken_back_by_one_that_shows_nothing_and_takes_its_place() -> None:
    async with fcm_stage() as stage:
        outcome = await stage.adapter.retract(note(text="", also=("device-2",)), "projects/clinic-app/messages/1")
        assert outcome.kind is OutcomeKind.ACCEPTED
        assert set(stage.server.taken) == {"device-1", "device-2"}
        (message,) = stage.server.taken["device-1"]
        copy = "abcdefghij234567abcdefghij"
        assert "notification" not in message
        assert message["data"] == {
            "reminder_id": "clinic/visit-42",
            "occurrence": "2025-11-24T17:00/PT0S",
            "retract": copy,
        }
        assert message["android"]["collapse_key"] == message["apns"]["headers"]["apns-collapse-id"] == copy
        assert message["apns"]["payload"] == {"aps": {"content-available": 1}}


def test_none_is_kept_beyond_its_deadline() -> None:
    assert ttl_s(10_000, 4_000) == 6
    assert ttl_s(10_000, 11_000) == 0
    assert ttl_s(0, 11_000) == 86_400
    assert ttl_s(10**15, 0) == 28 * 86_400


@pytest.mark.parametrize(("data", "url"), [({}, "https://x.example/l/a"), ({"confirm_url": "own"}, "own")])
async def test_an_app_is_told_where_to_answer_unless_it_knows_better(data: dict[str, str], url: str) -> None:
    async with fcm_stage() as stage:
        await stage.adapter.send(note(data=data, confirm_url="https://x.example/l/a"))
        (message,) = stage.server.taken["device-1"]
        assert message["data"]["confirm_url"] == url


def test_data_is_made_of_texts() -> None:
    given: dict[str, object] = {
        "n": 12,
        "f": 1.5,
        "yes": True,
        "none": None,
        "m": {"b": 1, "a": "é"},
        "l": [1],
        "s": "x",
    }
    assert strings(given) == {"n": "12", "f": "1.5", "yes": "true", "m": '{"a": "é", "b": 1}', "l": "[1]", "s": "x"}


@pytest.mark.parametrize("name", ["from", "message_type", "google.a", "gcm.notification.b"])
async def test_what_is_fcms_own_is_refused_before_it_is_sent(name: str) -> None:
    with pytest.raises(RefusedDataError):
        strings({name: "x"})
    async with fcm_stage() as stage:
        outcome = await stage.adapter.send(note(data={"a": "1", name: "canary"}))
        assert (outcome.kind, outcome.reason, outcome.reached) == (OutcomeKind.REJECTED, "payload_refused", False)
        assert "(message.data[1])" in outcome.detail
        assert "canary" not in repr(outcome)
        assert stage.server.seen == []


async def test_a_text_that_is_too_long_is_cut_or_refused() -> None:
    text = "Grüße 👩‍👩‍👧 " * 3000
    async with fcm_stage() as stage:
        assert (await stage.adapter.send(note(text=text))).kind is OutcomeKind.ACCEPTED
        (message,) = stage.server.taken["device-1"]
        body = message["notification"]["body"]
        assert body.endswith("…")
        assert text.startswith(body[:-1])
        sizes = {k: message[k] for k in message if k != "token"}
        assert 3900 < len(json.dumps(sizes, ensure_ascii=False, separators=(",", ":")).encode()) <= 4096
        outcome = await stage.adapter.send(note("device-2", text=text, data={"big": "v" * 4096}))
        assert (outcome.kind, outcome.reason, outcome.reached) == (OutcomeKind.REJECTED, "message_too_big", False)
        assert "device-2" not in stage.server.taken
    async with fcm_stage(too_long=TooLong.REFUSE) as stage:
        assert (await stage.adapter.send(note(text=text))).reason == "message_too_big"
        assert stage.server.seen == []


@given(
    text=st.text(max_size=200), title=st.text(max_size=50), token=st.text(st.characters(codec="ascii"), max_size=300)
)
def test_no_request_is_longer_than_it_may_be(text: str, title: str, token: str) -> None:
    made = push(token, note(text=text * 40, title=title), 60, TooLong.CUT)
    assert made is not None
    assert len(made) <= MAX_BYTES + len(json.dumps(token))
    assert json.loads(made)["message"].get("notification", {}).get("title", "") == title


# -- what an answer means ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ANSWERS, ids=lambda row: f"{row.code or 'none'}-{row.status}")
async def test_every_row_of_the_table(row: Any) -> None:
    usual = {"UNREGISTERED": 404, "INVALID_ARGUMENT": 400, "SENDER_ID_MISMATCH": 403, "QUOTA_EXCEEDED": 429}
    usual |= {"UNAVAILABLE": 503, "INTERNAL": 500, "THIRD_PARTY_AUTH_ERROR": 401}
    status = usual.get(row.code) or {"3xx": 302, "4xx": 418, "5xx": 502, "xxx": 600}.get(row.status) or int(row.status)
    code = "NEVER_HEARD_OF" if row.code == "other" else row.code
    read = read_answer(Answer(status, refusal(status, "X", "canary", code=code).data))
    assert read.meaning == row.meaning
    assert read.wait_s == row.wait_s
    assert read.code == f"{status} {code}".strip()
    assert row.meaning.reason in EXPLANATIONS


@given(
    status=st.integers(100, 999),
    body=st.binary() | st.sampled_from([b"[]", b'{"error": 1}', b'{"error": {"details": [1]}}']),
)
def test_no_answer_breaks_it_and_none_takes_a_token_by_its_status(status: int, body: bytes) -> None:
    read = read_answer(Answer(status, body))
    assert not read.meaning.blames_address
    assert (read.meaning.kind is OutcomeKind.ACCEPTED) is False


def test_only_a_name_says_that_a_message_was_taken() -> None:
    for body, whole in (
        (b"", True),
        (b"<html>", True),
        (b"{}", True),
        (b'{"name": ""}', True),
        (b'{"name": "a"}', False),
    ):
        assert read_answer(Answer(200, body, whole)).meaning.kind is OutcomeKind.MAYBE_SENT
    assert read_answer(Answer(200, b'{"name": "projects/p/messages/1"}')).name == "projects/p/messages/1"


async def test_an_app_that_was_removed_loses_its_token() -> None:
    async with fcm_stage() as stage:
        stage.server.unregistered.add("device-1")
        outcome = await stage.adapter.send(note())
        assert (outcome.kind, outcome.reason, outcome.blames_address) == (
            OutcomeKind.UNDELIVERABLE,
            "unregistered",
            True,
        )
        assert outcome.gone == ("device-1",)
        assert outcome.code == "404 UNREGISTERED"
        assert "device-1" not in repr(outcome)


async def test_a_wrong_project_takes_no_token_away(tmp_path: Path) -> None:
    async with fcm_stage() as stage:
        stage.server.project = "another"
        outcome = await stage.adapter.send(note())
        assert (outcome.kind, outcome.reason) == (OutcomeKind.MISCONFIGURED, "wrong_project")
        assert (outcome.gone, outcome.blames_address, outcome.reached) == ((), False, False)


async def test_a_second_look_tells_a_bad_token_from_a_bad_message() -> None:
    async with fcm_stage() as stage:
        stage.server.malformed.add("no-token")
        outcome = await stage.adapter.send(note("no-token"))
        assert (outcome.kind, outcome.reason, outcome.gone) == (
            OutcomeKind.UNDELIVERABLE,
            "token_invalid",
            ("no-token",),
        )
        stage.server.refuse_payload = "canary"
        outcome = await stage.adapter.send(note(text="a canary"))
        assert (outcome.kind, outcome.reason, outcome.gone) == (OutcomeKind.REJECTED, "payload_refused", ())
        assert stage.server.looked == ["device-1"]
        assert stage.server.taken == {}


async def test_a_second_look_without_a_result_takes_nothing_away() -> None:
    async with fcm_stage() as stage:
        suspect = refusal(400, "INVALID_ARGUMENT", "x", code="INVALID_ARGUMENT")
        for second in (Reply(503), Cut(), Half()):
            stage.server.say("device-1", suspect, second)
            outcome = await stage.adapter.send(note())
            assert (outcome.kind, outcome.reason, outcome.gone) == (OutcomeKind.UNDELIVERABLE, "token_suspect", ())
            assert not outcome.blames_address


@pytest.mark.parametrize("token", ["", "with space", "line\nbreak", "ünïcode"])
async def test_what_can_be_no_token_is_not_sent(token: str) -> None:
    async with fcm_stage() as stage:
        outcome = await stage.adapter.send(note(token))
        assert (outcome.kind, outcome.reason, outcome.reached) == (OutcomeKind.UNDELIVERABLE, "bad_token", False)
        assert stage.server.seen == []


# -- several devices ---------------------------------------------------------------------------------------------------


async def test_all_devices_are_reached_and_only_what_is_gone_is_forgotten() -> None:
    async with fcm_stage() as stage:
        stage.server.unregistered.add("old")
        outcome = await stage.adapter.send(note("phone", also=("tablet", "old", "phone")))
        assert (outcome.kind, outcome.gone) == (OutcomeKind.ACCEPTED, ("old",))
        assert outcome.detail.endswith("; 2 of 3 devices")
        assert not outcome.blames_address
        assert {device: len(taken) for device, taken in stage.server.taken.items()} == {"phone": 1, "tablet": 1}


BUSY = refusal(429, "RESOURCE_EXHAUSTED", "x", code="QUOTA_EXCEEDED", Retry_After="90")


@pytest.mark.parametrize(
    ("first", "second", "kind", "reached"),
    [
        (BUSY, None, OutcomeKind.ACCEPTED, True),
        (Cut(), BUSY, OutcomeKind.MAYBE_SENT, True),
        (BUSY, refusal(404, "NOT_FOUND", "x", code="UNREGISTERED"), OutcomeKind.DEFERRED, True),
        (
            refusal(403, "PERMISSION_DENIED", "x"),
            refusal(404, "X", "x", code="UNREGISTERED"),
            OutcomeKind.MISCONFIGURED,
            True,
        ),
        (
            refusal(403, "X", "x", code="SENDER_ID_MISMATCH"),
            refusal(400, "X", "x", violations=["message.data[0].value"]),
            OutcomeKind.REJECTED,
            True,
        ),
    ],
)
async def test_the_best_of_several_stands_for_all(first: Any, second: Any, kind: OutcomeKind, reached: bool) -> None:
    async with fcm_stage() as stage:
        stage.server.say("a", first)
        if second is not None:
            stage.server.say("b", second)
        outcome = await stage.adapter.send(note("a", also=("b",)))
        assert (outcome.kind, outcome.reached) == (kind, reached)
        assert outcome.retry_after_s == (90 if kind is OutcomeKind.DEFERRED else None)


# -- the login ---------------------------------------------------------------------------------------------------------


async def test_one_login_serves_all() -> None:
    async with fcm_stage() as stage:
        await asyncio.gather(*(stage.adapter.send(note(f"device-{n}")) for n in range(50)))
        assert len(stage.server.taken) == 50
        assert stage.server.logins == 1


async def test_a_token_that_is_refused_is_renewed_once_for_all() -> None:
    async with fcm_stage() as stage:
        await stage.adapter.send(note("before"))
        stage.server.tokens.clear()
        outcomes = await asyncio.gather(*(stage.adapter.send(note(f"device-{n}")) for n in range(20)))
        assert {outcome.kind for outcome in outcomes} == {OutcomeKind.ACCEPTED}
        assert {len(taken) for taken in stage.server.taken.values()} == {1}
        assert stage.server.logins == 2


async def test_a_login_that_is_refused_again_is_not_tried_for_ever() -> None:
    async with fcm_stage() as stage:
        stage.server.say("device-1", refusal(401, "UNAUTHENTICATED", "x"))
        outcome = await stage.adapter.send(note())
        assert (outcome.kind, outcome.reason) == (OutcomeKind.MISCONFIGURED, "credentials_refused")
        assert (stage.server.logins, len(stage.server.seen)) == (2, 4)


async def test_a_key_that_apple_refuses_is_no_login_of_ours() -> None:
    async with fcm_stage() as stage:
        stage.server.say("device-1", refusal(401, "UNAUTHENTICATED", "x", code="THIRD_PARTY_AUTH_ERROR"))
        outcome = await stage.adapter.send(note())
        assert (outcome.kind, outcome.reason) == (OutcomeKind.MISCONFIGURED, "third_party_auth")
        assert stage.server.logins == 1


async def test_a_token_is_renewed_before_it_ends_and_the_old_one_serves_meanwhile() -> None:
    async with fcm_stage() as stage:
        stage.server.life_s = 200
        await stage.adapter.send(note("a"))
        # Its last five minutes have begun; a login that fails now is nobody's fault yet.
        stage.server.login_reply = Reply(503)
        for n in range(3):
            assert (await stage.adapter.send(note(f"b-{n}"))).kind is OutcomeKind.ACCEPTED
        assert len([seen for seen in stage.server.seen if seen.path == "/token"]) == 2
        stage.server.login_reply = None


@pytest.mark.parametrize(
    ("reply", "kind", "reason"),
    [
        (Reply(400, {"error": "invalid_grant"}), OutcomeKind.MISCONFIGURED, "credentials_refused"),
        (Reply(401, "<html>"), OutcomeKind.MISCONFIGURED, "credentials_refused"),
        (Reply(503), OutcomeKind.DEFERRED, "login_unavailable"),
        (Reply(429), OutcomeKind.DEFERRED, "login_unavailable"),
        (Reply(200, "<html>"), OutcomeKind.DEFERRED, "login_unavailable"),
        (Reply(200, {"access_token": "a\r\nX: y"}), OutcomeKind.DEFERRED, "login_unavailable"),
        (Reply(200, {"access_token": 1}), OutcomeKind.DEFERRED, "login_unavailable"),
        (Reply(200, {"access_token": "a", "expires_in": "soon"}), OutcomeKind.DEFERRED, "login_unavailable"),
    ],
)
async def test_without_a_login_nothing_has_left(reply: Reply, kind: OutcomeKind, reason: str) -> None:
    async with fcm_stage() as stage:
        stage.server.login_reply = reply
        outcome = await stage.adapter.send(note())
        assert (outcome.kind, outcome.reason, outcome.reached) == (kind, reason, False)
        assert {seen.path for seen in stage.server.seen} == {"/token"}


async def test_who_is_cancelled_takes_the_login_from_nobody() -> None:
    async with fcm_stage() as stage:
        release = asyncio.Event()
        stage.server.say("/token", Hold(release))
        first = asyncio.create_task(stage.adapter.send(note("a")))
        await stage.server.until(lambda: len(stage.server.seen) == 1)
        second = asyncio.create_task(stage.adapter.send(note("b")))
        await asyncio.sleep(0)
        first.cancel()
        release.set()
        assert (await second).kind is OutcomeKind.ACCEPTED
        with pytest.raises(asyncio.CancelledError):
            await first
        assert stage.server.logins == 1


async def test_a_new_key_is_read_without_a_restart(tmp_path: Path) -> None:
    async with fcm_stage() as stage:
        file = tmp_path / "clinic-app.json"
        file.write_text("{}")
        adapter = PushChannel(settings(stage.server, credentials_file=file))
        with pytest.raises(OSError, match="no service account's key"):
            await adapter.open()
        credentials(tmp_path, stage.server.token_uri)
        await adapter.open()
        file.write_text("{}")
        outcome = await adapter.send(note())
        assert (outcome.kind, outcome.reason) == (OutcomeKind.MISCONFIGURED, "credentials_unreadable")
        credentials(tmp_path, stage.server.token_uri)
        assert (await adapter.send(note())).kind is OutcomeKind.ACCEPTED
        await adapter.close()


@pytest.mark.parametrize(
    "said",
    [
        "",
        "[]",
        "{}",
        '{"project_id": 1}',
        json.dumps({"project_id": "p", "client_email": "e", "token_uri": "https://a"}),
    ],
)
async def test_a_file_that_is_no_key_is_named_without_its_content(tmp_path: Path, said: str) -> None:
    file = tmp_path / "key.json"
    file.write_text(said)
    adapter = PushChannel(PushSettings(file))
    with pytest.raises(OSError, match=r"fcm: credentials_file .*key\.json: is no service account's key"):
        await adapter.open()
    with pytest.raises(OSError, match="cannot be read"):
        await PushChannel(PushSettings(tmp_path / "absent.json")).open()


@pytest.mark.parametrize("uri", ["http://oauth2.example/token", "ftp://a", "https://u:p@a/token"])
async def test_a_proof_goes_to_nobody_in_clear(tmp_path: Path, uri: str) -> None:
    with pytest.raises(OSError, match="token_uri"):
        await PushChannel(PushSettings(credentials(tmp_path, uri))).open()


async def test_a_probe_sends_nothing_and_says_what_is_wrong() -> None:
    async with fcm_stage() as stage:
        assert "ready, logged in" in await stage.adapter.probe()
        assert stage.server.taken == {}
        stage.server.project = "another"
        with pytest.raises(OSError, match=r"fcm 127.*: 404 FCM does not know the project"):
            await stage.adapter.probe()


async def test_a_project_is_told_apart_from_a_path() -> None:
    async with FcmServer(certificate=key()[1], project="a%2Fb") as server:
        import tempfile

        file = credentials(Path(tempfile.mkdtemp()), server.token_uri)
        file.write_text(file.read_text().replace('"project_id": "clinic-app"', '"project_id": "a/b"'))
        async with channel(server, credentials_file=file, ca_file=None) as adapter:
            await adapter.send(note())
        assert server.seen[-1].path == "/v1/projects/a%2Fb/messages:send"


# -- the stand-in ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "wrong"),
    [
        ({"data": {"count": 12}}, ["message.data[0].value"]),
        ({"data": {"a": "x", "from": "y"}}, ["message.data[1].value"]),
        ({"notification": {"titel": "x"}}, ["message.notification.titel"]),
        ({"android": {"ttl": 60}}, ["message.android.ttl"]),
        ({"android": {"ttl": "60"}}, ["message.android.ttl"]),
        ({"android": {"priority": "URGENT"}}, ["message.android.priority"]),
        ({"android": {"collapse_key": "a", "notification": {"channel_id": "b"}}}, []),
        ({"webpush": {"headers": {"TTL": 60}}}, ["message.webpush.headers[0].value"]),
        ({"apns": {"payload": {"aps": {"badge": 1}}}}, []),
    ],
)
def test_the_stand_in_refuses_what_the_published_schema_does(message: dict[str, Any], wrong: list[str]) -> None:
    assert mistakes({"message": message}, {"$ref": "SendMessageRequest"}, "") == wrong


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"base_url": "http://fcm.example"}, "base_url"),
        ({"base_url": "fcm.example"}, "base_url"),
        ({"base_url": "https://[x"}, "base_url"),
        ({"concurrency": 0}, "concurrency"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"connect_timeout_s": 0}, "connect_timeout_s"),
        ({"too_long": TooLong.SPLIT}, "too_long"),
        ({"android_channel": "x" * 101}, "android_channel"),
    ],
)
def test_faults_of_settings_are_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        PushSettings(Path("key.json"), **changes)
