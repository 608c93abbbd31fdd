"""What a recipient allows: consent by category and channel, quiet hours, calling hours, caps."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.names import Channel
from schemas.records import Consent, Passed, RecipientProfile, RecipientSends
from schemas.windows import parse
from tables import caps
from tables.consent import CALLING_HOURS, Category, Held, Legal, Needs, Refused, calling_hours, consented, look

OFFERS = Category(Legal.MARKETING, Needs.GRANT, calling_hours=True, postal_address="1 Way")
PLAIN = Category()
HOUR = 3_600_000


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def said(*consents: tuple[str, Channel | None, bool, int]) -> RecipientProfile:
    return RecipientProfile(zone="UTC", consents=tuple(Consent(c[2], c[3], c[0], c[1]) for c in consents))


@pytest.mark.parametrize(
    ("consents", "allowed"),
    [
        ([], None),
        ([("offers", Channel.SMS, True, 1)], True),
        ([("offers", None, True, 1)], True),
        ([("*", None, True, 1)], True),
        ([("news", Channel.SMS, True, 1)], None),
        ([("offers", Channel.EMAIL, True, 1)], None),
        ([("offers", Channel.EMAIL, False, 9)], None),
        # A later refusal of more takes back what was granted in particular.
        ([("offers", Channel.SMS, True, 1), ("*", None, False, 2)], False),
        ([("offers", Channel.SMS, True, 1), ("*", Channel.SMS, False, 2)], False),
        # A later grant of more does not take back a refusal in particular.
        ([("offers", Channel.SMS, False, 1), ("*", None, True, 2)], False),
        ([("offers", Channel.SMS, False, 1), ("offers", None, True, 2)], False),
        ([("offers", Channel.SMS, False, 1), ("*", Channel.SMS, True, 2)], False),
        # The same, or something within it, does.
        ([("*", None, False, 1), ("offers", Channel.SMS, True, 2)], True),
        ([("*", None, False, 1), ("*", None, True, 2)], True),
        ([("offers", None, False, 1), ("offers", Channel.SMS, True, 2)], True),
        ([("offers", None, False, 2), ("offers", Channel.SMS, True, 2)], False),
    ],
)
def test_what_a_recipient_said(consents: list[tuple[str, Channel | None, bool, int]], allowed: bool | None) -> None:
    assert consented(said(*consents), "offers", Channel.SMS) is allowed


_SAID = st.lists(
    st.tuples(
        st.sampled_from(["*", "offers", "news"]),
        st.sampled_from([None, Channel.SMS, Channel.EMAIL]),
        st.booleans(),
        st.integers(0, 5),
    ),
    max_size=6,
)


@given(_SAID, st.sampled_from(["offers", "news"]), st.sampled_from([Channel.SMS, Channel.EMAIL]))
def test_the_last_word_about_exactly_this_is_kept_if_it_is_a_refusal(
    consents: list[tuple[str, Channel | None, bool, int]], category: str, channel: Channel
) -> None:
    at = max((c[3] for c in consents), default=0) + 1
    profile = said(*consents, (category, channel, False, at))
    assert consented(profile, category, channel) is False
    assert look(profile, category, PLAIN, channel, 0) == Refused("consent_refused")
    again = said(*consents, ("*", None, False, at), (category, channel, True, at + 1))
    exact = [c for c in consents if not c[2] and c[3] > at + 1]
    assert not exact
    assert consented(again, category, channel) is True


def test_silence_is_consent_where_the_category_says_so() -> None:
    nobody = RecipientProfile()
    assert look(nobody, "general", PLAIN, Channel.SMS, 0) is None
    assert look(nobody, "offers", OFFERS, Channel.EMAIL, 0) == Refused("no_consent")
    refusing = said(("*", None, False, 1))
    assert look(refusing, "general", PLAIN, Channel.SMS, 0) == Refused("consent_refused")
    assert look(refusing, "duty", Category(needs=Needs.NOTHING), Channel.SMS, 0) is None


@pytest.mark.parametrize(
    ("at", "until"),
    [
        ("2026-06-09T18:59", None),
        ("2026-06-09T19:00", "2026-06-10T04:00"),
        ("2026-06-09T21:30", "2026-06-10T04:00"),
        ("2026-06-10T03:59", "2026-06-10T04:00"),
        ("2026-06-10T04:00", None),
        ("2026-06-10T10:00", None),
    ],
)
def test_quiet_hours_of_a_recipient_in_their_zone(at: str, until: str | None) -> None:
    profile = RecipientProfile(zone="Africa/Nairobi", quiet=("22:00-07:00",))
    expected = Held("quiet_hours", ms(until)) if until else None
    assert look(profile, "general", PLAIN, Channel.SMS, ms(at)) == expected
    assert look(profile, "duty", Category(overrides_quiet=True), Channel.SMS, ms(at)) is None
    assert look(profile, "general", PLAIN, Channel.WEBHOOK, ms(at)) is None


def test_quiet_hours_of_a_category_come_on_top_and_are_not_overridden_by_itself() -> None:
    noon = parse("12:00-13:00")
    assert noon is not None
    category = Category(overrides_quiet=True, quiet=(noon,))
    profile = RecipientProfile(zone="UTC", quiet=("13:00-14:00",))
    assert look(profile, "x", category, Channel.PUSH, ms("2026-06-09T12:30")) == Held(
        "quiet_hours", ms("2026-06-09T13:00")
    )
    both = Category(quiet=(noon,))
    assert look(profile, "x", both, Channel.PUSH, ms("2026-06-09T12:30")) == Held("quiet_hours", ms("2026-06-09T14:00"))


def test_quiet_for_ever_is_looked_at_again_every_day() -> None:
    profile = RecipientProfile(zone="UTC", quiet=("00:00-24:00",))
    assert look(profile, "x", PLAIN, Channel.EMAIL, 5) == Held("quiet_hours", 5 + 24 * HOUR)


def _offer(region: str, at: str, zone: str = "America/New_York", channel: Channel = Channel.VOICE) -> object:
    profile = RecipientProfile(zone=zone, region=region, consents=(Consent(True, 1, "offers"),))
    return look(profile, "offers", OFFERS, channel, ms(at))


def test_marketing_calls_begin_at_eight_where_the_recipient_is() -> None:
    # 07:59 and 08:00 in New York, in summer time.
    assert _offer("US-NY", "2026-06-09T11:59") == Held("calling_hours", ms("2026-06-09T12:00"))
    assert _offer("US-NY", "2026-06-09T12:00") is None
    assert _offer("US-NY", "2026-06-10T00:59") is None  # 20:59
    assert _offer("US-NY", "2026-06-10T01:00") == Held("calling_hours", ms("2026-06-10T12:00"))
    # Mail is no call, nor is what is no marketing.
    assert _offer("US-NY", "2026-06-09T11:59", channel=Channel.EMAIL) is None
    assert look(RecipientProfile(zone="UTC", region="US"), "x", PLAIN, Channel.SMS, 0) is None


def test_states_are_stricter() -> None:
    assert _offer("US-FL", "2026-06-10T00:30") == Held("calling_hours", ms("2026-06-10T12:00"))
    # A Sunday, on which Alabama has no calls: until Monday at eight.
    assert _offer("US-AL", "2026-06-07T16:00", "America/Chicago") == Held("calling_hours", ms("2026-06-08T13:00"))
    assert _offer("US-TX", "2026-06-07T16:30", "America/Chicago") == Held("calling_hours", ms("2026-06-07T17:00"))


def test_an_unknown_place_gets_the_hours_that_are_lawful_everywhere() -> None:
    everywhere = calling_hours("")
    assert len(everywhere) == len(CALLING_HOURS)
    assert set(calling_hours("us")) == set(everywhere)
    # Tuesday at ten is lawful in every state, at half past nine not in Kentucky, on Sundays nowhere at all.
    assert _offer("", "2026-06-09T14:00") is None
    assert _offer("", "2026-06-09T13:30") == Held("calling_hours", ms("2026-06-09T14:00"))
    assert _offer("", "2026-06-07T16:00") == Held("calling_hours", ms("2026-06-08T14:00"))
    assert calling_hours("DE") == calling_hours("DE-BE") == ()


def test_without_a_zone_marketing_calls_wait_and_quiet_hours_cannot_be_kept() -> None:
    assert _offer("US-NY", "2026-06-09T12:00", zone="") == Held("zone_unknown", ms("2026-06-09T13:00"))
    assert look(RecipientProfile(quiet=("00:00-24:00",)), "x", PLAIN, Channel.SMS, 0) is None


# -- caps


def test_a_cap_of_three_holds_the_fourth_until_there_is_room() -> None:
    profile = RecipientProfile(max_per_hour=3)
    sends = RecipientSends()
    for n in range(3):
        assert caps.full_until(profile, sends, f"t{n}", 1000 + n) is None
        sends = caps.passed(sends, f"t{n}", 1000 + n)
    assert caps.full_until(profile, sends, "t3", 2000) == ("cap_per_hour", 1000 + HOUR)
    assert caps.full_until(profile, sends, "t3", 1000 + HOUR) is None
    # What has passed once passes again: a retry is not another message.
    assert caps.full_until(profile, sends, "t1", 2000) is None
    assert caps.passed(sends, "t1", 5000) == sends
    freed = caps.forgotten(sends, "t0")
    assert freed is not None
    assert caps.full_until(profile, freed, "t3", 2000) is None
    assert caps.forgotten(sends, "t9") is None


def test_the_later_of_two_caps_counts_and_minus_one_is_none() -> None:
    profile = RecipientProfile(max_per_hour=1, max_per_day=1)
    sends = RecipientSends((Passed("a", 0),))
    assert caps.full_until(profile, sends, "b", 5) == ("cap_per_day", 24 * HOUR)
    assert not caps.capped(RecipientProfile(max_per_hour=-1, max_per_day=-1))
    assert not caps.capped(None)
    assert caps.capped(RecipientProfile(max_per_hour=1))
    assert caps.capped(RecipientProfile(max_per_day=1))
    assert caps.due(sends) == 24 * HOUR


@given(st.integers(1, 5), st.lists(st.integers(0, 3 * HOUR), min_size=1, max_size=40))
def test_never_more_than_the_cap_in_any_hour(cap: int, times: list[int]) -> None:
    profile, sends, passed = RecipientProfile(max_per_hour=cap), RecipientSends(), []
    waiting = [(at, n) for n, at in enumerate(sorted(times))]
    while waiting:
        at, n = waiting.pop(0)
        if (full := caps.full_until(profile, sends, str(n), at)) is not None:
            assert full[1] > at
            waiting.append((full[1], n))
            waiting.sort()
            continue
        sends = caps.passed(sends, str(n), at)
        passed.append(at)
    assert len(passed) == len(times)
    assert all(sum(t < u <= t + HOUR - 1 for u in passed) + passed.count(t) <= cap for t in passed)
