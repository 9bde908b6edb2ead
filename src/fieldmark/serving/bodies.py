"""Reading a picture from a request: so many bytes, in so much time, and so many at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import final

from starlette.requests import ClientDisconnect, Request

from fieldmark.serving.limits import Limits
from fieldmark.serving.refusal import Refusal, busy

__all__ = ["Bodies", "ClientDisconnect"]

_HOW = "Send the file itself as the body: curl --data-binary @photo.jpg."
_BYTES = {"application/x-www-form-urlencoded", "application/octet-stream", "binary/octet-stream"}
"""What may also be a picture: curl says the first of whatever it sends."""


@final
class Bodies:
    """The pictures that are being sent or waiting, whose bytes are counted."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held = 0
        """In bytes."""

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The picture in a request, which counts as held in this context.

        Raises Refusal for what is no picture by its type (415), empty (400), too large (413), too slow (408), or one
        too many (429), and ClientDisconnect if whoever sends it goes.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind and not kind.startswith("image/") and kind not in _BYTES:
            raise Refusal(415, f"The body is {kind[:60]!r} and not a picture", _HOW)
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Refusal(415, "The body is compressed", _HOW)
        self._check_size(int(length) if (length := request.headers.get("content-length", "")).isdecimal() else 0)
        data = bytearray()
        try:
            await self._receive(request, data)
            yield bytes(data)
        finally:
            self.held -= len(data)

    async def _receive(self, request: Request, data: bytearray) -> None:
        """Add what is sent to the data."""
        seconds = self.limits.sending_seconds
        try:
            async with asyncio.timeout(seconds):
                async for chunk in request.stream():
                    self._check_size(len(data) + len(chunk))
                    data += chunk
                    self.held += len(chunk)
                    if self.held > self.limits.held:
                        raise busy(1)
        except TimeoutError:
            raise Refusal(408, f"The picture was not sent within {seconds:g} s", "Send a smaller one.") from None
        if not data:
            raise Refusal(400, "There is no picture in the body", _HOW)

    def _check_size(self, size: int) -> None:
        most = self.limits.body
        if size > most:
            raise Refusal(413, f"The picture is larger than {most / 2**20:g} MB", "Make it smaller.")
