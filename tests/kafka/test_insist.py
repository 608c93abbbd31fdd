"""Until they answer, on real parts: answers that cross with what is sent, others who are asked, a quorum of two."""

from pathlib import Path

from deploy.dev.broker import Broker
from schemas.names import Action, Channel, State, WaitFor
from schemas.records import AuditEntry, Contact, Policy, RecipientEvent, ReminderEvent, Step
from tables.transition import delivery_id
from tests.channels.twilio_stage import SENDER, authority
from tests.kafka.harness import Installation, installed, mail_event, now_ms
from tests.sandbox.smtp_sink import SmtpSink
from tests.sandbox.twilio_server import TwilioServer


def mails(server: SmtpSink, address: str) -> int:
    return sum(address in mail.recipients for mail in server.mails)


def wanting(rid: str, at: int, policy: Policy) -> ReminderEvent:
    return ReminderEvent(
        rid,
        "anna",
        at=at,
        title=f"Title {rid}",
        text="Who goes?",
        steps=(Step(Channel.EMAIL, address=f"{rid}@people.example"),),
        policy=policy,
    )


def account(server: TwilioServer) -> dict[str, str]:
    return {
        "TWILIO_ACCOUNT_SID": server.account,
        "TWILIO_AUTH_TOKEN": server.token,
        "TWILIO_BASE_URL": server.url,
        "TWILIO_CA_FILE": str(authority().file),
        "TWILIO_SMS_FROM": SENDER,
    }


def noted(service: Installation, rid: str, reason: str) -> AuditEntry | None:
    return next((e for e in service.audit(rid) if e.reason == reason), None)


async def test_it_is_asked_again_until_enough_have_answered_and_not_once_more(broker: Broker, tmp_path: Path) -> None:
    async with (
        TwilioServer(authority().issue("twilio").server()) as texts,
        SmtpSink() as server,
        installed(broker.bootstrap, tmp_path, server.port, extra=account(texts)) as service,
    ):
        worker = service.start()
        await service.until_ready(worker)
        ben = Contact(Channel.EMAIL, "ben@people.example")
        await service.send_recipient(RecipientEvent("ben", zone="Etc/UTC", contacts=(ben,)))
        start = now_ms() + 2000
        crossing = [f"cross-{n}" for n in range(12)]
        nagging = Policy(nag_every_s=2, nag_max=50)
        await service.send(*(wanting(rid, start + n * 50, nagging) for n, rid in enumerate(crossing)))
        sms = (Step(Channel.SMS, WaitFor.ACKNOWLEDGED, 600, "+12015550141"),)
        await service.send(ReminderEvent("text", at=start, text="Are you there?", steps=sms))
        await service.send(wanting("call", start, Policy(nag_every_s=2, nag_max=1, escalate_to=("ben",), quorum=2)))

        # Every second one answers as soon as its second round is asked for: the answer crosses with the mail.
        def second_round(rid: str) -> bool:
            return any(e.to_state is State.SENDING and e.round > 0 for e in service.audit(rid))

        for n, rid in enumerate(crossing):
            if n % 2:
                await service.tap.until(lambda rid=rid: second_round(rid), 60, f"the second round of {rid}")
            else:
                await service.tap.until(lambda rid=rid: mails(server, f"{rid}@people.example"), 60, f"a mail to {rid}")
            await service.send(ReminderEvent(rid, action=Action.ACKNOWLEDGE))
        await service.all_in(crossing, [State.ACKNOWLEDGED])
        counted = {rid: mails(server, f"{rid}@people.example") for rid in crossing}

        # What waits at its provider is taken back with the answer.
        await service.tap.until(lambda: texts.taken, 60, "the text message")
        await service.all_in(["text"], [State.SENT])
        await service.send(ReminderEvent("text", action=Action.ACKNOWLEDGE))
        await service.tap.until(lambda: noted(service, "text", "retracted"), 60, "the retraction")
        assert len(texts.canceled) == len(texts.taken) == 1

        # The first answer leaves it open, a second of the same person too, another's closes it.
        await service.tap.until(lambda: mails(server, "ben@people.example"), 60, "the mail to ben")
        row = service.rows()["call"]
        assert row.open is not None
        bens = delivery_id("call", row.open)
        annas = bens.rsplit(":", 2)[0] + ":0:0"
        await service.send(ReminderEvent("call", action=Action.ACKNOWLEDGE, delivery_id=annas, event_id="first"))
        await service.tap.until(lambda: noted(service, "call", "quorum_open"), 60, "the first answer")
        await service.send(ReminderEvent("call", action=Action.ACKNOWLEDGE, delivery_id=annas, event_id="second"))
        await service.tap.until(lambda: noted(service, "call", "answered_before"), 60, "the second answer")
        await service.send(ReminderEvent("call", action=Action.ACKNOWLEDGE, delivery_id=bens))
        await service.all_in(["call"], [State.ACKNOWLEDGED])
        assert (mails(server, "call@people.example"), mails(server, "ben@people.example")) == (2, 1)

        # Two further rounds would have come by the time that this one is sent.
        await service.send(mail_event("clock", now_ms() + 5000))
        await service.all_in(["clock"], [State.SENT])
        assert {rid: mails(server, f"{rid}@people.example") for rid in crossing} == counted
        for rid in crossing:
            asked = {e.round for e in service.audit(rid) if e.to_state is State.SENDING}
            assert 1 <= counted[rid] <= len(asked), "no round was sent twice"
