"""The corrections to Faust, mode and aiokafka, in one place: each with the fault it mends, and where that fault is.

Faust's defaults lose events, hang, or go on with a wrong state; docs/faust.md says how each was shown, and
tests/kafka/test_hardening.py shows the loss without each correction and none with it. They are patches of exactly the
pinned versions: ``install`` refuses any other.

    install()                                        # before the first app is made
    hooks(app).before_revoke.append(units.idle)      # awaited before the last commit of a revocation and of a stop
    hooks(app).replayed.append(measure)              # told what the replay before a recovery did
    discard(app, message)                            # for an event that a backlog drops unacked

Not compatible with ``producer_threaded=True`` and ``processing_guarantee="exactly_once"``.
"""

import asyncio
import functools
import importlib.metadata
import logging
import sys
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiokafka.consumer.fetcher
import faust
import faust.app.base
import faust.streams
import faust.tables.base
import faust.tables.manager
import faust.tables.recovery
import faust.transport.consumer
import faust.transport.producer
import mode.utils.queues
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import group_coordinator
from faust.exceptions import ProducerSendError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, credentials_to_aiokafka_auth, server_list
from faust.types import TP

from agents import fence
from tables.recovery import Replayed, ReplayError, replay
from tables.store import DueStore

log = logging.getLogger(__name__)

PINNED = {"faust-streaming": "0.15.3", "mode-streaming": "0.7.1", "aiokafka": "0.14.0", "rocksdict": "0.3.29"}
#: EX_CONFIG: what is installed is not what this release was made for.
EXIT_CODE = 78

#: The longest that a revocation or a stop waits for what is registered in ``Hooks.before_revoke``.
HOOK_LIMIT_S = 45.0

#: How long the broker may hold a fetch that finds nothing; what comes meanwhile is told at once, as ever.
FETCH_WAIT_MS = 200

_Awaited = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Correction:
    """One correction: what goes wrong without it, and where."""

    name: str
    fault: str
    source: str
    apply: Callable[[], None]


@dataclass
class Hooks:
    """What one app adds to the corrections."""

    #: Awaited, in order, when no event comes in any more and before what is acked is committed for the last time.
    before_revoke: list[_Awaited] = field(default_factory=list)
    #: Makes the consumer that replays changelogs; None: one with the app's own broker and credentials.
    make_consumer: Callable[[], AIOKafkaConsumer] | None = None
    replayed: list[Callable[[Replayed], None]] = field(default_factory=list)


def hooks(app: Any) -> Hooks:
    """Return the hooks of an app."""
    found: Hooks = app.__dict__.setdefault("_hardening_hooks", Hooks())
    return found


def replaying(app: Any) -> bool:
    """Return whether changelogs are being replayed: that takes as long as they are long, and watches itself."""
    return bool(app.__dict__.get("_replaying", False))


def discard(app: Any, message: Any) -> None:
    """Forget an event that was taken from a stream and is dropped unacked, because its partition is given up.

    ``wait_empty`` no longer waits for it, and no commit goes past it until its partition was sought again: a later
    event that is still acked (one that a pump held in its hand) would else commit past what was dropped.
    """
    consumer = app._consumer
    if consumer is None or message.acked:
        return
    consumer._unacked_messages.discard(message)
    floor = _floors(consumer)
    floor[message.tp] = min(message.offset, floor.get(message.tp, message.offset))


_installed: set[str] = set()


def install(skip: Collection[str] = ()) -> None:
    """Apply every correction that is not skipped and not applied yet.

    Ends the process (exit code 78) if another version than the pinned ones is installed. ``skip`` is for the tests
    that show what happens without one.
    """
    if unknown := set(skip) - {c.name for c in CORRECTIONS}:
        raise ValueError(f"no such correction: {', '.join(sorted(unknown))}")
    check_versions()
    for correction in CORRECTIONS:
        if correction.name not in skip and correction.name not in _installed:
            correction.apply()
            _installed.add(correction.name)


def check_versions() -> None:
    """Return if the pinned versions are installed, with Faust's compiled stream; else say so and end the process."""
    wrong = []
    for package, pinned in PINNED.items():
        try:
            found = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found = "nothing"
        if found != pinned:
            wrong.append(f"{package}=={pinned} is needed, {found} is installed")
    if not wrong and getattr(faust.streams, "_CStreamIterator", None) is None:
        # The pure Python iterator acks events of an older generation that it skips (faust/streams.py:1220).
        wrong.append("faust-streaming is installed without its compiled extension: install its binary wheel")
    if wrong:
        print(
            "The corrections to Faust fit exactly the pinned versions. " + "; ".join(wrong) + ". "
            "Remedy: pip install --require-hashes -r requirements.lock",
            file=sys.stderr,
        )
        raise SystemExit(EXIT_CODE)


# -- commits


def _floors(consumer: Any) -> dict[TP, int]:
    floors: dict[TP, int] = consumer.__dict__.setdefault("_dropped_from", {})
    return floors


def _unacked_kept() -> None:
    original = faust.transport.consumer.Consumer.__init__

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self._unacked_messages = set()

    _patch(faust.transport.consumer.Consumer, "__init__", init)


def _new_offset() -> None:
    def limits(self: Any) -> dict[TP, int]:
        lowest = dict(_floors(self))
        for message in list(self._unacked_messages):
            if not message.acked and message.offset < lowest.get(message.tp, message.offset + 1):
                lowest[message.tp] = message.offset
        return lowest

    def _take(self: Any, tp: TP, limit: int | None) -> int | None:
        acked = self._acked[tp]
        top = max((offset for offset in acked if limit is None or offset < limit), default=None)
        if top is None:
            return None
        acked[:] = [offset for offset in acked if offset > top]
        self._acked_index[tp] = set(acked)
        # What is in flight is known, so it needs no guess from the gaps between offsets.
        self._gap.pop(tp, None)
        return int(top) + 1

    def _new_offset(self: Any, tp: TP) -> int | None:
        return _take(self, tp, limits(self).get(tp))

    def _filter_committable_offsets(self: Any, tps: Iterable[TP]) -> dict[TP, int]:
        limit = limits(self)
        found = {tp: _take(self, tp, limit.get(tp)) for tp in tps}
        return {tp: offset for tp, offset in found.items() if offset is not None and self._should_commit(tp, offset)}

    perform_seek = faust.transport.consumer.Consumer.perform_seek

    async def _perform_seek(self: Any) -> None:
        await perform_seek(self)
        # With the flow stopped the partitions are being given up, and their last commit is yet to come.
        if self.flow_active:
            _floors(self).clear()

    consumer = faust.transport.consumer.Consumer
    _patch(consumer, "_new_offset", _new_offset)
    _patch(consumer, "_filter_committable_offsets", _filter_committable_offsets)
    _patch(consumer, "perform_seek", _perform_seek)


def _commit_bookkeeping() -> None:
    original = faust.transport.consumer.Consumer._commit_offsets

    async def _commit_offsets(self: Any, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        before = {tp: self._committed_offset[tp] for tp in offsets}
        done = False
        try:
            done = await original(self, offsets, start_new_transaction)
        finally:
            if not done:
                assigned = self.assignment()
                for tp, old in before.items():
                    if tp in assigned:
                        self._committed_offset[tp] = old
                        # Ready to be committed with what is acked next, or at the next tick.
                        self._acked[tp].append(offsets[tp] - 1)
                        self._acked_index[tp].add(offsets[tp] - 1)
        return done

    _patch(faust.transport.consumer.Consumer, "_commit_offsets", _commit_offsets)


async def _await_hooks(app: Any) -> None:
    waiting = hooks(app).before_revoke
    if not waiting:
        return
    try:
        async with asyncio.timeout(HOOK_LIMIT_S):
            for hook in waiting:
                await hook()
    except TimeoutError as exc:
        fence.fatal(f"what is in flight did not end within {HOOK_LIMIT_S:g} s of a revocation or a stop", exc)


def _commit_before_revoke() -> None:
    revoked_by_faust = faust.transport.consumer.Consumer.on_partitions_revoked
    wait_empty = faust.app.base.App._consumer_wait_empty

    async def on_partitions_revoked(self: Any, revoked: set[TP]) -> None:
        try:
            if revoked and not self.app.should_stop:
                self.stop_flow()
                self.app.flow_control.suspend()
                self.app.flow_control.clear()
                await _await_hooks(self.app)
                await self.commit()
                # The first may only have waited for a commit that was under way before the last ack.
                await self.commit()
        except Exception as exc:  # noqa: BLE001  # aiokafka would log it and go on
            fence.fatal("the last commit before a revocation failed", exc)
        await revoked_by_faust(self, revoked)
        for tp in revoked:
            _floors(self).pop(tp, None)

    async def _consumer_wait_empty(self: Any, consumer: Any, logger: Any) -> None:
        await _await_hooks(self)
        await wait_empty(self, consumer, logger)

    _patch(faust.transport.consumer.Consumer, "on_partitions_revoked", on_partitions_revoked)
    _patch(faust.app.base.App, "_consumer_wait_empty", _consumer_wait_empty)


def _wait_empty_limit() -> None:
    original = faust.transport.consumer.Consumer.wait_empty

    async def wait_empty(self: Any) -> None:
        limit_s = self.app.conf.broker_rebalance_timeout
        waiting = asyncio.ensure_future(original(self))
        try:
            # Not asyncio.timeout: Faust swallows the cancellation (_wait_for_ack).
            await asyncio.wait({waiting}, timeout=limit_s)
        except asyncio.CancelledError:
            waiting.cancel()
            raise
        if not waiting.done():
            held = sorted({f"{m.topic}-{m.partition}" for m in self._unacked_messages})
            fence.fatal(f"events were not acked within {limit_s:g} s of a revocation or a stop: {', '.join(held)}")
        await waiting

    _patch(faust.transport.consumer.Consumer, "wait_empty", wait_empty)


def _commit_after_crash() -> None:
    original = faust.transport.consumer.Consumer.force_commit

    async def force_commit(self: Any, topics: Any = None, start_new_transaction: bool = True) -> bool:
        if self.crashed or self.app.crashed:
            return False
        return bool(await original(self, topics, start_new_transaction))

    _patch(faust.transport.consumer.Consumer, "force_commit", force_commit)


# -- the producer's buffer


def _flush() -> None:
    buffer = faust.transport.producer.ProducerBuffer
    put_by_faust = buffer.put

    def put(self: Any, fut: Any) -> None:
        pending = self.__dict__.setdefault("_outstanding", set())
        pending.add(fut)

        def done(fut: Any) -> None:
            pending.discard(fut)
            if not fut.cancelled() and fut.exception() is not None:
                self._failed = fut.exception()

        fut.add_done_callback(done)
        put_by_faust(self, fut)

    async def flush(self: Any) -> None:
        pending = self.__dict__.setdefault("_outstanding", set())
        while pending and self.__dict__.get("_failed") is None:
            if self.should_stop and not self._sends():
                break
            await asyncio.wait(set(pending), timeout=0.5)
        failure = self.__dict__.get("_failed")
        if (failure is not None or pending) and not self.app.crashed:
            why = repr(failure) if failure is not None else f"{len(pending)} are pending and nothing sends them"
            raise ProducerSendError(f"records were not written, so nothing is committed: {why}")

    def _sends(self: Any) -> bool:
        # Once stopped, what _handle_pending has passed on may still be acknowledged; what is queued will not be.
        return bool(self.size == 0 and not self.crashed)

    _patch(buffer, "put", put)
    _patch(buffer, "flush", flush)
    _patch(buffer, "_sends", _sends, new=True)


# -- flow and recovery


def _flow_resume() -> None:
    original = mode.utils.queues.FlowControlEvent.resume

    def resume(self: Any) -> None:
        if not self.is_active():
            original(self)

    _patch(mode.utils.queues.FlowControlEvent, "resume", resume)


def _seek_uncommitted() -> None:
    original = faust.transport.consumer.Consumer.perform_seek

    async def perform_seek(self: Any) -> None:
        asked = self.assignment()
        await original(self)
        if self.app.conf.consumer_auto_offset_reset != "earliest":
            return
        changelogs = self.app.tables.changelog_topics
        # What has been assigned meanwhile was not asked about: it may have commits.
        mine = asked & self.assignment()
        never = [tp for tp in mine if not self._read_offset[tp] and tp.topic not in changelogs]
        if never:
            await self.seek_wait(await self.earliest_offsets(*never))

    _patch(faust.transport.consumer.Consumer, "perform_seek", perform_seek)


def _recovery_timeout() -> None:
    original = faust.tables.recovery.Recovery._wait

    async def _wait(self: Any, coro: Any, timeout: float | None = None) -> None:  # noqa: ASYNC109  # Faust's own
        if self.__dict__.pop("_has_own_limit", False):
            timeout = None
        try:
            await original(self, coro, timeout)
        except faust.tables.recovery.ServiceStopped:
            if not self.should_stop:
                fence.fatal(f"a step of the recovery had no answer within {timeout} s (broker_request_timeout)")
            raise

    _patch(faust.tables.recovery.Recovery, "_wait", _wait)


def consumer_for(app: Any) -> AIOKafkaConsumer:
    """Return a consumer outside any group, with the app's brokers and credentials."""
    transport, conf = app.transport, app.conf
    return AIOKafkaConsumer(
        client_id=conf.broker_client_id,
        bootstrap_servers=server_list(transport.url, transport.default_port),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_bytes=16 << 20,
        max_partition_fetch_bytes=max(4 << 20, conf.consumer_max_fetch_size),
        request_timeout_ms=int(conf.broker_request_timeout * 1000),
        **credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
    )


def _start_at_once() -> None:
    async def on_start(self: Any) -> None:
        # Faust waits for modules that register tables late; ours are all there before an app starts.
        await self._update_channels()
        await self.recovery.start()

    _patch(faust.tables.manager.TableManager, "on_start", on_start)


def _replay_before_recovery() -> None:
    original = faust.tables.recovery.Recovery._build_highwaters

    async def replay_first(self: Any, ours: dict[TP, DueStore], rest: Callable[[], Awaitable[None]]) -> None:
        registered = hooks(self.app)
        self.app.__dict__["_replaying"] = True
        try:
            done = await replay(ours, registered.make_consumer or functools.partial(consumer_for, self.app))
        except ReplayError as exc:
            fence.fatal(str(exc))
        finally:
            self.app.__dict__["_replaying"] = False
        for tp, store in ours.items():
            if (offset := store.persisted_offset(tp)) is not None:
                self.active_offsets[tp] = offset
        for told in registered.replayed:
            told(done)
        limit_s = self.app.conf.broker_request_timeout
        try:
            async with asyncio.timeout(limit_s):
                await rest()
        except TimeoutError as exc:
            fence.fatal(f"the ends of the changelogs were not told within {limit_s:g} s", exc)

    def _build_highwaters(self: Any, consumer: Any, tps: set[TP], destination: Any, title: str) -> Awaitable[None]:
        rest = functools.partial(original, self, consumer, tps, destination, title)
        stores = {tp: self.tp_to_table[tp].data for tp in tps} if title == "active" else {}
        ours = {tp: store for tp, store in stores.items() if isinstance(store, DueStore)}
        if not ours:
            return rest()
        # A replay takes as long as its changelogs are long; it watches its own progress (see _recovery_timeout).
        self._has_own_limit = True
        return replay_first(self, ours, rest)

    _patch(faust.tables.recovery.Recovery, "_build_highwaters", _build_highwaters)


def _fetch_wait() -> None:
    original = AIOKafkaConsumerThread._create_worker_consumer

    def _create_worker_consumer(self: Any, transport: Any) -> AIOKafkaConsumer:
        consumer = original(self, transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer

    _patch(AIOKafkaConsumerThread, "_create_worker_consumer", _create_worker_consumer)


def _apply_failure() -> None:
    original = faust.tables.base.Collection.apply_changelog_batch

    def apply_changelog_batch(self: Any, batch: Iterable[Any]) -> None:
        try:
            original(self, batch)
        except Exception as exc:  # noqa: BLE001  # ends the process
            fence.fatal(f"changelog records could not be written to the store of table {self.name}", exc)

    _patch(faust.tables.base.Collection, "apply_changelog_batch", apply_changelog_batch)


# -- the consumer group


def _heartbeats() -> None:
    coordinator = group_coordinator.GroupCoordinator
    heartbeat, reset = coordinator._do_heartbeat, coordinator.reset_generation
    sync = group_coordinator.CoordinatorGroupRebalance._send_sync_group_request

    async def _do_heartbeat(self: Any) -> Any:
        sent_at = fence.now()
        answered = await heartbeat(self)
        if answered:
            fence.note_heartbeat(self, sent_at)
        return answered

    async def _send_sync_group_request(self: Any, request: Any) -> Any:
        # The last request of a join. Its answer's arrival proves nothing: a process may have been frozen before it.
        sent_at = fence.now()
        assignment = await sync(self, request)
        if assignment is not None:
            fence.note_heartbeat(self._coordinator, sent_at)
        return assignment

    def reset_generation(self: Any) -> None:
        fence.note_expelled(self)
        reset(self)

    _patch(coordinator, "_do_heartbeat", _do_heartbeat)
    _patch(coordinator, "reset_generation", reset_generation)
    _patch(group_coordinator.CoordinatorGroupRebalance, "_send_sync_group_request", _send_sync_group_request)


def _coordinator_death() -> None:
    original = group_coordinator.GroupCoordinator._coordination_routine
    push = group_coordinator.GroupCoordinator._push_error_to_user

    async def _coordination_routine(self: Any) -> None:
        try:
            await original(self)
        except Exception as exc:  # noqa: BLE001  # ends the process
            fence.fatal(f"the membership of group {self.group_id} ended by an error", exc)

    def _push_error_to_user(self: Any, exc: BaseException) -> Any:
        # aiokafka tells whoever fetches next and waits for it; Faust asks its fetcher past that.
        if not self._closing.done():
            fence.fatal(f"the membership of group {self.group_id} ended by an error", exc)
        return push(self, exc)

    _patch(group_coordinator.GroupCoordinator, "_coordination_routine", _coordination_routine)
    _patch(group_coordinator.GroupCoordinator, "_push_error_to_user", _push_error_to_user)


def _stop_amid_rebalance() -> None:
    coordinator, fetcher = group_coordinator.GroupCoordinator, aiokafka.consumer.fetcher.Fetcher
    rejoin, close = coordinator._do_rejoin_group, fetcher.close

    def _on_rebalance_when_stopped(self: Any) -> None:
        # The stop that is under way closes the consumer, in its own thread.
        pass

    async def _do_rejoin_group(self: Any, subscription: Any) -> bool:
        # Who is about to leave need not join again, and have the others wait for it.
        return False if self._closing.done() else bool(await rejoin(self, subscription))

    async def close_whole(self: Any) -> None:
        self._closed = True
        while alive := {task for task in (self._fetch_task, *self._pending_tasks) if not task.done()}:
            for task in alive:
                task.cancel()
            await asyncio.wait(alive, timeout=0.1)
        self._pending_tasks.clear()
        await close(self)

    _patch(faust.app.base.App, "_on_rebalance_when_stopped", _on_rebalance_when_stopped)
    _patch(coordinator, "_do_rejoin_group", _do_rejoin_group)
    _patch(fetcher, "close", close_whole)


def _unequal_partitions() -> None:
    original = faust.app.base.App._on_partitions_assigned

    async def _on_partitions_assigned(self: Any, assigned: set[TP], generation_id: int = 0) -> None:
        if why := _unequal(self, assigned):
            fence.fatal(why)
        await original(self, assigned, generation_id)

    _patch(faust.app.base.App, "_on_partitions_assigned", _on_partitions_assigned)


def _unequal(app: Any, assigned: set[TP]) -> str | None:
    """Say what is wrong if the app's topics and the changelogs of its tables were not all assigned alike."""
    changelogs = app.tables.changelog_topics
    alone = {app._leader_assignor._leader_topic_name}
    owned: dict[str, set[int]] = {}
    if (subscribed := app.consumer._thread._consumer.subscription()) is not None:
        owned = {topic: set() for topic in subscribed if topic not in changelogs and topic not in alone}
    actives = app.assignor.assigned_actives()
    for tp in assigned:
        if tp.topic not in alone and (tp.topic not in changelogs or tp in actives):
            owned.setdefault(tp.topic, set()).add(tp.partition)
    everywhere = set().union(*owned.values())
    lacking = {topic: everywhere - partitions for topic, partitions in owned.items() if partitions != everywhere}
    if not lacking:
        return None
    listed = "; ".join(f"{topic} without {sorted(partitions)}" for topic, partitions in sorted(lacking.items()))
    return (
        f"this worker was given partitions {sorted(everywhere)}, but {listed}: an event and the row it belongs to "
        "would be on different workers. All topics of an app need one partition count, and all its workers the same "
        "topics: stop every worker of this app, then start them all with the same release"
    )


def _patch(owner: type, name: str, replacement: Any, *, new: bool = False) -> None:
    if not new and not hasattr(owner, name):
        raise AttributeError(f"{owner.__qualname__} has no {name} to correct")
    setattr(owner, name, replacement)


CORRECTIONS: tuple[Correction, ...] = (
    Correction(
        "unacked_kept",
        "What is in flight is held weakly: an event that was taken from a stream and dropped is forgotten, and the "
        "next ack commits past it.",
        "faust/transport/consumer.py:483",
        _unacked_kept,
    ),
    Correction(
        "new_offset",
        "A commit looks at acked offsets alone and goes past events in flight wherever acks come out of order.",
        "faust/transport/consumer.py:1097",
        _new_offset,
    ),
    Correction(
        "commit_bookkeeping",
        "After a failed commit Faust believes it was done, and does not try again until more is acked.",
        "faust/transport/consumer.py:1080",
        _commit_bookkeeping,
    ),
    Correction(
        "commit_before_revoke",
        "A rebalance forgets what is acked before it commits: all of it is done twice. Nothing waits for work that is "
        "not an event in a stream.",
        "faust/transport/consumer.py:642",
        _commit_before_revoke,
    ),
    Correction(
        "wait_empty_limit",
        "A rebalance or a stop waits for ever for an event that is never acked; the worker lives on, "
        "expelled and idle.",
        "faust/transport/consumer.py:867",
        _wait_empty_limit,
    ),
    Correction(
        "commit_after_crash",
        "When one part crashes, agents are cancelled, what they had half done counts as acked, and is committed.",
        "faust/transport/consumer.py:902",
        _commit_after_crash,
    ),
    Correction(
        "flush",
        "The flush before a commit gives up after 0.1 s, and a record that the broker refused is only logged: the "
        "event is committed, its changelog record does not exist.",
        "faust/transport/producer.py:78",
        _flush,
    ),
    Correction(
        "flow_resume",
        "Resuming a flow that was resumed before clears queues into which events have come since: lost, for later ones "
        "are committed.",
        "mode/utils/queues.py:97",
        _flow_resume,
    ),
    Correction(
        "seek_uncommitted",
        "A fetch that is under way when a rebalance stops the flow is dropped and sought again from the committed "
        "offset; where nothing was ever committed nothing is: what it brought is lost once a later event is committed.",
        "aiokafka/consumer/consumer.py:901",
        _seek_uncommitted,
    ),
    Correction(
        "recovery_timeout",
        "A step of the recovery that has no answer in time is taken for a stop: the worker stays up and never becomes "
        "ready.",
        "faust/tables/recovery.py:606",
        _recovery_timeout,
    ),
    Correction(
        "fetch_wait",
        "A fetch that finds nothing is held for 1.5 s, and a recovery's questions wait behind it on the same "
        "connection: each takeover is 3 s later.",
        "faust/transport/drivers/aiokafka.py:615",
        _fetch_wait,
    ),
    Correction(
        "start_at_once",
        "Each app waits for a second before it asks for partitions, so each takeover after a crash is that much later.",
        "faust/tables/manager.py:140",
        _start_at_once,
    ),
    Correction(
        "replay_before_recovery",
        "Recovery costs 77 s for 1M rows, and waits for ever for the record before the end of the changelog if that is "
        "a transaction's marker or was compacted away.",
        "faust/tables/recovery.py:669",
        _replay_before_recovery,
    ),
    Correction(
        "apply_failure",
        "A changelog record that the store cannot write is a warning in the log; the worker waits for ever.",
        "faust/tables/recovery.py:916",
        _apply_failure,
    ),
    Correction(
        "heartbeats",
        "A worker that was frozen past its session does not know it, and overwrites newer rows.",
        "aiokafka/consumer/group_coordinator.py:799",
        _heartbeats,
    ),
    Correction(
        "coordinator_death",
        "An error while joining ends the membership, and is only logged: the worker stays up and gets nothing.",
        "aiokafka/consumer/group_coordinator.py:591",
        _coordinator_death,
    ),
    Correction(
        "stop_amid_rebalance",
        "A rebalance that begins during a stop closes the consumer from another thread than its own, and a fetcher "
        "that gives up its old partitions just then does not notice that it is to end: the stop never does, and all "
        "apps of the process stand still with their partitions in hand.",
        "aiokafka/consumer/fetcher.py:515",
        _stop_amid_rebalance,
    ),
    Correction(
        "unequal_partitions",
        "Topics are assigned together only if the same members subscribe to them; else a worker gets events whose rows "
        "another one owns.",
        "faust/assignor/partition_assignor.py:152",
        _unequal_partitions,
    ),
)
