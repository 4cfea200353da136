"""What is fuzzed: every way in which bytes from outside are read.

A target takes bytes and returns, or raises an error of our own trees; anything else is a find. Both
the tests beside this file and `make fuzz` run them.
"""

import contextlib
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from aiokafka.record.util import calc_crc32c

from models.errors import ModelError
from models.weights_file import SHIPPED, card_of, load_weights
from streams import topics
from streams.batcher import Batcher
from streams.capacity_sum import read_share
from streams.checkpoint import Restored
from streams.codec import batches, compression
from streams.codec.batches import iter_records, read_batches
from streams.codec.columns import NameArrays
from streams.codec.decode import Fetch
from streams.codec.strict import decode_reference
from streams.codec.write_columns import (
    ID,
    INTEGER,
    THOUSANDTHS,
    Template,
    _plain,
    choice,
    encode_templated,
)
from streams.decisions.capacity import ShareSum
from streams.errors import FlashcastError
from streams.event_file import EventFile, look_over
from streams.past_windows import readable_windows
from streams.records import SKU_BYTES_MAX, CapacityShare
from streams.settings import SHOP, load
from streams.state import marker as markers
from streams.state.local_copy import Place, _decode_place
from streams.state.snapshot import stack
from streams.watermark import Cut
from streams.web.board import Board
from tests.streams.codec.logs import NOW_MS, ORDER, decode_all, decoder, foreign_log, log, value
from tests.streams.harness import event
from tests.streams.test_hostile_state import FORECASTER, HONEST, opened

CORPUS: Final = Path(__file__).parent / "corpus"
OURS: Final = (FlashcastError, ModelError)
STEPS_MAX: Final = 1_000
OUTPUT: Final = Template(
    [b',"units":', INTEGER, b',"mean":', THOUSANDTHS, b',"why":', choice(b'"low"', b"null")],
    [("ce_id", ID), ("ce_type", b"restock")],
)


@dataclass(frozen=True)
class Target:
    """`seeds` are good inputs to begin from; `kernels`: compiled code reads what they become."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    kernels: bool = False

    def __call__(self, data: bytes) -> None:
        with contextlib.suppress(*OURS):
            self.run(data)


def record_batches(data: bytes) -> None:
    """An answer to a fetch; the CRC is put right, so that more than it is looked at."""
    raw = bytearray(data)
    length = int.from_bytes(raw[8:12], "big", signed=True)
    if len(raw) >= 61 and 49 <= length <= len(raw) - 12:
        raw[17:21] = calc_crc32c(bytes(raw[21 : 12 + length])).to_bytes(4, "big")
    unreadable: dict[int, str] = {}
    plain, next_offset = read_batches(bytes(raw), 0, (), unreadable)
    assert len(plain) <= batches.ANSWER_BYTES_MAX + compression.BATCH_BYTES_MAX + 2 * len(raw)
    assert next_offset >= 0
    found = list(iter_records(plain))  # whatever was let through can be read
    assert unreadable.keys() <= {record.offset for record in found}
    for compiled in (True, False):
        decode_all(DECODERS[compiled], plain)


DECODERS: Final = {compiled: decoder(compiled) for compiled in (True, False)}


def event_json(data: bytes) -> None:
    """The two decoders never disagree."""
    whole = log([(b"SKU-1", data[1:])])
    kind = data[0] % 3 if data else ORDER
    compiled, strict = (decode_all(DECODERS[one], whole, kind) for one in (True, False))
    assert compiled == strict, (compiled, strict)


def reference_json(data: bytes) -> None:
    """Catalog, stock and competitor records."""
    decode_reference(topics.REFERENCE_TOPICS[data[0] % 3 if data else 0], b"SKU-1", data[1:])


def written_skus(data: bytes) -> None:
    """SKUs of outside, in records of ours: the compiled writer and the plain one agree."""
    head = data[:16].ljust(16, b"\0")
    numbers = np.frombuffer(head, np.int64) & (2**63 - 1, 2**40 - 1)  # the second, as floats hold
    skus = [sku.encode() for sku in data[16:].decode(errors="ignore").split("|")]
    skus = [sku for sku in skus if 0 < len(sku) <= SKU_BYTES_MAX]
    names, rows = NameArrays.of(skus), np.arange(len(skus))
    columns = np.tile([*numbers, numbers[0] % 2], (len(skus), 1))
    ids = np.tile(np.frombuffer(head, np.uint8), (len(skus), 1))
    several = encode_templated(OUTPUT, names, rows, columns, ids, bytes_max=2_000)
    found = [one for batch in several for one in iter_records(batch.whole(0, NOW_MS))]
    written = [(one.key, one.value, one.headers) for one in found]
    assert written == list(_plain(OUTPUT, names, rows, columns, ids)), written
    for sku, record in zip(skus, found, strict=True):
        assert msgspec.json.decode(record.value or b"")["sku"].encode() == sku


def checkpoint_marker(data: bytes) -> None:
    """A marker, and the partition that is restored from it, which then goes on."""
    go_on(replace(HONEST, marker=markers.decode(data)))


def state_row(data: bytes) -> None:
    """A row under the right checksum, and the partition that is restored from it."""
    rows, _ = stack([_sealed(data), HONEST.rows[1].tobytes()])
    go_on(replace(HONEST, rows=rows))


def go_on(restored: Restored) -> None:
    """Restore, take in an event of each kind, close, forecast, decide, and take a checkpoint."""
    pipeline = opened(restored)
    batcher = Batcher(FORECASTER)
    at_ms = NOW_MS + 10_000_000
    for number, topic in enumerate(topics.EVENT_TOPICS):
        offset = pipeline.offsets()[topic]
        pairs = [
            event(1_000 + number, f"S{sku}", at_ms + 70_000 * step, quantity=number and 1)
            for step in range(2)
            for sku in range(2)
        ]
        data = log(pairs, offset, at_ms + 10**8)
        pipeline.offer(Fetch(topic, 0, offset, offset + len(pairs), data))
    for _ in range(STEPS_MAX):
        worked = pipeline.work(0, at_ms)
        if not batcher.tick([pipeline], at_ms) and not worked:
            break
    pipeline.take()


def _sealed(row: bytes) -> bytes:
    """The row with a checksum that is right."""
    checksum: int = calc_crc32c(row[4:])
    return checksum.to_bytes(4, "little") + row[4:]


def idle_cut(data: bytes) -> None:
    cut = Cut.decode(data)
    assert Cut.decode(cut.value) == cut


def copy_place(data: bytes) -> None:
    """Where a local copy stands."""
    checksum: int = calc_crc32c(data)
    _decode_place(checksum.to_bytes(4, "little") + data, Path("copy"))


def past_window(data: bytes) -> None:
    for window in readable_windows([data]):
        assert 0 <= window.units < 2**63


def capacity_share(data: bytes) -> None:
    """What is let in can be summed."""
    share = read_share(data, 0)
    total = ShareSum(1)
    if share is not None and total.add(share):
        forecast = total.forecast(SHOP, share.bucket_start_ms + share.bucket_ms)
        assert forecast is not None and math.isfinite(forecast.predicted_rps.p95)


def live_page(data: bytes) -> None:
    """Output topics, as the page reads them."""
    Board(cells=8).add(topics.OUTPUT_TOPICS[data[0] % 7 if data else 0], 0, data[1:])


def model_card(data: bytes) -> None:
    with _in_files({"m.safetensors": SHIPPED.read_bytes(), "m.json": data}) as folder:
        load_weights(folder / "m.safetensors")


def model_weights(data: bytes) -> None:
    """Tensors under a card that knows their digest."""
    card = json.loads(card_of(SHIPPED).read_text()) | {"sha256": hashlib.sha256(data).hexdigest()}
    with _in_files({"m.safetensors": data, "m.json": json.dumps(card).encode()}) as folder:
        load_weights(folder / "m.safetensors")


def settings_file(data: bytes) -> None:
    with _in_files({"flashcast.toml": data}) as folder:
        os.environ["FLASHCAST_CONFIG"] = str(folder / "flashcast.toml")
        try:
            load()
        finally:
            del os.environ["FLASHCAST_CONFIG"]


def event_lines(data: bytes) -> None:
    """A file for `flashcast replay`."""
    with _in_files({"events.jsonl": data}) as folder:
        look_over(EventFile.open(folder / "events.jsonl").read(), NOW_MS, 0)


@contextlib.contextmanager
def _in_files(contents: dict[str, bytes]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        for name, data in contents.items():
            (Path(folder) / name).write_bytes(data)
        yield Path(folder)


def _batches(codec: int) -> bytes:
    pairs = [(NOW_MS, b"SKU-1", value(), [("h", b"x")]), (NOW_MS, b"SKU-1", b"{", [])]
    return foreign_log(pairs, 3, codec)


def _json(**fields: object) -> bytes:
    return msgspec.json.encode(fields)


assert HONEST.marker is not None
_WINDOW: Final = HONEST.history[-1]
_SHARE: Final = CapacityShare(0, NOW_MS, 10_000, [3, 2, 1], [60_000], [[1.0] * 3], [[1.0] * 3], "m")
_TIMES: Final = {"origin_ms": NOW_MS, "valid_until_ms": NOW_MS}
_FORECAST: Final = b"\1" + _json(
    sku="A", horizons=[], censored=False, fallback=None, model_version="m", **_TIMES
)
_CATALOG: Final = _json(
    sku="SKU-1", title="t", category="c", list_price_cents=5, unit_cost_cents=2,
    price_floor_cents=3, price_ceiling_cents=9, lead_time_ms=0, sale_start_ms=NOW_MS,
    sale_end_ms=NOW_MS + 1,
)  # fmt: skip

TARGETS: Final = {
    "record_batches": Target(
        record_batches, tuple(_batches(codec) for codec in range(5)), kernels=True
    ),
    "event_json": Target(
        event_json,
        (
            b"\2" + value(),
            b"\0" + value(0, x=[1, {"a": "é\\"}]),
            b"\1" + value(1, sku="😀"),
        ),
        kernels=True,
    ),
    "reference_json": Target(
        reference_json,
        (
            b"\0" + _CATALOG,
            b"\1" + _json(sku="SKU-1", on_hand=5, on_order=0, as_of_ms=NOW_MS),
            b"\2" + _json(sku="SKU-1", competitor="c", price_cents=5, as_of_ms=NOW_MS),
        ),
    ),
    "written_skus": Target(
        written_skus, (bytes(range(16)) + 'A|"\\\n|\x01|é😀|'.encode() + b"S" * 128,), kernels=True
    ),
    "checkpoint_marker": Target(checkpoint_marker, (markers.encode(HONEST.marker),), kernels=True),
    "state_row": Target(state_row, (HONEST.rows[0].tobytes(),), kernels=True),
    "idle_cut": Target(idle_cut, (Cut(5, NOW_MS, 0).value,)),
    "copy_place": Target(copy_place, (msgspec.json.encode(Place(5, 4, "00ff", 0, 5)),)),
    "past_window": Target(past_window, (_WINDOW,)),
    "capacity_share": Target(capacity_share, (msgspec.json.encode(_SHARE),)),
    "live_page": Target(
        live_page,
        (
            b"\0" + _WINDOW,
            _FORECAST,
            b"\5" + _json(topic="clicks", partition=0, offset=0, reason="late", detail=""),
        ),
    ),
    "model_card": Target(model_card, (card_of(SHIPPED).read_bytes(),)),
    "model_weights": Target(model_weights, (SHIPPED.read_bytes()[:20_000],)),
    "settings_file": Target(
        settings_file, (b'bucket_ms = 1000\nweb_port = 0\n[[services]]\nname = "shop"\n',)
    ),
    "event_lines": Target(
        event_lines, (b'{"ts":%d,"type":"click","sku":"A","user":"u","price":1.5}\n' % NOW_MS,)
    ),
}
