"""Puts the input of a run into the logs, and notes where each record lies."""

from typing import Final

from streams.codec.write import encode_records, framed
from streams.faults.broker import Broker
from streams.faults.judge import Placed
from streams.faults.scenario import Published
from streams.faults.shelf import PlacedTold
from streams.faults.shop import Told
from streams.topics import EVENT_TOPICS

TRANSACTIONAL: Final = 0x10


class Publishing:
    """`placed` events and what was `told` of products, both by log."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.placed: Placed = {}
        self.told: PlacedTold = {}
        self.events = 0

    def events_of(self, batch: Published) -> None:
        """One batch, plain or as a transaction."""
        name = EVENT_TOPICS[batch.kind], batch.partition
        log = self._broker.logs[name]
        records = [(fact.key, fact.value, ()) for fact in batch.facts]
        now_ms = batch.timestamp_ms
        transactional = batch.fate != "plain"
        producer_id = self._broker.transactions.new_producer_id() if transactional else -1
        for encoded in encode_records(records):
            data = framed(
                encoded,
                now_ms,
                attributes=TRANSACTIONAL if transactional else 0,
                producer=(producer_id, 0, 0) if transactional else (-1, -1, -1),
            )
            first = log.append(data)
            if batch.fate != "abort":
                placed = self.placed.setdefault(name, [])
                placed += [(first + i, now_ms, fact) for i, fact in enumerate(batch.facts)]
        self.events += len(batch.facts)
        if transactional:
            commit = batch.fate == "commit"
            self._broker.loop.later(batch.open_s, log.decide, producer_id, 0, commit, now_ms)

    def tell(self, one: Told) -> None:
        """One record of a reference topic."""
        log = self._broker.logs[one.topic, one.partition]
        (encoded,) = encode_records([(one.key, one.value, ())])
        offset = log.append(framed(encoded, self._broker.wall_ms()))
        self.told.setdefault((one.topic, one.partition), []).append((offset, one))
