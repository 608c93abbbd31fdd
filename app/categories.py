"""The file of categories: what an installation says of each kind of reminder. Read once, every fault named."""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from channels.layout import MAX_ANSWER, MAX_SENDER
from schemas import windows
from schemas.names import MaybeSent
from tables.consent import Caps, Categories, Category, Legal, Needs
from tables.digests import MAX_WINDOW_S, MIN_WINDOW_S

KEYS = (
    "legal",
    "consent",
    "calling_hours",
    "overrides_quiet",
    "overrides_caps",
    "unverified",
    "quiet",
    "postal_address",
    "maybe_sent",
    "sender",
    "answer",
    "cheaper_first",
    "digest_window_s",
    "caps",
)


class Faulty(Exception):  # noqa: N818 - it holds several
    """The file cannot be used. ``faults`` has one line for each fault: where, the value, what to do."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def load(path: Path) -> Categories:
    """Return the categories of a file. Raises Faulty with every fault in it."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise Faulty([f"cannot be read ({exc.strerror}); name a readable file"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise Faulty([f"is no TOML ({exc}); see docs/recipients.md"]) from None
    faults: list[str] = []
    named: dict[str, Category] = {}
    for name, table in document.items():
        if not isinstance(table, dict):
            faults.append(f"{name}: is no table; begin it with [{name}]")
            continue
        named[name] = _category(name, table, faults)
    if faults:
        raise Faulty(faults)
    return Categories(named)


def _category(name: str, table: Mapping[str, Any], faults: list[str]) -> Category:
    def fault(key: str, remedy: str) -> None:
        faults.append(f"{name}.{key}={table.get(key)!r}: {remedy}")

    def flag(key: str, default: bool = False) -> bool:
        value = table.get(key, default)
        if not isinstance(value, bool):
            fault(key, "use true or false")
            return default
        return value

    for key in table:
        if key not in KEYS:
            meant = difflib.get_close_matches(key, KEYS, 1)
            hint = f"did you mean {meant[0]}?" if meant else f"use {', '.join(KEYS)}"
            faults.append(f"{name}.{key}: is not known; {hint}")
    legal = _choice(Legal, table.get("legal", "transactional"))
    if legal is None:
        fault("legal", f"use {' or '.join(Legal)}")
        legal = Legal.TRANSACTIONAL
    marketing = legal is Legal.MARKETING
    needs = _choice(Needs, table.get("consent", "grant" if marketing else "no_refusal"))
    if needs is None:
        fault("consent", f"use {' or '.join(Needs)}")
        needs = Needs.GRANT
    if marketing and needs is not Needs.GRANT:
        fault("consent", "marketing needs a grant (47 CFR 64.1200, GDPR article 6): use grant, or another legal class")
    quiet = _quiet(table.get("quiet", []), fault)
    address = table.get("postal_address", "")
    if not isinstance(address, str):
        fault("postal_address", "use a text")
        address = ""
    if marketing and not address.strip():
        fault("postal_address", "marketing mail must say where its sender can be written to (CAN-SPAM); add it")
    maybe_sent = _choice(MaybeSent, str(table.get("maybe_sent", "by_category")).upper())
    if maybe_sent not in (MaybeSent.HOLD, MaybeSent.RESEND, MaybeSent.BY_CATEGORY):
        fault("maybe_sent", "use hold or resend, or leave it out")
        maybe_sent = MaybeSent.BY_CATEGORY
    window = table.get("digest_window_s", 0)
    if type(window) is not int or not (window == 0 or MIN_WINDOW_S <= window <= MAX_WINDOW_S):
        fault("digest_window_s", f"use whole seconds from {MIN_WINDOW_S} to {MAX_WINDOW_S}, or leave it out")
        window = 0
    kept_back = _choice(Caps, table.get("caps", "hold"))
    if kept_back is None:
        fault("caps", f"use {' or '.join(Caps)}")
        kept_back = Caps.HOLD
    if kept_back is Caps.DIGEST and table.get("overrides_caps") is True:
        fault("caps", "with overrides_caps nothing is kept back; leave one of them out")
    return Category(
        legal,
        needs,
        flag("calling_hours", marketing),
        flag("overrides_quiet"),
        flag("overrides_caps"),
        flag("unverified"),
        quiet,
        " ".join(address.split()),
        maybe_sent,
        _line(table, "sender", MAX_SENDER, fault),
        _line(table, "answer", MAX_ANSWER, fault),
        flag("cheaper_first"),
        window,
        kept_back,
    )


def _line(table: Mapping[str, Any], key: str, most: int, fault: Any) -> str:
    value = table.get(key, "")
    if not isinstance(value, str) or len(value) > most or not value.isprintable():
        fault(key, f"use a line of at most {most} characters")
        return ""
    return value.strip()


def _choice(kind: Any, value: object) -> Any:
    try:
        return kind(value)
    except ValueError:
        return None


def _quiet(value: object, fault: Any) -> tuple[windows.Window, ...]:
    if not isinstance(value, list):
        fault("quiet", 'use a list, such as ["22:00-07:00"]')
        return ()
    found = [windows.parse(text) if isinstance(text, str) else None for text in value]
    if None in found:
        fault("quiet", "use 22:00-07:00 or SA,SU 23:00-10:00")
    return tuple(window for window in found if window is not None)
