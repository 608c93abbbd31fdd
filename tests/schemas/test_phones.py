"""Phone numbers: what people write, in one form, or a stated reason; never a guess."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.phones import REMEDIES, PhoneFault, PhoneReason, e164


@pytest.mark.parametrize(
    ("value", "region", "number"),
    [
        ("+12015550123", "", "+12015550123"),
        ("whatsapp:+1 201 555 0123", "", "+12015550123"),
        ("tel:+1-201-555-0123", "", "+12015550123"),
        ("0044 20 7946 0958", "DE", "+442079460958"),
        ("(030) 123456", "de", "+4930123456"),
        ("＋４９３０１２３４５６", "", "+4930123456"),
        ("+49\u00a030\u00a0123456", "", "+4930123456"),
        ("+52 1 33 1234 5678", "", "+523312345678"),
        ("0521 1234567", "DE", "+495211234567"),
        ("(512) 555-0123", "US-TX", "+15125550123"),
        ("030/123456", "DE-BE", "+4930123456"),
        ("020 7946 0958", "UK", "+442079460958"),
        ("07911 123456", "GG", "+447911123456"),
        ("+39 02 1234 5678", "", "+390212345678"),
        ("+49 (0) 30 123456", "", "+4930123456"),
        ("011 39 02 1234 5678", "US", "+390212345678"),
        ("8 912 345 67 89", "RU", "+79123456789"),
        ("06 20 123 4567", "HU", "+36201234567"),
        ("+229 01 97 12 34 56", "", "+2290197123456"),
        ("۰۹۱۲۳۴۵۶۷۸۹", "IR", "+989123456789"),
        ("📞 +49–30–123456", "", "+4930123456"),
    ],
)
def test_what_people_write(value: str, region: str, number: str) -> None:
    assert e164(value, region) == number


@pytest.mark.parametrize(
    ("value", "region", "reason"),
    [
        ("", "", PhoneReason.EMPTY),
        ("+", "", PhoneReason.EMPTY),
        ("nobody", "", PhoneReason.LETTERS),
        ("1-800-FLOWERS", "US", PhoneReason.LETTERS),
        ("call 020 7946 0958", "GB", PhoneReason.LETTERS),
        ("020 7946 0958", "", PhoneReason.NO_COUNTRY),
        ("020 7946 0958", "XX", PhoneReason.REGION),
        ("110", "DE", PhoneReason.NO_NUMBER),
        ("72975", "US", PhoneReason.NO_NUMBER),
        ("+999 1234567", "", PhoneReason.NO_NUMBER),
        ("+1 201 555 0123 / 0124", "", PhoneReason.NO_NUMBER),
        ("+49 30 123456 ext 5", "", PhoneReason.EXTENSION),
        ("+49 30 123456;ext=5", "", PhoneReason.EXTENSION),
        ("+49 30 123456 x5", "", PhoneReason.EXTENSION),
        ("+49 30 123456#5", "", PhoneReason.EXTENSION),
        ("+49 30 123456 / 7", "", PhoneReason.EXTENSION),
        ("030 123456/78", "DE", PhoneReason.EXTENSION),
        ("+1 415 555 2671,,89", "", PhoneReason.EXTENSION),
        ("+39 2 1234 5678", "", PhoneReason.NO_NUMBER),
        ("+0049 30 123456", "", PhoneReason.NO_NUMBER),
        ("00 39 02 1234 5678", "", PhoneReason.NO_COUNTRY),
        ("030 123456", "DEU", PhoneReason.REGION),
        ("+" + "1" * 200, "", PhoneReason.TOO_LONG),
    ],
)
def test_what_is_no_number(value: str, region: str, reason: PhoneReason) -> None:
    fault = e164(value, region)
    assert isinstance(fault, PhoneFault)
    assert fault.reason is reason
    assert fault.remedy


def test_every_reason_has_a_remedy() -> None:
    assert set(REMEDIES) == set(PhoneReason)


@given(st.text(max_size=120), st.sampled_from(["", "DE", "US", "MX", "IT", "zz", "\u0000"]))
def test_whatever_comes_is_answered_and_a_number_stays_itself(value: str, region: str) -> None:
    number = e164(value, region)
    if isinstance(number, str):
        assert e164(number) == number
