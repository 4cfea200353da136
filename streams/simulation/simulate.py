"""`flashcast simulate`: seeded flash-sale traffic into the topics, or into a file."""

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
from pyarrow import parquet
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from streams.publish import Publisher
from streams.records import Kind
from streams.settings import SHOP, Settings
from streams.simulation.assortment import MINUTE_MS, SaleConfig
from streams.simulation.dirt import Dirt, DirtRates
from streams.simulation.funnel import Events
from streams.simulation.shop import Shop, Step
from streams.simulation.truth import SaleSummary
from streams.simulation.wire import event_records

CHUNK_WALL_MS: Final = 200
CHUNK_EVENT_MS_MAX: Final = MINUTE_MS


class SimulateReport(msgspec.Struct):
    """What was simulated and published. `injected`: spoilt records, "topic outcome" -> count."""

    seed: int
    events: int
    records: int
    seconds: float
    injected: dict[str, int]
    sale: SaleSummary


def run_simulate(
    settings: Settings,
    config: SaleConfig,
    seed: int,
    *,
    speed: float | None = None,
    rates: DirtRates | None = None,
    file: Path | None = None,
    json_output: bool = False,
    console: Console | None = None,
) -> int:
    """Publish a sale in which nobody decides anything. `speed`: seconds of the sale per second,
    None for as fast as can be. `file`: write the events there (Parquet, the columns that `flashcast
    replay` reads) and publish nothing. Returns 0; raises ConfigurationError and BrokerError.
    """
    console = console or Console(stderr=json_output)
    started = time.monotonic()
    shop = Shop(config, seed, settings.services[0] if settings.services else SHOP)
    dirt = Dirt(rates, seed, settings) if rates is not None and rates.any else None
    progress = Progress(
        TextColumn("sale"),
        BarColumn(),
        TaskProgressColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    if file is not None:
        records = write_file(shop, file, progress)
    else:
        records = asyncio.run(publish_sale(settings, shop, speed, dirt, progress))
    report = SimulateReport(
        seed=seed,
        events=shop.summary().events,
        records=records,
        seconds=round(time.monotonic() - started, 3),
        injected=_named(dirt.injected) if dirt else {},
        sale=shop.summary(),
    )
    if json_output:
        print(msgspec.json.encode(report).decode())
    else:
        where = str(file) if file else settings.bootstrap_servers
        console.print(f"{records:,} records to {where} in {report.seconds:.1f} s (seed {seed})")
        for what, count in report.injected.items():
            console.print(f"  spoilt on purpose, {what}: {count:,}")
    return 0


async def publish_sale(
    settings: Settings, shop: Shop, speed: float | None, dirt: Dirt | None, progress: Progress
) -> int:
    """Publish the catalog and the whole sale; the number of records."""
    step_ms = CHUNK_EVENT_MS_MAX
    if speed is not None:
        step_ms = min(step_ms, max(shop.config.tick_ms, int(CHUNK_WALL_MS * speed)))
    async with Publisher(settings) as publisher:
        await publisher.publish_reference(shop.catalog())
        with progress:
            bar = progress.add_task("sale", total=shop.config.duration_ms)
            started, start_ms = time.monotonic(), shop.now_ms
            while not shop.over:
                step = shop.advance(shop.now_ms + step_ms)
                elapsed_ms = shop.now_ms - start_ms
                if speed is not None:
                    due = started + elapsed_ms / 1000.0 / speed
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                await publish_step(publisher, shop, step, dirt)
                progress.update(bar, completed=elapsed_ms)
            await publisher.flush()
        return publisher.records


async def publish_step(
    publisher: Publisher, shop: Shop, step: Step, dirt: Dirt | None = None
) -> None:
    """Publish what one stretch of the sale brought."""
    await publisher.publish_reference([*step.competitor_prices, *step.stock_levels])
    encoded = event_records(step.events, shop)
    for topic, records in encoded.items():
        if dirt is None:
            await publisher.publish(topic, records)
        else:
            placement = await publisher.placement(topic)
            now_ms = time.time_ns() // 1_000_000
            await publisher.publish_placed(topic, dirt.spoil(topic, placement, records, now_ms))


def write_file(shop: Shop, file: Path, progress: Progress) -> int:
    """Write the sale's events as Parquet; the number of rows."""
    parts = []
    with progress:
        bar = progress.add_task("sale", total=shop.config.duration_ms)
        while not shop.over:
            parts.append(shop.advance(shop.now_ms + CHUNK_EVENT_MS_MAX).events)
            progress.update(bar, completed=shop.now_ms - shop.config.sale_start_ms)
    table = event_table(Events.joined(parts), shop.assortment.names, shop.seed)
    parquet.write_table(table, file, compression="zstd")
    return int(table.num_rows)


def event_table(events: Events, names: list[str], seed: int) -> Any:
    """Events as a table with the columns of a replay file: ts (seconds), type, sku, user, price,
    qty, order_id.
    """
    order = events.kind == 2
    kinds = np.asarray([kind.value for kind in Kind])
    return pa.table(
        {
            "ts": events.event_time_ms / 1000.0,
            "type": kinds[events.kind],
            "sku": np.asarray(names)[events.sku],
            "user": [f"u{shopper:x}" for shopper in events.shopper.tolist()],
            "price": events.price_cents / 100.0,
            "qty": pa.array(events.quantity.astype(np.float64), mask=events.kind == 0),
            "order_id": [
                f"{seed:x}-o{serial:x}" if ordered else None
                for serial, ordered in zip(events.serial.tolist(), order.tolist(), strict=True)
            ],
        }
    )


def _named(injected: Counter[tuple[str, str]]) -> dict[str, int]:
    return {f"{topic} {outcome}": count for (topic, outcome), count in sorted(injected.items())}
