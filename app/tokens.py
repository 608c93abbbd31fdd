"""Who may use the web server: bearer tokens with a name, a role and, where wanted, a tenant and a prefix of ids.

They come from ``WEB_TOKEN`` (the administrator's) and from the file that ``WEB_TOKENS_FILE`` names (TOML, described in
docs/produce/http.md), which holds hashes only. The file is read anew when it changes; one that has faults changes
nothing.
"""

import hashlib
import hmac
import logging
import re
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from schemas.checks import MAX_NAME_BYTES, shown
from schemas.ids import MAX_ID_BYTES

log = logging.getLogger(__name__)

MAX_FILE_BYTES = 1024 * 1024
MAX_QUOTA = 10_000_000
#: A token that was taken out of the file is refused after so many seconds at most; a new one is known at once.
LOOK_S = 1.0
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


class Access(StrEnum):
    """What a token allows; each includes those before it."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def allows(self, needed: "Access") -> bool:
        """Return whether what needs ``needed`` may be done."""
        order = list(Access)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Token:
    """One token. ``name``: the actor. ``tenant``, ``prefix``: what it is limited to; "" for no limit."""

    name: str
    digest: bytes = field(repr=False)
    access: Access
    tenant: str = ""
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a file says. ``quotas``: events a minute of a tenant."""

    tokens: tuple[Token, ...] = ()
    quotas: Mapping[str, int] = field(default_factory=dict)


class Faulty(ValueError):  # noqa: N818 - an answer more than an error
    """A file that cannot be used; ``faults`` has one line for each fault."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def digest(token: str) -> bytes:
    """Return the hash by which a token is known."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def load(path: Path) -> Tokens:
    """Return what a file says. Raises Faulty."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise Faulty([f"cannot be read ({exc.strerror or type(exc).__name__}); name a readable file"]) from exc
    if len(raw) > MAX_FILE_BYTES:
        raise Faulty([f"is larger than {MAX_FILE_BYTES} bytes; name a file of tokens"])
    return parse(raw)


def parse(raw: bytes) -> Tokens:
    """Return what the text of a file says. Raises Faulty with every fault."""
    if not raw.strip():
        # What a writer leaves for a moment that does not replace the file at once: not the wish to refuse everybody.
        raise Faulty(["is empty; write [[token]] entries, or a comment to refuse everybody"])
    try:
        said = tomllib.loads(raw.decode())
    except UnicodeDecodeError:
        raise Faulty(["is not UTF-8 text; save it as UTF-8"]) from None
    except tomllib.TOMLDecodeError as exc:
        # The parser's words quote the text, which may be a token that was put here in clear.
        found = re.search(r"\(at (line \d+, column \d+|end of document)\)", str(exc))
        raise Faulty([f"is no TOML ({f'at {found[1]}' if found else 'at its end'}); mend it there"]) from None
    except RecursionError:
        raise Faulty(["is nested too deep; it needs [[token]] and [quota_per_minute] alone"]) from None
    faults = [f"{shown(key)}: is not known; use [[token]] and [quota_per_minute]" for key in said if key not in _PARTS]
    listed = said.get("token", [])
    if not isinstance(listed, list):
        faults.append("token: is no list; write [[token]] before each")
        listed = []
    tokens = []
    for n, entry in enumerate(listed, 1):
        name = entry.get("name") if isinstance(entry, dict) else None
        where = f"token {n}" + (f" ({shown(name)})" if isinstance(name, str) and name else "")
        wrong = list(_wrong(entry))
        faults += [f"{where}: {fault}" for fault in wrong]
        if not wrong:
            tokens.append(_token(entry))
    seen: dict[bytes, str] = {}
    for token in tokens:
        if (other := seen.get(token.digest)) is not None:
            faults.append(f"{shown(token.name)}: has the sha256 of {shown(other)}; give each a token of its own")
        seen[token.digest] = token.name
    quotas = said.get("quota_per_minute", {})
    if not isinstance(quotas, dict):
        faults.append("quota_per_minute: is no table; write [quota_per_minute] and a line such as clinic = 600")
        quotas = {}
    faults += [
        f"quota_per_minute.{shown(tenant)}: use a whole number from 1 to {MAX_QUOTA}"
        for tenant, quota in quotas.items()
        if isinstance(quota, bool) or not isinstance(quota, int) or not 1 <= quota <= MAX_QUOTA
    ]
    if faults:
        raise Faulty(faults)
    return Tokens(tuple(tokens), quotas)


_PARTS = ("token", "quota_per_minute")
_FIELDS = ("name", "sha256", "role", "tenant", "prefix")


def _wrong(entry: Any) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield "is no table; write [[token]] before each"
        return
    for key in entry:
        if key not in _FIELDS:
            yield f"{shown(key)}: is not known; use {', '.join(_FIELDS)}"
    for key in ("name", "sha256", "role"):
        if key not in entry:
            yield f"{key}: is missing; give it"
    for key in _FIELDS:
        if key in entry and not isinstance(entry[key], str):
            yield f"{key}: is no text; put it in quotes"
            return
    for key, most in (("name", MAX_NAME_BYTES), ("tenant", MAX_NAME_BYTES), ("prefix", MAX_ID_BYTES)):
        value = entry.get(key)
        if value is not None and (not value.isprintable() or not 0 < len(value.encode()) <= most):
            yield f"{key}: use 1 to {most} bytes without control characters" + (
                "" if key == "name" else ", or leave it out"
            )
    if "sha256" in entry and not _DIGEST.match(entry["sha256"].lower()):
        yield "sha256: use the 64 hexadecimal digits of the token's SHA-256, never the token"
    if "role" in entry and entry["role"] not in list(Access):
        yield f"role: {shown(entry['role'])} is not known; use {', '.join(Access)}"


def _token(entry: Mapping[str, str]) -> Token:
    return Token(
        entry["name"],
        bytes.fromhex(entry["sha256"]),
        Access(entry["role"]),
        entry.get("tenant", ""),
        entry.get("prefix", ""),
    )


def doubts(tokens: Tokens) -> list[str]:
    """Return what is allowed but may not be meant."""
    return [
        f"token {shown(token.name)} is bound to tenant {shown(token.tenant)} and to no prefix of ids: it may take "
        "ids that other tenants are about to use; give it a prefix"
        for token in tokens.tokens
        if token.tenant and not token.prefix and token.access.allows(Access.OPERATOR)
    ]


class Keyring:
    """All tokens that hold now. ``admin``: the administrator's token in clear, "" for none."""

    def __init__(self, admin: str = "", path: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._admin = (Token("admin", digest(admin), Access.ADMIN),) if admin else ()
        self._path = path
        self._clock = clock
        self._looked = float("-inf")
        self._stamp: tuple[int, int, int] | None = None
        self._file = Tokens()
        self._look()

    @property
    def empty(self) -> bool:
        """Whether there is no token at all, so that nobody gets in."""
        self._look()
        return not self._admin and not self._file.tokens

    def find(self, given: str) -> Token | None:
        """Return the token that was given. Takes as long for a wrong one as for a right one."""
        self._look()
        found = self._match(given)
        if found is None and self._look(now=True):
            found = self._match(given)
        return found

    def quota(self, tenant: str) -> int | None:
        """Return the events a minute of a tenant, None where the file names none."""
        self._look()
        return self._file.quotas.get(tenant)

    def _match(self, given: str) -> Token | None:
        wanted, found = digest(given), None
        for token in (*self._admin, *self._file.tokens):
            # Digests have one length, and all are compared: the time tells nothing.
            if hmac.compare_digest(token.digest, wanted):
                found = token
        return found

    def _look(self, *, now: bool = False) -> bool:
        """Read the file again if it has changed since; return whether it was read."""
        if self._path is None or (not now and self._clock() < self._looked + LOOK_S):
            return False
        self._looked = self._clock()
        try:
            stat = self._path.stat()
        except OSError as exc:
            self._keep((0, 0, 0), [f"cannot be read ({exc.strerror or type(exc).__name__})"])
            return False
        stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if stamp == self._stamp:
            return False
        try:
            self._file = load(self._path)
        except Faulty as exc:
            self._keep(stamp, exc.faults)
            return False
        if self._stamp is not None:
            log.info("the file of web tokens was read again: %d tokens", len(self._file.tokens))
        self._stamp = stamp
        return True

    def _keep(self, stamp: tuple[int, int, int], faults: list[str]) -> None:
        """Say once what is wrong with the file; what held before holds on."""
        if stamp != self._stamp:
            log.error("the file of web tokens cannot be used, so the last one holds on: %s", "; ".join(faults[:10]))
        self._stamp = stamp
