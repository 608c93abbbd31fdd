"""A whole life on real parts: an event on Kafka becomes a mail at the right second."""

from collections import Counter
from pathlib import Path

from deploy.dev.broker import Broker
from schemas.names import State
from tests.kafka.harness import installed, mail_event, now_ms
from tests.sandbox.smtp_sink import SmtpSink


async def test_a_reminder_becomes_one_mail_at_its_second(broker: Broker, tmp_path: Path) -> None:
    async with SmtpSink() as sink, installed(broker.bootstrap, tmp_path, sink.port) as service:
        # A start may take long on a busy machine; what is measured is how late a worker is that is at work.
        await service.until_ready(service.start(), 90)
        due = now_ms() + 6000
        await service.send(mail_event("clinic/visit-1", due))
        await service.all_in(["clinic/visit-1"], [State.SENT])
        assert [mail.subject for mail in sink.mails] == ["Title clinic/visit-1"]
        assert [(e.from_state, e.to_state) for e in service.audit("clinic/visit-1")] == [
            (State.NONE, State.SCHEDULED),
            (State.SCHEDULED, State.SENDING),
            (State.SENDING, State.SENT),
        ]
        sent = service.audit("clinic/visit-1")[-1]
        assert 0 <= sent.lateness_ms < 2000


async def test_twenty_reminders_become_twenty_mails(broker: Broker, tmp_path: Path) -> None:
    async with SmtpSink() as sink, installed(broker.bootstrap, tmp_path, sink.port) as service:
        service.start()
        ids = [f"r-{n}" for n in range(20)]
        await service.send(*(mail_event(rid, now_ms() + 3000) for rid in ids))
        await service.all_in(ids, [State.SENT])
        counts = Counter(mail.recipients[0] for mail in sink.mails)
        assert counts == Counter(f"{rid}@people.example" for rid in ids)
