"""A small client of a Confluent-compatible schema registry: the schema of an id, and nothing else.

An id that the registry does not know is remembered as unknown for a short time only, since it may be registered any
moment. Schemas never change, so ``schemas.codec`` keeps what it has been given.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

import aiohttp

from schemas.codec import RegistryUnavailable

#: The registry's own code for an unknown id; any other 404 comes from something that is no registry.
_NOT_FOUND = range(40_400, 40_500)
_MOST_BYTES = 1024 * 1024
_AT_ONCE = 8
_KEPT = 65_536


class Registry:
    """Asks a registry for schemas. ``url`` is its base, such as ``http://localhost:8081`` or ``…/apis/ccompat/v7``."""

    def __init__(
        self,
        url: str,
        *,
        user: str = "",
        password: str = "",
        timeout_s: float = 5.0,
        unknown_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": aiohttp.encode_basic_auth(user, password)} if user else {}
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._unknown_s = unknown_s
        self._clock = clock
        self._unknown: dict[int, float] = {}
        self._session: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; a later question opens new ones."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def schemas(self, ids: Iterable[int]) -> dict[int, str | None]:
        """Return the schema of each id, None where the registry has none; raise RegistryUnavailable."""
        now = self._clock()
        answers: dict[int, str | None] = {}
        ask = []
        for schema_id in ids:
            if self._unknown.get(schema_id, now) > now:
                answers[schema_id] = None
            else:
                ask.append(schema_id)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {schema_id: group.create_task(self._schema(schema_id)) for schema_id in ask}
        except* RegistryUnavailable as errors:
            raise errors.exceptions[0] from None
        for schema_id, task in tasks.items():
            answers[schema_id] = task.result()
            self._remember(schema_id, known=answers[schema_id] is not None)
        return answers

    def _remember(self, schema_id: int, *, known: bool) -> None:
        self._unknown.pop(schema_id, None)
        if not known:
            self._unknown[schema_id] = self._clock() + self._unknown_s
            if len(self._unknown) > _KEPT:
                del self._unknown[next(iter(self._unknown))]

    async def _schema(self, schema_id: int) -> str | None:
        async with self._slots:
            if self._session is None:
                self._session = aiohttp.ClientSession(headers=self._headers, timeout=self._timeout)
            try:
                # A redirect would take the password elsewhere.
                async with self._session.get(f"{self._url}/schemas/ids/{schema_id}", allow_redirects=False) as response:
                    status = response.status
                    raw = b""
                    async for chunk in response.content.iter_chunked(65_536):
                        raw += chunk
                        if len(raw) > _MOST_BYTES:
                            raise aiohttp.ClientPayloadError("too large")
                    body = json.loads(raw)
            except (aiohttp.ClientError, TimeoutError, ValueError, RecursionError, OSError) as error:
                raise RegistryUnavailable(f"the schema registry gave no answer ({type(error).__name__})") from error
        if not isinstance(body, dict):
            raise RegistryUnavailable(f"{_STRANGE} (status {status})")
        if status == 404 and body.get("error_code") in _NOT_FOUND:
            return None
        if status != 200 or not isinstance(body.get("schema"), str):
            raise RegistryUnavailable(f"{_STRANGE} (status {status}, code {body.get('error_code', 'none')})")
        return _avro(body)


_STRANGE = "the schema registry answered strangely; check SCHEMA_REGISTRY_URL and its credentials"


def _avro(body: dict[str, object]) -> str:
    """Return the schema of an answer; what is not Avro, or not whole, becomes what no event of ours can be read as."""
    if body.get("schemaType", "AVRO") != "AVRO":
        return f'"{body["schemaType"]}"'
    if body.get("references"):
        return '"references"'
    return str(body["schema"])
