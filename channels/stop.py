"""What a texted answer says: STOP, START, HELP, or something else. Pure.

Only a whole message is a keyword: "please stop by at five" is none. Case, accents, punctuation and the forms of Unicode
do not count. English keywords are Twilio's (https://www.twilio.com/docs/messaging/guides/opt-out-keywords); the others
are what regulators and carriers of those countries name, or what is usual there.
"""

import unicodedata
from enum import StrEnum


class Word(StrEnum):
    """What a message means."""

    STOP = "stop"
    START = "start"
    HELP = "help"
    NONE = ""


#: By line: English; German; French; Spanish; Portuguese; Italian; Dutch; Swedish; Danish, Norwegian and Finnish;
#: Polish, Czech, Hungarian and Romanian; Turkish; Greek; Russian and Ukrainian; Arabic; Hebrew; Chinese; Japanese;
#: Korean; Thai; Vietnamese and Indonesian. An underscore stands for a space.
_STOP = """
stop stopall unsubscribe cancel end quit revoke optout
stopp abmelden abbestellen
arret arreter desabonner
alto parar baja cancelar
sair pare
cancella basta
afmelden stoppen uitschrijven
stoppa avsluta avregistrera
afmeld avslutt avmeld lopeta
rezygnuje odhlasit leiratkozas dezabonare
ret iptal
στοπ διαγραφη
стоп отписаться отписка відписатися
توقف إيقاف إلغاء_الاشتراك
הסר
退订 退訂 td
配信停止 停止
수신거부 수신_거부
ยกเลิก หยุด
tu_choi tc berhenti
"""
_START = "start yes unstop anmelden demarrer empezar iniziare starten starta старт"
_HELP = "help info hilfe aide ayuda aiuto ajuda hulp hjalp помощь"
_WORDS = {Word.STOP: _STOP, Word.START: _START, Word.HELP: _HELP}


def _plain(text: str) -> str:
    """Return a text as words are compared: letters and digits alone, without marks and case, one space between."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold().translate(_SAME))
    return " ".join("".join(c for c in folded if unicodedata.category(c)[0] in "LN" or c.isspace()).split())


#: Letters that are typed for each other and have no form in common: a Turkish keyboard's dotless i, Polish ł,
#: Vietnamese đ; Arabic's yeh and heh, with and without dots.
_SAME = str.maketrans("ıłđىة", "ildيه")
_BY_TEXT = {_plain(text.replace("_", " ")): word for word, texts in _WORDS.items() for text in texts.split()}


def word(text: str) -> Word:
    """Return what a whole message means."""
    return _BY_TEXT.get(_plain(text).replace("opt out", "optout").replace("stop all", "stopall"), Word.NONE)
