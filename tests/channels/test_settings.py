"""Settings of the mail server: every fault named, no secret shown."""

from pathlib import Path
from typing import Any

import pytest

from channels.smtp_settings import SmtpSettings, Tls, is_loopback


def made(**changes: Any) -> SmtpSettings:
    given: dict[str, Any] = {"host": "mail.service.example", "sender": "reminders@service.example"}
    return SmtpSettings(**(given | changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"host": ""}, "host: name the mail server"),
        ({"host": "mail example"}, "host: must be a host name"),
        ({"sender": "nobody"}, "sender: an address has the form"),
        ({"sender": "jürgen@x.example"}, "sender: needs a part before the @-sign in ASCII"),
        ({"port": 0}, "port: must be between"),
        ({"tls": "ssl"}, "tls: must be starttls, implicit or none"),
        ({"client_key": Path("k.pem")}, "client_key: needs client_cert"),
        ({"username": "u"}, "password: is missing"),
        ({"password": "p"}, "username: is missing"),
        ({"username": "u", "password": "p", "tls": Tls.NONE}, "tls: none would send the password in clear"),
        ({"username": "u", "password": "p", "auth_methods": ()}, "auth_methods: name at least one"),
        ({"auth_methods": ("cram-md5",)}, "auth_methods: only plain and login"),
        ({"message_id_domain": "no domain"}, "message_id_domain: must be a domain"),
        ({"helo_name": "two words"}, "helo_name: must be a host name"),
        ({"dkim_key": Path("k.pem")}, "dkim_selector: name the key's selector"),
        ({"dkim_selector": "a_b"}, "dkim_selector: must be labels"),
        ({"dkim_domain": "no domain"}, "dkim_domain: must be a domain"),
        ({"bounce_domain": "no domain"}, "bounce_domain: must be a domain"),
        ({"pool_size": 0}, "pool_size: must be between"),
        ({"max_messages": 0}, "max_messages: must be at least 1"),
        ({"idle_check_s": -1}, "idle_check_s: must not be negative"),
        ({"max_age_s": 0}, "max_age_s: must be more than 0"),
        ({"connect_timeout_s": 0}, "connect_timeout_s: must be more than 0"),
        ({"command_timeout_s": 0}, "command_timeout_s: must be more than 0"),
        ({"final_reply_timeout_s": 0}, "final_reply_timeout_s: must be more than 0"),
        ({"greylist_s": 0}, "greylist_s: must be more than 0"),
        ({"call_timeout_s": 600}, "call_timeout_s: must be more than final_reply_timeout_s"),
    ],
)
def test_faults_are_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made(**changes)


def test_all_faults_are_named_at_once_and_no_secret_with_them() -> None:
    with pytest.raises(ValueError, match="host") as raised:
        made(host="", port=0, password="hunter2")
    assert "port" in str(raised.value)
    assert "username" in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_what_follows_from_what_is_given() -> None:
    settings = made(sender="Reminders <r@BÜCHER.example>")
    assert settings.from_address.spec == "r@xn--bcher-kva.example"
    assert settings.from_address.name == "Reminders"
    assert settings.id_domain == "xn--bcher-kva.example"
    assert made(message_id_domain="id.example").id_domain == "id.example"
    assert made(sender_name="Other").from_address.name == "Other"


def test_a_call_has_the_long_wait_of_the_final_reply_and_time_before_it() -> None:
    settings = made()
    assert settings.final_reply_timeout_s == 600
    assert settings.call_limit_s == 750
    assert settings.before_dot_s == 150
    assert made(call_timeout_s=620).before_dot_s == 20


def test_secrets_are_not_shown() -> None:
    assert "hunter2" not in repr(made(username="me", password="hunter2"))


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("10.0.0.1", False),
        ("mail.example", False),
    ],
)
def test_loopback(host: str, answer: bool) -> None:
    assert is_loopback(host) is answer
