"""The worker's own web: `/livez`, `/readyz`, `/metrics`, `/v1/capacity/{service}`.

Served inside the worker's loop, apart from Faust's, whose `/` answers OK before it has joined its
group. Probes carry no token (Kubernetes cannot give them a secret one): without it they say only
yes or no, with it why.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, Protocol

import msgspec
from aiohttp import web

from streams.errors import ConfigurationError
from streams.monitor import CONTENT_TYPE, Monitor
from streams.settings import Settings
from streams.web.access import Gate, Handler, guarded, problem
from streams.web.capacity_feed import CapacityFeed, Held

RETRY_AFTER_S: Final = "10"
PROBES: Final = ("/livez", "/readyz")
IDLE_S: Final = 20.0  # without a whole request: silent, between two, or slow with its headers
LINGER_S: Final = 1.0  # for the rest of a body that nobody asked for
CONNECTIONS_MAX: Final = 200


class WorkerStatus(Protocol):
    """What the web asks of the worker. Answers must hold no secret: they are sent as they are."""

    def not_alive(self) -> Sequence[str]:
        """Why this process should be restarted; empty: it is alive."""

    def not_ready(self) -> Sequence[str]:
        """What it waits for, e.g. `partition 3 is being restored`; empty: every assigned
        partition is restored and consuming.
        """

    def refused(self, error: ConfigurationError) -> None:
        """The broker does not let the web read what it answers with."""


class CapacitySource(Protocol):
    """Where the capacity answer comes from; `CapacityFeed` unless a test stands in."""

    def latest(self, service: str) -> Held | None: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


def wall_clock_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def build(
    status: WorkerStatus,
    monitor: Monitor,
    settings: Settings,
    capacity: CapacitySource | None = None,
    now_ms: Callable[[], int] = wall_clock_ms,
) -> web.Application:
    """The application. It follows `capacity-forecasts` for as long as it runs."""
    source = capacity if capacity is not None else CapacityFeed(settings, status.refused)
    gate = Gate(settings.web_token, now_ms)
    services = {service.name for service in settings.services}

    @web.middleware
    async def with_token(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in PROBES or gate.admits(request):
            return await handler(request)
        return gate.refusal(request)

    def probe(request: web.Request, reasons: Sequence[str], name: str) -> web.Response:
        body: dict[str, object] = {name: not reasons}
        if gate.admits(request):
            body["reasons"] = list(reasons)
        return web.json_response(body, status=503 if reasons else 200)

    async def livez(request: web.Request) -> web.Response:
        return probe(request, status.not_alive(), "alive")

    async def readyz(request: web.Request) -> web.Response:
        return probe(request, [*status.not_alive(), *status.not_ready()], "ready")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=monitor.text(), headers={"Content-Type": CONTENT_TYPE})

    async def forecast(request: web.Request) -> web.Response:
        service = request.match_info["service"]
        if service not in services:
            return problem(404, f"no service {service!r}: configured are {sorted(services)}")
        return answer(service, source.latest(service), now_ms())

    async def following(_: web.Application) -> AsyncIterator[None]:
        await source.start()
        yield
        await source.stop()

    app = web.Application(middlewares=[guarded, with_token])
    app.cleanup_ctx.append(following)
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/v1/capacity/{service}", forecast)
    return app


def answer(service: str, held: Held | None, now_ms: int) -> web.Response:
    """The forecast as published, or 503: never a number, since an autoscaler would take 0 as
    "scale to nothing" and a stale figure as the truth.
    """
    if held is None:
        return _unavailable(f"no capacity forecast for {service!r} yet")
    if now_ms > held.fresh_until_ms:
        age_s = (now_ms - held.fresh_until_ms) / 1_000
        return _unavailable(f"the last capacity forecast for {service!r} expired {age_s:.0f} s ago")
    return web.Response(body=msgspec.json.encode(held.forecast), content_type="application/json")


def _unavailable(error: str) -> web.Response:
    response = problem(503, error)
    response.headers["Retry-After"] = RETRY_AFTER_S
    return response


class _Full(asyncio.Protocol):
    """One connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


@contextlib.asynccontextmanager
async def served(
    app: web.Application, host: str, port: int, idle_s: float = IDLE_S
) -> AsyncIterator[int]:
    """Serve `app` while the block runs; gives the port bound (`port` 0: a free one).

    Raises ConfigurationError when it cannot be bound.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=2.0,
        keepalive_timeout=idle_s,
        lingering_time=LINGER_S,
        auto_decompress=False,  # no body is wanted that unpacks to a thousand times its size
    )
    await runner.setup()
    site: asyncio.Server | None = None

    def connected() -> asyncio.Protocol:
        assert runner.server is not None
        return runner.server() if len(runner.server.connections) < CONNECTIONS_MAX else _Full()

    try:
        try:
            site = await asyncio.get_running_loop().create_server(connected, host, port)
        except OSError as error:
            raise ConfigurationError(
                f"FLASHCAST_WEB_PORT = {port}: cannot listen on {host}:{port} ({error.strerror}); "
                "choose another port, or 0 for a free one"
            ) from None
        yield int(site.sockets[0].getsockname()[1])
    finally:
        if site is not None:
            site.close()
        await runner.cleanup()
