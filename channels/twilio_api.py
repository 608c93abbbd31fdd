"""Twilio's API for the three channels that go over it: its SDK on a transport of ours, and outcomes for its answers.

The SDK's own transport has no time-out, mixes up the answers of concurrent calls and repeats POSTs. Twilio knows no
idempotency key for messages and calls, so whatever is lost after the request began to leave is a doubt.
"""

import base64
import logging
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import orjson
from twilio.http import AsyncHttpClient
from twilio.http.response import Response
from twilio.rest import Client

from channels import addresses
from channels.base import OnRecord, Outcome, Send
from channels.http_answers import Answer, Failure, HttpReason, fault_meaning
from channels.http_call import HttpCaller
from channels.twilio_codes import EXPLANATIONS, Read, TwilioReason, read_answer
from channels.twilio_settings import TwilioSettings
from schemas.names import Channel, OutcomeKind
from schemas.phones import PhoneFault, e164

log = logging.getLogger(__name__)

PROVIDER = "twilio"
#: How much longer than its own limit a call may take before the caller cuts it off, in seconds.
_GRACE_S = 5.0
#: Messages on a page of the list: usual texts fit into what is read of an answer, the longest into a small page.
_PAGE, _SMALL_PAGE = 20, 5
#: Pages that are read for one number.
_MOST_PAGES = 40


class Unaccepted(Exception):  # noqa: N818 - an answer, carried through the SDK's layers
    """An answer that is no success, or none at all; carried past the SDK, which would lose its headers."""

    def __init__(self, got: Answer | Failure) -> None:
        """Keep what came back."""
        super().__init__(type(got).__name__)
        self.got = got


class Transport(AsyncHttpClient):  # type: ignore[misc]  # the SDK has no types
    """The SDK's way to the network: one bounded pool, a hard limit, no retries, no redirects, nothing logged."""

    def __init__(self, caller: HttpCaller) -> None:
        super().__init__(log, True, None)
        self._caller = caller

    async def request(
        self,
        method: str,
        uri: str,
        params: Mapping[str, object] | None = None,
        data: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the SDK's signature
        allow_redirects: bool = False,
    ) -> Response:
        """Make one call; raises ``Unaccepted`` for all but a success that can be read."""
        url = f"{uri}?{urlencode(dict(params), doseq=True)}" if params else uri
        sent = dict(headers or {})
        if auth is not None:
            sent["Authorization"] = "Basic " + base64.b64encode(f"{auth[0]}:{auth[1]}".encode()).decode()
        body = None
        if data:
            body = urlencode(dict(data), doseq=True).encode()
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        got = await self._caller.call(method, url, body=body, headers=sent)
        if isinstance(got, Failure) or read_answer(got).meaning.kind is not OutcomeKind.ACCEPTED:
            raise Unaccepted(got)
        return Response(got.status, got.body.decode("utf-8", "replace"))


class TwilioApi:
    """An account at Twilio as one channel uses it. ``open`` makes no connection."""

    def __init__(self, settings: TwilioSettings, channel: Channel) -> None:
        self._settings = settings
        self._channel = channel
        self._caller = HttpCaller(
            connections=settings.connections,
            connect_timeout_s=settings.connect_timeout_s,
            timeout_s=settings.timeout_s,
            ca_file=settings.ca_file,
        )
        # The SDK reads the environment where it is given none.
        self.client = Client(
            settings.account_sid,
            settings.auth_token,
            http_client=Transport(self._caller),
            environment={"TWILIO_REGION": ""},
        )
        self.client.api.base_url = settings.base_url.rstrip("/")

    @property
    def call_timeout_s(self) -> float:
        """Hard limit of one call; the transport's own comes first and knows how far the call had got."""
        return self._settings.timeout_s + _GRACE_S

    async def open(self) -> None:
        """Read certificates; raises ``OSError`` where the file of them cannot be used."""
        try:
            await self._caller.open()
        except OSError as bad:
            raise OSError(f"twilio: {bad}") from None

    async def close(self) -> None:
        """Close every connection."""
        await self._caller.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    def callback(self, kind: str, reference: str) -> str | None:
        """Return where news of a kind are to be sent, None where nobody could take them.

        The reference names the delivery to nobody but us; who may send news is for Twilio's signature to say.
        """
        base = self._settings.callback_url.rstrip("/")
        return f"{base}/callbacks/twilio/{kind}?{urlencode({'delivery': reference})}" if base and reference else None

    def number(self, message: Send) -> str | Outcome:
        """Return a message's number as E.164, or the outcome of one that is none."""
        number = e164(message.address)
        return _bad_number(number) if isinstance(number, PhoneFault) else number

    async def create(self, resource: Any, **fields: Any) -> Outcome:
        """Create a message or a call and say what became of it. ``resource``: a list of the SDK's, by its name."""
        given = {name: value for name, value in fields.items() if value is not None}
        try:
            made = await resource.create_async(**given)
        except Unaccepted as said:
            return outcome(said.got)
        return Outcome(OutcomeKind.ACCEPTED, "ok", PROVIDER, detail=EXPLANATIONS["ok"], provider_id=str(made.sid)[:64])

    async def cancel(self, made: Any) -> Outcome:
        """Cancel a message that waits at Twilio, or a call that does or rings, and say whether that was in time.

        ``made``: it, by the SDK's name and its SID.
        """
        try:
            await made.update_async(status="canceled")
        except Unaccepted as said:
            return outcome(said.got)
        return Outcome(OutcomeKind.ACCEPTED, "ok", PROVIDER, detail=EXPLANATIONS["ok"])

    async def listed(self, to: str, since_ms: int, until_ms: int) -> tuple[OnRecord, ...] | Outcome:
        """Return the messages to a number that were made by this account's API between two instants (ms UTC).

        The list is the newest first. It is read by the number alone: its filter by time is by whole days, and by when
        a message left, so that what is still queued would be missed. What is too large is asked for in smaller pages.
        """
        found: list[OnRecord] = []
        size = _PAGE
        path = self._list(to, size)
        for _ in range(_MOST_PAGES):
            page = await self._page(path)
            if page is None and size > _SMALL_PAGE and not found:
                size = _SMALL_PAGE
                path = self._list(to, size)
                continue
            if page is None:
                return Outcome(OutcomeKind.DEFERRED, str(HttpReason.PROTOCOL), PROVIDER)
            if isinstance(page, Outcome):
                return page
            messages, path = page
            for one in messages:
                if one.created_ms < since_ms:
                    return tuple(found)
                if one.created_ms <= until_ms:
                    found.append(one)
            if not path:
                return tuple(found)
        # More than anybody is sent in a while: nobody can tell what is behind.
        return Outcome(OutcomeKind.DEFERRED, str(HttpReason.PROTOCOL), PROVIDER)

    def _list(self, to: str, size: int) -> str:
        account = self._settings.account_sid
        return f"/2010-04-01/Accounts/{account}/Messages.json?{urlencode({'To': to, 'PageSize': size})}"

    async def _page(self, path: str) -> tuple[list[OnRecord], str] | Outcome | None:
        """Return a page of the list and the path of the next one; None where it cannot be read."""
        login = base64.b64encode(f"{self._settings.account_sid}:{self._settings.auth_token}".encode()).decode()
        url = f"{self._settings.base_url.rstrip('/')}{path}"
        got = await self._caller.call("GET", url, headers={"Authorization": f"Basic {login}"})
        if isinstance(got, Failure) or got.status != 200:
            return outcome(got)
        return read_page(got.body) if got.whole else None

    def told(self, message: Send, result: Outcome) -> Outcome:
        """Write a line about a call, without whom it was for and what it said; return its outcome."""
        log.log(
            logging.WARNING if result.kind is OutcomeKind.MISCONFIGURED else logging.INFO,
            "twilio call",
            extra={
                "correlation_id": message.correlation_id,
                "message_token": message.token,
                "attempt": message.attempt,
                "channel": self._channel.value,
                "provider": PROVIDER,
                "masked_address": addresses.mask_phone(message.address),
                "outcome": result.kind.value,
                "reason": result.reason,
                "code": result.code,
            },
        )
        return result

    async def probe(self, what: str) -> str:
        """Ask for the account; raises ``OSError`` that says what is wrong. Sends nothing to anybody."""
        async with TwilioApi(self._settings, self._channel) as own:
            where = urlsplit(self._settings.base_url).netloc
            try:
                account = await own.client.api.v2010.accounts(self._settings.account_sid).fetch_async()
            except Unaccepted as said:
                wrong = outcome(said.got)
                raise OSError(f"twilio {where}: {wrong.code} {wrong.detail}".replace(":  ", ": ")) from None
            if account.status != "active":
                raise OSError(f"twilio {where}: {EXPLANATIONS[TwilioReason.ACCOUNT]}")
        return f"twilio {where}: ready for {what}, the account is active"


def outcome(got: Answer | Failure) -> Outcome:
    """Return what an answer of the API, or the lack of one, means for one message."""
    if isinstance(got, Failure):
        read, wait = Read(fault_meaning(got)), None
    else:
        read, wait = read_answer(got), got.retry_after_s
    meaning = read.meaning
    return Outcome(
        kind=meaning.kind,
        reason=str(meaning.reason),
        provider=PROVIDER,
        code=read.code,
        detail=EXPLANATIONS[meaning.reason],
        provider_id=read.sid,
        retry_after_s=wait if meaning.kind in (OutcomeKind.DEFERRED, OutcomeKind.MAYBE_SENT) else None,
        reached=meaning.reached,
        blames_address=meaning.blames_address,
    )


def read_page(body: bytes) -> tuple[list[OnRecord], str] | None:
    """Return the messages of ours on a page of the list, and the path of the next one; None where it cannot be read.

    https://www.twilio.com/docs/messaging/api/message-resource#read-multiple-message-resources
    """
    try:
        page = orjson.loads(body)
        onward = page.get("next_page_uri") or ""
        if not isinstance(onward, str) or (onward and not onward.startswith("/2010-04-01/")):
            return None
        made = [
            OnRecord(
                str(one["sid"])[:64],
                int(parsedate_to_datetime(one["date_created"]).timestamp() * 1000),
                str(one["body"]) if one.get("body") is not None else None,
            )
            for one in page["messages"]
            if one["direction"] == "outbound-api"
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return made, onward


def refused(reason: TwilioReason, kind: OutcomeKind = OutcomeKind.REJECTED) -> Outcome:
    """Return the outcome of a message that was not sent for a reason of ours."""
    return Outcome(kind, str(reason), PROVIDER, detail=EXPLANATIONS[reason], reached=False)


def _bad_number(fault: PhoneFault) -> Outcome:
    return Outcome(
        OutcomeKind.UNDELIVERABLE, fault.reason, PROVIDER, detail=fault.remedy, reached=False, blames_address=True
    )
