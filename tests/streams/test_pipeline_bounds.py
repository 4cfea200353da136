"""Outputs that nobody takes stop the core; what waits stays within its bound."""

from streams import pipeline, topics
from streams.settings import load
from tests.streams.harness import NOW_MS, Core, Log, event

START_MS = NOW_MS - NOW_MS % 60_000
BYTES_MAX = 2**20
RECORD_BYTES_MAX = 2_000  # of a dead letter or window made here


def a_log(*, skus: int, buckets: int) -> Log:
    """Clicks of all SKUs in each bucket; carts and orders at the beginning and the end."""
    log = Log()
    for bucket in range(buckets):
        at_ms = START_MS + bucket * 10_000
        log.add(
            topics.CLICKS,
            *(event(bucket * skus + n, f"S{n}", at_ms) for n in range(skus)),
        )
    for at, at_ms in enumerate((START_MS, START_MS + buckets * 10_000 + 60_000)):
        for topic in topics.EVENT_TOPICS:
            quantity = int(topic != topics.CLICKS)
            log.add(topic, event(10**6 + at, "S0", at_ms, quantity=quantity))
    return log


def test_a_flood_of_dead_letters_waits_for_the_checkpoint_that_takes_them() -> None:
    log = a_log(skus=6_000, buckets=1)
    settings = load(
        clock="event", partitions=1, forecasting=False, skus_max=100, outputs_bytes_max=BYTES_MAX
    )
    core = Core(settings, log)
    for topic in topics.EVENT_TOPICS:
        core.feed(topic)
    waited = 0
    while True:
        core.run()
        assert core.pipeline.outputs_bytes <= BYTES_MAX + pipeline.REFUSED_MAX * RECORD_BYTES_MAX
        waited += core.pipeline.full
        if not core.pipeline.pending:
            break
        core.checkpoint()
    assert waited > 1
    assert len(core.decoded(topics.DEAD_LETTERS)) == 6_000 - 25


def test_buckets_stay_open_while_the_windows_of_others_wait_to_be_taken() -> None:
    buckets = 12
    log = a_log(skus=4_000, buckets=buckets)
    settings = load(clock="event", partitions=1, forecasting=False, outputs_bytes_max=BYTES_MAX)
    core = Core(settings, log)
    for topic in topics.EVENT_TOPICS:
        core.feed(topic)
    waited = 0
    while True:
        core.run()
        one_bucket = 4_000 * RECORD_BYTES_MAX // 4
        assert core.pipeline.outputs_bytes <= BYTES_MAX + one_bucket
        waited += core.pipeline.full
        if not core.pipeline.pending:
            break
        core.checkpoint()
    assert waited > 3
    windows = core.decoded(topics.DEMAND_WINDOWS)
    assert len(windows) == 4_000 * buckets
    assert sum(one["clicks"] for one in windows) == 4_000 * buckets
