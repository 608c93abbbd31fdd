"""What messages cost, what may be spent on one, and which channel goes first for its price."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.names import Channel
from tables.prices import PRICE_UNKNOWN, TOO_DEAR, Prices, Way, amount, beyond, cheaper_first

TABLE = Prices(
    "EUR",
    {
        (Channel.SMS, "twilio", "DE"): 75_000,
        (Channel.SMS, "twilio", "*"): 90_000,
        (Channel.SMS, "*", "FR"): 60_000,
        (Channel.VOICE, "*", "*"): 20_000,
        (Channel.EMAIL, "smtp-2", "*"): 400,
    },
)
GERMAN, FRENCH, AMERICAN = "+4915112345678", "+33612345678", "+12015550123"


def test_the_price_that_names_most_holds() -> None:
    assert TABLE.of(Channel.SMS, "twilio", GERMAN) == 75_000
    assert TABLE.of(Channel.SMS, "twilio", FRENCH) == 90_000
    assert TABLE.of(Channel.SMS, "other", FRENCH) == 60_000
    assert TABLE.of(Channel.SMS, "other", AMERICAN) is None
    assert TABLE.of(Channel.VOICE, "twilio", AMERICAN) == 20_000
    assert TABLE.of(Channel.WHATSAPP, "twilio", GERMAN) is None
    assert TABLE.least(Channel.EMAIL, ("smtp", "smtp-2"), "a@people.example") == 0
    assert TABLE.of(Channel.EMAIL, "smtp-2", "a@people.example") == 400
    assert Prices().of(Channel.SMS, "twilio", GERMAN) is None
    assert Prices().of(Channel.EMAIL, "smtp", "a@people.example") == 0


def test_amounts_are_read_by_people() -> None:
    said = (0, "0.00"), (75_000, "0.075"), (400, "0.0004"), (1_000_000, "1.00"), (12_345_678, "12.345678")
    assert [amount(micros) for micros, _ in said] == [words for _, words in said]
    assert TABLE.words(75_000) == "0.075 EUR"


def test_a_cap_keeps_to_what_is_known() -> None:
    assert [beyond(60, cost) for cost in (0, 60, 61, None)] == ["", "", TOO_DEAR, PRICE_UNKNOWN]
    assert [beyond(0, cost) for cost in (0, 61, None)] == ["", "", ""]


def test_the_cheaper_goes_first_among_those_that_do_what_is_wanted_in_time() -> None:
    sms, voice = Way(Channel.SMS, 75_000), Way(Channel.VOICE, 20_000)
    mail, push = Way(Channel.EMAIL, 0, answers=False), Way(Channel.PUSH, 0)
    assert cheaper_first([sms, mail, voice, push], wants_answer=False) == (mail, push, voice, sms)
    assert cheaper_first([sms, mail, voice], wants_answer=True) == (voice, sms, mail)
    late, unknown = Way(Channel.VOICE, 20_000, now=False), Way(Channel.WHATSAPP, None)
    assert cheaper_first([late, unknown, sms], wants_answer=False) == (sms, unknown, late)


ways = st.lists(
    st.builds(
        Way,
        st.sampled_from([Channel.EMAIL, Channel.SMS, Channel.VOICE, Channel.WHATSAPP, Channel.PUSH]),
        st.none() | st.integers(0, 5),
        st.booleans(),
        st.booleans(),
    ),
    unique_by=lambda way: way.channel,
)


@given(ways, st.booleans())
def test_nobody_is_lost_and_no_dearer_one_that_does_as_well_goes_before(found: list[Way], wants: bool) -> None:
    ordered = cheaper_first(found, wants_answer=wants)
    assert sorted(way.channel for way in ordered) == sorted(way.channel for way in found)
    assert cheaper_first(ordered, wants_answer=wants) == ordered

    def serves(way: Way) -> bool:
        return way.now and (way.answers or not wants)

    for n, way in enumerate(ordered):
        for later in ordered[n + 1 :]:
            assert serves(way) or not serves(later)
            if serves(way) and serves(later) and later.micros is not None:
                assert way.micros is not None
                assert way.micros <= later.micros
            if not serves(way) or way.micros == later.micros:
                # Nothing tells them apart: the recipient's own order stays.
                assert serves(way) is not serves(later) or found.index(way) < found.index(later)
