"""Creating, checking, copying and reading topics on real brokers."""

import asyncio
import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from brokers import fresh_settings
from kafka import KafkaConsumer, KafkaProducer
from kafka import TopicPartition as Tp
from kafka.admin import KafkaAdminClient, NewTopic

from streams import topic_admin, topics
from streams.errors import BrokerError, ConfigurationError
from streams.partitioner import partition_of
from streams.schema_examples import EXAMPLES
from streams.settings import Settings
from streams.tail import run_tail
from streams.topic_rekey import INPUTS, run_rekey
from streams.web.capacity_feed import CapacityFeed

SEED = 97
SKUS = [f"sku-{number}" for number in range(37)]


@pytest.fixture(
    params=[
        pytest.param("kafka", marks=pytest.mark.kafka),
        pytest.param("embedded", marks=pytest.mark.embedded),
    ]
)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """No topics yet, on each kind of broker."""
    broker = request.getfixturevalue(request.param)
    exact = "exactly_once" if request.param == "kafka" else "at_least_once"
    yield fresh_settings(broker.bootstrap_servers, tmp_path, processing_guarantee=exact)


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    return dict(json.loads(capsys.readouterr().out.splitlines()[-1]))


def test_topics_are_created_once_and_are_then_as_they_should_be(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert topic_admin.run_check(settings, json_output=True) == 1
    assert said(capsys)["ok"] is False
    assert topic_admin.run_create(settings, json_output=True) == 0
    assert said(capsys)["created"] == [
        plan.name for plan in topics.plans(settings.topic_prefix, settings.application)
    ]
    assert topic_admin.run_create(settings, json_output=True) == 0
    assert said(capsys) == {"created": [], "findings": []}
    assert topic_admin.run_check(settings) == 0
    assert topic_admin.run_describe(settings, json_output=True) == 0


def test_topics_of_the_shop_decide_how_many_partitions_ours_get(settings: Settings) -> None:
    admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    names = [settings.topic(name) for name in topics.EVENT_TOPICS]
    admin.create_topics([NewTopic(name, 7, 1) for name in names], wait_for_metadata=True)
    topic_admin.create(settings)
    found = topic_admin.survey(admin, [settings.topic(topics.DEMAND_WINDOWS), *names])
    admin.close()
    assert {one.partitions for one in found.values()} == {7}


class OutpacedAdmin(KafkaAdminClient):
    """Somebody else creates `theirs` after it was looked what is there, and before we do."""

    def __init__(self, settings: Settings, theirs: dict[str, int]) -> None:
        super().__init__(bootstrap_servers=settings.bootstrap_servers)
        self._theirs = [NewTopic(settings.topic(name), n, 1) for name, n in theirs.items()]

    def create_topics(self, new_topics: Any, **options: Any) -> Any:
        super().create_topics(self._theirs)
        return super().create_topics(new_topics, **options)


def test_topics_that_somebody_else_creates_meanwhile_are_there(settings: Settings) -> None:
    admin = OutpacedAdmin(settings, {topics.CLICKS: settings.partitions, topics.LATE_EVENTS: 4})
    created = topic_admin.create_with(admin, settings)
    planned = {plan.name for plan in topics.plans(settings.topic_prefix, settings.application)}
    assert planned - set(created) == {settings.topic(topics.CLICKS), settings.topic("late-events")}
    assert topic_admin.survey(admin, planned).keys() == planned
    admin.close()


def test_topics_that_somebody_else_creates_meanwhile_must_agree_with_ours(
    settings: Settings,
) -> None:
    admin = OutpacedAdmin(settings, {topics.CLICKS: settings.partitions + 3})
    with pytest.raises(ConfigurationError, match="equal numbers of partitions"):
        topic_admin.create_with(admin, settings)
    admin.close()


def test_a_topic_that_the_broker_refuses_is_named_with_its_reason(kafka_settings: Settings) -> None:
    impossible = kafka_settings.model_copy(update={"topic_prefix": "no/", "partitions": 3})
    with pytest.raises(BrokerError, match=r"'no/clicks' is refused .*name is invalid"):
        topic_admin.create(impossible)


def test_only_topics_under_a_prefix_are_deleted(settings: Settings) -> None:
    topic_admin.create(settings)
    with pytest.raises(ConfigurationError, match="FLASHCAST_TOPIC_PREFIX"):
        topic_admin.delete(settings.model_copy(update={"topic_prefix": ""}))
    topic_admin.delete(settings)


def test_a_broker_that_is_not_there_is_named(tmp_path: Path) -> None:
    nobody = fresh_settings("127.0.0.1:1", tmp_path)
    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:1"):
        run_tail(nobody, [], follow=False)


def publish_misplaced(settings: Settings) -> dict[str, list[tuple[str, int]]]:
    """Events as a careless producer publishes them: no key, any partition, unequal counts.

    Gives (SKU, number) by topic, in the order of publication.
    """
    print(f"seed {SEED}")
    draw = random.Random(SEED)
    admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    counts = dict(zip(INPUTS, (3, 5, 2, 1, 1, 2), strict=True))
    wanted = [NewTopic(settings.topic(one), n, 1) for one, n in counts.items()]
    admin.create_topics(wanted, wait_for_metadata=True)
    admin.close()
    order: dict[str, list[tuple[str, int]]] = defaultdict(list)
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap_servers)
    start_ms = time.time_ns() // 1_000_000 - 100_000
    for number in range(3_000):
        topic = draw.choice(INPUTS)
        sku = draw.choice(SKUS)
        producer.send(
            settings.topic(topic),
            msgspec.json.encode({"sku": sku, "number": number}),
            key=draw.choice([None, b"user-5", sku.encode()]),
            headers=[("trace", str(number).encode())],
            partition=draw.randrange(counts[topic]),
            timestamp_ms=start_ms + number,
        )
        order[topic].append((sku, number))
    for value, key in ((b"not json", b"k"), (b'{"sku": 5}', None), (b"\xff", b"\xff")):
        producer.send(settings.topic(topics.CLICKS), value, key, partition=0)
    producer.send(settings.topic(topics.CATALOG), None, b"sku-1", partition=0)
    producer.flush()
    producer.close()
    return order


def test_rekey_copies_every_record_to_where_its_sku_belongs_in_order(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    source = settings.topic_prefix
    order = publish_misplaced(settings)
    assert run_rekey(settings, source, source + "new-", json_output=True) == 0
    report = said(capsys)
    assert report["exact"] is True
    assert report["topics"]["clicks"]["without_sku"] == 3  # type: ignore[index]
    target = settings.model_copy(update={"topic_prefix": source + "new-"})
    consumer = KafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers, auto_offset_reset="earliest"
    )
    for topic in INPUTS:
        places = [Tp(target.topic(topic), number) for number in range(settings.partitions)]
        assert consumer.partitions_for_topic(target.topic(topic)) == set(range(settings.partitions))
        consumer.assign(places)
        left = sum(consumer.end_offsets(places).values())
        found: dict[str, list[int]] = defaultdict(list)
        while left:
            for place, records in consumer.poll(1_000).items():
                left -= len(records)
                for one in records:
                    if not (one.headers and one.value):
                        continue
                    body = json.loads(one.value)
                    assert one.key == body["sku"].encode()
                    assert place.partition == partition_of(one.key, settings.partitions, "murmur2")
                    assert one.headers == [("trace", str(body["number"]).encode())]
                    found[body["sku"]].append(body["number"])
        wanted: dict[str, list[int]] = defaultdict(list)
        for sku, number in order[topic]:
            wanted[sku].append(number)
        assert found == wanted, topic  # all of them, each SKU's in the order of publication
    consumer.close()
    with pytest.raises(ConfigurationError, match="already"):
        run_rekey(settings, source, source + "new-")


def test_tail_shows_what_is_there_and_leaves(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    topic_admin.create(settings)
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap_servers)
    value = msgspec.json.encode(EXAMPLES[topics.RESTOCK_EVENTS])
    for number in range(500):
        producer.send(
            settings.topic(topics.RESTOCK_EVENTS), value, b"LAMP-0042", partition=number % 4
        )
    producer.flush()
    producer.close()
    assert run_tail(settings, [], json_output=True, follow=False) == 0
    lines = [json.loads(one) for one in capsys.readouterr().out.splitlines() if one.startswith("{")]
    assert len(lines) == 500
    assert len({(one["partition"], one["offset"]) for one in lines}) == 500


def test_tail_that_is_not_to_follow_says_which_topics_are_not_there(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match=r"restock-events: not there, .*topics create"):
        run_tail(settings, [topics.RESTOCK_EVENTS], follow=False)


async def test_the_capacity_answer_follows_its_topic_even_when_that_comes_later(
    settings: Settings,
) -> None:
    feed = CapacityFeed(settings, pytest.fail)
    await feed.start()
    await asyncio.to_thread(topic_admin.create, settings)
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap_servers)
    example = EXAMPLES[topics.CAPACITY_FORECASTS]
    for one in (example, msgspec.structs.replace(example, observed_rps=7.0)):
        producer.send(
            settings.topic(topics.CAPACITY_FORECASTS),
            msgspec.json.encode(one),
            b"shop",
            partition=0,
        )
    producer.flush()
    producer.close()
    async with asyncio.timeout(30):
        while (held := feed.latest("shop")) is None or held.forecast.observed_rps != 7.0:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await feed.stop()
