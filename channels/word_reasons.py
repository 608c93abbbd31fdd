"""Why a message could not be put into words: a closed table, told without what a message says."""

from enum import StrEnum

#: How long a reminder whose recipient or template is not known waits until it is looked at again, in ms.
UNKNOWN_MS = 60_000


class WordReason(StrEnum):
    """Reasons of templates."""

    UNKNOWN = "unknown_template"
    MISSING = "template_variable_missing"
    FAILED = "template_failed"
    TOO_LONG = "template_too_long"


#: The reminder itself lacks or has something, so no other channel and no second attempt would say it better.
HOPELESS = frozenset({WordReason.MISSING, WordReason.FAILED, WordReason.TOO_LONG})

EXPLANATIONS: dict[WordReason, str] = {
    WordReason.UNKNOWN: "no template of this name and version is there yet, or it has a fault",
    WordReason.MISSING: "the template needs a value that the reminder does not have, "
    "so nothing was sent on any channel",
    WordReason.FAILED: "a value of the reminder is not what its template makes of it, such as a date that is none, "
    "so nothing was sent on any channel",
    WordReason.TOO_LONG: "the template made more text of the reminder than a message may have",
}
