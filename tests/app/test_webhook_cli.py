"""``python -m app webhook``: a test call by the rules of a reminder, and the secret that goes with it."""

import pytest
from click.testing import CliRunner, Result

from app.cli.root import main
from tests.sandbox.http_server import Reply
from tests.sandbox.in_thread import in_thread
from tests.sandbox.webhook_server import WebhookServer

KEY = "k0123456789abcdef0123456789abcdef"


def invoke(*words: str, **environ: str) -> Result:
    return CliRunner().invoke(main, words, env={"WEBHOOK_KEYS": KEY, **environ})


def test_a_test_call_is_signed_with_the_secret_that_is_shown() -> None:
    with in_thread(WebhookServer()) as server:
        url = f"{server.url}/hook"
        allow = f"127.0.0.1:{server.port}"
        server.secret = invoke("webhook", "secret", url).output.strip()
        done = invoke("webhook", "test", url, WEBHOOK_ALLOW=allow)
        assert done.exit_code == 0, done.output
        assert done.output.startswith("accepted 204: the receiver took it (")
        server.say("/hook", Reply(410))
        done = invoke("webhook", "test", url, WEBHOOK_ALLOW=allow)
        assert done.exit_code == 1
        assert done.output.startswith("undeliverable 410: the receiver wants no more")
        assert [b"reminder.test" in taken.body for taken in server.seen] == [True, True]


def test_a_test_call_keeps_the_rules_of_addresses() -> None:
    with in_thread(WebhookServer()) as server:
        done = invoke("webhook", "test", f"{server.url}/hook")
        assert (done.exit_code, server.connections) == (1, 0)
        assert "use https" in done.output


def test_while_a_key_is_replaced_both_secrets_are_shown() -> None:
    both = invoke("webhook", "secret", "https://a.example/x", WEBHOOK_KEYS=f"{KEY},{KEY}-new").output.split()
    assert len(set(both)) == 2
    assert all(secret.startswith("whsec_") for secret in both)
    same = invoke("webhook", "secret", "HTTPS://A.example:443/x").output.split()
    assert same == both[:1]


@pytest.mark.parametrize(
    ("words", "environ", "code", "said"),
    [
        (("test", "https://a.example/"), {"WEBHOOK_KEYS": ""}, 1, "WEBHOOK_KEYS: is not set"),
        (("secret", "https://a.example/"), {"WEBHOOK_KEYS": ""}, 1, "WEBHOOK_KEYS: is not set"),
        (("secret", "a.example"), {}, 2, "no URL that can be called"),
        (("secret", "https://a.example/"), {"WEBHOOK_KEYS": "short"}, 2, "at least 32 characters"),
    ],
)
def test_what_is_wrong_is_said(words: tuple[str, ...], environ: dict[str, str], code: int, said: str) -> None:
    done = invoke("webhook", *words, **environ)
    assert done.exit_code == code
    assert said in done.output + done.stderr
    assert KEY not in done.output
