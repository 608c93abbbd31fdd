"""Phone numbers: what people write becomes E.164, or a stated reason why it does not. Pure.

A number without its country code needs a region; nobody guesses one. Only a number that its country's plan has is
taken: a provider would refuse the rest, and a wrong guess reaches a stranger.
"""

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

#: Longest value that is looked at.
MAX_VALUE = 100
_SCHEMES = ("whatsapp:", "tel:", "sms:")
#: Names of countries beside those of ISO 3166-1 that are reserved for them, and usual.
_ALIASES = {"UK": "GB", "EL": "GR"}
_LETTERS = re.compile(r"[^\W\d_]")
#: What begins an extension in the ways that people write it; only what follows digits counts.
_EXTENSION = re.compile(
    r"(?<=[\d)\s.])[\s.,;]*(?:ext(?:ension|n)?|x|#|durchwahl|poste|int(?:erno)?)[\s.:=]*\d+\s*\Z"
    # "030 123456/7" is two numbers, or an extension: as one it is a stranger's.
    r"|(?<=\d{4})\s*/\s*\d{1,2}\s*\Z",
    re.IGNORECASE,
)


class PhoneReason(StrEnum):
    """What is wrong with a phone number."""

    EMPTY = "phone_empty"
    TOO_LONG = "phone_too_long"
    LETTERS = "phone_letters"
    NO_COUNTRY = "phone_no_country"
    REGION = "phone_region"
    EXTENSION = "phone_extension"
    NO_NUMBER = "phone_no_number"


#: What to do about it.
REMEDIES: dict[PhoneReason, str] = {
    PhoneReason.EMPTY: "give a phone number such as +4930123456",
    PhoneReason.TOO_LONG: "give one phone number, at most 100 characters with all spaces",
    PhoneReason.LETTERS: "give the number in digits",
    PhoneReason.NO_COUNTRY: "give the number with + and its country code, or the recipient's region such as DE",
    PhoneReason.REGION: "give the region as two letters, such as DE",
    PhoneReason.EXTENSION: "give a number that is reached without an extension",
    PhoneReason.NO_NUMBER: "correct the number: its country has no such number; short codes cannot be sent to",
}


@dataclass(frozen=True, slots=True)
class PhoneFault:
    """Why a value is no phone number, without quoting it."""

    reason: PhoneReason

    @property
    def remedy(self) -> str:
        """What to do about it, in one sentence."""
        return REMEDIES[self.reason]


@lru_cache(maxsize=4096)
def e164(value: str, region: str = "") -> str | PhoneFault:
    """Return a phone number as ``+`` and digits. ``region``: two letters, for numbers without their country code; what
    ISO 3166-2 has behind them (``US-TX``) does not matter."""
    if len(value) > MAX_VALUE:
        return PhoneFault(PhoneReason.TOO_LONG)
    text = "".join(char for char in value if unicodedata.category(char) != "Cf").strip()
    text = text[len(_scheme(text)) :].strip()
    if not any(char.isdigit() for char in text):
        return PhoneFault(PhoneReason.LETTERS if _LETTERS.search(text) else PhoneReason.EMPTY)
    if _EXTENSION.search(text):
        return PhoneFault(PhoneReason.EXTENSION)
    if _LETTERS.search(text):
        return PhoneFault(PhoneReason.LETTERS)
    country = region.strip().upper().partition("-")[0]
    return _parsed(text, _ALIASES.get(country, country))


@lru_cache(maxsize=4096)
def country(number: str) -> str:
    """Return the country whose plan an E.164 number is of (ISO 3166-1, two letters), empty where it is of none."""
    import phonenumbers  # noqa: PLC0415 - its tables take a while to load, and few commands need them

    try:
        parsed = phonenumbers.parse(number[len(_scheme(number)) :], None)
    except phonenumbers.NumberParseException:
        return ""
    found = phonenumbers.region_code_for_number(parsed)
    return str(found) if found and found.isalpha() else ""


def _scheme(text: str) -> str:
    return next((scheme for scheme in _SCHEMES if text.lower().startswith(scheme)), "")


def _parsed(text: str, region: str) -> str | PhoneFault:
    import phonenumbers  # noqa: PLC0415 - its tables take a while to load, and few commands need them

    if region and region not in phonenumbers.SUPPORTED_REGIONS:
        return PhoneFault(PhoneReason.REGION)
    try:
        number = phonenumbers.parse(text, region or None)
    except phonenumbers.NumberParseException as exc:
        no_country = exc.error_type == phonenumbers.NumberParseException.INVALID_COUNTRY_CODE and text[:1] not in "+＋"
        return PhoneFault(PhoneReason.NO_COUNTRY if no_country and not region else PhoneReason.NO_NUMBER)
    if number.extension:
        return PhoneFault(PhoneReason.EXTENSION)
    if not phonenumbers.is_valid_number(number):
        return _mexican(text) or PhoneFault(PhoneReason.NO_NUMBER)
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def _mexican(text: str) -> str:
    """Return a Mexican number without the 1 that mobiles had after the country code until 2019; else nothing."""
    digits = "".join(str(unicodedata.digit(char)) for char in text if char.isdigit())
    if not digits.startswith("521") or len(digits) != 13:
        return ""
    found = _parsed(f"+52{digits[3:]}", "")
    return found if isinstance(found, str) else ""
