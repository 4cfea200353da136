"""A small flash sale as output records, from a seed: what a worker would have published."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from streams import topics
from streams.records import (
    HORIZONS_MS,
    CapacityForecast,
    CapacityLevels,
    DemandForecast,
    DemandWindow,
    HorizonForecast,
    PriceAdjustment,
    RestockEvent,
)

BUCKET_MS = 10_000
EVIL_SKU = "<img src=x onerror=document.title='owned'>"


@dataclass(frozen=True)
class Published:
    """One record for one partition of a topic."""

    topic: str
    partition: int
    key: bytes
    value: bytes


def name_of(number: int) -> str:
    return EVIL_SKU if number == 7 else f"SKU-{number:04d}"


def sale(
    seed: int, start_ms: int, minutes: int, skus: int = 40, partitions: int = 4
) -> Iterator[list[Published]]:
    """One list of records for every bucket of the sale."""
    draw = random.Random(seed)
    weight = [3.0 / (1 + number) ** 0.8 for number in range(skus)]
    prices = [10_000 - 20 * (number % 7) for number in range(skus)]
    for at in range(minutes * 6):
        time_ms = start_ms + at * BUCKET_MS
        phase = at / max(minutes * 6, 1)
        tide = 0.6 + 0.9 * math.exp(-phase * 9) + 0.8 * math.exp(-(1 - phase) * 7)
        records = []
        total = 0.0
        for number in range(skus):
            rate = 4 * weight[number] * tide
            total += rate * 8
            units = sum(draw.random() < rate / 12 for _ in range(12))
            if units:
                records.append(_window(number, partitions, time_ms, units, prices[number]))
        end_ms = time_ms + BUCKET_MS
        if at % 6 == 5:
            for number in range(skus):
                rate = 4 * weight[number] * tide * 6
                records.append(_forecast(number, partitions, end_ms, rate, draw))
            records.append(_capacity(end_ms, total / 10, draw))
        if at % 9 == 4:
            number = draw.randrange(min(skus, 12))
            records.append(_restock(number, partitions, end_ms, draw.randint(20, 200)))
        if at % 13 == 6:
            number = draw.randrange(min(skus, 12))
            old, prices[number] = prices[number], round(prices[number] * draw.uniform(0.86, 1.1))
            records.append(_price(number, partitions, end_ms, old, prices[number]))
        yield records


def refused(topic: str, offset: int, reason: str) -> Published:
    body = {
        "topic": "orders",
        "partition": 0,
        "offset": offset,
        "timestamp_ms": 1_700_000_000_000,
        "reason": reason,
        "detail": "price_cents -5 is below 0",
        "key": None,
        "value": None,
        "headers": [],
        "value_length": 0,
        "value_sha256": "",
        "truncated": False,
    }
    return Published(topic, 0, b"", msgspec.json.encode(body))


def _published(topic: str, number: int, partitions: int, value: Any) -> Published:
    return Published(
        topic, number % partitions, name_of(number).encode(), msgspec.json.encode(value)
    )


def _window(number: int, partitions: int, time_ms: int, units: int, price: int) -> Published:
    window = DemandWindow(
        sku=name_of(number),
        bucket_start_ms=time_ms,
        bucket_ms=BUCKET_MS,
        clicks=8 * units + number % 5,
        carts=2 * units,
        orders=units,
        units=units,
        revenue_cents=units * price,
        price_cents=price,
        competitor_price_cents=10_000,
        in_stock_ms=BUCKET_MS if number % 9 else BUCKET_MS // 2,
    )
    return _published(topics.DEMAND_WINDOWS, number, partitions, window)


def _forecast(
    number: int, partitions: int, origin_ms: int, per_minute: float, draw: random.Random
) -> Published:
    horizons = []
    for horizon_ms in (*HORIZONS_MS, HORIZONS_MS[-1]):
        mean = per_minute * horizon_ms / 60_000 * draw.uniform(0.93, 1.07)
        spread = math.sqrt(mean + mean**2 / 40)
        low, high = (max(0, round(mean + z * spread)) for z in (-1.645, 1.645))
        tenth, ninth = (max(0, round(mean + z * spread)) for z in (-1.28, 1.28))
        horizons.append(HorizonForecast(horizon_ms, mean, low, tenth, round(mean), ninth, high))
    fallback = "cold: 2 buckets seen" if number % 11 == 10 else None
    forecast = DemandForecast(
        name_of(number), origin_ms, origin_ms + 60_000, horizons, False, fallback, "gru-1"
    )
    return _published(topics.DEMAND_FORECASTS, number, partitions, forecast)


def _restock(number: int, partitions: int, origin_ms: int, quantity: int) -> Published:
    restock = RestockEvent(
        sku=name_of(number),
        origin_ms=origin_ms,
        valid_until_ms=origin_ms + 60_000,
        order_quantity=quantity,
        reorder_point=120,
        order_up_to_level=300,
        inventory_position=300 - quantity,
        critical_ratio=0.93,
        lead_time_ms=600_000,
        forecast_mean=88.5,
        reason="position below the reorder point",
        model_version="gru-1",
        policy_version="restock-1",
    )
    return _published(topics.RESTOCK_EVENTS, number, partitions, restock)


def _price(number: int, partitions: int, origin_ms: int, old: int, new: int) -> Published:
    price = PriceAdjustment(
        sku=name_of(number),
        origin_ms=origin_ms,
        valid_until_ms=origin_ms + 60_000,
        old_price_cents=old,
        new_price_cents=new,
        effective_at_ms=origin_ms,
        expected_units=210.0,
        expected_revenue_cents=2_000_000.0,
        clamps=["step", "floor"] if new < 0.9 * old else [],
        reason="stock outlasts the sale at the old price",
        model_version="gru-1",
        policy_version="price-1",
    )
    return _published(topics.PRICE_ADJUSTMENTS, number, partitions, price)


def _capacity(as_of_ms: int, rps: float, draw: random.Random) -> Published:
    predicted = CapacityLevels(*(round(rps * level, 2) for level in (1.02, 1.15, 1.2)))
    replicas = CapacityLevels(*(float(math.ceil(rps * level / 5)) for level in (1.02, 1.15, 1.2)))
    forecast = CapacityForecast(
        service="shop",
        as_of_ms=as_of_ms,
        valid_until_ms=as_of_ms + 180_000,
        horizon_s=60,
        predicted_rps=predicted,
        desired_replicas=replicas,
        observed_rps=rps * draw.uniform(0.95, 1.05),
        reason="forecast above observed",
        model_version="gru-1",
        policy_version="capacity-1",
    )
    return Published(topics.CAPACITY_FORECASTS, 0, b"shop", msgspec.json.encode(forecast))
