"""`flashcast topics create | check | describe`: the topics of the plan on a broker.

Creating is idempotent: what is there is left alone, and then checked.
"""

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Final

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import (
    KafkaError,
    NoError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from rich.console import Console
from rich.table import Table

from streams.denied import may_not
from streams.errors import BrokerError, ConfigurationError
from streams.fetching import ssl_context
from streams.settings import Settings
from streams.topic_check import Finding, Found, judge
from streams.topics import CAPACITY_FORECASTS, EVENT_TOPICS, plans
from streams.unreachable import diagnosed

REPLICATION_MAX: Final = 3
BOOTSTRAP_TIMEOUT_MS: Final = 10_000
SHOWN_CONFIGS: Final = (
    "cleanup.policy",
    "retention.ms",
    "retention.bytes",
    "max.message.bytes",
    "message.timestamp.type",
    "min.insync.replicas",
)


def admin_options(settings: Settings) -> dict[str, Any]:
    """What every kafka-python client of ours is given: where the broker is, and who we are."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers.split(","),
        "client_id": settings.application,
        "security_protocol": settings.security_protocol,
    }
    if "SSL" in settings.security_protocol:
        options["ssl_context"] = ssl_context(settings)
    if settings.security_protocol.startswith("SASL") and settings.sasl_password is not None:
        options |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.sasl_password.get_secret_value(),
        }
    return options


@contextmanager
def administering(settings: Settings) -> Iterator[KafkaAdminClient]:
    """An admin client; whatever Kafka raises inside the block becomes a BrokerError."""
    admin = None
    try:
        admin = KafkaAdminClient(
            **admin_options(settings), bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS
        )
        yield admin
    except (KafkaError, OSError) as error:
        raise asyncio.run(diagnosed(settings, error)) from None
    finally:
        if admin is not None:
            admin.close()


def survey(admin: KafkaAdminClient, names: Iterable[str]) -> dict[str, Found]:
    """Which of the named topics are there, and how they look."""
    wanted = set(names) & set(admin.list_topics())
    if not wanted:
        return {}
    configs = _configs(admin, sorted(wanted))
    found = {}
    for topic in admin.describe_topics(sorted(wanted)):
        partitions = topic["partitions"]
        found[topic["name"]] = Found(
            partitions=len(partitions),
            replication=min((len(one["replica_nodes"]) for one in partitions), default=0),
            without_leader=sum(one["leader_id"] < 0 for one in partitions),
            config=configs.get(topic["name"], {}),
        )
    return found


def _configs(admin: KafkaAdminClient, names: list[str]) -> Mapping[str, dict[str, str]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    described = admin.describe_configs(resources, config_filter="all")
    by_topic: dict[str, dict[str, str]] = {}
    for by_name in described.values():
        for name, configs in by_name.items():
            by_topic[name] = {
                key: str(configs[key]["value"]) for key in SHOWN_CONFIGS if key in configs
            }
    return by_topic


def create(settings: Settings, replication: int | None = None) -> list[str]:
    """Create what is missing and return its names. Topics that are there decide the number of
    partitions, or else FLASHCAST_PARTITIONS.

    Raises BrokerError, and ConfigurationError when event topics that are there disagree, or a right
    is missing.
    """
    with administering(settings) as admin:
        return create_with(admin, settings, replication)


def create_with(
    admin: KafkaAdminClient, settings: Settings, replication: int | None = None
) -> list[str]:
    """As `create`, with a client that is there already. Also raises KafkaError."""
    wanted = plans(settings.topic_prefix, settings.application)
    names = [plan.name for plan in wanted]
    found = survey(admin, names)
    brokers = _brokers(admin)
    copies = min(REPLICATION_MAX, brokers) if replication is None else replication
    if not 1 <= copies <= brokers:
        raise ConfigurationError(f"replication {copies}: there are {brokers} brokers")
    partitions = partitions_wanted(found, settings)
    missing = {
        plan.name: {
            "num_partitions": plan.partitions or partitions,
            "replication_factor": copies,
            "configs": plan.config,
        }
        for plan in wanted
        if plan.name not in found
    }
    if not missing:
        return []
    answer = admin.create_topics(missing, raise_errors=False)
    created = _created(settings, answer["topics"])
    admin.wait_for_topics(list(missing))
    if len(created) < len(missing):  # what somebody else made meanwhile need not agree with ours
        partitions_wanted(survey(admin, names), settings)
    return created


def _created(settings: Settings, answers: Iterable[Mapping[str, Any]]) -> list[str]:
    """Which topics are new. One that somebody else was quicker to create is there, as wanted."""
    created = []
    for one in answers:
        name, error = one["name"], for_code(one["error_code"])
        if error is TopicAuthorizationFailedError:
            raise may_not(settings, "Create", f"topic {name}")
        if error not in (NoError, TopicAlreadyExistsError):
            why = one.get("error_message") or error.__name__
            raise BrokerError(f"topic {name!r} is refused by the broker: {why}")
        if error is NoError:
            created.append(name)
    return created


def _brokers(admin: KafkaAdminClient) -> int:
    try:
        return len(admin.describe_cluster()["brokers"])
    except KeyError:  # kafka-python on a broker too small to know DescribeCluster, such as ours
        return 1


def partitions_wanted(found: Mapping[str, Found], settings: Settings) -> int:
    """How many partitions new topics keyed by SKU get: as many as those that are there."""
    events = {settings.topic(name) for name in EVENT_TOPICS}
    capacity = settings.topic(CAPACITY_FORECASTS)
    there = {name: one.partitions for name, one in found.items() if name in events}
    there = there or {name: one.partitions for name, one in found.items() if name != capacity}
    counts = set(there.values())
    if len(counts) > 1:
        raise ConfigurationError(
            f"topics that must have equal numbers of partitions have {there}: copy them with "
            "`flashcast topics rekey` under another prefix"
        )
    return counts.pop() if counts else settings.partitions


def delete(settings: Settings) -> None:
    """Delete every topic of the plan; only under a prefix, so that no shop's topics are meant.

    Raises ConfigurationError without a prefix, BrokerError.
    """
    if not settings.topic_prefix:
        raise ConfigurationError("topics are only deleted under a FLASHCAST_TOPIC_PREFIX")
    with administering(settings) as admin:
        there = set(admin.list_topics())
        for plan in plans(settings.topic_prefix, settings.application):
            if plan.name in there:
                try:
                    admin.delete_topics([plan.name])
                except UnknownTopicOrPartitionError:
                    continue  # somebody else was quicker


def run_create(
    settings: Settings, replication: int | None = None, json_output: bool = False
) -> int:
    """Create what is missing, then check everything. Exit code 1 when a problem remains."""
    created = create(settings, replication)
    findings = _judged(settings)
    if json_output:
        print(json.dumps({"created": created, "findings": [asdict(one) for one in findings]}))
    else:
        there = len(plans()) - len(created)
        print(f"{len(created)} topics created, {there} were there.")
        _print_findings(findings)
    return _code(findings)


def run_check(settings: Settings, json_output: bool = False) -> int:
    """Check every topic. Exit code 1 when there is a problem, 0 with warnings alone."""
    findings = _judged(settings)
    if json_output:
        print(
            json.dumps({"ok": not _code(findings), "findings": [asdict(one) for one in findings]})
        )
    else:
        _print_findings(findings)
        if not findings:
            print(f"All {len(plans())} topics are as they should be.")
    return _code(findings)


def run_describe(settings: Settings, json_output: bool = False) -> int:
    """Show every topic of the plan as it is."""
    names = [plan.name for plan in plans(settings.topic_prefix, settings.application)]
    with administering(settings) as admin:
        found = survey(admin, names)
    if json_output:
        shown = {name: asdict(found[name]) if name in found else None for name in names}
        print(json.dumps(shown))
        return 0
    table = Table(box=None, pad_edge=False)
    for heading in ("topic", "partitions", "replicas", "cleanup", "retention"):
        table.add_column(
            heading, justify="right" if heading in ("partitions", "replicas") else "left"
        )
    for name in names:
        if name not in found:
            table.add_row(name, "-", "-", "missing", "")
            continue
        one = found[name]
        policy = one.config.get("cleanup.policy", "?")
        retention = _duration(one.config.get("retention.ms")) if "delete" in policy else "by key"
        table.add_row(name, str(one.partitions), str(one.replication), policy, retention)
    Console(soft_wrap=True).print(table)
    return 0


def _judged(settings: Settings) -> list[Finding]:
    with administering(settings) as admin:
        found = survey(
            admin, (plan.name for plan in plans(settings.topic_prefix, settings.application))
        )
    return judge(found, settings)


def _print_findings(findings: Iterable[Finding]) -> None:
    for one in findings:
        print(f"{one.level}: {one.topic} {one.problem}\n    {one.remedy}")


def _code(findings: Iterable[Finding]) -> int:
    return int(any(one.level == "problem" for one in findings))


def _duration(text: str | None) -> str:
    if text is None:
        return "?"
    retention_ms = int(text)
    if retention_ms < 0:
        return "for ever"
    hours = retention_ms / 3_600_000
    return f"{hours / 24:g} days" if hours >= 24 else f"{hours:g} hours"
