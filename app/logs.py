"""Logs: one JSON object a line, or text for a terminal, with ids and without people.

Everything that is written passes one ``Redactor``: message, arguments, exception, stack and extra fields. Patterns
cannot know a reminder's text, so no code logs one; fields that would carry it are cut out by their name.
"""

import logging
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

from app import secret_list
from app.config import Settings

HIDDEN = "***"
_MAILBOX = r"[^\s<>\"'(),;:=/@\[\]{}|*]"

# Levels that say what an operator wants to know. aiokafka logs whole requests at DEBUG, records included: never lower.
QUIET: Mapping[str, int] = {
    "aiokafka": logging.WARNING,
    "aiosmtplib": logging.WARNING,
    "asyncio": logging.WARNING,
    "faust": logging.INFO,
    "faust.transport.drivers.aiokafka": logging.WARNING,
    "mode": logging.WARNING,
    "twilio": logging.WARNING,
}

_correlation: ContextVar[str] = ContextVar("correlation", default="")
_reminder: ContextVar[str] = ContextVar("reminder", default="")


@contextmanager
def about(*, correlation_id: str = "", reminder: str = "") -> Iterator[None]:
    """Give every line logged within the block these ids, unless the line brings its own."""
    tokens = [(var, var.set(value)) for var, value in ((_correlation, correlation_id), (_reminder, reminder)) if value]
    try:
        yield
    finally:
        for var, token in tokens:
            var.reset(token)


class Redactor:
    """Masks what belongs to people, and secrets: by pattern, and by value where a secret is known."""

    _HIDDEN_FIELDS = frozenset(
        {
            *(
                "address",
                "addresses",
                "authorization",
                "body",
                "contacts",
                "data",
                "html",
                "password",
                "payload",
                "phone",
            ),
            *("recipient_address", "secret", "subject", "text", "title", "to", "token", "value"),
        }
    )
    #: Each with its replacement, and with what a text must hold, in lower case, for it to match at all ("": anything).
    _PATTERNS: tuple[tuple[re.Pattern[str], str, tuple[str, ...]], ...] = (
        (
            re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^\s/@]+:[^\s/@]*@", re.IGNORECASE),
            rf"\g<scheme>{HIDDEN}@",
            ("://",),
        ),
        (re.compile(r"\b(bearer)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE), rf"\1 {HIDDEN}", ("bearer",)),
        (
            re.compile(r"\b(AUTH\s+[A-Z0-9-]+|basic)\s+[A-Za-z0-9+/=]{8,}", re.IGNORECASE),
            rf"\1 {HIDDEN}",
            ("auth", "basic"),
        ),
        (
            re.compile(
                r"(?P<name>[\"']?[\w.-]*(?:password|passwd|passphrase|secret|token|api[_-]?key|authorization)[\"']?"
                r"\s*[:=]\s*)(?!bearer\b|basic\b)(?:b?\"[^\"]*\"|b?'[^']*'|[^\s,;&)}\]]+)",
                re.IGNORECASE,
            ),
            rf"\g<name>{HIDDEN}",
            (":", "="),
        ),
        # Of a mailbox the ends stay, as in rejections: enough to see what kind of address fails.
        (re.compile(r"\"[^\"\s@]+(?: [^\"\s@]+)*\"@([^\W_])[^\s<>\"'(),;:@\[\]]*"), rf"{HIDDEN}@\1…", ("@",)),
        (
            re.compile(rf"({_MAILBOX})(?:{_MAILBOX})*(@|%40)([^\W_])[^\s<>\"'(),;:=/?&@\[\]{{}}|]*", re.IGNORECASE),
            rf"\1{HIDDEN}\2\3…",
            ("@", "%40"),
        ),
        (re.compile(r"(?:\+|%2B)(\d)[\d\s().-]{5,}\d", re.IGNORECASE), rf"+\1{HIDDEN}", ("+", "%2b")),
        (
            re.compile(r"\b(tel|sms|whatsapp|phone|msisdn|from|to)([:=]\s*)\d[\d\s().-]{5,}\d", re.IGNORECASE),
            rf"\1\2{HIDDEN}",
            (":", "="),
        ),
        # Push tokens are longer than any id of ours.
        (re.compile(r"[A-Za-z0-9_:-]{100,}"), HIDDEN, ("",)),
    )
    #: What no pattern can match: each needs a sign or a space that is not here, or more than 99 of these.
    _PLAIN = re.compile(r"[A-Za-z0-9_./#-]{0,99}\Z")

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Know secrets by their value, beside the patterns."""
        self._known: set[str] = set()
        self._secrets: re.Pattern[str] | None = None
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Know further ones; those before are forgotten nowhere, for they may still be used."""
        self._known |= {secret for secret in secrets if len(secret) >= 4}
        known = sorted(self._known, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, known))) if known else None

    def text(self, text: str) -> str:
        """Return a text with everything masked that must not be written."""
        if self._secrets is not None:
            text = self._secrets.sub(HIDDEN, text)
        if self._PLAIN.match(text):
            return text
        if not text.isascii():
            # Beyond ASCII a letter may fold into one that a hint is written with.
            for pattern, replacement, _ in self._PATTERNS:
                text = pattern.sub(replacement, text)
            return text
        low = text.lower()
        for pattern, replacement, hints in self._PATTERNS:
            for hint in hints:
                if hint in low:
                    text = pattern.sub(replacement, text)
                    break
        return text

    def value(self, value: Any, name: str = "") -> Any:
        """Return a value of an extra field, masked within; numbers pass, bytes never do."""
        if name.lower() in self._HIDDEN_FIELDS and value not in (None, ""):
            return HIDDEN
        match value:
            case bool() | int() | float() | None:
                return value
            case bytes() | bytearray():
                return f"{len(value)} bytes"
            case Mapping():
                return {self.text(str(key)): self.value(item, str(key)) for key, item in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self.value(item) for item in value]
            case _:
                return self.text(str(value))


_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


class Redacting(logging.Filter):
    """Redacts a record in place, so that whatever formats it afterwards sees nothing else. Belongs on the handler."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor
        self._formatter = logging.Formatter()

    def learn(self, secrets: Iterable[str]) -> None:
        """Know further secrets by their value."""
        self._redactor.learn(secrets)

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, redacted; one whose arguments do not fit its message keeps the message."""
        redact = self._redactor
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            message = str(record.msg)
        record.msg, record.args = redact.text(message), None
        if record.exc_info and not record.exc_text:
            record.exc_text = self._formatter.formatException(record.exc_info)
        record.exc_info = None
        if record.exc_text:
            record.exc_text = redact.text(record.exc_text)
        if record.stack_info:
            record.stack_info = redact.text(record.stack_info)
        for name, value in list(record.__dict__.items()):
            if name not in _STANDARD:
                record.__dict__[name] = redact.value(value, name)
        for name, var in (("correlation_id", _correlation), ("reminder", _reminder)):
            if not record.__dict__.get(name) and (found := var.get()):
                record.__dict__[name] = redact.text(found)
        return True


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD and value != ""}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, then the extra fields, then an exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in _extra(record).items() if name not in _OWN},
        }
        if record.exc_text:
            line["exception"] = record.exc_text
        if record.stack_info:
            line["stack"] = record.stack_info
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


_OWN = frozenset({"time", "level", "logger", "message", "exception", "stack"})


class TextFormatter(logging.Formatter):
    """A line for people: local time, level, message, ids; an exception below it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        fields = " ".join(f"{name}={value}" for name, value in _extra(record).items())
        text = f"{at}.{int(record.msecs):03d} {record.levelname:<7} {record.name}: {record.getMessage()}"
        parts = [f"{text}  {fields}" if fields else text, record.exc_text, record.stack_info]
        return "\n".join(part for part in parts if part)


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """Return the values that must never be written: each secret as it is, and each of several that hold at once."""
    found = [text for _, text in settings.secrets]
    for name, text in settings.secrets:
        if name in secret_list.ROTATED:
            for part in re.split(r"[\s,]+", text):
                # In ADDRESS_HASH_KEY each has its version in front.
                found += [part, part.partition(":")[2]]
    return tuple(found)


def learn(settings: Settings) -> None:
    """Let the handlers of all logs know the secrets of settings that were read again."""
    for handler in logging.getLogger().handlers:
        for one in handler.filters:
            if isinstance(one, Redacting):
                one.learn(secrets_of(settings))


def setup(settings: Settings, stream: TextIO | None = None) -> logging.Handler:
    """Send all logs to one handler on ``stream`` (standard error), redacted; replaces what was set up before."""
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.addFilter(Redacting(Redactor(secrets_of(settings))))
    handler.setFormatter(JsonFormatter() if settings.log.format == "json" else TextFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    level = logging.getLevelNamesMapping()[settings.log.level]
    root.setLevel(level)
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(max(level, least))
    # Python's own complaints about our code, too, go through the redactor.
    logging.captureWarnings(True)
    return handler
