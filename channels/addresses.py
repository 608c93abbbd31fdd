"""Mail addresses: checked, in one form, and masked. Pure. A bad address is a value, never an exception.

The domain goes as an A-label (IDNA 2008), so any server takes it. A local part outside ASCII has no such form: it is
kept, and needs a server that offers SMTPUTF8 (RFC 6531).
"""

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import idna
from email_validator import EmailNotValidError, validate_email

from channels.render import MAX_NAME, one_line
from schemas import phones
from schemas.names import PHONE_CHANNELS, Channel

#: Longest value that is looked at, display name included.
MAX_VALUE = 1000
#: Longest address (RFC 5321 §4.5.3.1.3, less the angle brackets) and local part (§4.5.3.1.1), in bytes.
MAX_ADDRESS = 254
MAX_LOCAL = 64
MAX_DOMAIN = 253


class AddressReason(StrEnum):
    """What is wrong with an address."""

    EMPTY = "address_empty"
    TOO_LONG = "address_too_long"
    SEVERAL = "address_several"
    CONTROL = "address_control"
    BRACKETS = "address_brackets"
    NO_AT = "address_no_at"
    LOCAL = "address_local"
    DOMAIN = "address_domain"


#: What to do about it.
REMEDIES: dict[AddressReason, str] = {
    AddressReason.EMPTY: "give an address such as name@example.org",
    AddressReason.TOO_LONG: "an address has at most 254 bytes, 64 of them before the @-sign",
    AddressReason.SEVERAL: "give one address; several recipients are several reminders or contacts",
    AddressReason.CONTROL: "remove line breaks, control and invisible characters from the address",
    AddressReason.BRACKETS: "write a name as: Name <name@example.org>",
    AddressReason.NO_AT: "an address has the form name@example.org",
    AddressReason.LOCAL: "correct the part before the @-sign; quoted parts and spaces are not supported",
    AddressReason.DOMAIN: "correct the part after the @-sign: a host name with a dot, no IP address",
}


@dataclass(frozen=True, slots=True)
class Address:
    """A checked address. ``domain`` is lower case and an A-label; ``name`` is one line, as readers see it."""

    local: str
    domain: str
    name: str = ""

    @property
    def spec(self) -> str:
        """The address as it goes on the wire, without name and brackets."""
        return f"{self.local}@{self.domain}"

    @property
    def needs_smtputf8(self) -> bool:
        """Whether only a server with SMTPUTF8 can take it."""
        return not self.local.isascii()


@dataclass(frozen=True, slots=True)
class AddressFault:
    """Why a value is not an address, without quoting it."""

    reason: AddressReason

    @property
    def remedy(self) -> str:
        """What to do about it, in one sentence."""
        return REMEDIES[self.reason]


_NAMED = re.compile(r"(?P<name>[^<>]*)<(?P<spec>[^<>]*)>\Z", re.DOTALL)
#: What RFC 5321 calls a Dot-string: nearly every local part, so that only the rest needs a longer look.
_DOT_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\Z', re.DOTALL)
_QUOTED_PREFIX = re.compile(r'\s*"(?:[^"\\]|\\.)*"\s*(?=<)', re.DOTALL)


def parse(value: str) -> Address | AddressFault:
    """Return the address that a value holds, alone or as ``Name <address>``, in its one form."""
    if len(value) > MAX_VALUE:
        return AddressFault(AddressReason.TOO_LONG)
    name, spec = _split(value.strip())
    if "<" in spec or ">" in spec:
        return AddressFault(AddressReason.BRACKETS)
    if not spec:
        return AddressFault(AddressReason.EMPTY)
    if any(unicodedata.category(char)[0] == "C" or char in "\u2028\u2029" for char in spec):
        return AddressFault(AddressReason.CONTROL)
    local, at, domain = spec.rpartition("@")
    if not at:
        return AddressFault(AddressReason.NO_AT)
    if ("@" in local or "," in spec or ";" in spec) and '"' not in local:
        return AddressFault(AddressReason.SEVERAL)
    return _checked(local, domain, one_line(name, MAX_NAME))


def _split(value: str) -> tuple[str, str]:
    quoted = _QUOTED_PREFIX.match(value)
    if quoted is not None:
        # Brackets inside the quotes belong to the name.
        rest = value[quoted.end() :]
        if _NAMED.match(rest):
            return _unquoted(quoted[0]), rest[1:-1].strip()
    named = _NAMED.match(value)
    if named is None:
        return "", value
    return _unquoted(named["name"]), named["spec"].strip()


def _unquoted(name: str) -> str:
    quoted = _QUOTED.match(name.strip())
    return re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL) if quoted else name


def _checked(local: str, domain: str, name: str) -> Address | AddressFault:
    if len(local.encode()) > MAX_LOCAL:
        return AddressFault(AddressReason.TOO_LONG)
    if not _DOT_ATOM.match(local) and _refused(f"{local}@example.com"):
        return AddressFault(AddressReason.LOCAL)
    host = a_label(domain)
    if not host:
        return AddressFault(AddressReason.DOMAIN)
    address = Address(unicodedata.normalize("NFC", local), host, name)
    if len(address.spec.encode()) > MAX_ADDRESS:
        return AddressFault(AddressReason.TOO_LONG)
    return address


def _refused(spec: str) -> bool:
    try:
        validate_email(spec, check_deliverability=False)
    except EmailNotValidError:
        return True
    return False


@lru_cache(maxsize=4096)
def a_label(domain: str) -> str:
    """Return the ASCII form of a mail domain, or nothing where it is none."""
    try:
        host = idna.encode(domain, uts46=True, std3_rules=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        return ""
    top = host.rpartition(".")[2]
    whole = host == "localhost" or ("." in host and top != "" and not top.isdigit())
    return host if whole and len(host) <= MAX_DOMAIN else ""


def mask(value: str) -> str:
    """Return a form for logs: the first characters of both parts, ``a***@d…``; a value that is no address keeps one."""
    spec = _split(value.strip())[1]
    if not spec:
        return ""
    local, at, domain = spec.rpartition("@")
    if not at:
        return f"{_first(spec)}***"
    return f"{_first(local)}***@{_first(domain)}…"


def in_one_form(channel: Channel, value: str) -> str:
    """Return a phone number as E.164 where it is one; any other address as it is, which its channel answers for."""
    number = phones.e164(value) if channel in PHONE_CHANNELS else value
    return number if isinstance(number, str) else value


def mask_phone(value: str) -> str:
    """Return a form of a phone number for logs: the beginning of its country code and its last two digits."""
    digits = "".join(char for char in value if char.isdigit())
    return f"+{digits[:1]}******{digits[-2:]}" if len(digits) > 7 else "***"


def _first(part: str) -> str:
    return part[:1] if part[:1].isprintable() else "?"
