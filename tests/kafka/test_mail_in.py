"""A bounce, on real parts: it finds its reminder by the address that the mail was sent from, days after or at once."""

from pathlib import Path

import aiohttp

from deploy.dev.broker import Broker
from schemas.names import Channel, State, WaitFor
from schemas.records import ReminderEvent, Step
from tests.channels.test_mail_reports import block, dsn
from tests.kafka.harness import Worker, installed, now_ms
from tests.sandbox.smtp_server import SmtpServer

SECRET, DOMAIN = "a secret of these tests alone", "bounce.service.example"
GONE, SECOND = "gone@people.example", "anna@people.example"


async def bounce(worker: Worker, sender: str, *, token: str = SECRET) -> int:
    """Pass on what a mail server says of a mail with this envelope sender."""
    raw = dsn(block("failed", "5.1.1", "smtp; 550 5.1.1 no such user"))
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "message/rfc822"}
    url = f"http://127.0.0.1:{worker.web_port}/callbacks/mail"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, params={"to": sender}, data=raw, headers=headers) as response,
    ):
        return response.status


async def test_a_bounce_starts_the_next_step_and_is_believed_of_its_own_mail_alone(
    broker: Broker, tmp_path: Path
) -> None:
    settings = {
        "SMTP_BOUNCE_DOMAIN": DOMAIN,
        "SMTP_CALLBACK_TOKEN": SECRET,
        "CALLBACK_KEY": SECRET,
        "ADDRESS_HASH_KEY": SECRET,
    }
    chain = (Step(Channel.EMAIL, WaitFor.DELIVERED, 600, GONE), Step(Channel.EMAIL, address=SECOND))
    async with SmtpServer() as post, installed(broker.bootstrap, tmp_path, post.port, extra=settings) as service:
        worker = service.start()
        await service.send(
            ReminderEvent("chain", at=now_ms(), text="Nine.", steps=chain),
            ReminderEvent("plain", at=now_ms(), text="Ten.", steps=(Step(Channel.EMAIL, address=GONE),)),
        )
        await service.all_in(["chain", "plain"], [State.SENT])
        senders = {("Nine" if b"Nine." in m.data else "Ten"): m.sender for m in post.mails_to(GONE)}
        assert len(set(senders.values())) == 2
        assert all(s.startswith("b-") and s.endswith(f"@{DOMAIN}") for s in senders.values())

        assert await bounce(worker, senders["Nine"], token="x" * 16) == 401
        forged = senders["Nine"][:-30] + "a" * 5 + senders["Nine"][-25:]
        assert await bounce(worker, forged) == 404
        assert (service.row_states()["chain"], len(post.mails)) == (State.SENT, 2)

        for _ in range(2):
            assert await bounce(worker, senders["Nine"]) == 200
            assert await bounce(worker, senders["Ten"].upper()) == 200
        # The next step of the one that waited to hear; the other had ended, and says what it has learnt.
        await service.tap.until(lambda: post.mails_to(SECOND), 10, "the mail of the next step")
        await service.tap.until(
            lambda: [e for e in service.audit("plain") if e.reason == "undelivered"], 10, "the late bounce on the trail"
        )
        [late] = [e for e in service.audit("plain") if e.reason == "undelivered"]
        assert (late.to_state, late.provider, late.code) == (State.SENT, "smtp", "550 5.1.1")
        assert late.detail.endswith(": no_such_mailbox")
        await service.all_in(["chain"], [State.SENT])
        assert len(post.mails_to(SECOND)) == 1
        assert service.rows()["plain"].closed[-1].reason == "undelivered"
        log = worker.log.read_text()
        assert not any(word in log for word in (GONE, senders["Nine"].partition("@")[0]))
