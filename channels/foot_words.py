"""What the links at the foot of a mail say, in the language of the mail. Pure data."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FootWords:
    """The words of three links: to say that one has got it, to get no more of the kind, to see what one allows."""

    confirm: str
    unsubscribe: str
    preferences: str


ENGLISH = FootWords("Confirm", "Unsubscribe", "Your preferences")
#: By language, as ISO 639-1 has it.
WORDS: dict[str, FootWords] = {
    "en": ENGLISH,
    "cs": FootWords("Potvrdit", "Odhlásit odběr", "Vaše nastavení"),
    "da": FootWords("Bekræft", "Afmeld", "Dine indstillinger"),
    "de": FootWords("Bestätigen", "Abbestellen", "Ihre Einstellungen"),
    "es": FootWords("Confirmar", "Darse de baja", "Sus preferencias"),
    "fi": FootWords("Vahvista", "Peruuta tilaus", "Asetuksesi"),
    "fr": FootWords("Confirmer", "Se désabonner", "Vos préférences"),
    "it": FootWords("Conferma", "Annulla l'iscrizione", "Le sue preferenze"),
    "nb": FootWords("Bekreft", "Meld deg av", "Dine innstillinger"),
    "nl": FootWords("Bevestigen", "Afmelden", "Uw voorkeuren"),
    "no": FootWords("Bekreft", "Meld deg av", "Dine innstillinger"),
    "pl": FootWords("Potwierdź", "Wypisz się", "Twoje ustawienia"),
    "pt": FootWords("Confirmar", "Cancelar a inscrição", "As suas preferências"),
    "sv": FootWords("Bekräfta", "Avsluta prenumerationen", "Dina inställningar"),
}


def foot_words(locale: str) -> FootWords:
    """Return the words for a locale, such as ``de-AT``; English where there are no others."""
    return WORDS.get(locale.replace("_", "-").partition("-")[0].lower(), ENGLISH)
