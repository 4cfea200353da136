"""The week as the shop itself lives it: activity by hour of the week, learned as it passes.

A flash sale of two hours never knows it and its factor stays 0; a shop that is watched for days
does. Hours are UTC hours since 1970 modulo 168: no calendar, no time zone.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.read_back import TIME_MS_MAX, bounded, sums_array

Array = NDArray[Any]

HOUR_MS: Final = 3_600_000
WEEK_HOURS: Final = 168
DAY_HOURS: Final = 24
HOURS_KNOWN_MIN: Final = 48  # before it, nothing is said
WEEK_DECAY: Final = 0.8  # of what a week ago weighs
DAY_WEIGHT: Final = 1.0  # of the hour of the day in the hour of the week
LOG_FACTOR_MAX: Final = 3.0


class Season:
    """Of one partition: events per hour, by hour of the week."""

    def __init__(self) -> None:
        self.sums = np.zeros(WEEK_HOURS)
        self.exposure = np.zeros(WEEK_HOURS)
        self.hour = -1  # absolute hour that is being filled
        self.filling = 0.0
        self.hours_seen = 0
        self._curve: Array | None = None  # until another hour is over

    @property
    def known(self) -> bool:
        """Whether there is a day or two to compare with."""
        return self.hours_seen >= HOURS_KNOWN_MIN

    def observe(self, bucket_start_ms: int, events: float) -> None:
        """All events of a closed bucket; hours without any are passed over and count as quiet."""
        hour = bucket_start_ms // HOUR_MS
        if hour > self.hour:
            if self.hour >= 0:
                self._finish(hour)
            self.hour, self.filling = hour, 0.0
        self.filling += events

    def curve(self) -> Array:
        """log(activity / mean activity) by hour of the week, f64[168]; 0 while nothing is known."""
        if self._curve is None:
            self._curve = self._made() if self.known else np.zeros(WEEK_HOURS)
        return self._curve

    def _made(self) -> Array:
        rate = (self.sums + DAY_WEIGHT * self._by_day()) / (self.exposure + DAY_WEIGHT)
        mean = max(float(rate.mean()), 1e-9)
        return np.clip(np.log((rate + 0.02 * mean) / mean), -LOG_FACTOR_MAX, LOG_FACTOR_MAX)

    def meta(self) -> dict[str, Any]:
        """JSON-able; the hours that were seen."""
        seen = np.flatnonzero(self.exposure).tolist()
        return {
            "hours": seen,
            "sums": self.sums[seen].tolist(),
            "exposure": self.exposure[seen].tolist(),
            "hour": self.hour,
            "filling": self.filling,
            "hours_seen": self.hours_seen,
        }

    def restore(self, meta: dict[str, Any]) -> None:
        """The opposite of `meta`. Raises ValueError for what it cannot have said."""
        hours = [bounded(hour, 0, WEEK_HOURS - 1, "hour of the week") for hour in meta["hours"]]
        self.sums, self.exposure = np.zeros(WEEK_HOURS), np.zeros(WEEK_HOURS)
        self.sums[hours] = sums_array(meta["sums"], (len(hours),), "sums")
        self.exposure[hours] = sums_array(meta["exposure"], (len(hours),), "exposure")
        self.hour = bounded(meta["hour"], -1, TIME_MS_MAX // HOUR_MS, "hour")
        self.filling = float(sums_array(meta["filling"], (), "filling"))
        self.hours_seen = bounded(meta["hours_seen"], 0, TIME_MS_MAX, "hours_seen")
        self._curve = None

    def _finish(self, next_hour: int) -> None:
        """Files the hour that is over, and quiet ones up to `next_hour`."""
        self._curve = None
        for hour in range(self.hour, min(next_hour, self.hour + 4 * WEEK_HOURS)):
            at = hour % WEEK_HOURS
            self.sums[at] = self.sums[at] * WEEK_DECAY + (self.filling if hour == self.hour else 0)
            self.exposure[at] = self.exposure[at] * WEEK_DECAY + 1
            self.hours_seen += 1

    def _by_day(self) -> Array:
        """Events per hour by hour of the day, repeated over the week; the mean where unseen."""
        sums = self.sums.reshape(-1, DAY_HOURS).sum(0)
        exposure = self.exposure.reshape(-1, DAY_HOURS).sum(0)
        mean = self.sums.sum() / max(float(self.exposure.sum()), 1e-9)
        day = np.where(exposure > 0, sums / np.maximum(exposure, 1e-9), mean)
        return np.tile(day, WEEK_HOURS // DAY_HOURS)
