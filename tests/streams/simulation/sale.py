"""Small sales for the tests."""

from streams.records import CapacityForecast, CapacityLevels, PriceAdjustment, RestockEvent
from streams.simulation.assortment import MINUTE_MS, SaleConfig
from streams.simulation.shop import Shop

END_MS = 1_790_000_040_000
SEED = 20_260


def small_sale(minutes: int = 30, skus: int = 24, stock_units: int = 60) -> SaleConfig:
    """A short sale in which the popular SKUs sell out."""
    whole = SaleConfig.ending_at(END_MS, duration_ms=minutes * MINUTE_MS, skus=skus)
    return SaleConfig(whole.sale_start_ms, whole.sale_end_ms, skus=skus, stock_units=stock_units)


def lived(shop: Shop) -> Shop:
    """The shop after the whole sale."""
    shop.advance(shop.config.sale_end_ms)
    assert shop.over
    return shop


def restock(sku: str, units: int, origin_ms: int) -> RestockEvent:
    return RestockEvent(
        sku,
        origin_ms,
        origin_ms + MINUTE_MS,
        units,
        10,
        50,
        5,
        0.8,
        600_000,
        40.0,
        "test",
        "m",
        "p",
    )


def price(sku: str, cents: int, effective_at_ms: int) -> PriceAdjustment:
    return PriceAdjustment(
        sku, effective_at_ms, effective_at_ms + MINUTE_MS, 10_000, cents, effective_at_ms, 1.0, 1.0,
        [], "test", "m", "p",
    )  # fmt: skip


def capacity(service: str, replicas: float, as_of_ms: int) -> CapacityForecast:
    levels = CapacityLevels(replicas, replicas, replicas)
    return CapacityForecast(
        service, as_of_ms, as_of_ms + MINUTE_MS, 60, levels, levels, 1.0, "test", "m", "p"
    )
