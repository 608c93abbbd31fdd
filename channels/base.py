"""The one contract of all channels.

An adapter opens, closes and sends. It answers with an ``Outcome`` for whatever the provider says; it never retries,
counts, touches Kafka, or raises for a provider's answer. An exception out of ``send`` is our bug.
"""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from schemas.names import Channel, OutcomeKind


@dataclass(frozen=True, slots=True)
class Send:
    """One message for one address.

    ``token`` is the opaque, attempt-independent form of the delivery id: the provider's idempotency key wherever it
    has one. ``also``: further devices of the same person, where a channel reaches all of them with one message.
    ``reminder_id``, ``occurrence`` and ``recipient_id`` are the producer's own names, for a provider that is the
    producer's system too. ``created_ms`` is the same for every attempt of a delivery, so that all copies have the same
    bytes (Date header). ``deadline_ms``: no message after this instant. ``last_inbound_ms``: when the recipient last
    wrote to us on this channel, 0: never, or nobody knows. ``reference``: the attempt's id, sealed, for the address
    that a provider sends news to; empty: none can be taken. ``confirm_url``, ``unsubscribe_url``, ``preferences_url``:
    where the reader says that they have got it, wants no more of its category, or sees what they allow; empty: there is
    no such link. ``unsubscribe_mail``: a ``mailto:`` address that does what ``unsubscribe_url`` does. ``bounce``: the
    local part of an envelope sender that names the delivery, empty: there is none. ``reply_hint``: how to answer by
    writing back, empty: no answer is wanted. ``locale``: of the words, for what a channel adds to them; empty: not
    known. Times are ms UTC.
    """

    channel: Channel
    address: str
    token: str
    attempt: int
    created_ms: int
    due_ms: int
    deadline_ms: int
    name: str = ""
    title: str = ""
    text: str = ""
    html: str = ""
    data: dict[str, str] = field(default_factory=dict)
    category: str = "general"
    tenant: str = ""
    correlation_id: str = ""
    also: tuple[str, ...] = ()
    reminder_id: str = ""
    occurrence: str = ""
    recipient_id: str = ""
    last_inbound_ms: int = 0
    reference: str = ""
    confirm_url: str = ""
    unsubscribe_url: str = ""
    unsubscribe_mail: str = ""
    preferences_url: str = ""
    bounce: str = ""
    reply_hint: str = ""
    locale: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one ``send``.

    ``retry_after_s``: how long the provider asks us to wait, None where it did not say. ``reached``: whether the
    message may have reached the provider; what never did consumes no attempt. ``blames_address``: the address itself is
    bad (suppress it). ``gone``: addresses that their provider will never serve again, whatever became of the others;
    they are taken from the recipient's contacts. ``detail`` holds no address, text or secret.
    """

    kind: OutcomeKind
    reason: str
    provider: str
    code: str = ""
    detail: str = ""
    provider_id: str = ""
    retry_after_s: float | None = None
    reached: bool = True
    blames_address: bool = False
    cost_micros: int = 0
    gone: tuple[str, ...] = field(default=(), repr=False)


class ChannelAdapter(Protocol):
    """A way to send through one provider of one channel."""

    @property
    def name(self) -> str:
        """Provider name as it appears in metrics, outcomes and configuration, e.g. ``smtp``."""

    @property
    def channel(self) -> Channel:
        """The channel that this adapter serves."""

    @property
    def concurrency(self) -> int:
        """How many ``send`` calls may run at once."""

    @property
    def call_timeout_s(self) -> float:
        """Hard limit of one ``send``, in seconds; a call that outlives it counts as ``maybe_sent``."""

    @property
    def repeatable(self) -> bool:
        """Whether the other side knows a message by its token, so that sending it again has no second effect.

        A doubt about such a message is no doubt for a person to decide on: it is sent again.
        """

    async def open(self) -> None:
        """Acquire connections and credentials. Called once, in the running loop, before the first ``send``."""

    async def close(self) -> None:
        """Release everything. Calls in flight have ended before."""

    async def send(self, message: Send) -> Outcome:
        """Send one message and say what became of it. Safe to call concurrently up to ``concurrency``."""

    async def probe(self) -> str:
        """Return one line that says that the provider accepts us; raises ``OSError`` with the reason if it does not."""


@runtime_checkable
class Retracting(Protocol):
    """An adapter that can take back what it has sent, at times."""

    @property
    def call_timeout_s(self) -> float:
        """Hard limit of one call, in seconds."""

    async def retract(self, message: Send, provider_id: str) -> Outcome:
        """Take a message back that its provider took as ``provider_id``; ACCEPTED where that was done.

        ``message`` has its token and addresses, and none of what it said. Safe to call twice.
        """


@runtime_checkable
class Metered(Protocol):
    """An adapter whose provider bills a message by more than one."""

    def units(self, message: Send) -> int:
        """Return how many units a message is billed as, at least 1: the parts of a text. Pure, and the same as
        ``send`` would send."""


@dataclass(frozen=True, slots=True)
class OnRecord:
    """A message that a provider has on record. ``created_ms``: UTC, by its clock. ``body`` None: it does not say."""

    provider_id: str
    created_ms: int
    body: str | None = field(default=None, repr=False)


@runtime_checkable
class Reconciling(Protocol):
    """An adapter whose provider keeps a list of messages, so that one in doubt can be looked for."""

    @property
    def name(self) -> str:
        """Provider name."""

    @property
    def call_timeout_s(self) -> float:
        """Hard limit of one call, in seconds."""

    def words(self, message: Send) -> str:
        """Return the words by which a message is known again on the list, empty where they are not ours. Pure."""

    async def look_up(self, address: str, since_ms: int, until_ms: int) -> tuple[OnRecord, ...] | Outcome:
        """Return the messages to an address that the provider took from us between two instants (ms UTC), or why it
        cannot be known. Sends nothing."""
