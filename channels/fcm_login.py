"""The login at Google: an access token from a service account's key, fetched once for all who wait for it."""

import asyncio
import json
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from google.auth import crypt, jwt

from channels.fcm_codes import FcmReason
from channels.fcm_settings import credentials_fault
from channels.http_answers import Answer, Failure, HttpFault, HttpReason, Meaning, ours
from channels.http_call import HttpCaller
from schemas.names import OutcomeKind

log = logging.getLogger(__name__)

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
#: How long before its end a token is replaced.
EARLY_S = 300.0
#: How long nobody asks again after a renewal failed while the old token still serves.
PAUSE_S = 30.0


@dataclass(frozen=True, slots=True)
class Account:
    """What is needed of a service account's key."""

    project: str
    email: str
    token_uri: str
    signer: Any = field(repr=False)
    key_id: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Token:
    """An access token. ``until`` is on the monotonic clock, in seconds."""

    text: str = field(repr=False)
    project: str
    until: float


class Login:
    """Tokens of one account. At most one request for a token is on its way, whoever waits for it."""

    def __init__(self, caller: HttpCaller, file: Path) -> None:
        self._caller = caller
        self._file = file
        self._token: Token | None = None
        self._not_before = 0.0
        self._renewal: asyncio.Task[Token | Meaning] | None = None

    async def token(self) -> Token | Meaning:
        """Return a token that serves, or why there is none; then nothing of the message has left."""
        now = time.monotonic()
        known = self._token
        if known is not None and now < known.until - EARLY_S:
            return known
        if known is not None and now < known.until and now < self._not_before:
            return known
        renewed = await self._renewed()
        if isinstance(renewed, Token):
            return renewed
        known = self._token
        if known is not None and time.monotonic() < known.until:
            # The old one still serves; it is too early to make a fault of it.
            self._not_before = time.monotonic() + PAUSE_S
            return known
        return renewed

    def refused(self, token: Token) -> None:
        """Forget a token that was refused; one that was fetched meanwhile stays."""
        if self._token is token:
            self._token = None

    async def close(self) -> None:
        """Give up a request that is on its way."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)

    async def _renewed(self) -> Token | Meaning:
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._fetch())
        # Who is cancelled takes the token away from nobody.
        return await asyncio.shield(self._renewal)

    async def _fetch(self) -> Token | Meaning:
        try:
            account = await asyncio.to_thread(read_account, self._file)
        except OSError:
            return ours(FcmReason.CREDENTIALS_UNREADABLE)
        now = int(time.time())
        claims = {"iss": account.email, "scope": SCOPE, "aud": account.token_uri, "iat": now, "exp": now + 3600}
        proof = jwt.encode(account.signer, claims, key_id=account.key_id or None)  # type: ignore[no-untyped-call]
        body = urlencode({"grant_type": GRANT, "assertion": proof.decode()}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        begun = time.monotonic()
        got = await self._caller.call("POST", account.token_uri, body=body, headers=headers)
        token = _token(got, account.project, begun)
        if isinstance(token, Token):
            self._token = token
        else:
            log.warning("no access token of Google: %s", token.reason)
        return token


def read_account(file: Path) -> Account:
    """Return the account of a key file; raises ``OSError`` that says what is wrong, without the key."""
    where = f"credentials_file {file}"
    try:
        text = file.read_text(encoding="utf-8")
        if fault := credentials_fault(text):
            raise OSError(f"{where}: {fault}")
        said = json.loads(text)
        signer = crypt.RSASigner.from_service_account_info(said)  # type: ignore[no-untyped-call]
    except (ValueError, TypeError):
        raise OSError(f"{where}: is no service account's key; download one as JSON") from None
    except OSError as wrong:
        raise OSError(f"{where}: cannot be read ({wrong.strerror})" if wrong.strerror else str(wrong)) from None
    key_id = said.get("private_key_id")
    project = quote(said["project_id"], safe="")
    return Account(project, said["client_email"], said["token_uri"], signer, key_id if isinstance(key_id, str) else "")


def _token(got: Answer | Failure, project: str, begun: float) -> Token | Meaning:
    later = Meaning(OutcomeKind.DEFERRED, FcmReason.LOGIN_UNAVAILABLE, reached=False)
    if isinstance(got, Failure):
        match got.fault:
            case HttpFault.CERTIFICATE | HttpFault.TLS_FAILED | HttpFault.BAD_URL | HttpFault.NOT_ALLOWED:
                return ours(HttpReason.CERTIFICATE if got.fault is HttpFault.CERTIFICATE else HttpReason.TLS_FAILED)
            case _:
                return later
    if got.status in (400, 401, 403):
        return ours(HttpReason.CREDENTIALS_REFUSED)
    try:
        said = orjson.loads(got.body) if got.status == 200 and got.whole else {}
        text, life = said["access_token"], float(said.get("expires_in", 3600))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        return later
    if not isinstance(text, str) or not text.isascii() or not text.isprintable() or not text:
        return later
    return Token(text, project, begun + max(0.0, min(life, 86_400.0)))
