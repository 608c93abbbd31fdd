"""Series on real parts: by offsets and dates, changed and moved in flight, through an outage."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from deploy.dev.broker import Broker
from schemas.names import Action, Channel, Missed, State
from schemas.records import AuditEntry, Contact, Policy, RecipientEvent, ReminderEvent, Step
from tables.schedule import start_id
from tests.kafka.harness import Installation, installed, now_ms
from tests.sandbox.smtp_sink import SmtpSink


def wall(ms: int) -> str:
    return start_id(datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S"))


def seconds_from_now(n: int) -> int:
    return (now_ms() // 1000 + n) * 1000


def series(rid: str, start: int, *further: int, title: str = "", **more: object) -> ReminderEvent:
    """Return a reminder of starts in UTC, each a mail to one address of its own."""
    return ReminderEvent(
        rid,
        local=wall(start),
        zone="Etc/UTC",
        rdates=tuple(wall(at) for at in further),
        title=title or f"Title {rid}",
        text="Take your pills.",
        steps=(Step(Channel.EMAIL, address=f"{rid}@people.example"),),
        **more,  # type: ignore[arg-type]
    )


def mails(server: SmtpSink) -> Counter[str]:
    return Counter(to for mail in server.mails for to in mail.recipients)


def ended(service: Installation, rid: str) -> list[tuple[str, State, str]]:
    """Return how the occurrences of a reminder ended, as its audit says."""
    ends = {State.SENT, State.SKIPPED, State.CANCELLED, State.EXPIRED, State.DEAD_LETTER}
    seen: dict[int, AuditEntry] = {e.seq: e for e in service.audit(rid)}
    return [(e.occurrence, e.to_state, e.reason) for e in seen.values() if e.to_state in ends and e.occurrence]


async def until_ended(service: Installation, rid: str, count: int) -> None:
    await service.tap.until(lambda: len(ended(service, rid)) >= count, 60, f"{count} ended occurrences of {rid}")


async def test_each_start_and_offset_is_sent_once_at_its_second_also_over_a_kill(
    broker: Broker, tmp_path: Path
) -> None:
    async with SmtpSink() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        worker = service.start()
        await service.until_ready(worker)
        first = seconds_from_now(6)
        starts = (first, first + 4000, first + 8000)
        event = series("pills", *starts, before=("PT2S", "PT0S"))
        await service.send(event, event)
        await until_ended(service, "pills", 2)
        worker.kill()
        await worker.exit_code()
        service.start()
        await until_ended(service, "pills", 6)
        await service.all_in(["pills"], [State.SENT])
        expected = [f"{wall(at)}/{offset}" for at in starts for offset in ("PT2S", "PT0S")]
        ends = ended(service, "pills")
        assert [occurrence for occurrence, _, _ in ends] == expected
        sent = [occurrence for occurrence, state, _ in ends if state is State.SENT]
        # What came due while nobody worked is sent once, the last of it; the rest says that it was missed.
        assert set(ends) - {(o, State.SENT, "ok") for o in sent} == {
            (o, State.SKIPPED, "missed") for o in expected if o not in sent
        }
        assert len(sent) >= 3
        assert mails(server) == {"pills@people.example": len(sent)}


async def test_changes_before_during_and_after_a_send(broker: Broker, tmp_path: Path) -> None:
    async with SmtpSink() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        worker = service.start()
        await service.until_ready(worker)
        near, far = seconds_from_now(8), seconds_from_now(24)
        await service.send(
            series("text", near, far, version=1, title="Old"),
            series("rule", near, far, version=1),
            series("one", near, far, version=1),
            series("moved", near, far, version=1),
            series("paused", near, far, version=1),
        )
        await service.all_in(["text", "rule", "one", "moved", "paused"], [State.SCHEDULED])
        await service.send(
            ReminderEvent("one", action=Action.CANCEL, occurrence=wall(near)),
            ReminderEvent("moved", action=Action.SNOOZE, occurrence=wall(far), at=far + 2000),
            ReminderEvent("paused", action=Action.PAUSE),
        )
        await until_ended(service, "text", 1)
        await until_ended(service, "rule", 1)
        # Far enough for a slow machine to read the changes before what they change is due.
        later = far + 3000
        await service.send(
            series("text", near, far, version=2, title="New"),
            series("rule", near, later, version=2),
            ReminderEvent("paused", action=Action.RESUME),
        )
        for rid in ("text", "one", "moved", "paused"):
            await until_ended(service, rid, 2)
        await until_ended(service, "rule", 3)
        assert ended(service, "text") == [(f"{wall(at)}/PT0S", State.SENT, "ok") for at in (near, far)]
        # So near to its time it may have been asked for, so it was withdrawn before another took its place.
        assert ended(service, "rule") == [
            (f"{wall(near)}/PT0S", State.SENT, "ok"),
            (f"{wall(far)}/PT0S", State.SKIPPED, "replaced"),
            (f"{wall(later)}/PT0S", State.SENT, "ok"),
        ]
        assert ended(service, "one")[0] == (f"{wall(near)}/PT0S", State.CANCELLED, "cancelled")
        assert ended(service, "one")[1][:2] == (f"{wall(far)}/PT0S", State.SENT)
        moved = [e for e in service.audit("moved") if e.to_state is State.SENDING]
        assert [e.due_at for e in moved] == [near, far + 2000]
        assert ended(service, "paused")[0] == (f"{wall(near)}/PT0S", State.SKIPPED, "paused")
        assert mails(server) == {
            "text@people.example": 2,
            "rule@people.example": 2,
            "one@people.example": 1,
            "moved@people.example": 2,
            "paused@people.example": 1,
        }
        titles = sorted(mail.subject for mail in server.mails if "text@people.example" in mail.recipients)
        assert titles == ["New", "Old"]


async def test_a_series_follows_its_recipient_to_another_zone(broker: Broker, tmp_path: Path) -> None:
    """What was sent is not sent again in the west; what the flight to the east passes over is sent on arrival."""
    async with SmtpSink() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        worker = service.start()
        await service.until_ready(worker)
        contact = (Contact(Channel.EMAIL, "anna@people.example"),)
        await service.send_recipient(RecipientEvent("anna", zone="Etc/UTC", contacts=contact))
        first, hour = seconds_from_now(6), 3_600_000
        starts = (first, first + hour)
        event = ReminderEvent(
            "fly", "anna", local=wall(first), rdates=(wall(starts[1]),), text="x", policy=Policy(missed=Missed.ALL)
        )
        await service.send(event)
        await until_ended(service, "fly", 1)
        await service.send_recipient(RecipientEvent("anna", zone="Etc/GMT+1"))  # an hour to the west

        def due() -> int:
            row = service.rows()["fly"]
            return row.open.due_at if row.open is not None else 0

        await service.tap.until(lambda: due() == starts[1] + hour, 60, "the next one in the west")
        await service.send_recipient(RecipientEvent("anna", zone="Etc/GMT-2"))  # and to the east
        await until_ended(service, "fly", 2)
        assert ended(service, "fly") == [(f"{wall(at)}/PT0S", State.SENT, "ok") for at in starts]
        assert mails(server) == {"anna@people.example": 2}
