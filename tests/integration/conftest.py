"""Brokers for the integration tests: Apache Kafka, and the embedded one."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from brokers import LAUNCHER, Kafka, create_topics, fresh_settings, launch
from secured import PLAIN_PASSWORD, SecuredKafka

from streams.embedded import EmbeddedBroker, binary
from streams.errors import ConfigurationError
from streams.settings import Settings


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Apache Kafka for the whole session; stopped whatever happens."""
    if not LAUNCHER:
        pytest.skip("FLASHCAST_TEST_KAFKA does not name a launcher of Apache Kafka")
    directory = tmp_path_factory.mktemp("kafka") / "broker"
    try:
        cluster = json.loads(launch("start", "--dir", str(directory)))
        yield Kafka(directory, cluster["bootstrap_servers"])
    finally:
        launch("stop", "--dir", str(directory), "--kill")


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """Apache Kafka with TLS, passwords (SCRAM, and PLAIN for `plain`), certificates and ACLs."""
    if not LAUNCHER:
        pytest.skip("FLASHCAST_TEST_KAFKA does not name a launcher of Apache Kafka")
    directory = tmp_path_factory.mktemp("secured") / "broker"
    mechanisms = "sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN"
    plain = (
        "listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain."
        f'PlainLoginModule required user_plain="{PLAIN_PASSWORD}";'
    )
    try:
        told = launch(
            "start", "--dir", str(directory), "--secure", "--set", mechanisms, "--set", plain
        )
        cluster = json.loads(told)
        kafka = SecuredKafka(
            directory, cluster["bootstrap_servers"], cluster["mtls_bootstrap_servers"]
        )
        yield kafka
        kafka.close()
    finally:
        launch("stop", "--dir", str(directory), "--kill")


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """The embedded broker for the whole session."""
    try:
        binary()
    except ConfigurationError as error:
        pytest.skip(str(error))
    with EmbeddedBroker(tmp_path_factory.mktemp("embedded")) as broker:
        yield broker


@pytest.fixture
def kafka_settings(kafka: Kafka, tmp_path: Path) -> Settings:
    """Settings for Apache Kafka, topics created."""
    settings = fresh_settings(kafka.bootstrap_servers, tmp_path / "data")
    create_topics(settings)
    return settings
