"""Backbones: which networks can be trained from pretrained weights here, without a download."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

from fieldmark.core.errors import RecipeError
from fieldmark.core.listener import Listener
from fieldmark.core.recipe import Backbone, Images
from fieldmark.model.at_hand import weights_at_hand
from fieldmark.model.license import weights_license

__all__ = ["AtHand", "backbones"]

_BATCH, _ROUNDS = 8, 4


@dataclass(frozen=True)
class AtHand:
    """A backbone whose weights are on this machine."""

    name: str
    """In timm; what `--backbone` takes."""
    source: Literal["installed", "hub"]
    """"hub": downloaded before."""
    megabytes: float
    """Of the file."""
    license: str
    num_parameters: int
    """Without a head."""
    images_per_second: float | None
    """Of answering, on this machine's processor, without decoding; None if it was not measured."""
    size: int
    """Side of these images, in pixels."""
    threads: int
    """With which this processor computes."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return dict(vars(self))


def backbones(*, speed: bool = True, listener: Listener | None = None) -> list[AtHand]:
    """The backbones whose weights are at hand, those that are installed first.

    With `speed`, each answers a few batches of noise at the usual size, which takes seconds. Models that cannot be a
    backbone and packages that are damaged are passed over, and `listener` hears why.
    """
    import torch

    from fieldmark.core.memory import keep_freed_memory
    from fieldmark.model.backbone import rehearsed_backbone

    keep_freed_memory()
    listener = listener or Listener()
    found = list(weights_at_hand(listener))
    made: list[AtHand] = []
    with listener.progress("Measuring") as tick:
        for done, (name, source, file) in enumerate(found):
            tick(done, len(found), name)
            choice, size = Backbone(name=name, weights=source), Images().size
            try:
                network = rehearsed_backbone(choice, size=size)
            except RecipeError as error:
                listener.note(f"{error.problem}, so {name} is passed over")
                continue
            made.append(
                AtHand(
                    name,
                    source,
                    round(file.stat().st_size / 1e6, 1),
                    weights_license(choice),
                    sum(weight.numel() for weight in network.parameters()),
                    _speed(network, size) if speed else None,
                    size,
                    torch.get_num_threads(),
                )
            )
        tick(len(found), len(found))
    return made


def _speed(network: Any, size: int) -> float:
    """Images a second: the best round, since other work only takes time away."""
    import torch

    noise = torch.rand(_BATCH, 3, size, size).contiguous(memory_format=torch.channels_last)
    network.to(memory_format=torch.channels_last)
    best = float("inf")
    with torch.inference_mode():
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            network(noise)
            best = min(best, time.perf_counter() - began)
    return round(_BATCH / best, 1)
