"""A fetch's bytes made plain: checked, uncompressed, committed, whole."""

import gzip
import random
from struct import pack, pack_into

import cramjam
import numpy as np
import pytest
from aiokafka.record.util import calc_crc32c

from streams.codec import batches, compression, kernel, plain
from streams.codec.batches import Record, iter_records, read_batches
from streams.codec.write import encode_records, framed
from streams.errors import BrokerError, CodecError
from tests.streams.codec.logs import NOW_MS, foreign_log, log

PAIRS = [(b"k%d" % at, b"value %d " % at * 20) for at in range(50)]
GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
ABORT, COMMIT = 0, 1


def packed(codec: int, records: bytes, count: int = 50) -> bytes:
    """A batch whose compressed records are `records`, CRC and all."""
    covered = pack(">hiqqqhii", codec, count - 1, NOW_MS, NOW_MS, -1, -1, -1, count) + records
    return pack(">qiibI", 0, 9 + len(covered), -1, 2, calc_crc32c(covered)) + covered


def transactional(pairs: list[tuple[bytes, bytes]], base: int, producer: int) -> bytes:
    (batch,) = encode_records((key, content, ()) for key, content in pairs)
    producer_state = (producer, 0, 0)
    return framed(batch, NOW_MS, base_offset=base, attributes=0x10, producer=producer_state)


def control(base: int, producer: int, kind: int) -> bytes:
    """A transaction's end, as brokers write it."""
    (batch,) = encode_records([(pack(">hh", 0, kind), pack(">hi", 0, 0), ())])
    producer_state = (producer, 0, -1)
    return framed(batch, NOW_MS, base_offset=base, attributes=0x30, producer=producer_state)


def keys(data: bytes) -> list[bytes | None]:
    return [record.key for record in iter_records(data)]


class TestWhole:
    def test_plain_batches_pass_untouched(self) -> None:
        raw = log(PAIRS, 100) + log(PAIRS, 150)
        data, next_offset = read_batches(raw, 100)
        assert data is raw and next_offset == 200
        assert [record.offset for record in iter_records(data, 149)] == list(range(149, 200))

    def test_a_batch_cut_off_by_the_answers_limit_is_left_for_the_next(self) -> None:
        first, second = log(PAIRS, 0), log(PAIRS, 50)
        for cut in (0, 1, 11, 60, 61, len(second) - 1):
            assert read_batches(first + second[:cut], 0) == (first, 50)

    def test_nothing_whole_leaves_the_offset_where_it_was(self) -> None:
        assert read_batches(b"", 7) == (b"", 7)
        assert read_batches(log(PAIRS, 7)[:-1], 7) == (b"", 7)

    def test_the_next_offset_never_goes_back(self) -> None:
        assert read_batches(log(PAIRS, 0), 1_000)[1] == 1_000

    def test_an_emptied_batch_of_a_compacted_topic_still_moves_the_offset(self) -> None:
        raw = bytearray(packed(0, b"", count=0))
        pack_into(">i", raw, 23, 9)  # last offset delta: ten records were there once
        pack_into(">I", raw, 17, calc_crc32c(bytes(raw[21:])))
        data, next_offset = read_batches(bytes(raw), 0)
        assert next_offset == 10 and list(iter_records(data)) == []


class TestDamage:
    def test_any_bit_changed_after_the_crc_is_noticed(self) -> None:
        whole = log(PAIRS[:2], 31)
        for at in range(17, len(whole)):
            changed = bytearray(whole)
            changed[at] ^= 0x10
            with pytest.raises(CodecError, match="batch at offset 31 is corrupt: wrong CRC"):
                read_batches(bytes(changed), 31)

    def test_an_old_message_format_is_named(self) -> None:
        old = bytearray(log(PAIRS))
        old[16] = 1
        with pytest.raises(CodecError, match="message format v1"):
            read_batches(bytes(old), 0)

    def test_an_impossible_length_is_an_error_not_a_loop(self) -> None:
        for length in (-1, 0, 48, -(2**31)):
            torn = bytearray(log(PAIRS))
            pack_into(">i", torn, 8, length)
            with pytest.raises(CodecError, match="batch at offset 0 is corrupt: length"):
                read_batches(bytes(torn), 0)

    def test_shells_may_retry_it_as_they_do_other_errors_of_brokers(self) -> None:
        assert issubclass(CodecError, BrokerError)


class TestCompression:
    @pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD])
    def test_what_another_client_compresses_is_read(self, codec: int) -> None:
        records = [(NOW_MS + at, *pair, [("h", b"x")]) for at, pair in enumerate(PAIRS)]
        raw = foreign_log(records, 10, codec)
        plain = foreign_log(records, 10)
        assert raw[22] == codec and len(raw) < len(plain)
        data, next_offset = read_batches(raw, 10)
        assert next_offset == 60
        assert list(iter_records(data)) == list(iter_records(plain))

    def test_snappy_without_javas_blocks_is_read(self) -> None:
        body = log(PAIRS)[61:]
        data, _ = read_batches(packed(SNAPPY, bytes(cramjam.snappy.compress_raw(body))), 0)
        assert keys(data) == [key for key, _ in PAIRS]

    def test_compressed_and_plain_batches_mix_in_order(self) -> None:
        records = [(NOW_MS, key, content, []) for key, content in PAIRS]
        raw = b"".join(
            foreign_log(records, 50 * at, codec) for at, codec in enumerate((0, 1, 0, 4, 3))
        )
        data, next_offset = read_batches(raw, 0)
        assert next_offset == 250
        assert [record.offset for record in iter_records(data)] == list(range(250))

    @pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD])
    @pytest.mark.parametrize(
        "records", [b"", b"\0", b"no such stream", b"\x82SNAPPY\0" + b"\0" * 12]
    )
    def test_torn_streams_are_errors_that_name_the_offset(self, codec: int, records: bytes) -> None:
        with pytest.raises(CodecError, match="batch at offset 0"):
            data, _ = read_batches(packed(codec, records), 0)
            list(iter_records(data))  # an empty stream may be whole, but not of 50 records

    def test_an_unknown_codec_is_named(self) -> None:
        with pytest.raises(CodecError, match="unknown compression 5"):
            read_batches(packed(5, b"x"), 0)

    @pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD])
    def test_a_few_bytes_cannot_fill_the_memory(
        self, codec: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(compression, "BATCH_BYTES_MAX", 2**20)
        zeros = bytes(2**21)
        block = bytes(cramjam.snappy.compress_raw(bytes(2**20 - 1)))
        javas = b"\x82SNAPPY\0" + pack(">ii", 1, 1) + 2 * (pack(">I", len(block)) + block)
        for bomb in {
            GZIP: [gzip.compress(zeros)],
            SNAPPY: [bytes(cramjam.snappy.compress_raw(zeros)), javas],
            LZ4: [bytes(cramjam.lz4.compress(zeros))],
            ZSTD: [bytes(cramjam.zstd.compress(zeros))],
        }[codec]:
            with pytest.raises(CodecError, match="more than 1048576 bytes"):
                read_batches(packed(codec, bomb), 0)


def stand_in_of(raw: bytes, start: int = 0) -> tuple[list[Record], dict[int, str], int]:
    """Records, reasons, and the offset after them."""
    unreadable: dict[int, str] = {}
    data, next_offset = read_batches(raw, start, (), unreadable)
    return list(iter_records(data)), unreadable, next_offset


def broken(**changes: int) -> bytes:
    """Three records with something wrong inside, under the right CRC."""
    raw = bytearray(log(PAIRS[:3], 7))
    for at, byte in changes.items():
        raw[int(at.removeprefix("at"))] = byte
    pack_into(">I", raw, 17, calc_crc32c(bytes(raw[21:])))
    return bytes(raw)


class TestUnreadable:
    """Batches as their producer meant them, which nobody can read."""

    @pytest.mark.parametrize(
        ("raw", "why"),
        [
            (packed(5, b"x"), "unknown compression 5"),
            (packed(ZSTD, b"no such stream"), "cannot be decompressed"),
            (packed(GZIP, gzip.compress(b"\x02" * 100)), "in the record at byte"),
            (packed(0, b"", 50), "an integer cut off"),
            (packed(0, b"", -1), "-1 records"),
            (broken(at26=1), "offset delta 2"),  # the last offset delta, 2 by the records
            (broken(at60=2), "bytes after its 2 records"),
            (broken(at60=4), "an integer cut off"),
            (broken(at61=2), "an integer cut off"),
            (broken(at65=4), "offset 8 after 9"),
        ],
    )
    def test_one_record_stands_for_the_batch_and_its_value_is_the_batch(
        self, raw: bytes, why: str
    ) -> None:
        base = int.from_bytes(raw[:8], "big")
        after = log(PAIRS[:1], base + 50)
        (found, good), unreadable, next_offset = stand_in_of(raw + after)
        assert (found.offset, found.key, found.value) == (base, None, raw)
        assert found.timestamp_ms == NOW_MS
        assert unreadable.keys() == {base} and why in unreadable[base]
        assert good.key == b"k0" and next_offset == base + 51

    def test_compiled_or_not_the_same_batches_are_unreadable(self) -> None:
        rng = random.Random(20261128)
        whole = log(PAIRS[:3], 7)
        found = 0
        for _ in range(2_000):
            at = rng.choice([*range(23, 27), *range(57, len(whole))])
            raw = broken(**{f"at{at}": rng.randrange(256)})
            batch = plain.batch_at(raw, 0)
            assert batch is not None
            try:
                for _ in plain.records_of(raw, batch):
                    pass
            except CodecError:
                sound = False
            else:
                sound = True
            found += not sound
            assert kernel.is_sound(np.frombuffer(raw, np.uint8), 0, len(raw)) == sound, raw
        assert found > 100

    def test_many_bombs_in_one_answer_are_opened_a_few_at_a_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(batches, "ANSWER_BYTES_MAX", 2**20)
        record = [(NOW_MS, b"k", bytes(600_000), [])]
        raw = b"".join(foreign_log(record, at, ZSTD) for at in range(10))
        data, next_offset = read_batches(raw, 0)
        assert next_offset == 2 and len(data) < 2**21
        rest, after = read_batches(raw[raw.index(foreign_log(record, 2, ZSTD)) :], 2)
        assert after == 4 and len(rest) == len(data)


class TestTransactions:
    def test_control_batches_are_left_out_and_their_offsets_passed(self) -> None:
        raw = transactional(PAIRS[:2], 0, 7) + control(2, 7, COMMIT)
        data, next_offset = read_batches(raw, 0)
        assert keys(data) == [b"k0", b"k1"] and next_offset == 3

    def test_aborted_records_are_dropped_and_what_follows_the_abort_is_kept(self) -> None:
        raw = (
            transactional(PAIRS[:2], 0, 7)  # aborted
            + transactional(PAIRS[2:4], 2, 8)  # another's, committed
            + log(PAIRS[4:5], 4)  # of no transaction
            + transactional(PAIRS[5:6], 5, 7)  # aborted still
            + control(6, 7, ABORT)
            + control(7, 8, COMMIT)
            + transactional(PAIRS[6:7], 8, 7)  # the next one of the same producer
            + control(9, 7, COMMIT)
        )
        data, next_offset = read_batches(raw, 0, [(7, 0)])
        assert keys(data) == [b"k2", b"k3", b"k4", b"k6"] and next_offset == 10
        assert keys(read_batches(raw, 0)[0]) == [b"k%d" % at for at in range(7)]

    def test_two_aborts_of_one_producer_in_one_answer(self) -> None:
        raw = (
            transactional(PAIRS[:1], 0, 7)
            + control(1, 7, ABORT)
            + transactional(PAIRS[1:2], 2, 7)
            + control(3, 7, COMMIT)
            + transactional(PAIRS[2:3], 4, 7)
            + control(5, 7, ABORT)
        )
        data, next_offset = read_batches(raw, 0, [(7, 4), (7, 0)])
        assert keys(data) == [b"k1"] and next_offset == 6

    def test_a_transaction_aborted_that_began_before_this_answer(self) -> None:
        raw = transactional(PAIRS[:1], 50, 7) + control(51, 7, ABORT)
        assert read_batches(raw, 50, [(7, 3)]) == (b"", 52)

    def test_all_dropped_still_moves_the_offset(self) -> None:
        assert read_batches(transactional(PAIRS, 0, 7), 0, [(7, 0)]) == (b"", 50)

    def test_a_compressed_batch_of_an_aborted_transaction_is_not_even_opened(self) -> None:
        raw = bytearray(packed(ZSTD, b"no such stream"))
        raw[22] |= 0x10
        pack_into(">q", raw, 43, 7)
        pack_into(">I", raw, 17, calc_crc32c(bytes(raw[21:])))
        assert read_batches(bytes(raw), 0, [(7, 0)]) == (b"", 50)
