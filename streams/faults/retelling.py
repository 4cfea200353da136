"""The windows of one partition told again to a forecaster that nothing interrupts.

    windows, bucket by bucket --> forecaster, stepped once --> forecasts --> policies --> decisions

What came out of the run, of however many lives, must be the same: so the state that each of them
was given was the right one. The formulas (forecaster, price memory, policies) are those of the
worker and have tests of their own; positions, restocks under way and what the shop had said are
worked out here anew. Where the shop spoke between two checkpoints, a decision must follow from what
it had said before or after (shelf.py).
"""

import functools
import itertools
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch

from models.features import BucketInputs
from models.forecaster import Forecaster
from models.memory import ForecastMemory
from models.prediction import Prediction
from streams.decisions.price_memory import PriceMemory
from streams.faults.choosing import Candidate, Choosing, Position, alike
from streams.faults.origins import Bucket, Moment, timeline
from streams.faults.shelf import Fields, Marker, Shelf, add_order, on_hand
from streams.settings import Settings

LISTED_MAX: Final = 8
COLD: Final = "too little history for the model"
MEAN_SLACK: Final = (0.002, 1e-4)  # of what is told in thousandths; a batch's size moves the rest
LOADS: Final = (2, 3)  # horizons, kinds of event
QUANTILE_SLACK: Final = 1  # where a quantile lies between two units, either is right

Name = tuple[str, int]  # SKU, origin or start of bucket
Said = Mapping[Name, Fields]


@functools.cache
def shipped() -> Forecaster:
    """The weights that ship, loaded once in a process."""
    torch.set_num_threads(1)
    return Forecaster.load(None, "cpu")


@dataclass(frozen=True)
class Came:
    """What a run left of one partition: windows, shares of the load by start of bucket, forecasts,
    restocks, prices.
    """

    windows: Said
    shares: Mapping[int, Fields]
    forecasts: Said
    restocks: Said
    prices: Said


@dataclass
class Retold:
    """Of one partition."""

    forecasts: int = 0
    decisions: int = 0
    violations: list[str] = field(default_factory=list)


class Retelling:
    """Of one partition. Rows are SKUs in the order of their names."""

    def __init__(
        self, settings: Settings, forecaster: Forecaster, shelf: Shelf, through_ms: int, came: Came
    ) -> None:
        self._settings = settings
        self._forecaster = forecaster
        self._shelf = shelf
        self._through_ms = through_ms
        self._came = came
        skus = sorted({sku for sku, _ in came.windows})
        self._row = {sku: row for row, sku in enumerate(skus)}
        self._memory = ForecastMemory(forecaster, len(skus))
        self._prices = PriceMemory(len(skus))
        self._choosing = Choosing(settings, self._prices, list(map(shelf.last_entry, skus)))
        self._closed: dict[str, dict[int, int]] = defaultdict(dict)  # units, by start of bucket
        self._shown: dict[str, tuple[int, int]] = {}  # price, start of bucket
        self._ordered: dict[str, list[tuple[int, int]]] = defaultdict(list)  # origin, units; newest
        slots = settings.forecast_interval_ms // settings.bucket_ms
        self._loads: list[tuple[Any, Any] | None] = [None] * slots  # mean, variance; None: not yet
        self._retold = Retold(len(came.forecasts), len(came.restocks) + len(came.prices))

    def result(self) -> Retold:
        """Tells all of it."""
        interval_ms = self._settings.forecast_interval_ms
        for one in timeline(
            self._came.windows, self._settings.bucket_ms, interval_ms, self._through_ms
        ):
            if isinstance(one, Bucket):
                self._close(one)
            else:
                self._decide(one)
        del self._retold.violations[LISTED_MAX:]
        return self._retold

    def _wrong(self, what: str) -> None:
        self._retold.violations.append(what)

    # -- buckets

    def _close(self, bucket: Bucket) -> None:
        start_ms, bucket_ms = bucket.start_ms, self._settings.bucket_ms
        windows = [self._came.windows[sku, start_ms] for sku in bucket.skus]
        spans = self._shelf.when(lambda marker: _closed(marker) >= start_ms + bucket_ms)
        for window in windows:
            sku = window["sku"]
            shares = {self._share_ms(sku, window["units"], stock)
                      for stock in self._shelf.known("stock-levels", sku, spans)}  # fmt: skip
            if window["in_stock_ms"] not in shares:
                self._wrong(f"window {sku}, {start_ms}: in stock for {window['in_stock_ms']} ms, "
                            f"must be one of {shares}")  # fmt: skip
            rivals = {one["price_cents"] if one else 0
                      for one in self._shelf.known("competitor-prices", sku, spans)}  # fmt: skip
            if window["competitor_price_cents"] not in rivals:
                self._wrong(f"window {sku}, {start_ms}: a competitor's price of "
                            f"{window['competitor_price_cents']}, must be of {rivals}")  # fmt: skip
        if not alike(self._came.shares[start_ms], load := self._told_load()):
            self._wrong(f"{self._came.shares[start_ms]}, must be {load}")
        rows = np.array([self._row[sku] for sku in bucket.skus], np.int64)
        inputs = self._inputs(start_ms, windows)
        self._prices.update(
            rows,
            inputs.orders,
            inputs.clicks * inputs.in_stock_share,
            inputs.price_cents,
            inputs.list_price_cents,
            inputs.competitor_price_cents,
        )
        self._forecaster.step([(self._memory, rows, inputs)])
        for window in windows:
            self._closed[window["sku"]][start_ms] = window["units"]
            self._shown[window["sku"]] = window["price_cents"], start_ms

    def _share_ms(self, sku: str, units: int, stock: Fields | None) -> int:
        """How long in the bucket there was stock, sales being even over it."""
        bucket_ms = self._settings.bucket_ms
        if stock is None:
            return bucket_ms
        before = on_hand(stock, self._closed[sku], bucket_ms)
        if before == 0:
            return bucket_ms if units else 0
        return round(min(before / max(units, 1), 1.0) * bucket_ms)

    def _inputs(self, start_ms: int, windows: list[Fields]) -> BucketInputs:
        bucket_ms = self._settings.bucket_ms
        end_ms = start_ms + bucket_ms
        entries = [self._shelf.last_entry(window["sku"]) for window in windows]
        shares = [_share(window, bucket_ms) for window in windows]
        phases = [_phase(entry, end_ms) for entry in entries]
        names = ("clicks", "carts", "orders", "units", "price_cents", "competitor_price_cents")
        told = {name: np.array([window[name] for window in windows], np.int64) for name in names}
        list_price = [entry["list_price_cents"] if entry else 0 for entry in entries]
        unknown = np.zeros(len(windows))
        return BucketInputs(
            bucket_start_ms=start_ms,
            bucket_ms=bucket_ms,
            list_price_cents=np.array(list_price, np.int64),
            in_stock_share=np.array(shares),
            sale_phase=np.array(phases),
            time_left_ms=np.array([_left_ms(entry, end_ms) for entry in entries], np.int64),
            category_level=unknown,
            sale_level=unknown,
            **told,
        )

    # -- origins

    def _put_load(self, moment: Moment, mean: Any, variance: Any) -> None:
        self._loads[moment.slot] = mean, variance
        if moment.slot == 0 and all(self._loads):
            self._memory.await_load(moment.at_ms, *self._sums())

    def _sums(self) -> tuple[Any, Any]:
        means, variances = zip(*filter(None, self._loads), strict=True)
        return sum(means), sum(variances)

    def _told_load(self) -> dict[str, Any]:
        """Of all slots, once each of them has been forecast."""
        if not all(self._loads):
            return {"mean_per_s": [], "variance_per_s2": []}
        mean, variance = self._sums()
        variance = self._memory.load_variance(mean, variance)
        return {"mean_per_s": mean.tolist(), "variance_per_s2": variance.tolist()}

    def _decide(self, moment: Moment) -> None:
        at_ms, skus = moment.at_ms, moment.skus
        if not skus:
            self._put_load(moment, np.zeros(LOADS), np.zeros(LOADS))
            return
        rows = np.array([self._row[sku] for sku in skus], np.int64)
        entries = [self._shelf.last_entry(sku) for sku in skus]
        left_ms = np.array([_left_ms(entry, at_ms) for entry in entries], np.int64)
        (prediction,) = self._forecaster.predict([(self._memory, rows, at_ms, left_ms)])
        loads = prediction.load_mean, prediction.load_variance
        self._put_load(moment, *(one.sum(axis=0) for one in loads))
        spans = self._shelf.when(
            lambda marker: _closed(marker) >= at_ms and not 0 < _next_origin(marker) <= at_ms
        )
        positions = {
            sku: [
                self._position(sku, at_ms, known)
                for known in itertools.product(
                    self._shelf.known("catalog", sku, spans),
                    self._shelf.known("stock-levels", sku, spans),
                    self._shelf.known("competitor-prices", sku, spans),
                )
            ]
            for sku in skus
        }
        for index, sku in enumerate(skus):
            self._judge_forecast(sku, at_ms, prediction, index)
        on_sale = [
            index
            for index, entry in enumerate(entries)
            if entry and entry["sale_start_ms"] <= at_ms < entry["sale_end_ms"]
        ]
        chosen: dict[str, list[Candidate]] = {}
        if on_sale:
            chosen = self._choosing.candidates(
                at_ms,
                prediction.taken(np.array(on_sale)),
                [positions[skus[index]] for index in on_sale],
            )
        for sku in skus:
            neither = [Candidate(one, None, None) for one in positions[sku]]
            self._judge_decision(sku, at_ms, chosen.get(sku, neither))

    def _position(
        self, sku: str, at_ms: int, known: tuple[Fields | None, Fields | None, Fields | None]
    ) -> Position:
        entry, stock, rival = known
        as_of_ms = stock["as_of_ms"] if stock else 0
        ordered = self._ordered[sku]
        return Position(
            sku=sku,
            row=self._row[sku],
            entry=entry,
            has_stock=stock is not None,
            on_hand=on_hand(stock, self._closed[sku], self._settings.bucket_ms),
            on_the_way=(stock["on_order"] if stock else 0)
            + sum(units for origin_ms, units in ordered if origin_ms > as_of_ms),
            since_restock_ms=at_ms - ordered[0][0] if ordered else -1,
            shown=self._shown[sku],
            competitor_price_cents=rival["price_cents"] if rival else 0,
        )

    def _judge_forecast(self, sku: str, at_ms: int, prediction: Prediction, index: int) -> None:
        said = self._came.forecasts[sku, at_ms]
        wanted: dict[str, Any] = {
            "valid_until_ms": at_ms + 2 * self._settings.forecast_interval_ms,
            "fallback": COLD if prediction.cold[index] else None,
            "model_version": self._forecaster.version,
        }
        wrong = [f"{name} {said[name]}, must be {value}"
                 for name, value in wanted.items() if said[name] != value]  # fmt: skip
        told = zip(
            said["horizons"],
            prediction.horizons_ms[index].tolist(),
            prediction.mean[index].tolist(),
            prediction.quantiles[index].tolist(),
            strict=True,
        )
        for horizon, horizon_ms, mean, quantiles in told:
            figures = [horizon[name] for name in ("p05", "p10", "p50", "p90", "p95")]
            near = abs(horizon["mean"] - mean) <= MEAN_SLACK[0] + MEAN_SLACK[1] * mean
            pairs = zip(figures, quantiles, strict=True)
            near &= all(abs(now - then) <= QUANTILE_SLACK for now, then in pairs)
            if horizon["horizon_ms"] != horizon_ms or not near:
                wrong.append(f"{horizon}, must be {horizon_ms}: {mean:.3f} {quantiles}")
        if wrong:
            self._wrong(f"forecast {sku}, {at_ms}: {wrong[0]}")

    def _judge_decision(self, sku: str, at_ms: int, candidates: list[Candidate]) -> None:
        censored = self._came.forecasts[sku, at_ms]["censored"]
        restock = self._came.restocks.get((sku, at_ms))
        price = self._came.prices.get((sku, at_ms))
        if not any(one.fits(censored, restock, price) for one in candidates):
            self._wrong(f"decision {sku}, {at_ms}: censored {censored}, {restock}, {price}; "
                        f"must be {' or '.join(map(str, candidates))}")  # fmt: skip
        if restock is not None:
            add_order(self._ordered[sku], at_ms, restock["order_quantity"])
        if price is not None:
            row = np.array([self._row[sku]])
            cents = np.array([price["new_price_cents"]])
            self._prices.record_change(row, cents, at_ms)


def _closed(marker: Marker) -> int:
    through_ms: int = marker["core"]["windows"]["closed_through_ms"]
    return through_ms


def _next_origin(marker: Marker) -> int:
    origin_ms: int = marker["core"]["decider"]["origins"]["next_ms"]
    return origin_ms


def _share(window: Fields, bucket_ms: int) -> float:
    """In stock, in [0, 1], exactly: a share cut short by sales is a number of units of them."""
    share: float = window["in_stock_ms"] / bucket_ms
    units = window["units"]
    return round(share * units) / units if units else share


def _phase(entry: Fields | None, at_ms: int) -> float:
    if entry is None:
        return 0.0
    start_ms, end_ms = entry["sale_start_ms"], entry["sale_end_ms"]
    return float(min(max((at_ms - start_ms) / (end_ms - start_ms), 0.0), 1.0))


def _left_ms(entry: Fields | None, at_ms: int) -> int:
    return -1 if entry is None else max(entry["sale_end_ms"] - at_ms, 0)
