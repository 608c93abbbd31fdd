"""What the adapters of Twilio need to know. Pure; every fault of a configuration is named, without its secrets."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from channels.limits import TooLong
from channels.settings_parts import base_url_fault, pairs
from channels.whatsapp_rules import SOURCES
from schemas import phones

#: Where Twilio's API is.
BASE_URL = "https://api.twilio.com"
#: Longest request for the key, and longest address for news: both are in what a call takes, as often as it is read.
MAX_CONFIRM = 200
MAX_CALLBACK = 200
MACHINE_DETECTION = ("off", "enable", "detect_message_end")
_ACCOUNT = re.compile(r"AC[0-9a-fA-F]{32}\Z")
_SERVICE = re.compile(r"MG[0-9a-fA-F]{32}\Z")
_CONTENT = re.compile(r"HX[0-9a-fA-F]{32}\Z")
_SENDER = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 +&_-]{1,11}\Z")
_SHORT_CODE = re.compile(r"[0-9]{3,8}\Z")
_VARIABLE = re.compile(r"[A-Za-z0-9_]{1,16}\Z")


@dataclass(frozen=True, slots=True)
class TwilioSettings:
    """An account, its senders, and how to treat them. A channel is there where its sender is.

    ``whatsapp_templates``: ``category:HX…`` separated by commas, ``*`` for all others. ``whatsapp_variables``:
    ``variable=source`` separated by commas, with the sources ``title``, ``text``, ``name``,
    ``reply`` and ``data.<key>``.
    ``callback_url``: the public address of our web server, where news of messages and calls go; empty: none are asked
    for.
    """

    account_sid: str = ""
    auth_token: str = field(default="", repr=False)
    messaging_service_sid: str = ""
    sms_from: str = ""
    sms_max_parts: int = 3
    sms_too_long: TooLong = TooLong.CUT
    whatsapp_from: str = ""
    whatsapp_templates: str = ""
    whatsapp_variables: str = "1=title,2=text"
    whatsapp_too_long: TooLong = TooLong.CUT
    voice_from: str = ""
    voice_language: str = "en-US"
    voice_name: str = ""
    voice_repeat: int = 2
    voice_confirm: str = "Press 1 to confirm."
    reply_confirm: str = "Reply OK {code} to confirm."
    reply_help: str = "Automatic reminders. Reply STOP to end them."
    voice_ring_s: int = 30
    voice_machine_detection: str = "enable"
    voice_too_long: TooLong = TooLong.CUT
    callback_url: str = ""
    base_url: str = BASE_URL
    ca_file: Path | None = None
    connections: int = 50
    connect_timeout_s: float = 5.0
    timeout_s: float = 20.0

    @property
    def sms(self) -> bool:
        """Whether text messages can be sent."""
        return bool(self.account_sid and (self.sms_from or self.messaging_service_sid))

    @property
    def whatsapp(self) -> bool:
        """Whether WhatsApp messages can be sent."""
        return bool(self.account_sid and self.whatsapp_from)

    @property
    def voice(self) -> bool:
        """Whether calls can be made."""
        return bool(self.account_sid and self.voice_from)

    def template(self, category: str) -> str:
        """Return the template of a category, nothing where there is none."""
        templates = dict(pairs(self.whatsapp_templates, ":"))
        return templates.get(category) or templates.get("*", "")

    def variables(self) -> tuple[tuple[str, str], ...]:
        """Return each variable of a template with the source of its value."""
        return tuple(pairs(self.whatsapp_variables, "="))

    def faults(self) -> Iterator[tuple[str, str]]:
        """Yield each fault: the field, and what to do about it."""
        given = self.sms_from or self.messaging_service_sid or self.whatsapp_from or self.voice_from
        if self.account_sid and not _ACCOUNT.match(self.account_sid):
            yield "account_sid", "use the account's SID: AC and 32 hexadecimal digits"
        if self.account_sid and not self.auth_token:
            yield "auth_token", "is not set, but the account is; set it or its _FILE"
        if self.account_sid and not given:
            yield "account_sid", "no sender is set; name one for SMS, WhatsApp or calls"
        if given and not self.account_sid:
            yield "account_sid", "is not set, but a sender is; set it"
        if self.messaging_service_sid and not _SERVICE.match(self.messaging_service_sid):
            yield "messaging_service_sid", "use the service's SID: MG and 32 hexadecimal digits"
        if self.sms_from and not (
            _SENDER.match(self.sms_from) or _SHORT_CODE.match(self.sms_from) or _phone(self.sms_from)
        ):
            yield (
                "sms_from",
                "use a number such as +12015550123, a short code, or a name of at most 11 letters and digits",
            )
        for name in ("whatsapp_from", "voice_from"):
            if getattr(self, name) and not _phone(getattr(self, name)):
                yield name, "use a number such as +12015550123"
        yield from self._whatsapp_faults()
        if len(self.voice_confirm) > MAX_CONFIRM:
            yield "voice_confirm", f"use at most {MAX_CONFIRM} characters; what is said in a call is limited as a whole"
        yield from self._reply_faults()
        if self.voice_machine_detection not in MACHINE_DETECTION:
            yield "voice_machine_detection", f"use one of {', '.join(MACHINE_DETECTION)}"
        if fault := base_url_fault(self.base_url, BASE_URL):
            yield "base_url", fault
        if self.callback_url and (fault := _callback_fault(self.callback_url)):
            yield "callback_url", fault
        if self.connect_timeout_s > self.timeout_s:
            yield "timeout_s", f"use at least {self.connect_timeout_s:g}, what a connection may take"

    def _reply_faults(self) -> Iterator[tuple[str, str]]:
        if self.reply_confirm and (len(self.reply_confirm) > MAX_CONFIRM or "{code}" not in self.reply_confirm):
            yield "reply_confirm", f"use at most {MAX_CONFIRM} characters, {{code}} among them"
        if len(self.reply_help) > MAX_CONFIRM:
            yield "reply_help", f"use at most {MAX_CONFIRM} characters"

    def _whatsapp_faults(self) -> Iterator[tuple[str, str]]:
        for category, sid in pairs(self.whatsapp_templates, ":"):
            if not category or not _CONTENT.match(sid):
                yield "whatsapp_templates", "use category:HX… separated by commas, * for all other categories"
                break
        for variable, source in pairs(self.whatsapp_variables, "="):
            if not _VARIABLE.match(variable) or not (source in SOURCES or source.startswith("data.")):
                yield "whatsapp_variables", "use 1=title,2=text; sources are title, text, name, reply and data.KEY"
                break


def _phone(value: str) -> bool:
    return isinstance(phones.e164(value), str) and value.startswith("+")


def _callback_fault(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return "use the public address of the web server, such as https://hooks.example.org"
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or parts.username:
        return "use the public address of the web server, such as https://hooks.example.org"
    if len(url) > MAX_CALLBACK:
        return f"use at most {MAX_CALLBACK} characters"
    return "Twilio accepts no host name with an underscore" if "_" in host else ""
