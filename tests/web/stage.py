"""A web server of the product on ports that tests hold in their hands: no Kafka."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import faust
from aiohttp.test_utils import TestClient, TestServer

from agents.meter import Meter
from agents.publisher import partition_of
from app.providers import shown
from app.tokens import Keyring
from app.web.ports import CorePorts, DeliveryPorts, Kept, Keys, Outgoing, Refused, Reply, Unsent
from app.web.views import attach_core, attach_delivery
from app.web.wiring import FAUST_PAGES_OFF
from schemas.codec import decode, encode
from schemas.names import Channel, State
from schemas.records import Content, Definition, Occurrence, ReminderEvent, ReminderRow, RowStep, Sealed, TrailEntry
from tables import due
from tables.circuit import Circuit, Phase

TOKEN = "a-token-for-tests"
AUTH = {"Authorization": f"Bearer {TOKEN}"}
AT = 1_796_112_000_000  # 2026-12-01 09:00 in Berlin

Serve = Callable[..., Awaitable[TestClient]]


def row(state: State = State.SENDING, tenant: str = "", more: tuple[TrailEntry, ...] = ()) -> bytes:
    body = ReminderRow(
        version=3,
        definition=Definition(
            recipient_id="anna",
            zone="Europe/Berlin",
            steps=(RowStep(Channel.EMAIL, addressed=True),),
            correlation_id="c-1",
            source="clinic",
            tenant=tenant,
            sealed=Sealed(
                body=encode(
                    Content(
                        "Canary title", "canary text", {"k": "canary data"}, ("canary@example.org",), "canary-actor"
                    )
                )
            ),
        ),
        open=Occurrence("@1/PT0S", state, AT, AT + 1000, AT + 500, channel=Channel.EMAIL),
        trail=(
            TrailEntry(1, AT - 5000, State.SCHEDULED, "accepted"),
            TrailEntry(2, AT, state, "due", channel=Channel.EMAIL),
            *more,
        ),
        created_at=AT - 5000,
    )
    return due.pack(due.STATE_CODES[state], 1, 1, AT + 500, AT + 1000) + encode(body)


@dataclass
class Fake:
    """All ports at once."""

    why_not_live: str = ""
    why_not_ready: str = ""
    noticed: dict[str, object] = field(default_factory=dict)
    rows: dict[str, bytes] = field(default_factory=dict)
    at: str | None = ""
    reply: Reply | Exception = field(default_factory=lambda: Reply(200, b"{}", "application/json"))
    forwarded: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    recovering: bool = False
    sent: list[list[Outgoing]] = field(default_factory=list)
    unsent: Unsent | None = None
    pause_s: float = 0.0
    asked: list[tuple[object, ...]] = field(default_factory=list)
    refused: str = ""

    def providers(self) -> list[dict[str, object]]:
        since = 1_796_115_600_000
        refused = Circuit(
            "email/smtp", Phase.OPEN, 1, since, since, since + 31_000, "auth_refused", True, beside=("smtp",)
        )
        return [shown(refused, since)]

    def live(self) -> str:
        return self.why_not_live

    def ready(self) -> str:
        return self.why_not_ready

    def notices(self) -> Mapping[str, object]:
        return self.noticed

    def details(self) -> Mapping[str, object]:
        return {"role": "core"}

    def owner(self, reminder_id: str) -> str | None:
        return self.at

    def row(self, reminder_id: str) -> bytes | None:
        if self.recovering:
            raise LookupError(3)
        return self.rows.get(reminder_id)

    def scan(self, partition: int, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        if self.recovering:
            raise LookupError(partition)
        mine = sorted(
            (rid.encode(), raw) for rid, raw in self.rows.items() if partition_of(rid.encode(), 8) == partition
        )
        return [(key, raw) for key, raw in mine if key >= start][:limit]

    def counts(self, partition: int) -> Mapping[tuple[int, int], int]:
        return Counter((raw[1], raw[3]) for _, raw in self.scan(partition, b"", 1 << 30) if len(raw) >= due.HEADER.size)

    # -- the operators' desk

    async def letters(self, reason: str, topic: str, which: str, most: int) -> tuple[list[dict[str, str]], int]:
        self._refuse()
        self.asked.append(("letters", reason, topic, which))
        return [
            {
                "place": "3/17",
                "since": "2026-12-01 08:00:00.000Z",
                "state": "open",
                "words": "temporary: trail clinic/1",
                "origin": "reminders/3/1042",
                "key": "clinic/1",
                "reminder": "clinic/1",
            }
        ], 1

    async def letter(self, place: str) -> list[str]:
        self._refuse()
        return [f"letter {place}: open", "  <b>bytes</b>"]

    async def redrive(self, place: str, actor: str, force: bool) -> str:
        return self._acted("redrive", place, actor, force)

    async def skip(self, place: str, why: str, actor: str) -> str:
        return self._acted("skip", place, why, actor)

    def holds(self) -> list[dict[str, str]]:
        names = ("scope", "state", "from", "until", "recurs", "reason", "by")
        return [dict(zip(names, ("channel:email", "held", "now", "released", "", "trouble", "anna"), strict=True))]

    async def hold(self, scope: str, reason: str, length: str, start: str, actor: str) -> str:
        return self._acted("hold", scope, reason, length, start, actor)

    async def release(self, scope: str, rate: str, recurring: bool, actor: str) -> str:
        return self._acted("release", scope, rate, recurring, actor)

    def _acted(self, *what: object) -> str:
        self._refuse()
        self.asked.append(what)
        return f"{what[0]} was done."

    def _refuse(self) -> None:
        if self.refused:
            raise Refused(self.refused)

    def owner_of(self, partition: int) -> str | None:
        return self.at

    async def forward(self, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Reply:
        self.forwarded.append((url, dict(headers)))
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    async def send(self, records: Sequence[Outgoing]) -> list[Kept]:
        await asyncio.sleep(self.pause_s)
        self.sent.append(list(records))
        if self.unsent is not None:
            raise self.unsent
        return [Kept("reminders", 3, 1000 + n) for n, _ in enumerate(records)]

    @property
    def events(self) -> list[ReminderEvent]:
        return [decode(ReminderEvent, record.value) for batch in self.sent for record in batch]


class Stage:
    """Servers of one test."""

    def __init__(self) -> None:
        self._clients: list[TestClient] = []

    async def start(
        self, fake: Fake, token: str = TOKEN, core: bool = True, keys: Keys | None = None, **more: Any
    ) -> TestClient:
        app = faust.App(f"views-{len(self._clients)}", store="memory://", autodiscover=False, **FAUST_PAGES_OFF)
        keys = keys or Keyring(token)
        if core:
            more.setdefault("providers", fake.providers)
            attach_core(app, CorePorts(fake, Meter(), keys, fake, fake, fake.forward, fake, 8, fake, **more))
        else:
            attach_delivery(app, DeliveryPorts(fake, Meter(), keys, providers=fake.providers, **more))
        app.web.init_server()
        client = TestClient(TestServer(app.web.web_app))
        await client.start_server()
        self._clients.append(client)
        return client

    async def close(self) -> None:
        for client in self._clients:
            await client.close()
