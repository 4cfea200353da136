"""`flashcast replay FILE`: a file of real events into the topics, at a chosen speed."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from streams.event_file import ColumnNames, EventFile, FileEvents, LookOver, look_over
from streams.placement import KeyedRecord
from streams.publish import Publisher
from streams.settings import Settings
from streams.topics import EVENT_TOPICS

CHUNK_ROWS: Final = 20_000
CHUNK_WALL_MS: Final = 200  # at a chosen speed, this much of the wall clock is sent at once
DAY_FORMAT: Final = "%Y-%m-%d %H:%M:%S"


@dataclass(frozen=True)
class ReplayReport:
    """What a replay published."""

    file: str
    published: dict[str, int]
    skipped: int  # rows that cannot become a record: no time, SKU or known type
    seconds: float
    events_per_s: float
    look_over: LookOver


def run_replay(
    settings: Settings,
    path: Path,
    names: ColumnNames | None = None,
    *,
    speed: float | None = None,
    limit: int | None = None,
    dry_run: bool = False,
    json_output: bool = False,
    console: Console | None = None,
) -> int:
    """Publish the rows of `path` in order of event time. `speed`: seconds of event time per second;
    None: as fast as the broker takes them. Returns 0; raises ConfigurationError and BrokerError.
    """
    console = console or Console(stderr=json_output)
    file = EventFile.open(path, names)
    events = file.read()
    found = look_over(events, time.time_ns() // 1_000_000, settings.future_tolerance_ms)
    console.print(f"[bold]{path.name}[/]: {_described(found)}", highlight=False)
    sendable = (
        (events.kind >= 0)
        & events.has_time
        & np.asarray([bool(sku) for sku in events.sku], dtype=np.bool_)
    )
    chosen = np.flatnonzero(sendable)
    chosen = chosen[np.argsort(events.event_time_ms[chosen], kind="stable")][:limit]
    ordered = events.selected(chosen)
    started = time.monotonic()
    if not dry_run:
        asyncio.run(_publish(settings, ordered, file.digest(), speed, console))
    seconds = time.monotonic() - started
    counts = np.bincount(ordered.kind, minlength=len(EVENT_TOPICS))
    report = ReplayReport(
        file=path.name,
        published={topic: int(count) for topic, count in zip(EVENT_TOPICS, counts, strict=True)},
        skipped=len(events) - int(sendable.sum()),
        seconds=round(seconds, 3),
        events_per_s=round(len(ordered) / seconds) if not dry_run and seconds > 0 else 0.0,
        look_over=found,
    )
    if json_output:
        print(msgspec.json.encode(report).decode())
    else:
        verb = "would be published" if dry_run else f"published in {seconds:.1f} s"
        console.print(f"{len(ordered):,} events {verb}, {report.skipped} rows skipped")
    return 0


def keyed_records(events: FileEvents, digest: str) -> Iterator[tuple[int, KeyedRecord]]:
    """(kind, record) of each row. What the row lacks the record lacks; the event id is the file's
    digest and the row's number.
    """
    encode = msgspec.json.Encoder().encode
    columns = (
        events.row, events.kind, events.event_time_ms, events.price_cents, events.has_price,
        events.quantity,
    )  # fmt: skip
    rows = zip(
        *(column.tolist() for column in columns), events.sku, events.user, events.session,
        events.order_id, strict=True,
    )  # fmt: skip
    for row, kind, at_ms, price, has_price, quantity, sku, user, session, order_id in rows:
        record: dict[str, Any] = {"event_id": f"{digest}-{row}", "sku": sku}
        if user is not None:
            record["user_id"] = user
        record["event_time_ms"] = at_ms
        if has_price:
            record["price_cents"] = price
        if kind != 0 and quantity == quantity:  # NaN: the file has none
            record["quantity"] = int(quantity) if quantity.is_integer() else quantity
        if kind == 2 and order_id is not None:
            record["order_id"] = order_id
        if session is not None:
            record["session_id"] = session
        yield kind, (sku.encode(), encode(record))


async def _publish(
    settings: Settings, events: FileEvents, digest: str, speed: float | None, console: Console
) -> None:
    progress = Progress(
        TextColumn("replay"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[at]}"),
        TimeRemainingColumn(), console=console, transient=True,
        disable=not console.is_terminal,
    )  # fmt: skip
    async with Publisher(settings) as publisher:
        for topic in EVENT_TOPICS:
            await publisher.placement(topic)
        with progress:
            bar = progress.add_task("replay", total=len(events), at="")
            started = time.monotonic()
            for begin, end, due_s in _chunks(events.event_time_ms, speed):
                await asyncio.sleep(max(0.0, started + due_s - time.monotonic()))
                part = events.selected(np.arange(begin, end))
                by_topic: list[list[KeyedRecord]] = [[], [], []]
                for kind, record in keyed_records(part, digest):
                    by_topic[kind].append(record)
                for kind, topic in enumerate(EVENT_TOPICS):
                    await publisher.publish(topic, by_topic[kind])
                progress.update(bar, completed=end, at=_day(int(part.event_time_ms[-1])))
            await publisher.flush()


def _chunks(times: NDArray[np.int64], speed: float | None) -> Iterator[tuple[int, int, float]]:
    """(begin, end, seconds after the start when it is due) over sorted event times."""
    if speed is None:
        for begin in range(0, len(times), CHUNK_ROWS):
            yield begin, min(begin + CHUNK_ROWS, len(times)), 0.0
        return
    begin = 0
    while begin < len(times):
        elapsed_ms = int(times[begin] - times[0]) / speed
        upto_ms = int(times[0]) + (elapsed_ms + CHUNK_WALL_MS) * speed
        end = int(np.searchsorted(times, upto_ms, side="left"))
        end = min(max(end, begin + 1), begin + CHUNK_ROWS)
        yield begin, end, elapsed_ms / 1000.0
        begin = end


def _described(found: LookOver) -> str:
    """The first look in words."""
    kinds = ", ".join(f"{count:,} {kind}s" for kind, count in found.kinds.items() if count)
    lines = [f"{found.rows:,} rows of {found.skus:,} SKUs: {kinds}"]
    if found.last_ms:
        lines.append(f"event times from {_day(found.first_ms)} to {_day(found.last_ms)} (UTC)")
    notes = (
        (found.incomplete, "rows break the contract and will be dead letters"),
        (found.without_time, "rows have no time and are skipped"),
        (found.unknown_types, "rows are no click, cart or order and are skipped"),
        (found.out_of_order, "rows are out of order: published in order of event time"),
        (found.too_small_times, "times look like seconds: they will be dead letters"),
        (found.in_the_future, "times are in the future: they will be dead letters"),
    )
    lines += [f"[yellow]{count:,} {text}[/]" for count, text in notes if count]
    lines += [
        f"[yellow]{rows:,} rows lie far from all others: {_day(first)} to {_day(last)}[/]"
        for rows, first, last in found.far_off
    ]
    if not found.outlying:
        lines.append("no outlying times")
    return "\n  ".join(lines)


def _day(at_ms: int) -> str:
    if not 0 <= at_ms < 253_402_300_800_000:
        return f"{at_ms} ms"
    return time.strftime(DAY_FORMAT, time.gmtime(at_ms / 1000))
