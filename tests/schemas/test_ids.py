import base64
import hashlib
from urllib.parse import quote, unquote

from hypothesis import given
from hypothesis import strategies as st

from schemas import ids


@given(st.one_of(st.text(), st.text(alphabet=st.characters(max_codepoint=127))))
def test_parts_are_escaped_as_urls_are(part: str) -> None:
    try:
        part.encode()
    except UnicodeEncodeError:
        return
    assert ids.escape(part) == quote(part, safe="@")
    assert unquote(ids.escape(part)) == part
    assert not set(":/ %") & set(ids.escape(part).replace("%", ""))


@given(st.text())
def test_the_token_that_providers_see_is_base32_of_a_hash(delivery: str) -> None:
    delivery = delivery.encode(errors="replace").decode()
    hashed = base64.b32encode(hashlib.sha256(delivery.encode()).digest()).decode().lower()
    assert ids.provider_token(delivery) == hashed[:26]
