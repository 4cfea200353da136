"""Everything the forecaster remembers: one row per SKU, and a little per partition.

The hidden state lies on the model's device; the rest are numpy arrays. `gather` and `scatter` move
rows to and from snapshots, `meta` and `restore_meta` what belongs to the whole partition.
Observing and predicting both change rows: whoever snapshots rows counts both as changes.
"""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from models import features
from models.ask_kernel import ask_rows
from models.calibration import Calibrator
from models.common_error import CommonError
from models.features import BucketInputs
from models.levels import SLOW, UNITS, SaleLevel
from models.observe_kernel import observe_rows, scan
from models.prediction import load_window_ms
from models.read_back import TIME_MS_MAX, bounded
from models.row_state import LOAD_LEADS_MS, Asked, RowState
from models.season import Season

if TYPE_CHECKING:
    from models.forecaster import Forecaster

Array = NDArray[Any]

HORIZONS_TRACKED: Final = 4  # 1, 5, 15, 60 minutes; the end of the sale comes only once

# name: (dtype, shape of one row, value of an empty row)
FIELDS: Final[dict[str, tuple[type, tuple[int, ...], float]]] = {
    "level_sums": (np.float32, (3, 4), 0),
    "exposure": (np.float32, (3, 2), 0),
    "converting": (np.float32, (2,), 0),  # clicks and carts while in stock, discounted slowly
    "tsb_probability": (np.float32, (), 0),
    "tsb_size": (np.float32, (), 0),
    "last_bucket_ms": (np.int64, (), -1),  # start of the last active bucket
    "steps": (np.int32, (), 0),  # active buckets seen
    "last_share": (np.float32, (), 1),  # of the last active bucket in stock
    "price_level": (np.float32, (), 0),  # mean log price of late; 0 unknown
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
    converting: Array
    tsb_probability: Array
    tsb_size: Array
    last_bucket_ms: Array
    steps: Array
    last_share: Array
    price_level: Array
    sale_ms: Array
    category_level: Array
    failed: Array
    due_ms: Array
    due_sold: Array
    due_mean: Array
    due_dispersion: Array

    def __init__(self, forecaster: "Forecaster", capacity: int) -> None:
        self.capacity = capacity
        self.version = forecaster.version
        self.foreign = False  # rows come from another model: their hidden state means nothing here
        self.hidden = torch.zeros(capacity, forecaster.hidden_size, device=forecaster.device)
        self.sale = SaleLevel()
        self.season = Season()
        self.common = CommonError()
        self.calibrator = Calibrator(forecaster.calibration)
        self.bucket_ms = 10_000
        for name, (dtype, shape, empty) in FIELDS.items():
            setattr(self, name, np.full((capacity, *shape), empty, dtype))
        self.state = self._state()

    def _state(self) -> RowState:
        return RowState(**{name: getattr(self, name) for name in RowState._fields})

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
        self.state = self._state()

    def gather(self, rows: Array) -> dict[str, Array]:
        """Copies of the rows' state, f32[n, H] hidden among them."""
        state = {name: getattr(self, name)[rows] for name in FIELDS}
        at = torch.as_tensor(rows, device=self.hidden.device)
        state["hidden"] = self.hidden.index_select(0, at).cpu().numpy()
        return state

    def scatter(self, rows: Array, state: dict[str, Array]) -> None:
        """The opposite of `gather`; a hidden state of another model starts anew."""
        for name in FIELDS:
            getattr(self, name)[rows] = state[name]
        if self.foreign or state["hidden"].shape[1] != self.hidden.shape[1]:
            return
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
            "version": self.version,
            "bucket_ms": self.bucket_ms,
            "sale": self.sale.meta(),
            "season": self.season.meta(),
            "common": self.common.meta(),
            "calibration": self.calibrator.meta(),
        }

    def restore_meta(self, meta: dict[str, Any]) -> None:
        """The opposite of `meta`. From another model's, levels stay and hidden states start anew,
        whether rows are scattered before or after. Raises LookupError, TypeError or ValueError for
        what no `meta` can have said.
        """
        if meta["version"] != self.version:
            self.foreign = True
            self.hidden.zero_()
        self.bucket_ms = bounded(meta["bucket_ms"], 1, TIME_MS_MAX, "bucket_ms")
        self.sale.restore(meta["sale"])
        self.season.restore(meta["season"])
        self.common.restore(meta["common"])
        self.calibrator.restore(meta["calibration"])

    def observe(self, rows: Array, inputs: BucketInputs, x: Array | None = None) -> Array:
        """Takes in a closed bucket of active rows i8[n] (each once): levels, prices, open
        forecasts. Returns what the network sees of it, f4[n, F], in `x` where that is given.
        """
        if x is None:
            x = np.empty((len(rows), len(features.FEATURES)), np.float32)
        start_ms, self.bucket_ms = inputs.bucket_start_ms, inputs.bucket_ms
        bucket = features.columns(inputs)
        new, due = scan(self.state, rows, start_ms)
        if due:
            self.judge(rows, start_ms)
        totals = bucket.counts.sum(0)
        self.sale.skus += int(new)
        self.sale.observe(start_ms, self.bucket_ms, totals)
        self.season.observe(start_ms, float(totals[:UNITS].sum()))
        self.common.observe(start_ms, totals[:UNITS])
        level = float(self.sale.per_sku()[SLOW, UNITS])
        trend = self.sale.trends()[0]
        observe_rows(self.state, rows, start_ms, self.bucket_ms, bucket, level, trend, x)
        return x

    def ask(
        self, rows: Array, origin_ms: int, time_left_ms: Array, flat: Array | None = None
    ) -> Asked:
        """What the head is asked for `rows` i8[n] at `origin_ms`, the end of a bucket; in `flat`
        f4[n, ASKED] where that is given.

        `time_left_ms` i8[n] until the sale ends, -1 unknown.
        """
        asked = features.blank(len(rows), flat)
        sale = self.sale
        ask_rows(
            self.state, rows, origin_ms, self.bucket_ms, np.asarray(time_left_ms, np.int64),
            sale.per_sku(), sale.trends(), self.season.curve(), self.season.known, asked,
        )  # fmt: skip
        return asked

    def await_load(self, origin_ms: int, mean: Array, variance: Array) -> None:
        """Opens a forecast of the load of all SKUs together, as of `origin_ms`, the end of a
        bucket: mean f64[2 leads, 3 kinds] in events a second, variance as the SKUs' own add up.
        """
        window_ms = load_window_ms(self.bucket_ms)
        window_s = window_ms / 1000
        self.common.judge(origin_ms)
        for lead, lead_ms in enumerate(LOAD_LEADS_MS):
            begin_ms = origin_ms + max(lead_ms - window_ms, 0)
            counts, own = mean[lead] * window_s, variance[lead] * window_s**2
            self.common.await_truth(lead, begin_ms, begin_ms + window_ms, counts, own)

    def load_variance(self, mean: Array, variance: Array) -> Array:
        """Of the load of all SKUs together, f64[2, 3]: the SKUs' own variances added up, and how
        far they err together.
        """
        return np.asarray(variance + self.common.shared_variance(mean))

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
