"""Mails that come back: what they say, and that nothing in them does harm."""

import base64
import time
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.classify import Reason
from channels.mail_reports import MAX_MAIL_BYTES, About, read
from schemas.names import OutcomeKind

TO = "b-abc@bounce.clinic.example"
LINK = "A" * 60


def dsn(
    *recipients: str, enclosed: str = "Subject: Dentist", encoding: str = "", kind: str = "delivery-status"
) -> bytes:
    """Return a report as Postfix writes it: words for people, a block of the report, one for each recipient."""
    status = "\n\n".join(("Reporting-MTA: dns; mail.clinic.example\nX-Postfix-Queue-ID: 4WkQ", *recipients)) + "\n"
    if encoding:
        status = f"Content-Transfer-Encoding: {encoding}\n\n" + base64.b64encode(status.encode()).decode()
    else:
        status = "\n" + status
    return (
        f"Return-Path: <>\nDate: Tue, 1 Dec 2026 09:00:00 +0000 (UTC)\nFrom: MAILER-DAEMON@mail.clinic.example\n"
        f"Subject: Undelivered Mail Returned to Sender\nTo: {TO}\nAuto-Submitted: auto-replied\nMIME-Version: 1.0\n"
        f'Content-Type: multipart/report; report-type={kind};\n\tboundary="4WkQ.1764/mail"\n\n'
        f"This is a MIME-encapsulated message.\n\n--4WkQ.1764/mail\nContent-Type: text/plain\n\nI am sorry.\n\n"
        f"--4WkQ.1764/mail\nContent-Description: Delivery report\nContent-Type: message/{kind}\n{status}\n"
        f"--4WkQ.1764/mail\nContent-Type: text/rfc822-headers\n\n{enclosed}\n\n--4WkQ.1764/mail--\n"
    ).encode()


def block(action: str, status: str, diagnostic: str = "") -> str:
    said = f"\nDiagnostic-Code: {diagnostic}" if diagnostic else ""
    return f"Final-Recipient: rfc822; anna@x.example\nAction: {action}\nStatus: {status}{said}"


@pytest.mark.parametrize(
    ("status", "diagnostic", "outcome", "reason", "code", "blames"),
    [
        ("5.1.1", "smtp; 550 5.1.1 <anna@x.example>: no", "UNDELIVERABLE", "no_such_mailbox", "550 5.1.1", True),
        ("5.1.1 (bad destination)", "", "UNDELIVERABLE", "no_such_mailbox", "5.1.1", True),
        ("5.2.1", "smtp;550 disabled", "UNDELIVERABLE", "mailbox_disabled", "550 5.2.1", True),
        ("5.2.2", "smtp; 552 full", "UNDELIVERABLE", "mailbox_full", "552 5.2.2", False),
        ("5.7.1", "smtp; 554 5.7.1 spam", "REJECTED", "policy", "554 5.7.1", False),
        ("5.7.8", "", "REJECTED", "policy", "5.7.8", False),
        ("5.0.0", "smtp; 550 whoever", "UNDELIVERABLE", "mailbox_unavailable", "550 5.0.0", False),
        ("4.4.7", "smtp; 451 4.4.7 too long", "REJECTED", "temporary", "451 4.4.7", False),
        ("4.2.2", "", "REJECTED", "mailbox_full", "4.2.2", False),
        ("nonsense", "X; nonsense", "UNDELIVERABLE", "mailbox_unavailable", "", False),
        # The status counts where the words contradict it.
        ("5.1.1", "smtp; 421 later", "UNDELIVERABLE", "no_such_mailbox", "5.1.1", True),
    ],
)
def test_a_failure_means_what_a_refusal_means(
    status: str, diagnostic: str, outcome: str, reason: str, code: str, blames: bool
) -> None:
    report = read(dsn(block("failed", status, diagnostic)))
    assert report.about is About.FAILED
    assert (report.outcome, report.reason, report.code) == (OutcomeKind(outcome), reason, code)
    assert report.blames_address is blames
    assert Reason(report.reason)


def test_other_actions() -> None:
    assert read(dsn(block("delayed", "4.4.1"))).about is About.DELAYED
    assert read(dsn(block("delivered", "2.0.0"))).about is About.DELIVERED
    for action in ("relayed", "expanded", "swallowed", ""):
        assert read(dsn(block(action, "2.0.0"))).about is About.NOTHING
    assert read(dsn()).about is About.NOTHING
    # Behind an alias: it has arrived if it did anywhere.
    assert read(dsn(block("failed", "5.1.1"), block("Delivered (local)", "2.0.0"))).about is About.DELIVERED
    assert read(dsn(block("failed", "5.1.1"), block("delayed", "4.0.0"))).about is About.DELAYED


def test_the_same_in_other_forms() -> None:
    plain = dsn(block("failed", "5.1.1"))
    expected = read(plain)
    assert read(plain.replace(b"\n", b"\r\n")) == expected
    assert read(dsn(block("failed", "5.1.1"), encoding="base64")) == expected
    assert read(plain.replace(b"message/delivery-status", b"message/global-delivery-status")) == expected
    assert read(plain.replace(b"report-type=delivery-status", b'report-type="Delivery-Status"')) == expected


def test_where_the_address_may_stand() -> None:
    raw = b"Delivered-To: one@x\nX-Original-To: two@x\n" + dsn(block("failed", "5.1.1"))
    assert read(raw, ["three@x"]).addresses == ("three@x", "one@x", "two@x", TO)
    assert "three@x" not in repr(read(raw, ["three@x"]))


def feedback(kind: str = "abuse", more: str = "") -> bytes:
    fields = f"\nFeedback-Type: {kind}\nUser-Agent: SomeISP/1.0\nVersion: 1\n{more}"
    enclosed = f"Return-Path: <{TO}>\nList-Unsubscribe: <https://notify.example/l/{LINK}>,\n <mailto:stop@b.example>"
    made = dsn(enclosed=enclosed, kind="feedback-report")
    head, _, rest = made.partition(b"Content-Type: message/feedback-report\n")
    return head + b"Content-Type: message/feedback-report\n" + fields.encode() + rest[rest.index(b"\n--4WkQ") :]


def test_a_complaint_names_its_mail_by_what_it_encloses() -> None:
    report = read(feedback(more=f"Original-Mail-From: <{TO}>\n"))
    assert (report.about, report.code, report.link) == (About.COMPLAINED, "abuse", LINK)
    assert report.addresses[0] == f"<{TO}>"
    assert f"<{TO}>" in read(feedback()).addresses
    for kind in ("not-spam", "auth-failure", "other", ""):
        assert read(feedback(kind)).about is About.NOTHING


@pytest.mark.parametrize(
    "subject",
    [f"unsubscribe {LINK}", f"Unsubscribe: {LINK} ", f"unsubscribe\n {LINK}", f"=?utf-8?q?unsubscribe_{LINK}?="],
)
def test_a_mail_that_unsubscribes(subject: str) -> None:
    report = read(f"From: anna@x.example\nSubject: {subject}\n\n".encode())
    assert (report.about, report.link) == (About.UNSUBSCRIBE, LINK)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n\n",
        b"Subject: Out of office\nAuto-Submitted: auto-replied\n\nI am away.",
        b"Subject: unsubscribe me\n\n",
        f"Subject: Re: unsubscribe {LINK}\n\n".encode(),
        b"Content-Type: multipart/report; report-type=delivery-status\n\nno boundary",
        b'Content-Type: multipart/report; report-type=delivery-status; boundary="\n\n--\n\n--',
        b"Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: message/delivery-status\n\nAction: failed\n",
        b"Content-Type: multipart/report; report-type*=utf-8''%00%ff; boundary*0=x; boundary*1=y\n\n--xy\n",
        b"Subject: =?nonsense?b?////?= =?utf-8?b?a?=\n\n",
        b"\xff\xfe: \x00\n: \n" * 1000,
    ],
)
def test_nothing_follows_from_anything_else(raw: bytes) -> None:
    assert read(raw).about is About.NOTHING


@given(st.binary(max_size=400), st.integers(0, 900))
def test_a_damaged_report_does_no_harm(noise: bytes, at: int) -> None:
    raw = dsn(block("failed", "5.1.1"))
    assert read(raw[:at] + noise + raw[at:]).about in About
    assert read(noise).about in About


def nested(depth: int) -> bytes:
    message = EmailMessage()
    message.set_content("x")
    raw = message.as_bytes()
    for n in range(depth):
        raw = b"Content-Type: multipart/report; report-type=delivery-status; boundary=b%d\n\n--b%d\n%s\n--b%d--\n" % (
            n, n, raw, n,
        )  # fmt: skip
    return raw


HOSTILE = {
    "nested": nested(3000),
    "fields": b"A: b\n" * (MAX_MAIL_BYTES // 5),
    "folds": b"To: a\n" + b" x\n" * (MAX_MAIL_BYTES // 4),
    "parts": b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n" + b"--b\n\n" * 200_000,
    "recipients": dsn(*(block("failed", "5.1.1") for _ in range(9000))),
    "parameters": b"Content-Type: multipart/report;" + b' a="\\";' * 150_000 + b"\n\n",
    "subject": b"Subject: unsubscribe " + b"\t \t" * 300_000 + b"!\n\n",
    "words": b"Subject: " + b"=?utf-8?b?YQ==?= " * 60_000 + b"\n\n",
    "breaks": dsn(block("failed", "5.1.1") + "\n \n" * 300_000),
    "list": feedback(more="").replace(b"https://notify.example/l/", b"/l/" * 200_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_work_grows_with_the_size_alone(name: str) -> None:
    raw = HOSTILE[name][:MAX_MAIL_BYTES]
    spent = time.process_time()
    assert read(raw).about in About
    # A megabyte takes some hundredths of a second; whatever grows with its square takes minutes.
    assert time.process_time() - spent < 5
