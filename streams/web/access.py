"""Who may read the web endpoints: a bearer token, or anyone on this machine when there is none.

Without a token only loopback is served, and then the `Host` header must be loopback too, so that a
web page elsewhere cannot read these answers by pointing its own name at 127.0.0.1.
"""

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from pydantic import SecretStr

from streams.settings import LOOPBACK

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
COOKIE: Final = "flashcast_session"
GUESSES_MAX: Final = 10  # wrong tokens from one address, within LOCKED_MS of the first
LOCKED_MS: Final = 60_000
ADDRESSES_MAX: Final = 1_000  # whose wrong tokens are remembered
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'self'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

log = structlog.get_logger("flashcast.web")


class Gate:
    """Lets in who shows the token, as a bearer or by the cookie made from it.

    An address that offered too many wrong ones is not listened to for a while; whoever has a
    session goes on.
    """

    def __init__(self, token: SecretStr | None, now_ms: Callable[[], int]) -> None:
        self.guarded = token is not None
        self._token = b"" if token is None else token.get_secret_value().encode()
        self._now_ms = now_ms
        self._wrong: OrderedDict[str, tuple[int, int]] = OrderedDict()  # how many, since when

    def admits(self, request: web.Request) -> bool:
        """Whether this request may be answered."""
        if not self.guarded:
            return _local(request)
        if self._knows(request.cookies.get(COOKIE, "")):
            return True
        scheme, _, offered = request.headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self.takes(request, offered)

    def takes(self, request: web.Request, offered: str) -> bool:
        """Whether `offered` is the token, compared in constant time; a wrong one is counted."""
        if not self.guarded or self._locked_ms(request) > 0:
            return False
        if hmac.compare_digest(self._token, _bytes(offered.strip())):
            return True
        address, now_ms = request.remote or "", self._now_ms()
        count, since_ms = self._wrong.get(address, (0, now_ms))
        if now_ms - since_ms >= LOCKED_MS:
            count, since_ms = 0, now_ms
        self._wrong[address] = (count + 1, since_ms)
        if count + 1 == GUESSES_MAX:
            log.warning("too many wrong tokens: not listening for a while", address=address)
        while len(self._wrong) > ADDRESSES_MAX:
            self._wrong.popitem(last=False)
        return False

    def session(self, lasting_ms: int) -> str:
        """What a browser's cookie holds in the token's place: of no use as the token itself."""
        until_ms = self._now_ms() + lasting_ms
        return f"{until_ms}.{self._signature(str(until_ms))}"

    def refusal(self, request: web.Request) -> web.Response:
        """401 where a token would help, 429 after too many, 403 where only this machine may ask."""
        if not self.guarded:
            return problem(
                403, "only this machine may ask: set FLASHCAST_WEB_TOKEN to serve others"
            )
        locked_ms = self._locked_ms(request)
        if locked_ms > 0:
            response = problem(429, "too many wrong tokens from this address: wait")
            response.headers["Retry-After"] = str(-(-locked_ms // 1_000))
            return response
        response = problem(
            401, "a bearer token is required: Authorization: Bearer <FLASHCAST_WEB_TOKEN>"
        )
        response.headers["WWW-Authenticate"] = 'Bearer realm="flashcast"'
        return response

    def _locked_ms(self, request: web.Request) -> int:
        """For how much longer this address is not listened to."""
        count, since_ms = self._wrong.get(request.remote or "", (0, 0))
        return max(0, since_ms + LOCKED_MS - self._now_ms()) if count >= GUESSES_MAX else 0

    def _knows(self, cookie: str) -> bool:
        until_ms, _, signature = cookie.partition(".")
        if not hmac.compare_digest(_bytes(self._signature(until_ms)), _bytes(signature)):
            return False
        return self._now_ms() < int(until_ms)  # signed by us: a number

    def _signature(self, until_ms: str) -> str:
        told = b"flashcast session until " + _bytes(until_ms)
        return hmac.new(self._token, told, hashlib.sha256).hexdigest()


def _bytes(text: str) -> bytes:
    """As it was sent: what is not UTF-8 in a header comes as surrogates."""
    return text.encode(errors="surrogateescape")


def _local(request: web.Request) -> bool:
    """Whether both names that a browser tells are this machine's. No `Host`: it is no browser, and
    no client of ours.
    """
    origin = request.headers.get("Origin")
    return _host(f"//{request.headers.get('Host', '')}") in LOOPBACK and (
        origin is None or _host(origin) in LOOPBACK
    )


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _foreign(request: web.Request) -> bool:
    """A browser asks on behalf of another site's page. To follow a link from there is fine."""
    if request.headers.get("Sec-Fetch-Site") not in ("cross-site", "same-site"):
        return False
    return request.method != "GET" or request.headers.get("Sec-Fetch-Mode") != "navigate"


def problem(status: int, error: str) -> web.Response:
    """A JSON error."""
    return web.json_response({"error": error}, status=status)


@web.middleware
async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Security headers on every answer; errors as JSON that tell nothing of the inside."""
    try:
        response = (
            problem(403, "not for a page of another site")
            if _foreign(request)
            else await handler(request)
        )
    except web.HTTPException as error:
        if error.status < 400:
            raise
        response = problem(error.status, f"{request.method} {request.path}: {error.reason}")
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
    except ConnectionResetError:
        raise  # the client left: nothing to answer
    except Exception:
        log.exception("a web request failed", path=request.path)
        response = problem(500, "internal error: see the log")
    if not response.prepared:
        response.headers.update({k: v for k, v in HEADERS.items() if k not in response.headers})
    return response
