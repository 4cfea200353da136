"""From the board to what the page draws: plain numbers, ready for JSON. Pure.

A forecast made at `origin` for `horizon` is drawn at origin + horizon, beside the units really sold
between the two: what was promised for a moment against what came.
"""

from dataclasses import asdict
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.records import HORIZONS_MS, CapacityForecast
from streams.web.board import (
    ALL,
    CLICKS,
    COMPETITOR,
    HIGH,
    LOW,
    MEAN,
    PRICE,
    SUM_COUNT,
    SUM_MEAN,
    SUM_VARIANCE,
    UNITS,
    Z_95,
    Board,
    SkuState,
)

TOP_MAX: Final = 25
FOUND_MAX: Final = 30
ROWS_MAX: Final = 60
Json = dict[str, Any]


def overview(board: Board) -> Json:
    """Everything on the page that does not depend on what is selected."""
    ranked = sorted(board.skus.items(), key=lambda item: (-item[1].units, item[0]))
    return {
        "version": board.version,
        "front_ms": board.front_ms(),
        "through_ms": board.through_ms(),
        "totals": asdict(board.totals),
        "skus": len(board.skus),
        "skus_max": board.skus_max,
        "top": [_line(name, state) for name, state in ranked[:TOP_MAX]],
        "restocks": msgspec.to_builtins(list(board.restocks)[: -ROWS_MAX - 1 : -1]),
        "prices": msgspec.to_builtins(list(board.prices)[: -ROWS_MAX - 1 : -1]),
        "capacity": {name: _capacity(list(held)) for name, held in board.capacity.items()},
        "late_by_topic": board.late_by_topic,
        "dead_by_reason": board.dead_by_reason,
        "refused": [
            {"verdict": verdict, **msgspec.to_builtins(head)}
            for verdict, head in list(board.refused)[: -ROWS_MAX - 1 : -1]
        ],
    }


def selection(board: Board, sku: str | None, horizon_ms: int) -> Json:
    """The charts of one SKU, or of all together (`sku` None).

    `known` is false for a SKU without detail.
    """
    state = board.skus.get(sku) if sku is not None else None
    if sku is not None and state is None:
        return {"sku": sku, "known": False, "horizon_ms": horizon_ms}
    row = state.row if state is not None else ALL
    body: Json = {
        "sku": sku,
        "known": True,
        "horizon_ms": horizon_ms,
        "cell_ms": board.clock.cell_ms,
        "demand": demand(board, row, horizon_ms),
        "sales": _sales(board, row),
    }
    if state is not None and sku is not None:
        body["facts"] = _line(sku, state) | {"ordered_units": state.ordered_units}
        body["restocks"] = msgspec.to_builtins(list(state.restocks))
        body["prices"] = msgspec.to_builtins(list(state.prices))
    return body


def search(board: Board, text: str) -> list[Json]:
    """SKUs whose name contains `text`, best sellers first."""
    wanted = text.casefold()
    found = [(name, state) for name, state in board.skus.items() if wanted in name.casefold()]
    found.sort(key=lambda item: (-item[1].units, item[0]))
    return [{"sku": name, "units": state.units} for name, state in found[:FOUND_MAX]]


def demand(board: Board, row: int, horizon_ms: int) -> Json:
    """Forecasts of units sold within `horizon_ms`, against those units, at the horizon's end.

    `x` in seconds; None where nothing is known. For all SKUs together the band is that of a normal
    distribution with the summed variances: it takes SKUs to be independent.
    """
    clock = board.clock
    held = clock.held()
    span = horizon_ms // clock.cell_ms
    through_ms = board.through_ms()
    if not len(held) or span < 1 or horizon_ms % clock.cell_ms or through_ms is None:
        empty: list[float | None] = []
        return {"x": [], "actual": empty, "mean": empty, "low": empty, "high": empty, "score": None}
    ends = np.arange(held[0], held[-1] + span + 2, dtype=np.int64)  # a target at the cell's start
    mean, low, high = _promised(board, row, ends - span, HORIZONS_MS.index(horizon_ms))
    whole = through_ms // clock.cell_ms  # cells before this one are complete
    if row == ALL:
        partial = ends - span >= whole
        mean[partial] = low[partial] = high[partial] = np.nan
    units = board.sales.series(row, held)[:, UNITS]
    sums = np.concatenate([[0], np.cumsum(units)]).astype(np.float64)
    actual = np.full(len(ends), np.nan)
    known = (ends - span >= held[0]) & (ends <= min(whole, held[-1] + 1))
    actual[known] = sums[ends[known] - held[0]] - sums[ends[known] - span - held[0]]
    shown = np.isfinite(actual) | np.isfinite(mean)
    return {
        "x": (ends[shown] * clock.cell_ms / 1_000).tolist(),
        "actual": _nullable(actual[shown]),
        "mean": _nullable(mean[shown]),
        "low": _nullable(low[shown]),
        "high": _nullable(high[shown]),
        "score": _score(actual, mean, low, high),
    }


def _promised(
    board: Board, row: int, origins: NDArray[np.int64], at: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean and the 5 % and 95 % quantiles by origin cell; NaN where no forecast was made."""
    if row != ALL:
        found = board.forecasts.series(row, origins)[:, at].astype(np.float64)
        return found[:, MEAN], found[:, LOW], found[:, HIGH]
    sums = board.sums.series(ALL, origins)[:, at]
    mean = np.where(sums[:, SUM_COUNT] > 0, sums[:, SUM_MEAN], np.nan)
    spread = Z_95 * np.sqrt(np.maximum(sums[:, SUM_VARIANCE], 0.0))
    return mean, np.maximum(mean - spread, 0.0), mean + spread


def _score(
    actual: NDArray[np.float64],
    mean: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> Json | None:
    """WAPE of the mean, and the share of actuals within the band, over what is known of both."""
    both = np.isfinite(actual) & np.isfinite(mean)
    total = float(np.abs(actual[both]).sum())
    if not both.any() or total == 0:
        return None
    inside = (actual[both] >= low[both]) & (actual[both] <= high[both])
    return {
        "wape": float(np.abs(actual[both] - mean[both]).sum()) / total,
        "coverage": float(inside.mean()),
        "count": int(both.sum()),
    }


def _sales(board: Board, row: int) -> Json:
    """Units, clicks and prices by cell, up to where every partition has been heard."""
    through_ms = board.through_ms()
    held = board.clock.held()
    if through_ms is not None:
        held = held[held < through_ms // board.clock.cell_ms]
    found = board.sales.series(row, held)
    body: Json = {
        "x": (held * board.clock.cell_ms / 1_000).tolist(),
        "units": found[:, UNITS].tolist(),
        "clicks": found[:, CLICKS].tolist(),
    }
    if row != ALL:
        for name, at in (("price_cents", PRICE), ("competitor_price_cents", COMPETITOR)):
            body[name] = [one or None for one in found[:, at].tolist()]
    return body


def _line(name: str, state: SkuState) -> Json:
    line: Json = {
        "sku": name,
        "units": state.units,
        "orders": state.orders,
        "clicks": state.clicks,
        "revenue_cents": state.revenue_cents,
        "price_cents": state.price_cents,
        "competitor_price_cents": state.competitor_price_cents or None,
        "in_stock_share": state.in_stock_share,
        "fallback": state.fallback,
    }
    if state.to_the_end is not None:
        origin_ms, one = state.to_the_end
        line["to_the_end"] = {
            "until_ms": origin_ms + one.horizon_ms,
            "mean": one.mean,
            "low": one.p05,
            "high": one.p95,
        }
    return line


def _capacity(held: list[CapacityForecast]) -> Json:
    """Predicted load at the moment it was predicted for, observed load at its own."""
    last = held[-1]
    ordered = {one.as_of_ms: one for one in sorted(held, key=lambda one: one.as_of_ms)}
    by_x: dict[float, list[float | None]] = {}
    for one in ordered.values():
        seen = by_x.setdefault(one.as_of_ms / 1_000, [None] * 4)
        seen[0] = one.observed_rps
        ahead = by_x.setdefault(one.as_of_ms / 1_000 + one.horizon_s, [None] * 4)
        ahead[1:] = [one.predicted_rps.p50, one.predicted_rps.p90, one.predicted_rps.p95]
    x = sorted(by_x)
    columns = zip(*(by_x[at] for at in x), strict=True)
    names = ("observed", "p50", "p90", "p95")
    return {"latest": msgspec.to_builtins(last), "x": x} | {
        name: list(column) for name, column in zip(names, columns, strict=True)
    }


def _nullable(values: NDArray[np.float64]) -> list[float | None]:
    return [None if one != one else one for one in values.tolist()]
