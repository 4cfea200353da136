"""The bench of recovery at its smallest, on Apache Kafka: what is restored is what was written."""

from pathlib import Path

import pytest
from brokers import Kafka

from benchmarks.recovery import KINDS, run, table
from streams.settings import load

SKUS = 400


@pytest.mark.kafka
def test_every_kind_of_restore_finds_all_that_was_written(kafka: Kafka, tmp_path: Path) -> None:
    settings = load(
        bootstrap_servers=kafka.bootstrap_servers,
        topic_prefix="recovery-",
        partitions=2,
        partitioner="none",
        data_dir=tmp_path,
        skus_max=2 * SKUS,
    )
    result = run(settings, SKUS, 1)
    figures = result["figures"]
    assert all(figures[kind]["rows_per_s"] > 0 for kind in KINDS)
    assert figures["broker, all it reads"]["mb"] > figures["broker, without rows"]["mb"] > 0
    assert len(list(table(result))) == 1 + len(figures)
