"""Webhooks, over a real socket: what is sent, how it is signed, and what each answer means."""

import asyncio
import json
import logging
import ssl
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from channels.fit import fit
from channels.http_call import trusted
from channels.limits import TooLong
from channels.webhook import WebhookChannel, WebhookSettings
from channels.webhook_rules import ANSWERS, DUE, EXPLANATIONS, Reason, endpoint, judged, mask, payload, rule, secret
from schemas.names import OutcomeKind
from tests.channels.certs import Authority
from tests.channels.webhook_stage import KEY, channel, hook, secret_of, settings
from tests.sandbox.http_server import Half, Hold, Reply
from tests.sandbox.webhook_server import WebhookServer


async def test_a_receiver_checks_it_with_a_library() -> None:
    async with WebhookServer() as server, channel(server) as adapter:
        url = f"{server.url}/hook"
        server.secret = secret_of(url)
        assert (await adapter.send(hook(url))).kind is OutcomeKind.ACCEPTED
        (taken,) = server.seen
        body = Webhook(server.secret).verify(taken.body, dict(taken.headers))
        assert body == {
            "type": "reminder.due",
            "timestamp": "2025-11-24T16:00:00.000Z",
            "data": {
                "reminder_id": "clinic/visit-42",
                "occurrence": "2025-11-24T17:00/PT0S",
                "recipient_id": "anna",
                "due_at": "2025-11-24T16:00:00.000Z",
                "expires_at": "2025-11-25T16:00:00.000Z",
                "title": "Dentist",
                "text": "Tomorrow at nine.",
                "data": {},
                "category": "general",
                "tenant": "",
                "correlation_id": "",
            },
        }
        assert taken.headers["Content-Type"] == "application/json"


async def test_an_attempt_has_its_own_time_and_signature_and_the_same_id_and_body(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import time

    async with WebhookServer() as server, channel(server) as adapter:
        url = f"{server.url}/hook"
        begun = time.time()
        for attempt in (1, 2):
            monkeypatch.setattr(time, "time", lambda attempt=attempt: begun + attempt)
            await adapter.send(hook(url, attempt=attempt))
        monkeypatch.undo()
        first, second = ({k.lower(): v for k, v in taken.headers.items()} for taken in server.seen)
        assert first["webhook-id"] == second["webhook-id"] == hook(url).token
        assert int(second["webhook-timestamp"]) == int(first["webhook-timestamp"]) + 1
        assert first["webhook-signature"] != second["webhook-signature"]
        assert server.seen[0].body == server.seen[1].body
        assert server.copies == 1


async def test_while_keys_change_both_are_good() -> None:
    new = "a-new-key-0123456789abcdef0123456789"
    async with WebhookServer() as server, channel(server, keys=(new, KEY)) as adapter:
        url = f"{server.url}/hook"
        await adapter.send(hook(url))
        (taken,) = server.seen
        for key in (new, KEY):
            Webhook(secret(key, url)).verify(taken.body, dict(taken.headers))
        with pytest.raises(Exception, match="No matching signature"):
            Webhook(secret("another" * 5, url)).verify(taken.body, dict(taken.headers))


def test_no_receiver_has_the_secret_of_another() -> None:
    assert secret(KEY, "https://a.example/1") != secret(KEY, "https://a.example/2")
    assert len(secret(KEY, "https://a.example/1")) == 32


@pytest.mark.parametrize("row", ANSWERS, ids=lambda row: row.status)
async def test_every_row_of_the_table(row: Any) -> None:
    status = int({"2xx": "204", "3xx": "303", "4xx": "418", "5xx": "502", "xxx": "999"}.get(row.status, row.status))
    async with WebhookServer() as server, channel(server) as adapter:
        server.say("/hook", Reply(status, "<html>no</html>", {"Retry-After": "77"}))
        outcome = await adapter.send(hook(f"{server.url}/hook"))
        assert (outcome.kind, outcome.reason) == (row.meaning.kind, row.meaning.reason)
        assert (outcome.blames_address, outcome.reached) == (row.meaning.blames_address, True)
        assert outcome.code == str(status)
        assert outcome.retry_after_s == (77.0 if outcome.kind is OutcomeKind.DEFERRED else None)
        assert outcome.detail == EXPLANATIONS[Reason(outcome.reason)]
        assert outcome.gone == ((f"{server.url}/hook",) if status == 410 else ())
        assert len(server.seen) == 1


@given(status=st.integers(0, 2000))
def test_every_status_has_its_row(status: int) -> None:
    assert rule(status).meaning.kind is (OutcomeKind.ACCEPTED if 200 <= status <= 299 else rule(status).meaning.kind)
    assert (rule(status).meaning.kind is OutcomeKind.ACCEPTED) is (200 <= status <= 299)


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"", OutcomeKind.ACCEPTED, "ok"),
        (b"{}", OutcomeKind.ACCEPTED, "ok"),
        (b"<html>", OutcomeKind.ACCEPTED, "ok"),
        (b'{"status": "seen"}', OutcomeKind.ACCEPTED, "ok"),
        (b'{"status": ["read"]}', OutcomeKind.ACCEPTED, "ok"),
        (b'["read"]', OutcomeKind.ACCEPTED, "ok"),
        (b'{"status": "delivered"}', OutcomeKind.DELIVERED, "delivered"),
        (b'{"status": "read"}', OutcomeKind.READ, "read"),
        (b'{"status": "acknowledged"}', OutcomeKind.READ, "acknowledged"),
    ],
)
def test_a_receiver_may_say_more_than_that_it_took_it(body: bytes, kind: OutcomeKind, reason: str) -> None:
    verdict = judged(200, body)
    assert (verdict.kind, verdict.reason) == (kind, reason)
    assert judged(500, body).kind is OutcomeKind.DEFERRED


async def test_a_status_stands_without_the_rest_of_its_body() -> None:
    async with WebhookServer() as server, channel(server) as adapter:
        await adapter.send(hook(f"{server.url}/cut"))
        server.say("/cut", Half())
        outcome = await adapter.send(hook(f"{server.url}/cut"))
        assert (outcome.kind, outcome.reason) == (OutcomeKind.ACCEPTED, "ok")
        server.say("/long", Reply(200, b'{"status": "read"}' + b" " * 100_000))
        outcome = await adapter.send(hook(f"{server.url}/long"))
        assert (outcome.kind, outcome.reason) == (OutcomeKind.ACCEPTED, "ok")


async def test_a_slow_receiver_is_given_up_at_the_limit_and_asked_again() -> None:
    async with WebhookServer() as server, channel(server, timeout_s=0.3) as adapter:
        event = asyncio.Event()
        server.say("/slow", Hold(event))
        outcome = await adapter.send(hook(f"{server.url}/slow"))
        assert (outcome.kind, outcome.reason, outcome.reached) == (OutcomeKind.MAYBE_SENT, "no_answer", True)
        event.set()


async def test_one_slow_host_leaves_room_for_the_others() -> None:
    async with WebhookServer() as slow, WebhookServer() as quick:
        allow = f"127.0.0.1:{slow.port},127.0.0.1:{quick.port}"
        async with channel(slow, allow=allow, per_host=2) as adapter:
            event = asyncio.Event()
            slow.say("/slow", Hold(event))
            calls = [asyncio.create_task(adapter.send(hook(f"{slow.url}/slow"))) for _ in range(2)]
            await slow.until(lambda: len(slow.seen) == 2)
            busy = await adapter.send(hook(f"{slow.url}/slow"))
            assert (busy.kind, busy.reason, busy.reached) == (OutcomeKind.DEFERRED, "busy", False)
            assert (await adapter.send(hook(f"{quick.url}/"))).kind is OutcomeKind.ACCEPTED
            event.set()
            assert [outcome.kind for outcome in await asyncio.gather(*calls)] == [OutcomeKind.ACCEPTED] * 2
            assert (await adapter.send(hook(f"{slow.url}/other"))).kind is OutcomeKind.ACCEPTED


async def test_connections_serve_again() -> None:
    async with WebhookServer() as server, channel(server) as adapter:
        for n in range(0, 200, 8):
            await asyncio.gather(*(adapter.send(hook(f"{server.url}/{n + i}")) for i in range(8)))
        assert len(server.seen) == 200
        assert server.connections <= 8


# -- where it may go ---------------------------------------------------------------------------------------------------


async def test_nothing_inside_is_called_unless_it_is_named() -> None:
    async with WebhookServer() as server, channel(server, allow="", ports=(443, server.port)) as adapter:
        outcome = await adapter.send(hook(f"{server.url}/"))
        assert (outcome.kind, outcome.reason) == (OutcomeKind.UNDELIVERABLE, "http_not_allowed")
        for host in ("127.0.0.1", "localhost", "0x7f000001", "[::ffff:127.0.0.1]", "[::1]", "169.254.169.254"):
            outcome = await adapter.send(hook(f"https://{host}:{server.port}/"))
            assert (outcome.kind, outcome.reason) == (OutcomeKind.UNDELIVERABLE, "address_not_allowed"), host
            assert not outcome.reached
        assert server.connections == 0
    # In clear to nothing but what is named, though the port is open.
    async with WebhookServer() as server, channel(server, allow="10.0.0.1", ports=(server.port,)) as adapter:
        outcome = await adapter.send(hook(f"{server.url}/"))
        assert (outcome.kind, outcome.reason) == (OutcomeKind.UNDELIVERABLE, "address_not_allowed")
        assert server.connections == 0


async def test_a_redirect_is_not_followed_inside() -> None:
    async with WebhookServer() as server, channel(server) as adapter:
        for status, kind in ((301, OutcomeKind.UNDELIVERABLE), (307, OutcomeKind.DEFERRED)):
            server.say("/to", Reply(status, headers={"Location": f"{server.url}/inner"}))
            assert (await adapter.send(hook(f"{server.url}/to"))).kind is kind
        assert {taken.path for taken in server.seen} == {"/to"}


async def test_only_who_is_who_he_says_is_told_anything(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    for name, kind in (("127.0.0.1", OutcomeKind.ACCEPTED), ("other.example", OutcomeKind.DEFERRED)):
        context = authority.issue(name, host=name).server()
        async with (
            WebhookServer(context) as server,
            channel(server, ca_file=authority.file) as adapter,
        ):
            outcome = await adapter.send(hook(f"{server.url}/"))
            assert outcome.kind is kind
            assert (outcome.reason == "certificate") is (kind is OutcomeKind.DEFERRED)
            assert outcome.reached is (kind is OutcomeKind.ACCEPTED)
            assert len(server.seen) == (1 if kind is OutcomeKind.ACCEPTED else 0)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "hooks.example.org",
        "ftp://hooks.example.org/",
        "file:///etc/passwd",
        "https://",
        "https:///path",
        "https://user:password@hooks.example.org/",
        "https://@hooks.example.org/",
        "https://hooks.example.org/#part",
        "https://hooks.example.org:0/",
        "https://hooks.example.org:99999/",
        "https://hooks.example.org:x/",
        "https://hooks.example.org/ path",
        "https://hooks.example.org/\r\nX: y",
        "https://hooks.example.org\\@127.0.0.1/",
        "https://[::1/",
        "https://" + "x" * 2000,
    ],
)
async def test_what_is_no_url_is_not_called(address: str) -> None:
    assert endpoint(address) is None
    assert mask(address) == "***"
    async with WebhookServer() as server, channel(server) as adapter:
        outcome = await adapter.send(hook(address))
        assert (outcome.kind, outcome.reason, outcome.reached) == (OutcomeKind.UNDELIVERABLE, "bad_url", False)
        assert outcome.blames_address
        assert outcome.gone == ()


def test_a_url_has_one_form() -> None:
    forms = ("HTTPS://Hooks.Example.org:443", "https://hooks.example.org/", "https://hooks.example.org:/")
    assert {endpoint(form) for form in forms} == {endpoint("https://hooks.example.org/")}
    found = endpoint("https://bücher.example:8443/a%20b?x=1&y=é")
    assert found is not None
    assert (found.url, found.place) == (
        "https://xn--bcher-kva.example:8443/a%20b?x=1&y=é",
        "xn--bcher-kva.example:8443",
    )
    assert mask("https://hooks.example.org/secret") == "https://h***"


@given(address=st.text())
def test_no_address_breaks_it(address: str) -> None:
    found = endpoint(address)
    assert found is None or endpoint(found.url) == found
    mask(address)


# -- how much ----------------------------------------------------------------------------------------------------------


async def test_a_body_is_bounded_by_refusing_or_by_cutting() -> None:
    text = "Grüße 👩‍👩‍👧 " * 3000
    async with WebhookServer() as server:
        async with channel(server, max_body=4096) as adapter:
            outcome = await adapter.send(hook(f"{server.url}/", text=text))
            assert (outcome.kind, outcome.reason, outcome.reached) == (OutcomeKind.REJECTED, "message_too_big", False)
            assert server.seen == []
        async with channel(server, max_body=4096, too_long=TooLong.CUT) as adapter:
            assert (await adapter.send(hook(f"{server.url}/", text=text))).kind is OutcomeKind.ACCEPTED
            (taken,) = server.seen
            assert 4096 - 40 <= len(taken.body) <= 4096
            sent = json.loads(taken.body)["data"]["text"]
            assert sent.endswith("…")
            assert text.startswith(sent[:-1])
            outcome = await adapter.send(hook(f"{server.url}/", data={"k": "v" * 5000}))
            assert outcome.reason == "message_too_big"


@given(text=st.text(max_size=300), limit=st.integers(0, 400))
def test_what_is_cut_is_as_long_as_may_be(text: str, limit: int) -> None:
    def make(part: str) -> bytes:
        return b"0123456789" + part.encode("utf-8", "replace")

    made = fit(make, text, limit, TooLong.CUT)
    if limit < 10:
        assert made is None
    else:
        assert made is not None
        assert len(made) <= max(limit, 10)
    assert fit(make, text, limit, TooLong.REFUSE) == (make(text) if len(make(text)) <= limit else None)


def test_user_text_is_inert_in_a_body() -> None:
    nasty = 'a"}\r\n</script>{{7*7}}\u2028\u202e\x00'
    body = payload(hook("https://a.example/", title=nasty, data={nasty: nasty}), nasty, DUE)
    data = json.loads(body)["data"]
    assert (data["title"], data["text"], data["data"]) == (nasty, nasty, {nasty: nasty})
    assert b"\n" not in body
    assert b"\x00" not in body


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"keys": ()}, "keys"),
        ({"keys": ("short",)}, "keys"),
        ({"keys": (KEY, KEY)}, "keys"),
        ({"allow": "localhost"}, "allow"),
        ({"ports": ()}, "ports"),
        ({"ports": (0,)}, "ports"),
        ({"concurrency": 0}, "concurrency"),
        ({"per_host": 101}, "per_host"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"connect_timeout_s": 0}, "connect_timeout_s"),
        ({"max_body": 10}, "max_body"),
    ],
)
def test_faults_of_settings_are_named_without_the_keys(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        WebhookSettings(**({"keys": (KEY,)} | changes))
    assert KEY not in str(caught.value)
    assert KEY not in repr(WebhookSettings((KEY,)))


async def test_a_file_of_authorities_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "ca.pem"
    bad.write_text("no certificate")
    async with WebhookServer() as server:
        adapter = WebhookChannel(settings(server, ca_file=bad))
        with pytest.raises(OSError, match=r"ca\.pem"):
            await adapter.open()
        with pytest.raises(OSError, match=r"ca\.pem"):
            await adapter.probe()


def test_authorities_are_added_to_the_systems(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    more = trusted(authority.file, more=True).cert_store_stats()["x509_ca"]
    assert more == ssl.create_default_context().cert_store_stats()["x509_ca"] + 1


async def test_what_is_logged_names_nobody(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with WebhookServer() as server, channel(server) as adapter:
        await adapter.send(hook(f"{server.url}/for-anna?token=canary"))
        await adapter.send(hook("https://user:canary@hooks.example/for-anna"))
    told = [repr(vars(record)) for record in caplog.records if record.name.startswith("channels")]
    assert told
    assert not [line for line in told if "canary" in line or "anna" in line or "Dentist" in line]


@pytest.mark.parametrize("status", [401, 403])
async def test_one_receiver_that_knows_us_not_says_nothing_of_the_others(status: int) -> None:
    """It is tried again and then given up, and no circuit opens."""
    async with WebhookServer() as server, channel(server) as adapter:
        server.say("/hook", Reply(status))
        outcome = await adapter.send(hook(f"{server.url}/hook"))
        assert (outcome.kind, outcome.reason, outcome.reached) == (OutcomeKind.DEFERRED, "signature_refused", True)


async def test_a_host_that_nobody_knows_costs_no_attempt() -> None:
    async with WebhookServer() as server, channel(server) as adapter:
        outcome = await adapter.send(hook("https://receiver.invalid/"))
        assert (outcome.kind, outcome.reason, outcome.reached) == (OutcomeKind.DEFERRED, "unknown_host", False)
