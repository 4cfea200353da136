"""Who may read the web endpoints: a bearer token, or anyone on this machine when there is none.

Without a token only loopback is served, and then the `Host` header must be loopback too, so that a
web page elsewhere cannot read these answers by pointing its own name at 127.0.0.1.
"""

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from pydantic import SecretStr

from streams.settings import LOOPBACK

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
COOKIE: Final = "flashcast_session"
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

log = structlog.get_logger("flashcast.web")


def session(token: SecretStr) -> str:
    """What a browser's cookie holds in the token's place: of no use as the token itself."""
    key = token.get_secret_value().encode()
    return hmac.new(key, b"flashcast session", hashlib.sha256).hexdigest()


def matches(token: SecretStr, offered: str) -> bool:
    """Whether `offered` is the token, compared in constant time."""
    return hmac.compare_digest(token.get_secret_value().encode(), offered.encode())


def allowed(request: web.Request, token: SecretStr | None) -> bool:
    """Whether this request shows the token, as a bearer or by the cookie made from it."""
    if token is None:
        return urlsplit(f"//{request.host}").hostname in LOOPBACK
    scheme, _, offered = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and matches(token, offered.strip()):
        return True
    return hmac.compare_digest(session(token), request.cookies.get(COOKIE, ""))


def refusal(token: SecretStr | None) -> web.Response:
    """401 where a token would help, 403 where only this machine may ask."""
    if token is None:
        return problem(403, "only this machine may ask: set FLASHCAST_WEB_TOKEN to serve others")
    response = problem(
        401, "a bearer token is required: Authorization: Bearer <FLASHCAST_WEB_TOKEN>"
    )
    response.headers["WWW-Authenticate"] = 'Bearer realm="flashcast"'
    return response


def problem(status: int, error: str) -> web.Response:
    """A JSON error."""
    return web.json_response({"error": error}, status=status)


@web.middleware
async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Security headers on every answer; errors as JSON that tell nothing of the inside."""
    try:
        response = await handler(request)
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
