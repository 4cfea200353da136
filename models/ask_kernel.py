"""What the head is asked at an origin, compiled: plain rates, evidence, and the stretches ahead.

Training and the stream both run it, so they cannot differ. The order of the columns is that of
`features.QUERY`, `COMPONENTS` and `INTERVAL`.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.jit import njit
from models.row_state import (
    DECAYS,
    HORIZONS_MS,
    LOAD_LEADS_MS,
    LOAD_WINDOW_MS,
    MINUTE_MS,
    PRIOR_BUCKETS,
    TINY,
    TSB_PROBABILITY_GAIN,
    Asked,
    RowState,
)

Array = NDArray[Any]

HOUR_MS = 3_600_000.0
WEEK_HOURS = 168
PRIOR_CLICKS = 20.0  # weight of the sale's units per click in a SKU's own
PRIOR_CARTS = 5.0
USUAL_PER_CLICK = 0.1  # units: all there is to go by in an opening, when nobody has ordered yet
COMPONENT_MIN = 1e-6


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
    log_bucket = math.log(bucket_ms / MINUTE_MS)
    sale_before = -1.0
    for i in range(len(rows)):
        row = rows[i]
        share = float(state.last_share[row])
        idle = 0.0
        if state.last_bucket_ms[row] >= 0:
            idle = max((origin_ms - state.last_bucket_ms[row]) // bucket_ms - 1, 0) * 1.0
        prior = float(state.category_level[row])
        if prior <= 0:
            prior = sale[2, 3]
        for k in range(3):
            fade = DECAYS[k] ** idle if idle > 0 else 1.0  # a power costs as much as a logarithm
            passed = (1.0 - fade) / (1.0 - DECAYS[k])
            exposure[k, 0] = state.exposure[row, k, 0] * fade + passed
            exposure[k, 1] = state.exposure[row, k, 1] * fade + passed * share
            for c in range(4):
                sums[k, c] = state.level_sums[row, k, c] * fade
            unit_level[k] = (sums[k, 3] + PRIOR_BUCKETS * prior) / (exposure[k, 1] + PRIOR_BUCKETS)
            click_level[k] = sums[k, 0] / (exposure[k, 0] + TINY)
            for c in range(3):
                weight = exposure[k, 0] if c < 2 else exposure[k, 1]
                load = (sums[k, c] + PRIOR_BUCKETS * sale[2, c]) / (weight + PRIOR_BUCKETS)
                asked.loads[i, c, k] = max(load, COMPONENT_MIN)
        stocked_clicks = state.converting[row, 0] * fade  # the last, of the slow level
        stocked_carts = state.converting[row, 1] * fade
        to_clicks = (sums[2, 3] + PRIOR_CLICKS * per_click) / (stocked_clicks + PRIOR_CLICKS)
        to_carts = (sums[2, 3] + PRIOR_CARTS * per_cart) / (stocked_carts + PRIOR_CARTS)
        cart_level = sums[0, 1] / (exposure[0, 0] + TINY)
        faded = float(state.tsb_probability[row])
        if idle > 0:
            faded *= (1.0 - TSB_PROBABILITY_GAIN) ** idle
        part = asked.components[i]
        part[0], part[1], part[2] = unit_level[0], unit_level[1], unit_level[2]
        part[3], part[4] = click_level[0] * to_clicks, cart_level * to_carts
        part[5], part[6] = faded * state.tsb_size[row], prior
        part[7] = click_level[0] * USUAL_PER_CLICK
        query = asked.query[i]
        base = math.log(unit_level[1] + TINY)
        for k in range(8):
            query[k] = math.log(part[k] + TINY) - base
            part[k] = max(part[k], COMPONENT_MIN)
        query[8] = base
        query[9] = math.log1p(idle)
        query[10] = math.log1p(exposure[2, 1])
        query[11] = math.log1p(state.steps[row])
        query[12] = log_bucket
        query[13], query[14] = trends
        query[15] = math.log((unit_level[0] + 0.02) / (unit_level[2] + 0.02))
        query[16] = math.log((click_level[0] + 0.02) / (click_level[2] + 0.02))
        query[17] = share
        query[18] = season_now
        query[19] = season_known
        sale_ms = float(state.sale_ms[row])
        if i > 0 and left_ms[i] == left_ms[i - 1] and sale_ms == sale_before:
            _repeat_stretches(asked, i)  # of the same sale: most rows are
        else:
            _stretches(i, origin_ms, bucket_ms, left_ms[i], sale_ms, season, asked)
        sale_before = sale_ms


@njit
def _repeat_stretches(asked: Asked, i: int) -> None:
    """Row i has the stretches of the row before."""
    asked.horizons[i] = asked.horizons[i - 1]
    asked.length[i] = asked.length[i - 1]
    asked.stretch[i] = asked.stretch[i - 1]
    asked.load_length[i] = asked.load_length[i - 1]
    asked.load_stretch[i] = asked.load_stretch[i - 1]


@njit
def _stretches(
    i: int,
    origin_ms: int,
    bucket_ms: int,
    left_ms: int,
    sale_ms: float,
    season: Array,
    asked: Asked,
) -> None:
    """Horizons cut to the sale's end, the stretches between them, and those of the loads."""
    begin = 0
    for h in range(5):
        end = HORIZONS_MS[min(h, 3)]
        if left_ms >= 0:
            end = left_ms if h == 4 else min(end, left_ms)
        asked.horizons[i, h] = end
        asked.length[i, h] = (end - begin) / bucket_ms
        _describe(asked.stretch[i, h], begin, end, left_ms, sale_ms, origin_ms, bucket_ms, season)
        begin = end
    window = max(LOAD_WINDOW_MS, bucket_ms)
    for h in range(2):
        begin = max(LOAD_LEADS_MS[h] - window, 0)
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
