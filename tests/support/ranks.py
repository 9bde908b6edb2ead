"""Processes that train together, on this machine: forked, so that nothing is imported anew."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fieldmark.core.ranks import joined

__all__ = ["forks", "in_processes", "in_ranks"]

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
_PATIENCE = 120
"""Seconds."""


def in_ranks(count: int, act: Callable[[], Any]) -> list[Any]:
    """What `act` returns in each of so many processes that have joined, in the order of ranks."""

    def join() -> Any:
        with joined():
            return act()

    return in_processes(count, join)


def in_processes(count: int, act: Callable[[], Any]) -> list[Any]:
    """The same of processes that were launched, and have not joined."""
    answers = answers_of(count, act)
    for good, result in answers:
        assert good, result
    return [result for _, result in answers]


def answers_of(count: int, act: Callable[[], Any]) -> list[tuple[bool, Any]]:
    """For each of them whether it returned, and what, or else how it ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(count)]
    children = [context.Process(target=_act, args=(rank, count, port, act, end)) for rank, (_, end) in enumerate(pipes)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads
        for child in children:
            child.start()
    try:
        for _, end in pipes:
            end.close()  # so that an end that nobody holds any longer is noticed
        return [_answer(end) for end, _ in pipes]
    finally:
        for child in children:
            child.kill()
            child.join()


def _answer(end: Any) -> tuple[bool, Any]:
    try:
        answer: tuple[bool, Any] = pickle.loads(end.recv_bytes()) if end.poll(_PATIENCE) else (False, "no answer")
    except EOFError:  # it was killed
        return False, "no answer"
    return answer


def _act(rank: int, count: int, port: int, act: Callable[[], Any], end: Any) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    try:
        answer = True, act()
    except BaseException:  # the parent raises it; an exit counts, too
        answer = False, traceback.format_exc()
    end.send_bytes(pickle.dumps(answer))  # a tensor would travel as a handle, whose owner ends
