"""A certificate authority, a server and a client certificate for the broker's secure listeners; for tests only."""

from __future__ import annotations

import datetime as dt
import ipaddress
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = dt.timedelta(days=30)


@dataclass(frozen=True)
class SecureFiles:
    """What both ends of a secure connection need; the files are PEM."""

    ca: Path
    server: Path
    client_cert: Path
    client_key: Path
    username: str = "reminders"
    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    def broker_settings(self) -> dict[str, str]:
        """Kafka's settings for the listeners SASL (SCRAM-SHA-512, PLAIN) and MTLS."""
        common = "org.apache.kafka.common.security"
        return {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.server),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.ca),
            "listener.name.mtls.ssl.client.auth": "required",
            "listener.name.sasl.sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
            "listener.name.sasl.scram-sha-512.sasl.jaas.config": f"{common}.scram.ScramLoginModule required;",
            "listener.name.sasl.plain.sasl.jaas.config": (
                f'{common}.plain.PlainLoginModule required user_{self.username}="{self.password}";'
            ),
        }


def make_secure_files(folder: Path) -> SecureFiles:
    """Write a fresh authority, a server certificate for the loopback and a client certificate into folder."""
    folder.mkdir(parents=True, exist_ok=True)
    ca_key, ca = _issue("Reminders test CA", None, None)
    server_key, server = _issue("localhost", ca, ca_key)
    client_key, client = _issue("reminders", ca, ca_key)
    files = SecureFiles(folder / "ca.pem", folder / "server.pem", folder / "client.pem", folder / "client.key")
    _write(files.ca, _pem(ca))
    _write(files.server, _key_pem(server_key) + _pem(server) + _pem(ca))
    _write(files.client_cert, _pem(client))
    _write(files.client_key, _key_pem(client_key))
    return files


def _issue(
    name: str, issuer: x509.Certificate | None, issuer_key: ec.EllipticCurvePrivateKey | None
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer_key is None:
        builder = builder.add_extension(_usage(authority=True), critical=True)
        return key, builder.sign(key, hashes.SHA256())
    builder = (
        builder.add_extension(_usage(authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
            ),
            critical=False,
        )
    )
    return key, builder.sign(issuer_key, hashes.SHA256())


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
