"""The SMTP adapter over real sockets: how far a mail got, what a pool may and may not do, TLS, logins."""

import asyncio
import contextlib
import email
import email.policy
import gc
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from aiosmtpd.controller import UnthreadedController
from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import SMTP, Envelope, Session
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from channels.classify import Reason
from channels.email import AuthMethod, EmailChannel, Tls
from channels.retry import BUSY
from schemas.names import OutcomeKind
from tests.channels.certs import Authority, Pair
from tests.channels.smtp_stage import PASSWORD, USER, channel, mail, settings
from tests.channels.test_dkim import pem, verified
from tests.sandbox.smtp_server import Drop, Hold, SmtpServer, Stage


@pytest.fixture
async def server() -> AsyncIterator[SmtpServer]:
    async with SmtpServer() as server:
        yield server


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "ours")


@pytest.fixture(scope="session")
def pair(authority: Authority) -> Pair:
    return authority.issue("server")


#: More than any socket buffer takes, so that some of it is still with the sender when the server stops reading.
BIG = "x" * 70 + "\n"
BIG_TEXT = BIG * (10 * 2**20 // len(BIG))


class TestHowFar:
    @pytest.mark.parametrize("stage", [Stage.CONNECT, Stage.EHLO, Stage.MAIL, Stage.RCPT, Stage.DATA])
    async def test_a_connection_lost_before_the_body_has_sent_nothing(self, server: SmtpServer, stage: Stage) -> None:
        server.say(stage, Drop())
        async with channel(server) as adapter:
            outcome = await adapter.send(mail())
        assert (outcome.kind, outcome.reached) == (OutcomeKind.DEFERRED, False)
        assert outcome.reason in (Reason.CONNECTION_LOST, Reason.UNREACHABLE)
        assert server.mails == []

    async def test_a_connection_lost_within_the_body_has_sent_nothing(self) -> None:
        async with SmtpServer(receive_buffer=4096) as server, channel(server) as adapter:
            server.say(Stage.BODY, Drop(after_bytes=1000))
            outcome = await adapter.send(mail(text=BIG_TEXT, html="<p>big</p>"))
        assert (outcome.kind, outcome.reason) == (OutcomeKind.DEFERRED, Reason.CONNECTION_LOST)
        assert not outcome.reached
        assert server.mails == []

    async def test_a_big_body_arrives_whole(self, server: SmtpServer) -> None:
        async with channel(server) as adapter:
            outcome = await adapter.send(mail(text=BIG_TEXT[: 2**20]))
        assert outcome.kind is OutcomeKind.ACCEPTED
        assert _text(server.mails[0].data) == BIG_TEXT[: 2**20].splitlines()

    async def test_a_connection_lost_after_the_dot_is_a_doubt(self, server: SmtpServer) -> None:
        server.say(Stage.DOT, Drop())
        async with channel(server) as adapter:
            outcome = await adapter.send(mail())
        assert (outcome.kind, outcome.reason) == (OutcomeKind.MAYBE_SENT, Reason.CONNECTION_LOST)
        assert len(server.mails) == 1

    async def test_silence_after_the_dot_is_a_doubt_once_the_long_wait_is_over(self, server: SmtpServer) -> None:
        server.say(Stage.DOT, Hold(asyncio.Event()))
        async with channel(server, final_reply_timeout_s=0.2, command_timeout_s=0.1) as adapter:
            outcome = await adapter.send(mail())
        assert (outcome.kind, outcome.reason) == (OutcomeKind.MAYBE_SENT, Reason.NO_ANSWER)

    async def test_a_late_answer_to_the_dot_counts_although_commands_have_less_time(self, server: SmtpServer) -> None:
        release = asyncio.Event()
        server.say(Stage.DOT, Hold(release, "250 2.0.0 ok"))
        async with channel(server, command_timeout_s=0.1) as adapter:
            call = asyncio.create_task(adapter.send(mail()))
            await server.until(lambda: len(server.mails) == 1)
            done, _ = await asyncio.wait({call}, timeout=0.3)
            assert not done
            release.set()
            assert (await call).kind is OutcomeKind.ACCEPTED
        assert len(server.mails) == 1

    @pytest.mark.parametrize("stage", [Stage.CONNECT, Stage.EHLO, Stage.MAIL, Stage.RCPT, Stage.DATA])
    async def test_silence_before_the_dot_is_no_doubt(self, server: SmtpServer, stage: Stage) -> None:
        server.say(stage, Hold(asyncio.Event()))
        async with channel(server, command_timeout_s=0.1, connect_timeout_s=0.1) as adapter:
            outcome = await adapter.send(mail())
        assert (outcome.kind, outcome.reason) == (OutcomeKind.DEFERRED, Reason.TIMEOUT)
        assert not outcome.reached

    async def test_all_before_the_dot_has_one_limit_so_that_the_answer_to_it_has_its_time(
        self, server: SmtpServer
    ) -> None:
        server.say(Stage.RCPT, Hold(asyncio.Event()))
        async with channel(server, command_timeout_s=60, final_reply_timeout_s=1, call_timeout_s=1.2) as adapter:
            outcome = await adapter.send(mail())
        assert (outcome.kind, outcome.reason) == (OutcomeKind.DEFERRED, Reason.TIMEOUT)

    async def test_an_answer_within_the_body_is_heard(self) -> None:
        async with SmtpServer(receive_buffer=4096) as small, channel(small) as adapter:
            small.say(Stage.BODY, "552 5.3.4 too big", "")
            outcome = await adapter.send(mail(text=BIG_TEXT, html="<p>big</p>"))
            again = await adapter.send(mail())
        assert (outcome.kind, outcome.reason) == (OutcomeKind.REJECTED, Reason.MESSAGE_TOO_BIG)
        assert again.kind is OutcomeKind.ACCEPTED
        assert small.connections == 2

    @pytest.mark.parametrize(
        ("stage", "said", "kind"),
        [
            (Stage.CONNECT, "250 not a greeting", OutcomeKind.DEFERRED),
            (Stage.CONNECT, "hello", OutcomeKind.DEFERRED),
            (Stage.MAIL, "354 go on", OutcomeKind.DEFERRED),
            (Stage.RCPT, "2x0 ok", OutcomeKind.DEFERRED),
            (Stage.DATA, "250 ok", OutcomeKind.DEFERRED),
            (Stage.DOT, "354 go on", OutcomeKind.MAYBE_SENT),
            (Stage.DOT, "what?", OutcomeKind.MAYBE_SENT),
            (Stage.DOT, "999 beyond", OutcomeKind.MAYBE_SENT),
            (Stage.EHLO, "250 sandbox\r\n250 and more\r\n", OutcomeKind.DEFERRED),
            (Stage.MAIL, "250 ok\r\n250 and more\r\n", OutcomeKind.DEFERRED),
            (Stage.RCPT, "250 ok\r\n354 and more\r\n", OutcomeKind.DEFERRED),
            (Stage.DATA, "354 go on\r\n250 queued already\r\n", OutcomeKind.DEFERRED),
        ],
    )
    async def test_what_no_server_should_say_is_never_taken_for_yes(
        self, server: SmtpServer, stage: Stage, said: str, kind: OutcomeKind
    ) -> None:
        server.say(stage, said)
        async with channel(server) as adapter:
            outcome = await adapter.send(mail())
        assert (outcome.kind, outcome.reason) == (kind, Reason.PROTOCOL)

    async def test_what_is_said_beyond_the_reply_is_not_taken_for_the_next_mails(self, server: SmtpServer) -> None:
        server.say(Stage.DOT, "250 2.0.0 ok\r\n550 5.7.1 beyond\r\n", "250 2.0.0 ok")
        async with channel(server) as adapter:
            outcomes = [await adapter.send(mail(token=f"t{n}")) for n in range(3)]
        assert [outcome.kind for outcome in outcomes] == [OutcomeKind.ACCEPTED] * 3
        assert server.connections == 2


class TestPool:
    async def test_a_thousand_mails_need_ten_connections(self, server: SmtpServer) -> None:
        async with channel(server, pool_size=10) as adapter:
            outcomes = await asyncio.gather(
                *(adapter.send(mail(f"r{n}@reader.example", token=f"t{n}")) for n in range(1000))
            )
        assert {outcome.kind for outcome in outcomes} == {OutcomeKind.ACCEPTED}
        assert len({mail.recipients for mail in server.mails}) == len(server.mails) == 1000
        assert server.connections <= 10

    async def test_mails_one_after_the_other_use_one_connection(self, server: SmtpServer) -> None:
        async with channel(server) as adapter:
            for n in range(5):
                await adapter.send(mail(token=f"t{n}"))
        assert server.connections == 1
        assert server.lines("QUIT") == ["QUIT"]

    async def test_a_connection_ends_after_its_share_of_mails(self, server: SmtpServer) -> None:
        async with channel(server, max_messages=2) as adapter:
            for n in range(5):
                await adapter.send(mail(token=f"t{n}"))
        assert [mail.connection for mail in server.mails] == [1, 1, 2, 2, 3]
        assert len(server.lines("QUIT")) == 3

    async def test_a_connection_ends_at_its_age(self, server: SmtpServer) -> None:
        async with channel(server, max_age_s=1e-9) as adapter:
            for n in range(3):
                await adapter.send(mail(token=f"t{n}"))
        assert server.connections == 3

    async def test_a_rested_connection_is_asked_first(self, server: SmtpServer) -> None:
        async with channel(server, idle_check_s=0) as adapter:
            await adapter.send(mail(token="t1"))
            server.say(Stage.NOOP, "250 ok", Drop())
            await adapter.send(mail(token="t2"))
            await adapter.send(mail(token="t3"))
        assert len(server.lines("NOOP")) == 2
        assert [mail.connection for mail in server.mails] == [1, 1, 2]

    @pytest.mark.parametrize("stale", [Drop(), "421 4.4.2 idle for too long"])
    async def test_a_connection_given_up_by_the_server_costs_no_attempt(
        self, server: SmtpServer, stale: Drop | str
    ) -> None:
        async with channel(server) as adapter:
            await adapter.send(mail(token="t1"))
            server.say(Stage.MAIL, stale, "250 ok")
            outcome = await adapter.send(mail(token="t2"))
        assert outcome.kind is OutcomeKind.ACCEPTED
        assert server.connections == 2

    async def test_a_fresh_connection_that_is_turned_away_is_not_tried_twice(self, server: SmtpServer) -> None:
        server.say(Stage.MAIL, "421 4.3.2 not now")
        async with channel(server) as adapter:
            outcome = await adapter.send(mail())
        assert (outcome.kind, outcome.reason, outcome.reached) == (
            OutcomeKind.DEFERRED,
            Reason.SERVICE_UNAVAILABLE,
            False,
        )
        assert server.connections == 1

    async def test_a_server_that_was_started_again_is_found_again(self, server: SmtpServer) -> None:
        async with channel(server) as adapter:
            assert (await adapter.send(mail(token="t1"))).kind is OutcomeKind.ACCEPTED
            await server.stop()
            assert (await adapter.send(mail(token="t2"))).reason == Reason.UNREACHABLE
            await server.start()
            assert (await adapter.send(mail(token="t3"))).kind is OutcomeKind.ACCEPTED

    async def test_421_ends_the_connection_and_blames_nobody(self, server: SmtpServer) -> None:
        server.say(Stage.RCPT, "421 4.3.2 shutting down", "250 2.1.5 ok")
        async with channel(server) as adapter:
            first = await adapter.send(mail(token="t1"))
            second = await adapter.send(mail(token="t2"))
        assert (first.kind, first.blames_address) == (OutcomeKind.DEFERRED, False)
        assert second.kind is OutcomeKind.ACCEPTED
        assert server.connections == 2

    async def test_a_slow_reset_neither_hides_nor_delays_the_answer(self, server: SmtpServer) -> None:
        server.say(Stage.RCPT, "550 5.1.1 unknown", "250 2.1.5 ok")
        server.say(Stage.RSET, Hold(asyncio.Event()))
        async with channel(server, command_timeout_s=0.2) as adapter:
            first = await adapter.send(mail(token="t1"))
            assert server.lines("RSET") == []
            second = await adapter.send(mail(token="t2"))
        assert (first.kind, first.code) == (OutcomeKind.UNDELIVERABLE, "550 5.1.1")
        assert second.kind is OutcomeKind.ACCEPTED
        assert server.connections == 2

    async def test_a_refused_mail_is_cleared_away_before_the_next(self, server: SmtpServer) -> None:
        server.say(Stage.RCPT, "550 5.1.1 unknown", "250 2.1.5 ok")
        async with channel(server) as adapter:
            await adapter.send(mail(token="t1"))
            second = await adapter.send(mail(token="t2"))
        assert second.kind is OutcomeKind.ACCEPTED
        assert server.lines("RSET") == ["RSET"]
        assert server.connections == 1

    async def test_more_calls_than_connections_wait_and_then_are_turned_away(self, server: SmtpServer) -> None:
        server.say(Stage.DOT, Hold(asyncio.Event()), to="held@reader.example")
        limits = {"pool_size": 1, "final_reply_timeout_s": 1, "call_timeout_s": 1.2}
        async with channel(server, **limits) as adapter:
            held = asyncio.create_task(adapter.send(mail("held@reader.example")))
            await server.until(lambda: server.holds == 1)
            outcome = await adapter.send(mail())
            assert (outcome.kind, outcome.reached) == (OutcomeKind.DEFERRED, False)
            assert outcome.reason == BUSY
            assert (await held).kind is OutcomeKind.MAYBE_SENT

    async def test_closing_ends_calls_that_are_still_under_way(self, server: SmtpServer) -> None:
        server.say(Stage.DOT, Hold(asyncio.Event()))
        adapter = EmailChannel(settings(server))
        await adapter.open()
        call = asyncio.create_task(adapter.send(mail()))
        await server.until(lambda: len(server.mails) == 1)
        await adapter.close()
        assert (await call).kind is OutcomeKind.MAYBE_SENT
        with pytest.raises(RuntimeError, match="not open"):
            await adapter.send(mail())


class TestCancelling:
    @pytest.mark.parametrize("stage", [Stage.CONNECT, Stage.EHLO, Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT])
    async def test_a_late_reply_is_never_taken_for_the_next_mails(self, server: SmtpServer, stage: Stage) -> None:
        release = asyncio.Event()
        server.say(stage, Hold(release, "550 5.7.1 this is for the first mail"), *_usual(stage))
        async with channel(server, pool_size=1) as adapter:
            call = asyncio.create_task(adapter.send(mail(token="t1")))
            await server.until(lambda: server.holds == 1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            release.set()
            outcome = await adapter.send(mail(token="t2"))
            assert outcome.kind is OutcomeKind.ACCEPTED
            await server.until(lambda: server.open == 1)
        assert [m.data for m in server.mails if b"<t1@" in m.data] == []

    async def test_nothing_is_left_to_be_collected(
        self, server: SmtpServer, recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
    ) -> None:
        release = asyncio.Event()
        server.say(Stage.DOT, Hold(release))
        async with channel(server) as adapter:
            call = asyncio.create_task(adapter.send(mail()))
            await server.until(lambda: server.holds == 1)
            call.cancel()
            await asyncio.wait({call})
        release.set()
        await server.until(lambda: server.open == 0)
        del call
        gc.collect()
        assert [str(warning.message) for warning in recwarn if "aiosmtpd" not in str(warning.filename)] == []
        assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


def _usual(stage: Stage) -> list[str]:
    usual = {Stage.CONNECT: "220 ready", Stage.DATA: "354 go on"}
    return [usual.get(stage, "250 ok")]


class TestTls:
    async def test_starttls_protects_login_and_mail(self, authority: Authority, pair: Pair) -> None:
        async with SmtpServer(starttls=pair.server(), users={USER: PASSWORD}) as server:
            given = {"tls": Tls.STARTTLS, "ca_file": authority.file, "username": USER, "password": PASSWORD}
            async with channel(server, **given) as adapter:
                outcome = await adapter.send(mail())
                said = await adapter.probe()
        assert outcome.kind is OutcomeKind.ACCEPTED
        assert (server.mails[0].tls, server.mails[0].user) == (True, USER)
        assert {c.line.split(" ")[0] for c in server.commands if not c.tls} == {"EHLO", "STARTTLS"}
        assert "starttls" in said

    async def test_implicit_tls(self, authority: Authority, pair: Pair) -> None:
        async with (
            SmtpServer(implicit=pair.server()) as server,
            channel(server, tls=Tls.IMPLICIT, ca_file=authority.file) as adapter,
        ):
            assert (await adapter.send(mail())).kind is OutcomeKind.ACCEPTED
        assert server.mails[0].tls

    async def test_a_stripped_starttls_is_refused_and_nothing_goes_in_clear(self, authority: Authority) -> None:
        async with SmtpServer(users={USER: PASSWORD}) as server:
            given = {"tls": Tls.STARTTLS, "ca_file": authority.file, "username": USER, "password": PASSWORD}
            async with channel(server, **given) as adapter:
                outcome = await adapter.send(mail())
                with pytest.raises(OSError, match="STARTTLS"):
                    await adapter.probe()
        assert (outcome.kind, outcome.reason) == (OutcomeKind.MISCONFIGURED, Reason.STARTTLS_MISSING)
        assert not outcome.reached
        assert {command.line.split(" ")[0] for command in server.commands} == {"EHLO", "QUIT"}

    @pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.IMPLICIT])
    @pytest.mark.parametrize("wrong", ["authority", "host"])
    async def test_a_certificate_that_is_not_trusted_is_our_fault(
        self, authority: Authority, tmp_path: Path, tls: Tls, wrong: str
    ) -> None:
        shown = authority.issue(f"wrong-{tls}-{wrong}", host="elsewhere.example" if wrong == "host" else "127.0.0.1")
        trusted = Authority(tmp_path, "theirs") if wrong == "authority" else authority
        context = shown.server()
        starttls, implicit = (context, None) if tls is Tls.STARTTLS else (None, context)
        async with (
            SmtpServer(starttls=starttls, implicit=implicit) as server,
            channel(server, tls=tls, ca_file=trusted.file) as adapter,
        ):
            outcome = await adapter.send(mail())
        assert (outcome.kind, outcome.reason) == (OutcomeKind.MISCONFIGURED, Reason.CERTIFICATE)
        assert not outcome.reached
        assert server.lines("MAIL") == []

    async def test_a_client_certificate_is_shown(self, authority: Authority, pair: Pair) -> None:
        client = authority.issue("client")
        async with SmtpServer(starttls=pair.server(client_ca=authority.file)) as server:
            given = {"tls": Tls.STARTTLS, "ca_file": authority.file}
            async with channel(server, **given, client_cert=client.cert, client_key=client.key) as adapter:
                assert (await adapter.send(mail())).kind is OutcomeKind.ACCEPTED

    async def test_a_refused_client_certificate_is_our_fault(
        self, server: SmtpServer, authority: Authority, pair: Pair
    ) -> None:
        # A server of plain sockets: asyncio's closes before its alert is on the wire.
        listening = socket.create_server(("127.0.0.1", 0))
        with listening:
            serving = asyncio.create_task(asyncio.to_thread(_refuse_clients, listening, pair, authority.file))
            port = listening.getsockname()[1]
            async with channel(server, port=port, tls=Tls.IMPLICIT, ca_file=authority.file) as adapter:
                outcome = await adapter.send(mail())
            await serving
        assert (outcome.kind, outcome.reason) == (OutcomeKind.MISCONFIGURED, Reason.TLS_FAILED)
        assert not outcome.reached

    async def test_tls_to_a_port_without_it_is_our_fault(self, server: SmtpServer, authority: Authority) -> None:
        async with channel(server, tls=Tls.IMPLICIT, ca_file=authority.file) as adapter:
            outcome = await adapter.send(mail())
        assert (outcome.kind, outcome.reason) == (OutcomeKind.MISCONFIGURED, Reason.TLS_FAILED)

    @pytest.mark.parametrize(
        ("said", "kind", "reason"),
        [
            ("454 4.7.0 TLS not available", OutcomeKind.DEFERRED, Reason.TLS_TEMPORARY),
            ("501 5.5.4 no", OutcomeKind.MISCONFIGURED, Reason.TLS_REFUSED),
            (Drop(), OutcomeKind.DEFERRED, Reason.CONNECTION_LOST),
        ],
    )
    async def test_refusals_of_starttls(
        self, authority: Authority, pair: Pair, said: str | Drop, kind: OutcomeKind, reason: Reason
    ) -> None:
        async with SmtpServer(starttls=pair.server()) as server:
            server.say(Stage.STARTTLS, said)
            async with channel(server, tls=Tls.STARTTLS, ca_file=authority.file) as adapter:
                outcome = await adapter.send(mail())
        assert (outcome.kind, outcome.reason, outcome.reached) == (kind, reason, False)

    async def test_a_file_that_is_no_authority_stops_the_start(self, server: SmtpServer, tmp_path: Path) -> None:
        for content in (None, "not PEM"):
            file = tmp_path / "ca.pem"
            if content is not None:
                file.write_text(content)
            with pytest.raises(OSError, match="ca_file"):
                await EmailChannel(settings(server, tls=Tls.STARTTLS, ca_file=file)).open()
        with pytest.raises(OSError, match="client_cert"):
            await EmailChannel(settings(server, tls=Tls.STARTTLS, client_cert=tmp_path / "none.pem")).open()


def _refuse_clients(listening: socket.socket, pair: Pair, authority: Path) -> None:
    connection, _ = listening.accept()
    with connection, contextlib.suppress(ssl.SSLError):
        pair.server(client_ca=authority).wrap_socket(connection, server_side=True)
    # wrap_socket takes the connection over, and closes it with its refusal.


class TestLogin:
    @pytest.mark.parametrize("method", list(AuthMethod))
    async def test_each_way_to_log_in(self, method: AuthMethod) -> None:
        async with SmtpServer(users={USER: PASSWORD}) as server:
            given = {"username": USER, "password": PASSWORD, "auth_methods": (method,)}
            async with channel(server, **given) as adapter:
                assert (await adapter.send(mail())).kind is OutcomeKind.ACCEPTED
                assert "logged in" in await adapter.probe()
        assert server.mails[0].user == USER

    @pytest.mark.parametrize(
        ("said", "kind", "reason"),
        [
            ("535 5.7.8 wrong", OutcomeKind.MISCONFIGURED, Reason.AUTH_REFUSED),
            ("534 5.7.9 too weak", OutcomeKind.MISCONFIGURED, Reason.AUTH_REFUSED),
            ("432 4.7.12 change the password", OutcomeKind.MISCONFIGURED, Reason.AUTH_REFUSED),
            ("550 5.7.1 no", OutcomeKind.MISCONFIGURED, Reason.AUTH_REFUSED),
            ("454 4.7.0 later", OutcomeKind.DEFERRED, Reason.AUTH_TEMPORARY),
            ("421 4.3.2 closing", OutcomeKind.DEFERRED, Reason.SERVICE_UNAVAILABLE),
            ("334 and now?", OutcomeKind.DEFERRED, Reason.PROTOCOL),
        ],
    )
    async def test_refusals(self, said: str, kind: OutcomeKind, reason: Reason) -> None:
        async with SmtpServer(users={USER: PASSWORD}) as server:
            server.say(Stage.AUTH, said)
            async with channel(server, username=USER, password=PASSWORD) as adapter:
                outcome = await adapter.send(mail())
        assert (outcome.kind, outcome.reason, outcome.reached) == (kind, reason, False)
        assert server.lines("MAIL") == []

    async def test_a_method_that_is_offered_and_unknown_gives_way_to_the_next(self) -> None:
        async with SmtpServer(users={USER: PASSWORD}) as server:
            server.say(Stage.AUTH, "504 5.5.4 unknown", "235 2.7.0 welcome")
            async with channel(server, username=USER, password=PASSWORD) as adapter:
                assert (await adapter.send(mail())).kind is OutcomeKind.ACCEPTED
        assert [line.split(" ")[1] for line in server.lines("AUTH")] == ["PLAIN", "LOGIN"]

    async def test_no_common_method_is_our_fault(self) -> None:
        async with (
            SmtpServer(users={USER: PASSWORD}, auth_methods=("CRAM-MD5",)) as server,
            channel(server, username=USER, password=PASSWORD) as adapter,
        ):
            outcome = await adapter.send(mail())
        assert (outcome.kind, outcome.reason) == (OutcomeKind.MISCONFIGURED, Reason.AUTH_MISSING)

    async def test_a_server_that_wants_a_login_is_our_fault(self) -> None:
        async with SmtpServer(users={USER: PASSWORD}) as server, channel(server) as adapter:
            outcome = await adapter.send(mail())
        assert (outcome.kind, outcome.reason) == (OutcomeKind.MISCONFIGURED, Reason.AUTH_REFUSED)


class TestEnvelope:
    async def test_a_mail_has_the_headers_that_the_service_means(self, server: SmtpServer) -> None:
        async with channel(server) as adapter:
            outcome = await adapter.send(mail("Bob <reader@reader.example>", title="Zähne", text="Grüße\n.\n..\nEnde"))
        kept = server.mails[0]
        parsed = _parsed(kept.data)
        assert (kept.sender, kept.recipients) == ("reminders@service.example", ("reader@reader.example",))
        assert parsed.keys() == [
            *("Date", "From", "To", "Subject", "Message-ID", "MIME-Version", "Auto-Submitted", "Feedback-ID"),
            "Content-Type",
        ]
        assert parsed["From"] == "Reminders <reminders@service.example>"
        assert parsed["To"] == "Bob <reader@reader.example>"
        assert parsed["Subject"] == "Zähne"
        assert parsed["Message-ID"] == "<abcdefghij234567abcdefghij@service.example>"
        assert _text(kept.data) == ["Grüße", ".", "..", "Ende"]
        assert outcome.provider_id == "00001X"

    async def test_what_is_too_big_for_the_server_is_not_even_announced(self) -> None:
        async with SmtpServer(size=2000) as server, channel(server) as adapter:
            small = await adapter.send(mail(token="t1"))
            big = await adapter.send(mail(token="t2", text="x" * 5000))
            again = await adapter.send(mail(token="t3"))
        assert (small.kind, again.kind) == (OutcomeKind.ACCEPTED, OutcomeKind.ACCEPTED)
        assert (big.kind, big.reason, big.reached) == (OutcomeKind.REJECTED, Reason.MESSAGE_TOO_BIG, False)
        assert len(server.lines("MAIL")) == 2
        assert server.connections == 1
        announced = int(server.mails[0].options[0].removeprefix("SIZE="))
        assert announced == len(server.mails[0].data)

    async def test_a_bad_address_is_not_tried(self, server: SmtpServer) -> None:
        async with channel(server) as adapter:
            outcome = await adapter.send(mail("nobody"))
        assert (outcome.kind, outcome.reason) == (OutcomeKind.UNDELIVERABLE, "address_no_at")
        assert (outcome.blames_address, outcome.reached) == (True, False)
        assert server.connections == 0

    async def test_a_wait_that_the_server_names_is_kept(self, server: SmtpServer) -> None:
        server.say(Stage.RCPT, "450 4.7.1 greylisted, try again in 15 minutes", "451 4.7.1 greylisted")
        async with channel(server, greylist_s=7) as adapter:
            named = await adapter.send(mail(token="t1"))
            configured = await adapter.send(mail(token="t2"))
        assert (named.retry_after_s, configured.retry_after_s) == (900, 7)

    async def test_replies_of_several_lines(self, server: SmtpServer) -> None:
        server.say(Stage.RCPT, "550 5.1.1 unknown\n5.1.1 really")
        async with channel(server) as adapter:
            outcome = await adapter.send(mail())
        assert (outcome.kind, outcome.code) == (OutcomeKind.UNDELIVERABLE, "550 5.1.1")

    async def test_our_own_mistake_is_raised_without_what_it_is_about(self, server: SmtpServer) -> None:
        async with channel(server) as adapter:
            with pytest.raises(ValueError, match="token") as raised:
                await adapter.send(mail("secret@reader.example", token="not a token"))
        assert "secret" not in str(raised.value)


class _Keep(Sink):
    def __init__(self) -> None:
        super().__init__()
        self.envelopes: list[Envelope] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.envelopes.append(envelope)
        return "250 2.0.0 OK"


async def test_a_server_written_by_others_takes_our_mails() -> None:
    keep = _Keep()
    controller = UnthreadedController(
        keep, hostname="127.0.0.1", port=0, enable_SMTPUTF8=True, loop=asyncio.get_running_loop()
    )
    listening = await controller._create_server()
    try:
        port = cast("asyncio.Server", listening).sockets[0].getsockname()[1]
        async with SmtpServer() as template:
            given = settings(template, port=port)
        adapter = EmailChannel(given)
        await adapter.open()
        outcomes = [
            await adapter.send(mail("reader@reader.example", token="t1")),
            await adapter.send(
                mail("jürgen@reader.example", token="t2", text="\n".join([".", "..", ".x", "é" * 3000]))
            ),
        ]
        await adapter.close()
    finally:
        listening.close()
    assert {outcome.kind for outcome in outcomes} == {OutcomeKind.ACCEPTED}
    assert [envelope.rcpt_tos for envelope in keep.envelopes] == [["reader@reader.example"], ["jürgen@reader.example"]]
    assert keep.envelopes[1].smtp_utf8
    content = keep.envelopes[1].content
    assert isinstance(content, bytes)
    assert _text(content) == [".", "..", ".x", "é" * 3000]


async def test_what_the_server_gets_is_signed_and_the_same_each_time(server: SmtpServer, tmp_path: Path) -> None:
    key, file = Ed25519PrivateKey.generate(), tmp_path / "dkim.pem"
    file.write_bytes(pem(key))
    async with channel(server, dkim_key=file, dkim_selector="k1", dkim_domain="BÜCHER.example") as adapter:
        for attempt in (1, 2):
            # A leading dot is doubled on the way alone, and a line's end is not what the signature is of.
            sent = mail(
                attempt=attempt, text=".\n.x  y \n\n", unsubscribe_url="https://x.example/l/a", category="visits"
            )
            assert (await adapter.send(sent)).kind is OutcomeKind.ACCEPTED
    first, second = (mail.data for mail in server.mails)
    assert first == second
    tags = verified(first, key)
    assert (tags["d"], tags["s"], tags["t"]) == ("xn--bcher-kva.example", "k1", "1764000000")
    assert _parsed(first)["Feedback-ID"] == "visits::reminder:serviceexample"
    assert tags["h"].split(":").count("List-Unsubscribe-Post") == 2


async def test_news_go_to_an_address_that_names_the_delivery(server: SmtpServer) -> None:
    async with channel(server, bounce_domain="BÜCHER.example") as adapter:
        for bounce in ("b-abc", ""):
            assert (await adapter.send(mail(bounce=bounce))).kind is OutcomeKind.ACCEPTED
    assert [m.sender for m in server.mails] == ["b-abc@xn--bcher-kva.example", "reminders@service.example"]
    assert server.mails[0].data == server.mails[1].data
    async with channel(server) as adapter:
        await adapter.send(mail(bounce="b-abc"))
    assert server.mails[2].sender == "reminders@service.example"


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), ("x", "holds no private key")])
async def test_a_key_that_cannot_be_used_stops_the_worker(
    server: SmtpServer, tmp_path: Path, content: str | None, said: str
) -> None:
    file = tmp_path / "dkim.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(OSError, match=said):
        async with channel(server, dkim_key=file, dkim_selector="k1"):
            pass


def _text(data: bytes) -> list[str]:
    part = _parsed(data).get_body(("plain",))
    assert part is not None
    content = part.get_content()
    assert isinstance(content, str)
    return content.splitlines()


def _parsed(data: bytes) -> email.message.EmailMessage:
    parsed = email.message_from_bytes(data, policy=email.policy.default)
    assert isinstance(parsed, email.message.EmailMessage)
    assert not parsed.defects
    return parsed
