"""What the views are given. Small, so that tests hand in their own and need no Kafka."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agents.suppressions import Desk as SuppressionDesk
from app.callers import Callers
from app.template_preview import Words
from app.tokens import Token
from channels.answers import Waiting
from schemas.bounces import BounceAddresses
from schemas.links import Links
from schemas.names import Channel
from schemas.records import Delivery, Message, RecipientProfile
from schemas.references import References
from tables.consent import Categories


class Vital(Protocol):
    """How a worker is. Each answer is empty where all is well, else the reason, in a few words."""

    def live(self) -> str:
        """Say why this process should be ended and started again."""
        ...

    def ready(self) -> str:
        """Say why this worker does no work now: a recovery, a rebalance, no broker."""
        ...

    def notices(self) -> Mapping[str, object]:
        """Return what keeps back what would be sent though all is well: what is held, who alone is sent to."""
        ...

    def details(self) -> Mapping[str, object]:
        """Return what an operator may want to know beside: nothing personal, nothing secret."""
        ...


class Metrics(Protocol):
    """What ``/metrics`` shows."""

    def expose(self) -> bytes:
        """Return all values in Prometheus' text format."""
        ...


class Rows(Protocol):
    """The rows of the reminders table that this worker owns."""

    def row(self, reminder_id: str) -> bytes | None:
        """Return a row, header and body. Raises LookupError where this worker cannot tell at the moment."""
        ...

    def scan(self, partition: int, start: bytes, limit: int) -> Sequence[tuple[bytes, bytes]]:
        """Return rows of a partition from a key on, in order. Raises LookupError likewise."""
        ...

    def counts(self, partition: int) -> Mapping[tuple[int, int], int]:
        """Return how many rows stand in each (state, channel). Raises LookupError likewise."""
        ...


class Owners(Protocol):
    """Which worker owns which reminder."""

    def owner(self, reminder_id: str) -> str | None:
        """Return the base URL of the owner's web server, "" where it is this worker, None where nobody knows."""
        ...

    def owner_of(self, partition: int) -> str | None:
        """Return the same of a partition."""
        ...


class Keys(Protocol):
    """The tokens that hold now."""

    @property
    def empty(self) -> bool:
        """Whether there is none."""
        ...

    def find(self, given: str) -> Token | None:
        """Return the token that was given, None for one that is not known."""
        ...

    def quota(self, tenant: str) -> int | None:
        """Return the events a minute of a tenant, None for no limit of its own."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """Another worker's answer."""

    status: int
    body: bytes
    content_type: str


class Forward(Protocol):
    """How a request reaches another worker."""

    async def __call__(self, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Reply:
        """GET a URL, or POST a body to it. Raises OSError or TimeoutError where there is no answer in time."""
        ...


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An event on its way to the brokers."""

    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """Where the brokers keep an event."""

    topic: str
    partition: int
    offset: int


class Unsent(Exception):  # noqa: N818 - an answer more than an error
    """The brokers did not acknowledge: what was sent may have been taken, or not."""


class Outlet(Protocol):
    """How events reach the topic ``reminders``."""

    async def send(self, records: Sequence[Outgoing]) -> list[Kept]:
        """Return where each event lies, once all copies have all of them. Raises Unsent."""
        ...


class Refused(Exception):  # noqa: N818 - an answer more than an error
    """What an operator asked for was not done; says why, in a sentence."""


class Waits(Protocol):
    """Which messages wait for a texted answer."""

    def fresh(self) -> bool:
        """Return whether all of them are known now."""
        ...

    def waiting(self, channel: Channel, address: str) -> Sequence[Waiting]:
        """Return the occurrences of which a message waits for an answer from an address."""
        ...

    def taken(self, message: str) -> Waiting | None:
        """Return what a message, by its provider's id, was found to be about when it came before."""
        ...

    def took(self, message: str, meant: Waiting, now: int) -> tuple[bytes, bytes]:
        """Return key and value of the record that a message is about an occurrence."""
        ...

    def came(self, channel: Channel, address: str, at: int, provider: str) -> tuple[bytes, bytes]:
        """Return key and value of the record that somebody wrote, to a provider's number."""
        ...

    def wrote(self, channel: Channel, address: str, provider: str) -> int:
        """Return when a message last came from an address to a provider's number, ms UTC; 0: none is known."""
        ...


class Desk(Protocol):
    """What operators do beside reminders. Every act raises Refused where it is not done, else says what was done."""

    async def letters(self, reason: str, topic: str, which: str, most: int) -> tuple[list[dict[str, str]], int]:
        """Return at most so many dead letters as lines, and how many there are. ``which``: "", parked or all."""
        ...

    async def letter(self, place: str) -> list[str]:
        """Return the lines that tell of a dead letter, personal values masked."""
        ...

    async def redrive(self, place: str, actor: str, force: bool) -> str:
        """Put a dead letter back. ``force``: even if it would be refused again."""
        ...

    async def skip(self, place: str, why: str, actor: str) -> str:
        """Close a dead letter without putting anything back."""
        ...

    def holds(self) -> list[dict[str, str]]:
        """Return what is held or to come, as lines."""
        ...

    async def hold(self, scope: str, reason: str, length: str, start: str, actor: str) -> str:
        """Hold a scope."""
        ...

    async def release(self, scope: str, rate: str, recurring: bool, actor: str) -> str:
        """Release a scope."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """What every worker's views need. Without any token in ``keys`` the views that need one answer 403."""

    vital: Vital
    metrics: Metrics
    keys: Keys
    #: How each provider stands, as this worker knows it: nothing personal, nothing secret.
    providers: Callable[[], list[dict[str, object]]] = field(default=list, kw_only=True)


@dataclass(frozen=True, slots=True)
class CloudPorts:
    """What Meta's news need. ``reply``: begins to write back to a number, and returns at once."""

    phone_id: str
    app_secrets: Callable[[], tuple[str, ...]]
    verify_tokens: Callable[[], tuple[str, ...]]
    reply: Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class CallbackPorts:
    """What providers' news need. ``base``: the public address of this server, as Twilio was told; empty: it was not.
    ``cloud``: None where Meta's news are not believed."""

    base: str
    twilio_tokens: Callable[[], tuple[str, ...]]
    references: References
    receipts: Outlet
    suppressions: Outlet
    desk: SuppressionDesk
    waits: Waits
    replies: Outlet
    help: str = ""
    cloud: CloudPorts | None = None


@dataclass(frozen=True, slots=True)
class EventPorts:
    """What SendGrid's news need. ``keys``: the public keys that are believed."""

    keys: tuple[str, ...]
    references: References
    receipts: Outlet
    suppressions: Outlet
    desk: SuppressionDesk


@dataclass(frozen=True, slots=True)
class LinkPorts:
    """What the pages behind links need."""

    links: Links
    suppressions: Outlet


class Mails(Protocol):
    """The deliveries that mails were sent for."""

    async def find(self, partition: int, offset: int) -> list[tuple[Delivery, Message]]:
        """Return what a record of ``notifications.email`` asked for, in one mail; nothing where it is there no more.
        Raises Unsent where the brokers do not answer."""
        ...


@dataclass(frozen=True, slots=True)
class MailPorts:
    """What mails that come back need. ``tokens``: of the servers that pass them on, as they hold now."""

    tokens: Callable[[], tuple[str, ...]]
    addresses: BounceAddresses
    links: Links
    mails: Mails
    receipts: Outlet
    suppressions: Outlet
    desk: SuppressionDesk


class Profiles(Protocol):
    """The recipients whose rows this worker owns."""

    def profile(self, recipient_id: str) -> RecipientProfile | None:
        """Return what is known of a recipient. Raises LookupError where this worker cannot tell at the moment."""
        ...


@dataclass(frozen=True, slots=True)
class PreferencePorts:
    """What a recipient's page needs. ``why``: why an address is suppressed; ``why_known``: whether that is known
    now."""

    links: Links
    profiles: Profiles
    owners: Owners
    forward: Forward
    recipients: Outlet
    suppressions: Outlet
    desk: SuppressionDesk
    categories: Categories
    why: Callable[[Channel, str, str], str]
    why_known: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class CorePorts(Ports):
    """What the core worker's views need beside."""

    rows: Rows
    owners: Owners
    forward: Forward
    outlet: Outlet
    partitions: int
    desk: Desk
    quota_per_minute: int = 0
    callbacks: CallbackPorts | None = None
    events: EventPorts | None = None
    links: LinkPorts | None = None
    mails: MailPorts | None = None
    callers: Callers = field(default_factory=lambda: Callers(0, (), time.monotonic))
    words: Words = field(default_factory=Words)
    #: The delivery worker that serves recipients' pages for this one; empty: none.
    beside: str = ""


@dataclass(frozen=True, slots=True)
class DeliveryPorts(Ports):
    """What the delivery worker's views need."""

    preferences: PreferencePorts | None = None
    callers: Callers = field(default_factory=lambda: Callers(0, (), time.monotonic))
