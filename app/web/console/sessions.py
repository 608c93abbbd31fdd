"""Who is signed in to the console: sessions of one worker, in its memory alone.

A session is begun with a token and holds for as long as the token does. The browser keeps nothing but the session's
name, in a cookie that no script can read and no other site can send.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from app.tokens import Token
from app.web.ports import Keys

COOKIE = "reminders_console"
PATH = "/console"
#: A session ends when nobody has used it for so long, and in any case after so long, in seconds.
IDLE_S = 3600.0
LONGEST_S = 12 * 3600.0
#: Sessions at once; the one that was used longest ago goes first.
MOST = 1000


@dataclass(slots=True)
class Session:
    """One browser. ``bearer``: its token, as it was typed. ``form``: what every form of this session carries."""

    bearer: str = field(repr=False)
    form: str = field(repr=False)
    begun: float
    used: float
    said: list[str] = field(default_factory=list)

    def fits(self, given: str) -> bool:
        """Return whether a form is one of this session's."""
        return hmac.compare_digest(self.form.encode(), given.encode("utf-8", "surrogatepass"))

    def take(self) -> list[str]:
        """Return what is to be said on the next page, once."""
        said, self.said = self.said, []
        return said


class Sessions:
    """All sessions of a worker."""

    def __init__(self, keys: Keys, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._clock = clock
        self._sessions: dict[bytes, Session] = {}

    def begin(self, bearer: str) -> str | None:
        """Return the name of a new session, None for a token that is not known."""
        if self._keys.find(bearer) is None:
            return None
        now = self._clock()
        if len(self._sessions) >= MOST:
            self._sweep(now)
        if len(self._sessions) >= MOST:
            del self._sessions[min(self._sessions, key=lambda name: self._sessions[name].used)]
        name = secrets.token_urlsafe(32)
        self._sessions[_key(name)] = Session(bearer, secrets.token_urlsafe(32), now, now)
        return name

    def find(self, name: str) -> tuple[Session, Token] | None:
        """Return a session and its token, None where it has ended or its token holds no longer."""
        key, now = _key(name), self._clock()
        session = self._sessions.get(key)
        if session is None:
            return None
        token = self._keys.find(session.bearer)
        if token is None or _over(session, now):
            del self._sessions[key]
            return None
        session.used = now
        return session, token

    def end(self, name: str) -> None:
        """End a session."""
        self._sessions.pop(_key(name), None)

    def _sweep(self, now: float) -> None:
        for key in [key for key, session in self._sessions.items() if _over(session, now)]:
            del self._sessions[key]


def _over(session: Session, now: float) -> bool:
    return now - session.used > IDLE_S or now - session.begun > LONGEST_S


def _key(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
