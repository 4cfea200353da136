"""Outputs waiting for the next checkpoint; windows and forecasts come as finished batches."""

import base64
import hashlib
from collections.abc import Sequence

import msgspec

from streams import topics
from streams.checkpoint import Output
from streams.cloud_events import (
    Decision,
    Encoded,
    cloud_event_headers,
    encode_decision,
    refused_id,
)
from streams.codec.decode import Original
from streams.codec.pseudonyms import Pseudonyms
from streams.codec.write import BatchWriter, RecordBatch
from streams.records import CapacityShare, Refused


def refused_record(
    topic: str,
    partition: int,
    original: Original,
    reason: str,
    detail: str,
    bytes_max: int,
    pseudonyms: Pseudonyms,
) -> Refused:
    """The record without its shopper, with where from and why; key, value and headers as far as
    `bytes_max` allows, so that no record makes a dead letter that its topic refuses.
    """
    key, value, value_whole = pseudonyms.record(original.key, original.value)
    headers, whole = refused_headers(pseudonyms.headers(original.headers), bytes_max)
    cut = max(len(value or b""), len(key or b"")) > bytes_max
    return Refused(
        topic=topic,
        partition=partition,
        offset=original.offset,
        timestamp_ms=original.timestamp_ms,
        reason=reason,
        detail=detail,
        key=None if key is None else _base64(key[:bytes_max]),
        value=None if value is None else _base64(value[:bytes_max]),
        headers=headers,
        value_length=len(original.value or b""),
        value_sha256=hashlib.sha256(value or b"").hexdigest(),
        truncated=cut or not (whole and value_whole),
    )


def refused_headers(
    headers: Sequence[tuple[str, bytes | None]], bytes_max: int
) -> tuple[list[tuple[str, str | None]], bool]:
    """Headers in base64, and whether they are whole: contents are cut to `bytes_max`, and all from
    where their JSON would pass twice that are left out.
    """
    kept: list[tuple[str, str | None]] = []
    whole, room = True, 2 * bytes_max
    for name, content in headers:
        one = name, None if content is None else _base64(content[:bytes_max])
        room -= len(msgspec.json.encode(one))
        if room < 0:
            return kept, False
        whole = whole and len(content or b"") <= bytes_max
        kept.append(one)
    return kept, whole


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Outbox:
    """Collects the outputs of one partition in the order in which they arose."""

    def __init__(self, source: str, dead_letter_bytes_max: int, pseudonyms: Pseudonyms) -> None:
        self.source = source
        self._pseudonyms = pseudonyms
        self._bytes_max = dead_letter_bytes_max
        self._batches: list[Output] = []
        self._writers: dict[str, BatchWriter] = {}
        self.waiting_bytes = 0

    def add_batches(self, topic: str, batches: list[RecordBatch]) -> None:
        """Finished batches, such as a bucket's windows or an origin's forecasts."""
        self._batches += [Output(topic, batch) for batch in batches]
        self.waiting_bytes += sum(len(batch.body) for batch in batches)

    def add_decision(self, record: Decision) -> None:
        """A forecast or decision."""
        topic, encoded = encode_decision(record, self.source)
        self._add(topic, encoded)

    def add_share(self, share: CapacityShare) -> None:
        """This partition's part of the load; keyed so that a repeated one overwrites."""
        key = f"{share.partition}".encode()
        self._add(topics.CAPACITY_SHARES, (key, msgspec.json.encode(share), []))

    def add_refused(
        self,
        to_topic: str,
        topic: str,
        partition: int,
        original: Original,
        reason: str,
        detail: str,
    ) -> None:
        """A late event or dead letter, with the key that it is published with."""
        refused = refused_record(
            topic, partition, original, reason, detail, self._bytes_max, self._pseudonyms
        )
        event_id = refused_id(topic, partition, original.offset)
        headers = cloud_event_headers(to_topic, event_id, self.source, original.timestamp_ms)
        key = None if refused.key is None else base64.b64decode(refused.key)
        self._add(to_topic, (key, msgspec.json.encode(refused), headers))

    def _add(self, topic: str, encoded: Encoded) -> None:
        writer = self._writers.setdefault(topic, BatchWriter())
        before = writer.size_bytes
        done = writer.add(*encoded)
        if done is not None:
            self._batches.append(Output(topic, done))
            before = 0
        self.waiting_bytes += writer.size_bytes - before

    def __bool__(self) -> bool:
        return bool(self._batches or self._writers)

    def take(self) -> list[Output]:
        """Everything collected, as batches; the outbox is empty afterwards."""
        outputs = self._batches
        for topic, writer in self._writers.items():
            last = writer.finish()
            outputs += [Output(topic, last)] if last is not None else []
        self._batches, self._writers, self.waiting_bytes = [], {}, 0
        return outputs
