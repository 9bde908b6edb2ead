"""Answers for many images: batches in, arrays out.

Shapes: N images, K classes, D embedding.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fieldmark.model.method import Method

__all__ = ["Outputs", "autocast", "infer"]


class Outputs(NamedTuple):
    """What a method answered."""

    logits: NDArray[np.float32]
    """(N, K)."""
    embedding: NDArray[np.float32]
    """(N, D), not normalised."""


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """bf16 autocast, or none for "fp32"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def infer(method: Method, batches: Iterable[Tensor], *, precision: str = "fp32") -> Outputs:
    """Answer uint8 batches (B, 3, S, S). The method is left in evaluation mode."""
    device = next(method.parameters()).device
    method.eval()
    logits, embedding = [], []
    with torch.inference_mode(), autocast(precision, device):
        for images in batches:
            prediction = method(method.backbone.normalization(images.to(device)))
            logits.append(prediction.logits.float().cpu().numpy())
            embedding.append(prediction.embedding.float().cpu().numpy())
    if not logits:
        return Outputs(np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32))
    return Outputs(np.concatenate(logits), np.concatenate(embedding))
