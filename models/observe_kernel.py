"""A closed bucket into the rows' state, compiled: levels, TSB, prices, and the network's input.

Training and the stream both run it, so they cannot differ. What the columns mean is said in
`features`, how levels are discounted in `levels`.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.jit import njit
from models.row_state import (
    DECAYS,
    MINUTE_MS,
    PRIOR_BUCKETS,
    TINY,
    TSB_PROBABILITY_GAIN,
    Bucket,
    RowState,
)

Array = NDArray[Any]

TSB_SIZE_GAIN = 0.1
PRICE_GAIN = 0.05
PRICE_MOVE_MAX = 1.0
LOG_RATIO_MAX = 2.0


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
    log_bucket = math.log(bucket_ms / MINUTE_MS)
    for i in range(len(rows)):
        row = rows[i]
        first = state.steps[row] == 0
        gap = 1.0 if first else max((start_ms - state.last_bucket_ms[row]) // bucket_ms, 1) * 1.0
        share, before = bucket.share[i], float(state.last_share[row])
        for k in range(3):
            one = DECAYS[k]
            fade = one if gap == 1.0 else one**gap  # a power costs as much as a logarithm
            idle = (one - fade) / (1.0 - one)  # the gap - 1 buckets between
            state.exposure[row, k, 0] = state.exposure[row, k, 0] * fade + idle + 1.0
            state.exposure[row, k, 1] = state.exposure[row, k, 1] * fade + idle * before + share
            for c in range(4):
                state.level_sums[row, k, c] = (
                    state.level_sums[row, k, c] * fade + bucket.counts[i, c]
                )
        slow_fade = fade  # of the last, the slow level
        for c in range(2):
            state.converting[row, c] = (
                state.converting[row, c] * slow_fade + bucket.counts[i, c] * share
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
        x[i, 25] = log_bucket


@njit
def _observe_tsb(
    state: RowState, row: int, gap: float, units: float, share: float, prior: float, first: bool
) -> None:
    """TSB, with the gain 1 / steps while that is larger; not while out of stock throughout."""
    probability = float(state.tsb_probability[row])
    if gap > 1.0:
        probability *= (1.0 - TSB_PROBABILITY_GAIN) ** (gap - 1.0)
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
    x[i, 24] = math.log(gap)
