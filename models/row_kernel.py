"""The forecaster's arithmetic per row, compiled: levels, features, and what the head is asked.

One pass over the rows of a closed bucket (`observe_rows`) and one over those of an origin
(`ask_rows`); training and serving both run them, so they cannot differ. What the columns mean is
said in `features`, how levels are discounted in `levels`.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.jit import njit
from models.levels import DECAYS

Array = NDArray[Any]

MINUTE_MS = 60_000.0
HOUR_MS = 3_600_000.0
WEEK_HOURS = 168
TINY = 1e-3
DECAY_FAST, DECAY_MIDDLE, DECAY_SLOW = DECAYS.tolist()
PRIOR_BUCKETS = 0.5  # weight of the category's level in a SKU's own
PRIOR_CLICKS = 20.0  # weight of the sale's units per click in a SKU's own
PRIOR_CARTS = 5.0
TSB_PROBABILITY_GAIN = 0.05  # beta and alpha of Teunter, Syntetos and Babai (2011)
TSB_SIZE_GAIN = 0.1
PRICE_GAIN = 0.05
PRICE_MOVE_MAX = 1.0
LOG_RATIO_MAX = 2.0
COMPONENT_MIN = 1e-6
HORIZON_1, HORIZON_2, HORIZON_3, HORIZON_4 = 60_000, 300_000, 900_000, 3_600_000
LOAD_LEAD_1, LOAD_LEAD_2 = 60_000, 300_000
LOAD_WINDOW_MS = 60_000


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
    components: Array  # [n, 7]
    loads: Array  # [n, 3 kinds, 3 half-lives]
    stretch: Array  # [n, 5, I]
    length: Array  # [n, 5] buckets
    load_stretch: Array  # [n, 2, I]
    load_length: Array  # [n, 2]


@njit
def decays(gap: float) -> tuple[float, float, float]:
    """decay ** gap at each half-life."""
    if gap == 1.0:
        return DECAY_FAST, DECAY_MIDDLE, DECAY_SLOW
    return DECAY_FAST**gap, DECAY_MIDDLE**gap, DECAY_SLOW**gap


@njit
def _log_ratio(price: float, other: float) -> float:
    if price <= 0 or other <= 0:
        return 0.0
    return min(max(math.log(price / other), -LOG_RATIO_MAX), LOG_RATIO_MAX)


@njit
def scan(state: RowState, rows: Array, start_ms: int) -> tuple[int, bool]:
    """How many rows are new, and whether any open forecast's time was over by `start_ms`."""
    new, due = 0, False
    for row in rows:
        new += state.steps[row] == 0
        for h in range(state.due_ms.shape[1]):
            due = due or (0 <= state.due_ms[row, h] <= start_ms)
    return new, due


@njit
def observe_rows(
    state: RowState,
    rows: Array,
    start_ms: int,
    bucket_ms: int,
    bucket: Bucket,
    sale_level: float,
    sale_trend: float,
    x: Array,
) -> None:
    """Takes a closed bucket into the rows' state and writes their features x f4[n, F]."""
    unit_level, click_level = np.empty(3), np.empty(3)
    for i in range(len(rows)):
        row = rows[i]
        first = state.steps[row] == 0
        gap = 1.0 if first else max((start_ms - state.last_bucket_ms[row]) // bucket_ms, 1) * 1.0
        share, before = bucket.share[i], float(state.last_share[row])
        fades = decays(gap)
        for k in range(3):
            fade = fades[k]
            one = (DECAY_FAST, DECAY_MIDDLE, DECAY_SLOW)[k]
            idle = (one - fade) / (1.0 - one)  # the gap - 1 buckets between
            state.exposure[row, k, 0] = state.exposure[row, k, 0] * fade + idle + 1.0
            state.exposure[row, k, 1] = state.exposure[row, k, 1] * fade + idle * before + share
            for c in range(4):
                state.level_sums[row, k, c] = (
                    state.level_sums[row, k, c] * fade + bucket.counts[i, c]
                )
        for c in range(2):
            state.converting[row, c] = (
                state.converting[row, c] * fades[2] + bucket.counts[i, c] * share
            )
        state.category_level[row] = bucket.category[i]
        prior = bucket.category[i] if bucket.category[i] > 0 else sale_level
        units = bucket.counts[i, 3]
        _observe_tsb(state, row, gap, units, share, prior, first)
        move = _observe_price(state, row, bucket.price[i])
        left, phase = bucket.left_ms[i], bucket.phase[i]
        if left >= 0 and phase < 1:
            state.sale_ms[row] = left / max(1.0 - phase, 1e-6)
        for h in range(state.due_ms.shape[1]):  # sales are not demand where the shelf empties
            if state.due_ms[row, h] >= 0:
                state.due_sold[row, h] += units
                if share < 1:
                    state.due_ms[row, h] = -1
        state.last_bucket_ms[row] = start_ms
        state.last_share[row] = share
        state.steps[row] += 1
        for k in range(3):
            unit_level[k] = (state.level_sums[row, k, 3] + PRIOR_BUCKETS * prior) / (
                state.exposure[row, k, 1] + PRIOR_BUCKETS
            )
            click_level[k] = state.level_sums[row, k, 0] / (state.exposure[row, k, 0] + TINY)
        _features(state, row, bucket, i, gap, move, prior, sale_trend, unit_level, click_level, x)
        x[i, 25] = math.log(bucket_ms / MINUTE_MS)


@njit
def _observe_tsb(
    state: RowState, row: int, gap: float, units: float, share: float, prior: float, first: bool
) -> None:
    """TSB, with the gain 1 / steps while that is larger; not while out of stock throughout."""
    probability = state.tsb_probability[row] * (1.0 - TSB_PROBABILITY_GAIN) ** (gap - 1.0)
    size = float(state.tsb_size[row])
    if first:
        probability, size = min(prior, 1.0), max(prior, 1.0)
    start = 1.0 / (state.steps[row] + 2.0)
    sold = units > 0
    if share > 0 or sold:
        hit = 1.0 if sold else 0.0
        probability += max(TSB_PROBABILITY_GAIN, start) * (hit - probability)
    if sold:
        size += max(TSB_SIZE_GAIN, start) * (units - size)
    state.tsb_probability[row] = probability
    state.tsb_size[row] = size


@njit
def _observe_price(state: RowState, row: int, price: float) -> float:
    """log price against its level of late, which then follows."""
    if price <= 0:
        return 0.0
    level = float(state.price_level[row])
    seen = math.log(price)
    if level == 0:
        level = seen
    state.price_level[row] = level + PRICE_GAIN * (seen - level)
    return min(max(seen - level, -PRICE_MOVE_MAX), PRICE_MOVE_MAX)


@njit
def _features(
    state: RowState,
    row: int,
    bucket: Bucket,
    i: int,
    gap: float,
    move: float,
    prior: float,
    sale_trend: float,
    unit_level: Array,
    click_level: Array,
    x: Array,
) -> None:
    """x[i] in the order of `features.FEATURES`, all but the last."""
    clicks, carts = bucket.counts[i, 0], bucket.counts[i, 1]
    orders, units = bucket.counts[i, 2], bucket.counts[i, 3]
    share = bucket.share[i]
    if share <= 0:  # out of stock throughout: orders say nothing, the level stands in for them
        orders = units = unit_level[1]
    cart_level = state.level_sums[row, 1, 1] / (state.exposure[row, 1, 0] + TINY)
    left, phase = bucket.left_ms[i], bucket.phase[i]
    known = left >= 0
    list_price, rival_price = bucket.list_price[i], bucket.rival_price[i]
    x[i, 0] = math.log1p(clicks)
    x[i, 1] = math.log1p(carts)
    x[i, 2] = math.log1p(orders)
    x[i, 3] = math.log1p(units)
    x[i, 4] = math.log((clicks + 0.5) / (click_level[1] + 0.5))
    x[i, 5] = math.log((carts + 0.5) / (cart_level + 0.5))
    x[i, 6] = math.log((units + 0.5) / (unit_level[1] + 0.5))
    x[i, 7] = math.log(unit_level[1] + TINY)
    x[i, 8] = math.log(click_level[1] + TINY)
    x[i, 9] = math.log((unit_level[0] + 0.02) / (unit_level[2] + 0.02))
    x[i, 10] = math.log((click_level[0] + 0.02) / (click_level[2] + 0.02))
    x[i, 11] = _log_ratio(bucket.price[i], list_price)
    x[i, 12] = bucket.price[i] > 0 and list_price > 0
    x[i, 13] = _log_ratio(bucket.price[i], rival_price)
    x[i, 14] = bucket.price[i] > 0 and rival_price > 0
    x[i, 15] = move
    x[i, 16] = share
    x[i, 17] = share < 1
    x[i, 18] = phase if known else 0.0
    x[i, 19] = math.log1p(max(left, 0.0) / MINUTE_MS)
    x[i, 20] = math.log1p(max(state.sale_ms[row], 0.0) * phase / MINUTE_MS) if known else 0.0
    x[i, 21] = known
    x[i, 22] = math.log((prior + TINY) / (unit_level[1] + TINY))
    x[i, 23] = sale_trend
    x[i, 24] = math.log1p(gap - 1.0)


@njit
def ask_rows(
    state: RowState,
    rows: Array,
    origin_ms: int,
    bucket_ms: int,
    left_ms: Array,
    sale: Array,
    trends: tuple[float, float],
    season: Array,
    season_known: bool,
    asked: Asked,
) -> None:
    """Fills `asked` for `rows` at `origin_ms`. `sale` f8[3, 4] events per bucket and SKU; `season`
    f8[168] log factors by hour of the week.
    """
    unit_level, click_level, sums, exposure = (
        np.empty(3),
        np.empty(3),
        np.empty((3, 4)),
        np.empty((3, 2)),
    )
    per_click = min(sale[2, 3] / sale[2, 0], 100.0) if sale[2, 0] > 0 else 0.0
    per_cart = min(sale[2, 3] / sale[2, 1], 100.0) if sale[2, 1] > 0 else 0.0
    season_now = _season_at(season, float(origin_ms))
    for i in range(len(rows)):
        row = rows[i]
        share = float(state.last_share[row])
        idle = 0.0
        if state.last_bucket_ms[row] >= 0:
            idle = max((origin_ms - state.last_bucket_ms[row]) // bucket_ms - 1, 0) * 1.0
        prior = float(state.category_level[row])
        if prior <= 0:
            prior = sale[2, 3]
        fades = decays(idle)
        for k in range(3):
            passed = (1.0 - fades[k]) / (1.0 - (DECAY_FAST, DECAY_MIDDLE, DECAY_SLOW)[k])
            exposure[k, 0] = state.exposure[row, k, 0] * fades[k] + passed
            exposure[k, 1] = state.exposure[row, k, 1] * fades[k] + passed * share
            for c in range(4):
                sums[k, c] = state.level_sums[row, k, c] * fades[k]
            unit_level[k] = (sums[k, 3] + PRIOR_BUCKETS * prior) / (exposure[k, 1] + PRIOR_BUCKETS)
            click_level[k] = sums[k, 0] / (exposure[k, 0] + TINY)
            for c in range(3):
                weight = exposure[k, 0] if c < 2 else exposure[k, 1]
                load = (sums[k, c] + PRIOR_BUCKETS * sale[2, c]) / (weight + PRIOR_BUCKETS)
                asked.loads[i, c, k] = max(load, COMPONENT_MIN)
        stocked_clicks = state.converting[row, 0] * fades[2]
        stocked_carts = state.converting[row, 1] * fades[2]
        to_clicks = (sums[2, 3] + PRIOR_CLICKS * per_click) / (stocked_clicks + PRIOR_CLICKS)
        to_carts = (sums[2, 3] + PRIOR_CARTS * per_cart) / (stocked_carts + PRIOR_CARTS)
        cart_level = sums[0, 1] / (exposure[0, 0] + TINY)
        faded = state.tsb_probability[row] * (1.0 - TSB_PROBABILITY_GAIN) ** idle
        part = asked.components[i]
        part[0], part[1], part[2] = unit_level[0], unit_level[1], unit_level[2]
        part[3], part[4] = click_level[0] * to_clicks, cart_level * to_carts
        part[5], part[6] = faded * state.tsb_size[row], prior
        query = asked.query[i]
        base = math.log(unit_level[1] + TINY)
        for k in range(7):
            query[k] = math.log(part[k] + TINY) - base
            part[k] = max(part[k], COMPONENT_MIN)
        query[7] = base
        query[8] = math.log1p(idle)
        query[9] = math.log1p(exposure[2, 1])
        query[10] = math.log1p(state.steps[row])
        query[11] = math.log(bucket_ms / MINUTE_MS)
        query[12], query[13] = trends
        query[14] = math.log((unit_level[0] + 0.02) / (unit_level[2] + 0.02))
        query[15] = math.log((click_level[0] + 0.02) / (click_level[2] + 0.02))
        query[16] = share
        query[17] = season_now
        query[18] = season_known
        _stretches(state, row, i, origin_ms, bucket_ms, left_ms[i], season, asked)


@njit
def _stretches(
    state: RowState,
    row: int,
    i: int,
    origin_ms: int,
    bucket_ms: int,
    left_ms: int,
    season: Array,
    asked: Asked,
) -> None:
    """Horizons cut to the sale's end, the stretches between them, and those of the loads."""
    sale_ms = float(state.sale_ms[row])
    begin = 0
    for h in range(5):
        end = (HORIZON_1, HORIZON_2, HORIZON_3, HORIZON_4, HORIZON_4)[h]
        if left_ms >= 0:
            end = left_ms if h == 4 else min(end, left_ms)
        asked.horizons[i, h] = end
        asked.length[i, h] = (end - begin) / bucket_ms
        _describe(asked.stretch[i, h], begin, end, left_ms, sale_ms, origin_ms, bucket_ms, season)
        begin = end
    window = max(LOAD_WINDOW_MS, bucket_ms)
    for h in range(2):
        begin = max((LOAD_LEAD_1, LOAD_LEAD_2)[h] - window, 0)
        end = begin + window
        asked.load_length[i, h] = window / bucket_ms
        _describe(
            asked.load_stretch[i, h], begin, end, left_ms, sale_ms, origin_ms, bucket_ms, season
        )


@njit
def _describe(
    out: Array,
    begin_ms: int,
    end_ms: int,
    left_ms: int,
    sale_ms: float,
    origin_ms: int,
    bucket_ms: int,
    season: Array,
) -> None:
    """One stretch [begin, end) after the origin, in the order of `features.INTERVAL`."""
    middle = (begin_ms + end_ms) / 2.0
    out[0] = math.log1p(middle / bucket_ms)
    out[1] = math.log1p((end_ms - begin_ms) / bucket_ms)
    out[2] = math.log1p(middle / MINUTE_MS)
    if left_ms >= 0 and sale_ms > 0:
        left = max(left_ms - middle, 0.0)
        elapsed = max(sale_ms - left, 0.0)
        out[3] = min(elapsed / max(sale_ms, 1.0), 1.0)
        out[4] = math.log1p(left / MINUTE_MS)
        out[5] = math.log1p(elapsed / MINUTE_MS)
        out[6] = 1.0
    else:
        out[3] = out[4] = out[5] = out[6] = 0.0
    out[7] = _season_at(season, origin_ms + middle)


@njit
def _season_at(season: Array, at_ms: float) -> float:
    """Straight between the middles of hours."""
    hour = at_ms / HOUR_MS - 0.5
    low = math.floor(hour)
    share = hour - low
    at = int(low) % WEEK_HOURS
    return float((1.0 - share) * season[at] + share * season[(at + 1) % WEEK_HOURS])
