"""What every channel keeps to. ``test_contract.py`` runs it against every stage of ``stages.py``.

The provider is a stand-in on a real socket; the suite knows it only through ``ProviderStage``.
"""

import asyncio
import logging
from typing import Protocol

import pytest

from channels.base import ChannelAdapter, Outcome, Send
from schemas.names import Channel, OutcomeKind

#: What must never be seen in a log, an outcome or an exception.
CANARY_TITLE = "canary-title-7f3a"
CANARY_TEXT = "canary-text-91bc"
CANARY_NAME = "canary-name-55de"

ENDS = frozenset(OutcomeKind) - {OutcomeKind.UNKNOWN, OutcomeKind.NONE}


class ProviderStage(Protocol):
    """A provider's stand-in and what it can be told to do. ``address(n)`` and ``secret`` are what it must not leak."""

    adapter: ChannelAdapter
    secret: str

    def address(self, number: int) -> str:
        """Return a good address of this channel."""

    def taken(self, address: str) -> list[bytes]:
        """Return the messages that the provider took for an address, as bytes."""

    def refuse_address(self, address: str) -> None:
        """Answer that an address does not exist, quoting it."""

    def refuse_message(self, address: str) -> None:
        """Answer that the message is not welcome, quoting it."""

    def defer(self, address: str) -> None:
        """Answer that it should be tried later, quoting the address."""

    def lose_before(self, address: str) -> None:
        """Break the connection before the message can have been taken."""

    def lose_after(self, address: str) -> None:
        """Take the message and break the connection instead of answering."""

    def refuse_credentials(self) -> None:
        """Refuse our login from now on, quoting what was given."""

    def hold(self, address: str) -> asyncio.Event:
        """Say nothing about an address until the event is set."""

    async def held(self, address: str) -> None:
        """Return once a call for a held address waits for its answer."""

    async def vanish(self) -> None:
        """Stop answering connections."""


def send_to(stage: ProviderStage, number: int, *, attempt: int = 1) -> Send:
    return Send(
        channel=stage.adapter.channel,
        address=stage.address(number),
        token=f"token{number:04d}",
        attempt=attempt,
        created_ms=1_764_000_000_000,
        due_ms=1_764_000_000_000,
        deadline_ms=1_764_086_400_000,
        name=CANARY_NAME,
        title=CANARY_TITLE,
        text=CANARY_TEXT,
        correlation_id="corr-1",
    )


class ChannelContract:
    """Derive, and give the fixture ``stage``."""

    @pytest.fixture
    def stage(self) -> ProviderStage:
        pytest.fail("a channel's test gives its own stage")

    async def test_it_says_what_it_is(self, stage: ProviderStage) -> None:
        adapter = stage.adapter
        assert adapter.name == adapter.name.lower() != ""
        assert adapter.channel in set(Channel) - {Channel.UNKNOWN, Channel.ANY}
        assert adapter.concurrency >= 1
        assert adapter.call_timeout_s > 0

    async def test_a_message_is_accepted_once(self, stage: ProviderStage) -> None:
        outcome = await stage.adapter.send(send_to(stage, 1))
        assert outcome.kind is OutcomeKind.ACCEPTED
        assert outcome.provider == stage.adapter.name
        assert outcome.reached
        assert len(stage.taken(stage.address(1))) == 1

    async def test_every_attempt_sends_the_same_bytes(self, stage: ProviderStage) -> None:
        for attempt in (1, 2, 3):
            await stage.adapter.send(send_to(stage, 1, attempt=attempt))
        first, *others = stage.taken(stage.address(1))
        assert len(others) == 2
        assert all(other == first for other in others)

    async def test_a_bad_address_is_blamed(self, stage: ProviderStage) -> None:
        stage.refuse_address(stage.address(1))
        outcome = await stage.adapter.send(send_to(stage, 1))
        assert (outcome.kind, outcome.blames_address) == (OutcomeKind.UNDELIVERABLE, True)

    async def test_a_refused_message_blames_no_address(self, stage: ProviderStage) -> None:
        stage.refuse_message(stage.address(1))
        outcome = await stage.adapter.send(send_to(stage, 1))
        assert (outcome.kind, outcome.blames_address) == (OutcomeKind.REJECTED, False)

    async def test_later_means_later(self, stage: ProviderStage) -> None:
        stage.defer(stage.address(1))
        outcome = await stage.adapter.send(send_to(stage, 1))
        assert (outcome.kind, outcome.reached) == (OutcomeKind.DEFERRED, True)

    async def test_lost_before_it_can_have_been_taken_costs_no_attempt(self, stage: ProviderStage) -> None:
        stage.lose_before(stage.address(1))
        outcome = await stage.adapter.send(send_to(stage, 1))
        assert (outcome.kind, outcome.reached) == (OutcomeKind.DEFERRED, False)
        assert stage.taken(stage.address(1)) == []

    async def test_lost_after_is_a_doubt(self, stage: ProviderStage) -> None:
        stage.lose_after(stage.address(1))
        outcome = await stage.adapter.send(send_to(stage, 1))
        assert (outcome.kind, outcome.reached) == (OutcomeKind.MAYBE_SENT, True)
        assert len(stage.taken(stage.address(1))) == 1

    async def test_nobody_there_costs_no_attempt(self, stage: ProviderStage) -> None:
        await stage.vanish()
        outcome = await stage.adapter.send(send_to(stage, 1))
        assert (outcome.kind, outcome.reached) == (OutcomeKind.DEFERRED, False)

    async def test_a_probe_says_that_all_is_well(self, stage: ProviderStage) -> None:
        said = await stage.adapter.probe()
        assert said
        assert "\n" not in said

    async def test_calls_run_side_by_side_and_each_gets_its_own_answer(self, stage: ProviderStage) -> None:
        stage.refuse_address(stage.address(3))
        stage.defer(stage.address(5))
        numbers = range(20)
        outcomes = await asyncio.gather(*(stage.adapter.send(send_to(stage, number)) for number in numbers))
        expected = {3: OutcomeKind.UNDELIVERABLE, 5: OutcomeKind.DEFERRED}
        assert [o.kind for o in outcomes] == [expected.get(number, OutcomeKind.ACCEPTED) for number in numbers]

    async def test_a_cancelled_call_leaves_nothing_behind(self, stage: ProviderStage) -> None:
        release = stage.hold(stage.address(1))
        call = asyncio.create_task(stage.adapter.send(send_to(stage, 1)))
        await stage.held(stage.address(1))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        release.set()
        stage.refuse_address(stage.address(3))
        # More calls than there are places, so the one that was cancelled serves again.
        for number in range(2, 2 + 2 * stage.adapter.concurrency):
            outcome = await stage.adapter.send(send_to(stage, number))
            assert outcome.kind is (OutcomeKind.UNDELIVERABLE if number == 3 else OutcomeKind.ACCEPTED)

    async def test_no_address_text_or_secret_is_told(
        self, stage: ProviderStage, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        outcomes = await every_outcome(stage)
        secrets = [CANARY_TITLE, CANARY_TEXT, CANARY_NAME, stage.secret, *(stage.address(n) for n in range(8))]
        assert {outcome.kind for outcome in outcomes} <= ENDS
        told = [repr(outcome) for outcome in outcomes] + [repr(vars(record)) for record in caplog.records]
        try:
            await stage.adapter.probe()
        except OSError as problem:
            told.append(repr((problem, problem.__cause__, problem.__context__)))
        assert caplog.records
        for secret in secrets:
            assert not [line for line in told if secret in line]


class ProviderContract:
    """What a channel keeps to whose messages all go to one provider of ours. Derive, and give the fixture ``stage``."""

    @pytest.fixture
    def stage(self) -> ProviderStage:
        pytest.fail("a channel's test gives its own stage")

    async def test_refused_credentials_are_our_fault(self, stage: ProviderStage) -> None:
        stage.refuse_credentials()
        outcome = await stage.adapter.send(send_to(stage, 1))
        assert (outcome.kind, outcome.reached) == (OutcomeKind.MISCONFIGURED, False)
        with pytest.raises(OSError, match=stage.adapter.name):
            await stage.adapter.probe()

    async def test_nobody_there_is_found_by_a_probe(self, stage: ProviderStage) -> None:
        await stage.vanish()
        with pytest.raises(OSError, match=stage.adapter.name):
            await stage.adapter.probe()


async def every_outcome(stage: ProviderStage) -> list[Outcome]:
    """Return one outcome of each kind that a provider can cause."""
    outcomes = []
    # First, since a connection that stands already would not be lost.
    for number, prepare in enumerate(
        (stage.lose_before, None, stage.refuse_address, stage.refuse_message, stage.defer, stage.lose_after), start=1
    ):
        if prepare is not None:
            prepare(stage.address(number))
        outcomes.append(await stage.adapter.send(send_to(stage, number)))
    stage.refuse_credentials()
    outcomes.append(await stage.adapter.send(send_to(stage, 7)))
    return outcomes
