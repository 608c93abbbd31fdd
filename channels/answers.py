"""What a texted answer to a message says, and which of several messages it is about. Pure.

Only a whole message is an answer: a word of consent (``YES``), the number that the message ended in, or both. With
several messages that wait, a word alone is not enough: nobody guesses which one was meant.
"""

import hashlib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

#: By line: English; German; French; Spanish and Portuguese; Italian; Dutch and Swedish; Russian. Compared as
#: ``channels.stop`` compares. Whoever has more than one message before them adds its number.
_YES = """
1|ok|okay|k|yes|y|yep|yeah|confirm|confirmed|got it|done|thanks|thank you
ja|j|jawohl|in ordnung|bestatigt|bestatige|erledigt|danke
oui|daccord|confirme|je confirme|merci
si|vale|de acuerdo|confirmo|confirmado|gracias|sim|obrigado|obrigada
va bene|confermo|confermato|grazie
akkoord|bevestigd|bevestig|bedankt|okej|bekraftar|tack
да|хорошо|подтверждаю|спасибо
"""
YES = frozenset(word for line in _YES.split("\n") for word in line.split("|") if word)
#: Pictures that say yes, in any colour of skin.
_PICTURES = ("\U0001f44d", "\u2705", "\u2714", "\U0001f44c")
#: How much later than an answer a message may seem to have gone out, in ms: providers tell whole seconds, and clocks
#: differ.
SLACK_MS = 5_000
#: Messages that are named when somebody is asked back.
MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Said:
    """An answer: consent, to the message with a number or (empty) to the one that waits."""

    code: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An occurrence that waits for an answer. ``asked_at``: when it was last asked for, ms UTC; ``delivery_id``: by
    which message, and so whom; ``since``: when it was first asked for, ms UTC, 0: not known."""

    reminder_id: str
    occurrence: str
    asked_at: int
    delivery_id: str = ""
    since: int = 0

    @property
    def code(self) -> str:
        """The number by which its messages are told from others."""
        return code(self.reminder_id, self.occurrence)


@dataclass(frozen=True, slots=True)
class AskBack:
    """It cannot be known which message was meant. ``codes``: those that wait, the newest first."""

    codes: tuple[str, ...]


def code(reminder_id: str, occurrence: str) -> str:
    """Return the number of an occurrence: four digits, the same in all its messages."""
    digest = hashlib.sha256(f"{reminder_id}\0{occurrence}".encode()).digest()
    return str(1000 + int.from_bytes(digest[:8], "big") % 9000)


def plain(text: str) -> str:
    """Return a message without case, accents, punctuation and pictures; words parted by one space."""
    kept = unicodedata.normalize("NFKD", text).casefold()
    return " ".join("".join(c for c in kept if unicodedata.category(c)[0] in "LN" or c.isspace()).split())


def said(text: str) -> Said | None:
    """Return the answer that a whole message is, None for one that is none."""
    words = plain(text).split()
    if not words:
        return Said() if any(picture in text for picture in _PICTURES) else None
    codes = [word for word in words if len(word) == 4 and word.isascii() and word.isdigit()]
    rest = " ".join(word for word in words if word not in codes)
    if len(codes) > 1 or (rest and rest not in YES):
        return None
    return Said(codes[0]) if codes else Said()


def pick(answer: Said, waiting: Iterable[Waiting], written: int = 0) -> Waiting | AskBack | None:
    """Return the occurrence that an answer is about, whom to ask back, or None where nothing is to be said.
    ``written``: when the answer was written, ms UTC, 0: not known; it is about nothing that was first asked later.

    A word of consent that nothing waits for is left alone: it may be politeness.
    """
    there = [one for one in waiting if not written or one.since <= written + SLACK_MS]
    newest = sorted(there, key=lambda one: (-one.asked_at, one.reminder_id, one.occurrence))
    meant = [one for one in newest if not answer.code or one.code == answer.code]
    if len(meant) == 1:
        return meant[0]
    if not newest and not answer.code:
        return None
    return AskBack(tuple(dict.fromkeys(one.code for one in newest))[:MOST_NAMED])


def asking_back(back: AskBack) -> str:
    """Return what is written to somebody whose answer could be about several messages, or about none."""
    if not back.codes:
        return "No message with that number waits for an answer."
    named = ", ".join(f"OK {number}" for number in back.codes)
    return f"Which message do you mean? Please reply with OK and the number that it ends with: {named}."
