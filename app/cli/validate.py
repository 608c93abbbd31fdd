"""The command that says what intake would say."""

import time
from typing import Any

import click
import orjson
from rich.table import Table

from app import reasons, sparse
from app.cli.failures import Failure, Misuse
from app.cli.remind import when_text
from app.cli.root import load, run
from app.cli.show import console, plain
from app.config import Settings
from schemas.checks import Fault, check_recipient
from schemas.codec import Codec, RegistryUnavailable, Undecodable
from schemas.names import Channel
from schemas.records import RecipientEvent, ReminderEvent


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--recipient", is_flag=True, help="It is an event of topic recipients, not of reminders.")
@click.option("--why", is_flag=True, help="Also: what will be decided of it at each step, and by which rule.")
@click.option("--for", "for_", type=click.File("rb"), metavar="FILE", help="With --why: its recipient, as an event.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
def validate(
    file: click.utils.LazyFile, recipient: bool, why: bool, for_: click.utils.LazyFile | None, as_json: bool
) -> None:
    """Say what intake would say to the event in FILE (- reads standard input): Avro as on the wire, or sparse JSON.

    The reasons are those of the DLQ. Exits with 1 where the event would be refused.
    """
    if for_ is not None and not why:
        raise Misuse("--for: goes with --why")
    raw = file.read()
    kind: Any = RecipientEvent if recipient else ReminderEvent
    event, fault = _read(kind, raw)
    now = time.time_ns() // 1_000_000
    if event is not None and fault is None:
        from tables.admission import event_fault  # noqa: PLC0415 - brings what reads rules, which few commands need

        fault = check_recipient(event, now, now) if recipient else event_fault(event, now, now)
    lines: list[Any] = []
    if why and fault is None and isinstance(event, ReminderEvent):
        lines = _foretold(event, for_, now)
    if as_json:
        verdict: dict[str, Any] = {"ok": True} if fault is None else {"ok": False, **_fields(fault)}
        if why:
            told = [line.fields() for line in lines]
            verdict["why"] = (
                told if fault is None else [{"about": "intake", "words": _sentence(fault), "rule": "checks"}]
            )
        click.echo(orjson.dumps(verdict))
        if fault is not None:
            raise click.exceptions.Exit(1)
        return
    if fault is not None:
        value = f" ({fault.value})" if fault.value else ""
        if why:
            click.echo(_sentence(fault))
        raise Failure(plain(f"{fault.reason}: {fault.field or 'the event'}{value}; {fault.remedy}"))
    when = when_text(event, now, load()) if isinstance(event, ReminderEvent) else ""
    click.echo(f"ok: {event.action.value}{f', fires {when}' if when else ''}")
    if lines:
        table = Table(box=None, pad_edge=False, show_header=False)
        for line in lines:
            table.add_row(line.about, plain(line.words), line.rule)
        console().print(table)


def _sentence(fault: Any) -> str:
    """Return a fault's reason in words."""
    return reasons.EVENTS.get(str(fault.reason), "It is no JSON of an event.")


def _foretold(event: ReminderEvent, for_: click.utils.LazyFile | None, now: int) -> list[Any]:
    """Return what will become of an event, by the settings of this environment."""
    from app import categories, prices  # noqa: PLC0415 - these bring all that a worker knows, which few commands need
    from app.foretell import Installation, foretell  # noqa: PLC0415
    from app.template_preview import words_of  # noqa: PLC0415
    from channels.shelf import Shelf  # noqa: PLC0415
    from tables import recipients  # noqa: PLC0415
    from tables.consent import Categories  # noqa: PLC0415
    from tables.prices import NO_PRICES  # noqa: PLC0415
    from tables.transition import Arrival  # noqa: PLC0415

    settings = load()
    profile = None
    if for_ is not None:
        given, fault = _read(RecipientEvent, for_.read())
        wrong = fault or check_recipient(given, now, now)
        if wrong is not None:
            raise Misuse(plain(f"--for: {wrong.field or 'the event'}: {wrong.reason}; {wrong.remedy}"))
        if given.recipient_id != event.recipient_id:
            raise Misuse(
                plain(f"--for: is {given.recipient_id}, and the event is for {event.recipient_id or 'nobody'}")
            )
        profile, _ = recipients.apply(None, given, Arrival(now, now, "", 0, ""))
    rules = settings.rules
    try:
        shelf = Shelf(run(_templates(words_of(settings)))) if event.template else None
    except (Failure, OSError):
        shelf = None
    channels = configured(settings)
    names: dict[Channel, list[str]] = {}
    if rules.prices_file is not None:
        from app import build  # noqa: PLC0415 - brings Faust, which takes half a second
        from channels import registry  # noqa: PLC0415

        for adapter in registry.every_adapter(build._channels(settings)):
            names.setdefault(adapter.channel, []).append(adapter.name)
    here = Installation(
        categories.load(rules.categories_file) if rules.categories_file is not None else Categories(),
        rules.times(),
        rules.max_lateness_s,
        settings.retry.max_attempts,
        channels or None,
        shelf,
        prices.load(rules.prices_file) if rules.prices_file is not None else NO_PRICES,
        {channel: tuple(found) for channel, found in names.items()},
    )
    return foretell(event, profile, here, now)


async def _templates(words: Any) -> list[Any]:
    versions, _ = await words.read()
    return list(versions)


def configured(settings: Settings) -> frozenset[Channel]:
    """Return the channels that this environment configures, empty where it is no delivery worker's."""
    twilio = settings.twilio
    found = {
        Channel.EMAIL: bool(settings.smtp.host) or settings.sendgrid.email,
        Channel.SMS: twilio.sms,
        Channel.WHATSAPP: twilio.whatsapp or settings.cloud.whatsapp,
        Channel.VOICE: twilio.voice,
        Channel.PUSH: settings.push.credentials_file is not None,
        Channel.WEBHOOK: bool(settings.webhook.keys),
    }
    return frozenset(channel for channel, there in found.items() if there)


class _JsonFault:
    """A fault that only JSON can have; on the wire it would be ``invalid``."""

    reason = "invalid_json"
    field = ""
    value = ""

    def __init__(self, remedy: str) -> None:
        self.remedy = remedy


def _fields(fault: Any) -> dict[str, str]:
    return {"reason": str(fault.reason), "field": fault.field, "value": fault.value, "remedy": fault.remedy}


def _read(kind: Any, raw: bytes) -> tuple[Any, Fault | _JsonFault | None]:
    if raw.lstrip()[:1] in (b"{", b"["):
        try:
            return sparse.read(kind, raw), None
        except sparse.NotARecord as exc:
            return None, _JsonFault(str(exc))
    try:
        return run(_decode(load(), kind, raw)), None
    except Undecodable as exc:
        return None, exc.fault


async def _decode(settings: Settings, kind: Any, raw: bytes) -> Any:
    if not settings.registry.url:
        return Codec().decode_event(kind, raw)
    from schemas.registry import Registry  # noqa: PLC0415 - brings a client that the rest does without

    registry = Registry(settings.registry.url, user=settings.registry.username, password=settings.registry.password)
    try:
        codec = Codec(registry)
        await codec.prefetch([raw])
        return codec.decode_event(kind, raw)
    except RegistryUnavailable as exc:
        raise Failure(f"SCHEMA_REGISTRY_URL: the registry gives no answer ({exc}); check it, or unset it") from exc
    finally:
        await registry.close()
