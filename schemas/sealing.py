"""Sealing: what is personal in a reminder, encrypted with a key of its own: destroying the key destroys every copy.

A content is sealed with AES-256-GCM under a fresh key. That key, wrapped with AES-256-GCM under the installation's
master key, travels beside it to the one place that keeps it. The reminder's id and the name of the field are
authenticated with both: what was sealed for one place opens at no other. Pure: randomness is a parameter, and every
ciphertext needs 12 bytes of it for its nonce.

A wrapped key says which content it is for (``key_id``, never 0, which means in clear) and which master key wraps it:
``>BIQ`` (form, master, key id), nonce, ciphertext with its tag. A sealed body is nonce and ciphertext with its tag.
"""

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from schemas.records import Sealed

#: The key id of what is in clear.
CLEAR = 0
#: Field names that are authenticated.
CONTENT = "content"
PROFILE = "profile"

_NONCE = 12
_KEY = 32
_HEAD = struct.Struct(">BIQ")
_FORM = 1
#: The length of a wrapped key as Avro writes it before the bytes.
_TAG = b"\x92\x01"
#: An Avro long is signed.
_KEY_ID_MASK = 2**63 - 1

Random = Callable[[int], bytes]


class Unopened(Exception):  # noqa: N818 - an answer more than an error
    """Something sealed cannot be opened. ``reason`` is safe to show."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Master:
    """One master key and the number by which a wrapped key names it."""

    number: int
    cipher: AESGCM = field(repr=False)

    @classmethod
    def of(cls, secret: str) -> "Master":
        """Return the master key that a secret makes. Its number comes from the secret, so that it need not be set."""
        raw = hashlib.sha256(b"seal\0" + secret.encode()).digest()
        number = int.from_bytes(hashlib.sha256(b"number\0" + raw).digest()[:4], "big")
        return cls(number, AESGCM(raw))


@dataclass(frozen=True, slots=True)
class Sealing:
    """The master keys of an installation: the first one wraps, all of them unwrap. Without one nothing is sealed."""

    masters: tuple[Master, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, secrets: tuple[str, ...]) -> "Sealing":
        """Return the sealing of some secrets, the one in use first."""
        return cls(tuple(Master.of(secret) for secret in secrets))

    def __bool__(self) -> bool:
        return bool(self.masters)

    def seal(self, place: str, name: str, plain: bytes, random: Random) -> tuple[Sealed, bytes]:
        """Return something sealed for a place and the name of its field, and the wrapped key that opens it.

        Without a master key it stays in clear, and there is no key.
        """
        if not self.masters:
            return Sealed(CLEAR, plain), b""
        fresh = random(_KEY + 3 * _NONCE)
        key, ours, nonce, rest = fresh[:_KEY], fresh[_KEY:44], fresh[44:56], fresh[56:]
        key_id = int.from_bytes(rest[:8], "big") & _KEY_ID_MASK or 1
        body = ours + AESGCM(key).encrypt(ours, plain, _bound(place, name, key_id))
        master = self.masters[0]
        head = _HEAD.pack(_FORM, master.number, key_id)
        wrapped = head + nonce + master.cipher.encrypt(nonce, key, head + _bound(place, "key", key_id))
        return Sealed(key_id, body), wrapped

    def open(self, place: str, name: str, sealed: Sealed, wrapped: bytes) -> bytes:
        """Return what was sealed for a place and the name of its field. Raises Unopened.

        The reasons: ``key_gone`` (there is no key any more), ``another_key`` (this key is of another content),
        ``master_unknown`` (it is wrapped with a master key that is not here) and ``damaged``.
        """
        if sealed.key_id == CLEAR:
            return sealed.body
        if not wrapped:
            raise Unopened("key_gone")
        if len(wrapped) != _HEAD.size + _NONCE + _KEY + 16 or wrapped[0] != _FORM:
            raise Unopened("damaged")
        _, number, key_id = _HEAD.unpack_from(wrapped)
        if key_id != sealed.key_id:
            raise Unopened("another_key")
        master = self._master(number)
        if master is None:
            raise Unopened("master_unknown")
        head, nonce, locked = wrapped[: _HEAD.size], wrapped[_HEAD.size : 25], wrapped[25:]
        try:
            key = master.cipher.decrypt(nonce, locked, head + _bound(place, "key", key_id))
            body = sealed.body
            return AESGCM(key).decrypt(body[:_NONCE], body[_NONCE:], _bound(place, name, key_id))
        except (InvalidTag, ValueError) as exc:
            raise Unopened("damaged") from exc

    def _master(self, number: int) -> Master | None:
        for master in self.masters:
            if master.number == number:
                return master
        return None

    @property
    def tag(self) -> bytes:
        """Return what a record in Avro holds whose key is wrapped with the master key in use, empty without one: the
        key's length, form and the number of the master key."""
        return _TAG + struct.pack(">BI", _FORM, self.masters[0].number) if self.masters else b""

    def first_wraps(self, wrapped: bytes) -> bool:
        """Return whether a key is wrapped with the master key in use."""
        return bool(self.masters) and number_of(wrapped) == self.masters[0].number

    def knows(self, wrapped: bytes) -> bool:
        """Return whether a key is wrapped with any master key that is here."""
        return any(number_of(wrapped) == master.number for master in self.masters)

    def rewrapped(self, place: str, wrapped: bytes, random: Random) -> bytes | None:
        """Return a key wrapped anew with the master key in use, None where it is already, or cannot be unwrapped."""
        if not self.masters or len(wrapped) != _HEAD.size + _NONCE + _KEY + 16 or wrapped[0] != _FORM:
            return None
        _, number, key_id = _HEAD.unpack_from(wrapped)
        master = self._master(number)
        if master is None or master is self.masters[0]:
            return None
        bound = _bound(place, "key", key_id)
        try:
            key = master.cipher.decrypt(wrapped[_HEAD.size : 25], wrapped[25:], wrapped[: _HEAD.size] + bound)
        except (InvalidTag, ValueError):
            return None
        first, nonce = self.masters[0], random(_NONCE)
        head = _HEAD.pack(_FORM, first.number, key_id)
        return head + nonce + first.cipher.encrypt(nonce, key, head + bound)


def number_of(wrapped: bytes) -> int:
    """Return the number of the master key that wraps a key, -1 for what is no wrapped key."""
    return int(_HEAD.unpack_from(wrapped)[1]) if len(wrapped) > _HEAD.size and wrapped[0] == _FORM else -1


def key_id_of(wrapped: bytes) -> int:
    """Return which content a wrapped key is for, 0 for what is no wrapped key."""
    return int(_HEAD.unpack_from(wrapped)[2]) if len(wrapped) > _HEAD.size and wrapped[0] == _FORM else CLEAR


def _bound(place: str, name: str, key_id: int) -> bytes:
    """Return what is authenticated: no part can run into the next, for a place has no control characters."""
    return f"{place}\0{name}\0{key_id}".encode()
