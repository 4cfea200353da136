"""A row of the forecaster's memory, a closed bucket, and a question, as the kernels see them."""

from typing import Any, Final, NamedTuple

from numpy.typing import NDArray

Array = NDArray[Any]

HALF_LIVES_BUCKETS: Final = (4, 30, 240)  # fast, middle, slow
DECAYS: Final = tuple(0.5 ** (1 / half_life) for half_life in HALF_LIVES_BUCKETS)
PRIOR_BUCKETS: Final = 0.5  # weight of the category's level in a SKU's own
TSB_PROBABILITY_GAIN: Final = 0.05  # beta of Teunter, Syntetos and Babai (2011)
TINY: Final = 1e-3
MINUTE_MS: Final = 60_000.0
HORIZONS_MS: Final = (60_000, 300_000, 900_000, 3_600_000)  # and the end of the sale
LOAD_LEADS_MS: Final = (60_000, 300_000)
LOAD_WINDOW_MS: Final = 60_000  # loads are means over the minute that ends at the lead


class RowState(NamedTuple):
    """The arrays of a `ForecastMemory` that kernels read and write, [capacity, ...]."""

    level_sums: Array  # f4[., 3 half-lives, 4 channels]
    exposure: Array  # f4[., 3, 2]: buckets of the clock, buckets in stock
    converting: Array  # f4[., 2] clicks and carts while in stock, discounted slowly
    tsb_probability: Array
    tsb_size: Array
    last_bucket_ms: Array  # i8 start of the last active bucket, -1 never
    steps: Array  # i4 active buckets seen
    last_share: Array  # f4 of the last active bucket in stock
    price_level: Array  # f4 mean log price of late, 0 unknown
    sale_ms: Array  # f4 length of the whole sale, -1 unknown
    category_level: Array
    due_ms: Array  # i8[., 4] open forecasts awaiting their truth
    due_sold: Array


class Bucket(NamedTuple):
    """Columns of a closed bucket, [n]."""

    counts: Array  # f8[n, 4] clicks, carts, orders, units
    share: Array  # f8 in stock
    price: Array  # f8, 0 unknown, as the next two
    list_price: Array
    rival_price: Array
    phase: Array  # f8
    left_ms: Array  # f8, -1 unknown
    category: Array  # f8, 0 unknown


class Asked(NamedTuple):
    """What the head is asked, f4[n, ...]; horizons i8[n, 5]."""

    horizons: Array
    query: Array  # [n, Q]
    components: Array  # [n, 8]
    loads: Array  # [n, 3 kinds, 3 half-lives]
    stretch: Array  # [n, 5, I]
    length: Array  # [n, 5] buckets
    load_stretch: Array  # [n, 2, I]
    load_length: Array  # [n, 2]
