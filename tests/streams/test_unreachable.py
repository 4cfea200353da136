from streams.settings import load
from streams.unreachable import explained


def test_the_address_and_the_error_are_said() -> None:
    text = explained(load(bootstrap_servers="k:9092"), TimeoutError())
    assert text.startswith("Kafka at k:9092 (KAFKA_BOOTSTRAP_SERVERS): TimeoutError; ")
    assert text.endswith("check KAFKA_SECURITY_PROTOCOL PLAINTEXT")


def test_with_security_the_settings_that_may_be_wrong_are_named_and_no_secret() -> None:
    settings = load(
        security_protocol="SASL_SSL", sasl_username="worker", sasl_password="correct-horse"
    )
    text = explained(settings, OSError("closed"))
    assert "KAFKA_SASL_MECHANISM SCRAM-SHA-512" in text
    assert "KAFKA_SASL_USERNAME worker" in text
    assert "KAFKA_SSL_CA_FILE of the system" in text
    assert "correct-horse" not in text
