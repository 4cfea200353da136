"""Lessons and exams: reproducible, of all kinds, and never the same sale twice."""

from streams.simulation import curriculum
from streams.simulation.assortment import SaleConfig


def test_drawn_sales_are_valid_varied_and_reproducible() -> None:
    drawn = [curriculum.drawn_sale(seed) for seed in range(60)]
    assert drawn == [curriculum.drawn_sale(seed) for seed in range(60)]
    for config, bucket_ms in drawn:
        assert isinstance(config, SaleConfig)
        assert config.duration_ms % bucket_ms == 0 and bucket_ms % config.tick_ms == 0
    rates = [config.units_per_sku_hour for config, _ in drawn]
    assert min(rates) < 100 and max(rates) > 1_000
    assert {bucket_ms for _, bucket_ms in drawn} == {10_000, 30_000, 60_000}


def test_no_exam_is_of_a_sale_that_was_learned_from() -> None:
    learned = {1_000 * seed + i for seed in range(1, 100) for i in range(100)}
    assert not learned & {*curriculum.EXAM_SEEDS, *curriculum.CALIBRATION_SEEDS}
