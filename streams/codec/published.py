"""Decoders of the records that flashcast itself publishes.

Built here, once: msgspec 0.22 crashes where threads are the first to use a type at the same time.
"""

from typing import Final

import msgspec

from streams.records import (
    CapacityForecast,
    CapacityShare,
    DemandForecast,
    DemandWindow,
    PriceAdjustment,
    Refused,
    RestockEvent,
)

WINDOW: Final = msgspec.json.Decoder(DemandWindow)
FORECAST: Final = msgspec.json.Decoder(DemandForecast)
RESTOCK: Final = msgspec.json.Decoder(RestockEvent)
PRICE: Final = msgspec.json.Decoder(PriceAdjustment)
CAPACITY: Final = msgspec.json.Decoder(CapacityForecast)
SHARE: Final = msgspec.json.Decoder(CapacityShare)
REFUSED: Final = msgspec.json.Decoder(Refused)
