"""Time itself misbehaves: newer zone data, a clock that jumps, a table from a backup, much that was missed at once."""

import asyncio
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import tzdata

from deploy.dev.broker import Broker
from schemas.names import Action, Missed, Priority, State
from schemas.records import AuditEntry, Policy, ReminderEvent
from tables.ledger import GRACE_MS
from tests.kafka.harness import Installation, adds_up, installed, mail_event, now_ms
from tests.kafka.test_series import ended, mails, seconds_from_now, series, until_ended, wall
from tests.sandbox.smtp_server import Hold, SmtpServer, Stage
from tests.sandbox.smtp_sink import SmtpSink

HOUR = 3_600_000


def older_data(folder: Path) -> str:
    """Make a tzdata package of an earlier release, by which Vancouver's clocks go as Berlin's do; return its path."""
    package = Path(tzdata.__file__).parent
    shutil.copytree(package, folder / "tzdata")
    init = folder / "tzdata" / "__init__.py"
    init.write_text(init.read_text().replace(tzdata.IANA_VERSION, "2020a"))
    zones = folder / "tzdata" / "zoneinfo"
    shutil.copy(zones / "Europe" / "Berlin", zones / "America" / "Vancouver")
    return str(folder)


async def test_what_waits_is_placed_anew_by_newer_zone_data(broker: Broker, tmp_path: Path) -> None:
    async with SmtpSink() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        worker = service.start(role="core", PYTHONPATH=older_data(tmp_path / "older"))
        await service.until_ready(worker)
        once = ReminderEvent("once", "anna", "2036-07-01T09:00", "America/Vancouver", "x")
        daily = ReminderEvent("daily", "anna", "2036-07-01T09:00", "America/Vancouver", "x", rrule="FREQ=DAILY")
        other = ReminderEvent("other", "anna", "2036-07-01T09:00", "Europe/Berlin", "x")
        await service.send(once, daily, other)
        await service.all_in(["once", "daily", "other"], [State.SCHEDULED])
        before = {rid: row.open.due_at for rid, row in service.rows().items() if row.open is not None}
        assert len(set(before.values())) == 1
        assert {row.tzdata for row in service.rows().values()} == {"tz:2020a"}
        worker.kill()
        await worker.exit_code()
        service.start(role="core")
        stamp = f"tz:{tzdata.IANA_VERSION}"
        await service.tap.until(
            lambda: {row.tzdata for row in service.rows().values()} == {stamp}, 60, "all rows placed by the newer data"
        )
        after = {rid: row.open.due_at for rid, row in service.rows().items() if row.open is not None}
        # 09:00 in Vancouver is nine hours later than it was by the older data; in Berlin it is when it was.
        assert {rid: after[rid] - before[rid] for rid in after} == {"once": 9 * HOUR, "daily": 9 * HOUR, "other": 0}
        rows = service.rows()
        assert rows["daily"].next_due == after["daily"] + 24 * HOUR
        told = {e.reminder_id: e.due_at for e in service.audit() if e.reason == "tz_moved"}
        assert told == {"once": after["once"], "daily": after["daily"]}
        log = service.workers[-1].log.read_text()
        for rid in ("once", "daily"):
            assert f"new time zone data moved {rid}, 2036-07-01T09:00/PT0S, from 2036-07-01T07:00:00+00:00 to" in log
        assert "moved other" not in log


def claims(service: Installation) -> dict[int, list[AuditEntry]]:
    """Return what was asked for, by partition, in order."""
    from schemas import codec

    found: dict[int, list[AuditEntry]] = defaultdict(list)
    for record in service.tap.records[service.names.audit]:
        entry = codec.decode(AuditEntry, record.value)
        if entry.to_state is State.SENDING:
            found[record.partition].append(entry)
    return found


async def test_what_came_due_in_downtime_goes_out_at_a_rate_the_urgent_first(broker: Broker, tmp_path: Path) -> None:
    rate, count = 8, 32
    async with SmtpSink() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        worker = service.start()
        await service.until_ready(worker)
        due = seconds_from_now(10)
        ids = [f"r{n}" for n in range(count)]
        urgent = set(ids[1::4])
        await service.send(
            *(mail_event(rid, due, priority=Priority.URGENT if rid in urgent else Priority.NORMAL) for rid in ids)
        )
        await service.all_in(ids, [State.SCHEDULED])
        worker.kill()
        await worker.exit_code()
        assert not service.tap.records[service.names.requests], (
            "the machine was too slow: some were due before the kill"
        )
        await asyncio.sleep(max(0, (due - now_ms()) / 1000 + 0.5))
        service.start(CATCH_UP_PER_S=str(rate))
        await service.all_in(ids, [State.SENT])
        assert mails(server) == {f"{rid}@people.example": 1 for rid in ids}
        slot_ms = service.partitions * 1000 / rate
        for asked in claims(service).values():
            ranks = [entry.reminder_id not in urgent for entry in asked]
            assert ranks == sorted(ranks), "urgent first"
            # A machine that stands still for a moment may make up for a little of it at once.
            assert asked[-1].at - asked[0].at >= (len(asked) - 3) * slot_ms
            assert all(entry.lateness_ms >= 0 and entry.due_at == due for entry in asked)


async def test_a_clock_that_jumps_an_hour_on_and_back_neither_doubles_nor_loses(broker: Broker, tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_text("0")

    def jump(ms: int) -> None:
        clock.with_suffix(".new").write_text(str(ms))
        clock.with_suffix(".new").replace(clock)

    async def nudge(name: str, at: int) -> None:
        """Send one that is due soon: the timer, which looks at the clock twice a minute, looks at it now."""
        await service.send(mail_event(name, at))
        await service.all_in([name], [State.SENT])

    async with SmtpSink() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        worker = service.start(CLOCK_FILE=str(clock))
        await service.until_ready(worker)
        first = seconds_from_now(8)
        starts = (first, first + HOUR // 2, first + HOUR + HOUR // 2)
        await service.send(
            series("pills", *starts, policy=Policy(missed=Missed.ALL)), mail_event("once", first + HOUR // 2)
        )
        await until_ended(service, "pills", 1)
        jump(HOUR)
        await nudge("on", now_ms() + HOUR)
        await until_ended(service, "pills", 2)
        await service.all_in(["once"], [State.SENT])
        jump(0)
        await nudge("back", now_ms() + 1000)
        # The third is still to come, by the clock that went back and by the one that was right all along.
        assert len(ended(service, "pills")) == 2
        row = service.rows()["pills"]
        assert (row.open.occurrence, row.open.due_at) == (f"{wall(starts[2])}/PT0S", starts[2]) if row.open else False
        jump(HOUR)
        await nudge("again", now_ms() + HOUR)
        assert len(ended(service, "pills")) == 2
        expected = [f"{wall(at)}/PT0S" for at in starts[:2]]
        assert [(occurrence, state) for occurrence, state, _ in ended(service, "pills")] == [
            (occurrence, State.SENT) for occurrence in expected
        ]
        assert mails(server) == {
            "pills@people.example": 2,
            **{f"{rid}@people.example": 1 for rid in ("once", "on", "back", "again")},
        }
        await adds_up(service, first - 60_000, now_ms() + HOUR + GRACE_MS)


async def test_a_table_from_a_backup_does_not_replay(broker: Broker, tmp_path: Path) -> None:
    """Core's table as it was before a send; delivery knows that it was made, and says so again without a call."""
    async with SmtpSink() as server, installed(broker.bootstrap, tmp_path, server.port) as service:
        worker = service.start()
        await service.until_ready(worker)
        first = seconds_from_now(6)
        await service.send(series("pills", first, first + HOUR), mail_event("once", first))
        await service.all_in(["pills", "once"], [State.SCHEDULED])
        backup = service.raw_rows()
        await until_ended(service, "pills", 1)
        await service.all_in(["once"], [State.SENT])
        worker.kill()
        await worker.exit_code()
        places = {r.key: r.partition for r in service.tap.records[service.names.reminders_changelog]}
        for key, value in backup.items():
            await service.producer.send_and_wait(
                service.names.reminders_changelog, value, key=key, partition=places[key]
            )
        shutil.rmtree(tmp_path / "worker-0")
        audited = len(service.audit())
        service.start()
        await service.tap.until(
            lambda: [e.to_state for e in service.audit()[audited:]].count(State.SENT) == 2,
            60,
            "both sent, once more told",
        )
        await service.all_in(["once"], [State.SENT])
        row = service.rows()["pills"]
        assert row.open is not None
        assert row.open.occurrence == f"{wall(first + HOUR)}/PT0S"
        assert mails(server) == {"pills@people.example": 1, "once@people.example": 1}


async def test_one_of_a_series_is_changed_while_it_is_sent_and_afterwards(broker: Broker, tmp_path: Path) -> None:
    """The mail server answers once the cancel has been asked of delivery: what was called is what became."""
    go_on = asyncio.Event()
    slow = {"SMTP_FINAL_TIMEOUT_S": "60", "LEASE_S": "90", "SMTP_TIMEOUT_S": "60"}
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port, extra=slow) as service:
        server.say(Stage.DOT, Hold(go_on), to="during@people.example")
        worker = service.start()
        await service.until_ready(worker)
        near = seconds_from_now(6)
        far = near + 20_000
        await service.send(series("during", near, far), series("after", near, near + HOUR))
        await until_ended(service, "after", 1)
        await server.until(lambda: server.holds == 1)
        await service.send(
            ReminderEvent("during", action=Action.CANCEL, occurrence=wall(near)),
            ReminderEvent("after", action=Action.CANCEL, occurrence=wall(near)),
            ReminderEvent("after", action=Action.SNOOZE, occurrence=wall(near), at=now_ms() + 1500),
        )
        await service.all_in(["during"], [State.WITHDRAWING])
        go_on.set()
        await until_ended(service, "during", 2)
        await until_ended(service, "after", 2)
        sent = [f"{wall(at)}/PT0S" for at in (near, far)]
        assert [(o, state) for o, state, _ in ended(service, "during")] == [(o, State.SENT) for o in sent]
        # Too late for a cancel, and who asks for it gets it again.
        assert [(o, state) for o, state, _ in ended(service, "after")] == [(sent[0], State.SENT)] * 2
        for rid in ("during", "after"):
            assert "cancel_too_late" in {entry.reason for entry in service.audit(rid)}
        to = Counter(recipient for mail in server.mails for recipient in mail.recipients)
        assert to == {"during@people.example": 2, "after@people.example": 2}
