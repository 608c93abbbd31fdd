"""Servers on fakes; a real broker for the tests that need one."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from deploy.dev.broker import Broker
from tests.web.stage import Serve, Stage


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "broker" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Serve]:
    stage = Stage()
    yield stage.start
    await stage.close()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker.start(tmp_path_factory.mktemp("kafka"), heap="384m") as started:
        yield started
