"""Listening: uvicorn, with patience for neither slow nor silent connections, until it is told to stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any, final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from fieldmark.core.errors import RunError
from fieldmark.serving.guard import EVERYWHERE, in_address

__all__ = ["address_of", "bound", "server_of"]

_SILENCE = 15.0
"""Seconds after which a connection is closed on which no request is at work: its headers do not come, or go on for
ever, or a body that was refused does."""
_UNREAD = 30.0
"""Seconds after which a connection is closed whose other end does not read its answer."""
_MOST_CONNECTIONS = 1024


@final
class _Impatient(H11Protocol):
    """A connection that does not wait for ever."""

    _silence: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._silence = self.loop.call_later(_SILENCE, transport.abort)
        if len(self.connections) > _MOST_CONNECTIONS:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete and self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def on_response_complete(self) -> None:
        if self._silence is None and not self.transport.is_closing():
            self._silence = self.loop.call_later(_SILENCE, self.transport.abort)
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(_UNREAD, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()

    def _cancel(self) -> None:
        for one in (self._silence, self._unread):
            if one is not None:
                one.cancel()


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 is any that is free. Raises RunError if that is not possible."""
    try:
        (family, *_, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return socket.create_server(address[:2], family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(
            f"Nothing can listen at {host}, port {port}: {reason}", "Choose another one with --port."
        ) from None


def address_of(opened: socket.socket, host: str, names: Sequence[str] = ()) -> str:
    """What to type into a browser. A socket that listens everywhere is asked for by the first of the names, if any."""
    if host in EVERYWHERE:
        host = names[0] if names else socket.gethostname()
    return f"http://{in_address(host)}:{opened.getsockname()[1]}/"


def server_of(app: ASGIApp, *, seconds_to_stop: float, ready: Callable[[], None]) -> uvicorn.Server:
    """What answers at a socket (`run(sockets=[…])`) until SIGTERM or Ctrl-C. What was accepted by then is answered, if
    that takes no longer than so many seconds.

    `ready` is called once connections are accepted.
    """
    config = uvicorn.Config(
        app,
        http=_Impatient,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=round(seconds_to_stop),
        backlog=_MOST_CONNECTIONS,
    )
    return _Server(config, ready)


@final
class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()
