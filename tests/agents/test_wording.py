"""Words in the gate: a template's, in the recipient's language, or none at all; and the same for every attempt."""

from dataclasses import replace
from typing import Any

import pytest

from agents.wording import Unworded, Worded, worded
from channels.layout import Foot
from channels.retry import Dead, RetryPolicy, decide
from channels.shelf import Shelf
from channels.templates import Source, Version, compiled
from channels.word_reasons import HOPELESS
from schemas import codec
from schemas.names import Channel, MaybeSent, OutcomeKind, RequestKind
from schemas.records import Content, Delivery, DeliveryRequest, Message, RecipientProfile, Sealed
from tables.consent import Category
from tests.agents.test_gate import HOUR, MAIL, PHONE, Gate

TEXTS = {
    "subject.txt": "Visit",
    "text.txt": "Dear {{ name }}, {{ reminder.due|time }}",
    "html.html": "<html><body><p>Dear {{ name }}</p></body></html>",
    "sms.txt": "{{ name }} {{ code }}",
    "de/text.txt": "Guten Tag {{ name }}",
    "de/sms.txt": "{{ name }} {{ code }}",
}
DATA = {"name": "Anna", "code": "7"}


def version(number: int = 1, **changed: str) -> Version:
    made, faults = compiled(Source("visit", number, TEXTS | {k.replace("_", "."): v for k, v in changed.items()}))
    assert made is not None, faults
    return made


def asking(anna: Gate, rid: str, data: dict[str, str], **fields: Any) -> Any:
    content = Sealed(0, codec.encode(Content("T", "", data)))
    return anna.ask(rid, template="visit", sealed=content, **fields)


def said(sent: Delivery | None) -> Message:
    assert sent is not None
    return codec.decode(Message, sent.sealed.body)


def gate(*versions: Version, **profile: Any) -> Gate:
    profile = {"zone": "Europe/Vienna", "locale": "en-GB", "contacts": (MAIL, PHONE), **profile}
    anna = Gate(RecipientProfile(**profile), now=12 * HOUR)
    anna.work = replace(anna.work, templates=Shelf(versions))
    return anna


def test_it_is_in_the_recipients_language_and_on_their_clock() -> None:
    anna = gate(version())
    sent, _ = asking(anna, "a", DATA)
    message = said(sent)
    assert (message.address, message.title, message.text) == (MAIL.address, "Visit", "Dear Anna, 13:00")
    assert message.html == "<html><body><p>Dear Anna</p></body></html>"
    assert sent is not None
    assert sent.template == version().ref
    german = said(asking(gate(version(), locale="de-AT"), "a", DATA)[0])
    assert (german.text, german.locale) == ("Guten Tag Anna", "de")
    # Its foot is in the language of its words, not in another one of the reader's.
    assert said(asking(gate(version(), locale="fr"), "a", DATA)[0]).locale == "en"
    assert said(asking(anna, "b", DATA, channel=Channel.SMS)[0]).text == "Anna 7"


@pytest.mark.parametrize("channel", [Channel.EMAIL, Channel.SMS, Channel.ANY])
def test_a_missing_value_stops_it_at_once_on_every_channel(channel: Channel) -> None:
    sent, told = asking(gate(version()), "a", {"name": "Anna"}, channel=channel)
    assert sent is None
    assert (told.outcome, told.reason) == (OutcomeKind.REJECTED, "template_variable_missing")
    assert told.detail == f"{version().ref}: code"
    assert told.spent


@pytest.mark.parametrize("reason", sorted(HOPELESS))
def test_no_next_step_no_contact_and_no_retry_follows_it(reason: str) -> None:
    decision = decide(
        OutcomeKind.REJECTED,
        reason,
        attempt=1,
        policy=RetryPolicy(),
        retry_after_s=None,
        spent=True,
        jitter=0,
        has_next_step=True,
        more_contacts=True,
        maybe_sent=MaybeSent.RESEND,
    )
    assert decision == Dead(reason)


def test_an_unknown_template_is_waited_for_without_an_attempt() -> None:
    anna = gate()
    _, told = asking(anna, "a", DATA)
    assert (told.outcome, told.reason, told.spent) == (OutcomeKind.HELD, "unknown_template", False)
    assert told.not_before == anna.now + 60_000
    assert told.detail == "visit"
    anna.work.templates.replace([version()])
    anna.now += 60_000
    assert asking(anna, "a", DATA, ask=2)[0] is not None


def test_a_second_attempt_says_what_the_first_did_whatever_was_edited_since() -> None:
    anna = gate(version())
    first, _ = asking(anna, "a", DATA)
    anna.work.templates.replace([version(text_txt="Edited {{ name }}"), version(2, text_txt="New {{ name }}")])
    again, _ = asking(anna, "a", DATA, attempt=2, ask=2)
    assert said(again) == said(first)
    assert again.template == version().ref
    other, _ = asking(anna, "b", DATA)
    assert said(other).text == "New Anna"


def test_the_foot_of_marketing_mail_is_in_both_of_its_parts() -> None:
    category = Category(postal_address="1 <Long> Way")
    request = DeliveryRequest(RequestKind.DELIVER, "a", template="visit")
    found = worded(Shelf([version()]), request, "", Content(data=DATA), category, Channel.EMAIL, None, Foot())
    assert isinstance(found, Worded)
    message = found.message
    assert message.text.endswith("\n\n1 <Long> Way")
    assert message.html.endswith(">1 &lt;Long&gt; Way</p>\n</body></html>")


PLAIN = {
    Channel.EMAIL: ("Title", "Text\n\nPraxis Weiß\nCall 01 234"),
    Channel.SMS: ("Praxis Weiß: Title", "Text"),
    Channel.WHATSAPP: ("Praxis Weiß: Title", "Text\n\nCall 01 234"),
    Channel.VOICE: ("Praxis Weiß: Title", "Text"),
    Channel.PUSH: ("Title", "Text"),
    Channel.WEBHOOK: ("Title", "Text"),
}


@pytest.mark.parametrize("channel", PLAIN)
def test_without_a_template_it_says_who_sends_it_and_how_to_answer(channel: Channel) -> None:
    request, foot = DeliveryRequest(RequestKind.DELIVER, "a"), Foot("Praxis Weiß", "Call 01 234")
    said_ = worded(Shelf(), request, "", Content("Title", "Text"), Category(), channel, None, foot)
    assert isinstance(said_, Worded)
    assert (said_.message.title, said_.message.text) == PLAIN[channel]
    if channel is Channel.EMAIL:
        assert ">Title</h1>" in said_.message.html
        assert ">Praxis Weiß<br>\nCall 01 234</p>\n</body>" in said_.message.html
    none = worded(Shelf(), request, "", Content("Title", "Text"), Category(), channel, None, Foot())
    assert isinstance(none, Worded)
    assert (none.message.title, none.message.text) == ("Title", "Text")


def test_a_category_has_a_sender_of_its_own_and_a_push_without_a_title_takes_it() -> None:
    category, foot = Category(sender="Lab", answer="No answers"), Foot("Praxis Weiß", "Call 01 234")
    request = DeliveryRequest(RequestKind.DELIVER, "a")
    push = worded(Shelf(), request, "", Content("", "Text"), category, Channel.PUSH, None, foot)
    sms = worded(Shelf(), request, "", Content("", "Text"), category, Channel.SMS, None, foot)
    assert isinstance(push, Worded)
    assert isinstance(sms, Worded)
    assert (push.message.title, push.message.text) == ("Lab", "Text")
    assert sms.message.text == "Lab: Text"


def test_a_template_says_who_sends_it_where_it_wants_to() -> None:
    made = version(text_txt="{{ name }} from {{ reminder.sender }}")
    request = DeliveryRequest(RequestKind.DELIVER, "a", template="visit")
    found = worded(Shelf([made]), request, "", Content(data=DATA), Category(), Channel.WEBHOOK, None, Foot("Lab"))
    assert isinstance(found, Worded)
    assert found.message.text == "Anna from Lab"
    nobody = worded(Shelf([made]), request, "", Content(data=DATA), Category(), Channel.WEBHOOK, None, Foot())
    assert isinstance(nobody, Unworded)
    assert nobody.detail.endswith(": sender")


def test_without_a_recipient_the_reminders_own_zone_counts() -> None:
    request = DeliveryRequest(RequestKind.DELIVER, "a", template="visit", zone="America/New_York", due_at=12 * HOUR)
    found = worded(Shelf([version()]), request, "", Content(data=DATA), Category(), Channel.WEBHOOK, None, Foot())
    assert isinstance(found, Worded)
    assert found.message.text == "Dear Anna, 7:00\u202fAM"
