"""A network that torch.compile has made faster, for the steps of a training and for nothing else.

Compiled functions stand for the network's own only while a step lasts. So the module, its names and its hooks stay what
they are: checkpoints, copies, averages and answers know nothing of it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["Compiled", "has_compiler"]

_FORWARD = ("forward_features", "forward_intermediates")
"""What backbones are asked for; see `fieldmark.model.backbone`."""


class Compiled:
    """A network whose forward pass is compiled when it is first used. If that fails, `tell` hears why, once, and the
    network computes as it is.
    """

    def __init__(self, network: Any, tell: Callable[[str], None]) -> None:
        self._network = network
        self._tell = tell
        self._works = True
        plain = {name: getattr(network, name) for name in _FORWARD if hasattr(network, name)}
        self._faster = {name: self._guarded(forward) for name, forward in plain.items()}

    @contextmanager
    def applied(self) -> Iterator[None]:
        """While this lasts, the network is the compiled one."""
        for name, forward in self._faster.items():
            setattr(self._network, name, forward)
        try:
            yield
        finally:  # before anybody copies the network
            for name in self._faster:
                delattr(self._network, name)

    def _guarded(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        from torch._dynamo.exc import TorchDynamoException

        try:
            fast = torch.compile(plain)
        except RuntimeError as error:  # a Python that it does not know
            self._give_up(error)
            return plain

        def forward(*args: Any, **options: Any) -> Any:
            if self._works:
                try:
                    return fast(*args, **options)
                except TorchDynamoException as error:
                    self._give_up(error)
            return plain(*args, **options)

        return forward

    def _give_up(self, error: Exception) -> None:
        if self._works:
            self._works = False
            lines = map(str.strip, str(error).splitlines())  # torch's own text has many
            why = next((line for line in lines if line and not line.endswith("raised:")), type(error).__name__)[:200]
            self._tell(f"The network could not be compiled, so it computes as it is ({why})")


def has_compiler(device: str) -> bool:
    """Whether this machine has what torch.compile needs: a C++ compiler, and Triton for a GPU."""
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("g++", "clang++", "cl")), None)
    return compiler is not None and (device == "cpu" or importlib.util.find_spec("triton") is not None)
