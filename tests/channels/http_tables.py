"""The tables of docs/webhooks.md and docs/push.md: ``python -m tests.channels.http_tables`` writes them."""

import re
from pathlib import Path

import orjson

from channels import fcm_codes
from channels.http_answers import EXPLANATIONS as HTTP_EXPLANATIONS
from channels.http_answers import Failure, HttpFault, Meaning
from channels.webhook_rules import ANSWERS, DUE, EXPLANATIONS, SAID, headers, payload, shown_secret, unanswered
from tests.channels.webhook_stage import hook

DOCS = Path(__file__).resolve().parents[2] / "docs"

Rows = list[tuple[str, ...]]


def table(head: tuple[str, ...], rows: Rows) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def said(meaning: Meaning) -> str:
    """Return a meaning as the pages show it."""
    return f"{meaning.kind.lower()} `{meaning.reason}`" + (", blames the address" if meaning.blames_address else "")


def faults() -> str:
    """Return what a connection's faults mean before the request began."""
    meanings = [unanswered(Failure(fault)) for fault in HttpFault]
    return table(("outcome", "says"), [(said(m), HTTP_EXPLANATIONS[m.reason]) for m in meanings])


def example() -> str:
    body = payload(
        hook("https://hooks.example.org/reminders", data={"room": "4"}, correlation_id="visit-42"),
        "Tomorrow at nine.",
        DUE,
    )
    return f"```json\n{orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode()}\n```\n"


EXAMPLE_KEY = "an-example-0123456789abcdef0123456789"
EXAMPLE_URL = "https://hooks.example.org/reminders"
EXAMPLE_AT = 1_764_000_000


def call() -> str:
    """Return a whole call as a receiver could replay it."""
    message = hook(EXAMPLE_URL, data={"room": "4"}, correlation_id="visit-42")
    body = payload(message, message.text, DUE)
    sent = headers([EXAMPLE_KEY], EXAMPLE_URL, message.token, EXAMPLE_AT, body)
    lines = [f"secret: {shown_secret(EXAMPLE_KEY, EXAMPLE_URL)}", *(f"{name}: {value}" for name, value in sent.items())]
    return "```text\n" + "\n".join(lines) + f"\n\n{body.decode()}\n```\n"


def webhooks() -> dict[str, str]:
    """Return each part of docs/webhooks.md by its name."""
    return {
        "body": example(),
        "call": call(),
        "answers": table(
            ("status", "outcome", "source"), [(rule.status, said(rule.meaning), rule.source) for rule in ANSWERS]
        ),
        "said": table(("status", "outcome"), [(f"`{word}`", said(meaning)) for word, meaning in SAID.items()]),
        "faults": faults(),
        "reasons": table(("reason", "says"), [(f"`{reason}`", text) for reason, text in EXPLANATIONS.items()]),
    }


def _fcm_row(rule: fcm_codes.Rule) -> tuple[str, ...]:
    code = {"": "none", "other": "any other"}.get(rule.code, rule.code)
    status = "any" if rule.status == "xxx" else rule.status
    wait = f", ≥ {rule.wait_s:g} s" if rule.wait_s else ""
    return code, status, said(rule.meaning) + wait, rule.source


def pushes() -> dict[str, str]:
    """Return each part of docs/push.md by its name."""
    return {
        "answers": table(("code", "status", "outcome", "source"), [_fcm_row(rule) for rule in fcm_codes.ANSWERS]),
        "reasons": table(
            ("reason", "says"), [(f"`{reason}`", text) for reason, text in fcm_codes.EXPLANATIONS.items()]
        ),
    }


PAGES = {"webhooks.md": webhooks, "push.md": pushes}


def filled(page: str, parts: dict[str, str]) -> str:
    """Return a page with its tables as the code has them."""
    return re.sub(
        r"<!-- (\w+) -->\n.*?<!-- end -->",
        lambda found: f"<!-- {found[1]} -->\n{parts[found[1]]}<!-- end -->",
        page,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    for name, parts in PAGES.items():
        (DOCS / name).write_text(filled((DOCS / name).read_text("utf-8"), parts()), "utf-8")
