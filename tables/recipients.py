"""What is known of a recipient, and how an event changes it: patches merged by version. Pure."""

from collections.abc import Collection, Container

from schemas import phones
from schemas.names import PHONE_CHANNELS, Channel, RecipientAction
from schemas.quick import replace
from schemas.records import Applied, Contact, RecipientEvent, RecipientProfile
from tables.transition import Arrival


def says_consents_alone(event: RecipientEvent) -> bool:
    """Return whether an event says what a recipient allows and nothing else, unnumbered: such as comes from themselves,
    who know no version. Each consent carries its own time, so that these merge in any order."""
    return (
        event.action is RecipientAction.UPSERT
        and not event.version
        and bool(event.consents)
        and not (event.zone or event.locale or event.region or event.max_per_hour or event.max_per_day)
        and event.contacts is None
        and event.quiet is None
    )


def _stale(profile: RecipientProfile, event: RecipientEvent, a: Arrival) -> str:
    if a.event_id and a.event_id == profile.event_id:
        return "duplicate"
    if not profile.erased and says_consents_alone(event):
        return ""
    if event.version > 0 and profile.numbered:
        return "stale_version" if event.version <= profile.version else ""
    if profile.erased and not profile.numbered:
        # Nothing is left of what an erasure met, numbered or not: what is no later than it stays erased.
        return "stale_version" if a.record_ms <= profile.version else ""
    if event.version > 0 or profile.numbered:
        # A tombstone carries no number; it is always obeyed. Any other mix cannot be ordered.
        return "" if event.action is RecipientAction.ERASE else "mixed_versions"
    return "stale_version" if a.record_ms < profile.version else ""


def apply(profile: RecipientProfile | None, event: RecipientEvent, a: Arrival) -> tuple[RecipientProfile | None, str]:
    """Return the profile after an event and what came of it; the profile is None where nothing is to be written."""
    if profile is not None:
        if any(x.topic_id == a.topic_id and x.offset >= a.offset for x in profile.applied):
            return None, "replay"
        why = _stale(profile, event, a)
        if why:
            return None, why
    known = profile or RecipientProfile()
    version = event.version or (known.version if known.numbered else a.record_ms)
    numbered = event.version > 0 or known.numbered
    applied = (*(x for x in known.applied if x.topic_id != a.topic_id), Applied(a.topic_id, a.offset))
    if event.action is RecipientAction.ERASE:
        at = min(a.now, a.record_ms)
        erased = RecipientProfile(version, numbered, a.event_id, erased=True, applied=applied, updated_at=at)
        return erased, "erased"
    if profile is not None and not known.erased and says_consents_alone(event):
        # It neither ages what others know of the recipient nor makes it newer.
        version, a = known.version, replace(a, event_id=known.event_id)
    consents = {(c.category, c.channel): c for c in known.consents}
    for consent in event.consents:
        held = consents.get((consent.category, consent.channel))
        if held is None or consent.at >= held.at:
            consents[consent.category, consent.channel] = consent
    return replace(
        known,
        version=version,
        numbered=numbered,
        event_id=a.event_id,
        zone=event.zone or known.zone,
        locale=event.locale or known.locale,
        region=event.region or known.region,
        contacts=known.contacts if event.contacts is None else _contacts(event, known.contacts),
        quiet=known.quiet if event.quiet is None else event.quiet,
        max_per_hour=event.max_per_hour or known.max_per_hour,
        max_per_day=event.max_per_day or known.max_per_day,
        consents=tuple(consents.values()),
        erased=False,
        applied=applied,
        updated_at=a.now,
    ), "applied"


def forget(
    profile: RecipientProfile, channel: Channel, addresses: Collection[str], since_ms: int
) -> RecipientProfile | None:
    """Return the profile without addresses that their provider will never serve again, None where nothing changes.

    ``since_ms``: when the provider was asked, ms UTC. A profile that has changed since keeps them: its owner may have
    registered them anew, and the next message will tell.
    """
    if profile.updated_at > since_ms:
        return None
    kept = tuple(c for c in profile.contacts if c.channel is not channel or c.address not in addresses)
    return replace(profile, contacts=kept) if len(kept) < len(profile.contacts) else None


def _contacts(event: RecipientEvent, known: tuple[Contact, ...]) -> tuple[Contact, ...]:
    """Return an event's contacts with their numbers as E.164; what is known of when they wrote stays known."""
    wrote = {(contact.channel, contact.address): contact.last_inbound_at for contact in known}
    contacts = []
    for contact in event.contacts or ():
        number = phones.e164(contact.address, event.region) if contact.channel in PHONE_CHANNELS else contact.address
        # What is no number was refused before; a row of before that keeps what it has.
        address = number if isinstance(number, str) else contact.address
        last = max(contact.last_inbound_at, wrote.get((contact.channel, address), 0))
        contacts.append(replace(contact, address=address, last_inbound_at=last))
    return tuple(contacts)


def usable(
    profile: RecipientProfile,
    channel: Channel,
    tried: tuple[str, ...],
    available: Container[Channel],
    *,
    unverified: bool = False,
) -> tuple[Contact, ...]:
    """Return the contacts that may serve, in the recipient's order: on an available channel that was not tried, and
    verified unless ``unverified`` may serve too."""
    return tuple(
        [
            c
            for c in profile.contacts
            if (c.verified or unverified)
            and c.channel in available
            and (c.channel is channel if channel is not Channel.ANY else c.channel not in tried)
        ]
    )


def reachable(
    profile: RecipientProfile | None, available: frozenset[Channel] | None = None, *, unverified: bool = False
) -> bool:
    """Return whether a recipient has any verified contact, on a channel that there is (None: any). ``unverified``: one
    that is not verified serves, too."""
    return profile is not None and any(
        (c.verified or unverified) and (available is None or c.channel in available) for c in profile.contacts
    )
