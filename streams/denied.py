"""What Kafka's word that something is not allowed means, in an operator's words."""

from collections.abc import Iterator

from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from streams.errors import ConfigurationError
from streams.settings import Settings


def principal(settings: Settings) -> str:
    """Who we are to the broker, as far as our settings say."""
    if settings.security_protocol.startswith("SASL"):
        return f"KAFKA_SASL_USERNAME {settings.sasl_username}"
    if settings.ssl_certificate_file is not None:
        return f"the owner of KAFKA_SSL_CERTIFICATE_FILE {settings.ssl_certificate_file}"
    return "an anonymous client"


def unseen(settings: Settings) -> str:
    """What is said of a topic that a broker does not show."""
    return f"not there, or not for {principal(settings)} to see"


def may_not(settings: Settings, operation: str, resource: str) -> ConfigurationError:
    """The error of a right that is missing on a resource, such as `topic clicks`."""
    return ConfigurationError(
        f"{principal(settings)} may not {operation} {resource}: let it, with `kafka-acls`; "
        "`flashcast topics acls` prints what every role needs"
    )


def denied(settings: Settings, error: BaseException, operation: str) -> ConfigurationError | None:
    """What an error says of a right that is missing; None when it says nothing of the kind.

    `operation` is what was tried on topics.
    """
    for cause in causes_of(error):
        told = cause.args[0] if cause.args else "that was asked for"
        several = isinstance(told, set | frozenset | list | tuple)
        name = ", ".join(sorted(map(str, told))) if several else str(told)
        if isinstance(cause, TopicAuthorizationFailedError):
            return may_not(settings, operation, f"topic {name}")
        if isinstance(cause, GroupAuthorizationFailedError):
            return may_not(settings, "Read", f"group {name}")
        if isinstance(cause, TransactionalIdAuthorizationFailed):
            return may_not(settings, "Write", f"transactional id {name}")
        if isinstance(cause, ClusterAuthorizationFailedError):
            return may_not(settings, "IdempotentWrite", "the cluster")
    return None


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """The error itself, or those of its group, each with what caused it."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from causes_of(one)
        return
    yield error
    if error.__cause__ is not None:
        yield from causes_of(error.__cause__)
