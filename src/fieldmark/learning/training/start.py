"""`Start`: what a finished run has learnt, given to a network that has more to learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from fieldmark.core.errors import RunError
from fieldmark.data.task import Task
from fieldmark.model.model import Model
from fieldmark.runs.bundle import Bundle

__all__ = ["Start"]

_ATTRIBUTE = "attributes.linear.{}.{}"


@final
@dataclass(frozen=True)
class Start:
    """The weights of a bundle, as those that a further training begins with."""

    bundle: Bundle

    @torch.no_grad()
    def give(self, model: Model, task: Task) -> None:
        """Copy them into a model whose `task` has the bundle's classes first, and perhaps more behind them.

        Whatever has a row for each class (the weights of a head, centres) has those of the known classes first; the
        rows of new classes stay as the model has them. Values of attributes are found by their names. Raises RunError
        if the weights belong to another network.
        """
        known, own = self.bundle.weights(), model.weights()
        before, now = len(self.bundle.classes), task.num_classes
        assert before <= now
        for key, target in own.items():
            if key.startswith("attributes."):
                continue
            value = known.get(key)
            if value is None or not _fits(value, target, before, now):
                raise RunError(
                    f"The weights in {self.bundle.folder} belong to another network: {key} is "
                    f"{_shape(value)} there, and {_shape(target)} in the new run",
                    "Leave --recipe, --backbone and --set images.size as the run has them.",
                )
            target[: len(value)].copy_(value) if value.ndim else target.copy_(value)
        self._give_attributes(known, own, task)

    def _give_attributes(self, known: Mapping[str, Tensor], own: Mapping[str, Tensor], task: Task) -> None:
        place = {name: at for at, name in enumerate(self.bundle.attributes)}
        for at, attribute in enumerate(task.attributes):
            if attribute.name not in place:
                continue
            values = self.bundle.attributes[attribute.name]
            common = [value for value in attribute.values if value in values]
            there, here = ([among.index(value) for value in common] for among in (values, attribute.values))
            for key in ("weight", "bias"):
                own[_ATTRIBUTE.format(at, key)][here] = known[_ATTRIBUTE.format(place[attribute.name], key)][there]


def _fits(value: Tensor, target: Tensor, before: int, now: int) -> bool:
    """Whether a tensor is one of `before` classes where the other is one of `now`, or of the same shape."""
    if value.shape == target.shape:
        return True
    same = value.ndim == target.ndim and value.shape[1:] == target.shape[1:]
    return same and len(value) % before == 0 and len(value) // before * now == len(target)


def _shape(value: Tensor | None) -> str:
    return "absent" if value is None else " × ".join(map(str, value.shape)) or "a number"
