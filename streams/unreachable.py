"""What to tell an operator when Kafka does not answer, or refuses us."""

import asyncio
import ssl
from asyncio import IncompleteReadError
from typing import Final

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from streams.denied import causes_of, denied
from streams.errors import BrokerError, ConfigurationError, FlashcastError
from streams.fetching import client_options
from streams.settings import Settings

ASK_TIMEOUT_S: Final = 5.0
HOSTS_MAX: Final = 3  # asked once more, of those that KAFKA_BOOTSTRAP_SERVERS names
TLS_ALERT: Final = 0x1503  # how an alert record begins; read as a Kafka answer, it is a huge length


def explained(settings: Settings, error: BaseException) -> str:
    """Where we asked, what was said, and which settings may be wrong. Never a secret.

    A broker closes the connection on a wrong protocol without a word, which looks like its absence;
    so the settings are named too.
    """
    said = str(error) or type(error).__name__
    text = f"Kafka at {settings.bootstrap_servers} (KAFKA_BOOTSTRAP_SERVERS): {said}"
    named = [f"KAFKA_SECURITY_PROTOCOL {settings.security_protocol}"]
    if settings.security_protocol.startswith("SASL"):
        named.append(f"KAFKA_SASL_MECHANISM {settings.sasl_mechanism}")
        named.append(f"KAFKA_SASL_USERNAME {settings.sasl_username} and its password")
    if "SSL" in settings.security_protocol:
        named.append(f"KAFKA_SSL_CA_FILE {settings.ssl_ca_file or 'of the system'}")
    return f"{text}; if it is there, check {', '.join(named)}"


async def diagnosed(settings: Settings, error: BaseException) -> FlashcastError:
    """Why we were not let in: a ConfigurationError when a broker, asked once more, says what of us
    it refuses, and a BrokerError, to be tried again, when not. aiokafka keeps the reason to itself.
    """
    right = denied(settings, error, "Read")
    if right is not None:
        return right
    for host, port, _ in collect_hosts(settings.bootstrap_servers.split(","))[:HOSTS_MAX]:
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                await _ask(settings, host, port)
        except (OSError, KafkaError, TimeoutError) as cause:
            why = _refusal(settings, cause)
            if why is not None:
                return ConfigurationError(f"Kafka at {host}:{port} {why}")
    return BrokerError(f"no answer from {explained(settings, error)}")


async def _ask(settings: Settings, host: str, port: int) -> None:
    options = client_options(settings)
    del options["bootstrap_servers"]
    connection = await create_conn(host, port, **options)
    try:
        await connection.send(MetadataRequest([]))
    finally:
        connection.close()


def _refusal(settings: Settings, error: BaseException) -> str | None:
    for cause in causes_of(error):
        if isinstance(cause, SaslAuthenticationFailed | AuthenticationFailedError):
            return (
                f"refuses KAFKA_SASL_USERNAME {settings.sasl_username}: it knows no such user for "
                f"KAFKA_SASL_MECHANISM {settings.sasl_mechanism}, or KAFKA_SASL_PASSWORD is not its"
            )
        if isinstance(cause, UnsupportedSaslMechanismError):
            return f"does not take KAFKA_SASL_MECHANISM {settings.sasl_mechanism}: name one it has"
        if isinstance(cause, IllegalSaslStateError):
            return "takes no SASL: KAFKA_SECURITY_PROTOCOL must be SSL, or the port another"
        if isinstance(cause, ssl.SSLError):
            return _refusal_of_tls(settings, cause)
        if isinstance(cause, IncompleteReadError) and (cause.expected or 0) >> 16 == TLS_ALERT:
            protocol = settings.security_protocol
            wanted = "SASL_SSL" if protocol.startswith("SASL") else "SSL or SASL_SSL"
            return f"speaks TLS: KAFKA_SECURITY_PROTOCOL must be {wanted}, it is {protocol}"
    return None


def _refusal_of_tls(settings: Settings, error: ssl.SSLError) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"shows a certificate that is not to be trusted ({error.verify_message}): "
            f"KAFKA_SSL_CA_FILE {settings.ssl_ca_file or 'of the system'} must hold the authority "
            "that signed it, and KAFKA_BOOTSTRAP_SERVERS a name that it is for"
        )
    reason = error.reason or ""
    if reason == "WRONG_VERSION_NUMBER":
        return (
            f"speaks no TLS: KAFKA_SECURITY_PROTOCOL {settings.security_protocol} is wrong, or the "
            "port is"
        )
    if "ALERT" not in reason:
        return None
    if settings.ssl_certificate_file is None:
        return "wants a certificate: set KAFKA_SSL_CERTIFICATE_FILE and KAFKA_SSL_KEY_FILE"
    said = reason.removeprefix("SSLV3_").replace("_", " ").lower()
    return (
        f"refuses KAFKA_SSL_CERTIFICATE_FILE {settings.ssl_certificate_file} ({said}): it has "
        "expired, or its authority is none that the broker trusts"
    )
