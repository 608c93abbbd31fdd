"""What a texted answer says: STOP, START, HELP, or something else. Pure.

Only a whole message is a keyword: "please stop by at five" is none. Case, accents, punctuation and the forms of Unicode
do not count. English keywords are Twilio's (https://www.twilio.com/docs/messaging/guides/opt-out-keywords); the others
are what regulators of those countries or carriers name.
"""

import unicodedata
from enum import StrEnum


class Word(StrEnum):
    """What a message means."""

    STOP = "stop"
    START = "start"
    HELP = "help"
    NONE = ""


#: By line: English; German; French; Spanish and Portuguese; Italian; Dutch; Swedish; Russian.
_STOP = """
stop stopall unsubscribe cancel end quit revoke optout
stopp abmelden abbestellen
arret arreter desabonner
alto parar baja cancelar
cancella basta
afmelden stoppen
stoppa avsluta avregistrera
стоп отписаться
"""
_START = "start yes unstop anmelden demarrer empezar iniziare starten starta старт"
_HELP = "help info hilfe aide ayuda aiuto ajuda hulp hjalp помощь"
_WORDS = {Word.STOP: _STOP, Word.START: _START, Word.HELP: _HELP}
_BY_TEXT = {text: word for word, texts in _WORDS.items() for text in texts.split()}


def word(text: str) -> Word:
    """Return what a whole message means."""
    plain = "".join(
        c for c in unicodedata.normalize("NFKD", text).casefold() if unicodedata.category(c)[0] in "LN" or c.isspace()
    )
    return _BY_TEXT.get(" ".join(plain.split()).replace("opt out", "optout").replace("stop all", "stopall"), Word.NONE)
