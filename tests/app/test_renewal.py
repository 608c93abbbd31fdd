"""Secrets are swapped in their files while calls go on: none fails, and a broken file changes nothing."""

import asyncio
import base64
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from app import renewal
from app.build import _channels, _news_secrets
from app.config import Settings
from app.renewal import OVERLAP_S, Overlapping, Renewal, restart_only
from channels import dkim, registry
from channels.base import Metered, Outcome, Retracting, Send
from channels.email import signer
from channels.renewable import Renewable, renewable
from schemas.names import Channel, OutcomeKind
from tests.sandbox.twilio_server import ACCOUNT, TwilioServer

OLD, NEW, NEWEST = "canary-token-old-1", "canary-token-new-2", "canary-token-new-3"


class Desk:
    """An SMS adapter whose token is in a file, and what looks at that file."""

    def __init__(self, path: Path, server: TwilioServer) -> None:
        self.path, self.server = path, server
        self.write(OLD)
        self.settings = Settings.load(
            {
                "TWILIO_ACCOUNT_SID": ACCOUNT,
                "TWILIO_AUTH_TOKEN_FILE": str(path),
                "TWILIO_SMS_FROM": "+14155550100",
                "TWILIO_BASE_URL": server.url,
            }
        )
        self.told: list[list[str]] = []
        self.adapter: Renewable = renewable(self.made(self.settings))
        self.renewal = Renewal(self.settings, self.changed, self.told.append)
        self.adapter.rejected = self.renewal.hurry

    def write(self, token: str) -> None:
        """Put a file in the place of the one before, at once, as secrets are mounted."""
        new = self.path.with_suffix(".new")
        new.write_text(token)
        new.replace(self.path)

    @staticmethod
    def made(settings: Settings) -> Any:
        return registry.configured_channels(_channels(settings))[Channel.SMS]

    async def changed(self, after: Settings) -> None:
        made = self.made(after)
        await made.open()
        await self.adapter.swap(made)

    async def send(self, number: int) -> Outcome:
        to = f"+1201555{number % 10_000:04d}"
        return await self.adapter.send(Send(Channel.SMS, to, f"t{number}", 1, 0, 0, 0, text="Hello"))

    def used(self) -> Counter[str]:
        """Return how often each token was used."""
        logins = (seen.headers["Authorization"].removeprefix("Basic ") for seen in self.server.seen)
        return Counter(base64.b64decode(login).decode().partition(":")[2] for login in logins)


@asynccontextmanager
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with TwilioServer(token=OLD) as server:
        made = Desk(tmp_path / "token", server)
        await made.adapter.open()
        try:
            yield made
        finally:
            await made.adapter.close()


async def test_a_secret_is_swapped_under_load_without_a_failure(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        d.server.secondary = NEW
        outcomes: list[Outcome] = []
        going_on = True

        async def load(lane: int) -> None:
            n = 100 + lane
            while going_on:
                outcomes.append(await d.send(n))
                n += 20

        lanes = [asyncio.create_task(load(lane)) for lane in range(20)]
        await _until(lambda: len(outcomes) > 100)
        d.write(NEW)
        assert not await d.renewal.look()  # it may be half written
        assert await d.renewal.look()
        since = len(outcomes)
        # What was in flight ends with the old one; then it can be taken back.
        await _until(lambda: len(outcomes) > since + 100)
        d.server.token, d.server.secondary = NEW, ""
        since, old = len(outcomes), d.used()[OLD]
        await _until(lambda: len(outcomes) > since + 200)
        going_on = False
        await asyncio.gather(*lanes)
        assert {outcome.kind for outcome in outcomes} == {OutcomeKind.ACCEPTED}
        assert d.used()[OLD] == old
        assert d.used()[NEW] >= 200
        assert not await d.renewal.look()


async def test_a_file_that_cannot_be_used_keeps_what_was_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with desk(tmp_path) as d:
        for broken in ("", None):
            if broken is None:
                d.path.unlink()
            else:
                d.write(broken)
            for _ in range(4):
                assert not await d.renewal.look()
            assert (await d.send(1)).kind is OutcomeKind.ACCEPTED
        assert len(d.told) == 2
        assert all("TWILIO_AUTH_TOKEN" in fault for faults in d.told for fault in faults)
        d.server.token = NEW
        d.write(NEW)
        assert not await d.renewal.look()
        assert await d.renewal.look()
        assert d.told[-1] == []
        assert (await d.send(2)).kind is OutcomeKind.ACCEPTED
    assert OLD not in caplog.text + repr(d.told)
    assert NEW not in caplog.text + repr(d.settings)


async def test_a_refused_credential_has_the_file_looked_at_sooner(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        d.server.token = NEW
        d.write(NEW)
        refused = await d.send(1)
        assert refused.kind is OutcomeKind.MISCONFIGURED
        watching = asyncio.create_task(d.renewal.run())
        while (await d.send(2)).kind is not OutcomeKind.ACCEPTED:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        watching.cancel()


@pytest.mark.parametrize("broken", [False, True])
async def test_a_file_that_was_replaced_before_the_first_look_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    monkeypatch.setattr(renewal, "LOOK_S", 0.01)
    path = tmp_path / "token"
    path.write_text(OLD)
    settings = Settings.load({"WHATSAPP_TOKEN_FILE": str(path), "WHATSAPP_PHONE_ID": "106540352242922"})
    path.write_text("" if broken else NEW)
    taken: list[str] = []
    told: list[list[str]] = []

    async def changed(after: Settings) -> None:
        taken.append(after.cloud.token)

    watching = asyncio.create_task(Renewal(settings, changed, told.append).run())
    if broken:
        await _until(lambda: told)
        assert "WHATSAPP_TOKEN" in told[0][0]
        path.write_text(NEW)
    await _until(lambda: taken)
    watching.cancel()
    assert taken == [NEW]


async def test_what_is_in_use_is_not_taken_anew(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(OLD)
    hashing = "1:" + "h" * 32
    settings = Settings.load(
        {"WHATSAPP_TOKEN_FILE": str(path), "WHATSAPP_PHONE_ID": "106540352242922", "ADDRESS_HASH_KEY": hashing}
    )
    taken: list[str] = []

    async def changed(after: Settings) -> None:
        taken.append(after.cloud.token)

    watch = Renewal(settings, changed)
    await watch._compare()
    assert [await watch.look() for _ in range(3)] == [False] * 3
    assert taken == []


async def test_calls_in_flight_end_with_the_old_one_which_is_closed_after_the_last(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        closed: list[str] = []
        gate = asyncio.Event()

        def adapter(name: str) -> Any:
            async def send(message: Send) -> Outcome:
                await gate.wait()
                return Outcome(OutcomeKind.ACCEPTED, "ok", "x", detail=name)

            async def nothing() -> None:
                pass

            async def close() -> None:
                closed.append(name)

            return SimpleNamespace(name="x", channel=Channel.SMS, send=send, open=nothing, close=close)

        one = renewable(adapter("old"))
        calls = [asyncio.create_task(one.send(Send(Channel.SMS, "", "", 1, 0, 0, 0))) for _ in range(2)]
        await asyncio.sleep(0)
        await one.swap(adapter("new"))
        calls.append(asyncio.create_task(one.send(Send(Channel.SMS, "", "", 1, 0, 0, 0))))
        await asyncio.sleep(0)
        assert closed == []
        gate.set()
        assert [call.detail for call in await asyncio.gather(*calls)] == ["old", "old", "new"]
        assert closed == ["old"]
        assert isinstance(d.adapter, Retracting)
        assert isinstance(d.adapter, Metered)
        assert not isinstance(one, Retracting)
        with pytest.raises(ValueError, match="another provider"):
            await one.swap(SimpleNamespace(name="y", channel=Channel.SMS))  # type: ignore[arg-type]


async def test_a_new_dkim_key_is_used_within_two_looks(tmp_path: Path) -> None:
    path = tmp_path / "dkim.pem"

    def write() -> dkim.Key:
        key = Ed25519PrivateKey.generate()
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return key

    write()
    mail = {"SMTP_HOST": "127.0.0.1", "SMTP_FROM": "desk@clinic.example", "SMTP_DKIM_SELECTOR": "2026a"}
    settings = Settings.load(mail | {"SMTP_DKIM_KEY_FILE": str(path)})
    signers: list[dkim.Signer | None] = []

    async def changed(after: Settings) -> None:
        email = _channels(after).email
        assert email is not None
        signers.append(signer(email))

    watch = Renewal(settings, changed)
    new = write()
    assert [await watch.look() for _ in range(3)] == [False, True, False]
    [used] = signers
    assert used is not None
    assert dkim.record(used.key) == dkim.record(new)


def test_what_was_signed_with_the_old_secret_is_known_for_a_while() -> None:
    now = 0.0
    tokens = Overlapping(OLD, lambda: now)
    assert tokens() == (OLD,)
    tokens.renew(NEW)
    tokens.renew(NEW)
    assert tokens() == (NEW, OLD)
    now = OVERLAP_S
    assert tokens() == (NEW,)
    tokens.renew(NEWEST)
    assert tokens() == (NEWEST, NEW)


async def test_a_core_worker_follows_the_token_of_mails_and_names_what_takes_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(renewal, "LOOK_S", 0.01)
    token, sealing = tmp_path / "token", tmp_path / "seal"
    token.write_text("t" * 32)
    sealing.write_text("k" * 32)
    settings = Settings.load(
        {
            "SMTP_CALLBACK_TOKEN_FILE": str(token),
            "SEAL_KEY_FILE": str(sealing),
            "CALLBACK_KEY": "c" * 32,
            "SMTP_HOST": "127.0.0.1",
            "SMTP_FROM": "desk@clinic.example",
            "SMTP_BOUNCE_DOMAIN": "bounce.clinic.example",
        }
    )
    tasks: list[Any] = []
    app: Any = SimpleNamespace(task=tasks.append)
    secrets = _news_secrets(app, settings)
    assert secrets.mail == ("t" * 32,)
    [look] = tasks
    watching = asyncio.create_task(look())
    token.write_text("u" * 32 + "," + "t" * 32)
    await _until(lambda: secrets.mail == ("u" * 32, "t" * 32))
    sealing.write_text("l" * 32)
    await _until(lambda: "SEAL_KEY changed: it takes effect with a restart" in caplog.text)
    watching.cancel()


def test_what_takes_a_restart_is_named(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("k" * 32)
    before = Settings.load({"SEAL_KEY_FILE": str(path), "KAFKA_BOOTSTRAP": "127.0.0.1:1"})
    assert before.secret_files() == (("SEAL_KEY", path),)
    path.write_text("l" * 32)
    assert restart_only(before, before.reread()) == ["SEAL_KEY"]
    assert restart_only(before, before) == []


async def _until(there: Any) -> None:
    while not there():  # noqa: ASYNC110
        await asyncio.sleep(0.005)
