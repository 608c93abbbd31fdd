"""``python -m app secrets``: every secret by name, source and age; no value, whatever is wrong."""

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app import secret_list
from app.cli.root import main
from app.config import VARIABLES

UNSET: dict[str, str | None] = {name: None for v in VARIABLES for name in (v.name, f"{v.name}_FILE")}
VALUE = "s3cret-0123456789-canary-abcdef-0123456789"


def invoke(*words: str, **environ: str) -> Result:
    return CliRunner().invoke(main, ["secrets", *words], env=UNSET | environ)


def lines(result: Result) -> dict[str, dict[str, object]]:
    return {found["name"]: found for found in map(json.loads, result.output.splitlines())}


def private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def certificate(path: Path, days: float) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=400))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return path


def test_nothing_is_set() -> None:
    result = invoke()
    assert (result.exit_code, result.output.strip()) == (0, "No secret is set.")


@pytest.mark.parametrize("variable", [v.name for v in VARIABLES if v.secret])
def test_every_secret_is_listed_and_none_is_shown(variable: str, tmp_path: Path) -> None:
    result = invoke("--json", **{variable: VALUE})
    assert result.exit_code == 0
    assert lines(result)[variable]["source"] == "environment"
    assert lines(result)[variable]["age_days"] is None
    path = private(tmp_path / "kept", VALUE)
    os.utime(path, (time.time() - 3 * 86400,) * 2)
    for words in ((), ("--json",)):
        result = invoke(*words, **{f"{variable}_FILE": str(path)})
        assert result.exit_code == 0, result.output
        assert str(path) in result.output
        assert VALUE not in result.output
    assert lines(result)[variable]["age_days"] == 3.0
    assert "canary" not in invoke(**{variable: VALUE}).output


def test_a_key_that_is_being_replaced_has_two_values() -> None:
    assert lines(invoke("--json", WEBHOOK_KEYS=f"{VALUE} {VALUE[::-1]}"))["WEBHOOK_KEYS"]["values"] == 2
    # A blank in a password is a part of it.
    assert lines(invoke("--json", SMTP_PASSWORD="correct horse"))["SMTP_PASSWORD"]["values"] == 1


def test_what_cannot_be_read_is_named_with_its_remedy(tmp_path: Path) -> None:
    result = invoke(SMTP_PASSWORD_FILE=str(tmp_path / "none"))
    assert result.exit_code == 1
    assert "cannot be read (No such file or directory); name a readable file" in result.output
    assert "is empty" in invoke(SMTP_PASSWORD_FILE=str(private(tmp_path / "empty", "\n"))).output


def test_a_secret_that_everybody_may_read_is_a_fault(tmp_path: Path) -> None:
    path = private(tmp_path / "open", VALUE)
    path.chmod(0o644)
    result = invoke(SMTP_PASSWORD_FILE=str(path))
    assert result.exit_code == 1
    assert "chmod o-r" in result.output


@pytest.mark.parametrize(("days", "code", "said"), [(300, 0, ""), (10, 1, "ends within 30 days"), (-1, 1, "has ended")])
def test_certificates_are_listed_with_their_end(tmp_path: Path, days: int, code: int, said: str) -> None:
    path = certificate(tmp_path / "ca.pem", days)
    result = invoke("--json", SMTP_CA_FILE=str(path))
    assert result.exit_code == code
    found = lines(result)["SMTP_CA_FILE"]
    ends = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    assert found["ends"] == ends.date().isoformat()
    assert said in str(found["fault"])
    assert (said == "") is (found["fault"] == "")


def test_a_file_without_certificates_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text(VALUE)
    result = invoke(KAFKA_CA_FILE=str(path))
    assert result.exit_code == 1
    assert "holds no certificates in PEM" in result.output
    assert VALUE not in result.output


def test_what_is_kept_in_files_is_known() -> None:
    names = {v.name for v in VARIABLES}
    assert names >= secret_list.SECRET_FILES
    assert {v.name for v in VARIABLES if v.secret} >= secret_list.ROTATED
    assert {"KAFKA_CA_FILE", "KAFKA_CERT_FILE", "SMTP_CA_FILE", "TWILIO_CA_FILE"} <= secret_list.CERTIFICATES
