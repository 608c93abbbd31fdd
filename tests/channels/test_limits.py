"""What fits is kept whole, what does not is cut where a reader sees no damage."""

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.limits import GSM7, LIMITS, Encoding, TooLong, fit, sms_size
from schemas.names import Channel

FAMILY = "👨‍👩‍👧‍👦"
FLAG = "🇩🇪"


@pytest.mark.parametrize("char", "@£$¥èéùìòÇØøÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ¤¡ÄÖÑÜ§¿äöñüà")
def test_what_is_in_the_alphabet_costs_one_place(char: str) -> None:
    assert sms_size(char * 160) == sms_size("a" * 160)


@pytest.mark.parametrize("char", "^{}\\[~]|€")
def test_the_extension_costs_two(char: str) -> None:
    assert (sms_size(char * 80).parts, sms_size(char * 81).parts) == (1, 2)


@pytest.mark.parametrize("char", "çâ’“–…`áí\t")
def test_one_character_outside_turns_the_text_to_ucs2(char: str) -> None:
    assert sms_size(char + "a" * 10).encoding is Encoding.UCS2


def test_a_plain_text_is_cut_without_leaving_its_alphabet() -> None:
    cut = fit(Channel.SMS, "a" * 1000, TooLong.CUT, 2)
    assert cut == "a" * 303 + "..."
    assert sms_size(cut).parts == 2


@pytest.mark.parametrize("sign", [FAMILY, FLAG, "é", "👍🏽", "각"])
def test_no_visible_character_is_cut(sign: str) -> None:
    cut = fit(Channel.SMS, sign * 300, TooLong.CUT, 1)
    assert cut is not None
    kept = cut.removesuffix("…").removesuffix("...")
    assert kept
    assert kept == sign * (len(kept) // len(sign))
    assert sms_size(cut).parts == 1


def test_split_goes_as_far_as_the_provider_does() -> None:
    long = fit(Channel.SMS, "a" * 5000, TooLong.SPLIT, 1)
    assert long is not None
    assert sms_size(long).parts == LIMITS[Channel.SMS].most


def test_refuse_refuses_only_what_is_too_long() -> None:
    assert fit(Channel.SMS, "a" * 160, TooLong.REFUSE, 1) == "a" * 160
    assert fit(Channel.SMS, "a" * 161, TooLong.REFUSE, 1) is None


def test_a_call_counts_what_becomes_of_a_text_once_it_is_escaped() -> None:
    assert fit(Channel.VOICE, "&" * 20, TooLong.REFUSE, 100) == "&" * 20
    assert fit(Channel.VOICE, "&" * 21, TooLong.REFUSE, 100) is None
    cut = fit(Channel.VOICE, "&" * 21, TooLong.CUT, 100)
    assert cut == "&" * 19 + "…"


def test_whatsapp_counts_as_the_provider_does() -> None:
    assert fit(Channel.WHATSAPP, "😀" * 800, TooLong.REFUSE) is not None
    assert fit(Channel.WHATSAPP, "😀" * 801, TooLong.REFUSE) is None


def test_a_channel_without_a_limit_takes_all() -> None:
    assert fit(Channel.EMAIL, "a" * 100_000, TooLong.REFUSE) == "a" * 100_000


def test_a_very_long_text_takes_no_time() -> None:
    begun = time.perf_counter()
    for channel in LIMITS:
        fit(channel, "😀{" * 500_000, TooLong.CUT)
    assert time.perf_counter() - begun < 1


@given(
    st.text(st.sampled_from([*sorted(GSM7), "{", "€", "é", "😀", "\u0301", "\u200d", "🇩", "🇪"]), max_size=700),
    st.integers(1, 4),
    st.sampled_from([Channel.SMS, Channel.WHATSAPP, Channel.VOICE]),
)
def test_whatever_is_cut_fits_and_begins_as_the_text_does(text: str, most: int, channel: Channel) -> None:
    allowed = most if channel is Channel.SMS else most * 40
    cut = fit(channel, text, TooLong.CUT, allowed)
    assert cut is not None
    assert fit(channel, cut, TooLong.REFUSE, allowed) == cut
    if cut != text:
        kept = cut.removesuffix("…").removesuffix("...")
        assert text.startswith(kept)
        assert not unicodedata.combining((text[len(kept) :].lstrip() or "x")[0]) or not kept
    cut.encode("utf-16")


@given(
    st.text(st.sampled_from([*sorted(GSM7), "{", "€", "é", "😀"]), max_size=700),
    st.sampled_from([Channel.SMS, Channel.WHATSAPP]),
    st.sampled_from(["Reply OK 4711 to confirm.", "Antworten Sie mit OK 4711 – danke."]),
)
def test_what_must_stand_below_a_text_is_never_cut(text: str, channel: Channel, ending: str) -> None:
    allowed = 2 if channel is Channel.SMS else 120
    said = fit(channel, text, TooLong.CUT, allowed, ending)
    assert said is not None
    assert said.endswith(f"\n{ending}")
    assert fit(channel, said, TooLong.REFUSE, allowed) == said
    whole = fit(channel, f"{text}\n{ending}", TooLong.REFUSE, allowed)
    assert (whole == said) or (whole is None and fit(channel, text, TooLong.REFUSE, allowed, ending) is None)
