"""Units sold since the shop last counted: what counts when counts are corrected or withdrawn."""

import numpy as np

from streams import topics
from streams.codec.pseudonyms import Pseudonyms
from streams.deciding import Decider
from streams.history import History
from streams.outbox import Outbox
from streams.records import StockLevel
from streams.settings import Settings

BEGIN_MS = 1_750_000_000_000
BUCKET_MS = 10_000
ROW = np.zeros(1, np.int64)


class Closed(History):
    """Three closed buckets of five units each, all remembered."""

    history_start_ms = BEGIN_MS

    def __init__(self) -> None:
        super().__init__(64, BUCKET_MS)
        self.grow(1)
        for bucket in range(3):
            self.push(ROW, ROW + BEGIN_MS + bucket * BUCKET_MS, ROW + 5)


def counted(on_hand: int, after_ms: int) -> StockLevel:
    return StockLevel("SKU-0", on_hand, 0, BEGIN_MS + after_ms)


def on_hand_after(*told: StockLevel | None) -> int:
    settings = Settings.model_construct(forecasting=False)
    decider = Decider(settings, 0, None, Outbox("/test/0", 65_536, Pseudonyms(None)))
    decider.grow(1)
    for entry in told:
        decider.inform(topics.STOCK_LEVELS, 0, entry, Closed())
    return int(decider.ledger.on_hand(ROW, decider.reference)[0])


def test_orders_since_the_count_are_subtracted() -> None:
    assert on_hand_after(counted(40, 0)) == 40 - 15
    assert on_hand_after(counted(40, 0), counted(100, 20_000)) == 100 - 5


def test_an_older_count_changes_nothing() -> None:
    assert on_hand_after(counted(100, 20_000), counted(40, 0)) == 100 - 5


def test_after_a_withdrawal_an_older_count_is_taken_with_all_that_was_sold_since() -> None:
    assert on_hand_after(counted(100, 20_000), None, counted(40, 0)) == 40 - 15


def test_read_again_from_the_start_it_comes_to_the_same() -> None:
    told = (counted(100, 20_000), None, counted(40, 0))
    assert on_hand_after(*told, *told) == 40 - 15
