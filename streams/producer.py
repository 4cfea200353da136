"""aiokafka's producer, with what exactly once needs of it beside."""

import asyncio
import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    IncompatibleBrokerVersion,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    NotCoordinatorError,
    RequestTimedOutError,
    TransactionalIdAuthorizationFailed,
    for_code,
)
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.transaction import EndTxnRequest
from aiokafka.protocol.types import (
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

STOP_TIMEOUT_S: Final = 2.0  # of each of three steps
POLL_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)  # the last one again and again
ID_NOT_FOUND: Final = 105  # aiokafka has no class for it
ENDING: Final = ("PrepareCommit", "PrepareAbort")
COMMITTED: Final = ("PrepareCommit", "CompleteCommit")
OPEN: Final = "Ongoing"
ABORTED: Final = (OPEN, "PrepareAbort", "CompleteAbort", "PrepareEpochFence")
LOST: Final = (KafkaConnectionError, NodeNotReadyError, RequestTimedOutError)
ELSEWHERE: Final = (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    NotCoordinatorError,
)


class DescribeTransactionsResponse_v0(Response):  # type: ignore[misc]  # noqa: N801
    API_KEY = 65
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "transaction_states",
            CompactArray(
                ("error_code", Int16),
                ("transactional_id", CompactString("utf-8")),
                ("transaction_state", CompactString("utf-8")),
                ("transaction_timeout_ms", Int32),
                ("transaction_start_time_ms", Int64),
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                (
                    "topics",
                    CompactArray(
                        ("topic", CompactString("utf-8")),
                        ("partitions", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class DescribeTransactionsRequest_v0(RequestStruct):  # type: ignore[misc]  # noqa: N801
    FLEXIBLE_VERSION = True
    API_KEY = 65
    API_VERSION = 0
    RESPONSE_TYPE = DescribeTransactionsResponse_v0
    SCHEMA = Schema(
        ("transactional_ids", CompactArray(CompactString("utf-8"))), ("tags", TaggedFields)
    )


class DescribeTransactionsRequest(Request[DescribeTransactionsRequest_v0]):  # type: ignore[misc]
    """KIP-664; brokers have it since 3.0."""

    API_KEY = 65

    def __init__(self, transactional_id: str) -> None:
        self._transactional_id = transactional_id

    def build(
        self, request_struct_class: type[DescribeTransactionsRequest_v0]
    ) -> DescribeTransactionsRequest_v0:
        return request_struct_class([self._transactional_id], {})


@dataclass(frozen=True, slots=True)
class Transaction:
    """The last one of a transactional id. `state` in Kafka's words; None: nothing is known."""

    state: str | None
    producer_id: int = -1
    epoch: int = -1
    partitions: frozenset[TopicPartition] = frozenset()


class KafkaProducer(AIOKafkaProducer):  # type: ignore[misc]  # untyped to mypy here
    """Its transactions can be asked after, and it ends no later than it may; see `Producer`."""

    earlier_outcome: bool | None = None
    _ended_on: Any = None  # the connection to the coordinator when a transaction was last ended

    async def start(self, seal: tuple[str, int] | None = None) -> None:
        """Asks how things were before it makes itself known, which the broker then forgets."""
        await self.client.bootstrap()
        if self._txn_manager is not None and self._txn_manager.transactional_id is not None:
            earlier = await self._last_transaction()
            while seal is not None and earlier.state == OPEN and seal in earlier.partitions:
                await self._commit_for(earlier)
                earlier = await self._last_transaction()
            if earlier.state in COMMITTED or earlier.state in ABORTED:
                self.earlier_outcome = earlier.state in COMMITTED
        await self._sender.start()

    async def commit_transaction(self) -> None:
        self._note_end()
        await super().commit_transaction()

    async def abort_transaction(self) -> None:
        self._note_end()
        await super().abort_transaction()

    async def last_is_over(self) -> bool:
        """Waits until the coordinator has ended the last transaction on all its partitions. False:
        the connection to it was lost meanwhile, and one that comes back may have forgotten some.
        """
        for pause_s in itertools.chain(POLL_S, itertools.repeat(POLL_S[-1])):
            if (await self._last_transaction()).state not in ENDING:
                break
            await asyncio.sleep(pause_s)
        return self._ended_on is not None and self._connection() is self._ended_on

    async def end_hanging(self, partitions: Sequence[tuple[str, int]], *, commit: bool) -> None:
        """aiokafka adds a partition to a transaction with its first record; here there is none."""
        await self.begin_transaction()
        for topic, number in partitions:
            self._txn_manager.maybe_add_partition_to_txn(TopicPartition(topic, number))
        await (self.commit_transaction() if commit else self.abort_transaction())

    async def discard(self) -> None:
        """Ends it and sends nothing more: its own `stop` first sends all that is waiting, which in
        an outage takes for ever, and must not happen at all once its outcome no longer counts.
        """
        self._closed = True  # else aiokafka complains that nobody closed it
        sender = self._sender.sender_task
        if sender is not None:
            sender.cancel()
            await asyncio.wait([sender], timeout=STOP_TIMEOUT_S)
            if not sender.done():
                sender.cancel()  # it was waiting for a request; now that is cancelled too
                await asyncio.wait([sender], timeout=STOP_TIMEOUT_S)
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self.client.close()

    def _note_end(self) -> None:
        # Before the request: an answer may come from a coordinator that was lost meanwhile.
        self._ended_on = self._connection()

    def _connection(self) -> Any:
        """To the coordinator, as far as it is known and open."""
        node = self._sender._coordinators.get(CoordinationType.TRANSACTION)
        connection = self.client._conns.get((node, ConnectionGroup.COORDINATION))
        return connection if connection is not None and connection.connected() else None

    async def _last_transaction(self) -> Transaction:
        """Raises KafkaError."""
        name = self._txn_manager.transactional_id
        while True:
            try:
                response = await self._asked(DescribeTransactionsRequest(name))
            except IncompatibleBrokerVersion:
                return Transaction(None)
            if response is None:
                continue
            code, _, state, _, _, producer_id, epoch, held, _ = response.transaction_states[0]
            if code == ID_NOT_FOUND:
                return Transaction(None)
            if code == 0:
                partitions = (TopicPartition(topic, n) for topic, many, _ in held for n in many)
                return Transaction(state, producer_id, epoch, frozenset(partitions))
            error = for_code(code)
            if error is TransactionalIdAuthorizationFailed:
                raise error(name)
            if error not in ELSEWHERE:
                raise error
            await self._elsewhere()

    async def _commit_for(self, earlier: Transaction) -> None:
        """In the name of whoever began it. Whatever the answer is, the transaction tells."""
        name = self._txn_manager.transactional_id
        response = await self._asked(EndTxnRequest(name, earlier.producer_id, earlier.epoch, True))
        if response is not None and for_code(response.error_code) in ELSEWHERE:
            await self._elsewhere()

    async def _asked(self, request: Any) -> Any:
        """The coordinator's answer; None when it was lost."""
        name = self._txn_manager.transactional_id
        node = await self._sender._find_coordinator(CoordinationType.TRANSACTION, name)
        try:
            return await self.client.send(node, request, group=ConnectionGroup.COORDINATION)
        except LOST:
            await self._elsewhere()
            return None

    async def _elsewhere(self) -> None:
        self._sender._coordinator_dead(CoordinationType.TRANSACTION)
        await asyncio.sleep(POLL_S[-1])
