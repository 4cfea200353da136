"""The bench of throughput at its smallest: flashcast on Apache Kafka, its answer checked."""

from pathlib import Path

import pytest
from brokers import Kafka

from benchmarks.throughput.catalogue import chosen
from benchmarks.throughput.running import Bench

EVENTS = 60_000


@pytest.mark.kafka
@pytest.mark.parametrize("shape", ["plain", "zstd", "small-batches"])
def test_flashcast_answers_right(kafka: Kafka, tmp_path: Path, shape: str) -> None:
    (program,) = chosen(["flashcast"])
    row = Bench(kafka.bootstrap_servers, tmp_path).run(program, EVENTS, 0, shape)
    assert row["answer_right"], row
    assert row["events"] == EVENTS
    assert row["events_per_s"] > 0
    assert row["rss_mb"] > 0
