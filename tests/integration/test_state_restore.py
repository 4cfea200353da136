"""Restores on a broker: what is read, what gives way, and what refuses to start."""

import shutil
from dataclasses import replace

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from checkpoints import (
    PARTITION,
    checkpoint,
    commit_all,
    emitter_of,
    fill_inputs,
    levels,
    publish,
    restored,
    taken,
)
from kafka.admin import KafkaAdminClient
from kafka.structs import TopicPartition as AdminTopicPartition
from structlog.testing import capture_logs

from streams import topics
from streams.cluster import Cluster
from streams.codec.batches import iter_records
from streams.errors import StateError
from streams.settings import Settings
from streams.state import marker as markers
from streams.state.marker import CUT_KEY_PREFIX, MARKER_KEY
from streams.state.places import copy_folder
from streams.state.recovery import references, seen_before

pytestmark = pytest.mark.kafka


async def test_state_that_is_lost_refuses_to_start_anew(kafka_settings: Settings) -> None:
    await fill_inputs(kafka_settings, 2)
    group = kafka_settings.topic(kafka_settings.application)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka_settings.bootstrap_servers, group_id=group, enable_auto_commit=False
    )
    await consumer.start()
    tp = TopicPartition(kafka_settings.topic(topics.CARTS), PARTITION)
    consumer.assign([tp])
    await consumer.commit({tp: 1})
    await consumer.stop()
    with pytest.raises(StateError, match=rf"no checkpoint, but group '{group}' .*--delete"):
        await taken(kafka_settings)


async def test_state_of_records_judged_under_another_partitioner_refuses_to_start(
    kafka_settings: Settings,
) -> None:
    await fill_inputs(kafka_settings, 3)
    taken_before = checkpoint(1, ["A"])
    marker = msgspec.structs.replace(taken_before.marker, partitioner="crc32")
    await commit_all(kafka_settings, [replace(taken_before, marker=marker)])
    with pytest.raises(StateError, match=r"FLASHCAST_PARTITIONER = crc32, now it is murmur2"):
        await taken(kafka_settings)


async def test_state_written_under_another_guarantee_is_noted(kafka_settings: Settings) -> None:
    await fill_inputs(kafka_settings, 3)
    taken_before = checkpoint(1, ["A"])
    marker = msgspec.structs.replace(taken_before.marker, guarantee="at_least_once")
    await commit_all(kafka_settings, [replace(taken_before, marker=marker)])
    with capture_logs() as lines:
        await taken(kafka_settings)
    told = [line for line in lines if "FLASHCAST_PROCESSING_GUARANTEE" in line["event"]]
    assert [(line["then"], line["now"]) for line in told] == [("at_least_once", "exactly_once")]


async def test_input_that_retention_took_before_it_was_processed_refuses_to_start(
    kafka_settings: Settings,
) -> None:
    await fill_inputs(kafka_settings, 5)
    await commit_all(kafka_settings, [checkpoint(2, ["A"])])
    admin = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
    admin.delete_records({AdminTopicPartition(kafka_settings.topic(topics.ORDERS), PARTITION): 4})
    admin.close()
    with pytest.raises(StateError, match=r"offset 2, but the log now begins at 4.*retention\.ms"):
        await taken(kafka_settings)


async def test_a_checkpoint_ahead_of_its_input_refuses_to_start(kafka_settings: Settings) -> None:
    await fill_inputs(kafka_settings, 3)
    await commit_all(kafka_settings, [checkpoint(4, ["A"])])
    with pytest.raises(
        StateError, match=r"clicks/1: the checkpoint ends at offset 4, .* ends at 3"
    ):
        await taken(kafka_settings)


async def test_a_cut_goes_when_the_input_it_cut_has_gone(kafka_settings: Settings) -> None:
    await fill_inputs(kafka_settings, 5)
    cuts = [(CUT_KEY_PREFIX + b"orders|%d" % at, b"{}") for at in (1, 3)]
    await commit_all(kafka_settings, [checkpoint(4, ["A"], cuts=cuts)])
    admin = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
    admin.delete_records({AdminTopicPartition(kafka_settings.topic(topics.ORDERS), PARTITION): 2})
    admin.close()
    emitter = emitter_of(kafka_settings)
    state = await restored(kafka_settings, emitter)
    assert (state.cuts, state.stats.cuts_expired) == (cuts[1:], 1)
    await emitter.commit(checkpoint(5, ["A"]))
    await emitter.stop()
    shutil.rmtree(copy_folder(kafka_settings, PARTITION))
    state = await taken(kafka_settings)
    assert (state.cuts, state.stats.cuts_expired) == (cuts[1:], 0)


async def test_reference_topics_are_read_from_their_start_to_their_end(
    kafka_settings: Settings,
) -> None:
    levels_of_stock = [(b"A", b"old"), (b"B", b"b"), (b"A", None)]
    await publish(kafka_settings, topics.STOCK_LEVELS, levels_of_stock)
    found: dict[str, list[tuple[bytes | None, bytes | None]]] = {}
    read_on: dict[str, int] = {}
    async with Cluster(kafka_settings).reader(PARTITION) as reader:
        async for fetch in references(reader):
            for one in iter_records(fetch.data, fetch.first_offset):
                found.setdefault(fetch.topic, []).append((one.key, one.value))
            read_on[fetch.topic] = fetch.next_offset
    assert found == {topics.STOCK_LEVELS: levels_of_stock}
    assert read_on == dict.fromkeys(topics.REFERENCE_TOPICS, 0) | {topics.STOCK_LEVELS: 3}


async def test_duplicates_are_looked_for_in_this_generation_and_the_one_before(
    kafka_settings: Settings,
) -> None:
    await fill_inputs(kafka_settings, 25)
    marker = checkpoint(23, []).marker
    async with Cluster(kafka_settings).reader(PARTITION) as reader:
        seen: dict[str, list[int]] = {}
        async for fetch in seen_before(reader, marker, 10):
            offsets_read = [r.offset for r in iter_records(fetch.data, fetch.first_offset)]
            seen.setdefault(fetch.topic, []).extend(offsets_read)
    assert seen == {topic: list(range(10, 23)) for topic in topics.EVENT_TOPICS}


async def test_history_that_retention_took_is_counted(kafka_settings: Settings) -> None:
    await fill_inputs(kafka_settings, 5)
    await commit_all(kafka_settings, [checkpoint(1, ["A", "B", "C"])])
    admin = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
    admin.delete_records(
        {AdminTopicPartition(kafka_settings.topic(topics.DEMAND_WINDOWS), PARTITION): 2}
    )
    admin.close()
    state = await taken(kafka_settings)
    assert (state.history, state.stats.history_missing) == ([b"C at 1"], 2)


async def test_a_row_that_fails_its_checksum_gives_way_to_the_newest_intact_one(
    kafka_settings: Settings,
) -> None:
    await fill_inputs(kafka_settings, 9)
    await commit_all(kafka_settings, [checkpoint(step, ["A", "B", "C"]) for step in (1, 2)])
    await put_in_changelog(kafka_settings, {b"A": b"garbage", b"B": b"\0" * 700})
    state = await taken(kafka_settings)
    assert levels(state) == {"A": 2, "B": 2, "C": 2}
    assert state.mended == (b"A", b"B")
    shutil.rmtree(kafka_settings.data_dir)
    state = await taken(kafka_settings)
    assert levels(state) == {"A": 2, "B": 2, "C": 2}
    await commit_all(kafka_settings, [checkpoint(3, ["A", "B"])])
    state = await taken(kafka_settings)
    assert levels(state) == {"A": 3, "B": 3, "C": 2}
    assert not state.mended


async def test_a_row_of_which_no_intact_record_is_left_refuses_to_start_until_it_is_given_up(
    kafka_settings: Settings,
) -> None:
    await fill_inputs(kafka_settings, 9)
    await commit_all(kafka_settings, [checkpoint(1, ["A"])])
    await put_in_changelog(kafka_settings, {b"Z": b"garbage"})
    assert levels(await taken(kafka_settings)) == {"A": 1}, "no marker vouches for it"
    marker = markers.encode(checkpoint(1, ["A"]).marker)
    await put_in_changelog(kafka_settings, {MARKER_KEY: marker})
    with pytest.raises(StateError, match=r"1 SKUs \('Z'\).*write a record without value"):
        await taken(kafka_settings)
    await put_in_changelog(kafka_settings, {b"Z": None})
    state = await taken(kafka_settings)
    assert levels(state) == {"A": 1}
    assert not state.mended


async def put_in_changelog(settings: Settings, records: dict[bytes, bytes | None]) -> None:
    """As somebody who is no worker would."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers)
    await producer.start()
    for key, value in records.items():
        await producer.send_and_wait(settings.topic(topics.CHANGELOG), value, key, PARTITION)
    await producer.stop()
