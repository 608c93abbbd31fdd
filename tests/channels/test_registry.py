"""Channels that are configured are there; others are absent."""

from dataclasses import replace

import pytest

from channels.cloud_settings import CloudSettings
from channels.email import EmailChannel, SmtpSettings, Tls
from channels.registry import (
    FACTORIES,
    ChannelSettings,
    close_channels,
    configured_beside,
    configured_channels,
    every_adapter,
    open_channels,
)
from channels.sendgrid_settings import SendGridSettings
from channels.twilio_settings import TwilioSettings
from schemas.names import DELIVERY_CHANNELS, Channel

EMAIL = SmtpSettings("127.0.0.1", "reminders@service.example", tls=Tls.NONE)


def test_every_line_makes_the_channel_that_it_names() -> None:
    made = configured_channels(ChannelSettings(email=EMAIL))
    assert {channel: adapter.channel for channel, adapter in made.items()} == {Channel.EMAIL: Channel.EMAIL}
    assert set(FACTORIES) <= set(DELIVERY_CHANNELS)


def test_a_second_mail_server_stands_beside_the_first_under_its_own_name() -> None:
    settings = ChannelSettings(email=EMAIL, email_beside=replace(EMAIL, provider="smtp-2", port=2525))
    assert [adapter.name for adapter in every_adapter(settings)] == ["smtp", "smtp-2"]
    assert [(c, [a.name for a in some]) for c, some in configured_beside(settings).items()] == [
        (Channel.EMAIL, ["smtp-2"])
    ]
    assert configured_beside(ChannelSettings(email=EMAIL)) == {}


def test_two_ways_to_whatsapp_stand_side_by_side_in_the_order_that_is_configured() -> None:
    twilio = TwilioSettings(account_sid="AC" + "0" * 32, auth_token="t", whatsapp_from="+12015550100")
    cloud = CloudSettings(phone_id="106540352242922", token="t")
    both = ChannelSettings(twilio=twilio, cloud=cloud)
    assert [adapter.name for adapter in every_adapter(both)] == ["twilio", "meta"]
    assert [adapter.name for adapter in every_adapter(replace(both, first=("meta",)))] == ["meta", "twilio"]
    alone = ChannelSettings(cloud=cloud)
    assert [adapter.name for adapter in configured_channels(alone).values()] == ["meta"]
    assert configured_beside(alone) == {}


def test_sendgrid_stands_beside_mail_servers_or_alone() -> None:
    sendgrid = SendGridSettings(api_key="k", sender="reminders@service.example")
    second = replace(EMAIL, provider="smtp-2", port=2525)
    every = ChannelSettings(email=EMAIL, email_beside=second, sendgrid=sendgrid)
    assert [adapter.name for adapter in every_adapter(every)] == ["smtp", "smtp-2", "sendgrid"]
    first = replace(every, first=("smtp-2", "sendgrid"))
    assert [adapter.name for adapter in every_adapter(first)] == ["smtp-2", "sendgrid", "smtp"]
    assert [a.name for a in every_adapter(ChannelSettings(sendgrid=sendgrid))] == ["sendgrid"]


async def test_a_channel_without_settings_is_absent() -> None:
    assert await open_channels(ChannelSettings()) == {}


async def test_what_is_opened_can_be_closed() -> None:
    channels = await open_channels(ChannelSettings(email=EMAIL))
    assert list(channels) == [Channel.EMAIL]
    await close_channels(channels)


async def test_a_channel_that_cannot_be_opened_closes_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    class First(EmailChannel):
        async def close(self) -> None:
            closed.append("first")

    class Second(EmailChannel):
        async def open(self) -> None:
            raise OSError("no such file")

    factories = {Channel.EMAIL: lambda _: First(EMAIL), Channel.SMS: lambda _: Second(EMAIL)}
    monkeypatch.setattr("channels.registry.FACTORIES", factories)
    with pytest.raises(OSError, match="no such file"):
        await open_channels(ChannelSettings(email=EMAIL))
    assert closed == ["first"]
