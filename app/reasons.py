"""What every state and every reason on a trail means, in a sentence: a closed table.

``docs/reasons.md`` is made from it, and tests compare it with the code: a reason that is written somewhere and has no
sentence here is a fault, and so is a sentence that nothing needs.
"""

from collections.abc import Mapping
from typing import Any

from channels import (
    addresses,
    classify,
    cloud_codes,
    fcm_codes,
    http_answers,
    sendgrid_codes,
    twilio_codes,
    webhook_rules,
    word_reasons,
)
from schemas.checks import Reason
from schemas.names import Channel, State

#: What begins the reason of whatever a hold keeps back; its scope follows.
HOLD = "hold:"
#: The same of a circuit.
CIRCUIT = "hold:circuit:"

STATES: dict[State, str] = {
    State.UNKNOWN: "It is in a state that this release does not know.",
    State.NONE: "Nothing is planned.",
    State.PENDING: "It waits for its recipient's time zone, without which it has no time.",
    State.SCHEDULED: "It waits for its time, and then for its turn.",
    State.SENDING: "Delivery was asked to send it, and has not answered yet.",
    State.SENT: "The provider took it.",
    State.DELIVERED: "It reached its recipient's device or mailbox.",
    State.FAILED: "An attempt failed.",
    State.RETRY: "An attempt failed, and another one is planned.",
    State.HELD: "It is held back for now; that counts as no attempt.",
    State.PAUSED: "It is paused: nothing is sent until somebody resumes it.",
    State.MAYBE_SENT: "It may have been sent or not: the call's answer never came, and a person must decide.",
    State.WITHDRAWING: "Delivery was told to begin no call any more, and has not answered yet.",
    State.CANCELLED: "It was cancelled; no call began after that.",
    State.EXPIRED: "Its time was over before it could be sent.",
    State.SKIPPED: "It was not to be sent any more.",
    State.ACKNOWLEDGED: "Its recipient has answered.",
    State.DEAD_LETTER: "It was given up.",
    State.REJECTED: "An event was refused.",
}

#: Reasons that the life of a reminder gives.
LIFE: dict[str, str] = {
    # -- events
    "created": "A producer sent it.",
    "updated": "A producer sent a newer version of it.",
    "rescheduled": "A producer gave it another time, or it starts again after it was withdrawn.",
    "reopened": "A newer version came after it had ended.",
    "replaced": "A newer version takes its place.",
    "recipient_changed": "A newer version names another recipient; the one who was asked first must let go of it.",
    "text_only": "A newer version came too late to change more than the text of what is still to come.",
    "already_sent": "This start was sent already, so it is not sent again.",
    "duplicate": "The same event came before; this copy changed nothing.",
    "stale_version": "The event is older than what is known; it changed nothing.",
    "mixed_versions": "Some events of this reminder are numbered and some are not, so they cannot be put in order.",
    "unknown_reminder": "The action came for a reminder that nobody has sent yet.",
    "no_such_occurrence": "The action names an occurrence that is neither open nor recent.",
    "another_delivery": "The action names a delivery that the reminder has gone beyond.",
    "misrouted": "The event came on another partition than its key's, twice.",
    # -- what people do
    "cancelled": "Somebody cancelled it.",
    "cancelling": "Somebody cancelled it while it was being sent; delivery is asked to let go of it.",
    "cancelled_before_create": "The cancel came before the reminder itself; an older UPSERT will not revive it.",
    "already_cancelled": "It had been cancelled before.",
    "cancel_too_late": "The cancel came after the call had begun.",
    "erased": "Somebody asked to be forgotten: what was pending is not sent, and what was personal is gone.",
    "erasing": "Somebody asked to be forgotten while it may have been on its way; delivery is asked to let go of it.",
    "acknowledged": "Somebody noted that its recipient has answered.",
    "acknowledging": "Somebody acknowledged it while it was being sent; delivery is asked to let go of it.",
    "snoozed": "Somebody asked for it again at a later time.",
    "snoozing": "Somebody snoozed it while it was being sent; delivery is asked to let go of it.",
    "snooze_into_the_past": "The time that the snooze asks for is over.",
    "fired": "Somebody asked to send it now.",
    "being_sent": "It is being sent at the moment, so it cannot be sent anew.",
    "after_expiry": "The action asks for a time after the reminder's own expiry.",
    "ended": "It has ended, so the action has nothing to act on.",
    "paused": "Somebody paused it.",
    "pausing": "Somebody paused it while it was being sent; delivery is asked to let go of it.",
    "already_paused": "It was paused before.",
    "resumed": "Somebody let it go on.",
    "resuming": "Somebody let it go on before delivery had let go of it.",
    "not_paused": "It was not paused.",
    "not_in_doubt": "Nobody is in doubt whether it was sent.",
    "resolved_sent": "A person found out that it was sent.",
    "resolved_not_sent": "A person found out that it was not sent.",
    # -- time
    "due": "Its time has come.",
    "lease_expired": "Delivery did not answer in time and was asked again, with the same attempt.",
    "too_late": "Its deadline has passed.",
    "expired": "Its deadline passed while it was on its way to the provider.",
    "review": "Nobody has decided yet; it is listed again.",
    "receipt_missing": "No receipt came in time.",
    "rearmed": "The row had lost its next attempt; the record on the retry topic gave it back.",
    # -- series
    "next": "The occurrence before it has ended.",
    "missed": "Nobody could send it at its time, and its policy wants no more of it.",
    "superseded": "The next occurrence came due while it was still open.",
    "overlap": "It came due while the one before it was still open.",
    "offset_past": "Its time was over when the reminder came; others of the same start may be to come.",
    "nothing_to_come": "Its rule names no time to come.",
    "cancelled_one": "Somebody cancelled one occurrence that is to come.",
    "acknowledged_one": "Somebody noted that the recipient has answered an earlier occurrence.",
    "already_ended": "The occurrence had ended without being sent.",
    "moved": "Somebody moved one occurrence to another time.",
    "next_is_due": "The next occurrence is due or nearly so, so the one before it cannot be sent anew.",
    "too_many_moved": "Too many occurrences to come have been moved or cancelled one by one.",
    # -- until they answer
    "awaits_answer": "The message has left, and an answer is awaited.",
    "nagged": "No answer came in time, so that its chain begins again.",
    "escalated": "No answer came, or not enough of them, so that the next person is asked.",
    "unanswered": "Everybody was asked as often as its policy says, and not enough of them answered in time.",
    "quorum_open": "Somebody has answered; its policy wants the answers of more people.",
    "no_longer_named": "It was changed and no longer names the person whose turn it was.",
    "answered_before": "The same person has answered before, and counts once.",
    "retracted": "A message that was out was taken back: it is shown no more, or never was.",
    "not_retracted": "A message that was out could not be taken back.",
    # -- the recipient
    "no_zone_yet": "The recipient's time zone is still not known.",
    "zone_known": "The recipient's time zone became known.",
    "tz_moved": "New time zone data give its wall clock another time.",
    "zone_changed": "The recipient moved to another time zone, and the reminder with them.",
    "recipient_reachable": "The recipient can be reached again.",
    "recipient_unreachable": "The recipient has no usable contact at the moment.",
    "still_unreachable": "It is due within a day, and its recipient still has no usable contact.",
    "unknown_recipient": "Nothing is known of the recipient yet.",
    "no_contact": "The recipient has no contact for this channel, or none that is left.",
    # -- delivery
    "withdrawn": "It was withdrawn at the last moment, so no call began.",
    "fallback": "The step before failed, so the next one of its chain begins.",
    "late_outcome": "The outcome of an earlier attempt came late.",
    "receipt": "The provider sent news of it.",
    "failures": "Too many calls failed, those of other workers counted.",
    "failure_told": "The provider told that it has failed, before the call itself had answered.",
    "delay_told": "The mail server told that it has not got it through yet and goes on trying.",
    "complaint_told": "Its reader reported it as spam; nothing of its category goes to the address any more.",
    "undelivered": "The provider took it and told later that it could not be delivered; the detail has its reason.",
    "found_at_provider": "Nobody knew whether it was sent; its provider has it on its list, so it was.",
    "not_at_provider": "Nobody knows whether it was sent; its provider has nothing of it, ten minutes later.",
    "released": "The hold that kept it back was released.",
    "busy": "The channel was at its limit.",
    "daily_quota": "Its provider has had as many calls as it may have today; it goes tomorrow (UTC).",
    "paced": "Its provider may not be called so often at the moment; it waits for its turn.",
    "stopping": "The worker was stopping and began no call any more.",
    "control_unknown": "The worker could not know of holds at that moment, so it began no call.",
    "stale_ask": "The request was so old that what is remembered of it may be gone.",
    "too_dear": "It would cost more on this channel than its policy allows (max_cost_micros).",
    "price_unknown": "Its policy limits the cost, and PRICES_FILE names no price for this channel and country.",
    "channel_not_configured": "This installation has no provider for the channel.",
    "skipped": "An operator had the event passed over (`dlq skip`).",
    "suppressed_stop": "The address answered STOP, or its provider says that it did.",
    "suppressed_unsubscribed": "The address was unsubscribed from this category.",
    "suppressed_complained": "A message to the address was reported as spam.",
    "suppressed_bounced": "The provider said lately that the address does not exist.",
    "suppressed_operator": "An operator had the address left alone.",
    "suppressions_unknown": "The worker could not know of a STOP at that moment, so it began no call.",
    "quiet_hours": "These are the quiet hours of the recipient or of the category.",
    "calling_hours": "The law of the recipient's region allows no marketing call or text at this hour.",
    "zone_unknown": "A marketing call must keep to the recipient's clock, and their time zone is not known.",
    "cap_per_hour": "The recipient wants no more messages in an hour.",
    "cap_per_day": "The recipient wants no more messages in a day.",
    "digest_window": "It waits for other reminders of its recipient, to go with them in one message.",
    "no_consent": "The category needs the recipient's consent, and they have not given it.",
    "consent_refused": "The recipient refused messages of this category on this channel.",
    "not_on_send_only_list": "SEND_ONLY_TO does not list this address.",
    "another_key": "Its text was changed while it was on its way, so it is asked for again with the new one.",
    "key_gone": "The key of its content was destroyed, or its time is over: nobody can read it any more.",
    "sealed_damaged": "Its sealed content does not open: it was changed on its way, or is another reminder's.",
    "sealed_with_unknown_key": "Its content is sealed with a key that this worker does not have.",
    "call_timeout": "The call took longer than its hard limit; nobody knows whether it was sent.",
    "no_outcome": "The worker died during the call; nobody knows whether it was sent.",
    "bug": "Our own code failed at it; the log of the worker says where.",
}

#: Reasons for which an event is refused.
EVENTS: dict[str, str] = {
    Reason.EMPTY_VALUE: "The record is empty.",
    Reason.NULL_VALUE: "The record has no value, and this topic knows no tombstones.",
    Reason.JSON_NOT_AVRO: "The record is JSON, and Avro is wanted.",
    Reason.UNKNOWN_FRAMING: "The record begins like no Avro encoding that is known.",
    Reason.UNKNOWN_FINGERPRINT: "The record was written with a schema that this release does not know; it is parked.",
    Reason.UNKNOWN_SCHEMA_ID: "The schema registry does not know the record's schema.",
    Reason.NO_REGISTRY: "The record needs a schema registry, and none is configured.",
    Reason.TRUNCATED: "The record ends too early.",
    Reason.TRAILING_BYTES: "The record has bytes behind its end.",
    Reason.INCOMPATIBLE_SCHEMA: "The record's schema does not fit the event's.",
    Reason.OVERSIZE: "The event is too large.",
    Reason.BAD_UTF8: "A text is no UTF-8.",
    Reason.INVALID: "A field has a value that it cannot have.",
    Reason.NEEDS_NEWER_SERVICE: "It asks for what this release cannot do yet; it is parked.",
    Reason.OUTSIDE_PREFIX: "A team's topic may only take ids with the team's prefix.",
    Reason.EMPTY_ID: "It has no id.",
    Reason.LONG_ID: "Its id is too long.",
    Reason.CONTROL_CHARACTERS: "A name has control characters.",
    Reason.TOO_LARGE: "A field is larger than it may be.",
    Reason.NEGATIVE: "A number is negative that must not be.",
    Reason.CLOCK_AHEAD: "Its producer's clock is too far ahead.",
    Reason.NO_START: "It has no time.",
    Reason.SEVERAL_STARTS: "It has several times where one is meant.",
    Reason.UNREADABLE_TIME: "Its time cannot be read.",
    Reason.IMPOSSIBLE_DATE: "Its date does not exist.",
    Reason.IMPLAUSIBLE_TIME: "Its time is not meant like this: seconds and milliseconds, perhaps.",
    Reason.EXPIRES_BEFORE_START: "It expires before it starts.",
    Reason.UNKNOWN_ZONE: "Its time zone is not known.",
    Reason.NO_ZONE: "It has a wall clock time and no time zone.",
    Reason.NO_RECIPIENT: "It names neither a recipient nor an address.",
    Reason.NO_ADDRESS: "A step has no address, and there is no recipient to have one.",
    Reason.BAD_ADDRESS: "An address cannot be used.",
    Reason.UNREADABLE_WINDOW: "Its quiet hours cannot be read.",
    Reason.NO_CONTENT: "It has nothing to say.",
    Reason.BAD_RRULE: "Its rule is none of RFC 5545, or cannot be followed.",
    Reason.BAD_CRON: "Its cron expression cannot be read, or names no time.",
    Reason.BAD_DURATION: "An offset before the start is no duration.",
    Reason.UNKNOWN_CALENDAR: "Its holiday calendar is not configured.",
    Reason.NEVER_FIRES: "It would never fire.",
    Reason.FIRES_TOO_OFTEN: "It would fire more often than once a minute on a day.",
    Reason.ONE_OCCURRENCE: "An UPSERT is of the whole reminder, never of one occurrence.",
    Reason.OTHER_TENANT: "The reminder belongs to another tenant.",
}


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _sentences(*tables: Mapping[Any, str]) -> dict[str, str]:
    return {str(reason): _sentence(words) for table in tables for reason, words in table.items()}


LIFE |= _sentences(word_reasons.EXPLANATIONS)

_TWILIO = _sentences(http_answers.EXPLANATIONS, twilio_codes.EXPLANATIONS)

#: Reasons of channels, in their own words.
CHANNELS: dict[Channel, Mapping[str, str]] = {
    Channel.EMAIL: _sentences(sendgrid_codes.EXPLANATIONS)
    | _sentences(classify.EXPLANATIONS)
    | {str(reason): f"The address cannot be used: {words}." for reason, words in addresses.REMEDIES.items()},
    Channel.SMS: _TWILIO,
    Channel.WHATSAPP: _sentences(cloud_codes.EXPLANATIONS) | _TWILIO,
    Channel.VOICE: _TWILIO,
    Channel.PUSH: _sentences(fcm_codes.EXPLANATIONS),
    Channel.WEBHOOK: _sentences(http_answers.EXPLANATIONS, webhook_rules.EXPLANATIONS),
}


def sentence(reason: str, channel: Channel = Channel.ANY) -> str:
    """Return what a reason means; "" for none, and for one of another release the reason itself."""
    if not reason:
        return ""
    if reason.startswith(CIRCUIT):
        return f"The provider {reason.removeprefix(CIRCUIT)} is not called for now; it goes as soon as it works again."
    if reason.startswith(HOLD):
        return f"A hold on {reason.removeprefix(HOLD)} keeps it back."
    own = CHANNELS.get(channel, {})
    for table in (own, LIFE, EVENTS, *CHANNELS.values()):
        if found := table.get(reason):
            return found
    return f"{reason.replace('_', ' ').capitalize()} (this release has no more words for it)."


def document() -> str:
    """Return the text of docs/reasons.md."""
    out = [
        "# Reasons",
        "",
        "Made from `app/reasons.py` by `python -m app config doc reasons`; tests compare it with this page and with",
        "the code. A reason stands on the trail, in the audit topic, in `notifications.status` and in the dead letter",
        "queue; `python -m app trail ID --why` and the console say it in these words, and",
        "`python -m app validate --why` says of an event beforehand what will be decided of it, and by which rule.",
        "",
        "## States",
        "",
        "| state | means |",
        "|---|---|",
        *(f"| `{state.value}` | {words} |" for state, words in STATES.items() if state is not State.UNKNOWN),
        "",
        "## The life of a reminder",
        "",
        "| reason | means |",
        "|---|---|",
        f"| `{HOLD}SCOPE` | A hold on SCOPE keeps it back. |",
        f"| `{CIRCUIT}PROVIDER` | The provider is not called for now; it goes as soon as it works again. |",
        *(f"| `{reason}` | {words} |" for reason, words in LIFE.items()),
        "",
        "## Events that are refused",
        "",
        "| reason | means |",
        "|---|---|",
        *(f"| `{reason!s}` | {words} |" for reason, words in EVENTS.items()),
        "",
    ]
    for channel, table in CHANNELS.items():
        out += [f"## {channel.value}", "", "| reason | means |", "|---|---|"]
        out += [f"| `{reason}` | {words} |" for reason, words in table.items()]
        out += [""]
    return "\n".join(out)
