"""Reading a picture from a request: so many bytes, in so much time, and so many at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple, final

from starlette.requests import ClientDisconnect, Request

from fieldmark.serving.limits import Limits
from fieldmark.serving.refusal import Refusal, busy

__all__ = ["PICTURE", "Bodies", "ClientDisconnect", "Kind"]


class Kind(NamedTuple):
    """What a body should be."""

    noun: str
    types: tuple[str, ...]
    """How its content type begins, if one is given: curl says "application/x-www-form-urlencoded" of whatever it
    sends."""
    how: str
    """How to send one."""


_BYTES = ("application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded")
PICTURE = Kind("picture", ("image/", *_BYTES), "Send the file itself as the body: curl --data-binary @photo.jpg.")


@final
class Bodies:
    """The pictures that are being sent or waiting, whose bytes are counted."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held = 0
        """In bytes."""

    @asynccontextmanager
    async def read(self, request: Request, kind: Kind = PICTURE) -> AsyncIterator[bytes]:
        """The picture in a request, or a body of another kind, which counts as held in this context.

        Raises Refusal for what is none by its type (415), empty (400), too large (413), too slow (408), or one
        too many (429), and ClientDisconnect if whoever sends it goes.
        """
        given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if given and not given.startswith(kind.types):
            raise Refusal(415, f"The body is {given[:60]!r} and not a {kind.noun}", kind.how)
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Refusal(415, "The body is compressed", kind.how)
        self._check_size(int(length) if (length := request.headers.get("content-length", "")).isdecimal() else 0, kind)
        data, size = bytearray(), 0
        try:
            await self._receive(request, data, kind)
            body, size = bytes(data), len(data)
            data.clear()  # what is held twice would be counted once
            yield body
        finally:
            self.held -= size or len(data)

    async def _receive(self, request: Request, data: bytearray, kind: Kind) -> None:
        """Add what is sent to the data."""
        seconds = self.limits.sending_seconds
        try:
            async with asyncio.timeout(seconds):
                async for chunk in request.stream():
                    self._check_size(len(data) + len(chunk), kind)
                    data += chunk
                    self.held += len(chunk)
                    if self.held > self.limits.held:
                        raise busy(1)
        except TimeoutError:
            raise Refusal(408, f"The {kind.noun} was not sent within {seconds:g} s", "Send a smaller one.") from None
        if not data:
            raise Refusal(400, f"There is no {kind.noun} in the body", kind.how)

    def _check_size(self, size: int, kind: Kind) -> None:
        most = self.limits.body
        if size > most:
            raise Refusal(413, f"The {kind.noun} is larger than {most / 2**20:g} MB", "Make it smaller.")
