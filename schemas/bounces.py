"""Envelope senders that name a delivery each (VERP), so that whatever comes back says what it is about. Pure.

A local part has at most 64 characters (RFC 5321 §4.5.3.1.1), fewer than a delivery's id. So it names the record on
``notifications.email`` that asked for the mail, by partition and offset, with four bytes of a hash of the delivery's
id: who reads the record knows all of the delivery, and knows a topic that was made anew. It is sealed as references are
(AES-SIV), so it names nothing to others and cannot be made up; in base32, since some programs write addresses in lower
case.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

#: What begins a local part of ours.
PREFIX = "b-"
_LENGTH = 45
#: Longest text that is searched for addresses, in characters.
MAX_TEXT = 4096


@dataclass(frozen=True, slots=True)
class Place:
    """Where the record lies that asked for a mail. ``check``: of the delivery's id."""

    partition: int
    offset: int
    check: bytes

    def is_of(self, delivery_id: str) -> bool:
        """Return whether a delivery is the one that is meant."""
        return self.check == _check(delivery_id)


class BounceAddresses:
    """Makes and reads local parts. ``secrets``: the first seals, all open. ``domain``: of the addresses, in ASCII;
    empty: there are none."""

    def __init__(self, secrets: tuple[str, ...], domain: str = "") -> None:
        self._ciphers = [AESSIV(hashlib.sha512(b"bounces\0" + secret.encode()).digest()) for secret in secrets]
        self.domain = domain.lower() if secrets else ""
        found = rf"(?<![a-z0-9]){PREFIX}([a-z2-7]{{{_LENGTH}}})@{re.escape(self.domain)}(?![a-z0-9.-])"
        self._address = re.compile(found, re.IGNORECASE)

    def __bool__(self) -> bool:
        return bool(self.domain)

    def local(self, partition: int, offset: int, delivery_id: str) -> str:
        """Return the local part for a delivery, the same each time; empty where there are no such addresses."""
        if not self.domain:
            return ""
        said = partition.to_bytes(2, "big") + offset.to_bytes(6, "big") + _check(delivery_id)
        return PREFIX + _written(self._ciphers[0].encrypt(said, None))

    def found(self, texts: Iterable[str]) -> Iterator[Place]:
        """Yield what the addresses of ours in some texts name. One that was made up names nothing."""
        if not self.domain:
            return
        for text in texts:
            for match in self._address.finditer(text[:MAX_TEXT]):
                place = self._open(match[1].lower())
                if place is not None:
                    yield place

    def _open(self, written: str) -> Place | None:
        try:
            sealed = base64.b32decode(written.upper() + "===")
        except binascii.Error:
            return None
        if _written(sealed) != written:
            # The last character has bits that say nothing: there is one way to write an address.
            return None
        for cipher in self._ciphers:
            try:
                said = cipher.decrypt(sealed, None)
            except InvalidTag:
                continue
            return Place(int.from_bytes(said[:2], "big"), int.from_bytes(said[2:8], "big"), said[8:])
        return None


def _check(delivery_id: str) -> bytes:
    return hashlib.sha256(delivery_id.encode()).digest()[:4]


def _written(sealed: bytes) -> str:
    return base64.b32encode(sealed).decode().rstrip("=").lower()
