"""One event's JSON, scanned: a part of the kernel.

Takes an object with the contract's fields in any order, of the right types and in range, and
further fields of any kind. Whatever else there is, valid or not, is UNSURE: so are escapes in what
must be looked at, and nesting or numbers out of the ordinary.
"""

from typing import Final

import numpy as np

from streams.codec.compiled import Memory, byte, inlined, word
from streams.codec.skip import CLOSE, COLON, COMMA, OPEN, literal_end, value_end
from streams.codec.text import INVALID, QUOTE, integer, skip_space, text_end
from streams.records import (
    EVENT_TIME_MS_MAX,
    EVENT_TIME_MS_MIN,
    ID_BYTES_MAX,
    PRICE_CENTS_MAX,
    QUANTITY_MAX,
    SKU_BYTES_MAX,
)

UNSURE: Final = -1
SURE: Final = 0
SURE_WITH_UNKNOWN: Final = 1  # there are fields that the contract does not name

Scanned = tuple[int, int, int, int, int, int, int, int]

_U = np.uint64
_CLICK: Final = 0
_ORDER: Final = 2

# What a field is. Bits, so that a set of fields is a sum.
_UNKNOWN: Final = 0
_EVENT_ID: Final = 1
_SKU: Final = 2
_USER_ID: Final = 4
_TIME: Final = 8
_PRICE: Final = 16
_QUANTITY: Final = 32
_OPTIONAL: Final = 64
_REQUIRED_CLICK: Final = _EVENT_ID + _SKU + _USER_ID + _TIME + _PRICE
_REQUIRED: Final = _REQUIRED_CLICK + _QUANTITY


def _eight(name: bytes) -> np.uint64:
    return _U(int.from_bytes(name, "little"))


_EVENT_ID_8: Final = _eight(b"event_id")
_QUANTITY_8: Final = _eight(b"quantity")
_ORDER_ID_8: Final = _eight(b"order_id")
_EVENT_TI: Final = _eight(b"event_ti")
_T_TIME_MS: Final = _eight(b"_time_ms")
_PRICE_CE: Final = _eight(b"price_ce")
_CE_CENTS: Final = _eight(b"ce_cents")
_SESSION: Final = _eight(b"session_")
_SSION_ID: Final = _eight(b"ssion_id")
_USER_ID_7: Final = _eight(b'user_id"')
_REGION_7: Final = _eight(b'region"')
_LOW_7: Final = _U(2**56 - 1)


@inlined
def scan_event(b: Memory, at: int, end: int, kind: int) -> Scanned:
    """(status, event_time_ms, price_cents, quantity, event_id's place and size, SKU's) of the
    value in `b[at : end]`. All but the status are undefined when it is UNSURE.
    """
    time_ms = price = 0
    quantity = 1
    id_at = id_size = sku_at = sku_size = 0
    status = SURE
    seen = 0
    unsure = (UNSURE, 0, 0, 0, 0, 0, 0, 0)
    at = skip_space(b, at, end)
    if at >= end or byte(b, at) != OPEN:
        return unsure
    while True:
        at = skip_space(b, at + 1, end)  # after the brace or the comma
        if at >= end or byte(b, at) != QUOTE:
            return unsure
        name_at = at + 1
        at, escaped = text_end(b, name_at, end)
        if at == INVALID or escaped:
            return unsure
        name_size = at - name_at
        at = skip_space(b, at + 1, end)
        if at >= end or byte(b, at) != COLON:
            return unsure
        field = _field(b, name_at, name_size, kind)
        at = skip_space(b, at + 1, end)
        if at >= end:
            return unsure
        c = byte(b, at)
        if c == QUOTE:
            text_at = at + 1
            at, escaped = text_end(b, text_at, end)
            if at == INVALID:
                return unsure
            size = at - text_at
            at += 1
            if field == _UNKNOWN:
                status = SURE_WITH_UNKNOWN
            elif field != _OPTIONAL:
                if escaped or size < 1:
                    return unsure
                if field == _SKU and size <= SKU_BYTES_MAX:
                    sku_at = text_at
                    sku_size = size
                elif field == _EVENT_ID and size <= ID_BYTES_MAX:
                    id_at = text_at
                    id_size = size
                elif field != _USER_ID or size > ID_BYTES_MAX:
                    return unsure
        elif field == _UNKNOWN:
            status = SURE_WITH_UNKNOWN
            at = value_end(b, at, end)
            if at == INVALID:
                return unsure
        elif 0x30 <= c <= 0x39:
            number, at = integer(b, at, end)
            if at == INVALID:
                return unsure
            if field == _TIME and EVENT_TIME_MS_MIN <= number < EVENT_TIME_MS_MAX:
                time_ms = number
            elif field == _PRICE and number <= PRICE_CENTS_MAX:
                price = number
            elif field == _QUANTITY and 1 <= number <= QUANTITY_MAX:
                quantity = number
            else:
                return unsure
        elif field == _OPTIONAL and c == 0x6E:  # null
            at = literal_end(b, at, end)
            if at == INVALID:
                return unsure
        else:
            return unsure
        seen |= field
        at = skip_space(b, at, end)
        if at >= end:
            return unsure
        c = byte(b, at)
        if c == CLOSE:
            break
        if c != COMMA:
            return unsure
    if skip_space(b, at + 1, end) != end:
        return unsure
    required = _REQUIRED_CLICK if kind == _CLICK else _REQUIRED
    if seen & required != required:
        return unsure
    return status, time_ms, price, quantity, id_at, id_size, sku_at, sku_size


@inlined
def _field(b: Memory, at: int, size: int, kind: int) -> int:
    """Which field has the name `b[at : at + size]`, which a quote and a colon follow."""
    if size == 8:
        w = word(b, at)
        if w == _EVENT_ID_8:
            return _EVENT_ID
        if w == _QUANTITY_8 and kind != _CLICK:
            return _QUANTITY
        if w == _ORDER_ID_8 and kind == _ORDER:
            return _OPTIONAL
    elif size == 3:
        if byte(b, at) == 0x73 and byte(b, at + 1) == 0x6B and byte(b, at + 2) == 0x75:
            return _SKU
    elif size == 7:
        if word(b, at) == _USER_ID_7:
            return _USER_ID
    elif size == 13:
        if word(b, at) == _EVENT_TI and word(b, at + 5) == _T_TIME_MS:
            return _TIME
    elif size == 11:
        if word(b, at) == _PRICE_CE and word(b, at + 3) == _CE_CENTS:
            return _PRICE
    elif size == 10:
        if word(b, at) == _SESSION and word(b, at + 2) == _SSION_ID:
            return _OPTIONAL
    elif size == 6 and word(b, at) & _LOW_7 == _REGION_7:
        return _OPTIONAL
    return _UNKNOWN
