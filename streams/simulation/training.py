"""Training data for the forecaster: simulated sales and files of real shops, as `SeriesSet`s."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.series import SeriesSet
from streams.event_file import EventFile
from streams.settings import Service
from streams.simulation.assortment import MINUTE_MS, SaleConfig
from streams.simulation.shop import Shop

PRICE_MOVE_INTERVAL_MS: Final = 10 * MINUTE_MS
AMPLE: Final = Service(name="ample", rps_per_replica=1e9)  # servers are not the forecaster's matter


def simulated_series(
    seed: int,
    config: SaleConfig,
    bucket_ms: int,
    name: str | None = None,
    *,
    exploring: bool = True,
) -> SeriesSet:
    """One simulated sale, with what shoppers wanted beside what they got.

    `exploring` moves prices at random within floor and ceiling and restocks half of the SKUs when
    they run low, so that the forecaster sees what price and an empty shelf do.
    Raises ValueError when a bucket is not a whole number of ticks.
    """
    if bucket_ms % config.tick_ms or config.duration_ms % bucket_ms:
        raise ValueError(
            f"bucket_ms {bucket_ms} must be a multiple of the tick ({config.tick_ms} ms) and "
            f"divide the sale ({config.duration_ms} ms)"
        )
    shop = Shop(config, seed, AMPLE)
    random = np.random.default_rng([seed, 17])
    restocked = random.random(config.skus) < 0.5
    while not shop.over:
        shop.advance(shop.now_ms + PRICE_MOVE_INTERVAL_MS)
        if exploring:
            _explore(shop, random, restocked)
    return _series(shop, name or f"simulated-{seed}", bucket_ms)


def _explore(shop: Shop, random: np.random.Generator, restocked: NDArray[np.bool_]) -> None:
    """Move a third of the prices and restock what runs low."""
    goods = shop.assortment
    moved = np.flatnonzero(random.random(shop.config.skus) < 1 / 3)
    low, high = goods.price_floor_cents[moved], goods.price_ceiling_cents[moved]
    shop.set_prices(moved, (low + (high - low) * random.random(len(moved))).astype(np.int64))
    running_low = restocked & (shop.warehouse.on_hand < shop.config.stock_units * 0.3)
    for sku in np.flatnonzero(running_low & (random.random(shop.config.skus) < 0.5)):
        units = int(shop.config.stock_units * random.uniform(0.3, 1.0))
        shop.warehouse.order(
            int(sku), max(units, 1), shop.now_ms, shop.now_ms + int(goods.lead_time_ms[sku])
        )


def _series(shop: Shop, name: str, bucket_ms: int) -> SeriesSet:
    """The shop's truth by bucket."""
    truth, goods, config = shop.truth, shop.assortment, shop.config
    ticks = bucket_ms // config.tick_ms

    def by_bucket(ticked: NDArray[Any]) -> NDArray[Any]:
        return ticked.reshape(config.skus, -1, ticks)

    names = sorted(set(goods.categories))
    return SeriesSet.from_dense(
        name=name,
        bucket_ms=bucket_ms,
        start_ms=config.sale_start_ms,
        clicks=by_bucket(truth.clicks).sum(2),
        carts=by_bucket(truth.carts).sum(2),
        orders=by_bucket(truth.orders).sum(2),
        units=by_bucket(truth.units).sum(2),
        demand=by_bucket(truth.demand).sum(2),
        price_cents=np.rint(by_bucket(truth.price_cents).mean(2)),
        competitor_price_cents=np.rint(by_bucket(truth.competitor_cents).mean(2)),
        in_stock_share=by_bucket(truth.in_stock).mean(2),
        list_price_cents=goods.list_price_cents,
        category=np.asarray([names.index(category) for category in goods.categories]),
        sale_start_ms=np.full(config.skus, config.sale_start_ms),
        sale_end_ms=np.full(config.skus, config.sale_end_ms),
    )


def file_series(path: Path, bucket_ms: int) -> SeriesSet:
    """A file of real events (the columns that `flashcast replay` reads). Stock, competitor and true
    demand are unknown; the list price is taken to be the highest price that at least a tenth of
    the SKU's events show. Events that break the contract are left out.
    """
    events = EventFile.open(path).read()
    kept = events.usable
    names, sku = np.unique(events.sku[kept], return_inverse=True)
    bucket = events.event_time_ms[kept] // bucket_ms
    first = int(bucket.min())
    cell = (bucket - first) * len(names) + sku
    cells, at = np.unique(cell, return_inverse=True)

    def summed(weights: NDArray[Any]) -> NDArray[np.int64]:
        return np.rint(np.bincount(at, weights=weights, minlength=len(cells))).astype(np.int64)

    kind, price = events.kind[kept], events.price_cents[kept]
    quantity = np.where(kind == 2, events.quantity[kept], 0)
    shown = np.bincount(at, minlength=len(cells))
    return SeriesSet(
        name=path.stem,
        bucket_ms=bucket_ms,
        start_ms=first * bucket_ms,
        buckets=int(bucket.max()) - first + 1,
        sku=cells % len(names),
        bucket=cells // len(names),
        clicks=summed(kind == 0),
        carts=summed(kind == 1),
        orders=summed(kind == 2),
        units=summed(quantity),
        price_cents=np.rint(summed(price) / shown).astype(np.int64),
        competitor_price_cents=np.zeros(len(cells), np.int64),
        in_stock_share=np.ones(len(cells)),
        list_price_cents=_usual_high(sku, price, len(names)),
        category=np.zeros(len(names), np.int64),
        sale_start_ms=np.full(len(names), -1),
        sale_end_ms=np.full(len(names), -1),
    )


def _usual_high(sku: NDArray[np.int64], price: NDArray[np.int64], skus: int) -> NDArray[np.int64]:
    """The 90th percentile (lower) of each SKU's prices, [skus]."""
    order = np.lexsort((price, sku))
    counts = np.bincount(sku, minlength=skus)
    start = np.cumsum(counts) - counts
    highest: NDArray[np.int64] = price[order][start + ((counts - 1) * 9) // 10]
    return highest
