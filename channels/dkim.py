"""DKIM signatures (RFC 6376, RFC 8463): rsa-sha256 and ed25519-sha256, relaxed/relaxed. Pure.

Both algorithms are deterministic and the time in the signature is given, so the same mail has the same signature.
Every field in ``SIGNED`` is named once more often than it is there: whoever adds another one breaks the signature.
"""

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

#: What is signed, whether it is there or not.
SIGNED = (
    "From",
    "To",
    "Cc",
    "Sender",
    "Reply-To",
    "Subject",
    "Date",
    "Message-ID",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "Feedback-ID",
)
#: RFC 8301 §3.2: signers use no shorter RSA key, and should use one of 2048 bits.
MIN_RSA_BITS = 1024
_LINE = 76
_FOLD = "\r\n "
_SPACES = re.compile(rb"[ \t]+")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_SELECTOR = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")

Key = RSAPrivateKey | Ed25519PrivateKey


def load_key(pem: bytes) -> Key:
    """Return a private key out of a PEM file. Raises ValueError with what to do, which holds nothing of the key."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        raise ValueError(
            "holds no private key in PEM without a passphrase; make one with `openssl genrsa 2048`"
        ) from None
    if isinstance(key, RSAPrivateKey):
        if key.key_size < MIN_RSA_BITS:
            raise ValueError(f"is an RSA key of {key.key_size} bits; use 2048 (`openssl genrsa 2048`)")
        return key
    if isinstance(key, Ed25519PrivateKey):
        return key
    raise ValueError("is neither an RSA nor an Ed25519 key; make one with `openssl genrsa 2048`")


def is_selector(text: str) -> bool:
    """Return whether a text can name a key below ``_domainkey``."""
    return len(text) <= 63 and bool(_SELECTOR.match(text))


def public_part(key: Key) -> str:
    """Return what ``p=`` of the key's TXT record is (RFC 6376 §3.6.1, RFC 8463 §4)."""
    public = key.public_key()
    if isinstance(key, Ed25519PrivateKey):
        raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    else:
        raw = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(raw).decode()


def record(key: Key) -> str:
    """Return the TXT record that publishes a key."""
    return f"v=DKIM1; k={'ed25519' if isinstance(key, Ed25519PrivateKey) else 'rsa'}; p={public_part(key)}"


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs for one domain with one key, which ``selector._domainkey.domain`` publishes."""

    domain: str
    selector: str
    key: Key = field(repr=False)

    def signed(self, message: bytes, at_s: int) -> bytes:
        """Return a mail with its signature in front. ``message`` has CRLF line ends and no dot doubled; ``at_s``:
        seconds since 1970-01-01 UTC, for the signature's own time."""
        head, _, body = message.partition(b"\r\n\r\n")
        fields = list(header_fields(head))
        names = oversigned(fields)
        ed25519 = isinstance(self.key, Ed25519PrivateKey)
        hashed = base64.b64encode(sha256(relaxed_body(body)).digest()).decode()
        lines = [
            f"v=1; a={'ed25519-sha256' if ed25519 else 'rsa-sha256'}; c=relaxed/relaxed;",
            f"d={self.domain}; s={self.selector}; t={at_s};",
            *_folded("h=", names),
            f"bh={hashed};",
            "b=",
        ]
        value = _FOLD.join(lines)
        signature = base64.b64encode(self._of(signing_input(fields, names, value.encode()))).decode()
        parts = [signature[at : at + _LINE - 4] for at in range(0, len(signature), _LINE - 4)]
        return f"DKIM-Signature: {value}{_FOLD.join(parts)}\r\n".encode() + message

    def _of(self, data: bytes) -> bytes:
        if isinstance(self.key, Ed25519PrivateKey):
            # RFC 8463 §3: what is signed is the hash.
            return self.key.sign(sha256(data).digest())
        return self.key.sign(data, PKCS1v15(), hashes.SHA256())


def header_fields(head: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and value, folded as it is, of each header field."""
    for line in re.split(rb"\r\n(?![ \t])", head):
        name, _, value = line.partition(b":")
        yield name, value


def oversigned(fields: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """Return the names for ``h=``: each of ``SIGNED`` as often as it is there, and once more."""
    there = [name.strip().lower() for name, _ in fields]
    return [name for name in SIGNED for _ in range(there.count(name.lower().encode()) + 1)]


def signing_input(fields: Sequence[tuple[bytes, bytes]], names: Iterable[str], signature: bytes) -> bytes:
    """Return the bytes that a signature is made of (RFC 6376 §3.7). ``signature``: the value of its own field with
    nothing behind ``b=``."""
    left = [(name.strip().lower(), value) for name, value in fields]
    found = []
    for name in names:
        wanted = name.lower().encode()
        # RFC 6376 §5.4.2: of several with one name, from the last one up; none left counts as nothing.
        at = next((n for n in range(len(left) - 1, -1, -1) if left[n][0] == wanted), None)
        if at is not None:
            found.append(relaxed_field(*left.pop(at)) + b"\r\n")
    return b"".join(found) + relaxed_field(b"DKIM-Signature", signature)


def relaxed_field(name: bytes, value: bytes) -> bytes:
    """Return a header field in relaxed form (RFC 6376 §3.4.2), without its line end."""
    return name.strip().lower() + b":" + _SPACES.sub(b" ", value.replace(b"\r\n", b"")).strip()


def relaxed_body(body: bytes) -> bytes:
    """Return a body in relaxed form (RFC 6376 §3.4.4)."""
    text = _SPACES.sub(b" ", body).replace(b" \r\n", b"\r\n").removesuffix(b" ")
    end = len(text)
    while text.endswith(b"\r\n", 0, end):
        end -= 2
    return text[:end] + b"\r\n" if end else b""


def _folded(begin: str, names: Sequence[str]) -> Iterator[str]:
    line = begin
    for n, name in enumerate(names):
        word = name + (":" if n < len(names) - 1 else ";")
        if len(line) + len(word) > _LINE - 1:
            yield line
            line = ""
        line += word
    yield line
