"""The composition root: settings become Faust apps. Everything that is given to agents, tables and channels is made
here."""

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, NoReturn, cast

import faust
from aiokafka import AIOKafkaConsumer
from faust.types import TP, AppT, ConsumerT
from prometheus_client import CollectorRegistry

from agents import gate, intake, rearm, rewrap, settle
from agents.broadcast import Broadcast
from agents.catch_up import CatchUp
from agents.control import Control
from agents.core import Core, CoreLogic, CoreTopics, Reader
from agents.deliver import Calls
from agents.delivery import Delivering, DeliveryLogic, DeliveryTopics
from agents.delivery import Reader as DeliveryReader
from agents.fence import Fence, fatal
from agents.mail_links import MailLinks
from agents.meter import Meter, Stage
from agents.new_tzdata import NewTzdata
from agents.ports import Check, Logic
from agents.publisher import Publisher
from agents.release import Releases
from agents.replies import TEXTED, Replies
from agents.retract import Retractions
from agents.suppressions import Suppressions
from agents.templates import Templates
from agents.timer import Timer
from agents.unit_of_work import Backlog, Observer, Units
from app import categories, circuits, hardening, kafka, prices, providers
from app.alerts import Alerts
from app.config import ConfigError, Role, Settings
from app.exposed import Exposed
from app.feed import Feed
from app.ledger import Comparing, GroupOffsets, sources_of
from app.open_letters import OpenLetters
from app.parked import Parked
from app.renewal import NewsSecrets, Renewal, restart_only
from app.template_folder import Watch, template_folder
from app.topics import RECIPIENTS_TABLE, REMINDERS_TABLE, TopicNames, topic_ids
from app.watchdog import Behind, LoopWatch, Overdue, Watchdog, position_of
from app.web.wiring import FAUST_PAGES_OFF, bounces_of, links_of, serve_core, serve_delivery
from channels import registry, send_only
from channels.base import ChannelAdapter
from channels.fcm_settings import PushSettings
from channels.layout import Foot
from channels.limits import TooLong
from channels.renewable import Renewable, renewable
from channels.retry import RetryPolicy
from channels.sendgrid_settings import SendGridSettings
from channels.shelf import Shelf
from channels.smtp_settings import SmtpSettings, Tls
from channels.webhook_settings import WebhookSettings, ports
from schemas import zones
from schemas.codec import Codec
from schemas.names import Channel
from schemas.records import ControlRecord
from schemas.references import References
from schemas.registry import Registry
from schemas.sealing import Sealing
from tables import holds, quota
from tables import store as due_store
from tables.consent import Categories
from tables.due import CHANNEL_CODES
from tables.ledger import Kind as OrphanKind
from tables.prices import Prices
from tables.series import LATE_MS
from tables.transition import Rules

log = logging.getLogger(__name__)

#: Events of a channel that may wait for a slot of its provider, a partition; beyond it the answer is "busy".
WAITING_ROOM = 1000
#: Limit of a connection to a provider that another one is beside, in seconds.
CONNECT_BESIDE_S = 4.0
#: How long a revocation or a stop waits for calls in flight, in seconds (design: Calling).
DRAIN_S = 20.0
#: How long the loop turns on once all has been stopped, in seconds.
CLOSING_S = 0.1
#: How long a rebalance, or a stop, then waits for messages that are being taken back, in seconds.
RETRACT_S = 2.0
#: The scope of the pace after downtime, and how long it lasts at least: what was missed may have to be withdrawn first.
CATCHING_UP = "after downtime"
CATCHING_UP_MS = 60_000


def now_ms() -> int:
    """Return the wall clock, ms since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000


class MeterObserver:
    """Times units for the metrics."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._begun: dict[int, float] = {}

    async def stage(self, stage: Stage, partition: int, inputs: int) -> None:
        """Note when a unit begins and ends."""
        if stage is Stage.RECEIVED:
            self._begun[partition] = time.perf_counter()
        elif stage is Stage.ACKED and partition in self._begun:
            self._meter.unit(time.perf_counter() - self._begun.pop(partition))


@dataclass(slots=True)
class Parts:
    """What an app is made of beside Faust: started before it, stopped after its consumer."""

    publisher: Publisher
    units: Units
    timer: Timer
    fence: Fence
    topic_ids: dict[str, str]
    control: Control
    calls: Calls | None = None
    adapters: Sequence[ChannelAdapter] = ()
    suppressions: Suppressions | None = None
    releases: Releases | None = None
    registry: Registry | None = None
    replies: Replies | None = None
    templates: Templates | None = None

    @property
    def readers(self) -> list[Broadcast]:
        """Return who reads a whole topic."""
        every = self.control, self.suppressions, self.replies, self.templates
        return [reader for reader in every if reader is not None]


class StreamApp(faust.App):
    """A Faust app with the parts that make it one of ours."""

    parts: Parts
    settings: Settings
    feed: Feed

    def _new_consumer(self) -> ConsumerT:
        consumer = super()._new_consumer()
        self.feed.attach(consumer)
        return consumer

    async def on_start(self) -> None:
        """Open what units and calls need, then let Faust go on."""
        await super().on_start()
        parts = self.parts
        wanted = [str(topic) for topic in self.parts.topic_ids]
        parts.topic_ids.update(await topic_ids(self.settings, wanted))
        await parts.publisher.start()
        # Side by side: each waits for the brokers' word that it stands at its topic's end.
        await asyncio.gather(*(reader.start() for reader in parts.readers))
        for adapter in parts.adapters:
            await adapter.open()

    async def on_stop(self) -> None:
        """Let Faust give up its partitions (calls and units are awaited there), then close."""
        await super().on_stop()
        parts = self.parts
        if parts.releases is not None:
            await parts.releases.stop()
        await parts.units.idle()
        await parts.units.stop()
        await asyncio.gather(*(reader.stop() for reader in parts.readers))
        for adapter in parts.adapters:
            await adapter.close()
        await parts.publisher.stop()
        if parts.registry is not None:
            await parts.registry.close()


class StreamWorker(faust.Worker):
    """A worker that ends as soon as all is stopped: mode waits for one more second."""

    async def _sentinel_task(self) -> None:
        # What was closed last says so in the loop's next turns.
        await asyncio.sleep(CLOSING_S)


def _faust(settings: Settings, app_id: str, data: str, port: int) -> StreamApp:
    hardening.install()
    due_store.register()
    directory = settings.data_dir / data
    directory.parent.mkdir(parents=True, exist_ok=True)
    fencing = settings.fencing
    app = StreamApp(
        app_id,
        # Faust lets the environment (WEB_PORT, …) win over what it is given; ours is read once, in app.config.
        env={},
        broker=kafka.broker_urls(settings),
        broker_credentials=kafka.broker_credentials(settings),
        store="due://",
        datadir=str(directory),
        autodiscover=False,
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replication,
        topic_allow_declare=False,
        topic_disable_leader=True,
        processing_guarantee="at_least_once",
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=4 << 20,
        broker_session_timeout=fencing.session_s,
        broker_heartbeat_interval=fencing.heartbeat_s,
        broker_commit_interval=0.5,
        broker_commit_every=10_000,
        broker_max_poll_interval=86_400.0,
        broker_max_poll_records=2_000,
        broker_request_timeout=max(90.0, fencing.session_s * 3),
        producer_acks=-1,
        producer_request_timeout=fencing.publish_s,
        stream_buffer_maxsize=4_096,
        stream_wait_empty=True,
        table_standby_replicas=0 if settings.replication < 2 else 1,
        web_enabled=True,
        web_bind=settings.web.bind,
        web_host=settings.web.host,
        web_port=port,
        **cast("Any", FAUST_PAGES_OFF),
        web_cors_options=None,
        worker_redirect_stdouts=False,
    )
    app.settings = settings
    return app


def _owned(app: AppT, changelog: str) -> Callable[[], set[int]]:
    """Return who tells which partitions may be worked on: assigned, recovered, no rebalance."""

    def owned() -> set[int]:
        if app.rebalancing or app.should_stop or not app.tables.actives_ready:
            return set()
        # assigned_actives makes a set of all topics' partitions: 60 µs, at the end of every call.
        assignment = cast("Any", app.assignor)._assignment
        return set(assignment.actives.get(changelog, ()))

    return owned


def _store(table: Any) -> Callable[[], due_store.DueStore]:
    """Return who gives the store of a table; Faust makes it anew after a crash."""
    return lambda: cast("due_store.DueStore", table.data)


def _units(
    app: StreamApp,
    logic: Logic,
    store: Callable[[], due_store.DueStore],
    changelog: str,
    publisher: Publisher,
    fence: Check,
    observer: Observer,
) -> Units:
    def manage(backlog: Backlog) -> None:
        app.flow_control.manage_queue(cast("Any", backlog))

    def discard(message: Any) -> None:
        hardening.discard(app, message)

    def current(message: Any) -> bool:
        return bool(app.flow_control.is_active()) and message.generation_id == app.consumer_generation_id

    return Units(
        logic=logic,
        store=store,
        changelog=changelog,
        publisher=publisher,
        fence=fence,
        fatal=fatal,
        clock=now_ms,
        observer=observer,
        manage=manage,
        discard=discard,
        current=current,
    )


def _attach(app: StreamApp, units: Units, topics: Collection[str], partitions: int) -> None:
    """Give each topic its agent, which is a pump. Explicit: autodiscovery would swallow an import error."""
    feed = app.feed = Feed(app, units, list(topics))
    for name in topics:
        topic = app.topic(
            name, key_type=bytes, value_type=bytes, value_serializer="raw", partitions=partitions, internal=False
        )

        async def agent(stream: Any) -> None:
            await feed.pump(stream)

        # Faust knows agents by the name of their function; of two with one name, one would vanish.
        agent.__name__ = agent.__qualname__ = f"pump[{name}]"
        app.agent(topic)(agent)


def _or_fatal(run: Callable[[], Awaitable[None]], what: str) -> Callable[[], Awaitable[None]]:
    """Return a task whose failure ends the process: without its timer a worker would be silently late."""

    async def serve() -> None:
        try:
            await run()
        except asyncio.CancelledError:
            raise
        except BaseException as exc:  # noqa: BLE001  # whatever it is
            fatal(what, exc)

    return serve


def _timer(
    app: StreamApp,
    units: Units,
    store: Callable[[], due_store.DueStore],
    changelog: str,
    window: int,
    meter: Meter,
    held: Callable[[Channel], bool] = lambda channel: False,
    most: Callable[[Channel], int] | None = None,
    count: int = 1,
) -> Timer:
    owned = _owned(app, changelog)
    timer = Timer(
        store=store,
        give=units.give,
        partitions=owned,
        clock=now_ms,
        window=window,
        scanned=meter.scan,
        held=held,
        most=most,
        count=count,
    )
    units.written.append(timer.written)
    units.dropped.append(timer.forget)

    app.task(_or_fatal(timer.run, "the timer failed"))

    async def assigned(_app: AppT, **_: Any) -> None:
        timer.wake()

    app.on_rebalance_complete.connect(cast("Any", assigned), weak=False)
    return timer


def _categories(settings: Settings) -> Categories:
    path = settings.rules.categories_file
    return categories.load(path) if path is not None else Categories()


def _prices(settings: Settings) -> Prices:
    path = settings.rules.prices_file
    return prices.load(path) if path is not None else Prices()


def _rules(settings: Settings) -> Rules:
    rules = settings.rules
    return Rules(
        lease_ms=int(rules.lease_s * 1000),
        withdraw_lease_ms=int(min(15.0, rules.lease_s) * 1000),
        retention_ms=int(rules.retention_s * 1000),
        review_ms=int(rules.review_s * 1000),
        max_lateness_ms=int(rules.max_lateness_s * 1000),
        times=rules.times(),
    )


def _channels(settings: Settings) -> registry.ChannelSettings:
    """Return the settings of the channels that are configured. Raises ConfigError with the channel's own words."""
    try:
        return registry.ChannelSettings(
            email=_email(settings),
            email_beside=_email_beside(settings),
            sendgrid=_sendgrid(settings),
            twilio=settings.twilio,
            cloud=settings.cloud,
            push=_push(settings),
            webhook=_webhook(settings),
            first=settings.circuits.first,
        )
    except ValueError as exc:
        raise ConfigError([str(exc)]) from exc


def _sendgrid(settings: Settings) -> SendGridSettings:
    """Return them once the sender can be used."""
    if settings.sendgrid.email:
        _ = settings.sendgrid.from_address
    return settings.sendgrid


def _email(settings: Settings) -> SmtpSettings | None:
    smtp = settings.smtp
    if not smtp.host:
        return None
    beside = smtp.second.host or settings.sendgrid.email
    return SmtpSettings(
        host=smtp.host,
        sender=smtp.sender,
        port=smtp.port,
        tls=Tls(smtp.tls),
        ca_file=smtp.ca_file,
        username=smtp.username,
        password=smtp.password,
        sender_name=smtp.sender_name,
        pool_size=smtp.pool,
        # Where another server is beside it, nobody waits for long for one that does not even take connections.
        connect_timeout_s=min(CONNECT_BESIDE_S if beside else 30.0, smtp.timeout_s),
        command_timeout_s=smtp.timeout_s,
        final_reply_timeout_s=smtp.final_timeout_s,
        greylist_s=settings.retry.greylist_min_s,
        dkim_key=smtp.dkim_key_file,
        dkim_selector=smtp.dkim_selector,
        dkim_domain=smtp.dkim_domain,
        bounce_domain=smtp.bounce_domain,
    )


def _email_beside(settings: Settings) -> SmtpSettings | None:
    first, second = _email(settings), settings.smtp.second
    if first is None or not second.host:
        return None
    return replace(
        first,
        provider="smtp-2",
        host=second.host,
        port=second.port,
        tls=Tls(second.tls),
        ca_file=second.ca_file,
        username=second.username,
        password=second.password,
    )


def _push(settings: Settings) -> PushSettings | None:
    push = settings.push
    if push.credentials_file is None:
        return None
    return PushSettings(
        credentials_file=push.credentials_file,
        base_url=push.url,
        ca_file=push.ca_file,
        concurrency=push.concurrency,
        connect_timeout_s=min(5.0, push.timeout_s),
        timeout_s=push.timeout_s,
        too_long=TooLong(push.too_long),
        android_channel=push.android_channel,
    )


def _webhook(settings: Settings) -> WebhookSettings | None:
    webhook = settings.webhook
    if not webhook.keys:
        return None
    return WebhookSettings(
        keys=webhook.keys,
        allow=webhook.allow,
        ports=ports(webhook.ports),
        ca_file=webhook.ca_file,
        concurrency=webhook.concurrency,
        per_host=webhook.per_host,
        connect_timeout_s=min(10.0, webhook.timeout_s),
        timeout_s=webhook.timeout_s,
        max_body=webhook.max_bytes,
        too_long=TooLong(webhook.too_long),
    )


def _registry(settings: Settings) -> Registry | None:
    r = settings.registry
    if not r.url:
        return None
    return Registry(r.url, user=r.username, password=r.password) if r.url else None


def _catch_up(app: StreamApp, units: Units, topics: Iterable[str], changelog: str) -> CatchUp:
    """Return what says which partitions may be acted on; it begins anew with every assignment."""

    async def ends(wanted: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
        found = await app.consumer.highwaters(*(TP(topic, partition) for topic, partition in wanted)) if wanted else {}
        return {(tp.topic, tp.partition): end for tp, end in found.items()}

    async def position(topic: str, partition: int) -> int | None:
        return await app.consumer.position(TP(topic, partition))

    def assigned_now() -> set[int]:
        # assigned_actives makes a set of all topics' partitions: 60 µs, at the end of every call.
        assignment = cast("Any", app.assignor)._assignment
        return set(assignment.actives.get(changelog, ()))

    catch_up = CatchUp(
        topics,
        units,
        assigned=assigned_now,
        owned=_owned(app, changelog),
        ends=ends,
        position=position,
        fatal=fatal,
    )

    async def assigned(_app: AppT, **_: Any) -> None:
        catch_up.begin()

    async def revoked() -> None:
        catch_up.forget()

    hardening.hooks(app).before_revoke.append(revoked)
    app.on_rebalance_complete.connect(cast("Any", assigned), weak=False)
    return catch_up


def _watchdog(
    app: StreamApp,
    settings: Settings,
    units: Units,
    topics: Iterable[str],
    owned: Callable[[], set[int]],
    meter: Meter,
    calls: Calls | None = None,
) -> Watchdog:
    """Return what ends the process for what stands still in an app, and let the meter tell of what waits."""
    topics = tuple(topics)
    behind = Behind(partial(AIOKafkaConsumer, **kafka.client_options(settings)), topics, position_of(app))

    def overdue() -> list[Overdue]:
        now = time.monotonic()
        return [Overdue(what, over_s) for what, over_s in calls.overdue(now)] if calls is not None else []

    def joining() -> object | None:
        if app.should_stop or hardening.replaying(app) or (app.tables.actives_ready and not app.rebalancing):
            return None
        inner: Any = getattr(getattr(app._consumer, "_thread", None), "_consumer", None)
        # While no broker answers there is nobody to join.
        if inner is not None and inner._coordinator.coordinator_id is None:
            return None
        return app.rebalancing_count, app.consumer_generation_id

    watchdog = Watchdog(
        joining=joining,
        name=str(app.conf.id),
        inputs=units,
        owned=owned,
        behind=behind,
        overdue=overdue,
        limit_s=settings.limits.watchdog_s,
        fatal=fatal,
    )

    async def watch() -> None:
        try:
            await watchdog.run()
        finally:
            await behind.close()

    app.task(watch)
    short = {topic: topic.removeprefix(f"{settings.namespace}.") for topic in topics}

    def refresh() -> None:
        waited, here = units.oldest(time.monotonic()), owned()
        for topic, plain in short.items():
            meter.oldest_unacked(plain, {partition: waited.get((topic, partition), 0.0) for partition in here})

    meter.asked.append(refresh)
    return watchdog


def _control(settings: Settings, names: TopicNames) -> Control:
    return Control(_reader(settings), names.control, settings.partitions, clock=now_ms, fatal=fatal)


def _suppressions(settings: Settings, names: TopicNames) -> Suppressions:
    hashing = settings.rules.address_hash
    topic = names.suppressions
    return Suppressions(_reader(settings), topic, settings.partitions, clock=now_ms, hashing=hashing, fatal=fatal)


def _templates(app: StreamApp, settings: Settings, names: TopicNames, shelf: Shelf, meter: Meter) -> Templates | None:
    """Keep a shelf as the folder of templates is; without one, return what keeps it as their topic is."""
    if settings.rules.templates_dir is None:
        return Templates(
            _reader(settings), names.templates, settings.partitions, shelf=shelf, told=meter.templates, fatal=fatal
        )
    watch = Watch(template_folder(settings), shelf, meter.templates)
    watch.start()
    app.task(_or_fatal(watch.run, "looking at the templates failed"))
    return None


def _replies(settings: Settings, names: TopicNames) -> Replies | None:
    """Return what knows who is waited for, where answers can come in."""
    twilio, cloud = settings.twilio, settings.cloud
    texted = TEXTED if twilio.callback_url else frozenset({Channel.WHATSAPP} if cloud.app_secret else ())
    if not texted:
        return None
    return Replies(
        _reader(settings),
        names.replies,
        settings.partitions,
        clock=now_ms,
        hashing=settings.rules.address_hash,
        hint=twilio.reply_confirm,
        fatal=fatal,
        texted=texted,
    )


def _reader(settings: Settings) -> Callable[..., AIOKafkaConsumer]:
    options = kafka.client_options(settings)

    def consumer(**more: Any) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(**options, **more)

    return consumer


def _ledger(
    settings: Settings,
    core: Core,
    store: Callable[[], due_store.DueStore],
    owned: Callable[[], set[int]],
    control: Control,
    meter: Meter,
) -> Comparing:
    names, options = TopicNames.of(settings), kafka.client_options(settings)

    def say(counts: Mapping[OrphanKind, int], behind_s: float) -> None:
        meter.orphans({kind.value: counts.get(kind, 0) for kind in OrphanKind}, behind_s)

    return Comparing(
        partial(AIOKafkaConsumer, **options),
        group=GroupOffsets(options, names.core_app),
        sources=lambda: sources_of(names, core.topic_ids),
        audit=names.audit,
        changelog=names.reminders_changelog,
        partitions=settings.partitions,
        owned=owned,
        rows=lambda partition, keys: store().get_rows(partition, keys),
        scan=lambda partition, start, limit: store().scan_rows(partition, start, limit),
        held=lambda channel: control.channel_held(channel.value),
        rules=core.rules,
        say=say,
        clock=now_ms,
        share=settings.limits.ledger_percent / 100,
    )


def _renewable(
    configured: registry.ChannelSettings,
) -> tuple[dict[Channel, Renewable], dict[Channel, tuple[Renewable, ...]]]:
    """Return the adapters of all channels, and those beside them, so that their secrets can be changed."""
    first = {channel: renewable(one) for channel, one in registry.configured_channels(configured).items()}
    beside = registry.configured_beside(configured)
    return first, {channel: tuple(renewable(one) for one in some) for channel, some in beside.items()}


def _renew_channels(
    app: StreamApp,
    settings: Settings,
    configured: registry.ChannelSettings,
    adapters: Sequence[Renewable],
    meter: Meter,
) -> None:
    """Let the adapters go by what the files of their secrets hold now."""
    alerts = Alerts(settings.circuits.alert_webhook)

    async def changed(after: Settings) -> None:
        _warn_late(settings, after)
        new = {(one.channel, one.name): one for one in registry.every_adapter(_channels(after))}
        pairs = [
            (adapter, one) for adapter in adapters if (one := new.get((adapter.channel, adapter.name))) is not None
        ]
        opened: list[ChannelAdapter] = []
        try:
            for _, one in pairs:
                await one.open()
                opened.append(one)
        except OSError:
            for one in opened:
                await one.close()
            raise
        for adapter, one in pairs:
            await adapter.swap(one)

    def told(faults: list[str]) -> None:
        meter.secrets(len(faults))
        alerts.secrets(faults)

    renewal = Renewal(settings, changed, told)
    for adapter in adapters:
        adapter.rejected = renewal.hurry
    app.task(_or_fatal(renewal.run, "looking at the files of secrets failed"))


def _news_secrets(app: StreamApp, settings: Settings) -> NewsSecrets:
    """Return by what those are known who send us news, as the files of secrets say."""
    secrets = NewsSecrets(settings)

    async def changed(after: Settings) -> None:
        _warn_late(settings, after)
        secrets.renew(after)

    app.task(_or_fatal(Renewal(settings, changed).run, "looking at the files of secrets failed"))
    return secrets


def _warn_late(settings: Settings, after: Settings) -> None:
    """Say which secrets have changed and are not followed."""
    if late := restart_only(settings, after):
        log.warning("%s changed: it takes effect with a restart", ", ".join(late))


def build_core(settings: Settings, meter: Meter, observer: Observer | None = None) -> StreamApp:
    """Return the core app: intake, timer, dispatch, settle, rearm over the reminders table."""
    names = TopicNames.of(settings)
    app = _faust(settings, names.core_app, "core", settings.web.port)
    table = app.Table(REMINDERS_TABLE, key_type=bytes, value_type=bytes, partitions=settings.partitions)
    readers: dict[str, Reader] = {
        **dict.fromkeys(names.intakes, intake.read),
        names.outcomes: settle.read_outcome,
        names.receipts: settle.read_receipt,
        **dict.fromkeys(names.retry.values(), rearm.read),
    }
    ids = dict.fromkeys(readers, "")
    schema_registry = _registry(settings)
    control = _control(settings, names)
    replies = _replies(settings, names)
    core = Core(
        topics=CoreTopics(
            names.reminders,
            names.outcomes,
            names.receipts,
            names.retry,
            names.requests,
            names.audit,
            names.status,
            names.dlq,
            names.prefixes,
        ),
        partitions=settings.partitions,
        topic_ids=ids,
        rules=_rules(settings),
        retry=RetryPolicy(
            max_attempts=settings.retry.max_attempts, base_s=settings.retry.base_s, cap_s=settings.retry.cap_s
        ),
        maybe_sent=settings.rules.maybe_sent,
        codec=Codec(schema_registry),
        meter=meter,
        sealing=Sealing.of(settings.rules.seal_keys),
        holding=control.holding,
        skipped=control.skipped,
        categories=_categories(settings),
        shut=circuits.shut_by(control.circuits),
        replies=replies,
    )
    store = _store(table)
    publisher = Publisher(kafka.client_options(settings), timeout_s=settings.fencing.publish_s)
    fence = Fence(app, settings.fencing.limit_s)
    units = _units(
        app,
        CoreLogic(core, readers),
        store,
        names.reminders_changelog,
        publisher,
        fence.check,
        observer or MeterObserver(meter),
    )
    _attach(app, units, readers, settings.partitions)
    timer = _timer(
        app,
        units,
        store,
        names.reminders_changelog,
        settings.limits.admission_window,
        meter,
        held=lambda channel: control.channel_held(channel.value),
        most=lambda channel: control.circuits.allowance(channel.value),
        count=settings.partitions,
    )
    control.shifted.append(timer.recount)

    def paced(record: ControlRecord) -> None:
        if record.kind == holds.RELEASE and holds.is_channel(record.scope):
            takes = [c for c in CHANNEL_CODES if holds.takes(record.scope, holds.Subject(channel=c.value))]
            timer.pace(record.scope, takes, record.rate_per_s, record.at)

    control.changed.append(paced)

    async def drain(_app: AppT, **_: Any) -> None:
        now = now_ms()
        rate = settings.limits.catch_up_per_s
        timer.pace(CATCHING_UP, CHANNEL_CODES, rate, now - LATE_MS, until=now + CATCHING_UP_MS)

    if settings.limits.catch_up_per_s:
        app.on_rebalance_complete.connect(cast("Any", drain), weak=False)
    control.shifted.append(lambda: meter.held(record.scope for record in control.active()))
    owned = _owned(app, names.reminders_changelog)
    releases = Releases(store=store, give=units.give, owned=owned, partitions=settings.partitions, clock=now_ms)
    control.changed.append(releases.changed)

    closed_again = circuits.of_core(control.circuits, timer, releases, settings.limits.catch_up_per_s)

    def walk_again() -> None:
        for record in control.released():
            releases.changed(record)
        closed_again()

    catch_up = _catch_up(app, units, readers, names.reminders_changelog)
    catch_up.reached.append(timer.wake)
    catch_up.reached.append(walk_again)
    timer.partitions = catch_up.ready
    new_tzdata = NewTzdata(store=store, give=units.give, ready=catch_up.ready, stamp=core.rules.tzdata)
    catch_up.reached.append(new_tzdata.wake)
    hardening.hooks(app).before_revoke.append(new_tzdata.forget)
    app.task(_or_fatal(new_tzdata.run, "placing rows by new time zone data failed"))
    hardening.hooks(app).before_revoke.append(units.idle)
    hardening.hooks(app).replayed.append(lambda replayed: meter.recovery(replayed.seconds))
    options = kafka.client_options(settings)
    app.task(OpenLetters(partial(AIOKafkaConsumer, **options), names.dlq, owned, meter.dlq_open).run)
    app.task(Parked(settings, partial(AIOKafkaConsumer, **options), owned).run)
    watchdog = _watchdog(app, settings, units, readers, owned, meter)
    if settings.limits.ledger_percent:
        app.task(_ledger(settings, core, store, owned, control, meter).run)
    configured = providers.names(registry.every_adapter(_channels(settings)))
    shown = providers.listed(control.circuits, configured, now_ms)
    exposed, secrets = Exposed(meter, store, owned, timer.waiting), _news_secrets(app, settings)
    serve_core(app, settings, exposed, owned, store, watchdog.stuck, shown, replies, secrets)
    app.parts = Parts(
        publisher, units, timer, fence, ids, control, releases=releases, registry=schema_registry, replies=replies
    )
    return app


def build_delivery(settings: Settings, meter: Meter, observer: Observer | None = None) -> StreamApp:
    """Return the delivery app: recipients, gate and channels over the recipients table."""
    names = TopicNames.of(settings)
    app = _faust(settings, names.delivery_app, "delivery", settings.web.delivery_port)
    table = app.Table(RECIPIENTS_TABLE, key_type=bytes, value_type=bytes, partitions=settings.partitions)
    store = _store(table)
    configured = _channels(settings)
    adapters, spares = _renewable(configured)
    inputs = (names.recipients, names.requests, *names.channels.values())
    ids = dict.fromkeys(inputs, "")
    schema_registry = _registry(settings)
    control = _control(settings, names)
    suppressions = _suppressions(settings, names)
    templates = Shelf()
    replies = _replies(settings, names)
    work = Delivering(
        topics=DeliveryTopics(names.recipients, names.requests, names.channels, names.outcomes, names.audit, names.dlq),
        partitions=settings.partitions,
        topic_ids=ids,
        retention_ms=int(settings.rules.retention_s * 1000),
        review_ms=int(settings.rules.review_s * 1000),
        room=WAITING_ROOM,
        adapters=adapters,
        spares=spares,
        codec=Codec(schema_registry),
        meter=meter,
        clock=now_ms,
        send_only_to=send_only.read(settings.rules.send_only_to)[0],
        skipped=control.skipped,
        categories=_categories(settings),
        suppressions=suppressions,
        references=References(settings.callback_keys),
        sealing=Sealing.of(settings.rules.seal_keys),
        seal_contacts=settings.rules.seal_contacts,
        bounces=bounces_of(settings),
        mail_links=MailLinks(links_of(settings), settings.rules.address_hash, settings.smtp.unsubscribe_address),
        templates=templates,
        foot=Foot(settings.rules.sender_name, settings.rules.answer_hint),
        replies=replies,
        prices=_prices(settings),
    )
    published = _templates(app, settings, names, templates, meter)
    publisher = Publisher(kafka.client_options(settings), timeout_s=settings.fencing.publish_s)
    fence = Fence(app, settings.fencing.limit_s)
    owned = _owned(app, names.recipients_changelog)
    watch = observer or MeterObserver(meter)
    control.shifted.append(lambda: meter.held(record.scope for record in control.active()))
    every = [*adapters.values(), *(spare for some in spares.values() for spare in some)]
    _renew_channels(app, settings, configured, every, meter)
    breakers = circuits.of_delivery(settings, control, names.control, publisher, owned, every, meter, now_ms, fatal)
    app.task(_or_fatal(breakers.run, "the breakers failed"))
    calls = Calls(
        work,
        store=store,
        publish=publisher.publish,
        owns=lambda partition: partition in owned(),
        fence=fence.check,
        observer=watch,
        control=control,
        fatal=fatal,
        breakers=breakers,
        pacing=circuits.pacing(settings, owned, now_ms),
        quotas=quota.parse(settings.circuits.quotas),
    )
    retractions = Retractions(
        work, publisher.publish, lambda channel, name: control.holding(holds.Subject(channel.value, name)) is not None
    )
    readers: dict[str, DeliveryReader] = {
        names.recipients: gate.read_recipient,
        names.requests: lambda work, record: gate.read_request(work, record, retractions.job),
        **dict.fromkeys(names.channels.values(), calls.read),
    }
    logic = DeliveryLogic(work, readers, fired=calls.fired, said=calls.said, renew=lambda word: rewrap.job(work, word))
    units = _units(app, logic, store, names.recipients_changelog, publisher, fence.check, watch)
    calls.backlogs = units
    _attach(app, units, inputs, settings.partitions)
    timer = _timer(app, units, store, names.recipients_changelog, settings.limits.admission_window, meter)

    catch_up = _catch_up(app, units, (names.requests,), names.recipients_changelog)
    catch_up.reached.append(calls.summon)
    calls.caught_up = catch_up.caught_up
    rewrapping = rewrap.Rewrapping(work, store=store, give=units.give, ready=catch_up.ready, say=meter.sealed_otherwise)
    catch_up.reached.append(rewrapping.wake)
    hardening.hooks(app).before_revoke.append(rewrapping.forget)
    app.task(_or_fatal(rewrapping.run, "bringing sealed rows up to the master key failed"))

    async def give_up() -> None:
        await units.idle()
        await calls.drain(DRAIN_S)
        await retractions.drain(RETRACT_S)
        await units.idle()
        calls.given_up = True

    async def resumed(_app: AppT, **_: Any) -> None:
        calls.resume()

    hardening.hooks(app).before_revoke.append(give_up)
    hardening.hooks(app).replayed.append(lambda replayed: meter.recovery(replayed.seconds))
    watchdog = _watchdog(app, settings, units, inputs, owned, meter, calls)
    shown = providers.listed(control.circuits, providers.names(every), now_ms)
    serve_delivery(app, settings, meter, owned, watchdog.stuck, shown, store, suppressions, work.categories)
    app.on_rebalance_complete.connect(cast("Any", resumed), weak=False)
    app.parts = Parts(
        publisher,
        units,
        timer,
        fence,
        ids,
        control,
        calls,
        every,
        suppressions,
        registry=schema_registry,
        templates=published,
        replies=replies,
    )
    return app


def run_worker(settings: Settings, role: Role) -> NoReturn:
    """Run a worker until it is told to stop (exit code 0) or cannot go on (70: the supervisor starts it anew)."""
    meter = Meter(CollectorRegistry())
    meter.tzdata(zones.release(), zones.no_older_than().timestamp())
    if zones.may_be_old(datetime.now(UTC)):
        log.warning("time zone data %s may be more than six months old; see docs/time.md", zones.release())
    apps: list[StreamApp] = []
    if role is not Role.DELIVERY:
        apps.append(build_core(settings, meter))
    if role is not Role.CORE:
        apps.append(build_delivery(settings, meter))
    serve(apps)


def serve(apps: Sequence[StreamApp]) -> NoReturn:
    """Run apps in one process and exit with it; a crash in one ends all."""
    loop_watch = LoopWatch(apps[0].settings.limits.watchdog_s, fatal)
    apps[0].task(loop_watch.turn)
    worker = StreamWorker(*apps, override_logging=False, redirect_stdouts=False)
    worker.spinner = None
    # A unit makes some 100,000 objects that live until it is done, hardly one of them in a cycle. As Python sets it,
    # the collector goes through them again and again: a sixth of what an event costs.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)
    worker.execute_from_commandline()
