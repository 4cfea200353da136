"""Input as shops really send it: repeated, out of order, late, of the future, and malformed."""

import json
import random
import time
from typing import Any

from benchmarks.drills.aside import Aside
from benchmarks.drills.drill import Drill
from benchmarks.drills.stage import Moment, Stage
from benchmarks.drills.workload import TOPICS, Event, Workload

LASTS_S, LASTS_QUICK_S = 30.0, 3.0
TOO_LARGE_EVERY_S = 3.0
VALUE_BYTES_MAX = 2**20

Spoilt = tuple[str, bytes | None, bytes | None]  # the reason, key and value


def under_a_kill(stage: Stage) -> None:
    """The dirt goes on while one of two workers is killed, so that repeats, lateness and refusals
    are also told by state that was restored.
    """
    stage.begin(2)
    lasts_s = LASTS_QUICK_S if stage.quick else LASTS_S
    stage.pause(lasts_s / 2, lasts_s / 2)
    place, fault = stage.chance.randrange(2), Moment()
    stage.fleet.at[place].kill()
    stage.fleet.start(place)
    stage.note(kills=1)
    stage.resume(fault)
    stage.pause(lasts_s / 2, lasts_s / 2)


def poisoned(stage: Stage) -> None:
    """The same, and beside the load now and then a value above a mebibyte, which passes a broker's
    limit as long as it is compressed.
    """
    stage.begin(2)
    with Aside(stage, compression_type="gzip", max_request_size=2 * VALUE_BYTES_MAX) as aside:
        ends = time.monotonic() + (LASTS_QUICK_S if stage.quick else LASTS_S)
        number = 0
        while time.monotonic() < ends:
            topic = TOPICS[number % 3]
            good = stage.workload.one(topic, number, f"large-{number}", stage.workload.start_ms)
            padded = json.loads(good.value or b"") | {"session_id": "s" * VALUE_BYTES_MAX}
            value = json.dumps(padded).encode()
            aside.event(Event(topic, good.partition, good.key, value, "value_too_large"))
            number += 1
            stage.pause(TOO_LARGE_EVERY_S, TOO_LARGE_EVERY_S)
            if number == 3:
                fault = Moment()
                stage.fleet.at[0].kill()
                stage.fleet.start(0)
                stage.note(kills=1)
                stage.resume(fault)


def poison(chance: random.Random, body: dict[str, Any]) -> Spoilt:
    """One of the ways in which a record can break the contract."""
    key, value = str(body["sku"]).encode(), json.dumps(body).encode()
    quantity = {"quantity": 0} if "quantity" in body else {"price_cents": -1}
    gone = dict(body)
    del gone[chance.choice(sorted(body.keys() - {"session_id"}))]
    long_sku = "X" * 200
    return chance.choice(
        [
            ("not_json", key, value[: len(value) // 2]),
            ("not_json", key, value + b"}"),
            ("not_json", key, b""),
            ("not_json", key, value.replace(b"10000", b"NaN")),
            ("not_utf8", key, value.replace(b'"u', b'"\xff\xfe')),
            ("value_missing", key, None),
            ("missing_field", key, json.dumps(gone).encode()),
            ("wrong_type", key, _with(body, price_cents=99.5)),
            ("wrong_type", key, _with(body, event_time_ms=str(body["event_time_ms"]))),
            ("wrong_type", key, _with(body, user_id=7)),
            ("wrong_type", key, _with(body, event_id=None)),
            ("wrong_type", key, json.dumps([body]).encode()),
            ("out_of_range", key, _with(body, price_cents=10**9)),
            ("out_of_range", key, _with(body, **quantity)),
            ("out_of_range", key, _with(body, event_id="")),
            ("out_of_range", long_sku.encode(), _with(body, sku=long_sku)),
            ("event_time_unit", key, _with(body, event_time_ms=body["event_time_ms"] // 1_000)),
            ("event_time_future", key, _with(body, event_time_ms=99_999_999_999_999)),
            ("key_missing", None, value),
            ("key_missing", b"", value),
            ("key_mismatch", b"not-" + key, value),
            ("wrong_partition", key, value),
        ]
    )


def _with(body: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps(body | changes).encode()


DIRT = Drill(
    "dirt",
    "10 % duplicates, events shuffled, late and of the future, a worker killed meanwhile",
    under_a_kill,
    workload=Workload(
        duplicate_share=0.10, late_share=0.05, future_share=0.02, stragglers_ms=4_900
    ),
)
POISON = Drill(
    "poison",
    "1 % malformed in every way that the contract names, a worker killed meanwhile",
    poisoned,
    workload=Workload(poison_share=0.01, poison=poison),
)
