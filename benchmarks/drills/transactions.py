"""Transactions as the brokers see them: open ones by asking, aborted ones in the logs on disk."""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

HEAD = struct.Struct(">qiibiHiqqqhii")  # of a record batch, format 2
CONTROL = 0x20
ABORT = 0
OPEN_STATES = ("Ongoing", "PrepareCommit", "PrepareAbort")


class Transaction(NamedTuple):
    """`coordinator` is the node's id; a new owner of the transactional id has another `epoch`."""

    state: str
    coordinator: int
    epoch: int


class TransactionView:
    """`with TransactionView(servers) as view:`; asks the coordinators."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers.split(","))

    def __enter__(self) -> "TransactionView":
        return self

    def __exit__(self, *_: object) -> None:
        self._admin.close()

    def of(self, transactional_ids: Iterable[str]) -> dict[str, Transaction]:
        """The state of each; empty while they are unknown or the coordinator is away."""
        try:
            found = self._admin.describe_transactions(list(transactional_ids))
        except KafkaError:
            return {}
        return {
            name: Transaction(one.state.value, one.coordinator_id, one.producer_epoch)
            for name, one in found.items()
        }

    def open(self, transactional_ids: Iterable[str], states: tuple[str, ...] = OPEN_STATES) -> bool:
        """Whether one of them has a transaction in flight now."""
        return any(one.state in states for one in self.of(transactional_ids).values())


def aborted(directory: Path, prefix: str) -> int:
    """How many transactions over topics whose name begins with `prefix` were aborted, from the
    control records in the log segments of every node.
    """
    found = set()
    for segment in directory.glob(f"node-*/data/{prefix}*/*.log"):
        found |= set(_aborts(segment.read_bytes()))
    return len(found)


def _aborts(data: bytes) -> Iterator[tuple[int, int]]:
    """(producer id, epoch) of each abort marker."""
    at = 0
    while at + HEAD.size <= len(data):
        fields = HEAD.unpack_from(data, at)
        length, attributes, producer, epoch = fields[1], fields[5], fields[9], fields[10]
        if length <= 0:
            return  # preallocated room behind the last batch
        if attributes & CONTROL and at + HEAD.size + 10 <= len(data):
            # length, attributes, deltas and key length are one byte each in so small a record
            _, kind = struct.unpack_from(">hh", data, at + HEAD.size + 5)
            if kind == ABORT:
                yield producer, epoch
        at += 12 + length
