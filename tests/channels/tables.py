"""The tables of docs/channels.md, from the code. ``python -m tests.channels.tables`` writes them into the page."""

import dataclasses
import re
from pathlib import Path

from channels import cloud_codes, http_answers, limits, sendgrid_codes, sendgrid_news, twilio_codes
from channels.addresses import REMEDIES
from channels.classify import EXPLANATIONS, FAULTS, REPLIES, Phase, Verdict
from channels.http_answers import Meaning
from channels.smtp_settings import SmtpSettings
from schemas import phones

PAGE = Path(__file__).resolve().parents[2] / "docs" / "channels.md"

#: What each setting is for; a test compares the names with the code.
SETTINGS = {
    "host": "mail server",
    "sender": "address that mails come from, envelope and `From:`; `Name <address>` is understood",
    "port": "587 with STARTTLS, 465 with implicit TLS",
    "tls": "`starttls`, `implicit` or `none`; what is configured is required, never negotiated away",
    "ca_file": "authorities to trust; none: the system's",
    "client_cert": "certificate to show to the server",
    "client_key": "its key, where the certificate's file does not hold it",
    "username": "login; empty: none",
    "password": "never shown; with `tls` `none` only to this machine",
    "auth_methods": "methods we use, in this order, of those that the server offers",
    "sender_name": "name in `From:`",
    "message_id_domain": "what a Message-ID ends in; empty: the sender's domain",
    "helo_name": "how we introduce ourselves; empty: as `message_id_domain`",
    "pool_size": "connections, and calls at once",
    "max_messages": "mails before a connection is replaced",
    "max_age_s": "age at which a connection is replaced",
    "idle_check_s": "rest after which a connection is asked (NOOP) before it is used",
    "connect_timeout_s": "limit of the connection, and of the greeting",
    "command_timeout_s": "limit of each command",
    "final_reply_timeout_s": "limit of the answer to the final dot (RFC 5321 §4.5.3.2.6: ten minutes)",
    "call_timeout_s": "hard limit of a call, kept by the caller; 0: final reply + connect + 2 commands",
    "greylist_s": "least wait after a 450 or 451",
    "provider": "its name in outcomes, metrics and circuits",
    "dkim_key": "PEM file of the key that mails are signed with; none: they are not signed here",
    "dkim_selector": "the key's name in the DNS",
    "dkim_domain": "domain that mails are signed for; empty: the sender's",
    "bounce_domain": "domain of envelope senders that name a delivery each; empty: all mails have `sender`",
}


def tables() -> dict[str, str]:
    """Return each table by its name."""
    return {
        "replies": _table(
            ("phase", "code", "status", "outcome", "attempt", "connection", "source"),
            [
                (_phases(r.phases), r.code, r.status or "any", _outcome(r.verdict), *_effects(r.verdict), r.source)
                for r in REPLIES
            ],
        ),
        "faults": _table(
            ("fault", "outcome", "attempt", "connection"),
            [(fault.value, _outcome(verdict), *_effects(verdict)) for fault, verdict in FAULTS.items()],
        ),
        "reasons": _table(("reason", "says"), [(f"`{reason}`", text) for reason, text in EXPLANATIONS.items()]),
        "addresses": _table(("reason", "remedy"), [(f"`{reason}`", text) for reason, text in REMEDIES.items()]),
        "settings": _table(
            ("setting", "default", "what it is"),
            [(f"`{field.name}`", _default(field), SETTINGS[field.name]) for field in dataclasses.fields(SmtpSettings)],
        ),
        "http_statuses": _table(
            ("status", "outcome", "attempt", "source"),
            [(rule.status, *_meaning(rule.meaning), rule.source) for rule in http_answers.STATUSES],
        ),
        "http_faults": _table(
            ("failure", "outcome", "attempt"),
            [(fault.value, *_meaning(meaning)) for fault, meaning in http_answers.FAULTS.items()],
        ),
        "twilio_codes": _table(
            ("codes", "outcome", "attempt", "source"),
            [
                (", ".join(map(str, sorted(rule.codes))), *_meaning(rule.meaning), rule.source)
                for rule in twilio_codes.CODES
            ]
            + [("any other", *_meaning(twilio_codes.DEFAULT), "default; counted")],
        ),
        "cloud_codes": _table(
            ("codes", "outcome", "attempt", "source"),
            [(_codes(rule.codes), *_meaning(rule.meaning), rule.source) for rule in cloud_codes.CODES]
            + [("any other", *_meaning(cloud_codes.DEFAULT), "default; counted")],
        ),
        "cloud_reasons": _table(
            ("reason", "says"),
            [
                (f"`{reason}`", text)
                for reason, text in cloud_codes.EXPLANATIONS.items()
                if reason not in http_answers.EXPLANATIONS
            ],
        ),
        "sendgrid_answers": _table(
            ("status", "field begins with", "message holds", "outcome", "attempt", "source"),
            [
                (str(rule.status), rule.field or "any", rule.says or "any", *_meaning(rule.meaning), rule.source)
                for rule in sendgrid_codes.ANSWERS
            ]
            + [("any other refusal", "any", "any", *_meaning(sendgrid_codes.DEFAULT), "default; counted")],
        ),
        "sendgrid_drops": _table(
            ("reason begins with", "outcome", "suppressed as", "source"),
            [(f"`{row.says}`", _meaning(row.meaning)[0], row.why or "not", row.source) for row in sendgrid_news.DROPS]
            + [("any other", _meaning(sendgrid_news.DROPPED)[0], "not", "default")],
        ),
        "twilio_calls": _table(
            ("status of a call", "outcome"),
            [(f"`{status}`", _meaning(meaning)[0]) for status, meaning in twilio_codes.CALL_STATUSES.items()],
        ),
        "twilio_reasons": _table(
            ("reason", "says"), [(f"`{reason}`", text) for reason, text in twilio_codes.EXPLANATIONS.items()]
        ),
        "phones": _table(("reason", "remedy"), [(f"`{reason}`", text) for reason, text in phones.REMEDIES.items()]),
        "limits": _table(
            ("channel", "counts", "at most", "unless configured", "source"),
            [
                (channel.value, limit.unit.value, f"{limit.most:,}", f"{limit.usual:,}", limit.source)
                for channel, limit in limits.LIMITS.items()
            ],
        ),
    }


def filled(page: str) -> str:
    """Return the page with its tables as the code has them."""
    made = tables()
    return re.sub(
        r"<!-- (\w+) -->\n.*?<!-- end -->",
        lambda found: f"<!-- {found[1]} -->\n{made[found[1]]}<!-- end -->",
        page,
        flags=re.DOTALL,
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _codes(codes: tuple[int, ...]) -> str:
    """Return codes in order, a run of many as its ends."""
    first, last = min(codes), max(codes)
    whole = len(codes) > 9 and last - first == len(codes) - 1
    return f"{first} to {last}" if whole else ", ".join(map(str, sorted(codes)))


def _phases(phases: tuple[Phase, ...]) -> str:
    if len(phases) == len(Phase):
        return "every"
    left_out = [phase.value for phase in Phase if phase not in phases]
    return "all but " + ", ".join(left_out) if len(left_out) <= 1 else ", ".join(phase.value for phase in phases)


def _outcome(verdict: Verdict) -> str:
    said = f"{verdict.kind.lower()} `{verdict.reason}`"
    if verdict.retry_after_s is not None:
        said += f", ≥ {verdict.retry_after_s:g} s"
    return said + ", blames the address" if verdict.blames_address else said


def _meaning(meaning: Meaning) -> tuple[str, str]:
    said = f"{meaning.kind.lower()} `{meaning.reason}`"
    return said + (", blames the address" if meaning.blames_address else ""), "consumed" if meaning.reached else "free"


def _effects(verdict: Verdict) -> tuple[str, str]:
    return "consumed" if verdict.reached else "free", "closed" if verdict.close else "kept"


def _default(field: "dataclasses.Field[object]") -> str:
    if field.default is dataclasses.MISSING:
        return "required"
    if field.default is None or field.default == "":
        return "none"
    if isinstance(field.default, tuple):
        return ", ".join(str(value) for value in field.default)
    return f"{field.default:g}" if isinstance(field.default, int | float) else str(field.default)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
