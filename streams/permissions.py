"""Which rights a broker says that we have, held against those that we need."""

from collections.abc import Iterable, Sequence
from typing import Any

from kafka.admin import KafkaAdminClient
from kafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError

from streams.acls import Grant
from streams.denied import principal
from streams.errors import ConfigurationError
from streams.settings import Settings
from streams.topic_admin import administering


def require(settings: Settings, needed: Sequence[Grant]) -> None:
    """Raises ConfigurationError naming every right that is missing, BrokerError.

    Brokers tell nothing of transactional ids, and of a group only once it exists.
    """
    with administering(settings) as admin:
        held = _on_topics(admin, (one.name for one in needed if one.kind == "topic"))
        held |= _on_groups(admin, (one.name for one in needed if one.kind == "group"))
    missing = [
        f"{operation} on {one.kind} {one.name}"
        for one in needed
        if one.name in held
        for operation in one.operations
        if operation.upper() not in held[one.name]
    ]
    if missing:
        raise ConfigurationError(
            f"{principal(settings)} lacks {', '.join(missing)}; `flashcast topics acls` prints the "
            "commands that grant what every role needs (a topic that is missing looks the same)"
        )


def _on_topics(admin: KafkaAdminClient, names: Iterable[str]) -> dict[str, set[str]]:
    """Operations by topic, of those that are there or are not ours to see."""
    told: list[dict[str, Any]] = admin.describe_topics(list(names))
    return {
        topic["name"]: _named(topic["authorized_operations"] or ())
        for topic in told
        if topic["error_code"] in (0, TopicAuthorizationFailedError.errno)
    }


def _on_groups(admin: KafkaAdminClient, names: Iterable[str]) -> dict[str, set[str]]:
    """Operations by group, of those that exist or are not ours to see."""
    held = {}
    for name in names:
        try:
            told = admin.describe_groups([name], include_authorized_operations=True)
        except GroupAuthorizationFailedError:
            held[name] = set[str]()
            continue
        if told[name]["authorized_operations"] is not None:
            held[name] = _named(told[name]["authorized_operations"])
    return held


def _named(operations: Iterable[str]) -> set[str]:
    """As grants name them, in upper case: DESCRIBE_CONFIGS is DescribeConfigs there."""
    return {one.upper().replace("_", "") for one in operations}
