"""What is known of a recipient, event by event."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from schemas.names import Channel, RecipientAction
from schemas.records import Consent, Contact, RecipientEvent, RecipientProfile
from tables import recipients
from tables.transition import Arrival
from tests.rules.life import T0, examples

EMAIL = Contact(Channel.EMAIL, "anna@example.org")
SMS = Contact(Channel.SMS, "+12015550123")
ANNA = RecipientEvent("anna", zone="Europe/Berlin", contacts=(EMAIL,))
ERASE = RecipientEvent("anna", RecipientAction.ERASE)
ALL = frozenset({Channel.EMAIL, Channel.SMS})


class Recipient:
    def __init__(self) -> None:
        self.profile: RecipientProfile | None = None
        self.offset = -1

    def apply(self, event: RecipientEvent, at: int = T0, *, again: bool = False) -> str:
        self.offset += not again
        arrival = Arrival(T0, at, "recipients", self.offset, event.event_id)
        after, result = recipients.apply(self.profile, event, arrival)
        self.profile = after or self.profile
        return result

    @property
    def known(self) -> RecipientProfile:
        assert self.profile is not None
        return self.profile


def test_an_event_makes_a_profile() -> None:
    r = Recipient()
    assert r.apply(replace(ANNA, version=1)) == "applied"
    assert (r.known.zone, r.known.contacts, r.known.version, r.known.numbered) == ("Europe/Berlin", (EMAIL,), 1, True)


def test_a_patch_leaves_what_it_does_not_name() -> None:
    r = Recipient()
    r.apply(replace(ANNA, version=1, locale="de", quiet=("22:00/07:00",), max_per_day=3))
    r.apply(RecipientEvent("anna", zone="Asia/Tokyo", version=2))
    assert (r.known.zone, r.known.locale, r.known.contacts) == ("Asia/Tokyo", "de", (EMAIL,))
    assert (r.known.quiet, r.known.max_per_day) == (("22:00/07:00",), 3)
    r.apply(RecipientEvent("anna", contacts=(), quiet=(), version=3))
    assert (r.known.contacts, r.known.quiet) == ((), ())


def test_an_older_version_changes_nothing() -> None:
    r = Recipient()
    r.apply(replace(ANNA, version=2))
    assert r.apply(replace(ANNA, zone="UTC", version=2)) == "stale_version"
    assert r.apply(replace(ANNA, zone="UTC", version=1)) == "stale_version"
    assert r.known.zone == "Europe/Berlin"


def test_without_numbers_the_time_of_the_record_orders() -> None:
    r = Recipient()
    r.apply(ANNA, T0 + 5)
    assert r.apply(replace(ANNA, zone="UTC"), T0 + 4) == "stale_version"
    assert r.apply(replace(ANNA, zone="UTC"), T0 + 5) == "applied"


def test_numbered_and_unnumbered_do_not_mix() -> None:
    r = Recipient()
    r.apply(replace(ANNA, version=2))
    assert r.apply(ANNA, T0 + 9) == "mixed_versions"
    r = Recipient()
    r.apply(ANNA)
    assert r.apply(replace(ANNA, version=2), T0 + 9) == "mixed_versions"


def test_the_same_event_twice_and_a_replay_change_nothing() -> None:
    r = Recipient()
    r.apply(replace(ANNA, event_id="e1"))
    assert r.apply(replace(ANNA, event_id="e1"), T0 + 1) == "duplicate"
    assert r.apply(replace(ANNA, event_id="e2"), T0 + 1) == "applied"
    assert r.apply(replace(ANNA, event_id="e3"), T0 + 2, again=True) == "replay"


def test_an_erasure_leaves_nothing_but_versions() -> None:
    for first in (ANNA, replace(ANNA, version=7)):
        r = Recipient()
        r.apply(replace(first, consents=(Consent(granted=True, at=1),)))
        assert r.apply(ERASE, T0 + 5) == "erased"
        left = RecipientProfile(r.known.version, r.known.numbered, erased=True, applied=r.known.applied, updated_at=T0)
        assert r.known == left
        assert not recipients.reachable(r.profile)


def test_what_is_older_than_an_erasure_stays_erased() -> None:
    r = Recipient()
    r.apply(replace(ANNA, version=7), T0)
    r.apply(ERASE, T0 + 5)
    assert r.apply(replace(ANNA, version=7), T0) == "stale_version"
    assert r.apply(replace(ANNA, version=8), T0 + 6) == "applied"
    r = Recipient()
    r.apply(ANNA, T0)
    r.apply(ERASE, T0 + 5)
    assert r.apply(ANNA, T0 + 5) == "stale_version"
    assert r.apply(ANNA, T0 + 6) == "applied"
    assert not r.known.erased


def test_an_erasure_of_somebody_unknown_does_not_decide_how_versions_are_told() -> None:
    r = Recipient()
    r.apply(ERASE, T0 + 5)
    assert r.apply(replace(ANNA, version=1), T0 + 4) == "stale_version"
    assert r.apply(replace(ANNA, version=1), T0 + 6) == "applied"
    assert (r.known.numbered, r.known.version) == (True, 1)


def test_the_latest_word_on_consent_counts() -> None:
    r = Recipient()
    r.apply(RecipientEvent("anna", consents=(Consent(granted=False, at=5), Consent(granted=True, at=5, category="x"))))
    r.apply(RecipientEvent("anna", consents=(Consent(granted=True, at=4),)), T0 + 1)
    assert {(c.category, c.granted) for c in r.known.consents} == {("*", False), ("x", True)}
    r.apply(RecipientEvent("anna", consents=(Consent(granted=True, at=6),)), T0 + 2)
    assert {(c.category, c.granted) for c in r.known.consents} == {("*", True), ("x", True)}


def test_contacts_serve_in_the_recipients_order() -> None:
    profile = RecipientProfile(contacts=(SMS, EMAIL, replace(EMAIL, address="a@example.org", verified=False)))
    assert recipients.usable(profile, Channel.ANY, (), ALL) == (SMS, EMAIL)
    assert recipients.usable(profile, Channel.ANY, ("SMS",), ALL) == (EMAIL,)
    assert recipients.usable(profile, Channel.EMAIL, ("EMAIL",), ALL) == (EMAIL,)
    assert recipients.usable(profile, Channel.ANY, (), frozenset({Channel.EMAIL})) == (EMAIL,)
    assert recipients.usable(profile, Channel.PUSH, (), ALL) == ()


def test_who_has_no_verified_contact_cannot_be_reached() -> None:
    assert not recipients.reachable(None)
    assert not recipients.reachable(RecipientProfile(contacts=(replace(EMAIL, verified=False),)))
    assert recipients.reachable(RecipientProfile(contacts=(EMAIL,)))


@examples(300)
@given(st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=8))
def test_a_newer_version_is_never_overwritten(events: list[tuple[int, bool]]) -> None:
    r = Recipient()
    newest = 0
    for version, erase in events:
        event = replace(ERASE if erase else ANNA, version=version, zone=f"Etc/GMT+{version}")
        result = r.apply(event, T0 + version)
        assert (result in ("applied", "erased")) is (version > newest)
        newest = max(newest, version)
        assert r.known.version == newest
        if not r.known.erased:
            assert r.known.zone == f"Etc/GMT+{newest}"


PHONE = Contact(Channel.PUSH, "token-1")
TABLET = Contact(Channel.PUSH, "token-2")


def test_a_token_that_is_gone_is_taken_away_and_nothing_else() -> None:
    r = Recipient()
    r.apply(replace(ANNA, contacts=(EMAIL, PHONE, TABLET, Contact(Channel.WEBHOOK, "token-1")), version=1))
    after = recipients.forget(r.known, Channel.PUSH, ("token-1",), T0)
    assert after is not None
    assert after.contacts == (EMAIL, TABLET, Contact(Channel.WEBHOOK, "token-1"))
    assert replace(after, contacts=r.known.contacts) == r.known
    assert recipients.forget(after, Channel.PUSH, ("token-1",), T0) is None


def test_a_token_that_may_have_been_registered_again_meanwhile_is_kept() -> None:
    r = Recipient()
    r.apply(replace(ANNA, contacts=(PHONE,), version=1))
    assert recipients.forget(r.known, Channel.PUSH, ("token-1",), T0 - 1) is None
    assert recipients.forget(r.known, Channel.PUSH, ("token-2",), T0) is None


GRANT = RecipientEvent("anna", consents=(Consent(True, T0 + 7, "offers", Channel.SMS, "page"),), source="preferences")
REFUSAL = RecipientEvent("anna", consents=(Consent(False, T0 + 9, "offers", Channel.SMS, "page"),))


def test_consents_alone_merge_whatever_the_version_and_leave_it_as_it_is() -> None:
    r = Recipient()
    r.apply(replace(ANNA, version=5, event_id="five"))
    assert r.apply(REFUSAL, T0 - 100) == "applied"
    assert r.apply(GRANT) == "applied"
    assert [(c.granted, c.at) for c in r.known.consents] == [(False, T0 + 9)]
    assert (r.known.version, r.known.numbered, r.known.event_id) == (5, True, "five")
    assert r.apply(replace(ANNA, zone="UTC", version=6)) == "applied"
    assert len(r.known.consents) == 1
    assert r.apply(replace(GRANT, zone="Asia/Tokyo")) == "mixed_versions"


def test_consents_alone_make_nothing_else_that_is_unnumbered_stale() -> None:
    r = Recipient()
    r.apply(ANNA, T0)
    assert r.apply(REFUSAL, T0 + 50) == "applied"
    assert r.apply(replace(ANNA, zone="UTC"), T0 + 20) == "applied"
    assert (r.known.zone, len(r.known.consents)) == ("UTC", 1)


def test_consents_alone_do_not_undo_an_erasure() -> None:
    r = Recipient()
    r.apply(replace(ANNA, version=5))
    r.apply(ERASE)
    assert r.apply(GRANT, T0 + 50) == "mixed_versions"
    assert r.known.erased
