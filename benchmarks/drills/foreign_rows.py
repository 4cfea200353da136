"""Somebody else writes to the changelog: rows under SKUs' keys that no worker made."""

import shutil

from kafka import KafkaConsumer, TopicPartition

from benchmarks.drills.aside import Aside
from benchmarks.drills.drill import Drill
from benchmarks.drills.errors import DrillError
from benchmarks.drills.stage import Moment, Stage
from benchmarks.drills.waiting import until

SKUS_HARMED = 8
STRANGER = b"SKU-NOBODY-SELLS"
UNTIL_A_MARKER_S = 3.0, 4.0
REFUSAL_TIMEOUT_S = 60.0
EXIT_CONFIGURATION = 2


def write_foreign_rows(stage: Stage) -> None:
    """Rows with a flipped bit, cut short, and garbage, over those of SKUs with open buckets: behind
    the last marker while the only worker is down, read beside its local copy and without; and in
    front of markers while it runs. Then one under a key that was never written, which nobody can
    mend: refused until it is given up.
    """
    stage.begin(1)
    with Aside(stage) as aside:
        for keep_copy, running in ((True, False), (False, False), (False, True)):
            stage.pause(2.0, 4.0)
            if not running:
                _stopped(stage, keep_copy)
            for partition, rows in enumerate(_newest_rows(stage)):
                for sku in stage.chance.sample(sorted(rows), min(len(rows), SKUS_HARMED)):
                    aside.put("changelog", partition, sku, _harmed(stage, rows[sku]))
                    stage.note(rows_harmed=1)
            if running:
                stage.pause(*UNTIL_A_MARKER_S)
                _stopped(stage, keep_copy)
            fault = Moment()
            stage.fleet.start(0)
            stage.resume(fault)
        aside.put("changelog", 0, STRANGER, b"nobody's row")
        stage.pause(*UNTIL_A_MARKER_S)
        _stopped(stage, keep_copy=False)
        worker = stage.fleet.start(0)
        until(lambda: not worker.running, REFUSAL_TIMEOUT_S, "the worker refuses to run")
        if (
            worker.process.returncode != EXIT_CONFIGURATION
            or STRANGER.decode() not in worker.said()
        ):
            raise DrillError(f"exit code {worker.process.returncode}: {worker.said()[-400:]}")
        aside.put("changelog", 0, STRANGER, None)
        stage.note(refusals=1)
        fault = Moment()
        stage.fleet.start(0)
        stage.resume(fault)


def _stopped(stage: Stage, keep_copy: bool) -> None:
    worker = stage.fleet.at[0]
    worker.kill()
    stage.note(kills=1)
    if not keep_copy:
        shutil.rmtree(worker.settings.data_dir)


def _harmed(stage: Stage, row: bytes) -> bytes:
    at = stage.chance.randrange(len(row))
    flipped = row[:at] + bytes([row[at] ^ 1 << stage.chance.randrange(8)]) + row[at + 1 :]
    return stage.chance.choice((flipped, row[:at], b"garbage"))


def _newest_rows(stage: Stage) -> list[dict[bytes, bytes]]:
    """By SKU, of each partition."""
    name = stage.settings.topic("changelog")
    consumer = KafkaConsumer(
        bootstrap_servers=stage.settings.bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    tps = [TopicPartition(name, number) for number in range(stage.settings.partitions)]
    consumer.assign(tps)
    ends = consumer.end_offsets(tps)
    rows: list[dict[bytes, bytes]] = [{} for _ in tps]
    # a transaction that the killed worker left open holds the readers back until it is aborted,
    # and nothing in it counts
    while any(consumer.position(tp) < end for tp, end in ends.items()):
        for tp, records in consumer.poll(timeout_ms=500).items():
            for record in records:
                if record.key and record.key[0] and record.value:
                    rows[tp.partition][record.key] = record.value
    consumer.close()
    return rows


FOREIGN_ROWS = Drill(
    "changelog-row-corrupt",
    "rows of the changelog overwritten by others: passed over, or refused and never guessed",
    write_foreign_rows,
    static_members=True,
)
