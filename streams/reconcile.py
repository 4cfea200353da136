"""`flashcast reconcile`: is `demand-windows` exactly what the input topics imply?

Reads the input from its start, judges every record again, works the windows out in plain Python
(recompute.py) and compares them, the late events, the dead letters and the markers' counts one by
one (comparison.py). A worker may go on meanwhile: what the marker read first does not cover yet is
reported as open and not compared.
"""

import asyncio
import time
from collections import Counter
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from streams.comparison import Differences, PartitionComparison, Tally
from streams.errors import ConfigurationError
from streams.log_reader import LogReader
from streams.placement import Placement
from streams.progressed import Progressed
from streams.recompute import Cut, Outcome, PartitionRules, Recomputed
from streams.reconcile_report import ReconcileReport, show
from streams.settings import Settings
from streams.state.marker import Marker
from streams.topics import DEAD_LETTERS, DEMAND_WINDOWS, EVENT_TOPICS, LATE_EVENTS

POLL_S: Final = 0.5
# where the marker's counts keep each outcome (streams.windows.Verdict)
_VERDICTS: Final = {
    Outcome.DEAD_LETTER: 0,
    Outcome.ACCEPTED: 1,
    Outcome.DUPLICATE: 2,
    Outcome.LATE: 4,
}


def run_reconcile(
    settings: Settings,
    json_output: bool = False,
    *,
    wait_s: float = 0.0,
    console: Console | None = None,
) -> int:
    """Compare and report. `wait_s`: how long to wait first for the workers to process the input to
    its end and to close its last buckets. Returns 0 when exact, 1 when not.
    """
    console = console or Console(stderr=json_output)
    report = asyncio.run(reconcile(settings, wait_s=wait_s, console=console))
    if json_output:
        print(msgspec.json.encode(report).decode())
    else:
        show(report, console)
    return 0 if report.exact else 1


async def reconcile(
    settings: Settings, *, wait_s: float = 0.0, console: Console | None = None
) -> ReconcileReport:
    """The report. Raises BrokerError, ConfigurationError when topics do not fit together."""
    console = console or Console(quiet=True)
    started = time.monotonic()
    async with LogReader(settings) as reader:
        job = _Job(settings, reader, console, await _partitions(reader))
        await job.wait(started + wait_s)
        for partition in range(job.partitions):
            await job.reconcile(partition)
        await job.wait_for_buckets(started + wait_s)
        await job.compare_outputs()
    return job.report(time.monotonic() - started - job.waited_s)


async def _partitions(reader: LogReader) -> int:
    counts = {topic: await reader.partitions(topic) for topic in (*EVENT_TOPICS, DEMAND_WINDOWS)}
    if len(set(counts.values())) != 1:
        raise ConfigurationError(f"topics keyed by SKU differ in their partitions: {counts}")
    return counts[DEMAND_WINDOWS]


class _Job:
    """One reconciliation over all partitions."""

    def __init__(
        self, settings: Settings, reader: LogReader, console: Console, partitions: int
    ) -> None:
        self.partitions = partitions
        self._settings = settings
        self._reader = reader
        self._console = console
        self._placement = Placement(settings.partitioner, partitions)
        self._progressed = [Progressed() for _ in range(partitions)]
        self._recomputed = [Recomputed() for _ in range(partitions)]
        self._cuts_used: list[set[tuple[str, int]]] = [set() for _ in range(partitions)]
        self._judged_to: list[dict[str, int]] = [{} for _ in range(partitions)]
        self._differences = Differences()
        self._tally = Tally()
        self._records = 0
        self.waited_s = 0.0

    async def wait(self, deadline: float) -> None:
        """Until the markers have passed the input's present end, at most to `deadline`."""
        with self._progress() as progress:
            bar: TaskID | None = None
            while True:
                behind, total = 0, 0
                for partition, done in enumerate(self._progressed):
                    await done.read_changelog(self._reader, partition)
                    for topic in EVENT_TOPICS:
                        _, end = await self._reader.bounds(topic, partition)
                        total += end
                        behind += max(0, end - done.offset(topic))
                if behind == 0 or time.monotonic() >= deadline:
                    return
                if bar is None:
                    bar = progress.add_task("waiting for the workers")
                progress.update(bar, total=total, completed=total - behind)
                await self._sleep()

    async def wait_for_buckets(self, deadline: float) -> None:
        """Until every bucket of the input is closed, at most to `deadline`."""
        while self._open_buckets() and time.monotonic() < deadline:
            await self._sleep()
            for partition in range(self.partitions):
                await self._progressed[partition].read_changelog(self._reader, partition)
                if self._outdated(partition):
                    await self.reconcile(partition)

    async def _sleep(self) -> None:
        await asyncio.sleep(POLL_S)
        self.waited_s += POLL_S

    def _open_buckets(self) -> bool:
        bucket_ms = self._settings.bucket_ms
        return any(
            cell.bucket_start_ms + bucket_ms > done.closed_through_ms
            for done, recomputed in zip(self._progressed, self._recomputed, strict=True)
            for cell in recomputed.windows
        )

    def _outdated(self, partition: int) -> bool:
        """Whether the marker now covers input that was not judged, or a cut is new below it."""
        done, ends = self._progressed[partition], self._judged_to[partition]
        grown = any(done.offset(topic) > ends[topic] for topic in EVENT_TOPICS)
        used = self._cuts_used[partition]
        return grown or any((topic, at) not in used and at < ends[topic] for topic, at in done.cuts)

    async def reconcile(self, partition: int) -> None:
        """Judge the whole input of one partition number."""
        done, recomputed = self._progressed[partition], Recomputed()
        self._recomputed[partition] = recomputed
        self._cuts_used[partition] = set(done.cuts)
        await done.read_not_admitted(self._reader, self._settings, partition)
        with self._progress() as progress:
            for kind, topic in enumerate(EVENT_TOPICS):
                begin, end = await self._reader.bounds(topic, partition)
                recomputed.begins[topic] = begin
                self._judged_to[partition][topic] = end
                cuts = [Cut(at, through) for (of, at), through in done.cuts.items() if of == topic]
                refused = done.not_admitted[topic]
                rules = PartitionRules(
                    self._settings, kind, partition, self._placement, cuts, refused
                )
                bar = progress.add_task(f"{topic}/{partition}", total=end)
                async for records in self._reader.read(topic, partition, begin, end):
                    for record in records:
                        rules.add(record, recomputed)
                    self._records += len(records)
                    progress.update(bar, completed=records[-1].offset + 1)

    async def compare_outputs(self) -> None:
        """Hold every partition's outputs against what was recomputed."""
        for partition, recomputed in enumerate(self._recomputed):
            done, judged_to = self._progressed[partition], self._judged_to[partition]
            comparison = PartitionComparison(
                self._settings,
                partition,
                recomputed,
                done.closed_through_ms,
                {topic: done.offset(topic) for topic in EVENT_TOPICS},
                self._differences,
                self._tally,
            )
            for topic in (DEMAND_WINDOWS, LATE_EVENTS, DEAD_LETTERS):
                begin, end = await self._reader.bounds(topic, partition)
                async for records in self._reader.read(topic, partition, begin, end):
                    for record in records:
                        if topic == DEMAND_WINDOWS:
                            comparison.add_window(record)
                        else:
                            comparison.add_refused(topic, record)
            comparison.finish()
            for topic, begin in recomputed.begins.items():
                if begin > 0:
                    where = f"{topic}/{partition}"
                    self._differences.add("input_incomplete", where, "from offset 0", begin)
            exact = self._settings.processing_guarantee == "exactly_once"
            if done.marker and exact and done.marker.offsets.items() >= judged_to.items():
                comparison.compare_counters(_counters(done.marker))

    def _progress(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            console=self._console, transient=True, disable=not self._console.is_terminal,
        )  # fmt: skip

    def report(self, seconds: float) -> ReconcileReport:
        """What was found."""
        tally, differences = self._tally, self._differences
        outcomes: Counter[tuple[str, Outcome]] = sum(
            (one.outcomes for one in self._recomputed), Counter()
        )
        reasons: Counter[str] = sum((one.reasons for one in self._recomputed), Counter())
        unprocessed = sum(
            max(0, end - done.offset(topic))
            for done, ends in zip(self._progressed, self._judged_to, strict=True)
            for topic, end in ends.items()
        )
        return ReconcileReport(
            exact=differences.total == 0 and unprocessed == 0,
            differences=differences.total,
            unprocessed=unprocessed,
            inputs={
                topic: {str(outcome): outcomes[topic, outcome] for outcome in Outcome}
                for topic in EVENT_TOPICS
            },
            refused=dict(reasons),
            windows={
                "expected": tally.windows_expected,
                "found": tally.windows_found,
                "open": tally.windows_open,
            },
            late_events={"expected": tally.late_expected, "found": tally.late_found},
            dead_letters={"expected": tally.dead_expected, "found": tally.dead_found},
            units=tally.units,
            revenue_cents=tally.revenue_cents,
            repeats=tally.repeats,
            cuts=sum(len(done.cuts) for done in self._progressed),
            by_kind=dict(differences.counts),
            listed=differences.listed,
            waited_s=self.waited_s,
            seconds=round(seconds, 3),
            records_per_s=round(self._records / seconds) if seconds > 0 else 0,
        )


def _counters(marker: Marker) -> dict[str, dict[Outcome, int]]:
    """The marker's own counts, by topic and outcome."""
    counted: list[list[int]] = marker.core["windows"]["counts"]
    return {
        topic: {outcome: counts[verdict] for outcome, verdict in _VERDICTS.items()}
        for topic, counts in zip(EVENT_TOPICS, counted, strict=True)
    }
