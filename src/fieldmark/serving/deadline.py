"""Waiting for work that other threads do, as long as a request has time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TypeVar

from fieldmark.serving.refusal import late

__all__ = ["all_in_time", "in_time"]

T = TypeVar("T")


async def in_time(work: Future[T], seconds: float) -> T:
    """What was worked out. Raises Refusal if it takes longer; what has not begun is then left."""
    return (await all_in_time([work], seconds))[0]


async def all_in_time(work: Sequence[Future[T]], seconds: float) -> list[T]:
    """The same of several pieces of work, which have this time together."""
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.gather(*map(asyncio.wrap_future, work))
    except TimeoutError:
        raise late(seconds) from None
