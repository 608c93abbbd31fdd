"""Who waits for whom: nobody longer than told, nobody twice, and nobody is left behind."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from schemas import ids
from schemas.names import Channel, OutcomeKind, Priority, RequestKind
from schemas.quick import replace
from schemas.records import DeliveryRequest, Passed, RecipientDelivery, RecipientDigest, RecipientSends
from tables import caps, deliveries, digests
from tables.consent import Caps, Category
from tables.digests import Alone, Gather, Wait
from tests.rules.life import examples

NOW = 1_796_083_200_000
PILLS = Category(digest_window_s=60)
GROUP = RecipientDigest("anna", "pills")
ROW = RecipientDelivery("r", "anna", "@1/PT0S", 0, 0, 1)
REQUEST = DeliveryRequest(RequestKind.DELIVER, "r", "anna", occurrence="@1/PT0S", attempt=1, ask=1, asked_at=NOW)


def name(raw: bytes) -> str:
    return raw.decode()


def test_the_first_opens_a_window_and_the_others_wait_for_its_end() -> None:
    assert digests.place(PILLS, GROUP, ROW, REQUEST, Channel.EMAIL, NOW + 5) == Wait(NOW + 60_000)
    group = digests.waits(GROUP, "a", NOW + 60_000, NOW)
    later = replace(REQUEST, asked_at=NOW + 59_000)
    assert digests.place(PILLS, group, ROW, later, Channel.EMAIL, NOW + 59_000) == Wait(NOW + 60_000)
    assert digests.place(PILLS, group, ROW, later, Channel.EMAIL, NOW + 60_000) == Wait(NOW + 119_000)


def test_one_waits_once() -> None:
    waited = replace(ROW, digest_due=NOW)
    assert digests.place(PILLS, GROUP, waited, REQUEST, Channel.EMAIL, NOW - 1) == Wait(NOW)
    assert digests.place(PILLS, GROUP, waited, REQUEST, Channel.EMAIL, NOW) == Gather()
    for further in (replace(REQUEST, attempt=2), replace(REQUEST, step=1), replace(REQUEST, tried=("PUSH",))):
        assert digests.place(PILLS, GROUP, ROW, further, Channel.EMAIL, NOW) == Gather()
    late = replace(REQUEST, asked_at=NOW - 60_000)
    assert digests.place(PILLS, GROUP, ROW, late, Channel.EMAIL, NOW) == Gather(), "it was on its way for so long"


def test_who_never_waits() -> None:
    for alone in (replace(REQUEST, priority=Priority.URGENT), replace(REQUEST, wants_answer=True)):
        assert digests.place(PILLS, GROUP, ROW, alone, Channel.EMAIL, NOW) == Alone()
    assert digests.never(replace(REQUEST, recipient_id="")) is digests.Why.ADDRESS
    assert digests.place(PILLS, GROUP, ROW, REQUEST, Channel.WEBHOOK, NOW) == Alone()
    # Those who come late are awaited for ten seconds more.
    for deadline, wanted in ((NOW + 70_000, Alone()), (NOW + 70_001, Wait(NOW + 60_000))):
        assert digests.place(PILLS, GROUP, ROW, replace(REQUEST, deadline=deadline), Channel.EMAIL, NOW) == wanted
    soon, gathered = replace(REQUEST, deadline=NOW + 10_000), replace(GROUP, gathered=(b"a",), closes=NOW + 10_000)
    waited = replace(ROW, digest_due=NOW)
    assert digests.place(PILLS, gathered, waited, soon, Channel.EMAIL, NOW) == Alone()
    assert digests.place(PILLS, gathered, waited, replace(soon, deadline=NOW + 10_001), Channel.EMAIL, NOW) == Gather()
    assert not digests.digests(Category())
    assert digests.place(Category(caps=Caps.DIGEST), GROUP, ROW, REQUEST, Channel.EMAIL, NOW) == Alone()


def test_what_a_cap_keeps_back_joins_the_others_that_wait() -> None:
    capped = Category(caps=Caps.DIGEST)
    assert digests.capped_until(capped, GROUP, REQUEST, NOW + 9, NOW) == NOW + 9
    assert digests.capped_until(capped, replace(GROUP, until=NOW + 5), REQUEST, NOW + 9, NOW) == NOW + 5
    assert digests.capped_until(Category(), GROUP, REQUEST, NOW + 9, NOW) == 0
    window = replace(GROUP, until=NOW + 60_000)
    for deadline, until in ((NOW + 70_000, 0), (NOW + 70_001, NOW + 60_000)):
        assert digests.capped_until(capped, window, replace(REQUEST, deadline=deadline), NOW + 9, NOW) == until
    assert digests.capped_until(capped, GROUP, replace(REQUEST, priority=Priority.URGENT), NOW + 9, NOW) == 0


@examples(200)
@given(
    st.lists(st.integers(0, 7), unique=True, min_size=1),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4_000)), max_size=12),
)
def test_a_group_goes_with_the_last_one_or_when_its_time_is_over(
    awaited: list[int], comers: list[tuple[int, int]]
) -> None:
    """All who were told to come are waited for, and for nobody longer than the patience since the last who came."""
    group = GROUP
    for n in awaited:
        group = digests.waits(group, ids.provider_token(f"d{n}"), NOW, NOW - 60_000)
    now, come = NOW, set[int]()
    for n, wait_ms in comers:
        now += wait_ms
        if digests.complete(group, now):
            break
        group = digests.comes(group, f"d{n}", f"d{n}".encode(), name, now)
        come.add(n)
        assert [raw.decode() for raw in sorted(group.gathered)] == sorted(f"d{one}" for one in come)
        assert now <= group.closes <= max(NOW + digests.PATIENCE_MS, now + digests.PATIENCE_MS)
        if digests.complete(group, now):
            assert set(awaited) <= come
            break
    if come:
        assert digests.complete(group, group.closes), "its time is over at some time"
        assert digests.due(group) == group.closes
        left = digests.left(group, group.closes)
        assert left is None or not left.gathered
        assert left is None or digests.due(left) <= NOW + digests.AWAITED_MS


def test_a_withdrawal_of_the_last_who_is_awaited_lets_the_others_go() -> None:
    group = digests.waits(digests.waits(GROUP, ids.provider_token("a"), NOW, NOW - 1), "b", NOW, NOW - 1)
    group = digests.comes(group, "a", b"a", name, NOW)
    assert not digests.complete(group, NOW)
    after = digests.gone(group, "b", NOW)
    assert after is not None
    assert digests.complete(after, NOW)
    assert digests.gone(after, "b", NOW) is None


def test_a_full_group_goes_at_once() -> None:
    group = digests.waits(GROUP, "never", NOW, NOW)
    for n in range(digests.MOST):
        assert not digests.complete(group, NOW)
        group = digests.comes(group, f"d{n}", f"d{n}".encode(), name, NOW)
    assert digests.complete(group, NOW)
    large = digests.comes(digests.waits(GROUP, "never", NOW, NOW), "d", b"x" * digests.MOST_BYTES, lambda raw: "d", NOW)
    assert digests.complete(large, NOW)


def test_what_was_withdrawn_begun_or_asked_anew_is_answered_by_others() -> None:
    row = deliveries.ask(ROW, REQUEST, NOW, 0).row
    assert row is not None
    assert digests.stands(row, REQUEST)
    assert not digests.stands(replace(row, withdrawn=1), REQUEST)
    assert not digests.stands(replace(row, ask=2), REQUEST)
    held = deliveries.answer(REQUEST, "d", OutcomeKind.HELD, "busy", NOW)
    assert not digests.stands(deliveries.ended(row, 1, held, NOW), REQUEST)
    assert not digests.stands(None, REQUEST)


@examples(200)
@given(st.lists(st.integers(1, 9), max_size=130), st.integers(1, 40))
def test_as_few_messages_as_hold_all_in_their_order(sizes: list[int], most: int) -> None:
    parted = digests.parted(sizes, lambda some: sum(some) <= most)
    assert [size for message in parted for size in message] == sizes
    for message in parted:
        assert len(message) == 1 or (sum(message) <= most and len(message) <= digests.MOST)
    for one, following in pairwise(parted):
        assert sum(one) + following[0] > most or len(one) == digests.MOST


@examples(100)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 50)), unique_by=lambda one: one[0]))
def test_a_message_counts_once_for_all_that_counted_before(counted: list[tuple[str, int]]) -> None:
    sends = RecipientSends(tuple(Passed(token, at) for token, at in sorted(counted, key=lambda one: one[1])))
    before = {"a", "b", "c"}
    after = caps.renamed(sends, before, "message")
    tokens = [sent.token for sent in after.passed]
    assert tokens.count("message") == any(token in before for token, _ in counted)
    assert {token for token in tokens if token != "message"} == {token for token, _ in counted} - before
    assert [sent.at for sent in after.passed] == sorted(sent.at for sent in after.passed)


def test_the_same_members_are_the_same_message() -> None:
    assert ids.digest_id(["a", "b"]) == ids.digest_id(["b", "a"]) != ids.digest_id(["a", "c"])
    assert ids.attempts_named(ids.attempt_ids(["r:o:0:0:1", "s:o:0:0:2"])) == [("r:o:0:0", 1), ("s:o:0:0", 2)]
