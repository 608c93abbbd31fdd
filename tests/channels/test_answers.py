"""What a texted answer says, and which message it is about."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.answers import SLACK_MS, YES, AskBack, Said, Waiting, asking_back, code, pick, plain, said
from channels.stop import Word, word

A, B = Waiting("clinic/1", "2026-12-01T09:00/PT0S", 10), Waiting("clinic/2", "2026-12-01T10:00/PT0S", 20)


@pytest.mark.parametrize(
    "text",
    ["1", "ok", "OK!", " Ok. ", "Okay", "YES", "yes!", "ja", "JA.", "Bestätigt", "oui", "D’accord", "sí", "Sim", "tack",
     "\u201cok\u201d", "ＯＫ", "got it", "Got it!", "да", "👍", "👍🏽", "✅", "ok 👍", "\nOk\r\n", "va bene"],
)  # fmt: skip
def test_a_word_of_consent(text: str) -> None:
    assert said(text) == Said()


@pytest.mark.parametrize("text", ["OK 4711", "ok #4711", "4711", "4711 ok", "Ja, 4711!", "1 4711", "ＯＫ ４７１１"])
def test_a_word_with_the_number_of_a_message(text: str) -> None:
    assert said(text) == Said("4711")


@pytest.mark.parametrize(
    "text",
    ["", " ", "?", "no", "nein", "not ok", "ok?no", "yes please call me", "2", "11", "12345", "ok 47", "4711 4712",
     "stop", "STOP OK", "please", "🛑", "ok thanks bye", "1 2", "ok ok"],
)  # fmt: skip
def test_anything_else_is_no_answer(text: str) -> None:
    assert said(text) is None


def test_no_word_of_consent_is_a_stop_or_a_call_for_help() -> None:
    assert {text for text in YES if word(text) in (Word.STOP, Word.HELP)} == set()
    assert all(plain(text) == text for text in YES)


@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    said(text)


def test_one_that_waits_is_meant() -> None:
    assert pick(Said(), [A]) == A
    assert pick(Said(A.code), [A, B]) == A
    assert pick(Said(B.code), [A, B]) == B


def test_nobody_guesses_among_several() -> None:
    assert pick(Said(), [A, B]) == AskBack((B.code, A.code))
    assert pick(Said("9999"), [A, B]) == AskBack((B.code, A.code))
    assert f"OK {B.code}, OK {A.code}" in asking_back(AskBack((B.code, A.code)))


def test_politeness_is_left_alone_and_a_wrong_number_is_not() -> None:
    assert pick(Said(), []) is None
    assert pick(Said("4711"), []) == AskBack(())
    assert "No message" in asking_back(AskBack(()))


def test_not_more_are_named_than_fit() -> None:
    back = pick(Said(), [Waiting(f"r{n}", "o", n) for n in range(50)])
    assert isinstance(back, AskBack)
    assert len(back.codes) == 5
    assert len(asking_back(back)) <= 160


@given(st.text(max_size=50), st.text(max_size=50))
def test_numbers_have_four_digits_and_stay(reminder_id: str, occurrence: str) -> None:
    try:
        number = code(reminder_id, occurrence)
    except UnicodeEncodeError:
        return
    assert number == code(reminder_id, occurrence)
    assert len(number) == 4
    assert said(f"OK {number}") == Said(number)


def test_nothing_that_was_first_asked_later_is_meant() -> None:
    early, late = Waiting("r1", "o", 90_000, "", 10_000), Waiting("r2", "o", 95_000, "", 90_000)
    assert pick(Said(), [early, late], 30_000) == early
    assert pick(Said(), [late], 30_000) is None
    assert pick(Said(late.code), [late], 30_000) == AskBack(())
    assert pick(Said(), [late], 90_000 - SLACK_MS) == late
    assert pick(Said(), [late], 90_000 - SLACK_MS - 1) is None
    assert pick(Said(), [late]) == late
