"""Catalog, stock levels and competitor prices on their way into the core of one partition.

The topics are compacted and read anew from their start at every restore, so a record that was
refused before comes again; it was reported then.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from streams import topics
from streams.admission import Admission
from streams.codec.batches import iter_records
from streams.codec.columns import NO_ROW
from streams.codec.decode import Fetch, Original
from streams.codec.plain import Record
from streams.codec.strict import decode_reference
from streams.deciding import Decider
from streams.errors import ContractError, Reason
from streams.inputs import FetchQueue
from streams.records import CatalogEntry, CompetitorPrice, StockLevel
from streams.refusals import Refusals
from streams.sku_table import MISPLACED, SkuTable
from streams.windows import Windows

Entry = CatalogEntry | StockLevel | CompetitorPrice


class ReferenceIntake:
    """`reported`: by topic, the offset below which records were counted and reported before;
    `retention_ms` as in Settings.
    """

    def __init__(
        self,
        skus: SkuTable,
        admission: Admission,
        decider: Decider,
        windows: Windows,
        refusals: Refusals,
        counts: Counter[tuple[str, ...]],
        reported: Mapping[str, int],
        retention_ms: int,
    ) -> None:
        self.queues = [FetchQueue(topic, 0) for topic in topics.REFERENCE_TOPICS]
        self._skus = skus
        self._admission = admission
        self._decider = decider
        self._windows = windows
        self._refusals = refusals
        self._counts = counts
        self._retention_ms = retention_ms
        self._reported = {topic: reported.get(topic, 0) for topic in topics.REFERENCE_TOPICS}

    def work(self) -> bool:
        """Take in all that waits. Whether there was anything."""
        progressed = False
        for queue in self.queues:
            while (fetch := queue.pop()) is not None:
                progressed = True
                self._take_in(queue, fetch)
                queue.next_offset = max(queue.next_offset, fetch.next_offset)
        return progressed

    def _take_in(self, queue: FetchQueue, fetch: Fetch) -> None:
        topic = queue.topic
        accepted = []
        for record in iter_records(fetch.data, queue.next_offset):
            if (why := fetch.unreadable.get(record.offset)) is not None:
                self._refuse(topic, record, Reason.BATCH_UNREADABLE, why)
                continue
            try:
                entry = decode_reference(topic, record.key, record.value)
                accepted.append((record, entry))
            except ContractError as error:
                self._refuse(topic, record, error.reason, error.detail)
        rows = self._rows_of(topic, accepted)
        for row, (record, entry) in zip(rows, accepted, strict=True):
            if row == MISPLACED:
                detail = self._refusals.misplaced_detail
                self._refuse(topic, record, Reason.WRONG_PARTITION, detail)
                continue
            if row == NO_ROW:
                if entry is not None and not self._over(topic, record, entry):
                    detail = self._admission.limit_detail
                    self._refuse(topic, record, Reason.SKU_LIMIT, detail)
                continue
            try:
                if self._decider.inform(topic, row, entry, self._windows):
                    self._windows.dirty[row] = True
                self._note(topic, row, record, entry)
                self._counts["event", topic, "applied"] += record.offset >= self._reported[topic]
            except ContractError as error:
                self._refuse(topic, record, error.reason, error.detail)

    def _rows_of(self, topic: str, accepted: Sequence[tuple[Record, Entry | None]]) -> list[int]:
        """Rows of the records' SKUs; NO_ROW where none is given. What is withdrawn needs none."""
        named = [
            record.key or b""
            for record, entry in accepted
            if entry is not None and not self._over(topic, record, entry)
        ]
        self._skus.rows_of(named, room=self._admission.room(topic))
        self._decider.grow(self._skus.capacity)
        rows = self._skus.rows_of([record.key or b"" for record, _ in accepted], room=0)
        return [int(row) for row in rows]

    def _over(self, topic: str, record: Record, entry: Entry) -> bool:
        """Whether it is of so long ago that a row given for it would be given back at once."""
        spoken_ms = self._spoken_ms(topic, record, entry)
        last_ms = entry.sale_end_ms if isinstance(entry, CatalogEntry) else spoken_ms
        return last_ms + self._retention_ms <= self._windows.closed_through_ms

    def _spoken_ms(self, topic: str, record: Record, entry: Entry | None) -> int:
        """The event time at which the shop said it: now, unless it is read again."""
        again = record.offset < self._reported[topic]
        if again and isinstance(entry, StockLevel | CompetitorPrice):
            return entry.as_of_ms
        return self._windows.closed_through_ms

    def _note(self, topic: str, row: int, record: Record, entry: Entry | None) -> None:
        """That the shop spoke of the SKU. What the catalog says has an end of its own."""
        if topic != topics.CATALOG:
            informed = self._decider.reference.informed_ms
            informed[row] = max(informed[row], self._spoken_ms(topic, record, entry))

    def _refuse(self, topic: str, record: Record, reason: Reason, detail: str) -> None:
        if record.offset >= self._reported[topic]:
            original = Original(
                record.offset, record.timestamp_ms, record.key, record.value, record.headers
            )
            self._refusals.dead_letter(topic, original, reason, detail)
