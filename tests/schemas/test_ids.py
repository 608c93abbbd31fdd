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
