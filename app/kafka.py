"""How every client of the brokers is set up: aiokafka's own and Faust's, from the same settings."""

import ssl
from typing import TYPE_CHECKING, Any

from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from app.config import ConfigError, KafkaSettings, Settings
from schemas.ids import MAX_RECORD_BYTES

if TYPE_CHECKING:
    import faust

#: Largest batch on any topic: a record of the largest size, its key and its headers.
MAX_BATCH_BYTES = MAX_RECORD_BYTES + 64 * 1024


def ssl_context(kafka: KafkaSettings) -> ssl.SSLContext | None:
    """Return the context of TLS connections, None without TLS. Raises ConfigError naming the file at fault."""
    if not kafka.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=str(kafka.ca_file) if kafka.ca_file else None)
    except (ssl.SSLError, OSError) as exc:
        raise ConfigError(
            [f"KAFKA_CA_FILE={str(kafka.ca_file)!r}: {_why(exc)}; name a PEM file of certificates"]
        ) from exc
    if kafka.cert_file:
        try:
            # An empty passphrase fails at once where a missing one would ask on the terminal.
            context.load_cert_chain(kafka.cert_file, kafka.key_file, password=lambda: "")
        except (ssl.SSLError, OSError) as exc:
            files = f"KAFKA_CERT_FILE={str(kafka.cert_file)!r}, KAFKA_KEY_FILE={str(kafka.key_file)!r}"
            raise ConfigError(
                [f"{files}: {_why(exc)}; name a PEM certificate and its key without a passphrase"]
            ) from exc
    return context


def client_options(settings: Settings) -> dict[str, Any]:
    """Return the keyword arguments that every aiokafka client takes."""
    kafka = settings.kafka
    options: dict[str, Any] = {"bootstrap_servers": bootstrap_servers(settings), "security_protocol": kafka.security}
    if kafka.tls:
        options["ssl_context"] = ssl_context(kafka)
    if kafka.sasl:
        options |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.username,
            "sasl_plain_password": kafka.password,
        }
    return options


def producer_options(settings: Settings) -> dict[str, Any]:
    """Return the keyword arguments of a producer that waits for all copies and may send records of the largest size."""
    return client_options(settings) | {
        "acks": "all",
        "max_request_size": MAX_BATCH_BYTES,
        "request_timeout_ms": int(settings.fencing.publish_s * 1000),
    }


def bootstrap_servers(settings: Settings) -> list[str]:
    """Return the brokers to begin with, each as ``host:port``."""
    return [part.strip() for part in settings.kafka.bootstrap.split(",")]


def broker_urls(settings: Settings) -> list[str]:
    """Return the brokers as Faust's ``broker`` setting takes them."""
    return [f"kafka://{server}" for server in bootstrap_servers(settings)]


def broker_credentials(settings: Settings) -> "faust.SASLCredentials | faust.SSLCredentials | None":
    """Return what Faust's ``broker_credentials`` setting takes; None: plain connections without a login."""
    import faust  # noqa: PLC0415 - takes half a second, and the command line needs only the rest of this module

    kafka = settings.kafka
    context = ssl_context(kafka)
    if kafka.sasl:
        return faust.SASLCredentials(
            username=kafka.username, password=kafka.password, ssl_context=context, mechanism=kafka.sasl_mechanism
        )
    return faust.SSLCredentials(context) if context else None


async def unreachable(settings: Settings, exc: BaseException) -> str:
    """Return one line that says that the brokers cannot be used, why, and what to do."""
    where = f"KAFKA_BOOTSTRAP={settings.kafka.bootstrap}"
    # aiokafka only logs why it could not begin: one connection of our own brings the reason back.
    found = await _refusal(settings) or exc
    why = f"{type(found).__name__}: {found}" if str(found) else type(found).__name__
    if isinstance(found, AuthenticationFailedError | SaslAuthenticationFailed | UnsupportedSaslMechanismError):
        return f"{where}: login refused ({why}); check KAFKA_USERNAME, KAFKA_PASSWORD and KAFKA_SASL_MECHANISM"
    if isinstance(found, ssl.SSLError):
        return f"{where}: no TLS connection ({why}); check KAFKA_SECURITY and KAFKA_CA_FILE"
    hint = "start a broker (`make run`) or set KAFKA_BOOTSTRAP"
    if settings.kafka.security != "PLAINTEXT":
        hint += f", and check that it speaks {settings.kafka.security} there"
    return f"{where}: no broker answers ({why}); {hint}"


async def _refusal(settings: Settings) -> BaseException | None:
    options = client_options(settings)
    for server in options.pop("bootstrap_servers"):
        host, _, port = server.rpartition(":")
        try:
            connection = await create_conn(host.strip("[]"), int(port), request_timeout_ms=5000, **options)
        except (KafkaError, OSError, TimeoutError) as exc:
            return exc
        await connection.close()
    return None


def _why(exc: Exception) -> str:
    return (
        (getattr(exc, "reason", None) or getattr(exc, "strerror", None) or type(exc).__name__).replace("_", " ").lower()
    )
