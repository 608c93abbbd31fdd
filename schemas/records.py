"""Frozen records: what the Avro schemas of ``schemas/avro`` look like in Python.

Field names equal the schema's. Times are ms since 1970-01-01 UTC unless a name says otherwise; 0 means none where a
field is not optional. Every record here is paired with its schema by ``schemas.codec``; a test compares the two field
by field.
"""

from dataclasses import dataclass, field, is_dataclass

from schemas.names import (
    Action,
    AnswerKind,
    AttemptState,
    Channel,
    MaybeSent,
    Missed,
    OutcomeKind,
    Overlap,
    Priority,
    RecipientAction,
    ReplyKind,
    RequestKind,
    State,
    WaitFor,
    Withdrawal,
)
from schemas.quick import quicken

# -- producers' events -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """One link of a chain of channels."""

    channel: Channel
    wait_for: WaitFor = WaitFor.ACCEPTED
    within_s: int = 0
    address: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """A reminder's own rules; zeros and BY_CATEGORY leave them to its category."""

    missed: Missed = Missed.LATEST
    overlap: Overlap = Overlap.SUPERSEDE
    maybe_sent: MaybeSent = MaybeSent.BY_CATEGORY
    max_lateness_s: int = 0
    max_attempts: int = 0
    nag_every_s: int = 0
    nag_max: int = 0
    max_cost_micros: int = 0
    escalate_to: tuple[str, ...] = ()
    quorum: int = 1


@dataclass(frozen=True, slots=True)
class ReminderEvent:
    """An event of topic ``reminders``. UPSERT carries the whole reminder, never a patch."""

    reminder_id: str
    recipient_id: str = ""
    local: str = ""
    zone: str = ""
    text: str = ""
    action: Action = Action.UPSERT
    at: int | None = None
    rrule: str = ""
    cron: str = ""
    exclude: tuple[str, ...] = ()
    rdates: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    calendar: str = ""
    expires_at: int | None = None
    jitter_s: int = 0
    occurrence: str = ""
    title: str = ""
    template: str = ""
    data: dict[str, str] = field(default_factory=dict)
    category: str = "general"
    priority: Priority = Priority.NORMAL
    steps: tuple[Step, ...] = ()
    policy: Policy | None = None
    version: int = 0
    event_id: str = ""
    correlation_id: str = ""
    source: str = ""
    tenant: str = ""
    actor: str = ""
    delivery_id: str = ""


@dataclass(frozen=True, slots=True)
class Contact:
    """One address of a recipient. ``last_inbound_at``: when the recipient last wrote to us on it, 0: never, or not
    known."""

    channel: Channel
    address: str
    label: str = ""
    verified: bool = True
    last_inbound_at: int = 0


@dataclass(frozen=True, slots=True)
class Consent:
    """What a recipient allowed or refused, for a category and a channel (none: all)."""

    granted: bool
    at: int
    category: str = "*"
    channel: Channel | None = None
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class RecipientEvent:
    """An event of topic ``recipients``: a patch. Empty or null leaves a part as it is."""

    recipient_id: str
    action: RecipientAction = RecipientAction.UPSERT
    zone: str = ""
    locale: str = ""
    region: str = ""
    contacts: tuple[Contact, ...] | None = None
    quiet: tuple[str, ...] | None = None
    max_per_hour: int = 0
    max_per_day: int = 0
    consents: tuple[Consent, ...] = ()
    version: int = 0
    event_id: str = ""
    correlation_id: str = ""
    source: str = ""


# -- the way of an attempt ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stages:
    """When an attempt reached each stage of its way, on the clock of who saw it; 0: not told."""

    due_at: int = 0
    wanted_at: int = 0
    published_at: int = 0
    claimed_at: int = 0
    gated_at: int = 0
    queued_at: int = 0
    called_at: int = 0
    answered_at: int = 0


# -- rows of the reminders table ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sealed:
    """Everything personal of a reminder or a delivery, as one opaque field. ``key_id`` 0: ``body`` is a Content in
    clear."""

    key_id: int = 0
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Content:
    """What is inside ``Sealed.body`` (single-object Avro). ``addresses``: one a step, empty where the recipient's
    contact serves."""

    title: str = ""
    text: str = ""
    data: dict[str, str] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    actor: str = ""


@dataclass(frozen=True, slots=True)
class RowStep:
    """A step without its address, which is sealed. ``addressed``: the step names its own address."""

    channel: Channel
    wait_for: WaitFor = WaitFor.ACCEPTED
    within_s: int = 0
    addressed: bool = False


@dataclass(frozen=True, slots=True)
class Definition:
    """A reminder as last accepted, without its personal content."""

    recipient_id: str = ""
    local: str = ""
    zone: str = ""
    at: int | None = None
    rrule: str = ""
    cron: str = ""
    exclude: tuple[str, ...] = ()
    rdates: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    calendar: str = ""
    expires_at: int | None = None
    jitter_s: int = 0
    template: str = ""
    category: str = "general"
    priority: Priority = Priority.NORMAL
    steps: tuple[RowStep, ...] = ()
    policy: Policy | None = None
    correlation_id: str = ""
    source: str = ""
    tenant: str = ""
    sealed: Sealed = Sealed()


@dataclass(frozen=True, slots=True)
class Turn:
    """A person's turn to be asked until somebody answers. ``round``: the one with which it began."""

    round: int
    recipient_id: str = ""


@dataclass(frozen=True, slots=True)
class Insistence:
    """How an occurrence is asked about until it is answered; None where it is not, or nothing has happened yet.

    ``turns``: whom it was for so far, never empty; the last one is asked now. ``answered``: who has answered. ``nags``:
    rounds of this turn after its first. ``said_at``: when this round first reached its person, ms UTC; 0: not yet.
    ``reached``: the best that any round came to. ``awaits``: this round's chain has ended.
    """

    turns: tuple[Turn, ...]
    answered: tuple[str, ...] = ()
    nags: int = 0
    said_at: int = 0
    reached: State = State.NONE
    awaits: bool = False


@dataclass(frozen=True, slots=True)
class Occurrence:
    """The open firing of a reminder. ``state`` and the times that the index needs are repeated in the row header."""

    occurrence: str
    state: State
    due_at: int
    deadline: int
    due: int
    round: int = 0
    step: int = 0
    attempt: int = 1
    ask: int = 0
    asked_at: int = 0
    channel: Channel = Channel.ANY
    tried: tuple[str, ...] = ()
    reason: str = ""
    withdrawal: Withdrawal = Withdrawal.NONE
    snoozed_to: int = 0
    heard: str = ""
    heard_as: str = ""
    heard_reason: str = ""
    insistence: Insistence | None = None
    warned: bool = False


@dataclass(frozen=True, slots=True)
class Closed:
    """An occurrence that has ended; the last four are kept so that late news and late duplicates are recognised."""

    occurrence: str
    state: State
    at: int
    ask: int
    round: int = 0
    delivery_id: str = ""
    channel: Channel = Channel.ANY
    reason: str = ""
    due_at: int = 0
    insistence: Insistence | None = None


@dataclass(frozen=True, slots=True)
class TrailEntry:
    """One transition on the bounded trail in the row; the full history is the audit topic."""

    seq: int
    at: int
    state: State
    reason: str = ""
    occurrence: str = ""
    attempt: int = 0
    channel: Channel = Channel.ANY
    detail: str = ""
    actor: str = ""
    stages: Stages | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """The last applied offset of an input topic, by Kafka's topic id (hex), so that a topic made anew starts anew."""

    topic_id: str
    offset: int


@dataclass(frozen=True, slots=True)
class MovedStart:
    """A start of a series that a person moved to another instant, or cancelled (``to`` 0), before its time."""

    start: str
    to: int = 0


@dataclass(frozen=True, slots=True)
class ReminderRow:
    """The body of a row of the reminders table. ``definition`` is None where an action came for a reminder that does
    not exist.

    ``numbered``: versions are the producer's numbers, else record timestamps. ``stamp``: record timestamp of the last
    applied event. ``ask`` and ``rounds`` (reopenings so far) only grow over the life of the row, so no delivery id is
    ever used twice.

    Of a series: ``next_start`` and ``next_due`` are the firing after the open one (0: none), ``open_at``
    the instant of the open one by its rule, ``told`` and ``told_at`` the last firing that ended, ``since`` from when on
    firings count, ``moves`` the starts that a person cancelled or moved ahead of their time.

    ``defined_at``: record timestamp of the last applied UPSERT; what was erased at or after it is forgotten.

    ``tzdata``: by which release of the time zone data a wall clock was placed, behind ``TZ_TAG``; "" where none was.
    """

    version: int = 0
    numbered: bool = False
    event_id: str = ""
    definition: Definition | None = None
    open: Occurrence | None = None
    closed: tuple[Closed, ...] = ()
    cancelled: bool = False
    stamp: int = 0
    ask: int = 0
    rounds: int = 0
    link: int = 0
    zone: str = ""
    reachable: bool = True
    seq: int = 0
    applied: tuple[Applied, ...] = ()
    trail: tuple[TrailEntry, ...] = ()
    created_at: int = 0
    updated_at: int = 0
    paused: bool = False
    next_start: str = ""
    next_due: int = 0
    open_at: int = 0
    told: str = ""
    told_at: int = 0
    since: int = 0
    moves: tuple[MovedStart, ...] = ()
    tzdata: str = ""
    defined_at: int = 0


# -- rows of the recipients table --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RecipientProfile:
    """The body of a ``p/`` row: what is known of a recipient. ``erased`` leaves nothing but versions."""

    version: int = 0
    numbered: bool = False
    event_id: str = ""
    zone: str = ""
    locale: str = ""
    region: str = ""
    contacts: tuple[Contact, ...] = ()
    quiet: tuple[str, ...] = ()
    max_per_hour: int = 0
    max_per_day: int = 0
    consents: tuple[Consent, ...] = ()
    erased: bool = False
    applied: tuple[Applied, ...] = ()
    updated_at: int = 0


@dataclass(frozen=True, slots=True)
class SealedProfile:
    """The body of a ``p/`` row whose contacts and proofs of consent are sealed. ``known``: the rest of it, a
    RecipientProfile in bytes; ``sealed``: one with contacts and consents alone."""

    known: bytes
    wrapped_key: bytes
    sealed: Sealed


@dataclass(frozen=True, slots=True)
class RecipientLink:
    """The body of an ``l/`` row: a reminder that belongs to a recipient. ``link`` is the reminder's row version.

    ``channels``: those on which it can go to a contact of theirs; none: any. ``stands_in``: the reminder is somebody
    else's, in whose place they may be asked.
    """

    reminder_id: str
    link: int
    follows_zone: bool
    told_zone: str = ""
    told_reachable: bool = True
    linked: bool = True
    wrapped_key: bytes = b""
    correlation_id: str = ""
    channels: tuple[str, ...] = ()
    category: str = "general"
    stands_in: bool = False


@dataclass(frozen=True, slots=True)
class Passed:
    """A delivery that the gate let pass; ``token`` is the opaque form of its id."""

    token: str
    at: int


@dataclass(frozen=True, slots=True)
class RecipientSends:
    """The body of a ``c/`` row: the deliveries of the last day that count against a recipient's caps."""

    passed: tuple[Passed, ...] = ()


@dataclass(frozen=True, slots=True)
class ProviderDay:
    """The body of a ``q/`` row: the calls that one partition has begun of a provider whose calls a day are limited."""

    day: str
    calls: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a delivery and, once it has ended, the outcome that every further copy is answered with."""

    attempt: int
    state: AttemptState
    at: int
    until: int = 0
    outcome: "DeliveryAnswer | None" = None
    body_hash: str = ""
    to_hash: str = ""
    looks: int = 0


@dataclass(frozen=True, slots=True)
class RecipientDelivery:
    """The body of a ``d/`` row: the asks, attempts and withdrawals of one delivery. Asks up to ``withdrawn`` are dead.
    ``template``: the version of the template that its attempts are rendered with. ``digest_due``: until when it waited
    for others, ms UTC; ``digest``: the message that it was last put into with them; ``unwanted_at``: when core asked to
    take it back, ms UTC, 0: it did not."""

    reminder_id: str
    recipient_id: str
    occurrence: str
    round: int
    step: int
    ask: int
    withdrawn: int = 0
    channel: Channel = Channel.ANY
    attempts: tuple[Attempt, ...] = ()
    first_at: int = 0
    template: str = ""
    digest_due: int = 0
    digest: str = ""
    unwanted_at: int = 0


@dataclass(frozen=True, slots=True)
class Awaited:
    """A delivery that was told to ask again at the end of a window (ms UTC); ``token`` is the opaque form of its id."""

    token: str
    until: int


@dataclass(frozen=True, slots=True)
class RecipientDigest:
    """The body of a ``g/`` row: deliveries of one recipient and category that wait to go in one message.

    ``until``: when the window that is open ends. ``waiting``: who was told to ask again. ``gathered``: the requests
    that have come since (each a DeliveryRequest, encoded), ``closes``: when they go, whoever is still awaited.
    """

    recipient_id: str
    category: str
    until: int = 0
    waiting: tuple[Awaited, ...] = ()
    gathered: tuple[bytes, ...] = ()
    closes: int = 0


# -- internal topics ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeliveryRequest:
    """Topic ``notifications.requests``, key = recipient id, or reminder id where there is no recipient.

    ``stands_in``: a word about the link of somebody who may be asked in the recipient's place, and needs the key.
    """

    kind: RequestKind
    reminder_id: str
    recipient_id: str = ""
    occurrence: str = ""
    round: int = 0
    step: int = 0
    attempt: int = 0
    ask: int = 0
    asked_at: int = 0
    due_at: int = 0
    deadline: int = 0
    channel: Channel = Channel.ANY
    addressed: bool = False
    tried: tuple[str, ...] = ()
    priority: Priority = Priority.NORMAL
    category: str = "general"
    template: str = ""
    tenant: str = ""
    source: str = ""
    correlation_id: str = ""
    link: int = 0
    follows_zone: bool = False
    zone: str = ""
    wrapped_key: bytes = b""
    sealed: Sealed = Sealed()
    stages: Stages | None = None
    wants_answer: bool = False
    channels: tuple[str, ...] = ()
    max_cost_micros: int = 0
    stands_in: bool = False


@dataclass(frozen=True, slots=True)
class MessageItem:
    """What a message says where it is one of several in a digest: its own title and text, and what they became by its
    template."""

    title: str = ""
    text: str = ""
    said_title: str = ""
    said_text: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """What is inside ``Delivery.sealed``: where it goes and what it says, rendered for its channel. ``also``: further
    devices of the recipient that get the same."""

    address: str
    name: str = ""
    title: str = ""
    text: str = ""
    html: str = ""
    data: dict[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    last_inbound_at: int = 0
    locale: str = ""
    item: MessageItem | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """Topics ``notifications.<channel>``, keyed as the requests: one delivery, everything its channel needs.
    ``template``: the version that it was rendered with. ``digest``: the message that it goes in with others, those
    ``together`` (each a Delivery, encoded)."""

    delivery_id: str
    reminder_id: str
    occurrence: str
    channel: Channel
    recipient_id: str = ""
    round: int = 0
    step: int = 0
    attempt: int = 1
    ask: int = 0
    asked_at: int = 0
    due_at: int = 0
    deadline: int = 0
    category: str = "general"
    tenant: str = ""
    source: str = ""
    correlation_id: str = ""
    more: bool = False
    sealed: Sealed = Sealed()
    priority: Priority = Priority.NORMAL
    stages: Stages | None = None
    wants_answer: bool = False
    template: str = ""
    max_cost_micros: int = 0
    chosen: str = ""
    digest: str = ""
    together: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class DeliveryAnswer:
    """Topic ``notifications.outcomes``, key = reminder id.

    ``not_before`` is an instant, 0: now. ``spent``: whether the attempt counts against the budget. ``more``: other
    contacts of the recipient remain. ``detail`` is masked before it is written. ``digest``: the message that it went in
    with others.
    """

    kind: AnswerKind
    reminder_id: str
    delivery_id: str = ""
    occurrence: str = ""
    round: int = 0
    step: int = 0
    attempt: int = 0
    ask: int = 0
    outcome: OutcomeKind = OutcomeKind.NONE
    reason: str = ""
    channel: Channel = Channel.ANY
    provider: str = ""
    provider_id: str = ""
    code: str = ""
    detail: str = ""
    not_before: int = 0
    spent: bool = True
    more: bool = False
    cost_micros: int = 0
    started_at: int = 0
    ended_at: int = 0
    link: int = 0
    zone: str = ""
    reachable: bool = True
    correlation_id: str = ""
    stages: Stages | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class DeliveryReceipt:
    """Topic ``notifications.receipts``, key = reminder id: later news of a delivery, from a provider's callback."""

    reminder_id: str
    delivery_id: str
    outcome: OutcomeKind
    at: int
    provider: str = ""
    provider_id: str = ""
    code: str = ""
    detail: str = ""
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class RetryRecord:
    """Topics ``notifications.retry.<tier>``, key = reminder id: the public record that an attempt will be made
    again."""

    reminder_id: str
    occurrence: str
    round: int
    step: int
    attempt: int
    not_before: int
    reason: str
    channel: Channel = Channel.ANY
    at: int = 0
    correlation_id: str = ""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Topic ``reminders.audit``, key = reminder id: one transition or rejection, and why.

    ``seq`` numbers the entries of a row; a record whose seq is not above the last one read replaces it and what
    followed. 0: it belongs to no row, or to one that could not be read and was moved to MAYBE_SENT or DEAD_LETTER by
    its header. ``due``: when the row will act next. ``value`` and ``detail`` are masked where the field is personal.
    """

    reminder_id: str
    seq: int
    at: int
    from_state: State
    to_state: State
    reason: str = ""
    action: str = ""
    occurrence: str = ""
    round: int = 0
    step: int = 0
    attempt: int = 0
    ask: int = 0
    channel: Channel = Channel.ANY
    due_at: int = 0
    due: int = 0
    deadline: int = 0
    lateness_ms: int = 0
    field: str = ""
    value: str = ""
    remedy: str = ""
    provider: str = ""
    code: str = ""
    detail: str = ""
    version: int = 0
    event_id: str = ""
    correlation_id: str = ""
    source: str = ""
    tenant: str = ""
    actor: str = ""
    origin_topic: str = ""
    origin_partition: int = -1
    origin_offset: int = -1
    stages: Stages | None = None
    cost_micros: int = 0


@dataclass(frozen=True, slots=True)
class ReminderStatus:
    """Topic ``notifications.status``, key = reminder id: what became of an occurrence, for producers."""

    reminder_id: str
    occurrence: str
    state: State
    at: int
    reason: str = ""
    channel: Channel = Channel.ANY
    due_at: int = 0
    version: int = 0
    source: str = ""
    tenant: str = ""
    correlation_id: str = ""


@dataclass(frozen=True, slots=True)
class ControlRecord:
    """Topic ``reminders.control``, key = scope: a hold, a release, or a circuit's state with its expiry."""

    scope: str
    kind: str
    at: int
    starts_at: int = 0
    ends_at: int = 0
    reason: str = ""
    actor: str = ""
    rate_per_s: float = 0.0
    every: str = ""
    local: str = ""
    zone: str = ""
    lasts_ms: int = 0
    state: str = ""
    turn: int = 0
    misconfigured: bool = False
    beside: tuple[str, ...] = ()
    calls: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class TemplateRecord:
    """Topic ``templates``, key = name@version.words: a template's files by their paths, such as ``de/sms.txt``."""

    name: str
    version: int
    at: int
    parts: dict[str, str] = field(default_factory=dict)
    actor: str = ""


@dataclass(frozen=True, slots=True)
class SuppressionRecord:
    """Topic ``suppressions``, key = HMAC(channel, address): an address that must not be used."""

    channel: Channel
    reason: str
    at: int
    secret_version: int
    expires_at: int = 0
    scope: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class ReplyRecord:
    """Topic ``notifications.replies``: which messages wait for an answer, and when somebody last wrote.

    ``address_hash``: the keyed hash of channel and address. Key = reminder id, or that hash where somebody wrote.
    """

    kind: ReplyKind
    at: int
    address_hash: str = ""
    reminder_id: str = ""
    occurrence: str = ""
    delivery_id: str = ""
    until: int = 0
    message: str = ""


for _kind in [*globals().values()]:
    if isinstance(_kind, type) and is_dataclass(_kind):
        quicken(_kind)
