"""Every adapter keeps the contract of all channels, over real sockets."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from channels.registry import FACTORIES
from tests.channels.contract import ChannelContract, ProviderContract
from tests.channels.http_contract import HttpContract, HttpProviderContract
from tests.channels.stages import HTTP_STAGES, STAGES, WITHOUT_PROVIDER


class TestEveryChannel(ChannelContract):
    @pytest.fixture(params=STAGES)
    async def stage(self, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
        async with STAGES[request.param]() as stage:
            yield stage


class TestEveryProvider(ProviderContract):
    @pytest.fixture(params=sorted(set(STAGES) - WITHOUT_PROVIDER))
    async def stage(self, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
        async with STAGES[request.param]() as stage:
            yield stage


class TestEveryProviderOverHttp(HttpProviderContract):
    @pytest.fixture(params=sorted(set(HTTP_STAGES) - WITHOUT_PROVIDER))
    async def http(self, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
        async with HTTP_STAGES[request.param]() as stage:
            yield stage


class TestEveryChannelOverHttp(HttpContract):
    @pytest.fixture(params=HTTP_STAGES)
    async def http(self, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
        async with HTTP_STAGES[request.param]() as stage:
            yield stage


async def test_every_registered_channel_is_in_the_suite() -> None:
    staged = set()
    for stage in STAGES.values():
        async with stage() as opened:
            staged.add(opened.adapter.channel)
    assert staged == set(FACTORIES)
