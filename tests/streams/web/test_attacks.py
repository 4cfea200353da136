"""What an attacker tries on the worker's web and on the dashboard, byte by byte where a client
library would not send it.
"""

import asyncio
import contextlib
import json
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from streams.errors import ConfigurationError
from streams.monitor import Monitor
from streams.settings import Settings, load
from streams.web import dashboard, server
from streams.web.access import COOKIE, GUESSES_MAX, LOCKED_MS
from streams.web.board import Board
from streams.web.follow import Link
from tests.streams.web.test_server import NOW_MS, TOKEN, Offline, Worker

Client = TestClient[web.Request, web.Application]
OPEN = {"/livez", "/readyz", "/login"}  # and files of the page: the rest takes the token
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@dataclass
class Clock:
    """Wall time as the test sets it."""

    ms: int = NOW_MS

    def __call__(self) -> int:
        return self.ms


def worker_app(settings: Settings, clock: Clock) -> web.Application:
    return server.build(Worker(["private"]), Monitor(), settings, Offline(settings), clock)


def dashboard_app(settings: Settings, clock: Clock) -> web.Application:
    return dashboard.build(dashboard.Dashboard(Board(), Link()), settings, clock)


Build = Callable[[Settings, Clock], web.Application]
both = pytest.mark.parametrize("build", [worker_app, dashboard_app])


def guarded_settings() -> Settings:
    return load(web_host="0.0.0.0", web_token=TOKEN)


@contextlib.asynccontextmanager
async def asked(
    build: Build, settings: Settings, clock: Clock | None = None
) -> AsyncIterator[Client]:
    async with TestClient(TestServer(build(settings, clock or Clock()))) as client:
        yield client


@contextlib.asynccontextmanager
async def listening(
    build: Build, settings: Settings | None = None, idle_s: float = 5.0
) -> AsyncIterator[int]:
    """The port of an application, served as in earnest."""
    app = build(settings or guarded_settings(), Clock())
    async with server.served(app, "127.0.0.1", 0, idle_s) as port:
        yield port


async def exchange(port: int, sent: bytes, timeout_s: float = 5.0) -> bytes:
    """Everything that comes back until the server closes, or nothing more comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(timeout_s):
            writer.write(sent)
            await writer.drain()
            while part := await reader.read(65_536):
                got += part
    writer.close()
    return got


def request(target: str, *headers: str, method: str = "GET") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: shop.example", "Connection: close", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


# -- what there is


@both
async def test_there_is_nothing_to_change_but_the_login(build: Build) -> None:
    app = build(guarded_settings(), Clock())
    routes = {(one.method, one.resource.canonical) for one in app.router.routes() if one.resource}
    assert {(method, path) for method, path in routes if method not in ("GET", "HEAD")} <= {
        ("POST", "/login")
    }
    assert ("HEAD", "/v1/stream") not in routes  # it would never end


@both
async def test_without_the_token_only_probes_login_and_page_files_answer(build: Build) -> None:
    app = build(guarded_settings(), Clock())
    async with TestClient(TestServer(app)) as client:
        for one in app.router.routes():
            assert one.resource is not None
            path = one.resource.canonical.replace("{service}", "shop").replace("{name}", "x")
            for headers in ({}, {"Cookie": f"{COOKIE}=1.2"}, {"Cookie": f"{COOKIE}=\xe9"}):
                answer = await client.request(one.method, path, headers=headers)
                told = await answer.text()
                assert "private" not in told and TOKEN not in told
                if path not in OPEN and not path.startswith("/static/"):
                    assert answer.status == 401, (one.method, path, headers)


@both
@pytest.mark.parametrize(
    "target",
    [
        "/static/../v1/state",
        "/static/..%2fv1%2fstate",
        "/static/%2e%2e/v1/state",
        "/static/..;/v1/state",
        "/livez/../metrics",
        "/livez/..%2fmetrics",
        "//metrics",
        "/metrics?/livez",
        "/metrics;/livez",
        "/v1/state#/static/",
        "http://127.0.0.1/metrics",
        "http://127.0.0.1/livez/../v1/state",
        "/static/../../access.py",
        "/static/..%2f..%2faccess.py",
        "/static/%2e%2e%2f%2e%2e%2faccess.py",
        "/static/..%5c..%5caccess.py",
        "/static/dashboard.js%00.css",
        "/static//etc/passwd",
        "/static/%252e%252e%252faccess.py",
    ],
)
async def test_no_spelling_of_a_path_gets_round_the_token_or_out_of_the_folder(
    build: Build, target: str
) -> None:
    async with listening(build) as port:
        answer = await exchange(port, request(target))
    assert status_of(answer) in (400, 401, 404), answer[:100]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "shop.example", "127.0.0.1.evil"])
def test_nothing_but_loopback_is_served_without_a_token(host: str) -> None:
    with pytest.raises(ConfigurationError, match="set FLASHCAST_WEB_TOKEN"):
        load(web_host=host)
    with pytest.raises(ConfigurationError, match="at least 16") as caught:
        load(web_host=host, web_token="shorttoken")
    assert "shorttoken" not in str(caught.value)


# -- other sites, through a browser on this machine


@both
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost@evil.example"},
        {"Host": "[::1"},
        {"Host": ""},
        {"Host": "localhost", "Origin": "http://evil.example"},
        {"Host": "localhost", "Origin": "null"},
        {"Host": "localhost", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Host": "localhost", "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
)
async def test_a_page_elsewhere_is_told_nothing_and_opens_no_stream(
    build: Build, headers: dict[str, str]
) -> None:
    async with asked(build, load()) as client:
        for path in ("/metrics", "/v1/capacity/shop", "/", "/v1/state", "/v1/stream"):
            answer = await client.get(path, headers=headers)
            assert answer.status in (400, 403), path
            assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_request_without_a_host_is_not_ours() -> None:
    async with listening(worker_app, load()) as port:
        assert status_of(await exchange(port, b"GET /metrics HTTP/1.0\r\n\r\n")) == 403


async def test_a_link_to_the_page_works_and_a_login_from_elsewhere_does_not() -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    async with asked(dashboard_app, load()) as client:
        assert (await client.get("/", headers={"Host": "localhost", **link})).status == 200
    async with asked(dashboard_app, guarded_settings()) as client:
        assert "Token" in await (await client.get("/", headers=link)).text()
        sent = await client.post("/login", data={"token": TOKEN}, headers=link)
        assert sent.status == 403 and COOKIE not in sent.cookies


@both
async def test_no_answer_can_be_framed_sniffed_or_kept(build: Build) -> None:
    async with asked(build, guarded_settings()) as client:
        for path in ("/", "/livez", "/metrics", "/nothing"):
            headers = (await client.get(path)).headers
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
            assert "form-action 'self'" in headers["Content-Security-Policy"]
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cache-Control"] == "no-store"
            assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


# -- the token


async def test_the_cookie_is_kept_from_scripts_and_other_sites_and_ends() -> None:
    clock = Clock()
    async with asked(dashboard_app, guarded_settings(), clock) as client:
        sent = await client.post("/login", data={"token": TOKEN}, allow_redirects=False)
        assert (sent.status, sent.headers["Location"]) == (303, "/")
        told = sent.headers["Set-Cookie"]
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(told.split("; "))
        assert TOKEN not in told
        value = sent.cookies[COOKIE].value
        cookie = {"Cookie": f"{COOKIE}={value}"}
        client.session.cookie_jar.clear()
        assert (await client.get("/v1/state", headers=cookie)).status == 200
        until, _, signature = value.partition(".")
        longer = {"Cookie": f"{COOKIE}={int(until) + 1}.{signature}"}
        assert (await client.get("/v1/state", headers=longer)).status == 401
        assert (
            await client.get("/v1/state", headers={"Authorization": f"Bearer {value}"})
        ).status == 401
        clock.ms += dashboard.SESSION_S * 1_000 + 1
        assert (await client.get("/v1/state", headers=cookie)).status == 401


@both
@pytest.mark.parametrize(
    "offered",
    [
        "Bearer",
        "Bearer ",
        "bearer wrong",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN} {TOKEN}",
        "Bearer \xff\xfe",
    ],
)
async def test_what_only_resembles_the_token_is_refused(build: Build, offered: str) -> None:
    async with listening(build) as port:
        answer = await exchange(port, request("/metrics", f"Authorization: {offered}"))
    assert status_of(answer) == 401, answer[:200]


@both
async def test_who_guesses_is_locked_out_for_a_while_and_sessions_go_on(build: Build) -> None:
    clock = Clock()
    async with asked(build, guarded_settings(), clock) as client:
        cookie = None
        if build is dashboard_app:
            sent = await client.post("/login", data={"token": TOKEN}, allow_redirects=False)
            cookie = {"Cookie": f"{COOKIE}={sent.cookies[COOKIE].value}"}
            client.session.cookie_jar.clear()
        for number in range(1, GUESSES_MAX + 1):
            wrong = {"Authorization": f"Bearer wrong-{number}"}
            answer = await client.get("/v1/capacity/shop", headers=wrong)
            assert answer.status == (401 if number < GUESSES_MAX else 429)
        answer = await client.get("/metrics", headers=BEARER)
        assert answer.status == 429 and int(answer.headers["Retry-After"]) > 0
        if cookie is not None:
            assert (await client.post("/login", data={"token": TOKEN})).status == 429
            assert (await client.get("/v1/state", headers=cookie)).status == 200
        clock.ms += LOCKED_MS
        assert (await client.get("/livez", headers=BEARER)).status in (200, 503)
        assert (await client.get("/metrics", headers=BEARER)).status != 429


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"token=%ff%fe", "application/x-www-form-urlencoded"),
        (b"token=x", "application/x-www-form-urlencoded; charset=none-such"),
        (b"--x\r\nbroken", "multipart/form-data; boundary=x"),
        (b"--x\r\nbroken", "multipart/form-data"),
        (b"\xff\xfe", "text/plain"),
        (b"&" * 4_000, "application/x-www-form-urlencoded"),
        (b"", ""),
    ],
)
async def test_a_login_that_is_no_form_is_a_wrong_token(body: bytes, kind: str) -> None:
    async with asked(dashboard_app, guarded_settings()) as client:
        answer = await client.post("/login", data=body, headers={"Content-Type": kind})
        assert answer.status in (400, 401)


# -- too much, too slowly, too many


@both
async def test_what_is_too_long_is_refused(build: Build) -> None:
    many = [f"X-{number}: 1" for number in range(200)]
    async with listening(build) as port:
        for sent in (
            request("/metrics?q=" + "x" * 9_000),
            request("/metrics", "X: " + "x" * 9_000),
            request("/metrics", "X" * 9_000 + ": 1"),
            request("/metrics", *many),
        ):
            answer = await exchange(port, sent)
            assert status_of(answer) in (0, 400, 431), answer[:100]
        # and the server goes on
        assert status_of(await exchange(port, request("/livez"))) in (200, 503)


async def test_a_large_login_is_refused_before_it_is_read() -> None:
    async with listening(dashboard_app) as port:
        told = request("/login", "Content-Length: 1000000000", method="POST")
        assert status_of(await exchange(port, told + b"token=" + b"x" * 10_000)) == 413
        chunks = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
        chunked = request("/login", "Transfer-Encoding: chunked", method="POST")
        assert status_of(await exchange(port, chunked + chunks * 8)) == 413


async def test_a_body_that_would_unpack_to_much_is_not_unpacked() -> None:
    bomb = zlib.compress(b"x" * 50_000_000)
    headers = ("Content-Encoding: deflate", f"Content-Length: {len(bomb)}")
    async with listening(dashboard_app) as port:
        answer = await exchange(port, request("/login", *headers, method="POST") + bomb)
        assert status_of(answer) in (401, 413)
        answer = await exchange(port, request("/livez", *headers) + bomb)
        assert status_of(answer) == 200


@both
@pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_who_never_ends_a_request_is_cut_off(build: Build, sent: bytes) -> None:
    async with listening(build, idle_s=0.3) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)

        async def trickle() -> None:
            while True:
                writer.write(b"x" if sent else b"")
                await asyncio.sleep(0.05)

        slowly = asyncio.create_task(trickle())
        try:
            async with asyncio.timeout(5):
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
        finally:
            slowly.cancel()
            writer.close()


async def test_a_login_that_never_ends_is_cut_off() -> None:
    async with listening(dashboard_app) as port:
        told = request("/login", "Content-Length: 100", method="POST") + b"token="
        assert status_of(await exchange(port, told, timeout_s=10)) == 408


class Heavy(dashboard.Dashboard):
    """More than the kernel's buffers take."""

    def state(self, sku: str | None, horizon_ms: int) -> bytes:
        return b"x" * 20_000_000


async def test_a_stream_that_nobody_reads_ends_and_makes_room() -> None:
    shown = Heavy(Board(), Link())
    app = dashboard.build(shown, guarded_settings(), Clock(), write_s=0.2)
    async with server.served(app, "127.0.0.1", 0) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("/v1/stream", f"Authorization: Bearer {TOKEN}"))
        assert b"200" in await reader.readline()
        assert shown.browsers == 1
        async with asyncio.timeout(5):
            while shown.browsers:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            with contextlib.suppress(ConnectionError):
                while await reader.read(1_000_000):
                    pass
        writer.close()


@both
async def test_connections_are_bounded_and_free_again_when_closed(build: Build) -> None:
    async with listening(build) as port:
        held = [
            await asyncio.open_connection("127.0.0.1", port) for _ in range(server.CONNECTIONS_MAX)
        ]
        # each is known to the server once one of them has been answered
        held[-1][1].write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await held[-1][0].readline()
        assert await exchange(port, request("/livez")) == b""
        for _, writer in held:
            writer.close()
        async with asyncio.timeout(5):
            while not await exchange(port, request("/livez")):
                pass


# -- between the lines


@both
@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /metrics HTTP/1.1\nHost: x\n\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_a_request_that_two_servers_could_read_differently_is_refused(
    build: Build, sent: bytes
) -> None:
    async with listening(build, idle_s=0.5) as port:
        answer = await exchange(port, sent + b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status_of(answer) in (0, 400, 401, 505), answer[:200]
    assert answer.count(b"HTTP/1.1 ") <= 1


@both
async def test_what_is_asked_ends_in_no_header(build: Build) -> None:
    async with listening(build) as port:
        for target in ("/%0d%0aSet-Cookie:%20a=b", "/v1/capacity/%0d%0aSet-Cookie:%20a=b"):
            answer = await exchange(port, request(target, f"Authorization: Bearer {TOKEN}"))
            head, _, body = answer.partition(b"\r\n\r\n")
            assert status_of(answer) == 404 and b"set-cookie" not in head.lower()
            assert json.loads(body)["error"]


@both
async def test_an_upgrade_is_no_way_in(build: Build) -> None:
    upgrade = ("Upgrade: websocket", "Sec-WebSocket-Key: eHl6", "Sec-WebSocket-Version: 13")
    sent = request("/metrics", *upgrade).replace(b"Connection: close", b"Connection: Upgrade")
    async with listening(build, idle_s=0.5) as port:
        answer = await exchange(port, sent + b"x" * 100_000)
    assert status_of(answer) in (400, 401) and b"101 Switching" not in answer
