"""The views of a real app: ports made from what the app has. The composition root calls these."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agents.publisher import partition_of
from agents.suppressions import Desk, Suppressions
from app.callers import Callers, networks
from app.config import Role, Settings
from app.kafka import client_options, producer_options
from app.renewal import NewsSecrets
from app.template_preview import words_of
from app.tokens import Keyring
from app.topics import TopicNames
from app.web.console.desk import KafkaDesk
from app.web.mail_log import KafkaMails
from app.web.outlet import KafkaOutlet
from app.web.ports import (
    CallbackPorts,
    CloudPorts,
    CorePorts,
    DeliveryPorts,
    EventPorts,
    LinkPorts,
    MailPorts,
    Metrics,
    PreferencePorts,
    Waits,
)
from app.web.replying import Replying
from app.web.routing import GroupOwners, RowStore, StoreRows, forward
from app.web.views import attach_core, attach_delivery
from app.web.vitals import Vitals
from channels import send_only
from channels.addresses import a_label
from schemas import ids
from schemas.bounces import BounceAddresses
from schemas.links import Links
from schemas.names import Channel
from schemas.records import ControlRecord, RecipientProfile
from schemas.references import References
from schemas.sealing import Sealing, Unopened
from tables import due, profiles
from tables.consent import DAY_MS, Categories

#: Holds that ``/ready`` names.
MOST_HELD = 100


#: Faust's settings under which none of its own pages shows rows, workers or statistics.
FAUST_PAGES_OFF = {
    "web_tables_enabled": False,
    "web_router_enabled": False,
    "web_stats_enabled": False,
    "web_graph_enabled": False,
    "web_metrics_enabled": False,
}


def serve_core(
    app: Any,
    settings: Settings,
    meter: Metrics,
    owned: Callable[[], set[int]],
    store: Callable[[], RowStore],
    stuck: Callable[[], list[str]],
    providers: Callable[[], list[dict[str, object]]],
    waits: Waits | None = None,
    secrets: NewsSecrets | None = None,
) -> Vitals:
    """Give a core app its views. ``owned``: partitions that are assigned, recovered and at work; ``stuck``: what does
    not move; ``waits``: what waits for a texted answer; ``secrets``: by which news are known, None: by those of
    the settings."""
    vitals = _vitals(app, settings, Role.CORE, owned, stuck)
    names = TopicNames.of(settings)
    outlet = KafkaOutlet(
        producer_options(settings), names.reminders, settings.partitions, timeout_s=settings.fencing.publish_s
    )

    def control() -> Iterable[ControlRecord]:
        records: Mapping[str, ControlRecord] = app.parts.control.records
        return records.values()

    controls = KafkaOutlet(
        producer_options(settings), names.control, settings.partitions, timeout_s=settings.fencing.publish_s
    )
    secrets = secrets or NewsSecrets(settings)
    callbacks, lines = _callbacks(settings, names, waits, secrets)
    suppressions, receipts = (
        KafkaOutlet(producer_options(settings), topic, settings.partitions, timeout_s=settings.fencing.publish_s)
        for topic in (names.suppressions, names.receipts)
    )
    mails = KafkaMails(
        client_options(settings), names.channels[Channel.EMAIL], settings.partitions, settings.fencing.publish_s
    )
    events, more_lines = _events(settings, names)
    lines += more_lines
    web = settings.web
    ports = CorePorts(
        vital=vitals,
        metrics=meter,
        keys=_keys(settings),
        rows=StoreRows(
            store=store,
            at_work=owned,
            partitions=settings.partitions,
        ),
        owners=GroupOwners(
            distribution=lambda: app.assignor.changelog_distribution,
            changelog=names.reminders_changelog,
            partitions=settings.partitions,
            own=str(app.conf.canonical_url),
        ),
        forward=forward,
        outlet=outlet,
        partitions=settings.partitions,
        desk=KafkaDesk(settings, control, controls),
        quota_per_minute=settings.web.quota_per_minute,
        callbacks=callbacks,
        events=events,
        links=LinkPorts(links_of(settings), suppressions) if web.public_url else None,
        mails=_mails(settings, mails, receipts, suppressions, secrets),
        providers=providers,
        callers=Callers(web.caller_per_minute, networks(web.proxies), time.monotonic),
        words=words_of(settings),
        beside=f"http://{_beside(web.bind)}:{web.delivery_port}" if web.public_url else "",
    )
    attach_core(app, ports)

    async def close(_app: object) -> None:
        for line in (outlet, controls, suppressions, receipts, *lines):
            await line.close()
        await mails.close()

    app.web.web_app.on_cleanup.append(close)
    return vitals


def bounces_of(settings: Settings) -> BounceAddresses:
    """Return what makes and reads the envelope senders of mails."""
    return BounceAddresses(settings.callback_keys, a_label(settings.smtp.bounce_domain))


def _mails(
    settings: Settings, mails: KafkaMails, receipts: KafkaOutlet, suppressions: KafkaOutlet, secrets: NewsSecrets
) -> MailPorts | None:
    """Return what mails that come back need, where a server may pass them on."""
    if not settings.smtp.callback_tokens:
        return None
    return MailPorts(
        tokens=lambda: secrets.mail,
        addresses=bounces_of(settings),
        links=links_of(settings),
        mails=mails,
        receipts=receipts,
        suppressions=suppressions,
        desk=Desk(settings.rules.address_hash),
    )


def links_of(settings: Settings) -> Links:
    """Return what makes and reads the links in messages."""
    return Links(settings.callback_keys, settings.web.public_url, settings.web.link_days * DAY_MS)


def _callbacks(
    settings: Settings, names: TopicNames, waits: Waits | None, secrets: NewsSecrets
) -> tuple[CallbackPorts | None, list[KafkaOutlet | Replying]]:
    """Return what providers' news need, where a provider is told of this server, and what is closed at the end."""
    twilio, cloud = settings.twilio, settings.cloud
    if not (twilio.callback_url or cloud.app_secret) or waits is None:
        return None, []
    replying = Replying(lambda: secrets.cloud) if cloud.app_secret else None
    receipts, suppressions, replies = (
        KafkaOutlet(producer_options(settings), topic, settings.partitions, timeout_s=settings.fencing.publish_s)
        for topic in (names.receipts, names.suppressions, names.replies)
    )
    ports = CallbackPorts(
        base=twilio.callback_url,
        twilio_tokens=secrets.twilio,
        references=References(settings.callback_keys),
        receipts=receipts,
        suppressions=suppressions,
        desk=Desk(settings.rules.address_hash),
        waits=waits,
        replies=replies,
        help=twilio.reply_help,
        cloud=CloudPorts(cloud.phone_id, secrets.meta, secrets.verify, replying) if replying else None,
    )
    return ports, [receipts, suppressions, replies, *([replying] if replying else [])]


def _events(settings: Settings, names: TopicNames) -> tuple[EventPorts | None, list[KafkaOutlet]]:
    """Return what SendGrid's news need, where they are believed, and what is closed at the end."""
    if not settings.sendgrid.event_keys:
        return None, []
    receipts, suppressions = (
        KafkaOutlet(producer_options(settings), topic, settings.partitions, timeout_s=settings.fencing.publish_s)
        for topic in (names.receipts, names.suppressions)
    )
    ports = EventPorts(
        keys=settings.sendgrid.event_keys,
        references=References(settings.callback_keys),
        receipts=receipts,
        suppressions=suppressions,
        desk=Desk(settings.rules.address_hash),
    )
    return ports, [receipts, suppressions]


def serve_delivery(
    app: Any,
    settings: Settings,
    meter: Metrics,
    owned: Callable[[], set[int]],
    stuck: Callable[[], list[str]],
    providers: Callable[[], list[dict[str, object]]],
    store: Callable[[], RowStore],
    suppressed: Suppressions,
    categories: Categories,
) -> Vitals:
    """Give a delivery app its views. ``store``: of the recipients; ``suppressed``: the addresses that must not be
    used."""
    vitals = _vitals(app, settings, Role.DELIVERY, owned, stuck)
    names, web = TopicNames.of(settings), settings.web
    recipients, suppressions = (
        KafkaOutlet(producer_options(settings), topic, settings.partitions, timeout_s=settings.fencing.publish_s)
        for topic in (names.recipients, names.suppressions)
    )
    preferences = PreferencePorts(
        links=links_of(settings),
        profiles=_Profiles(store, owned, settings.partitions, Sealing.of(settings.rules.seal_keys)),
        owners=GroupOwners(
            distribution=lambda: app.assignor.changelog_distribution,
            changelog=names.recipients_changelog,
            partitions=settings.partitions,
            own=str(app.conf.canonical_url),
        ),
        forward=forward,
        recipients=recipients,
        suppressions=suppressions,
        desk=Desk(settings.rules.address_hash),
        categories=categories,
        why=suppressed.why,
        why_known=suppressed.fresh,
    )
    ports = DeliveryPorts(
        vital=vitals,
        metrics=meter,
        keys=_keys(settings),
        providers=providers,
        preferences=preferences if web.public_url else None,
        callers=Callers(web.caller_per_minute, networks(web.proxies), time.monotonic),
    )
    attach_delivery(app, ports)

    async def close(_app: object) -> None:
        await recipients.close()
        await suppressions.close()

    app.web.web_app.on_cleanup.append(close)
    return vitals


@dataclass(frozen=True, slots=True)
class _Profiles:
    """Recipients out of this worker's own store."""

    store: Callable[[], RowStore]
    at_work: Callable[[], set[int]]
    partitions: int
    sealing: Sealing

    def profile(self, recipient_id: str) -> RecipientProfile | None:
        """Return what is known of a recipient. Raises LookupError while its partition is not recovered here, or its
        contacts do not open here."""
        partition = partition_of(recipient_id.encode(), self.partitions)
        if partition not in self.at_work():
            raise LookupError(partition)
        raw = self.store().get_rows(partition, [ids.profile_key(recipient_id)])[0]
        try:
            return None if raw is None else profiles.opened(raw[due.HEADER.size :], recipient_id, self.sealing)
        except Unopened as why:
            raise LookupError(partition) from why


def _beside(bind: str) -> str:
    """Return the host of the delivery worker on this machine, as a URL has it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)  # noqa: S104 - where it listens, not where to listen
    return f"[{host}]" if ":" in host else host


def _keys(settings: Settings) -> Keyring:
    return Keyring(settings.web.token, settings.web.tokens_file)


def _vitals(
    app: Any, settings: Settings, role: Role, owned: Callable[[], set[int]], stuck: Callable[[], list[str]]
) -> Vitals:
    def recovering() -> str:
        if app.should_stop:
            return "stopping"
        if app.rebalancing:
            return "the consumer group is rebalancing"
        if not app.tables.actives_ready:
            return "tables are being recovered"
        return ""

    entries = send_only.read(settings.rules.send_only_to)[0].entries

    def notices() -> dict[str, object]:
        held = sorted({record.scope for record in app.parts.control.active()})[:MOST_HELD]
        return ({"held": held} if held else {}) | ({"send_only_to": entries} if entries else {})

    return Vitals(
        role=role,
        busy_since=lambda: app.parts.units.busy_since,
        heard=lambda: float(app.parts.fence.age()),
        recovering=recovering,
        partitions=owned,
        notices=notices,
        stuck=stuck,
    )
