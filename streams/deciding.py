"""From closed buckets to forecasts and decisions, for the SKUs of one partition.

Everything that later outputs depend on is kept here by SKU row, beside the windows: what the shop
says, what the forecaster remembers, what was sold since the count, our own restocks and prices.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.features import BucketInputs
from models.prediction import Prediction
from models.row_state import LOAD_LEADS_MS
from streams import announcing, closing, forecast_state, topics
from streams.codec.columns import NameArrays
from streams.decisions import price, restock
from streams.decisions.price_memory import PriceMemory
from streams.decisions.restock_memory import RestockMemory
from streams.origins import Origin, Origins
from streams.outbox import Outbox
from streams.partition_load import PartitionLoad
from streams.records import CapacityShare, CatalogEntry, CompetitorPrice, StockLevel
from streams.reference import Reference
from streams.settings import Settings
from streams.situation import Situation
from streams.stock_ledger import History, StockLedger
from streams.windows import ClosedBucket

if TYPE_CHECKING:  # they need torch, whose import takes seconds
    from models.forecaster import Forecaster

Int = NDArray[np.int64]
State = dict[str, NDArray[Any]]

NO_MODEL: Final = "none"


class Decider:
    """Of one partition. `counts` are totals since the partition's state began."""

    def __init__(
        self, settings: Settings, partition: int, forecaster: "Forecaster | None", outbox: Outbox
    ) -> None:
        self.settings = settings
        self._partition = partition
        self._outbox = outbox
        self.model_version = forecaster.version if forecaster else NO_MODEL
        self.reference = Reference()
        self.memory = forecaster.memory(0) if forecaster else None
        self.ledger = StockLedger()
        self.restocks = RestockMemory()
        self.prices = PriceMemory()
        self.shown_cents = np.zeros(0, np.int64)  # mean price of the last active bucket
        self.shown_at_ms = np.zeros(0, np.int64)
        self.counts: Counter[str] = Counter()
        self._restock_policy = restock.RestockPolicy.from_settings(settings)
        self._price_policy = price.PricePolicy.from_settings(settings)
        self._forecast_validity_ms = 2 * settings.forecast_interval_ms
        self.origins = Origins(settings.bucket_ms, settings.forecast_interval_ms)
        self._load = PartitionLoad(self.origins.slots, self.memory)

    def grow(self, capacity: int) -> None:
        """Room for `capacity` rows."""
        extra = capacity - len(self.shown_cents)
        if extra <= 0:
            return
        for part in self._parts():
            part.grow(capacity)
        self.shown_cents = np.concatenate([self.shown_cents, np.zeros(extra, np.int64)])
        self.shown_at_ms = np.concatenate([self.shown_at_ms, np.zeros(extra, np.int64)])

    def reset(self, rows: Int) -> None:
        """Forget these rows: other SKUs move in."""
        for part in self._parts():
            part.reset(rows)
        for array in (self.shown_cents, self.shown_at_ms):
            array[rows] = 0

    def _parts(self) -> Iterator[Any]:
        """Whatever else is kept by row."""
        yield from (self.reference, self.ledger, self.restocks, self.prices, self.origins)
        if self.memory is not None:
            yield self.memory

    def inform(
        self,
        topic: str,
        row: int,
        entry: CatalogEntry | StockLevel | CompetitorPrice | None,
        history: History,
    ) -> bool:
        """Take in what the shop says of a SKU; None withdraws it. Whether that changed anything of
        the row's state. Raises ContractError.
        """
        if entry is None:
            self.reference.withdraw(row, topic)
            if topic == topics.STOCK_LEVELS:
                self.ledger.withdraw(row)
        elif self.reference.apply(row, entry) and isinstance(entry, StockLevel):
            return self.ledger.recount(row, entry.as_of_ms, history)
        return False

    # -- closed buckets

    def close(self, bucket: ClosedBucket, names: NameArrays) -> BucketInputs:
        """Emit the bucket's windows and its load; returns what the forecaster steps by."""
        rows, bucket_ms = bucket.rows, self.settings.bucket_ms
        share = self.ledger.in_stock_share(rows, bucket.units, self.reference)
        self._outbox.add_batches(
            topics.DEMAND_WINDOWS,
            closing.encode_bucket(bucket, bucket_ms, names, self.reference, share),
        )
        self.ledger.add(rows, bucket.bucket_start_ms, bucket_ms, bucket.units)
        inputs = closing.bucket_inputs(bucket, bucket_ms, self.reference, share)
        self.prices.update(
            rows,
            bucket.orders,
            bucket.clicks * share,
            bucket.price_cents,
            inputs.list_price_cents,
            inputs.competitor_price_cents,
        )
        self.shown_cents[rows] = bucket.price_cents
        self.shown_at_ms[rows] = bucket.bucket_start_ms
        if self.memory is not None:
            self.origins.note(rows, bucket.bucket_start_ms + bucket_ms)
        self._share_load(bucket)
        return inputs

    def _share_load(self, bucket: ClosedBucket) -> None:
        load = self._load.told()
        mean, variance = load or ([], [])
        self._outbox.add_share(
            CapacityShare(
                partition=self._partition,
                bucket_start_ms=bucket.bucket_start_ms,
                bucket_ms=self.settings.bucket_ms,
                observed=closing.observed_events(bucket),
                horizons_ms=list(LOAD_LEADS_MS) if load else [],
                mean_per_s=mean,
                variance_per_s2=variance,
                model_version=self.model_version,
            )
        )

    # -- forecasts and decisions

    def due(self, through_ms: int, names: NameArrays) -> Origin | None:
        """The origin to forecast at, once all before it, up to `through_ms`, is closed."""
        while (origin := self.origins.due(through_ms, names)) is not None:
            if len(origin.rows):
                return origin
            self._load.put(origin, None)
        return None

    def in_time(self, origin: Origin, now_ms: int) -> bool:
        """Whether anything decided at this origin could still be used; else it is counted."""
        valid_ms = origin.at_ms + max(self._forecast_validity_ms, self.settings.review_period_ms)
        return not self._expired(valid_ms, now_ms, "forecast", len(origin.rows))

    def decide(
        self, origin: Origin, prediction: Prediction, names: NameArrays, now_ms: int
    ) -> None:
        """Emit forecasts, restocks and price changes at an origin.

        What would be out of date already is counted, not emitted, and leaves no trace in the sums.
        """
        self._load.put(origin, prediction)
        rows = origin.rows
        valid_ms = origin.at_ms + self._forecast_validity_ms
        if not self._expired(valid_ms, now_ms, "forecast", len(rows)):
            empty = self.reference.has_stock[rows]
            empty &= self.ledger.on_hand(rows, self.reference) == 0
            batches = announcing.forecasts(
                origin.at_ms,
                rows,
                prediction,
                empty,
                names,
                valid_ms,
                self.model_version,
                self._outbox.source,
            )
            self._outbox.add_batches(topics.DEMAND_FORECASTS, batches)
            self.counts["forecast"] += len(rows)
            self.counts["fallback"] += int(prediction.fallback.sum())
        if self.settings.deciding:
            self._decide_on_sale(origin, prediction, names, now_ms)

    def _decide_on_sale(
        self, origin: Origin, prediction: Prediction, names: NameArrays, now_ms: int
    ) -> None:
        """Restocks and prices, of the SKUs whose sale is on."""
        rows, reference = origin.rows, self.reference
        known = reference.has_catalog[rows]
        self.counts["withheld_no_catalog"] += int((~known).sum())
        left_ms = closing.time_left_ms(rows, origin.at_ms, reference)
        started = reference.sale_start_ms[rows] <= origin.at_ms
        at = np.flatnonzero(known & started & (left_ms > 0))
        if len(at):
            on_sale = replace(origin, rows=rows[at])
            situation = self._situation(on_sale, prediction.taken(at))
            self._restock(situation, names, now_ms)
            self._reprice(situation, names, now_ms)

    def _situation(self, origin: Origin, prediction: Prediction) -> Situation:
        rows, at_ms, reference = origin.rows, origin.at_ms, self.reference
        left = closing.time_left_ms(rows, at_ms, reference)
        list_price = reference.list_price_cents[rows]
        on_hand = self.ledger.on_hand(rows, reference)
        ordered = self.restocks.outstanding(rows, reference.stock_as_of_ms[rows])
        sensitivity = self.prices.posterior(rows, reference.categories_known())
        return Situation(
            at_ms=at_ms,
            rows=rows,
            prediction=prediction,
            reference=reference,
            has_stock=reference.has_stock[rows],
            time_left_ms=left,
            inventory_position=on_hand + reference.on_order[rows] + ordered,
            price_cents=self.prices.current_price_cents(
                rows, self.shown_cents[rows], self.shown_at_ms[rows], list_price
            ),
            price_sensitivity=sensitivity.price,
            competitor_sensitivity=sensitivity.competitor,
            changes_last_hour=self.prices.changes_last_hour(rows, at_ms),
            since_change_ms=self.prices.since_change_ms(rows, at_ms),
            since_restock_ms=self.restocks.since_restock_ms(rows, at_ms),
            review_period_ms=self.settings.review_period_ms,
            opening_until_ms=reference.sale_start_ms[rows] + self.settings.forecast_interval_ms,
        )

    def _restock(self, situation: Situation, names: NameArrays, now_ms: int) -> None:
        decisions = restock.decide(situation.restock_inputs(), self._restock_policy)
        chosen = np.flatnonzero(decisions.order_quantity > 0)
        valid_ms = situation.at_ms + self.settings.review_period_ms
        self.counts["withheld_no_stock_level"] += int((~situation.has_stock).sum())
        if not len(chosen) or self._expired(valid_ms, now_ms, "restock", len(chosen)):
            return
        events = announcing.restocks(
            situation, decisions, chosen, names, valid_ms, self.model_version
        )
        for event in events:
            self._outbox.add_decision(event)
        self.restocks.add(situation.rows[chosen], situation.at_ms, decisions.order_quantity[chosen])
        self.counts["restock"] += len(chosen)

    def _reprice(self, situation: Situation, names: NameArrays, now_ms: int) -> None:
        decisions = price.decide(situation.price_inputs(), self._price_policy)
        chosen = np.flatnonzero(decisions.changed)
        valid_ms = situation.at_ms + self.settings.review_period_ms
        if not len(chosen) or self._expired(valid_ms, now_ms, "price_change", len(chosen)):
            return
        batches = announcing.prices(
            situation,
            decisions,
            chosen,
            names,
            valid_ms,
            self.model_version,
            self._outbox.source,
        )
        self._outbox.add_batches(topics.PRICE_ADJUSTMENTS, batches)
        self.prices.record_change(
            situation.rows[chosen], decisions.price_cents[chosen], situation.at_ms
        )
        self.counts["price_change"] += len(chosen)

    def _expired(self, valid_until_ms: int, now_ms: int, kind: str, count: int) -> bool:
        if self.settings.clock == "event" or valid_until_ms >= now_ms:
            return False
        self.counts[f"expired_{kind}"] += count
        return True

    # -- snapshots

    def gather(self, rows: Int) -> State:
        """State [n, ...] of `rows` for the snapshot."""
        state: State = {
            **self.ledger.gather(rows),
            **self.restocks.gather(rows),
            **self.prices.gather(rows),
            "shown_cents": self.shown_cents[rows],
            "shown_at_ms": self.shown_at_ms[rows],
            **self.origins.gather(rows),
            "forecast_memory": forecast_state.gather(self.memory, rows),
        }
        return state

    def scatter(self, rows: Int, state: Mapping[str, NDArray[Any]]) -> None:
        """Put back what `gather` gave."""
        self.ledger.scatter(rows, state)
        self.restocks.scatter(rows, state)
        self.prices.scatter(rows, state)
        self.shown_cents[rows] = state["shown_cents"]
        self.shown_at_ms[rows] = state["shown_at_ms"]
        self.origins.scatter(rows, state)
        lost = forecast_state.scatter(self.memory, rows, state["forecast_memory"])
        self.counts["forecast_state_lost"] += lost

    def meta(self) -> dict[str, Any]:
        """What belongs to the partition as a whole, JSON-able."""
        return {
            "model_version": self.model_version,
            "memory": self.memory.meta() if self.memory is not None else None,
            "origins": self.origins.meta(),
            "load": self._load.meta(),
            "counts": dict(self.counts),
        }

    def restore_meta(self, meta: Mapping[str, Any]) -> None:
        """The opposite of `meta`. Raises LookupError, TypeError or ValueError for what no `meta`
        can have said.
        """
        if self.memory is not None and meta["memory"] is not None:
            self.memory.restore_meta(meta["memory"])
        self.origins.restore_meta(meta["origins"])
        self._load.restore_meta(meta["load"])
        self.counts.update(msgspec.convert(meta["counts"], dict[str, int]))
