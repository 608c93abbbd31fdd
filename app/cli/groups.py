"""What the brokers say of consumer groups: who is in one, and how far it has come."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError, NotCoordinatorForGroupError

from app.cli.failures import Failure
from app.config import Settings
from app.kafka import client_options, unreachable

_T = TypeVar("_T")


@contextlib.asynccontextmanager
async def admin_of(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """Give an admin client. Fails in one line where no broker answers."""
    admin = AIOKafkaAdminClient(**client_options(settings), client_id="reminders-doctor", request_timeout_ms=10_000)
    try:
        await admin.start()
    except (KafkaError, OSError) as exc:
        await admin.close()
        raise Failure(await unreachable(settings, exc)) from exc
    try:
        yield admin
    finally:
        await admin.close()


async def members(admin: AIOKafkaAdminClient, group: str) -> int:
    """Return how many workers a group has."""
    described = await of_group(lambda: admin.describe_consumer_groups([group])) or []
    return sum(len(found[5]) for response in described for found in response.groups)


async def committed(admin: AIOKafkaAdminClient, group: str) -> dict[TopicPartition, int]:
    """Return up to where a group has acknowledged, by partition; empty where it never has."""
    found = await of_group(lambda: admin.list_consumer_group_offsets(group)) or {}
    return {tp: meta.offset for tp, meta in found.items() if meta.offset >= 0}


async def of_group(ask: Callable[[], Awaitable[_T]]) -> _T | None:
    """Return what a group's coordinator says, None where there is none: no group has ever been there."""
    for _ in range(10):
        try:
            return await ask()
        except (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError):
            # Asking for it has the brokers make the topic of offsets, which takes a moment.
            await asyncio.sleep(0.3)
    return None
