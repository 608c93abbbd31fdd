"""The list of those who alone are sent to, so that a system for trying things out never writes to a customer. Pure.

It fails closed: an address that cannot be read, or of a kind that no entry speaks of, is not on the list.
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from channels import addresses
from channels.addresses import Address
from schemas.names import Channel

#: The reason of what is skipped because its address is not on the list.
NOT_ON_LIST = "not_on_send_only_list"

_PHONE = re.compile(r"\+[1-9][0-9]{0,14}\Z")
_PUNCTUATION = re.compile(r"[\s().\-/]")


@dataclass(frozen=True, slots=True)
class SendOnlyTo:
    """Who may be sent to. Without any entry: everybody.

    ``mailboxes``: whole addresses, in small letters. ``domains``: of mail addresses and of webhooks. ``phones``:
    beginnings of numbers, ``+`` and digits. ``exactly``: anything else as it stands, such as a device's token.
    """

    mailboxes: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()
    phones: tuple[str, ...] = ()
    exactly: frozenset[str] = frozenset()

    @property
    def entries(self) -> int:
        """How many entries there are; 0: everybody may be sent to."""
        return len(self.mailboxes) + len(self.domains) + len(self.phones) + len(self.exactly)

    def allows(self, channel: Channel, address: str) -> bool:
        """Return whether an address of a channel may be sent to."""
        if not self.entries or address in self.exactly:
            return True
        match channel:
            case Channel.EMAIL:
                found = addresses.parse(address)
                return isinstance(found, Address) and (
                    found.spec.casefold() in self.mailboxes or self._within(found.domain)
                )
            case Channel.SMS | Channel.WHATSAPP | Channel.VOICE:
                number = phone(address)
                return number != "" and number.startswith(self.phones)
            case Channel.WEBHOOK:
                return self._within(_host(address))
            case Channel.PUSH | Channel.ANY | Channel.UNKNOWN:
                return False

    def _within(self, domain: str) -> bool:
        """Return whether a domain is listed, or lies below one that is listed as ``*.example.org``."""
        if domain in self.domains:
            return domain != ""
        parts = domain.split(".")
        return any("*." + ".".join(parts[n:]) in self.domains for n in range(1, len(parts)))


def phone(address: str) -> str:
    """Return a phone number as ``+`` and digits, nothing where it is none."""
    scheme, _, rest = address.rpartition(":")
    number = _PUNCTUATION.sub("", rest if scheme.lower() in ("whatsapp", "tel") else address)
    return number if _PHONE.match(number) else ""


def _host(url: str) -> str:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return ""
    return addresses.a_label(host)


def read(text: str) -> tuple[SendOnlyTo, list[str]]:
    """Return the list that a text of entries separated by commas gives, and what is wrong with each that cannot be
    used."""
    mailboxes, domains, exactly = set[str](), set[str](), set[str]()
    phones: list[str] = []
    faults: list[str] = []
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    for entry in entries:
        if entry.startswith("="):
            if entry[1:].strip():
                exactly.add(entry[1:].strip())
            else:
                faults.append("'=' needs an address behind it")
        elif entry.startswith("+"):
            number = phone(entry)
            if number:
                phones.append(number)
            else:
                faults.append(f"{_short(entry)} is no beginning of a phone number; use such as +4930")
        elif "@" in entry[1:]:
            found = addresses.parse(entry)
            if isinstance(found, Address) and not found.name:
                mailboxes.add(found.spec.casefold())
            else:
                faults.append(f"{_short(addresses.mask(entry))} is no mail address; use such as anna@example.org")
        else:
            below = entry.startswith("*.")
            domain = addresses.a_label(entry[2:] if below else entry.removeprefix("@"))
            if domain:
                domains.add("*." + domain if below else domain)
            else:
                faults.append(
                    f"{_short(entry)} is no domain; use example.org, *.example.org, an address, +49 or =TOKEN"
                )
    if text.strip() and not entries:
        faults.append("has no entry; name who may be sent to, or leave it out to send to everybody")
    return SendOnlyTo(frozenset(mailboxes), frozenset(domains), tuple(sorted(phones)), frozenset(exactly)), faults


def _short(entry: str) -> str:
    return repr(entry if len(entry) <= 40 else entry[:39] + "…")
