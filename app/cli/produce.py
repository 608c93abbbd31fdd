"""Sending events as any producer does: key = id, partition = murmur2(key), and done only once the brokers have it."""

from dataclasses import dataclass

from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, TopicAuthorizationFailedError

from agents.letters import CORRELATION
from agents.publisher import partition_of
from app.cli.failures import Failure
from app.config import Settings
from app.kafka import client_options, producer_options, unreachable


@dataclass(frozen=True, slots=True)
class Sent:
    """Where the brokers keep an event."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


async def partitions_of(settings: Settings, topic: str) -> int:
    """Return how many partitions a topic has. Raises Failure with one line that names the remedy."""
    client = AIOKafkaClient(**client_options(settings), client_id="reminders-cli", request_timeout_ms=20_000)
    try:
        await client.bootstrap()
        # Asked for all topics: asking for one by name would have a broker with auto-creation make it, all wrong.
        known = await client.fetch_all_metadata()
    except (KafkaError, OSError) as exc:
        raise Failure(await unreachable(settings, exc)) from exc
    finally:
        await client.close()
    if count := len(known.partitions_for_topic(topic) or ()):
        return count
    raise Failure(f"{topic}: does not exist; run `python -m app topics`")


async def send(settings: Settings, topic: str, key: str, value: bytes | None, correlation_id: str) -> Sent:
    """Send one event and return once all copies have it. Raises Failure with one line that names the remedy."""
    producer = AIOKafkaProducer(**producer_options(settings), client_id="reminders-cli", enable_idempotence=True)
    try:
        await producer.start()
    except (KafkaError, OSError) as exc:
        await producer.stop()
        raise Failure(await unreachable(settings, exc)) from exc
    try:
        # Asked for all topics: asking for one by name would have a broker with auto-creation make it, all wrong.
        known = await producer.client.fetch_all_metadata()
        partitions = len(known.partitions_for_topic(topic) or ())
        if partitions == 0:
            raise Failure(f"{topic}: does not exist; run `python -m app topics`")
        raw = key.encode()
        headers = [(CORRELATION, correlation_id.encode())] if correlation_id else []
        record = await producer.send_and_wait(
            topic, value, key=raw, partition=partition_of(raw, partitions), headers=headers
        )
        return Sent(topic, record.partition, record.offset)
    except MessageSizeTooLargeError as exc:
        raise Failure(f"{topic}: the event is too large ({exc}); send less") from exc
    except TopicAuthorizationFailedError as exc:
        raise Failure(f"{topic}: writing is not allowed; grant Write on it to KAFKA_USERNAME") from exc
    except KafkaError as exc:
        raise Failure(
            f"{topic}: not sent ({type(exc).__name__}: {exc}); see `python -m app doctor`, then send again"
        ) from exc
    finally:
        await producer.stop()
