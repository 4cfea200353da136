import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streams.monitor import Monitor, Verdict

UNITS = ("_seconds", "_bytes", "_records", "_total", "_rows", "_info")
COUNTS_WITHOUT_UNIT = {
    "flashcast_partitions_owned",
    "flashcast_partitions_ready",
    "flashcast_partitions_standby",
    "flashcast_skus_tracked",
    "flashcast_desired_replicas",
}


@pytest.fixture
def monitor() -> Monitor:
    return Monitor(process=False)


def test_every_metric_has_the_prefix_a_meaning_and_a_base_unit(monitor: Monitor) -> None:
    families = list(monitor.registry.collect())
    assert len(families) > 25
    for family in families:
        assert family.name.startswith("flashcast_")
        assert family.documentation.endswith(".") or ":" in family.documentation
        exposed = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        assert exposed.endswith(UNITS) or exposed in COUNTS_WITHOUT_UNIT, exposed
        assert not re.search(r"_(ms|milliseconds|percent|kb)\b", exposed)


def test_no_label_can_hold_a_sku(monitor: Monitor) -> None:
    allowed = {"topic", "verdict", "reason", "kind", "guardrail", "service", "level", "outcome"}
    allowed |= {"source"}
    for family in monitor.registry.collect():
        for sample in family.samples:
            assert set(sample.labels) <= allowed | {"le"}


def test_verdict_series_are_there_from_the_start_so_that_rates_see_the_first_event(
    monitor: Monitor,
) -> None:
    text = monitor.text().decode()
    for verdict in Verdict:
        assert f'flashcast_events_total{{topic="orders",verdict="{verdict}"}} 0.0' in text


def test_two_monitors_live_in_one_process_and_do_not_share_counts() -> None:
    first, second = Monitor(), Monitor()
    first.events.labels("clicks", Verdict.LATE).inc(3)
    assert b'flashcast_events_total{topic="clicks",verdict="late"} 3.0' in first.text()
    assert b'flashcast_events_total{topic="clicks",verdict="late"} 0.0' in second.text()


def test_the_text_is_what_prometheus_parses_and_lag_sums_over_topics(monitor: Monitor) -> None:
    monitor.consumer_lag.labels("clicks").set(40)
    monitor.consumer_lag.labels("catalog").set(2)
    monitor.build.info({"version": "0.1.0", "weights": "gru-1"})
    assert monitor.lag_records() == 42
    families = {f.name: f for f in text_string_to_metric_families(monitor.text().decode())}
    assert families["flashcast_build_info"].samples[0].labels["weights"] == "gru-1"
