"""In which precision a network computes."""

from __future__ import annotations

import torch

__all__ = ["autocast"]


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """bf16 autocast, or none for "fp32"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
