"""Configuration: one frozen ``Settings``, read once from the environment.

``SECTIONS`` declares every variable as data; ``docs/configuration.md`` is made from it and a test compares the two.
Nothing else in the program reads the environment.
"""

import difflib
import ipaddress
import math
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Self

from app import callers, teams, tokens
from channels.cloud_settings import BASE_URL as CLOUD_URL
from channels.cloud_settings import VERSION as CLOUD_VERSION
from channels.cloud_settings import CloudSettings
from channels.limits import LIMITS, TooLong
from channels.sendgrid_settings import BASE_URL as SENDGRID_URL
from channels.sendgrid_settings import SendGridSettings
from channels.twilio_settings import BASE_URL, MACHINE_DETECTION, TwilioSettings
from schemas import hashing
from schemas.hashing import AddressHash
from schemas.names import Channel, MaybeSent
from schemas.references import MIN_SECRET
from tables import pace, quota

if TYPE_CHECKING:
    from tables.schedule import TimeRules


class Kind(StrEnum):
    """How the text of a variable is read."""

    TEXT = "text"
    INTEGER = "integer"
    SECONDS = "seconds"
    CHOICE = "choice"
    FILE = "file"
    FOLDER = "folder"


class Role(StrEnum):
    """What a worker process does (design: roles)."""

    CORE = "core"
    DELIVERY = "delivery"
    ALL = "all"


class ConfigError(Exception):
    """The environment cannot be used. ``faults`` has one line for each fault: variable, value unless secret, remedy."""

    def __init__(self, faults: list[str]) -> None:
        """Keep every fault, in the order of ``VARIABLES``."""
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable. A secret may come from the file named by ``<name>_FILE``. ``low`` and ``high`` are inclusive."""

    name: str
    kind: Kind
    default: str
    doc: str
    secret: bool = False
    choices: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf


_HOUR = 3600
_DAY = 86400


#: Providers that can stand beside another of their channel.
_BESIDE = ("smtp", "smtp-2", "sendgrid", "twilio", "meta")
_NO_SENDER = "SMTP_FROM: is not set; name the address that mails come from"
_FIRST = ", ".join(f"`{name}`" for name in _BESIDE)


def _too_long(name: str, split: str) -> Variable:
    return Variable(
        f"{name}_TOO_LONG",
        Kind.CHOICE,
        TooLong.CUT.value,
        f"What is done with a text that does not fit. `cut`: it ends in an ellipsis. {split}. `refuse`: none is sent.",
        choices=tuple(TooLong),
    )


SECTIONS: dict[str, tuple[Variable, ...]] = {
    "Kafka": (
        Variable(
            "KAFKA_BOOTSTRAP",
            Kind.TEXT,
            "127.0.0.1:9092",
            "Brokers to begin with: `host:port`, several separated by commas.",
        ),
        Variable(
            "KAFKA_SECURITY",
            Kind.CHOICE,
            "PLAINTEXT",
            "How to talk to the brokers.",
            choices=("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
        ),
        Variable(
            "KAFKA_SASL_MECHANISM",
            Kind.CHOICE,
            "SCRAM-SHA-512",
            "How to log in where `KAFKA_SECURITY` is `SASL_…`.",
            choices=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
        ),
        Variable("KAFKA_USERNAME", Kind.TEXT, "", "User of SASL."),
        Variable("KAFKA_PASSWORD", Kind.TEXT, "", "Password of SASL.", secret=True),
        Variable("KAFKA_CA_FILE", Kind.FILE, "", "PEM file of the authorities to trust for TLS; empty: the system's."),
        Variable("KAFKA_CERT_FILE", Kind.FILE, "", "PEM file of our certificate, for mutual TLS."),
        Variable("KAFKA_KEY_FILE", Kind.FILE, "", "PEM file of the key of our certificate, without a passphrase."),
        Variable(
            "SCHEMA_REGISTRY_URL",
            Kind.TEXT,
            "",
            "A registry with Confluent's API, for events framed by registry id. Empty: single-object encoding alone.",
        ),
        Variable("SCHEMA_REGISTRY_USERNAME", Kind.TEXT, "", "User of the registry."),
        Variable("SCHEMA_REGISTRY_PASSWORD", Kind.TEXT, "", "Password of the registry.", secret=True),
    ),
    "Installation": (
        Variable(
            "REMINDERS_NAMESPACE",
            Kind.TEXT,
            "",
            "Put before all names of topics and groups, with a dot, so that several installations can share a cluster.",
        ),
        Variable(
            "REMINDERS_PARTITIONS",
            Kind.INTEGER,
            "8",
            "Partitions of every topic. Fixed once the topics exist; 24 or more in production.",
            low=1,
            high=1000,
        ),
        Variable(
            "REMINDERS_REPLICATION",
            Kind.INTEGER,
            "1",
            "Copies of every partition. 3 in production, so that one broker may fail.",
            low=1,
            high=9,
        ),
        Variable(
            "REMINDERS_DATA_DIR",
            Kind.FOLDER,
            "./.data/worker",
            "Where the tables lie. One folder for each worker, on a local disk.",
        ),
        Variable(
            "TEAMS",
            Kind.TEXT,
            "",
            "Teams with an intake topic of their own, and the prefix of the ids that each may touch: "
            "`clinic:clinic-,billing:bill-`. A new one means that all workers stop once; see [teams](teams.md).",
        ),
        Variable(
            "TEAM",
            Kind.TEXT,
            "",
            "Team to whose intake topic the command line sends reminders; empty: to `reminders`.",
        ),
    ),
    "Worker": (
        Variable(
            "ADMISSION_WINDOW",
            Kind.INTEGER,
            "200",
            "Deliveries that may be outstanding for a partition and channel.",
            low=1,
            high=100_000,
        ),
        Variable(
            "CATCH_UP_PER_S",
            Kind.INTEGER,
            "0",
            "After downtime: reminders a second, over all workers, until nothing is left that was late when partitions"
            " were taken over; 0: as fast as ADMISSION_WINDOW and the channels allow.",
            low=0,
            high=1_000_000,
        ),
        Variable(
            "LEDGER_PERCENT",
            Kind.INTEGER,
            "5",
            "How much of a processor core the ledger may take to compare events, rows and audit; 0: it does not run.",
            low=0,
            high=50,
        ),
        Variable(
            "SESSION_TIMEOUT_S",
            Kind.SECONDS,
            "15",
            "A worker that is silent for so long loses its partitions. Brokers take 6 s to 30 min by default.",
            low=1,
            high=300,
        ),
        Variable(
            "HEARTBEAT_S", Kind.SECONDS, "1", "How often a worker shows the broker that it lives.", low=0.1, high=60
        ),
        Variable(
            "FENCE_LIMIT_S",
            Kind.SECONDS,
            "5",
            "A worker whose last good heartbeat is older writes nothing more and exits.",
            low=0.5,
            high=300,
        ),
        Variable(
            "PUBLISH_TIMEOUT_S",
            Kind.SECONDS,
            "8",
            "A record that is not acknowledged in this time ends the worker.",
            low=0.5,
            high=300,
        ),
        Variable(
            "WATCHDOG_S",
            Kind.SECONDS,
            "60",
            "A worker ends where something waits and nothing has moved for so long, for a supervisor to start it anew.",
            low=1,
            high=_DAY,
        ),
        Variable(
            "LEASE_S",
            Kind.SECONDS,
            "60",
            "How long a delivery may stay unanswered before it is asked for again.",
            low=0.1,
            high=_DAY,
        ),
    ),
    "Rules": (
        Variable(
            "DEFAULT_MAX_LATENESS_S",
            Kind.SECONDS,
            "86400",
            "A reminder that says nothing of its own expires when it is so late.",
            low=1,
            high=366 * _DAY,
        ),
        Variable(
            "RETENTION_S",
            Kind.SECONDS,
            "604800",
            "How long an ended reminder is kept, so that late duplicates are known.",
            low=1,
        ),
        Variable(
            "REVIEW_S",
            Kind.SECONDS,
            "86400",
            "How often what is paused or may have been sent is listed and counted again.",
            low=1,
        ),
        Variable(
            "MAYBE_SENT",
            Kind.CHOICE,
            "HOLD",
            "What to do where nobody can know whether the provider took a message, unless the reminder says.",
            choices=("HOLD", "RESEND"),
        ),
        Variable("RETRY_MAX_ATTEMPTS", Kind.INTEGER, "5", "Attempts for a step, the first included.", low=1, high=100),
        Variable(
            "RETRY_BASE_S",
            Kind.SECONDS,
            "60",
            "Wait before the second attempt; each further wait is twice as long.",
            low=0.001,
            high=_DAY,
        ),
        Variable(
            "RETRY_CAP_S",
            Kind.SECONDS,
            "3600",
            "Longest wait between two attempts, before the jitter.",
            low=0.001,
            high=30 * _DAY,
        ),
        Variable(
            "GREYLIST_MIN_S",
            Kind.SECONDS,
            "300",
            "Shortest wait after a greylisting answer (450, 451).",
            low=0,
            high=_DAY,
        ),
        Variable(
            "CATEGORIES_FILE",
            Kind.FILE,
            "",
            "TOML file of categories: their legal class, the consent they need, quiet hours and caps they override. "
            "[Its format](recipients.md#categories). A category that is not in it is transactional.",
        ),
        Variable(
            "PRICES_FILE",
            Kind.FILE,
            "",
            "TOML file of what messages cost, by channel, provider and country. [Its format](costs.md). Without it no "
            "cost is told, and a reminder that limits its cost goes by email, push and webhook alone.",
        ),
        Variable(
            "SEAL_KEY",
            Kind.TEXT,
            "",
            "Secret, of 16 characters or more, that [seals](privacy.md) the content of reminders and the contacts of "
            "recipients: each gets a key of its own, wrapped with this one. To change it: `new,old`; the first wraps, "
            "all open. Who loses it loses every text and contact. Empty: they are kept in clear, and an erasure waits "
            "for compaction.",
            secret=True,
        ),
        Variable(
            "SEAL_CONTACTS",
            Kind.CHOICE,
            "on",
            "With `SEAL_KEY`: whether the contacts of recipients are sealed, too. `off` for as long as a worker runs "
            "whose release cannot read such rows ([how](operations.md#change-the-master-key)).",
            choices=("on", "off"),
        ),
        Variable(
            "ADDRESS_HASH_KEY",
            Kind.TEXT,
            "",
            "Secret of the hashes under which addresses are suppressed, of 16 characters or more. To change it: "
            "`2:new,1:old`; the first writes, all are looked up. Empty: hashes without a key, which whoever can read "
            "`suppressions` can try addresses against.",
            secret=True,
        ),
        Variable(
            "SEND_ONLY_TO",
            Kind.TEXT,
            "",
            "For systems on which things are tried out: who alone is sent to, separated by commas; all others end "
            "`SKIPPED` (`not_on_send_only_list`). Entries: an address, a domain (`example.org`; `*.example.org` for "
            "those below it), the beginning of phone numbers (`+4930`), `=` and anything else as it stands, such as a "
            "device's token. Empty: everybody.",
        ),
        Variable(
            "ALL_DAY_HOUR",
            Kind.INTEGER,
            "9",
            "Hour of the wall clock at which a date without a time fires.",
            low=0,
            high=23,
        ),
        Variable(
            "CALENDARS_FILE",
            Kind.FILE,
            "",
            "TOML file of the holiday calendars that reminders may name, described in docs/time.md; empty: none.",
        ),
        Variable(
            "SENDER_NAME",
            Kind.TEXT,
            "",
            "Who sends reminders without a template, of at most 60 characters: at the foot of mails, at the beginning "
            "of text and WhatsApp messages and calls, and as the title of a push that has none. Not the address: that "
            "is each channel's. A category may have its own.",
        ),
        Variable(
            "ANSWER_HINT",
            Kind.TEXT,
            "",
            "How a reader can answer, such as `Questions? Call 01 234 56 78`, of at most 200 characters: at the foot "
            "of mails and WhatsApp messages without a template. A category may have its own.",
        ),
        Variable(
            "TEMPLATES_DIR",
            Kind.FOLDER,
            "",
            "Folder of the [templates](templates.md) that reminders may name. An edit counts within five seconds. The "
            "same for all delivery workers. Empty: the topic `templates` has them.",
        ),
    ),
    "Web": (
        Variable("WEB_BIND", Kind.TEXT, "127.0.0.1", "Address to listen on. Anything but the loopback needs tokens."),
        Variable("WEB_PORT", Kind.INTEGER, "6066", "Port of the core worker's views.", low=1, high=65535),
        Variable(
            "DELIVERY_WEB_PORT",
            Kind.INTEGER,
            "0",
            "Port of the delivery worker's views. 0: `WEB_PORT` + 1.",
            low=0,
            high=65535,
        ),
        Variable(
            "WEB_HOST",
            Kind.TEXT,
            "",
            "Where other workers reach this one. Empty: `WEB_BIND`, or the host's name where that is 0.0.0.0 or ::.",
        ),
        Variable(
            "WEB_TOKEN",
            Kind.TEXT,
            "",
            "Bearer token of the administrator, for the views that show or change reminders.",
            secret=True,
        ),
        Variable(
            "WEB_TOKENS_FILE",
            Kind.FILE,
            "",
            "TOML file of further tokens: hashes, each with a name, a role and, where wanted, a tenant and a prefix of "
            "ids. [Its format](produce/http.md#tokens). Read again when it changes.",
        ),
        Variable(
            "QUOTA_PER_MINUTE",
            Kind.INTEGER,
            "0",
            "Events a minute that one source of one tenant may send by HTTP to one worker. 0: no limit.",
            low=0,
            high=tokens.MAX_QUOTA,
        ),
        Variable(
            "PUBLIC_URL",
            Kind.TEXT,
            "",
            "Public address of the web server, where [links in messages](recipients.md#links-in-messages) lead: to "
            "confirm, to unsubscribe. Needs `CALLBACK_KEY`. Empty: messages carry no links.",
        ),
        Variable(
            "LINK_DAYS",
            Kind.INTEGER,
            "60",
            "How long a link holds after its message was due. The law asks for 30 days of an unsubscribe link.",
            low=30,
            high=730,
        ),
        Variable(
            "CALLER_PER_MINUTE",
            Kind.INTEGER,
            "600",
            "Requests a minute that links and callbacks take from one address of a caller; one that is refused counts "
            "as ten, and what a provider has signed as none. 0: no limit.",
            low=0,
            high=1_000_000,
        ),
        Variable(
            "WEB_PROXIES",
            Kind.TEXT,
            "127.0.0.1,::1",
            "Proxies in front of the web server, as addresses or networks separated by commas: what they say of the "
            "caller's address (`X-Forwarded-For`) is believed.",
        ),
    ),
    "Providers": (
        Variable(
            "CIRCUIT_PERCENT",
            Kind.INTEGER,
            "50",
            "A provider is not called any more when so many of a hundred calls fail. [How](circuits.md).",
            low=1,
            high=100,
        ),
        Variable("CIRCUIT_CALLS", Kind.INTEGER, "20", "Fewer calls than this say nothing.", low=1, high=1_000_000),
        Variable(
            "CIRCUIT_WINDOW_S",
            Kind.SECONDS,
            "30",
            "How far back calls are counted, over all workers.",
            low=1,
            high=_HOUR,
        ),
        Variable(
            "CIRCUIT_PROBE_S",
            Kind.SECONDS,
            "31",
            "Time between two tries of a provider that is not called, over all workers: never more than two a minute.",
            low=0.1,
            high=_DAY,
        ),
        Variable(
            "CIRCUIT_SLOW_S",
            Kind.SECONDS,
            "3",
            "A provider that keeps calls waiting for so long is not the first to be tried while another is beside it.",
            low=0.1,
            high=300,
        ),
        Variable(
            "PROVIDER_RATES",
            Kind.TEXT,
            "",
            "Calls a second that a provider may have, over all workers: `email/smtp=10, sms/twilio=0.5`. No second has "
            "more; a tenth is left unused for it. Those that are not named have no limit.",
        ),
        Variable(
            "PROVIDER_QUOTAS",
            Kind.TEXT,
            "",
            "Calls a day (UTC) that a provider may have, over all workers: `sms/twilio=1000`. What is over it waits "
            "for the next day, or goes by the provider beside it. Each partition has its part, so use many for each.",
        ),
        Variable(
            "PROVIDER_FIRST",
            Kind.TEXT,
            "",
            f"Providers that are tried before the others of their channel, separated by commas: {_FIRST}. Else it is "
            "mail servers before SendGrid, and Twilio before Meta.",
        ),
        Variable(
            "ALERT_WEBHOOK",
            Kind.TEXT,
            "",
            "URL to which an alert is posted when a provider refuses our settings, or fails, and when it works again. "
            "Empty: the log and the metrics alone say so.",
            secret=True,
        ),
    ),
    "Email": (
        Variable("SMTP_HOST", Kind.TEXT, "", "Mail server. Empty: no mails."),
        Variable(
            "SMTP_PORT", Kind.INTEGER, "587", "Its port: 587 with STARTTLS, 465 with implicit TLS.", low=1, high=65535
        ),
        Variable(
            "SMTP_TLS",
            Kind.CHOICE,
            "starttls",
            "How the connection is protected; a server that does not offer it is refused.",
            choices=("starttls", "implicit", "none"),
        ),
        Variable("SMTP_CA_FILE", Kind.FILE, "", "PEM file of the authorities to trust; empty: the system's."),
        Variable("SMTP_USERNAME", Kind.TEXT, "", "User of the mail server; empty: no login."),
        Variable("SMTP_PASSWORD", Kind.TEXT, "", "Password of the mail server.", secret=True),
        Variable("SMTP_FROM", Kind.TEXT, "", "Address of the sender. Needed with a mail server or SendGrid."),
        Variable("SMTP_FROM_NAME", Kind.TEXT, "", "Name of the sender, as readers see it."),
        Variable(
            "SMTP_POOL", Kind.INTEGER, "10", "Connections to the mail server that one worker keeps.", low=1, high=1000
        ),
        Variable(
            "SMTP_TIMEOUT_S",
            Kind.SECONDS,
            "30",
            "Limit of each step of a connection before the final dot.",
            low=0.1,
            high=_HOUR,
        ),
        Variable(
            "SMTP_FINAL_TIMEOUT_S",
            Kind.SECONDS,
            "600",
            "Limit of the answer to the final dot. RFC 5321 asks for ten minutes: a shorter one leaves doubts.",
            low=0.1,
            high=_HOUR,
        ),
        Variable(
            "SMTP_DKIM_KEY_FILE",
            Kind.FILE,
            "",
            "PEM file of the RSA or Ed25519 key that mails are [signed](channels.md#signed-mail) with, without a "
            "passphrase. Empty: the mail server signs, or nobody does.",
        ),
        Variable(
            "SMTP_DKIM_SELECTOR", Kind.TEXT, "", "Under which name the DNS publishes the key: `NAME._domainkey.DOMAIN`."
        ),
        Variable("SMTP_DKIM_DOMAIN", Kind.TEXT, "", "Domain that mails are signed for; empty: that of `SMTP_FROM`."),
        Variable(
            "SMTP_BOUNCE_DOMAIN",
            Kind.TEXT,
            "",
            "Domain of the envelope's senders, each of which names a delivery, so that [what comes back](channels.md"
            "#mail-that-comes-back) says what it is about. Its MX is a server that passes mails on to "
            "`POST /callbacks/mail`. Needs `CALLBACK_KEY` and `SMTP_CALLBACK_TOKEN`. Empty: the sender is `SMTP_FROM`.",
        ),
        Variable(
            "SMTP_UNSUBSCRIBE_ADDRESS",
            Kind.TEXT,
            "",
            "Address to which a mail unsubscribes, named beside the link; passed on as bounces are. Needs `PUBLIC_URL` "
            "and `SMTP_CALLBACK_TOKEN`. Empty: the link alone.",
        ),
        Variable(
            "SMTP_CALLBACK_TOKEN",
            Kind.TEXT,
            "",
            "Bearer token of the server that passes mails on, of 16 characters or more. To change it: `new,old`; all "
            "are taken. Empty: none are taken.",
            secret=True,
        ),
    ),
    "Email, a second server": (
        Variable(
            "SMTP_2_HOST",
            Kind.TEXT,
            "",
            "Mail server beside the first: it takes what cannot have reached that one, and all mails while that one is "
            "slow or not called ([circuits](circuits.md#two-providers-of-one-channel)). Sender, pool and limits are "
            "those above. Empty: none.",
        ),
        Variable("SMTP_2_PORT", Kind.INTEGER, "587", "Its port.", low=1, high=65535),
        Variable(
            "SMTP_2_TLS",
            Kind.CHOICE,
            "starttls",
            "As `SMTP_TLS`.",
            choices=("starttls", "implicit", "none"),
        ),
        Variable("SMTP_2_CA_FILE", Kind.FILE, "", "PEM file of the authorities to trust; empty: the system's."),
        Variable("SMTP_2_USERNAME", Kind.TEXT, "", "User of the second mail server; empty: no login."),
        Variable("SMTP_2_PASSWORD", Kind.TEXT, "", "Password of the second mail server.", secret=True),
    ),
    "Email, SendGrid's API": (
        Variable(
            "SENDGRID_API_KEY",
            Kind.TEXT,
            "",
            "Key of SendGrid's API with the scope `mail.send`: provider `sendgrid`, beside the mail servers or alone "
            "([circuits](circuits.md#two-providers-of-one-channel)). Sender is `SMTP_FROM`. Empty: not used.",
            secret=True,
        ),
        Variable(
            "SENDGRID_EVENT_KEY",
            Kind.TEXT,
            "",
            "Public key with which SendGrid signs its events, as its page shows it "
            "([callbacks](channels.md#news-from-sendgrid)); needs `CALLBACK_KEY`. While it is being changed: "
            "`new,old`. Empty: no events are taken.",
        ),
        Variable(
            "SENDGRID_BASE_URL",
            Kind.TEXT,
            SENDGRID_URL,
            "Where SendGrid's API is; `https://api.eu.sendgrid.com` for a subuser in the EU.",
        ),
        Variable("SENDGRID_CA_FILE", Kind.FILE, "", "PEM file of the authorities to trust; empty: the system's."),
        Variable(
            "SENDGRID_CONNECTIONS",
            Kind.INTEGER,
            "50",
            "Connections, and calls at once, that one worker keeps.",
            low=1,
            high=1000,
        ),
        Variable("SENDGRID_CONNECT_TIMEOUT_S", Kind.SECONDS, "5", "Limit of making a connection.", low=0.1, high=_HOUR),
        Variable("SENDGRID_TIMEOUT_S", Kind.SECONDS, "20", "Limit of a whole call of the API.", low=0.1, high=_HOUR),
    ),
    "Push": (
        Variable(
            "FCM_CREDENTIALS_FILE",
            Kind.FILE,
            "",
            "JSON key of a service account that may send by Firebase Cloud Messaging; read again whenever the login is "
            "renewed. Empty: no pushes.",
        ),
        Variable("FCM_URL", Kind.TEXT, "https://fcm.googleapis.com", "Where FCM is."),
        Variable("FCM_CA_FILE", Kind.FILE, "", "PEM file of the authorities to trust; empty: the system's."),
        Variable("FCM_CONCURRENCY", Kind.INTEGER, "50", "Deliveries at once of one worker.", low=1, high=10_000),
        Variable("FCM_TIMEOUT_S", Kind.SECONDS, "10", "Limit of a request.", low=0.1, high=300),
        Variable(
            "FCM_TOO_LONG",
            Kind.CHOICE,
            "cut",
            "What to do with a push of more than 4,096 bytes: cut its text, or refuse it.",
            choices=("cut", "refuse"),
        ),
        Variable(
            "FCM_ANDROID_CHANNEL", Kind.TEXT, "", "The app's notification channel on Android; empty: its default."
        ),
    ),
    "Webhooks": (
        Variable(
            "WEBHOOK_KEYS",
            Kind.TEXT,
            "",
            "Keys of at least 32 characters, separated by spaces or commas, newest first: each receiver's secrets are "
            "made from them (`python -m app webhook secret URL`). Empty: no webhooks.",
            secret=True,
        ),
        Variable(
            "WEBHOOK_ALLOW",
            Kind.TEXT,
            "",
            "Inner addresses that may be called, over http too: networks or addresses, with a port or not, separated "
            "by commas, such as `10.1.2.0/24, 127.0.0.1:8443`. All other inner addresses are refused.",
        ),
        Variable("WEBHOOK_PORTS", Kind.TEXT, "443", "Ports that may be called, separated by commas."),
        Variable("WEBHOOK_CA_FILE", Kind.FILE, "", "PEM file of authorities to trust besides the system's."),
        Variable("WEBHOOK_CONCURRENCY", Kind.INTEGER, "100", "Calls at once of one worker.", low=1, high=10_000),
        Variable(
            "WEBHOOK_PER_HOST",
            Kind.INTEGER,
            "75",
            "Calls at once to one host and port, so that a slow one leaves room for the others.",
            low=1,
            high=10_000,
        ),
        Variable("WEBHOOK_TIMEOUT_S", Kind.SECONDS, "20", "Limit of a call.", low=0.1, high=300),
        Variable("WEBHOOK_MAX_BYTES", Kind.INTEGER, "20480", "Longest body.", low=1024, high=262_144),
        Variable(
            "WEBHOOK_TOO_LONG",
            Kind.CHOICE,
            "refuse",
            "What to do with a longer one: refuse it, or cut its text.",
            choices=("refuse", "cut"),
        ),
    ),
    "SMS, WhatsApp and calls": (
        Variable("TWILIO_ACCOUNT_SID", Kind.TEXT, "", "Account at Twilio; empty: none of these channels is there."),
        Variable("TWILIO_AUTH_TOKEN", Kind.TEXT, "", "Token of the account.", secret=True),
        Variable(
            "TWILIO_MESSAGING_SERVICE_SID",
            Kind.TEXT,
            "",
            "Messaging service that picks the sender of text messages; `TWILIO_SMS_FROM` beside it fixes the sender.",
        ),
        Variable("TWILIO_SMS_FROM", Kind.TEXT, "", "Sender of text messages: a number, a short code or a name."),
        Variable(
            "TWILIO_SMS_MAX_PARTS",
            Kind.INTEGER,
            str(LIMITS[Channel.SMS].usual),
            "Parts that a text message may cost where it is cut or refused.",
            low=1,
            high=LIMITS[Channel.SMS].most,
        ),
        _too_long("TWILIO_SMS", "`split`: as many parts as the provider takes"),
        Variable("TWILIO_WHATSAPP_FROM", Kind.TEXT, "", "Number that WhatsApp messages come from."),
        Variable(
            "TWILIO_WHATSAPP_TEMPLATES",
            Kind.TEXT,
            "",
            "Templates for recipients who have not written within 24 hours: `category:HX…` separated by commas, `*` "
            "for all other categories. Without one for its category a message goes on to the next contact or step.",
        ),
        Variable(
            "TWILIO_WHATSAPP_VARIABLES",
            Kind.TEXT,
            "1=title,2=text",
            "Variables of the templates and their values: `title`, `text`, `name`, `reply` (how to answer), `data.KEY` "
            "of the reminder.",
        ),
        _too_long("TWILIO_WHATSAPP", "`split`: as `cut`"),
        Variable("TWILIO_VOICE_FROM", Kind.TEXT, "", "Number that calls come from."),
        Variable("TWILIO_VOICE_LANGUAGE", Kind.TEXT, "en-US", "Language that the text is read in."),
        Variable("TWILIO_VOICE_NAME", Kind.TEXT, "", "Voice that reads it, as Twilio names it; empty: the language's."),
        Variable("TWILIO_VOICE_REPEAT", Kind.INTEGER, "2", "How often the text is read again.", low=0, high=5),
        Variable(
            "TWILIO_VOICE_CONFIRM",
            Kind.TEXT,
            "Press 1 to confirm.",
            "What is said after the text, where a key is waited for: with `TWILIO_CALLBACK_URL`.",
        ),
        Variable(
            "TWILIO_REPLY_CONFIRM",
            Kind.TEXT,
            "Reply OK {code} to confirm.",
            "What stands below a text or WhatsApp message that wants an answer, with `TWILIO_CALLBACK_URL`; `{code}` "
            "is the number that tells it from others. Empty: nothing.",
        ),
        Variable(
            "TWILIO_REPLY_HELP",
            Kind.TEXT,
            "Automatic reminders. Reply STOP to end them.",
            "What is answered to HELP, unless Twilio has answered it already.",
        ),
        Variable("TWILIO_VOICE_RING_S", Kind.INTEGER, "30", "Seconds that the telephone rings.", low=5, high=600),
        Variable(
            "TWILIO_VOICE_MACHINE_DETECTION",
            Kind.CHOICE,
            "enable",
            "Whether Twilio listens for an answering machine, and whether until its tone.",
            choices=MACHINE_DETECTION,
        ),
        _too_long("TWILIO_VOICE", "`split`: as `cut`"),
        Variable(
            "TWILIO_CALLBACK_URL",
            Kind.TEXT,
            "",
            "Public address of the web server, where Twilio sends news of messages and calls; empty: it sends none.",
        ),
        Variable(
            "CALLBACK_KEY",
            Kind.TEXT,
            "",
            "Secret, of 16 characters or more, with which the addresses for news and the links in messages name a "
            "delivery to nobody but us; needed with `TWILIO_CALLBACK_URL`, `WHATSAPP_APP_SECRET`, "
            "`SENDGRID_EVENT_KEY`, `SMTP_BOUNCE_DOMAIN` and `PUBLIC_URL`. To change it: `new,old`; the first seals, "
            "all open. Without the old one its links are dead.",
            secret=True,
        ),
        Variable("TWILIO_BASE_URL", Kind.TEXT, BASE_URL, "Where Twilio's API is."),
        Variable("TWILIO_CA_FILE", Kind.FILE, "", "PEM file of the authorities to trust; empty: the system's."),
        Variable(
            "TWILIO_CONNECTIONS",
            Kind.INTEGER,
            "50",
            "Connections, and calls at once, that one worker keeps for each of the three channels.",
            low=1,
            high=1000,
        ),
        Variable("TWILIO_CONNECT_TIMEOUT_S", Kind.SECONDS, "5", "Limit of making a connection.", low=0.1, high=_HOUR),
        Variable("TWILIO_TIMEOUT_S", Kind.SECONDS, "20", "Limit of a whole call of the API.", low=0.1, high=_HOUR),
    ),
    "WhatsApp, Meta's own API": (
        Variable(
            "WHATSAPP_PHONE_ID",
            Kind.TEXT,
            "",
            "Id of the number that messages come from, as Meta's Cloud API names it. Provider `meta`; where Twilio "
            "sends WhatsApp messages too it stands beside it ([circuits](circuits.md#two-providers-of-one-channel)). "
            "Empty: not used.",
        ),
        Variable("WHATSAPP_TOKEN", Kind.TEXT, "", "Access token, best of a system user.", secret=True),
        Variable(
            "WHATSAPP_APP_SECRET",
            Kind.TEXT,
            "",
            "Secret of the app at Meta, with which its news and what people write are signed "
            "([callbacks](channels.md#news-from-meta)); needs `CALLBACK_KEY`. Empty: none are taken.",
            secret=True,
        ),
        Variable(
            "WHATSAPP_VERIFY_TOKEN",
            Kind.TEXT,
            "",
            "What was entered as verify token beside the address for news; Meta says it once, to learn that the "
            "address is ours.",
            secret=True,
        ),
        Variable(
            "WHATSAPP_TEMPLATES",
            Kind.TEXT,
            "",
            "Templates for recipients who have not written within 24 hours: `category:name/language` separated by "
            "commas, such as `*:visit_reminder/en_US`; `*` for all other categories. Without one for its category a "
            "message goes on to the next contact or step.",
        ),
        Variable(
            "WHATSAPP_VARIABLES",
            Kind.TEXT,
            "1=title,2=text",
            "Variables of the templates' bodies, by place or by name, and their values: `title`, `text`, `name`, "
            "`reply` (how to answer), `data.KEY` of the reminder. Empty: they have none.",
        ),
        _too_long("WHATSAPP", "`split`: as `cut`"),
        Variable("WHATSAPP_BASE_URL", Kind.TEXT, CLOUD_URL, "Where Meta's Graph API is."),
        Variable("WHATSAPP_API_VERSION", Kind.TEXT, CLOUD_VERSION, "Its version."),
        Variable("WHATSAPP_CA_FILE", Kind.FILE, "", "PEM file of the authorities to trust; empty: the system's."),
        Variable(
            "WHATSAPP_CONNECTIONS",
            Kind.INTEGER,
            "50",
            "Connections, and calls at once, that one worker keeps.",
            low=1,
            high=1000,
        ),
        Variable("WHATSAPP_CONNECT_TIMEOUT_S", Kind.SECONDS, "5", "Limit of making a connection.", low=0.1, high=_HOUR),
        Variable("WHATSAPP_TIMEOUT_S", Kind.SECONDS, "20", "Limit of a whole call of the API.", low=0.1, high=_HOUR),
    ),
    "Logs": (
        Variable(
            "LOG_LEVEL",
            Kind.CHOICE,
            "INFO",
            "Least severity that is written.",
            choices=("DEBUG", "INFO", "WARNING", "ERROR"),
        ),
        Variable(
            "LOG_FORMAT",
            Kind.CHOICE,
            "json",
            "`json`: one object a line. `text`: for a terminal.",
            choices=("json", "text"),
        ),
    ),
}

VARIABLES: tuple[Variable, ...] = tuple(variable for section in SECTIONS.values() for variable in section)
_BY_NAME = {variable.name: variable for variable in VARIABLES}

_NAMESPACE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,99}\Z")
_HOST_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:,/\[\]]+):([0-9]{1,5})\Z")


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """How to reach the brokers."""

    bootstrap: str
    security: str
    sasl_mechanism: str
    username: str
    password: str = field(repr=False)
    ca_file: Path | None
    cert_file: Path | None
    key_file: Path | None

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security in ("SSL", "SASL_SSL")

    @property
    def sasl(self) -> bool:
        """Whether clients log in."""
        return self.security in ("SASL_PLAINTEXT", "SASL_SSL")


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """How to reach the schema registry; without a ``url`` there is none."""

    url: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Fencing:
    """The times that keep a worker that lost its partitions from writing: ``limit_s + publish_s < session_s``."""

    session_s: float
    heartbeat_s: float
    limit_s: float
    publish_s: float


@dataclass(frozen=True, slots=True)
class Rules:
    """What the lifecycle takes where a reminder does not say."""

    lease_s: float
    retention_s: float
    review_s: float
    max_lateness_s: float
    maybe_sent: MaybeSent
    all_day_hour: int
    address_hash: AddressHash
    #: Master keys of sealed contents, the one in use first; none: contents are in clear.
    seal_keys: tuple[str, ...] = field(repr=False)
    seal_contacts: bool
    send_only_to: str
    categories_file: Path | None
    prices_file: Path | None
    calendars_file: Path | None
    templates_dir: Path | None
    sender_name: str
    answer_hint: str

    def times(self) -> "TimeRules":
        """Return what schedules go by, the calendars of the file read now. Raises ValueError, a line for each fault."""
        from tables import calendars, schedule  # noqa: PLC0415 - brings dateutil and cronsim, which few commands need

        found = calendars.read(self.calendars_file.read_text("utf-8")) if self.calendars_file else {}
        return schedule.TimeRules(self.all_day_hour, found)


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """Back-off of failed attempts."""

    max_attempts: int
    base_s: float
    cap_s: float
    greylist_min_s: float


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be under way at once, and how long it may stand still."""

    admission_window: int
    catch_up_per_s: int
    ledger_percent: int
    watchdog_s: float


@dataclass(frozen=True, slots=True)
class CircuitSettings:
    """When a provider is not called any more, and who is told."""

    percent: int
    calls: int
    window_s: float
    probe_s: float
    slow_s: float
    rates: str
    quotas: str
    first: tuple[str, ...]
    alert_webhook: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class WebSettings:
    """Where the views listen and how other workers reach them. ``host`` is never empty."""

    bind: str
    port: int
    delivery_port: int
    host: str
    token: str = field(repr=False)
    tokens_file: Path | None
    quota_per_minute: int
    public_url: str
    link_days: int
    caller_per_minute: int
    proxies: str


@dataclass(frozen=True, slots=True)
class SmtpRelay:
    """How to reach the mail server beside the first; without a ``host`` there is none."""

    host: str
    port: int
    tls: str
    ca_file: Path | None
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """How to reach the mail server."""

    host: str
    port: int
    tls: str
    ca_file: Path | None
    username: str
    password: str = field(repr=False)
    sender: str
    sender_name: str
    pool: int
    timeout_s: float
    final_timeout_s: float
    dkim_key_file: Path | None
    dkim_selector: str
    dkim_domain: str
    bounce_domain: str
    unsubscribe_address: str
    callback_tokens: tuple[str, ...] = field(repr=False)
    second: SmtpRelay


@dataclass(frozen=True, slots=True)
class PushSettings:
    """How FCM is reached; without a ``credentials_file`` there are no pushes."""

    credentials_file: Path | None
    url: str
    ca_file: Path | None
    concurrency: int
    timeout_s: float
    too_long: str
    android_channel: str


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """How receivers of webhooks are called; without ``keys`` there are none."""

    keys: tuple[str, ...] = field(repr=False)
    allow: str
    ports: str
    ca_file: Path | None
    concurrency: int
    per_host: int
    timeout_s: float
    max_bytes: int
    too_long: str


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is logged, and how."""

    level: str
    format: str


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the environment says. ``shown`` holds the texts as read, secrets left out; ``secrets`` those
    alone, by their variables."""

    kafka: KafkaSettings
    registry: RegistrySettings
    namespace: str
    partitions: int
    replication: int
    data_dir: Path
    teams: tuple[teams.Team, ...]
    team: str
    fencing: Fencing
    rules: Rules
    retry: RetrySettings
    limits: Limits
    circuits: CircuitSettings
    web: WebSettings
    smtp: SmtpSettings
    push: PushSettings
    webhook: WebhookSettings
    sendgrid: SendGridSettings
    twilio: TwilioSettings
    cloud: CloudSettings
    callback_keys: tuple[str, ...] = field(repr=False)
    log: LogSettings
    shown: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    given: tuple[tuple[str, str], ...] = field(default=(), repr=False, compare=False)
    secrets: tuple[tuple[str, str], ...] = field(default=(), repr=False, compare=False)

    def reread(self) -> Self:
        """Return the settings of the same environment, with what its files hold now. Raises ConfigError with every
        fault at once."""
        return type(self).load(dict(self.given))

    def secret_files(self) -> tuple[tuple[str, Path], ...]:
        """Return the files that hold a secret each, by the name of its variable, and those that are looked at as they
        are."""
        given = dict(self.given)
        named = ((v.name, given.get(f"{v.name}_FILE", "").strip()) for v in VARIABLES if v.secret)
        whole = ((name, given.get(name, "").strip()) for name in ("FCM_CREDENTIALS_FILE", "SMTP_DKIM_KEY_FILE"))
        return tuple((name, Path(path)) for name, path in [*named, *whole] if path)

    @classmethod
    def load(cls, environ: Mapping[str, str], needs: Role | None = None) -> Self:
        """Return the settings in ``environ``; ``needs``: also what a worker of that role cannot do without.

        Raises ConfigError with every fault at once.
        """
        read = _Reader(environ)
        settings = cls(
            kafka=KafkaSettings(
                bootstrap=read.text("KAFKA_BOOTSTRAP"),
                security=read.text("KAFKA_SECURITY"),
                sasl_mechanism=read.text("KAFKA_SASL_MECHANISM"),
                username=read.text("KAFKA_USERNAME"),
                password=read.text("KAFKA_PASSWORD"),
                ca_file=read.file("KAFKA_CA_FILE"),
                cert_file=read.file("KAFKA_CERT_FILE"),
                key_file=read.file("KAFKA_KEY_FILE"),
            ),
            registry=RegistrySettings(
                url=read.text("SCHEMA_REGISTRY_URL"),
                username=read.text("SCHEMA_REGISTRY_USERNAME"),
                password=read.text("SCHEMA_REGISTRY_PASSWORD"),
            ),
            namespace=read.text("REMINDERS_NAMESPACE"),
            partitions=read.integer("REMINDERS_PARTITIONS"),
            replication=read.integer("REMINDERS_REPLICATION"),
            data_dir=Path(read.text("REMINDERS_DATA_DIR")),
            teams=read.teams("TEAMS"),
            team=read.text("TEAM"),
            fencing=Fencing(
                session_s=read.seconds("SESSION_TIMEOUT_S"),
                heartbeat_s=read.seconds("HEARTBEAT_S"),
                limit_s=read.seconds("FENCE_LIMIT_S"),
                publish_s=read.seconds("PUBLISH_TIMEOUT_S"),
            ),
            rules=Rules(
                lease_s=read.seconds("LEASE_S"),
                retention_s=read.seconds("RETENTION_S"),
                review_s=read.seconds("REVIEW_S"),
                max_lateness_s=read.seconds("DEFAULT_MAX_LATENESS_S"),
                maybe_sent=MaybeSent(read.text("MAYBE_SENT")),
                all_day_hour=read.integer("ALL_DAY_HOUR"),
                address_hash=read.address_hash("ADDRESS_HASH_KEY"),
                seal_keys=tuple(key for part in read.text("SEAL_KEY").split(",") if (key := part.strip())),
                seal_contacts=read.text("SEAL_CONTACTS") == "on",
                send_only_to=read.text("SEND_ONLY_TO"),
                categories_file=read.file("CATEGORIES_FILE"),
                prices_file=read.file("PRICES_FILE"),
                calendars_file=read.file("CALENDARS_FILE"),
                templates_dir=read.file("TEMPLATES_DIR"),
                sender_name=read.text("SENDER_NAME"),
                answer_hint=read.text("ANSWER_HINT"),
            ),
            retry=RetrySettings(
                max_attempts=read.integer("RETRY_MAX_ATTEMPTS"),
                base_s=read.seconds("RETRY_BASE_S"),
                cap_s=read.seconds("RETRY_CAP_S"),
                greylist_min_s=read.seconds("GREYLIST_MIN_S"),
            ),
            limits=Limits(
                admission_window=read.integer("ADMISSION_WINDOW"),
                catch_up_per_s=read.integer("CATCH_UP_PER_S"),
                ledger_percent=read.integer("LEDGER_PERCENT"),
                watchdog_s=read.seconds("WATCHDOG_S"),
            ),
            circuits=CircuitSettings(
                percent=read.integer("CIRCUIT_PERCENT"),
                calls=read.integer("CIRCUIT_CALLS"),
                window_s=read.seconds("CIRCUIT_WINDOW_S"),
                probe_s=read.seconds("CIRCUIT_PROBE_S"),
                slow_s=read.seconds("CIRCUIT_SLOW_S"),
                rates=read.text("PROVIDER_RATES"),
                quotas=read.text("PROVIDER_QUOTAS"),
                first=tuple(name for part in read.text("PROVIDER_FIRST").split(",") if (name := part.strip())),
                alert_webhook=read.text("ALERT_WEBHOOK"),
            ),
            web=WebSettings(
                bind=read.text("WEB_BIND"),
                port=read.integer("WEB_PORT"),
                delivery_port=read.integer("DELIVERY_WEB_PORT") or read.integer("WEB_PORT") + 1,
                host=read.text("WEB_HOST") or _reachable(read.text("WEB_BIND")),
                token=read.text("WEB_TOKEN"),
                tokens_file=read.file("WEB_TOKENS_FILE"),
                quota_per_minute=read.integer("QUOTA_PER_MINUTE"),
                public_url=read.text("PUBLIC_URL"),
                link_days=read.integer("LINK_DAYS"),
                caller_per_minute=read.integer("CALLER_PER_MINUTE"),
                proxies=read.text("WEB_PROXIES"),
            ),
            smtp=SmtpSettings(
                host=read.text("SMTP_HOST"),
                port=read.integer("SMTP_PORT"),
                tls=read.text("SMTP_TLS"),
                ca_file=read.file("SMTP_CA_FILE"),
                username=read.text("SMTP_USERNAME"),
                password=read.text("SMTP_PASSWORD"),
                sender=read.text("SMTP_FROM"),
                sender_name=read.text("SMTP_FROM_NAME"),
                pool=read.integer("SMTP_POOL"),
                timeout_s=read.seconds("SMTP_TIMEOUT_S"),
                final_timeout_s=read.seconds("SMTP_FINAL_TIMEOUT_S"),
                dkim_key_file=read.file("SMTP_DKIM_KEY_FILE"),
                dkim_selector=read.text("SMTP_DKIM_SELECTOR"),
                dkim_domain=read.text("SMTP_DKIM_DOMAIN"),
                bounce_domain=read.text("SMTP_BOUNCE_DOMAIN"),
                unsubscribe_address=read.text("SMTP_UNSUBSCRIBE_ADDRESS"),
                callback_tokens=tuple(
                    token for part in read.text("SMTP_CALLBACK_TOKEN").split(",") if (token := part.strip())
                ),
                second=SmtpRelay(
                    host=read.text("SMTP_2_HOST"),
                    port=read.integer("SMTP_2_PORT"),
                    tls=read.text("SMTP_2_TLS"),
                    ca_file=read.file("SMTP_2_CA_FILE"),
                    username=read.text("SMTP_2_USERNAME"),
                    password=read.text("SMTP_2_PASSWORD"),
                ),
            ),
            push=PushSettings(
                credentials_file=read.file("FCM_CREDENTIALS_FILE"),
                url=read.text("FCM_URL"),
                ca_file=read.file("FCM_CA_FILE"),
                concurrency=read.integer("FCM_CONCURRENCY"),
                timeout_s=read.seconds("FCM_TIMEOUT_S"),
                too_long=read.text("FCM_TOO_LONG"),
                android_channel=read.text("FCM_ANDROID_CHANNEL"),
            ),
            webhook=WebhookSettings(
                keys=tuple(read.text("WEBHOOK_KEYS").replace(",", " ").split()),
                allow=read.text("WEBHOOK_ALLOW"),
                ports=read.text("WEBHOOK_PORTS"),
                ca_file=read.file("WEBHOOK_CA_FILE"),
                concurrency=read.integer("WEBHOOK_CONCURRENCY"),
                per_host=read.integer("WEBHOOK_PER_HOST"),
                timeout_s=read.seconds("WEBHOOK_TIMEOUT_S"),
                max_bytes=read.integer("WEBHOOK_MAX_BYTES"),
                too_long=read.text("WEBHOOK_TOO_LONG"),
            ),
            sendgrid=_sendgrid(read),
            twilio=_twilio(read),
            cloud=_cloud(read),
            callback_keys=tuple(key for part in read.text("CALLBACK_KEY").split(",") if (key := part.strip())),
            log=LogSettings(level=read.text("LOG_LEVEL"), format=read.text("LOG_FORMAT")),
            shown=tuple(read.shown()),
            given=tuple(
                (n, text) for n, text in environ.items() if n in _BY_NAME or n.removesuffix("_FILE") in _BY_NAME
            ),
            secrets=tuple((v.name, text) for v in VARIABLES if v.secret and (text := read.text(v.name))),
        )
        faults = read.faults + [fault for name, fault in _between(settings, needs) if name not in read.wrong]
        if faults:
            raise ConfigError(faults)
        return settings


def _twilio(read: "_Reader") -> TwilioSettings:
    return TwilioSettings(
        account_sid=read.text("TWILIO_ACCOUNT_SID"),
        auth_token=read.text("TWILIO_AUTH_TOKEN"),
        messaging_service_sid=read.text("TWILIO_MESSAGING_SERVICE_SID"),
        sms_from=read.text("TWILIO_SMS_FROM"),
        sms_max_parts=read.integer("TWILIO_SMS_MAX_PARTS"),
        sms_too_long=TooLong(read.text("TWILIO_SMS_TOO_LONG")),
        whatsapp_from=read.text("TWILIO_WHATSAPP_FROM"),
        whatsapp_templates=read.text("TWILIO_WHATSAPP_TEMPLATES"),
        whatsapp_variables=read.text("TWILIO_WHATSAPP_VARIABLES"),
        whatsapp_too_long=TooLong(read.text("TWILIO_WHATSAPP_TOO_LONG")),
        voice_from=read.text("TWILIO_VOICE_FROM"),
        voice_language=read.text("TWILIO_VOICE_LANGUAGE"),
        voice_name=read.text("TWILIO_VOICE_NAME"),
        voice_repeat=read.integer("TWILIO_VOICE_REPEAT"),
        voice_confirm=read.text("TWILIO_VOICE_CONFIRM"),
        reply_confirm=read.text("TWILIO_REPLY_CONFIRM"),
        reply_help=read.text("TWILIO_REPLY_HELP"),
        voice_ring_s=read.integer("TWILIO_VOICE_RING_S"),
        voice_machine_detection=read.text("TWILIO_VOICE_MACHINE_DETECTION"),
        voice_too_long=TooLong(read.text("TWILIO_VOICE_TOO_LONG")),
        callback_url=read.text("TWILIO_CALLBACK_URL"),
        base_url=read.text("TWILIO_BASE_URL"),
        ca_file=read.file("TWILIO_CA_FILE"),
        connections=read.integer("TWILIO_CONNECTIONS"),
        connect_timeout_s=read.seconds("TWILIO_CONNECT_TIMEOUT_S"),
        timeout_s=read.seconds("TWILIO_TIMEOUT_S"),
    )


def _sendgrid(read: "_Reader") -> SendGridSettings:
    return SendGridSettings(
        api_key=read.text("SENDGRID_API_KEY"),
        sender=read.text("SMTP_FROM"),
        sender_name=read.text("SMTP_FROM_NAME"),
        event_keys=tuple(key for part in read.text("SENDGRID_EVENT_KEY").split(",") if (key := part.strip())),
        base_url=read.text("SENDGRID_BASE_URL"),
        ca_file=read.file("SENDGRID_CA_FILE"),
        connections=read.integer("SENDGRID_CONNECTIONS"),
        connect_timeout_s=read.seconds("SENDGRID_CONNECT_TIMEOUT_S"),
        timeout_s=read.seconds("SENDGRID_TIMEOUT_S"),
    )


def _cloud(read: "_Reader") -> CloudSettings:
    return CloudSettings(
        phone_id=read.text("WHATSAPP_PHONE_ID"),
        token=read.text("WHATSAPP_TOKEN"),
        app_secret=read.text("WHATSAPP_APP_SECRET"),
        verify_token=read.text("WHATSAPP_VERIFY_TOKEN"),
        templates=read.text("WHATSAPP_TEMPLATES"),
        variables=read.text("WHATSAPP_VARIABLES"),
        too_long=TooLong(read.text("WHATSAPP_TOO_LONG")),
        base_url=read.text("WHATSAPP_BASE_URL"),
        api_version=read.text("WHATSAPP_API_VERSION"),
        ca_file=read.file("WHATSAPP_CA_FILE"),
        connections=read.integer("WHATSAPP_CONNECTIONS"),
        connect_timeout_s=read.seconds("WHATSAPP_CONNECT_TIMEOUT_S"),
        timeout_s=read.seconds("WHATSAPP_TIMEOUT_S"),
    )


class _Reader:
    """Reads all variables first, so that no fault hides another; a faulty variable counts as its default."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.faults: list[str] = []
        self.wrong: set[str] = set()
        self._origin: dict[str, str] = {}
        self._texts = {variable.name: self._read(variable, environ) for variable in VARIABLES}

    def _fault(self, variable: Variable, text: str, remedy: str) -> str:
        shown = "" if variable.secret else f"={text!r}"
        self.faults.append(f"{variable.name}{shown}: {remedy}")
        self.wrong.add(variable.name)
        return variable.default

    def _read(self, variable: Variable, environ: Mapping[str, str]) -> str:
        text = environ.get(variable.name, "").strip()
        path = environ.get(f"{variable.name}_FILE", "").strip() if variable.secret else ""
        self._origin[variable.name] = "environment" if text else "default"
        if path:
            self._origin[variable.name] = f"file {path}"
            if text:
                return self._fault(variable, "", f"is set twice; unset it or {variable.name}_FILE")
            try:
                text = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as exc:
                return self._fault(
                    variable,
                    "",
                    f"{variable.name}_FILE={path!r} cannot be read ({_why(exc)}); name a readable text file",
                )
            if not text:
                return self._fault(variable, "", f"{variable.name}_FILE={path!r} is empty; put the secret into it")
        if not text:
            return variable.default
        remedy = _wrong(variable, text)
        return self._fault(variable, text, remedy) if remedy else text

    def text(self, name: str) -> str:
        return self._texts[name]

    def integer(self, name: str) -> int:
        return int(self._texts[name])

    def seconds(self, name: str) -> float:
        return float(self._texts[name])

    def file(self, name: str) -> Path | None:
        return Path(self._texts[name]) if self._texts[name] else None

    def teams(self, name: str) -> tuple[teams.Team, ...]:
        try:
            return teams.parse(self._texts[name])
        except ValueError as exc:
            self._fault(_BY_NAME[name], self._texts[name], str(exc))
            return ()

    def address_hash(self, name: str) -> AddressHash:
        try:
            return hashing.parse(self._texts[name])
        except ValueError as exc:
            self._fault(_BY_NAME[name], "", str(exc))
            return AddressHash()

    def shown(self) -> Iterator[tuple[str, str]]:
        for variable in VARIABLES:
            text = self._texts[variable.name]
            if variable.secret:
                text = f"set ({self._origin[variable.name]})" if text else ""
            yield variable.name, text


def _wrong(variable: Variable, text: str) -> str:
    """Return what is wrong with the text of a variable and what to do, or nothing."""
    match variable.kind:
        case Kind.CHOICE if text not in variable.choices:
            return f"use one of {', '.join(variable.choices)}"
        case Kind.INTEGER | Kind.SECONDS:
            number = _number(variable.kind, text)
            if number is None:
                return (
                    "use a whole number"
                    if variable.kind is Kind.INTEGER
                    else "use a number of seconds, such as 60 or 0.5"
                )
            if not variable.low <= number <= variable.high:
                return f"use a number {_range(variable)}"
        case Kind.FILE:
            try:
                Path(text).read_bytes()
            except OSError as exc:
                return f"cannot be read ({_why(exc)}); name a readable file"
    return ""


def _number(kind: Kind, text: str) -> float | None:
    try:
        number = int(text) if kind is Kind.INTEGER else float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _range(variable: Variable) -> str:
    if variable.high == math.inf:
        return f"of at least {variable.low:g}"
    return f"from {variable.low:.15g} to {variable.high:.15g}"


def _why(exc: Exception) -> str:
    return (exc.strerror or type(exc).__name__) if isinstance(exc, OSError) else "not UTF-8 text"


def _reachable(bind: str) -> str:
    """Return the host to put into the URL of a server that listens on ``bind``."""
    if bind in ("0.0.0.0", "::", "*"):  # noqa: S104 - compared, not bound
        return socket.gethostname()
    return f"[{bind}]" if ":" in bind and not bind.startswith("[") else bind


def is_loopback(host: str) -> bool:
    """Return whether a host name or address can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _between(settings: Settings, needs: Role | None) -> Iterator[tuple[str, str]]:
    """Yield the faults that lie between variables, with the variable that each belongs to."""
    yield from _between_kafka(settings.kafka)
    registry, web, smtp, fencing, retry = (
        settings.registry,
        settings.web,
        settings.smtp,
        settings.fencing,
        settings.retry,
    )
    if registry.url and not registry.url.startswith(("http://", "https://")):
        yield (
            "SCHEMA_REGISTRY_URL",
            f"SCHEMA_REGISTRY_URL={registry.url!r}: use a URL that begins with http:// or https://",
        )
    if settings.namespace and not _NAMESPACE.match(settings.namespace):
        yield (
            "REMINDERS_NAMESPACE",
            f"REMINDERS_NAMESPACE={settings.namespace!r}: use up to 100 of letters, digits, _ and -",
        )
    yield from _between_teams(settings)
    session = fencing.session_s
    if fencing.limit_s + fencing.publish_s >= session:
        both = f"FENCE_LIMIT_S='{fencing.limit_s:g}' + PUBLISH_TIMEOUT_S='{fencing.publish_s:g}'"
        yield (
            "FENCE_LIMIT_S",
            f"{both}: must be less than SESSION_TIMEOUT_S='{session:g}'; shorten one or lengthen the session",
        )
    if fencing.heartbeat_s * 2 > fencing.limit_s:
        yield (
            "HEARTBEAT_S",
            f"HEARTBEAT_S='{fencing.heartbeat_s:g}': use at most half of FENCE_LIMIT_S='{fencing.limit_s:g}'",
        )
    if retry.cap_s < retry.base_s:
        yield "RETRY_CAP_S", f"RETRY_CAP_S='{retry.cap_s:g}': use at least RETRY_BASE_S='{retry.base_s:g}'"
    yield from _between_rules(settings.rules)
    yield from _between_circuits(settings.circuits, settings.partitions)
    if not is_loopback(web.bind) and not web.token and web.tokens_file is None:
        yield (
            "WEB_BIND",
            f"WEB_BIND={web.bind!r}: others can reach it; set WEB_TOKEN or WEB_TOKENS_FILE, or use 127.0.0.1",
        )
    if web.tokens_file is not None:
        try:
            tokens.load(web.tokens_file)
        except tokens.Faulty as exc:
            for fault in exc.faults:
                yield "WEB_TOKENS_FILE", f"WEB_TOKENS_FILE={str(web.tokens_file)!r}: {fault}"
    if web.delivery_port == web.port:
        yield "DELIVERY_WEB_PORT", f"DELIVERY_WEB_PORT='{web.delivery_port}': is WEB_PORT already; use another"
    if web.delivery_port > 65535:
        yield "WEB_PORT", "WEB_PORT='65535': leaves no port after it for the delivery worker; set DELIVERY_WEB_PORT"
    yield from _between_smtp(smtp)
    yield from _between_push(settings.push)
    yield from _between_callbacks(settings)
    yield from _between_webhook(settings.webhook)
    yield from _own_faults("SENDGRID", settings.sendgrid)
    yield from _own_faults("TWILIO", settings.twilio)
    yield from _own_faults("WHATSAPP", settings.cloud)
    yield from _needed(settings, needs)


def _needed(settings: Settings, needs: Role | None) -> Iterator[tuple[str, str]]:
    smtp = settings.smtp
    if settings.sendgrid.api_key and not smtp.sender:
        yield "SMTP_FROM", _NO_SENDER
    if needs in (Role.DELIVERY, Role.ALL):
        others = (
            settings.webhook.keys,
            settings.push.credentials_file,
            settings.twilio.account_sid,
            settings.cloud.phone_id,
            settings.sendgrid.api_key,
        )
        alone = not any(others)
        if not smtp.host and alone:
            yield "SMTP_HOST", "SMTP_HOST: is not set; name the mail server"
        if not smtp.sender and not settings.sendgrid.api_key and (smtp.host or alone):
            yield "SMTP_FROM", _NO_SENDER


def _between_circuits(circuits: CircuitSettings, partitions: int) -> Iterator[tuple[str, str]]:
    try:
        pace.parse(circuits.rates)
    except ValueError as wrong:
        yield "PROVIDER_RATES", f"PROVIDER_RATES: {wrong}"
    try:
        for name, calls in quota.parse(circuits.quotas).items():
            if calls < partitions:
                least = f"use at least REMINDERS_PARTITIONS={partitions}, for each partition has its part"
                yield "PROVIDER_QUOTAS", f"PROVIDER_QUOTAS: '{name}={calls}': {least}"
    except ValueError as wrong:
        yield "PROVIDER_QUOTAS", f"PROVIDER_QUOTAS: {wrong}"
    if unknown := [name for name in circuits.first if name not in _BESIDE]:
        yield "PROVIDER_FIRST", f"PROVIDER_FIRST: {unknown[0]!r}: use names of {', '.join(_BESIDE)}"
    if circuits.alert_webhook and not circuits.alert_webhook.startswith(("http://", "https://")):
        yield "ALERT_WEBHOOK", "ALERT_WEBHOOK: use a URL that begins with http:// or https://"


def _between_rules(rules: Rules) -> Iterator[tuple[str, str]]:
    if rules.categories_file is not None:
        from app import categories  # noqa: PLC0415 - brings the rules of consent, which few commands need

        try:
            categories.load(rules.categories_file)
        except categories.Faulty as exc:
            for fault in exc.faults:
                yield "CATEGORIES_FILE", f"CATEGORIES_FILE={str(rules.categories_file)!r}: {fault}"
    if rules.prices_file is not None:
        from app import prices  # noqa: PLC0415 - few commands need it

        try:
            prices.load(rules.prices_file)
        except prices.Faulty as exc:
            for fault in exc.faults:
                yield "PRICES_FILE", f"PRICES_FILE={str(rules.prices_file)!r}: {fault}"
    if rules.send_only_to:
        from channels import send_only  # noqa: PLC0415 - brings what checks mail addresses, which few need

        for fault in send_only.read(rules.send_only_to)[1]:
            yield "SEND_ONLY_TO", f"SEND_ONLY_TO: {fault}"
    for name, line, most in (("SENDER_NAME", rules.sender_name, 60), ("ANSWER_HINT", rules.answer_hint, 200)):
        if len(line) > most or not line.isprintable():
            yield name, f"{name}={line!r}: use a line of at most {most} characters"
    if rules.calendars_file is not None:
        try:
            rules.times()
        except ValueError as exc:
            for fault in str(exc).splitlines():
                yield "CALENDARS_FILE", f"CALENDARS_FILE={str(rules.calendars_file)!r}: {fault}"


def _between_teams(settings: Settings) -> Iterator[tuple[str, str]]:
    team, known = settings.team, [team.name for team in settings.teams]
    if team and not teams.named(team):
        yield "TEAM", f"TEAM={team!r}: is no name of a team; use one of those in TEAMS"
    elif team and known and team not in known:
        yield "TEAM", f"TEAM={team!r}: is not in TEAMS; use one of {', '.join(known)}, or add it there"


def _between_kafka(kafka: KafkaSettings) -> Iterator[tuple[str, str]]:
    for part in kafka.bootstrap.split(","):
        found = _HOST_PORT.match(part.strip())
        if not found or not 1 <= int(found[2]) <= 65535:
            yield "KAFKA_BOOTSTRAP", f"KAFKA_BOOTSTRAP={kafka.bootstrap!r}: use host:port, several separated by commas"
            break
    if kafka.sasl:
        if not kafka.username:
            yield "KAFKA_USERNAME", f"KAFKA_USERNAME: is not set, but KAFKA_SECURITY={kafka.security!r} logs in; set it"
        if not kafka.password:
            yield (
                "KAFKA_PASSWORD",
                f"KAFKA_PASSWORD: is not set, but KAFKA_SECURITY={kafka.security!r} logs in; set it or its _FILE",
            )
    else:
        for name, value in (("KAFKA_USERNAME", kafka.username), ("KAFKA_PASSWORD", kafka.password)):
            if value:
                yield (
                    name,
                    f"{name}: is set, but KAFKA_SECURITY={kafka.security!r} does not log in; use SASL_SSL or unset it",
                )
    files = (("KAFKA_CA_FILE", kafka.ca_file), ("KAFKA_CERT_FILE", kafka.cert_file), ("KAFKA_KEY_FILE", kafka.key_file))
    if not kafka.tls:
        for name, path in files:
            if path:
                yield (
                    name,
                    f"{name}: is set, but KAFKA_SECURITY={kafka.security!r} is not encrypted; use SSL or SASL_SSL",
                )
    if kafka.cert_file and not kafka.key_file:
        yield "KAFKA_KEY_FILE", "KAFKA_KEY_FILE: is not set, but KAFKA_CERT_FILE is; name the key of that certificate"
    if kafka.key_file and not kafka.cert_file:
        yield "KAFKA_CERT_FILE", "KAFKA_CERT_FILE: is not set, but KAFKA_KEY_FILE is; name the certificate of that key"


def _between_smtp(smtp: SmtpSettings) -> Iterator[tuple[str, str]]:
    if smtp.username and not smtp.password:
        yield "SMTP_PASSWORD", "SMTP_PASSWORD: is not set, but SMTP_USERNAME is; set it or SMTP_PASSWORD_FILE"
    if smtp.password and not smtp.username:
        yield "SMTP_USERNAME", "SMTP_USERNAME: is not set, but SMTP_PASSWORD is; set it"
    if smtp.password and smtp.tls == "none" and smtp.host and not is_loopback(smtp.host):
        yield "SMTP_TLS", "SMTP_TLS='none': would send SMTP_PASSWORD in clear; use starttls or implicit"
    if smtp.sender and not re.fullmatch(r"[^@\s<>,;]+@[^@\s<>,;]+", smtp.sender):
        yield "SMTP_FROM", f"SMTP_FROM={smtp.sender!r}: use one address without a name, such as reminders@example.org"
    yield from _between_relays(smtp)
    yield from _between_dkim(smtp)
    yield from _between_what_comes_back(smtp)
    names = (("SMTP_FROM_NAME", smtp.sender_name), ("SMTP_HOST", smtp.host), ("SMTP_2_HOST", smtp.second.host))
    for name, value in names:
        if any(ord(char) < 32 for char in value):
            yield name, f"{name}={value!r}: holds a control character; use plain text"


def _between_what_comes_back(smtp: SmtpSettings) -> Iterator[tuple[str, str]]:
    if any(len(token) < MIN_SECRET for token in smtp.callback_tokens):
        remedy = f"has fewer than {MIN_SECRET} characters; make one with `openssl rand -hex 32`"
        yield "SMTP_CALLBACK_TOKEN", f"SMTP_CALLBACK_TOKEN: {remedy}"
    if not smtp.bounce_domain and not smtp.unsubscribe_address:
        return
    from channels.addresses import Address, a_label, parse  # noqa: PLC0415

    name = "SMTP_BOUNCE_DOMAIN" if smtp.bounce_domain else "SMTP_UNSUBSCRIBE_ADDRESS"
    if not smtp.callback_tokens:
        yield "SMTP_CALLBACK_TOKEN", f"SMTP_CALLBACK_TOKEN: is not set, but {name} is; set it or its _FILE"
    if smtp.bounce_domain and not a_label(smtp.bounce_domain):
        remedy = "use a domain such as bounce.example.org"
        yield "SMTP_BOUNCE_DOMAIN", f"SMTP_BOUNCE_DOMAIN={smtp.bounce_domain!r}: {remedy}"
    address = parse(smtp.unsubscribe_address) if smtp.unsubscribe_address else None
    if address is not None and (
        not isinstance(address, Address) or address.spec != smtp.unsubscribe_address or set("%?&#") & set(address.spec)
    ):
        remedy = "use one address in ASCII without a name, such as unsubscribe@example.org"
        yield "SMTP_UNSUBSCRIBE_ADDRESS", f"SMTP_UNSUBSCRIBE_ADDRESS={smtp.unsubscribe_address!r}: {remedy}"


def _between_dkim(smtp: SmtpSettings) -> Iterator[tuple[str, str]]:
    if smtp.dkim_key_file is None:
        if smtp.dkim_selector:
            yield "SMTP_DKIM_KEY_FILE", "SMTP_DKIM_KEY_FILE: is not set, but SMTP_DKIM_SELECTOR is; name the key"
        return
    from channels import dkim  # noqa: PLC0415 - brings cryptography, which few commands need
    from channels.addresses import a_label  # noqa: PLC0415

    try:
        dkim.load_key(smtp.dkim_key_file.read_bytes())
    except (OSError, ValueError) as wrong:
        yield "SMTP_DKIM_KEY_FILE", f"SMTP_DKIM_KEY_FILE={str(smtp.dkim_key_file)!r}: {wrong}"
    if not smtp.dkim_selector:
        yield "SMTP_DKIM_SELECTOR", "SMTP_DKIM_SELECTOR: is not set, but SMTP_DKIM_KEY_FILE is; name the selector"
    elif not dkim.is_selector(smtp.dkim_selector):
        remedy = "use letters, digits and dashes, such as 2026a"
        yield "SMTP_DKIM_SELECTOR", f"SMTP_DKIM_SELECTOR={smtp.dkim_selector!r}: {remedy}"
    if smtp.dkim_domain and not a_label(smtp.dkim_domain):
        yield "SMTP_DKIM_DOMAIN", f"SMTP_DKIM_DOMAIN={smtp.dkim_domain!r}: use a domain such as example.org"


def _between_relays(smtp: SmtpSettings) -> Iterator[tuple[str, str]]:
    second = smtp.second
    if second.host and not smtp.host:
        yield "SMTP_2_HOST", "SMTP_2_HOST: is set, but SMTP_HOST is not; name the first mail server there"
    if second.host and (second.host, second.port) == (smtp.host, smtp.port):
        yield "SMTP_2_HOST", f"SMTP_2_HOST={second.host!r}: is SMTP_HOST, at the same port; name another server"
    if second.username and not second.password:
        yield "SMTP_2_PASSWORD", "SMTP_2_PASSWORD: is not set, but SMTP_2_USERNAME is; set it or SMTP_2_PASSWORD_FILE"
    if second.password and not second.username:
        yield "SMTP_2_USERNAME", "SMTP_2_USERNAME: is not set, but SMTP_2_PASSWORD is; set it"
    if second.password and second.tls == "none" and second.host and not is_loopback(second.host):
        yield "SMTP_2_TLS", "SMTP_2_TLS='none': would send SMTP_2_PASSWORD in clear; use starttls or implicit"


def _between_push(push: PushSettings) -> Iterator[tuple[str, str]]:
    from channels.fcm_settings import credentials_fault, url_fault  # noqa: PLC0415 - few commands need it

    if push.credentials_file is not None:
        fault = credentials_fault(push.credentials_file.read_text(encoding="utf-8", errors="replace"))
        if fault:
            yield "FCM_CREDENTIALS_FILE", f"FCM_CREDENTIALS_FILE={str(push.credentials_file)!r}: {fault}"
    if url_fault("url", push.url):
        yield "FCM_URL", f"FCM_URL={push.url!r}: use a URL that begins with https://; http only to this machine"
    if len(push.android_channel) > 100:
        yield "FCM_ANDROID_CHANNEL", "FCM_ANDROID_CHANNEL: use at most 100 characters"


def _between_webhook(webhook: WebhookSettings) -> Iterator[tuple[str, str]]:
    from channels.egress_rules import permits  # noqa: PLC0415 - brings the settings of retries, which few need
    from channels.webhook_settings import MIN_KEY, ports  # noqa: PLC0415

    if any(len(key) < MIN_KEY for key in webhook.keys):
        yield (
            "WEBHOOK_KEYS",
            f"WEBHOOK_KEYS: use keys of at least {MIN_KEY} characters, such as of `openssl rand -hex 32`",
        )
    if len(set(webhook.keys)) != len(webhook.keys):
        yield "WEBHOOK_KEYS", "WEBHOOK_KEYS: names a key twice; leave one out"
    try:
        permits(webhook.allow)
    except ValueError as wrong:
        yield "WEBHOOK_ALLOW", f"WEBHOOK_ALLOW: {wrong}"
    if not ports(webhook.ports):
        yield "WEBHOOK_PORTS", f"WEBHOOK_PORTS={webhook.ports!r}: use ports from 1 to 65535, separated by commas"
    if webhook.per_host > webhook.concurrency:
        yield (
            "WEBHOOK_PER_HOST",
            f"WEBHOOK_PER_HOST='{webhook.per_host}': use at most WEBHOOK_CONCURRENCY='{webhook.concurrency}'",
        )


def _between_callbacks(settings: Settings) -> Iterator[tuple[str, str]]:
    if any(len(key) < MIN_SECRET for key in settings.rules.seal_keys):
        remedy = f"has fewer than {MIN_SECRET} characters; make one with `openssl rand -hex 32`"
        yield "SEAL_KEY", f"SEAL_KEY: {remedy}"
    if any(len(key) < MIN_SECRET for key in settings.callback_keys):
        remedy = f"has fewer than {MIN_SECRET} characters; make one with `openssl rand -hex 32`"
        yield "CALLBACK_KEY", f"CALLBACK_KEY: {remedy}"
    told = (
        ("TWILIO_CALLBACK_URL", settings.twilio.callback_url),
        ("WHATSAPP_APP_SECRET", settings.cloud.app_secret),
        ("SENDGRID_EVENT_KEY", settings.sendgrid.event_keys),
        ("SMTP_BOUNCE_DOMAIN", settings.smtp.bounce_domain),
    )
    for name, given in told:
        if given and not settings.callback_keys:
            yield "CALLBACK_KEY", f"CALLBACK_KEY: is not set, but {name} is; set it or its _FILE"
            break
    web = settings.web
    if settings.smtp.unsubscribe_address and not web.public_url:
        remedy = "is not set, but SMTP_UNSUBSCRIBE_ADDRESS is; set it, for one click comes first"
        yield "PUBLIC_URL", f"PUBLIC_URL: {remedy}"
    if web.public_url:
        if fault := callers.url_fault(web.public_url):
            yield "PUBLIC_URL", f"PUBLIC_URL={web.public_url!r}: {fault}"
        if not settings.callback_keys:
            yield "CALLBACK_KEY", "CALLBACK_KEY: is not set, but PUBLIC_URL is; set it or its _FILE"
    try:
        callers.networks(web.proxies)
    except ValueError as wrong:
        yield "WEB_PROXIES", f"WEB_PROXIES={web.proxies!r}: {wrong}"


def _own_faults(prefix: str, settings: SendGridSettings | TwilioSettings | CloudSettings) -> Iterator[tuple[str, str]]:
    for field_name, remedy in settings.faults():
        name = f"{prefix}_{field_name.upper()}"
        value = getattr(settings, field_name, "")
        shown = "" if _BY_NAME[name].secret or not value else f"={str(value)!r}"
        yield name, f"{name}{shown}: {remedy}"


#: What the environments of containers and shells hold for other programs, by the first part of the name.
_OURS = (
    "KAFKA_",
    "SCHEMA_REGISTRY_",
    "REMINDERS_",
    "SMTP_",
    "FCM_",
    "WEBHOOK_",
    "TWILIO_",
    "WHATSAPP_",
    "SENDGRID_",
    "RETRY_",
    "CIRCUIT_",
    "PROVIDER_",
    "ALERT_",
    "WEB_",
    "DELIVERY_",
    "LOG_",
    "ADMISSION_",
    "FENCE_",
    "PUBLISH_",
    "QUOTA_",
    "PUBLIC_",
    "LINK_",
    "CALLER_",
    "SEND_ONLY",
    "WATCHDOG",
    "TEAM",
)


def misspelt(environ: Mapping[str, str]) -> list[str]:
    """Return one line for each variable that is none of ours but looks like a misspelling of one."""
    known = set(_BY_NAME) | {f"{variable.name}_FILE" for variable in VARIABLES if variable.secret}
    lines = []
    for name in sorted(environ):
        if name in known or not name.startswith(_OURS):
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
        if near:
            lines.append(f"{name}: is not read; did you mean {near[0]}?")
    return lines


def doubts(settings: Settings) -> list[str]:
    """Return one line for each thing that can be used but may not be meant."""
    path = settings.web.tokens_file
    found = [f"WEB_TOKENS_FILE: {doubt}" for doubt in tokens.doubts(tokens.load(path))] if path else []
    twilio, cloud = settings.twilio, settings.cloud
    if twilio.whatsapp and cloud.whatsapp and bool(twilio.callback_url) != bool(cloud.app_secret):
        deaf = "WHATSAPP_APP_SECRET" if twilio.callback_url else "TWILIO_CALLBACK_URL"
        found.append(f"{deaf}: is not set, so that answers to one of the two WhatsApp numbers are lost; set it")
    return found


def document() -> str:
    """Return the text of docs/configuration.md."""
    out = [
        "# Configuration",
        "",
        "Read once from the environment when a command starts. `python -m app config check` names every fault at once",
        "and exits with 2; `python -m app config show` prints what holds, secrets hidden. An empty variable counts as",
        "one that is not set.",
        "",
        "A secret may come from a file instead: add `_FILE` to the variable's name and set that to the file's path.",
        "Setting both is a fault. Workers read the files of providers' secrets again when they change; the others take",
        "a restart ([how](operating.md#a-secret-is-replaced)).",
        "",
        "This page is made from `app/config.py` (`python -m app config doc`); a test compares the two.",
    ]
    for title, variables in SECTIONS.items():
        out += ["", f"## {title}", "", "| variable | default | takes | meaning |", "|---|---|---|---|"]
        for v in variables:
            default = f"`{v.default}`" if v.default else "–"
            out.append(f"| `{v.name}` | {default} | {_takes(v)} | {v.doc} |")
    out += [
        "",
        "## Checked together",
        "",
        "- `FENCE_LIMIT_S` + `PUBLISH_TIMEOUT_S` < `SESSION_TIMEOUT_S`: who lost its partitions must write no more.",
        "- `HEARTBEAT_S` ≤ half of `FENCE_LIMIT_S`.",
        "- `WEB_BIND` other than the loopback needs `WEB_TOKEN` or `WEB_TOKENS_FILE`.",
        "- `KAFKA_SECURITY` with SASL needs user and password; what belongs to SASL or TLS is refused without it.",
        "- `SMTP_TLS=none` with a password is refused unless the server is this machine.",
        "- `SMTP_DKIM_KEY_FILE` and `SMTP_DKIM_SELECTOR` need each other.",
        "- `SMTP_BOUNCE_DOMAIN` needs `CALLBACK_KEY` and `SMTP_CALLBACK_TOKEN`; `SMTP_UNSUBSCRIBE_ADDRESS` needs",
        "  `PUBLIC_URL` and `SMTP_CALLBACK_TOKEN`.",
        "- `RETRY_CAP_S` ≥ `RETRY_BASE_S`.",
        "- `WEBHOOK_PER_HOST` ≤ `WEBHOOK_CONCURRENCY`.",
        "- A delivery worker needs a channel: `SMTP_HOST` and `SMTP_FROM`, or another one.",
        "- `TWILIO_ACCOUNT_SID` needs `TWILIO_AUTH_TOKEN` and a sender: `TWILIO_SMS_FROM` or",
        "  `TWILIO_MESSAGING_SERVICE_SID`, `TWILIO_WHATSAPP_FROM`, or `TWILIO_VOICE_FROM`.",
        "- `WHATSAPP_PHONE_ID` needs `WHATSAPP_TOKEN`; `WHATSAPP_APP_SECRET` needs `CALLBACK_KEY`.",
        "- `SENDGRID_API_KEY` needs `SMTP_FROM`; `SENDGRID_EVENT_KEY` needs `CALLBACK_KEY`.",
        "",
    ]
    return "\n".join(out)


def _takes(variable: Variable) -> str:
    match variable.kind:
        case Kind.CHOICE:
            return ", ".join(f"`{choice}`" for choice in variable.choices)
        case Kind.INTEGER:
            return f"whole number {_range(variable)}"
        case Kind.SECONDS:
            return f"seconds, {_range(variable)}"
        case Kind.FILE:
            return "path of a file"
        case Kind.FOLDER:
            return "path of a folder"
        case _:
            return "secret, or `_FILE`" if variable.secret else "text"
