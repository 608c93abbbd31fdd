"""The pages about webhooks say what the code does, and their examples hold."""

import base64
import hashlib
import hmac
import json
import re

import pytest

from tests.channels.http_tables import DOCS, PAGES, filled


@pytest.mark.parametrize("name", PAGES)
def test_the_tables_of_a_page_are_those_of_the_code(name: str) -> None:
    page = (DOCS / name).read_text("utf-8")
    parts = PAGES[name]()
    assert all(f"<!-- {part} -->\n" in page for part in parts)
    assert page == filled(page, parts), "python -m tests.channels.http_tables writes them"


def test_the_documented_call_holds_for_a_receiver_who_knows_nothing_but_the_page() -> None:
    """By the standard's own words, not by our code: HMAC-SHA256 over ``id.timestamp.body``."""
    page = (DOCS / "webhooks.md").read_text("utf-8")
    found = re.search(r"```text\n(.*?)\n\n(.*?)\n```", page, re.DOTALL)
    assert found is not None
    told = dict(line.split(": ", 1) for line in found[1].splitlines())
    signed = f"{told['webhook-id']}.{told['webhook-timestamp']}.{found[2]}".encode()
    secret = base64.b64decode(told["secret"].removeprefix("whsec_"))
    assert 24 <= len(secret) <= 64
    expected = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    assert told["webhook-signature"] == f"v1,{expected}"
    shown = re.search(r"```json\n(.*?)```", page, re.DOTALL)
    assert shown is not None
    assert json.loads(found[2]) == json.loads(shown[1])
