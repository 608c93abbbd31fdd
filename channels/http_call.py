"""Calls over HTTP that know how far they got: one bounded pool of connections, a hard limit, no retries, no redirects.

Environment, cookies, redirects and compressed bodies are left out on purpose: each can change where a message goes, or
how much comes back.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp

from channels.egress import NotAllowedError
from channels.http_answers import Answer, Failure, HttpFault, retry_after_s

#: Most of a body that is read; no provider's answer needs more.
MAX_BODY = 64 * 1024
#: How long a connection may rest. Shorter than servers allow, so that few calls meet one that is about to close.
_REST_S = 15.0


class HttpCaller:
    """A pool of connections to providers. ``open`` makes no connection.

    ``ca_file`` names the authorities to trust, ``more_trust``: besides the system's. ``socket_factory`` makes the
    socket of each connection, and may refuse to. ``kept``: headers of an answer that are told.
    """

    def __init__(
        self,
        *,
        connections: int,
        connect_timeout_s: float,
        timeout_s: float,
        ca_file: Path | None = None,
        more_trust: bool = False,
        socket_factory: Callable[[Any], Any] | None = None,
        kept: tuple[str, ...] = (),
    ) -> None:
        self._kept = kept
        self._connections = connections
        self._connect_timeout_s = connect_timeout_s
        self._timeout_s = timeout_s
        self._ca_file = ca_file
        self._more_trust = more_trust
        self._socket_factory = socket_factory
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Read certificates; raises ``OSError`` where the file of them cannot be used."""
        context = await asyncio.to_thread(trusted, self._ca_file, more=self._more_trust)
        connector = aiohttp.TCPConnector(
            limit=self._connections,
            ssl=context,
            keepalive_timeout=_REST_S,
            ttl_dns_cache=60,
            socket_factory=self._socket_factory,
        )
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_leaves)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout_s),
            trace_configs=[trace],
        )

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(
        self, method: str, url: str, *, body: bytes | None = None, headers: Mapping[str, str]
    ) -> Answer | Failure:
        """Make one call. A cancelled one closes its connection. Nothing of the request is in what comes back."""
        if self._session is None:
            raise RuntimeError("the channel is not open")
        progress: list[bool] = []
        answer: Answer | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                async with self._session.request(
                    method,
                    url,
                    data=body,
                    headers={"Accept-Encoding": "identity", **headers},
                    allow_redirects=False,
                    trace_request_ctx=progress,
                ) as response:
                    asked = response.headers.get("Retry-After", "")
                    wait = retry_after_s(asked, response.headers.get("Date", ""), time.time()) if asked else None
                    told = {name: response.headers[name] for name in self._kept if name in response.headers}
                    answer = Answer(response.status, whole=False, retry_after_s=wait, headers=told)
                    read, whole = await _read(response)
                    return Answer(response.status, read, whole, wait, told)
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            # A status is an answer, even where the rest of it was lost.
            return answer or Failure(_fault(exc), bool(progress))


async def _leaves(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
    context.trace_request_ctx.append(True)


async def _read(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    read = bytearray()
    while len(read) <= MAX_BODY:
        chunk = await response.content.read(MAX_BODY + 1 - len(read))
        if not chunk:
            return bytes(read), True
        read += chunk
    # The rest would have to be read before the connection could serve again.
    response.close()
    return bytes(read[:MAX_BODY]), False


def _fault(exc: Exception) -> HttpFault:
    match exc:
        case TimeoutError():
            return HttpFault.TIMEOUT
        case aiohttp.ClientConnectorDNSError():
            return HttpFault.UNKNOWN_HOST
        case aiohttp.ClientConnectorCertificateError() | ssl.SSLCertVerificationError():
            return HttpFault.CERTIFICATE
        case aiohttp.ClientConnectorError():
            return HttpFault.NOT_ALLOWED if isinstance(exc.os_error, NotAllowedError) else _handshake(exc.os_error)
        case aiohttp.InvalidURL():
            return HttpFault.BAD_URL
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError():
            return HttpFault.MALFORMED
        case ssl.SSLError():
            return _handshake(exc)
        case aiohttp.ClientConnectionError() | OSError():
            return HttpFault.LOST
        case _:
            return HttpFault.MALFORMED


def _handshake(exc: OSError) -> HttpFault:
    """Tell a handshake that was refused from one whose connection broke."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return HttpFault.CERTIFICATE
    broke = isinstance(exc, ssl.SSLEOFError | ssl.SSLZeroReturnError) or not isinstance(exc, ssl.SSLError)
    return HttpFault.UNREACHABLE if broke else HttpFault.TLS_FAILED


def trusted(ca_file: Path | None, *, more: bool = False) -> ssl.SSLContext:
    """Return what certificates are checked against. Reads files; raises ``OSError`` where one cannot be used."""
    try:
        if not more or ca_file is None:
            return ssl.create_default_context(cafile=ca_file)
        context = ssl.create_default_context()
        context.load_verify_locations(ca_file)
        return context
    except OSError as bad:
        raise OSError(f"ca_file {ca_file} cannot be used: {type(bad).__name__}") from None
