"""What is measured: every Prometheus instrument, declared as data, and the stages of a unit and of a delivery.

``docs/metrics.md`` is made from ``METRICS``; a test compares the two. Label values are bounded: what producers write
freely keeps its first distinct values, everything after them counts as ``other``.
"""

import re
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import generate_latest

from schemas.names import Channel, OutcomeKind, State
from tables import holds

disable_created_metrics()  # type: ignore[no-untyped-call]


class Stage(StrEnum):
    """The steps of a unit of work and of a delivery, in order; kill tests stop a worker at these names."""

    RECEIVED = "received"
    DECIDED = "decided"
    EMITTED = "emitted"
    LOGGED = "logged"
    WRITTEN = "written"
    ACKED = "acked"
    PUBLISHED = "published"
    CLAIMED = "claimed"
    GATED = "gated"
    QUEUED = "queued"
    STARTED = "started"
    CALLED = "called"
    ANSWERED = "answered"
    SETTLED = "settled"


STAGE_DOCS: dict[Stage, str] = {
    Stage.RECEIVED: "a unit has taken its raw events, unacknowledged",
    Stage.DECIDED: "the rules have decided; nothing has left",
    Stage.EMITTED: "the broker has acknowledged all emits",
    Stage.LOGGED: "the broker has acknowledged the changelog records",
    Stage.WRITTEN: "rows, index and offset are in the store",
    Stage.ACKED: "the events are acknowledged, to be committed",
    Stage.PUBLISHED: "the timer has given a due row, which has credit, to its partition's worker",
    Stage.CLAIMED: "a due row is SENDING and its request is on `notifications.requests`",
    Stage.GATED: "the gate has decided on a request",
    Stage.QUEUED: "the delivery is on its channel topic",
    Stage.STARTED: "the attempt is recorded as started",
    Stage.CALLED: "the call of the provider begins",
    Stage.ANSWERED: "the provider has answered, or the call has ended otherwise",
    Stage.SETTLED: "the outcome is in the row",
}


class MetricKind(StrEnum):
    """The kinds of instruments."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One instrument."""

    name: str
    kind: MetricKind
    doc: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_LATENESS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
_CALL = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_UNIT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_RECOVERY = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)

EVENTS = MetricSpec(
    "reminders_events_total",
    MetricKind.COUNTER,
    "Events decided upon, by action and by what became of them.",
    ("action", "result"),
)
REJECTED = MetricSpec(
    "reminders_rejected_total",
    MetricKind.COUNTER,
    "Events refused and sent to the DLQ, by reason and by producer.",
    ("reason", "source"),
)
UNREACHABLE = MetricSpec(
    "reminders_unreachable_total",
    MetricKind.COUNTER,
    "Warnings that a reminder has nobody whom it can reach: when that is known, and a day before it is due.",
)
DUE = MetricSpec("reminders_due", MetricKind.GAUGE, "Rows that are due and wait for credit or for the timer.")
LATENESS = MetricSpec(
    "reminders_lateness_seconds",
    MetricKind.HISTOGRAM,
    "Time from the due instant until a stage was reached.",
    ("stage", "channel"),
    _LATENESS,
)
OUTCOMES = MetricSpec(
    "notifications_outcomes_total",
    MetricKind.COUNTER,
    "Attempts that have ended, by how.",
    ("channel", "provider", "outcome"),
)
DIGEST_MEMBERS = MetricSpec(
    "notifications_digest_members",
    MetricKind.HISTOGRAM,
    "Reminders in one message, of the calls for digests; one where the others were over before the call.",
    ("channel",),
    (1, 2, 3, 5, 10, 20, 50),
)
UNKNOWN_CODES = MetricSpec(
    "notifications_unknown_codes_total",
    MetricKind.COUNTER,
    "Refusals with a code that no table of ours knows; the log has the code, docs/channels.md what is done about it.",
    ("channel", "provider"),
)
CALL = MetricSpec(
    "notifications_call_seconds",
    MetricKind.HISTOGRAM,
    "Duration of calls of a provider.",
    ("channel", "provider"),
    _CALL,
)
IN_FLIGHT = MetricSpec("notifications_in_flight", MetricKind.GAUGE, "Calls of providers under way.", ("channel",))
DLQ = MetricSpec("reminders_dlq_total", MetricKind.COUNTER, "Records written to the DLQ, by reason.", ("reason",))
DLQ_OPEN = MetricSpec(
    "reminders_dlq_open",
    MetricKind.GAUGE,
    "Dead letters that are not closed, by reason, parked ones too: of the partitions that a core worker owns, once it "
    "has read them; add up all workers.",
    ("reason",),
)
SEALED_OTHERWISE = MetricSpec(
    "reminders_sealed_otherwise",
    MetricKind.GAUGE,
    "Rows that are not sealed as `SEAL_KEY` and `SEAL_CONTACTS` say now, by why (`older_key`, `unknown_key`, "
    "`to_be_sealed`, `to_be_opened`): of the partitions that a delivery worker owns; add up all workers.",
    ("why",),
)
ORPHANS = MetricSpec(
    "reminders_orphans",
    MetricKind.GAUGE,
    "What does not add up between events, rows, outcomes and audit, by kind: of the partitions that a core worker "
    "owns; add up all workers.",
    ("kind",),
)
LEDGER_BEHIND = MetricSpec(
    "reminders_ledger_behind_seconds",
    MetricKind.GAUGE,
    "How far the ledger's reading is behind the present.",
)
UNIT = MetricSpec(
    "reminders_unit_seconds",
    MetricKind.HISTOGRAM,
    "Duration of a unit of work, from taking its events to acknowledging them.",
    buckets=_UNIT,
)
RECOVERY = MetricSpec(
    "reminders_recovery_seconds",
    MetricKind.HISTOGRAM,
    "Duration of recovering the assigned partitions after a rebalance.",
    buckets=_RECOVERY,
)
ROWS = MetricSpec("reminders_rows", MetricKind.GAUGE, "Rows of the assigned partitions, by state.", ("state",))
HELD = MetricSpec(
    "reminders_held",
    MetricKind.GAUGE,
    "Holds in force, by kind of scope. What they keep back waits in `reminders_due`, or as HELD in `reminders_rows`.",
    ("scope",),
)
CIRCUIT = MetricSpec(
    "reminders_circuit_state",
    MetricKind.GAUGE,
    "How a provider's circuit stands, as this delivery worker knows it: 0 closed, 1 a probe is under way, 2 open, 3 "
    "open because the provider refuses our settings, 4 paused because it asked for it.",
    ("channel", "provider"),
)
OLDEST_UNACKED = MetricSpec(
    "reminders_oldest_unacked_seconds",
    MetricKind.GAUGE,
    "For how long the oldest record of a topic's partition has been with this worker without being acknowledged: "
    "undone, or waiting for a free slot of its channel. Of the partitions that it owns.",
    ("topic", "partition"),
)
FORWARDED = MetricSpec(
    "reminders_forwarded_total",
    MetricKind.COUNTER,
    "Events that lay on another partition than their key's and were forwarded.",
)
SCANS = MetricSpec("reminders_scans_total", MetricKind.COUNTER, "Scans of the due index.")
TZDATA = MetricSpec(
    "reminders_tzdata_info", MetricKind.GAUGE, "Always 1; the release of the time zone data in use.", ("version",)
)
TZDATA_SINCE = MetricSpec(
    "reminders_tzdata_timestamp_seconds",
    MetricKind.GAUGE,
    "A day before which the time zone data in use were not released, known to half a year; `time()` less this is the "
    "greatest age that they can have.",
)

TEMPLATES = MetricSpec(
    "reminders_templates_faulty",
    MetricKind.GAUGE,
    "Versions of templates in `TEMPLATES_DIR` that are not taken, since they have a fault; the log says which.",
)

SECRETS = MetricSpec(
    "reminders_secrets_faulty",
    MetricKind.GAUGE,
    "Faults of secrets' files that have changed and cannot be used; what they held before is used; the log says which.",
)

METRICS: tuple[MetricSpec, ...] = (
    EVENTS,
    REJECTED,
    UNREACHABLE,
    DUE,
    LATENESS,
    OUTCOMES,
    DIGEST_MEMBERS,
    UNKNOWN_CODES,
    CALL,
    IN_FLIGHT,
    DLQ,
    DLQ_OPEN,
    SEALED_OTHERWISE,
    ORPHANS,
    LEDGER_BEHIND,
    UNIT,
    RECOVERY,
    ROWS,
    HELD,
    CIRCUIT,
    OLDEST_UNACKED,
    FORWARDED,
    SCANS,
    TZDATA,
    TZDATA_SINCE,
    TEMPLATES,
    SECRETS,
)

OTHER = "other"
NONE = "none"
# Begins with a letter: neither a phone number nor a mailbox nor a token passes as the name of a system.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:/-]{0,39}\Z")


class Bounded:
    """A label whose values come from outside: the first ``limit`` plausible names are kept, all else is ``other``."""

    __slots__ = ("_known", "_limit")

    def __init__(self, limit: int = 50) -> None:
        """Start with no known value."""
        self._known: set[str] = set()
        self._limit = limit

    def __call__(self, value: str) -> str:
        """Return the label for a value."""
        if value in self._known:
            return value
        if not value:
            return NONE
        if len(self._known) >= self._limit or not _NAME.match(value):
            return OTHER
        self._known.add(value)
        return value


class Meter:
    """All instruments of one application, on a registry of its own. Counts; decides nothing and never raises."""

    def __init__(self, registry: CollectorRegistry | None = None, *, process: bool = True) -> None:
        """Create the instruments on ``registry`` or a new one; ``process``: with memory and CPU of the process."""
        self.registry = registry if registry is not None else CollectorRegistry()
        if process:
            ProcessCollector(registry=self.registry)
        self._events = self._counter(EVENTS)
        self._rejected = self._counter(REJECTED)
        self._unreachable = self._counter(UNREACHABLE)
        self._due = self._gauge(DUE)
        self._lateness = self._histogram(LATENESS)
        self._outcomes = self._counter(OUTCOMES)
        self._digest_members = self._histogram(DIGEST_MEMBERS)
        self._unknown_codes = self._counter(UNKNOWN_CODES)
        self._call = self._histogram(CALL)
        self._in_flight = self._gauge(IN_FLIGHT)
        self._dlq = self._counter(DLQ)
        self._dlq_open = self._gauge(DLQ_OPEN)
        self._open_reasons: set[str] = set()
        self._sealed_otherwise = self._gauge(SEALED_OTHERWISE)
        self._orphans = self._gauge(ORPHANS)
        self._ledger_behind = self._gauge(LEDGER_BEHIND)
        self._unit = self._histogram(UNIT)
        self._recovery = self._histogram(RECOVERY)
        self._rows = self._gauge(ROWS)
        self._held = self._gauge(HELD)
        self.held(())
        self._circuit = self._gauge(CIRCUIT)
        self._oldest_unacked = self._gauge(OLDEST_UNACKED)
        self._unacked: dict[str, set[int]] = {}
        #: Called before the values are shown.
        self.asked: list[Callable[[], None]] = []
        self._forwarded = self._counter(FORWARDED)
        self._scans = self._counter(SCANS)
        self._tzdata = self._gauge(TZDATA)
        self._tzdata_since = self._gauge(TZDATA_SINCE)
        self._templates = self._gauge(TEMPLATES)
        self._secrets = self._gauge(SECRETS)
        #: Looking a child up by its labels costs more than counting; results are few, but not all are ours.
        self._event_children: dict[tuple[str, str], Counter] = {}
        #: Stages, channels and outcomes are closed sets, and a worker's providers are few.
        self._lateness_children: dict[tuple[Stage, Channel], Histogram] = {}
        self._outcome_children: dict[tuple[Channel, str, OutcomeKind], Counter] = {}
        self._call_children: dict[tuple[Channel, str], Histogram] = {}
        self._source = Bounded()
        self._reason = Bounded(100)
        self._result = Bounded()
        self._provider = Bounded()

    def _counter(self, spec: MetricSpec) -> Counter:
        return Counter(spec.name, spec.doc, spec.labels, registry=self.registry)

    def _gauge(self, spec: MetricSpec) -> Gauge:
        return Gauge(spec.name, spec.doc, spec.labels, registry=self.registry)

    def _histogram(self, spec: MetricSpec) -> Histogram:
        return Histogram(spec.name, spec.doc, spec.labels, registry=self.registry, buckets=spec.buckets)

    def event(self, action: str, result: str, count: int = 1) -> None:
        """Count an event by its action (a closed set) and by what became of it."""
        child = self._event_children.get((action, result))
        if child is None:
            child = self._events.labels(self._result(action), self._result(result))
            if len(self._event_children) < 1000:
                self._event_children[action, result] = child
        child.inc(count)

    def rejected(self, reason: str, source: str) -> None:
        """Count an event that was refused."""
        self._rejected.labels(self._reason(reason), self._source(source)).inc()

    def unreachable(self) -> None:
        """Count a warning that a reminder has nobody whom it can reach."""
        self._unreachable.inc()

    def due(self, rows: int) -> None:
        """Say how many rows are due now."""
        self._due.set(rows)

    def lateness(self, stage: Stage, channel: Channel, seconds: float) -> None:
        """Record how late a stage was reached."""
        child = self._lateness_children.get((stage, channel))
        if child is None:
            child = self._lateness_children[stage, channel] = self._lateness.labels(stage.value, channel.value)
        child.observe(max(0.0, seconds))

    def outcome(self, channel: Channel, provider: str, outcome: OutcomeKind) -> None:
        """Count an attempt that has ended."""
        child = self._outcome_children.get((channel, provider, outcome))
        if child is None:
            child = self._outcomes.labels(channel.value, self._provider(provider), outcome.value)
            if len(self._outcome_children) < 1000:
                self._outcome_children[channel, provider, outcome] = child
        child.inc()

    def digest(self, channel: Channel, members: int) -> None:
        """Record how many reminders a digest holds whose call begins."""
        self._digest_members.labels(channel.value).observe(members)

    def unknown_code(self, channel: Channel, provider: str) -> None:
        """Count a refusal whose code no table knows."""
        self._unknown_codes.labels(channel.value, self._provider(provider)).inc()

    def call(self, channel: Channel, provider: str, seconds: float) -> None:
        """Record how long a call of a provider took."""
        child = self._call_children.get((channel, provider))
        if child is None:
            child = self._call.labels(channel.value, self._provider(provider))
            if len(self._call_children) < 1000:
                self._call_children[channel, provider] = child
        child.observe(seconds)

    @contextmanager
    def in_flight(self, channel: Channel) -> Iterator[None]:
        """Count a call as under way for as long as the block runs."""
        gauge = self._in_flight.labels(channel.value)
        gauge.inc()
        try:
            yield
        finally:
            gauge.dec()

    def dlq(self, reason: str) -> None:
        """Count a record written to the DLQ."""
        self._dlq.labels(self._reason(reason)).inc()

    def dlq_open(self, letters: Mapping[str, int]) -> None:
        """Say how many dead letters are open, by reason. A reason that was told once is told as 0 when it has none."""
        counts = dict.fromkeys(self._open_reasons, 0)
        for reason, count in letters.items():
            label = self._reason(reason)
            counts[label] = counts.get(label, 0) + max(0, count)
        self._open_reasons.update(counts)
        for label, count in counts.items():
            self._dlq_open.labels(label).set(count)

    def sealed_otherwise(self, why: Mapping[str, int]) -> None:
        """Say how many rows are not sealed as they would be now, by every reason there is."""
        for name, count in why.items():
            self._sealed_otherwise.labels(name).set(count)

    def orphans(self, kinds: Mapping[str, int], behind_s: float) -> None:
        """Say how many orphans stand, by every kind there is, and how far behind the present that is known."""
        for kind, count in kinds.items():
            self._orphans.labels(kind).set(count)
        self._ledger_behind.set(behind_s)

    def unit(self, seconds: float) -> None:
        """Record how long a unit of work took."""
        self._unit.observe(seconds)

    def recovery(self, seconds: float) -> None:
        """Record how long a recovery took."""
        self._recovery.observe(seconds)

    def rows(self, state: State, rows: int) -> None:
        """Say how many rows are in a state."""
        self._rows.labels(state.value).set(rows)

    def held(self, scopes: Iterable[str]) -> None:
        """Say which scopes are held; only their kinds become labels."""
        found = Counts(holds.kind_of(scope) for scope in scopes)
        for kind in holds.KINDS:
            self._held.labels(kind).set(found[kind])

    def circuit(self, channel: str, provider: str, state: int) -> None:
        """Say how a provider's circuit stands."""
        self._circuit.labels(channel.upper(), self._provider(provider)).set(state)

    def oldest_unacked(self, topic: str, seconds: Mapping[int, float]) -> None:
        """Say for how long the oldest record of each partition of a topic has waited; all others are told no more."""
        for partition in self._unacked.get(topic, set()) - seconds.keys():
            self._oldest_unacked.remove(topic, str(partition))
        self._unacked[topic] = set(seconds)
        for partition, waited in seconds.items():
            self._oldest_unacked.labels(topic, str(partition)).set(max(0.0, waited))

    def forwarded(self, count: int = 1) -> None:
        """Count events forwarded to the partition of their key."""
        self._forwarded.inc(count)

    def scan(self) -> None:
        """Count a scan of the due index."""
        self._scans.inc()

    def tzdata(self, version: str, since_s: float) -> None:
        """Note the release of the time zone data, and the second since 1970 that they are no older than."""
        self._tzdata.clear()
        self._tzdata.labels(version).set(1)
        self._tzdata_since.set(since_s)

    def templates(self, faulty: int) -> None:
        """Show how many versions of templates are not taken."""
        self._templates.set(faulty)

    def secrets(self, faulty: int) -> None:
        """Show how many faults the files of secrets have that have changed."""
        self._secrets.set(faulty)

    def expose(self) -> bytes:
        """Return all values in Prometheus' text format."""
        for refresh in self.asked:
            refresh()
        return generate_latest(self.registry)


#: What ``expose`` returns, as an HTTP content type.
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


def document() -> str:
    """Return the text of docs/metrics.md."""
    out = [
        "# Metrics",
        "",
        "Made from `agents/meter.py` by `python -m app config doc metrics`; a test compares. Each worker",
        "answers `/metrics` on its web port, in Prometheus' text format, with these and the `process_*` metrics.",
        "",
        "| metric | kind | labels | meaning |",
        "|---|---|---|---|",
    ]
    for spec in METRICS:
        labels = ", ".join(f"`{label}`" for label in spec.labels) or "–"
        out.append(f"| `{spec.name}` | {spec.kind} | {labels} | {spec.doc} |")
    out += [
        "",
        "No label holds an id, an address or a text. `source`, `reason`, `result` and `provider` keep their first",
        f"distinct names (50; reasons 100); later ones, and what is no plausible name, count as `{OTHER}`, an empty",
        f"one as `{NONE}`.",
        "Counters begin at 0 with each process: use `rate()`.",
        "",
        "## Buckets",
        "",
        "In seconds; each histogram has `+Inf` as well.",
        "",
        *(f"- `{spec.name}`: {', '.join(f'{b:g}' for b in spec.buckets)}" for spec in METRICS if spec.buckets),
        "",
        "## Stages",
        "",
        "The label `stage`, in the order of a life: first those of every unit of work, then those of a delivery.",
        "",
        "| stage | reached when |",
        "|---|---|",
        *(f"| `{stage.value}` | {STAGE_DOCS[stage]} |" for stage in Stage),
        "",
    ]
    return "\n".join(out)
