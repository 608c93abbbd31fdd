"""What waits for an answer: announced before the call, gone when nothing went out or it wants none any more."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from agents.ports import Out
from agents.replies import COPIES_MS, KEPT_MS, MOST_OF_ONE, SWEEP_MS, Replies
from channels.answers import Waiting, code
from schemas import codec
from schemas.hashing import AddressHash
from schemas.names import Channel
from schemas.records import Delivery, ReplyRecord

NUMBER = "+12015550123"
OLD, NEW = (1, b"an old secret of these tests"), (2, b"a new secret of these tests")
HINT = "Reply OK {code}."


class Desk:
    """A reader that is handed its records."""

    def __init__(self, *secrets: tuple[int, bytes]) -> None:
        self.now = 1_000_000
        hashing = AddressHash(secrets or (NEW,))
        make: Any = None
        self.replies = Replies(
            make, "replies", 8, clock=lambda: self.now, hashing=hashing, hint=HINT, fatal=lambda why, exc: None
        )

    def read(self, *outs: Out) -> "Desk":
        for out in outs:
            self.replies._apply(SimpleNamespace(key=out.key, value=out.value, offset=0))
        return self

    def ask(self, rid: str = "r1", number: str = NUMBER, **more: Any) -> "Desk":
        return self.read(*self.replies.asked(asking(rid, **more), number, self.now))

    @property
    def waiting(self) -> list[str]:
        return [one.reminder_id for one in self.replies.waiting(Channel.SMS, NUMBER)]


def asking(rid: str = "r1", channel: Channel = Channel.SMS, **more: Any) -> Delivery:
    given: dict[str, Any] = {"deadline": 2_000_000, "wants_answer": True}
    return Delivery(f"{rid}:o:0:0", rid, "o", channel, **(given | more))


def test_what_was_asked_waits_for_the_address_however_it_is_written_until_its_deadline() -> None:
    desk = Desk().ask()
    assert desk.waiting == ["r1"]
    assert desk.replies.waiting(Channel.SMS, "+1 (201) 555-0123") == [
        Waiting("r1", "o", 1_000_000, "r1:o:0:0", 1_000_000)
    ]
    assert desk.replies.waiting(Channel.WHATSAPP, NUMBER) == []
    assert desk.replies.waiting(Channel.SMS, "+12015550124") == []
    desk.now = 2_000_000
    assert desk.waiting == []


def test_the_record_names_no_address() -> None:
    desk = Desk()
    [out] = desk.replies.asked(asking(), NUMBER, 1)
    assert b"5550123" not in (out.key or b"") + (out.value or b"")
    assert codec.decode(ReplyRecord, out.value or b"").until == min(2_000_000, 1 + KEPT_MS)


def test_only_who_is_asked_by_text_is_waited_for() -> None:
    desk = Desk().ask(wants_answer=False).ask(channel=Channel.EMAIL).ask(channel=Channel.VOICE)
    assert desk.waiting == []
    assert desk.replies.hint(asking(wants_answer=False)) == ""
    assert desk.replies.hint(asking(channel=Channel.VOICE)) == ""
    assert desk.replies.hint(asking()) == f"Reply OK {code('r1', 'o')}."


def test_several_messages_of_one_occurrence_are_one_and_what_did_not_go_out_is_taken_back() -> None:
    desk = Desk().ask().ask("r2")
    again = replace(asking(), delivery_id="r1:o:1:0")
    desk.read(*desk.replies.asked(again, NUMBER, desk.now))
    assert sorted(desk.waiting) == ["r1", "r2"]
    assert [one.delivery_id for one in desk.replies.waiting(Channel.SMS, NUMBER)][-1] == "r1:o:1:0"
    desk.read(*desk.replies.taken_back(again, NUMBER, desk.now))
    assert sorted(desk.waiting) == ["r1", "r2"]
    desk.read(*desk.replies.taken_back(asking(), NUMBER, desk.now))
    assert desk.waiting == ["r2"]


def test_asking_again_does_not_change_since_when_it_waits() -> None:
    desk = Desk().ask()
    desk.now += 1000
    again = replace(asking(), delivery_id="r1:o:1:0")
    desk.read(*desk.replies.asked(again, NUMBER, desk.now))
    [waiting] = desk.replies.waiting(Channel.SMS, NUMBER)
    assert (waiting.since, waiting.asked_at) == (1_000_000, 1_001_000)
    desk.read(*desk.replies.taken_back(again, NUMBER, desk.now))
    assert [one.since for one in desk.replies.waiting(Channel.SMS, NUMBER)] == [1_000_000]
    # Nothing went out at all: the next message is the first.
    desk.read(*desk.replies.taken_back(asking(), NUMBER, desk.now)).ask()
    assert [one.since for one in desk.replies.waiting(Channel.SMS, NUMBER)] == [1_001_000]


def test_an_end_is_one_for_all_addresses() -> None:
    desk = Desk().ask().ask(number="+12015550199").ask("r2")
    desk.read(desk.replies.closed("r1", "o", desk.now))
    assert desk.waiting == ["r2"]
    assert desk.replies.waiting(Channel.SMS, "+12015550199") == []
    desk.ask()
    assert sorted(desk.waiting) == ["r1", "r2"]


def test_a_secret_may_change_while_something_waits() -> None:
    before, after = Desk(OLD), Desk(NEW, OLD)
    after.read(*before.replies.asked(asking(), NUMBER, 1_000_000))
    assert after.waiting == ["r1"]


def test_the_last_message_of_an_address_is_known() -> None:
    desk = Desk()
    assert desk.replies.wrote(Channel.WHATSAPP, NUMBER) == 0
    for at in (500, 400):
        key, value = desk.replies.came(Channel.WHATSAPP, NUMBER, at)
        desk.read(Out("replies", 0, key, value))
    assert desk.replies.wrote(Channel.WHATSAPP, NUMBER) == 500
    assert desk.replies.wrote(Channel.SMS, NUMBER) == 0


def test_each_number_of_ours_has_a_window_of_its_own() -> None:
    desk = Desk(NEW, OLD)
    for provider, at in (("twilio", 500), ("meta", 700)):
        key, value = desk.replies.came(Channel.WHATSAPP, NUMBER, at, provider)
        desk.read(Out("replies", 0, key, value))
    assert desk.replies.wrote(Channel.WHATSAPP, NUMBER, "twilio") == 500
    assert desk.replies.wrote(Channel.WHATSAPP, NUMBER, "meta") == 700


def test_answers_are_asked_for_only_where_they_come_in() -> None:
    desk = Desk()
    desk.replies.texted = frozenset({Channel.WHATSAPP})
    assert desk.replies.hint(asking()) == ""
    assert desk.replies.asked(asking(), NUMBER, 1_000_000) == ()
    assert desk.replies.hint(asking(channel=Channel.WHATSAPP)).startswith("Reply OK")


def test_a_copy_of_an_answer_is_about_the_same() -> None:
    one, other = Desk(), Desk()
    assert one.replies.taken("SM1") is None
    key, value = one.replies.took("SM1", Waiting("r1", "o", 5, "r1:o:0:0"), one.now)
    assert one.replies.taken("SM1") == Waiting("r1", "o", one.now, "r1:o:0:0")
    other.read(Out("replies", 0, key, value))
    assert other.replies.taken("SM1") == Waiting("r1", "o", one.now, "r1:o:0:0")
    assert other.replies.taken("SM2") is None
    assert other.replies.taken("") is None


def test_memory_is_let_go() -> None:
    desk = Desk()
    for n in range(MOST_OF_ONE + 10):
        desk.ask(f"r{n}")
    assert len(desk.waiting) == MOST_OF_ONE
    desk.replies.took("SM1", Waiting("r1", "o", 5), desk.now)
    desk.now += KEPT_MS + COPIES_MS + SWEEP_MS
    desk.replies._turn()
    assert (desk.replies._open, desk.replies._addresses, desk.replies._answered) == ({}, {}, {})


def test_what_cannot_be_read_is_passed_over() -> None:
    desk = Desk().ask()
    desk.read(Out("replies", 0, b"k", b"nonsense"), Out("replies", 0, b"k", None))
    assert desk.waiting == ["r1"]


def test_nobody_is_taken_to_know_before_the_end_was_reached() -> None:
    assert Desk().replies.fresh() is False
