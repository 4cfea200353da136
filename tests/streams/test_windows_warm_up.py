"""After the warm-up nothing is left to compile."""

from benchmarks.windows import measure
from streams import history_kernel, sku_hash, sku_kernel, windows_kernel
from streams.windows_warm_up import warm_up
from tests.streams.test_windows import log, run


def compiled() -> dict[str, int]:
    """Signatures compiled so far, by kernel."""
    found = {}
    for module in (history_kernel, sku_hash, sku_kernel, windows_kernel):
        for name, value in vars(module).items():
            if hasattr(value, "signatures"):
                found[f"{module.__name__}.{name}"] = len(value.signatures)
    return found


def test_the_warm_up_leaves_nothing_to_compile() -> None:
    warm_up()
    before = compiled()
    for name in (
        "windows_kernel.apply_events",
        "windows_kernel.close_cells",
        "windows_kernel.copy_fingerprints",
        "windows_kernel.remember_events",
        "history_kernel.push_history",
        "history_kernel.sum_units",
        "history_kernel.order_history",
        "sku_kernel.fill_rows",
        "sku_kernel.fill_slots",
        "sku_kernel.remove_slot",
        "sku_hash._hash_all",
    ):
        assert before[f"streams.{name}"] >= 1, name
    stage = run(log(0, 12_000, 90_000), log(0, 90_000), log(0, 90_000))
    assert stage.outputs
    assert compiled() == before


def test_the_benchmark_runs_small_and_its_answers_hold() -> None:
    figures = measure(events=100_000, skus=50)
    assert figures.events_closed == 3 * 50_000, "all events of the bucket that is over"
    assert figures.windows == 50
    assert set(figures.nanoseconds) == {"rows", "duplicates", "apply", "close"}
