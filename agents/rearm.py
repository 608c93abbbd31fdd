"""Rearm: the public retry records arm again a row that has lost its due, and leave alone what knows it."""

from agents.core import Core
from agents.ports import Decision, Inbound, Job, View
from schemas import codec
from schemas.codec import Undecodable
from schemas.records import RetryRecord
from tables import settling


def read(core: Core, record: Inbound) -> Job:
    """Return the job of a record of a tier topic."""
    try:
        retry = codec.decode(RetryRecord, record.value or b"")
    except Undecodable as why:
        return core.unreadable(record, why)
    key = retry.reminder_id.encode()

    def run(view: View, now: int) -> Decision:
        arrival = core.arrival(record, now, correlation_id=retry.correlation_id)
        step = settling.rearm(retry.reminder_id, core.row(view, key), retry, arrival, core.rules)
        return core.decision(key, step, record)

    return Job((key,), run, record)
