"""Everything the forecaster remembers: one row per SKU, and a little per partition.

The hidden state lies on the model's device; the rest are numpy arrays. `gather` and `scatter` move
rows to and from snapshots, `meta` and `restore_meta` what belongs to the whole partition.
Observing and predicting both change rows: whoever snapshots rows counts both as changes.
"""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from models import levels
from models.calibration import Calibrator
from models.features import BucketInputs
from models.levels import UNITS, SaleLevel

if TYPE_CHECKING:
    from models.forecaster import Forecaster

Array = NDArray[Any]

TSB_PROBABILITY_GAIN: Final = 0.05  # beta and alpha of Teunter, Syntetos and Babai (2011)
TSB_SIZE_GAIN: Final = 0.1
PRICE_GAIN: Final = 0.05
HORIZONS_TRACKED: Final = 4  # 1, 5, 15, 60 minutes; the end of the sale comes only once

# name: (dtype, shape of one row, value of an empty row)
FIELDS: Final[dict[str, tuple[type, tuple[int, ...], float]]] = {
    "level_sums": (np.float32, (3, 4), 0),
    "exposure": (np.float32, (3, 2), 0),
    "tsb_probability": (np.float32, (), 0),
    "tsb_size": (np.float32, (), 0),
    "last_bucket_ms": (np.int64, (), -1),  # start of the last active bucket
    "gap_buckets": (np.float32, (), 1),
    "steps": (np.int32, (), 0),  # active buckets seen
    "last_share": (np.float32, (), 1),  # of the last active bucket in stock
    "price_level": (np.float32, (), 0),  # mean log price of late; 0 unknown
    "price_move": (np.float32, (), 0),  # last log price - price_level before it
    "sale_ms": (np.float32, (), -1),  # length of the whole sale
    "category_level": (np.float32, (), 0),
    "failed": (np.bool_, (), 0),  # the last step of the model failed
    "due_ms": (np.int64, (HORIZONS_TRACKED,), -1),  # open forecasts awaiting their truth
    "due_sold": (np.float32, (HORIZONS_TRACKED,), 0),
    "due_mean": (np.float32, (HORIZONS_TRACKED,), 0),
    "due_dispersion": (np.float32, (HORIZONS_TRACKED,), 0),
}


class ForecastMemory:
    """Of one partition: `capacity` rows, of the forecaster's hidden size, on its device."""

    level_sums: Array
    exposure: Array
    tsb_probability: Array
    tsb_size: Array
    last_bucket_ms: Array
    gap_buckets: Array
    steps: Array
    last_share: Array
    price_level: Array
    price_move: Array
    sale_ms: Array
    category_level: Array
    failed: Array
    due_ms: Array
    due_sold: Array
    due_mean: Array
    due_dispersion: Array

    def __init__(self, forecaster: "Forecaster", capacity: int) -> None:
        self.capacity = capacity
        self.hidden = torch.zeros(capacity, forecaster.hidden_size, device=forecaster.device)
        self.sale = SaleLevel()
        self.calibrator = Calibrator(forecaster.calibration)
        self.bucket_ms = 10_000
        for name, (dtype, shape, empty) in FIELDS.items():
            setattr(self, name, np.full((capacity, *shape), empty, dtype))

    def grow(self, capacity: int) -> None:
        """Rows keep their places; new ones are empty."""
        if capacity <= self.capacity:
            return
        for name, (dtype, shape, empty) in FIELDS.items():
            grown: Array = np.full((capacity, *shape), empty, dtype)
            grown[: self.capacity] = getattr(self, name)
            setattr(self, name, grown)
        hidden = self.hidden.new_zeros(capacity, self.hidden.shape[1])
        hidden[: self.capacity] = self.hidden
        self.hidden, self.capacity = hidden, capacity

    def gather(self, rows: Array) -> dict[str, Array]:
        """Copies of the rows' state, f32[n, H] hidden among them."""
        state = {name: getattr(self, name)[rows] for name in FIELDS}
        at = torch.as_tensor(rows, device=self.hidden.device)
        state["hidden"] = self.hidden.index_select(0, at).cpu().numpy()
        return state

    def scatter(self, rows: Array, state: dict[str, Array]) -> None:
        """The opposite of `gather`."""
        for name in FIELDS:
            getattr(self, name)[rows] = state[name]
        at = torch.as_tensor(rows, device=self.hidden.device)
        hidden = torch.from_numpy(np.array(state["hidden"], np.float32))
        self.hidden.index_copy_(0, at, hidden.to(self.hidden.device))

    def reset(self, rows: Array) -> None:
        """Forgets rows, when their SKUs leave the sale."""
        self.sale.skus -= int(np.count_nonzero(self.steps[rows]))
        for name, (_, _, empty) in FIELDS.items():
            getattr(self, name)[rows] = empty
        self.hidden.index_fill_(0, torch.as_tensor(rows, device=self.hidden.device), 0.0)

    def meta(self) -> dict[str, Any]:
        """What belongs to the partition as a whole, JSON-able."""
        return {
            "bucket_ms": self.bucket_ms,
            "sale": self.sale.meta(),
            "calibration": self.calibrator.meta(),
        }

    def restore_meta(self, meta: dict[str, Any]) -> None:
        """The opposite of `meta`."""
        self.bucket_ms = int(meta["bucket_ms"])
        self.sale.restore(meta["sale"])
        self.calibrator.restore(meta["calibration"])

    def prior(self, rows: Array) -> Array:
        """Units per bucket to expect of a SKU about which nothing is known, f32[n]."""
        sale = np.float32(self.sale.per_sku()[levels.SLOW, UNITS])
        known = self.category_level[rows]
        return np.where(known > 0, known, sale)

    def sale_trend(self) -> tuple[float, float]:
        """log(fast / slow) of clicks and of units over all SKUs."""
        level = self.sale.per_sku() + 1e-4
        ratio = np.log(level[levels.FAST] / level[levels.SLOW])
        return float(ratio[levels.CLICKS]), float(ratio[UNITS])

    def idle_buckets(self, rows: Array, origin_ms: int) -> Array:
        """Buckets between the last active one's end and `origin_ms`; 0 for rows never seen."""
        last = self.last_bucket_ms[rows]
        idle = (origin_ms - last) // self.bucket_ms - 1
        return np.where(last < 0, 0, np.maximum(idle, 0)).astype(np.float32)

    def tsb_at(self, rows: Array, idle_buckets: Array) -> tuple[Array, Array]:
        """Probability of demand in a bucket and its size, after idle buckets."""
        fade = np.power(np.float32(1 - TSB_PROBABILITY_GAIN), idle_buckets)
        return self.tsb_probability[rows] * fade, self.tsb_size[rows]

    def observe(self, rows: Array, inputs: BucketInputs) -> None:
        """Takes in a closed bucket of active rows (each once): levels, prices, open forecasts."""
        self.bucket_ms = inputs.bucket_ms
        self._settle(rows, inputs)
        new = self.steps[rows] == 0
        self.sale.skus += int(np.count_nonzero(new))
        counts = np.stack(
            [
                np.asarray(column, np.float32)
                for column in (inputs.clicks, inputs.carts, inputs.orders, inputs.units)
            ],
            axis=1,
        )
        self.sale.observe(inputs.bucket_start_ms, inputs.bucket_ms, counts.sum(0, dtype=np.float64))
        gap = (inputs.bucket_start_ms - self.last_bucket_ms[rows]) // inputs.bucket_ms
        gap = np.where(new, 1, np.maximum(gap, 1)).astype(np.float32)
        share = np.asarray(inputs.in_stock_share, np.float32)
        self.level_sums[rows], self.exposure[rows] = levels.observe(
            self.level_sums[rows], self.exposure[rows], gap, counts, share, self.last_share[rows]
        )
        prior = np.asarray(inputs.category_level, np.float32)
        self.category_level[rows] = np.where(prior > 0, prior, inputs.sale_level)
        self._observe_tsb(rows, gap, counts[:, UNITS], share, new)
        self._observe_price(rows, np.asarray(inputs.price_cents))
        left = np.asarray(inputs.time_left_ms, np.float64)
        phase = np.asarray(inputs.sale_phase, np.float64)
        length = left / np.maximum(1 - phase, 1e-6)
        told = (left >= 0) & (phase < 1)
        self.sale_ms[rows] = np.where(told, length, self.sale_ms[rows])
        self.last_bucket_ms[rows] = inputs.bucket_start_ms
        self.gap_buckets[rows] = gap
        self.last_share[rows] = share
        self.steps[rows] += 1

    def _observe_tsb(self, rows: Array, gap: Array, units: Array, share: Array, new: Array) -> None:
        """TSB, with the gain 1 / steps while that is larger; not while out of stock throughout."""
        prior = self.prior(rows)
        probability, size = self.tsb_at(rows, gap - 1)
        probability = np.where(new, np.minimum(prior, 1), probability)
        size = np.where(new, np.maximum(prior, 1), size)
        start = 1 / (self.steps[rows] + 2.0)
        sold = units > 0
        gain = np.maximum(TSB_PROBABILITY_GAIN, start)
        size_gain = np.where(sold, np.maximum(TSB_SIZE_GAIN, start), 0)
        judged = (share > 0) | sold
        probability = np.where(judged, probability + gain * (sold - probability), probability)
        self.tsb_probability[rows] = probability
        self.tsb_size[rows] = size + size_gain * (units - size)

    def _observe_price(self, rows: Array, price_cents: Array) -> None:
        known = price_cents > 0
        price = np.log(np.where(known, price_cents, 1)).astype(np.float32)
        level = self.price_level[rows]
        level = np.where(level == 0, price, level)
        move = np.where(known, price - level, 0)
        self.price_move[rows] = np.clip(move, -1, 1)
        self.price_level[rows] = np.where(known, level + PRICE_GAIN * move, self.price_level[rows])

    def _settle(self, rows: Array, inputs: BucketInputs) -> None:
        """Adds the bucket's units to open forecasts; those whose time is over are judged first."""
        self.judge(rows, inputs.bucket_start_ms)
        open_ = self.due_ms[rows] >= 0
        units = np.asarray(inputs.units, np.float32)[:, None]
        self.due_sold[rows] += np.where(open_, units, 0)
        emptied = open_ & (np.asarray(inputs.in_stock_share) < 1)[:, None]
        self.due_ms[rows] = np.where(emptied, -1, self.due_ms[rows])  # sales are not demand there

    def judge(self, rows: Array, now_ms: int) -> None:
        """Shows the calibrator the open forecasts that ended at or before `now_ms`."""
        due = self.due_ms[rows]
        at, horizon = np.nonzero((due >= 0) & (due <= now_ms))
        if len(at) == 0:
            return
        row = rows[at]
        self.calibrator.update(
            horizon,
            self.due_mean[row, horizon],
            self.due_dispersion[row, horizon],
            self.due_sold[row, horizon],
        )
        self.due_ms[row, horizon] = -1

    def await_truth(
        self, rows: Array, due_ms: Array, mean: Array, dispersion: Array, issued: Array
    ) -> None:
        """Opens forecasts [n, 4] where none is open and `issued`."""
        row, horizon = np.nonzero(issued & (self.due_ms[rows] < 0))
        at = rows[row]
        self.due_ms[at, horizon] = due_ms[row, horizon]
        self.due_sold[at, horizon] = 0
        self.due_mean[at, horizon] = mean[row, horizon]
        self.due_dispersion[at, horizon] = dispersion[row, horizon]
