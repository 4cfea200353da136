"""Shares of the load, forecasts and decisions of one partition: each once, under its id, none lost,
and the numbers those of a forecaster that nothing interrupted (retelling.py).
"""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from models.forecaster import Forecaster
from streams.codec.plain import Record
from streams.faults.choosing import alike
from streams.faults.origins import Moment, timeline
from streams.faults.retelling import Came, Retelling, Retold
from streams.faults.shelf import Marker, PlacedTold, Shelf
from streams.settings import Settings

NAMESPACE: Final = uuid.UUID("6f3c2f57-5d0f-5b7e-9a54-2d8f3f0f7c11")  # of the wire contract
NOTHING_YET: Final[Marker] = {
    "windows": {"closed_through_ms": 0},
    "decider": {"origins": {"next_ms": 0}},
}

Name = tuple[str, int]  # SKU, origin or start of bucket
Said = dict[Name, dict[str, Any]]


class DecidedJudge:
    """`records(topic)` are those committed, `markers` in the order in which they became durable."""

    def __init__(
        self,
        settings: Settings,
        partition: int,
        records: Callable[[str], list[Record]],
        markers: Sequence[Marker],
        told: PlacedTold,
    ) -> None:
        self._settings = settings
        self._partition = partition
        self._records = records
        self._markers = markers
        self._told = told
        self._exact = settings.processing_guarantee == "exactly_once"

    def shares(self, cells: Mapping[Name, Sequence[int]]) -> list[str]:
        """What is wrong with the partition's shares of the load; `cells` begin with the clicks,
        carts and orders of each SKU and bucket.
        """
        wanted: dict[int, list[int]] = {}
        for (_, start_ms), sums in cells.items():
            before = wanted.get(start_ms, [0, 0, 0])
            wanted[start_ms] = [sum(pair) for pair in zip(before, sums[:3], strict=True)]
        found: dict[int, list[int]] = {}
        wrong = []
        for record in self._records("capacity-shares"):
            share = json.loads(record.value or b"")
            start_ms = share["bucket_start_ms"]
            if start_ms in found and self._exact:
                wrong.append(f"capacity-shares {start_ms} twice, again at {record.offset}")
            if share["partition"] != self._partition:
                wrong.append(f"capacity-shares {start_ms}: of partition {share['partition']}")
            found[start_ms] = share["observed"]
        return wrong + [f"capacity-shares {what}" for what in differences(wanted, found)]

    def violations(self, cells: Mapping[Name, Sequence[int]]) -> list[str]:
        """What is wrong with the names of forecasts and decisions, given all windows that must be
        there.
        """
        settings = self._settings
        core = self._markers[-1]["core"] if self._markers else NOTHING_YET
        through_ms = core["windows"]["closed_through_ms"]
        moments = timeline(cells, settings.bucket_ms, settings.forecast_interval_ms, through_ms)
        wanted = {
            (sku, one.at_ms): "there"
            for one in moments
            if isinstance(one, Moment)
            for sku in one.skus
        }
        found, wrong = self._said("demand-forecasts")
        ahead = {start_ms for _, start_ms in cells if start_ms >= through_ms}
        next_ms = core["decider"]["origins"]["next_ms"]
        ahead |= {at_ms for _, at_ms in found if 0 < next_ms <= at_ms}
        wrong += [f"{at_ms}: no marker covers it" for at_ms in sorted(ahead)]
        there = dict.fromkeys(found, "there")
        wrong += [f"demand-forecasts {what}" for what in differences(wanted, there)]
        for topic in ("restock-events", "price-adjustments"):
            decided, faults = self._said(topic)
            stray = sorted(decided.keys() - wanted.keys())
            wrong += [*faults, *(f"{topic} {name}: there is no forecast of it" for name in stray)]
        return wrong

    def _said(self, topic: str) -> tuple[Said, list[str]]:
        """By SKU and origin, and what is wrong: repeated, changed, or of another id."""
        found: Said = {}
        wrong = []
        for record in self._records(topic):
            said = json.loads(record.value or b"")
            name = said["sku"], said["origin_ms"]
            wanted = uuid.uuid5(NAMESPACE, "|".join((topic, *map(str, name))))
            if dict(record.headers).get("ce_id") != str(wanted).encode():
                wrong.append(f"{topic} {name}: its id is not {wanted}")
            if record.key != said["sku"].encode():
                wrong.append(f"{topic} {name}: its key is {record.key!r}")
            if name in found and (self._exact or not alike(found[name], said)):
                wrong.append(f"{topic} {name} twice: {found[name]}, {said} at {record.offset}")
            found[name] = said
        return found, wrong

    def retold(self, forecaster: Forecaster) -> Retold:
        """Of the numbers."""
        if not self._markers:
            return Retold()
        windows, shares = {}, {}
        for record in self._records("demand-windows"):
            window = json.loads(record.value or b"")
            windows[window["sku"], window["bucket_start_ms"]] = window
        for record in self._records("capacity-shares"):
            share = json.loads(record.value or b"")
            shares[share["bucket_start_ms"]] = share
        topics = ("demand-forecasts", "restock-events", "price-adjustments")
        came = Came(windows, shares, *(self._said(topic)[0] for topic in topics))
        shelf = Shelf(self._told, self._partition, self._markers)
        through_ms = self._markers[-1]["core"]["windows"]["closed_through_ms"]
        return Retelling(self._settings, forecaster, shelf, through_ms, came).result()


def differences(expected: Mapping[Any, Any], found: Mapping[Any, Any]) -> list[str]:
    return [
        f"{key}: {found.get(key)}, must be {expected.get(key)}"
        for key in sorted(expected.keys() | found.keys())
        if expected.get(key) != found.get(key)
    ]
