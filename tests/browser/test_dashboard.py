"""The page in a real browser, fed through a real broker."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from sale_records import EVIL_SKU, Published, refused, sale
from served_dashboard import Served

from streams import topics
from streams.embedded import EmbeddedBroker
from streams.settings import Settings, load

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

pytestmark = [pytest.mark.browser, pytest.mark.embedded]
SEED = 20_240_601
MINUTES = 45


def settings_of(broker: EmbeddedBroker, **changes: Any) -> Settings:
    return load(
        bootstrap_servers=broker.bootstrap_servers,
        processing_guarantee="at_least_once",
        topic_prefix="shop-",
        **changes,
    )


def create_topics(settings: Settings) -> None:
    admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    admin.create_topics(
        [
            NewTopic(
                plan.name, plan.partitions or settings.partitions, 1, topic_configs=plan.config
            )
            for plan in topics.plans(settings.topic_prefix, settings.application)
        ]
    )
    admin.close()


def publish(settings: Settings, records: Iterable[Published]) -> None:
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap_servers)
    for one in records:
        producer.send(settings.topic(one.topic), one.value, one.key, partition=one.partition)
    producer.flush()
    producer.close()


def whole_sale() -> list[Published]:
    print(f"seed {SEED}")
    start_ms = (time.time_ns() // 1_000_000 // 60_000 - MINUTES) * 60_000
    return [one for bucket in sale(SEED, start_ms, MINUTES) for one in bucket]


def decoded(records: Iterable[Published], topic: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(one.value) for one in records if one.topic == topic]


class Page:
    """What a person sees."""

    def __init__(self, chrome: "WebDriver") -> None:
        self.chrome = chrome

    def text(self, css: str) -> str:
        script = "return document.querySelector(arguments[0])?.textContent ?? ''"
        return str(self.chrome.execute_script(script, css))

    def texts(self, css: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)"
        return list(self.chrome.execute_script(script, css))

    def tile(self, name: str) -> str:
        return self.text(f"[data-tile={name}] b")

    def until(self, holds: Callable[[], bool], what: str, timeout_s: float = 25) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        def seen(_: object) -> bool:
            return holds()

        said = f"{what}; notice: {self.text('#notice')!r}, link: {self.text('#link')!r}"
        WebDriverWait(self.chrome, timeout_s, 0.1).until(seen, said)

    def inked(self, chart: str) -> int:
        """How many pixels of a chart are not blank."""
        script = """
            const canvas = document.querySelector(`#${arguments[0]} canvas`);
            if (!canvas) return 0;
            const { width, height } = canvas;
            const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
            let inked = 0;
            for (let at = 3; at < data.length; at += 4) inked += data[at] > 0;
            return inked;"""
        return int(self.chrome.execute_script(script, chart))

    def errors(self) -> list[str]:
        return [
            one["message"] for one in self.chrome.get_log("browser") if one["level"] == "SEVERE"
        ]


def count(value: float) -> str:
    return f"{value:,.0f}"


def test_the_page_shows_the_sale_as_the_topics_tell_it(
    chromium: "WebDriver", broker: EmbeddedBroker, tmp_path: Path
) -> None:
    settings = settings_of(broker)
    page = Page(chromium)
    records = whole_sale()
    windows = decoded(records, topics.DEMAND_WINDOWS)
    with Served(settings) as served:
        chromium.get(served.url)
        page.until(
            lambda: "Not on the broker yet" in page.text("#notice"), "says topics are missing"
        )
        create_topics(settings)
        page.until(
            lambda: "No bucket has closed" in page.text("#notice"), "says it waits for events"
        )
        assert page.text("#demand .empty").startswith("Nothing to compare yet")
        publish(settings, records)
        publish(settings, [refused(topics.DEAD_LETTERS, at, "out_of_range") for at in range(3)])
        publish(settings, [refused(topics.LATE_EVENTS, 9, "late")])
        units = sum(one["units"] for one in windows)
        page.until(lambda: page.tile("units") == count(units), f"shows {units} units")
        page.until(lambda: page.tile("dead_letters") == "3", "counts dead letters")

        assert page.tile("clicks") == count(sum(one["clicks"] for one in windows))
        assert page.tile("orders") == count(sum(one["orders"] for one in windows))
        revenue = sum(one["revenue_cents"] for one in windows) / 100
        assert page.tile("revenue") == f"{revenue / 1e6:.2f}M"
        assert page.tile("forecasts") == count(len(decoded(records, topics.DEMAND_FORECASTS)))
        assert page.tile("late") == "1"
        assert page.text("#link") == "live"
        assert page.text("#notice") == ""
        assert "out_of_range 3" in page.text("#refused-note")
        assert page.inked("demand") > 5_000
        assert page.inked("capacity") > 2_000
        assert "inside the interval" in page.text("#score")

        last = max(decoded(records, topics.CAPACITY_FORECASTS), key=lambda one: one["as_of_ms"])
        wanted = [f"{last['desired_replicas'][level]:.0f}" for level in ("p50", "p90", "p95")]
        assert page.texts("#replicas b") == wanted

        restocks = decoded(records, topics.RESTOCK_EVENTS)
        assert page.tile("restocks") == count(len(restocks))
        assert page.tile("restock_units") == count(sum(one["order_quantity"] for one in restocks))
        assert str(restocks[-1]["order_quantity"]) in page.text("#restocks tbody")
        prices = decoded(records, topics.PRICE_ADJUSTMENTS)
        clamped = [clamp for one in prices for clamp in one["clamps"]]
        assert sorted(page.texts("#prices .chip")) == sorted(clamped)
        one = prices[-1]
        moved = f"{one['old_price_cents'] / 100:,.2f} → {one['new_price_cents'] / 100:,.2f}"
        assert moved in page.text("#prices tbody")
        chromium.save_screenshot(str(tmp_path / "all.png"))

        chosen_sku_shows_its_own(page, chromium, windows)
        assert page.errors() == []


def chosen_sku_shows_its_own(
    page: Page, chromium: "WebDriver", windows: list[dict[str, Any]]
) -> None:
    assert "Choose a SKU" in page.text("#price .empty")
    for sku in ("SKU-0003", EVIL_SKU):
        chromium.execute_script(
            "location.hash = new URLSearchParams({sku: arguments[0]}).toString()", sku
        )
        units = sum(one["units"] for one in windows if one["sku"] == sku)
        page.until(lambda units=units: f"{units:,} units" in page.text("#facts"), f"facts of {sku}")
        assert page.text("#demand-title").endswith(sku)
        assert page.inked("price") > 500
        assert page.inked("demand") > 5_000
    assert chromium.title == "flashcast"  # a name is text, never markup
    before = chromium.execute_script("return document.documentElement.dataset.theme")
    chromium.find_element("id", "theme").click()
    assert chromium.execute_script("return document.documentElement.dataset.theme") != before
    chromium.find_element("css selector", "#horizon option[value='900000']").click()
    page.until(lambda: "within 15 min" in page.text("#demand-title"), "the horizon changes")
    chromium.execute_script("location.hash = new URLSearchParams({sku: 'no-such'}).toString()")
    page.until(lambda: "No detail is kept of no-such" in page.text("#notice"), "unknown SKU")
    chromium.find_element("id", "all").click()
    page.until(lambda: page.text("#demand-title").endswith("all SKUs"), "all SKUs again")


def test_a_broker_that_goes_is_said_and_one_that_comes_back_is_read_on_without_repeats(
    chromium: "WebDriver", tmp_path: Path
) -> None:
    page = Page(chromium)
    records = whole_sale()
    half = len(records) // 2
    units = [
        sum(one["units"] for one in decoded(part, topics.DEMAND_WINDOWS))
        for part in (records[:half], records)
    ]
    with EmbeddedBroker(tmp_path / "broker") as broker:
        settings = settings_of(broker)
        create_topics(settings)
        publish(settings, records[:half])
        with Served(settings) as served:
            chromium.get(served.url)
            page.until(lambda: page.tile("units") == count(units[0]), "the first half")
            broker.stop()
            page.until(lambda: page.text("#link") == "broker unreachable", "says it is gone")
            assert settings.bootstrap_servers in page.text("#notice")
            assert page.tile("units") == count(units[0])  # what was known stays
            broker.start()
            page.until(lambda: page.text("#link") == "live", "is there again")
            publish(settings, records[half:])
            page.until(lambda: page.tile("units") == count(units[1]), "exactly the whole")
            served.stop()
            page.until(lambda: page.text("#link") == "dashboard offline", "says it is offline")


def test_with_a_token_the_page_asks_for_it_and_keeps_it_out_of_the_cookie(
    chromium: "WebDriver", broker: EmbeddedBroker
) -> None:
    token = "correct-horse-battery-staple"
    page = Page(chromium)
    with Served(settings_of(broker, web_token=token)) as served:
        chromium.get(served.url)
        for offered, lets_in in (("wrong", False), (token, True)):
            field = chromium.find_element("name", "token")
            field.send_keys(offered)
            field.submit()
            page.until(
                lambda lets_in=lets_in: (
                    bool(page.texts("#tiles")) is lets_in
                    and chromium.execute_script("return document.readyState") == "complete"
                ),
                f"after {offered}",
            )
        (cookie,) = chromium.get_cookies()
        assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
        assert token not in cookie["value"]
