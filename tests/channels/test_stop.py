"""What a texted answer says."""

import pytest

from channels.stop import Word, word


@pytest.mark.parametrize(
    "text",
    [
        "STOP",
        "stop ",
        "Stop.",
        "STOP!",
        "\u201cStop\u201d",
        "ＳＴＯＰ",
        "s\u200btop",
        "Unsubscribe",
        "QUIT",
        "End",
        "cancel",
        "STOPALL",
        "stop all",
        "Opt-Out",
        "opt out",
        "Arrêt",
        "ARRE\u0302T",
        "Stopp",
        "СТОП",
        "baja",
        "\n stop\r\n",
        "STOP 🛑",
        "🛑 Stop! ❤️",
        "\u202estop\u202c",
        "\u200fSTOP",
        "\ufeffS\u00adTOP\u2060",
        "𝐒𝐓𝐎𝐏",
        "¡STOP!",
        "「停止」",
        "Sair",
        "PARE!",
        "Uitschrijven",
        "AFMELD",
        "Avslutt",
        "lopeta",
        "Rezygnuję",
        "ODHLÁSIT",
        "RET",
        "İptal",
        "IPTAL",
        "ıptal",
        "ΔΙΑΓΡΑΦΉ",
        "Відписатися",
        "إيقاف",
        "ايقاف",
        "إلغاء الاشتراك",
        "הסר",
        "退订",
        "TD",
        "수신거부",
        "수신 거부",
        "ยกเลิก",
        "TỪ CHỐI",
        "Berhenti.",
    ],
)
def test_a_whole_message_stops(text: str) -> None:
    assert word(text) is Word.STOP


@pytest.mark.parametrize("text", ["START", "yes", "Unstop", "YES!"])
def test_a_whole_message_starts_again(text: str) -> None:
    assert word(text) is Word.START


@pytest.mark.parametrize("text", ["help", "INFO", "Hilfe?", "ayuda"])
def test_a_whole_message_asks_for_help(text: str) -> None:
    assert word(text) is Word.HELP


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "STOP PLEASE",
        "please stop by at 5",
        "don't stop",
        "1",
        "ok",
        "yes please",
        "nonstop",
        "🛑",
        "st op",
        "stop stop",
        "إلغاء",
        "取消",
        "no",
        "ret mig til torsdag",
        "fin",
    ],
)
def test_anything_else_is_no_keyword(text: str) -> None:
    assert word(text) is Word.NONE
