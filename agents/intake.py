"""Intake: producers' events become rows. What is malformed is answered with its reason and never stops its
neighbours."""

from hashlib import sha256

from agents import letters
from agents.core import Core, rejection
from agents.ports import Decision, Inbound, Job, Out, View
from agents.publisher import partition_of
from schemas import checks, codec
from schemas.checks import Fault, Reason
from schemas.codec import Undecodable
from schemas.names import Action
from schemas.quick import replace
from schemas.records import Content, Definition, ReminderEvent, RowStep, Sealed
from schemas.sealing import CONTENT
from tables import admission, keys, lifecycle

#: It does not say whose the id is.
OTHER_TENANT_REMEDY = "this id is not this tenant's: use another id, or the tenant with which the reminder was made"


def read(core: Core, record: Inbound) -> Job:
    """Return the job of a record of topic ``reminders``, or of a team's intake topic."""
    try:
        event = core.codec.decode_event(ReminderEvent, record.value)
    except Undecodable as why:
        core.meter.rejected(str(why.reason), "")
        return core.unreadable(record, why)
    key = event.reminder_id.encode("utf-8", "surrogatepass")
    prefix = core.topics.prefixes.get(record.topic, "")

    def run(view: View, now: int) -> Decision:
        record_ms = round(record.timestamp * 1000)
        event_id = event.event_id or sha256((record.value or b"") + str(record_ms).encode()).hexdigest()[:32]
        correlation = event.correlation_id or letters.correlation(record) or event_id

        def refuse(fault: Fault) -> Decision:
            core.meter.rejected(str(fault.reason), event.source)
            core.meter.event(event.action.value, "rejected")
            entry = rejection(
                record,
                str(fault.reason),
                fault.field,
                fault.value,
                fault.remedy,
                now,
                _safe_id(event.reminder_id),
                action=event.action.value,
                event_id=event_id[:200],
                correlation_id=correlation[:200],
                source=event.source[:200],
                tenant=event.tenant[:200],
            )
            return core.rejected(record, entry, now)

        fault = admission.event_fault(event, now, record_ms, core.rules.times)
        if fault is None and prefix:
            fault = checks.check_prefix(event.reminder_id, prefix, core.topics.reminders)
        if fault is not None:
            return refuse(fault)
        if partition_of(key, core.partitions) != record.partition:
            if (fault := letters.too_heavy(record)) is not None:
                return refuse(fault)
            return _forward(core, record, key, now)
        if record.key != key:
            core.meter.event(event.action.value, "key_replaced")
        row = core.row(view, key)
        arrival = replace(core.arrival(record, now, event_id, correlation), actor=event.actor)
        if lifecycle.of_another_tenant(row, event, arrival):
            return refuse(Fault(Reason.OTHER_TENANT, "tenant", checks.shown(event.tenant), OTHER_TENANT_REMEDY))
        definition = definition_of(event, correlation) if event.action is Action.UPSERT else None
        wrapped = b""
        if definition is not None and core.sealing:
            sealed, wrapped = core.sealing.seal(event.reminder_id, CONTENT, definition.sealed.body, core.random)
            definition = replace(definition, sealed=sealed)
        step = lifecycle.apply_event(event.reminder_id, row, event, definition, arrival, core.rules)
        if wrapped and step.changed and step.row is not None and step.row.definition is definition:
            step = keys.sent_along(event.reminder_id, step, wrapped, now)
        core.meter.event(event.action.value, step.result)
        return core.decision(key, step, record)

    return Job((key,), run, record)


def definition_of(event: ReminderEvent, correlation_id: str) -> Definition:
    """Return an UPSERT as the row keeps it: everything personal in one sealed field (key id 0: in clear)."""
    content = Content(event.title, event.text, event.data, tuple([step.address for step in event.steps]), event.actor)
    return Definition(
        recipient_id=event.recipient_id,
        local=event.local,
        zone=event.zone,
        at=event.at,
        rrule=event.rrule,
        cron=event.cron,
        exclude=event.exclude,
        rdates=event.rdates,
        before=event.before,
        calendar=event.calendar,
        expires_at=event.expires_at,
        jitter_s=event.jitter_s,
        template=event.template,
        category=event.category,
        priority=event.priority,
        steps=tuple([RowStep(s.channel, s.wait_for, s.within_s, bool(s.address)) for s in event.steps]),
        policy=event.policy,
        correlation_id=correlation_id,
        source=event.source,
        tenant=event.tenant,
        sealed=Sealed(0, codec.encode(content)),
    )


def _safe_id(reminder_id: str) -> str:
    """Return an id that may itself be what is wrong, fit to be a key and a line of text."""
    return "".join(c if c.isprintable() else "�" for c in reminder_id)[:200]


def _forward(core: Core, record: Inbound, key: bytes, now: int) -> Decision:
    """Move an event to the partition of its id, once, with the timestamp that orders it."""
    if letters.header(record, letters.FORWARDED):
        entry = rejection(
            record,
            "misrouted",
            "partition",
            str(record.partition),
            f"topic {record.topic} must have {core.partitions} partitions; see docs/topics.md",
            now,
            key.decode(),
        )
        return core.rejected(record, entry, now)
    core.meter.forwarded()
    origin = f"{record.topic}/{record.partition}/{record.offset}".encode()
    headers = (*letters.original_headers(record), (letters.FORWARDED, origin))
    target = partition_of(key, core.partitions)
    return Decision({}, (Out(record.topic, target, key, record.value, headers, round(record.timestamp * 1000)),))
