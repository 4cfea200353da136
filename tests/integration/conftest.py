"""Brokers for the integration tests: Apache Kafka through the launcher that FLASHCAST_TEST_KAFKA names, and the embedded one."""

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import KafkaAdminClient, NewTopic

from streams import topics
from streams.embedded import EmbeddedBroker, binary
from streams.errors import ConfigurationError
from streams.settings import Settings, load

LAUNCHER = os.environ.get("FLASHCAST_TEST_KAFKA", "")


@dataclass
class Kafka:
    """One running Apache Kafka; `kill` and `start` are for drills."""

    directory: Path
    bootstrap_servers: str

    def start(self) -> None:
        run("start", "--dir", str(self.directory))

    def stop(self, kill: bool = False) -> None:
        run("stop", "--dir", str(self.directory), *(["--kill"] if kill else []))


def run(*arguments: str) -> str:
    done = subprocess.run([LAUNCHER, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Apache Kafka for the whole session; stopped whatever happens."""
    if not LAUNCHER:
        pytest.skip("FLASHCAST_TEST_KAFKA does not name a launcher of Apache Kafka")
    directory = tmp_path_factory.mktemp("kafka") / "broker"
    try:
        cluster = json.loads(run("start", "--dir", str(directory)))
        yield Kafka(directory, cluster["bootstrap_servers"])
    finally:
        run("stop", "--dir", str(directory), "--kill")


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """The embedded broker for the whole session."""
    try:
        binary()
    except ConfigurationError as error:
        pytest.skip(str(error))
    with EmbeddedBroker(tmp_path_factory.mktemp("embedded")) as broker:
        yield broker


def fresh_settings(bootstrap_servers: str, data_dir: Path, **changes: Any) -> Settings:
    """Settings under a topic prefix of their own, so that tests can share a broker."""
    values: dict[str, Any] = {
        "bootstrap_servers": bootstrap_servers,
        "topic_prefix": f"t{uuid.uuid4().hex[:8]}-",
        "data_dir": data_dir,
        "web_port": 0,
        "partitions": 4,
    }
    return load(**(values | changes))


def create_topics(settings: Settings, partitions: dict[str, int] | None = None) -> None:
    """Every topic of the plan; `partitions` overrides by logical name."""
    overrides = partitions or {}
    admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    try:
        admin.create_topics(
            [
                NewTopic(
                    plan.name,
                    overrides.get(
                        plan.name.removeprefix(settings.topic_prefix),
                        plan.partitions or settings.partitions,
                    ),
                    1,
                    topic_configs=plan.config,
                )
                for plan in topics.plans(settings.topic_prefix)
            ]
        )
    finally:
        admin.close()


@pytest.fixture
def kafka_settings(kafka: Kafka, tmp_path: Path) -> Settings:
    """Settings for Apache Kafka, topics created."""
    settings = fresh_settings(kafka.bootstrap_servers, tmp_path / "data")
    create_topics(settings)
    return settings
