"""The live page: reads the output topics, keeps a `Board`, pushes it to browsers.

Its own process and port, so that workers do not pay for it. A browser gets the newest state over
server-sent events, at its own pace: a slow one skips states, and makes nothing wait or grow.
"""

import asyncio
import contextlib
import functools
import logging
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
import structlog
from aiohttp import web

from streams.codec.plain import Record
from streams.errors import ConfigurationError
from streams.records import HORIZONS_MS
from streams.settings import Settings
from streams.topics import OUTPUT_TOPICS
from streams.web import page
from streams.web.access import COOKIE, Gate, Handler, guarded, problem
from streams.web.board import Board
from streams.web.follow import Follower, Link
from streams.web.server import served, wall_clock_ms

STATIC: Final = Path(__file__).parent / "static"
FILES: Final = ("dashboard.js", "dashboard.css", "charts.js", "uPlot.iife.min.js", "uPlot.min.css")
PORT: Final = 6067  # unless FLASHCAST_WEB_PORT is set: a worker on this machine has its default
CELL_MS_MIN: Final = 60_000
LOOK_BACK_MS: Final = 6 * 3_600_000
PUSH_S: Final = 0.5
HEARTBEAT_PUSHES: Final = 10  # said again after so many pushes without news
BROWSERS_MAX: Final = 50
SESSION_S: Final = 12 * 3_600
BODY_S: Final = 3.0  # a login form is a hundred bytes
WRITE_S: Final = 30.0  # a browser that takes nothing for so long is asleep

log = structlog.get_logger("flashcast.dashboard")


class Dashboard:
    """Builds what is pushed, at most once per change for all browsers together."""

    def __init__(self, board: Board, link: Link) -> None:
        self.board = board
        self.link = link
        self.browsers = 0
        self._built = (-1, b"")

    def key(self) -> tuple[object, ...]:
        """Changes when there is something new to show."""
        link = self.link
        return (self.board.version, link.state, link.detail, link.missing, link.behind > 0)

    def state(self, sku: str | None, horizon_ms: int) -> bytes:
        """JSON of the whole page, for one selection."""
        if self._built[0] != self.board.version:
            self._built = (self.board.version, msgspec.json.encode(page.overview(self.board)))
        parts: dict[str, Any] = {
            "link": asdict(self.link),
            "overview": msgspec.Raw(self._built[1]),
            "selection": page.selection(self.board, sku, horizon_ms),
        }
        return msgspec.json.encode(parts)


def build(
    dashboard: Dashboard,
    settings: Settings,
    now_ms: Callable[[], int] = wall_clock_ms,
    write_s: float = WRITE_S,
) -> web.Application:
    """The web application: page, state, stream and search."""
    gate = Gate(settings.web_token, now_ms)

    @web.middleware
    async def with_token(request: web.Request, handler: Handler) -> web.StreamResponse:
        open_to_all = request.path in ("/login", "/livez") or request.path.startswith("/static/")
        if (open_to_all and gate.guarded) or gate.admits(request):
            return await handler(request)
        refusal = gate.refusal(request)
        if refusal.status == 401 and request.path == "/":
            return web.FileResponse(STATIC / "login.html", status=401)
        return refusal

    async def index(_: web.Request) -> web.StreamResponse:
        return web.FileResponse(STATIC / "dashboard.html")

    async def asset(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in FILES:
            return problem(404, "no such file")
        return web.FileResponse(STATIC / name, headers={"Cache-Control": "no-cache"})

    async def login(request: web.Request) -> web.StreamResponse:
        try:
            async with asyncio.timeout(BODY_S):
                form = parse_qs((await request.read()).decode(errors="replace"))
        except TimeoutError:
            return problem(408, "the form did not come")
        if not gate.takes(request, form.get("token", [""])[0]):
            refusal = gate.refusal(request)
            if refusal.status == 401:
                return web.FileResponse(STATIC / "login.html", status=401)
            return refusal
        response = web.Response(status=303, headers={"Location": "/"})
        response.set_cookie(
            COOKIE,
            gate.session(SESSION_S * 1_000),
            max_age=SESSION_S,
            httponly=True,
            samesite="Strict",
            secure=request.secure,
        )
        return response

    async def state(request: web.Request) -> web.StreamResponse:
        sku, horizon_ms = _selected(request)
        return web.Response(body=dashboard.state(sku, horizon_ms), content_type="application/json")

    async def stream(request: web.Request) -> web.StreamResponse:
        if dashboard.browsers >= BROWSERS_MAX:
            return problem(503, f"{BROWSERS_MAX} browsers are connected: that is the limit")
        return await _pushed(request, dashboard, write_s)

    async def skus(request: web.Request) -> web.StreamResponse:
        return web.json_response(page.search(dashboard.board, request.query.get("q", "")))

    async def livez(_: web.Request) -> web.StreamResponse:
        return web.json_response({"alive": True})

    app = web.Application(middlewares=[guarded, with_token], client_max_size=4_096)
    app.router.add_get("/", index)
    app.router.add_get("/static/{name}", asset)
    app.router.add_post("/login", login)
    app.router.add_get("/livez", livez)
    app.router.add_get("/v1/state", state)
    app.router.add_get("/v1/stream", stream, allow_head=False)
    app.router.add_get("/v1/skus", skus)
    return app


def _selected(request: web.Request) -> tuple[str | None, int]:
    asked = request.query.get("horizon_ms", "")
    horizon_ms = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 10 else 0
    if horizon_ms not in HORIZONS_MS:
        horizon_ms = HORIZONS_MS[1]
    return request.query.get("sku") or None, horizon_ms


async def _pushed(request: web.Request, dashboard: Dashboard, write_s: float) -> web.StreamResponse:
    """The state now, and again after every change, until the browser or the server leaves."""
    sku, horizon_ms = _selected(request)
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
    )
    dashboard.browsers += 1
    try:
        await response.prepare(request)
        await response.write(b"retry: 1000\n\n")
        sent: tuple[object, ...] | None = None
        quiet = 0
        while request.transport is not None and not request.transport.is_closing():
            key = dashboard.key()
            if key != sent or quiet >= HEARTBEAT_PUSHES:
                async with asyncio.timeout(write_s):
                    await response.write(b"data: %s\n\n" % dashboard.state(sku, horizon_ms))
                sent, quiet = key, 0
            quiet += 1
            await asyncio.sleep(PUSH_S)
    except (ConnectionResetError, asyncio.CancelledError):
        pass  # the browser left, or the server stops
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    finally:
        dashboard.browsers -= 1
    return response


@contextlib.asynccontextmanager
async def running(
    settings: Settings,
    host: str,
    port: int,
    look_back_ms: int = LOOK_BACK_MS,
    refused: Callable[[ConfigurationError], None] | None = None,
) -> AsyncIterator[int]:
    """The dashboard while the block runs; gives the port bound (`port` 0: a free one). `refused` is
    called when the broker does not let us in.
    """
    board = Board(cell_ms=max(CELL_MS_MIN, settings.bucket_ms))

    def take(topic: str, partition: int, record: Record) -> None:
        if record.value is not None:
            board.add(topic, partition, record.value)

    follower = Follower(settings, OUTPUT_TOPICS, take, max(0, wall_clock_ms() - look_back_ms))
    app = build(Dashboard(board, follower.link), settings)
    reading = asyncio.create_task(follower.run(), name="dashboard-follower")
    reading.add_done_callback(functools.partial(_complain, follower.link, refused))
    try:
        async with served(app, host, port) as bound:
            yield bound
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def _complain(
    link: Link, refused: Callable[[ConfigurationError], None] | None, task: asyncio.Task[None]
) -> None:
    error = None if task.cancelled() else task.exception()
    if refused is not None and isinstance(error, ConfigurationError):
        refused(error)
    elif error is not None:
        log.error("the dashboard no longer reads the topics", error=repr(error))
        link.become("unreachable", f"reading stopped, start the dashboard again: {error!r}")


def run_dashboard(settings: Settings, look_back_ms: int = LOOK_BACK_MS) -> int:
    """Serve the page until SIGINT or SIGTERM. Raises ConfigurationError when the port is taken or
    the broker does not let us in.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the follower says it, once

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        host = settings.web_host
        wanted = settings.web_port if "web_port" in settings.model_fields_set else PORT
        errors: list[ConfigurationError] = []

        def refused(error: ConfigurationError) -> None:
            errors.append(error)
            stop.set()

        async with running(settings, host, wanted, look_back_ms, refused) as port:
            shown = f"[{host}]" if ":" in host else host
            print(f"dashboard: http://{shown}:{port}/", flush=True)
            await stop.wait()
        if errors:
            raise errors[0]

    asyncio.run(serve())
    return 0
