"""Weights averaged over trainings that began alike: a model soup.

Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing
inference time" (2022), the uniform soup: mean = (1/M) · Σ θₘ. Members begin at the same weights, see other batches and
crops, and end in one basin of the loss, where the straight line between any two of them is of good models. Deviation:
members differ by their random numbers alone, while the paper's also have other learning rates and augmentations.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from fieldmark.model.model import Model

__all__ = ["Soup", "move_towards"]


@final
class Soup:
    """The mean of the members so far; needs the memory of one, however many there are."""

    def __init__(self) -> None:
        self.size = 0
        self._mean: Model | None = None

    def add(self, member: Model) -> None:
        """Another member, of the same architecture. It may go on changing: what is kept is a copy."""
        self.size += 1
        if self._mean is None:
            self._mean = copy.deepcopy(member)
        else:
            move_towards(self._mean, member.state_dict(), 1 / self.size)

    @property
    def mean(self) -> Model:
        """The mean of the members. Raises ValueError if there are none."""
        if self._mean is None:
            raise ValueError("a soup with no members")
        return self._mean


@torch.no_grad()
def move_towards(model: Model, weights: Mapping[str, Tensor], share: float) -> None:
    """Move `model` by `share` of the way to those `weights` that are given, buffers too; counters stay as they are."""
    state = model.state_dict()
    for key, value in weights.items():
        if value.is_floating_point():
            state[key].lerp_(value, share)
