"""Which channels there are: one line each. A channel without settings is absent."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from channels.base import ChannelAdapter
from channels.email import EmailChannel, SmtpSettings
from channels.push import PushChannel, PushSettings
from channels.sms import SmsChannel
from channels.twilio_settings import TwilioSettings
from channels.voice import VoiceChannel
from channels.webhook import WebhookChannel, WebhookSettings
from channels.whatsapp import WhatsAppChannel
from schemas.names import Channel


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """The settings of every channel; None where it is not configured."""

    email: SmtpSettings | None = None
    email_beside: SmtpSettings | None = None
    twilio: TwilioSettings = field(default_factory=TwilioSettings)
    push: PushSettings | None = None
    webhook: WebhookSettings | None = None


FACTORIES: Mapping[Channel, Callable[[ChannelSettings], ChannelAdapter | None]] = {
    Channel.EMAIL: lambda settings: EmailChannel(settings.email) if settings.email is not None else None,
    Channel.SMS: lambda settings: SmsChannel(settings.twilio) if settings.twilio.sms else None,
    Channel.WHATSAPP: lambda settings: WhatsAppChannel(settings.twilio) if settings.twilio.whatsapp else None,
    Channel.VOICE: lambda settings: VoiceChannel(settings.twilio) if settings.twilio.voice else None,
    Channel.PUSH: lambda settings: PushChannel(settings.push) if settings.push is not None else None,
    Channel.WEBHOOK: lambda settings: WebhookChannel(settings.webhook) if settings.webhook is not None else None,
}


#: What is beside the adapter of a channel, in the order to try: other providers of the same.
BESIDE: Mapping[Channel, Callable[[ChannelSettings], tuple[ChannelAdapter, ...]]] = {
    Channel.EMAIL: lambda settings: (EmailChannel(settings.email_beside),) if settings.email_beside is not None else (),
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
