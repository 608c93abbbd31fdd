"""Which secrets and certificates the environment names: where from, how old, until when. Never what they are."""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from app.config import VARIABLES, Kind

#: Variables that name a file whose content is secret as a whole.
SECRET_FILES = frozenset({"KAFKA_KEY_FILE", "WEB_TOKENS_FILE", "FCM_CREDENTIALS_FILE", "SMTP_DKIM_KEY_FILE"})
#: Variables that name a file of certificates.
CERTIFICATES = frozenset(
    v.name for v in VARIABLES if v.kind is Kind.FILE and v.name.endswith(("_CA_FILE", "_CERT_FILE"))
)
#: Variables of which several values hold at once while one is being replaced: the first is used, all are accepted.
ROTATED = frozenset({"WEBHOOK_KEYS", "CALLBACK_KEY", "SMTP_CALLBACK_TOKEN", "ADDRESS_HASH_KEY", "SEAL_KEY"})
#: A certificate that ends within so many days is worth a warning.
SOON_DAYS = 30
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Kept:
    """A secret, or a file of certificates. Times are ms UTC.

    ``source``: ``environment``, or the file's path. ``since``: when the file was last changed; None where nobody can
    know. ``values``: how many hold at once. ``ends``: when the first of its certificates ends. ``fault``: what is wrong
    with it, with the remedy, empty if nothing is.
    """

    name: str
    source: str
    since: int | None = None
    values: int = 1
    ends: int | None = None
    fault: str = ""

    def age_days(self, now: int) -> float | None:
        """Return its age in days, None where nobody can know."""
        return None if self.since is None else (now - self.since) / DAY_MS

    def wrong(self, now: int) -> str:
        """Return what somebody should do about it, empty if nothing."""
        if self.fault:
            return self.fault
        if self.ends is not None and self.ends <= now:
            return "has ended; replace it"
        if self.ends is not None and self.ends <= now + SOON_DAYS * DAY_MS:
            return f"ends within {SOON_DAYS} days; replace it"
        return ""


def listed(environ: Mapping[str, str]) -> Iterator[Kept]:
    """Yield what is set, in the order of docs/configuration.md. Reads the files; what cannot be read is a fault."""
    for variable in VARIABLES:
        text = environ.get(variable.name, "").strip()
        path = environ.get(f"{variable.name}_FILE", "").strip() if variable.secret else ""
        if path:
            yield _of_file(variable.name, Path(path))
        elif not text:
            continue
        elif variable.secret:
            yield Kept(variable.name, "environment", values=_values(variable.name, text))
        elif variable.name in SECRET_FILES:
            yield _of_file(variable.name, Path(text))
        elif variable.name in CERTIFICATES:
            yield _of_certificates(variable.name, Path(text))


def _of_file(name: str, path: Path) -> Kept:
    try:
        found = path.stat()
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as exc:
        return Kept(
            name, str(path), fault=f"cannot be read ({exc.strerror or type(exc).__name__}); name a readable file"
        )
    fault = ""
    if not text.strip():
        fault = "is empty; put the secret into it"
    elif found.st_mode & stat.S_IROTH and os.name == "posix":
        fault = "can be read by everybody on this machine; chmod o-r"
    return Kept(name, str(path), found.st_mtime_ns // 1_000_000, _values(name, text), fault=fault)


def _of_certificates(name: str, path: Path) -> Kept:
    try:
        since, pem = path.stat().st_mtime_ns // 1_000_000, path.read_bytes()
    except OSError as exc:
        return Kept(
            name, str(path), fault=f"cannot be read ({exc.strerror or type(exc).__name__}); name a readable file"
        )
    try:
        ends = [int(c.not_valid_after_utc.timestamp() * 1000) for c in x509.load_pem_x509_certificates(pem)]
    except ValueError:
        return Kept(name, str(path), since, fault="holds no certificates in PEM; name a file that does")
    return Kept(name, str(path), since, len(ends), min(ends))


def _values(name: str, text: str) -> int:
    return len([part for part in re.split(r"[\s,]+", text) if part]) if name in ROTATED else 1
