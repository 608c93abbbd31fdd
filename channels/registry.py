"""Which channels there are: one line each. A channel without settings is absent."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from channels.base import ChannelAdapter
from channels.cloud_settings import CloudSettings
from channels.email import EmailChannel, SmtpSettings
from channels.push import PushChannel, PushSettings
from channels.sendgrid import SendGridChannel
from channels.sendgrid_settings import SendGridSettings
from channels.sms import SmsChannel
from channels.twilio_settings import TwilioSettings
from channels.voice import VoiceChannel
from channels.webhook import WebhookChannel, WebhookSettings
from channels.whatsapp import WhatsAppChannel
from channels.whatsapp_cloud import WhatsAppCloudChannel
from schemas.names import Channel


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """The settings of every channel; None where it is not configured.

    ``first``: names of providers that come before the others of their channels.
    """

    email: SmtpSettings | None = None
    email_beside: SmtpSettings | None = None
    sendgrid: SendGridSettings = field(default_factory=SendGridSettings)
    twilio: TwilioSettings = field(default_factory=TwilioSettings)
    cloud: CloudSettings = field(default_factory=CloudSettings)
    push: PushSettings | None = None
    webhook: WebhookSettings | None = None
    first: tuple[str, ...] = ()


def _mails(settings: ChannelSettings) -> tuple[ChannelAdapter, ...]:
    servers = (settings.email, settings.email_beside)
    found: list[ChannelAdapter] = [EmailChannel(server) for server in servers if server is not None]
    return _ordered(settings, found + ([SendGridChannel(settings.sendgrid)] if settings.sendgrid.email else []))


def _whatsapps(settings: ChannelSettings) -> tuple[ChannelAdapter, ...]:
    found: list[ChannelAdapter] = [WhatsAppChannel(settings.twilio)] if settings.twilio.whatsapp else []
    return _ordered(settings, found + ([WhatsAppCloudChannel(settings.cloud)] if settings.cloud.whatsapp else []))


def _ordered(settings: ChannelSettings, adapters: Sequence[ChannelAdapter]) -> tuple[ChannelAdapter, ...]:
    """Return the providers of one channel in the order to try: as named, then as they come."""
    named = settings.first
    return tuple(sorted(adapters, key=lambda one: named.index(one.name) if one.name in named else len(named)))


FACTORIES: Mapping[Channel, Callable[[ChannelSettings], ChannelAdapter | None]] = {
    Channel.EMAIL: lambda settings: next(iter(_mails(settings)), None),
    Channel.SMS: lambda settings: SmsChannel(settings.twilio) if settings.twilio.sms else None,
    Channel.WHATSAPP: lambda settings: next(iter(_whatsapps(settings)), None),
    Channel.VOICE: lambda settings: VoiceChannel(settings.twilio) if settings.twilio.voice else None,
    Channel.PUSH: lambda settings: PushChannel(settings.push) if settings.push is not None else None,
    Channel.WEBHOOK: lambda settings: WebhookChannel(settings.webhook) if settings.webhook is not None else None,
}


#: What is beside the adapter of a channel, in the order to try: other providers of the same.
BESIDE: Mapping[Channel, Callable[[ChannelSettings], tuple[ChannelAdapter, ...]]] = {
    Channel.EMAIL: lambda settings: _mails(settings)[1:],
    Channel.WHATSAPP: lambda settings: _whatsapps(settings)[1:],
}


def configured_beside(settings: ChannelSettings) -> dict[Channel, tuple[ChannelAdapter, ...]]:
    """Return the further adapters of each channel that has any, not yet open."""
    made = {channel: make(settings) for channel, make in BESIDE.items()}
    return {channel: adapters for channel, adapters in made.items() if adapters}


def every_adapter(settings: ChannelSettings) -> list[ChannelAdapter]:
    """Return the adapters of all providers of all channels, not yet open."""
    beside = configured_beside(settings)
    return [*configured_channels(settings).values(), *(one for adapters in beside.values() for one in adapters)]


def configured_channels(settings: ChannelSettings) -> dict[Channel, ChannelAdapter]:
    """Return an adapter for each configured channel, not yet open."""
    made = {channel: make(settings) for channel, make in FACTORIES.items()}
    return {channel: adapter for channel, adapter in made.items() if adapter is not None}


async def open_channels(settings: ChannelSettings) -> dict[Channel, ChannelAdapter]:
    """Return the configured adapters, all open; if one cannot be opened, those before it are closed again."""
    opened: dict[Channel, ChannelAdapter] = {}
    try:
        for channel, adapter in configured_channels(settings).items():
            await adapter.open()
            opened[channel] = adapter
    except BaseException:
        await close_channels(opened)
        raise
    return opened


async def close_channels(channels: Mapping[Channel, ChannelAdapter]) -> None:
    """Close what ``open_channels`` opened."""
    for adapter in channels.values():
        await adapter.close()
