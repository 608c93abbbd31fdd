"""Reasons of dead letters in plain words."""

from schemas.checks import Reason

_PRODUCER: dict[str, str] = {
    Reason.EMPTY_VALUE: "The event has no bytes at all.",
    Reason.NULL_VALUE: "The event is a tombstone, which means something for recipients alone.",
    Reason.JSON_NOT_AVRO: "The bytes are JSON; the topic takes Avro.",
    Reason.UNKNOWN_FRAMING: "The bytes begin with neither of the two framings, so nobody can tell their schema.",
    Reason.UNKNOWN_FINGERPRINT: "The bytes name a schema that this release does not know, newer or none of ours.",
    Reason.UNKNOWN_SCHEMA_ID: "The registry does not know the schema id in the bytes.",
    Reason.NO_REGISTRY: "The bytes name a schema of a registry, and this service has been given none.",
    Reason.TRUNCATED: "The bytes end in the middle of the record.",
    Reason.TRAILING_BYTES: "There are bytes behind the record: two records in one event, or another schema.",
    Reason.INCOMPATIBLE_SCHEMA: "The record was written with a schema that cannot be read as the topic's.",
    Reason.OVERSIZE: "The event is larger than any event may be.",
    Reason.BAD_UTF8: "A text is not UTF-8.",
    Reason.INVALID: "The bytes are no valid Avro of the schema that they name.",
    Reason.NEEDS_NEWER_SERVICE: "The event is well-formed and asks for what this release does not do. It is parked.",
    Reason.OUTSIDE_PREFIX: "The event came on the topic of a team whose ids begin otherwise.",
    Reason.EMPTY_ID: "An id is missing.",
    Reason.LONG_ID: "An id is too long.",
    Reason.CONTROL_CHARACTERS: "A name, an id or an address holds line ends or other control characters.",
    Reason.TOO_LARGE: "A field holds more than it may.",
    Reason.NEGATIVE: "A number that cannot be negative is.",
    Reason.CLOCK_AHEAD: "The producer's clock is ahead of ours, and its time would order this event before later ones.",
    Reason.NO_START: "The event does not say when to remind.",
    Reason.SEVERAL_STARTS: "The event says more than once when to remind.",
    Reason.UNREADABLE_TIME: "The time is not written as one.",
    Reason.IMPOSSIBLE_DATE: "The calendar has no such date or time.",
    Reason.IMPLAUSIBLE_TIME: "The time is so far off that it must be in another unit.",
    Reason.EXPIRES_BEFORE_START: "The reminder would have expired before it fires.",
    Reason.UNKNOWN_ZONE: "There is no such time zone.",
    Reason.NO_ZONE: "A wall-clock time without a zone, and no recipient whose zone could count.",
    Reason.NO_RECIPIENT: "Nobody is named who could be reminded.",
    Reason.NO_ADDRESS: "A step has no address, and no recipient whose address could serve.",
    Reason.BAD_ADDRESS: "The address cannot be one.",
    Reason.UNREADABLE_WINDOW: "The quiet hours cannot be read.",
    Reason.NO_CONTENT: "The reminder says nothing.",
    Reason.BAD_RRULE: "The recurrence rule is none, or takes too long to follow.",
    Reason.BAD_CRON: "The cron expression is none, or names no time.",
    Reason.BAD_DURATION: "An offset in before is no duration.",
    Reason.UNKNOWN_CALENDAR: "There is no such holiday calendar.",
    Reason.NEVER_FIRES: "The reminder names no time that comes.",
    Reason.FIRES_TOO_OFTEN: "The reminder would fire more than 1,440 times a day.",
    Reason.ONE_OCCURRENCE: "The event sends the whole reminder anew and names one occurrence of it.",
    Reason.OTHER_TENANT: "The reminder with this id is another tenant's, or nobody's.",
}
_OURS = {
    "bug": "Deciding on it failed three times in our own code. The worker's log has the place.",
    "misrouted": "It was forwarded and still lay on another partition than its id's: topics differ in their number.",
    "mixed_versions": "Numbered and unnumbered events were mixed for the same id.",
    "skipped": "An operator had it passed over.",
}
_OCCURRENCE = (
    "An occurrence of a reminder was given up; the bytes are the answer that ended it. `{remedy}` tells its history."
)


def words(reason: str, remedy: str = "", *, occurrence: bool = False) -> str:
    """Return what a reason means, for somebody who has never seen it."""
    if occurrence:
        return _OCCURRENCE.format(remedy=remedy)
    return _PRODUCER.get(reason) or _OURS.get(reason) or "It could not be done."
