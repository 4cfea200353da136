"""What to tell an operator when Kafka does not answer."""

from streams.settings import Settings


def explained(settings: Settings, error: BaseException) -> str:
    """Where we asked, what was said, and which settings may be wrong. Never a secret.

    A broker closes the connection on a wrong password or protocol without a word, which looks like
    its absence; so the settings are named too.
    """
    said = str(error) or type(error).__name__
    text = f"Kafka at {settings.bootstrap_servers} (KAFKA_BOOTSTRAP_SERVERS): {said}"
    if settings.security_protocol == "PLAINTEXT":
        return text
    named = [f"KAFKA_SECURITY_PROTOCOL {settings.security_protocol}"]
    if settings.security_protocol.startswith("SASL"):
        named.append(f"KAFKA_SASL_MECHANISM {settings.sasl_mechanism}")
        named.append(f"KAFKA_SASL_USERNAME {settings.sasl_username} and its password")
    if "SSL" in settings.security_protocol:
        named.append(f"KAFKA_SSL_CA_FILE {settings.ssl_ca_file or 'of the system'}")
    return f"{text}; if it is there, check {', '.join(named)}"
