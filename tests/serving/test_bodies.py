"""Bodies take the memory that is counted."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest
from starlette.requests import Request
from starlette.types import Message

from fieldmark.serving.bodies import Bodies
from fieldmark.serving.limits import Limits
from fieldmark.serving.refusal import Refusal

CHUNK, NUM_CHUNKS = 2**16, 64


def request() -> Request:
    """Somebody who sends 4 MB."""
    left = NUM_CHUNKS

    async def receive() -> Message:
        nonlocal left
        left -= 1
        return {"type": "http.request", "body": bytes(CHUNK), "more_body": left > 0}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


def test_a_body_is_in_memory_once() -> None:
    async def taken(bodies: Bodies) -> int:
        tracemalloc.start()
        try:
            async with bodies.read(request()) as body:
                assert len(body) == bodies.held == CHUNK * NUM_CHUNKS
                return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    bodies = Bodies(Limits())
    assert asyncio.run(taken(bodies)) < 1.1 * CHUNK * NUM_CHUNKS
    assert bodies.held == 0


def test_what_is_refused_is_not_held() -> None:
    async def refused(bodies: Bodies) -> None:
        with pytest.raises(Refusal, match="larger than 1 MB"):
            async with bodies.read(request()):
                pass

    bodies = Bodies(Limits(body=2**20))
    asyncio.run(refused(bodies))
    assert bodies.held == 0
