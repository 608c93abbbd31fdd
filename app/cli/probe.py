"""The command that looks into one channel or provider: six verdicts, one more on mail, and nothing sent to anybody."""

import asyncio
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import click
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from app.cli import audit, hold, providers
from app.cli.dlq.pick import When
from app.cli.doctor import Grade, Verdict, line
from app.cli.failures import Failure, Misuse
from app.cli.root import load, run
from app.cli.show import console
from app.config import Settings
from app.dlq import span
from app.providers import moment
from app.reasons import sentence
from app.topics import TopicNames
from channels import limits
from channels.base import ChannelAdapter
from schemas import codec
from schemas.checks import check_reminder
from schemas.codec import Undecodable
from schemas.names import DELIVERY_CHANNELS, AnswerKind, Channel, OutcomeKind
from schemas.records import DeliveryAnswer, ReminderEvent, Step
from tables import holds as hold_rules
from tables.circuit import Phase, name_of
from tables.holds import Subject

#: How long each look may take, in seconds.
LIMIT_S = 20.0
GOOD = frozenset({OutcomeKind.ACCEPTED, OutcomeKind.DELIVERED, OutcomeKind.READ})
#: What says nothing of a provider: it was not called.
NOT_CALLED = frozenset({OutcomeKind.HELD, OutcomeKind.SKIPPED, OutcomeKind.NONE})
MOST_SHOWN = 3
DAY_MS = 86_400_000
SAMPLE = "Dentist at ten: please bring your insurance card."


@dataclass(frozen=True, slots=True)
class Place:
    """Where a provider is reached. ``ca_file``: authorities to trust besides the usual ones."""

    host: str
    port: int
    tls: bool
    ca_file: Path | None = None

    def __str__(self) -> str:
        """Return it as people write it."""
        return f"{self.host}:{self.port}"


@click.command()
@click.argument("what", metavar="CHANNEL|PROVIDER")
@click.option("--to", default="", help="An address to check the form of; nothing is sent to it.")
@click.option("--text", default=SAMPLE, help="A text to check the length of.", show_default=True)
@click.option("--dns", default="", metavar="ADDRESS[:PORT]", help="The name server to ask; else the system's.")
@click.option("--since", type=When(), default="1h", show_default=True, help="From when on outcomes are counted.")
def probe(what: str, to: str, text: str, dns: str, since: int) -> None:
    """Look into a channel or a provider: credentials, address, quota, format, logs, isolation.

    Six verdicts, each with what to do, and for mail a seventh: what the DNS says of SPF, DKIM and DMARC. Nothing is
    sent to anybody. Exits with 1 where one fails.

    \b
    python -m app probe sms
    python -m app probe email --dns 9.9.9.9
    python -m app probe twilio --to +14155550123 --text "Your visit is tomorrow at ten."
    """
    settings = load()
    verdicts = run(examine(settings, what.strip().lower(), to, text, since, dns))
    out = console()
    for verdict in verdicts:
        out.print(line(verdict, 11), soft_wrap=True)
    if any(verdict.grade is Grade.FAIL for verdict in verdicts):
        sys.exit(1)


async def examine(settings: Settings, what: str, to: str, text: str, since: int, dns: str = "") -> list[Verdict]:
    """Return the verdicts. ``dns``: the name server to ask. Raises Misuse for what is not configured."""
    adapters = _named(settings, what)
    now = time.time_ns() // 1_000_000
    try:
        async with asyncio.timeout(2 * LIMIT_S):
            answers = await _answers(settings, since)
    except (Failure, KafkaError, OSError, TimeoutError) as exc:
        unknown = f"the brokers cannot be asked ({exc if isinstance(exc, Failure) else type(exc).__name__})"
        told = [Verdict(name, Grade.SKIP, unknown) for name in ("quota", "logs", "isolation")]
    else:
        told = [
            await _limited("quota", _quota(settings, adapters, answers, now)),
            logs(adapters, answers),
            await _limited("isolation", _isolation(settings, adapters, answers, now)),
        ]
    return [
        await _limited("credentials", _credentials(adapters)),
        await _limited("address", _address(places(settings, adapters))),
        told[0],
        layout(adapters, to, text, now),
        told[1],
        told[2],
        *([await _limited("dns", _dns(settings, dns))] if any(_is_server(a) for a in adapters) else ()),
    ]


def _named(settings: Settings, what: str) -> list[ChannelAdapter]:
    from app import build  # noqa: PLC0415 - brings Faust in
    from channels import registry  # noqa: PLC0415

    every = registry.every_adapter(build._channels(settings))
    found = [a for a in every if what in (a.name, a.channel.value.lower(), name_of(a.channel.value, a.name))]
    if not found:
        known = sorted({name for a in every for name in (a.name, a.channel.value.lower())})
        raise Misuse(f"{what}: is not configured; there is {', '.join(known) or 'no channel at all'}")
    return found


async def _limited(name: str, check: Awaitable[Verdict]) -> Verdict:
    try:
        async with asyncio.timeout(LIMIT_S):
            return await check
    except TimeoutError:
        return Verdict(name, Grade.FAIL, f"no answer within {LIMIT_S:g} s; look at the network between here and there")
    except (Failure, KafkaError) as exc:
        return Verdict(name, Grade.SKIP, f"the brokers cannot be asked ({exc})")


async def _credentials(adapters: Sequence[ChannelAdapter]) -> Verdict:
    said = await asyncio.gather(*(adapter.probe() for adapter in adapters), return_exceptions=True)
    for answer in said:
        if isinstance(answer, BaseException) and not isinstance(answer, OSError):
            raise answer
    wrong = any(isinstance(answer, OSError) for answer in said)
    return Verdict("credentials", Grade.FAIL if wrong else Grade.OK, "; ".join(dict.fromkeys(map(str, said))))


# -- address and TLS


def places(settings: Settings, adapters: Iterable[ChannelAdapter]) -> list[Place]:
    """Return where the providers are reached, each place once; none for webhooks, of which each receiver is one."""
    found: list[Place] = []
    for adapter in adapters:
        match adapter.channel:
            case Channel.EMAIL if adapter.name == "sendgrid":
                found.append(_place(settings.sendgrid.base_url, settings.sendgrid.ca_file))
            case Channel.EMAIL:
                relay = settings.smtp.second if adapter.name == "smtp-2" else settings.smtp
                found.append(Place(relay.host, relay.port, relay.tls == "implicit", relay.ca_file))
            case Channel.WHATSAPP if adapter.name == "meta":
                found.append(_place(settings.cloud.base_url, settings.cloud.ca_file))
            case Channel.SMS | Channel.WHATSAPP | Channel.VOICE:
                found.append(_place(settings.twilio.base_url, settings.twilio.ca_file))
            case Channel.PUSH:
                found.append(_place(settings.push.url, settings.push.ca_file))
            case _:
                pass
    return list(dict.fromkeys(found))


def _place(url: str, ca_file: Path | None) -> Place:
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    return Place(parts.hostname or "", parts.port or (443 if tls else 80), tls, ca_file)


async def _address(where: Sequence[Place]) -> Verdict:
    if not where:
        return Verdict("address", Grade.SKIP, "each receiver is another; ask one with `python -m app webhook test URL`")
    said = await asyncio.gather(*(_reach(place) for place in where))
    grades = [grade for grade, _ in said]
    worst = next((g for g in (Grade.FAIL, Grade.WARN) if g in grades), Grade.OK)
    return Verdict("address", worst, "; ".join(text for _, text in said))


async def _reach(place: Place) -> tuple[Grade, str]:
    """Return whether a place is reached: its name, a connection, and its certificate where it speaks TLS at once."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except OSError as exc:
        return Grade.FAIL, f"{place}: has no address ({exc.strerror}); check the host's name and the resolver"
    address = str(found[0][4][0])
    context = await asyncio.to_thread(_context, place) if place.tls else None
    begun = time.perf_counter()
    try:
        async with asyncio.timeout(LIMIT_S / 2):
            _, writer = await asyncio.open_connection(place.host, place.port, ssl=context)
    except ssl.SSLCertVerificationError as exc:
        return Grade.FAIL, f"{place}: its certificate is not trusted ({exc.verify_message}); check the name and CA file"
    except ssl.SSLError as exc:
        return Grade.FAIL, f"{place}: the TLS handshake failed ({exc.reason}); check the port"
    except TimeoutError:
        return Grade.FAIL, f"{place} ({address}): no connection in {LIMIT_S / 2:g} s; check firewalls and the port"
    except OSError as exc:
        return Grade.FAIL, f"{place} ({address}): {exc.strerror or 'no connection'}; check the port and the service"
    took = (time.perf_counter() - begun) * 1000
    ends = _certificate_ends(writer.get_extra_info("peercert"))
    writer.close()
    text = f"{place} ({address}): connected in {took:.0f} ms"
    if ends is None:
        return Grade.OK, text
    soon = ends - time.time() * 1000 < 14 * DAY_MS
    day = datetime.fromtimestamp(ends / 1000, UTC).date().isoformat()
    return Grade.WARN if soon else Grade.OK, f"{text}, its certificate holds until {day}"


def _context(place: Place) -> ssl.SSLContext:
    from channels.http_call import trusted  # noqa: PLC0415

    return trusted(place.ca_file)


def _certificate_ends(peer: object) -> float | None:
    if not isinstance(peer, dict) or not isinstance(peer.get("notAfter"), str):
        return None
    return ssl.cert_time_to_seconds(peer["notAfter"]) * 1000


def _is_server(adapter: ChannelAdapter) -> bool:
    """Return whether mails go by a server of ours; SendGrid signs by keys of its own, which its page checks."""
    return adapter.channel is Channel.EMAIL and adapter.name != "sendgrid"


async def _dns(settings: Settings, server: str) -> Verdict:
    """Say whether receivers can know that our mails are ours."""
    from app import build, mail_dns  # noqa: PLC0415
    from channels.email import signer  # noqa: PLC0415

    smtp = build._email(settings)
    if smtp is None:
        raise TypeError("an adapter for mail was found before")
    try:
        ask = mail_dns.asker(server)
    except ValueError as exc:
        raise Misuse(f"--dns {server}: {exc}; use an address such as 9.9.9.9 or 127.0.0.1:5353") from None
    domain = smtp.from_address.domain
    said = await mail_dns.judged(mail_dns.Sender(domain, smtp.envelope_domain, signer(smtp)), ask)
    grade = Grade.OK
    if any(one.wrong for one in said):
        grade = Grade.FAIL
    elif any(one.good is False for one in said):
        grade = Grade.WARN
    elif all(one.good is None for one in said):
        grade = Grade.SKIP
    return Verdict("dns", grade, "; ".join(one.text for one in said))


# -- what is known of it


async def _answers(settings: Settings, since: int) -> list[DeliveryAnswer]:
    """Return the outcomes of calls since then (ms UTC), of all channels."""
    topic = TopicNames.of(settings).outcomes
    async with audit.reader(settings, topic) as consumer:
        tps = await audit.partitions(consumer, topic)
        consumer.assign(tps)
        found = await consumer.offsets_for_times(dict.fromkeys(tps, since))
        starts: dict[TopicPartition, int] = {tp: at.offset for tp, at in found.items() if at is not None}
        answers = []
        async for record in span(consumer, starts):
            try:
                answer = codec.decode(DeliveryAnswer, record.value or b"")
            except Undecodable:
                continue
            if answer.kind is AnswerKind.OUTCOME and answer.outcome not in NOT_CALLED:
                answers.append(answer)
    return answers


async def _quota(
    settings: Settings, adapters: Sequence[ChannelAdapter], answers: Sequence[DeliveryAnswer], now: int
) -> Verdict:
    board = await providers.read(settings)
    paused = []
    for adapter in adapters:
        c = board.of(name_of(adapter.channel.value, adapter.name))
        if c.stands(now) is Phase.PAUSED:
            paused.append(f"{c.name} asked for a pause until {moment(c.until)}")
    throttled = sum(1 for a in _of(adapters, answers) if a.code == "429")
    if paused:
        return Verdict("quota", Grade.WARN, "; ".join(paused))
    if throttled:
        return Verdict("quota", Grade.WARN, f"{throttled} calls were answered with 429; ask for a higher limit")
    return Verdict("quota", Grade.OK, "no pause, and no call was answered with 429")


def layout(adapters: Sequence[ChannelAdapter], to: str, text: str, now: int) -> Verdict:
    """Return whether an address and a text fit their channels, by the rules of intake and of the channel."""
    said = []
    for channel in dict.fromkeys(adapter.channel for adapter in adapters):
        steps = (Step(channel, address=to),) if to else ()
        event = ReminderEvent("probe", recipient_id="" if to else "probe", at=now + DAY_MS, text=text, steps=steps)
        if (fault := check_reminder(event, now, now)) is not None:
            return Verdict("format", Grade.FAIL, f"{channel.value.lower()}: {fault.field}: {fault.remedy}")
        limit = limits.LIMITS.get(channel)
        if limit is not None:
            size = limits.amount(text, limit.unit)
            if size > limit.most:
                more = f"{size} {limit.unit.value}, of which {limit.most} can be sent; shorten the text"
                return Verdict("format", Grade.FAIL, f"{channel.value.lower()}: {more}")
            said.append(f"{channel.value.lower()}: {size} of {limit.most} {limit.unit.value}")
    fits = "; ".join(said) or "the text fits"
    return Verdict("format", Grade.OK, fits if to else f"{fits}; --to checks an address, too")


def logs(adapters: Sequence[ChannelAdapter], answers: Sequence[DeliveryAnswer]) -> Verdict:
    """Return what became of the calls."""
    own = _of(adapters, answers)
    if not own:
        return Verdict("logs", Grade.SKIP, "it was not called; --since looks further back")
    bad = [a for a in own if a.outcome not in GOOD]
    text = f"{len(own)} calls, {len(own) - len(bad)} taken"
    if not bad:
        return Verdict("logs", Grade.OK, text)
    reasons = Counter((a.outcome.value, a.code, a.reason, a.channel) for a in bad).most_common(MOST_SHOWN)
    shown = "; ".join(
        f"{count} {outcome}{' ' + code if code else ''}: {sentence(reason, channel)}"
        for (outcome, code, reason, channel), count in reasons
    )
    return Verdict("logs", Grade.FAIL if len(bad) * 2 >= len(own) else Grade.WARN, f"{text}; {shown}")


async def _isolation(
    settings: Settings, adapters: Sequence[ChannelAdapter], answers: Sequence[DeliveryAnswer], now: int
) -> Verdict:
    """Say whether the fault is this provider's alone, and what keeps it from being called on our side."""
    held = [
        record.scope
        for record in await hold.current(settings)
        if hold_rules.active(record, now)
        and any(hold_rules.takes(record.scope, Subject(a.channel.value, a.name)) for a in adapters)
    ]
    board = await providers.read(settings)
    names = {name_of(a.channel.value, a.name) for a in adapters}
    shut = [c for c in board.known.values() if c.shut(now)]
    own = [f"{c.name} is not called: {sentence(c.reason, Channel.ANY)}" for c in shut if c.name in names]
    others = [c.name for c in shut if c.name not in names]
    failing = _failing(set(DELIVERY_CHANNELS) - {a.channel for a in adapters}, answers)
    said = [f"held by {scope}" for scope in held] + own
    if others or failing:
        said.append(f"others have trouble, too ({', '.join([*others, *failing])}): look at what they share")
        return Verdict("isolation", Grade.WARN, "; ".join(said))
    return Verdict("isolation", Grade.WARN if said else Grade.OK, "; ".join([*said, "all others work"]))


def _failing(channels: Iterable[Channel], answers: Sequence[DeliveryAnswer]) -> list[str]:
    """Return the channels of which most calls failed."""
    found = []
    for channel in sorted(channels):
        own = [a.outcome in GOOD for a in answers if a.channel is channel]
        if own and sum(own) * 2 <= len(own):
            found.append(channel.value.lower())
    return found


def _of(adapters: Iterable[ChannelAdapter], answers: Iterable[DeliveryAnswer]) -> list[DeliveryAnswer]:
    own = {(a.channel, a.name) for a in adapters}
    return [a for a in answers if (a.channel, a.provider) in own]
