"""The reference of ``intake``: a Faust application as its guide has it. An agent decodes an event and puts a record
into a table; Faust's RocksDB store, at-least-once, its default settings but for the interval of commits, which is ours.

    python -m bench.plain_app <bootstrap> <app id> <topic> <data directory> <web port>
"""

import io
import sys
from pathlib import Path
from typing import Any

import faust
from fastavro import parse_schema, schemaless_reader

from schemas.codec import CONTRACTS
from schemas.records import ReminderEvent


class Reminder(faust.Record, serializer="json"):
    """A reminder as a table of JSON keeps it."""

    reminder_id: str
    recipient_id: str
    at: int
    title: str
    text: str
    category: str
    priority: str
    steps: list[dict[str, Any]]
    version: int
    event_id: str
    correlation_id: str
    source: str
    tenant: str


_FIELDS = ("reminder_id", "recipient_id", "title", "text", "category", "priority", "steps", "version")
_MORE = ("event_id", "correlation_id", "source", "tenant")


def main() -> None:
    """Run the worker."""
    bootstrap, app_id, name, data, port = sys.argv[1:]
    schema = parse_schema(CONTRACTS[ReminderEvent].schema.root)
    app = faust.App(
        app_id,
        broker=f"kafka://{bootstrap}",
        store="rocksdb://",
        datadir=data,
        topic_partitions=8,
        processing_guarantee="at_least_once",
        broker_commit_interval=0.5,
        web_port=int(port),
        autodiscover=False,
    )
    topic = app.topic(name, value_type=bytes, value_serializer="raw")
    table = app.Table("reminders", key_type=str, value_type=Reminder, partitions=8)

    @app.agent(topic)
    async def keep(stream: Any) -> None:
        async for raw in stream:
            event: Any = schemaless_reader(io.BytesIO(raw[10:]), schema, None)
            at = int(event["at"].timestamp() * 1000)
            table[event["reminder_id"]] = Reminder(at=at, **{name: event[name] for name in _FIELDS + _MORE})

    Path(data).parent.mkdir(parents=True, exist_ok=True)
    worker = faust.Worker(app, loglevel="warn")
    worker.spinner = None
    worker.execute_from_commandline()


if __name__ == "__main__":
    main()
