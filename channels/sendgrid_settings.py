"""What the adapter of SendGrid needs to know. Pure; every fault of a configuration is named, without its secrets."""

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from channels.addresses import Address, parse
from channels.settings_parts import base_url_fault

#: Where SendGrid's API is.
BASE_URL = "https://api.sendgrid.com"
_HEADER = re.compile(r"[!-~]*\Z")


@dataclass(frozen=True, slots=True)
class SendGridSettings:
    """An account at SendGrid, and how to treat it. It is there where ``api_key`` is.

    ``event_keys``: the public keys that its news are signed with, as SendGrid shows them (base64), all of which are
    believed; none: no news are.
    """

    api_key: str = field(default="", repr=False)
    sender: str = ""
    sender_name: str = ""
    event_keys: tuple[str, ...] = ()
    base_url: str = BASE_URL
    ca_file: Path | None = None
    connections: int = 50
    connect_timeout_s: float = 5.0
    timeout_s: float = 20.0

    @property
    def email(self) -> bool:
        """Whether mails can be sent."""
        return bool(self.api_key)

    @property
    def from_address(self) -> Address:
        """The checked sender. Raises ``ValueError`` where it is none."""
        address = parse(self.sender)
        if not isinstance(address, Address):
            raise ValueError(f"sendgrid: sender: {address.remedy}")
        return Address(address.local, address.domain, self.sender_name or address.name)

    def faults(self) -> Iterator[tuple[str, str]]:
        """Yield each fault: the field, and what to do about it."""
        if not _HEADER.match(self.api_key):
            yield "api_key", "holds a space or a character that no key has; copy it again"
        if any(public_key(key) is None for key in self.event_keys):
            yield "event_key", "is no verification key; copy it from SendGrid's page of the signed event webhook"
        if fault := base_url_fault(self.base_url, BASE_URL):
            yield "base_url", fault
        if self.connect_timeout_s > self.timeout_s:
            yield "timeout_s", f"use at least {self.connect_timeout_s:g}, what a connection may take"


def public_key(text: str) -> EllipticCurvePublicKey | None:
    """Return the key that a text holds (base64 of its DER form), None where it is no key on P-256."""
    try:
        key = load_der_public_key(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1) else None
