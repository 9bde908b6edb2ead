"""What torchrun says of the processes that it starts; known without torch. `core/ranks.py` brings them together."""

from __future__ import annotations

import os

__all__ = ["elastic", "follows", "launched", "local_rank", "local_size", "restarts"]

_TOLD = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def launched() -> bool:
    """Whether this is one of several processes that were started to train together."""
    return all(os.environ.get(name) for name in _TOLD) and int(os.environ["WORLD_SIZE"]) > 1


def follows() -> bool:
    """Whether another process leads this one."""
    return launched() and int(os.environ["RANK"]) > 0


def local_rank() -> int:
    """The number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) if launched() else 0


def local_size() -> int:
    """How many of the processes are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if launched() else 1


def elastic() -> bool:
    """Whether torchrun watches over the processes, and lives until they have ended."""
    return launched() and "TORCHELASTIC_RUN_ID" in os.environ


def restarts() -> int:
    """How often torchrun has started the processes anew, since one of them ended."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
