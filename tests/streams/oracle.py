"""What the windows must say, worked out plainly from whole logs. Shares no code with `streams`."""

from collections import defaultdict
from dataclasses import dataclass, field

APPLIED, DUPLICATE, LATE, REFUSED = "applied", "duplicate", "late", "refused"


@dataclass(frozen=True)
class Event:
    """One record of a topic partition. `refused`: it did not decode, or belongs elsewhere."""

    offset: int
    timestamp_ms: int
    event_id: int
    sku: str
    event_time_ms: int
    price_cents: int = 100
    quantity: int = 1
    refused: bool = False


@dataclass
class Window:
    """Sums of one SKU in one bucket."""

    events: list[int] = field(default_factory=lambda: [0, 0, 0])
    units: int = 0
    revenue_cents: int = 0
    prices: list[int] = field(default_factory=list)

    def summary(self) -> tuple[int, int, int, int, int, int]:
        """Clicks, carts, orders, units, revenue, and the mean price rounded half up."""
        n = len(self.prices)
        mean = (2 * sum(self.prices) + n) // (2 * n)
        return (*self.events, self.units, self.revenue_cents, mean)


def verdicts(
    log: list[Event], cuts: list[tuple[int, int]], lateness_ms: int, horizon: int
) -> dict[int, str]:
    """Verdict by offset. `cuts`: from offset `position` on, all before `through_ms` is late."""
    said = {}
    for at, event in enumerate(log):
        earlier = [one for one in log[:at] if not one.refused]
        generation = event.offset // horizon
        bounds = [min(one.event_time_ms, one.timestamp_ms) - lateness_ms for one in earlier]
        bounds += [through_ms for position, through_ms in cuts if event.offset >= position]
        if event.refused:
            said[event.offset] = REFUSED
        elif any(
            one.event_id == event.event_id and one.offset // horizon >= generation - 1
            for one in earlier
        ):
            said[event.offset] = DUPLICATE
        elif bounds and event.event_time_ms < max(bounds):
            said[event.offset] = LATE
        else:
            said[event.offset] = APPLIED
    return said


def windows(
    logs: list[list[Event]], said: list[dict[int, str]], bucket_ms: int
) -> dict[tuple[str, int], tuple[int, int, int, int, int, int]]:
    """Summary by SKU and bucket start of all that was applied."""
    found: dict[tuple[str, int], Window] = defaultdict(Window)
    for kind, log in enumerate(logs):
        for event in log:
            if said[kind][event.offset] != APPLIED:
                continue
            window = found[event.sku, event.event_time_ms // bucket_ms * bucket_ms]
            window.events[kind] += 1
            window.prices.append(event.price_cents)
            if kind == 2:
                window.units += event.quantity
                window.revenue_cents += event.quantity * event.price_cents
    return {key: window.summary() for key, window in found.items()}
