"""The body of a push: pyfcm lays it out, we say what is in it. No clock, no network.

Of pyfcm only ``parse_payload`` is used; its transport blocks, retries by itself and sleeps (docs/adr).
"""

import json
from collections.abc import Mapping

from pyfcm.baseapi import BaseAPI
from pyfcm.errors import InvalidDataError

from channels.base import Send
from channels.fit import fit
from channels.limits import TooLong

#: Most of a message, in bytes of the whole JSON without the token: FCM and APNs allow as much for less of it.
MAX_BYTES = 4096
#: Longest time that FCM keeps a message for a device that is away.
MAX_TTL_S = 28 * 86_400
#: How long it is kept where a delivery has no deadline.
DEFAULT_TTL_S = 86_400
#: What FCM keeps for itself, as keys of ``data``.
_RESERVED = ("from", "message_type")
_RESERVED_STARTS = ("google.", "gcm.notification.")

# The credentials are never used: they are what pyfcm asks for before it lays out anything.
_LAYOUT = BaseAPI(credentials=object())


class RefusedDataError(ValueError):
    """A key of ``data`` that FCM would refuse. ``field`` says which, without the value."""

    def __init__(self, field: str) -> None:
        super().__init__(f"{field}: is FCM's own; rename it")
        self.field = field


def strings(data: Mapping[str, object]) -> dict[str, str]:
    """Return data as FCM takes it: texts alone. Numbers, truths and structures become JSON, what is null is left
    out."""
    made: dict[str, str] = {}
    for n, (key, value) in enumerate(sorted(data.items())):
        if key in _RESERVED or key.startswith(_RESERVED_STARTS):
            raise RefusedDataError(f"message.data[{n}]")
        if value is not None:
            made[key] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return made


def push(token: str, message: Send, ttl_s: int, rule: TooLong, android_channel: str = "") -> bytes | None:
    """Return the request for one device, None where it is too long; raises ``RefusedDataError``.

    All copies carry the delivery's token as collapse key, tag and topic: a second one takes the place of the first,
    in FCM's store and on the device.
    """
    ids = {"reminder_id": message.reminder_id, "occurrence": message.occurrence, "confirm_url": message.confirm_url}
    data = {key: value for key, value in ids.items() if value} | strings(message.data)
    copy = message.token
    android: dict[str, object] = {
        "priority": "HIGH",
        "ttl": f"{ttl_s}s",
        "collapse_key": copy,
        "notification": {"tag": copy, "sound": "default"}
        | ({"channel_id": android_channel} if android_channel else {}),
    }
    apns: dict[str, object] = {
        "headers": {
            "apns-priority": "10",
            "apns-push-type": "alert",
            "apns-collapse-id": copy,
            **({"apns-expiration": str(message.deadline_ms // 1000)} if message.deadline_ms else {}),
        },
        "payload": {"aps": {"sound": "default"}},
    }
    webpush: dict[str, object] = {
        "headers": {"TTL": str(ttl_s), "Urgency": "high", "Topic": copy},
        "notification": {"tag": copy},
    }

    def make(text: str) -> bytes:
        made: bytes = _LAYOUT.parse_payload(
            fcm_token=token,
            notification_title=message.title,
            notification_body=text,
            data_payload=data,
            android_config=android,
            apns_config=apns,
            webpush_config=webpush,
        )
        return made

    try:
        return fit(make, message.text, MAX_BYTES + len(json.dumps(token)), rule)
    except InvalidDataError as bug:
        raise RuntimeError("the layout of a push is ours, so it cannot be wrong") from bug


def retract(token: str, message: Send) -> bytes:
    """Return the request that takes a push back on one device: it shows nothing and has the push's own collapse key.

    Where the push still waits at FCM it takes its place there. Where it is on the screen already, the app clears the
    notification whose tag is ``retract``.
    """
    ids = {"reminder_id": message.reminder_id, "occurrence": message.occurrence, "retract": message.token}
    made: bytes = _LAYOUT.parse_payload(
        fcm_token=token,
        data_payload={key: value for key, value in ids.items() if value},
        android_config={"priority": "HIGH", "ttl": f"{DEFAULT_TTL_S}s", "collapse_key": message.token},
        apns_config={
            "headers": {
                "apns-priority": "5",
                "apns-push-type": "background",
                "apns-collapse-id": message.token,
            },
            "payload": {"aps": {"content-available": 1}},
        },
        webpush_config={"headers": {"TTL": str(DEFAULT_TTL_S), "Urgency": "normal", "Topic": message.token}},
    )
    return made


def second_look(token: str) -> bytes:
    """Return a request that sends nothing and whose answer is about the token alone."""
    made: bytes = _LAYOUT.parse_payload(fcm_token=token, notification_title="-", dry_run=True)
    return made


def probe() -> bytes:
    """Return a request that sends nothing and whose answer is about our credentials and the project."""
    made: bytes = _LAYOUT.parse_payload(topic_name="reminders-probe", notification_title="-", dry_run=True)
    return made


def ttl_s(deadline_ms: int, now_ms: int) -> int:
    """Return how long FCM may keep a message, so that none is shown after its deadline."""
    if not deadline_ms:
        return DEFAULT_TTL_S
    return max(0, min(MAX_TTL_S, (deadline_ms - now_ms) // 1000))
