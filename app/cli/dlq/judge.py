"""Which letters can be put back, and where: what would be refused again stays where it is."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256

from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from agents.publisher import partition_of
from app.cli.dlq.desk import Parcel, headers_back
from app.cli.dlq.pick import kinds
from app.config import Settings
from app.dlq import How, Letter
from app.kafka import client_options
from app.topics import DAY_MS, TopicNames
from schemas import codec
from schemas.checks import Fault, check_recipient
from schemas.codec import Codec, Undecodable
from schemas.names import Action
from schemas.records import DeliveryAnswer, DeliveryReceipt, RecipientEvent, ReminderEvent
from tables.admission import event_fault

#: A letter that was put back this often is left alone.
MAX_REDRIVES = 5
OCCURRENCE = "an occurrence that was given up: name its letter, or give --occurrences, to send it in a new round"
CUT = "has only the beginning of a record that is too large for any topic; its producer sends it anew, in bounds"


def target(key: bytes | None, partition: int, partitions: int) -> int:
    """Return the partition on which a record is put: its key's, or the one that it came from."""
    return partition_of(key, partitions) if key else partition if 0 <= partition < partitions else 0


async def retentions(settings: Settings, topics: list[str]) -> dict[str, int]:
    """Return how long each topic keeps a record, in ms; -1: for ever."""
    admin = AIOKafkaAdminClient(**client_options(settings), client_id="reminders-cli", request_timeout_ms=20_000)
    await admin.start()
    found = {}
    try:
        for response in await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, t) for t in topics]):
            for code, _, _, name, entries in response.resources:
                values = {entry[0]: entry[1] for entry in entries}
                if not code and "delete" in (values.get("cleanup.policy") or ""):
                    found[name] = int(values.get("retention.ms") or -1)
    finally:
        await admin.close()
    return found


@dataclass(frozen=True, slots=True)
class Judge:
    """Says of each letter what stands against putting it back."""

    names: TopicNames
    codec: Codec
    partitions: Mapping[str, int]
    retention_ms: Mapping[str, int]
    force: bool = False
    occurrences: bool = False

    def against(self, letter: Letter, record: ConsumerRecord, now: int) -> str:
        """Return why a letter is left, "" where nothing is against it."""
        if letter.occurrence:
            return self._against_firing(letter, record)
        if letter.cut:
            return CUT
        if letter.topic not in kinds(self.names):
            return f"comes from {letter.topic or 'nowhere'}, which is no topic of this installation"
        if not self.partitions.get(letter.topic):
            return f"{letter.topic} does not exist; run `python -m app topics`"
        kept = self.retention_ms.get(letter.topic, -1)
        # What is older than its topic keeps would be deleted before anybody reads it.
        if kept >= 0 and letter.timestamp < now - kept + min(DAY_MS, kept // 2):
            return "too old for its topic, which would delete it; `dlq edit --now` sends it with the present time"
        if self.force:
            return ""
        if letter.redrives >= MAX_REDRIVES:
            return f"was put back {letter.redrives} times"
        fault = self.fault(letter, record.value, now)
        return f"would be refused again: {fault.reason}" if fault is not None else ""

    def _against_firing(self, letter: Letter, record: ConsumerRecord) -> str:
        """Return why an occurrence that was given up is not sent in a new round."""
        if not self.occurrences:
            return OCCURRENCE
        if not self.partitions.get(self.names.reminders):
            return f"{self.names.reminders} does not exist; run `python -m app topics`"
        if answer_of(record) is None:
            return f"its bytes cannot be read; send it with `fire {(letter.key or b'').decode('utf-8', 'replace')}`"
        return ""

    def fault(self, letter: Letter, value: bytes | None, now: int) -> Fault | None:
        """Return what is wrong with the bytes of a letter by this release, None if nothing is."""
        kind = kinds(self.names)[letter.topic]
        try:
            if kind is ReminderEvent:
                return event_fault(self.codec.decode_event(ReminderEvent, value), now, letter.timestamp)
            if kind is RecipientEvent:
                if value is None:
                    return None
                return check_recipient(self.codec.decode_event(RecipientEvent, value), now, letter.timestamp)
            codec.decode(kind, value or b"")
        except Undecodable as wrong:
            return wrong.fault
        return None


def parcel(letter: Letter, record: ConsumerRecord, partitions: int) -> Parcel:
    """Return a letter's record as it is put back: its key, bytes, headers and timestamp."""
    return Parcel(
        letter.place,
        letter.topic,
        target(record.key, letter.partition, partitions),
        record.key,
        record.value,
        headers_back(record.headers, letter, record.topic),
        letter.timestamp,
    )


def answer_of(record: ConsumerRecord) -> DeliveryAnswer | DeliveryReceipt | None:
    """Return the answer, or the news, by which an occurrence was given up; None where it cannot be read."""
    value = record.value or b""
    try:
        return codec.decode(DeliveryAnswer, value)
    except Undecodable:
        pass  # it may be a provider's later news
    try:
        return codec.decode(DeliveryReceipt, value)
    except Undecodable:
        return None


def renewed(letter: Letter, record: ConsumerRecord, names: TopicNames, partitions: int, who: str) -> Parcel:
    """Return the event that sends an occurrence which was given up in a new round.

    It names the delivery that failed: a reminder that has gone on since is left alone, and its trail says so.
    """
    answer = answer_of(record)
    if answer is None:
        raise ValueError("only what can be read is sent anew")
    event_id = sha256(f"{record.topic}/{letter.place}".encode()).hexdigest()[:32]
    event = ReminderEvent(
        answer.reminder_id,
        action=Action.FIRE,
        text=f"dead letter {letter.place} was put back",
        event_id=event_id,
        correlation_id=letter.correlation_id or event_id,
        source="dlq",
        actor=who,
        delivery_id=answer.delivery_id,
    )
    key = answer.reminder_id.encode()
    return replace(
        parcel(letter, record, partitions),
        topic=names.reminders,
        partition=partition_of(key, partitions),
        key=key,
        value=codec.encode(event),
        timestamp_ms=None,
    )


def corrected(
    letter: Letter, record: ConsumerRecord, event: ReminderEvent | RecipientEvent, partitions: int, who: str, now: bool
) -> Parcel:
    """Return the corrected event of a letter, as it is sent to the topic that the letter came from."""
    event_id = event.reminder_id if isinstance(event, ReminderEvent) else event.recipient_id
    key = event_id.encode()
    return replace(
        parcel(letter, record, partitions),
        partition=partition_of(key, partitions),
        key=key,
        value=codec.encode(event),
        headers=headers_back(record.headers, replace(letter, edited_by=""), record.topic, edited_by=who),
        timestamp_ms=None if now else letter.timestamp,
        how=How.EDITED,
    )
