import dataclasses

import numpy as np
import pytest

from streams.settings import SHOP, Service
from streams.simulation.assortment import HOUR_MS, MINUTE_MS, SaleConfig, draw_assortment, intensity
from streams.simulation.funnel import CART, CLICK, ORDER, Events
from streams.simulation.shop import Shop
from tests.streams.simulation.sale import END_MS, SEED, capacity, lived, price, restock, small_sale

AMPLE = Service(name="shop", rps_per_replica=1e9)


def test_the_same_seed_gives_the_same_sale_however_it_is_stepped() -> None:
    at_once = Shop(small_sale(), SEED).advance(END_MS)
    shop = Shop(small_sale(), SEED)
    steps = []
    while not shop.over:
        steps.append(shop.advance(shop.now_ms + 7_000))
    stepped = Events.joined([step.events for step in steps])
    for field in dataclasses.fields(Events):
        assert np.array_equal(getattr(at_once.events, field.name), getattr(stepped, field.name))
    assert at_once.stock_levels == [level for step in steps for level in step.stock_levels]


def test_another_seed_gives_another_sale() -> None:
    assert lived(Shop(small_sale(), 1)).summary() != lived(Shop(small_sale(), 2)).summary()


def test_a_whole_sale_has_the_size_and_the_mix_that_was_asked_for() -> None:
    config = SaleConfig.ending_at(END_MS, skus=40)
    shop = Shop(config, SEED, AMPLE)
    events = shop.advance(END_MS).events
    demand = shop.truth.demand.sum() / 40 / (config.duration_ms / HOUR_MS)
    assert 400 < demand < 650, "about 500 units an hour and SKU"
    shares = np.bincount(events.kind, minlength=3) / len(events)
    assert 0.75 < shares[CLICK] < 0.88
    assert 0.10 < shares[CART] < 0.20
    assert 0.025 < shares[ORDER] < 0.07
    by_sku = np.sort(shop.truth.demand.sum(axis=1))
    assert by_sku[-4:].sum() > 0.25 * by_sku.sum(), "a heavy tail: a tenth of the SKUs"


def test_the_sale_opens_with_a_spike_lulls_and_ends_in_a_rush() -> None:
    phase = (np.arange(1000) + 0.5) / 1000
    shape = intensity(phase)
    assert abs(shape.mean() - 1.0) < 0.02
    assert shape[20:60].mean() > 2 * shape[400:600].mean()
    assert shape[950:990].mean() > 2 * shape[400:600].mean()


def test_events_are_ordered_and_lie_within_the_sale() -> None:
    config = small_sale()
    events = Shop(config, SEED).advance(END_MS).events
    assert np.all(np.diff(events.event_time_ms) >= 0)
    assert events.event_time_ms[0] >= config.sale_start_ms
    assert events.event_time_ms[-1] < config.sale_end_ms
    assert len(np.unique(events.serial)) == len(events)
    assert np.all(events.quantity[events.kind == CLICK] == 1)


def test_no_unit_is_sold_that_was_not_there() -> None:
    shop = lived(Shop(small_sale(), SEED, AMPLE))
    assert shop.warehouse.on_hand.min() == 0
    sold = shop.truth.units.sum(axis=1)
    assert np.array_equal(sold + shop.warehouse.on_hand, np.full(shop.config.skus, 60))
    assert np.all(shop.truth.demand >= shop.truth.units)
    assert shop.summary().units_lost_to_stock == int(shop.truth.demand.sum() - sold.sum()) > 0


def test_what_is_published_as_orders_is_what_was_sold() -> None:
    shop = Shop(small_sale(), SEED)
    events = shop.advance(END_MS).events
    ordered = events.kind == ORDER
    assert events.quantity[ordered].sum() == shop.truth.units.sum()
    assert ordered.sum() == shop.truth.orders.sum() == shop.summary().orders
    revenue = (events.quantity[ordered] * events.price_cents[ordered]).sum()
    assert revenue == shop.summary().revenue_cents


def test_a_restock_arrives_after_its_lead_time_and_sells() -> None:
    shop, alone = Shop(small_sale(), SEED, AMPLE), lived(Shop(small_sale(), SEED, AMPLE))
    sku = int(np.argmax(alone.truth.demand.sum(axis=1)))
    name, lead_time_ms = shop.assortment.names[sku], int(shop.assortment.lead_time_ms[sku])
    start_ms = shop.config.sale_start_ms
    shop.advance(start_ms + MINUTE_MS)
    order = restock(name, 500, start_ms + MINUTE_MS)
    assert shop.apply_restock(order, shop.now_ms)
    assert not shop.apply_restock(order, shop.now_ms), "the same decision again changes nothing"
    shop.advance(start_ms + MINUTE_MS + lead_time_ms)
    assert shop.warehouse.arrived_units == 0
    step = shop.advance(shop.now_ms + shop.config.tick_ms)
    assert shop.warehouse.arrived_units == 500
    counted = [level for level in step.stock_levels if level.sku == name]
    assert counted[-1].on_hand >= 500
    lived(shop)
    assert shop.truth.units[sku].sum() > alone.truth.units[sku].sum()


def test_a_decision_on_one_sku_changes_no_other() -> None:
    alone, shop = lived(Shop(small_sale(), SEED, AMPLE)), Shop(small_sale(), SEED, AMPLE)
    shop.apply_price(price("SKU-00003", 7_000, shop.now_ms), shop.now_ms)
    shop.apply_restock(restock("SKU-00003", 100, shop.now_ms), shop.now_ms)
    lived(shop)
    others = np.arange(shop.config.skus) != 3
    assert np.array_equal(shop.truth.demand[others], alone.truth.demand[others])
    assert np.array_equal(shop.truth.units[others], alone.truth.units[others])
    assert shop.truth.demand[3].sum() > alone.truth.demand[3].sum(), "cheaper: more is wanted"


def test_a_price_moves_from_its_effective_time_and_demand_follows_its_elasticity() -> None:
    low, high = Shop(small_sale(), SEED, AMPLE), Shop(small_sale(), SEED, AMPLE)
    half_ms = low.config.sale_start_ms + 15 * MINUTE_MS
    for index, name in enumerate(low.assortment.names):
        usual = int(low.assortment.list_price_cents[index])
        low.apply_price(price(name, usual * 8 // 10, half_ms), low.now_ms)
        high.apply_price(price(name, usual * 12 // 10, half_ms), high.now_ms)
    lived(low), lived(high)
    ticks = 15 * MINUTE_MS // low.config.tick_ms
    assert np.array_equal(low.truth.demand[:, :ticks], high.truth.demand[:, :ticks])
    expected = np.mean((0.8 / 1.2) ** low.assortment.elasticity)
    measured = low.truth.demand[:, ticks:].sum() / high.truth.demand[:, ticks:].sum()
    assert 0.7 * expected < measured < 1.3 * expected


def test_too_few_servers_lose_requests_and_more_serve_after_their_warm_up() -> None:
    tight = Service(name="shop", rps_per_replica=1.0, warm_up_s=120, replicas_max=1_000)
    shop = Shop(small_sale(stock_units=10_000), SEED, tight)
    shop.servers.replicas = 2
    start_ms = shop.config.sale_start_ms
    shop.advance(start_ms + 5 * MINUTE_MS)
    lost = shop.servers.requests_lost
    assert lost > 0 and shop.truth.unserved.sum() > 0
    assert not shop.apply_capacity(capacity("other", 900, shop.now_ms), shop.now_ms)
    assert shop.apply_capacity(capacity("shop", 900, shop.now_ms), shop.now_ms)
    shop.advance(shop.now_ms + MINUTE_MS)
    assert shop.servers.requests_lost > lost, "still warming up"
    shop.advance(shop.now_ms + MINUTE_MS)
    lost = shop.servers.requests_lost
    lived(shop)
    assert shop.servers.replicas == 900 and shop.servers.requests_lost == lost


def test_a_count_of_stock_is_what_was_there_then_with_every_restock_decided_by_then() -> None:
    config = small_sale(stock_units=1_000)
    shop = Shop(config, SEED, AMPLE, stock_count_delay_ms=2 * MINUTE_MS)
    first = shop.advance(config.sale_start_ms + 4 * MINUTE_MS).stock_levels
    assert {level.on_hand for level in first} == {1_000}
    name = shop.assortment.names[0]
    shop.apply_restock(restock(name, 70, config.sale_start_ms + 3 * MINUTE_MS), shop.now_ms)
    shop.apply_restock(restock(name, 30, config.sale_start_ms + 4 * MINUTE_MS), shop.now_ms)
    counts = shop.advance(config.sale_start_ms + 6 * MINUTE_MS).stock_levels
    as_of_ms = config.sale_start_ms + 3 * MINUTE_MS
    assert {level.as_of_ms for level in counts} == {as_of_ms}
    ticks = 3 * MINUTE_MS // config.tick_ms
    sold = shop.truth.units[0, :ticks].sum()
    (count,) = [level for level in counts if level.sku == name]
    assert count.on_hand == 1_000 - sold
    assert count.on_order == 70, "the restock decided a minute later is not in it"


def test_counts_of_one_sku_never_go_back_in_time() -> None:
    shop = Shop(small_sale(), SEED, AMPLE)
    as_of: dict[str, int] = {}
    while not shop.over:
        step = shop.advance(shop.now_ms + MINUTE_MS)
        for level in step.stock_levels:
            assert as_of.get(level.sku, 0) < level.as_of_ms
            as_of[level.sku] = level.as_of_ms
        for index in np.flatnonzero(shop.warehouse.on_hand < 30):
            name = shop.assortment.names[index]
            shop.apply_restock(restock(name, 40, shop.now_ms), shop.now_ms)
    assert shop.warehouse.arrived_units > 0


def test_true_demand_can_be_asked_for_any_stretch() -> None:
    shop = Shop(small_sale(), SEED)
    start_ms = shop.config.sale_start_ms
    shop.advance(start_ms + 10 * MINUTE_MS)
    skus = np.asarray([0, 5])
    begin = np.asarray([start_ms, start_ms + 5 * MINUTE_MS])
    found = shop.truth.demand_between(skus, begin, begin + 5 * MINUTE_MS)
    per_five = 5 * MINUTE_MS // shop.config.tick_ms
    assert found[0] == shop.truth.demand[0, :per_five].sum()
    assert found[1] == shop.truth.demand[5, per_five : 2 * per_five].sum()
    lived(shop)
    beyond = shop.truth.demand_between(skus, begin, begin + 10 * HOUR_MS)
    assert beyond[0] == shop.truth.demand[0].sum()


def test_the_competitor_opens_at_its_price_and_stays_near_it() -> None:
    config = SaleConfig.ending_at(END_MS, skus=50)
    records = draw_assortment(config, SEED).competitor_moves(0, config.minutes)
    opening = [one for one in records if one.as_of_ms == config.sale_start_ms]
    assert len(opening) == 50 and {one.price_cents for one in opening} == {10_000}
    assert 50 < len(records) < 600
    assert all(8_000 <= one.price_cents <= 12_000 for one in records)


def test_the_catalog_is_consistent() -> None:
    for entry in Shop(small_sale(), SEED).catalog():
        assert entry.unit_cost_cents < entry.price_floor_cents < entry.list_price_cents
        assert entry.list_price_cents < entry.price_ceiling_cents
        assert 10 * MINUTE_MS <= entry.lead_time_ms <= 20 * MINUTE_MS


@pytest.mark.parametrize("wrong", [{"skus": 0}, {"tick_ms": 7_001}, {"sale_end_ms": 0}])
def test_a_sale_that_makes_no_sense_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"tick|sale"):
        dataclasses.replace(small_sale(), **wrong)


def test_the_default_service_is_the_shop() -> None:
    assert Shop(small_sale(), SEED).servers.service == SHOP
