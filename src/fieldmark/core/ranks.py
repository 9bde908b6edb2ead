"""Processes that train one model together, as torchrun starts them. No other module knows of torch.distributed.

The first process (rank 0) leads: it reads, decides, evaluates, writes and speaks, as it would alone, and where steps
are to be taken it sends the others a `Job`. They follow: they wait, carry a job out, and wait again. So no sample is
scored twice, and errors and requests to stop are the leader's alone to tell. Within a job all processes do the same:
each has its `share` of every batch, and they exchange what depends on all of it.

Where torchrun started one process, or none, there is no group, and everything here does what is right for one.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from fieldmark.core.errors import LeaderlessError, RankError, TrainingError
from fieldmark.core.launch import elastic, follows, launched, local_rank, restarts
from fieldmark.core.reading import reason

__all__ = [
    "Job",
    "assemble",
    "began",
    "divided",
    "follow",
    "gathered",
    "joined",
    "led",
    "rank",
    "settle_device",
    "share",
    "size",
    "spread",
    "summed",
    "together",
    "told",
    "was_begun",
]

Job = Callable[[], None]
"""What the leader has the others do. It is pickled."""

_T = TypeVar("_T")
_P = ParamSpec("_P")
_PATIENCE: Final = timedelta(days=7)
"""How long followers wait for a leader who evaluates. A process that has died is noticed at once all the same."""
_LIBRARY: Final = re.compile(r"^\[\S+\] ")
"""The place in the library's source that an error of gloo begins with."""
_LOOK: Final = 1.0
"""Seconds between two looks at whether torchrun is there."""
_LAST_WORD: Final = 3.0
"""Seconds in which a leader that lives notices what its followers have noticed, and speaks."""
_STEP, _JOB, _END = range(3)
"""What the leader says: take the next step; carry out a job; it has ended."""
_ENDED, _TOLD = "ended", "told"
"""What is left in the store: that the leader has ended of itself, and that a follower has said that it has not."""


@dataclass
class _Group:
    """The processes as one of them knows them."""

    rank: int
    size: int
    control: Any
    """Carries what the leader says."""
    exchange: Any
    """Carries what is exchanged within a step."""
    store: Any = None
    """Where the processes found each other; None if somebody else brought them together."""
    words: Any = None
    """The same, for these processes and none that torchrun starts after them."""
    on_cpu: bool = True
    """Whether `exchange` carries tensors of the processor only."""
    device: str = ""
    kept: list[int] = field(default_factory=list)
    """What the leader has said already, and was not about a step."""


_group: _Group | None = None
_divided = False
"""Whether only a piece of a batch is being computed."""


def rank() -> int:
    """The number of this process; 0 if it leads or is alone."""
    return _group.rank if _group else 0


def size() -> int:
    """How many processes train together; 1 if this one is alone."""
    return _group.size if _group else 1


def share(count: int) -> slice:
    """Which of so many things in a row are this process's. Shares differ by one at most."""
    return slice(rank() * count // size(), (rank() + 1) * count // size())


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """While this lasts, the processes that were launched are one group. RankError if they do not come together."""
    global _group
    store = round_ = None
    with _heard():
        if not dist.is_initialized():
            store, number, count = next(rendezvous("env://"))
            # torchrun's own store keeps the addresses of processes that have ended when it starts others
            round_ = PrefixStore(f"fieldmark/{restarts()}/{count}", store)
            dist.init_process_group("gloo", store=round_, rank=number, world_size=count)
        control, exchange = dist.new_group(backend="gloo", timeout=_PATIENCE), dist.new_group(backend="gloo")
    _group = _Group(dist.get_rank(), dist.get_world_size(), control, exchange, store, round_)
    if _group.rank == 0 and elastic():
        threading.Thread(target=_outlive, args=(os.getppid(),), daemon=True).start()
    try:
        yield
    finally:
        _group = None
        if store is not None:
            dist.destroy_process_group()


def _outlive(launcher: int) -> None:
    """Ask this process to stop once torchrun is gone: it would go on unseen, and nobody could resume its run."""
    while _group:
        if os.getppid() != launcher:
            os.kill(os.getpid(), signal.SIGTERM)
            return
        time.sleep(_LOOK)


@contextlib.contextmanager
def _heard() -> Iterator[None]:
    """Turn what the network says into a RankError."""
    try:
        yield
    except RuntimeError as error:
        raise RankError(
            f"Another process of this training has ended, or cannot be reached ({_LIBRARY.sub('', reason(error))})",
            "If it said why, that is above. The last checkpoint is intact: continue with --resume.",
        ) from error


# ---- the leader and its followers


def led(act: Callable[_P, _T]) -> Callable[_P, _T]:
    """Have only the first process do this where several were launched; the others follow, and return what it did.

    If it fails they raise RankError: what was wrong is the first one's to say.
    """

    @wraps(act)
    def led_act(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        if _group or not launched():
            return act(*args, **kwargs)
        if follows():
            found: _T = follow()
            return found
        results: list[_T] = []
        with joined():
            try:
                results.append(act(*args, **kwargs))
            finally:
                _leave_word(_ENDED)
                with contextlib.suppress(RankError):  # those that are gone need not be told
                    _say(_END, results)
        return results[0]

    return led_act


def follow() -> Any:
    """Carry out what the first process asks for until it has ended, and return what it returned.

    Ctrl-C and SIGTERM are for the leader to hear: it ends after a step, which needs everybody. Raises RankError if the
    leader failed, LeaderlessError if it can say nothing any more, and whatever goes wrong here alone.
    """
    with joined(), _deaf():
        try:
            results = _followed()
        except RankError as error:
            if _speaks_for_all():
                raise LeaderlessError(error.problem, error.hint) from error
            raise
        if not results:
            raise RankError("The first process of this training has failed", "It says why.")
        return results[0]


def _followed() -> list[Any]:
    """What the leader has returned, once it has ended; [] if it failed."""
    while True:
        word, found = _hear()
        if word != _JOB:
            return list(found)
        with contextlib.suppress(TrainingError):  # of the whole batch: the leader has met it, too
            found()


def _leave_word(key: str) -> bool:
    """Leave a word for the other processes; whether nobody has left it before."""
    with contextlib.suppress(RuntimeError):  # the store may be gone
        return bool(_group and _group.words is not None and _group.words.add(key, 1) == 1)
    return False


def _speaks_for_all() -> bool:
    """Whether the leader has ended without a word, and no other follower has said so."""
    if _group is None or _group.words is None:
        return False
    deadline = time.monotonic() + _LAST_WORD
    try:
        while not _group.words.check([_ENDED]):
            if time.monotonic() > deadline:
                return _leave_word(_TOLD)
            time.sleep(0.1)
    except RuntimeError:  # the leader kept the store, and took it along
        return _group.rank == 1
    return False


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def assemble(job: Job) -> None:
    """Have all followers begin this job, if there are any; the leader does the same by itself."""
    if _group:
        _say(_JOB, job)


def together(steps: Iterable[_T]) -> Iterator[_T]:
    """These steps, each begun by all processes at once. A follower stops where the leader does."""
    for step in steps:
        if _group and _group.rank:
            if (word := _word(_group)) != _STEP:
                _group.kept.append(word)
                return
        elif _group:
            _say(_STEP)
        yield step


def _say(word: int, *found: object) -> None:
    assert _group
    with _heard():
        dist.broadcast(torch.tensor(word), 0, group=_group.control)
        if found:
            dist.broadcast_object_list(list(found), 0, group=_group.control)


def _word(group: _Group) -> int:
    if group.kept:
        return group.kept.pop()
    word = torch.tensor(_END)
    with _heard():
        dist.broadcast(word, 0, group=group.control)
    return int(word)


def _hear() -> tuple[int, Any]:
    """What the leader says next. Steps of a job that has ended here are passed over."""
    assert _group
    while (word := _word(_group)) == _STEP:
        pass
    found: list[Any] = [None]
    with _heard():
        dist.broadcast_object_list(found, 0, group=_group.control)
    return word, found[0]


# ---- what is exchanged within a job


def told(found: _T) -> list[_T]:
    """What each process has found, in the order of ranks."""
    if not _group:
        return [found]
    every: list[Any] = [None] * _group.size
    with _heard():
        dist.all_gather_object(every, found, group=_group.control)
    return every


def settle_device(device: str) -> str:
    """The device of this process, where the leader has this one; and how tensors travel from now on.

    Each process has the GPU of its number on its machine. NCCL carries what they exchange if none shares a GPU;
    otherwise it goes through the processor.
    """
    if not _group or not device.startswith("cuda"):
        return device
    if not _group.device:
        _group.device = f"cuda:{local_rank() % torch.cuda.device_count()}"
        torch.cuda.set_device(_group.device)
        if len(set(told((socket.gethostname(), _group.device)))) == _group.size and dist.is_nccl_available():
            with _heard():
                _group.exchange, _group.on_cpu = dist.new_group(backend="nccl"), False
    return _group.device


def spread(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The leader's tensors, on the processor of every process; a follower gives none."""
    if not _group:
        return dict(tensors)
    shapes = told({key: (value.shape, value.dtype) for key, value in tensors.items()})[0]
    found = {}
    with _heard():
        for key, (shape, dtype) in shapes.items():
            value = torch.empty(shape, dtype=dtype) if _group.rank else tensors[key].detach().cpu().contiguous()
            dist.broadcast(value, 0, group=_group.control)
            found[key] = value
    return found


def summed(tensor: Tensor) -> Tensor:
    """The sum over all processes, in place and without a gradient."""
    if not _group:
        return tensor
    carried = tensor.cpu() if _group.on_cpu else tensor
    with _heard():
        dist.all_reduce(carried, group=_group.exchange)
    return tensor if carried is tensor else tensor.copy_(carried)


def gathered(rows: Tensor) -> Tensor:
    """Rows (B', …) of each process's share → (B, …) of the whole batch, in its order, everywhere the same.

    The gradient of what follows is summed over the processes and goes back to where the rows came from. So a loss that
    compares a whole batch is weighed as a mean over a share is: by what the process has of the batch.
    """
    if _divided:
        raise TrainingError(
            "Memory does not suffice for a whole batch, and this recipe compares its images, so that it cannot be "
            "computed in pieces",
            "Lower train.batch_size or images.size.",
        )
    if not _group:
        return rows
    found: Tensor = _Gathering.apply(rows)
    return found


@contextlib.contextmanager
def divided() -> Iterator[None]:
    """While this lasts, only a piece of a batch is there: to gather the whole of it raises a TrainingError."""
    global _divided
    _divided = True
    try:
        yield
    finally:
        _divided = False


class _Gathering(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        shares = _of_all(rows.detach())
        start = sum(len(one) for one in shares[: rank()])
        ctx.own = slice(start, start + len(rows))
        return torch.cat(shares)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        return summed(gradient.to(torch.float32, copy=True).contiguous())[ctx.own].to(gradient.dtype)


def _of_all(rows: Tensor) -> list[Tensor]:
    """The rows of each process. What carries them wants equal numbers, so the fewest are filled up on the way."""
    assert _group
    carried = rows.cpu() if _group.on_cpu else rows
    own = torch.tensor([len(rows)], device=carried.device)
    counts = [torch.empty_like(own) for _ in range(_group.size)]
    with _heard():
        dist.all_gather(counts, own, group=_group.exchange)
        numbers = torch.cat(counts).tolist()
        filled = torch.cat([carried, carried.new_zeros(max(numbers) - len(rows), *rows.shape[1:])]).contiguous()
        shares = [torch.empty_like(filled) for _ in numbers]
        dist.all_gather(shares, filled, group=_group.exchange)
    return [one[:number].to(rows.device) for one, number in zip(shares, numbers, strict=True)]


# ---- what outlives the processes


def began(folder: Path) -> None:
    """Let processes that torchrun starts anew know that a training has begun in this folder."""
    if _group and _group.store is not None:
        _group.store.set(_begun(folder), "")


def was_begun(folder: Path) -> bool:
    """Whether processes that torchrun had started before these began a training in this folder."""
    return bool(_group and _group.store is not None and _group.store.check([_begun(folder)]))


def _begun(folder: Path) -> str:
    return f"fieldmark/begun/{folder.resolve()}"
