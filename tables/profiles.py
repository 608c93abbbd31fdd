"""How a recipient's profile is kept: what is personal of it sealed with a key of its own, in the same row. Pure.

Sealed are the contacts and what proves a consent. All else stays readable, so that hours, caps, consents and erasures
need no key. A profile with nothing personal, such as that of somebody erased, is kept as it is, and so is every profile
while nothing is sealed; both are read at any time.
"""

from schemas import codec
from schemas.quick import replace
from schemas.records import RecipientProfile, SealedProfile
from schemas.sealing import PROFILE, Random, Sealing


def known(body: bytes) -> RecipientProfile:
    """Return a profile without what may be sealed of it (contacts, proofs); it needs no key. Raises Undecodable."""
    if codec.is_a(SealedProfile, body):
        return codec.decode(RecipientProfile, codec.decode(SealedProfile, body).known)
    return codec.decode(RecipientProfile, body)


def opened(body: bytes, recipient_id: str, sealing: Sealing) -> RecipientProfile:
    """Return a profile whole. Raises Unopened where it is sealed and does not open, and Undecodable."""
    if not codec.is_a(SealedProfile, body):
        return codec.decode(RecipientProfile, body)
    kept = codec.decode(SealedProfile, body)
    inner = codec.decode(RecipientProfile, sealing.open(recipient_id, PROFILE, kept.sealed, kept.wrapped_key))
    return replace(codec.decode(RecipientProfile, kept.known), contacts=inner.contacts, consents=inner.consents)


def body_of(profile: RecipientProfile, recipient_id: str, sealing: Sealing, random: Random) -> bytes:
    """Return the body of a profile's row; in clear where nothing of it is personal, or there is no master key."""
    if not sealing or not personal(profile):
        return codec.encode(profile)
    inner = RecipientProfile(contacts=profile.contacts, consents=profile.consents)
    sealed, wrapped = sealing.seal(recipient_id, PROFILE, codec.encode(inner), random)
    consents = tuple([replace(c, evidence="") if c.evidence else c for c in profile.consents])
    outer = replace(profile, contacts=(), consents=consents)
    return codec.encode(SealedProfile(codec.encode(outer), wrapped, sealed))


def personal(profile: RecipientProfile) -> bool:
    """Return whether a profile holds anything that is sealed."""
    return bool(profile.contacts) or any(c.evidence for c in profile.consents)
