"""Cases O-13 to O-17: what went wrong with mails elsewhere, vector by vector, over a real socket."""

import asyncio
import email.policy
import json
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest

from channels.base import Outcome
from channels.classify import Phase, Reason, smtp_reply
from channels.retry import Dead, Decision, Done, Doubt, Fallback, Next, Retry, RetryPolicy, decide
from schemas.names import MaybeSent, OutcomeKind
from tests.channels.smtp_stage import channel, mail
from tests.sandbox.smtp_server import Drop, Hold, SmtpServer, Stage

CASES = {case["id"]: case for case in json.loads((Path(__file__).parent / "cases.json").read_text(encoding="utf-8"))}


def vectors(case: str) -> list[Any]:
    """Return the vectors of a case, each with its number as the test's id."""
    return [pytest.param(vector, id=f"{case}-{vector['n']}") for vector in CASES[case]["input"]["vectors"]]


def expected(case: str, number: int) -> dict[str, Any]:
    found = [vector for vector in CASES[case]["expected"]["vectors"] if vector["n"] == number]
    assert len(found) == 1
    result: dict[str, Any] = found[0]
    return result


def following(outcome: Outcome, *, attempt: int = 1, maybe_sent: MaybeSent = MaybeSent.HOLD) -> Decision:
    """Return what the service does about an outcome where another channel would be left."""
    return decide(
        outcome.kind,
        outcome.reason,
        attempt=attempt,
        policy=RetryPolicy(),
        retry_after_s=outcome.retry_after_s,
        spent=outcome.reached,
        jitter=0.5,
        has_next_step=True,
        more_contacts=False,
        maybe_sent=maybe_sent,
    )


class TestO13HeaderInjection:
    @pytest.mark.parametrize("vector", vectors("O-13"))
    async def test_the_mail_has_exactly_our_headers(self, vector: dict[str, Any]) -> None:
        value = vector["value"]
        given = {"title": value} if vector["field"] == "subject" else {"name": value}
        async with SmtpServer() as server, channel(server) as adapter:
            outcome = await adapter.send(mail(**given))
        assert outcome.kind is OutcomeKind.ACCEPTED
        [sent] = server.mails
        assert sent.recipients == ("reader@reader.example",)
        assert server.lines("RCPT") == ["RCPT TO:<reader@reader.example>"]
        for policy in (email.policy.default, email.policy.compat32):
            parsed = BytesParser(policy=policy).parsebytes(sent.data)
            assert parsed.keys() == [
                *("Date", "From", "To", "Subject", "Message-ID", "MIME-Version", "Auto-Submitted"),
                *("Feedback-ID", "Content-Type"),
            ]
            assert parsed.get_content_type() == "multipart/alternative"
            assert parsed["Bcc"] is None
        head = sent.data.partition(b"\r\n\r\n")[0]
        assert [line for line in head.split(b"\r\n") if line.lower().startswith(b"bcc")] == []

    async def test_all_five_are_cleaned_the_same_way(self) -> None:
        shown = []
        async with SmtpServer() as server, channel(server) as adapter:
            for vector in CASES["O-13"]["input"]["vectors"]:
                given = {"title": vector["value"]} if vector["field"] == "subject" else {"name": vector["value"]}
                await adapter.send(mail(**given))
        for kept, vector in zip(server.mails, CASES["O-13"]["input"]["vectors"], strict=True):
            # The default policy of Python 3.11 decodes what is nested as well; the raw words are ours alone.
            parsed = BytesParser(policy=email.policy.compat32).parsebytes(kept.data)
            header = str(parsed["Subject"] if vector["field"] == "subject" else parsed["To"])
            shown.append(str(email.header.make_header(email.header.decode_header(header))))
        assert shown == [
            "Dentist Bcc: spy@evil.example",
            "Pay 💩 bill=?UTF-8?Q?=0A?=Bcc: spy@evil.example",
            "Dentist",
            "Bob Bcc: spy@evil.example <reader@reader.example>",
            "a b c d",
        ]


class TestO14ThreeRecipientsThreeAnswers:
    async def test_each_recipient_has_an_answer_of_its_own(self) -> None:
        case = CASES["O-14"]
        ok, gone, grey = case["input"]["recipients"]
        async with SmtpServer() as server, channel(server) as adapter:
            server.say(Stage.RCPT, "550 5.1.1 unknown", to=gone)
            server.say(Stage.RCPT, "451 4.7.1 greylisted", "250 2.1.5 ok", to=grey)
            outcomes = dict(
                zip(
                    (ok, gone, grey),
                    await asyncio.gather(
                        *(adapter.send(mail(to, token=to.partition("@")[0])) for to in (ok, gone, grey))
                    ),
                    strict=True,
                )
            )
            assert following(outcomes[ok]) == Done(OutcomeKind.ACCEPTED, "ok")
            assert following(outcomes[gone]) == Fallback(Next.STEP, "no_such_mailbox")
            retry = following(outcomes[grey])
            assert isinstance(retry, Retry)
            assert retry.wait_ms >= 300_000
            again = await adapter.send(mail(grey, token="grey", attempt=retry.attempt))
            assert again.kind is OutcomeKind.ACCEPTED
        assert [len(server.mails_to(to)) for to in (ok, gone, grey)] == [1, 0, 1]

    async def test_with_nobody_accepted_neither_answer_rubs_off(self) -> None:
        _, gone, grey = CASES["O-14"]["input"]["recipients"]
        async with SmtpServer() as server, channel(server) as adapter:
            server.say(Stage.RCPT, "550 5.1.1 unknown", to=gone)
            server.say(Stage.RCPT, "451 4.7.1 greylisted", to=grey)
            for_gone, for_grey = await asyncio.gather(
                adapter.send(mail(gone, token="gone")), adapter.send(mail(grey, token="grey"))
            )
        assert (for_gone.kind, for_gone.blames_address) == (OutcomeKind.UNDELIVERABLE, True)
        assert (for_grey.kind, for_grey.blames_address) == (OutcomeKind.DEFERRED, False)
        assert server.mails == []


class TestO15LostAfterTheDot:
    async def test_it_is_a_doubt_and_a_copy_can_be_recognised(self) -> None:
        async with SmtpServer() as server, channel(server) as adapter:
            server.say(Stage.DOT, Drop(), "250 2.0.0 ok")
            first = await adapter.send(mail())
            assert first.kind is OutcomeKind.MAYBE_SENT
            assert following(first) == Doubt(first.reason)
            retry = following(first, maybe_sent=MaybeSent.RESEND)
            assert isinstance(retry, Retry)
            assert retry.wait_ms >= 60_000
            assert isinstance(following(first, attempt=5, maybe_sent=MaybeSent.RESEND), Doubt)
            await adapter.send(mail(attempt=retry.attempt))
        original, copy = (BytesParser(policy=email.policy.default).parsebytes(kept.data) for kept in server.mails)
        assert original["Message-ID"] == copy["Message-ID"]
        assert original["Date"] == copy["Date"]
        assert server.mails[0].data == server.mails[1].data

    async def test_an_answer_after_120_s_still_counts_as_sent_once(self) -> None:
        # One hundredth of the case's times: commands 0.6 s, the final reply 6 s, the answer after 1.2 s.
        release = asyncio.Event()
        async with SmtpServer() as server:
            server.say(Stage.DOT, Hold(release, "250 2.0.0 ok"))
            async with channel(server, command_timeout_s=0.6, final_reply_timeout_s=6) as adapter:
                asyncio.get_running_loop().call_later(1.2, release.set)
                outcome = await adapter.send(mail())
        assert outcome.kind is OutcomeKind.ACCEPTED
        assert len(server.mails) == 1
        assert server.connections == 1

    @pytest.mark.parametrize("before_354", [True, False])
    async def test_closed_before_the_dot_is_safe_to_retry(self, before_354: bool) -> None:
        text = "x" * 70 + "\n"
        async with SmtpServer(receive_buffer=4096) as server, channel(server) as adapter:
            if before_354:
                server.say(Stage.DATA, Drop(), "354 go on")
            else:
                server.say(Stage.BODY, Drop(after_bytes=1000), "")
                text *= 150_000
            first = await adapter.send(mail(text=text, html="<p>x</p>"))
            assert (first.kind, first.reached) == (OutcomeKind.DEFERRED, False)
            assert server.mails == []
            retry = following(first)
            assert isinstance(retry, Retry)
            assert retry.attempt == 1
            assert (await adapter.send(mail(html="<p>x</p>"))).kind is OutcomeKind.ACCEPTED
        assert len(server.mails) == 1


class TestO16AddressesOutsideAscii:
    @pytest.mark.parametrize("vector", vectors("O-16"))
    async def test_without_smtputf8(self, vector: dict[str, Any]) -> None:
        async with SmtpServer() as server, channel(server) as adapter:
            outcome = await adapter.send(mail(vector["to"]))
            again = await adapter.send(mail("other@reader.example", token="other"))
        assert again.kind is OutcomeKind.ACCEPTED
        wanted = expected("O-16", vector["n"])
        if vector["n"] == 2:
            assert (outcome.kind, outcome.reason) == (OutcomeKind.UNDELIVERABLE, Reason.NEEDS_SMTPUTF8)
            assert not outcome.blames_address
            assert not isinstance(following(outcome), Retry)
            assert [mail.recipients for mail in server.mails] == [("other@reader.example",)]
            assert [command.line for command in server.commands if "xn--" in command.line] == []
            return
        assert outcome.kind is OutcomeKind.ACCEPTED
        [sent, _] = server.mails
        assert sent.recipients == (wanted.get("rcpt", "jm@x.example"),)
        assert "SMTPUTF8" not in sent.options
        if vector["n"] == 3:
            assert b"To: =?utf-8?b?" in sent.data
            parsed = BytesParser(policy=email.policy.default).parsebytes(sent.data)
            assert parsed["To"] == "Jürgen Müller <jm@x.example>"

    async def test_a_foreign_local_part_with_smtputf8(self) -> None:
        to = CASES["O-16"]["input"]["vectors"][1]["to"]
        async with SmtpServer(smtputf8=True) as server, channel(server) as adapter:
            outcome = await adapter.send(mail(to))
        assert outcome.kind is OutcomeKind.ACCEPTED
        [sent] = server.mails
        assert "SMTPUTF8" in sent.options
        assert sent.recipients == (to,)
        assert f"To: <{to}>".encode() in sent.data


#: What the case calls a class, in our words.
CLASSES = {
    1: OutcomeKind.DEFERRED,
    2: OutcomeKind.DEFERRED,
    3: OutcomeKind.DEFERRED,
    4: OutcomeKind.UNDELIVERABLE,
    5: OutcomeKind.REJECTED,
    6: OutcomeKind.UNDELIVERABLE,
    7: OutcomeKind.DEFERRED,
    8: OutcomeKind.ACCEPTED,
}
STAGES = {"RCPT": Stage.RCPT, "DATA end": Stage.DOT, "connect": Stage.CONNECT}
PHASES = {"RCPT": Phase.RCPT, "DATA end": Phase.DOT, "connect": Phase.CONNECT}


class TestO17WhatAnAnswerMeans:
    @pytest.mark.parametrize("vector", vectors("O-17"))
    async def test_the_first_digit_decides(self, vector: dict[str, Any]) -> None:
        number, wanted = vector["n"], expected("O-17", vector["n"])["class"]
        async with SmtpServer() as server, channel(server) as adapter:
            server.say(STAGES[vector["stage"]], vector["reply"])
            outcome = await adapter.send(mail())
        assert outcome.kind is CLASSES[number]
        code, _, text = vector["reply"].partition(" ")
        assert smtp_reply(PHASES[vector["stage"]], int(code), text).kind is CLASSES[number]
        decision = following(outcome)
        assert isinstance(decision, Retry) is wanted.startswith("retry")
        if wanted.startswith("retry"):
            # Only once the budget is gone does the chain move on, and never for a server that turns everybody away.
            last = following(outcome, attempt=5)
            assert isinstance(last, Fallback if outcome.reached else Retry)
        elif wanted.startswith("permanent"):
            assert isinstance(decision, Fallback)
        assert outcome.blames_address is ("mark address bad" in wanted)

    async def test_greylisting_waits_minutes(self) -> None:
        async with SmtpServer() as server, channel(server) as adapter:
            server.say(Stage.RCPT, CASES["O-17"]["input"]["vectors"][1]["reply"])
            decision = following(await adapter.send(mail()))
        assert isinstance(decision, Retry)
        assert decision.wait_ms >= 300_000

    async def test_a_server_that_shuts_down_is_asked_again_on_a_new_connection(self) -> None:
        async with SmtpServer() as server, channel(server) as adapter:
            server.say(Stage.CONNECT, CASES["O-17"]["input"]["vectors"][6]["reply"], "220 ready")
            first = await adapter.send(mail())
            second = await adapter.send(mail())
        assert (first.kind, first.blames_address, first.reached) == (OutcomeKind.DEFERRED, False, False)
        assert second.kind is OutcomeKind.ACCEPTED
        assert server.connections == 2

    def test_a_permanent_answer_without_another_channel_ends_at_once(self) -> None:
        verdict = smtp_reply(Phase.RCPT, 550, "5.1.1 unknown user")
        decision = decide(
            verdict.kind,
            verdict.reason,
            attempt=1,
            policy=RetryPolicy(),
            retry_after_s=None,
            spent=True,
            jitter=0.0,
            has_next_step=False,
            more_contacts=False,
            maybe_sent=MaybeSent.HOLD,
        )
        assert decision == Dead("no_such_mailbox")
