"""The stages of the contract suite: one line for each adapter. Whoever adds an adapter adds its line."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from channels.sms import SmsChannel
from channels.voice import VoiceChannel
from channels.whatsapp import WhatsAppChannel
from tests.channels.cloud_stage import cloud_stage
from tests.channels.fcm_stage import fcm_stage
from tests.channels.sendgrid_stage import sendgrid_stage
from tests.channels.smtp_stage import smtp_stage
from tests.channels.twilio_stage import twilio_stage
from tests.channels.webhook_stage import webhook_stage

Stage = Callable[[], AbstractAsyncContextManager[Any]]

#: Adapters over HTTP, which keep to ``HttpContract`` as well.
HTTP_STAGES: Mapping[str, Stage] = {
    "sms": twilio_stage(SmsChannel),
    "whatsapp": twilio_stage(WhatsAppChannel),
    "whatsapp_cloud": cloud_stage,
    "sendgrid": sendgrid_stage,
    "voice": twilio_stage(VoiceChannel),
    "push": fcm_stage,
    "webhook": webhook_stage,
}

STAGES: Mapping[str, Stage] = {"email": smtp_stage, **HTTP_STAGES}

#: Those whose messages go to whom each address says, so that there is no one provider to log in to.
WITHOUT_PROVIDER = frozenset({"webhook"})
