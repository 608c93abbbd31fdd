"""Stands for delivery where only core is measured: ``python -m bench.answerer BOOTSTRAP REQUESTS OUTCOMES``.

Every request to send is answered at once: a provider took it. Answers leave in batches, as a delivery worker's do.
"""

import asyncio
import contextlib
import signal
import sys
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from agents.publisher import partition_of
from bench.stage import PARTITIONS
from schemas import codec
from schemas.ids import delivery_id
from schemas.names import AnswerKind, OutcomeKind, RequestKind
from schemas.records import DeliveryAnswer, DeliveryRequest


def answer(request: DeliveryRequest, now: int) -> DeliveryAnswer:
    """Return what delivery says of a request that was sent."""
    return DeliveryAnswer(
        AnswerKind.OUTCOME,
        request.reminder_id,
        delivery_id(request.reminder_id, request.occurrence, request.round, request.step),
        request.occurrence,
        request.round,
        request.step,
        request.attempt,
        request.ask,
        OutcomeKind.ACCEPTED,
        "ok",
        request.channel,
        "smtp",
        started_at=now,
        ended_at=now,
        correlation_id=request.correlation_id,
    )


async def serve(bootstrap: str, requests: str, outcomes: str) -> None:
    """Answer until cancelled, from the first request on."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, fetch_max_wait_ms=20)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5, max_batch_size=1 << 18)
    await consumer.start()
    await producer.start()
    try:
        taken = [TopicPartition(requests, partition) for partition in range(PARTITIONS)]
        consumer.assign(taken)
        await consumer.seek_to_beginning(*taken)
        while True:
            now = time.time_ns() // 1_000_000
            for records in (await consumer.getmany(timeout_ms=100)).values():
                for record in records:
                    request = codec.decode(DeliveryRequest, record.value)
                    if request.kind is RequestKind.DELIVER:
                        key = request.reminder_id.encode()
                        where = partition_of(key, PARTITIONS)
                        await producer.send(outcomes, codec.encode(answer(request, now)), key=key, partition=where)
    finally:
        await producer.stop()
        await consumer.stop()


async def main(bootstrap: str, requests: str, outcomes: str) -> None:
    """Serve until SIGTERM."""
    serving = asyncio.create_task(serve(bootstrap, requests, outcomes))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
