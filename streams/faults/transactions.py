"""The transaction coordinator: who may write under a transactional id, and what becomes of it.

    empty --add--> ongoing --end--> preparing --every marker written--> empty

An answer to `end` means that the outcome is decided, not that every log has its marker yet; a new
owner of the id is made to wait until all have (CONCURRENT_TRANSACTIONS), and shuts the old one out.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from aiokafka.errors import ConcurrentTransactions, InvalidProducerEpoch, InvalidTxnState

from streams.faults.logs import PartitionLog

LogName = tuple[str, int]  # topic on the broker, partition

TIME_OUT_LOOK_S: Final = 1.0


@dataclass(slots=True)
class Transaction:
    """Of one transactional id. `outcome` None: not ended; `last_outcome`: of the one before."""

    producer_id: int
    epoch: int
    timeout_s: float
    logs: list[LogName] = field(default_factory=list)
    begun_s: float = 0.0
    outcome: bool | None = None
    last_outcome: bool | None = None
    unmarked: list[LogName] = field(default_factory=list)


class TransactionCoordinator:
    """`later(delay_s, work)` runs work in the world; `marker_delay_s` says how slow a marker is."""

    def __init__(
        self,
        logs: dict[LogName, PartitionLog],
        later: Callable[..., None],
        now_s: Callable[[], float],
        marker_delay_s: Callable[[], float],
        wall_ms: Callable[[], int],
    ) -> None:
        self._logs = logs
        self._later = later
        self._now_s = now_s
        self._marker_delay_s = marker_delay_s
        self._wall_ms = wall_ms
        self._by_id: dict[str, Transaction] = {}
        self._producer_ids = 0
        self.at_next_end: Callable[[], None] | None = None  # for a crash just then
        self.crashes = 0
        self.timed_out = 0
        self.fenced = 0

    def new_producer_id(self) -> int:
        self._producer_ids += 1
        return self._producer_ids

    def begin(self, transactional_id: str, timeout_s: float) -> tuple[int, int]:
        """InitProducerId: (producer id, epoch). What an earlier owner left open is aborted first;
        raises ConcurrentTransactions until that is done.
        """
        one = self._by_id.get(transactional_id)
        if one is None:
            one = Transaction(self.new_producer_id(), -1, timeout_s)
            self._by_id[transactional_id] = one
        if one.outcome is None and one.logs:
            one.epoch += 1  # fences whoever it was
            self._end(one, False)
        if one.outcome is not None:
            raise ConcurrentTransactions
        one.epoch += 1
        one.timeout_s = timeout_s
        one.last_outcome = None
        return one.producer_id, one.epoch

    def outcome(self, transactional_id: str) -> bool | None:
        """DescribeTransactions: of the last transaction; one that is open will be aborted. Raises
        ConcurrentTransactions while its markers are being written.
        """
        one = self._by_id.get(transactional_id)
        if one is None:
            return None
        if one.outcome is not None:
            raise ConcurrentTransactions
        return False if one.logs else one.last_outcome

    def holder(self, transactional_id: str, log: LogName) -> tuple[int, int] | None:
        """DescribeTransactions: the producer whose open transaction includes `log`."""
        one = self._by_id.get(transactional_id)
        if one is None or one.outcome is not None or log not in one.logs:
            return None
        return one.producer_id, one.epoch

    def add(self, transactional_id: str, producer: tuple[int, int], log: LogName) -> None:
        """AddPartitionsToTxn."""
        one = self._admitted(transactional_id, producer)
        if one.outcome is not None:
            raise ConcurrentTransactions
        if not one.logs:
            one.begun_s = self._now_s()
            self._later(one.timeout_s, self._time_out, one, one.epoch, one.begun_s)
        if log not in one.logs:
            one.logs.append(log)

    def require_open(self, transactional_id: str, producer: tuple[int, int], log: LogName) -> None:
        """What a log's leader asks before it takes a batch of a transaction."""
        one = self._admitted(transactional_id, producer)
        if one.outcome is not None or log not in one.logs:
            raise InvalidTxnState

    def end(self, transactional_id: str, producer: tuple[int, int], commit: bool) -> None:
        """EndTxn. Asked again, it says the same again."""
        one = self._admitted(transactional_id, producer)
        if one.outcome is not None:
            if one.outcome is not commit:
                raise InvalidTxnState
            return
        self._end(one, commit)

    def abort_open(self, transactional_id: str) -> bool:
        """As an operator does with a transaction that hangs."""
        one = self._by_id.get(transactional_id)
        if one is None or one.outcome is not None or not one.logs:
            return False
        one.epoch += 1
        self._end(one, False)
        return True

    def come_back(self, skips_markers: Callable[[], bool]) -> None:
        """After a crash. Where `skips_markers`, a transaction that was decided is called complete
        though logs of it have no marker: Kafka takes logs without a leader for deleted.
        """
        self.crashes += 1
        for one in self._by_id.values():
            if one.outcome is not None and one.unmarked and skips_markers():
                one.unmarked.clear()
                one.logs.clear()
                one.outcome = None

    @property
    def ids(self) -> list[str]:
        return list(self._by_id)

    def _admitted(self, transactional_id: str, producer: tuple[int, int]) -> Transaction:
        one = self._by_id[transactional_id]
        if producer != (one.producer_id, one.epoch):
            self.fenced += 1
            raise InvalidProducerEpoch
        return one

    def _time_out(self, one: Transaction, epoch: int, begun_s: float) -> None:
        if (one.epoch, one.begun_s) == (epoch, begun_s) and one.logs and one.outcome is None:
            self.timed_out += 1
            one.epoch += 1
            self._end(one, False)

    def _end(self, one: Transaction, commit: bool) -> None:
        one.outcome = one.last_outcome = commit
        one.unmarked = waiting = list(one.logs)

        def mark(name: LogName) -> None:
            if name not in waiting:
                return  # the coordinator came back meanwhile, and forgot
            self._logs[name].decide(one.producer_id, one.epoch, commit, self._wall_ms())
            waiting.remove(name)
            if not waiting:
                one.logs.clear()
                one.outcome = None

        for name in list(one.logs):
            self._later(self._marker_delay_s(), mark, name)
        if not waiting:
            one.outcome = None
        now, self.at_next_end = self.at_next_end, None
        if now is not None:
            now()
