"""Addresses as keyed hashes: what ``suppressions`` is keyed by, so that the topic names nobody. Pure.

A key is ``<version>.<base32(HMAC-SHA256(secret, channel, address, scope))>``. Secrets have versions: the first one
writes, all of them are looked up, so that a secret can be changed while what was written with the old one still counts.
Without a secret the version is 0 and the hash has no key: whoever can read the topic can then try addresses.
"""

import base64
import contextlib
import hmac
import unicodedata
from dataclasses import dataclass, field
from hashlib import sha256

import idna

from schemas import phones
from schemas.names import PHONE_CHANNELS, Channel


def normal(channel: Channel, address: str) -> str:
    """Return the one form of an address under which it is known, however it was written."""
    text = unicodedata.normalize("NFC", address).strip()
    if channel is Channel.EMAIL:
        return _mailbox(text)
    if channel in PHONE_CHANNELS:
        number = phones.e164(text)
        if isinstance(number, str):
            return number
        text = text.removeprefix("whatsapp:")
        return "".join(c for c in text if c.isdigit() or c == "+")
    return text


def _mailbox(text: str) -> str:
    """Return a mail address without a name, its domain as an A-label, as providers name it when they tell of it."""
    if text.endswith(">"):
        text = text[text.rfind("<") + 1 : -1].strip()
    local, at, domain = text.rpartition("@")
    if domain.isascii():
        return text.lower()
    with contextlib.suppress(idna.IDNAError, UnicodeError):  # what is no domain is known as it stands
        domain = idna.encode(domain, uts46=True, std3_rules=True).decode("ascii")
    return f"{local}{at}{domain}".lower()


@dataclass(frozen=True, slots=True)
class AddressHash:
    """The secrets of addresses, by version, the one that writes first."""

    secrets: tuple[tuple[int, bytes], ...] = field(default=(), repr=False)

    @property
    def version(self) -> int:
        """The version that new keys carry."""
        return self.secrets[0][0] if self.secrets else 0

    def key(self, channel: Channel, address: str, scope: str = "") -> str:
        """Return the key under which an address is suppressed; ``scope``: for a category alone."""
        return self._keys(channel, address, scope)[0]

    def keys(self, channel: Channel, address: str, scope: str = "") -> tuple[str, ...]:
        """Return all keys under which it may be."""
        return self._keys(channel, address, scope)

    def _keys(self, channel: Channel, address: str, scope: str) -> tuple[str, ...]:
        said = "\0".join((channel.value, normal(channel, address), scope)).encode()
        return tuple(
            f"{version}.{base64.b32encode(hmac.digest(secret, said, sha256)).decode().rstrip('=').lower()}"
            for version, secret in self.secrets or ((0, b"suppressions"),)
        )


def parse(text: str) -> AddressHash:
    """Return the secrets that ``2:new,1:old`` names, or one secret of version 1. Raises ValueError with one line, which
    holds no secret."""
    found: list[tuple[int, bytes]] = []
    for part in (part.strip() for part in text.split(",")):
        if not part:
            continue
        number, colon, secret = part.partition(":")
        if not colon:
            number, secret = "1", part
        if not number.isdigit() or not 0 < int(number) < 1_000_000:
            raise ValueError("has a version that is no number from 1 on; use 2:secret,1:older")
        if len(secret) < 16:
            raise ValueError(f"secret {number} is shorter than 16 characters; make one with `openssl rand -hex 32`")
        if any(int(number) == version for version, _ in found):
            raise ValueError(f"has version {number} twice; give each secret its own")
        found.append((int(number), secret.encode()))
    return AddressHash(tuple(found))
