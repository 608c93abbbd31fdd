"""What a recipient allows, and the law with them: consent, quiet hours, calling hours. Pure.

Looked at in the gate at the moment of sending, and again right before the call. What is not the hour for is held until
it is; what is not allowed is not sent on that channel.

Consent: of what the recipient said about a category and a channel, a refusal stands until they grant the same, or
something narrower within it, later; a later grant of more than was refused leaves the refusal as it is. Whether
silence is consent is the category's to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

from schemas import windows
from schemas.checks import zone as zone_of
from schemas.names import Channel, MaybeSent
from schemas.records import Consent, RecipientProfile
from schemas.windows import Window

EVERY_CATEGORY = "*"
DAY_MS = 86_400_000
#: Looked at again after this where the recipient's zone is needed and not known, in ms.
ZONE_UNKNOWN_MS = 3_600_000


class Legal(StrEnum):
    """The legal class of a category: what the law asks before somebody may be addressed."""

    TRANSACTIONAL = "transactional"
    CARE = "care"
    MARKETING = "marketing"


class Needs(StrEnum):
    """The consent that a category needs: none at all, no refusal, or a grant."""

    NOTHING = "nothing"
    NO_REFUSAL = "no_refusal"
    GRANT = "grant"


class Caps(StrEnum):
    """What becomes of several messages that a recipient's cap keeps back: each is held, or they go as one."""

    HOLD = "hold"
    DIGEST = "digest"


@dataclass(frozen=True, slots=True)
class Category:
    """What an installation says of a category of reminders.

    ``calling_hours``: texts and calls only at the hours that the recipient's region allows for marketing.
    ``overrides_quiet``, ``overrides_caps``: as on-call duty may. ``unverified``: addresses that nobody confirmed serve
    too. ``postal_address``: where the sender can be written to, at the foot of marketing mail (CAN-SPAM, 15 U.S.C.
    7704(a)(5)(A)(iii)). ``maybe_sent`` BY_CATEGORY: the installation's rule.
    ``sender``, ``answer``: who sends it and how to answer, empty: as the installation says.
    ``cheaper_first``: where the recipient's order of contacts decides, the cheaper channel goes first.
    ``digest_window_s``: how long a reminder waits for others of its recipient, to go with them in one message; 0: it
    does not. ``caps``: whether those that a cap keeps back go as one.
    """

    legal: Legal = Legal.TRANSACTIONAL
    needs: Needs = Needs.NO_REFUSAL
    calling_hours: bool = False
    overrides_quiet: bool = False
    overrides_caps: bool = False
    unverified: bool = False
    quiet: tuple[Window, ...] = ()
    postal_address: str = ""
    maybe_sent: MaybeSent = MaybeSent.BY_CATEGORY
    sender: str = ""
    answer: str = ""
    cheaper_first: bool = False
    digest_window_s: int = 0
    caps: Caps = Caps.HOLD


@dataclass(frozen=True, slots=True)
class Categories:
    """The categories of an installation; one that is not named is transactional."""

    named: Mapping[str, Category] = field(default_factory=dict)

    def of(self, name: str) -> Category:
        """Return a category."""
        return self.named.get(name, _PLAIN)


_PLAIN = Category()


@dataclass(frozen=True, slots=True)
class Held:
    """Not now: look again at ``until`` (ms UTC)."""

    reason: str
    until: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Not on this channel."""

    reason: str


#: Channels on which somebody may be woken or disturbed; a webhook reaches a machine.
_DISTURBING = frozenset(Channel) - {Channel.WEBHOOK}
#: Channels to which laws on telephone calls and texts apply.
_TELEPHONE = frozenset({Channel.SMS, Channel.WHATSAPP, Channel.VOICE})

# -- legal calling hours -----------------------------------------------------------------------------------------------


def _hours(*texts: str) -> tuple[Window, ...]:
    found = [windows.parse(text) for text in texts]
    return tuple(window for window in found if window is not None)


#: When marketing calls and texts may be made, on the clock of the one who is called, by ISO 3166-2 region. The federal
#: rule is 47 CFR 64.1200(c)(1); states may be stricter. An aid for operators, no legal advice: docs/recipients.md.
CALLING_HOURS: Mapping[str, tuple[Window, ...]] = {
    "US": _hours("08:00-21:00"),
    "US-AL": _hours("MO-SA 08:00-20:00"),  # Ala. Code 8-19A-13(1), no Sundays
    "US-CT": _hours("09:00-20:00"),  # Conn. Gen. Stat. 42-288a, as amended in 2023
    "US-FL": _hours("08:00-20:00"),  # Fla. Stat. 501.616(6)(a)
    "US-KY": _hours("10:00-21:00"),  # KRS 367.46955(6)
    "US-LA": _hours("MO-SA 08:00-20:00"),  # La. R.S. 45:844.31, no Sundays
    "US-MA": _hours("08:00-20:00"),  # M.G.L. c. 159C s. 3
    "US-MD": _hours("08:00-20:00"),  # Md. Code, Com. Law 14-4503, 2024
    "US-MS": _hours("MO-SA 08:00-20:00"),  # Miss. Code 77-3-723, no Sundays
    "US-OK": _hours("08:00-20:00"),  # 15 O.S. 775C.4
    "US-RI": _hours("MO-FR 09:00-18:00", "SA 10:00-17:00"),  # R.I. Gen. Laws 5-61-3.6
    "US-TX": _hours("MO-SA 09:00-21:00", "SU 12:00-21:00"),  # Tex. Bus. & Com. Code 301.051
    "US-WA": _hours("08:00-20:00"),  # RCW 80.36.390
}


@lru_cache(maxsize=1024)
def calling_hours(region: str) -> tuple[tuple[Window, ...], ...]:
    """Return the windows that all must be open to call somebody in a region; none where nothing is known to apply.

    A state's own hours apply beside its country's. Where the region is unknown, or only that it is in a country whose
    states differ, all of them apply: whatever the place is, the hour is lawful there.
    """
    name = region.strip().upper()
    country = name.partition("-")[0]
    if name in CALLING_HOURS and name != country:
        return (CALLING_HOURS[country], CALLING_HOURS[name])
    if "-" in name:
        return (CALLING_HOURS[country],) if country in CALLING_HOURS else ()
    return tuple(hours for place, hours in CALLING_HOURS.items() if not name or place.partition("-")[0] == country)


# -- consent -----------------------------------------------------------------------------------------------------------


def _covers(consent: Consent, category: str, channel: Channel) -> bool:
    return consent.category in (EVERY_CATEGORY, category) and consent.channel in (None, channel)


def _within(narrow: Consent, wide: Consent) -> bool:
    """Return whether one consent says nothing that the other does not speak of."""
    return wide.category in (EVERY_CATEGORY, narrow.category) and wide.channel in (None, narrow.channel)


def consented(profile: RecipientProfile, category: str, channel: Channel) -> bool | None:
    """Return whether a recipient allows a category on a channel; None where they said nothing of it."""
    said = [consent for consent in profile.consents if _covers(consent, category, channel)]
    grants = [consent for consent in said if consent.granted]
    for refusal in said:
        if not refusal.granted and not any(g.at > refusal.at and _within(g, refusal) for g in grants):
            return False
    return True if grants else None


def refused(profile: RecipientProfile, name: str, category: Category, channel: Channel) -> str:
    """Return why a category must not be sent to a recipient on a channel, empty if it may."""
    if category.needs is Needs.NOTHING:
        return ""
    said = consented(profile, name, channel)
    if said is False:
        return "consent_refused"
    return "no_consent" if said is None and category.needs is Needs.GRANT else ""


# -- hours -------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _parsed(quiet: tuple[str, ...]) -> tuple[Window, ...]:
    return _hours(*quiet)


def look(
    profile: RecipientProfile, name: str, category: Category, channel: Channel, now_ms: int
) -> Held | Refused | None:
    """Return what keeps a message of a category from a recipient on a channel now, None if nothing does.

    A recipient without a zone has no wall clock: their quiet hours cannot be kept, and marketing calls are held.
    """
    if why := refused(profile, name, category, channel):
        return Refused(why)
    return hour(profile, category, channel, now_ms)


def hour(profile: RecipientProfile, category: Category, channel: Channel, now_ms: int) -> Held | None:
    """Return until when it is not the hour for a message of a category on a channel that it may be sent on, None if it
    is."""
    if channel not in _DISTURBING:
        return None
    hours = calling_hours(profile.region) if category.calling_hours and channel in _TELEPHONE else ()
    quiet = category.quiet + (() if category.overrides_quiet else _parsed(profile.quiet))
    if not hours and not quiet:
        return None
    clock = zone_of(profile.zone) if profile.zone else None
    if clock is None:
        return Held("zone_unknown", now_ms + ZONE_UNKNOWN_MS) if hours else None
    return _hour(hours, quiet, clock, now_ms)


def _hour(
    hours: tuple[tuple[Window, ...], ...], quiet: tuple[Window, ...], clock: ZoneInfo, now_ms: int
) -> Held | None:
    """Return until when it is not the hour: the first instant that all windows allow."""
    at, reason = now_ms, ""
    # Each pass moves to a later end of what forbids; two weeks hold every pattern of a week.
    while at < now_ms + 14 * DAY_MS:
        free = windows.until(quiet, clock, at)
        if free is None:
            break
        if free > at:
            at, reason = free, reason or "quiet_hours"
        closed = next((some for some in hours if not windows.within(some, clock, at)), None)
        if closed is None:
            return Held(reason, at) if reason else None
        opening = windows.opens(closed, clock, at)
        if opening is None:
            break
        at, reason = opening, reason or "calling_hours"
    return Held(reason or "quiet_hours", now_ms + DAY_MS)
