"""A small Faust worker for the tests: one scenario, with the corrections but those to be skipped.

Started by conftest.Worker with its arguments as JSON. Prints a line for each thing that a test waits for.
"""

import asyncio
import gc
import json
import logging
import os
import signal
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from app import hardening

ARGUMENTS: dict[str, Any] = json.loads(sys.argv[1]) if __name__ == "__main__" else {}
if ARGUMENTS:
    hardening.install(skip=ARGUMENTS["skip"])

import faust  # noqa: E402
from aiokafka import AIOKafkaProducer  # noqa: E402
from aiokafka.consumer.fetcher import Fetcher  # noqa: E402
from aiokafka.consumer.group_coordinator import GroupCoordinator  # noqa: E402
from aiokafka.errors import GroupAuthorizationFailedError  # noqa: E402
from faust.assignor.partition_assignor import PartitionAssignor  # noqa: E402
from faust.transport.consumer import Consumer  # noqa: E402
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread  # noqa: E402

from agents.fence import Fence  # noqa: E402
from schemas.names import State  # noqa: E402
from tables import store  # noqa: E402
from tables.due import STATE_CODES, pack  # noqa: E402
from tables.store import DueStore  # noqa: E402


def say(*words: object) -> None:
    print(*words, flush=True)


def make_app(**settings: Any) -> faust.App:
    store.register()
    session = ARGUMENTS["session_s"]
    Path(ARGUMENTS["datadir"]).mkdir(parents=True, exist_ok=True)
    defaults: dict[str, Any] = {
        "broker": f"kafka://{ARGUMENTS['bootstrap']}",
        "datadir": ARGUMENTS["datadir"],
        "store": "due://",
        "topic_partitions": ARGUMENTS.get("partitions", 1),
        "topic_disable_leader": True,
        "web_enabled": False,
        "table_standby_replicas": 1,
        "broker_session_timeout": session,
        "broker_heartbeat_interval": 0.5,
        "broker_request_timeout": session + 0.5,
        "broker_commit_interval": 0.3,
        "consumer_auto_offset_reset": "earliest",
        "broker_max_poll_interval": 86400.0,
        "stream_recovery_delay": 0.0,
        "producer_request_timeout": 2.0,
    }
    app = faust.App(ARGUMENTS["app_id"], **(defaults | settings))
    app.on_rebalance_complete.connect(cast("Any", _on_rebalance_complete), weak=False)
    start = app.tables.start

    async def started() -> None:
        say("starting tables")
        await start()
        say("tables there")

    app.tables.start = cast("Any", started)
    return app


def _on_rebalance_complete(app: Any, **_: Any) -> None:
    # The signal comes before the streams go on; what counts is the flag.
    async def told() -> None:
        while app.rebalancing or not app.tables.actives_ready:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        say("ready", sorted(tp.partition for tp in app.assignor.assigned_actives() if tp.topic == ARGUMENTS["topic"]))

    app._told = asyncio.get_running_loop().create_task(told())


def topic_of(app: faust.App, name: str) -> Any:
    return app.topic(name, key_type=bytes, value_type=bytes, value_serializer="raw")


def rejoin(app: Any) -> None:
    """Make the group rebalance, as another member would."""
    thread = app.consumer._thread
    thread.thread_loop.call_soon_threadsafe(thread._consumer._coordinator.request_rejoin)


def on_input(app: faust.App, act: Callable[[str], Any]) -> None:
    """Act on each line of standard input, in the loop."""

    @app.task  # type: ignore[untyped-decorator]
    async def read() -> None:
        loop = asyncio.get_running_loop()

        def lines() -> None:
            for line in sys.stdin:
                loop.call_soon_threadsafe(act, line.strip())

        # A daemon: one that asyncio waits for would keep the process from ending.
        threading.Thread(target=lines, daemon=True).start()


# -- scenarios


def unacked() -> faust.App:
    """Acks all but "hold" (kept in hand) and "drop" (forgotten)."""
    app = make_app()
    held = []

    @app.agent(topic_of(app, ARGUMENTS["topic"]))
    async def agent(stream: Any) -> None:
        stream = stream.noack()
        async for event in stream.events():
            match event.value:
                case b"hold":
                    held.append(event)
                case b"drop":
                    pass
                case _:
                    await stream.ack(event)
            say("got", event.message.offset)
            del event
            gc.collect()

    on_input(app, lambda line: rejoin(app))
    return app


def refused() -> faust.App:
    """A plain table; the changelog topic refuses what the agent writes."""
    app = make_app(store="rocksdb://")
    table = app.Table("plain", key_type=bytes, value_type=bytes)

    @app.agent(topic_of(app, ARGUMENTS["topic"]))
    async def agent(stream: Any) -> None:
        async for key, value in stream.items():
            table[key] = value
            say("wrote", len(value))

    return app


def failed_commit() -> faust.App:
    """The first commit fails as one does that a rebalance has overtaken."""
    app = make_app()
    commit = AIOKafkaConsumerThread._commit
    failed: list[Any] = []

    async def fail_once(self: Any, offsets: Any) -> bool:
        if not failed:
            failed.append(offsets)
            say("failed")
            return False
        return await commit(self, offsets)

    AIOKafkaConsumerThread._commit = fail_once  # type: ignore[method-assign]

    @app.agent(topic_of(app, ARGUMENTS["topic"]))
    async def agent(stream: Any) -> None:
        async for event in stream.events():
            say("got", event.message.offset)

    return app


def rebalanced() -> faust.App:
    """Acks at once, commits only when it must; a hook at a revocation is told."""
    app = make_app(broker_commit_interval=600.0)

    async def hook() -> None:
        say("hook")

    hardening.hooks(app).before_revoke.append(hook)

    @app.agent(topic_of(app, ARGUMENTS["topic"]))
    async def agent(stream: Any) -> None:
        async for event in stream.events():
            say("got", event.message.offset)

    on_input(app, lambda line: rejoin(app))
    return app


def held_for_ever() -> faust.App:
    """Never acks; told to, the group rebalances."""
    app = make_app(broker_rebalance_timeout=3.0)
    held = []

    @app.agent(topic_of(app, ARGUMENTS["topic"]))
    async def agent(stream: Any) -> None:
        async for event in stream.noack().events():
            held.append(event)
            say("got", event.message.offset)

    on_input(app, lambda line: rejoin(app))
    return app


def crash() -> faust.App:
    """An event is half done when another part of the app crashes."""
    app = make_app()
    began = asyncio.Event()

    @app.agent(topic_of(app, ARGUMENTS["topic"]))
    async def agent(stream: Any) -> None:
        async for event in stream.events():
            say("began", event.message.offset)
            began.set()
            await asyncio.sleep(60)

    @app.task  # type: ignore[untyped-decorator]
    async def other() -> None:
        await began.wait()
        raise RuntimeError("another part of the app crashes")

    return app


def slow_fetcher() -> faust.App:
    """A fetch takes long to notice that it is cancelled; "end" stops the worker amid a rebalance."""
    fetch = Fetcher._proc_fetch_request

    async def slow(self: Any, *args: Any) -> Any:
        fetched = await fetch(self, *args)
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            await asyncio.sleep(20.0)
        return fetched

    Fetcher._proc_fetch_request = slow
    app = make_app()

    @app.agent(topic_of(app, ARGUMENTS["topic"]))
    async def agent(stream: Any) -> None:
        async for _ in stream:
            pass

    def act(line: str) -> None:
        rejoin(app)
        asyncio.get_running_loop().call_later(0.3, os.kill, os.getpid(), signal.SIGTERM)

    on_input(app, act)
    return app


def stopped_flow() -> faust.App:
    """Says what comes; "stop" stops the flow and "go" lets it go on, as a rebalance does."""
    app = make_app()

    @app.agent(topic_of(app, ARGUMENTS["topic"]))
    async def agent(stream: Any) -> None:
        async for event in stream.events():
            say("got", event.message.offset)

    def act(line: str) -> None:
        if line == "stop":
            app.consumer.stop_flow()
            say("stopped")
        else:
            app.consumer.resume_flow()

    on_input(app, act)
    return app


def resumed_twice() -> faust.App:
    """Slow enough that events wait in the queue when Faust resumes the flow a second time."""
    app = make_app()
    app.Table("rows", key_type=bytes, value_type=bytes, partitions=1)
    perform_seek = Consumer.perform_seek

    async def slow_seek(self: Any) -> None:
        # Only widens the window between the seek and the second resume; the order of calls is Faust's.
        await perform_seek(self)
        await asyncio.sleep(2.0)

    Consumer.perform_seek = slow_seek  # type: ignore[method-assign]

    @app.agent(topic_of(app, ARGUMENTS["topic"]))
    async def agent(stream: Any) -> None:
        async for event in stream.events():
            await asyncio.sleep(0.02)
            say("got", event.message.offset)

    on_input(app, lambda line: rejoin(app))
    return app


def _table_app(**settings: Any) -> faust.App:
    app = make_app(**settings)
    app.Table("rows", key_type=bytes, value_type=bytes, partitions=ARGUMENTS.get("partitions", 1))

    @app.agent(topic_of(app, ARGUMENTS["topic"]))
    async def agent(stream: Any) -> None:
        async for event in stream.events():
            say("got", event.message.offset)

    return app


def slow_answer() -> faust.App:
    """A step of the recovery has no answer."""
    app = _table_app()

    async def earliest_offsets(self: Any, *partitions: Any) -> Any:
        say("asked")
        await asyncio.sleep(3600)

    from faust.transport.consumer import ThreadDelegateConsumer

    ThreadDelegateConsumer.earliest_offsets = earliest_offsets  # type: ignore[method-assign]
    return app


def recover() -> faust.App:
    """Only recovers its table, again when told to."""
    app = _table_app()

    on_input(app, lambda line: rejoin(app))
    return app


def full_disk() -> faust.App:
    """The store cannot write what the recovery reads."""
    app = _table_app()

    def write_rows(*_: Any) -> list[bytes]:
        say("full")
        raise OSError("No space left on device")

    DueStore.write_rows = write_rows  # type: ignore[method-assign, assignment]
    return app


def failed_join() -> faust.App:
    """Faust does not accept an assignment."""
    app = _table_app()

    def on_assignment(self: Any, assignment: Any) -> None:
        say("assigned")
        raise AssertionError("url of another worker")

    PartitionAssignor.on_assignment = on_assignment  # type: ignore[method-assign]
    return app


def refused_join() -> faust.App:
    """The group does not take this member."""

    async def refuse(self: Any, subscription: Any) -> bool:
        say("assigned")
        raise GroupAuthorizationFailedError(self.group_id)

    GroupCoordinator._do_rejoin_group = refuse
    return _table_app()


def topics() -> faust.App:
    """One agent for each topic."""
    app = make_app()
    for name in ARGUMENTS["topics"]:

        async def agent(stream: Any, name: str = name) -> None:
            async for event in stream.events():
                say("got", name, event.message.partition)

        app.agent(topic_of(app, name), name=f"agent-{name}")(agent)
    return app


def backlog() -> faust.App:
    """A pump fills a bounded backlog that nothing empties; the one event in its hand is acked when the backlog goes."""
    app = make_app()
    waiting: deque[Any] = deque()
    room = asyncio.Event()

    class Backlog:
        def clear(self) -> None:
            if app._consumer is None:
                return
            for event in waiting:
                if ARGUMENTS["discard"] == "floor":
                    hardening.discard(app, event.message)
                elif ARGUMENTS["discard"] == "forget":
                    cast("Any", app._consumer)._unacked_messages.discard(event.message)
            if ARGUMENTS["discard"] != "none":
                waiting.clear()
            room.set()

    managed = Backlog()
    app.flow_control.manage_queue(managed)  # type: ignore[arg-type]
    app._managed = managed  # type: ignore[attr-defined]  # flow control holds it weakly

    @app.agent(topic_of(app, ARGUMENTS["topic"]))
    async def agent(stream: Any) -> None:
        stream = stream.noack()
        async for event in stream.events():
            if len(waiting) >= 5:
                room.clear()
                say("full")
                await room.wait()
                await stream.ack(event)
            else:
                waiting.append(event)

    return app


def units() -> faust.App:
    """A unit of work in little: a row holds one bit for each event applied to its key (value: the bit's number)."""
    app = make_app(broker_commit_interval=0.2)
    table = app.Table("rows", key_type=bytes, value_type=bytes, partitions=ARGUMENTS.get("partitions", 1))
    fence = Fence(app, limit_s=3.0)
    held = asyncio.Event()
    held.set()
    scheduled = STATE_CODES[State.SCHEDULED]
    producer: list[AIOKafkaProducer] = []
    last_acked = 0.0

    async def append(partition: int, rows: Sequence[tuple[bytes, bytes]]) -> int:
        if not producer:
            producer.append(AIOKafkaProducer(bootstrap_servers=ARGUMENTS["bootstrap"], acks="all"))
            await producer[0].start()
        name = table.changelog_topic.get_topic_name()
        sent = [await producer[0].send(name, key=k, value=v, partition=partition) for k, v in rows]
        done = await asyncio.gather(*sent)
        return int(done[-1].offset)

    @app.agent(topic_of(app, ARGUMENTS["topic"]))
    async def agent(stream: Any) -> None:
        nonlocal last_acked
        stream = stream.noack()
        async for event in stream.events():
            partition = event.message.partition
            rows = cast("DueStore", table.data)
            (old,) = rows.get_rows(partition, [event.key])
            bits = struct.unpack(">Q", old[20:])[0] if old is not None else 0
            bits |= 1 << int(event.value)
            due_ms = 10**12 + bits * 1000 + event.message.offset % 1000
            new = pack(scheduled, 1, event.key[-1] % 7, due_ms, due_ms + 5000) + struct.pack(">Q", bits)
            if not held.is_set():
                say("holding", event.message.offset)
                await held.wait()
            if ARGUMENTS.get("fence", True):
                fence.check("changelog")
            offset = await append(partition, [(event.key, new)])
            rows.write_rows(partition, {event.key: new}, offset)
            await stream.ack(event)
            say("done", event.message.offset)

    def act(line: str) -> None:
        if line == "hold":
            held.clear()
        elif line == "go":
            held.set()
        elif line == "age":
            say("age", fence.age())

    on_input(app, act)
    return app


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)d %(levelname)s %(name)s %(message)s")
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    made: faust.App = globals()[ARGUMENTS["scenario"]]()
    faust.Worker(
        made, loglevel="INFO", override_logging=False, redirect_stdouts=False, loop=loop
    ).execute_from_commandline()
