"""The seam inside aiokafka, and what is made where it does not hold."""

from pathlib import Path

import aiokafka.consumer.fetcher as aiokafka_fetcher
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams import fetch_seam
from streams.codec.batches import iter_records, read_batches
from streams.codec.decode import Fetch
from streams.errors import CodecError, ConfigurationError, StateError
from streams.fetch_seam import pack
from streams.fetching import DAMAGED_MAX, Drain, client_options, cut
from streams.settings import load

TIME_MS = 1_700_000_000_000
RECORDS = [
    (40, TIME_MS, b"a", b"one", []),
    (42, TIME_MS + 5, None, b"two", [("h", b"x")]),
    (50, TIME_MS + 1, b"c", None, [("n", None)]),
]


def flat(data: bytes) -> list[tuple[object, ...]]:
    return [
        (one.offset, one.timestamp_ms, one.key, one.value, list(one.headers))
        for one in iter_records(data)
    ]


def test_the_pinned_aiokafka_gives_raw_answers() -> None:
    assert fetch_seam.seam_problem() is None


def test_an_aiokafka_that_changed_inside_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(aiokafka_fetcher, "MemoryRecords")
    assert fetch_seam.seam_problem() == "aiokafka.consumer.fetcher has no MemoryRecords"


def test_packed_records_read_back_with_their_offsets() -> None:
    data, next_offset = read_batches(pack(RECORDS), 40)
    assert flat(data) == RECORDS
    assert next_offset == 51


def test_no_records_pack_into_nothing() -> None:
    assert pack([]) == b""


def test_a_fetch_is_cut_at_an_offset_inside_a_batch() -> None:
    fetch = Fetch("clicks", 0, 41, 51, pack(RECORDS))
    short = cut(fetch, 50)
    assert flat(short.data) == RECORDS[1:2]
    assert (short.first_offset, short.next_offset) == (41, 50)


def test_what_a_fetch_says_of_unreadable_batches_is_cut_with_it() -> None:
    fetch = Fetch("clicks", 0, 40, 51, pack(RECORDS), {40: "torn", 50: "torn too"})
    assert cut(fetch, 50).unreadable == {40: "torn"}


async def test_an_answer_that_stays_damaged_is_fetched_again_so_many_times_and_no_more() -> None:
    drain = Drain(AIOKafkaConsumer(), str, raw=True)
    clicks, carts = TopicPartition("clicks", 3), TopicPartition("carts", 3)
    damaged = CodecError("batch at offset 7 is corrupt: wrong CRC")
    for _ in range(DAMAGED_MAX - 1):
        assert drain._damage(clicks, damaged) is damaged
    assert drain._damage(carts, damaged) is damaged
    error = drain._damage(clicks, damaged)
    assert isinstance(error, StateError)
    assert "clicks/3: batch at offset 7" in str(error) and "another replica" in str(error)


def test_a_client_is_told_how_to_sign_in() -> None:
    settings = load(
        bootstrap_servers="k1:9092,k2:9092",
        security_protocol="SASL_PLAINTEXT",
        sasl_username="worker",
        sasl_password="hush",
    )
    options = client_options(settings)
    assert options["bootstrap_servers"] == ["k1:9092", "k2:9092"]
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("worker", "hush")


def test_certificates_that_cannot_be_read_name_their_settings(tmp_path: Path) -> None:
    settings = load(security_protocol="SSL", ssl_ca_file=tmp_path / "missing.pem")
    with pytest.raises(ConfigurationError, match=r"KAFKA_SSL_CA_FILE = .*missing\.pem"):
        client_options(settings)
