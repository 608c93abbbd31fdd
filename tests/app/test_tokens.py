"""Tokens of the web server: what a file may say, what is told of its faults, and that it is read again."""

import hashlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from app.cli.root import main
from app.config import VARIABLES, ConfigError, Settings
from app.tokens import LOOK_S, Access, Faulty, Keyring, digest, doubts, parse


def sha(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def entry(token: str, role: str = "operator", name: str = "clinic-backend", **more: str) -> str:
    lines = [f'{key} = "{value}"' for key, value in {"name": name, "sha256": sha(token), "role": role, **more}.items()]
    return "\n".join(["[[token]]", *lines, ""])


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_file_says_who_may_do_what() -> None:
    text = entry("a", tenant="clinic", prefix="clinic/") + entry("b", "viewer", "desk")
    said = parse((text + "[quota_per_minute]\nclinic = 600\n").encode())
    first, second = said.tokens
    assert (first.name, first.digest, first.access, first.tenant, first.prefix) == (
        *("clinic-backend", digest("a"), Access.OPERATOR),
        *("clinic", "clinic/"),
    )
    assert (second.access, second.tenant, second.prefix) == (Access.VIEWER, "", "")
    assert said.quotas == {"clinic": 600}
    assert parse(b"# nobody").tokens == ()


def test_roles_include_those_before_them() -> None:
    assert [[have.allows(needed) for needed in Access] for have in Access] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("[[token]\n", ["is no TOML (at line 1, column 8); mend it there"]),
        ("tokens = 1", ["tokens: is not known; use [[token]] and [quota_per_minute]"]),
        ("token = 1", ["token: is no list; write [[token]] before each"]),
        ("token = [1]", ["token 1: is no table; write [[token]] before each"]),
        (
            '[[token]]\nname = "x"\n',
            ["token 1 (x): sha256: is missing; give it", "token 1 (x): role: is missing; give it"],
        ),
        (
            entry("a", "boss") + "[[token]]\nname = 3\n",
            [
                "token 1 (clinic-backend): role: boss is not known; use viewer, operator, admin",
                "token 2: sha256: is missing; give it",
                "token 2: role: is missing; give it",
                "token 2: name: is no text; put it in quotes",
            ],
        ),
        (
            entry("a").replace(sha("a"), "canary-in-clear"),
            ["token 1 (clinic-backend): sha256: use the 64 hexadecimal digits of the token's SHA-256, never the token"],
        ),
        (
            entry("a", tenant=""),
            ["token 1 (clinic-backend): tenant: use 1 to 200 bytes without control characters, or leave it out"],
        ),
        (
            entry("a", name=""),
            ["token 1: name: use 1 to 200 bytes without control characters"],
        ),
        (
            entry("a", colour="red"),
            ["token 1 (clinic-backend): colour: is not known; use name, sha256, role, tenant, prefix"],
        ),
        (
            entry("a") + entry("a", name="b"),
            ["b: has the sha256 of clinic-backend; give each a token of its own"],
        ),
        (
            "[quota_per_minute]\na = 0\nb = true\nc = 1\n",
            [f"quota_per_minute.{name}: use a whole number from 1 to 10000000" for name in "ab"],
        ),
        (
            "quota_per_minute = 3",
            ["quota_per_minute: is no table; write [quota_per_minute] and a line such as clinic = 600"],
        ),
        ("\n", ["is empty; write [[token]] entries, or a comment to refuse everybody"]),
    ],
)
def test_every_fault_is_named_and_no_token_shown(text: str, faults: list[str]) -> None:
    with pytest.raises(Faulty) as wrong:
        parse(text.encode())
    assert wrong.value.faults == faults
    assert "canary" not in str(wrong.value)


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(Faulty, match="is not UTF-8"):
        parse(b"\xff")
    with pytest.raises(Faulty):
        parse(b"a=" + b"[" * 100_000)


def test_the_configuration_names_the_faults_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(entry("a", "boss"))
    with pytest.raises(ConfigError) as wrong:
        Settings.load({"WEB_TOKENS_FILE": str(path)})
    assert wrong.value.faults == [
        f"WEB_TOKENS_FILE='{path}': token 1 (clinic-backend): role: boss is not known; use viewer, operator, admin"
    ]
    path.write_text(entry("a", tenant="clinic"))
    assert Settings.load({"WEB_BIND": "0.0.0.0", "WEB_TOKENS_FILE": str(path)}).web.tokens_file == path
    unset = {name: None for v in VARIABLES for name in (v.name, f"{v.name}_FILE")}
    result = CliRunner().invoke(main, ["config", "check", "--role", "core"], env=unset | {"WEB_TOKENS_FILE": str(path)})
    assert result.exit_code == 0
    assert "warning: WEB_TOKENS_FILE: token clinic-backend is bound to tenant clinic and to no prefix" in result.stderr


def test_only_a_writer_without_a_prefix_is_doubted() -> None:
    text = entry("a", tenant="t", prefix="t/") + entry("b", "viewer", tenant="t") + entry("c", name="all")
    assert doubts(parse(text.encode())) == []


def test_a_keyring_without_tokens_lets_nobody_in(tmp_path: Path) -> None:
    ring = Keyring()
    assert ring.empty
    assert ring.find("") is None
    path = tmp_path / "tokens.toml"
    path.write_text(entry("a"))
    assert not Keyring("", path).empty
    admin = Keyring("secret").find("secret")
    assert admin is not None
    assert (admin.name, admin.access) == ("admin", Access.ADMIN)


def test_a_new_token_is_known_at_once_and_an_old_one_refused_soon(tmp_path: Path) -> None:
    path, clock = tmp_path / "tokens.toml", Clock()
    path.write_text(entry("old") + "[quota_per_minute]\nclinic = 1\n")
    ring = Keyring("", path, clock)
    assert ring.find("old") is not None
    path.write_text(entry("new") + "[quota_per_minute]\nclinic = 2\n")
    assert ring.find("old") is not None, "not looked at yet"
    assert ring.find("new") is not None
    assert ring.find("old") is None
    assert ring.quota("clinic") == 2
    path.write_text(entry("newer"))
    clock.now += LOOK_S
    assert ring.find("new") is None


def test_what_held_holds_on_while_the_file_has_faults(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, clock = tmp_path / "tokens.toml", Clock()
    path.write_text(entry("a"))
    ring = Keyring("", path, clock)
    for text in ("[[token]\n", "", None):
        clock.now += LOOK_S
        if text is None:
            path.unlink()
        else:
            path.write_text(text)
        assert ring.find("a") is not None
        assert ring.find("nobody") is None
    assert len([r for r in caplog.records if "cannot be used" in r.message]) == 3
    other = tmp_path / "other"
    other.write_text(entry("b"))
    other.replace(path)
    clock.now += LOOK_S
    assert ring.find("b") is not None
