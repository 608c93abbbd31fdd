"""References: the id of a delivery, sealed, as providers carry it in the address that they send news to. Pure.

A provider's log and every proxy between sees the address, so it must name nobody; whoever sends news must name the
delivery, of which a hash would have to be looked up. AES-SIV (RFC 5297) does both: the same delivery has the same
reference, and one that was made up does not open.
"""

import base64
import binascii
import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

#: Shortest secret, in characters.
MIN_SECRET = 16
#: Longest reference that is looked at, in characters.
MAX_REFERENCE = 2048


class References:
    """Seals and opens. ``secrets``: the first seals, all open. What was sealed for one ``purpose`` opens for no
    other."""

    def __init__(self, secrets: tuple[str, ...], purpose: str = "references") -> None:
        begin = f"{purpose}\0".encode()
        self._ciphers = [AESSIV(hashlib.sha512(begin + secret.encode()).digest()) for secret in secrets]

    def __bool__(self) -> bool:
        return bool(self._ciphers)

    def seal(self, delivery_id: str) -> str:
        """Return the reference of a delivery; empty without a secret."""
        if not self._ciphers:
            return ""
        return _written(self._ciphers[0].encrypt(delivery_id.encode(), None))

    def open(self, reference: str) -> str | None:
        """Return the delivery that a reference names, None for one that none of the secrets made."""
        if not reference.isascii() or not 0 < len(reference) <= MAX_REFERENCE:
            return None
        try:
            sealed = base64.b64decode(reference + "=" * (-len(reference) % 4), altchars=b"-_", validate=True)
        except binascii.Error:
            return None
        if _written(sealed) != reference:
            # The last character has bits that say nothing: there is one way to write a reference, and no other opens.
            return None
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(sealed, None).decode()
            except (InvalidTag, ValueError):
                continue
        return None


def _written(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")
