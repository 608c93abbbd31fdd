"""Cases O-19 to O-21: what text messages cost, what people write as a number, and who has opted out."""

import json
from pathlib import Path
from typing import Any

import pytest

from channels.limits import sms_size
from channels.retry import Dead, Fallback, Next, RetryPolicy, decide
from channels.sms import SmsChannel
from schemas.checks import check_recipient
from schemas.names import Channel, MaybeSent, OutcomeKind
from schemas.phones import PhoneFault, PhoneReason, e164
from schemas.records import Contact, RecipientEvent
from tables import recipients
from tables.transition import Arrival
from tests.channels.contract import send_to
from tests.channels.twilio_stage import opened, twilio_stage
from tests.sandbox.twilio_server import error

CASES = {case["id"]: case for case in json.loads((Path(__file__).parent / "cases.json").read_text(encoding="utf-8"))}


def vectors(case: str) -> list[Any]:
    pairs = zip(CASES[case]["input"]["vectors"], CASES[case]["expected"]["vectors"], strict=True)
    return [pytest.param(given, wanted, id=f"{case}-{given['n']}") for given, wanted in pairs]


@pytest.mark.parametrize(("given", "wanted"), vectors("O-19"))
def test_o19_parts(given: dict[str, Any], wanted: dict[str, Any]) -> None:
    text = "".join(part * count for part, count in zip(given["text"][::2], given["text"][1::2], strict=True))
    size = sms_size(text)
    assert (size.encoding.value, size.parts) == (wanted["enc"], wanted["segments"])


@pytest.mark.parametrize(("given", "wanted"), vectors("O-20"))
def test_o20_numbers(given: dict[str, Any], wanted: dict[str, Any]) -> None:
    found = e164(given["raw"], given["region"] or "")
    match given["n"]:
        case 6:
            assert found == "+525512345678"
        case 8:
            assert isinstance(found, PhoneFault)
            assert found.reason is PhoneReason.EXTENSION
        case 9:
            assert isinstance(found, PhoneFault)
        case _:
            assert found == wanted["e164"]


@pytest.mark.parametrize(("given", "wanted"), vectors("O-20"))
def test_o20_numbers_are_stored_so_or_refused_with_the_field(given: dict[str, Any], wanted: dict[str, Any]) -> None:
    contact = Contact(Channel.SMS, given["raw"])
    event = RecipientEvent("anna", region=given["region"] or "", contacts=(contact,), zone="Europe/Rome")
    fault = check_recipient(event, 1_764_000_000_000, 1_764_000_000_000)
    if given["n"] in (8, 9):
        assert fault is not None
        assert (fault.field, str(fault.reason)) == ("contacts[0].address", "bad_address")
        assert given["raw"] not in f"{fault.value}{fault.remedy}"
        return
    assert fault is None
    arrival = Arrival(1_764_000_000_000, 1_764_000_000_000, "t", 1, "e", "c")
    profile, _ = recipients.apply(None, event, arrival)
    assert profile is not None
    (stored,) = profile.contacts
    assert stored.address == ("+525512345678" if given["n"] == 6 else wanted["e164"])


class TestO21OptOut:
    @pytest.mark.parametrize(("more", "follows"), [(True, Fallback), (False, Dead)])
    async def test_an_opt_out_is_never_tried_again(self, more: bool, follows: type) -> None:
        async with twilio_stage(SmsChannel)() as stage:
            stage.reply(stage.address(1), error(400, 21610, "Attempt to send to unsubscribed recipient"))
            outcome = await stage.adapter.send(send_to(stage, 1))
        assert (outcome.kind, outcome.code, outcome.blames_address) == (OutcomeKind.OPTED_OUT, "21610", False)
        decision = decide(
            outcome.kind,
            outcome.reason,
            attempt=1,
            policy=RetryPolicy(),
            retry_after_s=outcome.retry_after_s,
            spent=True,
            jitter=0.5,
            has_next_step=more,
            more_contacts=False,
            maybe_sent=MaybeSent.RESEND,
        )
        assert isinstance(decision, follows)
        if isinstance(decision, Fallback):
            assert decision.to is Next.STEP

    async def test_another_sender_is_not_silenced_by_it(self) -> None:
        """The provider keeps opt-outs by sender; another sender of ours asks for itself."""
        async with twilio_stage(SmsChannel)() as stage:
            stage.reply(stage.address(1), error(400, 21610, "unsubscribed"))
            await stage.adapter.send(send_to(stage, 1))
            stage.server.say(stage.address(1))
            async with opened(SmsChannel, stage.server, sms_from="+12015550107") as other:
                outcome = await other.send(send_to(stage, 1))
        assert outcome.kind is OutcomeKind.ACCEPTED
