"""What every channel over HTTP keeps to, beside what all channels do. Its stage is an ``HttpStage``."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Protocol

import pytest

from channels.base import ChannelAdapter, Outcome
from schemas.names import OutcomeKind
from tests.channels.certs import Authority
from tests.channels.contract import ProviderStage, send_to
from tests.sandbox.http_server import Half, HttpServer, Reply


@dataclass(frozen=True, slots=True)
class Place:
    """Where a provider is, and whom to trust there."""

    url: str
    ca_file: Path | None = None


class HttpStage(ProviderStage, Protocol):
    """A stage whose provider speaks HTTP. ``after_a_failed_server``: what a 5xx means, since nobody knows what became
    of the message unless the provider recognises a second copy. ``least_wait_s``: the
    shortest wait after a 429 that asks for none."""

    server: HttpServer
    after_a_failed_server: OutcomeKind
    least_wait_s: float | None

    def reply(self, address: str, reply: Reply) -> None:
        """Answer calls for an address so, whatever they ask."""

    def at(self, place: Place) -> ChannelAdapter:
        """Return an adapter as the stage's own, but for a provider that is elsewhere; not open."""


@asynccontextmanager
async def elsewhere(stage: HttpStage, place: Place) -> AsyncIterator[ChannelAdapter]:
    adapter = stage.at(place)
    await adapter.open()
    try:
        yield adapter
    finally:
        await adapter.close()


class HttpContract:
    """Derive, and give the fixture ``http``."""

    @pytest.fixture
    def http(self) -> HttpStage:
        pytest.fail("a channel's test gives its own stage")

    @pytest.mark.parametrize("status", [429, 503])
    async def test_a_wait_in_seconds_is_told(self, http: HttpStage, status: int) -> None:
        http.reply(http.address(1), Reply(status, "", {"Retry-After": "120"}))
        outcome = await http.adapter.send(send_to(http, 1))
        assert outcome.retry_after_s == 120
        assert outcome.kind is (OutcomeKind.DEFERRED if status == 429 else http.after_a_failed_server)

    async def test_a_wait_as_a_date_is_told(self, http: HttpStage) -> None:
        now = time.time()
        headers = {"Date": formatdate(now - 3600, usegmt=True), "Retry-After": formatdate(now - 3600 + 90, usegmt=True)}
        http.reply(http.address(1), Reply(429, "", headers))
        outcome = await http.adapter.send(send_to(http, 1))
        # By the provider's own clock, which is an hour behind.
        assert (outcome.kind, outcome.retry_after_s) == (OutcomeKind.DEFERRED, 90)

    @pytest.mark.parametrize("wish", ["soon", "-5", "", "Thu, 01 Jan 1970 00:00:00 GMT"])
    async def test_a_wait_that_nobody_can_obey_is_none(self, http: HttpStage, wish: str) -> None:
        http.reply(http.address(1), Reply(429, "", {"Retry-After": wish}))
        outcome = await http.adapter.send(send_to(http, 1))
        assert (outcome.kind, outcome.retry_after_s) == (OutcomeKind.DEFERRED, http.least_wait_s)

    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    async def test_a_failed_server(self, http: HttpStage, status: int) -> None:
        http.reply(http.address(1), Reply(status, "<html>bad gateway</html>"))
        outcome = await http.adapter.send(send_to(http, 1))
        assert outcome.kind is http.after_a_failed_server
        assert str(status) in outcome.code
        assert not outcome.blames_address

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    async def test_a_redirect_is_not_followed(self, http: HttpStage, status: int) -> None:
        http.reply(http.address(1), Reply(status, "", {"Location": f"{http.server.url}/elsewhere"}))
        outcome = await http.adapter.send(send_to(http, 1))
        assert outcome.kind not in (OutcomeKind.ACCEPTED, OutcomeKind.MAYBE_SENT)
        assert not outcome.blames_address
        assert not [seen for seen in http.server.seen if "elsewhere" in seen.path]

    async def test_half_an_answer_is_no_failure(self, http: HttpStage) -> None:
        """The provider has the message: whatever is missing of its answer, it must not simply be sent again."""
        http.server.say(http.address(1), Half())
        outcome = await http.adapter.send(send_to(http, 1))
        assert outcome.kind in (OutcomeKind.ACCEPTED, OutcomeKind.MAYBE_SENT)
        assert outcome.reached
        assert len(http.taken(http.address(1))) == 1

    async def test_a_slow_provider_ends_in_time_as_a_doubt(self, http: HttpStage) -> None:
        release = http.hold(http.address(1))
        begun = time.monotonic()
        outcome = await http.adapter.send(send_to(http, 1))
        release.set()
        assert (outcome.kind, outcome.reached) == (OutcomeKind.MAYBE_SENT, True)
        assert time.monotonic() - begun < http.adapter.call_timeout_s

    async def test_a_huge_answer_is_not_read(self, http: HttpStage) -> None:
        http.reply(http.address(1), Reply(429, b"x" * (6 << 20), {"Retry-After": "77"}))
        outcome = await http.adapter.send(send_to(http, 1))
        assert (outcome.kind, outcome.retry_after_s) == (OutcomeKind.DEFERRED, 77)
        assert (await http.adapter.send(send_to(http, 2))).kind is OutcomeKind.ACCEPTED

    async def test_connections_are_used_again_and_bounded(self, http: HttpStage) -> None:
        outcomes: list[Outcome] = []
        for _ in range(5):
            sends = (http.adapter.send(send_to(http, number)) for number in range(20))
            outcomes += await asyncio.gather(*sends)
        assert {outcome.kind for outcome in outcomes} == {OutcomeKind.ACCEPTED}
        assert http.server.connections <= http.adapter.concurrency

    async def test_nothing_is_told_of_a_call_that_failed(
        self, http: HttpStage, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        outcomes = []
        for number, status in enumerate((400, 401, 404, 418, 429, 500)):
            http.reply(http.address(number), Reply(status, f"{http.secret} {http.address(number)} canary-text-91bc"))
            outcomes.append(await http.adapter.send(send_to(http, number)))
        told = [repr(outcome) for outcome in outcomes] + [repr(vars(record)) for record in caplog.records]
        for secret in ("canary-text-91bc", http.secret, *(http.address(number) for number in range(6))):
            assert not [line for line in told if secret in line]


class HttpProviderContract:
    """What a channel over HTTP keeps to whose messages all go to one provider of ours."""

    @pytest.fixture
    def http(self) -> HttpStage:
        pytest.fail("a channel's test gives its own stage")

    @pytest.mark.parametrize("status", [401, 403])
    async def test_refused_credentials_without_a_word(self, http: HttpStage, status: int) -> None:
        http.reply(http.address(1), Reply(status, ""))
        outcome = await http.adapter.send(send_to(http, 1))
        assert (outcome.kind, outcome.reached) == (OutcomeKind.MISCONFIGURED, False)

    async def test_a_name_that_nobody_knows_costs_no_attempt(self, http: HttpStage) -> None:
        async with elsewhere(http, Place("https://provider.invalid")) as adapter:
            outcome = await adapter.send(send_to(http, 1))
        assert (outcome.kind, outcome.reached) == (OutcomeKind.DEFERRED, False)

    async def test_a_certificate_for_another_name_is_our_fault(self, http: HttpStage, tmp_path: Path) -> None:
        authority = Authority(tmp_path, "other")
        async with (
            type(http.server)(authority.issue("other", host="other.example").server()) as server,
            elsewhere(http, Place(server.url, authority.file)) as adapter,
        ):
            outcome = await adapter.send(send_to(http, 1))
            assert server.seen == []
        assert (outcome.kind, outcome.reached) == (OutcomeKind.MISCONFIGURED, False)

    async def test_an_authority_that_nobody_trusts_is_our_fault(self, http: HttpStage, tmp_path: Path) -> None:
        known, other = Authority(tmp_path, "known"), Authority(tmp_path, "unknown")
        async with (
            type(http.server)(other.issue("there").server()) as server,
            elsewhere(http, Place(server.url, known.file)) as adapter,
        ):
            outcome = await adapter.send(send_to(http, 1))
            assert server.seen == []
        assert (outcome.kind, outcome.reached) == (OutcomeKind.MISCONFIGURED, False)
