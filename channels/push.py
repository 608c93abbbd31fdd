"""Pushes over FCM HTTP v1: one request for each device of the person, an outcome for whatever FCM says.

One device that takes it is enough: the message has reached its reader. What is said of a device never blames another,
and a fault of ours or of FCM's never takes a token away. No token, text or secret gets into a log or an outcome.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from channels import fcm_payload
from channels.base import Outcome, Send
from channels.fcm_codes import EXPLANATIONS, FcmReason, Read, read_answer
from channels.fcm_login import Login, Token, read_account
from channels.fcm_settings import PushSettings
from channels.http_answers import Failure, Meaning, fault_meaning
from channels.http_call import HttpCaller
from schemas.names import Channel, OutcomeKind

__all__ = ["PushChannel", "PushSettings"]

log = logging.getLogger(__name__)

PROVIDER = "fcm"
#: Requests that one call may make, one after the other: login, message, login again, message again, second look.
REQUESTS = 5
SLACK_S = 5.0
#: Which outcome of several devices stands for all, the first that there is.
_BEST = (
    OutcomeKind.ACCEPTED,
    OutcomeKind.MAYBE_SENT,
    OutcomeKind.MISCONFIGURED,
    OutcomeKind.DEFERRED,
    OutcomeKind.REJECTED,
    OutcomeKind.UNDELIVERABLE,
)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of the message to one device."""

    read: Read
    gone: bool = False


class PushChannel:
    """The FCM adapter (``ChannelAdapter``). ``open`` makes no connection: a provider that is down stops no worker."""

    name = PROVIDER
    channel = Channel.PUSH
    #: A copy takes the place of the first one on the device, and may sound again.
    repeatable = False

    def __init__(self, settings: PushSettings) -> None:
        self._settings = settings
        self._caller = HttpCaller(
            connections=settings.concurrency,
            connect_timeout_s=settings.connect_timeout_s,
            timeout_s=settings.timeout_s,
            ca_file=settings.ca_file,
        )
        self._login = Login(self._caller, settings.credentials_file)

    @property
    def concurrency(self) -> int:
        """How many deliveries may be on their way at once."""
        return self._settings.concurrency

    @property
    def call_timeout_s(self) -> float:
        """Hard limit of one ``send``; each request's own comes first and knows how far it had got."""
        return self._settings.timeout_s * REQUESTS + SLACK_S

    async def open(self) -> None:
        """Read credentials and certificates; raises ``OSError`` where a file of them cannot be used."""
        try:
            await asyncio.to_thread(read_account, self._settings.credentials_file)
            await self._caller.open()
        except OSError as wrong:
            raise OSError(f"{PROVIDER}: {wrong}") from None

    async def close(self) -> None:
        """Close every connection."""
        await self._login.close()
        await self._caller.close()

    async def send(self, message: Send) -> Outcome:
        """Send one message to all devices and say what became of it."""
        devices = tuple(dict.fromkeys((message.address, *message.also)))
        results = await asyncio.gather(*(self._to_device(device, message) for device in devices))
        outcome = _outcome(devices, results)
        log.log(
            logging.WARNING if _is_ours(results) else logging.INFO,
            "push call",
            extra={
                "correlation_id": message.correlation_id,
                "message_token": message.token,
                "attempt": message.attempt,
                "channel": Channel.PUSH.value,
                "provider": PROVIDER,
                "devices": len(devices),
                "outcome": outcome.kind.value,
                "reason": outcome.reason,
                "code": outcome.code,
            },
        )
        return outcome

    async def retract(self, message: Send, provider_id: str) -> Outcome:
        """Take a push back on all devices; ``provider_id`` is not needed, its collapse key tells which it is."""
        devices = tuple(dict.fromkeys((message.address, *message.also)))
        reads = await asyncio.gather(*(self._call(fcm_payload.retract(device, message)) for device in devices))
        return _outcome(devices, [Result(read) for read in reads])

    async def probe(self) -> str:
        """Log in and let FCM check a message that goes nowhere; raises ``OSError`` that says what is wrong."""
        where = urlsplit(self._settings.base_url).netloc
        own = PushChannel(self._settings)
        await own.open()
        try:
            read = await own._call(fcm_payload.probe())
        finally:
            await own.close()
        if read.meaning.kind is not OutcomeKind.ACCEPTED:
            raise OSError(f"{PROVIDER} {where}: {read.code} {EXPLANATIONS[read.meaning.reason]}".replace(":  ", ": "))
        return f"{PROVIDER} {where}: ready, logged in"

    async def _to_device(self, device: str, message: Send) -> Result:
        if not device or not device.isascii() or not device.isprintable() or " " in device:
            bad = Meaning(OutcomeKind.UNDELIVERABLE, FcmReason.BAD_TOKEN, reached=False, blames_address=True)
            return Result(Read(bad, ""))
        settings = self._settings
        ttl = fcm_payload.ttl_s(message.deadline_ms, time.time_ns() // 1_000_000)
        try:
            body = fcm_payload.push(device, message, ttl, settings.too_long, settings.android_channel)
        except fcm_payload.RefusedDataError as wrong:
            refused = Meaning(OutcomeKind.REJECTED, FcmReason.PAYLOAD_REFUSED, reached=False)
            return Result(Read(refused, "", field=wrong.field))
        if body is None:
            return Result(Read(Meaning(OutcomeKind.REJECTED, FcmReason.MESSAGE_TOO_BIG, reached=False), ""))
        read = await self._call(body)
        if read.meaning.reason == FcmReason.TOKEN_SUSPECT:
            read = await self._second_look(device, read)
        return Result(read, read.meaning.reason in (FcmReason.UNREGISTERED, FcmReason.TOKEN_INVALID))

    async def _second_look(self, device: str, first: Read) -> Read:
        """Tell a bad token from a bad message: a token that FCM refuses for a plain message, too, is bad."""
        second = await self._call(fcm_payload.second_look(device))
        if second.meaning.kind is OutcomeKind.ACCEPTED:
            return Read(Meaning(OutcomeKind.REJECTED, FcmReason.PAYLOAD_REFUSED), first.code, field=first.field)
        if second.meaning.reason == FcmReason.TOKEN_SUSPECT:
            bad = Meaning(OutcomeKind.UNDELIVERABLE, FcmReason.TOKEN_INVALID, blames_address=True)
            return Read(bad, first.code)
        return second if second.meaning.reason == FcmReason.UNREGISTERED else first

    async def _call(self, body: bytes) -> Read:
        """Make one request; a login that FCM refuses is renewed, once."""
        token = await self._login.token()
        if isinstance(token, Meaning):
            return Read(token, "")
        read, refused = await self._request(token, body)
        if refused:
            self._login.refused(token)
            token = await self._login.token()
            if isinstance(token, Meaning):
                return Read(token, "")
            read, _ = await self._request(token, body)
        return read

    async def _request(self, token: Token, body: bytes) -> tuple[Read, bool]:
        url = f"{self._settings.base_url.rstrip('/')}/v1/projects/{token.project}/messages:send"
        headers = {"Authorization": f"Bearer {token.text}", "Content-Type": "application/json"}
        got = await self._caller.call("POST", url, body=body, headers=headers)
        if isinstance(got, Failure):
            return Read(fault_meaning(got), ""), False
        read = read_answer(got)
        return read, got.status == 401 and read.meaning.reason != FcmReason.THIRD_PARTY_AUTH


def _is_ours(results: list[Result]) -> bool:
    """Return whether somebody of ours should look: a setting is wrong, or a token of another project came in."""
    return any(
        result.read.meaning.kind is OutcomeKind.MISCONFIGURED
        or result.read.meaning.reason in (FcmReason.SENDER_ID_MISMATCH, FcmReason.PAYLOAD_REFUSED)
        for result in results
    )


def _outcome(devices: tuple[str, ...], results: list[Result]) -> Outcome:
    """Return the one outcome of all devices."""
    kinds = [result.read.meaning.kind for result in results]
    kind = next(best for best in _BEST if best in kinds)
    chosen = next(result.read for result in results if result.read.meaning.kind is kind)
    meaning = chosen.meaning
    detail = EXPLANATIONS[meaning.reason] + (f" ({chosen.field})" if chosen.field else "")
    if len(devices) > 1:
        detail += f"; {kinds.count(kind)} of {len(devices)} devices"
    waits = [result.read.wait_s for result in results if result.read.wait_s is not None]
    return Outcome(
        kind=kind,
        reason=str(meaning.reason),
        provider=PROVIDER,
        code=chosen.code,
        detail=detail,
        provider_id=chosen.name,
        retry_after_s=max(waits) if waits and kind is OutcomeKind.DEFERRED else None,
        reached=any(result.read.meaning.reached for result in results),
        blames_address=all(result.read.meaning.blames_address for result in results),
        gone=tuple(device for device, result in zip(devices, results, strict=True) if result.gone),
    )
