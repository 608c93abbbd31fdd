"""The commands for receivers of webhooks: a signed test call, and the secrets that they check signatures with."""

import sys
import time
import uuid

import click

from app.cli.failures import Failure, Misuse
from app.cli.root import load, run
from app.cli.show import console, plain
from app.config import Settings


@click.group()
def webhook() -> None:
    """Call a receiver of webhooks for a test, or show the secrets that it checks signatures with."""


@webhook.command()
@click.argument("url")
@click.option("--text", default="A test of this webhook.", help="What it says.")
def test(url: str, text: str) -> None:
    """Send a signed message of type reminder.test to URL, once, by the rules of a reminder.

    Exit code 1 where the receiver did not take it.
    """
    taken, line = run(_call(load(), url, text))
    console().print(plain(line), highlight=False, soft_wrap=True)
    if not taken:
        sys.exit(1)


@webhook.command()
@click.argument("url")
def secret(url: str) -> None:
    """Show the secrets of the receiver behind URL, newest first; give them to nobody else.

    Any library of Standard Webhooks takes them. Two are shown while a key of ours is being replaced: both are good.
    """
    from channels import webhook_rules  # noqa: PLC0415 - most commands need no channel

    settings = load()
    _needs_keys(settings)
    receiver = webhook_rules.endpoint(url)
    if receiver is None:
        raise Misuse(f"URL: {webhook_rules.EXPLANATIONS[webhook_rules.Reason.BAD_URL]}")
    for key in settings.webhook.keys:
        click.echo(webhook_rules.shown_secret(key, receiver.url))


def _needs_keys(settings: Settings) -> None:
    if not settings.webhook.keys:
        raise Failure("WEBHOOK_KEYS: is not set; choose one, such as of `openssl rand -hex 32`")


async def _call(settings: Settings, url: str, text: str) -> tuple[bool, str]:
    from app import build  # noqa: PLC0415 - brings Faust in
    from channels.base import Send  # noqa: PLC0415
    from channels.webhook import WebhookChannel  # noqa: PLC0415
    from channels.webhook_rules import TEST  # noqa: PLC0415
    from schemas.names import Channel, OutcomeKind  # noqa: PLC0415

    _needs_keys(settings)
    chosen = build._channels(settings).webhook
    if chosen is None:
        raise AssertionError("the keys are there")
    now = time.time_ns() // 1_000_000
    adapter = WebhookChannel(chosen)
    await adapter.open()
    try:
        message = Send(Channel.WEBHOOK, url, f"test-{uuid.uuid4().hex}", 1, now, now, now + 60_000, text=text)
        outcome = await adapter.call(message, TEST)
    finally:
        await adapter.close()
    took = time.time_ns() // 1_000_000 - now
    status = f" {outcome.code}" if outcome.code else ""
    line = f"{outcome.kind.value.lower()}{status}: {outcome.detail} ({took} ms)"
    return outcome.kind in (OutcomeKind.ACCEPTED, OutcomeKind.DELIVERED, OutcomeKind.READ), line
