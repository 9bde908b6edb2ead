"""Waiting for work that other threads do, as long as a request has time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import TypeVar

from fieldmark.serving.refusal import late

__all__ = ["in_time", "within"]

T = TypeVar("T")


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Raise Refusal if what is awaited in this context takes longer; what has not begun is then left."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise late(seconds) from None


async def in_time(work: Future[T], seconds: float) -> T:
    """What was worked out. Raises Refusal if it takes longer; what has not begun is then left."""
    async with within(seconds):
        return await asyncio.wrap_future(work)
