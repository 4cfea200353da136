"""Spoils a stream of good records on purpose, and knows what it did.

Every spoilt record is an extra one beside the good ones, so that what the good ones add up to
stays. Rates are shares of the good records.
"""

from collections import Counter
from dataclasses import dataclass, fields
from typing import Any

import msgspec
import numpy as np

from streams.errors import Reason
from streams.placement import KeyedRecord, Placement
from streams.settings import Settings

Placed = dict[int, list[KeyedRecord]]
HOUR_MS = 3_600_000
DUPLICATE = "duplicate"
LATE = "late"


@dataclass(frozen=True)
class DirtRates:
    """How many spoilt records there are for each good one, [0, 1]."""

    late: float = 0.0
    duplicate: float = 0.0
    malformed: float = 0.0
    wrong_key: float = 0.0
    wrong_partition: float = 0.0
    future: float = 0.0
    seconds: float = 0.0
    missing_field: float = 0.0
    absurd_price: float = 0.0
    oversized: float = 0.0  # a SKU of 10 kB
    not_utf8: float = 0.0

    def __post_init__(self) -> None:
        for rate in fields(self):
            share = getattr(self, rate.name)
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"{rate.name} = {share}: a rate is between 0 and 1")

    @property
    def any(self) -> bool:
        return any(getattr(self, rate.name) > 0 for rate in fields(self))


class Dirt:
    """Adds spoilt records to what is published. `injected` counts them by (topic, what must become
    of them): `late`, `duplicate` or the reason of a dead letter.
    """

    def __init__(self, rates: DirtRates, seed: int, settings: Settings) -> None:
        self._rates = {rate.name: getattr(rates, rate.name) for rate in fields(rates)}
        self._random = np.random.default_rng([seed, 31])
        self._settings = settings
        self._greatest_ms: dict[tuple[str, int], int] = {}
        self._serial = 0
        self.injected: Counter[tuple[str, str]] = Counter()

    def spoil(
        self, topic: str, placement: Placement, records: list[KeyedRecord], now_ms: int
    ) -> Placed:
        """The good records by partition, spoilt ones among them. `now_ms`: their timestamp."""
        placed: Placed = {}
        for record in records:
            placed.setdefault(placement.of(record[0] or b""), []).append(record)
        return {
            partition: self._spoilt(topic, partition, placement, good, now_ms)
            for partition, good in placed.items()
        }

    def _spoilt(
        self,
        topic: str,
        partition: int,
        placement: Placement,
        good: list[KeyedRecord],
        now_ms: int,
    ) -> list[KeyedRecord]:
        after: dict[int, list[KeyedRecord]] = {}
        for name, rate in self._rates.items():
            count = int(self._random.binomial(len(good), rate)) if rate else 0
            for index in self._random.integers(0, len(good), count).tolist():
                after.setdefault(index, []).append((name.encode(), None))
        result: list[KeyedRecord] = []
        for index, record in enumerate(good):
            result.append(record)
            self._move(topic, partition, record, now_ms)
            for marked, _ in after.get(index, ()):
                name = (marked or b"").decode()
                extra, outcome = self._one(name, record, (topic, partition), placement, now_ms)
                if extra is not None:
                    self.injected[topic, outcome] += 1
                    result.append(extra)
        return result

    def _move(self, topic: str, partition: int, record: KeyedRecord, now_ms: int) -> None:
        event_time_ms = int(msgspec.json.decode(record[1] or b"{}")["event_time_ms"])
        greatest = self._greatest_ms.get((topic, partition), 0)
        self._greatest_ms[topic, partition] = max(greatest, min(event_time_ms, now_ms))

    def _one(
        self,
        name: str,
        record: KeyedRecord,
        place: tuple[str, int],
        placement: Placement,
        now_ms: int,
    ) -> tuple[KeyedRecord | None, str]:
        """(a spoilt record made from a good one, what must become of it); None where it cannot be
        made.
        """
        key, value = record
        self._serial += 1
        fields_ = msgspec.json.decode(value or b"{}")
        fields_["event_id"] = f"dirt-{self._serial:x}"
        if name == "duplicate":
            return record, DUPLICATE
        if name == "late":
            behind_ms = self._settings.allowed_lateness_ms + 1 + int(self._random.integers(60_000))
            fields_["event_time_ms"] = self._greatest_ms[place] - behind_ms
            return (key, msgspec.json.encode(fields_)), LATE
        if name == "malformed":
            return (key, (value or b"")[: len(value or b"") // 2]), Reason.NOT_JSON
        if name == "wrong_key":
            return (b"not-" + (key or b""), msgspec.json.encode(fields_)), Reason.KEY_MISMATCH
        if name == "not_utf8":
            return (key, b'{"sku":"\xff\xfe"}'), Reason.NOT_UTF8
        if name == "wrong_partition":
            return self._misplaced(fields_, place[1], placement), Reason.WRONG_PARTITION
        return self._out_of_contract(name, key, fields_, now_ms)

    def _out_of_contract(
        self, name: str, key: bytes | None, fields_: dict[str, Any], now_ms: int
    ) -> tuple[KeyedRecord, str]:
        if name == "future":
            fields_["event_time_ms"] = now_ms + HOUR_MS + self._settings.future_tolerance_ms
            return (key, msgspec.json.encode(fields_)), Reason.EVENT_TIME_FUTURE
        if name == "seconds":
            fields_["event_time_ms"] //= 1000
            return (key, msgspec.json.encode(fields_)), Reason.EVENT_TIME_UNIT
        if name == "missing_field":
            del fields_["user_id"]
            return (key, msgspec.json.encode(fields_)), Reason.MISSING_FIELD
        if name == "absurd_price":
            fields_["price_cents"] = 10**16
            return (key, msgspec.json.encode(fields_)), Reason.OUT_OF_RANGE
        assert name == "oversized", name
        fields_["sku"] = "X" * 10_240
        return (fields_["sku"].encode(), msgspec.json.encode(fields_)), Reason.OUT_OF_RANGE

    def _misplaced(
        self, fields_: dict[str, Any], partition: int, placement: Placement
    ) -> KeyedRecord | None:
        """A good record whose SKU belongs to another partition; None when there is only one."""
        if placement.partitions == 1 or self._settings.partitioner == "none":
            return None
        number = self._serial
        while placement.of(f"{fields_['sku']}-{number}".encode()) == partition:
            number += 1
        fields_["sku"] = f"{fields_['sku']}-{number}"
        return fields_["sku"].encode(), msgspec.json.encode(fields_)
