"""FCM for the contract suite and the tests of the adapter."""

import asyncio
import copy
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from channels.base import Send
from channels.push import PushChannel, PushSettings
from schemas.names import Channel, OutcomeKind
from tests.channels.http_contract import Place
from tests.channels.twilio_stage import authority
from tests.sandbox.fcm_server import FcmServer, refusal
from tests.sandbox.http_server import Cut, Hold, Reply


@cache
def key() -> tuple[str, bytes]:
    """Return the key of an account and the certificate that its proofs are checked with, as PEM."""
    import datetime

    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sender")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .sign(private, hashes.SHA256())
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem.decode(), certificate.public_bytes(serialization.Encoding.PEM)


def credentials(folder: Path, token_uri: str, project: str = "clinic-app") -> Path:
    """Write the key file of a service account, as Google gives it out."""
    file = folder / f"{project}.json"
    said = {
        "type": "service_account",
        "project_id": project,
        "private_key_id": "key-1",
        "private_key": key()[0],
        "client_email": f"sender@{project}.iam.gserviceaccount.com",
        "token_uri": token_uri,
    }
    file.write_text(json.dumps(said))
    return file


def settings(server: FcmServer, **changes: Any) -> PushSettings:
    """Return settings for a server in this process, with short limits."""
    given: dict[str, Any] = {
        "base_url": server.url,
        "ca_file": authority().file,
        "concurrency": 8,
        "connect_timeout_s": 2.0,
        "timeout_s": 2.0,
    }
    given |= changes
    if "credentials_file" not in given:
        given["credentials_file"] = credentials(Path(tempfile.mkdtemp(prefix="fcm-")), f"{given['base_url']}/token")
    return PushSettings(**given)


class FcmStage:
    """A project, and an adapter that has its account."""

    after_a_failed_server = OutcomeKind.DEFERRED
    #: A quota that was used up comes back after a minute at the soonest.
    least_wait_s = 60.0
    #: The account's key, as it stands in the file.
    secret = "BEGIN PRIVATE KEY"

    def __init__(self, server: FcmServer, adapter: PushChannel) -> None:
        self.server = server
        self.adapter = adapter

    def address(self, number: int) -> str:
        return f"canary-device-{number}:APA91b"

    def taken(self, address: str) -> list[bytes]:
        return [steady(message) for message in self.server.taken.get(address, [])]

    def refuse_address(self, address: str) -> None:
        self.server.unregistered.add(address)

    def refuse_message(self, address: str) -> None:
        wrong = ["message.data[0].value"]
        self.reply(address, refusal(400, "INVALID_ARGUMENT", f"no canary-text-91bc for {address}", violations=wrong))

    def defer(self, address: str) -> None:
        self.reply(address, refusal(503, "UNAVAILABLE", f"overloaded, {address}", code="UNAVAILABLE"))

    def lose_before(self, address: str) -> None:
        self.server.drop_next()

    def lose_after(self, address: str) -> None:
        self.server.say(address, Cut())

    def refuse_credentials(self) -> None:
        self.server.tokens.clear()
        self.server.login_reply = Reply(400, {"error": "invalid_grant", "error_description": f"{key()[0]} is revoked"})

    def hold(self, address: str) -> asyncio.Event:
        event = asyncio.Event()
        self.server.say(address, Hold(event))
        return event

    async def held(self, address: str) -> None:
        await self.server.until(lambda: any(self.server.whom(seen) == address for seen in self.server.seen))

    async def vanish(self) -> None:
        await self.server.stop()

    # -- over HTTP

    def reply(self, address: str, reply: Reply) -> None:
        self.server.say(address, reply)

    def at(self, place: Place) -> PushChannel:
        return PushChannel(settings(self.server, base_url=place.url, ca_file=place.ca_file))


def steady(message: dict[str, Any]) -> bytes:
    """Return a message without the time that it had left, which is each attempt's own."""
    message = copy.deepcopy(message)
    message["android"].pop("ttl")
    message["webpush"]["headers"].pop("TTL")
    return json.dumps(message, sort_keys=True).encode()


@asynccontextmanager
async def channel(server: FcmServer, **changes: Any) -> AsyncIterator[PushChannel]:
    """Open an adapter for a server."""
    adapter = PushChannel(settings(server, **changes))
    await adapter.open()
    try:
        yield adapter
    finally:
        await adapter.close()


@asynccontextmanager
async def fcm_stage(**changes: Any) -> AsyncIterator[FcmStage]:
    """Open a project with TLS, and an adapter for it."""
    tls = authority().issue("fcm").server()
    async with FcmServer(tls, certificate=key()[1]) as server, channel(server, **changes) as adapter:
        yield FcmStage(server, adapter)


def note(address: str = "device-1", **changes: Any) -> Send:
    """Return a push to send."""
    given: dict[str, Any] = {
        "channel": Channel.PUSH,
        "address": address,
        "token": "abcdefghij234567abcdefghij",
        "attempt": 1,
        "created_ms": 1_764_000_000_000,
        "due_ms": 1_764_000_000_000,
        "deadline_ms": 4_102_444_800_000,
        "title": "Dentist",
        "text": "Tomorrow at nine.",
        "reminder_id": "clinic/visit-42",
        "occurrence": "2025-11-24T17:00/PT0S",
    }
    return Send(**(given | changes))
