"""Which rows of the recipients table are sealed otherwise than now, and how they are brought up to it. Pure.

A row needs it where its key is wrapped with a master key that is no longer the first one, where contacts are in clear
that should be sealed, or the other way round. Only the wrapping of a key is changed, never what it opens.
"""

from collections.abc import Callable
from enum import StrEnum
from urllib.parse import unquote

from schemas import codec
from schemas.quick import replace
from schemas.records import RecipientLink, RecipientProfile, SealedProfile
from schemas.sealing import Random, Sealing, Unopened
from tables import profiles

LINKS, PROFILES = b"l/", b"p/"
#: What the keys of all rows begin with that hold a key or contacts.
PREFIXES = (LINKS, PROFILES)


class Waits(StrEnum):
    """Why a row is not as it would be written now."""

    OLDER = "older_key"
    UNKNOWN = "unknown_key"
    CLEAR = "to_be_sealed"
    SEALED = "to_be_opened"


def waits(key: bytes, body: bytes, sealing: Sealing, contacts: bool) -> Waits | None:
    """Return why a row waits, None where it does not. ``contacts``: whether those are sealed. Raises Undecodable."""
    if key.startswith(PROFILES):
        if not codec.is_a(SealedProfile, body):
            wanted = contacts and bool(sealing) and profiles.personal(codec.decode(RecipientProfile, body))
            return Waits.CLEAR if wanted else None
        older = _older(body, sealing, lambda: codec.decode(SealedProfile, body).wrapped_key)
        return Waits.SEALED if not contacts and older is not Waits.UNKNOWN else older
    return _older(body, sealing, lambda: codec.decode(RecipientLink, body).wrapped_key)


def renewed(key: bytes, body: bytes, sealing: Sealing, contacts: bool, random: Random) -> bytes | None:
    """Return the body that a row should have, None where it is as it should be or cannot be helped here."""
    match waits(key, body, sealing, contacts):
        case Waits.CLEAR:
            return profiles.body_of(codec.decode(RecipientProfile, body), _owner(key), sealing, random)
        case Waits.SEALED:
            try:
                return codec.encode(profiles.opened(body, _owner(key), sealing))
            except Unopened:
                return None
        case Waits.OLDER if key.startswith(PROFILES):
            kept = codec.decode(SealedProfile, body)
            wrapped = sealing.rewrapped(_owner(key), kept.wrapped_key, random)
            return codec.encode(replace(kept, wrapped_key=wrapped)) if wrapped else None
        case Waits.OLDER:
            link = codec.decode(RecipientLink, body)
            wrapped = sealing.rewrapped(link.reminder_id, link.wrapped_key, random)
            return codec.encode(replace(link, wrapped_key=wrapped)) if wrapped else None
        case Waits.UNKNOWN | None:
            return None


def _older(body: bytes, sealing: Sealing, wrapped_key: Callable[[], bytes]) -> Waits | None:
    if sealing.tag and sealing.tag in body:
        # Most rows, found without being decoded: so many bytes are not there by chance.
        return None
    wrapped = wrapped_key()
    if not wrapped or sealing.first_wraps(wrapped):
        return None
    return Waits.OLDER if sealing.knows(wrapped) else Waits.UNKNOWN


def _owner(key: bytes) -> str:
    return unquote(key.decode().removeprefix("p/u:"))
