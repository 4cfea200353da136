"""What is on sale and what shoppers would do: the truth that a forecaster has to find out.

Everything here is drawn once from the seed and no decision changes it.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.records import CatalogEntry, CompetitorPrice
from streams.simulation.noise import Draw, Floats, normal_quantile, uniform

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
TRAFFIC_MEMORY: Final = 0.9  # of the slow swing of a SKU's traffic, from minute to minute
TRAFFIC_SPREAD: Final = 0.35  # its standard deviation, in logarithms
BURSTS_PER_SKU_HOUR: Final = 0.15  # somebody posted it: traffic multiplies and dies away
CATEGORIES: Final = (
    "audio", "beauty", "books", "cameras", "garden", "kitchen",
    "lighting", "luggage", "phones", "shoes", "sports", "toys",
)  # fmt: skip


@dataclass(frozen=True)
class SaleConfig:
    """One sale. Averages are over SKUs and the whole sale, at list prices, nothing sold out."""

    sale_start_ms: int
    sale_end_ms: int
    skus: int = 200
    stock_units: int = 1_000
    units_per_sku_hour: float = 500.0
    units_per_order: float = 4.0
    clicks_per_order: float = 16.0
    carts_per_order: float = 3.0
    competitor_price_cents: int = 10_000
    tail: float = 1.0  # standard deviation of log demand across SKUs
    tick_ms: int = 5_000

    def __post_init__(self) -> None:
        if self.skus < 1 or self.tick_ms < 1 or MINUTE_MS % self.tick_ms:
            raise ValueError(f"skus {self.skus}, tick_ms {self.tick_ms}: a tick divides a minute")
        if self.sale_start_ms % self.tick_ms or self.sale_end_ms <= self.sale_start_ms:
            raise ValueError(
                f"the sale runs from {self.sale_start_ms} to {self.sale_end_ms}: it must begin on "
                f"a multiple of {self.tick_ms} ms and end later"
            )

    @classmethod
    def ending_at(
        cls, end_ms: int, duration_ms: int = 2 * HOUR_MS, skus: int = 200, tick_ms: int = 5_000
    ) -> "SaleConfig":
        """A sale of `duration_ms` that ends at `end_ms`, rounded down to a whole minute."""
        end_ms -= end_ms % MINUTE_MS
        return cls(end_ms - duration_ms, end_ms, skus=skus, tick_ms=tick_ms)

    @property
    def ticks(self) -> int:
        return -(-(self.sale_end_ms - self.sale_start_ms) // self.tick_ms)

    @property
    def minutes(self) -> int:
        return -(-(self.sale_end_ms - self.sale_start_ms) // MINUTE_MS)

    @property
    def duration_ms(self) -> int:
        return self.sale_end_ms - self.sale_start_ms


def intensity(phase: Floats) -> Floats:
    """Relative traffic over the sale, `phase` in [0, 1]: opening spike, lull, rush at the end.

    Mean close to 1 over the sale.
    """
    opening = 3.2 * np.exp(-phase / 0.07) * (1.0 - np.exp(-phase / 0.006))
    rush = 2.0 * np.exp(-((phase - 0.965) ** 2) / (2 * 0.055**2))
    return 0.58 + opening + rush


@dataclass(frozen=True)
class Assortment:
    """Per SKU [n] unless said otherwise; cents are integers."""

    config: SaleConfig
    names: list[str]
    categories: list[str]
    list_price_cents: NDArray[np.int64]
    unit_cost_cents: NDArray[np.int64]
    price_floor_cents: NDArray[np.int64]
    price_ceiling_cents: NDArray[np.int64]
    lead_time_ms: NDArray[np.int64]
    elasticity: Floats  # of units in price; negative
    cross_elasticity: Floats  # of units in the competitor's price; positive
    units_per_order: Floats
    clicks_per_order: Floats
    carts_per_order: Floats
    orders_per_s: Floats  # [n, minutes] at list price
    competitor_cents: NDArray[np.int64]  # [n, minutes]

    def catalog(self) -> list[CatalogEntry]:
        """The records of the catalog topic."""
        return [
            CatalogEntry(
                sku=name,
                title=f"{category} no. {index}",
                category=category,
                list_price_cents=int(self.list_price_cents[index]),
                unit_cost_cents=int(self.unit_cost_cents[index]),
                price_floor_cents=int(self.price_floor_cents[index]),
                price_ceiling_cents=int(self.price_ceiling_cents[index]),
                lead_time_ms=int(self.lead_time_ms[index]),
                sale_start_ms=self.config.sale_start_ms,
                sale_end_ms=self.config.sale_end_ms,
            )
            for index, (name, category) in enumerate(zip(self.names, self.categories, strict=True))
        ]

    def competitor_moves(self, from_minute: int, to_minute: int) -> list[CompetitorPrice]:
        """The competitor's prices that are new in minutes [from, to); all of them in minute 0."""
        records = []
        for minute in range(from_minute, min(to_minute, self.config.minutes)):
            now = self.competitor_cents[:, minute]
            before = self.competitor_cents[:, minute - 1] if minute else np.full_like(now, -1)
            at_ms = self.config.sale_start_ms + minute * MINUTE_MS
            records += [
                CompetitorPrice(self.names[index], "rival", int(now[index]), at_ms)
                for index in np.flatnonzero(now != before)
            ]
        return records


def draw_assortment(config: SaleConfig, seed: int) -> Assortment:
    """The sale of this seed. Same seed and configuration: the same assortment."""
    n = config.skus
    skus = np.arange(n)

    def u(use: int) -> Floats:
        return uniform(seed, Draw.ASSORTMENT, use, skus)

    def normal(use: int) -> Floats:
        return normal_quantile(u(use))

    category = (u(0) * min(len(CATEGORIES), max(1, n // 4))).astype(np.int64)
    category_level = 0.25 * normal_quantile(uniform(seed, Draw.ASSORTMENT, 1, category))
    weights = np.exp(config.tail * normal(2) + category_level)
    weights *= n / weights.sum()
    units = 1.0 + (config.units_per_order - 1.0) * np.exp(0.3 * normal(3) - 0.045)
    list_price = np.round(config.competitor_price_cents * np.exp(0.08 * normal(4)) / 10.0) * 10
    cost = list_price * (0.45 + 0.2 * u(5))
    category_elasticity = -1.9 + 0.35 * normal_quantile(uniform(seed, Draw.ASSORTMENT, 6, category))
    orders_per_hour = weights * config.units_per_sku_hour / units
    return Assortment(
        config=config,
        names=[f"SKU-{index:05d}" for index in skus],
        categories=[CATEGORIES[index] for index in category],
        list_price_cents=list_price.astype(np.int64),
        unit_cost_cents=cost.astype(np.int64),
        price_floor_cents=np.maximum(cost * 1.05, list_price * 0.6).astype(np.int64),
        price_ceiling_cents=(list_price * 1.4).astype(np.int64),
        lead_time_ms=(10 + np.floor(u(7) * 11)).astype(np.int64) * MINUTE_MS,
        elasticity=np.clip(category_elasticity + 0.35 * normal(8), -3.5, -0.6),
        cross_elasticity=0.2 + 0.6 * u(9),
        units_per_order=units,
        clicks_per_order=config.clicks_per_order * np.exp(0.3 * normal(10) - 0.045),
        carts_per_order=config.carts_per_order * np.exp(0.2 * normal(11) - 0.02),
        orders_per_s=_traffic(config, seed, category) * orders_per_hour[:, None] / 3600.0,
        competitor_cents=_competitor(config, seed),
    )


def _traffic(config: SaleConfig, seed: int, category: NDArray[np.int64]) -> Floats:
    """Relative traffic [n, minutes]: the sale's shape, slow swings of SKU and category, bursts."""
    n, minutes = config.skus, config.minutes
    phase = (np.arange(minutes) + 0.5) / minutes
    own = _swing(seed, np.arange(n), minutes, TRAFFIC_SPREAD)
    shared = _swing(seed, 1_000_000_000 + category, minutes, TRAFFIC_SPREAD / 2)
    bursts = np.zeros((n, minutes))
    chance = uniform(seed, Draw.BURST, 0, np.arange(n)[:, None], np.arange(minutes)[None, :])
    height = uniform(seed, Draw.BURST, 1, np.arange(n)[:, None], np.arange(minutes)[None, :])
    level = np.zeros(n)
    for minute in range(minutes):
        struck = chance[:, minute] < BURSTS_PER_SKU_HOUR / 60.0
        level = level * 0.8 + np.where(struck, 1.0 + 2.0 * height[:, minute], 0.0)
        bursts[:, minute] = level
    return intensity(phase)[None, :] * np.exp(own + shared) * (1.0 + bursts)


def _swing(seed: int, streams: NDArray[np.int64], minutes: int, spread: float) -> Floats:
    """An autoregressive swing of log traffic, [len(streams), minutes], whose exponential has
    mean 1.
    """
    shocks = normal_quantile(
        uniform(seed, Draw.TRAFFIC, streams[:, None], np.arange(minutes)[None, :])
    )
    swing = np.empty_like(shocks)
    swing[:, 0] = shocks[:, 0]
    for minute in range(1, minutes):
        swing[:, minute] = (
            TRAFFIC_MEMORY * swing[:, minute - 1]
            + np.sqrt(1 - TRAFFIC_MEMORY**2) * shocks[:, minute]
        )
    return spread * swing - spread**2 / 2


def _competitor(config: SaleConfig, seed: int) -> NDArray[np.int64]:
    """The competitor's price [n, minutes]: opens at the configured price; about every forty
    minutes it moves by up to 12 % and never strays further than 20 % from where it opened.
    """
    n, minutes = config.skus, config.minutes
    chance = uniform(seed, Draw.ASSORTMENT, 20, np.arange(n)[:, None], np.arange(minutes)[None, :])
    target = uniform(seed, Draw.ASSORTMENT, 21, np.arange(n)[:, None], np.arange(minutes)[None, :])
    price = np.full((n, minutes), config.competitor_price_cents, dtype=np.int64)
    for minute in range(1, minutes):
        step = price[:, minute - 1] * (1.0 + 0.24 * (target[:, minute] - 0.5))
        bounded = np.clip(
            step, 0.8 * config.competitor_price_cents, 1.2 * config.competitor_price_cents
        )
        moved = chance[:, minute] < 1.0 / 40.0
        price[:, minute] = np.where(moved, np.round(bounded), price[:, minute - 1])
    return price
