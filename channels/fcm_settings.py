"""What the push adapter needs to know. Pure; every fault of a configuration is named at once."""

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from channels.limits import TooLong
from channels.smtp_settings import is_loopback

#: Where FCM is.
BASE_URL = "https://fcm.googleapis.com"


@dataclass(frozen=True, slots=True)
class PushSettings:
    """How FCM is reached, and what pushes are like.

    ``credentials_file``: a service account's key as Google gives it out, read again whenever the login is renewed.
    ``timeout_s`` is the limit of one request; a call may make a few: the login, the message, a second look.
    ``android_channel``: the app's notification channel, empty: its default.
    """

    credentials_file: Path
    base_url: str = BASE_URL
    ca_file: Path | None = None
    concurrency: int = 50
    connect_timeout_s: float = 5.0
    timeout_s: float = 10.0
    too_long: TooLong = TooLong.CUT
    android_channel: str = ""

    def __post_init__(self) -> None:
        faults = [fault for fault in self._faults() if fault]
        if faults:
            raise ValueError("push: " + "; ".join(faults))

    def _faults(self) -> list[str]:
        return [
            url_fault("base_url", self.base_url),
            "" if 1 <= self.concurrency <= 10_000 else "concurrency: must be between 1 and 10000",
            "" if self.connect_timeout_s > 0 else "connect_timeout_s: must be more than 0 seconds",
            "" if self.timeout_s > 0 else "timeout_s: must be more than 0 seconds",
            "" if self.too_long in (TooLong.CUT, TooLong.REFUSE) else "too_long: must be cut or refuse",
            "" if len(self.android_channel) <= 100 else "android_channel: at most 100 characters",
        ]


def credentials_fault(text: str) -> str:
    """Return what is wrong with the text of a key file, without quoting it; its key itself is not looked into."""
    try:
        said = json.loads(text)
    except ValueError:
        said = None
    names = ("project_id", "client_email", "private_key", "token_uri")
    if not isinstance(said, dict) or not all(isinstance(said.get(name), str) and said[name] for name in names):
        return "is no service account's key; download one as JSON"
    return url_fault("token_uri", said["token_uri"])


def url_fault(name: str, url: str) -> str:
    """Return what is wrong with a URL that our credentials go to; in clear they go to this machine alone."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return f"{name}: must be a URL that begins with https://"
    secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    if not secure or not host or "@" in parts.netloc:
        return f"{name}: must be a URL that begins with https://; http only to this machine"
    return ""
