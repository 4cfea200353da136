import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from streams.errors import ConfigurationError
from streams.monitor import Monitor
from streams.records import CapacityForecast, CapacityLevels
from streams.settings import Settings, load
from streams.web.capacity_feed import CapacityFeed
from streams.web.server import build, served

NOW_MS = 1_700_000_000_000
TOKEN = "correct-horse-battery-staple"
Client = TestClient[web.Request, web.Application]


@dataclass
class Worker:
    """A worker in whatever condition the test wants."""

    dead: Sequence[str] = ()
    waiting: Sequence[str] = ()

    def not_alive(self) -> Sequence[str]:
        return self.dead

    def not_ready(self) -> Sequence[str]:
        return self.waiting


class Offline(CapacityFeed):
    """The feed with no broker behind it, which refuses nobody: records are added by the test."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, pytest.fail)

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


@dataclass
class Shell:
    """One application and what it stands on."""

    settings: Settings = field(default_factory=load)
    worker: Worker = field(default_factory=Worker)
    monitor: Monitor = field(default_factory=Monitor)
    now_ms: int = NOW_MS

    def __post_init__(self) -> None:
        self.feed = Offline(self.settings)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        app = build(self.worker, self.monitor, self.settings, self.feed, lambda: self.now_ms)
        async with TestClient(TestServer(app)) as client:
            yield client


def record(service: str = "shop", **changes: Any) -> bytes:
    levels = CapacityLevels(120.0, 150.0, 160.0)
    values: dict[str, Any] = {
        "service": service,
        "as_of_ms": NOW_MS - 1_000,
        "valid_until_ms": NOW_MS + 60_000,
        "horizon_s": 60,
        "predicted_rps": levels,
        "desired_replicas": CapacityLevels(3.0, 4.0, 4.0),
        "observed_rps": 100.0,
        "reason": "forecast above observed",
        "model_version": "gru-1",
        "policy_version": "capacity-1",
    }
    return msgspec.json.encode(CapacityForecast(**(values | changes)))


async def test_ready_only_once_nothing_is_waited_for_and_the_reasons_are_said() -> None:
    shell = Shell(worker=Worker(waiting=["partition 3 is being restored"]))
    async with shell.client() as client:
        answer = await client.get("/readyz")
        assert answer.status == 503
        assert await answer.json() == {"ready": False, "reasons": ["partition 3 is being restored"]}
        assert (await client.get("/livez")).status == 200  # restoring is no reason to be restarted
        shell.worker.waiting = []
        assert (await client.get("/readyz")).status == 200


async def test_a_stuck_worker_is_neither_alive_nor_ready() -> None:
    async with Shell(worker=Worker(dead=["no slice for 60 s"])).client() as client:
        assert (await client.get("/livez")).status == 503
        assert (await (await client.get("/readyz")).json())["reasons"] == ["no slice for 60 s"]


async def test_metrics_are_in_prometheus_text_format() -> None:
    shell = Shell()
    shell.monitor.restocks.inc(3)
    async with shell.client() as client:
        answer = await client.get("/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "flashcast_restocks_total 3.0" in await answer.text()


async def test_capacity_is_the_latest_record_as_it_was_published() -> None:
    shell = Shell()
    shell.feed.add(record(observed_rps=1.0), NOW_MS)
    shell.feed.add(record(), NOW_MS)
    async with shell.client() as client:
        answer = await client.get("/v1/capacity/shop")
        assert answer.status == 200
        assert await answer.json() == json.loads(record())


async def test_capacity_of_an_unknown_service_is_404_and_names_the_known_ones() -> None:
    async with Shell().client() as client:
        answer = await client.get("/v1/capacity/basket")
        assert answer.status == 404
        assert "['shop']" in (await answer.json())["error"]


@pytest.mark.parametrize("clock", ["wall", "event"])
async def test_capacity_is_503_never_a_figure_when_there_is_none_or_it_is_stale(clock: str) -> None:
    shell = Shell(settings=load(clock=clock))
    async with shell.client() as client:
        answer = await client.get("/v1/capacity/shop")
        assert answer.status == 503
        assert list(await answer.json()) == ["error"]
        shell.feed.add(record(), NOW_MS)
        shell.now_ms = NOW_MS + 60_000
        assert (await client.get("/v1/capacity/shop")).status == 200
        shell.now_ms = NOW_MS + 61_001
        answer = await client.get("/v1/capacity/shop")
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "10"
        assert list(await answer.json()) == ["error"]


async def test_with_the_event_clock_a_forecast_of_long_ago_is_as_fresh_as_its_publication() -> None:
    past = {"as_of_ms": NOW_MS - 10**9, "valid_until_ms": NOW_MS - 10**9 + 60_000}
    for clock, status in (("event", 200), ("wall", 503)):
        shell = Shell(settings=load(clock=clock))
        shell.feed.add(record(**past), NOW_MS - 1_000)
        async with shell.client() as client:
            assert (await client.get("/v1/capacity/shop")).status == status


async def test_an_unreadable_capacity_record_leaves_the_last_good_one() -> None:
    shell = Shell()
    shell.feed.add(record(), NOW_MS)
    for broken in (None, b"", b"{}", b"\xff", b'{"service":"shop"}'):
        shell.feed.add(broken, NOW_MS)
    async with shell.client() as client:
        assert (await client.get("/v1/capacity/shop")).status == 200


async def test_beyond_loopback_everything_but_a_probes_yes_or_no_needs_the_token() -> None:
    settings = load(web_host="0.0.0.0", web_token=TOKEN)
    shell = Shell(settings=settings, worker=Worker(waiting=["partition 1 is being restored"]))
    shell.feed.add(record(), NOW_MS)
    good = {"Authorization": f"Bearer {TOKEN}"}
    async with shell.client() as client:
        for path in ("/metrics", "/v1/capacity/shop", "/v1/capacity/none"):
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
                answer = await client.get(path, headers=headers)
                assert answer.status == 401, (path, headers)
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
                assert TOKEN not in await answer.text()
        assert (await client.get("/v1/capacity/shop", headers=good)).status == 200
        assert await (await client.get("/readyz")).json() == {"ready": False}
        assert "reasons" in await (await client.get("/readyz", headers=good)).json()


async def test_without_a_token_a_page_elsewhere_cannot_point_its_name_at_this_machine() -> None:
    async with Shell().client() as client:
        assert (await client.get("/metrics", headers={"Host": "evil.example"})).status == 403
        assert (await client.get("/metrics", headers={"Host": "localhost:6066"})).status == 200


async def test_an_error_inside_tells_the_caller_nothing() -> None:
    class Broken(Worker):
        def not_ready(self) -> Sequence[str]:
            raise RuntimeError("password=hunter2")

    async with Shell(worker=Broken()).client() as client:
        answer = await client.get("/readyz")
        assert answer.status == 500
        assert "hunter2" not in await answer.text()


async def test_a_wrong_method_or_path_is_a_json_error() -> None:
    async with Shell().client() as client:
        answer = await client.post("/metrics")
        assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")
        assert (await client.get("/nothing")).content_type == "application/json"


async def test_a_port_that_is_taken_is_named_with_its_variable() -> None:
    app, other = (build(Worker(), Monitor(), s, Offline(s)) for s in (load(), load()))
    async with served(app, "127.0.0.1", 0) as port:
        with pytest.raises(
            ConfigurationError, match=rf"FLASHCAST_WEB_PORT = {port}: cannot listen"
        ):
            async with served(other, "127.0.0.1", port):
                pass
