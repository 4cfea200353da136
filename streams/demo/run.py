"""`flashcast demo`: a whole flash sale on this machine, start here.

    stage (broker, topics, worker, page) --> simulated shop <--> flashcast --> summary

The shop lives through its two hours in a few minutes. It obeys what flashcast answers: restocks
arrive after their lead time, prices move demand, too few servers lose requests. Afterwards the same
seed is sold without any decision, and every forecast is held against what shoppers wanted.
"""

import asyncio
import signal
import sys
import time
from dataclasses import asdict, fields
from typing import Any, Final

import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from streams import topics
from streams.demo import report
from streams.demo.listener import Decision, Listener
from streams.demo.scoring import score
from streams.demo.stage import Stage
from streams.publish import Publisher
from streams.records import PriceAdjustment, RestockEvent
from streams.simulation.assortment import SaleConfig
from streams.simulation.dirt import Dirt, DirtRates
from streams.simulation.shop import Shop
from streams.simulation.simulate import publish_step

MINUTES: Final = 2.2  # of wall time that the sale takes
DIRT: Final = 0.0002  # spoilt records of each kind for every good one
STEP_MS_MAX: Final = 30_000  # of event time at once, on a machine that cannot keep up
POLL_MS: Final = 100
METRICS_DELAY_S: Final = 1.5  # the worker reports its counts every second
SETTLE_TIMEOUT_S: Final = 60.0  # without any progress, after the last event


def run_demo(skus: int, seed: int, minutes: float, json_output: bool) -> int:
    """The whole demo; returns the exit code: 0 when every event was counted exactly once."""
    console = Console(stderr=json_output)
    signal.signal(signal.SIGTERM, _interrupt)  # a stopped demo leaves no process behind either
    console.print(f"[bold]flashcast demo[/]: {skus} SKUs, a two-hour sale, seed {seed}")
    with Stage(lambda text: console.print(f"[dim]{text}[/]")) as stage:
        console.print(f"live page: [link]{stage.page_url}[/link]")
        config = SaleConfig.ending_at(_now_ms(), skus=skus)
        shop = Shop(config, seed, stage.settings.services[0])
        sale = Sale(stage, shop, minutes)
        with _progress(console) as progress:
            task = progress.add_task("sale", total=config.duration_ms, doing="")
            asyncio.run(sale.run(progress, task))
        metrics = report.worker_metrics(stage.worker_url)
    console.print("[dim]the same sale without decisions[/]")
    alone = Shop(config, seed, stage.settings.services[0])
    alone.advance(config.sale_start_ms + config.duration_ms)
    bucket_ms = stage.settings.bucket_ms
    buckets = config.duration_ms // bucket_ms
    names = shop.assortment.names
    scores = score(
        sale.listener.collected, shop.truth, names, config.sale_start_ms, bucket_ms, buckets
    )
    summary: dict[str, Any] = {
        "skus": skus,
        "seed": seed,
        "broker": stage.broker_name,
        "processing_guarantee": stage.settings.processing_guarantee,
        "events_published": sale.published,
        "events_processed": sale.listener.events_counted,
        "spoilt": sale.injected(),
        "found": {
            "late": sale.listener.counts[topics.LATE_EVENTS],
            "duplicate": int(metrics.get("duplicate", 0)),
            "dead_letter": sale.listener.counts[topics.DEAD_LETTERS],
        },
        "seconds": round(sale.seconds, 1),
        "events_per_s": round(sale.published / max(sale.seconds, 1e-9)),
        "outputs": {name: sale.listener.counts[name] for name in topics.OUTPUT_TOPICS},
        "repeated": sale.listener.counts["repeated"],
        "unreadable": sale.listener.counts["unreadable"],
        "worker": metrics,
        "forecasts": [asdict(one) for one in scores],
        "with_decisions": asdict(shop.summary()),
        "without_decisions": asdict(alone.summary()),
    }
    counted = summary["events_published"] == summary["events_processed"]
    summary["exact"] = counted and summary["spoilt"] == summary["found"]
    report.print_summary(console, summary)
    if json_output:
        sys.stdout.buffer.write(orjson.dumps(summary) + b"\n")
    return 0 if summary["exact"] else 1


class Sale:
    """Publishes the shop's events at their pace, and lets it obey what comes back."""

    def __init__(self, stage: Stage, shop: Shop, minutes: float) -> None:
        self._stage = stage
        self._shop = shop
        self._speed = shop.config.duration_ms / (minutes * 60_000)
        rates = DirtRates(**dict.fromkeys((field.name for field in fields(DirtRates)), DIRT))
        self._dirt = Dirt(rates, shop.seed, stage.settings)
        self.published = 0  # good events
        self.seconds = 0.0
        self.listener: Listener

    async def run(self, progress: Progress, task: TaskID) -> None:
        """From the catalog to the last closed bucket."""
        async with (
            Publisher(self._stage.settings) as publisher,
            Listener(self._stage.settings) as self.listener,
        ):
            await publisher.publish_reference(self._shop.catalog())
            await publisher.flush()
            began = time.monotonic()
            start_ms = self._shop.config.sale_start_ms
            while not self._shop.over:
                due_ms = start_ms + int((time.monotonic() - began) * 1_000 * self._speed)
                await self._live_until(min(due_ms, self._shop.now_ms + STEP_MS_MAX), publisher)
                for decision in await self.listener.take(POLL_MS):
                    self._obey(decision)
                self._stage.check()
                progress.update(task, completed=self._shop.now_ms - start_ms, doing=self._doing())
            await publisher.flush()
            await self._settle(progress, task)
            self.seconds = time.monotonic() - began

    async def _live_until(self, to_ms: int, publisher: Publisher) -> None:
        step = await asyncio.to_thread(self._shop.advance, to_ms)
        await publish_step(publisher, self._shop, step, self._dirt)
        self.published += len(step.events)

    def _obey(self, decision: Decision) -> None:
        now_ms = self._shop.now_ms
        if isinstance(decision, RestockEvent):
            self._shop.apply_restock(decision, now_ms)
        elif isinstance(decision, PriceAdjustment):
            self._shop.apply_price(decision, now_ms)
        else:
            self._shop.apply_capacity(decision, now_ms)

    async def _settle(self, progress: Progress, task: TaskID) -> None:
        """Until the windows hold every event, or nothing comes any more."""
        last_change = time.monotonic()
        counted = -1
        while self.listener.events_counted < self.published:
            await self.listener.take(POLL_MS)
            self._stage.check()
            if self.listener.events_counted != counted:
                counted, last_change = self.listener.events_counted, time.monotonic()
            elif time.monotonic() - last_change > SETTLE_TIMEOUT_S:
                break
            progress.update(task, doing="closing the last buckets")
        await self.listener.take(1_000)
        await asyncio.sleep(METRICS_DELAY_S)

    def injected(self) -> dict[str, int]:
        """Records spoilt on purpose, by what must become of them."""
        totals = {"late": 0, "duplicate": 0, "dead_letter": 0}
        for (_, outcome), count in self._dirt.injected.items():
            totals[outcome if outcome in totals else "dead_letter"] += count
        return totals

    def _doing(self) -> str:
        counts = self.listener.counts
        return (
            f"{self.published:,} events  {counts[topics.DEMAND_FORECASTS]:,} forecasts  "
            f"{counts[topics.RESTOCK_EVENTS]:,} restocks  "
            f"{counts[topics.PRICE_ADJUSTMENTS]:,} prices"
        )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[doing]}"),
        console=console,
    )


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
