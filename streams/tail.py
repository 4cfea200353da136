"""`flashcast tail`: output records as they come, a line each, or JSON for machines.

Names out of the topics are shown with control characters escaped, so that a SKU cannot write to the
terminal what it likes.
"""

import asyncio
import base64
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.text import Text

from streams import topics
from streams.codec import published
from streams.codec.plain import Record
from streams.errors import UNREADABLE, ConfigurationError
from streams.records import (
    CapacityForecast,
    DemandForecast,
    DemandWindow,
    PriceAdjustment,
    Refused,
    RestockEvent,
)
from streams.settings import Settings
from streams.web.follow import Follower

DECISIONS: Final = (topics.RESTOCK_EVENTS, topics.PRICE_ADJUSTMENTS, topics.CAPACITY_FORECASTS)
SINCE_MS: Final = 60_000  # following begins with the last minute, so that something is seen at once
Parts = tuple[str, str, str, str]  # time, subject, what, why


class ReaderGoneError(Exception):
    """Who read our output has had enough, such as `| head`."""


def run_tail(
    settings: Settings, names: Sequence[str], json_output: bool = False, follow: bool = True
) -> int:
    """Print the records of `names` (output topics; the decisions when empty) until interrupted, or
    with `follow` false those that are there.

    Raises ConfigurationError for an unknown topic, BrokerError when not following and there is no
    broker.
    """
    wanted = tuple(names) or DECISIONS
    unknown = sorted(set(wanted) - set(topics.OUTPUT_TOPICS))
    if unknown:
        raise ConfigurationError(
            f"{', '.join(map(repr, unknown))}: not an output topic; there are "
            + ", ".join(topics.OUTPUT_TOPICS)
        )
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the follower says it, once
    console = Console(soft_wrap=True, highlight=False)

    def take(topic: str, partition: int, record: Record) -> None:
        try:
            if json_output:
                sys.stdout.write(json_line(topic, partition, record) + "\n")
                sys.stdout.flush()
            else:
                console.print(line(topic, partition, record))
        except BrokenPipeError:
            raise ReaderGoneError from None  # an OSError would be taken for the broker's

    since_ms = max(0, time.time_ns() // 1_000_000 - SINCE_MS) if follow else 0
    follower = Follower(settings, wanted, take, since_ms, stop_at_end=not follow)
    try:
        asyncio.run(follower.run())
    except ReaderGoneError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the last flush: nowhere
    return 0


def line(topic: str, partition: int, record: Record) -> Text:
    """One record for people. One that cannot be read is shown as bytes, not hidden."""
    decoder, describe, style = _SHAPES[topic]
    try:
        parts = describe(decoder.decode(record.value or b""))
    except UNREADABLE as error:
        why = f"unreadable: {record.unreadable or error}"
        parts = ("", f"{topic}-{partition} @ {record.offset}", why, repr(record.value)[:200])
    time_, subject, what, why = (_visible(part) for part in parts)
    text = Text(no_wrap=True)
    text.append(f"{time_:8}  ", style="dim")
    text.append(f"{_LABELS[topic]:11}", style=style)
    text.append(f"{subject:24} ", style="bold")
    text.append(what)
    if why:
        text.append(f"  · {why}", style="dim")
    return text


def json_line(topic: str, partition: int, record: Record) -> str:
    """One record for machines: where it lies, its headers, and its value as JSON (as base64 in
    `value_base64` when it is none). `unreadable`: why a batch is, whose bytes are the value.
    """
    body: dict[str, Any] = {
        "topic": topic,
        "partition": partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key": None if record.key is None else record.key.decode(errors="replace"),
        "headers": {
            name: None if value is None else value.decode(errors="replace")
            for name, value in record.headers
        },
    }
    try:
        body["value"] = None if record.value is None else msgspec.json.decode(record.value)
    except UNREADABLE:
        body["value_base64"] = base64.b64encode(record.value or b"").decode()
    if record.unreadable is not None:
        body["unreadable"] = record.unreadable
    return msgspec.json.encode(body).decode()


def _visible(text: str) -> str:
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def _clock(time_ms: int) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(time_ms // 1_000))


def _money(cents: int) -> str:
    return f"{cents / 100:,.2f}"


def _restock(one: RestockEvent) -> Parts:
    what = (
        f"order {one.order_quantity:,}: position {one.inventory_position:,}, reorder at "
        f"{one.reorder_point:,}, up to {one.order_up_to_level:,}"
    )
    return _clock(one.origin_ms), one.sku, what, one.reason


def _price(one: PriceAdjustment) -> Parts:
    change = one.new_price_cents / one.old_price_cents - 1 if one.old_price_cents else 0.0
    what = f"{_money(one.old_price_cents)} -> {_money(one.new_price_cents)} ({change:+.1%})"
    if one.clamps:
        what += f", clamped by {', '.join(one.clamps)}"
    return _clock(one.effective_at_ms), one.sku, what, one.reason


def _capacity(one: CapacityForecast) -> Parts:
    wanted, predicted = one.desired_replicas, one.predicted_rps
    what = (
        f"{wanted.p50:g}/{wanted.p90:g}/{wanted.p95:g} replicas for {predicted.p50:.1f}/"
        f"{predicted.p90:.1f}/{predicted.p95:.1f} requests a second (p50/p90/p95) in "
        f"{one.horizon_s} s; now {one.observed_rps:.1f}"
    )
    return _clock(one.as_of_ms), one.service, what, one.reason


def _forecast(one: DemandForecast) -> Parts:
    spans = (f"{h.horizon_ms / 60_000:g} min {h.mean:.1f} ({h.p05}-{h.p95})" for h in one.horizons)
    why = f"plain forecast: {one.fallback}" if one.fallback else ""
    return _clock(one.origin_ms), one.sku, ", ".join(spans), why


def _window(one: DemandWindow) -> Parts:
    what = (
        f"{one.clicks} clicks, {one.carts} carts, {one.orders} orders, {one.units} units, revenue "
        f"{_money(one.revenue_cents)} at {_money(one.price_cents)}"
    )
    return _clock(one.bucket_start_ms), one.sku, what, f"{one.bucket_ms / 1_000:g} s"


def _refused(one: Refused) -> Parts:
    return "", f"{one.topic}-{one.partition} @ {one.offset}", one.reason, one.detail


_SHAPES: Final[dict[str, tuple[msgspec.json.Decoder[Any], Callable[[Any], Parts], str]]] = {
    topics.RESTOCK_EVENTS: (published.RESTOCK, _restock, "green"),
    topics.PRICE_ADJUSTMENTS: (published.PRICE, _price, "magenta"),
    topics.CAPACITY_FORECASTS: (published.CAPACITY, _capacity, "blue"),
    topics.DEMAND_FORECASTS: (published.FORECAST, _forecast, "cyan"),
    topics.DEMAND_WINDOWS: (published.WINDOW, _window, ""),
    topics.LATE_EVENTS: (published.REFUSED, _refused, "yellow"),
    topics.DEAD_LETTERS: (published.REFUSED, _refused, "red"),
}
_LABELS: Final = {
    topics.RESTOCK_EVENTS: "restock",
    topics.PRICE_ADJUSTMENTS: "price",
    topics.CAPACITY_FORECASTS: "capacity",
    topics.DEMAND_FORECASTS: "forecast",
    topics.DEMAND_WINDOWS: "window",
    topics.LATE_EVENTS: "late",
    topics.DEAD_LETTERS: "dead letter",
}
