"""Apache Kafka under a test's control, and settings and topics of the test's own on it."""

import os
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka.admin import KafkaAdminClient, NewTopic

from streams import topics
from streams.settings import Settings, load

LAUNCHER = os.environ.get("FLASHCAST_TEST_KAFKA", "")


@dataclass
class Kafka:
    """One running Apache Kafka; `stop` and `start` are for drills."""

    directory: Path
    bootstrap_servers: str

    def start(self) -> None:
        launch("start", "--dir", str(self.directory))

    def stop(self, kill: bool = False) -> None:
        launch("stop", "--dir", str(self.directory), *(["--kill"] if kill else []))


def launch(*arguments: str, attempts: int = 3) -> str:
    """Run the launcher; what it printed. Starting again brings back whatever is down."""
    for _ in range(attempts):
        done = subprocess.run([LAUNCHER, *arguments], capture_output=True, text=True, timeout=120)
        if done.returncode == 0:
            return done.stdout
    raise AssertionError(done.stderr)


def fresh_settings(bootstrap_servers: str, data_dir: Path, **changes: Any) -> Settings:
    """Settings under a topic prefix of their own, so that tests can share a broker."""
    values: dict[str, Any] = {
        "bootstrap_servers": bootstrap_servers,
        "topic_prefix": f"t{uuid.uuid4().hex[:8]}-",
        "data_dir": data_dir,
        "web_port": 0,
        "partitions": 4,
        "checkpoint_interval_ms": 1_000,  # more to meet, and less to wait for
    }
    return load(**(values | changes))


def create_topics(
    settings: Settings,
    partitions: dict[str, int] | None = None,
    compression: dict[str, str] | None = None,
) -> None:
    """Every topic of the plan; `partitions` overrides by logical name. `compression`, by logical
    name: the codec that the broker itself gives to whatever it is sent.
    """
    overrides = partitions or {}
    codecs = {
        settings.topic(name): {"compression.type": codec}
        for name, codec in (compression or {}).items()
    }
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
                    topic_configs=plan.config | codecs.get(plan.name, {}),
                )
                for plan in topics.plans(settings.topic_prefix, settings.application)
            ],
            wait_for_metadata=True,
        )
    finally:
        admin.close()
