"""What people answer, on real parts: by texting back, by a link in a mail, by one click; and what follows from it."""

import asyncio
import base64
import email
import email.policy
import hashlib
import hmac
import re
from itertools import count
from pathlib import Path

import aiohttp

from deploy.dev.broker import Broker
from schemas.names import Channel, State, WaitFor
from schemas.records import Contact, RecipientEvent, ReminderEvent, Step
from tests.channels.twilio_stage import authority
from tests.kafka.harness import PATIENCE, Worker, installed, now_ms
from tests.kafka.test_channels import twilio
from tests.kafka.test_suppressions import KNOWN_S
from tests.sandbox.smtp_server import SmtpServer
from tests.sandbox.twilio_server import TwilioServer

BASE = "https://notify.service.example"
SECRET = "a secret of these tests alone"
TEXTED, WRITES, MAILED, OWN = "+12015550171", "+12015550172", "anna@people.example", "ben@people.example"


async def call(worker: Worker, method: str, url: str, form: dict[str, str], **headers: str) -> tuple[int, str]:
    assert url.startswith(BASE)
    path = f"http://127.0.0.1:{worker.web_port}{url.removeprefix(BASE)}"
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, path, data=form or None, headers=headers, allow_redirects=False) as response,
    ):
        return response.status, await response.text()


async def text(worker: Worker, token: str, sender: str, body: str, sid: str) -> str:
    """Let somebody text something; return what they are answered."""
    form = {"From": sender, "To": "+12015550100", "Body": body, "MessageSid": sid}
    url = f"{BASE}/callbacks/twilio/inbound"
    signed = url + "".join(name + form[name] for name in sorted(form))
    signature = base64.b64encode(hmac.digest(token.encode(), signed.encode(), hashlib.sha1)).decode()
    status, answer = await call(worker, "POST", url, form, **{"X-Twilio-Signature": signature})
    assert status == 200
    return answer


def asking(name: str, channel: Channel, address: str, **more: str) -> ReminderEvent:
    step = Step(channel, WaitFor.ACKNOWLEDGED, 600, address)
    return ReminderEvent(name, at=now_ms(), text=f"The text of {name}.", steps=(step,), **more)


def mailed(name: str, category: str) -> ReminderEvent:
    return ReminderEvent(name, at=now_ms(), text="t", category=category, steps=(Step(Channel.EMAIL, address=MAILED),))


def shown(mail: bytes) -> str:
    """Return the plain text of a mail."""
    body = email.message_from_bytes(mail, policy=email.policy.default).get_body(("plain",))
    assert body is not None
    return str(body.get_content())


async def test_answers_reach_what_they_are_about(broker: Broker, tmp_path: Path) -> None:
    settings = {
        "SMTP_HOST": "127.0.0.1",
        "SMTP_FROM": "reminders@service.example",
        "TWILIO_CALLBACK_URL": BASE,
        "PUBLIC_URL": BASE,
        "CALLBACK_KEY": SECRET,
        "ADDRESS_HASH_KEY": SECRET,
    }
    async with (
        SmtpServer() as post,
        TwilioServer(authority().issue("twilio").server()) as server,
        installed(broker.bootstrap, tmp_path, post.port, extra=twilio(server) | settings) as service,
    ):
        ben = RecipientEvent("ben", zone="UTC", contacts=(Contact(Channel.EMAIL, OWN),), version=7)
        await service.send_recipient(ben)
        worker = service.start()
        await service.send(
            asking("one", Channel.SMS, TEXTED),
            asking("two", Channel.SMS, TEXTED),
            asking("mail", Channel.EMAIL, MAILED),
        )
        await service.send(ReminderEvent("own", "ben", at=now_ms(), text="To Ben."))
        await service.all_in(["one", "two", "mail", "own"], [State.SENT])

        # Two wait: "ok" says nothing of which, its number does.
        codes = {form["Body"].split()[3].rstrip("."): form["Body"].split()[-3] for form in server.taken}
        assert set(codes) == {"one", "two"}
        assert "Reply OK" in server.taken[0]["Body"]
        asked_back = await text(worker, server.token, TEXTED, "Ok.", "SM0")
        assert all(f"OK {code}" in asked_back for code in codes.values())
        assert "<Message>" not in await text(worker, server.token, TEXTED, f"ok {codes['one']}", "SM1")
        await service.all_in(["one"], [State.ACKNOWLEDGED])
        assert service.row_states()["two"] is State.SENT
        # Once the workers know that the first one has ended, the word is enough for the other.
        async with asyncio.timeout(10 * PATIENCE):
            for number in count(2):
                if "<Message>" not in await text(worker, server.token, TEXTED, "ok", f"SM{number}"):
                    break
                await asyncio.sleep(0.2)
        await service.all_in(["two"], [State.ACKNOWLEDGED])
        assert [e.actor for e in service.audit("two") if e.to_state is State.ACKNOWLEDGED] == ["recipient"]

        # A mail's link shows, and acts when its button is pressed.
        mail = email.message_from_bytes(post.mails_to(MAILED)[0].data, policy=email.policy.default)
        assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        found = re.search(r"Confirm: (\S+)", shown(post.mails_to(MAILED)[0].data))
        assert found is not None
        for method in ("GET", "HEAD"):
            assert (await call(worker, method, found[1], {}))[0] == 200
        assert (await call(worker, "POST", found[1], {"act": "yes"}))[0] == 200
        await service.all_in(["mail"], [State.ACKNOWLEDGED])
        assert len([e for e in service.audit("mail") if e.action == "ACKNOWLEDGE"]) == 1

        # One click ends this category for this address, and no other.
        unsubscribe = str(mail["List-Unsubscribe"]).strip("<>")
        assert (await call(worker, "GET", unsubscribe, {}))[0] == 200
        for _ in range(2):
            assert (await call(worker, "POST", unsubscribe, {"List-Unsubscribe": "One-Click"}))[0] == 200
        # Whoever writes on WhatsApp may be written to without a template.
        assert "<Message>" not in await text(worker, server.token, f"whatsapp:{WRITES}", "Hello!", "SM90")
        await asyncio.sleep(KNOWN_S)
        free = ReminderEvent("free", at=now_ms(), text="Free.", steps=(Step(Channel.WHATSAPP, address=WRITES),))
        await service.send(mailed("no-more", "general"), mailed("still", "visits"), free)
        await service.all_in(["still", "free"], [State.SENT])
        await service.all_in(["no-more"], [State.SKIPPED])
        assert service.rows()["no-more"].closed[-1].reason == "suppressed_unsubscribed"
        assert [form.get("Body") for form in server.taken if form["To"] == f"whatsapp:{WRITES}"] == ["Free."]

        # A recipient's own page: what is unchecked is refused, by the next message.
        page = re.search(r"Your preferences: (\S+)", shown(post.mails_to(OWN)[0].data))
        assert page is not None
        status, before = await call(worker, "GET", page[1], {})
        assert (status, 'value="EMAIL|general" checked' in before) == (200, True)
        assert (await call(worker, "POST", page[1], {"form": "1"}))[0] == 200
        async with asyncio.timeout(10 * PATIENCE):
            while "checked" in (await call(worker, "GET", page[1], {}))[1]:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        await service.send(ReminderEvent("refused", "ben", at=now_ms(), text="t"))
        await service.all_in(["refused"], [State.SKIPPED])
        assert service.rows()["refused"].closed[-1].reason == "consent_refused"
        log = worker.log.read_text()
        assert not any(
            said in log
            for said in ("5550171", "5550172", "anna@", "ben@", page[1].rpartition("/")[2], found[1].rpartition("/")[2])
        )
