"""What must hold before a worker joins its group: topics that are there, co-partitioned, and keyed
as it expects.
"""

import asyncio
from collections.abc import Mapping
from typing import Final, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.acls import grants
from streams.codec.batches import iter_records
from streams.errors import ConfigurationError
from streams.fetching import RawReader, client_options, isolation_level
from streams.partitioner import partition_of
from streams.permissions import require
from streams.settings import Settings
from streams.topics import CAPACITY_FORECASTS, EVENT_TOPICS, plans
from streams.unreachable import diagnosed

log = structlog.get_logger("flashcast.preflight")

SAMPLE_RECORDS_MIN: Final = 1_000  # fewer say nothing
SAMPLE_RECORDS: Final = 3_000  # over all event topics and partitions
WRONG_SHARE_MAX: Final = 0.25  # another partitioner than the producers' puts half there or more
WRONG_SHARE_TOLD: Final = 0.01

Key = TypeVar("Key")


async def check(settings: Settings) -> int:
    """The number of partitions of every topic keyed by SKU.

    Raises BrokerError when the broker does not answer, ConfigurationError for everything that an
    operator must mend first.
    """
    consumer = AIOKafkaConsumer(
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level=isolation_level(settings),
        check_crcs=False,
        fetch_max_wait_ms=20,  # a request for offsets waits behind a fetch
        **client_options(settings),
    )
    try:
        await consumer.start()
        if settings.security_protocol != "PLAINTEXT":
            await asyncio.to_thread(require, settings, grants("worker", settings))
        cluster = await consumer._client.fetch_all_metadata()
        names = [plan.name for plan in plans(settings.topic_prefix, settings.application)]
        counts = {name: len(cluster.partitions_for_topic(name) or ()) for name in names}
        partitions = partition_count(counts, settings)
        await _check_keys(consumer, settings, partitions)
    except KafkaError as error:
        raise await diagnosed(settings, error) from None
    finally:
        await consumer.stop()
    return partitions


def partition_count(counts: Mapping[str, int], settings: Settings) -> int:
    """The one number that all topics keyed by SKU have, of partition counts by topic name."""
    missing = sorted(name for name, count in counts.items() if count == 0)
    if missing:
        raise ConfigurationError(
            f"topics are missing: {', '.join(missing)}; create them with `flashcast topics create`"
            + (f", or let {settings.sasl_username} describe them" if settings.sasl_username else "")
        )
    keyed = {
        name: count for name, count in counts.items() if name != settings.topic(CAPACITY_FORECASTS)
    }
    if len(set(keyed.values())) > 1:
        shown = ", ".join(f"{name}: {count}" for name, count in sorted(keyed.items()))
        raise ConfigurationError(
            f"topics keyed by SKU must have the same number of partitions, but they have {shown}; "
            "copy the odd ones with `flashcast topics rekey`, or create them anew"
        )
    return next(iter(keyed.values()))


def spread(sizes: Mapping[Key, int], total: int) -> dict[Key, int]:
    """`total` shared out evenly, as far as each has so many."""
    shares = {}
    for left, (key, size) in enumerate(sorted(sizes.items(), key=lambda one: one[1])):
        shares[key] = min(size, total // (len(sizes) - left))
        total -= shares[key]
    return shares


async def _check_keys(consumer: AIOKafkaConsumer, settings: Settings, partitions: int) -> None:
    """Refuses when so many of the newest records lie where their key does not belong that the
    partitioner must be another; fewer are dead letters, and must not keep a worker from its sale.
    """
    if settings.partitioner == "none" or partitions == 1:
        return
    tps = [
        TopicPartition(settings.topic(topic), number)
        for topic in EVENT_TOPICS
        for number in range(partitions)
    ]
    await consumer._client.set_topics({tp.topic for tp in tps})  # all at once: quicker
    begins = await consumer.beginning_offsets(tps)
    ends = await consumer.end_offsets(tps)
    shares = spread({tp: ends[tp] - begins[tp] for tp in tps}, SAMPLE_RECORDS)
    newest = {tp: (ends[tp] - share, ends[tp]) for tp, share in shares.items()}
    seen = wrong = 0
    example = ""
    async for fetch in RawReader(consumer, lambda name: name).read_all(newest):
        for record in iter_records(fetch.data, fetch.first_offset):
            seen += 1
            belongs = partition_of(record.key or b"", partitions, settings.partitioner)
            if record.key and belongs != fetch.partition:
                wrong += 1
                # not its key, which is a shopper's where producers key by shopper
                example = f"{fetch.topic}/{fetch.partition} offset {record.offset}"
    judge_placement(settings, seen, wrong, example)


def judge_placement(settings: Settings, seen: int, wrong: int, example: str) -> None:
    """Of `seen` records `wrong` are not where their key belongs; `example` says where one lies.
    Warns, or raises ConfigurationError where another partitioner explains it.
    """
    if seen < SAMPLE_RECORDS_MIN or wrong <= WRONG_SHARE_TOLD * seen:
        return
    found = (
        f"{wrong} of {seen} sampled records are not in the partition of their key under "
        f"FLASHCAST_PARTITIONER = {settings.partitioner} (e.g. {example})"
    )
    if wrong > WRONG_SHARE_MAX * seen:
        raise ConfigurationError(
            f"{found}: set it to what your producers use, or copy the topics with "
            "`flashcast topics rekey`"
        )
    log.warning(f"{found}: they become dead letters; does one producer partition otherwise?")
