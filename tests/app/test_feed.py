"""The pace of fetches: a lone record waits for none, a stream is fetched by handfuls."""

from hypothesis import given
from hypothesis import strategies as st

from app.feed import AT_ONCE, PACE_S, Pace


def test_what_comes_now_and_then_never_waits() -> None:
    pace = Pace()
    assert [pace.taken(n * PACE_S) for n in range(1, 100)] == [0.0] * 99


def test_a_few_turns_pass_at_once_and_a_stream_is_paced() -> None:
    pace, now, waits = Pace(), 100.0, []
    for _ in range(50):
        waits.append(pace.taken(now))
        now += 0.001 + waits[-1]
    assert waits[: AT_ONCE - 1] == [0.0] * (AT_ONCE - 1)
    assert all(0 < wait <= PACE_S for wait in waits[AT_ONCE:])
    assert now - 100.0 > (50 - AT_ONCE) * PACE_S


@given(st.lists(st.floats(0.0, 1.0), max_size=60))
def test_no_turn_waits_longer_than_the_pace(gaps: list[float]) -> None:
    pace, now = Pace(), 0.0
    for gap in gaps:
        wait = pace.taken(now)
        assert 0.0 <= wait <= PACE_S + 1e-9
        now += wait + gap
