"""Answers for many images: batches in, arrays out.

Shapes: N images, K classes, D embedding, V values of an attribute.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fieldmark.model.method import Method

__all__ = ["Outputs", "autocast", "infer", "joined"]


class Outputs(NamedTuple):
    """What a method answered."""

    logits: NDArray[np.float32]
    """(N, K)."""
    embedding: NDArray[np.float32]
    """(N, D), not normalised."""
    attributes: tuple[NDArray[np.float32], ...] = ()
    """Logits (N, V) of each attribute that is learnt, in the recipe's order."""


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """bf16 autocast, or none for "fp32"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def infer(method: Method, batches: Iterable[Tensor], *, precision: str = "fp32") -> Outputs:
    """Answer uint8 batches (B, 3, S, S). The method is left in evaluation mode."""
    device = next(method.parameters()).device
    method.eval()
    answers: list[Outputs] = []
    with torch.inference_mode(), autocast(precision, device):
        for images in batches:
            prediction = method.answer(method.backbone.normalization(images.to(device)))
            attributes = tuple(_array(values) for values in prediction.attributes)
            answers.append(Outputs(_array(prediction.logits), _array(prediction.embedding), attributes))
    return joined(answers)


def joined(answers: Sequence[Outputs]) -> Outputs:
    """The answers of several batches as one."""
    if not answers:
        return Outputs(np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32))
    logits, embedding, attributes = zip(*answers, strict=True)
    return Outputs(
        np.concatenate(logits),
        np.concatenate(embedding),
        tuple(np.concatenate(values) for values in zip(*attributes, strict=True)),
    )


def _array(values: Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = values.float().cpu().numpy()
    return found
