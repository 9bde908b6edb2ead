"""Answers from the machines of a Ray cluster. Workers answer some pictures at a time; whoever asks keeps the record.

A worker that dies has its pictures answered again, by Ray, and nothing is kept of what it did not finish. All machines
see the bundle and the pictures under the same paths; one that does not is named, and its answers are not taken.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, final

from fieldmark.answering.answers import Answer, Picture, answers
from fieldmark.answering.predictor import Predictor
from fieldmark.answering.stream import BATCH
from fieldmark.core.errors import FieldmarkError, RunError
from fieldmark.core.listener import Listener
from fieldmark.core.machine import AUTO
from fieldmark.core.version import version
from fieldmark.runs.bundle import Bundle

__all__ = ["Cluster"]

_AT_ONCE = 2 * BATCH
"""Pictures of a piece of work. While the network computes one batch, the next is decoded."""
_RETRIES = 3
"""How often a piece of work is done again whose worker died. Pictures that kill every worker must have an end."""
_SECONDS = 5.0
"""For reaching the cluster. Ray itself would go on trying for minutes."""
_PATIENCE = 30.0
"""Seconds of waiting for answers after which whoever asks can stop."""
_LACKING = re.compile(r"No module named '[^']+'")
_START = "Start one with: ray start --head. Or name one that runs: RAY_ADDRESS=HOST:6379."


class _Job(NamedTuple):
    """What all pieces of work have in common."""

    bundle: Path
    state: str
    folder: str
    """Where paths begin that are relative."""
    confidence: float
    device: str
    version: str
    """Fieldmark's own."""


class _Done(NamedTuple):
    """What a worker has found."""

    answers: list[Answer]
    absent: list[str]
    """The pictures that are not there, as far as it sees."""
    machine: str


@final
@dataclass(frozen=True)
class Cluster:
    """The cluster that `RAY_ADDRESS` names, or else the one that this machine belongs to."""

    bundle: Bundle
    device: str = AUTO
    listener: Listener = field(default_factory=Listener)

    def __post_init__(self) -> None:
        """Raises RunError if Ray is not installed, there is no cluster, or it has nothing to answer with."""
        if self.bundle.folder is None:
            raise RunError("Only a bundle that was saved can be sent to a cluster", "Save it, and name the folder.")
        _join()
        self._gpus()

    def answers(self, pictures: Iterable[Picture], *, confidence: float = 0.0) -> Iterator[list[Answer]]:
        """As `fieldmark.answering.answers.answers`, in no order.

        Raises RunError if workers die again and again, or a machine does not see the bundle or the pictures.
        """
        import ray

        assert self.bundle.folder is not None
        bundle = self.bundle.folder.absolute()  # where a link leads is each machine's own business
        job = _Job(bundle, self.bundle.state, os.getcwd(), confidence, self.device, version())
        answered: Any = ray.remote(
            num_cpus=1, num_gpus=self._gpus(), max_retries=_RETRIES, max_calls=0, scheduling_strategy="SPREAD"
        )(_answered)
        source = iter(pictures)
        waiting: dict[Any, list[Picture]] = {}
        told = False
        try:
            while True:
                while len(waiting) < self._most_waiting(ray) and (some := list(islice(source, _AT_ONCE))):
                    waiting[answered.remote(job, some)] = some
                if not waiting:
                    return
                done, _ = ray.wait(list(waiting), num_returns=1, timeout=_PATIENCE)
                if not done and not told:
                    told = True
                    self.listener.note(
                        f"No machine has answered for {_PATIENCE:.0f} s: all of the cluster may be busy with other work"
                    )
                yield _taken(done[0], waiting.pop(done[0])) if done else []
        finally:
            for one in waiting:
                ray.cancel(one)

    def _gpus(self) -> int:
        """How many a piece of work needs. Raises RunError if the cluster lacks what it needs: Ray would wait for it."""
        import ray

        there: Mapping[str, float] = ray.cluster_resources()
        if there.get("CPU", 0) < 1:
            raise RunError("The Ray cluster has no cores to answer with", "Give it some: ray start --num-cpus 8.")
        needed, found = self.device.startswith("cuda"), there.get("GPU", 0) >= 1
        if needed and not found:
            raise RunError(
                f"--device {self.device}: no machine of the Ray cluster has a GPU",
                "Answer with --device cpu, or give it a machine with one: ray start --num-gpus 1.",
            )
        return int(found and (needed or self.device == AUTO))

    @staticmethod
    def _most_waiting(ray: Any) -> int:
        """Pieces of work that wait or are done: enough that a cluster which may grow sees why it should."""
        return 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))


def _taken(one: Any, asked: list[Picture]) -> list[Answer]:
    """The answers of a piece of work, when it is done. Raises RunError."""
    import ray

    try:
        done: _Done = ray.get(one)
    except ray.exceptions.RayTaskError as error:
        raise _meant(error.cause) from None
    except ray.exceptions.RayError as error:
        raise _died(error, asked) from None
    if here := [path for path in done.absent if os.path.lexists(path)]:
        raise RunError(
            f"{done.machine} does not see {here[0]}, which is here",
            "All machines of the cluster need the pictures under the same paths, as on a shared file system.",
        )
    return done.answers


def _died(error: Exception, asked: Sequence[Picture]) -> RunError:
    """What it means that Ray gives a piece of work up."""
    first, *_ = [*str(error).strip().splitlines(), type(error).__name__]
    return RunError(
        f"Workers die again and again at pictures from {asked[0].thing.name} to {asked[-1].thing.name}: {first[:200]}",
        "If their machines lack memory, start Ray with fewer cores: ray start --num-cpus 8. Then go on with --resume.",
    )


def _meant(cause: Exception) -> Exception:
    """What an error of a worker means: a package that it lacks is told by Ray in many ways."""
    if not isinstance(cause, FieldmarkError) and (lacking := _LACKING.search(str(cause))):
        return RunError(f"A machine of the cluster cannot answer: {lacking[0]}", "Install Fieldmark on all of them.")
    return cause


def _answered(job: _Job, pictures: list[Picture]) -> _Done:
    """What a worker does. Raises FieldmarkError."""
    if version() != job.version:
        raise RunError(
            f"{platform.node()} has Fieldmark {version()}, and {job.version} is asking",
            "Install the same version on all machines of the cluster.",
        )
    if not all(os.path.isabs(picture.thing.name) for picture in pictures):
        _work_in(job.folder)
    found = answers(_predictor(job.bundle, job.state, job.device), pictures, confidence=job.confidence)
    told = [answer for some in found for answer in some]
    absent = [one.path for one in told if one.skipped and not os.path.lexists(one.path)]
    return _Done(told, absent, platform.node())


def _work_in(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise RunError(
            f"{platform.node()} cannot work in {folder}: {error.strerror}",
            "All machines of the cluster need the same folders, as on a shared file system.",
        ) from None


@lru_cache(maxsize=1)
def _predictor(folder: Path, state: str, device: str) -> Predictor:
    """A worker's own, which it keeps."""
    predictor = Predictor.load(folder, device=device)
    if predictor.bundle.state != state:
        raise RunError(f"{folder} is another model on {platform.node()}", "Wait until it is copied, and try again.")
    return predictor


# ---- joining


def _join() -> None:
    if importlib.util.find_spec("ray") is None:
        raise RunError("Ray is not installed", "Install it with: pip install 'fieldmark[ray]'.")
    import logging

    import ray

    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS", "auto")
    _check_reachable(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError:
        raise RunError("There is no Ray cluster on this machine", _START) from None
    except (RuntimeError, ValueError) as error:  # of another version, or no address at all
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"The Ray cluster at {address} cannot be used: {reason}", _START) from None


def _check_reachable(address: str) -> None:
    """Raise RunError if nothing answers at HOST:PORT."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal() or not host:
        return
    try:
        socket.create_connection((host, int(port)), _SECONDS).close()
    except OSError as error:
        raise RunError(
            f"There is no Ray cluster at {address}: {(error.strerror or str(error)).lower()}", _START
        ) from None
