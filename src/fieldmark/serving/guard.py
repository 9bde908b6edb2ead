"""`Guard`: what every request passes before it is answered, and what every answer says to browsers.

A page of another site may not use the service through somebody's browser, whether it asks for it by another name (DNS
rebinding: `Host`) or sends what needs no permission (`Origin`). Where the service is opened, a token is asked for.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fieldmark.core.errors import RunError
from fieldmark.serving.refusal import Refusal

__all__ = ["EVERYWHERE", "LOOPBACK", "Guard", "hosts_of", "in_address", "is_loopback", "refused", "token_of"]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
EVERYWHERE = frozenset({"0.0.0.0", "::", ""})
"""What to listen at for every address of this machine; none of them is an address to ask for."""
_HEALTH = frozenset({"/health", "/v2/health/live", "/v2/health/ready"})
_OPEN = _HEALTH | {"/", "/api", "/offline.js", "/openapi.json"}
"""What says nothing about the run, and needs no token."""
_SAFE = frozenset({"GET", "HEAD"})
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
NOTHING = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
"""The policy of whatever is no page."""

Heard = Callable[[str, int, float], None]
"""Hears the route, the status and the seconds of each request. What has no route is "other": anybody may ask for any
path."""


def is_loopback(host: str) -> bool:
    """Whether an address to listen at can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refused(refusal: Refusal, path: str) -> JSONResponse:
    """A refusal as it is sent to whoever asked for this path: the open inference protocol knows no hints."""
    headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if refusal.status == 408:
        headers["Connection"] = "close"  # the rest of it is not waited for
    protocol = path.startswith("/v2")
    told = {"error": str(refusal)} if protocol else {"error": refusal.problem, "hint": refusal.hint}
    return JSONResponse(told, refusal.status, headers)


@final
class Guard:
    """An ASGI application in front of another one."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        hosts: Collection[str] | None,
        most_requests: int,
        heard: Heard | None = None,
    ) -> None:
        """`hosts` are the names by which the service may be asked for, without ports; None for any."""
        self._app, self._hosts, self._most, self._heard = app, hosts, most_requests, heard
        # a page of the loopback may be anybody's: whatever else this machine serves
        self._sites = {name for name in hosts or () if not is_loopback(name.strip("[]"))}
        self._token = None if token is None else token.encode()
        self._at_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, told = time.monotonic(), list[int]()

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                told.append(message["status"])
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Content-Security-Policy", NOTHING)
            await send(message)

        self._at_work += 1
        try:
            refusal = self._refusal(scope)
            await (self._app if refusal is None else refused(refusal, scope["path"]))(scope, receive, marked)
        finally:
            self._at_work -= 1
            if self._heard is not None:
                route = getattr(scope.get("route"), "path", "other")
                self._heard(route, told[0] if told else 499, time.monotonic() - begun)

    def _refusal(self, scope: Scope) -> Refusal | None:
        """Why a request is not even looked at; None if it is."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        probe = scope["path"] in _HEALTH  # it asks by address, and learns nothing
        if self._hosts is not None and _name(host) not in self._hosts and not probe:
            return Refusal(421, "This service is not known by that name", "Ask for it as localhost, or see --name.")
        origin = headers.get("origin")
        if scope["method"] not in _SAFE and origin is not None and not self._is_own(origin, host):
            return Refusal(403, "A page of another site may not use this service", "Open the service's own page.")
        if self._at_work > self._most and not probe:
            return Refusal(503, "Too many requests are at work", "Try again in 2 s.", retry_after=2)
        if self._token is not None and scope["path"] not in _OPEN and not self._knows(headers.get("authorization", "")):
            return Refusal(401, "The token is missing or wrong", "Send it as: Authorization: Bearer TOKEN.")
        return None

    def _is_own(self, origin: str, host: str) -> bool:
        """Whether a page is the service's own. Behind a web server, `Host` may be what only that one says."""
        site = origin.partition("://")[2]
        return site == host or _name(site) in self._sites

    def _knows(self, authorization: str) -> bool:
        kind, _, given = authorization.partition(" ")
        assert self._token is not None
        return kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token)


def _name(host: str) -> str:
    """A host without its port: "localhost" of "localhost:8000"."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and (port.isdecimal() or not port) else host.lower()


def in_address(host: str) -> str:
    """A host as it stands in an address: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def hosts_of(names: Iterable[str], *, host: str) -> frozenset[str] | None:
    """The names by which a service that listens at `host` may be asked for; None for any, where a token protects it and
    no names were given."""
    named = frozenset(name.lower() for name in names)
    if not named and not is_loopback(host):
        return None
    return named | LOOPBACK | ({in_address(host).lower()} if host not in EVERYWHERE else set())


def token_of(file: Path | str | None) -> str:
    """The token in a file, or a new one. Raises RunError for a file that cannot be read, or holds too short a one."""
    if file is None:
        return secrets.token_urlsafe(24)
    try:
        token = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise RunError(f"The token in {file} cannot be read: {error}", "Write one line into it.") from None
    if len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
        raise RunError(f"The token in {file} is none", "It must have at least 16 letters and digits, and no blanks.")
    return token
